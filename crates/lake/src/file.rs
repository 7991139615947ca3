//! One lake file under construction, in memory.
//!
//! Promises: the records appended become rows or listed rejections, in order, each
//! exactly once; memory stays near the encoded size plus one batch. Relies on the caller
//! for contiguity: offsets between two appended ones hold no record (control records).

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

use ftap_transaction::{RejectReason, RowBuilders, record_fingerprint, schema};

use crate::checksum::Checksum;
use crate::datasets::TRANSACTIONS;
use crate::error::FileError;
use crate::footer::{RejectedRange, TransactionFooter};
use crate::naming::ObjectName;
use crate::put::ClosedFile;
use crate::writer::{Compression, FileWriter};

/// Rows handed to the Parquet writer at once.
pub const BATCH_ROWS: usize = 8 * 1024;
/// Bytes of rows handed to the Parquet writer at once, for long payloads.
const BATCH_BYTES: usize = 8 << 20;
/// Encoded over decoded bytes before anything has been encoded.
const FIRST_RATIO: f64 = 0.15;

#[derive(Clone, Copy, Debug)]
pub struct FileSettings {
    /// A larger payload is rejected unread.
    pub max_message_bytes: usize,
    pub compression: Compression,
}

/// What a record was appended as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appended {
    Row,
    /// An entry in the footer's list.
    Rejected(RejectReason),
}

/// A file that takes records.
pub struct FileBuilder {
    name: ObjectName,
    writer_id: Arc<str>,
    max_message_bytes: usize,
    opened_at: Instant,
    last_offset: Option<i64>,
    first_record: u64,
    builders: RowBuilders,
    writer: FileWriter,
    checksum: Checksum,
    written_rows: u64,
    /// Decoded bytes of the rows the writer has.
    written_bytes: u64,
    rejected: Vec<RejectedRange>,
    rejected_records: u64,
}

impl FileBuilder {
    /// A file whose first record will be the one at `first_offset`.
    pub fn open(
        topic: Arc<str>,
        partition: i32,
        first_offset: i64,
        first_timestamp_ms: i64,
        settings: &FileSettings,
        writer_id: Arc<str>,
    ) -> Result<Self, FileError> {
        let name = ObjectName::new(&topic, partition, first_offset, first_timestamp_ms)?;
        let writer = FileWriter::open(&TRANSACTIONS, name.key(), schema(), settings.compression)?;
        Ok(Self {
            name,
            writer_id,
            max_message_bytes: settings.max_message_bytes,
            opened_at: Instant::now(),
            last_offset: None,
            first_record: 0,
            builders: RowBuilders::with_capacity(BATCH_ROWS),
            writer,
            checksum: Checksum::new(),
            written_rows: 0,
            written_bytes: 0,
            rejected: Vec::new(),
            rejected_records: 0,
        })
    }

    /// Adds a record. Offsets have to ascend; the first one is that of [`open`](Self::open).
    pub fn append(
        &mut self,
        payload: Option<&[u8]>,
        offset: i64,
        timestamp_ms: i64,
    ) -> Result<Appended, FileError> {
        match self.last_offset {
            Some(last) if offset > last => {}
            None if offset == self.name.first_offset() => {
                self.first_record = record_fingerprint(payload, timestamp_ms);
            }
            last => {
                return Err(FileError::OffsetOrder {
                    name: self.name.key(),
                    offset,
                    last: last.unwrap_or(self.name.first_offset()),
                });
            }
        }
        self.last_offset = Some(offset);
        let decoded = if payload.is_some_and(|bytes| bytes.len() > self.max_message_bytes) {
            Err(RejectReason::TooLarge)
        } else {
            let partition = self.name.partition();
            self.builders
                .append(payload, partition, offset, timestamp_ms)
        };
        if let Err(reason) = decoded {
            self.reject(offset, reason);
            return Ok(Appended::Rejected(reason));
        }
        if self.builders.len() >= BATCH_ROWS || self.builders.memory_bytes() >= BATCH_BYTES {
            self.encode()?;
        }
        Ok(Appended::Row)
    }

    fn reject(&mut self, offset: i64, reason: RejectReason) {
        let code = reason.code();
        self.rejected_records += 1;
        match self.rejected.last_mut() {
            Some(range) if range.last_offset + 1 == offset && range.reason == code => {
                range.last_offset = offset;
            }
            _ => self.rejected.push(RejectedRange {
                first_offset: offset,
                last_offset: offset,
                reason: Cow::Owned(code),
            }),
        }
    }

    /// Hands the buffered rows to the Parquet writer.
    fn encode(&mut self) -> Result<(), FileError> {
        let bytes = self.builders.memory_bytes() as u64;
        let batch = self.builders.finish().map_err(|source| FileError::Arrow {
            name: self.name.key(),
            source,
        })?;
        self.checksum
            .update(&batch)
            .expect("the batch comes from builders of the lake's schema");
        self.writer.write(&batch)?;
        self.written_rows += batch.num_rows() as u64;
        self.written_bytes += bytes;
        Ok(())
    }

    /// Rows so far.
    pub fn rows(&self) -> u64 {
        self.written_rows + self.builders.len() as u64
    }

    /// Rejected records so far.
    pub fn rejected_records(&self) -> u64 {
        self.rejected_records
    }

    /// Entries of the footer's list so far.
    pub fn rejected_ranges(&self) -> usize {
        self.rejected.len()
    }

    /// The file's name.
    pub fn name(&self) -> &ObjectName {
        &self.name
    }

    /// The first record's offset.
    pub fn first_offset(&self) -> i64 {
        self.name.first_offset()
    }

    /// The last record's offset, `None` before the first record.
    pub fn last_offset(&self) -> Option<i64> {
        self.last_offset
    }

    pub fn partition(&self) -> i32 {
        self.name.partition()
    }

    /// The size the file would have if it were closed now; an estimate.
    pub fn encoded_bytes(&self) -> u64 {
        let encoded = self.writer.encoded_bytes();
        let ratio = if self.written_bytes == 0 {
            FIRST_RATIO
        } else {
            encoded as f64 / self.written_bytes as f64
        };
        encoded as u64 + (self.builders.memory_bytes() as f64 * ratio) as u64
    }

    pub fn memory_bytes(&self) -> usize {
        const RANGE_BYTES: usize = size_of::<RejectedRange>() + 32;
        self.builders.memory_bytes()
            + self.writer.memory_bytes()
            + self.rejected.len() * RANGE_BYTES
    }

    /// When the file was opened.
    pub fn opened_at(&self) -> Instant {
        self.opened_at
    }

    /// Finishes the file.
    pub fn close(mut self) -> Result<ClosedFile<TransactionFooter>, FileError> {
        let Some(last_offset) = self.last_offset else {
            return Err(FileError::EmptyFile(self.name.key()));
        };
        if !self.builders.is_empty() {
            self.encode()?;
        }
        let footer = TransactionFooter {
            topic: self.name.topic().to_owned(),
            partition: self.name.partition(),
            first_offset: self.name.first_offset(),
            last_offset,
            first_record: self.first_record,
            rows: self.written_rows,
            rejected: self.rejected,
            rejected_records: self.rejected_records,
            writer_id: self.writer_id.as_ref().to_owned(),
            checksum: self.checksum.digest(),
        };
        let bytes = self.writer.close(&footer)?;
        Ok(ClosedFile {
            name: self.name,
            bytes,
            footer,
            opened_at: self.opened_at,
        })
    }
}
