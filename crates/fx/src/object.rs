//! The object that holds one run's rates.
//!
//! Promises: its name is the run's own time, so that a repeated run meets its object; columns as
//! in docs/DATA.md, `provider` last.

use std::sync::Arc;
use std::time::Instant;

use arrow_array::{Float64Array, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Schema};
use chrono::{DateTime, SecondsFormat, Utc};
use ftap_lake::{
    Adoption, ClosedFile, FX_RATES, FileError, FileWriter, Footer, FooterError, FooterField,
    FooterFormat, FxObjectName, NoConflict,
};

use super::{BASE_CURRENCY, Rates};

const ZSTD_LEVEL: i32 = 1;

/// The footer of an object of rates: empty, for the name says all about the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FxFooter;

impl FooterFormat for FxFooter {
    const FIELDS: &'static [FooterField] = &[];

    fn to_pairs(&self) -> Vec<(&'static str, String)> {
        Vec::new()
    }

    fn from_pairs<'a>(
        _: impl IntoIterator<Item = (&'a str, Option<&'a str>)>,
    ) -> Result<Self, FooterError> {
        Ok(Self)
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

/// The object: a row a currency.
pub fn file(run_at: DateTime<Utc>, rates: &Rates) -> Result<ClosedFile<FxFooter>, FileError> {
    let name = FxObjectName(run_at);
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
    );
    let batch = batch.map_err(|source| FileError::Arrow {
        name: name.key(),
        source,
    })?;
    let mut writer = FileWriter::open(&FX_RATES, name.key(), schema, ZSTD_LEVEL)?;
    writer.write(&batch)?;
    Ok(ClosedFile {
        name,
        bytes: writer.close(&FxFooter)?,
        footer: FxFooter,
        opened_at: Instant::now(),
    })
}
