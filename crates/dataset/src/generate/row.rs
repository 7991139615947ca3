//! Writes one row of the source file. Everything that belongs to a card or a merchant was formatted
//! once; a row costs copies and a few integers.

use super::calendar::Day;
use super::people::{Card, Merchant};

/// What is drawn per transaction.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Transaction {
    /// The index column.
    pub(crate) ordinal: u64,
    pub(crate) second_of_day: u32,
    pub(crate) amount_cents: u32,
    pub(crate) trans_num: [u64; 2],
    pub(crate) merch_lat_micros: i32,
    pub(crate) merch_long_micros: i32,
    pub(crate) is_fraud: bool,
    pub(crate) merch_zip: Option<u32>,
}

/// Appends the row with its line feed.
pub(crate) fn write(
    out: &mut Vec<u8>,
    day: &Day,
    card: &Card,
    merchant: &Merchant,
    transaction: &Transaction,
) {
    push_unsigned(out, transaction.ordinal);
    out.push(b',');
    out.extend_from_slice(day.prefix.as_bytes());
    push_time(out, transaction.second_of_day);
    out.push(b',');
    out.extend_from_slice(card.number.as_bytes());
    out.push(b',');
    out.extend_from_slice(merchant.name_and_category.as_bytes());
    out.push(b',');
    push_decimal(out, i64::from(transaction.amount_cents), 2);
    out.push(b',');
    out.extend_from_slice(card.first_to_dob.as_bytes());
    out.push(b',');
    push_hex(out, transaction.trans_num[0]);
    push_hex(out, transaction.trans_num[1]);
    out.push(b',');
    let unix_time = day.unix_start + i64::from(transaction.second_of_day);
    push_unsigned(out, unix_time as u64);
    out.push(b',');
    push_decimal(out, i64::from(transaction.merch_lat_micros), 6);
    out.push(b',');
    push_decimal(out, i64::from(transaction.merch_long_micros), 6);
    out.extend_from_slice(if transaction.is_fraud { b",1," } else { b",0," });
    if let Some(zip) = transaction.merch_zip {
        push_unsigned(out, u64::from(zip));
        // The original's column holds nulls, so its zips were written as floats.
        out.extend_from_slice(b".0");
    }
    out.push(b'\n');
}

pub(crate) fn push_unsigned(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Appends `value` / 10^`places` without trailing zeros but with one decimal at least, as the
/// original's numbers are written: 45.0, 4.97, -81.1781.
pub(crate) fn push_decimal(out: &mut Vec<u8>, value: i64, places: u32) {
    if value < 0 {
        out.push(b'-');
    }
    let one = 10_u64.pow(places);
    let magnitude = value.unsigned_abs();
    push_unsigned(out, magnitude / one);
    out.push(b'.');
    let mut rest = magnitude % one;
    let mut digit_value = one / 10;
    loop {
        out.push(b'0' + (rest / digit_value) as u8);
        rest %= digit_value;
        digit_value /= 10;
        if rest == 0 || digit_value == 0 {
            break;
        }
    }
}

fn push_time(out: &mut Vec<u8>, second_of_day: u32) {
    let two = |value: u32| [b'0' + (value / 10) as u8, b'0' + (value % 10) as u8];
    let [h1, h2] = two(second_of_day / 3600);
    let [m1, m2] = two(second_of_day / 60 % 60);
    let [s1, s2] = two(second_of_day % 60);
    out.extend_from_slice(&[h1, h2, b':', m1, m2, b':', s1, s2]);
}

fn push_hex(out: &mut Vec<u8>, value: u64) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = [0_u8; 16];
    for (at, digit) in text.iter_mut().enumerate() {
        *digit = DIGITS[((value >> (60 - 4 * at)) & 15) as usize];
    }
    out.extend_from_slice(&text);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_the_original_writes_them() {
        let text = |value, places| {
            let mut out = Vec::new();
            push_decimal(&mut out, value, places);
            String::from_utf8(out).expect("digits are UTF-8")
        };
        assert_eq!(text(4500, 2), "45.0");
        assert_eq!(text(497, 2), "4.97");
        assert_eq!(text(405, 2), "4.05");
        assert_eq!(text(110, 2), "1.1");
        assert_eq!(text(-81_178_100, 6), "-81.1781");
        assert_eq!(text(-5, 6), "-0.000005");
    }
}
