//! What the changes of a table look like in the lake, whatever their kind.

use std::time::Instant;

use crate::common::changes::{self, assert_same_table, catch_up, lab, lake, user};
use serde_json::json;

#[test]
fn every_kind_of_change_comes_with_what_the_server_sends_of_the_row_before() {
    let Some((lab, postgres)) = lab("cdc-kinds") else {
        return;
    };
    catch_up(&lab);
    let (one, two, three, new) = (user(1), user(2), user(3), user(900));
    postgres.sql(&format!(
        "UPDATE users SET city = NULL, street = E'a\\tb\\n\"c\" \\\\ 東京 🦀 '';' WHERE user_id = '{one}';
         DELETE FROM users WHERE user_id = '{two}';
         UPDATE users SET user_id = '{new}' WHERE user_id = '{three}';
         UPDATE users SET gender = NULL, dob = 'infinity', lat = 'NaN', long = 12345678901234567890.123456789012345678900 WHERE user_id = '{}';
         UPDATE users SET dob = '0044-03-15 BC', lat = 1e-20, long = -0.10, first_name = '' WHERE user_id = '{}';
         INSERT INTO users (user_id) VALUES ('{two}')",
        user(4),
        user(5),
    ));
    catch_up(&lab);
    assert_same_table(&postgres, lake(&lab), "users", "user_id");
    let rows = changes::read(lake(&lab), "users");
    let of = |op: &str| {
        rows.iter()
            .filter(|row| row.op == op)
            .cloned()
            .collect::<Vec<_>>()
    };
    assert_eq!(of("snapshot").len() as u64, changes::USERS);
    assert_eq!(of("delete")[0].before, Some(json!({ "user_id": two })));
    assert_eq!(of("delete")[0].get("user_id"), Some(two.as_str()));
    assert_eq!(of("delete")[0].get("city"), None);
    let updates = of("update");
    assert_eq!(updates[0].before, None, "the key is as it was");
    assert_eq!(updates[1].before, Some(json!({ "user_id": three })));
    // One statement string is one transaction.
    let of_commit: Vec<_> = rows.iter().filter(|row| row.op != "snapshot").collect();
    assert!(of_commit.iter().all(|row| row.xid == of_commit[0].xid));
    let seqs: Vec<_> = of_commit.iter().map(|row| row.seq).collect();
    assert_eq!(seqs, [1, 2, 3, 4, 5, 6]);

    // With the whole row as its identity each change has the whole row before.
    postgres.sql(&format!(
        "ALTER TABLE users REPLICA IDENTITY FULL;
         UPDATE users SET zip = 7 WHERE user_id = '{one}'"
    ));
    postgres.sql(&format!("DELETE FROM users WHERE user_id = '{one}'"));
    catch_up(&lab);
    let rows = changes::read(lake(&lab), "users");
    let [.., update, delete] = rows.as_slice() else {
        panic!("{rows:?}")
    };
    assert_eq!(update.before.as_ref().unwrap()["zip"], json!("1000"));
    assert_eq!(update.before.as_ref().unwrap()["city"], json!(null));
    assert_eq!(delete.before.as_ref().unwrap()["zip"], json!("7"));
    assert_same_table(&postgres, lake(&lab), "users", "user_id");
}

#[test]
fn a_large_value_that_an_update_leaves_alone_is_marked_and_a_truncate_is_a_change() {
    let Some((lab, postgres)) = lab("cdc-toast") else {
        return;
    };
    let id = user(1);
    // Not compressible: stored outside the row, so an update does not log it.
    let large = format!(
        "UPDATE users SET street = (SELECT string_agg(md5(n::text), '') FROM generate_series(1, 1000) n) WHERE user_id = '{id}'"
    );
    catch_up(&lab);
    postgres.sql(&large);
    postgres.sql(&format!("UPDATE users SET zip = 2 WHERE user_id = '{id}'"));
    catch_up(&lab);
    let rows = changes::read(lake(&lab), "users");
    let last = rows.last().unwrap();
    assert_eq!((last.get("street"), last.get("zip")), (None, Some("2")));
    assert_eq!(last.unchanged, ["street"]);
    assert_same_table(&postgres, lake(&lab), "users", "user_id");

    // The row before has it, so nothing is missing.
    postgres.sql("ALTER TABLE users REPLICA IDENTITY FULL");
    postgres.sql(&format!("UPDATE users SET zip = 3 WHERE user_id = '{id}'"));
    catch_up(&lab);
    let rows = changes::read(lake(&lab), "users");
    let last = rows.last().unwrap();
    assert_eq!(last.get("street").map(str::len), Some(32_000));
    assert!(last.unchanged.is_empty());

    postgres.sql(
        "BEGIN; TRUNCATE users, merchants; INSERT INTO merchants VALUES ('m', 1, 2, 3); COMMIT",
    );
    catch_up(&lab);
    assert_same_table(&postgres, lake(&lab), "users", "user_id");
    assert_same_table(&postgres, lake(&lab), "merchants", "merchant");
}

