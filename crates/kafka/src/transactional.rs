//! Transactional calls of librdkafka. Blocking: for threads of stages and for commands.

use std::time::Duration;

use ftap_supervision::{Backoff, Retry, Retryable};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::KafkaSettings;

/// How long a transaction may stay open: `transaction.timeout.ms` of KAFKA_EXTRA, or `default`.
pub fn timeout(settings: &KafkaSettings, default: Duration) -> Duration {
    let given = settings.property("transaction.timeout.ms");
    given
        .and_then(|ms| ms.parse().ok())
        .map_or(default, Duration::from_millis)
}

/// Properties of a producer with such a timeout. What can't be delivered fails before the broker
/// aborts the transaction.
pub fn timeout_properties(timeout: Duration) -> [(&'static str, String); 2] {
    let ms = timeout.as_millis();
    [
        ("transaction.timeout.ms", ms.to_string()),
        ("message.timeout.ms", (ms * 3 / 4).to_string()),
    ]
}

const BACKOFF: Backoff = Backoff::new(Duration::from_millis(20), Duration::from_millis(20));

struct CallError(KafkaError);

impl Retryable for CallError {
    fn retry(&self) -> Retry {
        match &self.0 {
            KafkaError::Transaction(error)
                if error.is_retriable() && !error.txn_requires_abort() =>
            {
                Retry::Transient
            }
            // A commit delivers first what is open, which may take longer than one call.
            KafkaError::Flush(RDKafkaErrorCode::OperationTimedOut) => Retry::Transient,
            _ => Retry::Permanent,
        }
    }
}

/// Repeats a transactional call for at most `limit` while librdkafka says that this helps; `sleep`
/// returns whether to try again after it.
pub fn repeat(
    limit: Duration,
    mut call: impl FnMut() -> Result<(), KafkaError>,
    sleep: impl FnMut(Duration) -> bool,
) -> Result<(), KafkaError> {
    BACKOFF
        .within(limit)
        .retry_blocking(|| call().map_err(CallError), |_, _| {}, sleep)
        .map_err(|CallError(error)| error)
}
