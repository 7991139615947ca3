//! The first hour with `ftap`: what the screen shows, what an error says, how to start over.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use crate::common::postgres::open_to_all;
use crate::common::{not_run, wait_until};
use crate::shell;
use crate::shell::terminal::{COLUMNS, Terminal};
use crate::shell::{PATIENCE, Place, Running, request};

const SOURCE: &str = "data/generated/credit_card_transactions.csv";

/// A place with a prepared events file of so many rows.
fn place_with_data(rows: u64) -> Place {
    let place = Place::new();
    prepare(&place, rows, 1);
    place
}

fn prepare(place: &Place, rows: u64, seed: u64) -> shell::Done {
    let (rows, seed) = (rows.to_string(), seed.to_string());
    place
        .run(&["generate", "--rows", &rows, "--seed", &seed])
        .ends_with(0);
    place.run(&["prepare", SOURCE]).ends_with(0)
}

fn in_terminal(place: &Place, args: &[&str]) -> Terminal {
    let mut command = place.ftap(args);
    command.env("POSTGRES", "off");
    Terminal::start(command)
}

/// What lines of the status begin with.
const LABELS: [&str; 8] = [
    "published",
    "lake  ",
    "postgres",
    "changes",
    "fx rates",
    "bigquery",
    "process",
    "          ",
];

/// No line of the status is wider than the terminal: one that is spills into the next.
#[track_caller]
fn assert_fits(text: &str) {
    assert!(!text.contains("^C"), "{text}");
    let is_status = |line: &str| LABELS.iter().any(|label| line.starts_with(label));
    for line in text.lines().filter(|line| is_status(line)) {
        let signs: Vec<char> = line.trim_end().chars().collect();
        for row in signs.chunks(COLUMNS.into()) {
            let row: String = row.iter().collect();
            assert!(is_status(&row), "{row:?} is left over from {line:?}");
        }
    }
}

#[test]
fn a_slow_replay_shows_how_long_it_takes_and_how_it_would_be_faster() {
    let place = place_with_data(2000);
    let mut produce = in_terminal(&place, &["produce"]);
    produce.wait_for("of 2,000 rows");
    produce.wait_for(" d ");
    produce.wait_for("h left");
    produce.wait_for("--produce-speed max");
    produce.type_in("\x03");
    let (code, text) = produce.end();
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("  0 % "), "{text}");
    assert!(text.contains("rows published"), "{text}");
    assert_fits(&text);
}

#[test]
fn a_run_on_a_terminal_shows_shares_and_jobs_and_ends_with_the_lake_and_a_query() {
    let place = place_with_data(2000);
    let mut run = in_terminal(&place, &["run"]);
    run.wait_for("published");
    run.wait_for("100 % 2,000 of 2,000 rows");
    run.wait_for("100 % 2,000 rows");
    run.wait_for("fx rates  in the lake at");
    run.type_in("\x03");
    let (code, text) = run.end();
    assert_eq!(code, Some(0), "{text}");
    assert_fits(&text);
    let (_, end) = text.rsplit_once("rows published").unwrap();
    for part in [
        "in the lake data/lake",
        "transactions",
        "fx_rates",
        "ftap query \"SELECT",
    ] {
        assert!(end.contains(part), "no {part} in {end}");
    }

    let mut again = in_terminal(&place, &["run", "--until-drained"]);
    let (code, text) = again.end();
    assert_eq!(code, Some(0), "{text}");
    assert!(
        text.contains("nothing new: 2,000 rows of data/prepared/"),
        "{text}"
    );
}

#[test]
fn the_query_that_a_run_ends_with_answers_when_it_is_pasted() {
    let place = place_with_data(2000);
    let lake = "the lake's \"$HOME\"";
    let run = ["run", "--until-drained", "--lake-dir", lake];
    let mut command = place.ftap(&run);
    let run = shell::Done::from(command.env("POSTGRES", "off").output().unwrap()).ends_with(0);
    let (_, end) = run.stdout.split_once("query it:\n").unwrap();
    let mut pasted = std::process::Command::new("sh");
    pasted
        .args(["-c", end.lines().next().unwrap()])
        .current_dir(place.path(""))
        .env_clear();
    let pasted = shell::Done::from(pasted.output().unwrap()).ends_with(0);
    for currency in ["DKK", "EUR", "NOK", "SEK"] {
        let row = pasted.stdout.lines().find(|line| line.contains(currency));
        let cells: Vec<&str> = row.unwrap().split('|').map(str::trim).collect();
        // Transactions and dollars.
        let figures = [cells[2], cells[3]].map(|cell| cell.parse::<f64>().unwrap());
        assert!(figures.iter().all(|figure| *figure > 100.0), "{row:?}");
    }
}

