//! Change capture under fire: every change in the lake once and in order.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use crate::common::changes::{
    self, USERS, assert_same_table, assert_steps, catch_up, lab, lake, user,
};
use crate::common::cluster::{Postgres, Session};
use crate::common::{Random, wait_until};

#[test]
fn a_snapshot_and_the_changes_after_it_make_the_table() {
    let Some((lab, postgres)) = lab("cdc-first") else {
        return;
    };
    let capture = lab.start(["cdc"]);
    capture.wait_for_event("changes_streaming");
    postgres.sql("UPDATE users SET city = 'Århus', zip = zip + 1 WHERE zip = 1000");
    postgres.sql("INSERT INTO merchants VALUES ('a \"new\" one; 新', 12.50, NULL, 5)");
    capture.wait_for_events("changes_committed", 4);
    capture.signal(libc::SIGTERM);
    capture.wait_for_success();
    let rows = changes::read(lake(&lab), "users");
    assert_eq!(assert_steps(&rows, "user_id", "zip"), USERS);
    assert_same_table(&postgres, lake(&lab), "users", "user_id");
    assert_same_table(&postgres, lake(&lab), "merchants", "merchant");

    // Nothing new: nothing is written, and nothing read again.
    let files = lab.objects();
    catch_up(&lab);
    assert_eq!(lab.objects(), files);
}

/// One update of `users` and now and then of `merchants`, exactly once: after a kill the
/// server is asked whether the commit came through.
fn update(postgres: &Postgres, session: &mut Session, number: u64, random: &mut Random) {
    let id = user(1 + random.below(USERS));
    let merchant = match number % 3 {
        0 => {
            "UPDATE merchants SET merch_zipcode = merch_zipcode + 1, merch_lat = merch_lat + 0.01;"
        }
        _ => "",
    };
    let sql = format!(
        "BEGIN; UPDATE users SET zip = zip + 1, job = '{number}' WHERE user_id = '{id}'; {merchant} COMMIT"
    );
    while session.try_sql(&sql).is_err() {
        *session = postgres.session();
        let job = session.try_sql(&format!("SELECT job FROM users WHERE user_id = '{id}'"));
        if job.is_ok_and(|rows| rows[0][0].as_deref() == Some(&number.to_string())) {
            break;
        }
    }
}

#[test]
fn twenty_kills_of_reader_and_server_during_2000_updates_lose_and_double_nothing() {
    const UPDATES: u64 = 2000;
    const KILLS: u64 = 20;
    let Some((mut lab, postgres)) = lab("cdc-kills") else {
        return;
    };
    // Longer than an acknowledgement takes: one that comes before its object would show.
    lab.set("CDC_FLUSH_SECONDS", "2");
    let done = AtomicU64::new(0);
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut random = Random(7);
            let mut session = postgres.session();
            for number in 1..=UPDATES {
                update(&postgres, &mut session, number, &mut random);
                // Slow enough that each life of the reader sees some of them.
                std::thread::sleep(Duration::from_millis(10));
                done.store(number, SeqCst);
            }
            is_over.store(true, SeqCst);
        });
        let mut random = Random(11);
        let mut capture = lab.start(["cdc"]);
        for kill in 0..KILLS {
            // Spread over the updates, each at a moment of its own.
            let at = (kill * UPDATES + random.below(UPDATES)) / KILLS;
            wait_until("updates", || {
                (done.load(SeqCst) >= at || is_over.load(SeqCst)).then_some(())
            });
            if kill % 2 == 0 {
                capture.try_wait_for(
                    "an object",
                    Duration::from_millis(random.below(3000)),
                    |lines| {
                        lines
                            .iter()
                            .any(|l| l["event"] == "changes_committed")
                            .then_some(())
                    },
                );
                capture.kill();
                capture = lab.start(["cdc"]);
            } else if kill % 10 == 1 {
                postgres.kill();
            } else {
                postgres.crash();
            }
            assert!(!capture.has_ended(), "{}", capture.messages());
        }
        capture.kill();
    });
    catch_up(&lab);
    let rows = changes::read(lake(&lab), "users");
    let steps = assert_steps(&rows, "user_id", "zip");
    assert!(
        steps > UPDATES / 2,
        "{steps} updates came after the snapshot"
    );
    let merchants = changes::read(lake(&lab), "merchants");
    assert_steps(&merchants, "merchant", "merch_zipcode");
    assert_same_table(&postgres, lake(&lab), "users", "user_id");
    assert_same_table(&postgres, lake(&lab), "merchants", "merchant");
    eprintln!("{} objects", lab.objects().len());
}
