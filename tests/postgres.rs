//! The batch side on a real PostgreSQL: load, updates, kills, and a server that is not well.
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::common;
use crate::common::postgres::{PASSWORD, Server, open_to_all};
use crate::common::{Lab, Random, wait_until};

/// A schedule whose time does not come during a test: only the run at start.
const NEVER: &str = "0 0 1 1 *";
const EVERY_SECOND: &str = "* * * * * *";

fn lab(name: &str) -> Lab {
    let mut lab = Lab::new(name).without_broker();
    lab.set("UPDATE_USERS_SCHEDULE", NEVER);
    lab
}

/// Users in the prepared file.
fn users_in_file() -> u64 {
    let text = std::fs::read_to_string(prepared("users")).unwrap();
    text.lines().count() as u64 - 1
}

fn prepared(what: &str) -> PathBuf {
    common::events_file().with_file_name(format!("credit_card_transactions_{what}.csv"))
}

#[test]
fn users_and_merchants_are_loaded_once_and_a_repeat_undoes_nothing() {
    let mut lab = lab("load");
    let Some(server) = Server::start(&mut lab) else {
        return;
    };
    let first = lab.start(["batch", "--once", "users"]);
    first.wait_for_success();
    let loaded = first.wait_for_events("table_loaded", 2);
    assert_eq!(loaded[0]["inserted"].as_u64(), Some(users_in_file()));
    let users = users_in_file();
    assert_eq!(server.number("SELECT count(*) FROM users"), users);
    assert!(server.number("SELECT count(*) FROM merchants") > 100);
    let updated = first.wait_for_event("users_updated");
    let expected = (users as f64 * 0.01).floor().max(1.0) as u64;
    assert_eq!(updated["count"].as_u64(), Some(expected));

    server.sql("UPDATE users SET street = 'moved'");
    server.sql("DELETE FROM users WHERE user_id = (SELECT min(user_id::text)::uuid FROM users)");
    let second = lab.start(["batch", "--once", "users"]);
    second.wait_for_success();
    assert_eq!(second.events("table_loaded").len(), 0);
    assert_eq!(server.number("SELECT count(*) FROM users"), users - 1);
    assert_eq!(server.sql("SELECT DISTINCT street FROM users"), ["moved"]);

    // As the original's tools expect it; the slot only when asked for.
    let published = "SELECT count(*) FROM pg_publication_tables WHERE pubname = 'airbyte_publication' AND tablename IN ('users', 'merchants')";
    assert_eq!(server.number(published), 2);
    let slots = "SELECT count(*) FROM pg_replication_slots WHERE slot_name = 'airbyte_slot' AND plugin = 'pgoutput'";
    assert_eq!(server.number(slots), 0);
    server.as_superuser("ALTER ROLE platform REPLICATION");
    lab.set("AIRBYTE_SLOT", "true");
    for _ in 0..2 {
        lab.start(["batch", "--once", "users"]).wait_for_success();
    }
    assert_eq!(server.number(slots), 1);
}

/// A published table without a key can't be updated.
#[test]
fn the_publication_for_other_readers_breaks_no_table_that_is_created_later() {
    let mut lab = lab("publication");
    let Some(server) = Server::start(&mut lab) else {
        return;
    };
    // As the private cluster's owner: a superuser.
    let password = std::fs::read_to_string(lab.path("server/password")).unwrap();
    lab.set("POSTGRES_USER", "ftap");
    lab.set("POSTGRES_PASSWORD", password.trim());
    lab.set("POSTGRES_DB", "platform");
    let once = || lab.start(["batch", "--once", "users"]).wait_for_success();
    let published = "SELECT tablename FROM pg_publication_tables WHERE pubname = 'airbyte_publication' ORDER BY 1";
    once();
    assert_eq!(server.superuser_sql(published), ["merchants", "users"]);
    server.superuser_sql("CREATE TABLE orders (id int, v int)");
    server.superuser_sql("INSERT INTO orders VALUES (1, 1)");
    server.superuser_sql("UPDATE orders SET v = 3");
    once();
    assert_eq!(server.superuser_sql("SELECT v FROM orders"), ["3"]);
    assert_eq!(server.superuser_sql(published), ["merchants", "users"]);
}

