//! The models in `dbt/`, built by dbt on DuckDB and by `ftap models`: on a lake of a few rows that were worked out by hand, on that of
//! a run, and on lakes that its tests must refuse. `tests/dbt/expected.py` computes every table in plain Python.
//!
//! Needs Python with the packages of `.ci/requirements.txt`, as `readers.rs` does.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::common::postgres::open_to_all;
use crate::common::{Lab, not_run, real_kafka};
use crate::readers;
use crate::shell::Done;

const PROBE: &str =
    "from importlib.metadata import version; version('dbt-core'), version('dbt-duckdb')";

/// Python with dbt; `None`, which is reported, where there is none.
pub(crate) struct Python(String);

impl Python {
    pub(crate) fn with_dbt() -> Option<Self> {
        let found = readers::python().and_then(|python| {
            let probe = Command::new(&python).args(["-c", PROBE]).output();
            if probe.is_ok_and(|output| output.status.success()) {
                return Ok(Self(python));
            }
            Err(format!(
                "{python} lacks dbt-core or dbt-duckdb: pip install -r .ci/requirements.txt"
            ))
        });
        found.inspect_err(|why| not_run(why)).ok()
    }

    /// Runs a script of `tests/dbt/` and returns what it prints.
    pub(crate) fn run<'a>(&self, script: &str, args: impl IntoIterator<Item = &'a Path>) -> String {
        let output = Command::new(&self.0)
            .arg(repository("tests/dbt").join(script))
            .args(args)
            .env_remove("FTAP_DBT_TARGET")
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .output()
            .unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{script}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs `dbt build` on the lake in each folder.
    fn build(&self, folders: &[&Path]) -> Vec<Built> {
        let project = repository("dbt");
        let printed = self.run(
            "build.py",
            [project.as_path()]
                .into_iter()
                .chain(folders.iter().copied()),
        );
        let reports = printed.lines().last().unwrap();
        let reports: Vec<Value> = serde_json::from_str(reports).unwrap();
        reports.into_iter().map(Built).collect()
    }

    /// Compares each table with what plain Python computes, and with files.
    fn assert_right(&self, folder: &Path, files: Option<&Path>) {
        let (lake, marts) = (folder.join("lake"), folder.join("marts.duckdb"));
        self.run(
            "compare.py",
            [lake.as_path(), &marts].into_iter().chain(files),
        );
        let models = folder.join("models");
        ftap(&lake, &["models", "run", "--out", models.to_str().unwrap()]).ends_with(0);
        self.run(
            "in_process.py",
            [lake.as_path(), &models].into_iter().chain(files),
        );
    }

    /// Makes the lake of the hand-checked rows; `change` may change a file's text, or leave the file out.
    pub(crate) fn make_lake(&self, folder: &Path, change: impl Fn(&str, String) -> Option<String>) {
        let rows = folder.join("rows");
        std::fs::create_dir_all(&rows).unwrap();
        for file in std::fs::read_dir(repository("tests/data/marts/lake")).unwrap() {
            let file = file.unwrap();
            let name = file.file_name().into_string().unwrap();
            if let Some(text) = change(&name, std::fs::read_to_string(file.path()).unwrap()) {
                std::fs::write(rows.join(name), text).unwrap();
            }
        }
        self.run("make_lake.py", [rows.as_path(), &folder.join("lake")]);
    }
}

/// Runs `ftap` on a lake.
fn ftap(lake: &Path, args: &[&str]) -> Done {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ftap"));
    command.args(args).env("LAKE_DIR", lake);
    Done::from(command.output().unwrap())
}

/// What a build reports.
#[derive(Debug)]
struct Built(Value);

impl Built {
    fn texts(&self, field: &str) -> Vec<&str> {
        let texts = self.0[field].as_array().unwrap().iter();
        texts.map(|text| text.as_str().unwrap()).collect()
    }

    fn assert_succeeded(&self) {
        assert_eq!(self.0["error"], Value::Null, "{self:?}");
        assert_eq!(self.texts("failed"), [""; 0], "{self:?}");
    }
}

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

