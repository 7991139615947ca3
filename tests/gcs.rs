//! On a bucket that fails in every way it can, everything arrives once, or the program says
//! what to fix.

use std::time::Duration;

use crate::common::{Lab, ROWS, Random, dlq, wait_until};
use ftap_testing::gcs::Operation::{Any, Get, List, Put};
use ftap_testing::gcs::{Fault, Operation, Options, Rule, Server, Times};
use serde_json::Value;
use tokio::runtime::Runtime;

/// A laboratory whose lake is a bucket of a test server.
struct Bucket {
    lab: Lab,
    server: Server,
    // Dropped last: the server runs on it.
    runtime: Runtime,
}

impl Bucket {
    fn new(name: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let options = Options {
            page_items: 3,
            ..Options::default()
        };
        let server = runtime.block_on(Server::start(options)).unwrap();
        let mut lab = Lab::new(&format!("gcs-{name}"));
        lab.set("GCS_BUCKET_NAME", server.bucket());
        lab.set("GCS_ENDPOINT", server.endpoint());
        lab.set("FILE_MAX_ROWS", "2500");
        Self {
            lab,
            server,
            runtime,
        }
    }

    /// Everything is there once, although `verify` meets faults, too; nothing was overwritten.
    fn assert_exact(&self) {
        self.server.set_rules(vec![
            next(List, 1, Fault::WebPage),
            next(List, 1, Fault::HalfAnswer),
            next(List, 1, Fault::Status(503)),
            next(Get, 1, Fault::CutBody),
            next(Get, 1, Fault::TokenExpired),
            next(Get, 5, Fault::Status(429)),
        ]);
        self.lab.assert_exact(ROWS);
        let counts = self.server.counts();
        assert_eq!(counts.puts_not_create_only, 0, "{counts:?}");
        assert_eq!(counts.overwrites, 0, "{counts:?}");
        assert_eq!(counts.multiparts + counts.others, 0, "{counts:?}");
        assert_eq!(counts.malformed, 0, "{counts:?}");
        assert_eq!(counts.creates, self.server.keys().len() as u64);
    }
}

fn next(on: Operation, times: u32, fault: Fault) -> Rule {
    Rule::new(on, Times::Next(times), fault)
}

#[test]
fn a_file_costs_one_put_and_a_start_few_requests() {
    let bucket = Bucket::new("cost");
    bucket.lab.run_until_drained();
    let counts = bucket.server.counts();
    let files = bucket.server.keys().len() as u64;
    println!("{files} files: {counts:?}");
    assert_eq!(counts.puts, files);
    assert_eq!((counts.gets, counts.heads), (0, 0));
    assert!(counts.lists <= 3, "{counts:?}");
    bucket.assert_exact();
}

#[test]
fn whatever_a_bucket_answers_for_a_while_everything_arrives_once() {
    let late = Fault::LateCommit {
        status: 503,
        after: Duration::from_millis(300),
    };
    let second = Duration::from_secs(1);
    for (name, rules) in [
        ("503-before", vec![next(Put, 9, Fault::Status(503))]),
        (
            "503-after",
            vec![next(Put, 3, Fault::CommitThenStatus(503))],
        ),
        ("reply-lost", vec![next(Put, 3, Fault::CommitThenCut)]),
        ("late", vec![next(Put, 9, late)]),
        ("429", vec![next(Any, 9, Fault::Status(429))]),
        (
            "cut",
            vec![next(List, 5, Fault::CutBody), next(Put, 9, Fault::CutBody)],
        ),
        ("412", vec![next(Put, 3, Fault::PreconditionFailed)]),
        (
            "401",
            vec![
                next(List, 1, Fault::TokenExpired),
                next(Put, 2, Fault::TokenExpired),
            ],
        ),
        (
            // The footer of what is there is read through a fault, too.
            "401-get",
            vec![
                next(Put, 1, Fault::CommitThenStatus(503)),
                next(Get, 1, Fault::TokenExpired),
                next(Get, 1, Fault::CutBody),
            ],
        ),
        (
            "web-page",
            vec![next(List, 2, Fault::WebPage), next(Put, 2, Fault::WebPage)],
        ),
        ("half-list", vec![next(List, 2, Fault::HalfAnswer)]),
        ("slow-list", vec![next(List, 2, Fault::Delay(2 * second))]),
    ] {
        let bucket = Bucket::new(name);
        bucket.server.set_rules(rules);
        let run = bucket.lab.run_until_drained();
        assert_eq!(
            run.events("stage_failed").len(),
            0,
            "{name}: {}",
            run.tail()
        );
        assert!(bucket.server.counts().all_faults() >= 1, "{name}");
        bucket.assert_exact();
    }
}

