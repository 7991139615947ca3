//! The status page and the endpoints that machines read.

#![allow(clippy::unwrap_used)]

mod shell;

use std::net::TcpListener;
use std::time::{Duration, Instant};

use shell::{Answer, PATIENCE, Place, request};

fn get(url: &str, path: &str) -> Answer {
    request(url, "GET", path, "localhost")
}

/// Asks until the answer has what is waited for.
fn get_until(url: &str, path: &str, good: impl Fn(&Answer) -> bool) -> Answer {
    let end = Instant::now() + PATIENCE;
    loop {
        let answer = get(url, path);
        if good(&answer) {
            return answer;
        }
        assert!(
            Instant::now() < end,
            "{path}: {} {}",
            answer.status,
            answer.body
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_run_shows_what_it_does_to_people_and_machines() {
    let place = Place::new();
    let running = place.start(&["run", "--rows", "2000", "--gcs-flush-seconds", "0.2"]);
    let url = running.event("http_listening")["url"]
        .as_str()
        .unwrap()
        .to_owned();

    assert_eq!(get(&url, "/healthz").status, 200);
    get_until(&url, "/readyz", |answer| answer.status == 200);
    let status = get_until(&url, "/api/status", |answer| {
        answer.json()["meters"]["rows_committed"] == 2000
    })
    .json();
    assert_eq!(status["command"], "run");
    assert_eq!(status["meters"]["rows_published"], 2000);
    assert_eq!(status["groups"]["ingest"]["state"], "running");

    // Lag is told by a tick, not by the commit itself.
    let metrics = get_until(&url, "/metrics", |answer| {
        answer
            .body
            .contains("ftap_consumer_lag_records{partition=\"0\"} 0")
    });
    assert!(metrics.head.contains("text/plain"));
    for expected in [
        "ftap_lake_rows_committed_total 2000",
        "ftap_rows_published_total 2000",
        "# TYPE ftap_lake_flush_duration_seconds histogram",
        "ftap_lake_flush_duration_seconds_bucket{le=\"0.005\"}",
        "process_cpu_seconds_total ",
        "ftap_build_info{version=",
    ] {
        assert!(
            metrics.body.contains(expected),
            "no {expected} in\n{}",
            metrics.body
        );
    }
}

#[test]
fn answers_carry_security_headers_and_refuse_other_hosts_and_methods() {
    let place = Place::new();
    let running = place.start(&["run", "--rows", "100"]);
    let url = running.event("http_listening")["url"]
        .as_str()
        .unwrap()
        .to_owned();
    for path in ["/", "/status.css", "/status.js", "/healthz", "/nothing"] {
        let answer = get(&url, path);
        assert_eq!(answer.status, if path == "/nothing" { 404 } else { 200 });
        for header in [
            "content-security-policy: default-src 'none'",
            "x-content-type-options: nosniff",
            "x-frame-options: deny",
            "referrer-policy: no-referrer",
        ] {
            assert!(
                answer.head.contains(header),
                "{path}: no {header} in {}",
                answer.head
            );
        }
    }
    let page = get(&url, "/").body;
    // The policy forbids what is inline or from elsewhere, so there must be none.
    assert!(!page.contains("style=") && !page.contains("<script>") && !page.contains("http"));
    let port = url.rsplit(':').next().unwrap();
    for host in ["evil.example", &format!("127.0.0.1.evil.example:{port}")] {
        assert_eq!(
            request(&url, "GET", "/api/status", host).status,
            403,
            "{host}"
        );
    }
    for host in [&format!("127.0.0.1:{port}"), "[::1]:80", "LOCALHOST"] {
        assert_eq!(
            request(&url, "GET", "/api/status", host).status,
            200,
            "{host}"
        );
    }
    assert_eq!(
        request(&url, "POST", "/api/status", "localhost").status,
        405
    );
}

#[test]
fn without_a_broker_it_is_alive_and_stops_when_asked() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap();
    let broker = closed.local_addr().unwrap().to_string();
    drop(closed);
    let place = Place::new();
    let running = place.start(&["consume", "--kafka-broker", &broker]);
    let url = running.event("http_listening")["url"]
        .as_str()
        .unwrap()
        .to_owned();
    running.event("kafka_unreachable");
    assert_eq!(get(&url, "/healthz").status, 200);
    running.signal("-INT");
    assert_eq!(running.end().0, Some(0));
}

#[test]
fn the_default_port_gives_way_to_a_free_one() {
    // In use by us, or by somebody else: it comes to the same.
    let _held = TcpListener::bind("127.0.0.1:8080");
    let place = Place::new();
    let mut command = place.ftap(&["run", "--rows", "100"]);
    command.env_remove("DASHBOARD_ADDR");
    let running = shell::Running::start(command);
    let doubt = running.event("setting_doubtful");
    assert_eq!(doubt["setting"], "DASHBOARD_ADDR");
    let url = running.event("http_listening")["url"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(!url.ends_with(":8080"));
    assert_eq!(get(&url, "/healthz").status, 200);
}

#[test]
fn off_serves_nothing() {
    let place = Place::new();
    let done = place
        .run(&[
            "run",
            "--rows",
            "100",
            "--until-drained",
            "--dashboard-addr",
            "off",
        ])
        .ends_with(0);
    assert!(!done.stderr.contains("http_listening"));
}
