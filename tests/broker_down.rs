//! A broker that is down for minutes is waited for.

use std::time::Duration;

use crate::common;
use crate::common::http::{address_of, get};
use crate::common::process::Ftap;
use crate::common::{Lab, ROWS, speed_for, wait_until};
use serde_json::Value;

/// Longer than any of the program's own limits for one request, transaction or delivery.
const DOWN: Duration = Duration::from_secs(130);

/// A free port that the system gives to no other process by itself: while the broker is down, a broker of another
/// test must not take its place.
fn port_of_its_own() -> String {
    let first = 20_000 + std::process::id() % 10_000;
    let ports = (first..32_000).chain(20_000..first);
    let free = ports
        .filter_map(|port| u16::try_from(port).ok())
        .find(|port| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok());
    free.expect("one of 12,000 ports is free").to_string()
}

/// A broker that the test may kill, and its address.
fn kafka(lab: &Lab, port: &str) -> (Ftap, String) {
    let mut kafka = lab.command(["kafka", "--port", port]);
    kafka.env("DATA_DIR", lab.path("broker"));
    let kafka = Ftap::start(kafka);
    let started = kafka.wait_for_event("embedded_kafka_started");
    (kafka, started["bootstrap"].as_str().unwrap().to_owned())
}

#[test]
fn a_broker_that_is_killed_and_down_for_minutes_costs_nothing_but_time() {
    // It must be killed, so it is the embedded one: another pass would show nothing more.
    if common::real_kafka().is_some() {
        return;
    }
    let mut lab = Lab::new("down").without_broker();
    let (first, broker) = kafka(&lab, &port_of_its_own());
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

#[test]
fn a_broker_that_hangs_is_logged_makes_the_process_unready_and_leaves_no_lag_to_be_seen() {
    if common::real_kafka().is_some() {
        return;
    }
    let mut lab = Lab::new("hangs").without_broker();
    let (broker, address) = kafka(&lab, "0");
    lab.set("KAFKA_BROKER", &address);
    lab.set("DASHBOARD_ADDR", "127.0.0.1:0");
    // What was read stays on its way, so there is a lag all the time.
    lab.set("GCS_FLUSH_SECONDS", "3600");
    lab.set("KAFKA_PARTITIONS", "1");
    // Its client must not be the one that notices.
    lab.set("KAFKA_SESSION_TIMEOUT_MS", "60000");
    lab.set("PRODUCE_SPEED", speed_for(3600));
    let processes = [lab.start(["consume"]), lab.start(["produce"])];
    let readyz = |process: &Ftap| get(&address_of(process), "localhost", "/readyz").unwrap();
    let lag = |process: &Ftap| process.metric("ftap_consumer_lag_records{partition=\"0\"}");
    let up = |process: &Ftap| process.metric("ftap_service_up{service=\"kafka\"}");
    let come_up = || {
        wait_until("lag and readiness", || {
            let lag = lag(&processes[0]).filter(|lag| *lag > 0.0)?;
            let is_ready = |process| readyz(process).status == 200 && up(process) == Some(1.0);
            processes.iter().all(is_ready).then_some(lag)
        })
    };
    come_up();
    broker.signal(libc::SIGSTOP);
    for process in &processes {
        let unreachable = process.wait_for_event("kafka_unreachable");
        assert_eq!(unreachable["bootstrap"], address);
        let answer = wait_until("503", || {
            let answer = readyz(process);
            assert_ne!(lag(process), Some(0.0));
            (answer.status == 503).then_some(answer)
        });
        assert_eq!(answer.body["kafka"]["up"], false, "{}", answer.body);
        assert_eq!(up(process), Some(0.0));
        assert_eq!(lag(process), None, "nothing is known of it");
        let age = process.metric("ftap_service_answer_age_seconds{service=\"kafka\"}");
        assert!(age.unwrap() > 1.0, "{age:?}");
        assert!(!process.has_ended());
    }
    broker.signal(libc::SIGCONT);
    come_up();
    for process in &processes {
        process.wait_for_event("source_answers");
        process.signal(libc::SIGTERM);
        process.wait_for_success();
    }
}
