//! Rows and payloads to try, good and bad, and what each should become.

use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type, TimestampMicrosecondType};
use chrono::{DateTime, Datelike as _, NaiveDateTime, Timelike as _, Utc};
use ftap_transaction::{
    EVENT_TIME, RECORD_COLUMNS, RejectReason, RowBuilders, SourceRow, currency_of, encode_json,
    field,
};
use proptest::prelude::*;
use serde_json::Value;

#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub date: String,
    pub text: [String; 4],
    pub amt: String,
    pub unix_time: i64,
    pub is_fraud: bool,
}

impl Row {
    pub(crate) fn encoded(&self) -> Vec<u8> {
        let [user, merchant, category, number] = &self.text;
        let unix_time = self.unix_time.to_string();
        let row = SourceRow {
            trans_date_trans_time: self.date.as_bytes(),
            user_id: user.as_bytes(),
            merchant: merchant.as_bytes(),
            category: category.as_bytes(),
            amt: self.amt.as_bytes(),
            trans_num: number.as_bytes(),
            unix_time: unix_time.as_bytes(),
            is_fraud: if self.is_fraud { b"1" } else { b"0" },
        };
        let mut out = b"before".to_vec();
        encode_json(&row, &mut out).unwrap();
        out.split_off(6)
    }

    pub(crate) fn original_amt(&self) -> f64 {
        let usd: f64 = self.amt.parse().unwrap();
        usd / currency_of(self.text[3].as_bytes()).usd_per_unit()
    }
}

pub(crate) fn rows() -> impl Strategy<Value = Row> {
    let text = || {
        prop_oneof![
            "[a-z_ ,&]{1,40}",
            "[0-9a-f]{32}",
            "\\PC{1,20}",
            "[\\x00-\\x7f]{1,12}"
        ]
        .prop_filter("a text that says something", |text| is_text(text))
    };
    let amt = prop_oneof![
        (0..100_000_000u64).prop_map(|cents| format!("{}.{:02}", cents / 100, cents % 100)),
        (0..1_000u64).prop_map(|n| n.to_string()),
        any::<f64>()
            .prop_filter("stays finite", |f| (f * 10.0).is_finite())
            .prop_map(|f| format!("{f}")),
    ];
    (
        "(19|20)[0-9]{2}-(0[1-9]|1[0-2])-[0-2][1-8] (0[0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]",
        [text(), text(), text(), text()],
        amt,
        any::<i64>(),
        any::<bool>(),
    )
        .prop_map(|(date, text, amt, unix_time, is_fraud)| Row {
            date,
            text,
            amt,
            unix_time,
            is_fraud,
        })
}

pub(crate) const GOOD: &str = r#"{"trans_date_trans_time":"2019-01-01 00:00:18","user_id":"u","merchant":"m","category":"c","trans_num":"n","unix_time":1325376018,"is_fraud":0,"original_amt":4.97,"currency":"EUR"}"#;

pub(crate) fn append(payload: &[u8]) -> Result<RecordBatch, RejectReason> {
    let mut builders = RowBuilders::with_capacity(1);
    let result = builders.append(Some(payload), 3, 17, 1_700_000_000_123);
    assert_eq!(
        builders.len(),
        usize::from(result.is_ok()),
        "nothing is left of a rejected row"
    );
    assert_eq!(builders.memory_bytes() == 0, result.is_err());
    // Finishing proves that no column got ahead of another.
    let batch = builders.finish().unwrap();
    result.map(|()| batch)
}

pub(crate) fn text<'a>(batch: &'a RecordBatch, name: &str) -> &'a str {
    batch
        .column_by_name(name)
        .unwrap()
        .as_string::<i32>()
        .value(0)
}

pub(crate) fn integer(batch: &RecordBatch, name: &str) -> i64 {
    batch
        .column_by_name(name)
        .unwrap()
        .as_primitive::<Int64Type>()
        .value(0)
}

pub(crate) fn amount(batch: &RecordBatch) -> f64 {
    let column = batch.column_by_name(field::ORIGINAL_AMT).unwrap();
    column.as_primitive::<Float64Type>().value(0)
}

/// Text, integers and amount.
type Model = (Vec<String>, [i64; 2], f64);

