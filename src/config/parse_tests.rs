//! What each kind of value may be.

#![allow(clippy::unwrap_used)]
use ftap_actors::settings::Pace;

use super::parse::*;

#[test]
fn sizes_take_decimal_and_binary_suffixes() {
    let any = 0..=u64::MAX;
    assert_eq!(bytes("128MB", any.clone()), Ok(128_000_000));
    assert_eq!(bytes("128 MiB", any.clone()), Ok(128 << 20));
    assert_eq!(bytes("1.5kb", any.clone()), Ok(1500));
    assert_eq!(bytes("65536", any.clone()), Ok(65536));
    for wrong in ["", "MB", "-1", "1XB", "NaN", "1e400GB", "1.2.3"] {
        assert!(bytes(wrong, any.clone()).is_err(), "{wrong}");
    }
    assert!(bytes("1KB", 65_536..=u64::MAX).is_err());
}

#[test]
fn speeds_of_zero_or_less_mean_one_as_in_the_original() {
    assert_eq!(pace("max"), Ok((Pace::Max, false)));
    assert_eq!(pace("2.5"), Ok((Pace::Speed(2.5), false)));
    assert_eq!(pace("0"), Ok((Pace::Speed(1.0), true)));
    assert_eq!(pace("-3"), Ok((Pace::Speed(1.0), true)));
    for wrong in ["fast", "NaN", "inf", "", "1x"] {
        assert!(pace(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn bootstrap_servers_are_checked_one_by_one() {
    assert_eq!(
        bootstrap_servers("kafka:9092, b:9093").as_deref(),
        Ok("kafka:9092,b:9093")
    );
    assert!(bootstrap_servers("[::1]:9092").is_ok());
    assert!(bootstrap_servers("kafka").is_ok());
    for wrong in [
        "kafka:0",
        "kafka:x",
        ":9092",
        "a,,b",
        "http://kafka:9092",
        "a b",
    ] {
        assert!(bootstrap_servers(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn names_follow_the_rules_of_their_owners() {
    assert!(topic("transactions").is_ok());
    for wrong in ["", "..", "a/b", "a b", &"x".repeat(246)] {
        assert!(topic(wrong).is_err(), "{wrong}");
    }
    assert!(bucket("my-lake_1.example").is_ok());
    for wrong in ["gs://lake", "La", "ab", "-lake", "Lake"] {
        assert!(bucket(wrong).is_err(), "{wrong}");
    }
    assert_eq!(
        endpoint("http://127.0.0.1:1/").as_deref(),
        Ok("http://127.0.0.1:1")
    );
    assert!(endpoint("127.0.0.1:1").is_err());
    assert!(endpoint("http://user:password@host").is_err());
}

#[test]
fn schedules_are_what_the_original_writes_or_have_seconds_in_front() {
    for right in [
        "*/5 * * * *",
        "0 3 1,15 jan-mar MON",
        "0-30/10 * * * 7",
        "*/10 * * * * *",
    ] {
        assert!(schedule(right).unwrap().is_some(), "{right}");
    }
    assert!(schedule("off").unwrap().is_none());
    for wrong in [
        "* * * *",
        "60 * * * *",
        "*/0 * * * *",
        "x * * * *",
        "- * * * *",
    ] {
        assert!(schedule(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn a_postgres_host_has_no_port_in_it() {
    for right in [
        "db",
        "10.0.0.7",
        "::1",
        "/var/run/postgresql",
        "db.example.com",
    ] {
        assert!(postgres_host(right).is_ok(), "{right}");
    }
    let error = postgres_host("db:5433").unwrap_err();
    assert!(error.contains("POSTGRES_PORT"), "{error}");
    assert!(postgres_host("postgres://db/x").is_err());
}

#[test]
fn librdkafka_itself_checks_extra_properties() {
    assert_eq!(
        kafka_extra("client.rack=a\\,b, fetch.wait.max.ms=5"),
        Ok(vec![
            ("client.rack".to_owned(), "a,b".to_owned()),
            ("fetch.wait.max.ms".to_owned(), "5".to_owned())
        ])
    );
    assert!(
        kafka_extra("no.such.property=1")
            .unwrap_err()
            .contains("no property")
    );
    assert!(
        kafka_extra("fetch.wait.max.ms=soon")
            .unwrap_err()
            .contains("refuses")
    );
    assert!(kafka_extra("ssl.key.password=x").is_ok());
    assert!(
        kafka_extra("isolation.level=read_uncommitted")
            .unwrap_err()
            .contains("ftap itself")
    );
    assert!(
        kafka_extra("client.rack=a,client.rack=b")
            .unwrap_err()
            .contains("twice")
    );
}

#[test]
fn a_password_with_a_comma_is_not_shown_in_the_error() {
    let error = kafka_extra("sasl.password=hun,ter2").unwrap_err();
    assert!(!error.contains("hun") && !error.contains("ter2"), "{error}");
}
