//! The first snapshot while the tables change under it, and whatever interrupts it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use crate::common;
use crate::common::changes::{self, LakeRow, assert_same_table, catch_up, lab, lake};
use crate::common::cluster::{Postgres, Session};
use crate::common::process::Ftap;
use crate::common::{Lab, Random};
use serde_json::Value;

const ACCOUNTS: u64 = 8_000;
const BALANCE: i64 = 1_000;

/// Merchants are accounts, their zip is the balance: transfers change no sum.
fn accounts(name: &str) -> Option<(Lab, Postgres)> {
    let (mut lab, postgres) = lab(name)?;
    postgres.sql(&format!(
        "TRUNCATE merchants; INSERT INTO merchants SELECT 'm' || n, n, 0.5, {BALANCE} FROM generate_series(1, {ACCOUNTS}) n"
    ));
    // Many parts: a snapshot takes its time, and a kill hits it within.
    lab.set("FILE_MAX_ROWS", "250");
    Some((lab, postgres))
}

/// One transaction that takes from one account and gives to another, and now and then gives an
/// account another name or moves it into another row. Sums hold whether it comes through or not: at a
/// lower isolation level, an update that waits for a row that moves would change nothing.
fn transfer(session: &mut Session, random: &mut Random) -> bool {
    let (from, to) = (1 + random.below(ACCOUNTS), 1 + random.below(ACCOUNTS));
    let amount = random.below(50);
    let (either, other) = (
        format!("merchant IN ('m{from}', 'n{from}')"),
        "translate(left(merchant, 1), 'mn', 'nm') || substr(merchant, 2)",
    );
    let rename = match random.below(6) {
        0 => format!("UPDATE merchants SET merchant = {other} WHERE {either};"),
        1 => format!(
            "WITH gone AS (DELETE FROM merchants WHERE {either} RETURNING *) INSERT INTO merchants SELECT {other}, merch_lat, merch_long, merch_zipcode FROM gone;"
        ),
        _ => String::new(),
    };
    let sql = format!(
        "BEGIN ISOLATION LEVEL REPEATABLE READ; UPDATE merchants SET merch_zipcode = merch_zipcode - {amount} WHERE {either}; {rename}
         UPDATE merchants SET merch_zipcode = merch_zipcode + {amount} WHERE merchant IN ('m{to}', 'n{to}'); COMMIT"
    );
    session.try_sql(&sql).is_ok()
}

/// The snapshot, and the table after each commit behind it, has every account and all the money.
/// Gives the number of commits.
fn assert_every_prefix_balances(rows: &[LakeRow]) -> usize {
    let mut table: BTreeMap<String, i64> = BTreeMap::new();
    let mut sum = 0;
    let mut commits = 0;
    for (index, row) in rows.iter().enumerate() {
        let name = row.get("merchant").unwrap().to_owned();
        let before = row.before.as_ref().and_then(|b| b["merchant"].as_str());
        if row.op == "delete" || row.op == "update" {
            let gone = table.remove(before.unwrap_or(&name));
            sum -= gone.unwrap_or_else(|| panic!("there is no row before {row:?}"));
        }
        if row.op != "delete" {
            let balance: i64 = row.get("merch_zipcode").unwrap().parse().unwrap();
            sum += balance;
            let other = table.insert(name, balance);
            assert_eq!(other, None, "{row:?} is there already");
        }
        let next = rows.get(index + 1);
        if next.is_none_or(|next| (next.lsn, next.seq == 0) != (row.lsn, row.seq == 0)) {
            assert_eq!(table.len() as u64, ACCOUNTS, "after {row:?}");
            assert_eq!(sum, BALANCE * ACCOUNTS as i64, "after {row:?}");
            commits += usize::from(row.seq > 0);
        }
    }
    commits
}

/// Ends the transfers also where the test fails, which would wait for them else.
struct EndWhenDropped<'a>(&'a AtomicBool);

impl Drop for EndWhenDropped<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

