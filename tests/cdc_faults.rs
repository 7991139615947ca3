//! Change capture where the lake fails, a stage dies at a chosen point, or a reader is frozen and
//! comes back: nothing is lost, nothing doubled.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::common::changes::{self, assert_same_table, assert_steps, catch_up, lab, lake};
use crate::common::cluster::Postgres;
use crate::common::process::Ftap;
use crate::common::{Lab, wait_until};
use ftap_testing::gcs::Operation::{Any, Get, List, Put};
use ftap_testing::gcs::{Fault, Operation, Options, Rule, Server, Times};
use tokio::runtime::Runtime;

const CHANGE: &str =
    "UPDATE users SET zip = zip + 1; UPDATE merchants SET merch_zipcode = merch_zipcode + 1";

/// A bucket as the lake of a laboratory.
struct Bucket {
    server: Server,
    // Dropped last: the server runs on it.
    _runtime: Runtime,
}

impl Bucket {
    fn of(lab: &mut Lab) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let server = runtime.block_on(Server::start(Options::default())).unwrap();
        lab.set("GCS_BUCKET_NAME", server.bucket());
        lab.set("GCS_ENDPOINT", server.endpoint());
        Self {
            server,
            _runtime: runtime,
        }
    }

    fn next(&self, on: Operation, times: u32, fault: Fault) {
        let rule = Rule::new(on, Times::Next(times), fault);
        self.server.set_rules(vec![rule]);
    }

    /// Its objects as files.
    fn files(&self, lab: &Lab) -> PathBuf {
        let folder = lab.path("bucket");
        for key in self.server.keys() {
            let path = folder.join(&key);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, self.server.object(&key).unwrap()).unwrap();
        }
        folder
    }

    /// What is in it makes the tables, and nothing was overwritten.
    fn assert_same(&self, lab: &Lab, postgres: &Postgres) {
        let lake = self.files(lab);
        assert_every_step(postgres, &lake);
        let counts = self.server.counts();
        assert_eq!(counts.puts_not_create_only, 0, "{counts:?}");
        assert_eq!(counts.overwrites, 0, "{counts:?}");
        assert_eq!(counts.creates, self.server.keys().len() as u64);
    }
}

/// The tables, and on the way to them every change once: a lost one would be covered up by the
/// next of its row.
fn assert_every_step(postgres: &Postgres, lake: &Path) {
    for (table, key, counter) in [
        ("users", "user_id", "zip"),
        ("merchants", "merchant", "merch_zipcode"),
    ] {
        assert_steps(&changes::read(lake, table), key, counter);
        assert_same_table(postgres, lake, table, key);
    }
}

#[test]
fn whatever_a_bucket_answers_for_a_while_every_change_is_there_once() {
    let Some((mut lab, postgres)) = lab("cdc-bucket") else {
        return;
    };
    let bucket = Bucket::of(&mut lab);
    let capture = lab.start(["cdc"]);
    capture.wait_for_event("changes_streaming");
    let late = Fault::LateCommit {
        status: 503,
        after: Duration::from_millis(300),
    };
    for (times, fault) in [
        (3, Fault::Status(503)),
        (2, Fault::CommitThenStatus(503)),
        (2, Fault::CommitThenCut),
        (2, late),
        (3, Fault::Cut),
        (2, Fault::CutBody),
        (2, Fault::PreconditionFailed),
        (2, Fault::TokenExpired),
        (2, Fault::WebPage),
        (2, Fault::Status(429)),
        (2, Fault::Delay(Duration::from_secs(1))),
    ] {
        let struck = |kind| {
            bucket
                .server
                .counts()
                .faults
                .get(kind)
                .copied()
                .unwrap_or(0)
        };
        let before = struck(fault.kind());
        bucket.next(Put, times, fault);
        let keys = bucket.server.keys().len();
        postgres.sql(CHANGE);
        wait_until("the fault and both objects", || {
            let done = struck(fault.kind()) >= before + u64::from(times)
                && bucket.server.keys().len() >= keys + 2;
            done.then_some(())
        });
    }
    assert_eq!(
        capture.events("stage_failed").len(),
        0,
        "{}",
        capture.tail()
    );
    capture.signal(libc::SIGTERM);
    capture.wait_for_success();
    bucket.assert_same(&lab, &postgres);

    // At a start the lake is listed and footers are read.
    for (on, fault) in [
        (List, Fault::Status(503)),
        (List, Fault::TokenExpired),
        (List, Fault::HalfAnswer),
        (List, Fault::WebPage),
        (Get, Fault::CutBody),
        (Get, Fault::TokenExpired),
        (Any, Fault::Cut),
    ] {
        bucket.next(on, 2, fault);
        postgres.sql(CHANGE);
        catch_up(&lab);
    }
    bucket.assert_same(&lab, &postgres);
}

