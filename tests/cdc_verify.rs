//! `ftap verify` finds files of changes that were taken from the lake, and rows of the replayed tables
//! that are not those of PostgreSQL.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arrow_array::cast::AsArray;
use arrow_array::types::Int32Type;
use arrow_array::{ArrayRef, Int32Array, RecordBatch};
use serde_json::Value;

use crate::common::changes::{self, catch_up, lab, lake, user};
use crate::common::cluster::Postgres;
use crate::common::lake_file::rewrite;
use crate::common::verdict::Verdict;
use crate::common::{Lab, ROWS, not_run};
use crate::readers;

const CHANGE: &str = "UPDATE users SET zip = zip + 1";

/// Of the users in the lake: the snapshot, then the changes in their order.
fn files(lab: &Lab) -> Vec<PathBuf> {
    let folder = lake(lab).join("users_changes");
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .flat_map(|day| std::fs::read_dir(day.unwrap().path()).unwrap())
        .map(|file| file.unwrap().path())
        .collect();
    files.sort_by_key(|path| {
        let name = path.file_name().unwrap().to_owned();
        (!name.to_string_lossy().contains("snapshot"), name)
    });
    files
}

/// The positions of a change file's name: its first row's.
fn first_lsn(file: &std::path::Path) -> String {
    let name = file.file_stem().unwrap().to_string_lossy();
    let lsn = u64::from_str_radix(name.split('-').nth(2).unwrap(), 16).unwrap();
    format!("{:X}/{:X}", lsn >> 32, lsn & 0xFFFF_FFFF)
}

#[test]
fn a_removed_file_of_changes_is_missing_with_its_range() {
    let Some((lab, postgres)) = lab("cdc-verify") else {
        return;
    };
    lab.run_until_drained();
    for _ in 0..4 {
        postgres.sql(CHANGE);
        catch_up(&lab);
    }
    let exact = lab.assert_exact(ROWS);
    assert_eq!(exact.report["changes"]["exact"], true, "{exact}");
    assert_eq!(exact.report["changes"]["chains"][0]["table"], "users");
    let files = files(&lab);
    // The run may have taken a change of its own job.
    assert!(files.len() >= 5, "{files:?}");
    let (snapshot, middle, newest) = (&files[0], &files[2], &files[files.len() - 1]);
    for (file, what) in [
        (
            snapshot,
            "the snapshot is missing from part 1 on".to_owned(),
        ),
        (middle, first_lsn(middle)),
        (newest, first_lsn(newest)),
    ] {
        let aside = lab.path("aside");
        std::fs::rename(file, &aside).unwrap();
        let verdict = lab.verify();
        assert_eq!(verdict.code, 3, "{file:?}: {verdict}");
        let chain = &verdict.report["changes"]["chains"][0];
        assert_eq!(chain["table"], "users");
        let problems = chain["problems"].as_array().unwrap();
        assert_eq!(problems.len(), 1, "{file:?}: {verdict}");
        let problem = problems[0].as_str().unwrap();
        assert!(problem.contains(&what), "{what}: {problem}");
        let table = lab.command(["verify"]).output().unwrap();
        assert_eq!(table.status.code(), Some(3));
        let table = String::from_utf8(table.stdout).unwrap();
        assert!(table.contains("problem: users, epoch 1: "), "{table}");
        std::fs::rename(&aside, file).unwrap();
    }
    lab.assert_exact(ROWS);
}

/// The comparison of a table.
fn table<'a>(verdict: &'a Verdict, name: &str) -> &'a Value {
    let postgres = &verdict.report["changes"]["postgres"];
    assert_eq!(postgres["not_compared"], Value::Null, "{verdict}");
    let tables = postgres["tables"].as_array().unwrap();
    let found = tables.iter().find(|table| table["table"] == name);
    let table = found.unwrap_or_else(|| panic!("no {name}: {verdict}"));
    assert_eq!(table["not_compared"], Value::Null, "{verdict}");
    table
}

