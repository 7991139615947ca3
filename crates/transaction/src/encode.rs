//! A row of the prepared events file into the Kafka message.

use std::str;

use super::values::is_text;
use super::{Currency, EVENT_TIME_FORM, currency_of, event_time};

/// The columns of the prepared events file, in its order.
pub const EVENT_COLUMNS: [&str; 8] = [
    "trans_date_trans_time",
    "user_id",
    "merchant",
    "category",
    "amt",
    "trans_num",
    "unix_time",
    "is_fraud",
];

/// One row of the prepared events file (docs/DATA.md, section 2): the bytes of its
/// columns, unescaped.
#[derive(Clone, Copy, Debug)]
pub struct SourceRow<'a> {
    /// `YYYY-MM-DD HH:MM:SS`.
    pub trans_date_trans_time: &'a [u8],
    /// UUID of the card holder.
    pub user_id: &'a [u8],
    pub merchant: &'a [u8],
    /// Merchant's category.
    pub category: &'a [u8],
    /// Amount in US dollars.
    pub amt: &'a [u8],
    /// Number of the transaction.
    pub trans_num: &'a [u8],
    /// Seconds since 1970.
    pub unix_time: &'a [u8],
    /// 0 or 1.
    pub is_fraud: &'a [u8],
}

/// A column of a source row that no message can be made of.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "column {column} is {value:?}, wanted {wanted}; run `ftap prepare` on the source file again"
)]
pub struct RowError {
    pub column: &'static str,
    /// Its value, cut after 64 bytes, with what is not UTF-8 replaced.
    pub value: String,
    /// What is expected.
    pub wanted: &'static str,
}

/// What [`original_amount`] takes, for errors.
pub const AMOUNT_FORM: &str = "a decimal number of US dollars";

/// Longest part of a bad value that an error repeats.
const SHOWN_BYTES: usize = 64;

/// Why a value is refused: what was wanted instead.
type Wanted = &'static str;

/// Appends the message of `row` to `out`: the nine fields of docs/DATA.md, section 3,
/// in order, without blanks. `original_amt` is the amount over the currency's rate, in the
/// fewest digits that read back as the same double. On `Err` nothing is left in `out`.
pub fn encode_json(row: &SourceRow<'_>, out: &mut Vec<u8>) -> Result<(), RowError> {
    let start = out.len();
    encode(row, out).inspect_err(|_| out.truncate(start))
}

fn encode(row: &SourceRow<'_>, out: &mut Vec<u8>) -> Result<(), RowError> {
    out.reserve(384);
    let date_time = row.trans_date_trans_time;
    event_time(date_time)
        .ok_or_else(|| refuse("trans_date_trans_time", date_time, EVENT_TIME_FORM))?;
    out.extend_from_slice(b"{\"trans_date_trans_time\":\"");
    out.extend_from_slice(date_time);
    out.extend_from_slice(b"\",\"user_id\":\"");
    text("user_id", row.user_id, out)?;
    out.extend_from_slice(b"\",\"merchant\":\"");
    text("merchant", row.merchant, out)?;
    out.extend_from_slice(b"\",\"category\":\"");
    text("category", row.category, out)?;
    out.extend_from_slice(b"\",\"trans_num\":\"");
    text("trans_num", row.trans_num, out)?;
    out.extend_from_slice(b"\",\"unix_time\":");
    let unix_time = integer(row.unix_time)
        .ok_or_else(|| refuse("unix_time", row.unix_time, "a whole number of seconds"))?;
    out.extend_from_slice(itoa::Buffer::new().format(unix_time).as_bytes());
    out.extend_from_slice(match row.is_fraud {
        b"0" => b",\"is_fraud\":0,\"original_amt\":",
        b"1" => b",\"is_fraud\":1,\"original_amt\":",
        other => return Err(refuse("is_fraud", other, "0 or 1")),
    });
    let currency = currency_of(row.trans_num);
    let amount =
        original_amount(row.amt, currency).ok_or_else(|| refuse("amt", row.amt, AMOUNT_FORM))?;
    out.extend_from_slice(zmij::Buffer::new().format_finite(amount).as_bytes());
    out.extend_from_slice(b",\"currency\":\"");
    out.extend_from_slice(currency.code().as_bytes());
    out.extend_from_slice(b"\"}");
    Ok(())
}

