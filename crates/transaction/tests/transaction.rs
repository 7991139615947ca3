//! A row keeps its meaning from the CSV through JSON into Arrow, and nothing else becomes
//! a row.
#![allow(clippy::unwrap_used)]

mod transaction_model;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type, TimestampMillisecondType};
use chrono::SecondsFormat;
use ftap_transaction::{
    Currency, RejectReason, RowBuilders, SourceRow, currency_of, encode_json, field, schema,
};
use proptest::prelude::*;
use serde_json::Value;
use transaction_model::{
    GOOD, Row, agrees_with_model, amount, append, event_time, good_fields, integer, json, mutated,
    reshaped, rows, text,
};

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
        let schema = batch.schema();
        prop_assert_eq!(schema.field(12).name(), "event_time");
        let event_time = event_time(&batch).to_rfc3339_opts(SecondsFormat::Secs, true);
        prop_assert_eq!(event_time, format!("{}Z", row.date.replace(' ', "T")));
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
fn a_message_has_exactly_the_documented_form() {
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

/// A good row with one column of another value.
fn row_with<'a>(column: &str, value: &'a [u8]) -> SourceRow<'a> {
    let mut row = SourceRow {
        trans_date_trans_time: b"2019-01-01 00:00:18",
        user_id: b"u",
        merchant: b"m",
        category: b"c",
        amt: b"1.00",
        trans_num: b"n",
        unix_time: b"1",
        is_fraud: b"0",
    };
    let field = match column {
        "trans_date_trans_time" => &mut row.trans_date_trans_time,
        "user_id" => &mut row.user_id,
        "merchant" => &mut row.merchant,
        "category" => &mut row.category,
        "amt" => &mut row.amt,
        "trans_num" => &mut row.trans_num,
        "unix_time" => &mut row.unix_time,
        "is_fraud" => &mut row.is_fraud,
        other => panic!("there is no column {other}"),
    };
    *field = value;
    row
}

#[test]
fn a_broken_source_row_names_its_column_and_leaves_nothing() {
    let long = [b'9'; 500];
    let cases: [(&str, &[u8]); 21] = [
        ("trans_date_trans_time", b"2019-13-01 00:00:18"),
        ("trans_date_trans_time", b"2019-02-29 00:00:18"),
        ("trans_date_trans_time", b"01.01.2019 00:00:18"),
        ("trans_date_trans_time", b""),
        ("user_id", b""),
        ("merchant", b"caf\xe9"),
        ("category", b"\xff"),
        ("trans_num", b"\xed\xa0\x80"),
        ("unix_time", b"9223372036854775808"),
        ("unix_time", b"1.0"),
        ("unix_time", b"-"),
        ("is_fraud", b"2"),
        ("is_fraud", b""),
        ("amt", b""),
        ("amt", b"."),
        ("amt", b"1.2.3"),
        ("amt", b"NaN"),
        ("amt", b"inf"),
        ("amt", b"1e400"),
        ("amt", b"1,5"),
        ("unix_time", &long),
    ];
    for (column, value) in cases {
        let row = row_with(column, value);
        let mut out = b"kept".to_vec();
        let error = encode_json(&row, &mut out).unwrap_err();
        assert_eq!(error.column, column, "{row:?}");
        assert_eq!(out, b"kept");
        assert!(error.to_string().contains(error.wanted));
        assert!(error.value.len() <= 200);
    }
}

/// A good message but for one field.
fn with(name: &str, value: &str) -> String {
    let mut fields = good_fields();
    match fields.iter_mut().find(|field| field.0 == name) {
        Some(field) => field.1 = value.to_owned(),
        None => fields.push((name.to_owned(), value.to_owned())),
    }
    json(&fields)
}

/// By the quick parser and by the general one.
fn assert_reason(payload: &str, reason: Option<RejectReason>) {
    let shown = &payload[..payload.len().min(300)];
    assert_eq!(append(payload.as_bytes()).err(), reason, "{shown}");
    // A blank keeps the quick parser from it.
    let blank = format!("{payload} ");
    if !payload.is_empty() {
        assert_eq!(append(blank.as_bytes()).err(), reason, "{shown}");
    }
}

#[test]
fn a_text_is_not_blank_and_has_no_zero_byte() {
    for name in [field::MERCHANT, field::CATEGORY, field::USER_ID] {
        for good in ["\"\\u0001\"", "\" c\"", "\"\u{a0}c\""] {
            assert_reason(&with(name, good), None);
        }
        for bad in ["\"\"", "\"  \"", "\" \u{a0}\"", "\"\\t\"", "\"c\\u0000\""] {
            assert_reason(&with(name, bad), Some(RejectReason::WrongValue(name)));
        }
    }
}

#[test]
fn each_kind_of_bad_message_has_its_reason() {
    use RejectReason as R;
    let without = |name: &str| {
        let mut fields = good_fields();
        fields.retain(|field| field.0 != name);
        json(&fields)
    };
    let deep = format!("{}{}", "[".repeat(200_000), "]".repeat(200_000));
    let deep_objects = "{\"a\":".repeat(200_000);
    let wrong_unix = R::WrongType(field::UNIX_TIME);
    let wrong_time = R::WrongValue(field::TRANS_DATE_TRANS_TIME);
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
        (with("unix_time", "-0"), Some(wrong_unix)),
        (with("unix_time", "007"), Some(R::NotJson)),
        (with("original_amt", "007.5"), Some(R::NotJson)),
        (with("original_amt", "7."), Some(R::NotJson)),
        (with("original_amt", "-"), Some(R::NotJson)),
        (with("original_amt", "+7"), Some(R::NotJson)),
        (with("original_amt", "-0.0"), None),
        (with("unix_time", "true"), Some(wrong_unix)),
        (
            with("trans_date_trans_time", "\"yesterday\""),
            Some(wrong_time),
        ),
        (
            with("trans_date_trans_time", "\"2019-02-29 00:00:00\""),
            Some(wrong_time),
        ),
        (
            with("trans_date_trans_time", "\"2020-02-29 23:59:59\""),
            None,
        ),
        (with("is_fraud", "1"), None),
        (with("is_fraud", "2"), Some(R::WrongValue(field::IS_FRAUD))),
        (with("is_fraud", "-1"), Some(R::WrongValue(field::IS_FRAUD))),
        (with("currency", "\"XTS\""), None),
        (
            with("currency", "\"eur\""),
            Some(R::WrongValue(field::CURRENCY)),
        ),
        (
            with("currency", "\"\""),
            Some(R::WrongValue(field::CURRENCY)),
        ),
        (with("currency", "1"), Some(R::WrongType(field::CURRENCY))),
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
        (with("original_amt", "-4.97"), None),
    ];
    for (payload, reason) in cases {
        assert_reason(&payload, reason);
    }
    assert_eq!(json(&good_fields()), GOOD, "in the quick parser's form");
    assert_eq!(append(b"{\"a\":\"\xff\"}").err(), Some(R::InvalidUtf8));
    let twice = format!("{},\"user_id\":\"last\"}}", &GOOD[..GOOD.len() - 1]);
    assert_eq!(text(&append(twice.as_bytes()).unwrap(), "user_id"), "last");
    let mut builders = RowBuilders::with_capacity(1);
    assert_eq!(builders.append(None, 0, 0, 0), Err(R::EmptyPayload));
}
