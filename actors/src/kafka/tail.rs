//! The last visible record of each partition: the publisher's checkpoint.
//!
//! `read_committed`: control records and aborted transactions may sit at a
//! partition's end, so reading starts a little before the end and steps back
//! further until a record is found or the log's start is reached.

use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::{Offset, TopicPartitionList};

use super::{ROW_HEADER, SOURCE_HEADER, client_config, stage_error};
use crate::settings::KafkaSettings;
use crate::supervision::{ErrorKind, Progress, StageError};

const FIRST_STEP: i64 = 64;
const STEP_FACTOR: i64 = 16;
const SILENCE_LIMIT: Duration = Duration::from_secs(30);

/// The publisher's mark on a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The row's ordinal in the events file.
    pub row: u64,
    /// `{fingerprint}/{partition count}`.
    pub source: String,
}

/// The end of one partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tail {
    /// The newest record that bears a mark.
    pub marked: Option<Mark>,
    /// Offset of the newest visible record, marked or not.
    pub last_offset: Option<i64>,
}

/// Reads the tail of partitions `0..partitions`.
pub fn read_tails(
    settings: &KafkaSettings,
    topic: &str,
    partitions: i32,
    progress: &Progress,
) -> Result<Vec<Tail>, StageError> {
    let consumer: BaseConsumer = client_config(
        settings,
        &[
            // librdkafka wants a group id for `assign`; nothing is committed to it.
            ("group.id", "ftap-tail"),
            ("isolation.level", "read_committed"),
            ("enable.auto.commit", "false"),
            ("enable.auto.offset.store", "false"),
            ("enable.partition.eof", "true"),
            ("auto.offset.reset", "earliest"),
            ("queued.max.messages.kbytes", "8192"),
            ("fetch.queue.backoff.ms", "5"),
        ],
    )
    .create()
    .map_err(|error| stage_error("reading the topic's tail", &error))?;
    (0..partitions)
        .map(|partition| read_tail(&consumer, topic, partition, progress))
        .collect()
}

fn read_tail(
    consumer: &BaseConsumer,
    topic: &str,
    partition: i32,
    progress: &Progress,
) -> Result<Tail, StageError> {
    let what = format!("reading the tail of {topic}-{partition}");
    let failed = |error: KafkaError| stage_error(&what, &error);
    let (low, high) = consumer
        .fetch_watermarks(topic, partition, Duration::from_secs(10))
        .map_err(failed)?;
    let mut step = FIRST_STEP;
    loop {
        let start = high.saturating_sub(step).max(low);
        let mut assignment = TopicPartitionList::new();
        assignment
            .add_partition_offset(topic, partition, Offset::Offset(start))
            .map_err(failed)?;
        consumer.assign(&assignment).map_err(failed)?;
        let tail = read_to_end(consumer, partition, progress, &what)?;
        if tail.marked.is_some() || start <= low {
            return Ok(tail);
        }
        step = step.saturating_mul(STEP_FACTOR);
    }
}

fn read_to_end(
    consumer: &BaseConsumer,
    partition: i32,
    progress: &Progress,
    what: &str,
) -> Result<Tail, StageError> {
    let mut tail = Tail::default();
    let mut heard = Instant::now();
    loop {
        match consumer.poll(Duration::from_millis(200)) {
            Some(Ok(message)) => {
                heard = Instant::now();
                progress.step();
                tail.last_offset = Some(message.offset());
                if let Some(mark) = mark_of(&message) {
                    tail.marked = Some(mark);
                }
            }
            Some(Err(KafkaError::PartitionEOF(ended))) if ended == partition => return Ok(tail),
            Some(Err(KafkaError::PartitionEOF(_))) => {}
            Some(Err(error)) => {
                let error = stage_error(what, &error);
                if error.kind() != ErrorKind::KafkaUnavailable || heard.elapsed() > SILENCE_LIMIT {
                    return Err(error);
                }
            }
            None if heard.elapsed() > SILENCE_LIMIT => {
                return Err(StageError::new(
                    ErrorKind::KafkaUnavailable,
                    format!("{what}: no answer for {} s", SILENCE_LIMIT.as_secs()),
                ));
            }
            None => progress.step(),
        }
    }
}

fn mark_of(message: &BorrowedMessage<'_>) -> Option<Mark> {
    let headers = message.headers()?;
    let text = |name: &str| {
        headers
            .iter()
            .find(|header| header.key == name)
            .and_then(|header| std::str::from_utf8(header.value?).ok())
    };
    Some(Mark {
        row: text(ROW_HEADER)?.parse().ok()?,
        source: text(SOURCE_HEADER)?.to_owned(),
    })
}
