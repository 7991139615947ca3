//! Something in the log that can't be read: the reader stands still there, says where, and is neither
//! level with the log nor ready. Embedded broker only: the test damages its file.

use std::fs::File;
use std::os::unix::fs::FileExt;

use crate::common::http::{address_of, get};
use crate::common::process::Ftap;
use crate::common::{Lab, real_kafka, wait_until};
use serde_json::Value;

/// Bytes before the first record of a batch.
const HEADER_BYTES: u64 = 61;
/// Where a batch names its codec.
const ATTRIBUTES_AT: u64 = 22;

/// Overwrites bytes of the first batch of partition 1.
fn damage(lab: &Lab, at: u64, bytes: &[u8]) {
    let segment = format!("broker/kafka/topics/{}/1/{:020}.log", lab.topic(), 0);
    let file = File::options()
        .write(true)
        .open(lab.path(&segment))
        .unwrap();
    file.write_all_at(bytes, at).unwrap();
}

fn ask(of: &Ftap, path: &str) -> (u16, Value) {
    let answer = get(&address_of(of), "localhost", path).unwrap();
    (answer.status, answer.body)
}

fn stands_still(name: &str, at: u64, bytes: &[u8]) {
    if real_kafka().is_some() {
        return;
    }
    let mut lab = Lab::shared(name);
    lab.start(["produce", "--rows", "3000"]).wait_for_success();
    damage(&lab, at, bytes);

    lab.set("DASHBOARD_ADDR", "127.0.0.1:0");
    let consume = lab.start(["consume"]);
    let event = consume.wait_for_event("partition_unreadable");
    assert_eq!(
        (&event["partition"], &event["offset"]),
        (&1.into(), &0.into()),
        "{event}"
    );
    let said = "partition 1, offset 0 can't be read";
    wait_until("the other partitions' rows, and only these", || {
        let (_, status) = ask(&consume, "/api/status");
        let lag = status["meters"]["lag_records"].as_u64()?;
        let rows = status["meters"]["rows_committed"].as_u64()?;
        (rows > 1000 && lag > 500 && rows < 3000).then_some(())
    });
    let (code, ready) = ask(&consume, "/readyz");
    assert_eq!(code, 503, "{ready}");
    assert!(
        ready["unreadable"][0].as_str().unwrap().contains(said),
        "{ready}"
    );
    assert!(!consume.has_ended());
    consume.signal(libc::SIGTERM);
    consume.wait();

    lab.set("DASHBOARD_ADDR", "off");
    for args in [&["consume", "--until-drained"][..], &["verify"]] {
        let (code, error) = lab.start(args).wait_for_failure();
        assert_eq!(code, 1, "{args:?}: {error}");
        let names_it = error.contains("partition 1") && error.contains("offset");
        assert!(
            names_it && error.contains("--reset-offsets"),
            "{args:?}: {error}"
        );
    }
}

#[test]
fn records_that_are_not_records_are_named_and_neither_skipped_nor_taken_for_the_end() {
    stands_still("not-records", HEADER_BYTES, &[0xaa; 50]);
}

#[test]
fn a_codec_that_does_not_exist_is_named_and_neither_skipped_nor_taken_for_the_end() {
    stands_still("no-codec", ATTRIBUTES_AT, &[0x17]);
}
