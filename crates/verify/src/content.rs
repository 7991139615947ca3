//! What one transaction says, and a hash of it by which its copies are compared.
//!
//! Promises: the same transaction has the same hash whether it comes from the events file,
//! the topic or the lake. Written from docs/DATA.md, on purpose without the pipeline's
//! own encoder and decoder: a fault of theirs must show up here.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use chrono::NaiveDate;
use ftap_transaction::{currency_of, field};
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Number;
use xxhash_rust::xxh3::xxh3_64;

/// The nine values of a transaction.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Content<'a> {
    /// Date and time, user, merchant, category, transaction number, currency.
    pub texts: [Cow<'a, str>; 6],
    /// Seconds since 1970.
    pub unix_time: i64,
    /// 1 for fraud, else 0.
    pub is_fraud: i64,
    /// Amount in the currency.
    pub original_amt: f64,
}

/// Collects the bytes that are hashed; one per thread saves an allocation per row.
#[derive(Default)]
pub(crate) struct Hasher {
    bytes: Vec<u8>,
}

impl Hasher {
    /// Hash of a transaction's values.
    pub(crate) fn content(&mut self, content: &Content<'_>) -> u64 {
        let texts = content.texts.each_ref().map(|text| text.as_bytes());
        self.values(
            texts,
            content.unix_time,
            content.is_fraud,
            content.original_amt,
        )
    }

    /// The same from borrowed values, in the order of [`Content`].
    pub(crate) fn values(
        &mut self,
        texts: [&[u8]; 6],
        unix_time: i64,
        is_fraud: i64,
        original_amt: f64,
    ) -> u64 {
        self.bytes.clear();
        for text in texts {
            // With its length in front no text can run into the next.
            self.bytes
                .extend_from_slice(&(text.len() as u64).to_le_bytes());
            self.bytes.extend_from_slice(text);
        }
        self.bytes.extend_from_slice(&unix_time.to_le_bytes());
        self.bytes.extend_from_slice(&is_fraud.to_le_bytes());
        self.bytes
            .extend_from_slice(&original_amt.to_bits().to_le_bytes());
        xxh3_64(&self.bytes)
    }
}

pub(crate) fn raw_hash(payload: Option<&[u8]>) -> u64 {
    xxh3_64(payload.unwrap_or_default())
}

/// The transaction of a row of the events file, given its eight columns.
/// `Err` says what keeps the row from being published.
pub(crate) fn of_source_row<'a>(columns: [&'a [u8]; 8]) -> Result<Content<'a>, &'static str> {
    let [
        date,
        user,
        merchant,
        category,
        amt,
        number,
        unix_time,
        is_fraud,
    ] = columns;
    let text = |bytes: &'a [u8]| match std::str::from_utf8(bytes) {
        Ok(text) if !is_text(text) => Err("a column that is blank or has a zero byte"),
        Ok(text) => Ok(Cow::Borrowed(text)),
        Err(_) => Err("a column that is not UTF-8"),
    };
    let date = text(date)?;
    if event_time(&date).is_none() {
        return Err("a time that is not YYYY-MM-DD HH:MM:SS");
    }
    let (user, merchant, category, number) =
        (text(user)?, text(merchant)?, text(category)?, text(number)?);
    let unix_time = text(unix_time)?;
    // The standard parser would take a plus sign.
    let unix_time = if unix_time.starts_with('+') {
        None
    } else {
        unix_time.parse().ok()
    }
    .ok_or("a unix_time that is not a whole number")?;
    let is_fraud = match is_fraud {
        b"0" => 0,
        b"1" => 1,
        _ => return Err("an is_fraud that is neither 0 nor 1"),
    };
    let dollars: f64 = text(amt)?
        .parse()
        .ok()
        .filter(|dollars: &f64| dollars.is_finite())
        .ok_or("an amt that is not a decimal number")?;
    let currency = currency_of(number.as_bytes()).code();
    let original_amt = dollars / usd_per_unit(currency);
    if !original_amt.is_finite() {
        return Err("an amt that no double holds");
    }
    Ok(Content {
        texts: [
            date,
            user,
            merchant,
            category,
            number,
            Cow::Borrowed(currency),
        ],
        unix_time,
        is_fraud,
        original_amt,
    })
}

