//! Columns of Parquet files and of BigQuery's tables.
//!
//! Promises: a file whose columns a table can't take is refused before anything is written, with
//! the column and both types; columns that are new are added, none is ever taken away. Types by
//! <https://cloud.google.com/bigquery/docs/loading-data-cloud-storage-parquet#parquet_conversions>.
//! Pure.

use std::fmt;

use arrow_schema::{DataType, Schema};
use serde::{Deserialize, Serialize};

/// A column's type, by its name in BigQuery's API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum ColumnType {
    String,
    /// `INTEGER`, 64 bits
    Integer,
    /// `FLOAT`, 64 bits
    Float,
    Boolean,
    Date,
    /// `DATETIME`: no time zone
    DateTime,
    Timestamp,
    /// One that none of our files has.
    Other(String),
}

impl From<String> for ColumnType {
    /// Takes both of BigQuery's names where it has two.
    fn from(name: String) -> Self {
        match name.as_str() {
            "STRING" => Self::String,
            "INTEGER" | "INT64" => Self::Integer,
            "FLOAT" | "FLOAT64" => Self::Float,
            "BOOLEAN" | "BOOL" => Self::Boolean,
            "DATE" => Self::Date,
            "DATETIME" => Self::DateTime,
            "TIMESTAMP" => Self::Timestamp,
            _ => Self::Other(name),
        }
    }
}

impl From<ColumnType> for String {
    fn from(kind: ColumnType) -> Self {
        kind.to_string()
    }
}

impl fmt::Display for ColumnType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::String => "STRING",
            Self::Integer => "INTEGER",
            Self::Float => "FLOAT",
            Self::Boolean => "BOOLEAN",
            Self::Date => "DATE",
            Self::DateTime => "DATETIME",
            Self::Timestamp => "TIMESTAMP",
            Self::Other(name) => name,
        })
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// Its name; BigQuery does not tell upper from lower case.
    pub name: String,
    #[serde(rename = "type")]
    pub kind: ColumnType,
    /// `REQUIRED`, `REPEATED`, or nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
}

impl Column {
    /// A column that may hold nulls: files of other times may lack it.
    pub fn new(name: &str, kind: ColumnType) -> Self {
        Self {
            name: name.to_owned(),
            kind,
            mode: None,
        }
    }

    fn is_named(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }

    fn shown_type(&self) -> String {
        match &self.mode {
            Some(mode) => format!("{mode} {}", self.kind),
            None => self.kind.to_string(),
        }
    }
}

/// Columns that don't go together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    /// A type that no table of ours has.
    #[error(
        "column {column} of {key} has the type {kind}, which is not loaded into BigQuery: report this as a bug"
    )]
    Type {
        /// The object.
        key: String,
        column: String,
        /// Its Arrow type.
        kind: String,
    },
    /// A name that BigQuery refuses.
    #[error(
        "column {column:?} of {key} can't be a column of BigQuery: rename it in PostgreSQL; names are letters, digits and underscores, up to 300, and don't start with a digit or with {reserved}"
    )]
    Name {
        /// The object.
        key: String,
        column: String,
        /// Prefixes that BigQuery keeps for itself.
        reserved: String,
    },
    /// A table or an earlier object has the column with another type.
    #[error(
        "column {column} is {there} in {place} and {wanted} in {key}: change the table's column to {wanted}, or load into another BIGQUERY_DATASET"
    )]
    Conflict {
        column: String,
        /// The table, or the object before.
        place: String,
        /// Its type there.
        there: String,
        /// The object.
        key: String,
        /// Its type in the object.
        wanted: String,
    },
    /// A table wants a value that no object has.
    #[error(
        "column {column} of {place} is {there} and the lake's objects have no such column: make it nullable, or load into another BIGQUERY_DATASET"
    )]
    Required {
        column: String,
        /// The table.
        place: String,
        /// Its mode and type.
        there: String,
    },
}

/// Prefixes that BigQuery keeps for itself.
const RESERVED: [&str; 6] = [
    "_TABLE_",
    "_FILE_",
    "_PARTITION",
    "_ROW_TIMESTAMP",
    "__ROOT__",
    "_COLIDENTIFIER",
];

/// The columns of an object.
pub(crate) fn columns_of(key: &str, schema: &Schema) -> Result<Vec<Column>, SchemaError> {
    let column = |field: &arrow_schema::FieldRef| {
        if !is_name(field.name()) {
            return Err(SchemaError::Name {
                key: key.to_owned(),
                column: field.name().clone(),
                reserved: RESERVED.join(", "),
            });
        }
        let kind = match field.data_type() {
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => ColumnType::String,
            DataType::Int16 | DataType::Int32 | DataType::Int64 => ColumnType::Integer,
            DataType::Float32 | DataType::Float64 => ColumnType::Float,
            DataType::Boolean => ColumnType::Boolean,
            DataType::Date32 => ColumnType::Date,
            DataType::Timestamp(_, Some(_)) => ColumnType::Timestamp,
            DataType::Timestamp(_, None) => ColumnType::DateTime,
            other => {
                return Err(SchemaError::Type {
                    key: key.to_owned(),
                    column: field.name().clone(),
                    kind: other.to_string(),
                });
            }
        };
        Ok(Column::new(field.name(), kind))
    };
    schema.fields().iter().map(column).collect()
}

