//! What a server's settings and tables must not do to the captured changes without an error.

use crate::common::changes::{self, assert_same_table, catch_up, lab, lab_on, lake};
use crate::common::cluster::{Postgres, server_folder};
use crate::common::{Lab, wait_until};

#[test]
fn a_role_that_sees_only_a_part_of_a_table_is_refused_before_anything_is_copied() {
    let Some((mut lab, postgres)) = lab("cdc-rls") else {
        return;
    };
    postgres.sql(
        "CREATE ROLE reader LOGIN REPLICATION PASSWORD 'secret-word';
         ALTER TABLE users ENABLE ROW LEVEL SECURITY;
         CREATE POLICY a_part ON users FOR SELECT TO reader USING (first_name = 'First 1');
         GRANT ALL ON ALL TABLES IN SCHEMA public, ftap TO reader;
         GRANT USAGE ON SCHEMA ftap TO reader;
         CREATE PUBLICATION ftap_publication FOR TABLE users, merchants",
    );
    lab.set("POSTGRES_USER", "reader");
    lab.set("POSTGRES_PASSWORD", "secret-word");
    let (code, said) = lab.start(["cdc", "--until-drained"]).wait_for_failure();
    assert_eq!(code, 1, "{said}");
    for expected in [
        "row-level security policy",
        "users",
        "ALTER ROLE \"reader\" BYPASSRLS",
    ] {
        assert!(said.contains(expected), "{expected}: {said}");
    }
    assert!(!said.contains("secret-word"), "{said}");
    assert!(!lake(&lab).join("users_changes").exists());
    postgres.sql("ALTER ROLE reader BYPASSRLS");
    catch_up(&lab);
    assert_same_table(&postgres, lake(&lab), "users", "user_id");
}

const CREATE_PUBLICATION: &str = "CREATE PUBLICATION ftap_publication FOR TABLE users, merchants";

/// A capture ends with an error that has these texts.
fn refused(lab: &Lab, expected: &[&str]) {
    let (code, said) = lab.start(["cdc", "--until-drained"]).wait_for_failure();
    assert_eq!(code, 1, "{said}");
    for expected in expected {
        assert!(said.contains(expected), "{expected}: {said}");
    }
}

fn version(postgres: &Postgres) -> u32 {
    let version = postgres.value("SHOW server_version_num");
    version.parse().unwrap()
}

#[test]
fn a_table_whose_updates_the_server_would_refuse_is_named_before_it_is_published() {
    let Some((lab, postgres)) = lab("cdc-identity") else {
        return;
    };
    const UPDATE: &str = "UPDATE users SET city = 'Bergen' WHERE first_name = 'First 1'";
    for (how, because, remedy) in [
        (
            "ALTER TABLE users REPLICA IDENTITY NOTHING",
            "its replica identity is NOTHING",
            "ALTER TABLE public.users REPLICA IDENTITY DEFAULT",
        ),
        (
            "ALTER TABLE users DROP CONSTRAINT users_pkey, REPLICA IDENTITY DEFAULT",
            "its replica identity is DEFAULT, and it has no primary key",
            "ALTER TABLE public.users REPLICA IDENTITY FULL",
        ),
        (
            "ALTER TABLE users ADD PRIMARY KEY (user_id) DEFERRABLE, REPLICA IDENTITY DEFAULT",
            "DEFERRABLE",
            "ALTER TABLE public.users REPLICA IDENTITY FULL",
        ),
        (
            "ALTER TABLE users DROP CONSTRAINT users_pkey, ADD COLUMN other int NOT NULL DEFAULT 0, ADD COLUMN number serial CONSTRAINT other UNIQUE, ALTER number SET NOT NULL, REPLICA IDENTITY DEFAULT;
             ALTER TABLE users REPLICA IDENTITY USING INDEX other; ALTER TABLE users DROP CONSTRAINT other",
            "that index is gone",
            "ALTER TABLE public.users REPLICA IDENTITY FULL",
        ),
    ] {
        postgres.sql(how);
        refused(&lab, &["public.users", because, remedy]);
        // The application still can.
        postgres.sql(UPDATE);
    }
    // Nor does the publication for other readers, which `batch` creates, break them.
    postgres
        .sql("ALTER TABLE users DROP COLUMN number, DROP COLUMN other, ADD PRIMARY KEY (user_id)");
    postgres.sql("ALTER TABLE users REPLICA IDENTITY NOTHING");
    lab.start(["batch", "--once", "users"]).wait_for_success();
    assert_eq!(postgres.value("SELECT count(*) FROM pg_publication"), "0");
    assert!(!lake(&lab).join("users_changes").exists());
    postgres.sql("ALTER TABLE users REPLICA IDENTITY FULL");
    catch_up(&lab);
    postgres.sql(UPDATE);
    catch_up(&lab);
    assert_same_table(&postgres, lake(&lab), "users", "user_id");
}