/// What `ftap verify` prints for people.
fn printed(lab: &Lab) -> String {
    let output = lab.command(["verify"]).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

fn rows(postgres: &Postgres, table: &str) -> u64 {
    let rows = postgres.value(&format!("SELECT count(*) FROM {table}"));
    rows.parse().unwrap()
}

/// Every kind of change.
fn change_everything(postgres: &Postgres) {
    let [one, two, three, new] = [1, 2, 3, 900].map(user);
    postgres.sql(&format!(
        "DELETE FROM users WHERE user_id = '{two}';
         INSERT INTO users (user_id, lat) VALUES ('{two}', 1.50);
         TRUNCATE merchants;
         INSERT INTO merchants VALUES ('m', 1, 2, 3), ('n', 1, 2, 3), ('o', 1, 2, 3)"
    ));
    postgres.sql(&format!(
        "UPDATE users SET zip = 2, city = NULL WHERE user_id = '{one}';
         UPDATE users SET user_id = '{new}' WHERE user_id = '{three}';
         UPDATE merchants SET merchant = 'p' WHERE merchant = 'n';
         UPDATE merchants SET merchant = 'n' WHERE merchant = 'm';
         DELETE FROM merchants WHERE merchant = 'o'"
    ));
}

/// Values that their columns can't hold, and one that an update leaves alone.
fn change_values(postgres: &Postgres) {
    let [four, five, six] = [4, 5, 6].map(user);
    postgres.sql(&format!(
        "UPDATE users SET street = (SELECT string_agg(md5(n::text), '') FROM generate_series(1, 1000) n) WHERE user_id IN ('{five}', '{six}');
         UPDATE users SET dob = 'infinity', lat = 'NaN', long = 12345678901234567890.12345678900 WHERE user_id = '{four}'"
    ));
    postgres.sql(&format!(
        "UPDATE users SET zip = 5 WHERE user_id = '{five}';
         UPDATE users SET user_id = '{}' WHERE user_id = '{six}'",
        user(901)
    ));
}

#[test]
fn the_replayed_tables_equal_those_of_postgresql_while_they_change() {
    let Some((mut lab, postgres)) = lab("cdc-equal") else {
        return;
    };
    lab.run_until_drained();
    // Only what `verify` asks for makes a checkpoint.
    lab.set("CDC_FLUSH_SECONDS", "86400");
    let capture = lab.start(["cdc"]);
    capture.wait_for_event("changes_streaming");
    change_everything(&postgres);
    change_values(&postgres);
    let exact = lab.assert_exact(ROWS);
    for name in ["users", "merchants"] {
        let table = table(&exact, name);
        let there = rows(&postgres, name);
        assert_eq!(table["replayed"], there, "{exact}");
        assert_eq!(table["in_postgres"], there, "{exact}");
        assert_eq!(table["differing"], 0, "{exact}");
        assert_eq!(table["pending"], 0, "{exact}");
        assert_eq!(table["earlier_form"], 0, "{exact}");
    }
    assert!(
        table(&exact, "users")["changes"].as_u64() >= Some(7),
        "{exact}"
    );

    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut session = postgres.session();
            let mut open = postgres.session();
            open.sql(&format!("BEGIN; DELETE FROM users WHERE user_id = '{}'", user(50)));
            while !is_over.load(Ordering::Relaxed) {
                // The pause lets a capture without optimisations keep up.
                session.sql(&format!(
                    "UPDATE users SET zip = zip + 1 WHERE user_id IN ('{}', '{}'); DELETE FROM merchants; INSERT INTO merchants SELECT 'm' || n FROM generate_series(1, 9) n; SELECT pg_sleep(0.01)",
                    user(7),
                    user(8)
                ));
            }
            open.sql("COMMIT");
        });
        let verdicts = [(); 3].map(|()| lab.verify());
        is_over.store(true, Ordering::Relaxed);
        for verdict in verdicts {
            assert_eq!(table(&verdict, "users")["differing"], 0, "{verdict}");
            assert_eq!(table(&verdict, "merchants")["differing"], 0, "{verdict}");
            assert_eq!(verdict.code, 0, "{verdict}");
        }
    });
    let exact = lab.assert_exact(ROWS);
    assert_eq!(
        table(&exact, "users")["in_postgres"],
        rows(&postgres, "users")
    );
    let text = printed(&lab);
    assert!(
        text.contains("Each row that was compared is the same in PostgreSQL."),
        "{text}"
    );
}

