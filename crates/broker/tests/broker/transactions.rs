//! Transactions: all or nothing for `read_committed` readers, zombies fenced, decisions kept.

use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerGroupMetadata};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, Producer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use crate::common::*;

fn transactional(bootstrap: &str, id: &str) -> ClientConfig {
    let mut config = client(bootstrap);
    config
        .set("transactional.id", id)
        .set("transaction.timeout.ms", "60000")
        .set("linger.ms", "1");
    config
}

fn open_producer(config: &ClientConfig) -> BaseProducer<Acks> {
    let (producer, _) = producer(config);
    producer.init_transactions(PATIENCE).unwrap();
    producer
}

fn send_in_transaction(producer: &BaseProducer<Acks>, topic: &str, texts: &[&str]) {
    producer.begin_transaction().unwrap();
    for (partition, text) in (0..).zip(texts) {
        send(producer, topic, partition % 2, text);
    }
    producer.flush(PATIENCE).unwrap();
}

fn committed_texts(bootstrap: &str) -> Vec<String> {
    let mut found = texts(&read_all(bootstrap, "t", 2, "read_committed"));
    found.sort();
    found
}

fn group_position(bootstrap: &str, group: &str) -> Option<i64> {
    let consumer: BaseConsumer = consumer_config(bootstrap, group).create().unwrap();
    let mut list = TopicPartitionList::new();
    list.add_partition("in", 0);
    let committed = consumer.committed_offsets(list, PATIENCE).unwrap();
    committed.elements()[0]
        .offset()
        .to_raw()
        .filter(|raw| *raw >= 0)
}

#[test]
fn a_commit_shows_all_records_an_abort_none() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start_with(dir.path(), |o| o.default_partitions = 2);
    let at = broker.bootstrap();
    let producer = open_producer(&transactional(&at, "x"));
    send_in_transaction(&producer, "t", &["a", "b", "c"]);
    assert_eq!(committed_texts(&at), [""; 0], "open records were seen");
    assert_eq!(read_all(&at, "t", 2, "read_uncommitted").len(), 3);
    producer.commit_transaction(PATIENCE).unwrap();
    assert_eq!(committed_texts(&at), ["a", "b", "c"]);
    send_in_transaction(&producer, "t", &["d", "e"]);
    producer.abort_transaction(PATIENCE).unwrap();
    send_in_transaction(&producer, "t", &["f"]);
    producer.commit_transaction(PATIENCE).unwrap();
    assert_eq!(committed_texts(&at), ["a", "b", "c", "f"]);
    assert_eq!(read_all(&at, "t", 2, "read_uncommitted").len(), 6);
    // Aborts and open transactions are known again after a restart.
    drop(producer);
    broker.shutdown().unwrap();
    let broker = start(dir.path());
    assert_eq!(committed_texts(&broker.bootstrap()), ["a", "b", "c", "f"]);
}

#[test]
fn the_stable_end_is_what_read_committed_consumers_see() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start_with(dir.path(), |o| o.default_partitions = 2);
    let at = broker.bootstrap();
    send_numbers(&at, "t", 0..5);
    let producer = open_producer(&transactional(&at, "x"));
    send_in_transaction(&producer, "t", &["a"]);
    let end = |isolation: &str| {
        let mut config = consumer_config(&at, "g");
        let consumer: BaseConsumer = config.set("isolation.level", isolation).create().unwrap();
        consumer.fetch_watermarks("t", 0, PATIENCE).unwrap().1
    };
    assert_eq!((end("read_committed"), end("read_uncommitted")), (5, 6));
    producer.commit_transaction(PATIENCE).unwrap();
    assert_eq!(
        end("read_committed"),
        7,
        "five records, one more, its marker"
    );
}