#[test]
fn an_identity_that_omits_the_key_or_a_generated_column_is_refused() {
    let Some((lab, postgres)) = lab("cdc-identity-key") else {
        return;
    };
    postgres.sql(
        "ALTER TABLE users ADD COLUMN number serial NOT NULL CONSTRAINT other UNIQUE;
         ALTER TABLE users REPLICA IDENTITY USING INDEX other",
    );
    let expected = [
        "public.users",
        "without user_id of the primary key",
        "ALTER TABLE public.users REPLICA IDENTITY DEFAULT",
    ];
    refused(&lab, &expected);
    postgres.sql("ALTER TABLE users REPLICA IDENTITY DEFAULT");
    catch_up(&lab);
    // While it runs as well.
    let capture = lab.start(["cdc"]);
    capture.wait_for_event("changes_streaming");
    postgres.sql("ALTER TABLE users REPLICA IDENTITY USING INDEX other");
    let (code, said) = capture.wait_for_failure();
    assert_eq!(code, 1, "{said}");
    for expected in expected {
        assert!(said.contains(expected), "{expected}: {said}");
    }
    // Version 18 refuses to update it; before, the column is only missing in the row before.
    postgres.sql(
        "ALTER TABLE users REPLICA IDENTITY FULL, ADD COLUMN double int GENERATED ALWAYS AS (zip * 2) STORED",
    );
    if version(&postgres) >= 180_000 {
        let remedy = "ALTER TABLE public.users REPLICA IDENTITY DEFAULT";
        refused(&lab, &["public.users", "generated column double", remedy]);
        postgres.sql("ALTER TABLE users REPLICA IDENTITY DEFAULT");
    }
    postgres.sql("UPDATE users SET zip = zip + 1");
    catch_up(&lab);
    let rows = changes::read(lake(&lab), "users");
    assert!(rows.iter().all(|row| !row.columns.contains_key("double")));
    assert_eq!(rows.last().unwrap().get("zip"), Some("1001"));
}

#[test]
fn rows_of_tables_that_inherit_are_refused() {
    let Some((lab, postgres)) = lab("cdc-inherit") else {
        return;
    };
    postgres.sql("CREATE TABLE public.clerks (office text) INHERITS (users)");
    refused(
        &lab,
        &[
            "public.users",
            "the rows of public.clerks",
            "ALTER TABLE public.clerks NO INHERIT public.users",
        ],
    );
    assert!(!lake(&lab).join("users_changes").exists());
    postgres.sql("ALTER TABLE clerks NO INHERIT users");
    catch_up(&lab);
    let capture = lab.start(["cdc"]);
    capture.wait_for_event("changes_streaming");
    postgres.sql("ALTER TABLE clerks INHERIT users");
    let (code, said) = capture.wait_for_failure();
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("public.clerks"), "{said}");
}

/// Makes `users` a partitioned table, of two partitions, of which one has partitions of its own.
const PARTITIONED: &str = "ALTER TABLE users RENAME TO whole;
    CREATE TABLE public.users (LIKE whole, PRIMARY KEY (user_id)) PARTITION BY HASH (user_id);
    CREATE TABLE public.users_0 PARTITION OF users FOR VALUES WITH (MODULUS 2, REMAINDER 0);
    CREATE TABLE public.users_1 PARTITION OF users FOR VALUES WITH (MODULUS 2, REMAINDER 1) PARTITION BY RANGE (user_id);
    CREATE TABLE public.users_1_a PARTITION OF users_1 FOR VALUES FROM (MINVALUE) TO ('00000000-0000-0000-0000-000000000020');
    CREATE TABLE public.users_1_b PARTITION OF users_1 FOR VALUES FROM ('00000000-0000-0000-0000-000000000020') TO (MAXVALUE);
    INSERT INTO users SELECT * FROM whole; DROP TABLE whole";

