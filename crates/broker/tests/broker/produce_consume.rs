//! Records go in and come out: once, in order, and after a kill.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::message::Message;
use rdkafka::producer::Producer;

use crate::common::*;

#[test]
fn every_record_comes_back_once_and_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start_with(dir.path(), |o| o.segment_bytes = 32 << 10);
    let mut config = client(&broker.bootstrap());
    config
        .set("enable.idempotence", "true")
        .set("batch.num.messages", "500");
    let (producer, acks) = producer(&config);
    let count = 30_000;
    for number in 0..count {
        send(&producer, "t", number % 3, &format!("{number:06}"));
    }
    producer.flush(PATIENCE).unwrap();
    assert_eq!(acks.acknowledged.lock().unwrap().len(), 30_000);
    for isolation in ["read_uncommitted", "read_committed"] {
        let messages = read_all(&broker.bootstrap(), "t", 3, isolation);
        assert_eq!(messages.len(), 30_000);
        let mut last: BTreeMap<i32, (i64, i32)> = BTreeMap::new();
        for message in &messages {
            let number: i32 = std::str::from_utf8(message.payload().unwrap())
                .unwrap()
                .parse()
                .unwrap();
            let before = last.insert(message.partition(), (message.offset(), number));
            let (offset, earlier) = before.unwrap_or((-1, message.partition() - 3));
            assert_eq!((message.offset(), number), (offset + 1, earlier + 3));
        }
    }
    let segments = std::fs::read_dir(dir.path().join("topics/t/0"))
        .unwrap()
        .count();
    assert!(segments > 2, "{segments} segments");
    broker.shutdown().unwrap();
}

#[test]
fn a_group_resumes_where_it_committed_even_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start_with(dir.path(), |o| o.default_partitions = 1);
    send_numbers(&broker.bootstrap(), "t", 0..100);
    let read = |bootstrap: &str, count: usize| {
        let consumer: BaseConsumer = consumer_config(bootstrap, "g").create().unwrap();
        consumer.subscribe(&["t"]).unwrap();
        let messages: Vec<_> = (0..count)
            .map(|_| {
                wait_for("a record", || {
                    match consumer.poll(Duration::from_millis(100)) {
                        Some(Ok(message)) => {
                            consumer.commit_message(&message, CommitMode::Sync).unwrap();
                            Some(message.detach())
                        }
                        _ => None,
                    }
                })
            })
            .collect();
        texts(&messages)
    };
    assert_eq!(read(&broker.bootstrap(), 3), ["0", "1", "2"]);
    broker.shutdown().unwrap();
    let broker = start(dir.path());
    assert_eq!(read(&broker.bootstrap(), 2), ["3", "4"]);
}