/// Replaces a value of `zip` in a file, and nothing else: name, footer and all other values stay.
fn alter(file: &Path, id: &str) {
    let mut altered = 0;
    rewrite(file, |batch| {
        let ids = batch.column_by_name("user_id").unwrap().as_string::<i32>();
        let zips = batch.column_by_name("zip").unwrap();
        let zips = zips.as_primitive::<Int32Type>().iter().zip(ids);
        let zips: Int32Array = zips
            .map(|(zip, of)| {
                altered += u64::from(of == Some(id));
                zip.map(|zip| zip + i32::from(of == Some(id)))
            })
            .collect();
        let mut columns = batch.columns().to_vec();
        columns[batch.schema().index_of("zip").unwrap()] = Arc::new(zips) as ArrayRef;
        RecordBatch::try_new(batch.schema(), columns).unwrap()
    });
    assert_eq!(altered, 1, "{}", file.display());
}

#[test]
fn a_row_that_differs_is_named_with_its_table_whatever_hid_its_change() {
    let Some((lab, postgres)) = lab("cdc-differs") else {
        return;
    };
    lab.run_until_drained();
    let capture = lab.start(["cdc"]);
    capture.wait_for_event("changes_streaming");
    lab.assert_exact(ROWS);
    postgres.sql(&format!("{CHANGE} WHERE user_id = '{}'", user(7)));
    lab.assert_exact(ROWS);
    alter(files(&lab).last().unwrap(), &user(7));
    let verdict = lab.verify();
    assert_eq!(verdict.code, 3, "{verdict}");
    let users = table(&verdict, "users");
    assert_eq!(users["differing"], 1, "{verdict}");
    let named = format!("{} (zip)", user(7));
    assert_eq!(
        users["differences"],
        serde_json::json!([named]),
        "{verdict}"
    );
    assert_eq!(table(&verdict, "merchants")["differing"], 0, "{verdict}");
    for chain in verdict.report["changes"]["chains"].as_array().unwrap() {
        assert_eq!(
            chain["problems"],
            serde_json::json!([]),
            "no file is missing"
        );
    }
    let text = printed(&lab);
    let problem = format!("problem: users: 1 row differ from PostgreSQL: {named}");
    assert!(text.contains(&problem), "{text}");
    assert!(text.contains("`ftap cdc --resnapshot`"), "{text}");
    capture.signal(libc::SIGTERM);
    capture.wait_for_success();

    // Another client takes what the slot holds: more rows than are named.
    lab.start(["cdc", "--resnapshot", "--until-drained"])
        .wait_for_success();
    lab.assert_exact(ROWS);
    let there = rows(&postgres, "users");
    postgres.sql(&format!(
        "UPDATE users SET zip = zip + 1, city = 'Bergen';
         DELETE FROM users WHERE user_id = '{}';
         INSERT INTO users (user_id) VALUES ('{}')",
        user(1),
        user(0),
    ));
    postgres.sql("SELECT pg_replication_slot_advance('ftap_changes', pg_current_wal_lsn())");
    let verdict = lab.verify();
    assert_eq!(verdict.code, 3, "{verdict}");
    let users = table(&verdict, "users");
    assert_eq!(users["differing"], there + 1, "{verdict}");
    let named: Vec<_> = users["differences"].as_array().unwrap().iter().collect();
    assert_eq!(named.len(), 10, "{verdict}");
    assert_eq!(*named[0], format!("{} (only in PostgreSQL)", user(0)));
    assert_eq!(*named[1], format!("{} (only in the lake)", user(1)));
    assert_eq!(*named[2], format!("{} (city, zip)", user(2)));
}

