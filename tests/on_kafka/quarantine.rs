//! Rejected records in the lake (`DEAD_LETTERS=lake`): each once, whole, whatever is killed when, and no
//! dead-letter topic is needed.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use crate::common::dlq::{
    assert_each_once, bad, dlq, drain, good, lines, poison, redrive, redriven_ids, refused,
    repaired, said, write,
};
use crate::common::kafka::{self, OpenTransaction};
use crate::common::process::Ftap;
use crate::common::{Lab, ROWS, wait_until};

/// A topic with the file's rows, and a lake that keeps what is rejected.
fn published(name: &str) -> Lab {
    let mut lab = Lab::shared(name);
    lab.set("DEAD_LETTERS", "lake");
    lab.start(["produce"]).wait_for_success();
    lab
}

fn letters_topic(lab: &Lab) -> String {
    format!("{}.dlq", lab.topic())
}

fn has_letters_topic(lab: &Lab) -> bool {
    kafka::has_topic(lab.broker(), &letters_topic(lab))
}

/// How many objects of dead letters the lake has, and how many files of transactions.
fn objects(lab: &Lab) -> (usize, usize) {
    let is_of = |folder: &str| {
        let folder = lab.path("lake").join(folder);
        let objects = lab.objects().into_iter();
        objects.filter(|object| object.starts_with(&folder)).count()
    };
    (is_of("dead_letters"), is_of("transactions"))
}

/// What is in the lake's folder of dead letters, orphans included: records, and different ones.
fn in_folder(lab: &Lab) -> (u64, u64) {
    let sql = "select count(*) as records, count(distinct concat(_kafka_partition, '-', _kafka_offset)) as places from dead_letters";
    let output = lab.command(["query", "--format", "json", sql]).output();
    let output = output.unwrap();
    assert!(output.status.success(), "{output:?}");
    let row: Value = serde_json::from_slice(&output.stdout).unwrap();
    let figure = |name: &str| row[name].as_u64().unwrap();
    (figure("records"), figure("places"))
}

/// All entries with their payloads, by id.
fn exported(lab: &Lab) -> BTreeMap<String, Value> {
    let entries = lines(lab, &["list", "--state", "all", "--export", "-"]);
    let count = entries.len();
    let entries = entries.into_iter();
    let entries: BTreeMap<_, _> = entries
        .map(|entry| (entry["id"].as_str().unwrap().to_owned(), entry))
        .collect();
    assert_eq!(entries.len(), count, "an entry is there twice");
    entries
}

/// Kills a consumer that hangs at a failpoint.
fn kill_at(lab: &mut Lab, point: &str, is_there: impl Fn(&Lab) -> bool) {
    lab.set("FTAP_FAILPOINTS", format!("{point}=hang@1"));
    let consume = lab.start(["consume"]);
    wait_until(point, || is_there(lab).then_some(()));
    consume.kill();
    lab.set("FTAP_FAILPOINTS", "");
}

