//! An actor that panics, fails or hangs is seen, named and restarted, and the result is exact.

use std::time::{Duration, Instant};

use crate::common;
use crate::common::process::Ftap;
use crate::common::{Lab, PATIENCE, ROWS, kafka, wait_until};
use ftap_testing::gcs::{Fault, Operation, Options, Rule, Server, Times};
use serde_json::Value;

/// Each actor of both groups, and at which of its steps it is struck.
const STRIKES: [(&str, u32); 5] = [
    ("csv_reader", 2),
    ("kafka_publisher", 2),
    ("kafka_subscriber", 2),
    ("parquet_buffer", 2),
    ("gcs_uploader", 3),
];

fn restless(lab: &mut Lab) {
    // Longer than a stage may wait for the processor while other tests run.
    lab.set("STALL_TIMEOUT_SECONDS", "5");
    lab.set("STOP_DEADLINE_SECONDS", "1");
    lab.set("RESTART_INITIAL_BACKOFF_MS", "20");
    lab.set("TRANSACTION_ROWS", "3000");
    lab.set("FILE_MAX_ROWS", "1500");
}

fn assert_struck_once(run: &Ftap, actor: &str, cause: &str) {
    let failed = run.events("stage_failed");
    assert_eq!(
        failed.len(),
        1,
        "{actor} {cause}: {failed:?} {}",
        run.tail()
    );
    let stage = failed[0]["stage"].as_str().unwrap();
    assert!(stage.starts_with(actor), "{actor} {cause}: {failed:?}");
    assert_eq!(failed[0]["cause"], cause, "{failed:?}");
    let restarts = run.events("group_restarting");
    assert_eq!(restarts.len(), 1, "{actor} {cause}: {restarts:?}");
    let root_cause = restarts[0]["root_cause"].as_str().unwrap();
    assert!(root_cause.contains(stage), "{root_cause}");
}

/// Strikes each actor once in a run of its own.
fn strike_all(action: &str, cause: &str) {
    for (actor, step) in STRIKES {
        let mut lab = Lab::new(&format!("{action}-{}", actor.replace('_', "-")));
        restless(&mut lab);
        lab.set("FTAP_FAILPOINTS", format!("{actor}={action}@{step}"));
        let run = lab.run_until_drained();
        assert_struck_once(&run, actor, cause);
        lab.assert_exact(ROWS);
    }
    strike_dead_letters(action, cause);
}

/// It works only when there is something to reject.
fn strike_dead_letters(action: &str, cause: &str) {
    let mut lab = Lab::shared(&format!("{action}-dead-letters"));
    restless(&mut lab);
    lab.start(["produce"]).wait_for_success();
    let poison = vec![Some(b"poison".to_vec()); 100];
    kafka::produce(lab.broker(), lab.topic(), 2, &poison);
    lab.set("FTAP_FAILPOINTS", format!("dead_letters={action}@1"));
    let run = lab.start(["consume", "--until-drained"]);
    run.wait_for_success();
    assert_struck_once(&run, "dead_letters", cause);
    let verdict = lab.assert_exact(ROWS);
    assert_eq!(verdict.total("rejected"), 100, "{verdict}");
}

#[test]
fn an_actor_that_panics_is_restarted_and_the_result_is_exact() {
    strike_all("panic", "panic");
}

#[test]
fn an_actor_that_fails_is_restarted_and_the_result_is_exact() {
    strike_all("error", "error");
}

#[test]
fn an_actor_that_hangs_is_restarted_and_the_result_is_exact() {
    strike_all("hang", "stuck");
}