#[test]
fn what_no_capture_has_read_is_left_out_and_what_cannot_be_compared_is_said() {
    let Some((mut lab, postgres)) = lab("cdc-pending") else {
        return;
    };
    lab.run_until_drained();
    catch_up(&lab);
    postgres.sql(&format!("{CHANGE} WHERE user_id = '{}'", user(3)));
    catch_up(&lab);
    // The last commit is in the slot and in the lake: it is compared.
    let exact = lab.assert_exact(ROWS);
    assert_eq!(table(&exact, "users")["pending"], 0, "{exact}");
    assert_eq!(table(&exact, "users")["differing"], 0, "{exact}");
    let [one, two, new] = [1, 2, 900].map(user);
    postgres.sql(&format!(
        "UPDATE users SET zip = 7 WHERE user_id = '{one}';
         UPDATE users SET user_id = '{new}' WHERE user_id = '{two}';
         UPDATE merchants SET merch_zipcode = 3 WHERE merchant = 'merchant 1'"
    ));
    let exact = lab.assert_exact(ROWS);
    assert_eq!(table(&exact, "users")["pending"], 3, "{exact}");
    assert_eq!(table(&exact, "users")["differing"], 0, "{exact}");
    assert_eq!(table(&exact, "merchants")["pending"], 1, "{exact}");
    let text = printed(&lab);
    let note = "note: capture is not running: 3 rows of users not compared";
    assert!(text.contains(note), "{text}");

    postgres.sql("TRUNCATE merchants");
    let verdict = lab.assert_exact(ROWS);
    let merchants = &verdict.report["changes"]["postgres"]["tables"][1];
    let why = merchants["not_compared"].as_str().unwrap();
    assert!(
        why.contains("was emptied") && why.contains("start `ftap cdc`"),
        "{why}"
    );
    catch_up(&lab);

    // Columns that came later are compared where the lake has them.
    postgres.sql(&format!(
        "ALTER TABLE users ADD COLUMN score INT DEFAULT 7; UPDATE users SET zip = 8 WHERE user_id = '{one}'"
    ));
    catch_up(&lab);
    let exact = lab.assert_exact(ROWS);
    let users = table(&exact, "users");
    assert_eq!(
        users["earlier_form"],
        rows(&postgres, "users") - 1,
        "{exact}"
    );
    assert_eq!(users["differing"], 0, "{exact}");

    // A capture that is there and does nothing.
    lab.set("POSTGRES_STATEMENT_TIMEOUT_SECONDS", "2");
    let capture = lab.start(["cdc"]);
    capture.wait_for_event("changes_streaming");
    capture.signal(libc::SIGSTOP);
    let not_compared = |lab: &Lab| {
        let verdict = lab.assert_exact(ROWS);
        let why = &verdict.report["changes"]["postgres"]["not_compared"];
        let why = why.as_str().unwrap_or_else(|| panic!("{verdict}"));
        let text = printed(lab);
        assert!(
            text.contains("note: not compared with PostgreSQL: "),
            "{text}"
        );
        why.to_owned()
    };
    let why = not_compared(&lab);
    assert!(why.contains("no checkpoint after"), "{why}");
    capture.signal(libc::SIGCONT);
    capture.signal(libc::SIGTERM);
    capture.wait_for_success();

    lab.set("POSTGRES", "off");
    assert!(not_compared(&lab).contains("POSTGRES is off"));
    lab.set("POSTGRES", "on");
    drop(postgres);
    assert!(not_compared(&lab).contains("does not answer"));
}

#[test]
fn a_slot_that_is_gone_is_a_loss() {
    let Some((lab, postgres)) = lab("cdc-no-slot") else {
        return;
    };
    lab.run_until_drained();
    catch_up(&lab);
    lab.assert_exact(ROWS);
    postgres.sql(CHANGE);
    postgres.sql("SELECT pg_drop_replication_slot('ftap_changes')");
    let verdict = lab.verify();
    assert_eq!(verdict.code, 3, "{verdict}");
    let notes = verdict.report["notes"].to_string();
    assert!(
        notes.contains("replication slot ftap_changes is gone"),
        "{verdict}"
    );
    let text = printed(&lab);
    assert!(
        text.contains("problem: replication slot ftap_changes is gone"),
        "{text}"
    );
}

