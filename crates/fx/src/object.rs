//! The object that holds one run's rates.
//!
//! Promises: `fx_rates/YYYY/MM/DD/fx_rates_YYYYMMDD_HHMMSS.parquet` by the run's own time (UTC), so
//! that a repeated run meets its object; columns as in docs/DATA.md, `provider` last.

use std::sync::Arc;

use arrow_array::{Float64Array, RecordBatch, StringArray};
use arrow_schema::{ArrowError, DataType, Field, Schema};
use bytes::Bytes;
use chrono::{DateTime, SecondsFormat, Utc};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;

use super::{BASE_CURRENCY, Rates};

/// Folder of all rates.
pub const PREFIX: &str = "fx_rates";

/// Rates that could not be encoded: a fault of the program.
#[derive(Debug, thiserror::Error)]
#[error("FX rates can't be encoded")]
pub enum EncodeError {
    /// By the columns' library.
    Columns(#[from] ArrowError),
    /// By the file's library.
    File(#[from] ParquetError),
}

/// The object's key.
pub fn key(run_at: DateTime<Utc>) -> String {
    format!(
        "{PREFIX}/{}/fx_rates_{}.parquet",
        run_at.format("%Y/%m/%d"),
        run_at.format("%Y%m%d_%H%M%S")
    )
}

/// The object's bytes: a row a currency.
pub fn encode(run_at: DateTime<Utc>, rates: &Rates) -> Result<Bytes, EncodeError> {
    let timestamp = run_at.to_rfc3339_opts(SecondsFormat::Secs, true);
    let rows = rates.iter().count();
    let text = |name| Field::new(name, DataType::Utf8, false);
    let schema = Arc::new(Schema::new(vec![
        text("timestamp"),
        text("base_currency"),
        text("currency"),
        Field::new("rate", DataType::Float64, false),
        text("provider"),
    ]));
    let same = |value: &str| Arc::new(StringArray::from(vec![value; rows]));
    let batch = RecordBatch::try_new(
        schema.clone(),
        vec![
            same(&timestamp),
            same(BASE_CURRENCY),
            Arc::new(StringArray::from_iter_values(
                rates.iter().map(|(currency, _)| currency),
            )),
            Arc::new(Float64Array::from_iter_values(
                rates.iter().map(|(_, rate)| rate),
            )),
            same(rates.provider().as_str()),
        ],
    )?;
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .build();
    let mut writer = ArrowWriter::try_new(Vec::new(), schema, Some(properties))?;
    writer.write(&batch)?;
    Ok(writer.into_inner()?.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_the_runs_time_in_utc() {
        let run_at = DateTime::from_timestamp(1_577_836_805, 0).expect("in range");
        assert_eq!(
            key(run_at),
            "fx_rates/2020/01/01/fx_rates_20200101_000005.parquet"
        );
    }
}