#[test]
fn a_partitioned_table_is_captured_as_one_table() {
    let Some((lab, postgres)) = lab("cdc-partitioned") else {
        return;
    };
    postgres.sql(PARTITIONED);
    // Of each partition the application's statements are checked.
    postgres.sql("ALTER TABLE users_1_b REPLICA IDENTITY NOTHING");
    let remedy = "ALTER TABLE public.users_1_b REPLICA IDENTITY DEFAULT";
    refused(&lab, &["public.users_1_b", remedy]);
    postgres.sql(remedy);
    postgres.sql("ALTER TABLE users_0 SET UNLOGGED");
    let logged = "ALTER TABLE public.users_0 SET LOGGED";
    refused(&lab, &["public.users_0", "UNLOGGED", logged]);
    postgres.sql(logged);
    catch_up(&lab);
    let changes = "UPDATE users SET zip = zip + 1;
        UPDATE users SET user_id = '10000000-0000-0000-0000-000000000001' WHERE first_name = 'First 1';
        DELETE FROM users WHERE first_name = 'First 2'";
    postgres.sql(changes);
    catch_up(&lab);
    assert_same_table(&postgres, lake(&lab), "users", "user_id");
    // What leaves a partition of a partition leaves the table, and the stream says nothing of it.
    postgres.sql("ALTER TABLE users_1 DETACH PARTITION users_1_b");
    refused(&lab, &["table users lost a partition"]);
    let capture = lab.start(["cdc", "--resnapshot", "--until-drained"]);
    capture.wait_for_success();
    assert_same_table(&postgres, lake(&lab), "users", "user_id");
    postgres.sql("ALTER TABLE users_1 ATTACH PARTITION users_1_b FOR VALUES FROM ('00000000-0000-0000-0000-000000000020') TO (MAXVALUE)");
    refused(&lab, &["table users got a partition with rows of its own"]);
}

#[test]
fn a_publication_of_partitions_is_an_error_that_says_how_to_publish_the_table() {
    let Some((lab, postgres)) = lab("cdc-partitions") else {
        return;
    };
    postgres.sql(PARTITIONED);
    postgres.sql(CREATE_PUBLICATION);
    let remedy = "ALTER PUBLICATION \"ftap_publication\" SET (publish_via_partition_root = true)";
    refused(&lab, &["users", "partitioned", remedy]);
    assert!(!lake(&lab).join("users_changes").exists());
    postgres.sql(remedy);
    catch_up(&lab);
    postgres.sql("UPDATE users SET zip = zip + 1");
    catch_up(&lab);
    assert_same_table(&postgres, lake(&lab), "users", "user_id");
}

#[test]
fn a_snapshot_has_the_columns_that_are_published() {
    let Some((lab, postgres)) = lab("cdc-generated") else {
        return;
    };
    postgres.sql("ALTER TABLE users ADD COLUMN double int GENERATED ALWAYS AS (zip * 2) STORED");
    let is_published = version(&postgres) >= 180_000;
    let with = if is_published {
        " WITH (publish_generated_columns = stored)"
    } else {
        ""
    };
    postgres.sql(&format!("{CREATE_PUBLICATION}{with}"));
    catch_up(&lab);
    postgres.sql("UPDATE users SET zip = zip + 1 WHERE first_name = 'First 1'");
    let capture = catch_up(&lab);
    assert!(capture.events("table_columns_changed").is_empty());
    let rows = changes::read(lake(&lab), "users");
    assert_eq!(rows.len() as u64, changes::USERS + 1);
    for row in &rows {
        let zip: i64 = row.get("zip").unwrap().parse().unwrap();
        let double = row.columns.get("double").cloned();
        let expected = is_published.then(|| Some((zip * 2).to_string()));
        assert_eq!(double, expected, "{row:?}");
    }
}

