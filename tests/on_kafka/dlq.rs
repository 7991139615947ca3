//! What was rejected is shown to people and programs, and what can't go back is refused.

use std::io::Write;
use std::process::Stdio;

use crate::common::dlq::{
    bad, dlq, drain, good, lines, poisoned, redrive, redriven_ids, refused, repaired, said, write,
};
use crate::common::{Lab, kafka};
use serde_json::{Value, json};

const ESCAPES: &[u8] = b"{\"a\":\"\x1b[2J\x1b]0;pwned\x07\xe2\x80\xae\xc2\x9b31m\xff\r\n\"}";

/// Bytes as if by chance.
fn incompressible(bytes: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 56) as u8
    };
    std::iter::repeat_with(next).take(bytes).collect()
}

#[test]
fn entries_are_listed_counted_and_shown_and_can_not_reach_the_terminal() {
    let lab = poisoned("dlq-list", 12);
    kafka::produce_one(lab.broker(), lab.topic(), 2, Some("k\x1b[1m"), ESCAPES, &[]);
    drain(&lab);

    let open = lines(&lab, &["list", "--json"]);
    assert_eq!(open.len(), 13);
    let times: Vec<_> = open
        .iter()
        .map(|entry| entry["rejected_at"].as_str().unwrap())
        .collect();
    assert!(times.is_sorted_by(|a, b| a >= b), "newest first: {times:?}");
    assert_eq!(open[0]["reason"], "invalid_utf8");
    let newest = open[0]["id"].as_str().unwrap();
    assert_eq!(
        lines(&lab, &["list", "--json", "--limit", "1"])[0]["id"],
        newest
    );
    let filtered = lines(
        &lab,
        &[
            "list",
            "--json",
            "--reason",
            "missing_field",
            "--partition",
            "1",
        ],
    );
    assert!(!filtered.is_empty() && filtered.len() < 4, "{filtered:?}");
    for entry in &filtered {
        assert_eq!(entry["reason"], "missing_field:user_id");
        assert_eq!(entry["partition"], 1);
    }
    let reasons = lines(&lab, &["list", "--by-reason", "--json"]);
    let count = |name: &str| {
        let reason = reasons.iter().find(|reason| reason["reason"] == name);
        reason.map_or(0, |reason| reason["open"].as_u64().unwrap())
    };
    assert_eq!(
        (count("not_json"), count("invalid_utf8")),
        (6, 1),
        "{reasons:?}"
    );
    let table = said(&lab, &["list"]);
    assert!(
        table.contains(newest) && table.contains("missing_field:user_id"),
        "{table}"
    );
    let total = format!("       13          0  {:>9}  all of", "");
    let total = total.split_whitespace().collect::<Vec<_>>();
    assert!(
        table
            .lines()
            .any(|line| line.trim_start().starts_with(total[0])),
        "{table}"
    );

    let shown = said(&lab, &["show", newest]);
    assert!(
        shown.contains(r#"{"a":"\u{1b}[2J\u{1b}]0;pwned\u{7}\u{202e}\u{9b}31m\xff\r\n"}"#),
        "{shown}"
    );
    assert!(shown.contains(r"key       k\u{1b}[1m"), "{shown}");
    for text in [
        shown,
        table,
        said(&lab, &["show", "--json", newest]),
        said(&lab, &["list", "--export", "-"]),
    ] {
        assert!(
            text.chars()
                .all(|char| char == '\n' || !char.is_control() && char != '\u{202e}'),
            "{text:?}"
        );
    }
    assert_eq!(dlq(&lab, &["show", "--raw", newest]).stdout, ESCAPES);

    let place = |entry: &Value| {
        let (partition, offset) = entry["id"].as_str().unwrap().split_once('-').unwrap();
        (
            partition.parse::<i32>().unwrap(),
            offset.parse::<i64>().unwrap(),
        )
    };
    let exported = lines(&lab, &["list", "--export", "-"]);
    assert!(exported.is_sorted_by_key(place), "{exported:?}");

    // What is exported and not touched holds the same bytes.
    let file = lab.path("all.jsonl");
    let file = file.to_str().unwrap();
    said(&lab, &["list", "--export", file]);
    assert!(refused(&lab, &["list", "--export", file]).contains("name a new file"));
    let again = redrive(&lab, &["--from", file, "--force", "--dry-run"]);
    assert_eq!(again["redriven"], 13);
}

#[test]
fn without_a_quarantine_the_list_is_empty_and_an_id_is_unknown() {
    let lab = Lab::shared("no-dlq");
    assert!(said(&lab, &["list"]).contains("no dead letters were found"));
    assert_eq!(said(&lab, &["list", "--json"]), "");
    assert!(refused(&lab, &["show", "0-1"]).contains("no dead letters were found"));
    lab.start(["produce"]).wait_for_success();
    assert_eq!(redrive(&lab, &["--all"])["redriven"], 0);
    assert!(said(&lab, &["redrive", "--all"]).contains("nothing to redrive"));
    assert!(refused(&lab, &["redrive", "--ids", "0-1"]).contains("no dead letters were found"));
}

#[test]
fn a_file_with_anything_wrong_is_refused_whole_with_line_and_reason() {
    let lab = poisoned("dlq-refused", 9);
    let (_, entries) = repaired(&lab);
    let file = lab.path("wrong.jsonl");
    let from = ["redrive", "--from", file.to_str().unwrap()];
    let with = |change: &dyn Fn(&mut Vec<Value>)| {
        let mut lines = entries.clone();
        change(&mut lines);
        write(&file, &lines);
        refused(&lab, &from)
    };
    let said = with(&|lines| {
        lines[1]["payload"] = json!("{}");
        lines[3]["payload"] = json!(good(1).replace("0,\"orig", "\"0\",\"orig"));
    });
    assert!(
        said.contains("line 2: ") && said.contains("missing_field:trans_date_trans_time"),
        "{said}"
    );
    assert!(
        said.contains("line 4: ") && said.contains("wrong_type:is_fraud"),
        "{said}"
    );
    let said = with(&|lines| lines[2]["id"] = json!("2-999999"));
    assert!(
        said.contains("line 3: 2-999999: there is no such entry"),
        "{said}"
    );
    let said = with(&|lines| {
        let mut other = lines[0].clone();
        other["payload"] = json!(good(4711));
        lines.push(other);
    });
    assert!(
        said.contains("line 10: ") && said.contains("with another payload"),
        "{said}"
    );
    let said = with(&|lines| lines[8] = json!({"id": "0"}));
    assert!(said.contains("line 9: "), "{said}");
    assert!(redriven_ids(&lab).is_empty(), "nothing of them is sent");

    assert!(refused(&lab, &["redrive", "--ids", "0-0"]).contains("0-0: there is no such entry"));
    let own = entries[0]["id"].as_str().unwrap();
    assert!(refused(&lab, &["redrive", "--ids", own]).contains("would be rejected again"));
    refused(&lab, &["redrive"]);
    refused(&lab, &["redrive", "--all", "--ids", own]);
    refused(&lab, &["show", "x"]);

    // By stdin, with a line that repeats another one.
    let mut command = lab.command(["dlq", "redrive", "--from", "-", "--json"]);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    writeln!(input, "{}\n\n{}", entries[0], entries[0]).unwrap();
    drop(input);
    let output = child.wait_with_output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["entries"]["redriven"], 1);
    assert_eq!(report["entries"]["repeated_lines"], 1);
}