#[test]
fn a_new_producer_of_the_same_id_aborts_and_fences_the_old_one() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start_with(dir.path(), |o| o.default_partitions = 2);
    let at = broker.bootstrap();
    let zombie = open_producer(&transactional(&at, "x"));
    send_in_transaction(&zombie, "t", &["lost"]);
    let successor = open_producer(&transactional(&at, "x"));
    send_in_transaction(&successor, "t", &["kept"]);
    send(&zombie, "t", 0, "too late");
    let _ = zombie.flush(Duration::from_secs(10));
    let refused = zombie
        .commit_transaction(Duration::from_secs(10))
        .unwrap_err();
    let KafkaError::Transaction(error) = refused else {
        panic!("{refused}")
    };
    assert!(error.is_fatal(), "{error}");
    assert!(
        matches!(
            zombie.client().fatal_error(),
            Some((
                RDKafkaErrorCode::Fenced
                    | RDKafkaErrorCode::InvalidProducerEpoch
                    | RDKafkaErrorCode::ProducerFenced,
                _
            ))
        ),
        "{:?}",
        zombie.client().fatal_error()
    );
    successor.commit_transaction(PATIENCE).unwrap();
    assert_eq!(committed_texts(&at), ["kept"]);
}

#[test]
fn a_transaction_left_open_is_aborted_at_its_timeout() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start_with(dir.path(), |o| o.default_partitions = 2);
    let at = broker.bootstrap();
    let mut config = transactional(&at, "x");
    config
        .set("transaction.timeout.ms", "1000")
        .set("message.timeout.ms", "1000");
    let slow = open_producer(&config);
    send_in_transaction(&slow, "t", &["late"]);
    send_numbers(&at, "t", 0..1);
    // The record behind the open transaction becomes readable by the abort alone.
    wait_for("the abort", || {
        (committed_texts(&at) == ["0"]).then_some(())
    });
    assert!(slow.commit_transaction(Duration::from_secs(10)).is_err());
    assert_eq!(committed_texts(&at), ["0"]);
}

#[test]
fn positions_move_with_the_transaction_that_carries_them() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start_with(dir.path(), |o| o.default_partitions = 2);
    let at = broker.bootstrap();
    send_numbers(&at, "in", 0..10);
    let consumer: BaseConsumer = consumer_config(&at, "g").create().unwrap();
    consumer.subscribe(&["in"]).unwrap();
    wait_for("a record", || {
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(_)) => Some(()),
            _ => None,
        }
    });
    let metadata: ConsumerGroupMetadata = consumer.group_metadata().unwrap();
    let producer = open_producer(&transactional(&at, "x"));
    let position = |offset| {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset("in", 0, Offset::Offset(offset))
            .unwrap();
        list
    };
    send_in_transaction(&producer, "t", &["out"]);
    producer
        .send_offsets_to_transaction(&position(4), &metadata, PATIENCE)
        .unwrap();
    producer.abort_transaction(PATIENCE).unwrap();
    assert_eq!(group_position(&at, "g"), None);
    send_in_transaction(&producer, "t", &["out"]);
    producer
        .send_offsets_to_transaction(&position(7), &metadata, PATIENCE)
        .unwrap();
    producer.commit_transaction(PATIENCE).unwrap();
    assert_eq!(group_position(&at, "g"), Some(7));
    drop((consumer, producer));
    broker.shutdown().unwrap();
    let broker = start(dir.path());
    assert_eq!(group_position(&broker.bootstrap(), "g"), Some(7));
}

#[test]
fn a_consumer_left_out_of_its_group_cannot_commit_in_a_transaction() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start_with(dir.path(), |o| o.default_partitions = 2);
    let at = broker.bootstrap();
    send_numbers(&at, "in", 0..3);
    let stale = {
        let consumer: BaseConsumer = consumer_config(&at, "g").create().unwrap();
        consumer.subscribe(&["in"]).unwrap();
        wait_for("a record", || {
            match consumer.poll(Duration::from_millis(100)) {
                Some(Ok(_)) => Some(()),
                _ => None,
            }
        });
        consumer.group_metadata().unwrap()
    };
    let producer = open_producer(&transactional(&at, "x"));
    send_in_transaction(&producer, "t", &["out"]);
    let mut list = TopicPartitionList::new();
    list.add_partition_offset("in", 0, Offset::Offset(2))
        .unwrap();
    assert!(
        producer
            .send_offsets_to_transaction(&list, &stale, PATIENCE)
            .is_err()
    );
    producer.abort_transaction(PATIENCE).unwrap();
    assert_eq!(group_position(&at, "g"), None);
}
