//! The replication slot: what it holds, how it is lost, what is said about it.

use std::time::{Duration, Instant};

use crate::common::changes::{self, assert_same_table, catch_up, lab, lab_on, lake};
use crate::common::cluster::Postgres;
use crate::common::{Lab, wait_until};

const CHANGE: &str = "UPDATE users SET zip = zip + 1";

/// A capture stops with this error.
fn fails_with(lab: &Lab, expected: &str) {
    let (code, said) = lab.start(["cdc"]).wait_for_failure();
    assert_eq!(code, 1, "{said}");
    assert!(said.contains(expected), "{expected}: {said}");
    assert!(!said.contains("secret-word"), "{said}");
}

fn confirmed(postgres: &Postgres, at: &str) -> bool {
    let sql = format!(
        "SELECT confirmed_flush_lsn >= '{at}' FROM pg_replication_slots WHERE slot_name = 'ftap_changes'"
    );
    postgres.value(&sql) == "t"
}

#[test]
fn an_idle_slot_holds_little_log_while_other_tables_and_databases_are_written() {
    let Some((lab, postgres)) = lab("cdc-idle") else {
        return;
    };
    // An idle server then asks each second whether the reader is there, as one that stops does.
    postgres.sql("ALTER SYSTEM SET wal_sender_timeout = '2s'");
    postgres.sql("SELECT pg_reload_conf()");
    let capture = lab.start(["cdc"]);
    capture.wait_for_event("changes_streaming");
    postgres.sql("CREATE TABLE other (n int)");
    postgres.sql("INSERT INTO other SELECT generate_series(1, 10000)");
    postgres.sql("CREATE DATABASE elsewhere");
    // It moves on by messages in the log, each time that has grown by a megabyte.
    let at = postgres.value("SELECT pg_current_wal_flush_lsn() - 1048576");
    wait_until("the slot to move on", || {
        confirmed(&postgres, &at).then_some(())
    });
    // So does the place from where on the server keeps its log.
    wait_until("the log to be let go", || {
        // The server says there what runs, by which it moves a slot on.
        postgres.sql("CHECKPOINT");
        postgres.sql("SELECT pg_logical_emit_message(false, 'weight', repeat('x', 300000))");
        let sql = format!(
            "SELECT restart_lsn >= '{at}' FROM pg_replication_slots WHERE slot_name = 'ftap_changes'"
        );
        (postgres.value(&sql) == "t").then_some(())
    });
    capture.signal(libc::SIGTERM);
    capture.wait_for_success();
    assert_eq!(
        capture.events("changes_committed").len(),
        2,
        "the snapshots alone"
    );
    assert_eq!(capture.events("changes_streaming").len(), 1);
}

#[test]
fn a_server_that_stops_does_not_wait_for_the_next_flush() {
    let Some((mut lab, postgres)) = lab("cdc-stop") else {
        return;
    };
    lab.set("CDC_FLUSH_SECONDS", "600");
    let capture = lab.start(["cdc"]);
    capture.wait_for_event("changes_streaming");
    postgres.sql(CHANGE);
    let stop = Instant::now();
    drop(postgres);
    assert!(
        stop.elapsed() < Duration::from_secs(20),
        "{:?}",
        stop.elapsed()
    );
    let committed = capture.wait_for_events("changes_committed", 3);
    assert_eq!(committed[2]["rows"], changes::USERS);
    capture.wait_for_event("change_capture_interrupted");
}

#[test]
fn a_slot_that_is_gone_or_lost_is_an_error_and_a_new_snapshot_fixes_it() {
    let Some((lab, postgres)) =
        Postgres::start_keeping(1 << 20).and_then(|postgres| lab_on("cdc-lost", postgres))
    else {
        return;
    };
    let fails_with = |args: &[&str], expected: &str| {
        let (code, said) = lab.start(args).wait_for_failure();
        assert_eq!(code, 1, "{said}");
        assert!(said.contains(expected), "{said}");
    };
    let resnapshot = |epoch| {
        let capture = lab.start(["cdc", "--resnapshot", "--until-drained"]);
        let taken = capture.wait_for_event("changes_snapshot_taken");
        capture.wait_for_success();
        assert_eq!(taken["epoch"], epoch);
        assert_same_table(&postgres, lake(&lab), "users", "user_id");
    };
    catch_up(&lab);
    postgres.sql(CHANGE);
    catch_up(&lab);

    postgres.sql("SELECT pg_drop_replication_slot('ftap_changes')");
    postgres.sql(CHANGE);
    fails_with(&["cdc"], "`ftap cdc --resnapshot`");
    resnapshot(2);
    postgres.sql(CHANGE);
    catch_up(&lab);
    assert_same_table(&postgres, lake(&lab), "users", "user_id");

    // More log than the server keeps for a slot.
    for _ in 0..4 {
        postgres.sql("SELECT pg_switch_wal()");
        postgres.sql(CHANGE);
    }
    postgres.sql("CHECKPOINT");
    fails_with(&["cdc"], "max_slot_wal_keep_size");
    resnapshot(3);

    postgres.sql("DROP PUBLICATION ftap_publication");
    fails_with(&["cdc"], "publication");
    resnapshot(4);

    std::fs::remove_dir_all(lake(&lab)).unwrap();
    fails_with(&["cdc"], "CDC_SLOT");
}

