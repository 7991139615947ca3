//! No secret comes out of the program, whichever command runs, whatever goes wrong.
//!
//! Every secret setting there is, by docs/SETTINGS.md, holds a canary of its own, in the
//! environment or in `.env`; everything that the program says is searched for them.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::common::verdict::said;
use crate::shell;
use crate::shell::{PATIENCE, Place, request_with};

/// Canary by secret setting.
fn canaries() -> BTreeMap<String, String> {
    let settings = include_str!("../docs/SETTINGS.md");
    let found: BTreeMap<_, _> = settings
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once("` (secret) |"))
        .map(|(name, _)| {
            let canary = format!("canary-of-{}", name.to_lowercase().replace('_', "-"));
            (name.to_owned(), canary)
        })
        .collect();
    assert!(found.len() >= 7, "{found:?}");
    found
}

/// The canaries as settings; all that the embedded broker can run with.
fn settings() -> Vec<(String, String)> {
    canaries()
        .into_iter()
        // They are of use with SASL and TLS only, and refused without.
        .filter(|(name, _)| !name.starts_with("KAFKA_SASL") && !name.starts_with("KAFKA_SSL"))
        .map(|(name, canary)| match name.as_str() {
            "KAFKA_EXTRA" => (name, format!("client.rack=a,sasl.password={canary}")),
            _ => (name, canary),
        })
        .collect()
}

/// A key that is a part of FX_API_URL.
const PATH_CANARY: &str = "canary-of-a-path";

#[track_caller]
fn assert_silent(what: &str, text: &str) {
    for canary in canaries().values().map(String::as_str).chain([PATH_CANARY]) {
        assert!(!text.contains(canary), "{what}: {canary} in\n{text}");
    }
}