#[test]
fn a_bucket_that_forbids_is_named_and_what_it_refused_comes_later() {
    let Some((mut lab, postgres)) = lab("cdc-forbidden") else {
        return;
    };
    let bucket = Bucket::of(&mut lab);
    catch_up(&lab);
    postgres.sql(CHANGE);
    let forbidden = Rule::new(Put, Times::Always, Fault::Status(403));
    bucket.server.set_rules(vec![forbidden]);
    let (code, said) = lab.start(["cdc"]).wait_for_failure();
    assert_eq!(code, 1, "{said}");
    assert!(
        said.contains("permission") || said.contains("storage.objects"),
        "{said}"
    );
    bucket.server.clear_rules();
    catch_up(&lab);
    bucket.assert_same(&lab, &postgres);
}

#[test]
fn while_the_lake_is_down_the_lag_of_the_slot_grows_and_is_reported() {
    let Some((mut lab, postgres)) = lab("cdc-lag") else {
        return;
    };
    let bucket = Bucket::of(&mut lab);
    lab.set("DASHBOARD_ADDR", "127.0.0.1:0");
    let capture = lab.start(["cdc"]);
    wait_until(
        "the checkpoints of the snapshot and of the first message",
        || {
            let keys = bucket.server.keys();
            let checkpoints = keys
                .iter()
                .filter(|key| key.starts_with("cdc_checkpoints/"));
            (checkpoints.count() == 2).then_some(())
        },
    );
    bucket
        .server
        .set_rules(vec![Rule::new(Put, Times::Always, Fault::Status(503))]);
    let before: f64 = postgres
        .value("SELECT pg_current_wal_flush_lsn() - '0/0'")
        .parse()
        .unwrap();
    postgres.sql(CHANGE);
    postgres.sql("SELECT pg_logical_emit_message(false, 'weight', repeat('x', 3000000))");
    let lag = |capture: &Ftap| {
        let bytes = capture.metric("ftap_slot_lag_bytes")?;
        Some((bytes, capture.metric("ftap_slot_lag_seconds")?))
    };
    let (bytes, _) = wait_until("the lag", || {
        lag(&capture).filter(|(bytes, seconds)| *bytes > 3e6 && *seconds > 7.0)
    });
    let now: f64 = postgres
        .value("SELECT pg_current_wal_flush_lsn() - '0/0'")
        .parse()
        .unwrap();
    assert!(bytes <= now - before, "{bytes} of {before} to {now}");
    bucket.server.clear_rules();
    wait_until("no lag", || lag(&capture).filter(|lag| *lag == (0.0, 0.0)));
    capture.kill();

    // A start that is behind tells the age of what it has to read.
    bucket
        .server
        .set_rules(vec![Rule::new(Put, Times::Always, Fault::Status(503))]);
    postgres.sql(CHANGE);
    std::thread::sleep(Duration::from_secs(6));
    let capture = lab.start(["cdc"]);
    capture.wait_for_event("lake_unavailable");
    wait_until("the lag", || {
        lag(&capture).filter(|(_, seconds)| *seconds > 6.0)
    });
    bucket.server.clear_rules();
    capture.signal(libc::SIGTERM);
    capture.wait_for_success();
    bucket.assert_same(&lab, &postgres);
}

