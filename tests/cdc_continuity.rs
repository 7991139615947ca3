//! Changes that another client, another server or another definition of the tables kept from the
//! slot: each is in the lake in the end, or its absence is an error with its range.

use std::path::Path;
use std::process::Command;

use crate::common::changes::{self, assert_same_table, catch_up, lab, lab_on, lake};
use crate::common::cluster::{Postgres, server_folder};
use crate::common::process::Ftap;
use crate::common::{Lab, wait_until};

const CHANGE: &str = "UPDATE users SET zip = zip + 1";
const SLOT: &str = "ftap_changes";

/// A capture stops with an error that says all this.
fn fails_with(lab: &Lab, args: &[&str], expected: &[&str]) {
    let (code, said) = lab.start(args).wait_for_failure();
    assert_eq!(code, 1, "{said}");
    for expected in expected {
        assert!(said.contains(expected), "{expected}: {said}");
    }
}

/// What the error advises is done, and helps.
fn resnapshot(lab: &Lab, postgres: &Postgres) {
    lab.start(["cdc", "--resnapshot", "--until-drained"])
        .wait_for_success();
    assert_same(lab, postgres);
}

fn assert_same(lab: &Lab, postgres: &Postgres) {
    assert_same_table(postgres, lake(lab), "users", "user_id");
    assert_same_table(postgres, lake(lab), "merchants", "merchant");
}

fn streaming(lab: &Lab) -> Ftap {
    let capture = lab.start(["cdc"]);
    capture.wait_for_event("changes_streaming");
    capture
}

fn stop(capture: &Ftap) {
    capture.signal(libc::SIGTERM);
    capture.wait_for_success();
}

fn checkpoints(lab: &Lab) -> usize {
    let folder = lake(lab).join("cdc_checkpoints");
    std::fs::read_dir(folder).map_or(0, Iterator::count)
}

#[test]
fn a_slot_that_was_moved_or_made_again_is_an_error_with_the_range_that_it_skipped() {
    let Some((lab, postgres)) = lab("cdc-moved") else {
        return;
    };
    catch_up(&lab);
    let advance = format!("SELECT pg_replication_slot_advance('{SLOT}', pg_current_wal_lsn())");
    let consume = format!(
        "SELECT count(*) FROM pg_logical_slot_get_binary_changes('{SLOT}', NULL, NULL, 'proto_version', '1', 'publication_names', 'ftap_publication')"
    );
    let drop = format!("SELECT pg_drop_replication_slot('{SLOT}')");
    let create = format!("SELECT pg_create_logical_replication_slot('{SLOT}', 'pgoutput')");
    for skip in [vec![advance], vec![consume], vec![drop, create]] {
        postgres.sql(CHANGE);
        catch_up(&lab);
        // Without anything to miss there is no error.
        catch_up(&lab);
        postgres.sql(CHANGE);
        for statement in &skip {
            postgres.sql(statement);
        }
        postgres.sql(CHANGE);
        let confirmed = postgres.value("SELECT confirmed_flush_lsn FROM pg_replication_slots");
        let range = format!("up to {confirmed} were skipped");
        let remedy = "`ftap cdc --resnapshot`";
        fails_with(&lab, &["cdc", "--until-drained"], &[&range, remedy]);
        resnapshot(&lab, &postgres);
    }
}

#[test]
fn a_second_lake_never_takes_the_slot_of_the_first_by_our_own_advice() {
    let Some((lab, postgres)) = lab("cdc-first-lake") else {
        return;
    };
    catch_up(&lab);
    let mut second = Lab::new("cdc-second-lake").without_broker();
    postgres.use_in(&mut second);
    second.set("CDC_FLUSH_SECONDS", "0.3");
    for args in [&["cdc"][..], &["cdc", "--resnapshot"]] {
        let expected = ["CDC_SLOT", "pg_drop_replication_slot('ftap_changes')"];
        fails_with(&second, args, &expected);
    }
    second.set("CDC_SLOT", "second");
    catch_up(&second);
    postgres.sql(CHANGE);
    for lab in [&lab, &second] {
        catch_up(lab);
        assert_same(lab, &postgres);
    }
    // A lake that follows its own slot does not follow another.
    second.set("CDC_SLOT", SLOT);
    for args in [&["cdc"][..], &["cdc", "--resnapshot"]] {
        fails_with(&second, args, &["CDC_SLOT"]);
    }

    // Where the slot was dropped all the same, the first lake does not miss it silently.
    postgres.sql("SELECT pg_drop_replication_slot('ftap_changes')");
    postgres.sql(CHANGE);
    second
        .start(["cdc", "--resnapshot", "--until-drained"])
        .wait_for_success();
    fails_with(&lab, &["cdc"], &["were skipped", "CDC_SLOT"]);
}

