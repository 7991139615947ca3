//! Change capture beside the stream and the jobs, on the private cluster that processes share.

use std::collections::BTreeMap;

use crate::common::changes::{self, assert_same_table, catch_up, lake};
use crate::common::cluster::Postgres;
use crate::common::postgres::open_to_all;
use crate::common::process::Ftap;
use crate::common::{Lab, not_run, real_kafka, wait_until};

#[test]
fn a_run_and_a_capture_share_the_private_cluster_and_each_takes_over_from_the_other() {
    if real_kafka().is_some() {
        return;
    }
    let mut lab = Lab::new("cdc-run");
    open_to_all(&lab.path(""));
    lab.set("POSTGRES", "on");
    lab.set("UPDATE_USERS_SCHEDULE", "* * * * * *");
    lab.set("UPDATE_PERCENTAGE", "0.05");
    lab.set("CDC_FLUSH_SECONDS", "0.5");
    let capture = lab.start(["cdc"]);
    let begun = capture.wait_for("a server, or none", |lines| {
        let found = |name: &str| lines.iter().any(|line| line["event"] == name);
        let none = found("process_stopped");
        (found("private_postgres_started") || none).then_some(!none)
    });
    if !begun {
        return not_run("there is no PostgreSQL here");
    }
    capture.wait_for_event("changes_streaming");
    let run = lab.start(["run"]);
    run.wait_for_events("users_updated", 3);
    assert_eq!(run.events("private_postgres_started").len(), 0);
    let waits = run.wait_for_event("change_capture_interrupted");
    assert!(
        waits["error"]
            .as_str()
            .unwrap()
            .contains("is active for PID"),
        "{waits}"
    );
    let captured = |process: &Ftap| {
        let files = process.events("changes_committed").into_iter();
        let files = files.filter(|file| file["table"] == "users" && file["reason"] != "snapshot");
        files.filter_map(|file| file["rows"].as_u64()).sum::<u64>()
    };
    wait_until("updates in the lake", || {
        (captured(&capture) > 0).then_some(())
    });

    // The server goes with the process that has it; the other one has both then.
    capture.kill();
    run.wait_for_event("private_postgres_started");
    run.wait_for_event("changes_streaming");
    let updates = run.events("users_updated").len();
    run.wait_for_events("users_updated", updates + 2);
    wait_until("updates in the lake", || (captured(&run) > 0).then_some(()));
    run.signal(libc::SIGTERM);
    run.wait_for_success();

    let again = catch_up(&lab);
    assert_eq!(again.events("changes_snapshot_started").len(), 0);
    let server = Postgres::start_in(&lab.path("data/postgres"));
    assert_same_table(&server, lake(&lab), "users", "user_id");
    assert_same_table(&server, lake(&lab), "merchants", "merchant");
    // Every update that a tick has made is there once.
    let mut updates: BTreeMap<i64, u64> = BTreeMap::new();
    for row in changes::read(lake(&lab), "users") {
        assert!(row.op == "snapshot" || row.op == "update", "{row:?}");
        *updates.entry(row.lsn).or_default() += u64::from(row.op == "update");
    }
    let reported: u64 = run
        .events("users_updated")
        .iter()
        .filter_map(|tick| tick["count"].as_u64())
        .sum();
    let captured: u64 = updates.values().sum();
    // A tick whose answer was lost with the server is not reported.
    assert!(
        reported > 0 && captured >= reported,
        "{captured} of {reported}"
    );
}
