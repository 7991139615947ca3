//! The last visible record of each partition: the publisher's checkpoint.
//!
//! `read_committed`: control records and aborted transactions may sit at a
//! partition's end, so reading starts a little before the end and steps back
//! further until a record is found or the log's start is reached.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use ftap_supervision::{Failure, Progress};
use ftap_transaction::{NO_TIMESTAMP, record_fingerprint};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::{Offset, TopicPartitionList};

use super::failure::{KafkaFailure, failure};
use super::publish_resume::PublishFailure;
use super::{ROW_HEADER, Reader, SOURCE_HEADER, is_source};
use crate::KafkaSettings;

/// With ACLs it must be allowed to read as that.
const GROUP: &str = "ftap-tail";
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

impl Tail {
    /// A later record was seen: messages without a mark do not hide the one before them.
    pub fn saw(&mut self, offset: i64, mark: Option<Mark>) {
        self.last_offset = Some(offset);
        if mark.is_some() {
            self.marked = mark;
        }
    }
}

/// What the search for a tail ends at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LookFor {
    /// The newest record that bears a mark.
    Mark,
    /// The newest visible record.
    AnyRecord,
}

/// Reads the tail of partitions `0..partitions`.
pub fn read_tails(
    settings: &KafkaSettings,
    topic: &str,
    partitions: i32,
    look_for: LookFor,
    progress: &Progress,
) -> Result<Vec<Tail>, Failure> {
    let consumer = reader(settings, "read_committed")?;
    let what = format!("reading the tail of {topic} as group {GROUP}");
    let failed = |error: KafkaError| failure(&what, error);
    let mut searches = (0..partitions)
        .map(|partition| {
            let (low, high) = consumer.watermarks(topic, partition)?;
            Ok(Search {
                partition,
                low,
                high,
                tail: Tail::default(),
                is_done: low >= high,
            })
        })
        .collect::<Result<Vec<_>, Failure>>()?;
    let mut step = FIRST_STEP;
    while searches.iter().any(|search| !search.is_done) {
        let mut assignment = TopicPartitionList::new();
        for search in searches.iter().filter(|search| !search.is_done) {
            assignment
                .add_partition_offset(topic, search.partition, Offset::Offset(search.start(step)))
                .map_err(failed)?;
        }
        consumer.assign(&assignment).map_err(failed)?;
        read_to_ends(&consumer, topic, &mut searches, step, progress)?;
        for search in &mut searches {
            search.is_done |= search.has_found(look_for) || search.start(step) <= search.low;
        }
        step = step.saturating_mul(STEP_FACTOR);
    }
    if look_for == LookFor::Mark
        && let Some(search) = searches.iter().find(|search| search.has_lost_its_mark())
    {
        return Err(Failure::new(
            PublishFailure::Conflict,
            format!(
                "partition {} of topic {topic} no longer has a record of the events file: retention \
                 took all of them, the last offset below {}, so it is unknown how far it was published",
                search.partition, search.low
            ),
        ));
    }
    Ok(searches.into_iter().map(|search| search.tail).collect())
}

/// The offset after the last record of each partition, records of open transactions included.
pub fn high_watermarks(
    settings: &KafkaSettings,
    topic: &str,
    partitions: i32,
) -> Result<Vec<i64>, Failure> {
    let consumer = reader(settings, "read_uncommitted")?;
    (0..partitions)
        .map(|partition| Ok(consumer.watermarks(topic, partition)?.1))
        .collect()
}

/// A reader of some records only.
fn reader(settings: &KafkaSettings, isolation: &str) -> Result<Reader, Failure> {
    Reader::new(
        settings,
        GROUP,
        &[
            ("isolation.level", isolation),
            ("auto.offset.reset", "earliest"),
            ("queued.max.messages.kbytes", "8192"),
            // A long poll at one partition's end would hold up the next assignment.
            ("fetch.wait.max.ms", "10"),
        ],
    )
    .map_err(|error| failure("reading the topic's tail", error))
}

/// Tells where partitions begin and end, as far as records are visible. It has connections of its own: those of a
/// consumer answer only after what they fetch, which may take long on a slow line.
pub fn bounds_reader(settings: &KafkaSettings) -> Result<Reader, Failure> {
    reader(settings, "read_committed")
}

/// The first visible record at or after an offset, for each partition: its offset and
/// [`record_fingerprint`].
pub fn read_records_at(
    settings: &KafkaSettings,
    topic: &str,
    offsets: &[(i32, i64)],
    progress: &Progress,
) -> Result<BTreeMap<i32, (i64, u64)>, Failure> {
    let consumer = reader(settings, "read_committed")?;
    let mut found = BTreeMap::new();
    first_records(&consumer, topic, offsets, progress, |message| {
        let timestamp_ms = message.timestamp().to_millis().unwrap_or(NO_TIMESTAMP);
        let fingerprint = record_fingerprint(message.payload(), timestamp_ms);
        found.insert(message.partition(), (message.offset(), fingerprint));
    })?;
    Ok(found)
}

/// The timestamps of the first records at or after these offsets, those of open transactions included, by partition, in
/// Unix milliseconds; a record that has none is not among them.
pub fn read_timestamps_at(
    settings: &KafkaSettings,
    topic: &str,
    offsets: &[(i32, i64)],
    progress: &Progress,
) -> Result<BTreeMap<i32, i64>, Failure> {
    let consumer = reader(settings, "read_uncommitted")?;
    let mut found = BTreeMap::new();
    first_records(&consumer, topic, offsets, progress, |message| {
        if let Some(timestamp_ms) = message.timestamp().to_millis() {
            found.insert(message.partition(), timestamp_ms);
        }
    })?;
    Ok(found)
}

