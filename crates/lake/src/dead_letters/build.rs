//! One object of dead letters under construction, in memory.

use std::sync::Arc;
use std::time::Instant;

use arrow_array::builder::{
    BinaryBuilder, Int64Builder, StringBuilder, TimestampMillisecondBuilder,
};
use arrow_array::{ArrayRef, Int32Array, RecordBatch, StringArray};
use ftap_transaction::plausible_timestamp;

use super::{DeadLetterFooter, RecordHash, RejectedRecord, dead_letter_schema, headers};
use crate::datasets::DEAD_LETTERS;
use crate::error::FileError;
use crate::footer::TransactionFooter;
use crate::naming::{DeadLetterName, ObjectName};
use crate::put::ClosedFile;
use crate::writer::{Compression, FileWriter};

/// Bytes of records handed to the Parquet writer at once.
const BATCH_BYTES: usize = 8 << 20;
/// Bytes of records in a row group, unless one record alone has more: a reader unpacks one at a time.
const GROUP_BYTES: usize = 32 << 20;
/// What a record takes besides its bytes.
const RECORD_BYTES: usize = 64;

/// An object that takes rejected records.
pub struct DeadLetterBuilder {
    file: ObjectName,
    writer: FileWriter,
    columns: Columns,
    batch_bytes: usize,
    group_bytes: usize,
    hash: RecordHash,
    opened_at: Instant,
}

#[derive(Default)]
struct Columns {
    offsets: Int64Builder,
    timestamps: TimestampMillisecondBuilder,
    reasons: StringBuilder,
    keys: BinaryBuilder,
    headers: StringBuilder,
    payloads: BinaryBuilder,
    rejected_at: TimestampMillisecondBuilder,
}

impl DeadLetterBuilder {
    /// For records of this file.
    pub fn open(file: ObjectName, compression: Compression) -> Result<Self, FileError> {
        let name = format!("the dead letters of {file}");
        let writer = FileWriter::open(&DEAD_LETTERS, name, dead_letter_schema(), compression)?;
        Ok(Self {
            file,
            writer,
            columns: Columns::default(),
            batch_bytes: 0,
            group_bytes: 0,
            hash: RecordHash::default(),
            opened_at: Instant::now(),
        })
    }

    /// Adds a record; in the order of their offsets.
    pub fn append(&mut self, record: &RejectedRecord<'_>) -> Result<(), FileError> {
        let headers = headers::write(record.headers);
        let length = |bytes: Option<&[u8]>| bytes.map_or(0, <[u8]>::len);
        let bytes = RECORD_BYTES
            + record.reason.len()
            + headers.len()
            + length(record.key)
            + length(record.payload);
        // Before it: a column of a batch takes 2 GB, and a record alone may have nearly that.
        if self.batch_bytes + bytes > BATCH_BYTES {
            self.encode()?;
        }
        self.hash.add(record, &headers);
        self.batch_bytes += bytes;
        let columns = &mut self.columns;
        columns.offsets.append_value(record.offset);
        columns
            .timestamps
            .append_option(plausible_timestamp(record.timestamp_ms));
        columns.reasons.append_value(record.reason);
        columns.keys.append_option(record.key);
        columns.headers.append_value(headers);
        columns.payloads.append_option(record.payload);
        columns.rejected_at.append_value(record.rejected_ms);
        Ok(())
    }

    fn encode(&mut self) -> Result<(), FileError> {
        let columns = &mut self.columns;
        let offsets = columns.offsets.finish();
        let rows = offsets.values().len();
        if rows == 0 {
            return Ok(());
        }
        let arrays: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from(vec![self.file.topic(); rows])),
            Arc::new(Int32Array::from(vec![self.file.partition(); rows])),
            Arc::new(offsets),
            Arc::new(columns.timestamps.finish().with_timezone("UTC")),
            Arc::new(columns.reasons.finish()),
            Arc::new(columns.keys.finish()),
            Arc::new(columns.headers.finish()),
            Arc::new(columns.payloads.finish()),
            Arc::new(columns.rejected_at.finish().with_timezone("UTC")),
        ];
        let batch = RecordBatch::try_new(dead_letter_schema(), arrays);
        let batch = batch.map_err(|source| FileError::Arrow {
            name: format!("the dead letters of {}", self.file),
            source,
        })?;
        let bytes = std::mem::take(&mut self.batch_bytes);
        if self.group_bytes > 0 && self.group_bytes + bytes > GROUP_BYTES {
            self.group_bytes = 0;
            self.writer.end_row_group()?;
        }
        self.group_bytes += bytes;
        self.writer.write(&batch)
    }

    /// The size the object would have if it were closed now; no less than that.
    pub fn encoded_bytes(&self) -> u64 {
        (self.writer.encoded_bytes() + self.batch_bytes) as u64
    }

    pub fn memory_bytes(&self) -> usize {
        self.writer.memory_bytes() + self.batch_bytes
    }

    /// Finishes the object, whose records `file` lists.
    pub fn close(
        mut self,
        file: &TransactionFooter,
    ) -> Result<ClosedFile<DeadLetterFooter>, FileError> {
        self.encode()?;
        let checksum = self.hash.close(file.first_record);
        let footer = DeadLetterFooter {
            topic: file.topic.clone(),
            partition: file.partition,
            first_offset: file.first_offset,
            first_record: file.first_record,
            rejected: file.rejected.clone(),
            writer_id: file.writer_id.clone(),
            checksum,
        };
        Ok(ClosedFile {
            name: DeadLetterName::new(self.file, checksum),
            bytes: self.writer.close(&footer)?,
            footer,
            opened_at: self.opened_at,
        })
    }
}
