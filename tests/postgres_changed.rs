//! Tables that were changed by hand, and prepared files with odd bytes: named, and nothing is half done.
use crate::common;
use crate::common::postgres::Server;
use crate::common::{Lab, wait_until};

/// A schedule whose time does not come during a test: only the run at start.
const NEVER: &str = "0 0 1 1 *";

fn lab(name: &str) -> Lab {
    let mut lab = Lab::new(name).without_broker();
    lab.set("UPDATE_USERS_SCHEDULE", NEVER);
    lab
}

/// The message of a run that has to fail for good.
fn failure(lab: &Lab) -> String {
    let run = lab.start(["batch", "--once", "users"]);
    let (code, message) = run.wait_for_failure();
    assert_eq!(code, 1, "{message}");
    assert_eq!(run.events("postgres_unavailable").len(), 0, "{message}");
    message
}

#[test]
fn a_table_that_was_changed_is_named_and_updated_once_it_is_changed_back() {
    let mut lab = lab("changed");
    let Some(server) = Server::start(&mut lab) else {
        return;
    };
    lab.start(["batch", "--once", "users"]).wait_for_success();
    let runs = "SELECT count(*) FROM ftap.job_runs";
    let users = "SELECT md5(string_agg(users::text, ',' ORDER BY 1)) FROM users";
    for (change, undo, said) in [
        (
            "ALTER TABLE users RENAME user_id TO id",
            "ALTER TABLE users RENAME id TO user_id",
            "public.users has no column user_id",
        ),
        (
            "ALTER TABLE users ALTER user_id TYPE text",
            "ALTER TABLE users ALTER user_id TYPE uuid USING user_id::uuid",
            "user_id",
        ),
        (
            "ALTER TABLE users RENAME TO people",
            "DROP TABLE users; ALTER TABLE people RENAME TO users",
            "",
        ),
        (
            "ALTER TABLE users ADD CONSTRAINT old CHECK (zip < 0 AND city = 'x' AND job = 'y') NOT VALID",
            "ALTER TABLE users DROP CONSTRAINT old",
            "\"old\"",
        ),
        (
            "ALTER TABLE ftap.job_runs ALTER tick TYPE text",
            "ALTER TABLE ftap.job_runs ALTER tick TYPE timestamptz USING tick::timestamptz",
            "`text`",
        ),
        (
            "ALTER TABLE ftap.job_runs RENAME tick TO moment",
            "ALTER TABLE ftap.job_runs RENAME moment TO tick",
            "\"tick\"",
        ),
    ] {
        let before = (server.number(runs), server.sql(users));
        server.sql(change);
        if said.is_empty() {
            // Recreated and loaded, as at the first start.
            lab.start(["batch", "--once", "users"]).wait_for_success();
            server.sql("DELETE FROM ftap.job_runs WHERE applied_at = (SELECT max(applied_at) FROM ftap.job_runs)");
        } else {
            let message = failure(&lab);
            assert!(message.contains(said), "{change}: {message}");
            assert!(
                message.contains("init/01_schema.sql"),
                "{change}: {message}"
            );
        }
        server.sql(undo);
        assert_eq!((server.number(runs), server.sql(users)), before, "{change}");
    }
}

#[test]
fn a_column_that_is_gone_or_of_another_type_is_named_before_any_update() {
    let mut lab = lab("columns");
    let Some(server) = Server::start(&mut lab) else {
        return;
    };
    lab.start(["batch", "--once", "users"]).wait_for_success();
    let runs = server.number("SELECT count(*) FROM ftap.job_runs");
    let fails = |said: &[&str]| {
        // Whichever column it is this time that would be changed.
        for _ in 0..3 {
            let message = failure(&lab);
            for said in said {
                assert!(message.contains(said), "{said}: {message}");
            }
            assert!(message.contains("init/01_schema.sql"), "{message}");
        }
    };
    server.sql("ALTER TABLE users DROP COLUMN job, DROP COLUMN city");
    fails(&[
        "public.users has no column city",
        "ALTER TABLE public.users ADD COLUMN city text",
    ]);
    server.sql("ALTER TABLE users ADD COLUMN city text, ADD COLUMN job date");
    fails(&["the column job of public.users is date; expected text"]);
    server.sql("ALTER TABLE users ALTER job TYPE varchar(200)");
    server.sql("ALTER TABLE merchants ALTER merch_zipcode TYPE text");
    fails(&["the column merch_zipcode of public.merchants is text; expected integer"]);
    assert_eq!(server.number("SELECT count(*) FROM ftap.job_runs"), runs);
    // What takes and gives the same values is as good, and more columns are no harm.
    server.sql("ALTER TABLE merchants ALTER merch_zipcode TYPE bigint USING merch_zipcode::bigint");
    server.sql("ALTER TABLE users ADD COLUMN note text");
    lab.start(["batch", "--once", "users"]).wait_for_success();
}

