//! Transactional calls of librdkafka. Blocking: for threads of stages and for commands.

use std::time::Duration;

use ftap_supervision::{Backoff, Retry, Retryable};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

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
