//! What a line, a quota or a topic's settings allow is enough to move on.

use crate::common::process::Ftap;
use crate::common::{Lab, ROWS, kafka, real_kafka, slow_line};
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
