//! A table's columns, and the columns of its objects.
//!
//! Promises: the columns of an object follow from the table's columns alone. Pure.

use std::sync::Arc;

use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use ftap_lake::change;

use super::{SCHEMA, TABLES};

/// How a column's values are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    Boolean,
    /// `smallint` and `integer`.
    Int32,
    /// `bigint` and `oid`.
    Int64,
    /// `real`.
    Float32,
    /// `double precision`.
    Float64,
    /// `numeric`: the nearest double, the digits in `_exact` where it does not give them back.
    Numeric,
    Date,
    Timestamp,
    /// `timestamp with time zone`, in UTC.
    TimestampTz,
    /// Everything else, as PostgreSQL writes it.
    Text,
}

impl Kind {
    /// By the type's object identifier, which is fixed for built-in types (`pg_type.dat`).
    pub fn of(type_oid: u32) -> Self {
        match type_oid {
            16 => Self::Boolean,
            20 | 26 => Self::Int64,
            21 | 23 => Self::Int32,
            700 => Self::Float32,
            701 => Self::Float64,
            1082 => Self::Date,
            1114 => Self::Timestamp,
            1184 => Self::TimestampTz,
            1700 => Self::Numeric,
            _ => Self::Text,
        }
    }

    /// The Arrow type.
    pub fn data_type(self) -> DataType {
        match self {
            Self::Boolean => DataType::Boolean,
            Self::Int32 => DataType::Int32,
            Self::Int64 => DataType::Int64,
            Self::Float32 => DataType::Float32,
            Self::Float64 | Self::Numeric => DataType::Float64,
            Self::Date => DataType::Date32,
            Self::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, None),
            Self::TimestampTz => utc_micros(),
            Self::Text => DataType::Utf8,
        }
    }
}

/// A column of a table.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Column {
    pub name: String,
    /// Object identifier of its type.
    pub type_oid: u32,
    /// Length or precision, as PostgreSQL packs it; -1 for none.
    pub type_modifier: i32,
    /// Whether it belongs to the replica identity: the primary key, unless the user chose
    /// another one.
    pub is_key: bool,
}

/// A captured table as it is at some position.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Table {
    /// Its object identifier on the server: another one of the same name is another table.
    pub oid: u32,
    pub schema: String,
    pub name: String,
    /// Its columns in order.
    pub columns: Vec<Column>,
}

impl Table {
    pub fn is_captured(&self) -> bool {
        self.schema == SCHEMA && TABLES.contains(&self.name.as_str())
    }

    /// The columns of its objects. A column whose name is taken gets underscores added.
    pub(crate) fn columns_in_lake(&self) -> SchemaRef {
        let own = own_fields();
        let mut fields: Vec<Field> = Vec::with_capacity(self.columns.len() + own.len());
        for column in &self.columns {
            let mut name = column.name.clone();
            // Also names that differ in case alone: BigQuery takes those for one.
            let taken = |name: &str| {
                let mut names = own.iter().chain(&fields).map(Field::name);
                names.any(|other| other.eq_ignore_ascii_case(name))
            };
            while taken(&name) {
                name.push('_');
            }
            fields.push(Field::new(
                name,
                Kind::of(column.type_oid).data_type(),
                true,
            ));
        }
        fields.extend(own);
        Arc::new(Schema::new(fields))
    }

    /// Whether rows of both fit into one object.
    pub(crate) fn same_shape(&self, other: &Self) -> bool {
        self.columns.len() == other.columns.len()
            && self
                .columns
                .iter()
                .zip(&other.columns)
                .all(|(a, b)| a.name == b.name && Kind::of(a.type_oid) == Kind::of(b.type_oid))
    }
}

fn own_fields() -> Vec<Field> {
    vec![
        Field::new(change::OP, DataType::Utf8, false),
        Field::new(change::COMMIT_LSN, DataType::Int64, false),
        Field::new(change::COMMIT_TIME, utc_micros(), false),
        Field::new(change::XID, DataType::Int64, true),
        Field::new(change::SEQ, DataType::Int64, false),
        Field::new(change::EPOCH, DataType::Int64, false),
        Field::new(change::BEFORE, DataType::Utf8, true),
        Field::new(change::UNCHANGED, DataType::Utf8, true),
        Field::new(change::EXACT, DataType::Utf8, true),
    ]
}

fn utc_micros() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}