#[test]
fn what_postgresql_and_the_capture_do_is_on_the_screen() {
    let place = place_with_data(500);
    open_to_all(&place.path(""));
    let mut command = place.ftap(&["run"]);
    command.env("CDC_FLUSH_SECONDS", "0.2");
    let mut run = Terminal::start(command);
    let has_postgres = wait_until("a server, or none", || {
        let text = run.text();
        if text.contains("postgres_off") {
            Some(false)
        } else {
            text.contains(" merchants · ").then_some(true)
        }
    });
    if !has_postgres {
        return not_run("there is no PostgreSQL here");
    }
    run.wait_for(" got a new ");
    run.wait_for("rows in the lake · lag ");
    run.type_in("\x03");
    let (code, text) = run.end();
    assert_eq!(code, Some(0), "{text}");
    assert_fits(&text);
    let (_, end) = text.rsplit_once("rows published").unwrap();
    assert!(end.contains("users_changes"), "{end}");
}

#[test]
fn a_drained_run_says_that_it_leaves_out_users_and_merchants() {
    let place = place_with_data(100);
    let run = |settings: &[(&str, &str)]| {
        let mut command = place.ftap(&["run", "--until-drained"]);
        command.envs(settings.iter().copied());
        shell::Done::from(command.output().unwrap())
            .ends_with(0)
            .stdout
    };
    let said = run(&[]);
    assert!(
        said.contains("users and merchants were not loaded"),
        "{said}"
    );
    let said = run(&[("POSTGRES", "off")]);
    assert!(!said.contains("users and merchants"), "{said}");
}

#[test]
fn a_wrong_events_file_is_reported_once_and_before_anything_starts() {
    let place = Place::new();
    place.run(&["generate", "--rows", "100"]).ends_with(0);
    place
        .run(&["prepare", SOURCE, "--out", "elsewhere"])
        .ends_with(0);
    place.write("empty.csv", "");
    place.write("other.csv", "a;b;c\n1;2;3\n");
    place.write("archive.csv", "PK\x03\x04");
    let header =
        "trans_date_trans_time;user_id;merchant;category;amt;trans_num;unix_time;is_fraud\n";
    place.write("header.csv", header);
    for (file, says) in [
        (SOURCE, "run `ftap prepare data/generated/"),
        (
            "elsewhere/credit_card_transactions_users.csv",
            "it is the users file",
        ),
        (
            "elsewhere/credit_card_transactions_merchants.csv",
            "it is the merchants file",
        ),
        ("empty.csv", "is empty"),
        ("other.csv", "is not a prepared events file"),
        ("archive.csv", "zip archive"),
        ("header.csv", "no rows"),
    ] {
        for command in ["run", "produce"] {
            let done = place
                .run(&[command, "--events", file])
                .ends_with(2)
                .says(&[says, file]);
            assert_eq!(done.stderr.matches(says).count(), 1, "{}", done.stderr);
            assert!(!done.stderr.contains("stage_failed"), "{}", done.stderr);
        }
    }
    assert!(!place.path("data/kafka").exists(), "a broker was started");
}

#[test]
fn an_unreachable_broker_is_one_line_with_the_setting() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap();
    let broker = closed.local_addr().unwrap().to_string();
    drop(closed);
    let place = place_with_data(100);
    let mut command = place.ftap(&["produce"]);
    command
        .env("KAFKA_BROKER", &broker)
        .env("KAFKA_MAX_RETRIES", "3")
        .env("KAFKA_RETRY_DELAY", "0.1");
    let (code, text) = Terminal::start(command).end();
    assert_eq!(code, Some(1), "{text}");
    let lines: Vec<_> = text
        .lines()
        .filter(|line| line.contains("kafka_unreachable"))
        .collect();
    assert_eq!(lines.len(), 1, "{text}");
    assert!(lines[0].contains("check KAFKA_BROKER"), "{text}");
    assert_eq!(text.matches("after 3 tries").count(), 1, "{text}");
}

#[test]
fn a_lake_that_is_away_shows_why_and_the_terminal_that_it_is_back() {
    let place = place_with_data(2000);
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap().to_string();
    drop(free);
    let mut command = place.ftap(&["run"]);
    command
        .env("POSTGRES", "off")
        .env("INGEST_FX_SCHEDULE", "off")
        .env("DASHBOARD_ADDR", &address)
        .env("GCS_FLUSH_SECONDS", "0.2")
        // All rows in a minute.
        .env("PRODUCE_SPEED", "770000");
    let mut run = Terminal::start(command);
    run.wait_for("lake");
    let lake = place.path("data/lake");
    let end = Instant::now() + PATIENCE;
    while !lake.join("transactions").is_dir() {
        assert!(Instant::now() < end, "{}", run.text());
        std::thread::sleep(Duration::from_millis(20));
    }
    std::fs::rename(&lake, place.path("data/gone")).unwrap();
    run.wait_for("lake_unavailable");
    let url = format!("http://{address}");
    let ready = loop {
        let answer = request(&url, "GET", "/readyz", "localhost");
        if answer.status == 503 {
            break answer.json();
        }
        assert!(Instant::now() < end, "{}", answer.body);
        std::thread::sleep(Duration::from_millis(100));
    };
    assert_eq!(ready["lake"]["up"], false, "{ready}");
    let error = ready["lake"]["error"].as_str().unwrap();
    assert!(error.contains("lake's folder"), "{error}");
    let status = request(&url, "GET", "/api/status", "localhost").json();
    assert_eq!(status["lake"]["error"], error, "{status}");
    run.wait_for("lake down");

    std::fs::rename(place.path("data/gone"), &lake).unwrap();
    run.wait_for("lake_recovered");
    run.type_in("\x03");
    let (code, text) = run.end();
    assert_eq!(code, Some(0), "{text}");
    assert_eq!(
        request_later(&place, &["verify"]),
        Some(0),
        "what waited for the lake is in it once"
    );
}