#[test]
fn a_stage_that_dies_around_a_put_or_an_acknowledgement_loses_and_doubles_nothing() {
    let Some((mut lab, postgres)) = lab("cdc-points") else {
        return;
    };
    catch_up(&lab);
    let points = [
        "change_capture=panic@1",
        "change_capture=error@4",
        "change_capture.committed=panic@2",
        "change_capture.committed=error@3",
        "change_capture.recorded=panic@3",
        "change_capture.recorded=error@4",
        "change_capture.acknowledged=panic@2",
        "change_capture.acknowledged=error@4",
    ];
    lab.set("FTAP_FAILPOINTS", points.join(","));
    let capture = lab.start(["cdc"]);
    wait_until("all faults", || {
        postgres.sql(CHANGE);
        (capture.events("stage_failed").len() >= points.len()).then_some(())
    });
    capture.wait_for_events("changes_streaming", points.len());
    capture.kill();
    lab.set("FTAP_FAILPOINTS", "");
    catch_up(&lab);
    assert_every_step(&postgres, lake(&lab));
}

#[test]
fn a_slot_that_is_moved_between_the_plan_and_the_start_is_noticed_before_anything_is_put() {
    let Some((mut lab, postgres)) = lab("cdc-between") else {
        return;
    };
    let bucket = Bucket::of(&mut lab);
    catch_up(&lab);
    let keys = bucket.server.keys();
    // The slot was asked for before the lake is listed.
    bucket.next(List, 1, Fault::Delay(Duration::from_secs(3)));
    let capture = lab.start(["cdc"]);
    wait_until("the listing", || {
        (bucket.server.counts().all_faults() > 0).then_some(())
    });
    postgres.sql(CHANGE);
    postgres.sql("SELECT pg_replication_slot_advance('ftap_changes', pg_current_wal_lsn())");
    postgres.sql(CHANGE);
    let (code, said) = capture.wait_for_failure();
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("were skipped"), "{said}");
    assert_eq!(capture.events("changes_streaming").len(), 0);
    assert_eq!(bucket.server.keys(), keys);
}

/// Ends at the server what a reader has there, as its keepalives do when they are not answered.
fn end_sessions(postgres: &Postgres) {
    postgres.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name IN ('ftap', 'ftap-cdc') AND pid <> pg_backend_pid()");
}

#[test]
fn a_frozen_reader_loses_its_slot_to_another_one_and_does_no_harm_when_it_wakes() {
    let Some((mut lab, postgres)) = lab("cdc-zombie") else {
        return;
    };
    postgres.sql("ALTER SYSTEM SET wal_sender_timeout = '8s'");
    postgres.sql("SELECT pg_reload_conf()");
    lab.set("CDC_FLUSH_SECONDS", "1.5");
    let mut reader = lab.start(["cdc"]);
    let mut overtaken = 0;
    for round in 0..4 {
        // After both have read, either may have got the slot.
        reader.wait_for("the slot", |lines| {
            let last = lines.iter().rev().find_map(|line| {
                let event = line["event"].as_str()?;
                event.starts_with("change").then_some(event)
            });
            last.is_some_and(|event| {
                event != "change_capture_interrupted" && event != "changes_snapshot_started"
            })
            .then_some(())
        });
        postgres.sql(CHANGE);
        // Read, and not yet put.
        wait_until("the changes to be read", || {
            let sql = "SELECT sent_lsn >= pg_current_wal_flush_lsn() FROM pg_stat_replication WHERE application_name = 'ftap-cdc'";
            let rows = postgres.sql(sql);
            (rows.first()?[0].as_deref() == Some("t")).then_some(())
        });
        std::thread::sleep(Duration::from_millis(300));
        reader.signal(libc::SIGSTOP);
        postgres.sql(CHANGE);
        let successor = lab.start(["cdc"]);
        let waits = successor.wait_for_event("change_capture_interrupted");
        assert!(
            waits["error"].as_str().unwrap().contains("active"),
            "{waits}"
        );
        successor.wait_for_event("changes_streaming");
        if round % 2 == 0 {
            // Its objects are in the lake when the frozen one wakes, in the odd rounds not yet.
            successor.wait_for_events("changes_committed", 2);
        }
        let before = reader.events("change_capture_interrupted").len();
        reader.signal(libc::SIGCONT);
        let interrupted = reader.wait_for_events("change_capture_interrupted", before + 1);
        eprintln!("{}", interrupted[before]["error"]);
        let committed = || {
            reader.events("changes_committed").len() + successor.events("changes_committed").len()
        };
        let before = committed();
        postgres.sql(CHANGE);
        wait_until("both tables' changes", || {
            (committed() >= before + 2).then_some(())
        });
        for process in [&reader, &successor] {
            overtaken += process.events("changes_overtaken").len();
            assert_eq!(process.events("stage_failed").len(), 0);
        }
        reader.kill();
        reader = successor;
    }
    reader.signal(libc::SIGTERM);
    reader.wait_for_success();
    catch_up(&lab);
    eprintln!("{overtaken} runs were overtaken");
    assert_every_step(&postgres, lake(&lab));
}