#[test]
fn what_the_server_lacks_is_said() {
    let Some((mut lab, postgres)) = lab("cdc-refused") else {
        return;
    };
    // A role without REPLICATION.
    postgres.sql("CREATE ROLE reader LOGIN PASSWORD 'secret-word'; GRANT SELECT ON users, merchants TO reader; CREATE PUBLICATION ftap_publication FOR TABLE users, merchants");
    lab.set("POSTGRES_USER", "reader");
    lab.set("POSTGRES_PASSWORD", "secret-word");
    fails_with(&lab, "ALTER ROLE \"reader\" REPLICATION");
    postgres.sql("ALTER ROLE reader REPLICATION; DROP PUBLICATION ftap_publication");
    lab.set("POSTGRES_USER", "reader");
    fails_with(&lab, "CREATE PUBLICATION");
    postgres.use_in(&mut lab);

    // Publications that leave something out; filters and lists of columns came with version 15.
    let version: u32 = postgres.value("SHOW server_version_num").parse().unwrap();
    for (since, publication, expected) in [
        (0, "users", "ADD TABLE \"public\".\"merchants\""),
        (
            0,
            "users, merchants WITH (publish = 'insert, delete')",
            "SET (publish =",
        ),
        (
            15,
            "users WHERE (zip > 5), merchants",
            "rows of table users",
        ),
        (15, "users, merchants (merchant)", "merch_lat"),
    ] {
        if version / 10_000 < since {
            continue;
        }
        postgres.sql(&format!(
            "CREATE PUBLICATION ftap_publication FOR TABLE {publication}"
        ));
        fails_with(&lab, expected);
        postgres.sql("DROP PUBLICATION ftap_publication");
    }
    assert_eq!(lab.objects().len(), 0);

    // No slot left; another program's that is dropped makes room.
    let limit: u32 = postgres
        .value("SHOW max_replication_slots")
        .parse()
        .unwrap();
    postgres.sql(&format!(
        "SELECT pg_create_physical_replication_slot('s' || n) FROM generate_series(1, {limit}) n"
    ));
    let capture = lab.start(["cdc"]);
    let waiting = capture.wait_for_event("change_capture_interrupted");
    assert!(
        waiting["error"]
            .as_str()
            .unwrap()
            .contains("max_replication_slots"),
        "{waiting}"
    );
    postgres.sql("SELECT pg_drop_replication_slot('s1'), pg_drop_replication_slot('s2')");
    capture.wait_for_event("changes_streaming");

    // A table that is taken out of the publication is missed by the one that reads, and at
    // each start.
    postgres.sql("ALTER PUBLICATION ftap_publication DROP TABLE merchants");
    let (_, said) = capture.wait_for_failure();
    assert!(said.contains("lacks table merchants"), "{said}");
    fails_with(
        &lab,
        "ADD TABLE \"public\".\"merchants\", then `ftap cdc --resnapshot`",
    );
    postgres.sql("ALTER PUBLICATION ftap_publication ADD TABLE merchants; UPDATE merchants SET merch_zipcode = 9");
    lab.start(["cdc", "--resnapshot", "--until-drained"])
        .wait_for_success();
    assert_same_table(&postgres, lake(&lab), "merchants", "merchant");
}

/// With its schema: one of the role's own name may come first in its path.
const REMADE: &str = "CREATE TABLE public.old AS TABLE public.users; DROP TABLE public.users;
     CREATE TABLE public.users (LIKE public.old); ALTER TABLE public.users ADD PRIMARY KEY (user_id);
     INSERT INTO public.users SELECT * FROM public.old LIMIT 5; DROP TABLE public.old";

#[test]
fn a_table_that_is_dropped_and_recreated_is_an_error_that_a_resnapshot_fixes() {
    let Some((mut lab, postgres)) = lab("cdc-remade") else {
        return;
    };
    // Our own publication has lost the table.
    catch_up(&lab);
    postgres.sql(REMADE);
    fails_with(&lab, "lacks table users");
    lab.start(["cdc", "--resnapshot", "--until-drained"])
        .wait_for_success();
    assert_same_table(&postgres, lake(&lab), "users", "user_id");

    // One of all tables has the new one, too: as a stream nothing would be wrong with it.
    postgres.sql("CREATE PUBLICATION everything FOR ALL TABLES");
    lab.set("CDC_PUBLICATION", "everything");
    lab.start(["cdc", "--resnapshot", "--until-drained"])
        .wait_for_success();
    let capture = lab.start(["cdc"]);
    capture.wait_for_event("changes_streaming");
    postgres.sql(CHANGE);
    postgres.sql("ALTER TABLE users ADD COLUMN email TEXT DEFAULT 'a@b'");
    postgres.sql(CHANGE);
    let event = capture.wait_for_event("table_columns_changed");
    assert_eq!(
        (&event["new"], &event["gone"]),
        (&serde_json::json!(["email"]), &serde_json::json!([]))
    );
    postgres.sql(REMADE);
    let (_, said) = capture.wait_for_failure();
    assert!(
        said.contains("users was dropped and created again"),
        "{said}"
    );
    fails_with(&lab, "users was dropped and created again");
    lab.start(["cdc", "--resnapshot", "--until-drained"])
        .wait_for_success();
    assert_same_table(&postgres, lake(&lab), "users", "user_id");
}