#[test]
fn a_malformed_file_stops_nothing_and_is_loaded_once_it_is_fixed() {
    let mut lab = lab("mended");
    let Some(server) = Server::start(&mut lab) else {
        return;
    };
    server.as_superuser("ALTER ROLE platform REPLICATION");
    let events = lab.path("prepared/credit_card_transactions_events.csv");
    std::fs::create_dir(lab.path("prepared")).unwrap();
    std::fs::copy(common::events_file(), &events).unwrap();
    lab.set("EVENTS_FILE", &events);
    let users = events.with_file_name("credit_card_transactions_users.csv");
    let good = common::events_file().with_file_name("credit_card_transactions_users.csv");
    let good = std::fs::read_to_string(good).unwrap();
    let fifth = good.lines().nth(4).unwrap();
    let broken = format!("{};1990-99-99", fifth.rsplit_once(';').unwrap().0);
    std::fs::write(&users, good.replace(fifth, &broken)).unwrap();

    lab.set("UPDATE_USERS_SCHEDULE", "* * * * * *");
    lab.set("DASHBOARD_ADDR", "127.0.0.1:0");
    let run = lab.start(["run"]);
    let refused = run.wait_for_events("table_not_loaded", 2);
    let said = refused[1]["error"].as_str().unwrap();
    assert!(said.contains("line 5, column dob"), "{said}");
    assert!(said.contains("_users.csv"), "{said}");
    // The capture does not need the file.
    run.wait_for_event("changes_streaming");
    run.wait_for_event("publish_finished");
    let url = run.wait_for_event("http_listening")["url"].clone();
    let url = url.as_str().unwrap().trim_start_matches("http://");
    lab.set("DASHBOARD_ADDR", url.trim_end_matches('/'));
    let is_ready = || lab.start(["health", "--ready"]).wait().success();
    assert!(!is_ready(), "a job that can't run is not healthy");

    std::fs::write(&users, &good).unwrap();
    run.wait_for_event("table_loaded");
    run.wait_for_event("users_updated");
    wait_until("readiness", || is_ready().then_some(()));
    assert_eq!(run.events("group_gave_up").len(), 0);
    run.signal(libc::SIGTERM);
    run.wait_for_success();
    let rows = good.lines().count() as u64 - 1;
    assert_eq!(server.number("SELECT count(*) FROM users"), rows);
}

#[test]
fn a_file_of_odd_bytes_or_values_out_of_range_loads_nothing_and_says_where() {
    let mut lab = lab("odd-files");
    let Some(server) = Server::start(&mut lab) else {
        return;
    };
    let events = lab.path("prepared/credit_card_transactions_events.csv");
    std::fs::create_dir(lab.path("prepared")).unwrap();
    std::fs::copy(common::events_file(), &events).unwrap();
    lab.set("EVENTS_FILE", &events);
    let users = lab.path("prepared/credit_card_transactions_users.csv");
    let good = common::events_file().with_file_name("credit_card_transactions_users.csv");
    let good = std::fs::read(good).unwrap();
    let lines: Vec<_> = good.split(|byte| *byte == b'\n').collect();
    let with = |number: usize, column: usize, value: &[u8]| {
        let mut lines: Vec<Vec<u8>> = lines.iter().map(|line| line.to_vec()).collect();
        let mut fields: Vec<_> = lines[number - 1].split(|byte| *byte == b';').collect();
        fields[column] = value;
        lines[number - 1] = fields.join(&b';');
        lines.join(&b'\n')
    };
    for (column, value, said) in [
        (1, &b"J\xf6rg"[..], "line 4, column first_name"),
        (1, b"J\0rg", "line 4, column first_name"),
        (6, b"99999999999", "line 4, column zip"),
        (7, b"1e999999", "line 4, column lat"),
        (7, b"nan", "line 4, column lat"),
        (10, b"9999999-01-01", "line 4, column dob"),
        (10, b"1988-13-01", "line 4, column dob"),
        (
            4,
            b"\"open",
            "a quote opens in column street and is not closed",
        ),
    ] {
        std::fs::write(&users, with(4, column, value)).unwrap();
        let message = failure(&lab);
        let shown = String::from_utf8_lossy(value);
        assert!(message.contains(said), "{shown}: {message}");
        assert!(message.contains("_users.csv"), "{shown}: {message}");
        assert_eq!(server.number("SELECT count(*) FROM users"), 0, "{shown}");
    }
    std::fs::remove_file(&users).unwrap();
    std::fs::create_dir(&users).unwrap();
    let message = failure(&lab);
    assert!(message.contains("_users.csv can't be read"), "{message}");
    std::fs::remove_dir(&users).unwrap();
    // What quotes, separators and line ends may do.
    let odd = "\"a;b \"\"c\"\" ü \\N\"";
    std::fs::write(&users, with(4, 4, odd.as_bytes())).unwrap();
    lab.start(["batch", "--once", "users"]).wait_for_success();
    let streets = server.number("SELECT count(*) FROM users WHERE street = 'a;b \"c\" ü \\N'");
    assert_eq!(streets, 1);
}