#[test]
fn columns_that_come_go_and_change_their_type_start_new_objects() {
    let Some((mut lab, postgres)) = lab("cdc-columns") else {
        return;
    };
    // All in one flush: only the columns can tell the objects apart.
    lab.set("CDC_FLUSH_SECONDS", "600");
    catch_up(&lab);
    let id = user(1);
    let change = format!("UPDATE users SET city = city || '.' WHERE user_id = '{id}'");
    postgres.sql(&change);
    postgres.sql("ALTER TABLE users ADD COLUMN score BIGINT, ADD COLUMN seen TIMESTAMPTZ, ADD COLUMN _op BOOLEAN");
    postgres.sql(&format!("UPDATE users SET score = 9007199254740993, seen = '2026-11-22 23:59:59.25+01', _op = true WHERE user_id = '{id}'"));
    postgres.sql("ALTER TABLE users ALTER COLUMN score TYPE TEXT USING 'score ' || score");
    postgres.sql(&change);
    postgres.sql("ALTER TABLE users DROP COLUMN job, DROP COLUMN _op");
    postgres.sql(&change);
    // All of it within one transaction, too, and a name that passes from one column to another.
    postgres.sql(&format!(
        "BEGIN; {change}; ALTER TABLE users RENAME COLUMN score TO points; ALTER TABLE users ADD COLUMN score INT DEFAULT 7; {change};
         ALTER TABLE users ALTER COLUMN score TYPE TEXT; ALTER TABLE users DROP COLUMN points; {change}; COMMIT"
    ));
    catch_up(&lab);
    let files = changes::files(lake(&lab), "users");
    let rows: Vec<_> = files
        .iter()
        .flat_map(|file| changes::read_file(file))
        .collect();
    let updates: Vec<_> = rows.iter().filter(|row| row.op == "update").collect();
    assert_eq!(updates.len(), 7);
    assert_eq!(
        files.len(),
        8,
        "a snapshot, and one object for each shape: {files:?}"
    );
    assert_eq!(updates[1].get("score"), Some("9007199254740993"));
    assert_eq!(updates[1].get("seen"), Some("2026-11-22 22:59:59.250+00"));
    assert_eq!(updates[2].get("score"), Some("score 9007199254740993"));
    assert!(!updates[3].columns.contains_key("job"));
    assert_eq!(updates[3].get("city"), Some("Oslo..."));
    let scores: Vec<_> = updates[4..].iter().map(|row| row.get("score")).collect();
    assert_eq!(
        scores,
        [Some("score 9007199254740993"), Some("7"), Some("7")]
    );
    assert_eq!(updates[5].get("points"), Some("score 9007199254740993"));
}

#[test]
fn a_transaction_larger_than_an_object_is_split_and_survives_kills_within() {
    const ROWS: u64 = 20_000;
    let Some((mut lab, postgres)) = lab("cdc-large") else {
        return;
    };
    postgres.sql(&format!("TRUNCATE merchants; INSERT INTO merchants SELECT 'm' || n, 0, 0, 0 FROM generate_series(1, {ROWS}) n"));
    lab.set("FILE_MAX_ROWS", "1000");
    catch_up(&lab);
    let parts = changes::files(lake(&lab), "merchants").len();
    assert_eq!(parts, 21, "the snapshot is split, too");
    postgres.sql("UPDATE merchants SET merch_zipcode = 1; ");
    for objects in [3, 5, 7] {
        let capture = lab.start(["cdc"]);
        capture.wait_for_events("changes_committed", objects);
        capture.kill();
    }
    catch_up(&lab);
    let rows = changes::read(lake(&lab), "merchants");
    let updates: Vec<_> = rows.iter().filter(|row| row.op == "update").collect();
    assert_eq!(updates.len() as u64, ROWS);
    assert!(updates.iter().zip(1..).all(|(row, seq)| row.seq == seq));
    assert_same_table(&postgres, lake(&lab), "merchants", "merchant");
}

#[test]
fn memory_does_not_grow_with_the_transaction_and_a_kill_in_its_middle_costs_nothing() {
    // Half of them inserts, half updates; FTAP_HUGE_ROWS=1000000 for figures.
    let huge: u64 = std::env::var("FTAP_HUGE_ROWS").map_or(120_000, |rows| rows.parse().unwrap());
    let Some((mut lab, postgres)) = lab("cdc-huge") else {
        return;
    };
    lab.set("FILE_MAX_ROWS", "10000");
    lab.set("CDC_FLUSH_SECONDS", "600");
    catch_up(&lab);
    let mut peaks = Vec::new();
    for (name, rows) in [("small", huge / 10), ("huge", huge)] {
        let half = rows / 2;
        postgres.sql(&format!(
            "BEGIN; INSERT INTO merchants SELECT '{name} ' || n, n, 0.5, 0 FROM generate_series(1, {half}) n;
             UPDATE merchants SET merch_zipcode = 1 WHERE merchant LIKE '{name} %'; COMMIT"
        ));
        if name == "huge" {
            let capture = lab.start(["cdc"]);
            capture.wait_for_events("changes_committed", 3);
            capture.kill();
        }
        let started = Instant::now();
        let capture = lab.start(["cdc", "--until-drained"]);
        let peak = capture.peak_memory_bytes();
        capture.wait_for_success();
        let seconds = started.elapsed().as_secs_f64();
        let committed = capture.events("changes_committed");
        let last = committed.last().unwrap()["last"]
            .as_str()
            .unwrap()
            .to_owned();
        assert!(last.ends_with(&format!("#{rows}")), "{last}");
        println!(
            "{rows} changes in one commit: {} MB at the most, {seconds:.1} s",
            peak >> 20
        );
        peaks.push(peak);
    }
    assert!(peaks[1] < peaks[0] + (48 << 20), "{peaks:?}");
    let rows = changes::read(lake(&lab), "merchants");
    let commit = rows.last().unwrap().lsn;
    let commit: Vec<_> = rows.iter().filter(|row| row.lsn == commit).collect();
    assert_eq!(commit.len() as u64, huge);
    assert!(commit.iter().zip(1..).all(|(row, seq)| row.seq == seq));
    assert_same_table(&postgres, lake(&lab), "merchants", "merchant");
}
