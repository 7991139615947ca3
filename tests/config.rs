//! Settings as a user gives them: layers, checks, masks and warnings.

#![allow(clippy::unwrap_used)]

mod shell;

use serde_json::Value;
use shell::{Done, Place};

fn setting(place: &Place, name: &str, args: &[&str], env: &[(&str, &str)]) -> (Value, String) {
    let mut command = place.ftap(&[&["config", "--json"], args].concat());
    command.envs(env.iter().copied());
    let done = Done::from(command.output().unwrap()).ends_with(0);
    let all: Vec<Value> = serde_json::from_str(&done.stdout).unwrap();
    let found = all.iter().find(|entry| entry["setting"] == name).unwrap();
    (
        found["value"].clone(),
        found["source"].as_str().unwrap().to_owned(),
    )
}

#[test]
fn flags_win_over_environment_over_dot_env_over_defaults() {
    let place = Place::new();
    let topic = |args: &[&str], env: &[(&str, &str)]| setting(&place, "KAFKA_TOPIC", args, env);
    assert_eq!(topic(&[], &[]), ("transactions".into(), "default".into()));
    place.write(".env", "KAFKA_TOPIC='from-file'\n");
    assert_eq!(topic(&[], &[]), ("from-file".into(), ".env".into()));
    let env = [("KAFKA_TOPIC", "from-environment")];
    assert_eq!(
        topic(&[], &env),
        ("from-environment".into(), "environment".into())
    );
    let flag = ["--kafka-topic", "from-flag"];
    assert_eq!(topic(&flag, &env), ("from-flag".into(), "flag".into()));
    // What compose hands over for a variable that nobody set.
    assert_eq!(
        topic(&[], &[("KAFKA_TOPIC", "")]),
        ("from-file".into(), ".env".into())
    );
}

#[test]
fn every_wrong_setting_is_reported_at_once_with_value_source_and_remedy() {
    let place = Place::new();
    place.write(".env", "KAFKA_TOPIC='a topic'\n");
    let done = Done::from(
        place
            .ftap(&["config", "--file-max-bytes", "lots"])
            .envs([
                ("PRODUCE_SPEED", "fast"),
                ("DASHBOARD_ADDR", "0.0.0.0:8080"),
                ("LOG_LEVEL", "loud"),
                ("KAFKA_EXTRA", "isolation.level=read_uncommitted"),
                ("UPDATE_USERS_SCHEDULE", "every day"),
            ])
            .output()
            .unwrap(),
    );
    done.ends_with(2).says(&[
        "7 settings",
        "FILE_MAX_BYTES is \"lots\", from the flag --file-max-bytes",
        "KAFKA_TOPIC is \"a topic\", from .env",
        "PRODUCE_SPEED is \"fast\", from the environment: it may be a number above 0, or `max`",
        "no login yet",
        "`DEBUG`, `INFO`, `WARNING`, `ERROR` or `CRITICAL`",
        "`isolation.level` is set by ftap itself",
        "five fields",
    ]);
}

#[test]
fn secrets_show_nowhere() {
    let place = Place::new();
    place.write(".env", "POSTGRES_PASSWORD=hunter2\n");
    let env = [
        ("KAGGLE_KEY", "hunter2"),
        ("FREECURRENCYAPI_API_KEY", "hunter2"),
        ("KAFKA_EXTRA", "client.rack=a,sasl.password=hunter2"),
    ];
    for args in [&["config"][..], &["config", "--json"]] {
        let done = Done::from(place.ftap(args).envs(env).output().unwrap()).ends_with(0);
        assert!(done.stdout.contains("sasl.password=***"), "{}", done.stdout);
        assert!(done.stdout.contains("client.rack=a"), "{}", done.stdout);
        assert!(!(done.stdout + &done.stderr).contains("hunter2"));
    }
    let wrong = Done::from(
        place
            .ftap(&["config"])
            .env("KAFKA_EXTRA", "sasl.password=hunter2,nonsense=1")
            .output()
            .unwrap(),
    )
    .ends_with(2)
    .says(&["KAFKA_EXTRA", "nonsense"]);
    assert!(!wrong.stderr.contains("hunter2"), "{}", wrong.stderr);
}

#[test]
fn a_misspelt_name_and_a_speed_of_zero_are_doubted_and_the_program_goes_on() {
    let place = Place::new();
    let done = Done::from(
        place
            .ftap(&["config"])
            .envs([("KAFKA_BROKERS", "k:9092"), ("PRODUCE_SPEED", "0")])
            .output()
            .unwrap(),
    )
    .ends_with(0);
    let doubts: Vec<Value> = done
        .stderr
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .filter(|event: &Value| event["event"] == "setting_doubtful")
        .collect();
    let named: Vec<&str> = doubts
        .iter()
        .map(|event| event["setting"].as_str().unwrap())
        .collect();
    assert_eq!(named, ["PRODUCE_SPEED", "KAFKA_BROKERS"]);
    assert!(
        doubts[1]["detail"]
            .as_str()
            .unwrap()
            .contains("KAFKA_BROKER is meant")
    );
}

#[test]
fn a_broken_dot_env_names_the_line_and_not_its_text() {
    let place = Place::new();
    place.write(".env", "A=1\nPOSTGRES_PASSWORD='hunter2\n");
    let done = place
        .run(&["config"])
        .ends_with(2)
        .says(&["line 2 of .env"]);
    assert!(!done.stderr.contains("hunter2"));
}

#[test]
fn the_key_file_is_found_in_credentials_and_must_be_json() {
    let place = Place::new();
    let env = [
        ("GCS_BUCKET_NAME", "my-lake"),
        ("GOOGLE_APPLICATION_CREDENTIALS", "key.json"),
    ];
    let config = || Done::from(place.ftap(&["config"]).envs(env).output().unwrap());
    config()
        .ends_with(2)
        .says(&["GOOGLE_APPLICATION_CREDENTIALS", "key.json", "credentials/"]);
    place.write("credentials/key.json", "hunter2");
    let broken = config().ends_with(2).says(&["not a JSON object"]);
    assert!(!broken.stderr.contains("hunter2"));
    place.write("credentials/key.json", r#"{"type": "service_account"}"#);
    config().ends_with(0);
    // Without a bucket nobody needs the file.
    let mut unneeded = place.ftap(&["config"]);
    unneeded.env("GOOGLE_APPLICATION_CREDENTIALS", "/nowhere.json");
    Done::from(unneeded.output().unwrap()).ends_with(0);
}

#[test]
fn log_format_and_level_are_obeyed() {
    let place = Place::new();
    let generate = ["generate", "--rows", "10"];
    let text = Done::from(
        place
            .ftap(&generate)
            .env("LOG_FORMAT", "text")
            .output()
            .unwrap(),
    )
    .ends_with(0);
    assert!(
        text.stderr.contains(" INFO  data_prepared ftap#0"),
        "{}",
        text.stderr
    );
    assert!(
        !text.stderr.contains('\u{1b}'),
        "no colours where no terminal is"
    );
    let quiet = Done::from(
        place
            .ftap(&generate)
            .env("LOG_LEVEL", "WARNING")
            .output()
            .unwrap(),
    )
    .ends_with(0);
    assert_eq!(quiet.stderr, "");
}