#[cold]
fn refuse(column: &'static str, value: &[u8], wanted: Wanted) -> RowError {
    let shown = &value[..value.len().min(SHOWN_BYTES)];
    RowError {
        column,
        value: String::from_utf8_lossy(shown).into_owned(),
        wanted,
    }
}

/// Appends the inside of a JSON string.
fn text(column: &'static str, value: &[u8], out: &mut Vec<u8>) -> Result<(), RowError> {
    let begins_plainly = value.first().is_some_and(|byte| *byte > b' ');
    if begins_plainly && is_plain(value) {
        out.extend_from_slice(value);
        return Ok(());
    }
    let Ok(valid) = str::from_utf8(value) else {
        return Err(refuse(column, value, "UTF-8 text"));
    };
    if !is_text(valid) {
        return Err(refuse(column, value, "text without zero bytes"));
    }
    escape(valid, out);
    Ok(())
}

/// Whether `value` is ASCII that stands in a JSON string as it is.
fn is_plain(value: &[u8]) -> bool {
    value
        .iter()
        .fold(true, |plain, byte| plain & PLAIN[*byte as usize])
}

/// Bytes that a JSON string holds unescaped and that are whole characters.
static PLAIN: [bool; 256] = {
    let mut plain = [false; 256];
    let mut byte = 0x20;
    while byte < 0x80 {
        plain[byte] = byte != b'"' as usize && byte != b'\\' as usize;
        byte += 1;
    }
    plain
};

#[cold]
fn escape(value: &str, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    for byte in value.bytes() {
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0..0x20 => {
                let digits = [HEX[(byte >> 4) as usize], HEX[(byte & 15) as usize]];
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(&digits);
            }
            _ => out.push(byte),
        }
    }
}

/// A decimal integer in the range of `i64`, without a plus sign or blanks.
fn integer(value: &[u8]) -> Option<i64> {
    let (negative, digits) = match value {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    if digits.is_empty() || digits.len() > 19 {
        return None;
    }
    let mut number: i64 = 0;
    for byte in digits {
        let digit = i64::from(byte.wrapping_sub(b'0'));
        if digit > 9 {
            return None;
        }
        // Negative numbers reach one further than positive ones.
        number = number.checked_mul(10)?.checked_sub(digit)?;
    }
    if negative {
        Some(number)
    } else {
        number.checked_neg()
    }
}

/// The amount in `currency` of so many US dollars, `None` if either is not a finite number. Below 0 are refunds.
pub fn original_amount(usd: &[u8], currency: Currency) -> Option<f64> {
    let usd = dollars(usd)?;
    let amount = usd / currency.usd_per_unit();
    amount.is_finite().then_some(amount)
}

/// Reads a decimal number. Up to 15 digits are exact in a double, as are small powers of
/// ten, so one division gives the correctly rounded result (Clinger 1990); longer or
/// unusual ones go to the standard library.
fn dollars(value: &[u8]) -> Option<f64> {
    const POWERS: [f64; 16] = [
        1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
    ];
    if !value.is_empty() && value.len() <= 16 && value[0].is_ascii_digit() {
        let mut mantissa: u64 = 0;
        let mut fraction_digits = 0;
        let mut in_fraction = false;
        let mut plain = value.len() < 16;
        for byte in value {
            let digit = byte.wrapping_sub(b'0');
            if digit < 10 {
                mantissa = mantissa * 10 + u64::from(digit);
                fraction_digits += usize::from(in_fraction);
            } else if *byte == b'.' && !in_fraction {
                in_fraction = true;
            } else {
                plain = false;
                break;
            }
        }
        if plain {
            return Some(mantissa as f64 / POWERS[fraction_digits]);
        }
    }
    let parsed: f64 = str::from_utf8(value).ok()?.parse().ok()?;
    parsed.is_finite().then_some(parsed)
}