/// Runs to the end, or to the interrupt that ends what runs until it is stopped.
#[track_caller]
fn search(place: &Place, mut command: Command, what: &str) -> String {
    let out = std::fs::File::create(place.path("out")).unwrap();
    let mut child = command
        .stderr(out.try_clone().unwrap())
        .stdout(Stdio::from(out))
        .spawn()
        .unwrap();
    let end = Instant::now() + PATIENCE;
    while child.try_wait().unwrap().is_none() {
        assert!(Instant::now() < end, "{what} does not end");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let mut text = String::new();
    std::fs::File::open(place.path("out"))
        .unwrap()
        .read_to_string(&mut text)
        .unwrap();
    assert_silent(what, &text);
    text
}

/// `ftap` with the canaries, half of them in the environment and half in `.env`.
fn with_canaries(place: &Place, args: &[&str]) -> Command {
    let (file, environment): (Vec<_>, Vec<_>) = settings()
        .into_iter()
        .enumerate()
        .partition(|(number, _)| number % 2 == 0);
    let lines: String = file
        .iter()
        .map(|(_, (name, value))| format!("{name}='{value}'\n"))
        .collect();
    place.write(".env", &lines);
    let mut command = place.ftap(args);
    command
        .envs(environment.into_iter().map(|(_, pair)| pair))
        .env("PRODUCE_SPEED", "max")
        .env("LOG_LEVEL", "DEBUG")
        .env("KAFKA_RETRY_DELAY", "0.05")
        // Where nothing listens: the key would go there.
        .env("FX_API_URL", format!("http://127.0.0.1:1/v1/{PATH_CANARY}"))
        .env("RUST_BACKTRACE", "full");
    command
}

#[test]
fn no_command_shows_a_secret_whether_it_works_or_fails() {
    let place = Place::new();
    let closed = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .to_string();
    let nowhere = format!("http://{closed}");
    for args in [
        &["config"][..],
        &["config", "--json"],
        &["generate", "--rows", "1000"],
        &["prepare", "data/generated/credit_card_transactions.csv"],
        &["run", "--until-drained"],
        &["verify"],
        &["verify", "--json"],
        &["tap", "--from", "beginning", "--count", "5", "--rate", "0"],
        &["dlq", "list"],
        &["produce"],
        &["consume", "--until-drained"],
        &["health"],
        &["--help"],
        &["--version"],
        // What fails.
        &["config", "--file-max-bytes", "lots"],
        &["prepare", "nowhere.csv"],
        &[
            "prepare",
            "--kaggle",
            "--kaggle-username",
            "me",
            "--kaggle-api-url",
            &nowhere,
        ],
        &[
            "produce",
            "--kafka-broker",
            &closed,
            "--kafka-max-retries",
            "2",
        ],
        &[
            "consume",
            "--kafka-broker",
            &closed,
            "--kafka-max-retries",
            "2",
        ],
        &["tap", "--kafka-broker", &closed],
        &["run", "--kafka-sasl-username", "me"],
        &["run", "--events", "nowhere.csv"],
        &["frobnicate"],
    ] {
        search(&place, with_canaries(&place, args), &format!("{args:?}"));
    }
}

#[test]
fn no_panic_shows_a_secret() {
    let place = Place::new();
    for actor in [
        "csv_reader",
        "kafka_publisher",
        "kafka_subscriber",
        "parquet_buffer",
        "gcs_uploader",
    ] {
        let mut run = with_canaries(&place, &["run", "--rows", "1000", "--until-drained"]);
        run.env("FTAP_FAILPOINTS", format!("{actor}=panic@1"))
            .env("DATA_DIR", actor)
            .env("RESTART_INITIAL_BACKOFF_MS", "10");
        let said = search(&place, run, actor);
        assert!(said.contains("panicked"), "{said}");
    }
}

#[test]
fn settings_that_are_refused_are_not_quoted() {
    let place = Place::new();
    // None of these is right, and each is named.
    let mut config = place.ftap(&["config"]);
    for (name, canary) in canaries() {
        let wrong = match name.as_str() {
            "KAFKA_EXTRA" => format!("sasl.password={canary},{canary}"),
            "DASHBOARD_TOKEN" => format!("{canary} with a space"),
            _ => canary,
        };
        config.env(name, wrong);
    }
    let said = search(&place, config, "config");
    for name in [
        "KAFKA_EXTRA",
        "DASHBOARD_TOKEN",
        "KAFKA_SASL_PASSWORD",
        "KAFKA_SSL_KEY_PASSWORD",
    ] {
        assert!(said.contains(name), "{said}");
    }
}

#[test]
fn a_secret_in_a_setting_that_is_not_secret_is_refused_and_not_quoted() {
    let place = Place::new();
    for (name, value, expected) in [
        (
            "FX_API_URL",
            "https://fx.example/v1?apikey=canary",
            "`?` or `#`",
        ),
        (
            "FX_API_URL",
            "https://fx.example/v1#apikey=canary",
            "`?` or `#`",
        ),
        (
            "FX_API_URL",
            "https://me:canary@fx.example/v1",
            "user and password",
        ),
        (
            "KAFKA_BROKER",
            "a:9092,me:canary@b:9092",
            "user and password",
        ),
        (
            "KAFKA_BROKER",
            "kafka://b:9092?password=canary",
            "not a valid server",
        ),
        ("KAFKA_BROKER", "b:9092?password=canary", "not a valid port"),
        ("KAFKA_EXTRA", "sasl.password=abc,canary=d", "written `\\,`"),
        (
            "KAFKA_EXTRA",
            "ssl.keystore.password=canary,linger.ms=soon",
            "linger.ms",
        ),
        (
            "KAFKA_EXTRA",
            "sasl.username=me,sasl.password=canary,linger.ms=soon",
            "linger.ms",
        ),
    ] {
        for command in ["config", "run"] {
            let mut ftap = place.ftap(&[command]);
            ftap.env(name, value);
            let said = said(&search(&place, ftap, command));
            assert!(said.contains(name) && said.contains(expected), "{said}");
            assert!(!said.contains("canary"), "{said}");
        }
    }
}

#[test]
fn no_page_shows_a_secret() {
    let place = Place::new();
    let running = shell::Running::start(with_canaries(&place, &["run", "--rows", "1000"]));
    let url = running.url();
    let bearer = format!("Bearer {}", canaries()["DASHBOARD_TOKEN"]);
    for path in [
        "/",
        "/analytics",
        "/cards/over_time",
        "/api/status",
        "/metrics",
        "/healthz",
        "/readyz",
        "/nothing",
    ] {
        for headers in [&[("Authorization", bearer.as_str())][..], &[]] {
            let answer = request_with(&url, "GET", path, "localhost", headers);
            assert!(answer.status > 0, "{path}");
            assert_silent(path, &(answer.head + &answer.body));
        }
    }
}

#[test]
fn a_dot_env_that_others_can_read_is_warned_of() {
    let place = Place::new();
    let warned = |mode: u32, text: &str| {
        place.write(".env", text);
        let permissions = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(place.path(".env"), permissions).unwrap();
        let said = place.run(&["config"]).ends_with(0).stderr;
        said.contains("chmod 600 .env")
    };
    assert!(warned(0o644, "KAGGLE_KEY=canary\n"));
    assert!(!warned(0o600, "KAGGLE_KEY=canary\n"));
    assert!(!warned(0o644, "KAFKA_TOPIC=cards\n"), "it holds no secret");
}