#[test]
fn what_the_lake_does_not_list_as_rejected_is_not_sent() {
    let lab = poisoned("dlq-unsettled", 3);
    let letters = format!("{}.dlq", lab.topic());
    kafka::produce(lab.broker(), lab.topic(), 0, &[Some(good(1).into_bytes())]);
    drain(&lab);
    let newest = kafka::read_all(lab.broker(), lab.topic())
        .iter()
        .filter(|message| message.partition == 0)
        .map(|message| message.offset)
        .max()
        .unwrap();
    // An entry of a reader that was killed before its file was written: the next one made a row
    // of the record. And one whose record is not in the lake yet.
    for offset in [newest, newest + 1] {
        let id = format!("0-{offset}");
        let text = offset.to_string();
        let headers = [
            ("partition", "0"),
            ("offset", &text),
            ("reason", "not_json"),
        ];
        kafka::produce_one(
            lab.broker(),
            &letters,
            0,
            Some(&id),
            good(1).as_bytes(),
            &headers,
        );
    }
    let (row, open) = (format!("0-{newest}"), format!("0-{}", newest + 1));
    let all = redrive(&lab, &["--all"]);
    assert_eq!(all["redriven"], 0, "{all}");
    assert_eq!(all["rows_of_the_lake"], 1, "{all}");
    assert_eq!(all["left_unsettled"], 1, "{all}");
    assert_eq!(all["left_invalid"], 3, "{all}");
    assert_eq!(redrive(&lab, &["--ids", &row])["rows_of_the_lake"], 1);
    let said = refused(&lab, &["redrive", "--ids", &open]);
    assert!(said.contains("no file of the lake covers it yet"), "{said}");
    assert!(redriven_ids(&lab).is_empty());
}