#[test]
fn the_models_give_what_was_worked_out_by_hand_and_refuse_what_is_wrong() {
    let Some(python) = Python::with_dbt() else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let folder = |name: &str| dir.path().join(name);
    let by_hand = folder("by_hand");
    python.make_lake(&by_hand, |_, text| Some(text));
    let only_transactions = folder("only_transactions");
    python.make_lake(&only_transactions, |name, text| {
        name.starts_with("transactions").then_some(text)
    });
    let empty = folder("empty");
    std::fs::create_dir(&empty).unwrap();
    let sent_twice = folder("sent_twice");
    python.make_lake(&sent_twice, |name, text| {
        let again = match name {
            "transactions.csv" => text.lines().nth(1).unwrap().replace(",0,7,", ",0,17,") + "\n",
            _ => String::new(),
        };
        Some(text + &again)
    });
    let unknown_user = folder("unknown_user");
    python.make_lake(&unknown_user, |name, text| {
        let is_kept = |line: &&str| name != "users_changes.csv" || !line.starts_with("bob,");
        let lines = text.lines().filter(is_kept);
        Some(lines.map(|line| format!("{line}\n")).collect())
    });

    let folders = [
        &by_hand,
        &only_transactions,
        &empty,
        &sent_twice,
        &unknown_user,
    ];
    let built = python.build(&folders.map(PathBuf::as_path));
    let [
        by_hand_built,
        only_transactions_built,
        empty_built,
        sent_twice_built,
        unknown_user_built,
    ] = &built[..]
    else {
        panic!("{built:?}");
    };

    by_hand_built.assert_succeeded();
    // The same tests in process.
    let tested = ftap(&by_hand.join("lake"), &["models", "test"]).ends_with(0);
    let summary = tested.stdout.lines().last().unwrap();
    assert!(
        summary.ends_with(", 1 warned, 0 failed"),
        "{}",
        tested.stdout
    );
    // It has one transaction in a currency without rates.
    let without_rate = ["not_null_fct_transactions_amount_usd"];
    assert_eq!(by_hand_built.texts("warned"), without_rate);
    let files = repository("tests/data/marts/expected");
    python.assert_right(&by_hand, Some(&files));

    // No amounts in US dollars, and no segments.
    only_transactions_built.assert_succeeded();
    assert_eq!(only_transactions_built.texts("warned"), without_rate);
    let log = only_transactions_built.texts("log");
    for missing in ["fx_rates", "users_changes", "merchants_changes"] {
        let named = |line: &&str| line.contains(&format!("lake/{missing}/"));
        assert_eq!(log.iter().filter(|line| named(line)).count(), 1, "{log:?}");
    }
    python.assert_right(&only_transactions, None);

    let error = empty_built.0["error"].as_str().unwrap_or_default();
    assert!(error.contains("set FTAP_LAKE"), "{empty_built:?}");
    assert_eq!(
        sent_twice_built.texts("failed"),
        ["unique_stg_transactions_transaction_id"]
    );
    let tested = ftap(&sent_twice.join("lake"), &["models", "test"]).ends_with(1);
    let failed = "FAILED: stg_transactions unique transaction_id: 1 rows";
    assert!(tested.stdout.contains(failed), "{}", tested.stdout);
    let [failed] = unknown_user_built.texts("failed")[..] else {
        panic!("{unknown_user_built:?}");
    };
    let rule = "accepted_values_fct_transactions_user_version_rule";
    assert!(failed.starts_with(rule), "{failed}");
}

#[test]
fn the_models_give_the_same_as_plain_python_on_the_lake_of_a_run() {
    // The lake is the same on any broker.
    if real_kafka().is_some() {
        return;
    }
    let Some(python) = Python::with_dbt() else {
        return;
    };
    let mut lab = Lab::new("dbt");
    open_to_all(&lab.path(""));
    lab.set("POSTGRES", "on");
    // Now, and the rates of each day of the events.
    lab.set("INGEST_FX_SCHEDULE", "0 0 1 1 *");
    lab.set("UPDATE_USERS_SCHEDULE", "* * * * * *");
    lab.set("UPDATE_PERCENTAGE", "0.05");
    let run = lab.start(["run"]);
    run.wait_for_event("publish_finished");
    // A drained run does not wait for these.
    run.wait_for_event("changes_snapshot_taken");
    run.wait_for_events("users_updated", 2);
    run.signal(libc::SIGTERM);
    run.wait_for_success();
    lab.run_until_drained();
    let [built] = &python.build(&[&lab.path("")])[..] else {
        panic!("one folder, one result");
    };
    built.assert_succeeded();
    assert_eq!(built.texts("warned"), [""; 0]);
    // Nothing is missing in such a lake.
    assert_eq!(built.texts("log"), [""; 0]);
    python.assert_right(&lab.path(""), None);
}
