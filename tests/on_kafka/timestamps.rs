//! Kafka timestamps that are odd: what every reader can show is in the lake as it is, anything else is
//! NULL, logged and counted, and in no folder of its own.

use crate::common::{Lab, dlq, kafka, real_kafka};

#[test]
fn a_timestamp_that_readers_can_not_show_is_null_and_one_before_1970_is_kept() {
    let lab = Lab::shared("timestamps");
    // The embedded broker refuses what Apache Kafka takes only if the topic says so: microseconds.
    let beyond = if real_kafka().is_some() {
        1_700_000_000_000_000
    } else {
        253_402_300_799_999
    };
    kafka::create_topic_of_any_time(lab.broker(), lab.topic());
    for (number, timestamp_ms) in [beyond, -86_400_000, 1, beyond].into_iter().enumerate() {
        let row = dlq::good(number);
        kafka::produce_at(lab.broker(), lab.topic(), timestamp_ms, row.as_bytes());
    }
    let consume = lab.start(["consume", "--until-drained"]);
    consume.wait_for_success();
    let ignored = consume.wait_for_event("timestamp_ignored");
    assert_eq!(
        (&ignored["offset"], &ignored["timestamp_ms"]),
        (&0.into(), &beyond.into())
    );
    let verdict = lab.verify();
    assert_eq!(verdict.total("lake"), 4, "{verdict}");
    assert_eq!(verdict.kinds(), ["row_missing_from_topic"], "{verdict}");
    let days: Vec<_> = lab
        .objects()
        .iter()
        .map(|path| path.parent().unwrap().to_owned())
        .collect();
    assert_eq!(days, [lab.path("lake/transactions/1970-01-01")]);
    let script = "import sys, pyarrow.parquet as p; \
         print([t and t.isoformat() for t in p.read_table(sys.argv[1])['_kafka_timestamp'].to_pylist()])";
    let Ok(python) = crate::readers::python() else {
        return;
    };
    let shown = std::process::Command::new(python)
        .args(["-c", script])
        .arg(&lab.objects()[0])
        .output()
        .unwrap();
    assert_eq!(
        String::from_utf8_lossy(&shown.stdout).trim(),
        "[None, '1969-12-31T00:00:00+00:00', '1970-01-01T00:00:00.001000+00:00', None]",
        "{}",
        String::from_utf8_lossy(&shown.stderr)
    );
}
