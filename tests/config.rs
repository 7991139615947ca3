//! Settings as a user gives them: layers, checks, masks and warnings.

use crate::shell::{Done, Place};
use serde_json::Value;

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
    // What compose hands over for a variable that is not set.
    assert_eq!(
        topic(&[], &[("KAFKA_TOPIC", "")]),
        ("from-file".into(), ".env".into())
    );
}

#[test]
fn config_shows_what_a_command_will_use() {
    let place = Place::new();
    let value = |name: &str, args: &[&str]| setting(&place, name, args, &[]).0;
    assert_eq!(value("PRODUCE_SPEED", &[]), "max");
    assert_eq!(value("PRODUCE_SPEED", &["produce"]), "100");
    assert_eq!(value("KAFKA_MAX_RETRIES", &["produce"]), "10");
    assert_eq!(value("GCS_FLUSH_SECONDS", &["run"]), "5");
    assert_eq!(value("CDC_FLUSH_SECONDS", &["cdc"]), "600");
    assert_eq!(value("LAKE_DIR", &["--data-dir", "d"]), "d/lake");

    let table = place.run(&["config", "produce"]).ends_with(0).stdout;
    assert!(
        table.contains("KAFKA_TOPIC") && !table.contains("LAKE_DIR"),
        "{table}"
    );
    assert!(
        table.contains("(the embedded broker in data/kafka)"),
        "{table}"
    );
    let broker = place.start(&["kafka", "--port", "0"]);
    let started = broker.event("embedded_kafka_started");
    let bootstrap = started["bootstrap"].as_str().unwrap();
    let table = place.run(&["config", "produce"]).ends_with(0).stdout;
    assert!(
        table.contains(&format!("it is running at {bootstrap})")),
        "{table}"
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
                ("KAFKA_EXTRA", "partition.assignment.strategy=range"),
                ("UPDATE_USERS_SCHEDULE", "every day"),
            ])
            .output()
            .unwrap(),
    );
    done.ends_with(2).says(&[
        "7 settings",
        "FILE_MAX_BYTES is \"lots\", from the flag --file-max-bytes",
        "KAFKA_TOPIC is \"a topic\", from .env",
        "PRODUCE_SPEED is \"fast\", from the environment; expected a number above 0, or `max`",
        "DASHBOARD_ADDR is \"0.0.0.0:8080\", from the environment: other machines can reach it; set DASHBOARD_TOKEN",
        "`DEBUG`, `INFO`, `WARNING`, `ERROR` or `CRITICAL`",
        "`partition.assignment.strategy` is set by ftap itself",
        "five fields",
    ]);
}

#[test]
fn a_topic_that_leaves_no_room_for_the_names_of_dead_letters_is_refused_where_the_lake_keeps_them()
{
    let place = Place::new();
    let config = |letters: usize, dead_letters: &str| {
        let topic = "t".repeat(letters);
        let env = [
            ("KAFKA_TOPIC", topic.as_str()),
            ("DEAD_LETTERS", dead_letters),
        ];
        Done::from(
            place
                .ftap(&["config", "consume"])
                .envs(env)
                .output()
                .unwrap(),
        )
    };
    config(183, "lake").ends_with(0);
    config(184, "topic").ends_with(0);
    config(184, "lake")
        .ends_with(2)
        .says(&["DEAD_LETTERS is \"lake\"", "KAFKA_TOPIC has 184 letters"]);
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
            .env("KAFKA_EXTRA", "nonsense=1,sasl.password=hunter2")
            .output()
            .unwrap(),
    )
    .ends_with(2)
    .says(&["KAFKA_EXTRA", "nonsense"]);
    assert!(!wrong.stderr.contains("hunter2"), "{}", wrong.stderr);
    let mut command = place.ftap(&["config"]);
    command.env("FX_API_URL", "https://me:hunter2@fx.example/v1");
    let wrong = Done::from(command.output().unwrap()).ends_with(2);
    let wrong = wrong.says(&[
        "FX_API_URL",
        "***@fx.example",
        "take the user and password out",
    ]);
    assert!(!wrong.stderr.contains("hunter2"), "{}", wrong.stderr);
}

#[test]
fn the_path_of_an_address_is_not_shown_but_for_its_version() {
    let place = Place::new();
    for name in [
        "FX_API_URL",
        "KAGGLE_API_URL",
        "GCS_ENDPOINT",
        "BIGQUERY_API_URL",
    ] {
        let config = |url: &str| {
            let output = place.ftap(&["config"]).env(name, url).output().unwrap();
            Done::from(output)
        };
        let shown = config("https://host.example:1/api/s3cret/v1/").ends_with(0);
        assert!(
            shown.stdout.contains("https://host.example:1/api/***/v1"),
            "{}",
            shown.stdout
        );
        let refused = config("ftp://host.example/s3cret").ends_with(2);
        assert!(refused.stderr.contains("ftp://host.example/***"));
        for text in [shown.stdout, shown.stderr, refused.stderr] {
            assert!(!text.contains("s3cret"), "{text}");
        }
    }
}

#[test]
fn a_topic_that_no_lake_begins_for_is_a_warning_where_none_is_written() {
    let place = Place::prepared(1);
    for topic in ["_hidden".to_owned(), "t".repeat(201)] {
        let mut produce = place.ftap(&["produce"]);
        produce.env("KAFKA_TOPIC", &topic);
        let done = Done::from(produce.output().unwrap()).ends_with(0);
        done.says(&["KAFKA_TOPIC", "`ftap consume` refuses it"]);
    }
}