#[test]
fn checkpoints_a_snapshot_or_the_newest_file_that_were_removed_are_missed_at_the_next_start() {
    let Some((lab, postgres)) = lab("cdc-removed") else {
        return;
    };
    catch_up(&lab);
    postgres.sql(CHANGE);
    catch_up(&lab);
    let aside = lab.path("aside");
    let [newest, snapshot] = &changes::files(lake(&lab), "users")[..] else {
        panic!("{:?}", lab.objects());
    };
    for (file, expected) in [
        (newest, ["users end at", "users_changes/"]),
        (snapshot, ["epoch 1", "snapshot"]),
    ] {
        std::fs::rename(file, &aside).unwrap();
        let [one, other] = expected;
        fails_with(&lab, &["cdc"], &[one, other, "`ftap cdc --resnapshot`"]);
        std::fs::rename(&aside, file).unwrap();
    }
    catch_up(&lab);

    assert!(checkpoints(&lab) > 0);
    let folder = lake(&lab).join("cdc_checkpoints");
    std::fs::rename(&folder, &aside).unwrap();
    let expected = [
        "no checkpoint",
        "cdc_checkpoints/",
        "`ftap cdc --resnapshot`",
    ];
    fails_with(&lab, &["cdc"], &expected);
    resnapshot(&lab, &postgres);
}

/// A copy of a server that is down.
fn copy(from: &Path, to: &Path) {
    let mut cp = Command::new("cp");
    cp.arg("-a").arg(from).arg(to);
    assert!(cp.status().unwrap().success());
}

#[test]
fn a_restored_copy_is_another_history_and_a_promoted_one_only_if_it_lacks_what_was_captured() {
    // Says so where there is no PostgreSQL.
    let Some(none) = Postgres::start() else {
        return;
    };
    drop(none);
    let folder = server_folder();
    let at = |name: &str| folder.path().join(name);
    let server = Postgres::start_in(&at("one"));
    let (mut lab, server) = lab_on("cdc-restored", server).unwrap();
    catch_up(&lab);
    server.sql(CHANGE);
    catch_up(&lab);
    drop(server);
    copy(&at("one"), &at("old"));

    // A copy that has everything, on another timeline.
    copy(&at("one"), &at("promoted"));
    std::fs::write(at("promoted/cluster/recovery.signal"), "").unwrap();
    let promote = |name: &str| {
        let server = Postgres::start_in_with(&at(name), &["restore_command=/bin/false"]);
        wait_until("the promotion", || {
            (server.value("SELECT pg_is_in_recovery()") == "f").then_some(())
        });
        server
    };
    let server = promote("promoted");
    server.use_in(&mut lab);
    server.sql(CHANGE);
    let capture = catch_up(&lab);
    let changed = capture.wait_for_event("timeline_changed");
    assert_eq!(
        (&changed["before"], &changed["now"]),
        (&1.into(), &2.into())
    );
    assert_eq!(catch_up(&lab).events("timeline_changed").len(), 0);
    assert_same(&lab, &server);
    drop(server);

    // Copies that lack the last change, whose logs grow beyond the lake's end.
    copy(&at("old"), &at("old-promoted"));
    std::fs::write(at("old-promoted/cluster/recovery.signal"), "").unwrap();
    let before = lab.objects();
    for server in [Postgres::start_in(&at("old")), promote("old-promoted")] {
        server.use_in(&mut lab);
        for _ in 0..3 {
            server.sql(CHANGE);
            server.sql("SELECT pg_switch_wal()");
        }
        let expected = [
            "is not the one that this lake was read from",
            "`ftap cdc --resnapshot`",
        ];
        fails_with(&lab, &["cdc", "--until-drained"], &expected);
        assert_eq!(lab.objects(), before);
    }
    let server = Postgres::start_in(&at("old"));
    server.use_in(&mut lab);
    resnapshot(&lab, &server);
}

