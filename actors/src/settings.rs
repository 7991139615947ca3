//! What the actors need to know, in their own units.
//!
//! The binary fills these from flags, environment, `.env` and defaults; nothing
//! in this crate reads the environment itself.

use std::fmt;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

/// How to reach Kafka. `Debug` shows the names of [`extra`](Self::extra), not their values, which
/// may be secrets.
#[derive(Clone)]
pub struct KafkaSettings {
    /// Comma-separated `host:port` list.
    pub bootstrap_servers: String,
    /// Topic of the transactions.
    pub topic: String,
    /// Partitions of the topic when this program creates it.
    pub partitions: i32,
    /// Consumer group of the ingest side.
    pub consumer_group: String,
    /// Pause between two tries to reach a broker.
    pub retry_delay: Duration,
    /// Tries before giving up; `None` is for ever.
    pub max_retries: Option<NonZeroU32>,
    /// How long a silent consumer keeps its partitions.
    pub session_timeout: Duration,
    /// Further librdkafka properties (`security.protocol`, …), applied last.
    pub extra: Vec<(String, String)>,
}

impl fmt::Debug for KafkaSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.extra.iter().map(|(name, _)| name).collect();
        f.debug_struct("KafkaSettings")
            .field("bootstrap_servers", &self.bootstrap_servers)
            .field("topic", &self.topic)
            .field("partitions", &self.partitions)
            .field("consumer_group", &self.consumer_group)
            .field("retry_delay", &self.retry_delay)
            .field("max_retries", &self.max_retries)
            .field("session_timeout", &self.session_timeout)
            .field("extra", &names)
            .finish()
    }
}

impl KafkaSettings {
    /// The topic that takes records the lake can't.
    pub fn dead_letter_topic(&self) -> String {
        format!("{}.dlq", self.topic)
    }
}

/// How fast the source is replayed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// As fast as Kafka takes it.
    Max,
    /// Seconds of the data per second of the clock; above zero.
    Speed(f64),
}

/// The publish side: a prepared events file into the topic.
#[derive(Clone, Debug)]
pub struct PublishSettings {
    /// The prepared events file, see `ftap-dataset`.
    pub events_file: PathBuf,
    /// Where `checkpoint.json` is kept.
    pub checkpoint_file: PathBuf,
    /// Rows between two checkpoints at the least.
    pub checkpoint_rows: u64,
    /// Replay speed.
    pub pace: Pace,
    /// Publish at most this many rows of the file, counted from its start.
    pub row_limit: Option<u64>,
    /// Fixed `transactional.id`; it fences a second publisher of the same topic.
    pub transactional_id: String,
    /// Longest time a transaction stays open: the delay `read_committed` readers see.
    pub transaction_interval: Duration,
    /// Rows after which a transaction is committed.
    pub transaction_rows: u64,
}

/// Where the lake is.
#[derive(Clone, Debug)]
pub enum LakeLocation {
    /// A folder of this machine.
    Local(PathBuf),
    /// A Google Cloud Storage bucket.
    Gcs {
        /// The bucket's name.
        bucket: String,
        /// Service-account key file; `None` asks the metadata server.
        credentials_file: Option<PathBuf>,
        /// Another endpoint than Google's, for tests; sends no real credentials.
        endpoint: Option<String>,
    },
}

/// When a file is closed. Whichever limit is met first counts.
#[derive(Clone, Copy, Debug)]
pub struct RollingSettings {
    /// Rows and rejected records.
    pub max_rows: u64,
    /// Encoded bytes, estimated while the file is open.
    pub max_bytes: u64,
    /// Age, counted from the file's first record.
    pub max_age: Duration,
}

/// The ingest side: the topic into the lake.
#[derive(Clone, Debug)]
pub struct IngestSettings {
    /// Where the lake is.
    pub lake: LakeLocation,
    /// When a file is closed.
    pub rolling: RollingSettings,
    /// ParquetBuffer actors that decode and encode side by side.
    pub workers: NonZeroUsize,
    /// Memory of everything between the consumer and the lake, for all partitions together.
    pub memory_budget_bytes: u64,
    /// A larger message is rejected, not parsed.
    pub max_message_bytes: usize,
    /// zstd level of the Parquet files.
    pub zstd_level: i32,
    /// Names this process in file footers.
    pub writer_id: String,
}

/// The change capture: PostgreSQL tables into the lake.
#[derive(Clone, Debug)]
pub struct CaptureSettings {
    /// Our replication slot.
    pub slot: String,
    /// Our publication.
    pub publication: String,
    /// When files are closed, all tables of a flush together.
    pub rolling: RollingSettings,
    /// zstd level of the Parquet files.
    pub zstd_level: i32,
    /// Names this process in file footers.
    pub writer_id: String,
}

/// When supervision acts.
#[derive(Clone, Copy, Debug)]
pub struct SupervisionSettings {
    /// A stage with work and no progress for this long is stuck.
    pub stall_timeout: Duration,
    /// How long stages get to stop before they are left behind.
    pub stop_deadline: Duration,
    /// First pause before a restart; doubles up to `max_backoff`.
    pub initial_backoff: Duration,
    /// Longest pause before a restart.
    pub max_backoff: Duration,
    /// A group that ran this long without a fault starts its backoff anew.
    pub healthy_after: Duration,
    /// More restarts than this within `restart_window` end the process.
    pub max_restarts: usize,
    /// See `max_restarts`.
    pub restart_window: Duration,
}

impl Default for SupervisionSettings {
    fn default() -> Self {
        Self {
            stall_timeout: Duration::from_secs(60),
            stop_deadline: Duration::from_secs(8),
            initial_backoff: Duration::from_secs(1),
            max_backoff: Duration::from_secs(60),
            healthy_after: Duration::from_secs(120),
            max_restarts: 10,
            restart_window: Duration::from_secs(600),
        }
    }
}
