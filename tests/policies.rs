//! A broker's `CreateTopicPolicy`: what it allows is used, and what it refuses is said in its words.
//!
//! Part of the test of TLS, because both need a broker of their own.

use std::path::Path;
use std::process::Command;

use crate::common::dlq::{bad, drain, good, lines};
use crate::common::kafka;
use crate::common::{Lab, ROWS};
use crate::tls::Kafka;

/// Settings of a broker with the policy of `tests/data/policy`, compiled into `dir`, as `scripts/kafka` takes them.
pub(crate) fn compiled(dir: &Path) -> [(&'static str, String); 2] {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut script = Command::new(repository.join("scripts/kafka"));
    let output = script.args(["class-path", "kafka_2.13"]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let class_path = String::from_utf8(output.stdout).unwrap();
    let compile = Command::new("javac")
        .args(["-cp", class_path.trim(), "-d"])
        .arg(dir)
        .arg(repository.join("tests/data/policy/TopicPolicy.java"))
        .output()
        .unwrap();
    assert!(compile.status.success(), "{compile:?}");
    let class = "create.topic.policy.class.name=TopicPolicy".to_owned();
    let dir = dir.to_str().unwrap().to_owned();
    [
        ("KAFKA_BROKER_CLASS_PATH", dir),
        ("KAFKA_BROKER_SETTINGS", class),
    ]
}

/// A lab whose topics the policy looks at.
fn policed(kafka: &Kafka) -> Lab {
    let mut lab = kafka.lab("ssl");
    let topic = format!("policed-{}", lab.topic());
    lab.set("KAFKA_TOPIC", topic);
    lab
}

pub(crate) fn are_obeyed_and_named(kafka: &Kafka) {
    std::thread::scope(|scope| {
        scope.spawn(|| a_source_topic_that_is_refused(kafka));
        scope.spawn(|| a_limit_to_the_size_of_messages(kafka));
        scope.spawn(|| a_dead_letter_topic_that_is_refused(kafka));
    });
}

fn a_source_topic_that_is_refused(kafka: &Kafka) {
    let mut lab = policed(kafka);
    lab.set("KAFKA_PARTITIONS", "7");
    let (code, said) = lab.start(["produce"]).wait_for_failure();
    assert_eq!(code, 1, "{said}");
    let words = "7 partitions are more than the 6 of this plan";
    assert!(said.contains(words), "{said}");
    assert!(said.contains(lab.topic()), "{said}");
}

/// The topic is created with the broker's own limit, and every rejected record gets there.
fn a_limit_to_the_size_of_messages(kafka: &Kafka) {
    let lab = policed(kafka);
    lab.start(["produce"]).wait_for_success();
    kafka::produce(&kafka.plain, lab.topic(), 0, &[Some(bad(0))]);
    let drained = drain(&lab);
    let unfit = drained.wait_for_event("dead_letter_topic_unfit");
    let error = unfit["error"].as_str().unwrap();
    let words = "messages of 104857600 bytes need the larger plan";
    assert!(error.contains(words), "{error}");
    lab.assert_exact(ROWS);
    assert_eq!(lines(&lab, &["list", "--json"]).len(), 1);
}

/// No row is held up before a record needs that topic; then ingest stops with the remedy, or continues with
/// `DEAD_LETTERS=lake`.
fn a_dead_letter_topic_that_is_refused(kafka: &Kafka) {
    let mut lab = policed(kafka);
    let words = "names with 'reserved' are for administrators";
    lab.set(
        "KAFKA_DEAD_LETTER_TOPIC",
        format!("{}-reserved", lab.topic()),
    );
    lab.start(["produce"]).wait_for_success();
    let drained = drain(&lab);
    let unfit = drained.wait_for_event("dead_letter_topic_unfit");
    assert!(unfit["error"].as_str().unwrap().contains(words), "{unfit}");
    lab.assert_exact(ROWS);

    let messages = [Some(bad(0)), Some(good(1).into_bytes())];
    kafka::produce(&kafka.plain, lab.topic(), 0, &messages);
    let (code, said) = lab.start(["consume", "--until-drained"]).wait_for_failure();
    assert_eq!(code, 1, "{said}");
    assert!(said.contains(words), "{said}");
    assert!(said.contains("DEAD_LETTERS=lake"), "{said}");

    lab.set("DEAD_LETTERS", "lake");
    drain(&lab);
    assert_eq!(lines(&lab, &["list", "--json"]).len(), 1);
}