/// What a payload should become, by way of `serde_json`'s own tree; `None` where that
/// refuses it.
fn model(payload: &[u8]) -> Option<Result<Model, RejectReason>> {
    if payload.is_empty() {
        return Some(Err(RejectReason::EmptyPayload));
    }
    let Ok(payload) = std::str::from_utf8(payload) else {
        return Some(Err(RejectReason::InvalidUtf8));
    };
    let Value::Object(object) = serde_json::from_str(payload).ok()? else {
        return Some(Err(RejectReason::NotAnObject));
    };
    let mut text = Vec::new();
    let mut integers = Vec::new();
    let mut amount = 0.0;
    for name in field::ALL {
        let Some(value) = object.get(name) else {
            return Some(Err(RejectReason::MissingField(name)));
        };
        let fits = match name {
            field::UNIX_TIME | field::IS_FRAUD => value.as_i64().map(|n| integers.push(n)),
            field::ORIGINAL_AMT => value.as_f64().map(|n| amount = n),
            _ => value.as_str().map(|s| text.push(s.to_owned())),
        };
        if fits.is_none() {
            return Some(Err(RejectReason::WrongType(name)));
        }
        let is_sound = match name {
            field::TRANS_DATE_TRANS_TIME => is_event_time(&text[0]),
            field::IS_FRAUD => [0, 1].contains(&integers[1]),
            field::UNIX_TIME | field::ORIGINAL_AMT => true,
            field::CURRENCY => {
                text[5].len() == 3 && text[5].chars().all(|c| c.is_ascii_uppercase())
            }
            _ => text.last().is_some_and(|text| is_text(text)),
        };
        if !is_sound {
            return Some(Err(RejectReason::WrongValue(name)));
        }
    }
    Some(Ok((text, [integers[0], integers[1]], amount)))
}

fn is_text(text: &str) -> bool {
    text.chars().any(|c| !c.is_whitespace()) && !text.contains('\0')
}

/// Parsed and printed, it is as it was; no leap second, which is printed as well.
fn is_event_time(text: &str) -> bool {
    let parsed = NaiveDateTime::parse_from_str(text, TIME_FORM);
    parsed.is_ok_and(|time| {
        time.year() > 0 && time.nanosecond() == 0 && time.format(TIME_FORM).to_string() == text
    })
}

const TIME_FORM: &str = "%Y-%m-%d %H:%M:%S";

pub(crate) fn event_time(batch: &RecordBatch) -> DateTime<Utc> {
    let column = batch.column_by_name(EVENT_TIME).unwrap();
    DateTime::from_timestamp_micros(column.as_primitive::<TimestampMicrosecondType>().value(0))
        .unwrap()
}

pub(crate) fn agrees_with_model(payload: &[u8]) {
    let result = append(payload);
    let shown = String::from_utf8_lossy(payload);
    match model(payload) {
        Some(Err(reason)) => assert_eq!(result.unwrap_err(), reason, "{shown}"),
        Some(Ok((texts, integers, amt))) => {
            let batch = result.unwrap_or_else(|reason| panic!("{reason}: {shown}"));
            let names = [0, 1, 2, 3, 4, 8].map(|index| RECORD_COLUMNS[index]);
            let ours = names.map(|name| text(&batch, name).to_owned());
            assert_eq!(ours.as_slice(), texts, "{shown}");
            let time = event_time(&batch).format(TIME_FORM).to_string();
            assert_eq!(time, texts[0], "{shown}");
            assert_eq!(integer(&batch, field::UNIX_TIME), integers[0]);
            assert_eq!(integer(&batch, field::IS_FRAUD), integers[1]);
            assert_eq!(amount(&batch).to_bits(), amt.to_bits(), "{shown}");
        }
        // Ignored values are only checked for their syntax, so a lone surrogate or a
        // number beyond a double in one of them may pass.
        None => assert!(
            result.err() == Some(RejectReason::NotJson)
                || shown.contains("\\u")
                || shown.contains(['e', 'E']),
            "{shown}"
        ),
    }
    // A blank at the end keeps the quick parser from taking it; the general one agrees.
    if !payload.is_empty() {
        let blank = [payload, b" "].concat();
        assert_eq!(append(payload), append(&blank), "{shown}");
    }
}