fn is_name(name: &str) -> bool {
    let upper = name.to_ascii_uppercase();
    (1..=300).contains(&name.len())
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_')
        && !RESERVED.iter().any(|prefix| upper.starts_with(prefix))
}

/// Adds the columns of `key` that `columns`, those of `place`, does not have; whether it did.
pub(crate) fn unite(
    columns: &mut Vec<Column>,
    place: &str,
    more: &[Column],
    key: &str,
) -> Result<bool, SchemaError> {
    let mut added = false;
    for wanted in more {
        match columns.iter().find(|there| there.is_named(&wanted.name)) {
            None => {
                columns.push(wanted.clone());
                added = true;
            }
            Some(there)
                if there.kind == wanted.kind && there.mode.as_deref() != Some("REPEATED") => {}
            Some(there) => {
                return Err(SchemaError::Conflict {
                    column: wanted.name.clone(),
                    place: place.to_owned(),
                    there: there.shown_type(),
                    key: key.to_owned(),
                    wanted: wanted.kind.to_string(),
                });
            }
        }
    }
    Ok(added)
}

/// The columns that `table` has after objects with `wanted` are loaded, and whether any is new.
pub fn fit(
    table: &str,
    there: &[Column],
    wanted: &[Column],
    key: &str,
) -> Result<(Vec<Column>, bool), SchemaError> {
    let lacking = there.iter().find(|column| {
        column.mode.as_deref() == Some("REQUIRED")
            && !wanted.iter().any(|other| other.is_named(&column.name))
    });
    if let Some(column) = lacking {
        return Err(SchemaError::Required {
            column: column.name.clone(),
            place: table.to_owned(),
            there: column.shown_type(),
        });
    }
    let mut columns = there.to_vec();
    let adds = unite(&mut columns, table, wanted, key)?;
    Ok((columns, adds))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use arrow_schema::{Field, TimeUnit};

    use super::*;

    fn columns(list: &[(&str, ColumnType)]) -> Vec<Column> {
        let column = |(name, kind): &(&str, ColumnType)| Column::new(name, kind.clone());
        list.iter().map(column).collect()
    }

    #[test]
    fn each_type_of_the_lake_has_its_type_there() {
        let utc = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        let local = DataType::Timestamp(TimeUnit::Microsecond, None);
        for (arrow, there) in [
            (DataType::Utf8, "STRING"),
            (DataType::Int32, "INTEGER"),
            (DataType::Int64, "INTEGER"),
            (DataType::Float32, "FLOAT"),
            (DataType::Float64, "FLOAT"),
            (DataType::Boolean, "BOOLEAN"),
            (DataType::Date32, "DATE"),
            (utc, "TIMESTAMP"),
            (local, "DATETIME"),
        ] {
            let schema = Schema::new(vec![Field::new("a", arrow, false)]);
            let found = columns_of("k", &schema).unwrap();
            assert_eq!(found[0].kind.to_string(), there);
            assert_eq!(ColumnType::from(there.to_owned()), found[0].kind);
        }
        let odd = Schema::new(vec![Field::new("a", DataType::Binary, false)]);
        let error = columns_of("k", &odd).unwrap_err().to_string();
        assert!(
            error.contains("column a of k") && error.contains("Binary"),
            "{error}"
        );
        for bad in ["1a", "a b", "", "_partitiontime", "ä"] {
            let schema = Schema::new(vec![Field::new(bad, DataType::Utf8, false)]);
            assert!(columns_of("k", &schema).is_err(), "{bad}");
        }
        let ours = Schema::new(vec![Field::new("_kafka_partition", DataType::Int32, false)]);
        assert!(columns_of("k", &ours).is_ok());
    }

    #[test]
    fn new_columns_are_added_and_none_is_taken_away() {
        use ColumnType::*;
        let table = columns(&[("A", String), ("extra", Other("NUMERIC".into()))]);
        let file = columns(&[("a", String), ("b", Integer)]);
        let (after, adds) = fit("t", &table, &file, "k").unwrap();
        assert!(adds);
        assert_eq!(after.len(), 3);
        assert_eq!(after[..2], table[..]);
        assert_eq!(after[2].name, "b");
        assert!(!fit("t", &after, &file, "k").unwrap().1);
    }

    #[test]
    fn another_type_is_named_with_its_column() {
        use ColumnType::*;
        let table = columns(&[("zip", Integer)]);
        let error = fit(
            "p.d.users_changes",
            &table,
            &columns(&[("zip", String)]),
            "k",
        );
        let error = error.unwrap_err().to_string();
        assert!(
            error.starts_with("column zip is INTEGER in p.d.users_changes and STRING in k:"),
            "{error}"
        );
        let mut required = columns(&[("x", String)]);
        required[0].mode = Some("REQUIRED".into());
        let error = fit("t", &required, &table, "k").unwrap_err().to_string();
        assert!(
            error.contains("column x of t is REQUIRED STRING"),
            "{error}"
        );
    }
}