/// Publishes and reads what is left, then gives the exit code of a command.
fn request_later(place: &Place, args: &[&str]) -> Option<i32> {
    place.run(&["run", "--until-drained"]).ends_with(0);
    place.run(args).code
}

#[test]
fn the_readmes_own_data_works_after_the_demo() {
    let place = Place::new();
    // The demo, only shorter.
    let demo = ["run", "--until-drained", "--rows", "500"];
    place.run(&demo).ends_with(0);

    place
        .run(&["generate", "--rows", "700", "--seed", "9", "--out", "mine"])
        .ends_with(0);
    place
        .run(&["prepare", "mine/credit_card_transactions.csv"])
        .ends_with(0)
        .says(&["topic transactions holds another events file", "ftap reset"]);
    place
        .run(&["run", "--until-drained"])
        .ends_with(1)
        .says(&["another events file", "ftap reset"]);

    // Without a terminal there is no one to ask.
    let refused = place.run(&["reset"]).ends_with(2).says(&["--yes"]);
    assert!(refused.stdout.contains("data/kafka"), "{}", refused.stdout);
    let mut asked = in_terminal(&place, &["reset"]);
    asked.wait_for("[y/N]");
    asked.type_in("n\n");
    let (code, text) = asked.end();
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("nothing was removed"), "{text}");
    assert!(place.path("data/kafka").is_dir() && place.path("data/lake/transactions").is_dir());

    let mut asked = in_terminal(&place, &["reset"]);
    asked.wait_for("[y/N]");
    asked.type_in("y\n");
    let (code, text) = asked.end();
    assert_eq!(code, Some(0), "{text}");
    for gone in ["kafka", "lake", "checkpoint.json", "postgres"] {
        assert!(!place.path(&format!("data/{gone}")).exists(), "{gone}");
    }
    assert!(place.path("data/prepared").is_dir(), "input is kept");

    let prepared = place
        .run(&["prepare", "mine/credit_card_transactions.csv"])
        .ends_with(0);
    assert!(!prepared.stderr.contains("another events file"));
    place.run(&["run", "--until-drained"]).ends_with(0);
    let verified = place.run(&["verify"]).ends_with(0).stdout;
    assert!(verified.contains("700"), "{verified}");
    place.run(&["reset", "--yes"]).ends_with(0);
    let again = place.run(&["reset", "--yes"]).ends_with(0).stdout;
    assert!(again.contains("nothing to remove"), "{again}");
}

#[test]
fn reset_keeps_what_is_not_of_ftap_and_refuses_while_a_process_runs() {
    let place = place_with_data(200);
    let run = place.start(&["run"]);
    run.event("file_committed");
    place
        .run(&["reset", "--yes"])
        .ends_with(2)
        .says(&["uses the data directory data", "stop it first"]);
    place.write("data/lake/notes.txt", "mine");
    place.write("data/notes.txt", "mine");
    run.signal("-INT");
    assert_eq!(run.end().0, Some(0));
    place.run(&["reset", "--yes"]).ends_with(0);
    assert!(place.path("data/notes.txt").is_file());
    assert!(place.path("data/lake/notes.txt").is_file());
    assert!(!place.path("data/lake/transactions").exists());
}

#[test]
fn produce_and_consume_share_a_machine() {
    let place = place_with_data(100);
    let broker = place.start(&["kafka", "--port", "0"]);
    let address = broker.event("embedded_kafka_started")["bootstrap"].clone();
    // In use by us, or by another process: it makes no difference.
    let _held = TcpListener::bind("127.0.0.1:8080");
    let start = |command: &str| {
        let mut command = place.ftap(&[command]);
        command
            .env_remove("DASHBOARD_ADDR")
            .env("KAFKA_BROKER", address.as_str().unwrap());
        Running::start(command)
    };
    for process in [start("consume"), start("produce")] {
        let doubt = process.event("setting_doubtful");
        let url = process.event("http_listening")["url"].clone();
        let url = url.as_str().unwrap();
        assert_eq!(doubt["setting"], "DASHBOARD_ADDR");
        assert!(doubt["detail"].as_str().unwrap().contains(url), "{doubt}");
        assert!(!url.ends_with(":8080"), "{url}");
        assert_eq!(request(url, "GET", "/healthz", "localhost").status, 200);
        process.signal("-INT");
        assert_eq!(process.end().0, Some(0));
    }
}
