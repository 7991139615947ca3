//! The dashboard and the endpoints that machines read.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use crate::common::wait_until;
use crate::shell;
use crate::shell::{Answer, PATIENCE, Place, Running, answer_of, get, raw, request, request_with};
use std::io::Write as _;
use std::net::TcpStream;

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
    let url = running.url();

    assert_eq!(get(&url, "/healthz").status, 200);
    get_until(&url, "/readyz", |answer| answer.status == 200);
    let status = get_until(&url, "/api/status", |answer| {
        answer.json()["meters"]["rows_committed"] == 2000
    })
    .json();
    assert_eq!(status["command"], "run");
    assert_eq!(status["meters"]["rows_published"], 2000);
    assert_eq!(status["groups"]["ingest"]["state"], "running");

    // Lag is reported by a tick, not by the commit itself.
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
        // What has not happened yet.
        "ftap_offsets_skipped_total 0",
        "ftap_lake_retries_total 0",
        "ftap_records_rejected_total{reason=\"not_json\"} 0",
        "ftap_records_rejected_total{reason=\"missing_field:user_id\"} 0",
        "ftap_actor_restarts_total{actor=\"kafka_subscriber\",cause=\"panic\"} 0",
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
    let url = running.url();
    let page = get(&url, "/").body;
    let assets: Vec<_> = page
        .split('"')
        .filter(|part| part.starts_with("/assets/"))
        .collect();
    assert_eq!(assets.len(), 3, "{page}");
    for path in ["/", "/healthz", "/nothing"].iter().chain(&assets) {
        let path = *path;
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
}

const TOKEN: &str = "canary-token:0123456789abcdef";

fn serving(place: &Place, env: &[(&str, &str)]) -> (Running, String) {
    let mut command = place.ftap(&["run", "--rows", "100"]);
    command.envs(env.iter().copied());
    let running = Running::start(command);
    let url = running.url();
    (running, url)
}

#[test]
fn with_a_token_only_alive_and_ready_are_answered_without_it() {
    let place = Place::new();
    // On this machine it is obeyed, too.
    for addr in ["0.0.0.0:0", "127.0.0.1:0"] {
        let env = [("DASHBOARD_ADDR", addr), ("DASHBOARD_TOKEN", TOKEN)];
        let (running, url) = serving(&place, &env);
        let url = url.replace("0.0.0.0", "127.0.0.1");
        get_until(&url, "/readyz", |answer| answer.status == 200);
        assert_eq!(
            get(&url, "/readyz").json(),
            serde_json::json!({ "ready": true })
        );
        assert_eq!(get(&url, "/healthz").status, 200);
        let ask = |path: &str, authorization: &str| {
            request_with(
                &url,
                "GET",
                path,
                "localhost",
                &[("Authorization", authorization)],
            )
        };
        for path in [
            "/",
            "/analytics",
            "/cards/headline",
            "/assets/0/page.js",
            "/events",
            "/metrics",
            "/api/status",
            "/nothing",
            "//",
            "/healthz/",
            "/%68ealthz/..",
        ] {
            let refused = get(&url, path);
            assert_eq!(refused.status, 401, "{path}");
            assert!(
                refused.head.contains("www-authenticate: bearer realm"),
                "{}",
                refused.head
            );
            assert!(
                refused.head.contains("www-authenticate: basic realm"),
                "{}",
                refused.head
            );
            assert!(
                refused.head.contains("cache-control: no-store"),
                "{}",
                refused.head
            );
            assert!(!refused.body.contains(TOKEN));
            for wrong in [
                "Bearer canary-token:0123456789abcdeg",
                "Bearer x",
                "Basic Y2FuYXJ5",
            ] {
                assert_eq!(ask(path, wrong).status, 401, "{path} {wrong}");
            }
            assert_eq!(
                get(&url, &format!("{path}?token={TOKEN}")).status,
                401,
                "{path}"
            );
        }
        let bearer = format!("Bearer {TOKEN}");
        // `printf 'me:canary-token:0123456789abcdef' | base64`
        let basic = "Basic bWU6Y2FuYXJ5LXRva2VuOjAxMjM0NTY3ODlhYmNkZWY=";
        for right in [bearer.as_str(), basic] {
            for path in ["/", "/assets/0/page.js", "/metrics", "/api/status"] {
                let answer = ask(path, right);
                assert_eq!(answer.status, 200, "{path}");
                assert!(!answer.body.contains(TOKEN) && !answer.head.contains(TOKEN));
            }
            wait_until("a running group", || {
                let ready = ask("/readyz", right).json();
                (ready["groups"]["ingest"]["state"] == "running").then_some(())
            });
        }
        let host = request_with(
            &url,
            "GET",
            "/",
            "evil.example",
            &[("Authorization", &bearer)],
        );
        let expected = if addr.starts_with("127") { 403 } else { 200 };
        assert_eq!(host.status, expected, "{addr}");
        running.signal("-INT");
        assert_eq!(running.end().0, Some(0));
    }
}