#[test]
fn a_snapshot_killed_at_any_moment_during_transfers_is_complete_in_the_end() {
    const KILLS: u64 = 9;
    let Some((lab, postgres)) = accounts("cdc-snapshot") else {
        return;
    };
    let (is_over, hurry) = (AtomicBool::new(false), AtomicBool::new(false));
    let transfers = AtomicU64::new(0);
    let mut epochs = BTreeSet::new();
    let mut within = 0;
    std::thread::scope(|scope| {
        let end = EndWhenDropped(&is_over);
        for seed in [5, 6] {
            let (postgres, transfers) = (&postgres, &transfers);
            let (is_over, hurry) = (&is_over, &hurry);
            scope.spawn(move || {
                let mut random = Random(seed);
                let mut session = postgres.session();
                while !is_over.load(SeqCst) {
                    if transfer(&mut session, &mut random) {
                        transfers.fetch_add(1, SeqCst);
                    } else {
                        session = postgres.session();
                    }
                    if !hurry.load(SeqCst) {
                        std::thread::sleep(Duration::from_millis(2));
                    }
                }
            });
        }
        let mut random = Random(17);
        let started = Instant::now();
        let mut capture = lab.start(["cdc"]);
        for kill in 0..KILLS {
            // From a snapshot's first moment to its last object.
            let parts = random.below(34) as usize;
            capture.wait_for("a part of a snapshot", |lines| {
                let event = |name| move |line: &&Value| line["event"] == name;
                let start = lines
                    .iter()
                    .rposition(|line| event("changes_snapshot_started")(&line));
                let of_this = &lines[start?..];
                let is_over = of_this
                    .iter()
                    .any(|line| event("changes_snapshot_taken")(&line));
                let put = of_this.iter().filter(event("changes_committed")).count();
                let is_new = !of_this
                    .iter()
                    .any(|line| event("change_capture_interrupted")(&line));
                (is_over || (is_new && put >= parts)).then_some(())
            });
            if capture.events("changes_snapshot_taken").is_empty() {
                within += 1;
            }
            for event in capture.events("changes_snapshot_started") {
                epochs.insert(event["epoch"].as_u64());
            }
            match kill % 3 {
                0 | 1 => {
                    capture.kill();
                    capture = lab.start(["cdc"]);
                }
                _ => postgres.crash(),
            }
            assert!(!capture.has_ended(), "{}", capture.messages());
        }
        // Some changes behind the snapshot that stays.
        capture.wait_for_event("changes_streaming");
        let at = transfers.load(SeqCst);
        common::wait_until("transfers", || {
            (transfers.load(SeqCst) > at + 200).then_some(())
        });
        capture.kill();
        // Whole ones, one after the other: what is committed at a snapshot's very moment is in it
        // or behind it.
        hurry.store(true, SeqCst);
        for _ in 0..4 {
            let mut command = lab.command(["cdc", "--resnapshot", "--until-drained"]);
            command.env("FILE_MAX_ROWS", "1000000");
            Ftap::start(command).wait_for_success();
            assert_every_prefix_balances(&changes::read(lake(&lab), "merchants"));
        }
        drop(end);
        eprintln!(
            "{KILLS} kills, {within} of them within a snapshot, in {:?}",
            started.elapsed()
        );
    });
    catch_up(&lab);
    let rows = changes::read(lake(&lab), "merchants");
    let commits = assert_every_prefix_balances(&rows);
    assert!(commits > 0, "no commit after the snapshot");
    assert!(within >= 5, "only {within} kills came within a snapshot");
    assert_same_table(&postgres, lake(&lab), "merchants", "merchant");
    assert_same_table(&postgres, lake(&lab), "users", "user_id");
    eprintln!(
        "{} transfers, {commits} commits replayed, epochs {epochs:?}",
        transfers.load(SeqCst)
    );
}

#[test]
fn an_epoch_is_whole_only_with_its_slot() {
    let Some((mut lab, postgres)) = lab("cdc-whole") else {
        return;
    };
    // One life ends without a slot, the next one with a slot and without the last object.
    lab.set(
        "FTAP_FAILPOINTS",
        "change_capture.slot=panic@1,change_capture.slot_kept=panic@1",
    );
    let capture = lab.start(["cdc"]);
    capture.wait_for_events("stage_failed", 2);
    postgres.sql("UPDATE users SET zip = zip + 1");
    let taken = capture.wait_for_event("changes_snapshot_taken");
    assert_eq!(taken["epoch"], 3);
    postgres.sql("UPDATE users SET zip = zip + 1");
    capture.wait_for_event("changes_streaming");
    capture.kill();
    lab.set("FTAP_FAILPOINTS", "");
    catch_up(&lab);
    assert_same_table(&postgres, lake(&lab), "users", "user_id");
    assert_same_table(&postgres, lake(&lab), "merchants", "merchant");
}

#[test]
fn a_new_snapshot_waits_for_the_process_that_reads_the_slot_and_nothing_is_lost_between_them() {
    let Some((lab, postgres)) = lab("cdc-two") else {
        return;
    };
    let change = || _ = postgres.sql("UPDATE users SET zip = zip + 1");
    let reader = lab.start(["cdc"]);
    reader.wait_for_event("changes_streaming");
    let other = lab.start(["cdc", "--resnapshot"]);
    let waiting = other.wait_for_event("change_capture_interrupted");
    let error = waiting["error"].as_str().unwrap();
    assert!(
        error.contains("is being read") && error.contains("CDC_SLOT"),
        "{error}"
    );
    change();
    reader.wait_for_events("changes_committed", 3);
    reader.kill();
    let taken = other.wait_for_event("changes_snapshot_taken");
    assert_eq!(taken["epoch"], 2, "nothing was copied in vain");
    change();
    other.wait_for_event("changes_streaming");
    other.signal(libc::SIGTERM);
    other.wait_for_success();
    catch_up(&lab);
    assert_same_table(&postgres, lake(&lab), "users", "user_id");
}
