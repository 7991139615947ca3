//! Records that could not become rows, kept in the lake next to the files that list them.
//!
//! Promises: an object holds exactly the records that its footer lists, whole. It is put before the
//! file of transactions that lists them. It *counts* if that file is there and lists the same records:
//! of the objects that count each rejected record is in exactly one, because each offset is in exactly
//! one file. Others are what a writer left that was killed, or overtaken, before its file was in the
//! lake; its successor wrote the records again, in an object of its own if its file ended at another
//! offset.

mod build;
mod headers;
mod read;

use std::sync::Arc;

use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use ftap_transaction::{KAFKA_TIMESTAMP, plausible_timestamp};
use xxhash_rust::xxh3::{Xxh3, xxh3_64_with_seed};

use crate::chain::ChainError;
use crate::datasets::{KAFKA_OFFSET, KAFKA_PARTITION, dead_letter};
use crate::footer::{
    Adoption, Footer, FooterError, Hash, Pairs, Ranges, RejectedRange, Text, TransactionFooter,
    WholeNumber,
};
use crate::naming::DeadLetterName;
pub use build::DeadLetterBuilder;
pub use read::{dead_letters_of, footer_if_it_counts, list_dead_letters, read_dead_letters};

/// Name and value of a record's header, if it has one.
pub type Header = (String, Option<Vec<u8>>);

/// A record that could not become a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RejectedRecord<'a> {
    pub offset: i64,
    /// Its Kafka timestamp in milliseconds; -1 when read, if it was not plausible.
    pub timestamp_ms: i64,
    /// Stable code of the reason.
    pub reason: &'a str,
    pub key: Option<&'a [u8]>,
    /// In order.
    pub headers: &'a [Header],
    pub payload: Option<&'a [u8]>,
    /// When it was rejected, in milliseconds since 1970.
    pub rejected_ms: i64,
}

/// The columns.
pub fn dead_letter_schema() -> SchemaRef {
    let utc_millis = || DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()));
    Arc::new(Schema::new(vec![
        Field::new(dead_letter::TOPIC, DataType::Utf8, false),
        Field::new(KAFKA_PARTITION, DataType::Int32, false),
        Field::new(KAFKA_OFFSET, DataType::Int64, false),
        Field::new(KAFKA_TIMESTAMP, utc_millis(), true),
        Field::new(dead_letter::REASON, DataType::Utf8, false),
        Field::new(dead_letter::KEY, DataType::Binary, true),
        Field::new(dead_letter::HEADERS, DataType::Utf8, false),
        Field::new(dead_letter::PAYLOAD, DataType::Binary, true),
        Field::new(dead_letter::REJECTED_AT, utc_millis(), false),
    ]))
}

crate::footer! {
    /// The rejected records of one object.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct DeadLetterFooter, "ftap.dead_letters_version" = 1;
    "ftap.topic" (Text: "topic") topic: String,
    "ftap.partition" (WholeNumber: "partition") partition: i32,
    "ftap.first_offset" (WholeNumber: "as in the footer of the file of transactions that lists the records") first_offset: i64,
    "ftap.first_record" (Hash: "the same") first_record: u64,
    "ftap.rejected" (Ranges: "the same: the records of the object") rejected: Vec<RejectedRange>,
    "ftap.writer_id" (Text: "the process that wrote the object") writer_id: String,
    "ftap.checksum" (Hash: "hash of the records, as in the name") checksum: u64,
}

const REJECTED: &str = "ftap.rejected";

impl DeadLetterFooter {
    /// How many records the object has.
    pub fn records(&self) -> u64 {
        self.rejected.iter().map(RejectedRange::records).sum()
    }

    fn check(&self, pairs: &Pairs<'_>) -> Result<(), FooterError> {
        let mut next = self.first_offset;
        for range in &self.rejected {
            if range.first_offset < next || range.last_offset < range.first_offset {
                return Err(pairs.invalid(REJECTED, "ascending ranges from ftap.first_offset on"));
            }
            next = range.last_offset.saturating_add(1);
        }
        Ok(())
    }

    /// Whether the file with this footer, under the name that ours contains, lists our records.
    fn is_of(&self, file: &TransactionFooter) -> bool {
        self.first_record == file.first_record && self.rejected == file.rejected
    }
}

impl Footer for DeadLetterFooter {
    type Name = DeadLetterName;
    type Conflict = ChainError;

    fn check_name(&self, name: &DeadLetterName) -> Result<(), FooterError> {
        let Self {
            topic,
            partition,
            first_offset,
            checksum,
            ..
        } = self;
        let file = name.file();
        let is_its_own = topic == file.topic()
            && *partition == file.partition()
            && *first_offset == file.first_offset()
            && *checksum == name.hash();
        if is_its_own {
            Ok(())
        } else {
            Err(FooterError::OfAnother(format!(
                "the dead letters {checksum:016x} of {topic}-{partition} from offset {first_offset}"
            )))
        }
    }

    /// The name has a hash of the records, so another list under it would be a collision.
    fn adopt(&self, theirs: &Self) -> Result<Adoption, ChainError> {
        if self.rejected == theirs.rejected && self.first_record == theirs.first_record {
            return Ok(Adoption::Same);
        }
        let (theirs, ours) = (theirs.records(), self.records());
        Err(ChainError::Conflict {
            topic: self.topic.clone(),
            partition: self.partition,
            offset: self.first_offset,
            differs: "list of rejected records",
            theirs: format!("another one of {theirs} records"),
            ours: format!("one of {ours}"),
        })
    }
}

/// The hash of an object's records. It is XXH3-64, over each record's offset and timestamp (8 bytes
/// each, little-endian; a timestamp that is NULL is the least number), reason, key, headers and value
/// (each its length, 8 bytes, and its bytes; 0xff alone for none); of that hash, with the fingerprint
/// of the file's first record as the seed. When a record was rejected, and by which process, does not count.
#[derive(Default)]
struct RecordHash(Xxh3);

impl RecordHash {
    fn add(&mut self, record: &RejectedRecord<'_>, headers: &str) {
        let timestamp = plausible_timestamp(record.timestamp_ms).unwrap_or(i64::MIN);
        self.0.update(&record.offset.to_le_bytes());
        self.0.update(&timestamp.to_le_bytes());
        let texts = [record.reason, headers].map(|text| Some(text.as_bytes()));
        for bytes in [texts[0], record.key, texts[1], record.payload] {
            match bytes {
                Some(bytes) => {
                    self.0.update(&(bytes.len() as u64).to_le_bytes());
                    self.0.update(bytes);
                }
                None => self.0.update(&[0xff]),
            }
        }
    }

    fn close(&self, first_record: u64) -> u64 {
        xxh3_64_with_seed(&self.0.digest().to_le_bytes(), first_record)
    }
}
