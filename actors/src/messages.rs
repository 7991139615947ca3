//! Everything that actors send each other. Batches, never single rows.
//!
//! An actor that takes more than one kind of message has an enum of them (`ToBuffer`), so one
//! outbox leads to it. Messages of one sender arrive in their order.

use std::time::Duration;

use actix::Message;
use ftap_kafka::consumer::{Batch, RecordHeader};
use ftap_kafka::publish_resume::{Place, Resume};
use ftap_lake::{CloseReason, ClosedFile, DeadLetterFooter, TransactionFooter};
use ftap_schedule::JobTick;
use ftap_supervision::{Failure, Permit};
use tokio::sync::oneshot;

/// How long a neighbour that no longer answers may take to report why it ended.
pub(crate) const NEIGHBOUR_GRACE: Duration = Duration::from_secs(1);

/// KafkaPublisher to CsvReader: start reading here.
#[derive(Message)]
#[rtype(result = "()")]
pub struct StartReading {
    /// What the topic lacks.
    pub resume: Resume,
    /// `source` header: fingerprint and partition count.
    pub source: String,
    /// Partitions of the topic.
    pub partitions: i32,
}

/// One encoded row of a [`RowBatch`].
#[derive(Clone, Copy, Debug)]
pub struct EncodedRow {
    /// Ordinal in the events file.
    pub row: u64,
    /// Where the row's payload ends in the batch.
    pub payload_end: u32,
    /// Where the row's key ends in the batch.
    pub key_end: u32,
    /// Where it goes.
    pub partition: i32,
}

/// CsvReader to KafkaPublisher: rows in file order, encoded. Answered when the
/// rows are in librdkafka's queue.
#[derive(Message, Default)]
#[rtype(result = "Result<(), Failure>")]
pub struct RowBatch {
    pub rows: Vec<EncodedRow>,
    /// Their JSON, end to end.
    pub payloads: Vec<u8>,
    /// Their keys, end to end.
    pub keys: Vec<u8>,
    /// The place after the last of them.
    pub end: Place,
    /// Nothing comes after this batch.
    pub is_last: bool,
}

impl RowBatch {
    /// Row, key and payload of each row.
    pub fn iter(&self) -> impl Iterator<Item = (EncodedRow, &[u8], &[u8])> {
        let mut starts = (0, 0);
        self.rows.iter().map(move |row| {
            let (key_start, payload_start) = starts;
            starts = (row.key_end as usize, row.payload_end as usize);
            (
                *row,
                &self.keys[key_start..starts.0],
                &self.payloads[payload_start..starts.1],
            )
        })
    }
}

/// Everything that a ParquetBuffer takes; all of it comes from the KafkaSubscriber.
#[derive(Message)]
#[rtype(result = "()")]
pub enum ToBuffer {
    /// A new reading of a partition begins: whatever is buffered for the partition is dropped.
    Open {
        partition: i32,
        /// Records of another assignment are ignored from now on.
        assignment: u64,
    },
    Records(Records),
    /// Close every open file.
    Flush(CloseReason),
    Close(ClosePartitions),
}

/// Everything that the GcsUploader takes.
#[derive(Message)]
#[rtype(result = "()")]
pub enum ToUploader {
    /// From a ParquetBuffer.
    Upload(Box<Upload>),
    /// From the KafkaSubscriber.
    FindChainEnds(FindChainEnds),
    /// From the KafkaSubscriber.
    Close(ClosePartitions),
}

/// Everything that the KafkaSubscriber takes; all of it comes from the GcsUploader.
#[derive(Message)]
#[rtype(result = "()")]
pub enum ToSubscriber {
    DurableUpTo(DurableUpTo),
    Rewind(Rewind),
    ChainEnds(ChainEnds),
}

/// Drop what is there of these partitions.
#[derive(Clone)]
pub struct ClosePartitions {
    pub partitions: Vec<i32>,
    /// Readings of them up to this assignment have ended: what still comes of them is stale.
    pub last_assignment: u64,
}

/// Records of one partition, in order.
pub struct Records {
    pub partition: i32,
    pub assignment: u64,
    /// The records.
    pub batch: Batch,
    /// Their share of the memory budget.
    pub permit: Permit,
}

/// One file, next in its partition's chain.
pub struct Upload {
    /// Assignment of the partition when it was read.
    pub assignment: u64,
    pub file: ClosedFile<TransactionFooter>,
    /// Why it was closed.
    pub reason: CloseReason,
    /// Resolve when the records that the file lists as rejected are durable in the dead-letter topic.
    pub rejections: Vec<oneshot::Receiver<()>>,
    /// These records, if the lake keeps them: put before the file is.
    pub dead_letters: Option<ClosedFile<DeadLetterFooter>>,
    /// When the file was closed.
    pub closed_at: std::time::Instant,
    /// Their share of the memory budget.
    pub permit: Permit,
}

/// The lake has the partition up to here.
#[derive(Clone, Copy, Debug)]
pub struct DurableUpTo {
    pub partition: i32,
    pub assignment: u64,
    /// First offset that is not in the lake.
    pub next_offset: i64,
}

/// Another writer has continued the chain: read from here.
#[derive(Clone, Copy, Debug)]
pub struct Rewind {
    pub partition: i32,
    pub assignment: u64,
    /// The next offset to read.
    pub offset: i64,
}

/// The largest dead letter that is sent, uncompressed.
pub(crate) const MAX_LETTER_BYTES: usize = 100 << 20;

/// A record that can't become a row.
#[derive(Debug)]
pub struct DeadLetter {
    pub partition: i32,
    pub offset: i64,
    /// Its Kafka timestamp in milliseconds.
    pub timestamp_ms: i64,
    /// Stable code of the reason.
    pub reason: String,
    pub key: Option<Vec<u8>>,
    /// Its headers, in order.
    pub headers: Vec<RecordHeader>,
    /// Its bytes, no more of them than can be sent.
    pub payload: Option<Vec<u8>>,
    /// Whether that is not all of them.
    pub is_cut: bool,
}

/// ParquetBuffer to DeadLetters: keep these.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Reject {
    pub records: Vec<DeadLetter>,
    /// Their share of the memory budget.
    pub permit: Permit,
    /// Resolves when all of them are durable.
    pub done: oneshot::Sender<()>,
}

/// Clock to its listener.
#[derive(Message, Clone, Copy, Debug)]
#[rtype(result = "()")]
pub struct Tick {
    /// How often this tick has come, from 1.
    pub count: u64,
}

/// Where do these partitions' chains end? Answered by [`ChainEnds`] as soon as the lake answers.
pub struct FindChainEnds {
    pub topic: String,
    pub partitions: Vec<i32>,
    /// Repeated in the answer.
    pub request: u64,
}

/// The answer to [`FindChainEnds`].
#[derive(Debug)]
pub struct ChainEnds {
    /// The request that it answers.
    pub request: u64,
    /// Footer of the newest file by partition; `None` where there is no file.
    pub footers: std::collections::BTreeMap<i32, Option<TransactionFooter>>,
}

/// CronClock to the actor of a job: run now. Answered when the run is over, whether it failed or not.
#[derive(Message, Clone, Copy, Debug)]
#[rtype(result = "()")]
pub struct RunJob(pub JobTick);
