//! Names of the lake's objects.
//!
//! Promises: an object's key depends only on what never changes about its first record, so two
//! writers of one run meet at one key; each `parse` accepts exactly what its `key` writes. Pure.

mod changes;
mod dead_letters;
mod fx_rates;
mod scores;
mod transactions;

use chrono::{DateTime, NaiveDate};

pub use changes::{ChangeObjectName, ChangePart};
pub use dead_letters::DeadLetterName;
pub use fx_rates::FxObjectName;
pub use scores::ScoresObjectName;
pub use transactions::{NameError, ObjectName, unfit_topic};

const SUFFIX: &str = ".parquet";

/// UTC date of a Kafka timestamp, in milliseconds since 1970. Kafka's "no timestamp" (-1)
/// is 1969-12-31. Dates before year 1 or after 9999 become 0001-01-01 and 9999-12-31, so
/// that folder names have four digits of year and sort by time.
pub fn date_of_millis(timestamp_ms: i64) -> NaiveDate {
    let first = NaiveDate::from_ymd_opt(1, 1, 1).unwrap_or(NaiveDate::MIN);
    let last = NaiveDate::from_ymd_opt(9999, 12, 31).unwrap_or(NaiveDate::MAX);
    match DateTime::from_timestamp_millis(timestamp_ms) {
        Some(time) => time.date_naive().clamp(first, last),
        None if timestamp_ms < 0 => first,
        None => last,
    }
}

/// UTC date of a time in microseconds since 1970, within the bounds of [`date_of_millis`].
pub fn date_of_micros(micros: i64) -> NaiveDate {
    match DateTime::from_timestamp_micros(micros) {
        Some(time) => date_of_millis(time.timestamp_millis()),
        None => date_of_millis(micros.signum().saturating_mul(i64::MAX)),
    }
}

/// The date of a folder's name, `YYYY-MM-DD`; `None` for any other name.
pub fn parse_date(folder: &str) -> Option<NaiveDate> {
    let bytes = folder.as_bytes();
    if bytes.len() != 10 || bytes[4] != b'-' || bytes[7] != b'-' {
        return None;
    }
    // The lengths make year, month and day canonical; chrono alone would take "+1-1-1".
    let number = |from: usize, to: usize| {
        let digits = folder.get(from..to)?;
        is_digits(digits).then(|| digits.parse::<u32>().ok())?
    };
    let year = number(0, 4)?;
    // Folder dates start in year 1, see `date_of_millis`.
    if year == 0 {
        return None;
    }
    NaiveDate::from_ymd_opt(year as i32, number(5, 7)?, number(8, 10)?)
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}
