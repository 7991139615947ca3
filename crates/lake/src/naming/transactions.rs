use std::fmt;

use chrono::NaiveDate;

use ftap_transaction::plausible_timestamp;

use super::{SUFFIX, date_of_millis, is_digits, parse_date};
use crate::datasets::TRANSACTIONS;

pub(super) const OFFSET_DIGITS: usize = 20;
/// Longest topic name Kafka allows.
const MAX_TOPIC_BYTES: usize = 249;

/// Longest topic that a new chain may have. File systems take names of 255 bytes: 40 are partition,
/// offset and suffix, 15 a staging file's own.
const MAX_NEW_TOPIC_BYTES: usize = 200;

/// Why no chain may begin for this topic: not every reader would find its objects, whose names begin
/// with the topic's. Chains that older versions began continue under their names, which are what
/// keeps two writers apart.
pub fn unfit_topic(topic: &str) -> Option<String> {
    if topic.starts_with(['_', '.']) {
        let readers = "Spark, Hive, Presto and others skip files whose names begin with _ or .";
        return Some(readers.to_owned());
    }
    let bytes = topic.len();
    (bytes > MAX_NEW_TOPIC_BYTES).then(|| {
        format!("it has {bytes} letters, and at most {MAX_NEW_TOPIC_BYTES} leave room for the rest of a file's name")
    })
}

/// A name that is not a lake object's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Kafka would not allow this topic either.
    #[error(
        "topic {0:?} can't be part of an object's name; use 1 to 249 of a-z A-Z 0-9 . _ -, and not . or .."
    )]
    Topic(String),
    /// Offsets and partitions count from 0.
    #[error(
        "partition {partition} offset {offset} can't be part of an object's name; both count from 0"
    )]
    Negative {
        partition: i32,
        /// The first offset.
        offset: i64,
    },
    /// A key of another form.
    #[error(
        "{0:?} is not a lake object's key; those read transactions/YYYY-MM-DD/TOPIC-PARTITION-OFFSET.parquet with 20 digits of offset"
    )]
    Key(String),
}

/// The name of one object: one contiguous run of offsets of one partition.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectName {
    date: NaiveDate,
    topic: String,
    partition: i32,
    first_offset: i64,
}

impl ObjectName {
    /// The name of the run that starts with this record; the date is the UTC date of its
    /// Kafka timestamp, 1970-01-01 if that is NULL in the lake.
    pub fn new(
        topic: &str,
        partition: i32,
        first_offset: i64,
        first_timestamp_ms: i64,
    ) -> Result<Self, NameError> {
        Self::on_date(
            topic,
            partition,
            first_offset,
            date_of_millis(plausible_timestamp(first_timestamp_ms).unwrap_or(0)),
        )
    }

    fn on_date(
        topic: &str,
        partition: i32,
        first_offset: i64,
        date: NaiveDate,
    ) -> Result<Self, NameError> {
        if !is_topic(topic) {
            return Err(NameError::Topic(topic.to_owned()));
        }
        if partition < 0 || first_offset < 0 {
            return Err(NameError::Negative {
                partition,
                offset: first_offset,
            });
        }
        Ok(Self {
            date,
            topic: topic.to_owned(),
            partition,
            first_offset,
        })
    }

    /// UTC date of the first record.
    pub fn date(&self) -> NaiveDate {
        self.date
    }

    pub fn topic(&self) -> &str {
        &self.topic
    }

    pub fn partition(&self) -> i32 {
        self.partition
    }

    /// Offset of the first record.
    pub fn first_offset(&self) -> i64 {
        self.first_offset
    }

    /// The object's key: `transactions/2026-11-22/transactions-0-00000000000000000000.parquet`.
    pub fn key(&self) -> String {
        self.to_string()
    }

    /// Reads a key. It is taken apart from the right: a topic may hold `-` and `.`.
    pub fn parse(key: &str) -> Result<Self, NameError> {
        Self::parse_parts(key).ok_or_else(|| NameError::Key(key.to_owned()))
    }

    fn parse_parts(key: &str) -> Option<Self> {
        let (folder, file) = key
            .strip_prefix(TRANSACTIONS.name)?
            .strip_prefix('/')?
            .split_once('/')?;
        let date = parse_date(folder)?;
        let (rest, offset) = file.strip_suffix(SUFFIX)?.rsplit_once('-')?;
        let (topic, partition) = rest.rsplit_once('-')?;
        if offset.len() != OFFSET_DIGITS || !is_digits(offset) || !is_digits(partition) {
            return None;
        }
        if partition.len() > 1 && partition.starts_with('0') {
            return None;
        }
        Self::on_date(topic, partition.parse().ok()?, offset.parse().ok()?, date).ok()
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            date,
            topic,
            partition,
            first_offset,
        } = self;
        let folder = TRANSACTIONS.folder(*date);
        write!(
            f,
            "{folder}/{topic}-{partition}-{first_offset:0OFFSET_DIGITS$}{SUFFIX}"
        )
    }
}

fn is_topic(topic: &str) -> bool {
    !topic.is_empty()
        && topic.len() <= MAX_TOPIC_BYTES
        && topic != "."
        && topic != ".."
        && topic
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}
