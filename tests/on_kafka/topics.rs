//! Topics that are deleted, recreated, enlarged, shortened or share a lake with others.

use std::path::Path;
use std::time::Duration;

use crate::common;
use crate::common::process::Ftap;
use crate::common::{Lab, ROWS, dlq, kafka, make_events};
use ftap_lake::{Compression, FileBuilder, FileSettings};
use serde_json::Value;

fn wait_for_rows(consume: &Ftap, rows: u64) {
    consume.wait_for("the rows in the lake", |lines| {
        let files = lines
            .iter()
            .filter(|line| line["event"] == "file_committed");
        let committed: u64 = files.filter_map(|file| file["rows"].as_u64()).sum();
        (committed >= rows).then_some(())
    });
}

fn stop(consume: &Ftap) {
    consume.signal(libc::SIGTERM);
    assert!(
        consume.wait_at_most(Duration::from_secs(10)).success(),
        "{}",
        consume.tail()
    );
}

#[test]
fn a_topic_recreated_under_a_running_consumer_is_refused_and_another_lake_takes_it() {
    let mut lab = Lab::shared("remade-running");
    lab.start(["produce"]).wait_for_success();
    let consume = lab.start(["consume"]);
    wait_for_rows(&consume, ROWS);
    let objects = lab.objects();
    kafka::delete_topic(lab.broker(), lab.topic());
    common::wait_until("the topic to be gone", || {
        (!kafka::has_topic(lab.broker(), lab.topic())).then_some(())
    });
    kafka::create_topic(lab.broker(), lab.topic(), 3);
    lab.set("EVENTS_FILE", make_events(1000, 2));
    lab.start(["produce"]).wait_for_success();
    let (code, said) = consume.wait_for_failure();
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("deleted and created again"), "{said}");
    assert!(
        said.contains("another lake together with another KAFKA_CONSUMER_GROUP"),
        "{said}"
    );
    assert_eq!(lab.objects(), objects);

    lab.set("LAKE_DIR", lab.path("another"));
    lab.set("KAFKA_CONSUMER_GROUP", format!("{}-again", lab.topic()));
    lab.start(["consume", "--until-drained"]).wait_for_success();
    lab.assert_exact(1000);
}

#[test]
fn an_added_partition_is_read_without_a_restart() {
    let mut lab = Lab::shared("added");
    lab.set("KAFKA_EXTRA", "topic.metadata.refresh.interval.ms=500");
    lab.start(["produce"]).wait_for_success();
    let consume = lab.start(["consume"]);
    wait_for_rows(&consume, ROWS);
    kafka::add_partitions(lab.broker(), lab.topic(), 4);
    let foreign: Vec<_> = (0..100).map(|n| Some(dlq::good(n).into_bytes())).collect();
    kafka::produce(lab.broker(), lab.topic(), 3, &foreign);
    wait_for_rows(&consume, ROWS + 100);
    assert_eq!(consume.events("stage_failed"), [] as [Value; 0]);
    stop(&consume);
    let verdict = lab.assert_exact(ROWS);
    assert_eq!(verdict.total("foreign"), 100, "{verdict}");
    assert_eq!(verdict.total("lake"), ROWS + 100, "{verdict}");
}

#[test]
fn retention_that_passes_a_stopped_consumer_is_logged_once_with_the_exact_range() {
    let mut lab = Lab::shared("passed");
    let ended = |lab: &Lab| lab.start(["consume", "--until-drained"]);
    lab.start(["produce", "--rows", "5000"]).wait_for_success();
    let first = ended(&lab);
    first.wait_for_success();
    let chain_end = first
        .events("file_committed")
        .iter()
        .filter(|file| file["partition"] == 1)
        .filter_map(|file| file["last_offset"].as_i64())
        .max()
        .unwrap();
    lab.set("TRANSACTION_ROWS", "1000");
    lab.start(["produce"]).wait_for_success();
    let first_left = kafka::keep_newest(lab.broker(), lab.topic(), 1, 500);

    let second = ended(&lab);
    let (code, said) = second.wait_for_failure();
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("offsets_skipped"), "{said}");
    let skipped = second.events("offsets_skipped");
    assert_eq!(skipped.len(), 1, "{skipped:?}");
    assert_eq!(skipped[0]["partition"], 1);
    assert_eq!(skipped[0]["first_offset"], chain_end + 1);
    assert_eq!(skipped[0]["last_offset"], first_left - 1);
    assert_eq!(second.events("stage_failed"), [] as [Value; 0]);

    // What is left is in the lake, once; what is gone is not called exact.
    ended(&lab).wait_for_success();
    let verdict = lab.verify();
    assert_eq!(verdict.code, 3, "{verdict}");
    assert_eq!(verdict.total("doubled"), 0, "{verdict}");
    let lost = verdict.total("missing");
    assert!(
        lost > 0 && lost as i64 <= first_left - 1 - chain_end,
        "{verdict}"
    );
}

