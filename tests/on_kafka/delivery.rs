//! Each row of the file reaches the lake exactly once, whatever is stopped or killed when.

use std::time::{Duration, Instant};

use crate::common;
use crate::common::process::Ftap;
use crate::common::{Lab, PATIENCE, ROWS, Random, kafka, speed_for, wait_until};

#[test]
fn a_run_is_exact_and_a_second_one_publishes_and_doubles_nothing() {
    let lab = Lab::new("second-run");
    let mut first = lab.run_until_drained();
    let summary = first.summary();
    assert_eq!(summary["rows_published"], ROWS);
    assert_eq!(summary["rows_committed"], ROWS);
    assert_eq!(summary["restarts"], 0);
    lab.assert_exact(ROWS);

    let objects = lab.objects();
    let mut second = lab.run_until_drained();
    assert_eq!(second.summary()["rows_published"], 0);
    lab.assert_exact(ROWS);
    assert_eq!(lab.objects(), objects);
}

#[test]
fn kill_nine_at_ten_random_moments_loses_and_doubles_nothing() {
    let mut lab = Lab::new("kill-nine");
    lab.set("LOG_LEVEL", "DEBUG");
    lab.set("TRANSACTION_ROWS", "500");
    lab.set("FILE_MAX_ROWS", "300");
    lab.set("GCS_FLUSH_SECONDS", "0.3");
    lab.set("PRODUCE_SPEED", speed_for(12));
    let mut random = Random(20_261_122);
    let mut cut_short = 0;
    for kill in 0..10 {
        let run = lab.start(["run", "--until-drained"]);
        // In turn: after some of its files, after some of its transactions, at any time at all.
        match kill % 3 {
            0 => {
                let files = 1 + random.below(8) as usize;
                run.wait_for("files", |lines| {
                    let of = |name: &str| lines.iter().filter(|line| line["event"] == name).count();
                    (of("file_committed") >= files || of("drained") > 0).then_some(())
                });
            }
            1 => {
                let transactions = 1 + random.below(6) as usize;
                run.wait_for("transactions", |lines| {
                    let of = |name: &str| lines.iter().filter(|line| line["event"] == name).count();
                    let enough = of("rows_published") >= transactions;
                    (enough || of("publish_finished") > 0).then_some(())
                });
            }
            _ => std::thread::sleep(Duration::from_millis(random.below(3000))),
        }
        cut_short += usize::from(!run.has_ended());
        run.kill();
    }
    assert!(
        cut_short >= 8,
        "only {cut_short} runs were alive when they were killed"
    );
    lab.set("PRODUCE_SPEED", "max");
    lab.run_until_drained();
    lab.assert_exact(ROWS);
}

#[test]
fn sigterm_flushes_within_ten_seconds_and_the_next_run_continues() {
    let mut lab = Lab::new("sigterm");
    lab.set("LOG_LEVEL", "DEBUG");
    lab.set("PRODUCE_SPEED", speed_for(20));
    // Nothing but the end of the process can close a file.
    lab.set("GCS_FLUSH_SECONDS", "600");
    let run = lab.start(["run"]);
    run.wait_for_events("rows_published", 4);
    run.signal(libc::SIGTERM);
    assert!(
        run.wait_at_most(Duration::from_secs(10)).success(),
        "{}",
        run.tail()
    );
    assert!(
        !run.events("file_committed").is_empty(),
        "nothing was flushed: {}",
        run.tail()
    );

    let halfway = lab.verify();
    assert_eq!(halfway.code, 3, "{halfway}");
    let (published, flushed) = (halfway.total("topic"), halfway.total("lake"));
    assert!(
        flushed > 0 && flushed <= published && published < ROWS,
        "{halfway}"
    );
    assert_eq!(halfway.total("missing"), ROWS - flushed, "{halfway}");
    assert_eq!(halfway.total("doubled"), 0, "{halfway}");

    lab.set("PRODUCE_SPEED", "max");
    let mut rest = lab.run_until_drained();
    assert_eq!(rest.summary()["rows_published"], ROWS - published);
    lab.assert_exact(ROWS);
}