#[test]
fn large_requests_and_other_methods_are_refused_and_no_answer_names_a_version() {
    let place = Place::new();
    let (_running, url) = serving(&place, &[]);
    let with =
        |headers: &[(&str, &str)]| request_with(&url, "GET", "/healthz", "localhost", headers);
    assert_eq!(with(&[("Content-Length", "0")]).status, 200);
    assert_eq!(with(&[("Content-Length", "10000000000")]).status, 413);
    // Neither is waited for.
    let began = Instant::now();
    assert_eq!(with(&[("Transfer-Encoding", "chunked")]).status, 413);
    assert!(began.elapsed() < Duration::from_secs(30));
    let body = "x".repeat(100_000);
    let post =
        format!("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n{body}");
    assert_eq!(raw(&url, &post).status, 413);
    assert_eq!(with(&[("X-Long", &"x".repeat(20_000))]).status, 431);
    // Beyond what is read at all.
    let endless = with(&[("X-Long", &"x".repeat(1_000_000))]).status;
    assert!(matches!(endless, 400 | 431 | 0), "{endless}");
    let path = format!("/{}", "x".repeat(5000));
    assert_eq!(get(&url, &path).status, 414);
    for nonsense in [
        "hello\r\n\r\n",
        "GET / HTTP/9.9\r\n\r\n",
        "\0\0\0\x10ftap\r\n\r\n",
    ] {
        let answer = raw(&url, nonsense);
        assert!(
            matches!(answer.status, 400 | 0),
            "{nonsense:?} {}",
            answer.status
        );
    }
    for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "FROB"] {
        for path in ["/", "/api/status", "/healthz", "/metrics"] {
            let answer = request(&url, method, path, "localhost");
            assert_eq!(answer.status, 405, "{method} {path}");
            assert!(answer.head.contains("allow: get,head"), "{}", answer.head);
        }
    }
    let head = get(&url, "/healthz").head;
    assert!(
        !head.contains("server:") && !head.contains("powered"),
        "{head}"
    );
    let version = env!("CARGO_PKG_VERSION");
    for path in ["/", "/healthz", "/readyz", "/nothing"] {
        let answer = get(&url, path);
        assert!(
            !answer.body.contains(version) && !answer.head.contains(version),
            "{path}"
        );
    }
}

#[test]
fn slow_clients_are_timed_out_and_do_not_keep_others_out_for_long() {
    let place = Place::new();
    let (_running, url) = serving(&place, &[]);
    let began = Instant::now();
    // More than there is room for, each with half a request.
    let slow: Vec<TcpStream> = (0..200)
        .map(|_| {
            let mut stream = TcpStream::connect(url.trim_start_matches("http://")).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            let _ = stream.write_all(b"GET /api/status HTTP/1.1\r\nHost: local");
            stream
        })
        .collect();
    assert_eq!(get(&url, "/healthz").status, 200);
    let waited = began.elapsed();
    assert!(waited < Duration::from_secs(40), "{waited:?}");
    for stream in slow {
        let answer = answer_of(stream);
        assert!(matches!(answer.status, 408 | 0), "{}", answer.status);
    }
    let took = began.elapsed();
    assert!(took < Duration::from_secs(60), "{took:?}");
}

#[test]
fn clients_that_read_nothing_or_keep_their_connections_keep_no_one_out() {
    let place = Place::new();
    let (_running, url) = serving(&place, &[]);
    let one = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let answer = raw(&url, &one.repeat(200));
    assert_eq!(answer.status, 200);
    assert!(
        !answer.body.contains("HTTP/1.1"),
        "requests behind the first are not answered"
    );
    // More than are served at a time; none reads or ends.
    let greedy: Vec<TcpStream> = (0..200)
        .map(|_| {
            let mut stream = TcpStream::connect(url.trim_start_matches("http://")).unwrap();
            stream.set_nonblocking(true).unwrap();
            let _ = stream.write_all(one.repeat(2000).as_bytes());
            stream
        })
        .collect();
    // Silent ones, too.
    let idle: Vec<TcpStream> = (0..200)
        .map(|_| TcpStream::connect(url.trim_start_matches("http://")).unwrap())
        .collect();
    let mut health = place.ftap(&["health"]);
    health.env("DASHBOARD_ADDR", url.trim_start_matches("http://"));
    shell::Done::from(health.output().unwrap()).ends_with(0);
    drop((greedy, idle));
}

#[test]
fn the_health_command_tells_alive_and_ready_by_its_exit_code() {
    let place = Place::new();
    // A port that is free now is the only way to tell another process which it is.
    let free = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .to_string();
    let health = |args: &[&str]| {
        let mut command = place.ftap(&[&["health"], args].concat());
        command.env("DASHBOARD_ADDR", &free);
        shell::Done::from(command.output().unwrap())
    };
    health(&[]).ends_with(1).says(&["does not answer"]);
    let (_running, url) = serving(
        &place,
        &[("DASHBOARD_ADDR", &free), ("DASHBOARD_TOKEN", TOKEN)],
    );
    get_until(&url, "/readyz", |answer| answer.status == 200);
    assert_eq!(health(&[]).ends_with(0).stdout, "alive\n");
    assert_eq!(health(&["--ready"]).ends_with(0).stdout, "ready\n");
    place
        .run(&["health"])
        .ends_with(2)
        .says(&["DASHBOARD_ADDR"]);
}

#[test]
fn without_a_broker_it_is_alive_and_stops_when_asked() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap();
    let broker = closed.local_addr().unwrap().to_string();
    drop(closed);
    let place = Place::new();
    let running = place.start(&["consume", "--kafka-broker", &broker]);
    let url = running.url();
    running.event("kafka_unreachable");
    assert_eq!(get(&url, "/healthz").status, 200);
    running.signal("-INT");
    assert_eq!(running.end().0, Some(0));
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