#[test]
fn killed_around_the_put_of_rejected_records_each_of_them_is_there_once() {
    let mut lab = Lab::shared("lake-letters-kill");
    lab.set("DEAD_LETTERS", "lake");
    lab.set("STALL_TIMEOUT_SECONDS", "3600");
    lab.set("INGEST_WORKERS", "1");
    lab.set("GCS_FLUSH_SECONDS", "0.5");
    lab.set("KAFKA_PARTITIONS", "1");
    kafka::create_topic(lab.broker(), lab.topic(), 1);
    // Rejected by the first reader only, which takes smaller messages than its successors.
    let padded = good(1).replace('{', &format!("{{{}", " ".repeat(5000)));
    let more = |lab: &Lab, number: usize| {
        let payloads = [
            Some(good(number).into_bytes()),
            Some(bad(number)),
            None,
            Some(bad(number + 1)),
        ];
        kafka::produce(lab.broker(), lab.topic(), 0, &payloads);
    };
    kafka::produce(lab.broker(), lab.topic(), 0, &[Some(padded.into_bytes())]);
    more(&lab, 10);
    lab.set("MAX_MESSAGE_BYTES", "4000");
    // Before the records are put, after that, before the file that lists them, and after that. Each time
    // the topic has more, so that the file of the next reader ends at another offset.
    kill_at(&mut lab, "gcs_uploader.dead_letters_committed", |lab| {
        objects(lab) == (1, 0)
    });
    lab.set("MAX_MESSAGE_BYTES", "1000000");
    assert!(
        said(&lab, &["list", "--json", "--state", "all"]).is_empty(),
        "no file lists them"
    );
    more(&lab, 20);
    kill_at(&mut lab, "gcs_uploader.dead_letters_committed", |lab| {
        objects(lab) == (2, 0)
    });
    more(&lab, 30);
    kill_at(&mut lab, "gcs_uploader", |lab| objects(lab) == (3, 0));
    kill_at(&mut lab, "gcs_uploader.committed", |lab| {
        objects(lab).1 == 1
    });
    more(&lab, 40);
    // Nothing more is in the lake than before: the records are put before the file is.
    lab.set("FTAP_FAILPOINTS", "gcs_uploader.dead_letters=hang@1");
    let before = objects(&lab);
    let consume = lab.start(["consume"]);
    consume.wait_for_event("record_rejected");
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(objects(&lab), before);
    consume.kill();
    lab.set("FTAP_FAILPOINTS", "");
    drain(&lab);

    let verdict = lab.verify();
    for kind in ["no_dead_letter", "dead_letter_differs", "doubled_in_lake"] {
        assert!(!verdict.kinds().contains(&kind), "{verdict}");
    }
    assert_eq!(verdict.total("rejected"), 12, "{verdict}");
    assert_eq!(verdict.total("lake"), 5, "{verdict}");
    let entries = exported(&lab);
    assert_eq!(entries.len(), 12, "{entries:?}");
    for record in kafka::read_all(lab.broker(), lab.topic()) {
        let id = format!("{}-{}", record.partition, record.offset);
        let payload = record
            .payload
            .map(|payload| String::from_utf8(payload).unwrap());
        match entries.get(&id) {
            Some(entry) => assert_eq!(entry["payload"], json!(payload), "{id}"),
            None => assert!(payload.is_some(), "{id}"),
        }
    }
    // What was left by those that were killed is known by the files' lists.
    let (records, places) = in_folder(&lab);
    assert!(records > places && places >= 12, "{records} {places}");
    assert!(!has_letters_topic(&lab));
}

#[test]
fn with_a_topic_that_can_t_be_had_ingest_into_the_lake_continues() {
    let mut lab = published("lake-letters-collides");
    kafka::create_topic(lab.broker(), &format!("{}_dlq", lab.topic()), 1);
    poison(&lab, 9);
    let drained = drain(&lab);
    assert_eq!(
        drained.events("dead_letter_topic_unfit"),
        [] as [Value; 0],
        "it is not asked for"
    );
    let committed = drained.events("dead_letters_committed");
    let records = |event: &Value| event["records"].as_u64().unwrap();
    assert_eq!(committed.iter().map(records).sum::<u64>(), 9);
    let verdict = lab.assert_exact(ROWS);
    assert_eq!(verdict.total("rejected"), 9, "{verdict}");
    assert!(!has_letters_topic(&lab));
    let table = said(&lab, &["list"]);
    assert!(table.contains("all of the lake"), "{table}");

    // Such a record stops ingest as long as only the topic may keep it.
    kafka::produce(lab.broker(), lab.topic(), 0, &[Some(bad(4))]);
    lab.set("DEAD_LETTERS", "topic");
    let (code, said) = lab.start(["consume", "--until-drained"]).wait_for_failure();
    assert_eq!(code, 1);
    assert!(said.contains("DEAD_LETTERS=lake"), "{said}");
    lab.set("DEAD_LETTERS", "lake");
    drain(&lab);
    assert_eq!(lab.assert_exact(ROWS).total("rejected"), 10);
}

