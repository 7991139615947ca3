//! The quick way through a message that looks like ours.
//!
//! Promises: what [`parse`] returns is what the general parser would; on `None` the general parser
//! decides. Relies on [`encode_json`](super::encode_json)
//! writing the fields in the message's order without blanks.

use super::decode::Decoded;
use super::fields::{
    Checked, CurrencyCode, EventTime, FieldType, Flag, Float, Integer, Text, message_fields,
};

macro_rules! parser {
    (
        #[doc = $first_doc:literal] $first_constant:ident $first:ident: $first_kind:ty;
        $(#[doc = $doc:literal] $constant:ident $name:ident: $kind:ty;)*
    ) => {
        /// Reads a message of exactly the encoder's form: its field order, no blanks, no escapes,
        /// no exponents.
        pub(super) fn parse(payload: &str) -> Option<Decoded<'_>> {
            let mut rest = Rest {
                text: payload,
                at: 0,
            };
            rest.literal(concat!("{\"", stringify!($first), "\":").as_bytes())?;
            let $first = <$first_kind>::fast(&mut rest)?;
            $(
                rest.literal(concat!(",\"", stringify!($name), "\":").as_bytes())?;
                let $name = <$kind>::fast(&mut rest)?;
            )*
            rest.literal(b"}")?;
            (rest.at == payload.len()).then_some(Decoded { $first, $($name),* })
        }
    };
}
message_fields!(parser);

/// The part of a message that has not been read.
pub(super) struct Rest<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Rest<'a> {
    fn bytes(&self) -> &'a [u8] {
        self.text.as_bytes().get(self.at..).unwrap_or_default()
    }

    #[inline(always)]
    pub(super) fn literal(&mut self, expected: &[u8]) -> Option<()> {
        self.bytes()
            .starts_with(expected)
            .then(|| self.at += expected.len())
    }

    fn take(&mut self, bytes: usize) -> Option<&'a str> {
        let taken = self.text.get(self.at..self.at + bytes)?;
        self.at += bytes;
        Some(taken)
    }

    /// A string's inside, up to its closing quote, which stays.
    #[inline(always)]
    pub(super) fn string(&mut self) -> Option<&'a str> {
        let bytes = self.bytes();
        let mut at = 0;
        while let Some(word) = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
            let stops = stops_in(u64::from_le_bytes(*word));
            if stops != 0 {
                at += stops.trailing_zeros() as usize / 8;
                return (bytes[at] == b'"').then(|| self.take(at))?;
            }
            at += 8;
        }
        for byte in bytes.get(at..)? {
            match byte {
                b'"' => return self.take(at),
                b'\\' | 0..0x20 => return None,
                _ => at += 1,
            }
        }
        None
    }

    /// An integer of at most 18 digits.
    #[inline(always)]
    pub(super) fn integer(&mut self) -> Option<i64> {
        let bytes = self.bytes();
        let (negative, bytes) = match bytes {
            [b'-', bytes @ ..] => (true, bytes),
            bytes => (false, bytes),
        };
        let (value, digits) = natural(bytes)?;
        // As JSON has it, -0 is a fraction to many parsers.
        if negative && value == 0 {
            return None;
        }
        self.at += digits + usize::from(negative);
        Some(if negative { -value } else { value })
    }

    /// A number without exponent.
    #[inline(always)]
    pub(super) fn float(&mut self) -> Option<f64> {
        let bytes = self.bytes();
        let sign = usize::from(bytes.first() == Some(&b'-'));
        let whole = digits(bytes.get(sign..)?);
        if whole == 0 || (whole > 1 && bytes[sign] == b'0') {
            return None;
        }
        let mut length = sign + whole;
        if bytes.get(length) == Some(&b'.') {
            let fraction = digits(bytes.get(length + 1..)?);
            if fraction == 0 {
                return None;
            }
            length += 1 + fraction;
        }
        // Whatever else stands here, an exponent say, fails the next literal.
        let value: f64 = self.take(length)?.parse().ok()?;
        value.is_finite().then_some(value)
    }
}

/// How many digits `bytes` starts with.
fn digits(bytes: &[u8]) -> usize {
    bytes
        .iter()
        .take_while(|byte| byte.is_ascii_digit())
        .count()
}

/// A JSON number without sign, fraction and exponent, and its digits.
fn natural(bytes: &[u8]) -> Option<(i64, usize)> {
    let digits = digits(bytes);
    if digits == 0 || digits > 18 || (digits > 1 && bytes[0] == b'0') {
        return None;
    }
    let value = bytes[..digits]
        .iter()
        .fold(0, |value, byte| value * 10 + i64::from(byte - b'0'));
    Some((value, digits))
}

/// Marks the first byte of `word` that ends a plain run of a JSON string, a quote, a
/// backslash or a control character, by its highest bit. Bits above the lowest set one
/// mean nothing (the borrow of "Bit Twiddling Hacks", haszero and hasless).
fn stops_in(word: u64) -> u64 {
    const ONES: u64 = u64::MAX / 255;
    const HIGH: u64 = ONES << 7;
    let zero = |v: u64| v.wrapping_sub(ONES) & !v;
    let quote = zero(word ^ (ONES * u64::from(b'"')));
    let backslash = zero(word ^ (ONES * u64::from(b'\\')));
    let control = word.wrapping_sub(ONES * 0x20) & !word;
    (quote | backslash | control) & HIGH
}