#[test]
fn a_table_stays_captured_under_any_name_and_schema() {
    let Some((lab, postgres)) = lab("cdc-renamed") else {
        return;
    };
    catch_up(&lab);
    // In one transaction, as online schema changes do, while capture is down.
    postgres.sql("BEGIN; ALTER TABLE users RENAME TO users_x; UPDATE users_x SET zip = zip + 1000; ALTER TABLE users_x RENAME TO users; COMMIT");
    catch_up(&lab);
    assert_same(&lab, &postgres);

    let capture = streaming(&lab);
    postgres.sql("ALTER TABLE users RENAME TO users_x");
    postgres.sql("UPDATE users_x SET zip = zip + 1");
    let renamed = capture.wait_for_event("captured_table_renamed");
    assert_eq!(
        (&renamed["table"], &renamed["name"]),
        (&"users".into(), &"public.users_x".into())
    );
    stop(&capture);

    // Nothing is created in its place, and a new name alone is reported, once.
    postgres.sql("CREATE SCHEMA elsewhere");
    postgres.sql("ALTER TABLE users_x SET SCHEMA elsewhere");
    postgres.sql("UPDATE elsewhere.users_x SET zip = zip + 1");
    let renamed = catch_up(&lab).wait_for_event("captured_table_renamed");
    assert_eq!(renamed["name"], "elsewhere.users_x");
    assert_eq!(catch_up(&lab).events("captured_table_renamed").len(), 0);
    assert_eq!(
        postgres.value("SELECT to_regclass('public.users') IS NULL"),
        "t"
    );
    // A copy would have to have the old name.
    let expected = ["elsewhere.users_x", "rename it back"];
    fails_with(&lab, &["cdc", "--resnapshot"], &expected);

    postgres.sql("ALTER TABLE elsewhere.users_x SET SCHEMA public");
    postgres.sql("ALTER TABLE users_x RENAME TO users");
    postgres.sql(CHANGE);
    catch_up(&lab);
    assert_same(&lab, &postgres);
}

#[test]
fn a_publication_that_left_something_out_for_a_while_is_an_error_with_the_range() {
    let Some((mut lab, postgres)) = lab("cdc-unpublished") else {
        return;
    };
    let out_and_in = [
        "ALTER PUBLICATION ftap_publication DROP TABLE users",
        CHANGE,
        "ALTER PUBLICATION ftap_publication ADD TABLE users",
    ];
    let all_at_once = [
        "ALTER PUBLICATION ftap_publication SET (publish = 'insert')",
        CHANGE,
        "ALTER PUBLICATION ftap_publication SET (publish = 'insert, update, delete, truncate')",
    ];
    let remade = [
        "DROP PUBLICATION ftap_publication",
        CHANGE,
        "CREATE PUBLICATION ftap_publication FOR TABLE users, merchants",
    ];
    catch_up(&lab);
    for (statements, expected) in [
        (out_and_in, "table users was taken out of the publication"),
        (all_at_once, "the publication was altered"),
        (remade, "the publication was altered or created again"),
    ] {
        let before = postgres.value("SELECT pg_current_wal_flush_lsn()");
        for statement in statements {
            postgres.sql(statement);
        }
        fails_with(
            &lab,
            &["cdc"],
            &[expected, "may be missing", "`ftap cdc --resnapshot`"],
        );
        let (_, said) = lab.start(["cdc"]).wait_for_failure();
        let (_, since) = said.split_once("so changes after ").unwrap();
        let (since, _) = since.split_once(" up to ").unwrap();
        let covers = postgres.value(&format!("SELECT '{since}'::pg_lsn <= '{before}'"));
        assert_eq!(covers, "t", "{since} {before}");
        resnapshot(&lab, &postgres);
    }

    // Between two looks of a capture that runs.
    let capture = streaming(&lab);
    for statement in out_and_in {
        postgres.sql(statement);
    }
    let (_, said) = capture.wait_for_failure();
    assert!(said.contains("publication"), "{said}");
    resnapshot(&lab, &postgres);

    // A table that left its published schema for a while.
    let version: u32 = postgres.value("SHOW server_version_num").parse().unwrap();
    if version < 150_000 {
        return;
    }
    postgres.sql("CREATE PUBLICATION of_schema FOR TABLES IN SCHEMA public");
    lab.set("CDC_PUBLICATION", "of_schema");
    resnapshot(&lab, &postgres);
    for statement in [
        "CREATE SCHEMA elsewhere",
        "ALTER TABLE users SET SCHEMA elsewhere",
        "UPDATE elsewhere.users SET zip = zip + 1",
        "ALTER TABLE elsewhere.users SET SCHEMA public",
    ] {
        postgres.sql(statement);
    }
    let expected = "table users was taken out of the publication";
    fails_with(&lab, &["cdc"], &[expected, "`ftap cdc --resnapshot`"]);
    resnapshot(&lab, &postgres);
}

