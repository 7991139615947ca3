//! What a user meets on the command line: help, exit codes, errors with remedies, quiet ends.

use std::io::{BufRead, BufReader};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::common::wait_until;
use crate::shell;
use crate::shell::{Done, Place};
use serde_json::Value;

#[test]
fn help_lists_the_commands_and_long_help_every_setting() {
    let place = Place::new();
    let help = place.run(&["--help"]).ends_with(0).stdout;
    let listed: Vec<_> = help
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| line.starts_with("  "))
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    for command in [
        "run", "produce", "consume", "batch", "cdc", "load", "serve", "fx", "generate", "prepare",
        "verify", "query", "models", "fraud", "dlq", "tap", "health", "config", "kafka",
    ] {
        assert!(listed.contains(&command), "{command}: {help}");
    }
    assert!(help.contains("--gcs-flush-seconds") && help.contains("Exit codes"));
    let short = place.run(&["run", "-h"]).ends_with(0).stdout;
    assert!(!short.contains("--gcs-flush-seconds"), "{short}");
}

#[test]
fn bad_usage_ends_with_2() {
    let place = Place::new();
    for args in [
        &["frobnicate"][..],
        &["run", "--rows", "0"],
        &["prepare"],
        &["prepare", "--kaggle", "file.csv"],
        &["tap", "--rate", "-1"],
        &["run", "--kaggle-key", "hunter2"],
    ] {
        place.run(args).ends_with(2);
    }
}

#[test]
fn bad_usage_names_the_setting_and_what_is_expected() {
    let place = Place::new();
    for (args, parts) in [
        (
            &["run", "--rows", "0"][..],
            &["'0' for '--rows <N>'", "expected a whole number from 1"][..],
        ),
        (
            &["kafka", "--port", "70000"],
            &[
                "'70000' for '--port",
                "expected a whole number from 0 to 65535",
            ],
        ),
        (
            &["config", "--file-max-rows", "1.5"],
            &["FILE_MAX_ROWS is \"1.5\", from the flag --file-max-rows; expected a whole number"],
        ),
        (
            &["run", "--kaggle-key", "hunter2"],
            &["KAGGLE_KEY is a secret and has no flag", "`.env`"],
        ),
        (
            &["--kaggle-key=hunter2", "run"],
            &["KAGGLE_KEY is a secret and has no flag"],
        ),
        (&["config", "walk"], &["expected one of run, produce"]),
    ] {
        let done = place.run(args).ends_with(2).says(parts);
        assert!(!done.stderr.contains("hunter2"), "{}", done.stderr);
    }
    let accepted = place.run(&["generate", "--rows", "1e2", "--out", "g"]);
    accepted.ends_with(0);
}

#[test]
fn generate_and_prepare_say_where_the_files_are_and_log_json_lines() {
    let place = Place::new();
    let made = place
        .run(&[
            "generate",
            "--rows",
            "1000",
            "--bad-rows",
            "7",
            "--out",
            "g",
        ])
        .ends_with(0);
    assert!(
        made.stdout.contains("next: ftap prepare g/"),
        "{}",
        made.stdout
    );
    let prepared = place
        .run(&["prepare", "g/credit_card_transactions.csv", "--out", "p"])
        .ends_with(0);
    assert!(
        prepared.stdout.contains("1,000 events"),
        "{}",
        prepared.stdout
    );
    assert!(
        prepared.stdout.contains("7 rows could not be used"),
        "{}",
        prepared.stdout
    );
    assert!(
        place
            .path("p/credit_card_transactions_events.csv")
            .is_file()
    );
    for line in made.stderr.lines().chain(prepared.stderr.lines()) {
        let event: Value = serde_json::from_str(line).unwrap();
        for field in ["timestamp", "level", "event", "actor", "generation"] {
            assert!(!event[field].is_null(), "no {field} in {line}");
        }
    }
}

#[test]
fn a_missing_file_is_one_error_with_its_remedy() {
    let place = Place::new();
    place
        .run(&["prepare", "nowhere.csv"])
        .ends_with(2)
        .says(&["nowhere.csv", "ftap generate"]);
    place
        .run(&["run", "--events", "nowhere.csv"])
        .ends_with(2)
        .says(&["EVENTS_FILE", "nowhere.csv", "ftap prepare"]);
    place
        .run(&["produce"])
        .ends_with(2)
        .says(&["EVENTS_FILE", "ftap prepare"]);
    place.write("directory/file", "");
    place
        .run(&["run", "--events", "directory"])
        .ends_with(2)
        .says(&["it is not a file"]);
}