#[test]
fn rejected_records_arrive_once_whatever_a_bucket_answers_to_their_put() {
    let rule = |fault| {
        let mut rule = next(Put, 1, fault);
        rule.key_contains = Some("dead_letters/".to_owned());
        rule
    };
    let late = Fault::LateCommit {
        status: 503,
        after: Duration::from_millis(300),
    };
    let mut bucket = Bucket::new("dead-letters");
    bucket.lab = Lab::shared("gcs-dead-letters");
    bucket.lab.set("GCS_BUCKET_NAME", bucket.server.bucket());
    bucket.lab.set("GCS_ENDPOINT", bucket.server.endpoint());
    bucket.lab.set("DEAD_LETTERS", "lake");
    bucket.lab.start(["produce"]).wait_for_success();
    let lost = [Fault::CommitThenStatus(503), Fault::CommitThenCut, late];
    let refused = [Fault::Status(503), Fault::CutBody, Fault::TokenExpired];
    for (round, faults) in (1..).zip([lost, refused]) {
        dlq::poison(&bucket.lab, 6);
        bucket.server.set_rules(faults.map(rule).to_vec());
        let drained = dlq::drain(&bucket.lab);
        assert_eq!(drained.events("stage_failed"), [] as [Value; 0]);
        for fault in faults {
            let struck = bucket.server.counts().faults.get(fault.kind()).copied();
            assert!(struck.is_some_and(|times| times >= 1), "{fault:?}");
        }
        bucket.assert_exact();
        bucket.server.clear_rules();
        let listed = dlq::lines(&bucket.lab, &["list", "--json"]);
        assert_eq!(listed.len(), round * 6);
    }
}

#[test]
fn puts_slower_than_the_flush_interval_hold_the_stream_back_and_fail_nothing() {
    let mut bucket = Bucket::new("slow");
    bucket.lab.set("GCS_FLUSH_SECONDS", "0.2");
    bucket.lab.set("FILE_MAX_ROWS", "1500");
    bucket.lab.set("STALL_TIMEOUT_SECONDS", "2");
    let slow = Fault::Delay(Duration::from_millis(700));
    bucket
        .server
        .set_rules(vec![Rule::new(Put, Times::Always, slow)]);
    let run = bucket.lab.run_until_drained();
    assert_eq!(run.events("stage_failed").len(), 0, "{}", run.tail());
    assert_eq!(run.events("lake_unavailable").len(), 0, "{}", run.tail());
    bucket.assert_exact();
}

#[test]
fn what_only_a_person_can_fix_ends_the_run_with_what_to_do_and_the_next_one_completes() {
    for (name, rule, says) in [
        (
            "no-create",
            Rule::new(Put, Times::Always, Fault::Status(403)),
            "storage.objects.create",
        ),
        (
            "no-list",
            Rule::new(List, Times::Always, Fault::Status(403)),
            "storage.objects.list",
        ),
        (
            "no-bucket",
            Rule::new(Any, Times::Always, Fault::Status(404)),
            "GCS_BUCKET_NAME",
        ),
        (
            "no-token",
            Rule::new(Put, Times::Always, Fault::TokenExpired),
            "GOOGLE_APPLICATION_CREDENTIALS",
        ),
    ] {
        let bucket = Bucket::new(name);
        bucket.server.set_rules(vec![rule]);
        let run = bucket.lab.start(["run", "--until-drained"]);
        let (code, said) = run.wait_for_failure();
        assert_eq!(code, 1, "{name}: {said}");
        assert!(said.contains(says), "{name}: {said}");
        assert!(!said.contains("another KAFKA_TOPIC"), "{name}: {said}");
        assert_eq!(bucket.server.keys().len(), 0);
        bucket.server.clear_rules();
        bucket.lab.run_until_drained();
        bucket.assert_exact();
    }
}

