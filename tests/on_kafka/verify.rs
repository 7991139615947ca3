//! `ftap verify` finds what was taken from the lake, put into it or altered in it, and names it.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::common;
use crate::common::lake_file::rewrite;
use crate::common::{Lab, ROWS};
use arrow_array::RecordBatch;
use arrow_array::cast::AsArray as _;
use arrow_array::types::TimestampMicrosecondType;
use serde_json::{Value, json};

/// A lake of many objects that is exact.
fn filled(name: &str) -> (Lab, Vec<Value>) {
    let mut lab = Lab::new(name);
    lab.set("FILE_MAX_ROWS", "1000");
    lab.set("GCS_FLUSH_SECONDS", "60");
    let run = lab.run_until_drained();
    let committed = run.events("file_committed");
    assert!(committed.len() > 10, "{committed:?}");
    lab.assert_exact(ROWS);
    (lab, committed)
}

fn path_of(lab: &Lab, file: &Value) -> PathBuf {
    lab.path("lake").join(file["key"].as_str().unwrap())
}

/// Name of an object of the same partition and day that starts elsewhere.
fn key_from(file: &Value, first_offset: i64) -> String {
    let key = file["key"].as_str().unwrap();
    let (start, _) = key.rsplit_once('-').unwrap();
    format!("{start}-{first_offset:020}.parquet")
}

#[test]
fn a_deleted_object_is_missing_with_its_exact_offsets() {
    let (lab, committed) = filled("deleted");
    // Not the last one of its partition, which would look like records that have not been read yet.
    let file = committed
        .iter()
        .find(|file| {
            committed.iter().any(|other| {
                other["partition"] == file["partition"]
                    && other["first_offset"].as_i64() > file["last_offset"].as_i64()
            })
        })
        .unwrap();
    std::fs::remove_file(path_of(&lab, file)).unwrap();

    let verdict = lab.verify();
    assert_eq!(verdict.code, 3, "{verdict}");
    assert_eq!(verdict.kinds(), ["missing_from_lake"], "{verdict}");
    let problem = verdict.problems("missing_from_lake")[0];
    assert_eq!(problem["partition"], file["partition"]);
    assert_eq!(problem["count"], file["rows"]);
    let offsets = json!([[file["first_offset"], file["last_offset"]]]);
    assert_eq!(problem["ranges"], offsets);

    let table = lab.command(["verify"]).output().unwrap();
    assert_eq!(table.status.code(), Some(3));
    let table = String::from_utf8(table.stdout).unwrap();
    let said = format!(
        "records missing from the lake, partition {}",
        file["partition"]
    );
    assert!(
        table.contains(&said) && table.contains("NOT exact"),
        "{table}"
    );
}

#[test]
fn an_event_time_other_than_its_text_is_named_and_a_file_without_the_column_is_whole() {
    let (lab, committed) = filled("event-time");
    let (shifted, older) = (&committed[0], &committed[1]);
    // As earlier versions wrote it.
    rewrite(&path_of(&lab, older), |mut batch| {
        let at = batch.schema().index_of("event_time").unwrap();
        batch.remove_column(at);
        batch
    });
    lab.assert_exact(ROWS);

    rewrite(&path_of(&lab, shifted), |batch| {
        let at = batch.schema().index_of("event_time").unwrap();
        let mut columns = batch.columns().to_vec();
        let times = columns[at].as_primitive::<TimestampMicrosecondType>();
        let times = times.unary::<_, TimestampMicrosecondType>(|time| time + 1);
        columns[at] = Arc::new(times.with_timezone("UTC"));
        RecordBatch::try_new(batch.schema(), columns).unwrap()
    });
    let verdict = lab.verify();
    assert_eq!(verdict.code, 3, "{verdict}");
    assert_eq!(verdict.kinds(), ["object_contradicts_itself"], "{verdict}");
    let problem = verdict.problems("object_contradicts_itself")[0];
    assert_eq!(problem["object"], shifted["key"]);
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("event_time differs at offset"), "{detail}");
}