#[test]
fn an_entry_counts_once_and_one_that_was_cut_does_not_go_back_unchanged() {
    let lab = poisoned("dlq-cut", 6);
    let (file, mut entries) = repaired(&lab);
    let letters = format!("{}.dlq", lab.topic());
    let again = |index: usize, extra: &[(&str, &str)]| {
        let id = entries[index]["id"].as_str().unwrap();
        let (partition, offset) = id.split_once('-').unwrap();
        let reason = entries[index]["reason"].as_str().unwrap();
        let own = [
            ("partition", partition),
            ("offset", offset),
            ("reason", reason),
        ];
        let headers = [&own[..], extra].concat();
        let payload = dlq(&lab, &["show", "--raw", id]).stdout;
        // Any partition: the key tells.
        for dlq_partition in 0..2 {
            kafka::produce_one(
                lab.broker(),
                &letters,
                dlq_partition,
                Some(id),
                &payload,
                &headers,
            );
        }
        id.to_owned()
    };
    // Rejected again after a crash, and one of which only the beginning fitted.
    again(0, &[]);
    let cut = again(1, &[("truncated", "true")]);
    assert_eq!(lines(&lab, &["list", "--json"]).len(), 6);
    lab.verify().assert_exact();

    let said = refused(&lab, &["redrive", "--force", "--ids", &cut]);
    assert!(said.contains("only the beginning"), "{said}");
    let exported = lines(&lab, &["list", "--export", "-"]);
    let unchanged = exported
        .iter()
        .find(|line| line["id"] == cut.as_str())
        .unwrap();
    assert_eq!(unchanged["truncated"], true);
    let whole = std::mem::replace(&mut entries[1], unchanged.clone());
    write(&file, &entries);
    let from = ["redrive", "--force", "--from", file.to_str().unwrap()];
    assert!(refused(&lab, &from).contains("only the beginning"));
    entries[1] = whole;
    write(&file, &entries);
    assert_eq!(redrive(&lab, &from[2..])["redriven"], 6);
    drain(&lab);
    let verdict = lab.verify();
    verdict.assert_exact();
    assert_eq!(verdict.total("redriven"), 6, "{verdict}");
}

