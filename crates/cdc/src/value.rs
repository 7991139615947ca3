//! Values, from PostgreSQL's text form into typed columns.
//!
//! Promises: a typed value gives back the text it was made from, digit by digit; a text
//! that no typed value gives back (`infinity` as a date, trailing zeros or more digits of
//! a `numeric` than a double has) is reported, so that it can be kept as text. Relies on
//! the session settings of [`SESSION`](super::source::SESSION).

use std::sync::Arc;

use arrow_array::ArrayRef;
use arrow_array::builder::{
    BooleanBuilder, Date32Builder, Float32Builder, Float64Builder, Int32Builder, Int64Builder,
    StringBuilder, TimestampMicrosecondBuilder,
};
use chrono::{NaiveDate, NaiveDateTime};

use super::schema::Kind;

/// Whether a column holds a value exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fit {
    /// The column holds it.
    Exact,
    /// The column holds the nearest value, or NULL where there is none: keep the text.
    Inexact,
}

pub(crate) enum ColumnBuilder {
    /// See [`Kind::Boolean`].
    Boolean(BooleanBuilder),
    /// See [`Kind::Int32`].
    Int32(Int32Builder),
    /// See [`Kind::Int64`].
    Int64(Int64Builder),
    /// See [`Kind::Float32`].
    Float32(Float32Builder),
    /// See [`Kind::Float64`].
    Float64(Float64Builder),
    /// See [`Kind::Numeric`].
    Numeric(Float64Builder),
    /// See [`Kind::Date`].
    Date(Date32Builder),
    /// See [`Kind::Timestamp`].
    Timestamp(TimestampMicrosecondBuilder),
    /// See [`Kind::TimestampTz`].
    TimestampTz(TimestampMicrosecondBuilder),
    /// See [`Kind::Text`].
    Text(StringBuilder),
}

impl ColumnBuilder {
    /// An empty column.
    pub(crate) fn new(kind: Kind) -> Self {
        match kind {
            Kind::Boolean => Self::Boolean(BooleanBuilder::new()),
            Kind::Int32 => Self::Int32(Int32Builder::new()),
            Kind::Int64 => Self::Int64(Int64Builder::new()),
            Kind::Float32 => Self::Float32(Float32Builder::new()),
            Kind::Float64 => Self::Float64(Float64Builder::new()),
            Kind::Numeric => Self::Numeric(Float64Builder::new()),
            Kind::Date => Self::Date(Date32Builder::new()),
            Kind::Timestamp => Self::Timestamp(TimestampMicrosecondBuilder::new()),
            Kind::TimestampTz => Self::TimestampTz(
                TimestampMicrosecondBuilder::new().with_data_type(kind.data_type()),
            ),
            Kind::Text => Self::Text(StringBuilder::new()),
        }
    }

    /// Adds a value in PostgreSQL's text form.
    pub(crate) fn append(&mut self, text: &str) -> Fit {
        fn typed<T>(value: Option<T>, append: impl FnOnce(Option<T>)) -> Fit {
            let fit = match value {
                Some(_) => Fit::Exact,
                None => Fit::Inexact,
            };
            append(value);
            fit
        }
        match self {
            Self::Boolean(column) => {
                let value = match text {
                    "t" => Some(true),
                    "f" => Some(false),
                    _ => None,
                };
                typed(value, |value| column.append_option(value))
            }
            Self::Int32(column) => typed(text.parse().ok(), |value| column.append_option(value)),
            Self::Int64(column) => typed(text.parse().ok(), |value| column.append_option(value)),
            // PostgreSQL writes as many digits as tell a float from its neighbours.
            Self::Float32(column) => typed(text.parse().ok(), |value| column.append_option(value)),
            Self::Float64(column) => typed(text.parse().ok(), |value| column.append_option(value)),
            Self::Numeric(column) => {
                let value: Option<f64> = text.parse().ok();
                column.append_option(value);
                match value {
                    Some(value) if value.to_string() == text => Fit::Exact,
                    _ => Fit::Inexact,
                }
            }
            Self::Date(column) => typed(date(text), |value| column.append_option(value)),
            Self::Timestamp(column) => typed(timestamp(text), |value| column.append_option(value)),
            Self::TimestampTz(column) => {
                let value = text.strip_suffix("+00").and_then(timestamp);
                typed(value, |value| column.append_option(value))
            }
            Self::Text(column) => {
                column.append_value(text);
                Fit::Exact
            }
        }
    }

    /// Adds a NULL.
    pub(crate) fn append_null(&mut self) {
        match self {
            Self::Boolean(column) => column.append_null(),
            Self::Int32(column) => column.append_null(),
            Self::Int64(column) => column.append_null(),
            Self::Float32(column) => column.append_null(),
            Self::Float64(column) | Self::Numeric(column) => column.append_null(),
            Self::Date(column) => column.append_null(),
            Self::Timestamp(column) | Self::TimestampTz(column) => column.append_null(),
            Self::Text(column) => column.append_null(),
        }
    }

    /// The column, and an empty one in its place.
    pub(crate) fn finish(&mut self) -> ArrayRef {
        match self {
            Self::Boolean(column) => Arc::new(column.finish()),
            Self::Int32(column) => Arc::new(column.finish()),
            Self::Int64(column) => Arc::new(column.finish()),
            Self::Float32(column) => Arc::new(column.finish()),
            Self::Float64(column) | Self::Numeric(column) => Arc::new(column.finish()),
            Self::Date(column) => Arc::new(column.finish()),
            Self::Timestamp(column) | Self::TimestampTz(column) => Arc::new(column.finish()),
            Self::Text(column) => Arc::new(column.finish()),
        }
    }
}

/// Days since 1970 of `YYYY-MM-DD`; years of four digits, as others are written unlike.
fn date(text: &str) -> Option<i32> {
    let date = NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?;
    let epoch = NaiveDate::from_ymd_opt(1970, 1, 1)?;
    (date.to_string() == text)
        .then(|| date.signed_duration_since(epoch).num_days())
        .and_then(|days| i32::try_from(days).ok())
}

/// Microseconds since 1970 of `YYYY-MM-DD HH:MM:SS[.ffffff]`.
fn timestamp(text: &str) -> Option<i64> {
    let time = NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f").ok()?;
    let seconds = time.format("%Y-%m-%d %H:%M:%S").to_string();
    let micros = time.and_utc().timestamp_micros();
    let written = match micros.rem_euclid(1_000_000) {
        0 => seconds,
        fraction => format!(
            "{seconds}.{}",
            format!("{fraction:06}").trim_end_matches('0')
        ),
    };
    (written == text).then_some(micros)
}