#[test]
fn a_timed_flush_writes_the_rows_of_an_idle_stream() {
    let mut lab = Lab::new("idle");
    lab.set("LOG_LEVEL", "DEBUG");
    lab.set("GCS_FLUSH_SECONDS", "0.5");
    let run = lab.start(["run"]);
    run.wait_for_event("publish_finished");
    // No more rows come, and nothing asks it to stop.
    run.wait_for("all rows in the lake", |lines| {
        let committed = lines
            .iter()
            .filter(|line| line["event"] == "file_committed");
        let rows: u64 = committed.filter_map(|line| line["rows"].as_u64()).sum();
        (rows == ROWS).then_some(())
    });
    let closed = run.events("file_closed");
    assert!(
        closed.iter().any(|event| event["reason"] == "age"),
        "{closed:?}"
    );
    run.signal(libc::SIGTERM);
    assert!(
        run.wait_at_most(Duration::from_secs(10)).success(),
        "{}",
        run.tail()
    );
    lab.assert_exact(ROWS);
}

#[test]
fn two_consumers_share_the_partitions_and_one_takes_over_when_the_other_is_killed() {
    let mut lab = Lab::shared("share");
    lab.set("TRANSACTION_ROWS", "500");
    lab.set("GCS_FLUSH_SECONDS", "0.3");
    lab.set("FILE_MAX_ROWS", "400");
    lab.set("PRODUCE_SPEED", speed_for(10));
    common::kafka::create_topic(lab.broker(), lab.topic(), 3);
    // The second comes when the first has everything: one partition has to change hands.
    let first = lab.start(["consume"]);
    first.wait_for_events("partition_started", 3);
    let second = lab.start(["consume"]);
    second.wait_for_event("partition_started");
    let producer = lab.start(["produce"]);
    for consumer in [&first, &second] {
        consumer.wait_for_events("file_committed", 2);
    }
    first.kill();
    producer.wait_for_success();
    // The survivor has a session timeout to wait for.
    let end = Instant::now() + PATIENCE;
    while lab.verify().code != 0 {
        assert!(Instant::now() < end, "{}{}", lab.verify(), second.tail());
    }
    second.signal(libc::SIGTERM);
    assert!(second.wait_at_most(Duration::from_secs(10)).success());
    lab.assert_exact(ROWS);
}

#[test]
fn a_run_waits_for_a_broker_that_is_not_up_yet() {
    let mut lab = Lab::new("late-broker").without_broker();
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    lab.set("KAFKA_BROKER", format!("127.0.0.1:{port}"));
    let run = lab.start(["run", "--until-drained"]);
    run.wait_for_events("kafka_unreachable", 2);
    let port = port.to_string();
    let mut broker = lab.command(["kafka", "--port", &port]);
    broker
        .env("DATA_DIR", lab.path("late"))
        .env_remove("KAFKA_BROKER");
    let _broker = common::process::Ftap::start(broker);
    run.wait_for_success();
    lab.assert_exact(ROWS);
}

#[test]
fn what_is_in_the_lake_is_committed_for_the_group_on_a_quiet_topic() {
    let lab = Lab::shared("quiet-topic");
    lab.start(["produce"]).wait_for_success();
    lab.start(["consume", "--until-drained"]).wait_for_success();
    let group = lab.get("KAFKA_CONSUMER_GROUP");
    let committed = || kafka::committed(lab.broker(), lab.topic(), group, 3);
    let drained = committed();
    assert!(
        drained.iter().all(|offset| offset > &Some(0)),
        "{drained:?}"
    );

    // As if every commit had been refused, as they are during a rebalance.
    kafka::commit(lab.broker(), lab.topic(), group, 3, 0);
    let next = lab.start(["consume"]);
    next.wait_for_events("partition_started", 3);
    wait_until("the offsets to be committed again", || {
        (committed() == drained).then_some(())
    });
    lab.assert_exact(ROWS);
}

#[test]
fn two_writers_of_one_chain_adopt_each_others_files_and_double_nothing() {
    let mut lab = Lab::shared("two-writers");
    lab.start(["produce"]).wait_for_success();
    // Each reads everything, as a zombie does, and cuts its files elsewhere. Many files are on
    // their way when one of them turns out to be overtaken.
    let writers: Vec<_> = ["300", "500"]
        .into_iter()
        .map(|rows| {
            lab.set("KAFKA_CONSUMER_GROUP", format!("{}-{rows}", lab.topic()));
            lab.set("FILE_MAX_ROWS", rows);
            lab.start(["consume", "--until-drained"])
        })
        .collect();
    writers.iter().for_each(Ftap::wait_for_success);
    let adopted: usize = writers
        .iter()
        .map(|writer| writer.events("file_adopted").len())
        .sum();
    assert!(adopted > 0, "they never met");
    lab.assert_exact(ROWS);
}