fn is_text(text: &str) -> bool {
    let bytes = text.as_bytes();
    let is_blank = !bytes.first().is_some_and(u8::is_ascii_graphic) && text.trim_start().is_empty();
    // Of short texts looking at all bytes takes less time than stopping at the first one.
    let has_zero = bytes.iter().fold(false, |has, byte| has | (*byte == 0));
    !is_blank && !has_zero
}

/// As docs/DATA.md, section 3, defines it.
fn usd_per_unit(currency: &str) -> f64 {
    match currency {
        "EUR" => 1.17,
        "DKK" => 0.16,
        "SEK" => 0.11,
        _ => 0.10,
    }
}

/// 1900 to 2261, in milliseconds since 1970.
const LAKE_TIMES: Range<i64> = -2_208_988_800_000..9_214_646_400_000;

/// What the lake has of a record's timestamp, -1 for NULL: those of the years 1900 to 2261.
pub(crate) fn lake_timestamp(timestamp_ms: i64) -> i64 {
    if LAKE_TIMES.contains(&timestamp_ms) {
        timestamp_ms
    } else {
        -1
    }
}

/// Microseconds since 1970 of `YYYY-MM-DD HH:MM:SS`, UTC, `None` for what the calendar does not have.
pub(crate) fn event_time(text: &str) -> Option<i64> {
    let shape_fits = text.len() == 19
        && text
            .bytes()
            .zip("0000-00-00 00:00:00".bytes())
            .all(|(byte, wanted)| match wanted {
                b'0' => byte.is_ascii_digit(),
                _ => byte == wanted,
            });
    if !shape_fits || text.starts_with("0000") {
        return None;
    }
    let number = |from: usize, digits: usize| {
        let digits = text.bytes().skip(from).take(digits);
        digits.fold(0, |number, digit| number * 10 + u32::from(digit - b'0'))
    };
    let year = number(0, 4).try_into().ok()?;
    let date = NaiveDate::from_ymd_opt(year, number(5, 2), number(8, 2))?;
    let time = date.and_hms_opt(number(11, 2), number(14, 2), number(17, 2))?;
    Some(time.and_utc().timestamp_micros())
}

impl Content<'_> {
    /// Whether its values are what docs/DATA.md asks for, beyond their types.
    pub(crate) fn is_sound(&self) -> bool {
        let [date, .., currency] = &self.texts;
        let is_code = currency.len() == 3 && currency.bytes().all(|byte| byte.is_ascii_uppercase());
        let are_texts = self.texts.iter().all(|text| is_text(text));
        are_texts && event_time(date).is_some() && [0, 1].contains(&self.is_fraud) && is_code
    }
}

/// The transaction of a message by the types of its fields, `None` if the payload is none.
pub(crate) fn of_message(payload: &[u8]) -> Option<Content<'_>> {
    let text = std::str::from_utf8(payload).ok()?;
    let mut json = serde_json::Deserializer::from_str(text);
    let [
        date,
        user,
        merchant,
        category,
        number,
        unix_time,
        is_fraud,
        original_amt,
        currency,
    ] = json.deserialize_map(Fields).ok()?;
    json.end().ok()?;
    Some(Content {
        unix_time: unix_time.number()?.as_i64()?,
        is_fraud: is_fraud.number()?.as_i64()?,
        original_amt: original_amt.number()?.as_f64()?,
        texts: [
            date.text()?,
            user.text()?,
            merchant.text()?,
            category.text()?,
            number.text()?,
            currency.text()?,
        ],
    })
}

/// What a field of a message holds; texts without escapes are borrowed from it.
enum Value<'a> {
    Missing,
    Text(Cow<'a, str>),
    Number(Number),
    /// Of no type that a field has.
    Other,
}

impl<'a> Value<'a> {
    fn text(self) -> Option<Cow<'a, str>> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    fn number(&self) -> Option<&Number> {
        match self {
            Self::Number(number) => Some(number),
            _ => None,
        }
    }
}

