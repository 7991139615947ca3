//! What the actors need to know, in their own units.
//!
//! The binary fills these from flags, environment, `.env` and defaults; nothing
//! in this crate reads the environment itself.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use ftap_kafka::DeadLetterPlace;
use ftap_lake::{Compression, LakeLocation, RollingSettings};

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
    /// Least number of rows between two checkpoints.
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

/// The ingest side: the topic into the lake.
#[derive(Clone, Debug)]
pub struct IngestSettings {
    pub lake: LakeLocation,
    /// When a file is closed.
    pub rolling: RollingSettings,
    /// ParquetBuffer actors that decode and encode side by side.
    pub workers: NonZeroUsize,
    /// Memory of everything between the consumer and the lake, for all partitions together.
    pub memory_budget_bytes: u64,
    pub dead_letters: DeadLetterPlace,
    /// A larger message is rejected, not parsed.
    pub max_message_bytes: usize,
    pub compression: Compression,
    /// Names this process in file footers.
    pub writer_id: String,
}