#[test]
fn a_misspelt_name_and_a_speed_of_zero_are_warnings_and_the_program_runs() {
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
            .contains("if you mean KAFKA_BROKER")
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
    // Without a bucket the file is not needed.
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

/// Sets these and gives what `ftap config` ends with.
fn kafka(place: &Place, env: &[(&str, &str)]) -> Done {
    let mut command = place.ftap(&["config"]);
    command.env("KAFKA_BROKER", "kafka.example:9093");
    command.envs(env.iter().copied());
    Done::from(command.output().unwrap())
}

#[test]
fn kafka_security_that_cannot_work_is_refused_by_name() {
    let place = Place::new();
    place.write("rubbish.pem", "no certificate");
    let wrong = |env: &[(&str, &str)], parts: &[&str]| {
        kafka(&place, env).ends_with(2).says(parts);
    };
    let sasl = ("KAFKA_SECURITY_PROTOCOL", "SASL_SSL");
    let tls = ("KAFKA_SECURITY_PROTOCOL", "SSL");
    wrong(
        &[("KAFKA_SECURITY_PROTOCOL", "TLS")],
        &["`PLAINTEXT`, `SSL`"],
    );
    wrong(
        &[sasl, ("KAFKA_SASL_MECHANISM", "GSSAPI")],
        &["`PLAIN`, `SCRAM-SHA-256`"],
    );
    wrong(
        &[sasl],
        &[
            "3 settings",
            "KAFKA_SASL_MECHANISM is not set",
            "KAFKA_SASL_USERNAME is not set",
            "KAFKA_SASL_PASSWORD is not set",
        ],
    );
    // A password that would never be sent, on a line that its owner takes for safe.
    wrong(
        &[("KAFKA_SASL_USERNAME", "me")],
        &[
            "KAFKA_SASL_USERNAME",
            "of no use with KAFKA_SECURITY_PROTOCOL=PLAINTEXT",
        ],
    );
    wrong(
        &[("KAFKA_SSL_CA_LOCATION", "rubbish.pem")],
        &["of no use with KAFKA_SECURITY_PROTOCOL=PLAINTEXT"],
    );
    wrong(
        &[tls, ("KAFKA_SSL_CA_LOCATION", "nowhere.pem")],
        &["KAFKA_SSL_CA_LOCATION is \"nowhere.pem\"", "can't be read"],
    );
    wrong(
        &[tls, ("KAFKA_SSL_CA_LOCATION", ".")],
        &["it is not a file"],
    );
    wrong(
        &[tls, ("KAFKA_SSL_CA_LOCATION", "rubbish.pem")],
        &["KAFKA_SSL_CA_LOCATION", "ssl.ca.location"],
    );
    wrong(
        &[tls, ("KAFKA_SSL_CERTIFICATE_LOCATION", "rubbish.pem")],
        &["KAFKA_SSL_KEY_LOCATION is not set"],
    );
    wrong(
        &[tls, ("KAFKA_SSL_KEY_PASSWORD", "x")],
        &["KAFKA_SSL_KEY_LOCATION is not set"],
    );
    wrong(
        &[tls, ("KAFKA_EXTRA", "security.protocol=ssl")],
        &[
            "KAFKA_SECURITY_PROTOCOL",
            "also sets `security.protocol`: keep one",
        ],
    );
    wrong(
        &[tls, ("KAFKA_BROKER", "")],
        &["KAFKA_BROKER is not set", "embedded broker"],
    );
    // In librdkafka's words it is the same.
    wrong(
        &[("KAFKA_EXTRA", "security.protocol=sasl_ssl")],
        &["KAFKA_SASL_PASSWORD is not set"],
    );
}

#[test]
fn kafka_security_that_is_weak_is_warned_of() {
    let place = Place::new();
    let login = [
        ("KAFKA_SECURITY_PROTOCOL", "SASL_PLAINTEXT"),
        ("KAFKA_SASL_MECHANISM", "PLAIN"),
        ("KAFKA_SASL_USERNAME", "me"),
        ("KAFKA_SASL_PASSWORD", "hunter2"),
    ];
    let remote = kafka(&place, &login)
        .ends_with(0)
        .says(&["setting_doubtful", "use SASL_SSL"]);
    assert!(!remote.stderr.contains("hunter2"));
    let here = kafka(
        &place,
        &[&login[..], &[("KAFKA_BROKER", "localhost:9093")]].concat(),
    );
    assert_eq!(here.ends_with(0).stderr, "");
    for (extra, says) in [
        (
            "security.protocol=ssl,enable.ssl.certificate.verification=false",
            "any server can impersonate the broker",
        ),
        (
            "security.protocol=ssl,ssl.endpoint.identification.algorithm=none",
            "any certificate of the authority",
        ),
    ] {
        kafka(&place, &[("KAFKA_EXTRA", extra)])
            .ends_with(0)
            .says(&[says]);
    }
}

#[test]
fn the_dashboard_opens_to_others_only_with_a_token_worth_the_name() {
    let place = Place::new();
    let with = |token: &str| {
        let mut command = place.ftap(&["config"]);
        command.envs([
            ("DASHBOARD_ADDR", "0.0.0.0:8080"),
            ("DASHBOARD_TOKEN", token),
        ]);
        Done::from(command.output().unwrap())
    };
    with("").ends_with(2).says(&["set DASHBOARD_TOKEN"]);
    with("hunter2")
        .ends_with(2)
        .says(&["DASHBOARD_TOKEN is ***", "it is 7 long"]);
    with("hunter2 hunter2 hunter2")
        .ends_with(2)
        .says(&["DASHBOARD_TOKEN is ***"]);
    with("hunter2hunter2hunter2")
        .ends_with(0)
        .says(&["put a proxy with TLS"]);
}
