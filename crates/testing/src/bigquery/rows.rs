//! What is in a Parquet object: columns by BigQuery's types, and its rows.

use bytes::Bytes;
use parquet::basic::{LogicalType, Type as Physical};
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::schema::types::Type;

/// Name and type of each column.
pub(crate) type Columns = Vec<(String, &'static str)>;

pub(crate) fn open(bytes: Vec<u8>) -> Result<SerializedFileReader<Bytes>, String> {
    SerializedFileReader::new(Bytes::from(bytes)).map_err(|error| error.to_string())
}

pub(crate) fn count(reader: &SerializedFileReader<Bytes>) -> u64 {
    reader.metadata().file_metadata().num_rows().unsigned_abs()
}

pub(crate) fn columns(reader: &SerializedFileReader<Bytes>) -> Result<Columns, String> {
    let schema = reader.metadata().file_metadata().schema();
    let column = |field: &std::sync::Arc<Type>| {
        let kind = kind(field).ok_or_else(|| format!("column {}: unknown type", field.name()))?;
        Ok((field.name().to_owned(), kind))
    };
    schema.get_fields().iter().map(column).collect()
}

/// By <https://cloud.google.com/bigquery/docs/loading-data-cloud-storage-parquet#parquet_conversions>.
fn kind(field: &Type) -> Option<&'static str> {
    if !field.is_primitive() {
        return None;
    }
    let logical = field.get_basic_info().logical_type_ref().cloned();
    Some(match (field.get_physical_type(), logical) {
        (Physical::BOOLEAN, None) => "BOOLEAN",
        (Physical::INT32, Some(LogicalType::Date)) => "DATE",
        (Physical::INT32, None | Some(LogicalType::Integer(_))) => "INTEGER",
        (Physical::INT64, Some(LogicalType::Timestamp(kind))) => {
            if kind.is_adjusted_to_u_t_c {
                "TIMESTAMP"
            } else {
                "DATETIME"
            }
        }
        (Physical::INT64, None | Some(LogicalType::Integer(_))) => "INTEGER",
        (Physical::FLOAT | Physical::DOUBLE, None) => "FLOAT",
        (Physical::BYTE_ARRAY, Some(LogicalType::String)) => "STRING",
        _ => return None,
    })
}

/// Of each row the values of these columns, as one text; a column that is not there is null.
pub(crate) fn keys(
    reader: &SerializedFileReader<Bytes>,
    names: &[&str],
) -> Result<Vec<String>, String> {
    let rows = reader
        .get_row_iter(None)
        .map_err(|error| error.to_string())?;
    let key = |row: parquet::errors::Result<parquet::record::Row>| {
        let row = row.map_err(|error| error.to_string())?;
        let value = |name: &&str| {
            let found = row.get_column_iter().find(|(column, _)| column == name);
            found
                .map(|(_, value)| value.to_string())
                .unwrap_or_default()
        };
        Ok(names.iter().map(value).collect::<Vec<_>>().join("\u{1f}"))
    };
    rows.map(key).collect()
}
