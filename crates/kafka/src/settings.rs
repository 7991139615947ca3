use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

/// How to reach Kafka. `Debug` shows the names of [`extra`](Self::extra), not their values, which
/// may be secrets.
#[derive(Clone)]
pub struct KafkaSettings {
    /// Comma-separated `host:port` list.
    pub bootstrap_servers: String,
    /// Topic of the transactions.
    pub topic: String,
    /// The topic that takes records the lake can't.
    pub dead_letter_topic: String,
    /// Partitions of the topic when this program creates it.
    pub partitions: i32,
    /// Consumer group of the ingest side.
    pub consumer_group: String,
    /// Pause between two tries to reach a broker, less jitter.
    pub retry_delay: Duration,
    /// Attempts before an error; `None` retries indefinitely.
    pub max_retries: Option<NonZeroU32>,
    /// How long a silent consumer keeps its partitions.
    pub session_timeout: Duration,
    /// How long draining waits for records that another producer's open transaction hides.
    pub open_transaction_timeout: Duration,
    /// Further librdkafka properties (`security.protocol`, …), applied last.
    pub extra: Vec<(String, String)>,
}

/// Where records are kept that can't become rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeadLetterPlace {
    /// In the dead-letter topic, as they come.
    Topic,
    /// In the lake, with the file that lists them.
    Lake,
}

impl fmt::Debug for KafkaSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.extra.iter().map(|(name, _)| name).collect();
        f.debug_struct("KafkaSettings")
            .field("bootstrap_servers", &self.bootstrap_servers)
            .field("topic", &self.topic)
            .field("dead_letter_topic", &self.dead_letter_topic)
            .field("partitions", &self.partitions)
            .field("consumer_group", &self.consumer_group)
            .field("retry_delay", &self.retry_delay)
            .field("max_retries", &self.max_retries)
            .field("session_timeout", &self.session_timeout)
            .field("open_transaction_timeout", &self.open_transaction_timeout)
            .field("extra", &names)
            .finish()
    }
}

impl KafkaSettings {
    /// The value of one of the further properties.
    pub fn property(&self, name: &str) -> Option<&str> {
        let last = self.extra.iter().rfind(|(known, _)| known == name);
        last.map(|(_, value)| value.as_str())
    }
}
