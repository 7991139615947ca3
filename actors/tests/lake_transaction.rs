//! A row keeps its meaning from the CSV through JSON into Arrow, and nothing else becomes
//! a row.
#![allow(clippy::unwrap_used, missing_docs)]

use arrow_array::types::{Float64Type, Int32Type, Int64Type, TimestampMillisecondType};
use arrow_array::{RecordBatch, cast::AsArray};
use ftap_actors::transaction::{
    COLUMNS, Currency, RejectReason, RowBuilders, SourceRow, currency_of, encode_json, field,
    schema,
};
use proptest::prelude::*;
use serde_json::Value;

#[derive(Clone, Debug)]
struct Row {
    date: String,
    text: [String; 4],
    amt: String,
    unix_time: i64,
    is_fraud: bool,
}

impl Row {
    fn encoded(&self) -> Vec<u8> {
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

    fn original_amt(&self) -> f64 {
        let usd: f64 = self.amt.parse().unwrap();
        usd / currency_of(self.text[3].as_bytes()).usd_per_unit()
    }
}

fn rows() -> impl Strategy<Value = Row> {
    let text = || {
        prop_oneof![
            "[a-z_ ,&]{1,40}",
            "[0-9a-f]{32}",
            "\\PC{1,20}",
            "[\\x00-\\x7f]{1,12}"
        ]
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

const GOOD: &str = r#"{"trans_date_trans_time":"2019-01-01 00:00:18","user_id":"u","merchant":"m","category":"c","trans_num":"n","unix_time":1325376018,"is_fraud":0,"original_amt":4.97,"currency":"EUR"}"#;

fn append(payload: &[u8]) -> Result<RecordBatch, RejectReason> {
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

fn text<'a>(batch: &'a RecordBatch, name: &str) -> &'a str {
    batch
        .column_by_name(name)
        .unwrap()
        .as_string::<i32>()
        .value(0)
}

fn integer(batch: &RecordBatch, name: &str) -> i64 {
    batch
        .column_by_name(name)
        .unwrap()
        .as_primitive::<Int64Type>()
        .value(0)
}

fn amount(batch: &RecordBatch) -> f64 {
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
    }
    Some(Ok((text, [integers[0], integers[1]], amount)))
}

fn agrees_with_model(payload: &[u8]) {
    let result = append(payload);
    let shown = String::from_utf8_lossy(payload);
    match model(payload) {
        Some(Err(reason)) => assert_eq!(result.unwrap_err(), reason, "{shown}"),
        Some(Ok((texts, integers, amt))) => {
            let batch = result.unwrap_or_else(|reason| panic!("{reason}: {shown}"));
            let names = [0, 1, 2, 3, 4, 8].map(|index| COLUMNS[index]);
            let ours = names.map(|name| text(&batch, name).to_owned());
            assert_eq!(ours.as_slice(), texts, "{shown}");
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

fn mutated() -> impl Strategy<Value = Vec<u8>> {
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

/// Whole fields reordered, doubled, left out and given other values: valid JSON mostly.
fn reshaped() -> impl Strategy<Value = Vec<u8>> {
    const VALUES: [&str; 22] = [
        "\"text\"",
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
    let base = serde_json::from_str::<serde_json::Map<String, Value>>(GOOD).unwrap();
    let base: Vec<(String, String)> = base
        .iter()
        .map(|(k, v)| (k.clone(), v.to_string()))
        .collect();
    (
        Just(base).prop_shuffle(),
        prop::collection::vec(entry, 0..3),
        any::<prop::sample::Index>(),
        any::<bool>(),
        prop::sample::select(&["", " ", "\t\r\n"][..]),
    )
        .prop_map(|(mut fields, extra, at, remove, blank)| {
            for (name, value) in extra {
                let at = at.index(fields.len() + 1);
                fields.insert(at, (name.to_owned(), value.to_owned()));
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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_row_survives_json_and_arrow(row in rows()) {
        let payload = row.encoded();
        let batch = append(&payload).unwrap();
        prop_assert_eq!(batch.schema(), schema());
        prop_assert_eq!(text(&batch, field::TRANS_DATE_TRANS_TIME), &row.date);
        let names = [field::USER_ID, field::MERCHANT, field::CATEGORY, field::TRANS_NUM];
        for (name, value) in names.into_iter().zip(&row.text) {
            prop_assert_eq!(text(&batch, name), value);
        }
        prop_assert_eq!(integer(&batch, field::UNIX_TIME), row.unix_time);
        prop_assert_eq!(integer(&batch, field::IS_FRAUD), i64::from(row.is_fraud));
        prop_assert_eq!(amount(&batch).to_bits(), row.original_amt().to_bits());
        let currency = currency_of(row.text[3].as_bytes()).code();
        prop_assert_eq!(text(&batch, field::CURRENCY), currency);
        prop_assert_eq!(batch.column(9).as_primitive::<Int32Type>().value(0), 3);
        prop_assert_eq!(batch.column(10).as_primitive::<Int64Type>().value(0), 17);
        let time = batch.column(11).as_primitive::<TimestampMillisecondType>();
        prop_assert_eq!(time.value(0), 1_700_000_000_123);
        prop_assert_eq!(payload, row.encoded(), "a replay is byte-identical");
    }

    #[test]
    fn damaged_payloads_are_judged_as_serde_json_would(payload in mutated()) {
        agrees_with_model(&payload);
    }

    #[test]
    fn fields_in_any_order_and_type_are_judged_as_serde_json_would(payload in reshaped()) {
        agrees_with_model(&payload);
    }

    #[test]
    fn random_bytes_are_rejected(payload in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(append(&payload).is_err());
        agrees_with_model(&payload);
    }
}

#[test]
fn a_message_has_exactly_the_contracts_form() {
    let row = Row {
        date: "2019-01-01 00:00:18".into(),
        text: [
            "u-1",
            "fraud_A, \"B\" and C",
            "misc_net",
            "0b242abb623afc578575680df30655b9",
        ]
        .map(Into::into),
        amt: "4.97".into(),
        unix_time: 1_325_376_018,
        is_fraud: false,
    };
    let payload = String::from_utf8(row.encoded()).unwrap();
    let currency = currency_of(row.text[3].as_bytes());
    assert_eq!(
        currency,
        Currency::Eur,
        "a change here makes replays differ from what is in topics"
    );
    assert_eq!(
        payload,
        "{\"trans_date_trans_time\":\"2019-01-01 00:00:18\",\"user_id\":\"u-1\",\
         \"merchant\":\"fraud_A, \\\"B\\\" and C\",\"category\":\"misc_net\",\
         \"trans_num\":\"0b242abb623afc578575680df30655b9\",\"unix_time\":1325376018,\
         \"is_fraud\":0,\"original_amt\":4.247863247863248,\"currency\":\"EUR\"}"
    );
}

#[test]
fn amounts_are_valid_json_numbers_at_any_size() {
    for amt in [
        "0",
        "12",
        "-3.5",
        "1e300",
        "1e-300",
        "5e-324",
        "123456789012345678",
        "1e16",
    ] {
        let row = Row {
            date: "2019-01-01 00:00:18".into(),
            text: ["u", "m", "c", "n"].map(Into::into),
            amt: amt.into(),
            unix_time: 0,
            is_fraud: true,
        };
        let value: Value = serde_json::from_slice(&row.encoded()).unwrap();
        let number = value[field::ORIGINAL_AMT].as_f64().unwrap();
        assert_eq!(number, row.original_amt(), "{amt}");
        assert!(
            value[field::ORIGINAL_AMT].is_f64(),
            "{amt} is written as a float"
        );
    }
}

#[test]
fn currencies_are_uniform() {
    let mut counts = [0; 4];
    for number in 0..40_000u32 {
        let currency = currency_of(format!("{number:032x}").as_bytes());
        counts[Currency::ALL.iter().position(|c| *c == currency).unwrap()] += 1;
    }
    for count in counts {
        assert!((9_700..10_300).contains(&count), "{counts:?}");
    }
}

#[test]
fn a_broken_source_row_names_its_column_and_leaves_nothing() {
    let good = SourceRow {
        trans_date_trans_time: b"2019-01-01 00:00:18",
        user_id: b"u",
        merchant: b"m",
        category: b"c",
        amt: b"1.00",
        trans_num: b"n",
        unix_time: b"1",
        is_fraud: b"0",
    };
    let long = [b'9'; 500];
    let cases = [
        (
            SourceRow {
                trans_date_trans_time: b"2019-13-01 00:00:18",
                ..good
            },
            "trans_date_trans_time",
        ),
        (
            SourceRow {
                trans_date_trans_time: b"01.01.2019 00:00:18",
                ..good
            },
            "trans_date_trans_time",
        ),
        (
            SourceRow {
                trans_date_trans_time: b"",
                ..good
            },
            "trans_date_trans_time",
        ),
        (
            SourceRow {
                user_id: b"",
                ..good
            },
            "user_id",
        ),
        (
            SourceRow {
                merchant: b"caf\xe9",
                ..good
            },
            "merchant",
        ),
        (
            SourceRow {
                category: b"\xff",
                ..good
            },
            "category",
        ),
        (
            SourceRow {
                trans_num: b"\xed\xa0\x80",
                ..good
            },
            "trans_num",
        ),
        (
            SourceRow {
                unix_time: b"9223372036854775808",
                ..good
            },
            "unix_time",
        ),
        (
            SourceRow {
                unix_time: b"1.0",
                ..good
            },
            "unix_time",
        ),
        (
            SourceRow {
                unix_time: b"-",
                ..good
            },
            "unix_time",
        ),
        (
            SourceRow {
                is_fraud: b"2",
                ..good
            },
            "is_fraud",
        ),
        (
            SourceRow {
                is_fraud: b"",
                ..good
            },
            "is_fraud",
        ),
        (SourceRow { amt: b"", ..good }, "amt"),
        (SourceRow { amt: b".", ..good }, "amt"),
        (
            SourceRow {
                amt: b"1.2.3",
                ..good
            },
            "amt",
        ),
        (
            SourceRow {
                amt: b"NaN",
                ..good
            },
            "amt",
        ),
        (
            SourceRow {
                amt: b"inf",
                ..good
            },
            "amt",
        ),
        (
            SourceRow {
                amt: b"1e400",
                ..good
            },
            "amt",
        ),
        (
            SourceRow {
                amt: b"1,5",
                ..good
            },
            "amt",
        ),
        (
            SourceRow {
                unix_time: &long,
                ..good
            },
            "unix_time",
        ),
    ];
    for (row, column) in cases {
        let mut out = b"kept".to_vec();
        let error = encode_json(&row, &mut out).unwrap_err();
        assert_eq!(error.column, column, "{row:?}");
        assert_eq!(out, b"kept");
        assert!(error.to_string().contains(error.wanted));
        assert!(error.value.len() <= 200);
    }
}

#[test]
fn each_kind_of_bad_message_has_its_reason() {
    use RejectReason as R;
    let with = |name: &str, value: &str| {
        let mut object: serde_json::Map<String, Value> = serde_json::from_str(GOOD).unwrap();
        object.insert(name.to_owned(), Value::from("\u{0}here\u{0}"));
        let text = Value::Object(object).to_string();
        text.replace("\"\\u0000here\\u0000\"", value)
    };
    let without = |name: &str| {
        let mut object: serde_json::Map<String, Value> = serde_json::from_str(GOOD).unwrap();
        object.remove(name);
        Value::Object(object).to_string()
    };
    let deep = format!("{}{}", "[".repeat(200_000), "]".repeat(200_000));
    let deep_objects = "{\"a\":".repeat(200_000);
    let wrong_unix = R::WrongType(field::UNIX_TIME);
    let cases: Vec<(String, Option<R>)> = vec![
        (GOOD.into(), None),
        (String::new(), Some(R::EmptyPayload)),
        (" ".into(), Some(R::NotJson)),
        ("nonsense".into(), Some(R::NotJson)),
        (format!("{GOOD}x"), Some(R::NotJson)),
        (format!("{GOOD}{GOOD}"), Some(R::NotJson)),
        (GOOD[..GOOD.len() - 1].into(), Some(R::NotJson)),
        ("[]".into(), Some(R::NotAnObject)),
        ("null".into(), Some(R::NotAnObject)),
        ("12".into(), Some(R::NotAnObject)),
        (deep.clone(), Some(R::NotAnObject)),
        (deep_objects, Some(R::NotJson)),
        (with("more", &deep), None),
        (with("more", "{\"a\":[1,{\"b\":null}]}"), None),
        (
            "{}".into(),
            Some(R::MissingField(field::TRANS_DATE_TRANS_TIME)),
        ),
        (without("user_id"), Some(R::MissingField(field::USER_ID))),
        (
            without("original_amt"),
            Some(R::MissingField(field::ORIGINAL_AMT)),
        ),
        (with("user_id", "null"), Some(R::WrongType(field::USER_ID))),
        (with("user_id", "5"), Some(R::WrongType(field::USER_ID))),
        (with("unix_time", "\"5\""), Some(wrong_unix)),
        (with("unix_time", "5.0"), Some(wrong_unix)),
        (with("unix_time", "9223372036854775808"), Some(wrong_unix)),
        (with("unix_time", "9223372036854775807"), None),
        (with("unix_time", "-9223372036854775808"), None),
        (with("unix_time", "true"), Some(wrong_unix)),
        (with("original_amt", "12"), None),
        (
            with("original_amt", "\"12\""),
            Some(R::WrongType(field::ORIGINAL_AMT)),
        ),
        (with("original_amt", "NaN"), Some(R::NotJson)),
        (with("original_amt", "Infinity"), Some(R::NotJson)),
        (with("original_amt", "1e400"), Some(R::NotJson)),
        (with("merchant", "\"\\ud800\""), Some(R::NotJson)),
        (with("merchant", "\"a\nb\""), Some(R::NotJson)),
        (with("merchant", "\"\\u0000\""), None),
    ];
    for (payload, reason) in cases {
        let shown = &payload[..payload.len().min(300)];
        assert_eq!(append(payload.as_bytes()).err(), reason, "{shown}");
    }
    assert_eq!(append(b"{\"a\":\"\xff\"}").err(), Some(R::InvalidUtf8));
    let twice = format!("{},\"user_id\":\"last\"}}", &GOOD[..GOOD.len() - 1]);
    assert_eq!(text(&append(twice.as_bytes()).unwrap(), "user_id"), "last");
    let mut builders = RowBuilders::with_capacity(1);
    assert_eq!(builders.append(None, 0, 0, 0), Err(R::EmptyPayload));
}