#[test]
fn topics_that_share_a_lake_do_not_mix_and_a_new_one_is_refused() {
    let mut lab = Lab::shared("side-by-side");
    lab.set("GCS_FLUSH_SECONDS", "0.3");
    lab.set("TRANSACTION_ROWS", "1000");
    let [names @ .., third] = [1, 2, 3].map(|n| format!("{}-{n}", lab.topic()));
    let files = [common::events_file(), make_events(7000, 5)];
    let use_topic = |lab: &mut Lab, topic: &str| {
        lab.set("KAFKA_TOPIC", topic);
        lab.set("DATA_DIR", lab.path(topic));
        lab.set("KAFKA_CONSUMER_GROUP", format!("group-{topic}"));
    };
    // Older versions let a second topic begin in a lake that another one has.
    for (topic, file) in names.iter().zip(&files) {
        use_topic(&mut lab, topic);
        lab.set("EVENTS_FILE", file);
        lab.set("LAKE_DIR", lab.path(&format!("lake-of-{topic}")));
        let begun = lab.start(["run", "--until-drained", "--rows", "3000"]);
        begun.wait_for_success();
        merge(Path::new(lab.get("LAKE_DIR")), &lab.path("lake"));
    }
    lab.set("LAKE_DIR", lab.path("lake"));
    let mut running = Vec::new();
    for (topic, file) in names.iter().zip(&files) {
        use_topic(&mut lab, topic);
        lab.set("EVENTS_FILE", file);
        running.push(lab.start(["run", "--until-drained"]));
    }
    running.iter().for_each(Ftap::wait_for_success);
    let objects = lab.objects();

    use_topic(&mut lab, &third);
    let (code, said) = lab.start(["run", "--until-drained"]).wait_for_failure();
    assert_eq!(code, 1, "{said}");
    assert!(names.iter().any(|name| said.contains(name)), "{said}");
    assert!(said.contains(&third) && said.contains("LAKE_DIR"), "{said}");
    assert_eq!(lab.objects(), objects);

    for ((topic, file), rows) in names.iter().zip(&files).zip([ROWS, 7000]) {
        use_topic(&mut lab, topic);
        lab.set("EVENTS_FILE", file);
        let verdict = lab.assert_exact(rows);
        assert_eq!(verdict.total("lake"), rows, "{verdict}");
    }
}

/// Another topic in a lab of its own.
fn lab_of(topic: impl Fn(&str) -> String) -> Lab {
    let mut lab = Lab::shared("names");
    let name = topic(lab.topic());
    lab.set("KAFKA_TOPIC", name);
    lab
}

#[test]
fn no_lake_begins_for_a_topic_after_which_not_every_reader_finds_the_files() {
    for (lab, problem) in [
        (lab_of(|name| format!("_{name}")), "Spark"),
        (lab_of(|name| format!(".{name}")), "Spark"),
        (lab_of(|name| format!("{name:-<201}")), "201 letters"),
    ] {
        for command in ["run", "consume"] {
            let refused = lab.start([command, "--until-drained"]);
            let (code, said) = refused.wait_for_failure();
            assert_eq!(code, 2, "{said}");
            let names_both = said.contains(problem) && said.contains("KAFKA_TOPIC");
            assert!(names_both, "{said}");
            // Nothing was published, either.
            assert_eq!(refused.events("group_started").len(), 0, "{said}");
        }
        assert_eq!(lab.objects(), [] as [std::path::PathBuf; 0]);
    }
    let longest = lab_of(|name| format!("{name:-<200}"));
    longest.start(["run", "--until-drained"]).wait_for_success();
    longest.assert_exact(ROWS);
}

#[test]
fn a_lake_that_has_files_of_a_hidden_topic_continues_under_their_names() {
    let lab = lab_of(|name| format!("_{name}"));
    let topic = lab.topic();
    kafka::create_topic_of_any_time(lab.broker(), topic);
    let (time, row) = (1_700_000_000_000, dlq::good(0).into_bytes());
    kafka::produce_at(lab.broker(), topic, time, &row);
    // As an older version wrote it.
    let settings = FileSettings {
        max_message_bytes: 1 << 20,
        compression: Compression::Zstd(1),
    };
    let mut file = FileBuilder::open(topic.into(), 0, 0, time, &settings, "old".into()).unwrap();
    file.append(Some(&row), 0, time).unwrap();
    let file = file.close().unwrap();
    let path = lab.path("lake").join(file.name.key());
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, &file.bytes).unwrap();

    kafka::produce_at(lab.broker(), topic, time, dlq::good(1).as_bytes());
    lab.start(["consume", "--until-drained"]).wait_for_success();
    let verdict = lab.verify();
    assert_eq!(verdict.total("lake"), 2, "{verdict}");
    assert_eq!(verdict.total("doubled"), 0, "{verdict}");
    let names = lab.objects();
    let is_of_topic = |name: &std::path::PathBuf| {
        let name = name.file_name().unwrap().to_string_lossy();
        name.starts_with(topic)
    };
    assert!(
        names.len() == 2 && names.iter().all(is_of_topic),
        "{names:?}"
    );
}

/// Moves the files of one folder into another.
fn merge(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let (path, target) = entry
            .map(|entry| (entry.path(), to.join(entry.file_name())))
            .unwrap();
        if path.is_dir() {
            merge(&path, &target)
        } else {
            std::fs::rename(path, target).unwrap()
        }
    }
}

#[test]
fn tap_waits_for_a_topic_that_is_not_there_yet_and_misses_none_of_its_messages() {
    let lab = Lab::shared("tap-waits");
    let mut tap = lab.start(["tap", "--count", "2"]);
    let reason = tap.wait_for_event("tap_waiting")["reason"].to_string();
    assert!(
        reason.contains(&format!("no topic {}", lab.topic())),
        "{reason}"
    );
    let stopped = lab.start(["tap"]);
    stopped.wait_for_event("tap_waiting");
    stopped.signal(libc::SIGINT);
    stopped.wait_for_success();

    kafka::create_topic(lab.broker(), lab.topic(), 1);
    let rows = [0, 1].map(|number| Some(dlq::good(number).into_bytes()));
    kafka::produce(lab.broker(), lab.topic(), 0, &rows);
    assert_eq!(tap.printed().lines().count(), 2);
    tap.wait_for_success();
}
