//! What an earlier version wrote is read, and continued: see `tests/data/state-0.1.0`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use crate::common::Lab;
use crate::common::changes::{self, assert_same_table, lake};
use crate::common::cluster::Postgres;
use crate::common::dlq::{good, lines, redrive, write};
use crate::common::fx_api::{FxApi, Reply};
use crate::common::warehouse::Warehouse;

const STATE: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/data/state-0.1.0/state.tar.gz"
);
const SCHEMA: &str = include_str!("../init/01_schema.sql");

/// Rows of the events file.
const FILE_ROWS: u64 = 300;
/// Rows of it in the topic and in the lake.
const PUBLISHED: u64 = 200;

/// Unpacks the earlier version's DATA_DIR; its lake becomes the other folder.
fn unpack(data: &Path, lake: &Path) {
    std::fs::create_dir_all(data).unwrap();
    let mut tar = Command::new("tar");
    tar.arg("-xzf").arg(STATE).arg("-C").arg(data);
    assert!(tar.status().unwrap().success());
    std::fs::rename(data.join("lake"), lake).unwrap();
}

/// A laboratory with that DATA_DIR, and the names that it was written with.
fn earlier(name: &str) -> Lab {
    let mut lab = Lab::new(name).without_broker();
    let data = lab.path("data");
    unpack(&data, &lab.path("lake"));
    lab.set("KAFKA_TOPIC", "transactions");
    lab.set("KAFKA_CONSUMER_GROUP", "transactions-consumer-group");
    lab.set(
        "EVENTS_FILE",
        data.join("prepared/credit_card_transactions_events.csv"),
    );
    lab
}

/// The bytes of every file in a folder.
fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(contents(&path));
        } else {
            let bytes = std::fs::read(&path).unwrap();
            found.insert(path, bytes);
        }
    }
    found
}

/// Everything that was in the lake is still there, byte for byte.
fn assert_kept(lab: &Lab, before: &BTreeMap<PathBuf, Vec<u8>>) {
    let after = contents(lake(lab));
    assert!(after.len() > before.len(), "nothing was added");
    for (path, bytes) in before {
        let kept = after.get(path);
        assert!(kept == Some(bytes), "{} was altered", path.display());
    }
}

#[test]
fn the_topic_the_lake_and_the_dead_letters_are_verified_and_continued() {
    let lab = earlier("compatibility");
    let before = contents(lake(&lab));

    let verdict = lab.verify();
    assert_eq!(verdict.kinds(), ["row_missing_from_topic"], "{verdict}");
    for (figure, expected) in [
        ("file", FILE_ROWS),
        ("topic", PUBLISHED + 4),
        ("lake", PUBLISHED + 1),
        ("rejected", 3),
        ("redriven", 1),
        ("foreign", 3),
        ("missing", FILE_ROWS - PUBLISHED),
        ("doubled", 0),
        ("differing", 0),
    ] {
        assert_eq!(verdict.total(figure), expected, "{figure}: {verdict}");
    }
    let entries = lines(&lab, &["list", "--json", "--state", "all"]);
    let mut entries: Vec<_> = entries
        .iter()
        .map(|entry| json!([entry["id"], entry["reason"], entry["state"]]))
        .collect();
    entries.sort_by_key(ToString::to_string);
    assert_eq!(
        entries,
        [
            json!(["0-36", "not_json", "open"]),
            json!(["1-46", "not_json", "redriven"]),
            json!(["2-41", "missing_field:user_id", "open"]),
        ]
    );

    let mut run = lab.run_until_drained();
    let resumed = run.wait_for_event("publish_resumed");
    // The first row that a partition's tail does not rule out.
    assert_eq!(resumed["first_row"], 196);
    let started = run.wait_for_events("partition_started", 3);
    assert!(
        started.iter().all(|start| start["from"] == "lake_end"),
        "{started:?}"
    );
    assert_eq!(run.summary()["rows_published"], FILE_ROWS - PUBLISHED);
    lab.assert_exact(FILE_ROWS);

    // A message that the earlier version put aside, repaired.
    let file = lab.path("repaired.jsonl");
    write(&file, &[json!({"id": "2-41", "payload": good(1)})]);
    let sent = redrive(&lab, &["--from", file.to_str().unwrap()]);
    assert_eq!(sent["redriven"], 1, "{sent}");
    lab.run_until_drained();
    let verdict = lab.assert_exact(FILE_ROWS);
    assert_eq!(verdict.total("redriven"), 2, "{verdict}");
    assert_eq!(verdict.total("lake"), FILE_ROWS + 2, "{verdict}");
    assert_kept(&lab, &before);
}