const RUN_SQL: &str = r#"
import json, sys
import duckdb
db = duckdb.connect()
rows = db.execute(sys.argv[1]).fetchall()
names = [column[0] for column in db.description]
for row in rows:
    print(json.dumps({name: value for name, value in zip(names, row)}, default=str))
"#;

/// Runs a statement in DuckDB, in the directory of a lab.
fn duckdb(lab: &Lab, python: &str, sql: &str) -> Vec<Value> {
    let output = Command::new(python)
        .args(["-c", RUN_SQL, sql])
        .current_dir(lab.path(""))
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{errors}");
    let text = String::from_utf8(output.stdout).unwrap();
    let lines = text.lines();
    lines.map(|line| comparable(line, &["_exact"])).collect()
}

/// A row without some columns; 1 is 1.0.
fn comparable(json: &str, without: &[&str]) -> Value {
    let mut row: serde_json::Map<String, Value> = serde_json::from_str(json).unwrap();
    row.retain(|name, _| !without.contains(&name.as_str()));
    for value in row.values_mut() {
        if let Some(number) = value.as_f64() {
            *value = number.into();
        }
    }
    Value::Object(row)
}

#[test]
fn the_statement_of_the_readme_gives_the_tables() {
    let python = match readers::python() {
        Ok(python) => python,
        Err(why) => return not_run(&why),
    };
    let Some((mut lab, postgres)) = lab("cdc-readme") else {
        return;
    };
    // Where the statement looks for it.
    lab.set("LAKE_DIR", lab.path("data/lake"));
    let readme = include_str!("../README.md");
    let blocks = readme.split("```sql\n").skip(1);
    let mut blocks = blocks.filter_map(|block| block.split("```").next());
    let statement = blocks
        .find(|block| block.contains("users_changes"))
        .unwrap();
    let for_merchants = statement
        .replace("users", "merchants")
        .replace("user_id", "merchant");

    postgres.sql("ALTER TABLE users ADD since DATE DEFAULT '2024-01-01'");
    catch_up(&lab);
    change_everything(&postgres);
    // An update that leaves a long value alone: the server does not send that.
    let long = "(SELECT string_agg(md5(i::text), '') FROM generate_series(1, 300) AS i)";
    postgres.sql(&format!(
        "UPDATE users SET street = {long} WHERE user_id = '{}'",
        user(8)
    ));
    postgres.sql(&format!(
        "UPDATE users SET job = 'left alone' WHERE user_id = '{}'",
        user(8)
    ));
    catch_up(&lab);
    for times in 0..2 {
        for (table, statement) in [("users", statement), ("merchants", &for_merchants)] {
            let order = |rows: &mut Vec<Value>| rows.sort_by_key(Value::to_string);
            let mut found = duckdb(&lab, &python, statement);
            let rows = postgres.sql(&format!("SELECT to_jsonb(t) FROM {table} t"));
            let rows = rows.iter().map(|row| row[0].as_deref().unwrap());
            let mut expected: Vec<_> = rows.map(|row| comparable(row, &[])).collect();
            order(&mut found);
            order(&mut expected);
            assert!(!expected.is_empty());
            assert_eq!(found, expected, "{table}, {times}");
        }
        if times == 0 {
            // Another epoch, with another type that the files of the first can't be read as, and the
            // beginning of one whose snapshot was interrupted.
            postgres.sql(CHANGE);
            postgres
                .sql("ALTER TABLE users ALTER since DROP DEFAULT, ALTER since TYPE INT USING 7");
            let copied = lab.start(["cdc", "--resnapshot", "--until-drained"]);
            copied.wait_for_success();
            postgres.sql(&format!("DELETE FROM users WHERE user_id = '{}'", user(9)));
            catch_up(&lab);
            let files = changes::files(lake(&lab), "users");
            let of_epoch = |file: &&PathBuf| file.ends_with("users-000002-snapshot-0001.parquet");
            let snapshot = files.iter().find(of_epoch).unwrap();
            let third = snapshot.with_file_name("users-000003-snapshot-0001.parquet");
            std::fs::copy(snapshot, third).unwrap();
        }
    }
}