#[test]
fn at_debug_each_transaction_is_a_log_line() {
    let place = Place::prepared(500);
    let mut command = place.ftap(&["run", "--until-drained"]);
    command.env("LOG_LEVEL", "DEBUG");
    command.env("LOG_FORMAT", "json");
    let output = command.output().unwrap();
    let log = String::from_utf8(output.stderr).unwrap();
    let lines = log
        .lines()
        .filter(|line| line.contains(r#""event":"transaction_published""#))
        .count();
    assert_eq!(lines, 500);
}

#[test]
fn in_json_every_line_of_stderr_is_json_errors_included() {
    let place = Place::prepared(10);
    let cases: [(&[&str], i32, &str); 5] = [
        (&["run", "--no-such-flag"], 2, "--no-such-flag"),
        (
            &["run", "--kafka-partitions", "many"],
            2,
            "KAFKA_PARTITIONS",
        ),
        (&["run", "--events", "nowhere.csv"], 2, "nowhere.csv"),
        (
            &["verify", "--kafka-broker", "127.0.0.1:1"],
            1,
            "127.0.0.1:1",
        ),
        (&["run", "--until-drained"], 0, ""),
    ];
    // By default, too: stderr is not a terminal.
    let formats = [None, Some("json"), Some("auto"), Some("automatic")];
    for ((args, code, part), format) in cases.into_iter().zip(formats.into_iter().cycle()) {
        let (code, part) = match format {
            Some("automatic") => (2, "LOG_FORMAT"),
            _ => (code, part),
        };
        let mut command = place.ftap(args);
        command.envs(format.map(|format| ("LOG_FORMAT", format)));
        let done = Done::from(command.output().unwrap()).ends_with(code);
        let lines = done.log.lines().map(|line| {
            let parsed = serde_json::from_str::<Value>(line);
            parsed.unwrap_or_else(|error| panic!("{error}: {line}"))
        });
        let lines: Vec<Value> = lines.collect();
        let failed = lines.iter().find(|line| line["event"] == "command_failed");
        assert_eq!(failed.is_some(), code != 0, "{args:?}: {}", done.stderr);
        let Some(failed) = failed else {
            let assigned = lines
                .iter()
                .find(|line| line["event"] == "partitions_assigned");
            assert!(assigned.unwrap()["partitions"][0].is_i64(), "{assigned:?}");
            let stages = lines.iter().find(|line| line["event"] == "group_started");
            assert!(stages.unwrap()["stages"][0].is_string(), "{stages:?}");
            let rates = lines
                .iter()
                .find(|line| line["event"] == "fx_rates_written");
            assert!(rates.unwrap()["rates"]["EUR"].is_f64(), "{rates:?}");
            assert!(rates.unwrap()["quota_month"].is_null(), "{rates:?}");
            let file = lines.iter().find(|line| line["event"] == "file_committed");
            assert_eq!(file.unwrap()["reason"], "drain");
            continue;
        };
        assert_eq!(failed["exit_code"], code);
        assert!(failed["error"].as_str().unwrap().contains(part), "{failed}");
    }
    // Asked for in the file, with a setting that is wrong.
    place.write(".env", "LOG_FORMAT=json\nKAFKA_PARTITIONS=many\n");
    let done = place.run(&["run"]).ends_with(2);
    let failed: Value = serde_json::from_str(&done.log).unwrap();
    assert_eq!(failed["event"], "command_failed");
    place.write(".env", "LOG_FORMAT=text\nKAFKA_PARTITIONS=many\n");
    let text = place.run(&["run"]).ends_with(2).log;
    assert!(text.starts_with("error: KAFKA_PARTITIONS"), "{text}");
}

#[test]
fn kaggle_without_credentials_says_where_they_go() {
    Place::new()
        .run(&["prepare", "--kaggle"])
        .ends_with(2)
        .says(&["KAGGLE_USERNAME", "kaggle.json"]);
}

#[test]
fn a_data_directory_that_cannot_be_written_is_named_with_user_and_remedy() {
    let place = Place::new();
    place.write("in-the-way", "");
    place
        .run(&["run", "--data-dir", "in-the-way"])
        .ends_with(2)
        .says(&["in-the-way", "DATA_DIR"]);

    std::fs::create_dir(place.path("closed")).unwrap();
    let mut command = place.ftap(&["run", "--data-dir", "closed"]);
    let mut below = place.ftap(&["fx", "--date", "2020-01-01", "--data-dir", "closed"]);
    let unprivileged = 65_534;
    let is_root = std::fs::metadata("/proc/self").is_ok_and(|own| {
        use std::os::unix::fs::MetadataExt;
        own.uid() == 0
    });
    let open = |mode| std::fs::Permissions::from_mode(mode);
    if is_root {
        std::fs::set_permissions(place.path("."), open(0o755)).unwrap();
        std::fs::set_permissions(place.path("closed"), open(0o755)).unwrap();
        command.uid(unprivileged);
        below.uid(unprivileged);
    } else {
        std::fs::set_permissions(place.path("closed"), open(0o555)).unwrap();
    }
    match command.output() {
        Ok(output) => {
            let done = Done::from(output).ends_with(2);
            done.says(&["closed", "can't be written by user", "DATA_DIR", "chown"]);
            // A folder that does not exist yet has no owner to change.
            let done = Done::from(below.output().unwrap()).ends_with(2);
            done.says(&["mkdir -p closed/lake && chown", "LAKE_DIR"]);
        }
        // The binary may lie where `nobody` has no way in.
        Err(error) => println!("not run: no permission on the data directory ({error})"),
    }
}

#[test]
fn run_makes_its_own_data_drains_and_sums_up() {
    let place = Place::new();
    let first = place
        .run(&["run", "--until-drained", "--rows", "3000", "--json"])
        .ends_with(0);
    let summary: Value = serde_json::from_str(&first.stdout).unwrap();
    assert_eq!(summary["rows_published"], 3000);
    assert_eq!(summary["rows_committed"], 3000);
    assert_eq!(summary["restarts"], 0);
    assert!(summary["peak_memory_bytes"].as_u64().unwrap() > 1_000_000);

    // The second run finds everything done, and prints for people.
    let second = place.run(&["run", "--until-drained"]).ends_with(0);
    let published = second
        .stdout
        .lines()
        .find(|line| line.starts_with("rows published"))
        .unwrap();
    assert!(published.ends_with(" 0"), "{published}");
}

#[test]
fn sigterm_stops_a_run_within_ten_seconds_and_a_second_publisher_is_refused() {
    let place = Place::prepared(2000);
    let running = place.start(&["run"]);
    running.event("group_started");
    place
        .run(&["run"])
        .ends_with(2)
        .says(&[&running.child.id().to_string(), "DATA_DIR"]);
    let asked = Instant::now();
    // `timeout` sends it to the process and to its group: one request all the same.
    running.signal("-TERM");
    running.signal("-TERM");
    let reason = running.event("shutdown_requested");
    assert_eq!(reason["reason"], "SIGTERM");
    let summary = running.ends_with(0);
    assert!(asked.elapsed() < Duration::from_secs(10));
    assert!(summary.contains("rows put in the lake"), "{summary}");
}

#[test]
fn a_second_signal_ends_a_command_whose_output_is_not_read() {
    let place = Place::new();
    std::fs::create_dir_all(place.path("data/lake")).unwrap();
    let endless = "SELECT * FROM generate_series(1, 1000000000)";
    let mut command = place.ftap(&["query", "--format", "csv", endless]);
    command.env("LOG_FORMAT", "json");
    let mut running = shell::Running::start(command);
    let output = running.child.stdout.as_ref().unwrap().as_raw_fd();
    wait_until("the pipe to be full", || {
        let mut unread = 0;
        // SAFETY: the descriptor is open, and the kernel writes one number.
        unsafe { libc::ioctl(output, libc::FIONREAD, &raw mut unread) };
        (unread > 60_000).then_some(())
    });
    running.signal("-TERM");
    running.event("shutdown_requested");
    wait_until("the end", || {
        running.signal("-TERM");
        running.child.try_wait().unwrap()
    });
    assert_eq!(running.end().0, Some(130));
}

#[test]
fn a_drain_that_is_stopped_is_not_taken_for_one_that_is_done() {
    let place = Place::prepared(2000);
    let mut command = place.ftap(&["run", "--until-drained", "--produce-speed", "1"]);
    command.env("LOG_FORMAT", "json");
    let running = shell::Running::start(command);
    running.event("partitions_assigned");
    running.signal("-TERM");
    let failure = running.event("command_failed");
    assert!(
        failure["error"]
            .as_str()
            .unwrap()
            .contains("stopped before everything was in the lake"),
        "{failure}"
    );
    assert_eq!(running.end().0, Some(1));
}

#[test]
fn what_only_reads_leaves_a_data_directory_that_is_not_there_alone() {
    let place = Place::new();
    place
        .run(&["dlq", "list"])
        .ends_with(0)
        .stdout
        .find("no dead letters were found")
        .unwrap();
    place.run(&["verify"]);
    assert!(!place.path("data").exists());
}

/// A run whose first upload never ends.
fn hanging_run(place: &Place) -> shell::Running {
    let mut command = place.ftap(&["run", "--gcs-flush-seconds", "0.1"]);
    command.env("FTAP_FAILPOINTS", "gcs_uploader=hang");
    command.env("LOG_LEVEL", "DEBUG");
    let running = shell::Running::start(command);
    running.event("file_closed");
    running
}

#[test]
fn a_second_signal_ends_a_hanging_stop_at_once() {
    let place = Place::prepared(500);
    let running = hanging_run(&place);
    running.signal("-INT");
    running.event("shutdown_requested");
    // Sooner it would be taken for the same one again.
    std::thread::sleep(Duration::from_millis(700));
    let again = Instant::now();
    running.signal("-INT");
    assert_eq!(running.end().0, Some(130));
    assert!(again.elapsed() < Duration::from_secs(2));
}

#[test]
fn a_hanging_stop_is_over_within_ten_seconds() {
    let place = Place::prepared(500);
    let running = hanging_run(&place);
    let asked = Instant::now();
    running.signal("-TERM");
    let (code, summary) = running.end();
    assert!(
        asked.elapsed() < Duration::from_secs(10),
        "{:?}",
        asked.elapsed()
    );
    assert_eq!(code, Some(1));
    assert!(summary.contains("rows put in the lake"), "{summary}");
}

#[test]
fn tap_shows_messages_with_nothing_running_and_ends_quietly_when_no_process_reads() {
    let place = Place::prepared(2000);
    let says = ["no topic transactions", "start `ftap run`", "KAFKA_TOPIC"];
    place.run(&["tap"]).ends_with(2).says(&says);
    assert!(!place.path("data/kafka").exists());
    place.run(&["run", "--until-drained"]).ends_with(0);
    // Nothing runs that would create another one.
    let other = ["tap", "--kafka-topic", "other"];
    place.run(&other).ends_with(2).says(&says[1..]);

    let tapped = place
        .run(&["tap", "--from", "beginning", "--count", "50"])
        .ends_with(0);
    let lines: Vec<Value> = tapped
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 50);
    for line in &lines {
        assert!(
            line["partition"].is_u64() && line["offset"].is_u64(),
            "{line}"
        );
        assert!(line["message"]["trans_num"].is_string(), "{line}");
        assert!(
            line["key"].is_string() && line["timestamp_ms"].is_u64(),
            "{line}"
        );
        // Only the last message of a transaction in its partition has some.
        assert!(line["headers"].is_array(), "{line}");
    }
    let number = lines[40]["message"]["trans_num"].as_str().unwrap();
    let only = format!("trans_num={number}");
    let args = ["tap", "--from", "beginning", "--count", "1", "--filter"];
    let found = place.run(&[&args[..], &[&only]].concat()).ends_with(0);
    let found: Value = serde_json::from_str(&found.stdout).unwrap();
    assert_eq!(found, lines[40]);

    let waiting = place.start(&["tap"]);
    assert_eq!(waiting.event("tap_waiting")["topic"], "transactions");
    waiting.signal("-INT");
    assert_eq!(waiting.end().0, Some(0));

    let mut tap = place.ftap(&["tap", "--from", "beginning", "--rate", "0"]);
    let mut child = tap
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut reader = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    drop(reader);
    let done = Done::from(child.wait_with_output().unwrap()).ends_with(0);
    assert!(!done.stderr.contains("error"), "{}", done.stderr);
}

#[test]
fn the_broker_of_a_data_directory_is_served_once_and_found_by_other_commands() {
    let place = Place::prepared(500);
    let broker = place.start(&["kafka", "--port", "0"]);
    let bootstrap = broker.event("embedded_kafka_started")["bootstrap"]
        .as_str()
        .unwrap()
        .to_owned();
    place
        .run(&["kafka", "--port", "0"])
        .ends_with(2)
        .says(&[&bootstrap]);
    // No KAFKA_BROKER: the running broker is found by the data directory.
    let produced = place
        .run(&["produce", "--produce-speed", "max", "--json"])
        .ends_with(0);
    let summary: Value = serde_json::from_str(&produced.stdout).unwrap();
    assert_eq!(summary["rows_published"], 500);
    assert!(!produced.stderr.contains("embedded_kafka_started"));
    let tapped = place
        .run(&["tap", "--from", "beginning", "--rate", "0", "--count", "1"])
        .ends_with(0);
    assert_eq!(tapped.stdout.lines().count(), 1);
    broker.signal("-INT");
    let (code, printed) = broker.end();
    assert_eq!(code, Some(0));
    assert_eq!(printed.trim(), bootstrap);
    assert!(!place.path("data/kafka/bootstrap").exists());
}

#[test]
fn a_port_in_use_is_named_with_its_remedy() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let place = Place::prepared(100);
    place
        .run(&["kafka", "--port", &port])
        .ends_with(2)
        .says(&[&port, "--port"]);
    place
        .run(&["run", "--dashboard-addr", &format!("127.0.0.1:{port}")])
        .ends_with(2)
        .says(&["DASHBOARD_ADDR", &port, "off"]);
}
