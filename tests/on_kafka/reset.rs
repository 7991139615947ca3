//! `ftap reset` where Kafka and PostgreSQL are servers that others use, too.

use crate::common::process::Ftap;
use crate::common::{Lab, ROWS, changes, kafka, make_events, wait_until};

/// `ftap reset` of a data directory that no other process has.
fn reset(lab: &Lab) -> Ftap {
    let mut command = lab.command(["reset", "--yes"]);
    command.env("DATA_DIR", lab.path("empty"));
    Ftap::start(command)
}

#[test]
fn on_a_kafka_it_deletes_our_topic_and_group_and_no_other() {
    let mut lab = Lab::shared("reset");
    lab.start(["produce"]).wait_for_success();
    let consume = lab.start(["consume"]);
    consume.wait_for_event("file_committed");
    let (code, said) = reset(&lab).wait_for_failure();
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("stop them first"), "{said}");
    consume.signal(libc::SIGTERM);
    consume.wait_for_success();

    let topic = lab.topic().to_owned();
    let foreign = format!("{topic}-foreign");
    kafka::create_topic(lab.broker(), &foreign, 1);
    kafka::produce(lab.broker(), &foreign, 0, &[Some(b"{}".to_vec())]);
    lab.set("KAFKA_TOPIC", &foreign);
    lab.set("LAKE_DIR", lab.path("none"));
    let mut kept = reset(&lab);
    let said = kept.printed();
    assert!(
        said.contains("not from ftap") && said.contains(&foreign),
        "{said}"
    );
    assert_eq!(kafka::count(lab.broker(), &foreign), 1);

    lab.set("KAFKA_TOPIC", &topic);
    lab.set("LAKE_DIR", lab.path("lake"));
    let mut done = reset(&lab);
    let said = done.printed();
    assert!(said.contains(&topic), "{said}");
    done.wait_for_success();
    wait_until("the topic to be gone", || {
        (!kafka::has_topic(lab.broker(), &topic)).then_some(())
    });
    let offsets = kafka::committed(lab.broker(), &foreign, lab.get("KAFKA_CONSUMER_GROUP"), 1);
    assert_eq!(offsets, [None]);

    // The same topic takes another file, which the lake has from its start.
    lab.set("EVENTS_FILE", make_events(1000, 2));
    lab.run_until_drained();
    let verdict = lab.assert_exact(1000);
    assert!(verdict.total("lake") < ROWS, "{verdict}");
}

#[test]
fn on_a_postgresql_it_drops_what_ftap_made_unless_it_is_in_use() {
    let Some((mut lab, postgres)) = changes::lab("reset-postgres") else {
        return;
    };
    postgres.sql("CREATE TABLE public.others (id INT PRIMARY KEY)");
    let capture = lab.start(["cdc"]);
    capture.wait_for_event("changes_streaming");
    let (code, said) = reset(&lab).wait_for_failure();
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("slot ftap_changes"), "{said}");
    capture.signal(libc::SIGTERM);
    capture.wait_for_success();

    let mut done = reset(&lab);
    let said = done.printed();
    done.wait_for_success();
    for part in ["public.users", "ftap.loads", "slot ftap_changes"] {
        assert!(said.contains(part), "no {part} in {said}");
    }
    let tables = "SELECT string_agg(relname, ',') FROM pg_class \
        WHERE relkind = 'r' AND relnamespace IN ('public'::regnamespace, to_regnamespace('ftap'))";
    assert_eq!(postgres.value(tables), "others");
    assert_eq!(
        postgres.value("SELECT count(*) FROM pg_replication_slots"),
        "0"
    );
    assert_eq!(
        postgres.value("SELECT count(*) FROM pg_publication WHERE NOT puballtables"),
        "0"
    );
    assert!(!changes::lake(&lab).join("users_changes").exists());

    // It starts over.
    lab.set("CDC_FLUSH_SECONDS", "0.2");
    let again = changes::catch_up(&lab);
    assert_eq!(again.events("changes_snapshot_taken").len(), 1);
}