/// Shows `take` the first record at or after an offset, for each partition that has one.
fn first_records(
    consumer: &BaseConsumer,
    topic: &str,
    offsets: &[(i32, i64)],
    progress: &Progress,
    mut take: impl FnMut(&BorrowedMessage<'_>),
) -> Result<(), Failure> {
    let what = format!("reading records of {topic} as group {GROUP}");
    let failed = |error: KafkaError| failure(&what, error);
    let mut assignment = TopicPartitionList::new();
    for (partition, offset) in offsets {
        assignment
            .add_partition_offset(topic, *partition, Offset::Offset(*offset))
            .map_err(failed)?;
    }
    consumer.assign(&assignment).map_err(failed)?;
    let mut open: BTreeMap<i32, i64> = offsets.iter().copied().collect();
    let mut heard = Instant::now();
    while !open.is_empty() {
        progress.step();
        match consumer.poll(Duration::from_millis(200)) {
            Some(Ok(message)) => {
                heard = Instant::now();
                if open.remove(&message.partition()).is_some() {
                    take(&message);
                }
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                heard = Instant::now();
                open.remove(&partition);
            }
            Some(Err(error)) => still_hopeful(consumer, topic, &open, Some(error), heard)?,
            None => still_hopeful(consumer, topic, &open, None, heard)?,
        }
    }
    Ok(())
}

/// The failure after `waited`, in which nothing came of partitions that are not at their end, each
/// with the next offset wanted: the broker does not answer, or has something that can't be read.
pub fn silence(
    consumer: &BaseConsumer,
    topic: &str,
    open: &BTreeMap<i32, i64>,
    waited: Duration,
) -> Failure {
    let seconds = waited.as_secs();
    let answers = |partition| {
        let asked = consumer.fetch_watermarks(topic, partition, Duration::from_secs(10));
        asked.is_ok()
    };
    if open
        .keys()
        .next()
        .is_some_and(|partition| answers(*partition))
    {
        let text = format!("the broker answers, but no record came for {seconds} s");
        return unreadable(topic, open, &text);
    }
    Failure::new(
        KafkaFailure::Unavailable,
        format!("reading topic {topic}: no answer for {seconds} s"),
    )
}

/// The failure that something is at one of these places, or after it, that can't be read.
pub fn unreadable(topic: &str, open: &BTreeMap<i32, i64>, text: &str) -> Failure {
    let places: Vec<String> = open
        .iter()
        .map(|(partition, offset)| format!("partition {partition} from offset {offset} on"))
        .collect();
    let places = places.join(", ");
    Failure::new(
        KafkaFailure::Unreadable,
        format!("topic {topic}, {places}: {text}"),
    )
}

/// Waits out passing errors, and silence, for a while. `open` as in [`silence`].
fn still_hopeful(
    consumer: &BaseConsumer,
    topic: &str,
    open: &BTreeMap<i32, i64>,
    error: Option<KafkaError>,
    heard: Instant,
) -> Result<(), Failure> {
    let is_over = heard.elapsed() > SILENCE_LIMIT;
    let Some(error) = error else {
        return if is_over {
            Err(silence(consumer, topic, open, SILENCE_LIMIT))
        } else {
            Ok(())
        };
    };
    let text = error.to_string();
    let error = failure(&format!("reading topic {topic} as group {GROUP}"), error);
    if error.is(KafkaFailure::Unreadable) {
        return Err(unreadable(topic, open, &text));
    }
    if error.is(KafkaFailure::Unavailable) && !is_over {
        return Ok(());
    }
    Err(error)
}

/// One partition whose tail is looked for.
struct Search {
    partition: i32,
    low: i64,
    high: i64,
    tail: Tail,
    is_done: bool,
}

impl Search {
    fn has_found(&self, look_for: LookFor) -> bool {
        match look_for {
            LookFor::Mark => self.tail.marked.is_some(),
            LookFor::AnyRecord => self.tail.last_offset.is_some(),
        }
    }

    /// An empty log that begins at 0 never had one.
    fn has_lost_its_mark(&self) -> bool {
        self.low > 0 && self.tail.marked.is_none()
    }

    fn start(&self, step: i64) -> i64 {
        self.high.saturating_sub(step).max(self.low)
    }
}

/// Reads the last `step` offsets of every partition that is not done.
fn read_to_ends(
    consumer: &BaseConsumer,
    topic: &str,
    searches: &mut [Search],
    step: i64,
    progress: &Progress,
) -> Result<(), Failure> {
    let mut open: BTreeMap<i32, i64> = searches
        .iter()
        .filter(|search| !search.is_done)
        .map(|search| (search.partition, search.start(step)))
        .collect();
    let mut heard = Instant::now();
    while !open.is_empty() {
        match consumer.poll(Duration::from_millis(200)) {
            Some(Ok(message)) => {
                heard = Instant::now();
                progress.step();
                let partition = message.partition();
                let Some(search) = searches
                    .iter_mut()
                    .find(|search| search.partition == partition)
                else {
                    continue;
                };
                open.insert(partition, message.offset() + 1);
                search.tail.saw(message.offset(), mark_of(&message));
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                heard = Instant::now();
                open.remove(&partition);
            }
            Some(Err(error)) => still_hopeful(consumer, topic, &open, Some(error), heard)?,
            None => {
                still_hopeful(consumer, topic, &open, None, heard)?;
                progress.step();
            }
        }
    }
    Ok(())
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
        source: text(SOURCE_HEADER)
            .filter(|source| is_source(source.as_bytes()))?
            .to_owned(),
    })
}
