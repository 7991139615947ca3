//! What makes a row usable, field by field, and the reasons given for one that is not. Values are
//! only looked at, never rewritten: a number that is valid is passed on as its source text, of an
//! integer without the `.0` that it may have. What messages are checked for as well is in
//! `ftap_transaction`.

use std::fmt;

use ftap_transaction::is_blank;

use super::reader::{MAX_ROW_BYTES, Malformed};

/// Why a row was rejected; its text is the `reason` column of `rejected.csv`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum RejectReason {
    /// A quoted field does not end.
    UnclosedQuote,
    /// A quote inside a field that is not quoted, or text behind a closing quote: also what an open
    /// quote looks like when another quote follows on its line.
    StrayQuote,
    /// Longer than 64 KiB.
    TooLong,
    /// More or fewer fields than the header.
    FieldCount {
        /// Fields of the row.
        found: usize,
        /// Fields of the header.
        expected: usize,
    },
    /// Not UTF-8.
    NotUtf8,
    /// A zero byte, which no database takes as text.
    ZeroByte,
    /// A needed field is empty.
    Empty { column: &'static str },
    /// A field is not what its column needs.
    Invalid {
        column: &'static str,
        expected: &'static str,
        /// The beginning of the value.
        value: String,
    },
}

impl fmt::Display for RejectReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnclosedQuote => f.write_str("a quoted field is not closed"),
            Self::StrayQuote => f.write_str("a stray or unclosed quote"),
            Self::TooLong => write!(f, "the row is longer than {MAX_ROW_BYTES} bytes"),
            Self::FieldCount { found, expected } => {
                write!(f, "{found} fields where the header has {expected}")
            }
            Self::NotUtf8 => f.write_str("not valid UTF-8"),
            Self::ZeroByte => f.write_str("contains a zero byte"),
            Self::Empty { column } => write!(f, "{column} is empty"),
            Self::Invalid {
                column,
                expected,
                value,
            } => write!(f, "{column} is not {expected}: {value:?}"),
        }
    }
}

impl From<Malformed> for RejectReason {
    fn from(malformed: Malformed) -> Self {
        match malformed {
            Malformed::UnclosedQuote => Self::UnclosedQuote,
            Malformed::StrayQuote => Self::StrayQuote,
            Malformed::TooLong => Self::TooLong,
        }
    }
}

/// The value of a column that may not be blank.
pub(super) fn present(column: &'static str, value: &str) -> Result<(), RejectReason> {
    if is_blank(value) {
        return Err(RejectReason::Empty { column });
    }
    Ok(())
}

/// Turns a check's verdict into the reason.
pub(super) fn require(
    is_valid: bool,
    column: &'static str,
    expected: &'static str,
    value: &str,
) -> Result<(), RejectReason> {
    if is_valid {
        return Ok(());
    }
    if value.is_empty() {
        return Err(RejectReason::Empty { column });
    }
    Err(RejectReason::Invalid {
        column,
        expected,
        value: value.chars().take(40).collect(),
    })
}

/// The digits of a 64-bit integer, without a `.0` behind them.
pub(super) fn integer_text(text: &str) -> Option<&str> {
    let digits = without_zero_fraction(text)?;
    (!digits.starts_with('+') && digits.parse::<i64>().is_ok()).then_some(digits)
}

/// What programs write for a value that is not known.
pub(super) fn is_unknown(text: &str) -> bool {
    const TOKENS: [&str; 7] = ["nan", "null", "none", "na", "n/a", "<na>", "\\n"];
    let text = text.trim();
    text.is_empty() || TOKENS.iter().any(|token| text.eq_ignore_ascii_case(token))
}

/// A finite decimal number within `limit` of zero.
pub(super) fn is_degrees(text: &str, limit: f64) -> bool {
    // The number parser takes "inf" and "nan" as well, which have no digit at either end.
    text.as_bytes().last().is_some_and(u8::is_ascii_digit)
        && text.parse::<f64>().is_ok_and(|value| value.abs() <= limit)
}

/// The text before a fraction of zeros, or the text if it has no fraction.
fn without_zero_fraction(text: &str) -> Option<&str> {
    match text.split_once('.') {
        Some((digits, zeros)) if !zeros.is_empty() && zeros.bytes().all(|b| b == b'0') => {
            Some(digits)
        }
        Some(_) => None,
        None => Some(text),
    }
}

/// A zip as PostgreSQL's INT takes it. The original's merchant zips are floats: `28705.0`.
pub(super) fn zip_text(text: &str) -> Option<&str> {
    let digits = without_zero_fraction(text)?;
    let is_zip = digits.bytes().all(|byte| byte.is_ascii_digit()) && digits.parse::<i32>().is_ok();
    is_zip.then_some(digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zips_lose_their_float_ending() {
        assert_eq!(zip_text("28705.0"), Some("28705"));
        assert_eq!(zip_text("1843"), Some("1843"));
        for bad in ["", "28705.5", "28705.", "-1", "99999999999", "1e4", "x"] {
            assert_eq!(zip_text(bad), None, "{bad}");
        }
    }

    #[test]
    fn degrees_stay_on_the_globe() {
        assert!(is_degrees("-81.1781", 180.0));
        assert!(is_degrees("90", 90.0));
        for bad in ["", "90.1", "nan", "inf", "x", "1 "] {
            assert!(!is_degrees(bad, 90.0), "{bad}");
        }
    }
}
