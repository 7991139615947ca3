//! What an object's Parquet footer says about the run it holds.
//!
//! Promises: [`Footer::from_pairs`] reads exactly what [`Footer::to_pairs`] writes, and a
//! footer that contradicts itself is an error. Pure; key-value pairs with keys `ftap.*`.

use std::borrow::Cow;

pub use super::pairs::FooterError;
use super::pairs::{Pairs, hash_text};

/// The only version so far.
pub const FORMAT_VERSION: u32 = 1;

const FORMAT_VERSION_KEY: &str = "ftap.format_version";
const TOPIC: &str = "ftap.topic";
const PARTITION: &str = "ftap.partition";
const FIRST_OFFSET: &str = "ftap.first_offset";
const LAST_OFFSET: &str = "ftap.last_offset";
const FIRST_RECORD: &str = "ftap.first_record";
const ROWS: &str = "ftap.rows";
const REJECTED: &str = "ftap.rejected";
const REJECTED_RECORDS: &str = "ftap.rejected_records";
const WRITER_ID: &str = "ftap.writer_id";
const CHECKSUM: &str = "ftap.checksum";

/// Consecutive offsets that were rejected for one reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RejectedRange {
    /// First offset.
    pub first_offset: i64,
    /// Last offset, included.
    pub last_offset: i64,
    /// A [`RejectReason`](ftap_transaction::RejectReason)'s code; kept as text so that
    /// a footer of a later version can be read.
    pub reason: Cow<'static, str>,
}

impl RejectedRange {
    /// Records in the range.
    pub fn records(&self) -> u64 {
        self.last_offset
            .abs_diff(self.first_offset)
            .saturating_add(1)
    }
}

/// The run of offsets of one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Footer {
    /// Topic.
    pub topic: String,
    /// Partition.
    pub partition: i32,
    /// Offset of the first record, row or rejected.
    pub first_offset: i64,
    /// Offset of the last record, row or rejected.
    pub last_offset: i64,
    /// Fingerprint of the first record: its timestamp and payload, see
    /// [`record_fingerprint`](ftap_transaction::record_fingerprint). It tells a
    /// topic from one of the same name that was deleted before.
    pub first_record: u64,
    /// Rows.
    pub rows: u64,
    /// Rejected offsets, ascending.
    pub rejected: Vec<RejectedRange>,
    /// Rejected records: the sum over `rejected`.
    pub rejected_records: u64,
    /// The process that wrote the object.
    pub writer_id: String,
    /// Checksum of the rows, see [`checksum`](super::checksum).
    pub checksum: u64,
    /// Version of this format.
    pub format_version: u32,
}

impl Footer {
    /// The footer as key-value pairs.
    pub fn to_pairs(&self) -> Vec<(&'static str, String)> {
        let rejected: Vec<String> = self
            .rejected
            .iter()
            .map(|range| {
                let RejectedRange {
                    first_offset,
                    last_offset,
                    reason,
                } = range;
                format!("{first_offset}-{last_offset}={reason}")
            })
            .collect();
        vec![
            (FORMAT_VERSION_KEY, self.format_version.to_string()),
            (TOPIC, self.topic.clone()),
            (PARTITION, self.partition.to_string()),
            (FIRST_OFFSET, self.first_offset.to_string()),
            (LAST_OFFSET, self.last_offset.to_string()),
            (FIRST_RECORD, hash_text(self.first_record)),
            (ROWS, self.rows.to_string()),
            (REJECTED, rejected.join(",")),
            (REJECTED_RECORDS, self.rejected_records.to_string()),
            (WRITER_ID, self.writer_id.clone()),
            (CHECKSUM, hash_text(self.checksum)),
        ]
    }

    /// Reads key-value pairs; those of others are ignored.
    pub fn from_pairs<'a>(
        pairs: impl IntoIterator<Item = (&'a str, Option<&'a str>)>,
    ) -> Result<Self, FooterError> {
        let pairs = Pairs::new(pairs);
        pairs.expect_version(FORMAT_VERSION_KEY, FORMAT_VERSION)?;
        let footer = Self {
            topic: pairs.text(TOPIC)?.to_owned(),
            partition: pairs.number(PARTITION)?,
            first_offset: pairs.number(FIRST_OFFSET)?,
            last_offset: pairs.number(LAST_OFFSET)?,
            first_record: pairs.hash(FIRST_RECORD)?,
            rows: pairs.number(ROWS)?,
            rejected: ranges(&pairs, REJECTED)?,
            rejected_records: pairs.number(REJECTED_RECORDS)?,
            writer_id: pairs.text(WRITER_ID)?.to_owned(),
            checksum: pairs.hash(CHECKSUM)?,
            format_version: FORMAT_VERSION,
        };
        footer.check(&pairs)?;
        Ok(footer)
    }

    fn check(&self, pairs: &Pairs<'_>) -> Result<(), FooterError> {
        if self.first_offset < 0 {
            return Err(pairs.invalid(FIRST_OFFSET, "0 or more"));
        }
        if self.last_offset < self.first_offset {
            return Err(pairs.invalid(LAST_OFFSET, "no less than ftap.first_offset"));
        }
        let mut previous = None;
        let mut records: u64 = 0;
        for range in &self.rejected {
            let from = previous.map_or(self.first_offset, |last: i64| last.saturating_add(1));
            let inside = range.first_offset >= from && range.last_offset <= self.last_offset;
            if !inside || range.last_offset < range.first_offset {
                return Err(pairs.invalid(REJECTED, "ascending ranges within the file's offsets"));
            }
            previous = Some(range.last_offset);
            records = records.saturating_add(range.records());
        }
        if records != self.rejected_records {
            return Err(pairs.invalid(REJECTED_RECORDS, "the sum of the ranges of ftap.rejected"));
        }
        let offsets = self
            .last_offset
            .abs_diff(self.first_offset)
            .saturating_add(1);
        let accounted = self.rows.checked_add(records);
        // Fewer is fine: control records take offsets, too.
        if accounted.is_none_or(|n| n == 0 || n > offsets) {
            return Err(pairs.invalid(ROWS, "at most the file's offsets, and not an empty file"));
        }
        Ok(())
    }
}

fn ranges(pairs: &Pairs<'_>, key: &'static str) -> Result<Vec<RejectedRange>, FooterError> {
    let text = pairs.text(key)?;
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let range = |text: &str| {
        let (offsets, reason) = text.split_once('=')?;
        let (first, last) = offsets.split_once('-')?;
        Some(RejectedRange {
            first_offset: first.parse().ok()?,
            last_offset: last.parse().ok()?,
            reason: Cow::Owned(reason.to_owned()),
        })
    };
    let ranges: Option<Vec<_>> = text.split(',').map(range).collect();
    ranges.ok_or_else(|| pairs.invalid(key, "FIRST-LAST=REASON, separated by commas"))
}