#[test]
fn a_bad_file_is_named_with_line_and_column_and_nothing_is_loaded() {
    let mut lab = lab("bad-files");
    let Some(server) = Server::start(&mut lab) else {
        return;
    };
    let events = lab.path("prepared/credit_card_transactions_events.csv");
    std::fs::create_dir(lab.path("prepared")).unwrap();
    std::fs::copy(common::events_file(), &events).unwrap();
    lab.set("EVENTS_FILE", &events);
    let users = lab.path("prepared/credit_card_transactions_users.csv");
    let merchants = lab.path("prepared/credit_card_transactions_merchants.csv");
    let text = |what| std::fs::read_to_string(prepared(what)).unwrap();
    let (good_users, good_merchants) = (text("users"), text("merchants"));
    let line = |number: usize| good_users.lines().nth(number - 1).unwrap();
    let id = |number| line(number).split(';').next().unwrap();
    let with = |number: usize, column: usize, value: &str| {
        let mut lines: Vec<_> = good_users.lines().map(str::to_owned).collect();
        let mut fields: Vec<_> = lines[number - 1].split(';').map(str::to_owned).collect();
        fields[column] = value.to_owned();
        lines[number - 1] = fields.join(";");
        lines.join("\n") + "\n"
    };
    let cases = [
        (
            with(5, 0, "not-an-id"),
            "line 5, column user_id: \"not-an-id\" is not a UUID",
        ),
        (with(3, 0, ""), "line 3, column user_id: it is empty"),
        (
            with(9, 10, "1988-02-30"),
            "line 9, column dob: \"1988-02-30\" is not a date",
        ),
        (
            with(7, 6, "28x"),
            "line 7, column zip: \"28x\" is not a whole number",
        ),
        (
            with(4, 7, "north"),
            "line 4, column lat: \"north\" is not a number",
        ),
        (
            with(2, 3, "FM"),
            "line 2, column gender: \"FM\" is not one character",
        ),
        (with(8, 0, id(6)), "line 8, column user_id"),
        (with(8, 0, &id(6).to_uppercase()), "is on line 6 already"),
        (
            with(1, 2, "surname"),
            "line 1, column last_name: the header is \"surname\"",
        ),
        (with(6, 10, "1988-01-01;more"), "line 6: it has 12 columns"),
        (String::new(), "line 1: the file is empty"),
    ];
    for (text, said) in &cases {
        std::fs::write(&users, text).unwrap();
        let run = lab.start(["batch", "--once", "users"]);
        let (code, message) = run.wait_for_failure();
        assert_eq!(code, 1, "{message}");
        assert!(message.contains(said), "{said}: {message}");
        assert!(message.contains("_users.csv"), "{message}");
        assert_eq!(server.number("SELECT count(*) FROM users"), 0, "{said}");
    }
    std::fs::write(&users, &good_users).unwrap();
    std::fs::write(&merchants, good_merchants.replacen(';', ",", 3)).unwrap();
    let (_, message) = lab.start(["batch", "--once", "users"]).wait_for_failure();
    assert!(
        message.contains("_merchants.csv, line 1, column merchant"),
        "{message}"
    );
    for table in ["users", "merchants"] {
        let rows = server.number(&format!("SELECT count(*) FROM {table}"));
        assert_eq!(rows, 0, "{table}");
    }
    std::fs::write(&merchants, &good_merchants).unwrap();
    lab.start(["batch", "--once", "users"]).wait_for_success();
    assert_eq!(server.number("SELECT count(*) FROM users"), users_in_file());
}

#[test]
fn a_tick_is_applied_once_whatever_is_killed_when() {
    let mut lab = lab("kills");
    let Some(server) = Server::start(&mut lab) else {
        return;
    };
    lab.set("UPDATE_PERCENTAGE", "0.1");
    let ledger = "SELECT count(*) FROM ftap.job_runs";
    // Every change of a user leaves a line, whichever process makes it.
    lab.start(["batch", "--once", "users", "--tick", "2026-01-01T00:00:00Z"])
        .wait_for_success();
    server.sql("CREATE TABLE audit (user_id uuid)");
    server.sql("CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO audit VALUES (NEW.user_id); RETURN NULL; END $$");
    server.sql("CREATE TRIGGER note AFTER UPDATE ON users FOR EACH ROW EXECUTE FUNCTION note()");
    server.sql("DELETE FROM ftap.job_runs");

    // At the start's tick, before and after the commit.
    lab.set("FTAP_FAILPOINTS", "user_mutator_before_commit=hang");
    let before = lab.start(["batch"]);
    let open = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'ftap' AND state = 'idle in transaction'";
    wait_until("a run before its commit", || {
        (server.number(open) == 1).then_some(())
    });
    before.kill();
    lab.set("FTAP_FAILPOINTS", "user_mutator_after_commit=hang");
    let after = lab.start(["batch"]);
    wait_until("a committed run", || {
        (server.number(ledger) == 1).then_some(())
    });
    after.kill();
    lab.set("FTAP_FAILPOINTS", "");
    let again = lab.start(["batch"]);
    again.wait_for_event("job_already_applied");
    again.kill();
    let changed = "SELECT count(*) FROM audit";
    let recorded = "SELECT sum(rows_changed)::bigint FROM ftap.job_runs";
    assert_eq!(server.number(changed), server.number(recorded));
    assert_eq!(server.number(ledger), 1);

    // At random moments.
    let mut random = Random(7);
    for tick in 0..8 {
        let tick = format!("2026-02-01T00:00:0{tick}Z");
        let args = ["batch", "--once", "users", "--tick", &tick];
        let run = lab.start(args);
        std::thread::sleep(Duration::from_millis(random.below(400)));
        run.kill();
        lab.start(args).wait_for_success();
    }
    assert_eq!(server.number(ledger), 9);
    assert_eq!(server.number(changed), server.number(recorded));
}

