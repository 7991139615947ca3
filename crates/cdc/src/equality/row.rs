//! Rows of the lake and of the server in one form that can be compared: per row its key and a hash of
//! each value's text.
//!
//! Promises: equal values have equal hashes, whatever type the lake keeps them in. Written from
//! docs/DATA.md, without the code that writes the lake. Pure.

use std::collections::HashMap;
use std::fmt::Write as _;

use arrow_array::Array;
use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Float32Type, Float64Type, Int32Type, Int64Type, TimestampMicrosecondType,
};
use arrow_schema::{DataType, TimeUnit};
use chrono::{DateTime, NaiveDate};
use xxhash_rust::xxh3::xxh3_64;

use crate::schema::{Column, Kind, Table};

/// A table's rows by key. A key of several columns is written as a JSON array of them.
pub(super) type Rows = HashMap<Box<str>, Box<[Value]>>;

/// A value: NULL, or the hash of its text in PostgreSQL's form. A mark says that the row has it in
/// an earlier form of the column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Value(u64);

impl Value {
    const EARLIER_FORM: u64 = 1;
    pub(super) const NULL: Self = Self(0);
    /// A value that no row before holds.
    pub(super) const UNKNOWN: Self = Self(2);
    /// The row was written when the column was not there.
    pub(super) const ABSENT: Self = Self(Self::EARLIER_FORM);

    pub(super) fn of(text: &str) -> Self {
        // Apart from the values above.
        Self((xxh3_64(text.as_bytes()) & !0b11) | 0b100)
    }

    fn in_earlier_form(self) -> Self {
        Self(self.0 | Self::EARLIER_FORM)
    }

    pub(super) fn is_in_earlier_form(self) -> bool {
        self.0 & Self::EARLIER_FORM != 0
    }

    pub(super) fn is_null(self) -> bool {
        self.is_equal(Self::NULL)
    }

    pub(super) fn is_equal(self, other: Self) -> bool {
        self.0 | Self::EARLIER_FORM == other.0 | Self::EARLIER_FORM
    }
}

/// A captured column as the server has it now.
#[derive(Clone, Debug)]
pub(super) struct ColumnNow {
    pub(super) name: String,
    kind: Kind,
    /// Its name in the lake.
    lake_name: String,
}

/// The columns that are compared.
#[derive(Clone, Debug)]
pub(super) struct Shape {
    pub(super) columns: Vec<ColumnNow>,
    /// Those by which changes name a row.
    key: Vec<usize>,
}

/// A row without a part of its key.
#[derive(Debug)]
pub(super) struct NoKey {
    /// The column that is missing.
    pub(super) column: String,
}

impl Shape {
    pub(super) fn new(columns: Vec<Column>) -> Self {
        let key = (0..columns.len()).filter(|index| columns[*index].is_key);
        let key = key.collect();
        let table = Table {
            oid: 0,
            schema: String::new(),
            name: String::new(),
            columns,
        };
        let lake = table.columns_in_lake();
        let columns = table.columns.iter().zip(lake.fields());
        let columns = columns.map(|(column, field)| ColumnNow {
            name: column.name.clone(),
            kind: Kind::of(column.type_oid),
            lake_name: field.name().clone(),
        });
        Self {
            columns: columns.collect(),
            key,
        }
    }

    pub(super) fn is_key(&self, column: usize) -> bool {
        self.key.contains(&column)
    }

    pub(super) fn has_key(&self) -> bool {
        !self.key.is_empty()
    }

    /// The key of a row of which `text` gives the texts of columns, by number.
    pub(super) fn key<'t>(
        &self,
        text: impl Fn(usize) -> Option<&'t str>,
    ) -> Result<Box<str>, NoKey> {
        let part = |index: &usize| {
            let column = &self.columns[*index];
            let text = text(*index).ok_or_else(|| NoKey {
                column: column.name.clone(),
            })?;
            Ok(column.normal(text))
        };
        let mut parts = self.key.iter().map(part).collect::<Result<Vec<_>, _>>()?;
        Ok(match parts.len() {
            1 => parts.swap_remove(0).into(),
            _ => serde_json::Value::from(parts).to_string().into(),
        })
    }
}