#[test]
fn columns_that_change_before_any_message_while_stopped_or_by_a_rewrite_are_reported_once() {
    let Some((lab, postgres)) = lab("cdc-altered") else {
        return;
    };
    catch_up(&lab);
    let reported = |capture: &Ftap| -> Vec<(String, String)> {
        let events = capture.events("table_columns_changed").into_iter();
        events
            .map(|event| {
                let names = |field: &str| {
                    let names = event[field].as_array().unwrap().iter();
                    let names: Vec<_> = names.map(|name| name.as_str().unwrap()).collect();
                    names.join(", ")
                };
                (names("gone"), names("new"))
            })
            .collect()
    };
    let pair = |gone: &str, new: &str| (gone.to_owned(), new.to_owned());

    // While stopped, with changes before, between and after; or without any.
    postgres.sql(CHANGE);
    postgres.sql("ALTER TABLE users ADD COLUMN email TEXT DEFAULT 'a@b'");
    postgres.sql(CHANGE);
    postgres.sql("ALTER TABLE users ALTER COLUMN zip TYPE BIGINT");
    assert_eq!(
        reported(&catch_up(&lab)).first(),
        Some(&pair("zip", "zip, email"))
    );
    assert_eq!(reported(&catch_up(&lab)), []);
    postgres.sql("ALTER TABLE users ALTER COLUMN city TYPE TEXT USING upper(city)");
    assert_eq!(reported(&catch_up(&lab)), [pair("city", "city")]);
    assert_eq!(reported(&catch_up(&lab)), []);
    postgres.sql("VACUUM FULL users");
    assert_eq!(reported(&catch_up(&lab)), []);
    postgres.sql("ALTER TABLE users DROP COLUMN email, ADD COLUMN email TEXT");
    assert_eq!(reported(&catch_up(&lab)), [pair("email", "email")]);

    // Before the first message of a session, and without any.
    let capture = streaming(&lab);
    postgres.sql("ALTER TABLE users ADD COLUMN score INT DEFAULT 7");
    postgres.sql(CHANGE);
    capture.wait_for_event("table_columns_changed");
    postgres
        .sql("ALTER TABLE merchants ALTER COLUMN merch_zipcode TYPE INT USING merch_zipcode + 1");
    capture.wait_for_events("table_columns_changed", 2);
    let expected = [pair("", "score"), pair("merch_zipcode", "merch_zipcode")];
    assert_eq!(reported(&capture), expected);
    wait_until("a checkpoint that has them", || {
        let newest = std::fs::read_dir(lake(&lab).join("cdc_checkpoints")).unwrap();
        let newest = newest.map(|entry| entry.unwrap().path()).max().unwrap();
        let text = std::fs::read_to_string(newest).unwrap();
        let oid = postgres.value("SELECT relfilenode FROM pg_class WHERE relname = 'merchants'");
        text.contains(&format!("\"relfilenode\": {oid},"))
            .then_some(())
    });
    stop(&capture);
    assert_eq!(reported(&catch_up(&lab)), []);
    resnapshot(&lab, &postgres);
}