#[test]
fn the_same_seed_and_tick_change_the_same_users_alike() {
    let mut tables = Vec::new();
    for _ in 0..2 {
        let mut lab = lab("seed");
        let Some(server) = Server::start(&mut lab) else {
            return;
        };
        lab.set("UPDATE_SEED", "42");
        for tick in ["2026-01-01T00:00:00Z", "2026-01-01T00:05:00Z"] {
            lab.start(["batch", "--once", "users", "--tick", tick])
                .wait_for_success();
        }
        tables.push(server.sql("SELECT users::text FROM users ORDER BY user_id"));
    }
    assert_eq!(tables[0], tables[1]);
}

#[test]
fn a_server_that_goes_away_is_waited_for() {
    let mut lab = lab("gone");
    let Some(mut server) = Server::start(&mut lab) else {
        return;
    };
    lab.set("UPDATE_USERS_SCHEDULE", EVERY_SECOND);
    let batch = lab.start(["batch"]);
    batch.wait_for_events("users_updated", 2);
    server.stop();
    let waits = batch.wait_for_event("postgres_unavailable");
    assert!(
        waits["error"].as_str().unwrap().contains("POSTGRES_HOST"),
        "{waits}"
    );
    let before = batch.events("users_updated").len();
    server.resume();
    batch.wait_for_events("users_updated", before + 2);
    assert_eq!(batch.events("group_restarting").len(), 0);
    // Each second was run once or covered by a later run, none twice.
    let mut ticks = BTreeMap::new();
    for event in batch.events("users_updated") {
        *ticks.entry(event["tick"].to_string()).or_insert(0) += 1;
    }
    assert!(ticks.values().all(|count| *count == 1), "{ticks:?}");
    batch.signal(libc::SIGTERM);
    batch.wait_for_success();
}

#[test]
fn a_full_or_read_only_server_is_named_and_waited_for() {
    let mut lab = lab("unwell");
    let Some(server) = Server::start(&mut lab) else {
        return;
    };
    lab.start(["batch", "--once", "users"]).wait_for_success();
    let held = server.take_all_connections();
    assert!(held.count() > 10);
    let batch = lab.start(["batch"]);
    let waits = batch.wait_for_event("postgres_unavailable");
    let said = waits["error"].as_str().unwrap();
    assert!(said.contains("max_connections"), "{said}");
    drop(held);
    batch.wait_for_event("users_updated");
    batch.kill();

    server.as_superuser("ALTER DATABASE platform SET default_transaction_read_only = on");
    server.as_superuser(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'platform'",
    );
    let run = lab.start(["batch", "--once", "users"]);
    let waits = run.wait_for_event("postgres_unavailable");
    let said = waits["error"].as_str().unwrap();
    assert!(said.contains("default_transaction_read_only"), "{said}");
    server.as_superuser("ALTER DATABASE platform SET default_transaction_read_only = off");
    run.wait_for_success();
}