#[test]
fn a_process_killed_between_put_and_offset_commit_doubles_nothing() {
    let mut lab = Lab::new("put-uncommitted");
    restless(&mut lab);
    // Each process puts one file more and hangs before it reports that to the consumer.
    lab.set("STALL_TIMEOUT_SECONDS", "3600");
    lab.set("INGEST_WORKERS", "1");
    lab.start(["produce"]).wait_for_success();
    for files in 1..=3 {
        lab.set("FTAP_FAILPOINTS", "gcs_uploader.committed=hang@1");
        let run = lab.start(["consume"]);
        wait_until("a file more", || {
            (lab.objects().len() >= files).then_some(())
        });
        run.kill();
        assert!(run.events("file_committed").is_empty(), "{}", run.tail());
    }
    lab.set("FTAP_FAILPOINTS", "");
    lab.start(["consume", "--until-drained"]).wait_for_success();
    lab.assert_exact(ROWS);
}

#[test]
fn too_many_restarts_end_the_process_with_the_root_cause_and_the_next_run_completes() {
    let mut lab = Lab::new("gives-up");
    restless(&mut lab);
    let strikes: Vec<_> = (1..=5)
        .map(|hit| format!("gcs_uploader=error@{hit}"))
        .collect();
    lab.set("FTAP_FAILPOINTS", strikes.join(","));
    lab.set("RESTART_LIMIT", "2");
    let run = lab.start(["run", "--until-drained"]);
    let (code, said) = run.wait_for_failure();
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("gcs_uploader"), "{said}");
    assert_eq!(run.events("group_gave_up").len(), 1, "{}", run.tail());
    lab.set("FTAP_FAILPOINTS", "");
    lab.run_until_drained();
    lab.assert_exact(ROWS);
}

/// Memory of the program itself and of librdkafka's queues, beyond the budget; debug builds
/// are larger than others.
const OVERHEAD_BYTES: u64 = 250 << 20;
/// The least that can be set.
const BUDGET_BYTES: u64 = 16_000_000;

#[test]
fn while_the_lake_is_down_memory_stays_within_the_budget_and_then_everything_arrives() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let server = runtime.block_on(Server::start(Options::default())).unwrap();
    let mut lab = Lab::new("lake-down");
    // Their files alone, closed and compressed, take more than half of the budget.
    let rows = 350_000;
    lab.set("EVENTS_FILE", common::make_events(rows, 3));
    lab.set("GCS_BUCKET_NAME", server.bucket());
    lab.set("GCS_ENDPOINT", server.endpoint());
    lab.set("INGEST_MEMORY_BYTES", BUDGET_BYTES.to_string());
    lab.set("GCS_FLUSH_SECONDS", "600");
    let run = lab.start(["run", "--until-drained"]);
    run.wait_for_events("partition_started", 3);
    let down = Rule::new(Operation::Any, Times::Always, Fault::Status(503));
    server.set_rules(vec![down]);

    // Paused for good: what has been read waits for the lake, the rest in the topic.
    let mut peak = 0;
    let mut paused_since = None;
    common::wait_until("the partitions to stay paused", || {
        peak = peak.max(run.memory_bytes().unwrap_or(0));
        let (paused, resumed) = (
            run.events("partitions_paused"),
            run.events("partitions_resumed"),
        );
        let is_paused = paused.len() > resumed.len();
        paused_since = paused_since.filter(|(pauses, _)| is_paused && *pauses == paused.len());
        if is_paused {
            let (_, since) = *paused_since.get_or_insert((paused.len(), Instant::now()));
            (since.elapsed() > Duration::from_secs(4)).then_some(())
        } else {
            None
        }
    });
    assert!(peak < BUDGET_BYTES + OVERHEAD_BYTES, "{peak} bytes");
    assert!(server.counts().all_faults() > 0);
    assert!(!run.has_ended(), "{}", run.tail());
    let committed: u64 = rows_of(&run.events("file_committed"));
    assert!(committed < rows, "the lake was to be down");

    server.clear_rules();
    assert!(run.wait_at_most(PATIENCE).success(), "{}", run.tail());
    assert_eq!(run.events("stage_failed"), [] as [Value; 0]);
    lab.assert_exact(rows);
}

fn rows_of(committed: &[Value]) -> u64 {
    committed
        .iter()
        .filter_map(|file| file["rows"].as_u64())
        .sum()
}
