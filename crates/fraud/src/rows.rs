//! The rows of `fraud_features` as the engine gives them.

use arrow_array::cast::AsArray as _;
use arrow_array::types::{Float64Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{Array as _, ArrayRef, RecordBatch};
use chrono::{DateTime, Utc};

use crate::features::{FEATURES, Transaction};

/// Columns before those of the features.
const BEFORE: usize = 5;

/// The statement for the rows that [`rows`] reads; `which` is its `WHERE` clause, or nothing.
pub fn statement(which: &str) -> String {
    let columns: String = FEATURES
        .iter()
        .map(|feature| format!(", cast({0} as double) as {0}", feature.column))
        .collect();
    format!(
        "select arrow_cast(transaction_id, 'Utf8') as transaction_id, arrow_cast(user_id, 'Utf8') as user_id, \
         transaction_datetime_UTC as happened_at, arrow_cast(category, 'Utf8') as category, \
         cast(is_fraud as bigint) as is_fraud{columns} from fraud_features {which}"
    )
}

/// A row of the answer.
#[derive(Clone, Debug)]
pub struct FeatureRow<'a> {
    pub id: &'a str,
    pub user: &'a str,
    pub at: DateTime<Utc>,
    /// `None` if it is not known.
    pub is_fraud: Option<bool>,
    pub transaction: Transaction<'a>,
}

/// An answer to another statement: a bug of the caller.
#[derive(Debug, thiserror::Error)]
#[error("column {0} of fraud_features has another type than expected: report this as a bug")]
pub struct RowsError(&'static str);

/// The rows of an answer to [`statement`]; those without a time are left out.
///
/// # Errors
/// If the columns are others.
pub fn rows(batch: &RecordBatch) -> Result<impl Iterator<Item = FeatureRow<'_>>, RowsError> {
    let column = |place: usize, name| -> Result<&ArrayRef, RowsError> {
        batch.columns().get(place).ok_or(RowsError(name))
    };
    let text = |place, name| {
        let column = column(place, name)?.as_string_opt::<i32>();
        column.ok_or(RowsError(name))
    };
    let (ids, users) = (text(0, "transaction_id")?, text(1, "user_id")?);
    let times = column(2, "transaction_datetime_UTC")?;
    let times = times.as_primitive_opt::<TimestampMicrosecondType>();
    let times = times.ok_or(RowsError("transaction_datetime_UTC"))?;
    let categories = text(3, "category")?;
    let labels = column(4, "is_fraud")?.as_primitive_opt::<Int64Type>();
    let labels = labels.ok_or(RowsError("is_fraud"))?;
    let features = FEATURES.iter().zip(BEFORE..).map(|(feature, place)| {
        let column = column(place, feature.column)?.as_primitive_opt::<Float64Type>();
        column.ok_or(RowsError(feature.column))
    });
    let features = features.collect::<Result<Vec<_>, _>>()?;
    Ok((0..batch.num_rows()).filter_map(move |row| {
        let mut columns = [None; FEATURES.len()];
        for (value, column) in columns.iter_mut().zip(&features) {
            *value = column.is_valid(row).then(|| column.value(row));
        }
        let at = times.is_valid(row).then(|| times.value(row))?;
        Some(FeatureRow {
            id: ids.value(row),
            user: users.value(row),
            at: DateTime::from_timestamp_micros(at)?,
            is_fraud: labels.is_valid(row).then(|| labels.value(row) != 0),
            transaction: Transaction::new(columns, categories.value(row)),
        })
    }))
}