impl ColumnNow {
    /// The server's text in the form that is hashed: a float has several texts.
    fn normal(&self, text: &str) -> String {
        let normal = match self.kind {
            Kind::Float32 => text.parse().ok().map(|value: f32| value.to_string()),
            Kind::Float64 => text.parse().ok().map(|value: f64| value.to_string()),
            _ => None,
        };
        normal.unwrap_or_else(|| text.to_owned())
    }

    /// A value as the server writes it.
    pub(super) fn of_server(&self, text: Option<&str>) -> Value {
        text.map_or(Value::NULL, |text| match self.kind {
            Kind::Float32 | Kind::Float64 => Value::of(&self.normal(text)),
            _ => Value::of(text),
        })
    }

    /// The column of one of the lake's files.
    pub(super) fn in_file<'a>(
        &self,
        column: impl Fn(&str) -> Option<&'a dyn Array>,
    ) -> ColumnInFile<'a> {
        let array = column(&self.lake_name);
        ColumnInFile {
            is_earlier_form: array.is_some_and(|array| *array.data_type() != self.kind.data_type()),
            array,
        }
    }

    /// Of a text that the lake keeps because no typed value holds it.
    pub(super) fn of_exact(&self, text: &str, column: &ColumnInFile<'_>) -> Value {
        column.marked(self.of_server(Some(text)))
    }
}

/// A column of a file, in the type that the file has it in.
pub(super) struct ColumnInFile<'a> {
    array: Option<&'a dyn Array>,
    is_earlier_form: bool,
}

/// A column of a type that the lake does not have.
#[derive(Debug, thiserror::Error)]
#[error("a column is of type {0}, which ftap does not write")]
pub(super) struct UnknownType(DataType);

impl ColumnInFile<'_> {
    fn marked(&self, value: Value) -> Value {
        if self.is_earlier_form {
            value.in_earlier_form()
        } else {
            value
        }
    }

    /// A row's value; `text` gets its text.
    pub(super) fn value(&self, row: usize, text: &mut String) -> Result<Value, UnknownType> {
        let Some(array) = self.array else {
            return Ok(Value::ABSENT);
        };
        Ok(self.marked(match write_text(array, row, text)? {
            Some(()) => Value::of(text),
            None => Value::NULL,
        }))
    }
}

/// Writes a value as PostgreSQL does; `None` for NULL.
fn write_text(array: &dyn Array, row: usize, text: &mut String) -> Result<Option<()>, UnknownType> {
    text.clear();
    if array.is_null(row) {
        return Ok(None);
    }
    // Writing to a string can't fail; a value outside the calendar has no text.
    let written = match array.data_type() {
        DataType::Utf8 => write!(text, "{}", array.as_string::<i32>().value(row)),
        DataType::Boolean => {
            let is_true = array.as_boolean().value(row);
            write!(text, "{}", if is_true { 't' } else { 'f' })
        }
        DataType::Int32 => write!(text, "{}", array.as_primitive::<Int32Type>().value(row)),
        DataType::Int64 => write!(text, "{}", array.as_primitive::<Int64Type>().value(row)),
        DataType::Float32 => write!(text, "{}", array.as_primitive::<Float32Type>().value(row)),
        DataType::Float64 => write!(text, "{}", array.as_primitive::<Float64Type>().value(row)),
        DataType::Date32 => {
            let days = array.as_primitive::<Date32Type>().value(row);
            match NaiveDate::from_epoch_days(days) {
                Some(date) => write!(text, "{date}"),
                None => write!(text, "day {days}"),
            }
        }
        DataType::Timestamp(TimeUnit::Microsecond, zone) => {
            let micros = array.as_primitive::<TimestampMicrosecondType>().value(row);
            match DateTime::from_timestamp_micros(micros) {
                Some(time) => {
                    let written = write!(text, "{}", time.format("%Y-%m-%d %H:%M:%S%.6f"));
                    let digits = text.trim_end_matches('0').trim_end_matches('.').len();
                    text.truncate(digits);
                    written.and_then(|()| match zone {
                        Some(_) => write!(text, "+00"),
                        None => Ok(()),
                    })
                }
                None => write!(text, "microsecond {micros}"),
            }
        }
        other => return Err(UnknownType(other.clone())),
    };
    Ok(written.ok())
}
