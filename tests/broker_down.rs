//! A broker that is down for minutes is waited for.

use std::time::Duration;

use crate::common;
use crate::common::process::Ftap;
use crate::common::{Lab, ROWS, speed_for};
use serde_json::Value;

/// Longer than any of the program's own limits for one request, transaction or delivery.
const DOWN: Duration = Duration::from_secs(130);

#[test]
fn a_broker_that_is_killed_and_down_for_minutes_costs_nothing_but_time() {
    // It must be killed, so it is the embedded one: another pass would show nothing more.
    if common::real_kafka().is_some() {
        return;
    }
    let mut lab = Lab::new("down").without_broker();
    let kafka = |lab: &Lab, port: &str| {
        let mut kafka = lab.command(["kafka", "--port", port]);
        kafka.env("DATA_DIR", lab.path("broker"));
        let kafka = Ftap::start(kafka);
        let started = kafka.wait_for_event("embedded_kafka_started");
        (kafka, started["bootstrap"].as_str().unwrap().to_owned())
    };
    let (first, broker) = kafka(&lab, "0");
    lab.set("KAFKA_BROKER", &broker);
    lab.set("KAFKA_MAX_RETRIES", "0");
    // Long enough for a consumer to join on a busy machine; afterwards the publisher catches up.
    lab.set("PRODUCE_SPEED", speed_for(60));
    let consume = lab.start(["consume"]);
    let produce = lab.start(["produce"]);
    consume.wait_for_events("file_committed", 3);
    first.kill();
    // The time itself is what is tested.
    std::thread::sleep(DOWN);
    assert!(!produce.has_ended(), "{}", produce.tail());
    assert!(!consume.has_ended(), "{}", consume.tail());

    let port = broker.rsplit(':').next().unwrap();
    let (_second, _) = kafka(&lab, port);
    produce.wait_for_success();
    consume.wait_for("the rows in the lake", |lines| {
        let files = lines
            .iter()
            .filter(|line| line["event"] == "file_committed");
        let committed: u64 = files.filter_map(|file| file["rows"].as_u64()).sum();
        (committed >= ROWS).then_some(())
    });
    consume.signal(libc::SIGTERM);
    consume.wait_for_success();
    for process in [&produce, &consume] {
        assert_eq!(process.events("group_gave_up"), [] as [Value; 0]);
        assert!(
            process.events("group_restarting").len() <= 3,
            "{}",
            process.tail()
        );
    }
    lab.assert_exact(ROWS);
}
