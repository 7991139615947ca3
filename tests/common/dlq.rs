//! Bad messages, and `ftap dlq` about them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::{Value, json};

use super::process::Ftap;
use super::{Lab, ROWS, kafka};

/// A transaction, distinguished by its number.
pub(crate) fn good(number: usize) -> String {
    format!(
        r#"{{"trans_date_trans_time":"2019-01-01 00:00:18","user_id":"u","merchant":"m","category":"c","trans_num":"n{number}","unix_time":1325376018,"is_fraud":0,"original_amt":4.97,"currency":"EUR"}}"#
    )
}

/// The same, spoilt in one of several ways.
pub(crate) fn bad(number: usize) -> Vec<u8> {
    let good = good(number);
    let bad = match number % 4 {
        0 => good[..good.len() - 1].to_owned(),
        1 => good.replace("1325376018", "\"1325376018\""),
        2 => good.replace("\"user_id\":\"u\",", ""),
        _ => good.replace("4.97", "NaN"),
    };
    bad.into_bytes()
}

/// Writes so many bad messages to the topic, spread over its three partitions.
pub(crate) fn poison(lab: &Lab, messages: usize) {
    for partition in 0..3 {
        let share = (0..messages).filter(|number| number % 3 == partition);
        let payloads: Vec<_> = share.map(|number| Some(bad(number))).collect();
        kafka::produce(lab.broker(), lab.topic(), partition as i32, &payloads);
    }
}

/// A topic and a lake with the file's rows and so many bad messages.
pub(crate) fn poisoned(name: &str, messages: usize) -> Lab {
    let lab = Lab::shared(name);
    lab.start(["produce"]).wait_for_success();
    poison(&lab, messages);
    drain(&lab);
    lab
}

/// Brings all of the topic into the lake.
pub(crate) fn drain(lab: &Lab) -> Ftap {
    let drained = lab.start(["consume", "--until-drained"]);
    drained.wait_for_success();
    drained
}

/// Runs `ftap dlq`.
pub(crate) fn dlq(lab: &Lab, args: &[&str]) -> Output {
    lab.command(["dlq"].iter().chain(args)).output().unwrap()
}

/// What it prints; it has to end well.
pub(crate) fn said(lab: &Lab, args: &[&str]) -> String {
    let output = dlq(lab, args);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{args:?} {}: {errors}",
        output.status
    );
    String::from_utf8(output.stdout).unwrap()
}

/// The same as JSON lines.
pub(crate) fn lines(lab: &Lab, args: &[&str]) -> Vec<Value> {
    parsed(&said(lab, args))
}

fn parsed(text: &str) -> Vec<Value> {
    let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
    lines.collect()
}

/// What it says to its user when it refuses as bad usage.
pub(crate) fn refused(lab: &Lab, args: &[&str]) -> String {
    let output = dlq(lab, args);
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{args:?}: {errors}");
    errors
}

/// Exports what is open and repairs it: the file to redrive, and its lines.
pub(crate) fn repaired(lab: &Lab) -> (PathBuf, Vec<Value>) {
    let export = lab.path("open.jsonl");
    said(lab, &["list", "--export", export.to_str().unwrap()]);
    let mut entries = parsed(&std::fs::read_to_string(&export).unwrap());
    for entry in &mut entries {
        let payload = entry["payload"].as_str().unwrap();
        let number = payload.split("\"trans_num\":\"n").nth(1).unwrap();
        let number = number.split('"').next().unwrap().parse().unwrap();
        entry["payload"] = json!(good(number));
    }
    let file = lab.path("repaired.jsonl");
    write(&file, &entries);
    (file, entries)
}

/// Writes JSON lines.
pub(crate) fn write(file: &Path, lines: &[Value]) {
    let lines: Vec<_> = lines.iter().map(Value::to_string).collect();
    std::fs::write(file, lines.join("\n")).unwrap();
}

/// What `ftap dlq redrive` says of its entries.
pub(crate) fn redrive(lab: &Lab, args: &[&str]) -> Value {
    let args = [&["redrive", "--json"], args].concat();
    lines(lab, &args)[0]["entries"].clone()
}

/// How often the topic has a message for each entry.
pub(crate) fn redriven_ids(lab: &Lab) -> BTreeMap<String, usize> {
    let mut ids = BTreeMap::new();
    for message in kafka::read_all(lab.broker(), lab.topic()) {
        if let Some(id) = message.headers.get("redrive") {
            assert!(!message.headers.contains_key("row"), "{message:?}");
            let partition = format!("{}-", message.partition);
            assert!(id.starts_with(&partition), "{message:?}");
            *ids.entry(id.clone()).or_default() += 1;
        }
    }
    ids
}

/// All of the file and so many rejected, repaired and redriven messages are there once.
pub(crate) fn assert_each_once(lab: &Lab, messages: usize) {
    drain(lab);
    let verdict = lab.verify();
    verdict.assert_exact();
    let messages = messages as u64;
    assert_eq!(verdict.total("file"), ROWS, "{verdict}");
    assert_eq!(verdict.total("redriven"), messages, "{verdict}");
    assert_eq!(verdict.total("rejected"), messages, "{verdict}");
    assert_eq!(verdict.total("foreign"), messages, "{verdict}");
    assert_eq!(verdict.total("lake"), ROWS + messages, "{verdict}");
    let ids = redriven_ids(lab);
    assert_eq!(ids.len() as u64, messages);
    assert!(ids.values().all(|count| *count == 1), "{ids:?}");
}