#[test]
fn an_outage_and_its_end_are_logged_once_and_make_the_process_not_ready() {
    let mut bucket = Bucket::new("outage");
    bucket.lab.set("DASHBOARD_ADDR", "127.0.0.1:0");
    let down = Rule::new(Any, Times::Always, Fault::Status(503));
    bucket.server.set_rules(vec![down]);
    let run = bucket.lab.start(["run"]);
    let url = run.wait_for_event("http_listening")["url"].clone();
    let url = format!("{}/readyz", url.as_str().unwrap());
    let ready = || {
        let answer = bucket.runtime.block_on(reqwest::get(&url)).unwrap();
        answer.status().as_u16()
    };
    run.wait_for_event("lake_unavailable");
    // Several tries, each by several of the client.
    wait_until("more tries", || {
        (bucket.server.counts().lists >= 12).then_some(())
    });
    wait_until("to be not ready", || (ready() == 503).then_some(()));
    let outages = run.events("lake_unavailable");
    assert_eq!(outages.len(), 1, "{outages:?}");
    assert!(
        outages[0]["error"].as_str().unwrap().contains("503"),
        "{outages:?}"
    );
    assert!(run.events("lake_recovered").is_empty());

    bucket.server.clear_rules();
    run.wait_for_event("lake_recovered");
    wait_until("to be ready", || (ready() == 200).then_some(()));
    run.signal(libc::SIGTERM);
    run.wait_for_success();
    bucket.lab.run_until_drained();
    bucket.assert_exact();
}

#[test]
fn mixed_faults_and_kills_leave_everything_once() {
    let mut bucket = Bucket::new("mixed");
    bucket.lab.set("GCS_FLUSH_SECONDS", "0.2");
    bucket.lab.set("FILE_MAX_ROWS", "700");
    bucket.lab.set("TRANSACTION_ROWS", "1000");
    let one_in = |n, seed, on, fault| Rule::new(on, Times::OneIn { n, seed }, fault);
    let late = Fault::LateCommit {
        status: 503,
        after: Duration::from_millis(400),
    };
    let rules = || {
        vec![
            one_in(3, 1, Put, Fault::Delay(Duration::from_millis(100))),
            one_in(9, 2, Any, Fault::Status(503)),
            one_in(9, 3, Put, Fault::CommitThenStatus(503)),
            one_in(9, 4, Put, Fault::CommitThenCut),
            one_in(9, 5, Put, late),
            one_in(9, 6, Any, Fault::CutBody),
            one_in(9, 7, Any, Fault::Cut),
            one_in(15, 8, Put, Fault::PreconditionFailed),
            one_in(15, 9, Any, Fault::TokenExpired),
            one_in(15, 10, Any, Fault::Status(429)),
            one_in(15, 11, List, Fault::WebPage),
        ]
    };
    bucket.server.set_rules(rules());
    let mut random = Random(11);
    for round in 0..5 {
        let run = bucket.lab.start(["run", "--until-drained"]);
        let puts = bucket.server.counts().puts + 1 + random.below(6);
        wait_until("some puts", || {
            (bucket.server.counts().puts >= puts || run.has_ended()).then_some(())
        });
        println!("round {round}: {:?}", bucket.server.counts());
        run.kill();
    }
    bucket.lab.run_until_drained();
    println!("{:?}", bucket.server.counts());
    bucket.assert_exact();
}