#[test]
fn from_the_topic_to_the_lake_and_back_everything_is_counted_and_redriven_once() {
    let mut lab = Lab::shared("lake-letters-switch");
    lab.start(["produce"]).wait_for_success();
    for (place, rejected) in [("topic", 30), ("lake", 60), ("topic", 90)] {
        lab.set("DEAD_LETTERS", place);
        poison(&lab, 30);
        drain(&lab);
        let verdict = lab.assert_exact(ROWS);
        assert_eq!(verdict.total("rejected"), rejected, "{verdict}");
        assert_eq!(exported(&lab).len() as u64, rejected);
    }
    assert_eq!(
        kafka::count(lab.broker(), &letters_topic(&lab)),
        60,
        "the lake has the others"
    );
    assert_eq!(in_folder(&lab), (30, 30));
    let (file, entries) = repaired(&lab);
    assert_eq!(entries.len(), 90);
    let from = ["--from", file.to_str().unwrap()];
    assert_eq!(
        redrive(&lab, &[&from[..], &["--dry-run"]].concat())["redriven"],
        90
    );
    assert_eq!(redrive(&lab, &from)["redriven"], 90);
    let second = redrive(&lab, &from);
    assert_eq!(
        (&second["redriven"], &second["already_redriven"]),
        (&json!(0), &json!(90))
    );
    assert_each_once(&lab, 90);
    // Thirty messages have no mark: the lake has their entries.
    let letters = kafka::read_all(lab.broker(), &letters_topic(&lab));
    assert_eq!(letters.len(), 60 + 60);
    assert_eq!(said(&lab, &["list", "--json"]), "");
    assert_eq!(redrive(&lab, &["--all"])["redriven"], 0);
}

#[test]
fn a_record_of_the_lake_is_whole_with_its_key_and_headers() {
    let lab = published("lake-letters-whole");
    let own = [
        ("traceparent", "00-1-2-01"),
        ("tenant", "a"),
        ("tenant", "b"),
    ];
    kafka::produce_one(lab.broker(), lab.topic(), 1, Some("k"), b"\xff\x00", &own);
    kafka::produce(lab.broker(), lab.topic(), 2, &[None, Some(Vec::new())]);
    drain(&lab);
    let entries = exported(&lab);
    let entries: Vec<_> = entries.values().collect();
    assert_eq!(entries.len(), 3);
    assert_eq!(entries[0]["key"], "k");
    assert_eq!(
        entries[0]["headers"],
        json!(own.map(|(name, value)| json!([name, value])))
    );
    assert_eq!(entries[0]["payload_base64"], "/wA=");
    assert_eq!(entries[1]["payload"], Value::Null);
    assert_eq!(entries[2]["payload"], "");
    let id = entries[0]["id"].as_str().unwrap();
    assert_eq!(dlq(&lab, &["show", "--raw", id]).stdout, b"\xff\x00");
    lab.assert_exact(ROWS);

    let mut entry = entries[0].clone();
    entry["payload"] = json!(good(1));
    entry.as_object_mut().unwrap().remove("payload_base64");
    let file = lab.path("repaired.jsonl");
    write(&file, &[entry]);
    let from = ["--from", file.to_str().unwrap()];
    assert_eq!(redrive(&lab, &from)["redriven"], 1);
    let messages = kafka::read_all(lab.broker(), lab.topic());
    let sent = messages
        .iter()
        .find(|message| message.headers.contains_key("redrive"));
    let sent = sent.unwrap();
    assert_eq!(sent.headers["redrive"], id);
    assert_eq!(sent.headers["traceparent"], "00-1-2-01");
    drain(&lab);
    assert_eq!(lab.assert_exact(ROWS).total("redriven"), 1);
}

#[test]
fn a_redrive_of_the_lake_that_is_killed_continues() {
    let mut lab = published("lake-letters-redrive");
    poison(&lab, 60);
    drain(&lab);
    let (file, _) = repaired(&lab);
    let from = ["--from", file.to_str().unwrap()];
    // Before the second commit, and after another one.
    lab.set("TRANSACTION_ROWS", "20");
    for (point, sent) in [
        ("redrive.commit=hang@2", 20),
        ("redrive.committed=hang@1", 40),
    ] {
        let mut command = lab.command([&["dlq", "redrive"], &from[..]].concat());
        command.env("FTAP_FAILPOINTS", point);
        let run = Ftap::start(command);
        wait_until(point, || (redriven_ids(&lab).len() == sent).then_some(()));
        run.kill();
    }
    let last = redrive(&lab, &from);
    assert_eq!(
        (&last["redriven"], &last["already_redriven"]),
        (&json!(20), &json!(40))
    );
    assert_each_once(&lab, 60);
}

