//! Reading partitions without joining a group.

use std::ops::Deref;
use std::time::Duration;

use ftap_supervision::Failure;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::{KafkaSettings, client_config, failure};

/// How long Kafka may take to say where a partition begins and ends.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// A client whose end is not waited for: rdkafka takes 100 ms for it, in which it waits for an event that does not come.
pub(crate) struct Aside<T: Send + 'static>(Option<T>);

impl<T: Send + 'static> Aside<T> {
    pub(crate) fn new(client: T) -> Self {
        Self(Some(client))
    }
}

impl<T: Send + 'static> Deref for Aside<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_ref().expect("taken only when dropped")
    }
}

impl<T: Send + 'static> Drop for Aside<T> {
    fn drop(&mut self) {
        let client = self.0.take();
        // Without a thread it takes as long as it takes: the closure, and the client with it, is dropped here.
        let _ = std::thread::Builder::new()
            .name("kafka-close".to_owned())
            .spawn(move || drop(client));
    }
}

/// A client that reads partitions and joins no group.
pub struct Reader(Aside<BaseConsumer>);

impl Reader {
    /// A client with properties for reading to the partitions' ends, then `own`, then the user's. librdkafka wants the
    /// name of a group all the same, and with ACLs the account needs Read on it.
    ///
    /// # Errors
    /// If librdkafka does not take a property.
    pub fn new(
        settings: &KafkaSettings,
        group: &str,
        own: &[(&str, &str)],
    ) -> Result<Self, KafkaError> {
        let mut all = vec![
            ("group.id", group),
            ("enable.auto.commit", "false"),
            ("enable.auto.offset.store", "false"),
            ("enable.partition.eof", "true"),
            ("isolation.level", "read_committed"),
            ("fetch.queue.backoff.ms", "5"),
            // The end of a partition that ends in a transaction's marker shows by an answer without records.
            ("fetch.wait.max.ms", "10"),
            // Under a quota the answer after this one waits until it is paid for.
            ("fetch.max.bytes", "1048576"),
        ];
        all.extend(own);
        Ok(Self(Aside::new(client_config(settings, &all).create()?)))
    }

    /// The oldest offset of a partition and the one after its last visible record.
    ///
    /// # Errors
    /// If Kafka does not answer, or refuses.
    pub fn watermarks(&self, topic: &str, partition: i32) -> Result<(i64, i64), Failure> {
        let ask = || self.fetch_watermarks(topic, partition, REQUEST_TIMEOUT);
        let unknown = KafkaError::MetadataFetch(RDKafkaErrorCode::UnknownPartition);
        let answer = match ask() {
            // It was added after this client looked for partitions.
            Err(error) if error == unknown => self
                .fetch_metadata(Some(topic), REQUEST_TIMEOUT)
                .and_then(|_| ask()),
            answer => answer,
        };
        answer.map_err(|error| {
            let what = format!("asking where partition {partition} of {topic} begins and ends");
            failure(&what, error)
        })
    }
}

impl Deref for Reader {
    type Target = BaseConsumer;

    fn deref(&self) -> &BaseConsumer {
        &self.0
    }
}
