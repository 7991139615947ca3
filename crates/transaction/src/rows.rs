//! Kafka payloads into Arrow columns.
//!
//! Promises: a payload becomes one whole row or nothing; no payload is copied except
//! into the columns. Relies on `decode` for what a valid payload is.

use std::sync::{Arc, LazyLock};

use arrow_array::builder::{
    Float64Builder, Int32Builder, Int64Builder, StringBuilder, TimestampMillisecondBuilder,
};
use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef, TimeUnit};

use super::{RejectReason, decode, field};

/// Names of the lake's columns: the message's nine fields, then where the record stood.
pub const COLUMNS: [&str; 12] = [
    field::TRANS_DATE_TRANS_TIME,
    field::USER_ID,
    field::MERCHANT,
    field::CATEGORY,
    field::TRANS_NUM,
    field::UNIX_TIME,
    field::IS_FRAUD,
    field::ORIGINAL_AMT,
    field::CURRENCY,
    "_kafka_partition",
    "_kafka_offset",
    "_kafka_timestamp",
];

static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    let types = [
        DataType::Utf8,
        DataType::Utf8,
        DataType::Utf8,
        DataType::Utf8,
        DataType::Utf8,
        DataType::Int64,
        DataType::Int64,
        DataType::Float64,
        DataType::Utf8,
        DataType::Int32,
        DataType::Int64,
        DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())),
    ];
    let fields: Vec<Field> = COLUMNS
        .into_iter()
        .zip(types)
        .map(|(name, data_type)| Field::new(name, data_type, false))
        .collect();
    Arc::new(Schema::new(fields))
});

/// The lake's schema: [`COLUMNS`], none of them nullable.
pub fn schema() -> SchemaRef {
    Arc::clone(&SCHEMA)
}

/// Bytes of a row outside its strings' text: six offsets and the six plain columns.
const FIXED_ROW_BYTES: usize = 6 * 4 + 8 + 8 + 8 + 4 + 8 + 8;

/// Text bytes of a usual row, to size the first buffers: what the generated data has.
const USUAL_TEXT_BYTES: [usize; 6] = [19, 36, 32, 14, 32, 3];

/// Rows of the lake under construction.
pub struct RowBuilders {
    /// The string columns in the schema's order: date, user, merchant, category, number, currency.
    text: [StringBuilder; 6],
    unix_time: Int64Builder,
    is_fraud: Int64Builder,
    original_amt: Float64Builder,
    partition: Int32Builder,
    offset: Int64Builder,
    timestamp: TimestampMillisecondBuilder,
    rows: usize,
    text_bytes: usize,
    capacity: usize,
}

impl RowBuilders {
    /// Builders with room for `rows` usual rows; they grow beyond it.
    pub fn with_capacity(rows: usize) -> Self {
        Self {
            text: USUAL_TEXT_BYTES
                .map(|bytes| StringBuilder::with_capacity(rows, rows.saturating_mul(bytes))),
            unix_time: Int64Builder::with_capacity(rows),
            is_fraud: Int64Builder::with_capacity(rows),
            original_amt: Float64Builder::with_capacity(rows),
            partition: Int32Builder::with_capacity(rows),
            offset: Int64Builder::with_capacity(rows),
            timestamp: timestamps(rows),
            rows: 0,
            text_bytes: 0,
            capacity: rows,
        }
    }

    /// Decodes one record into a new row; on `Err` nothing was added.
    ///
    /// Unknown fields are ignored, whatever their type; of a field that comes twice the
    /// last one counts. A payload that would take the strings of this batch beyond 2 GiB
    /// is `TooLarge`.
    pub fn append(
        &mut self,
        payload: Option<&[u8]>,
        partition: i32,
        offset: i64,
        timestamp_ms: i64,
    ) -> Result<(), RejectReason> {
        let payload = payload.unwrap_or_default();
        // No string column can then outgrow its 32-bit offsets: decoding never lengthens text.
        if payload.len() > (i32::MAX as usize).saturating_sub(self.text_bytes) {
            return Err(RejectReason::TooLarge);
        }
        decode::decode(payload, |row| {
            for (builder, text) in self.text.iter_mut().zip(row.text) {
                builder.append_value(text);
                self.text_bytes += text.len();
            }
            self.unix_time.append_value(row.unix_time);
            self.is_fraud.append_value(row.is_fraud);
            self.original_amt.append_value(row.original_amt);
        })?;
        self.partition.append_value(partition);
        self.offset.append_value(offset);
        self.timestamp.append_value(timestamp_ms);
        self.rows += 1;
        Ok(())
    }

    /// Rows appended since the last [`finish`](Self::finish).
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Bytes the rows take here.
    pub fn memory_bytes(&self) -> usize {
        self.rows * FIXED_ROW_BYTES + self.text_bytes
    }

    /// The rows as a batch of [`schema`]; the builders are empty again.
    pub fn finish(&mut self) -> Result<RecordBatch, ArrowError> {
        let [date, user, merchant, category, number, currency] = &mut self.text;
        let columns: Vec<ArrayRef> = vec![
            Arc::new(date.finish()),
            Arc::new(user.finish()),
            Arc::new(merchant.finish()),
            Arc::new(category.finish()),
            Arc::new(number.finish()),
            Arc::new(self.unix_time.finish()),
            Arc::new(self.is_fraud.finish()),
            Arc::new(self.original_amt.finish()),
            Arc::new(currency.finish()),
            Arc::new(self.partition.finish()),
            Arc::new(self.offset.finish()),
            Arc::new(self.timestamp.finish()),
        ];
        *self = Self::with_capacity(self.capacity);
        RecordBatch::try_new(schema(), columns)
    }
}

fn timestamps(rows: usize) -> TimestampMillisecondBuilder {
    TimestampMillisecondBuilder::with_capacity(rows).with_timezone("UTC")
}