#[test]
fn limits_that_a_role_has_end_no_snapshot_and_no_stream() {
    let Some((mut lab, postgres)) = lab("cdc-limits") else {
        return;
    };
    postgres.sql(
        "CREATE ROLE reader LOGIN SUPERUSER REPLICATION PASSWORD 'secret-word';
         ALTER ROLE reader SET statement_timeout = '300ms';
         ALTER ROLE reader SET lock_timeout = '300ms';
         ALTER ROLE reader SET idle_in_transaction_session_timeout = '300ms';
         ALTER ROLE reader SET idle_session_timeout = '300ms';
         ALTER ROLE reader SET default_transaction_read_only = on",
    );
    if version(&postgres) >= 170_000 {
        postgres.sql("ALTER ROLE reader SET transaction_timeout = '300ms'");
    }
    lab.set("POSTGRES_USER", "reader");
    lab.set("POSTGRES_PASSWORD", "secret-word");
    // The slot waits for it.
    let mut open = postgres.session();
    open.sql("BEGIN; UPDATE merchants SET merch_zipcode = 7");
    let capture = lab.start(["cdc"]);
    wait_until("a slot that waits for longer than the limits", || {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'ftap-cdc' AND state = 'active' AND clock_timestamp() - query_start > '1 s'";
        (postgres.value(sql) == "1").then_some(())
    });
    open.sql("COMMIT");
    capture.wait_for_event("changes_streaming");
    wait_until("a stream that lasts for longer than the limits", || {
        let sql = "SELECT count(*) FROM pg_stat_replication WHERE application_name = 'ftap-cdc' AND clock_timestamp() - backend_start > '3 s'";
        (postgres.value(sql) == "1").then_some(())
    });
    postgres.sql("UPDATE users SET zip = zip + 1");
    capture.signal(libc::SIGTERM);
    capture.wait_for_success();
    assert!(capture.events("change_capture_interrupted").is_empty());
    catch_up(&lab);
    assert_same_table(&postgres, lake(&lab), "users", "user_id");
}

#[test]
fn a_standby_is_waited_for_until_it_is_promoted() {
    // Says so where there is no PostgreSQL.
    let Some(none) = Postgres::start() else {
        return;
    };
    drop(none);
    let folder = server_folder();
    let pg = folder.path().join("pg");
    let (mut lab, postgres) = lab_on("cdc-standby", Postgres::start_in(&pg)).unwrap();
    catch_up(&lab);
    drop(postgres);
    std::fs::write(pg.join("cluster/standby.signal"), "").unwrap();
    let postgres = Postgres::start_in(&pg);
    postgres.use_in(&mut lab);
    let capture = lab.start(["cdc"]);
    let waits = capture.wait_for_event("change_capture_interrupted");
    let said = waits["error"].as_str().unwrap();
    assert!(said.contains("standby"), "{said}");
    postgres.sql("SELECT pg_promote()");
    capture.wait_for_event("changes_streaming");
    postgres.sql("UPDATE users SET zip = zip + 1");
    capture.wait_for_event("timeline_changed");
    capture.signal(libc::SIGTERM);
    capture.wait_for_success();
    catch_up(&lab);
    assert_same_table(&postgres, lake(&lab), "users", "user_id");
}

#[test]
fn a_slot_that_was_idle_for_too_long_is_an_error_that_names_the_setting() {
    let Some((lab, postgres)) = lab("cdc-idle-slot") else {
        return;
    };
    if version(&postgres) < 180_000 {
        eprintln!("NOT RUN: idle_replication_slot_timeout needs PostgreSQL 18");
        return;
    }
    catch_up(&lab);
    postgres.sql("ALTER SYSTEM SET idle_replication_slot_timeout = '1s'");
    postgres.sql("SELECT pg_reload_conf()");
    wait_until("the slot to be invalidated", || {
        postgres.sql("CHECKPOINT");
        let sql = "SELECT wal_status FROM pg_replication_slots WHERE slot_name = 'ftap_changes'";
        (postgres.value(sql) == "lost").then_some(())
    });
    refused(
        &lab,
        &["idle_replication_slot_timeout", "`ftap cdc --resnapshot`"],
    );
}

