//! Bad and huge messages in masses: memory stays flat, each is kept, the stream continues.

use std::collections::HashMap;

use crate::common::{Lab, dlq, kafka};

/// Memory of the program itself and of librdkafka's queues, beyond the budget; debug builds
/// are larger than others.
const OVERHEAD_BYTES: u64 = 250 << 20;
/// The least that can be set.
const BUDGET_BYTES: u64 = 16_000_000;

/// Not JSON, and each another.
fn garbage(number: usize, bytes: usize) -> Option<Vec<u8>> {
    let mut payload = format!("poison {number} ").into_bytes();
    payload.resize(bytes, b'x');
    Some(payload)
}

#[test]
fn a_long_row_of_poison_is_kept_whole_in_little_memory_and_the_rows_within_it_arrive() {
    let mut lab = Lab::shared("row-of-poison");
    lab.set("INGEST_MEMORY_BYTES", BUDGET_BYTES.to_string());
    kafka::create_topic(lab.broker(), lab.topic(), 3);
    // More than twice what the process may take, all in one partition.
    let (chunks, chunk) = (40, 5_000);
    for first in (0..chunks).map(|number| number * chunk) {
        let mut payloads: Vec<_> = (first..first + chunk).map(|n| garbage(n, 2_000)).collect();
        payloads[chunk / 2] = Some(dlq::good(first).into_bytes());
        kafka::produce(lab.broker(), lab.topic(), 1, &payloads);
    }
    let consume = lab.start(["consume", "--until-drained"]);
    let peak = consume.peak_memory_bytes();
    consume.wait_for_success();
    assert!(peak < BUDGET_BYTES + OVERHEAD_BYTES, "{peak} bytes");
    let verdict = lab.verify();
    assert_eq!(verdict.total("lake"), chunks as u64, "{verdict}");
    let rejected = (chunks * (chunk - 1)) as u64;
    assert_eq!(verdict.total("rejected"), rejected, "{verdict}");
    let letters = format!("{}.dlq", lab.topic());
    assert_eq!(kafka::count(lab.broker(), &letters), rejected);
}

#[test]
fn values_that_unpack_to_more_than_a_client_sends_are_set_aside_and_the_rows_around_them_arrive() {
    let lab = Lab::shared("hollow");
    kafka::create_topic(lab.broker(), lab.topic(), 1);
    // Below and above what librdkafka unpacks by default, and what it sends.
    let hollow = [99_000_000, 200_000_000];
    for (number, bytes) in hollow.into_iter().enumerate() {
        kafka::produce(
            lab.broker(),
            lab.topic(),
            0,
            &[Some(dlq::good(number).into())],
        );
        kafka::produce_hollow(lab.broker(), lab.topic(), 0, bytes);
    }
    kafka::produce(lab.broker(), lab.topic(), 0, &[Some(dlq::good(9).into())]);
    let consume = lab.start(["consume", "--until-drained"]);
    consume.wait_for_success();
    assert_eq!(consume.events("stage_failed"), [] as [serde_json::Value; 0]);
    let verdict = lab.verify();
    assert_eq!(verdict.total("lake"), 3, "{verdict}");
    assert_eq!(verdict.total("rejected"), 2, "{verdict}");
    let letters = kafka::read_all(lab.broker(), &format!("{}.dlq", lab.topic()));
    let mut kept: Vec<_> = letters
        .iter()
        .map(|letter| {
            (
                letter.payload.as_ref().unwrap().len(),
                letter.headers.get("truncated"),
            )
        })
        .collect();
    // They may be in two partitions.
    kept.sort();
    assert_eq!(
        kept,
        [(512 << 10, Some(&"true".to_owned())), (99_000_000, None)]
    );
}

const HUGE: usize = 9_900_000;

/// A good message with a field of `HUGE` bytes that is unknown.
fn huge(number: usize) -> Option<Vec<u8>> {
    let padding = "p".repeat(HUGE);
    let text = dlq::good(number).replacen('{', &format!("{{\"padding\":\"{padding}\","), 1);
    Some(text.into_bytes())
}

fn huge_lab(name: &str) -> Lab {
    let mut lab = Lab::shared(name);
    lab.set("INGEST_MEMORY_BYTES", BUDGET_BYTES.to_string());
    let limit = [("max.message.bytes", "20000000")];
    kafka::create_topic_with(lab.broker(), lab.topic(), 3, &limit);
    for number in 0..6 {
        // One at a time: a batch of them would be beyond the broker's limit.
        kafka::produce(lab.broker(), lab.topic(), 0, &[huge(number)]);
        kafka::produce(lab.broker(), lab.topic(), 0, &[garbage(number, HUGE)]);
    }
    kafka::produce(lab.broker(), lab.topic(), 0, &[Some(dlq::good(9).into())]);
    lab
}

#[test]
fn messages_of_ten_megabytes_in_a_row_are_set_aside_byte_for_byte() {
    let lab = huge_lab("too-large");
    lab.start(["consume", "--until-drained"]).wait_for_success();
    let verdict = lab.verify();
    assert_eq!(verdict.total("rejected"), 12, "{verdict}");
    assert_eq!(verdict.total("lake"), 1, "{verdict}");
    let letters = kafka::read_all(lab.broker(), &format!("{}.dlq", lab.topic()));
    let letters: HashMap<_, _> = letters
        .iter()
        .map(|letter| (letter.headers["offset"].clone(), letter))
        .collect();
    assert_eq!(letters.len(), 12);
    for record in kafka::read_all(lab.broker(), lab.topic()) {
        let letter = letters.get(&record.offset.to_string());
        assert_eq!(letter.is_none(), record.offset == 12);
        assert!(letter.is_none_or(|letter| letter.payload == record.payload));
        assert!(letter.is_none_or(|letter| letter.headers["reason"] == "too_large"));
    }
}

#[test]
fn messages_of_ten_megabytes_become_rows_where_they_may() {
    let mut lab = huge_lab("large");
    lab.set("MAX_MESSAGE_BYTES", "20MB");
    let consume = lab.start(["consume", "--until-drained"]);
    let peak = consume.peak_memory_bytes();
    consume.wait_for_success();
    assert!(peak < BUDGET_BYTES + OVERHEAD_BYTES, "{peak} bytes");
    let verdict = lab.verify();
    assert_eq!(verdict.total("rejected"), 6, "{verdict}");
    assert_eq!(verdict.total("lake"), 7, "{verdict}");
}