#[test]
fn a_reader_frozen_in_its_snapshot_is_reported_and_ended_by_the_logged_remedy() {
    let Some((mut lab, postgres)) = lab("cdc-frozen") else {
        return;
    };
    postgres.sql("INSERT INTO merchants SELECT 'x' || n, 0, 0, 0 FROM generate_series(1, 20000) n");
    lab.set("FILE_MAX_ROWS", "200");
    let frozen = lab.start(["cdc"]);
    frozen.wait_for_events("changes_committed", 5);
    frozen.signal(libc::SIGSTOP);
    assert_eq!(
        frozen.events("changes_snapshot_taken").len(),
        0,
        "frozen too late"
    );
    let successor = lab.start(["cdc"]);
    let waits = successor.wait_for_event("change_capture_interrupted");
    let error = waits["error"].as_str().unwrap();
    let (_, remedy) = error
        .split_once("session there: ")
        .unwrap_or_else(|| panic!("{error}"));
    postgres.sql(remedy);
    let taken = successor.wait_for_event("changes_snapshot_taken");
    assert_eq!(taken["epoch"], 2);
    postgres.sql(CHANGE);
    frozen.signal(libc::SIGCONT);
    wait_until("both to have settled", || {
        let log = frozen.events("change_capture_interrupted");
        log.iter()
            .any(|line| line["error"].as_str().unwrap().contains("active"))
            .then_some(())
    });
    postgres.sql(CHANGE);
    // The one takes over from the other.
    successor.signal(libc::SIGTERM);
    successor.wait_for_success();
    frozen.wait_for_event("changes_streaming");
    frozen.signal(libc::SIGTERM);
    frozen.wait_for_success();
    catch_up(&lab);
    assert_every_step(&postgres, lake(&lab));
}

#[test]
fn two_snapshots_that_meet_at_one_key_don_t_mix() {
    let Some((mut lab, postgres)) = lab("cdc-meet") else {
        return;
    };
    let bucket = Bucket::of(&mut lab);
    bucket.next(Put, 1, Fault::Delay(Duration::from_secs(8)));
    let slow = lab.start(["cdc"]);
    wait_until("its first put", || {
        (bucket.server.counts().all_faults() > 0).then_some(())
    });
    end_sessions(&postgres);
    postgres.sql(CHANGE);
    let quick = lab.start(["cdc"]);
    let taken = quick.wait_for_event("changes_snapshot_taken");
    assert_eq!(taken["epoch"], 1);
    let met = slow.wait_for_event("change_capture_interrupted");
    assert!(
        met["error"].as_str().unwrap().contains("another snapshot"),
        "{met}"
    );
    postgres.sql(CHANGE);
    quick.signal(libc::SIGTERM);
    quick.wait_for_success();
    slow.wait_for_event("changes_streaming");
    slow.signal(libc::SIGTERM);
    slow.wait_for_success();
    catch_up(&lab);
    let is_snapshot = |file: &&PathBuf| file.to_str().unwrap().contains("-snapshot-");
    let files = changes::files(&bucket.files(&lab), "users");
    assert_eq!(files.iter().filter(is_snapshot).count(), 1, "{files:?}");
    bucket.assert_same(&lab, &postgres);
}
