//! What is in the lake's dead letters.

use arrow_array::cast::AsArray as _;
use arrow_array::types::{Int64Type, TimestampMillisecondType};
use arrow_array::{Array as _, BinaryArray, RecordBatch, StringArray};
use bytes::Bytes;
use ftap_transaction::{KAFKA_TIMESTAMP, NO_TIMESTAMP};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder,
};

use super::{DeadLetterFooter, RecordHash, RejectedRecord, headers};
use crate::datasets::{DEAD_LETTERS, KAFKA_OFFSET, dead_letter};
use crate::error::LakeError;
use crate::footer::TransactionFooter;
use crate::listing::read_footer;
use crate::naming::DeadLetterName;
use crate::store::LakeStore;

/// Objects whose footers are read side by side.
const FOOTER_READS: usize = 8;
/// Records unpacked at once, of row groups that hold small ones.
const BATCH_ROWS: usize = 8192;

/// All objects of a topic, by partition and offset, whether they count or not.
pub async fn list_dead_letters(
    lake: &LakeStore,
    topic: &str,
) -> Result<Vec<DeadLetterName>, LakeError> {
    let mut names = Vec::new();
    let mut objects = lake.list(DEAD_LETTERS.name);
    while let Some(object) = objects.try_next().await? {
        names.extend(DeadLetterName::parse(&object.key));
    }
    names.retain(|name| name.file().topic() == topic);
    names.sort_by_key(|name| {
        let file = name.file();
        (
            file.partition(),
            file.first_offset(),
            file.date(),
            name.hash(),
        )
    });
    Ok(names)
}

/// The object's footer if it counts: the file of its name is there and lists the same records.
pub async fn footer_if_it_counts(
    lake: &LakeStore,
    name: &DeadLetterName,
) -> Result<Option<DeadLetterFooter>, LakeError> {
    if !lake.exists(&name.file().key()).await? {
        return Ok(None);
    }
    let file: TransactionFooter = read_footer(lake, name.file()).await?;
    let footer: DeadLetterFooter = read_footer(lake, name).await?;
    Ok(footer.is_of(&file).then_some(footer))
}

/// The objects of a topic that count, by partition and offset.
pub async fn dead_letters_of(
    lake: &LakeStore,
    topic: &str,
) -> Result<Vec<(DeadLetterName, DeadLetterFooter)>, LakeError> {
    let names = list_dead_letters(lake, topic).await?;
    let footers = names.into_iter().map(|name| async move {
        let footer = footer_if_it_counts(lake, &name).await?;
        Ok(footer.map(|footer| (name, footer)))
    });
    let footers: Vec<_> = footers.collect();
    let found: Vec<Option<_>> = stream::iter(footers)
        .buffered(FOOTER_READS)
        .try_collect()
        .await?;
    Ok(found.into_iter().flatten().collect())
}

/// Hands an object's records over in order. One row group is unpacked at a time. An object that does
/// not hold what its footer lists is an error, after the records that it holds.
pub async fn read_dead_letters<E: From<LakeError>>(
    lake: &LakeStore,
    name: &DeadLetterName,
    footer: &DeadLetterFooter,
    mut take: impl FnMut(&RejectedRecord<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let key = name.key();
    let bytes = lake.get(&key).await?;
    let damaged = |problem: String| LakeError::object(&key, problem);
    let mut hash = RecordHash::default();
    let ranges = footer.rejected.iter();
    let mut listed = ranges.flat_map(|range| {
        (range.first_offset..=range.last_offset).map(|offset| (offset, range.reason.as_ref()))
    });
    let metadata = ArrowReaderMetadata::load(&bytes, ArrowReaderOptions::new());
    let metadata = metadata.map_err(|error| damaged(error.to_string()))?;
    for group in 0..metadata.metadata().num_row_groups() {
        for batch in batches(&bytes, &metadata, group).map_err(&damaged)? {
            let batch = batch.map_err(&damaged)?;
            let columns = Columns::of(&batch).map_err(&damaged)?;
            for row in 0..batch.num_rows() {
                let text = columns.headers.value(row);
                let headers = headers::read(text);
                let headers =
                    headers.ok_or_else(|| damaged(format!("headers of another form: {text}")))?;
                let record = columns.record(row, &headers);
                if listed.next() != Some((record.offset, record.reason)) {
                    let offset = record.offset;
                    let problem = format!("its footer does not list offset {offset} there");
                    return Err(damaged(problem).into());
                }
                hash.add(&record, text);
                take(&record)?;
            }
        }
    }
    if let Some((offset, _)) = listed.next() {
        return Err(damaged(format!(
            "offset {offset}, which its footer lists, is missing"
        ))
        .into());
    }
    if hash.close(footer.first_record) != footer.checksum {
        return Err(damaged("its records do not have its checksum".to_owned()).into());
    }
    Ok(())
}

fn batches(
    bytes: &Bytes,
    metadata: &ArrowReaderMetadata,
    group: usize,
) -> Result<impl Iterator<Item = Result<RecordBatch, String>>, String> {
    let builder =
        ParquetRecordBatchReaderBuilder::new_with_metadata(bytes.clone(), metadata.clone());
    let reader = builder
        .with_row_groups(vec![group])
        .with_batch_size(BATCH_ROWS)
        .build();
    let reader = reader.map_err(|error| error.to_string())?;
    Ok(reader.map(|batch| batch.map_err(|error| error.to_string())))
}

struct Columns<'a> {
    offsets: &'a [i64],
    timestamps: &'a arrow_array::PrimitiveArray<TimestampMillisecondType>,
    reasons: &'a StringArray,
    keys: &'a BinaryArray,
    headers: &'a StringArray,
    payloads: &'a BinaryArray,
    rejected_at: &'a [i64],
}

impl<'a> Columns<'a> {
    fn of(batch: &'a RecordBatch) -> Result<Self, String> {
        let column = |name: &str| {
            batch
                .column_by_name(name)
                .ok_or(format!("no column {name}"))
        };
        let wrong = |name: &str| format!("column {name} has another type");
        macro_rules! array {
            ($name:expr, $cast:ident::<$type:ty>) => {
                column($name)?
                    .$cast::<$type>()
                    .ok_or_else(|| wrong($name))?
            };
        }
        Ok(Self {
            offsets: array!(KAFKA_OFFSET, as_primitive_opt::<Int64Type>).values(),
            timestamps: array!(
                KAFKA_TIMESTAMP,
                as_primitive_opt::<TimestampMillisecondType>
            ),
            reasons: array!(dead_letter::REASON, as_string_opt::<i32>),
            keys: array!(dead_letter::KEY, as_binary_opt::<i32>),
            headers: array!(dead_letter::HEADERS, as_string_opt::<i32>),
            payloads: array!(dead_letter::PAYLOAD, as_binary_opt::<i32>),
            rejected_at: array!(
                dead_letter::REJECTED_AT,
                as_primitive_opt::<TimestampMillisecondType>
            )
            .values(),
        })
    }

    fn record<'r>(&'r self, row: usize, headers: &'r [super::Header]) -> RejectedRecord<'r> {
        let bytes = |array: &'r BinaryArray| array.is_valid(row).then(|| array.value(row));
        let timestamp = self
            .timestamps
            .is_valid(row)
            .then(|| self.timestamps.value(row));
        RejectedRecord {
            offset: self.offsets[row],
            timestamp_ms: timestamp.unwrap_or(NO_TIMESTAMP),
            reason: self.reasons.value(row),
            key: bytes(self.keys),
            headers,
            payload: bytes(self.payloads),
            rejected_ms: self.rejected_at[row],
        }
    }
}
