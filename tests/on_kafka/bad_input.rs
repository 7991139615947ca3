//! What is wrong with the input is named, kept and accounted for; what is good goes through.

use std::collections::HashMap;

use crate::common;
use crate::common::{Lab, ROWS, kafka, make_events};

const GOOD: &str = r#"{"trans_date_trans_time":"2019-01-01 00:00:18","user_id":"u","merchant":"m","category":"c","trans_num":"n","unix_time":1325376018,"is_fraud":0,"original_amt":4.97,"currency":"EUR"}"#;

/// Payloads and the reason each is refused for; `None` for one that is a row.
fn poison() -> Vec<(Option<Vec<u8>>, Option<&'static str>)> {
    let altered = |from: &str, to: &str| {
        let text = GOOD.replacen(from, to, 1);
        assert_ne!(text, GOOD);
        Some(text.into_bytes())
    };
    let text = |text: &str| Some(text.as_bytes().to_vec());
    let mut no_utf8 = GOOD.as_bytes().to_vec();
    no_utf8[30] = 0xff;
    let padding = " ".repeat(2_000_000);
    vec![
        (text("not json"), Some("not_json")),
        (text(&GOOD[..60]), Some("not_json")),
        (text("[1, 2]"), Some("not_an_object")),
        (text("42"), Some("not_an_object")),
        (text("null"), Some("not_an_object")),
        (
            altered(r#""user_id":"u","#, ""),
            Some("missing_field:user_id"),
        ),
        (text("{}"), Some("missing_field:trans_date_trans_time")),
        (
            altered("1325376018", "\"1325376018\""),
            Some("wrong_type:unix_time"),
        ),
        (altered("1325376018", "13.5"), Some("wrong_type:unix_time")),
        (altered("\"m\"", "null"), Some("wrong_type:merchant")),
        (
            altered("\"is_fraud\":0", "\"is_fraud\":true"),
            Some("wrong_type:is_fraud"),
        ),
        (
            altered("2019-01-01 00:00:18", "yesterday"),
            Some("wrong_value:trans_date_trans_time"),
        ),
        (
            altered("\"is_fraud\":0", "\"is_fraud\":2"),
            Some("wrong_value:is_fraud"),
        ),
        (altered("\"m\"", "\" \""), Some("wrong_value:merchant")),
        (altered("EUR", "euro"), Some("wrong_value:currency")),
        (altered("4.97", "NaN"), Some("not_json")),
        (altered("4.97", "1e999"), Some("not_json")),
        (Some(no_utf8), Some("invalid_utf8")),
        (text(""), Some("empty_payload")),
        (None, Some("empty_payload")),
        (altered("{", &format!("{{{padding}")), Some("too_large")),
        (altered("{", r#"{"unknown":{"deep":[1,2]},"#), None),
        (
            altered(
                r#""category":"c","trans_num":"n""#,
                r#""trans_num":"n" , "category":"c""#,
            ),
            None,
        ),
        (text(GOOD), None),
    ]
}

#[test]
fn poison_goes_to_the_dead_letter_topic_with_its_reason_and_the_rest_continues() {
    let lab = Lab::shared("poison");
    lab.start(["produce"]).wait_for_success();
    let poison = poison();
    let payloads: Vec<_> = poison.iter().map(|(payload, _)| payload.clone()).collect();
    kafka::produce(lab.broker(), lab.topic(), 1, &payloads);
    let consumer = lab.start(["consume", "--until-drained"]);
    consumer.wait_for_success();

    let verdict = lab.verify();
    verdict.assert_exact();
    let refused: Vec<_> = poison
        .iter()
        .filter(|(_, reason)| reason.is_some())
        .collect();
    assert_eq!(verdict.total("rejected"), refused.len() as u64, "{verdict}");
    let good = (poison.len() - refused.len()) as u64;
    assert_eq!(verdict.total("lake"), ROWS + good, "{verdict}");
    assert_eq!(verdict.total("foreign"), poison.len() as u64, "{verdict}");

    // Whatever was refused is there again, byte for byte, under the offset it came from.
    let mut records = kafka::read_all(lab.broker(), lab.topic());
    records.retain(|record| {
        let mut sent = poison.iter().map(|(payload, _)| payload);
        record.partition == 1 && sent.any(|payload| *payload == record.payload)
    });
    records.sort_by_key(|record| record.offset);
    assert_eq!(records.len(), poison.len());
    let letters = kafka::read_all(lab.broker(), &format!("{}.dlq", lab.topic()));
    let letters: HashMap<_, _> = letters
        .iter()
        .map(|letter| (letter.headers["offset"].clone(), letter))
        .collect();
    assert_eq!(letters.len(), refused.len());
    for (record, (payload, reason)) in records.iter().zip(&poison) {
        let letter = letters.get(&record.offset.to_string());
        assert_eq!(
            letter.map(|letter| letter.headers["reason"].as_str()),
            *reason
        );
        if let Some(letter) = letter {
            assert_eq!(letter.headers["partition"], "1");
            let (kept, sent) = (&letter.payload, payload);
            assert_eq!(
                kept.clone().unwrap_or_default(),
                sent.clone().unwrap_or_default()
            );
        }
    }
}

#[test]
fn broken_rows_of_the_file_are_passed_over_and_counted() {
    let mut lab = Lab::new("broken-rows");
    let text = std::fs::read_to_string(common::events_file()).unwrap();
    let mut lines: Vec<&str> = text.lines().take(1001).collect();
    let broken = lines[500].replace(';', ",");
    lines[500] = &broken;
    lines[700] = "2019-13-01 00:00:00;u;m;c;1;n;1;0";
    let file = lab.path("broken.csv");
    std::fs::write(&file, lines.join("\n")).unwrap();
    lab.set("EVENTS_FILE", &file);
    lab.run_until_drained();
    let verdict = lab.assert_exact(998);
    assert_eq!(verdict.report["source"]["rows"], 1000);
    assert_eq!(
        verdict.report["source"]["broken_rows"].to_string(),
        "[[499,499],[699,699]]"
    );
}

#[test]
fn another_events_file_for_the_same_topic_is_refused_and_harms_nothing() {
    let mut lab = Lab::new("other-file");
    let file = lab.get("EVENTS_FILE").to_owned();
    lab.run_until_drained();
    lab.set("EVENTS_FILE", make_events(1000, 2));
    let (code, said) = lab.start(["run", "--until-drained"]).wait_for_failure();
    assert_eq!(code, 1, "{said}");
    assert!(
        said.contains("another events file") && said.contains(lab.topic()),
        "{said}"
    );
    lab.set("EVENTS_FILE", file);
    lab.assert_exact(ROWS);
}

#[test]
fn a_changed_partition_count_is_refused_and_harms_nothing() {
    let lab = Lab::shared("partitions");
    lab.start(["produce"]).wait_for_success();
    kafka::add_partitions(lab.broker(), lab.topic(), 5);
    let (code, said) = lab.start(["produce"]).wait_for_failure();
    assert_eq!(code, 1, "{said}");
    assert!(
        said.contains("5 partitions") && said.contains("had 3"),
        "{said}"
    );
    lab.start(["consume", "--until-drained"]).wait_for_success();
    lab.assert_exact(ROWS);
}

#[test]
fn a_topic_with_foreign_messages_is_refused_and_keeps_them() {
    let lab = Lab::shared("foreign");
    kafka::create_topic(lab.broker(), lab.topic(), 3);
    let foreign = vec![Some(GOOD.as_bytes().to_vec()); 3];
    kafka::produce(lab.broker(), lab.topic(), 0, &foreign);
    let (code, said) = lab.start(["produce"]).wait_for_failure();
    assert_eq!(code, 1, "{said}");
    assert!(
        said.contains("foreign messages") && said.contains(lab.topic()),
        "{said}"
    );
    assert_eq!(kafka::read_all(lab.broker(), lab.topic()).len(), 3);
}

/// Deletes the topic and recreates it, empty.
fn remake_topic(lab: &Lab) {
    kafka::delete_topic(lab.broker(), lab.topic());
    common::wait_until("the topic to be gone", || {
        (!kafka::has_topic(lab.broker(), lab.topic())).then_some(())
    });
    kafka::create_topic(lab.broker(), lab.topic(), 3);
}

#[test]
fn a_recreated_topic_that_has_outgrown_the_lake_is_refused_by_its_records() {
    let mut lab = Lab::shared("outgrown");
    let file = lab.get("EVENTS_FILE").to_owned();
    lab.set("EVENTS_FILE", make_events(1000, 2));
    lab.start(["produce"]).wait_for_success();
    lab.start(["consume", "--until-drained"]).wait_for_success();
    let objects = lab.objects();
    remake_topic(&lab);
    lab.set("EVENTS_FILE", file);
    lab.start(["produce"]).wait_for_success();
    let (code, said) = lab.start(["consume", "--until-drained"]).wait_for_failure();
    assert_eq!(code, 1, "{said}");
    assert!(
        said.contains("deleted and created again") && said.contains("fingerprint"),
        "{said}"
    );
    assert_eq!(lab.objects(), objects);
}

#[test]
fn a_lake_that_lost_its_newest_object_is_reported_and_another_group_refills_it() {
    let mut lab = Lab::shared("lost-object");
    lab.set("FILE_MAX_ROWS", "2000");
    lab.start(["produce"]).wait_for_success();
    let run = lab.start(["consume", "--until-drained"]);
    run.wait_for_success();
    let newest = run
        .events("file_committed")
        .into_iter()
        .filter(|file| file["partition"] == 0)
        .max_by_key(|file| file["first_offset"].as_i64())
        .unwrap();
    std::fs::remove_file(lab.path("lake").join(newest["key"].as_str().unwrap())).unwrap();

    let run = lab.start(["consume", "--until-drained"]);
    let (code, said) = run.wait_for_failure();
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("KAFKA_CONSUMER_GROUP"), "{said}");
    let skipped = run.events("offsets_skipped");
    assert_eq!(skipped.len(), 1, "{skipped:?}");
    assert_eq!(skipped[0]["first_offset"], newest["first_offset"]);

    lab.set("KAFKA_CONSUMER_GROUP", format!("{}-again", lab.topic()));
    lab.start(["consume", "--until-drained"]).wait_for_success();
    lab.assert_exact(ROWS);
}

#[test]
fn a_topic_that_was_deleted_and_recreated_is_refused_and_the_lake_stays() {
    let mut lab = Lab::shared("remade");
    lab.start(["produce"]).wait_for_success();
    lab.start(["consume", "--until-drained"]).wait_for_success();
    let objects = lab.objects();
    remake_topic(&lab);
    lab.set("EVENTS_FILE", make_events(1000, 2));
    lab.start(["produce"]).wait_for_success();
    let (code, said) = lab.start(["consume", "--until-drained"]).wait_for_failure();
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("deleted and created again"), "{said}");
    assert_eq!(lab.objects(), objects);
    let verdict = lab.verify();
    assert_eq!(verdict.code, 3, "{verdict}");
    assert!(verdict.kinds().contains(&"beyond_topic_end"), "{verdict}");
}