#[test]
fn an_object_copied_under_the_next_name_is_named_with_the_doubled_offsets() {
    let (lab, committed) = filled("copied");
    let partition = &committed[0]["partition"];
    let file = committed
        .iter()
        .filter(|file| &file["partition"] == partition)
        .max_by_key(|file| file["last_offset"].as_i64())
        .unwrap();
    let copy = key_from(file, file["last_offset"].as_i64().unwrap() + 1);
    std::fs::copy(path_of(&lab, file), lab.path("lake").join(&copy)).unwrap();

    let verdict = lab.verify();
    assert_eq!(verdict.code, 3, "{verdict}");
    let doubled = verdict.problems("doubled_in_lake");
    assert_eq!(doubled.len(), 1, "{verdict}");
    assert_eq!(doubled[0]["object"], json!(copy));
    assert_eq!(doubled[0]["ranges"][0][0], file["first_offset"]);
    assert_eq!(
        verdict.total("doubled"),
        file["rows"].as_u64().unwrap(),
        "{verdict}"
    );
    let contradicts = verdict.problems("object_contradicts_itself");
    assert_eq!(contradicts.len(), 1, "{verdict}");
    assert_eq!(contradicts[0]["object"], json!(copy));
}

#[test]
fn a_copy_under_any_other_name_is_named_as_well() {
    let (lab, committed) = filled("stray");
    let stray = "transactions/backup/old.parquet";
    std::fs::create_dir(lab.path("lake/transactions/backup")).unwrap();
    std::fs::copy(path_of(&lab, &committed[3]), lab.path("lake").join(stray)).unwrap();

    let verdict = lab.verify();
    assert_eq!(verdict.code, 3, "{verdict}");
    assert_eq!(verdict.problems("stray_object")[0]["object"], stray);
    assert_eq!(verdict.problems("doubled_in_lake")[0]["object"], stray);
}

#[test]
fn one_object_in_place_of_another_is_missing_and_doubled() {
    let (lab, committed) = filled("swapped");
    let (kept, lost) = (&committed[2], &committed[5]);
    std::fs::copy(path_of(&lab, kept), path_of(&lab, lost)).unwrap();

    let verdict = lab.verify();
    assert_eq!(verdict.code, 3, "{verdict}");
    assert_eq!(
        verdict.total("doubled"),
        kept["rows"].as_u64().unwrap(),
        "{verdict}"
    );
    assert_eq!(
        verdict.total("missing"),
        lost["rows"].as_u64().unwrap(),
        "{verdict}"
    );
}

#[test]
fn rows_that_were_not_published_are_missing_by_number() {
    let lab = Lab::new("unpublished");
    lab.start(["run", "--until-drained", "--rows", "15000"])
        .wait_for_success();
    let verdict = lab.verify();
    assert_eq!(verdict.code, 3, "{verdict}");
    assert_eq!(verdict.kinds(), ["row_missing_from_topic"], "{verdict}");
    assert_eq!(verdict.total("missing"), ROWS - 15_000, "{verdict}");
    let verdict =
        common::verdict::Verdict::of(lab.command(["verify", "--json", "--rows", "15000"]));
    verdict.assert_exact();
}

#[test]
fn damaged_objects_are_named_and_their_rows_are_missing() {
    let (lab, committed) = filled("damaged");
    // One of them the last of its partition, whose records must not look unread.
    let last = committed.iter().filter(|file| file["partition"] == 0);
    let last = last
        .max_by_key(|file| file["first_offset"].as_i64())
        .unwrap();
    let mut others = committed.iter().filter(|file| file["key"] != last["key"]);
    let damaged = [last, others.next_back().unwrap()];
    for file in damaged {
        let path = path_of(&lab, file);
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    }
    let verdict = lab.verify();
    assert_eq!(verdict.code, 3, "{verdict}");
    let rows: u64 = damaged
        .iter()
        .map(|file| file["rows"].as_u64().unwrap())
        .sum();
    assert_eq!(verdict.total("missing"), rows, "{verdict}");
    assert_eq!(
        verdict.kinds(),
        ["missing_from_lake", "unreadable_object"],
        "one remedy: {verdict}"
    );
    let named = verdict.problems("unreadable_object");
    for file in damaged {
        assert!(
            named.iter().any(|problem| problem["object"] == file["key"]),
            "{verdict}"
        );
    }
}

