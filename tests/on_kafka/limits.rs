//! What a line, a quota or a topic's settings allow is enough to move on.

use crate::common::process::Ftap;
use crate::common::{Lab, ROWS, dlq, kafka, real_kafka, slow_line, wait_until};
use serde_json::Value;

/// A file of [`ROWS`] rows takes half a minute.
const BYTES_PER_SECOND: u64 = 300_000;

/// Each transaction got through, slowly, and a line says how slowly.
fn assert_slow_and_steady(produce: &Ftap) {
    produce.wait_for_success();
    assert_eq!(produce.events("stage_failed"), [] as [Value; 0]);
    let slow = produce.events("publishing_slow");
    assert!(!slow.is_empty(), "{}", produce.tail());
    for line in slow {
        let rate = line["bytes_per_second"].as_u64().unwrap();
        assert!(rate < BYTES_PER_SECOND, "{line}");
    }
}

#[test]
fn a_slow_line_is_published_through_without_a_restart() {
    let lab = Lab::shared("slow-line");
    let line = slow_line::to(lab.broker(), BYTES_PER_SECOND);
    let produce = lab.start(["produce", "--kafka-broker", &line]);
    assert_slow_and_steady(&produce);
    lab.start(["consume", "--until-drained"]).wait_for_success();
    lab.assert_exact(ROWS);
}

#[test]
fn a_client_quota_is_published_under_without_a_restart() {
    let Some(broker) = real_kafka() else { return };
    let mut lab = Lab::shared("quota");
    // Other tests' clients are not to be throttled.
    let client = lab.topic().to_owned();
    kafka::limit_producers(&broker, &client, BYTES_PER_SECOND);
    lab.set("KAFKA_EXTRA", format!("client.id={client}"));
    let produce = lab.start(["produce"]);
    assert_slow_and_steady(&produce);
    lab.start(["consume", "--until-drained"]).wait_for_success();
    lab.assert_exact(ROWS);
}

#[test]
fn a_topic_for_small_batches_takes_all_rows() {
    // The embedded broker has no such setting.
    if real_kafka().is_none() {
        return;
    }
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
    if real_kafka().is_none() {
        return;
    }
    let lab = Lab::shared("large-rows");
    let limit = [("max.message.bytes", "300")];
    kafka::create_topic_with(lab.broker(), lab.topic(), 3, &limit);
    let produce = lab.start(["produce"]);
    let (code, said) = produce.wait_for_failure();
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("Message size too large"), "{said}");
    assert!(
        said.contains("raise the topic's max.message.bytes"),
        "{said}"
    );
    assert_eq!(produce.events("group_restarting"), [] as [Value; 0]);
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