#[test]
fn days_with_rates_are_not_asked_for_again() {
    let api = FxApi::start(Reply::Rates);
    let mut lab = earlier("compatibility-fx");
    lab.set("FREECURRENCYAPI_API_KEY", "fca_live_canary_41d7");
    lab.set("FX_API_URL", &api.url);
    let before = contents(lake(&lab));
    lab.start(["fx", "--date", "2024-01-01", "--to", "2024-01-03"])
        .wait_for_success();
    assert_eq!(api.requests(), Vec::<String>::new());
    lab.start(["fx", "--date", "2024-01-03", "--to", "2024-01-04"])
        .wait_for_success();
    assert_eq!(api.requests().len(), 1);
    assert_kept(&lab, &before);
    assert_eq!(contents(lake(&lab)).len(), before.len() + 1);
}

#[test]
fn the_changes_of_a_replaced_server_are_kept_and_followed_by_a_new_snapshot() {
    let Some(postgres) = Postgres::start() else {
        return;
    };
    postgres.sql(SCHEMA);
    let mut lab = earlier("compatibility-changes");
    postgres.use_in(&mut lab);
    lab.set("CDC_FLUSH_SECONDS", "0.3");
    let before = contents(lake(&lab));
    let merchants = changes::replay(&changes::read(lake(&lab), "merchants"), "merchant");
    assert_eq!(merchants.len(), 299);
    let users = changes::replay(&changes::read(lake(&lab), "users"), "user_id");
    assert_eq!(users.len(), 299);

    // The server that the footers name is no longer there.
    let (code, said) = lab.start(["cdc"]).wait_for_failure();
    assert_eq!(code, 1, "{said}");
    for expected in ["7713385336675261491", "`ftap cdc --resnapshot`"] {
        assert!(said.contains(expected), "{expected}: {said}");
    }
    assert_eq!(contents(lake(&lab)), before);

    lab.start(["batch", "--once", "users"]).wait_for_success();
    let capture = lab.start(["cdc", "--resnapshot", "--until-drained"]);
    let taken = capture.wait_for_event("changes_snapshot_taken");
    assert_eq!(taken["epoch"], 2);
    capture.wait_for_success();
    postgres.sql("UPDATE users SET zip = zip + 1");
    changes::catch_up(&lab);
    assert_same_table(&postgres, lake(&lab), "users", "user_id");
    assert_same_table(&postgres, lake(&lab), "merchants", "merchant");
    assert_kept(&lab, &before);
}

#[test]
fn a_load_into_bigquery_is_continued_under_its_own_job_id_and_then_not_repeated() {
    let folder = tempfile::tempdir().unwrap();
    let bucket = folder.path().join("bucket");
    unpack(&folder.path().join("data"), &bucket);
    // As if the earlier version had been killed before its jobs ended: the server here is empty.
    let manifests = contents(&bucket.join("bigquery"));
    let ends = || {
        let names = manifests.keys();
        names.filter(|path| path.to_str().unwrap().ends_with(".done.json"))
    };
    assert_eq!(ends().count(), 4);
    for end in ends() {
        std::fs::remove_file(end).unwrap();
    }
    let warehouse = Warehouse::in_folder("compatibility", &bucket);
    let loaded = warehouse.load();
    let counts = |objects, rows| json!({"objects": objects, "rows": rows});
    assert_eq!(loaded["transactions"], counts(10, 201));
    assert_eq!(loaded["fx_rates"], counts(3, 12));
    assert_eq!(loaded["users_changes"], counts(5, 355));
    assert_eq!(loaded["merchants_changes"], counts(3, 302));
    assert_eq!(contents(&bucket.join("bigquery")), manifests);

    // The table gets the column that files of the earlier version lack.
    let has_rate_time = || {
        let table = warehouse.bigquery.table("fx_rates").unwrap();
        let fields = table["schema"]["fields"].as_array().unwrap().clone();
        fields.iter().any(|field| {
            (&field["name"], &field["type"]) == (&json!("rate_time"), &json!("TIMESTAMP"))
        })
    };
    assert!(!has_rate_time());
    warehouse.write_fx("2024-01-03", "2024-01-04");
    let loaded = warehouse.load();
    assert!(has_rate_time());
    assert_eq!(loaded["transactions"], counts(0, 0));
    assert_eq!(loaded["fx_rates"], counts(1, 4));
    assert_eq!(warehouse.bigquery.rows("transactions"), PUBLISHED + 1);
    assert_eq!(warehouse.bigquery.rows("fx_rates"), 16);
    warehouse.assert_loaded_once("fx_rates");
}
