//! What is expected of a value in a prepared file, by its column's type.

use std::borrow::Cow;

use uuid::Uuid;

/// A column of a prepared file and of its table.
pub(super) struct Column {
    pub(super) name: &'static str,
    pub(super) kind: ColumnType,
}

impl Column {
    pub(super) const fn new(name: &'static str, kind: ColumnType) -> Self {
        Self { name, kind }
    }
}

#[derive(Clone, Copy)]
pub(super) enum ColumnType {
    /// Of any length.
    Text,
    /// One character.
    Char,
    /// 32 bits.
    Int,
    /// Of any precision.
    Decimal,
    /// A day.
    Date,
    /// An id.
    Uuid,
}

impl ColumnType {
    pub(super) fn sql(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Char => "char",
            Self::Int => "integer",
            Self::Decimal => "numeric",
            Self::Date => "date",
            Self::Uuid => "uuid",
        }
    }

    /// The value as it is loaded, or why it can't be: completes "… VALUE".
    pub(super) fn check(self, value: &[u8]) -> Result<Cow<'_, str>, String> {
        let text = std::str::from_utf8(value).map_err(|_not_utf8| "is not UTF-8".to_owned())?;
        if text.contains('\0') {
            return Err("has a NUL character".to_owned());
        }
        let trimmed = text.trim();
        match self {
            Self::Text => Ok(text.into()),
            Self::Char => match text.chars().count() {
                1 => Ok(text.into()),
                _ => Err("is not one character".to_owned()),
            },
            Self::Int => trimmed
                .parse::<i32>()
                .map(|_| trimmed.into())
                .map_err(|_not_an_i32| {
                    "is not a whole number from -2147483648 to 2147483647".to_owned()
                }),
            Self::Decimal => {
                if is_decimal(trimmed) {
                    Ok(trimmed.into())
                } else {
                    Err("is not a number".to_owned())
                }
            }
            Self::Date => {
                if is_date(trimmed) {
                    Ok(trimmed.into())
                } else {
                    Err("is not a date of the form YYYY-MM-DD".to_owned())
                }
            }
            // In its usual form, so that one id in two spellings counts as a duplicate.
            Self::Uuid => Uuid::try_parse(trimmed)
                .map(|id| id.hyphenated().to_string().into())
                .map_err(|_not_a_uuid| "is not a UUID".to_owned()),
        }
    }
}

/// Sign, digits, fraction, exponent of at most three digits.
fn is_decimal(text: &str) -> bool {
    const LONGEST: usize = 100;
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (number, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((number, exponent)) => (number, Some(exponent)),
        None => (unsigned, None),
    };
    let (whole, fraction) = match number.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (number, None),
    };
    let exponent = exponent.map(|text| text.strip_prefix(['-', '+']).unwrap_or(text));
    text.len() <= LONGEST
        && digits(whole)
        && fraction.is_none_or(digits)
        && exponent.is_none_or(|text| digits(text) && text.len() <= 3)
}

fn is_date(text: &str) -> bool {
    // chrono takes `2019-1-1`, too,
    // and a year 0, which the server does not have.
    text.len() == 10
        && !text.starts_with("0000")
        && chrono::NaiveDate::parse_from_str(text, "%Y-%m-%d").is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn takes(kind: ColumnType, value: &str) -> bool {
        kind.check(value.as_bytes()).is_ok()
    }

    #[test]
    fn each_type_takes_what_the_server_takes_and_no_more() {
        for (kind, good, bad) in [
            (
                ColumnType::Int,
                &["0", "-5", "99999", " 7 "][..],
                &["", "1.0", "x", "2147483648"][..],
            ),
            (
                ColumnType::Decimal,
                &["0", "-1.5", "1e5", "33.9659"][..],
                &["", ".", "1.", "NaN", "1,5", "1e", "0x1", "1e99999"][..],
            ),
            (
                ColumnType::Date,
                &["1988-03-09", "2000-02-29"][..],
                &[
                    "",
                    "1988-3-9",
                    "09.03.1988",
                    "1999-02-29",
                    "0000-01-01",
                    "today",
                ][..],
            ),
            (
                ColumnType::Uuid,
                &["0188ec6e-d2a0-55d5-8a9f-e1cf4f4a6a20"][..],
                &["", "0188ec6e", "not-a-uuid"][..],
            ),
            (ColumnType::Char, &["F", "ß"][..], &["", "FM"][..]),
            (
                ColumnType::Text,
                &["", "a;b", "tab\there"][..],
                &["nul\0"][..],
            ),
        ] {
            for value in good {
                assert!(takes(kind, value), "{} {value:?}", kind.sql());
            }
            for value in bad {
                assert!(!takes(kind, value), "{} {value:?}", kind.sql());
            }
        }
    }

    #[test]
    fn one_id_has_one_spelling() {
        let upper = ColumnType::Uuid.check(b"0188EC6E-D2A0-55D5-8A9F-E1CF4F4A6A20");
        assert_eq!(
            upper.ok().as_deref(),
            Some("0188ec6e-d2a0-55d5-8a9f-e1cf4f4a6a20")
        );
    }
}
