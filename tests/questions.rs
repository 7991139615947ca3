//! `docs/QUERIES.md`: each command and each statement is run as it stands there, and gives the answer that stands there.
//!
//! Needs Python with the packages of `.ci/requirements.txt`, as `readers.rs` does.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::common::{Lab, not_run, real_kafka};
use crate::readers;
use crate::shell::Done;

/// Questions about the rows that were written by hand.
const BY_HAND: &str = "written by hand";

const DUCKDB: &str = "
import json, sys
import duckdb
database = duckdb.connect()
# Days of 23 and 25 hours, which no answer depends on.
database.execute(\"SET TimeZone = 'America/New_York'\")
for statement in sys.argv[1:]:
    answer = database.execute(statement)
print(json.dumps([[column[0] for column in answer.description], *answer.fetchall()], default=str))
";

/// A section of the document.
struct Question<'a> {
    title: &'a str,
    by_hand: bool,
    command: &'a str,
    answer: &'a str,
    sql: &'a str,
}

/// The text of the first fenced block of that language.
fn block<'a>(text: &'a str, language: &str) -> &'a str {
    let fence = format!("```{language}\n");
    let (_, rest) = text
        .split_once(&fence)
        .unwrap_or_else(|| panic!("no {fence} in {text}"));
    rest.split_once("```").unwrap().0
}

fn questions(document: &str) -> Vec<Question<'_>> {
    let sections = document.split("\n## ").skip(1);
    sections
        .map(|section| Question {
            title: section.lines().next().unwrap(),
            by_hand: section.contains(BY_HAND),
            command: block(section, "sh"),
            answer: block(section, "text"),
            sql: block(section, "sql"),
        })
        .collect()
}

/// Runs a command of the document, with `ftap` being the tested one.
fn paste(lab: &Lab, folder: &Path, command: &str) -> String {
    let binary = Path::new(env!("CARGO_BIN_EXE_ftap")).parent().unwrap();
    let path = std::env::var_os("PATH").unwrap();
    let path = [binary.to_owned()]
        .into_iter()
        .chain(std::env::split_paths(&path));
    let mut pasted = Command::new("sh");
    pasted
        .args(["-c", command])
        .current_dir(folder)
        .env_clear()
        .env("PATH", std::env::join_paths(path).unwrap())
        .env("HOME", lab.path(""));
    Done::from(pasted.output().unwrap()).ends_with(0).stdout
}

/// Header and rows of a table as `ftap query` prints it.
fn cells(table: &str) -> Vec<Vec<&str>> {
    let lines = table.lines().filter(|line| line.starts_with('|'));
    lines
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect()
}

/// DuckDB's cells equal those of the table.
fn assert_same(title: &str, found: &Value, answer: &str) {
    let wanted = cells(answer);
    let found = found.as_array().unwrap();
    assert_eq!(found.len(), wanted.len(), "{title}: {found:?}\n{answer}");
    for (found, wanted) in found.iter().zip(&wanted) {
        let found = found.as_array().unwrap();
        assert_eq!(found.len(), wanted.len(), "{title}: {found:?}\n{answer}");
        for (found, wanted) in found.iter().zip(wanted) {
            let is_same = match found {
                Value::String(text) => text.replace(' ', "T") == wanted.replace(' ', "T"),
                number => number.as_f64() == wanted.parse().ok(),
            };
            assert!(is_same, "{title}: {found}, the answer has {wanted}");
        }
    }
}

#[test]
fn the_document_s_questions_have_its_answers_by_ftap_and_by_duckdb() {
    // The lake is the same on any broker.
    if real_kafka().is_some() {
        return;
    }
    let python = match readers::python() {
        Ok(python) => python,
        Err(why) => return not_run(&why),
    };
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let file = root.join("docs/QUERIES.md");
    let document = std::fs::read_to_string(&file).unwrap();
    let questions = questions(&document);
    assert_eq!(questions.len(), 10);

    // Both lakes are where the statements look for them.
    let mut lab = Lab::new("questions");
    let by_run = lab.path("");
    lab.set("LAKE_DIR", by_run.join("data/lake"));
    lab.set("INGEST_FX_SCHEDULE", "0 0 1 1 *");
    lab.run_until_drained();
    let by_hand: PathBuf = lab.path("by-hand");
    std::fs::create_dir(&by_hand).unwrap();
    let mut make = Command::new(&python);
    make.arg(root.join("tests/dbt/make_lake.py")).args([
        &root.join("tests/data/marts/lake"),
        &by_hand.join("data/lake"),
    ]);
    Done::from(make.output().unwrap()).ends_with(0);

    let view = block(&document, "sql");
    let mut updated = document.clone();
    for question in &questions {
        let (folder, before) = if question.by_hand {
            (&by_hand, None)
        } else {
            (&by_run, Some(view))
        };
        let answer = paste(&lab, folder, question.command);
        let mut ask = Command::new(&python);
        ask.args(["-c", DUCKDB])
            .args(before)
            .arg(question.sql)
            .current_dir(folder);
        let found = Done::from(ask.output().unwrap()).ends_with(0).stdout;
        assert_same(
            question.title,
            &serde_json::from_str(&found).unwrap(),
            &answer,
        );
        let with = |answer| format!("{}```\n\n```text\n{answer}```", question.command);
        updated = updated.replace(&with(question.answer), &with(&answer));
    }
    if std::env::var_os("FTAP_UPDATE_DOCS").is_some() {
        std::fs::write(&file, updated).unwrap();
    } else {
        assert_eq!(
            updated, document,
            "docs/QUERIES.md is out of date: FTAP_UPDATE_DOCS=1 cargo test --workspace --test end_to_end questions"
        );
    }
}
