//! Checksums of rows, independent of how they are cut into batches and files encoded.
//!
//! Promises: the algorithm below never changes within a footer's format version.
//!
//! Every hash is XXH3-64 with seed 0; integers are little-endian.
//! 1. A column of fixed width: the hash of its values one after the other (`int64`,
//!    `double` as IEEE 754 bits and timestamps 8 bytes, `int32` 4 bytes). A timestamp that is NULL
//!    counts as the least 64-bit integer.
//! 2. A string column has two hashes: that of its values' UTF-8 bytes one after the
//!    other, and that of their lengths in bytes, 4 bytes each.
//! 3. The checksum is the hash of: the number of rows (8 bytes), then for each of
//!    [`RECORD_COLUMNS`] in order its hash or its two hashes (8 bytes each). Other columns follow
//!    from these, so that files of versions that lack one have the same checksum.

use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowPrimitiveType, Float64Type, Int32Type, Int64Type, TimestampMillisecondType,
};
use arrow_array::{Array, RecordBatch};
use arrow_schema::{DataType, TimeUnit};
use ftap_transaction::{KAFKA_TIMESTAMP, RECORD_COLUMNS};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

/// A batch that is not of the lake's schema.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChecksumError {
    /// A column is missing.
    #[error("the batch has no column {0}")]
    Missing(&'static str),
    /// A column has a type the checksum is not defined for.
    #[error(
        "column {column} is {data_type}, wanted the lake's type, and nulls only as a timestamp"
    )]
    Type {
        column: &'static str,
        data_type: String,
    },
}

/// The checksum of rows that come batch by batch.
pub struct Checksum {
    rows: u64,
    columns: [Xxh3; RECORD_COLUMNS.len()],
    lengths: [Option<Xxh3>; RECORD_COLUMNS.len()],
    scratch: Vec<u8>,
}

impl Default for Checksum {
    fn default() -> Self {
        Self::new()
    }
}

impl Checksum {
    /// The checksum of no rows yet.
    pub fn new() -> Self {
        let schema = ftap_transaction::schema();
        let lengths = std::array::from_fn(|index| {
            (*schema.field(index).data_type() == DataType::Utf8).then(Xxh3::new)
        });
        Self {
            rows: 0,
            columns: std::array::from_fn(|_| Xxh3::new()),
            lengths,
            scratch: Vec::new(),
        }
    }

    /// Adds the rows of `batch`. Other columns than these are ignored; on `Err` the
    /// checksum is of no use any more.
    pub fn update(&mut self, batch: &RecordBatch) -> Result<(), ChecksumError> {
        for (index, name) in RECORD_COLUMNS.into_iter().enumerate() {
            let array = batch
                .column_by_name(name)
                .ok_or(ChecksumError::Missing(name))?;
            let refused = || ChecksumError::Type {
                column: name,
                data_type: array.data_type().to_string(),
            };
            if array.null_count() > 0 && name != KAFKA_TIMESTAMP {
                return Err(refused());
            }
            let hash = &mut self.columns[index];
            match (&mut self.lengths[index], array.data_type()) {
                (Some(lengths), DataType::Utf8) => {
                    let strings = array.as_string::<i32>();
                    let offsets = strings.value_offsets();
                    if let (Some(first), Some(last)) = (offsets.first(), offsets.last()) {
                        hash.update(&strings.value_data()[*first as usize..*last as usize]);
                    }
                    self.scratch.clear();
                    for pair in offsets.windows(2) {
                        self.scratch
                            .extend_from_slice(&(pair[1] - pair[0]).to_le_bytes());
                    }
                    lengths.update(&self.scratch);
                }
                (None, DataType::Int32) => fixed::<Int32Type>(array, hash),
                (None, DataType::Int64) => fixed::<Int64Type>(array, hash),
                (None, DataType::Float64) => fixed::<Float64Type>(array, hash),
                (None, DataType::Timestamp(TimeUnit::Millisecond, _)) => {
                    if array.null_count() == 0 {
                        fixed::<TimestampMillisecondType>(array, hash);
                    } else {
                        let values = array.as_primitive::<TimestampMillisecondType>();
                        for value in values {
                            hash.update(&value.unwrap_or(i64::MIN).to_le_bytes());
                        }
                    }
                }
                _ => return Err(refused()),
            }
        }
        self.rows += batch.num_rows() as u64;
        Ok(())
    }

    /// The checksum of the rows so far.
    pub fn digest(&self) -> u64 {
        let mut all = self.rows.to_le_bytes().to_vec();
        for (values, lengths) in self.columns.iter().zip(&self.lengths) {
            all.extend_from_slice(&values.digest().to_le_bytes());
            if let Some(lengths) = lengths {
                all.extend_from_slice(&lengths.digest().to_le_bytes());
            }
        }
        xxh3_64(&all)
    }
}

fn fixed<T: ArrowPrimitiveType>(array: &dyn Array, hash: &mut Xxh3) {
    const {
        assert!(
            cfg!(target_endian = "little"),
            "arrow's buffers are hashed as they are; a big-endian machine has to swap bytes"
        );
    }
    let values = array.as_primitive::<T>().values();
    hash.update(values.inner().as_slice());
}

/// The checksum of the rows of `batches`, such as those read from a lake file.
pub fn checksum_of<'a>(
    batches: impl IntoIterator<Item = &'a RecordBatch>,
) -> Result<u64, ChecksumError> {
    let mut checksum = Checksum::new();
    for batch in batches {
        checksum.update(batch)?;
    }
    Ok(checksum.digest())
}
