//! What each kind of value accepts.

#![allow(clippy::unwrap_used)]
use ftap_actors::settings::Pace;

use super::Config;
use super::kind::{bytes, pace, properties, whole};
use super::layers::Layers;

#[test]
fn sizes_take_decimal_and_binary_suffixes() {
    let any = bytes::<u64>(0..);
    assert_eq!(any.parse("128MB"), Ok(128_000_000));
    assert_eq!(any.parse("128 MiB"), Ok(128 << 20));
    assert_eq!(any.parse("1.5kb"), Ok(1500));
    assert_eq!(any.parse("65536"), Ok(65536));
    for wrong in ["", "MB", "-1", "1XB", "NaN", "1e400GB", "1.2.3"] {
        assert!(any.parse(wrong).is_err(), "{wrong}");
    }
    assert!(any.parse(&"9".repeat(400)).is_err());
    let limited = bytes::<u64>(64_000..=4_000_000_000);
    assert!(limited.parse("1KB").is_err());
    assert!(limited.expected.starts_with("bytes from 64KB to 4GB,"));
}

#[test]
fn whole_numbers_may_be_grouped_or_have_an_exponent() {
    let rows = whole::<u64>(1..);
    assert_eq!(rows.expected, "a whole number from 1");
    for (text, value) in [
        ("7", 7),
        ("200_000", 200_000),
        ("1e6", 1_000_000),
        ("2E0", 2),
    ] {
        assert_eq!(rows.parse(text), Ok(value), "{text}");
    }
    for wrong in [
        "0", "-1", "1.5", "1.5e6", "e6", "1e", "1e-1", "1e20", "1e99", "ten", "1e1e1",
    ] {
        assert!(rows.parse(wrong).is_err(), "{wrong}");
    }
    let port = whole::<u16>(1..=65_535);
    assert_eq!(port.expected, "a whole number from 1 to 65535");
    assert!(port.parse("65536").is_err());
}

/// What is wrong with a setting, if anything is.
fn problem(name: &str, value: &str) -> Option<String> {
    let layers = Layers {
        environment: [(name.to_owned(), value.to_owned())].into(),
        ..Layers::default()
    };
    let problems = Config::from_layers(&layers).err()?.to_string();
    problems
        .contains(&format!("{name} is "))
        .then_some(problems)
}

#[test]
fn texts_are_accepted_or_refused() {
    for (name, right, wrong) in [
        (
            "PRODUCE_SPEED",
            "max | 2.5 | 0 | -3",
            "fast | NaN | inf | 1x",
        ),
        (
            "KAFKA_BROKER",
            "kafka:9092, b:9093 | [::1]:9092 | kafka",
            "kafka:0 | kafka:x | :9092 | a,,b | http://kafka:9092 | a b",
        ),
        ("KAFKA_TOPIC", "transactions | a.b-c_d", ".. | a/b | a b"),
        (
            "GCS_BUCKET_NAME",
            "my-lake_1.example",
            "gs://lake | La | ab | -lake | Lake",
        ),
        (
            "GCS_ENDPOINT",
            "http://127.0.0.1:1/",
            "127.0.0.1:1 | http://",
        ),
        ("CDC_SLOT", "slot_1", "Slot | slot-1"),
        (
            "DASHBOARD_ADDR",
            "off | localhost:80 | [::1]:0",
            "8080 | localhost | host:80",
        ),
        ("AIRBYTE_SLOT", "Yes | 0 | TRUE | off", "perhaps"),
        ("LOG_LEVEL", "warn | WARNING | critical", "loud"),
        ("POSTGRES_PORT", "5432", "0 | 65536"),
        // As the original writes them, or with seconds in front.
        (
            "UPDATE_USERS_SCHEDULE",
            "off | */5 * * * * | 0 3 1,15 jan-mar MON | 0-30/10 * * * 7 | */10 * * * * *",
            "* * * * | 60 * * * * | */0 * * * * | x * * * * | - * * * *",
        ),
        (
            "POSTGRES_HOST",
            "db | 10.0.0.7 | ::1 | /var/run/postgresql | db.example.com",
            "db:5433 | postgres://db/x",
        ),
    ] {
        for value in right.split(" | ") {
            assert_eq!(problem(name, value), None);
        }
        for value in wrong.split(" | ") {
            assert!(problem(name, value).is_some(), "{name}={value}");
        }
    }
    assert!(problem("KAFKA_TOPIC", &"x".repeat(245)).is_none());
    assert!(problem("KAFKA_TOPIC", &"x".repeat(246)).is_some());
}

#[test]
fn an_error_states_the_reason_and_what_is_expected() {
    for (name, value, text) in [
        (
            "KAFKA_PARTITIONS",
            "0",
            "; expected a whole number from 1 to 1000",
        ),
        (
            "KAFKA_RETRY_DELAY",
            "x",
            "; expected seconds from 0.01 to 3600, fractions allowed",
        ),
        ("AIRBYTE_SLOT", "x", "; expected `true` or `false`"),
        (
            "FILE_MAX_BYTES",
            "1XB",
            ": `XB` is not a unit of bytes; expected bytes from 64KB to 4GB,",
        ),
        (
            "POSTGRES_HOST",
            "db:5433",
            ": put the port into POSTGRES_PORT; expected a host name",
        ),
        (
            "UPDATE_USERS_SCHEDULE",
            "61 * * * *",
            ": `61` is not a valid minute (0-59); expected a cron expression",
        ),
        (
            "GCS_ENDPOINT",
            "http://user:password@host",
            "is \"http://***@host\", from the environment: take the user and password out of it",
        ),
    ] {
        let problem = problem(name, value).unwrap();
        assert!(problem.contains(text), "{problem}");
    }
}

#[test]
fn speeds_of_zero_or_less_mean_one_as_in_the_original() {
    assert_eq!(pace().parse("2.5"), Ok(Pace::Speed(2.5)));
    assert_eq!(pace().parse("0"), Ok(Pace::Speed(1.0)));
    assert_eq!(pace().parse("-3"), Ok(Pace::Speed(1.0)));
}

#[test]
fn librdkafka_itself_checks_extra_properties() {
    let parsed = properties().parse("client.rack=a\\,b, fetch.wait.max.ms=5");
    let parsed = parsed.unwrap();
    let shown: Vec<_> = parsed.iter().map(|(n, v)| (&n[..], v.expose())).collect();
    assert_eq!(shown, [("client.rack", "a,b"), ("fetch.wait.max.ms", "5")]);
    assert!(
        properties()
            .parse("no.such.property=1")
            .unwrap_err()
            .contains("no property")
    );
    assert!(
        properties()
            .parse("fetch.wait.max.ms=soon")
            .unwrap_err()
            .contains("refuses")
    );
    assert!(properties().parse("ssl.key.password=x").is_ok());
    assert!(
        properties()
            .parse("isolation.level=read_uncommitted")
            .unwrap_err()
            .contains("ftap itself")
    );
    assert!(
        properties()
            .parse("client.rack=a,client.rack=b")
            .unwrap_err()
            .contains("twice")
    );
}

#[test]
fn a_password_with_a_comma_is_not_shown_in_the_error() {
    let error = properties().parse("sasl.password=hun,ter2").unwrap_err();
    assert!(!error.contains("hun") && !error.contains("ter2"), "{error}");
}