#[test]
fn what_an_open_transaction_hides_is_waited_for_and_not_redriven_again() {
    let mut lab = published("lake-letters-hidden");
    poison(&lab, 120);
    drain(&lab);
    let (file, _) = repaired(&lab);
    lab.set("TRANSACTION_ROWS", "4");
    lab.set("LOG_LEVEL", "DEBUG");
    let args = ["dlq", "redrive", "--from", file.to_str().unwrap()];
    // Another producer's transaction begins in the middle of it, and hides what comes after.
    let first = lab.start(args);
    first.wait_for_event("entries_redriven");
    first.signal(libc::SIGSTOP);
    let foreign = OpenTransaction::begin(lab.broker(), lab.topic(), 3);
    first.signal(libc::SIGCONT);
    first.wait_for_success();
    assert!(redriven_ids(&lab).len() < 120, "nothing is hidden");

    let second = lab.start(args);
    std::thread::sleep(Duration::from_secs(4));
    assert!(!second.has_ended(), "{}", second.tail());
    foreign.abort();
    second.wait_for_success();
    assert_eq!(second.events("entries_redriven"), [] as [Value; 0]);
    assert_each_once(&lab, 120);
}

#[test]
fn what_may_have_been_redriven_beyond_retention_is_left_and_said() {
    let lab = published("lake-letters-expired");
    kafka::produce(lab.broker(), lab.topic(), 0, &vec![Some(bad(4)); 3]);
    drain(&lab);
    let younger = vec![Some(good(99).into_bytes()); 3];
    kafka::produce(lab.broker(), lab.topic(), 0, &younger);
    kafka::produce(lab.broker(), lab.topic(), 1, &[Some(bad(1))]);
    drain(&lab);
    kafka::keep_newest(lab.broker(), lab.topic(), 0, 2);

    let states = lines(&lab, &["list", "--json"]);
    let count = |state: &str| {
        states
            .iter()
            .filter(|entry| entry["state"] == state)
            .count()
    };
    assert_eq!((count("unknown"), count("open")), (3, 1), "{states:?}");
    let table = said(&lab, &["list", "--by-reason"]);
    assert!(
        table.contains("3 of the open ones may have been"),
        "{table}"
    );
    let left = redrive(&lab, &["--all", "--force"]);
    assert_eq!(
        (&left["redriven"], &left["left_unknown"]),
        (&json!(1), &json!(3))
    );
    let unknown = states.iter().find(|entry| entry["state"] == "unknown");
    let id = unknown.unwrap()["id"].as_str().unwrap();
    let named = ["redrive", "--force", "--ids", id];
    assert!(refused(&lab, &named).contains("--unknown sends it"));
    let sent = redrive(&lab, &["--all", "--force", "--unknown"]);
    assert_eq!(sent["redriven"], 3, "{sent}");
    let again = redrive(&lab, &["--all", "--force", "--unknown"]);
    assert_eq!(
        again["redriven"], 0,
        "their messages are there now: {again}"
    );
}

/// Memory of the program itself and of librdkafka's queues, beyond the budget; debug builds are larger
/// than others.
const OVERHEAD_BYTES: u64 = 250 << 20;
/// The least that can be set.
const BUDGET_BYTES: u64 = 16_000_000;

#[test]
fn large_records_are_kept_whole_in_little_memory() {
    let mut lab = Lab::shared("lake-letters-large");
    lab.set("DEAD_LETTERS", "lake");
    lab.set("INGEST_MEMORY_BYTES", BUDGET_BYTES.to_string());
    lab.set("GCS_FLUSH_SECONDS", "600");
    let limit = [("max.message.bytes", "20000000")];
    kafka::create_topic_with(lab.broker(), lab.topic(), 1, &limit);
    // Random, so that they can't be compressed.
    let mut state = 1_u64;
    for number in 0..12 {
        let large = std::iter::repeat_with(|| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 56) as u8
        });
        let large: Vec<u8> = large.take(9_900_000).collect();
        kafka::produce(lab.broker(), lab.topic(), 0, &[Some(large)]);
        kafka::produce(lab.broker(), lab.topic(), 0, &[Some(good(number).into())]);
    }
    let consume = lab.start(["consume", "--until-drained"]);
    let peak = consume.peak_memory_bytes();
    consume.wait_for_success();
    assert!(peak < BUDGET_BYTES + OVERHEAD_BYTES, "{peak} bytes");
    let verdict = lab.verify();
    assert_eq!(verdict.total("rejected"), 12, "{verdict}");
    assert_eq!(verdict.total("lake"), 12, "{verdict}");
    assert_eq!(verdict.total("differing"), 0, "{verdict}");
    let entries = lines(&lab, &["list", "--json"]);
    assert!(
        entries
            .iter()
            .all(|entry| entry["bytes"] == 9_900_000 && entry["truncated"] == false),
        "{entries:?}"
    );
}