pub(crate) fn mutated() -> impl Strategy<Value = Vec<u8>> {
    const PIECES: [&str; 26] = [
        "\"",
        "\\",
        "\\u0041",
        "\\ud800",
        "\\ud83d\\ude00",
        ",",
        ":",
        "{",
        "}",
        "[",
        "]",
        "null",
        "true",
        "-",
        "0",
        "1e3",
        "1.5",
        "E+2",
        " ",
        "\n",
        "\u{1}",
        "ü",
        "NaN",
        "99999999999999999999",
        "\"user_id\":\"other\",",
        "\"more\":[{\"a\":1}],",
    ];
    let edit = (
        any::<prop::sample::Index>(),
        0..4usize,
        prop::sample::select(&PIECES[..]),
        any::<u8>(),
    );
    (rows(), prop::collection::vec(edit, 0..4)).prop_map(|(row, edits)| {
        let mut payload = row.encoded();
        for (index, kind, piece, byte) in edits {
            let at = index.index(payload.len() + 1);
            match kind {
                0 => drop(payload.splice(at..at, piece.bytes())),
                1 if at < payload.len() => payload[at] = byte,
                2 => drop(payload.drain(at..(at + usize::from(byte % 16)).min(payload.len()))),
                _ => {
                    let end = (at + piece.len()).min(payload.len());
                    drop(payload.splice(at..end, piece.bytes()));
                }
            }
        }
        payload
    })
}

/// Names and values of a good message, in the message's order.
pub(crate) fn good_fields() -> Vec<(String, String)> {
    let object: serde_json::Map<String, Value> = serde_json::from_str(GOOD).unwrap();
    let fields = field::ALL.map(|name| (name.to_owned(), object[name].to_string()));
    fields.into()
}

pub(crate) fn json(fields: &[(String, String)]) -> String {
    let fields: Vec<String> = fields.iter().map(|(k, v)| format!("\"{k}\":{v}")).collect();
    format!("{{{}}}", fields.join(","))
}

/// Whole fields reordered, doubled, left out and given other values: valid JSON mostly.
pub(crate) fn reshaped() -> impl Strategy<Value = Vec<u8>> {
    const VALUES: [&str; 28] = [
        "\"text\"",
        "\"2020-02-29 23:59:59\"",
        "\"2019-02-29 00:00:00\"",
        "\"2019-02-28 00:00:60\"",
        "\"SEK\"",
        "\"sek\"",
        "1",
        "\"\"",
        "\"\\u00fc\\n\"",
        "\"\\ud800\"",
        "0",
        "-0",
        "-0.0",
        "7",
        "-7",
        "12.0",
        "1e2",
        "9223372036854775807",
        "9223372036854775808",
        "-9223372036854775808",
        "-9223372036854775809",
        "123456789012345678901234567890",
        "1e400",
        "0.1000000000000000055",
        "null",
        "true",
        "[[1],{}]",
        "{\"a\":{}}",
    ];
    let names = field::ALL
        .into_iter()
        .chain(["extra", "", "user_id "])
        .collect::<Vec<_>>();
    let entry = (
        prop::sample::select(names),
        prop::sample::select(&VALUES[..]),
    );
    // Sometimes in the message's order: only then does the fast parser see it.
    let order = prop_oneof![Just(good_fields()), Just(good_fields()).prop_shuffle()];
    (
        order,
        prop::collection::vec(entry, 0..3),
        any::<prop::sample::Index>(),
        any::<[bool; 2]>(),
        prop::sample::select(&["", "", " ", "\t\r\n"][..]),
    )
        .prop_map(|(mut fields, extra, at, [replace, remove], blank)| {
            for (name, value) in extra {
                match fields.iter_mut().find(|field| replace && field.0 == name) {
                    Some(field) => field.1 = value.to_owned(),
                    None => {
                        let at = at.index(fields.len() + 1);
                        fields.insert(at, (name.to_owned(), value.to_owned()));
                    }
                }
            }
            if remove {
                fields.remove(at.index(fields.len()));
            }
            let fields: Vec<String> = fields
                .iter()
                .map(|(name, value)| format!("\"{name}\"{blank}:{blank}{value}"))
                .collect();
            format!("{blank}{{{}}}{blank}", fields.join(",")).into_bytes()
        })
}