#[test]
fn the_error_of_a_server_that_does_not_decode_its_log_says_what_to_set_and_to_restart() {
    let Some((lab, _postgres)) = Postgres::start_with(1 << 30, &["wal_level=replica"])
        .and_then(|postgres| lab_on("cdc-level", postgres))
    else {
        return;
    };
    let (code, said) = lab.start(["cdc"]).wait_for_failure();
    assert_eq!(code, 1, "{said}");
    for expected in [
        "wal_level is replica",
        "wal_level = logical",
        "restart the server",
    ] {
        assert!(said.contains(expected), "{said}");
    }
}

#[test]
fn a_snapshot_copies_nothing_while_there_is_no_place_for_its_two_slots() {
    let Some((lab, postgres)) = Postgres::start_with(1 << 30, &["max_replication_slots=2"])
        .and_then(|postgres| lab_on("cdc-slots", postgres))
    else {
        return;
    };
    postgres.sql("SELECT pg_create_physical_replication_slot('backup')");
    let capture = lab.start(["cdc"]);
    // At a place for the temporary slot alone the tables were copied again and again.
    let waiting = capture.wait_for_events("change_capture_interrupted", 3);
    for expected in [
        "max_replication_slots is 2",
        "needs 2 free ones",
        "in use are backup;",
        "pg_drop_replication_slot",
    ] {
        let said = waiting[2]["error"].as_str().unwrap();
        assert!(said.contains(expected), "{expected}: {said}");
    }
    assert!(capture.events("changes_snapshot_started").is_empty());
    assert!(!lake(&lab).join("users_changes").exists());
    postgres.sql("SELECT pg_drop_replication_slot('backup')");
    assert_eq!(capture.wait_for_event("changes_streaming")["epoch"], 1);
    capture.signal(libc::SIGTERM);
    capture.wait_for_success();
    // Another one replaces its own slot, so one free place is enough.
    postgres.sql("SELECT pg_create_physical_replication_slot('backup')");
    let again = lab.start(["cdc", "--resnapshot"]);
    let waiting = again.wait_for_event("change_capture_interrupted");
    let said = waiting["error"].as_str().unwrap();
    assert!(said.contains("in use are backup, ftap_changes;"), "{said}");
    postgres.sql("SELECT pg_drop_replication_slot('backup')");
    assert_eq!(again.wait_for_event("changes_streaming")["epoch"], 2);
}

#[test]
fn a_slot_that_is_lost_under_a_frozen_reader_or_snapshot_is_named_with_what_to_do() {
    let Some((mut lab, postgres)) =
        Postgres::start_keeping(1 << 20).and_then(|postgres| lab_on("cdc-outrun", postgres))
    else {
        return;
    };
    postgres.sql("INSERT INTO merchants SELECT 'x' || n, 0, 0, 0 FROM generate_series(1, 20000) n");
    let outrun = || {
        for _ in 0..4 {
            postgres.sql("SELECT pg_switch_wal()");
            postgres.sql(CHANGE);
        }
        postgres.sql("CHECKPOINT");
    };
    lab.set("FILE_MAX_ROWS", "200");
    let capture = lab.start(["cdc"]);
    capture.wait_for_events("changes_committed", 5);
    capture.signal(libc::SIGSTOP);
    assert_eq!(
        capture.events("changes_snapshot_taken").len(),
        0,
        "frozen too late"
    );
    outrun();
    capture.signal(libc::SIGCONT);
    let again = capture.wait_for_event("change_capture_interrupted");
    assert!(
        again["error"]
            .as_str()
            .unwrap()
            .contains("max_slot_wal_keep_size"),
        "{again}"
    );
    capture.wait_for_event("changes_streaming");

    capture.signal(libc::SIGSTOP);
    outrun();
    capture.signal(libc::SIGCONT);
    let (code, said) = capture.wait_for_failure();
    assert_eq!(code, 1, "{said}");
    assert!(
        said.contains("max_slot_wal_keep_size") && said.contains("`ftap cdc --resnapshot`"),
        "{said}"
    );
    lab.start(["cdc", "--resnapshot", "--until-drained"])
        .wait_for_success();
    assert_same_table(&postgres, lake(&lab), "users", "user_id");
    assert_same_table(&postgres, lake(&lab), "merchants", "merchant");
}