#[test]
fn what_can_not_be_read_is_an_error_that_names_it() {
    let (mut lab, _) = filled("unreadable");

    let events = lab.get("EVENTS_FILE").to_owned();
    lab.set("EVENTS_FILE", "/nonexistent/events.csv");
    let verdict = lab.verify();
    assert_eq!(verdict.code, 1, "{verdict}");
    assert!(
        verdict.stderr.contains("/nonexistent/events.csv"),
        "{verdict}"
    );
    lab.set("EVENTS_FILE", events);

    lab.set("KAFKA_TOPIC", "no-such-topic");
    let verdict = lab.verify();
    assert_eq!(verdict.code, 1, "{verdict}");
    assert!(verdict.stderr.contains("no-such-topic"), "{verdict}");

    let closed = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let mut command = lab.command(["verify", "--json"]);
    command.env("KAFKA_BROKER", closed.to_string());
    let verdict = common::verdict::Verdict::of(command);
    assert_eq!(verdict.code, 1, "{verdict}");
    assert!(verdict.stderr.contains(&closed.to_string()), "{verdict}");
}

#[test]
fn a_data_directory_that_can_not_be_written_is_verified_all_the_same() {
    if !common::privileges::can_drop_override() {
        return;
    }
    let lab = Lab::new("read-only").without_broker();
    lab.run_until_drained();
    let places = [lab.path("data"), lab.path("lake")];
    places.iter().for_each(|place| set_writable(place, false));
    let mut command = lab.command(["verify", "--json"]);
    common::privileges::drop_override(&mut command);
    let verdict = common::verdict::Verdict::of(command);
    places.iter().for_each(|place| set_writable(place, true));
    verdict.assert_exact();
    assert_eq!(verdict.total("file"), ROWS, "{verdict}");
    let copied = verdict
        .stderr
        .lines()
        .find(|line| line.contains("broker_data_copied"));
    let copied: Value = serde_json::from_str(copied.expect("it says what it does")).unwrap();
    let copy = PathBuf::from(copied["copy"].as_str().unwrap());
    assert!(!copy.exists(), "the copy is removed: {copied}");
}

/// Takes the permission to write from all below a folder, or gives it to the owner.
fn set_writable(path: &Path, writable: bool) {
    let metadata = path.metadata().unwrap();
    let mode = metadata.permissions().mode();
    let mode = if writable {
        mode | 0o200
    } else {
        mode & !0o222
    };
    std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    if metadata.is_dir() {
        for entry in std::fs::read_dir(path).unwrap() {
            set_writable(&entry.unwrap().path(), writable);
        }
    }
}

#[test]
fn the_report_for_programs_has_every_note_of_the_text() {
    let mut lab = Lab::new("notes");
    let mut rows = std::fs::read_to_string(lab.get("EVENTS_FILE")).unwrap();
    rows.push_str("not a row\n");
    std::fs::write(lab.path("events.csv"), rows).unwrap();
    lab.set("EVENTS_FILE", lab.path("events.csv"));
    lab.run_until_drained();
    let text = lab.command(["verify"]).output().unwrap();
    let text = String::from_utf8(text.stdout).unwrap();
    let of_text: Vec<_> = text
        .lines()
        .filter_map(|line| line.strip_prefix("note: "))
        .collect();
    assert_eq!(of_text.len(), 1, "{text}");
    assert!(of_text[0].contains("broken rows of the file"), "{text}");
    let verdict = lab.verify();
    assert_eq!(verdict.report["notes"], json!(of_text), "{verdict}");
}