#[test]
fn text_that_is_not_utf_8_is_an_error_and_a_new_snapshot_goes_past_it() {
    let Some((mut lab, postgres)) = lab("cdc-ascii") else {
        return;
    };
    postgres.sql(
        "CREATE DATABASE ascii TEMPLATE template0 ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C'",
    );
    let ascii = |statements: &str| postgres.session_in("ascii").sql(statements);
    ascii(include_str!("../init/01_schema.sql"));
    ascii("INSERT INTO merchants VALUES ('one', 1, 2, 3)");
    lab.set("POSTGRES_DB", "ascii");
    catch_up(&lab);
    let capture = lab.start(["cdc"]);
    capture.wait_for_event("changes_streaming");
    ascii("INSERT INTO merchants VALUES (E'caf\\xe9', 1, 2, 3)");
    let expected = [
        "UTF8",
        "correct the row",
        "`ftap cdc --resnapshot`",
        "SQL_ASCII",
    ];
    let (code, said) = capture.wait_for_failure();
    assert_eq!(code, 1, "{said}");
    for expected in expected {
        assert!(said.contains(expected), "{expected}: {said}");
    }
    let (code, said) = lab.start(["cdc", "--resnapshot"]).wait_for_failure();
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("correct the row"), "{said}");
    ascii("UPDATE merchants SET merchant = E'caf\\xc3\\xa9' WHERE merchant <> 'one'");
    let capture = lab.start(["cdc", "--resnapshot", "--until-drained"]);
    capture.wait_for_success();
    let rows = changes::read(lake(&lab), "merchants");
    assert_eq!(rows.last().unwrap().get("merchant"), Some("café"));
}

#[test]
fn a_value_of_hundreds_of_megabytes_is_captured() {
    const BYTES: usize = 300_000_000;
    let Some((lab, postgres)) = lab("cdc-large") else {
        return;
    };
    catch_up(&lab);
    postgres.sql(&format!(
        "UPDATE users SET street = repeat('x', {BYTES}) WHERE first_name = 'First 1'"
    ));
    catch_up(&lab);
    let rows = changes::read(lake(&lab), "users");
    let street = rows.last().unwrap().get("street").unwrap();
    assert_eq!(street.len(), BYTES);
    assert!(street.bytes().all(|byte| byte == b'x'));
}

#[test]
fn a_value_that_the_server_can_t_send_is_an_error_and_not_retried_indefinitely() {
    let Some((lab, postgres)) = lab("cdc-unsendable") else {
        return;
    };
    postgres.sql("ALTER TABLE users ADD COLUMN photo bytea");
    catch_up(&lab);
    // Its text has two digits for each byte.
    postgres.sql("UPDATE users SET photo = convert_to(repeat('x', 600000000), 'UTF8') WHERE first_name = 'First 1'");
    refused(&lab, &["correct the row", "`ftap cdc --resnapshot`"]);
    let (code, said) = lab.start(["cdc", "--resnapshot"]).wait_for_failure();
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("correct the row"), "{said}");
}

#[test]
fn a_lake_that_is_away_at_a_plan_is_waited_for_and_never_taken_for_an_empty_one() {
    let Some((lab, postgres)) = lab("cdc-lake-away") else {
        return;
    };
    let capture = lab.start(["cdc"]);
    capture.wait_for_event("changes_streaming");
    let (here, away) = (lake(&lab).to_owned(), lab.path("away"));
    let end_session = || {
        postgres.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_replication WHERE application_name = 'ftap-cdc'");
    };
    for is_unmounted in [false, true] {
        std::fs::rename(&here, &away).unwrap();
        if is_unmounted {
            std::fs::create_dir(&here).unwrap();
        }
        let before = capture.events("lake_unavailable").len();
        end_session();
        let said = capture.wait_for_events("lake_unavailable", before + 1);
        let error = said[before]["error"].as_str().unwrap();
        assert!(
            error.contains("mount or move the lake's folder back"),
            "{error}"
        );
        // Replaces an empty folder.
        std::fs::rename(&away, &here).unwrap();
        capture.wait_for_events("lake_recovered", before + 1);
        capture.wait_for_events("changes_streaming", before + 2);
        postgres.sql("UPDATE users SET zip = zip + 1");
    }
    capture.signal(libc::SIGTERM);
    capture.wait_for_success();
    assert!(capture.events("stage_failed").is_empty());
    catch_up(&lab);
    assert_same_table(&postgres, lake(&lab), "users", "user_id");
}