#[test]
fn headers_of_a_rejected_message_are_kept_shown_and_sent_back() {
    let lab = Lab::shared("dlq-headers");
    kafka::create_topic(lab.broker(), lab.topic(), 3);
    let own = [
        ("traceparent", "00-1-2-01"),
        ("tenant", "a"),
        ("tenant", "b"),
        ("reason", "theirs"),
    ];
    kafka::produce_one(lab.broker(), lab.topic(), 1, Some("k"), b"{}", &own);
    drain(&lab);

    let entries = lines(&lab, &["list", "--export", "-"]);
    let headers = own.map(|(name, value)| json!([name, value]));
    assert_eq!(entries[0]["headers"], json!(headers));
    // People see the record's own, and none of ours, which say where it was and why.
    let shown = said(&lab, &["show", "1-0"]);
    let shown: Vec<_> = shown
        .lines()
        .filter(|line| line.starts_with("header"))
        .collect();
    let wanted = own.map(|(name, value)| format!("header    {name}: {value}"));
    assert_eq!(shown, wanted);
    assert_ne!(entries[0]["reason"], "theirs");
    let mut entry = entries[0].clone();
    entry["payload"] = json!(good(1));
    let file = lab.path("repaired.jsonl");
    write(&file, &[entry]);
    assert_eq!(
        redrive(&lab, &["--from", file.to_str().unwrap()])["redriven"],
        1
    );
    let messages = kafka::read_all(lab.broker(), lab.topic());
    let sent = messages.iter().find(|message| message.offset == 1).unwrap();
    assert_eq!(sent.headers["traceparent"], "00-1-2-01");
    assert_eq!(sent.headers["redrive"], "1-0");
    drain(&lab);
    let verdict = lab.verify();
    assert_eq!(verdict.total("redriven"), 1, "{verdict}");
    assert_eq!(verdict.total("lake"), 1, "{verdict}");
}

#[test]
fn a_row_and_a_source_of_another_program_are_no_marks_of_ours() {
    let lab = Lab::shared("dlq-foreign");
    lab.start(["produce", "--rows", "100"]).wait_for_success();
    let foreign = [("row", "12"), ("source", "mobile-app")];
    kafka::produce_one(
        lab.broker(),
        lab.topic(),
        1,
        None,
        good(7).as_bytes(),
        &foreign,
    );
    lab.start(["produce"]).wait_for_success();
    drain(&lab);
    let verdict = lab.verify();
    verdict.assert_exact();
    assert_eq!(verdict.total("foreign"), 1, "{verdict}");
}

#[test]
fn what_the_dead_letter_topic_refuses_as_too_large_is_kept_in_part_beside_good_rows() {
    let mut lab = Lab::shared("dlq-small");
    lab.set(
        "KAFKA_DEAD_LETTER_TOPIC",
        format!("{}-rejected", lab.topic()),
    );
    kafka::create_topic(lab.broker(), lab.topic(), 1);
    let letters = format!("{}-rejected", lab.topic());
    let limit = [("max.message.bytes", "20000")];
    kafka::create_topic_with(lab.broker(), &letters, 1, &limit);
    let large = incompressible(300_000);
    let rows = [
        Some(good(1).into_bytes()),
        Some(large.clone()),
        Some(bad(4)),
        Some(good(2).into_bytes()),
    ];
    kafka::produce(lab.broker(), lab.topic(), 0, &rows);
    let drained = drain(&lab);
    let unfit = drained.events("dead_letter_topic_unfit");
    assert_eq!(unfit.len(), 1, "{unfit:?}");
    let error = unfit[0]["error"].as_str().unwrap();
    assert!(error.contains("records of 20000 bytes"), "{error}");

    let entries = lines(&lab, &["list", "--json", "--state", "all"]);
    assert_eq!(entries.len(), 2, "{entries:?}");
    let kept = dlq(&lab, &["show", "--raw", "0-1"]).stdout;
    assert_eq!(kept, large[..4 << 10]);
    assert_eq!(dlq(&lab, &["show", "--raw", "0-2"]).stdout, bad(4));
    let verdict = lab.verify();
    assert_eq!(verdict.total("differing"), 0, "{verdict}");
    assert_eq!(verdict.total("rejected"), 2, "{verdict}");
    assert_eq!(verdict.total("lake"), 2, "{verdict}");
}

