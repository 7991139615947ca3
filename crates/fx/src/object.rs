//! The object that holds one run's rates.
//!
//! Promises: its name is the run's own time, so that a repeated run meets its object; columns as
//! in docs/DATA.md, `provider` and `rate_time` last.

use std::sync::Arc;
use std::time::Instant;

use arrow_array::{Float64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use chrono::{DateTime, SecondsFormat, Utc};
use ftap_lake::{
    Adoption, ClosedFile, Compression, FX_RATES, FileError, FileWriter, Footer, FooterError,
    FxObjectName, NoConflict, OptionalNumber, OptionalText, Pairs, footer,
};

use super::{BASE_CURRENCY, Rates};

footer! {
    /// What an object of rates says of itself. Its name says all about the run; earlier versions
    /// wrote no pairs.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct FxFooter, "ftap.rates_version" = 1 or absent;
    "ftap.provider" (OptionalText: "as in the column") provider: Option<String>,
    "ftap.rows" (OptionalNumber: "rows in the file") rows: Option<u64>,
    "ftap.writer_id" (OptionalText: "the process that wrote the file") writer_id: Option<String>,
}

impl FxFooter {
    /// No value contradicts another.
    fn check(&self, _: &Pairs<'_>) -> Result<(), FooterError> {
        Ok(())
    }
}

impl Footer for FxFooter {
    type Name = FxObjectName;
    type Conflict = NoConflict;

    fn check_name(&self, _: &FxObjectName) -> Result<(), FooterError> {
        Ok(())
    }

    /// The run's first object stays.
    fn adopt(&self, _: &Self) -> Result<Adoption, NoConflict> {
        Ok(Adoption::Same)
    }
}

/// The columns. Objects of earlier versions lack the last one.
pub fn schema() -> SchemaRef {
    let field = |name, kind| Field::new(name, kind, false);
    let utc_micros = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    Arc::new(Schema::new(vec![
        field("timestamp", DataType::Utf8),
        field("base_currency", DataType::Utf8),
        field("currency", DataType::Utf8),
        field("rate", DataType::Float64),
        field("provider", DataType::Utf8),
        field("rate_time", utc_micros),
    ]))
}

/// The object: a row a currency.
///
/// # Errors
/// If the compression has a level that does not exist.
pub fn file(
    run_at: DateTime<Utc>,
    rates: &Rates,
    compression: Compression,
    writer_id: &str,
) -> Result<ClosedFile<FxFooter>, FileError> {
    let name = FxObjectName(run_at);
    let timestamp = run_at.to_rfc3339_opts(SecondsFormat::Secs, true);
    let rows = rates.iter().count();
    let schema = schema();
    let same = |value: &str| Arc::new(StringArray::from(vec![value; rows]));
    let times = TimestampMicrosecondArray::from_value(run_at.timestamp_micros(), rows);
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
            Arc::new(times.with_timezone("UTC")),
        ],
    );
    let batch = batch.map_err(|source| FileError::Arrow {
        name: name.key(),
        source,
    })?;
    let mut writer = FileWriter::open(&FX_RATES, name.key(), schema, compression)?;
    writer.write(&batch)?;
    let footer = FxFooter {
        provider: Some(rates.provider().as_str().to_owned()),
        rows: Some(rows as u64),
        writer_id: Some(writer_id.to_owned()),
    };
    Ok(ClosedFile {
        name,
        bytes: writer.close(&footer)?,
        footer,
        opened_at: Instant::now(),
    })
}
