//! Kafka payloads into Arrow columns.
//!
//! Promises: a payload becomes one whole row or nothing; no payload is copied except
//! into the columns. Relies on `decode` for what a valid payload is.

use std::sync::{Arc, LazyLock};

use arrow_array::builder::{
    Int32Builder, Int64Builder, TimestampMicrosecondBuilder, TimestampMillisecondBuilder,
};
use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef, TimeUnit};

use super::decode::{self, Decoded};
use super::fields::{
    Checked, CurrencyCode, EventTime, FieldType, Flag, Float, Integer, Text, column, message_fields,
};
use super::{RejectReason, field, plausible_timestamp};

/// Columns after the message's fields: where the record stood.
const KAFKA_COLUMNS: [&str; 3] = ["_kafka_partition", "_kafka_offset", KAFKA_TIMESTAMP];

/// The record's timestamp; NULL if it has none, or not a [plausible](plausible_timestamp) one.
pub const KAFKA_TIMESTAMP: &str = "_kafka_timestamp";

/// The last column: `trans_date_trans_time` as a time. Files of earlier versions lack it.
pub const EVENT_TIME: &str = "event_time";

/// Bytes of a row in [`KAFKA_COLUMNS`] and [`EVENT_TIME`].
const ADDED_BYTES: usize = 4 + 8 + 8 + 8;

/// The lake's schema: [`RECORD_COLUMNS`] and [`EVENT_TIME`]. Only a record's timestamp may be NULL.
pub fn schema() -> SchemaRef {
    Arc::clone(&SCHEMA)
}

macro_rules! rows {
    ($(#[doc = $doc:literal] $constant:ident $name:ident: $kind:ty;)*) => {
        /// Names of the columns that come from the record: the message's fields, then where it
        /// stood. The lake's others follow from these.
        pub const RECORD_COLUMNS: [&str; field::ALL.len() + KAFKA_COLUMNS.len()] = {
            let [partition, offset, timestamp] = KAFKA_COLUMNS;
            [$(field::$constant,)* partition, offset, timestamp]
        };

        static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
            let types = [
                $(<$kind>::data_type(),)*
                DataType::Int32,
                DataType::Int64,
                DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())),
                DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            ];
            let fields: Vec<Field> = RECORD_COLUMNS
                .into_iter()
                .chain([EVENT_TIME])
                .zip(types)
                .map(|(name, data_type)| Field::new(name, data_type, name == KAFKA_TIMESTAMP))
                .collect();
            Arc::new(Schema::new(fields))
        });

        /// Bytes of a row outside its strings' text.
        const FIXED_ROW_BYTES: usize = ADDED_BYTES $(+ <$kind>::FIXED_BYTES)*;

        /// Rows of the lake under construction.
        pub struct RowBuilders {
            $($name: <$kind as FieldType>::Builder,)*
            partition: Int32Builder,
            offset: Int64Builder,
            timestamp: TimestampMillisecondBuilder,
            event_time: TimestampMicrosecondBuilder,
            rows: usize,
            text_bytes: usize,
            capacity: usize,
        }

        impl RowBuilders {
            /// Builders with room for `rows` usual rows; they grow beyond it.
            pub fn with_capacity(rows: usize) -> Self {
                Self {
                    $($name: <$kind>::builder(rows),)*
                    partition: Int32Builder::with_capacity(rows),
                    offset: Int64Builder::with_capacity(rows),
                    timestamp: TimestampMillisecondBuilder::with_capacity(rows).with_timezone("UTC"),
                    event_time: TimestampMicrosecondBuilder::with_capacity(rows).with_timezone("UTC"),
                    rows: 0,
                    text_bytes: 0,
                    capacity: rows,
                }
            }

            fn append_fields(&mut self, row: Decoded<'_>) {
                self.event_time.append_value(row.trans_date_trans_time.micros);
                $(
                    <$kind>::append(&mut self.$name, row.$name);
                    self.text_bytes += <$kind>::text_bytes(row.$name);
                )*
            }

            fn take_columns(&mut self) -> Vec<ArrayRef> {
                vec![
                    $(column(&mut self.$name),)*
                    column(&mut self.partition),
                    column(&mut self.offset),
                    column(&mut self.timestamp),
                    column(&mut self.event_time),
                ]
            }
        }
    };
}
message_fields!(rows);

impl RowBuilders {
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
        decode::decode(payload, |row| self.append_fields(row))?;
        self.partition.append_value(partition);
        self.offset.append_value(offset);
        self.timestamp
            .append_option(plausible_timestamp(timestamp_ms));
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
        let columns = self.take_columns();
        *self = Self::with_capacity(self.capacity);
        RecordBatch::try_new(schema(), columns)
    }
}