#[test]
fn headers_that_the_dead_letter_topic_does_not_take_go_into_the_lake() {
    let mut lab = Lab::shared("dlq-headers");
    let letters = format!("{}-rejected", lab.topic());
    lab.set("KAFKA_DEAD_LETTER_TOPIC", &letters);
    kafka::create_topic(lab.broker(), lab.topic(), 1);
    let limit = [("max.message.bytes", "2000")];
    kafka::create_topic_with(lab.broker(), &letters, 1, &limit);
    let large: String = incompressible(100_000)
        .iter()
        .map(|byte| char::from(b' ' + byte % 64))
        .collect();
    kafka::produce_one(
        lab.broker(),
        lab.topic(),
        0,
        None,
        &bad(4),
        &[("h", &large)],
    );
    let (code, said) = lab.start(["consume", "--until-drained"]).wait_for_failure();
    assert_eq!(code, 1, "{said}");
    for part in [letters.as_str(), "headers", "DEAD_LETTERS=lake"] {
        assert!(said.contains(part), "no {part} in {said}");
    }
    lab.set("DEAD_LETTERS", "lake");
    drain(&lab);
    let kept = lines(&lab, &["show", "--json", "0-0"]);
    assert_eq!(kept[0]["headers"], json!([["h", large]]));
    assert_eq!(lab.verify().total("rejected"), 1);
}

#[test]
fn a_dead_letter_topic_that_can_t_be_created_is_reported_before_a_record_needs_it() {
    let mut lab = Lab::shared("dlq-collides");
    let other = format!("{}_dlq", lab.topic());
    kafka::create_topic(lab.broker(), &other, 1);
    lab.set("TRANSACTION_ROWS", "1000");
    lab.start(["produce"]).wait_for_success();
    let drained = drain(&lab);
    let unfit = drained.events("dead_letter_topic_unfit");
    assert_eq!(unfit.len(), 1, "{unfit:?}");
    let error = unfit[0]["error"].as_str().unwrap();
    let words = format!("collides with existing topic: {other}");
    assert!(error.contains(&words), "{error}");
    let remedy = unfit[0]["remedy"].as_str().unwrap();
    assert!(remedy.contains("KAFKA_DEAD_LETTER_TOPIC"), "{remedy}");
    assert!(
        remedy.contains("ingest stops at the first record"),
        "{remedy}"
    );
    // Nothing was created, and nothing is lost.
    assert!(!kafka::has_topic(
        lab.broker(),
        &format!("{}.dlq", lab.topic())
    ));
    kafka::produce(lab.broker(), lab.topic(), 0, &[Some(bad(4))]);
    let (code, said) = lab.start(["consume", "--until-drained"]).wait_for_failure();
    assert_eq!(code, 1, "{said}");
    assert!(said.contains(&words), "{said}");
    lab.set(
        "KAFKA_DEAD_LETTER_TOPIC",
        format!("{}-rejected", lab.topic()),
    );
    drain(&lab);
    assert_eq!(lab.verify().total("rejected"), 1);
}

#[test]
fn verify_names_the_dead_letter_topic_in_which_it_looked_in_vain() {
    let mut lab = Lab::shared("dlq-renamed");
    lab.set("TRANSACTION_ROWS", "1000");
    lab.start(["produce"]).wait_for_success();
    kafka::produce(lab.broker(), lab.topic(), 0, &[Some(bad(4))]);
    drain(&lab);
    let before = lab.verify();
    before.assert_exact();
    assert!(
        !before.report["notes"].to_string().contains("looked for"),
        "{before}"
    );

    let other = format!("{}-other", lab.topic());
    lab.set("KAFKA_DEAD_LETTER_TOPIC", &other);
    let listed = said(&lab, &["list"]);
    assert!(
        listed.contains(&other) && listed.contains("set KAFKA_DEAD_LETTER_TOPIC"),
        "{listed}"
    );
    for ending in [", which does not exist", ""] {
        let verdict = lab.verify();
        assert_eq!(verdict.code, 3, "{verdict}");
        assert_eq!(verdict.kinds(), ["no_dead_letter"], "{verdict}");
        assert_eq!(verdict.report["dead_letter_topic"], other.as_str());
        let said = format!("the dead-letter topic {other}{ending}: if");
        assert!(
            verdict.report["notes"].to_string().contains(&said),
            "{verdict}"
        );
        if !kafka::has_topic(lab.broker(), &other) {
            kafka::create_topic(lab.broker(), &other, 1);
        }
    }
}
