//! What a line, a quota or a topic's settings allow is enough to move on.

use crate::common::process::Ftap;
use crate::common::{Lab, ROWS, dlq, kafka, real_kafka, slow_line, wait_until};
use serde_json::Value;

/// A file of [`ROWS`] rows takes half a minute.
const BYTES_PER_SECOND: u64 = 300_000;

fn assert_steady(ftap: &Ftap) {
    ftap.wait_for_success();
    assert_eq!(ftap.events("stage_failed"), [] as [Value; 0]);
}

/// Each transaction got through, slowly, and a line says how slowly.
fn assert_slow_and_steady(produce: &Ftap) {
    assert_steady(produce);
    let slow = produce.events("publishing_slow");
    assert!(!slow.is_empty(), "{}", produce.tail());
    for line in slow {
        let rate = line["bytes_per_second"].as_u64().unwrap();
        assert!(rate < BYTES_PER_SECOND, "{line}");
    }
}

#[test]
fn a_slow_line_is_published_and_read_through_without_a_restart() {
    let lab = Lab::shared("slow-line");
    let line = slow_line::to(lab.broker(), BYTES_PER_SECOND);
    let produce = lab.start(["produce", "--kafka-broker", &line]);
    assert_slow_and_steady(&produce);
    let consume = lab.start(["consume", "--until-drained", "--kafka-broker", &line]);
    assert_steady(&consume);
    lab.assert_exact(ROWS);
}

#[test]
fn a_client_quota_is_kept_to_without_a_restart() {
    let Some(broker) = real_kafka() else { return };
    let mut lab = Lab::shared("quota");
    // Other tests' clients are not to be throttled.
    let client = lab.topic().to_owned();
    kafka::limit_clients(&broker, &client, BYTES_PER_SECOND);
    lab.set("KAFKA_EXTRA", format!("client.id={client}"));
    let produce = lab.start(["produce"]);
    assert_slow_and_steady(&produce);
    assert_steady(&lab.start(["consume", "--until-drained"]));
    lab.set("KAFKA_EXTRA", "");
    lab.assert_exact(ROWS);
}

#[test]
fn a_topic_for_small_batches_takes_all_rows() {
    let lab = Lab::shared("small-batches");
    let limit = [("max.message.bytes", "20000")];
    kafka::create_topic_with(lab.broker(), lab.topic(), 3, &limit);
    let produce = lab.start(["produce"]);
    produce.wait_for_success();
    assert_eq!(produce.events("stage_failed"), [] as [Value; 0]);
    lab.start(["consume", "--until-drained"]).wait_for_success();
    lab.assert_exact(ROWS);
}

#[test]
fn a_row_that_the_topic_does_not_take_is_final_and_names_the_limit() {
    let mut lab = Lab::shared("large-rows");
    let limit = [("max.message.bytes", "300")];
    kafka::create_topic_with(lab.broker(), lab.topic(), 3, &limit);
    let texts = [
        "Message size too large",
        "raise the topic's max.message.bytes",
    ];
    assert_final(&lab.start(["produce"]), &texts);
    // Refused while further rows of the transaction are sent.
    lab.set("PRODUCE_SPEED", "10000");
    lab.set("TRANSACTION_INTERVAL_MS", "30000");
    assert_final(&lab.start(["produce"]), &texts);
}

#[test]
fn a_compacted_topic_is_read_on_after_its_lakes_newest_records_are_gone() {
    if real_kafka().is_none() {
        return;
    }
    let lab = Lab::shared("compacted");
    let compacted = [
        ("cleanup.policy", "compact"),
        ("segment.ms", "100"),
        ("min.cleanable.dirty.ratio", "0.001"),
    ];
    kafka::create_topic_with(lab.broker(), lab.topic(), 1, &compacted);
    let send = |number: usize| {
        let payload = dlq::good(number);
        kafka::produce_one(
            lab.broker(),
            lab.topic(),
            0,
            Some("k"),
            payload.as_bytes(),
            &[],
        );
    };
    let ended = || {
        let run = lab.start(["consume", "--until-drained"]);
        run.wait_for_success();
        run
    };
    send(0);
    ended();
    let files = lab.objects().len();
    // Only the newest segment is never compacted, so records must follow.
    let mut sent = 0;
    wait_until("the first record to be compacted away", || {
        sent += 1;
        send(sent);
        let left = kafka::read_all(lab.broker(), lab.topic());
        left.iter().all(|record| record.offset > 0).then_some(())
    });
    let run = ended();
    assert_eq!(run.events("stage_failed"), [] as [Value; 0]);
    assert!(lab.objects().len() > files, "{}", run.tail());
}

/// It ends with exit code 1 without a restart, and says all of that.
fn assert_final(run: &Ftap, texts: &[&str]) {
    let (code, said) = run.wait_for_failure();
    assert_eq!(code, 1, "{said}");
    for text in texts {
        assert!(said.contains(text), "{text}: {said}");
    }
    assert_eq!(run.events("group_restarting"), [] as [Value; 0]);
}

#[test]
fn a_group_with_a_member_of_another_kind_is_final() {
    let lab = Lab::shared("eager");
    kafka::create_topic(lab.broker(), lab.topic(), 3);
    let group = lab.get("KAFKA_CONSUMER_GROUP");
    let _eager = kafka::eager_member(lab.broker(), lab.topic(), group);
    let texts = [group, "end the group's members that are not ftap"];
    assert_final(&lab.start(["consume"]), &texts);
}

#[test]
fn a_group_instance_id_that_is_used_twice_is_final_for_the_first() {
    // The embedded broker has no static members.
    if real_kafka().is_none() {
        return;
    }
    let mut lab = Lab::shared("instance");
    lab.set("KAFKA_EXTRA", "group.instance.id=one");
    let first = lab.start(["consume"]);
    first.wait_for_events("partition_started", 3);
    let second = lab.start(["consume"]);
    assert_final(
        &first,
        &["give each process a group.instance.id of its own"],
    );
    second.wait_for_events("partition_started", 3);
}

#[test]
fn a_transaction_timeout_that_the_broker_refuses_is_final() {
    if real_kafka().is_none() {
        return;
    }
    let mut lab = Lab::shared("transaction-timeout");
    // The broker allows 15 minutes.
    lab.set("KAFKA_EXTRA", "transaction.timeout.ms=1000000");
    assert_final(&lab.start(["produce"]), &["transaction.max.timeout.ms"]);
}

#[test]
fn an_advertised_address_that_cant_be_resolved_is_named() {
    let lab = Lab::shared("astray");
    let line = slow_line::astray(lab.broker());
    let port = line.rsplit(':').next().unwrap();
    let produce = lab.start(["produce", "--kafka-broker", &line]);
    let error = produce.wait_for_event("kafka_unreachable")["error"].to_string();
    assert!(
        error.contains(&format!("advertises x.invalid:{port}")),
        "{error}"
    );
    assert!(error.contains("advertised.listeners"), "{error}");
    let tap = lab.start(["tap", "--kafka-broker", &line]);
    let (_, said) = tap.wait_for_failure();
    assert!(said.contains("x.invalid"), "{said}");
}