impl<'de> Deserialize<'de> for Value<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

/// Written out: with a derived enum the whole of `verify` takes a third more time. And not the decoder's, which it
/// checks.
struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Value::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Value::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Self::Value, E> {
        Ok(Value::Number(number.into()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
        Ok(Value::Number(number.into()))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Self::Value, E> {
        Ok(Number::from_f64(number).map_or(Value::Other, Value::Number))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(Value::Other)
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Value::Other)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Value::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
        while entries.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Value::Other)
    }
}

/// Reads an object: the message's fields in its order. The last of two equal fields counts; unknown ones are ignored.
struct Fields;

impl<'de> Visitor<'de> for Fields {
    type Value = [Value<'de>; 9];

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut values = [const { Value::Missing }; 9];
        let mut next = 0;
        while let Some(name) = map.next_key::<Value<'de>>()? {
            let name = name.text().unwrap_or_default();
            // Most are in this order.
            let is_next = field::ALL.get(next).is_some_and(|known| *known == name);
            let index = if is_next {
                Some(next)
            } else {
                field::ALL.iter().position(|known| *known == name)
            };
            match index {
                Some(index) => {
                    values[index] = map.next_value()?;
                    next = index + 1;
                }
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(values)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use ftap_transaction::{SourceRow, encode_json};

    const ROW: [&[u8]; 8] = [
        b"2019-01-01 00:00:18",
        b"3f6f38f8-6e5a-5ab4-8d31-1d6b0ae4f2d5",
        b"fraud_Rippin, Kub and \"Mann\"",
        b"misc_net",
        b"4.97",
        b"0b242abb623afc578575680df30655b9",
        b"1325376018",
        b"0",
    ];

    #[test]
    fn a_row_and_the_message_made_of_it_have_one_hash() {
        for amt in ["4.97", "0", "28948.90", "1e3", "0.1", "123456789012345678"] {
            let mut row = ROW;
            row[4] = amt.as_bytes();
            let [date, user, merchant, category, amt, number, time, fraud] = row;
            let mut message = Vec::new();
            let source = SourceRow {
                trans_date_trans_time: date,
                user_id: user,
                merchant,
                category,
                amt,
                trans_num: number,
                unix_time: time,
                is_fraud: fraud,
            };
            encode_json(&source, &mut message).unwrap();
            let expected = of_source_row(row).unwrap();
            let actual = of_message(&message).unwrap();
            assert_eq!(expected, actual);
            let mut hasher = Hasher::default();
            assert_eq!(hasher.content(&expected), hasher.content(&actual));
        }
    }

    #[test]
    fn every_value_counts_in_the_hash() {
        let mut hasher = Hasher::default();
        let row = of_source_row(ROW).unwrap();
        let whole = hasher.content(&row);
        for index in 0..6 {
            let mut other = row.clone();
            other.texts[index].to_mut().push('x');
            assert_ne!(hasher.content(&other), whole, "text {index}");
        }
        let other = Content {
            unix_time: 1,
            ..row.clone()
        };
        assert_ne!(hasher.content(&other), whole);
        let other = Content {
            is_fraud: 1,
            ..row.clone()
        };
        assert_ne!(hasher.content(&other), whole);
        let other = Content {
            original_amt: row.original_amt.next_up(),
            ..row.clone()
        };
        assert_ne!(hasher.content(&other), whole);
    }

    #[test]
    fn broken_rows_are_what_the_encoder_refuses_too() {
        let cases: [(usize, &[u8]); 18] = [
            (0, b"2019-13-01 00:00:18"),
            (0, b"2019-01-01T00:00:18"),
            (0, b"2019-02-29 00:00:18"),
            (0, b"2019-01-01 00:00:60"),
            (0, b"0000-01-01 00:00:18"),
            (1, b""),
            (2, b"\xff"),
            (2, b"a\0"),
            (3, b""),
            (3, b" \t"),
            (4, b"four"),
            (4, b"NaN"),
            (4, b"1e308"),
            (5, b""),
            (5, "\u{a0}".as_bytes()),
            (6, b"+5"),
            (6, b"1.5"),
            (7, b"2"),
        ];
        for (column, value) in cases {
            let mut row = ROW;
            row[column] = value;
            let [date, user, merchant, category, amt, number, time, fraud] = row;
            let source = SourceRow {
                trans_date_trans_time: date,
                user_id: user,
                merchant,
                category,
                amt,
                trans_num: number,
                unix_time: time,
                is_fraud: fraud,
            };
            assert_eq!(
                of_source_row(row).is_err(),
                encode_json(&source, &mut Vec::new()).is_err(),
                "column {column} = {}",
                String::from_utf8_lossy(value)
            );
        }
    }

    #[test]
    fn a_message_is_sound_when_the_lake_takes_it() {
        let message = |date: &str, fraud: i64, currency: &str, merchant: &str| {
            format!(
                r#"{{"trans_date_trans_time":"{date}","user_id":"b","merchant":"{merchant}","category":"d",
                "trans_num":"e","unix_time":1,"is_fraud":{fraud},"original_amt":2,"currency":"{currency}"}}"#
            )
        };
        let good = "2020-02-29 23:59:59";
        for (date, fraud, currency, is_sound) in [
            (good, 0, "EUR", true),
            ("0001-01-01 00:00:00", 1, "XTS", true),
            ("yesterday", 0, "EUR", false),
            ("2019-02-29 23:59:59", 0, "EUR", false),
            ("2019-02-28 24:00:00", 0, "EUR", false),
            ("2019-02-28 23:59:60", 0, "EUR", false),
            ("0000-02-28 23:59:59", 0, "EUR", false),
            ("2019-02-28T23:59:59", 0, "EUR", false),
            (good, 2, "EUR", false),
            (good, -1, "EUR", false),
            (good, 0, "eur", false),
            (good, 0, "EURO", false),
            (good, 0, "", false),
            (good, 0, "ÄÖ", false),
        ] {
            let message = message(date, fraud, currency, "m");
            assert_sound(&message, is_sound);
        }
        for (merchant, is_sound) in [
            ("m", true),
            (" m", true),
            ("\\u0001", true),
            ("", false),
            (" \\t\u{a0}", false),
            ("m\\u0000", false),
        ] {
            assert_sound(&message(good, 0, "EUR", merchant), is_sound);
        }

        fn assert_sound(message: &str, is_sound: bool) {
            let content = of_message(message.as_bytes()).unwrap();
            assert_eq!(content.is_sound(), is_sound, "{message}");
            let taken = ftap_transaction::check(Some(message.as_bytes()), 1 << 20);
            assert_eq!(taken.is_ok(), is_sound, "{message}: {taken:?}");
        }
    }