#[test]
fn what_no_waiting_can_fix_ends_it_with_the_remedy() {
    let mut lab = lab("hopeless");
    let Some(server) = Server::start(&mut lab) else {
        return;
    };
    let fails = |lab: &Lab, said: &str| {
        for args in [&["batch", "--once", "users"][..], &["batch"][..]] {
            let run = lab.start(args);
            let (code, message) = run.wait_for_failure();
            assert_eq!(code, 1, "{message}");
            assert!(message.contains(said), "{said}: {message}");
            let all = format!("{message}{}", run.tail());
            assert!(!all.contains("canary-"), "a password is shown: {all}");
        }
    };
    lab.set("POSTGRES_PASSWORD", "canary-wrong");
    fails(&lab, "POSTGRES_PASSWORD");
    lab.set("POSTGRES_PASSWORD", PASSWORD);
    lab.set("POSTGRES_DB", "elsewhere");
    fails(&lab, "POSTGRES_DB");
    server.as_superuser("CREATE DATABASE closed");
    lab.set("POSTGRES_DB", "closed");
    // On what depends on the server's version.
    fails(&lab, "(GRANT ");
    fails(&lab, " TO platform)");
    lab.set("POSTGRES_DB", "platform");
    server.sql("CREATE TABLE users (id int)");
    fails(&lab, "init/01_schema.sql");
}

#[test]
fn a_run_keeps_a_private_cluster_that_survives_kills_and_leaves_no_orphan() {
    let mut lab = lab("private");
    // Only to learn whether there is a PostgreSQL at all.
    if Server::start(&mut lab).is_none() {
        return;
    }
    open_to_all(&lab.path(""));
    lab.set("POSTGRES_HOST", "");
    lab.set("POSTGRES_PASSWORD", "");
    lab.set("POSTGRES_USER", "");
    let run = lab.start(["run"]);
    let server = run.wait_for_event("private_postgres_started")["pid"].clone();
    run.wait_for_events("table_loaded", 2);
    run.wait_for_event("users_updated");
    run.kill();
    let is_gone = |pid: &serde_json::Value| {
        let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        state.is_empty() || state.contains(") Z")
    };
    if cfg!(target_os = "linux") {
        wait_until("the server's end", || is_gone(&server).then_some(()));
    }
    let again = lab.start(["run"]);
    let server = again.wait_for_event("private_postgres_started")["pid"].clone();
    // Loaded before, and the year's tick was applied before.
    again.wait_for_event("job_already_applied");
    assert_eq!(again.events("table_loaded").len(), 0);
    // A second command of the same data directory uses the first one's server.
    let once = lab.start(["batch", "--once", "users"]);
    once.wait_for_success();
    assert_eq!(once.events("private_postgres_started").len(), 0);
    again.signal(libc::SIGINT);
    again.wait_for_success();
    assert!(is_gone(&server), "the server outlived the run");
}

#[test]
fn a_batch_job_that_fails_for_good_leaves_the_stream_alone() {
    let mut lab = Lab::new("apart").without_broker();
    let Some(_server) = Server::start(&mut lab) else {
        return;
    };
    lab.set("POSTGRES_PASSWORD", "canary-wrong");
    lab.set("PRODUCE_SPEED", "max");
    let run = lab.start(["run"]);
    // Both sides work on it, in whatever order they find out.
    for side in ["user_updates", "changes"] {
        run.wait_for(side, |lines| {
            let gave_up = |line: &&serde_json::Value| {
                line["event"] == "group_gave_up" && line["group"] == side
            };
            lines.iter().find(gave_up).map(|_| ())
        });
    }
    run.wait_for_event("publish_finished");
    run.wait_for("all rows in the lake", |lines| {
        let files = lines
            .iter()
            .filter(|line| line["event"] == "file_committed");
        let rows: u64 = files.filter_map(|file| file["rows"].as_u64()).sum();
        (rows >= common::ROWS).then_some(())
    });
    run.signal(libc::SIGTERM);
    // Nothing of the stream is lost, but the exit code is not 0, and the end names everything that is wrong.
    let (code, message) = run.wait_for_failure();
    assert_eq!(code, 1, "{message}");
    for side in ["user_updates stopped", "changes stopped"] {
        assert!(message.contains(side), "{side}: {message}");
    }
    lab.set("POSTGRES", "off");
    lab.assert_exact(common::ROWS);
}

#[test]
fn a_wrong_schedule_is_refused_at_start_and_shown() {
    let mut lab = lab("schedule");
    lab.set("UPDATE_USERS_SCHEDULE", "*/5 * 32 * *");
    let (code, message) = lab.start(["batch"]).wait_for_failure();
    assert_eq!(code, 2, "{message}");
    assert!(
        message.contains("UPDATE_USERS_SCHEDULE is \"*/5 * 32 * *\""),
        "{message}"
    );
    assert!(
        message.contains("`32` is not a valid day of month"),
        "{message}"
    );
}
