//! `ftap query`: answers equal what the events file says, and every refusal tells what to write instead.

use std::process::{Command, Stdio};

use serde_json::Value;

use crate::common::{Lab, ROWS, events_file};
use crate::shell::Done;

fn query(lab: &Lab, args: &[&str]) -> Done {
    let mut command = lab.command(["query"]);
    Done::from(command.args(args).output().unwrap())
}

fn rows(lab: &Lab, sql: &str) -> Vec<Value> {
    let done = query(lab, &[sql, "--format", "json"]).ends_with(0);
    let lines = done.stdout.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn answers_equal_the_events_file_in_every_format() {
    let lab = Lab::new("query");
    lab.run_until_drained();
    let events = std::fs::read_to_string(events_file()).unwrap();
    let mut lines = events.lines();
    let header: Vec<&str> = lines.next().unwrap().split(';').collect();
    let fraud = header.iter().position(|name| *name == "is_fraud").unwrap();
    let fraud = lines.filter(|line| line.split(';').nth(fraud) == Some("1"));
    let fraud = fraud.count();
    assert!(fraud > 0);
    let sql = "select count(*) as n, sum(is_fraud) as fraud, \
               count(case when event_time = trans_date_trans_time::timestamp then 1 end) as timed \
               from transactions";
    let answers = rows(&lab, sql);
    let [answer] = &answers[..] else {
        panic!("{answers:?}")
    };
    assert_eq!(
        (&answer["n"], &answer["fraud"], &answer["timed"]),
        (&ROWS.into(), &fraud.into(), &ROWS.into())
    );

    let few =
        "select currency, count(*) as n from transactions group by currency order by currency";
    let csv = query(&lab, &[few, "--format", "csv"]).ends_with(0);
    assert!(csv.stdout.starts_with("currency,n\n"), "{}", csv.stdout);
    assert_eq!(csv.stdout.lines().count(), 1 + rows(&lab, few).len());
    let table = query(&lab, &[few]).ends_with(0);
    assert!(table.stdout.contains("| currency | n "), "{}", table.stdout);

    // Parquet goes to a file that was not there, and nowhere else.
    let file = lab.path("answer.parquet");
    let name = file.to_str().unwrap();
    let all = "select * from transactions";
    query(&lab, &[all, "--out", name, "--limit", "7"]).ends_with(0);
    assert!(std::fs::read(&file).unwrap().starts_with(b"PAR1"));
    query(&lab, &[all, "--out", name])
        .ends_with(2)
        .says(&["answer.parquet", "name another one"]);

    // Long answers are cut for people only.
    let table = query(&lab, &[all]).ends_with(0);
    assert!(table.stdout.contains("100 rows, and there are more"));
    let csv = query(&lab, &[all, "--format", "csv"]).ends_with(0);
    assert_eq!(csv.stdout.lines().count() as u64, 1 + ROWS);
}

#[test]
fn a_statement_comes_from_the_command_line_a_file_or_standard_input() {
    let lab = Lab::new("query-sources");
    std::fs::create_dir_all(lab.path("lake")).unwrap();
    let sql = "select 1 as one";
    let file = lab.path("one.sql");
    std::fs::write(&file, sql).unwrap();
    let by_file = query(&lab, &["--file", file.to_str().unwrap(), "--format", "csv"]).ends_with(0);
    let mut command = lab.command(["query", "--format", "csv"]);
    let piped = command.stdin(std::fs::File::open(&file).unwrap()).output();
    let piped = Done::from(piped.unwrap()).ends_with(0);
    for done in [by_file, piped] {
        assert_eq!(done.stdout, "one\n1\n");
    }
    let tables = query(&lab, &["show tables", "--format", "csv"]).ends_with(0);
    for table in [
        "transactions",
        "fx_rates",
        "users_changes",
        "merchants_changes",
    ] {
        assert!(tables.stdout.contains(table), "{}", tables.stdout);
    }
    // A table without objects has its columns all the same.
    let described = query(&lab, &["describe transactions"]).ends_with(0);
    assert!(described.stdout.contains("trans_num"));
    assert!(rows(&lab, "select * from fx_rates").is_empty());
    query(&lab, &[" "]).ends_with(2).says(&["empty"]);
    let commented = query(&lab, &["-- One.\nselect 1 as one", "--format", "csv"]).ends_with(0);
    assert_eq!(commented.stdout, "one\n1\n");
    for args in [
        &["--formt"][..],
        &["--formt", "csv"],
        &["select 1", "--formt=csv"],
    ] {
        query(&lab, args).ends_with(2);
    }
}

#[test]
fn a_wrong_statement_is_answered_with_its_place_and_what_was_meant() {
    let lab = Lab::new("query-wrong");
    std::fs::create_dir_all(lab.path("lake")).unwrap();
    let cases: [(&str, &[&str]); 9] = [
        ("selct 1", &["line 1, column 1", "selct"]),
        (
            "select\n  currncy\nfrom transactions",
            &["line 2, column 3", "currncy", "currency", "  ^"],
        ),
        (
            "select * from transaction",
            &["transaction", "did you mean 'transactions'?"],
        ),
        (
            "select * from nowhere",
            &["nowhere", "there are transactions, fx_rates"],
        ),
        ("select no_such(1)", &["no_such"]),
        ("drop table transactions", &["DDL"]),
        ("insert into fx_rates values ('a')", &[]),
        ("copy transactions to '/tmp/x.csv'", &[]),
        ("select 1; select 2", &["single SQL statement"]),
    ];
    for (sql, parts) in cases {
        query(&lab, &[sql]).ends_with(2).says(parts);
    }
    // No file of the machine is a table.
    let passwords = query(&lab, &["select * from '/etc/passwd'"]).ends_with(2);
    assert!(!passwords.stdout.contains("root"));
    // Deep nesting is an error, not the end of the process.
    let deep = format!("select {}1{}", "(".repeat(20_000), ")".repeat(20_000));
    query(&lab, &[&deep]).ends_with(2);
}

#[test]
fn a_statement_that_nests_too_deeply_is_refused_and_any_other_is_answered() {
    let lab = Lab::new("query-deep");
    lab.run_until_drained();
    let chains = |count: usize| {
        let conditions = |i: usize| format!("_kafka_offset <> -{i}");
        let conditions: Vec<_> = (1..=count / 3).map(conditions).collect();
        [
            format!(
                "select count(*) as n from transactions where {}",
                conditions.join(" and ")
            ),
            format!("select {} as n", vec!["1"; count].join(" - ")),
            format!("select 1 as n {}", "union all select 1 ".repeat(count)),
        ]
    };
    for sql in chains(490) {
        assert!(!rows(&lab, &sql).is_empty());
    }
    for sql in chains(20_000) {
        let mut command = lab.command(["query"]);
        let file = lab.path("deep.sql");
        std::fs::write(&file, sql).unwrap();
        let file = std::fs::File::open(file).unwrap();
        let done = Done::from(command.stdin(file).output().unwrap()).ends_with(2);
        done.says(&["nest in each other; 500 may", "IN (…)"]);
    }
}

#[test]
fn memory_and_time_are_bounded() {
    let lab = Lab::new("query-bounds");
    std::fs::create_dir_all(lab.path("lake")).unwrap();
    let many = "select count(distinct a.value * 1000000 + b.value) as n \
                from generate_series(1, 1000000) as a cross join generate_series(1, 1000000) as b";
    query(&lab, &[many, "--timeout", "1"])
        .ends_with(1)
        .says(&["no answer within 1 s", "--timeout"]);
    let large = "select count(distinct cast(value as varchar) || repeat('x', 200)) as n \
                 from generate_series(1, 5000000)";
    query(&lab, &[large, "--memory", "16"])
        .ends_with(1)
        .says(&["more memory than it may have", "--memory"]);
}

#[test]
fn the_end_of_the_reader_is_the_end_of_the_answer() {
    let lab = Lab::new("query-head");
    std::fs::create_dir_all(lab.path("lake")).unwrap();
    let mut command: Command = lab.command([
        "query",
        "--format",
        "csv",
        "select * from generate_series(1, 100000000)",
    ]);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let done = Done::from(child.wait_with_output().unwrap());
    assert_eq!((done.code, done.stderr.as_str()), (Some(0), ""));
}
