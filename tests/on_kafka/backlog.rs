//! A consumer far behind, and one with very many partitions, get along with little memory.

use crate::common::{Lab, ROWS, make_events};

/// Memory of the program itself and of librdkafka's queues, beyond the budget; debug builds
/// are larger than others.
const OVERHEAD_BYTES: u64 = 250 << 20;
/// The least that can be set.
const BUDGET_BYTES: u64 = 16_000_000;

#[test]
fn a_backlog_of_many_times_the_memory_budget_is_caught_up_within_it() {
    let mut lab = Lab::shared("backlog");
    // Some 120 MB of messages.
    let rows = 350_000;
    lab.set("EVENTS_FILE", make_events(rows, 3));
    lab.set("INGEST_MEMORY_BYTES", BUDGET_BYTES.to_string());
    lab.start(["produce"]).wait_for_success();
    let consume = lab.start(["consume", "--until-drained"]);
    let peak = consume.peak_memory_bytes();
    consume.wait_for_success();
    assert!(peak < BUDGET_BYTES + OVERHEAD_BYTES, "{peak} bytes");
    lab.assert_exact(rows);
}

#[test]
fn a_hundred_partitions_share_the_smallest_budget() {
    let mut lab = Lab::shared("hundred");
    lab.set("KAFKA_PARTITIONS", "100");
    lab.set("INGEST_MEMORY_BYTES", BUDGET_BYTES.to_string());
    lab.set("GCS_FLUSH_SECONDS", "600");
    lab.start(["produce"]).wait_for_success();
    let consume = lab.start(["consume", "--until-drained"]);
    let peak = consume.peak_memory_bytes();
    consume.wait_for_success();
    assert!(peak < BUDGET_BYTES + OVERHEAD_BYTES, "{peak} bytes");
    lab.assert_exact(ROWS);
    let files = consume.events("file_committed").len();
    println!("{files} files for 100 partitions, peak {peak} bytes");
}
