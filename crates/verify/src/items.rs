//! The input of the accounts, and what they add up to. Plain values.

use ftap_kafka::EntryId;

/// Code of the one rejection that a changed setting takes back.
pub(crate) const TOO_LARGE: &str = "too_large";

/// What one partition's figures add up to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Account {
    /// Rows of the file whose key belongs to the partition.
    pub file: u64,
    /// Records of the topic, as a `read_committed` reader sees them.
    pub topic: u64,
    /// Those of them that are of other origin: neither a row of a file nor redriven.
    pub foreign: u64,
    /// Those of them that were rejected once, repaired and sent again.
    pub redriven: u64,
    /// Rows in the lake.
    pub lake: u64,
    /// Offsets that the lake lists as rejected.
    pub rejected: u64,
    /// Rows that are not in the topic, and records that are neither in the lake nor rejected.
    pub missing: u64,
    /// Rows and records that are there more than once: copies beyond the first.
    pub doubled: u64,
    /// Rows and records that are not what they should be.
    pub differing: u64,
}

impl Account {
    /// Adds another partition's figures.
    pub(crate) fn add(&mut self, other: &Self) {
        self.file += other.file;
        self.topic += other.topic;
        self.foreign += other.foreign;
        self.redriven += other.redriven;
        self.lake += other.lake;
        self.rejected += other.rejected;
        self.missing += other.missing;
        self.doubled += other.doubled;
        self.differing += other.differing;
    }
}

/// Where a partition's offsets begin and end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// The oldest offset the topic still has.
    pub low: i64,
    /// The offset its next record gets.
    pub high: i64,
    /// The oldest offset the lake has, if that is older than `low`.
    pub lake_first: Option<i64>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TopicRecord {
    pub offset: i64,
    /// Its timestamp in Unix milliseconds.
    pub timestamp_ms: i64,
    /// The header `row`.
    pub row: Option<u64>,
    /// The header `redrive`.
    pub redrive: Option<EntryId>,
    /// Hash of its content, `None` if the payload is not a transaction.
    pub content: Option<u64>,
    /// The same of a transaction with values that only earlier versions took.
    pub unsound: Option<u64>,
    /// Hash of its payload as it is; needed where `content` is `None` or `too_large` is set.
    pub raw: u64,
    /// Beyond the configured size: the lake may have rejected it unparsed.
    pub too_large: bool,
}

/// A rejected record, in the dead-letter topic or in the lake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DeadLetter {
    /// Partition it came from.
    pub partition: i32,
    /// Offset it came from.
    pub offset: i64,
    /// Code of the reason.
    pub reason: String,
    /// Hash of its payload, `None` if that was cut to fit.
    pub raw: Option<u64>,
    /// [`with_timestamp`](crate::ledger::with_timestamp) of its content, if it was too large and is a transaction.
    pub content: Option<u64>,
    /// Whether the lake has it: then its redrive needs no mark.
    pub is_in_lake: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LakeRow {
    /// Offset it came from.
    pub offset: i64,
    /// The record's timestamp in Unix milliseconds.
    pub timestamp_ms: i64,
    /// Hash of its content.
    pub content: u64,
    /// Whether an earlier version wrote it, which took any value of the right type.
    pub of_earlier_version: bool,
}