    #[test]
    fn what_is_not_a_transaction_is_none() {
        let good = r#"{"trans_date_trans_time":"a","user_id":"b","merchant":"c","category":"d",
            "trans_num":"e","unix_time":1,"is_fraud":0,"original_amt":2,"currency":"f","x":1e999}"#;
        assert!(of_message(good.as_bytes()).is_some());
        for (from, to) in [
            ("\"unix_time\":1", "\"unix_time\":\"1\""),
            ("\"unix_time\":1", "\"unix_time\":1.5"),
            ("\"unix_time\":1", "\"unix_time\":null"),
            ("\"unix_time\":1", "\"y\":1"),
            ("\"original_amt\":2", "\"original_amt\":NaN"),
            ("\"original_amt\":2", "\"original_amt\":\"2\""),
            ("\"merchant\":\"c\"", "\"merchant\":null"),
            ("\"currency\":\"f\"", "\"currency\":{}"),
            ("1e999}", "1}}"),
            ("{", "[{"),
        ] {
            let bad = good.replacen(from, to, 1);
            assert_ne!(bad, good);
            assert!(of_message(bad.as_bytes()).is_none(), "{bad}");
        }
        for bad in [&b""[..], b"[]", b"1", b"null", b"\"x\"", b"\xff", b"{"] {
            assert!(of_message(bad).is_none(), "{bad:?}");
        }
    }
}
