//! What a log keeps, from where it can be read, and how topics come and go.

use std::time::Duration;

use rdkafka::admin::{
    AdminClient, AdminOptions, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::producer::{BaseRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};

use crate::common::*;

fn admin(bootstrap: &str) -> AdminClient<DefaultClientContext> {
    client(bootstrap).create().unwrap()
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(future)
}

fn watermarks(bootstrap: &str, topic: &str) -> (i64, i64) {
    let consumer: BaseConsumer = consumer_config(bootstrap, "g").create().unwrap();
    consumer.fetch_watermarks(topic, 0, PATIENCE).unwrap()
}

/// One record per batch, with the given timestamps.
fn send_at(bootstrap: &str, topic: &str, timestamps_ms: impl Iterator<Item = i64>) {
    let (producer, acks) = producer(&client(bootstrap));
    for (sent, timestamp) in timestamps_ms.enumerate() {
        let payload = vec![b'x'; 1_000];
        let record = BaseRecord::<(), [u8]>::to(topic)
            .partition(0)
            .payload(&payload)
            .timestamp(timestamp);
        producer.send(record).map_err(|(error, _)| error).unwrap();
        producer.flush(PATIENCE).unwrap();
        assert_eq!(acks.acknowledged.lock().unwrap().len(), sent + 1);
    }
}

#[test]
fn retention_by_bytes_deletes_whole_segments_and_old_offsets_are_out_of_range() {
    let dir = tempfile::tempdir().unwrap();
    let small = |o: &mut ftap_broker::BrokerOptions| {
        o.default_partitions = 1;
        o.segment_bytes = 10_000;
        o.retention_bytes = Some(30_000);
        o.retention_check_interval = Duration::from_millis(100);
    };
    let broker = start_with(dir.path(), small);
    let at = broker.bootstrap();
    send_at(&at, "t", 1_000..1_100);
    let start = wait_for("retention", || {
        Some(watermarks(&at, "t").0).filter(|start| *start > 50)
    });
    assert!(start < 80, "start {start}");
    let mut config = consumer_config(&at, "g");
    config.set("auto.offset.reset", "error");
    let consumer: BaseConsumer = config.create().unwrap();
    for offset in [0, 1_000] {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset("t", 0, Offset::Offset(offset))
            .unwrap();
        consumer.assign(&list).unwrap();
        let error = wait_for("an error", || {
            match consumer.poll(Duration::from_millis(100)) {
                Some(Err(KafkaError::PartitionEOF(_))) | None => None,
                Some(Err(error)) => Some(error),
                Some(Ok(message)) => panic!("read offset {}", message.offset()),
            }
        });
        assert_eq!(
            error.rdkafka_error_code(),
            Some(RDKafkaErrorCode::AutoOffsetReset),
            "{error}"
        );
    }
    assert_eq!(
        read_all(&at, "t", 1, "read_committed").len(),
        usize::try_from(100 - start).unwrap()
    );
    broker.shutdown().unwrap();
    let broker = start_with(dir.path(), small);
    assert_eq!(watermarks(&broker.bootstrap(), "t"), (start, 100));
}

#[test]
fn retention_by_age_deletes_old_segments_even_the_last() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start_with(dir.path(), |o| {
        o.default_partitions = 1;
        o.retention_age = Some(Duration::from_secs(3600));
        o.retention_check_interval = Duration::from_millis(100);
    });
    let at = broker.bootstrap();
    send_at(&at, "t", 1_000..1_005);
    wait_for("retention", || {
        (watermarks(&at, "t") == (5, 5)).then_some(())
    });
    // The offsets continue.
    send_numbers(&at, "t", 0..1);
    assert_eq!(watermarks(&at, "t"), (5, 6));
}

#[test]
fn offsets_are_found_by_time() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start_with(dir.path(), |o| {
        o.default_partitions = 1;
        o.segment_bytes = 10_000;
    });
    let at = broker.bootstrap();
    send_at(&at, "t", (0..50).map(|i| 1_000 + i * 10));
    let (producer, _) = producer(client(&at).set("linger.ms", "200"));
    for timestamp in [5_000, 5_010, 5_020] {
        let record = BaseRecord::<(), str>::to("t")
            .partition(0)
            .payload("x")
            .timestamp(timestamp);
        producer.send(record).map_err(|(error, _)| error).unwrap();
    }
    producer.flush(PATIENCE).unwrap();
    let consumer: BaseConsumer = consumer_config(&at, "g").create().unwrap();
    let cases = [
        (0, Some(0)),
        (1_000, Some(0)),
        (1_001, Some(1)),
        (1_490, Some(49)),
        (1_491, Some(50)),
        (5_011, Some(52)),
        (5_021, None),
    ];
    for (timestamp, expected) in cases {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset("t", 0, Offset::Offset(timestamp))
            .unwrap();
        let found = consumer.offsets_for_times(list, PATIENCE).unwrap();
        let offset = found.elements()[0].offset();
        assert_eq!(
            offset.to_raw().filter(|raw| *raw >= 0),
            expected,
            "at {timestamp}: {offset:?}"
        );
    }
}

#[test]
fn deleted_records_stay_deleted_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start_with(dir.path(), |o| o.default_partitions = 1);
    let at = broker.bootstrap();
    send_numbers(&at, "t", 0..20);
    let mut list = TopicPartitionList::new();
    list.add_partition_offset("t", 0, Offset::Offset(12))
        .unwrap();
    block_on(admin(&at).delete_records(&list, &AdminOptions::new())).unwrap();
    assert_eq!(watermarks(&at, "t"), (12, 20));
    broker.shutdown().unwrap();
    let broker = start(dir.path());
    let read = texts(&read_all(&broker.bootstrap(), "t", 1, "read_committed"));
    assert_eq!(read, ["12", "13", "14", "15", "16", "17", "18", "19"]);
}

#[test]
fn topics_are_made_grown_described_and_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start_with(dir.path(), |o| o.auto_create_topics = false);
    let at = broker.bootstrap();
    let admin = admin(&at);
    let options = AdminOptions::new();
    let topic = |name, partitions| NewTopic::new(name, partitions, TopicReplication::Fixed(1));
    let create = |topic: &NewTopic<'_>| {
        block_on(admin.create_topics([topic], &options))
            .unwrap()
            .remove(0)
    };
    assert_eq!(create(&topic("t", 2)), Ok("t".into()));
    let again = create(&topic("t", 2)).unwrap_err();
    assert_eq!(again.1, RDKafkaErrorCode::TopicAlreadyExists);
    let bad_name = create(&topic("../t", 1)).unwrap_err();
    assert_eq!(bad_name.1, RDKafkaErrorCode::InvalidTopic);
    let copies = create(&NewTopic::new("u", 1, TopicReplication::Fixed(3))).unwrap_err();
    assert_eq!(copies.1, RDKafkaErrorCode::InvalidReplicationFactor);

    let grown = block_on(admin.create_partitions([&NewPartitions::new("t", 5)], &options)).unwrap();
    assert_eq!(grown[0], Ok("t".into()));
    let consumer: BaseConsumer = consumer_config(&at, "g").create().unwrap();
    let partitions = |name: &str| {
        let metadata = consumer.fetch_metadata(Some(name), PATIENCE).unwrap();
        let topic = &metadata.topics()[0];
        topic.error().map_or(Ok(topic.partitions().len()), Err)
    };
    assert_eq!(partitions("t"), Ok(5));
    let configs =
        block_on(admin.describe_configs([&ResourceSpecifier::Topic("t")], &options)).unwrap();
    let config = configs[0].as_ref().unwrap();
    assert_eq!(
        config.get("cleanup.policy").unwrap().value.as_deref(),
        Some("delete")
    );

    send_numbers(&at, "t", 0..3);
    let mut list = TopicPartitionList::new();
    list.add_partition_offset("t", 0, Offset::Offset(2))
        .unwrap();
    consumer
        .commit(&list, rdkafka::consumer::CommitMode::Sync)
        .unwrap();
    assert_eq!(
        block_on(admin.delete_topics(&["t"], &options)).unwrap()[0],
        Ok("t".into())
    );
    assert!(partitions("t").is_err());
    create(&topic("t", 1)).unwrap();
    assert_eq!(watermarks(&at, "t"), (0, 0), "a recreated topic is empty");
    let mut list = TopicPartitionList::new();
    list.add_partition("t", 0);
    let committed = consumer.committed_offsets(list, PATIENCE).unwrap();
    assert_eq!(committed.elements()[0].offset(), Offset::Invalid);
}

#[test]
fn a_group_without_members_can_be_deleted_with_its_positions() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path());
    let at = broker.bootstrap();
    send_numbers(&at, "t", 0..3);
    let consumer: BaseConsumer = consumer_config(&at, "g").create().unwrap();
    let mut list = TopicPartitionList::new();
    list.add_partition_offset("t", 0, Offset::Offset(2))
        .unwrap();
    consumer
        .commit(&list, rdkafka::consumer::CommitMode::Sync)
        .unwrap();
    let listed = consumer.fetch_group_list(None, PATIENCE).unwrap();
    assert_eq!(listed.groups().len(), 1);
    let deleted = block_on(admin(&at).delete_groups(&["g"], &AdminOptions::new())).unwrap();
    assert_eq!(deleted[0], Ok("g".into()));
    let again = block_on(admin(&at).delete_groups(&["g"], &AdminOptions::new())).unwrap();
    assert_eq!(
        again[0].as_ref().unwrap_err().1,
        RDKafkaErrorCode::GroupIdNotFound
    );
}

#[test]
fn a_batch_over_the_limit_is_refused_and_a_large_one_is_read_whole() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start_with(dir.path(), |o| o.max_batch_bytes = 4 << 20);
    let at = broker.bootstrap();
    let (producer, acks) = producer(client(&at).set("message.max.bytes", "8000000"));
    send(&producer, "t", 0, &"x".repeat(3_000_000));
    send(&producer, "t", 0, &"x".repeat(6_000_000));
    producer.flush(PATIENCE).unwrap();
    assert_eq!(acks.acknowledged.lock().unwrap().len(), 1);
    assert_eq!(acks.failed.load(std::sync::atomic::Ordering::Relaxed), 1);
    // The reader's limits are far below the record.
    let mut config = consumer_config(&at, "g");
    config
        .set("fetch.message.max.bytes", "1000")
        .set("fetch.max.bytes", "1000")
        .set("message.max.bytes", "1000");
    let consumer: BaseConsumer = config.create().unwrap();
    let mut list = TopicPartitionList::new();
    list.add_partition_offset("t", 0, Offset::Beginning)
        .unwrap();
    consumer.assign(&list).unwrap();
    let length = wait_for("the record", || {
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => message.payload().map(<[u8]>::len),
            _ => None,
        }
    });
    assert_eq!(length, 3_000_000);
}

#[test]
fn a_topics_own_limit_is_kept_described_and_survives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start_with(dir.path(), |o| o.max_batch_bytes = 1 << 20);
    let at = broker.bootstrap();
    let options = AdminOptions::new();
    for (name, bytes) in [("small", "20000"), ("large", "3000000")] {
        let topic = NewTopic::new(name, 1, TopicReplication::Fixed(1));
        let topic = topic.set("max.message.bytes", bytes);
        block_on(admin(&at).create_topics([&topic], &options)).unwrap()[0]
            .as_ref()
            .unwrap();
    }
    let growth = NewPartitions::new("small", 2);
    block_on(admin(&at).create_partitions([&growth], &options)).unwrap();
    let (before, _) = producer(&client(&at));
    send(&before, "plain", 0, "x");
    before.flush(PATIENCE).unwrap();
    broker.shutdown().unwrap();

    let broker = start_with(dir.path(), |o| o.max_batch_bytes = 1 << 20);
    let at = broker.bootstrap();
    for (topic, limit) in [("small", 20_000), ("plain", 1 << 20), ("large", 3_000_000)] {
        let asked = ResourceSpecifier::Topic(topic);
        let configs = block_on(admin(&at).describe_configs([&asked], &options)).unwrap();
        let shown = configs[0].as_ref().unwrap().get("max.message.bytes");
        assert_eq!(shown.unwrap().value, Some(limit.to_string()), "{topic}");
        let last_partition = i32::from(topic == "small");
        let (producer, acks) = producer(client(&at).set("message.max.bytes", "8000000"));
        // A batch's header and a record's lengths take less than 100 bytes.
        for bytes in [limit - 100, limit] {
            send(&producer, topic, last_partition, &"x".repeat(bytes));
            producer.flush(PATIENCE).unwrap();
        }
        let failed = acks.failed.load(std::sync::atomic::Ordering::Relaxed);
        let taken = acks.acknowledged.lock().unwrap().len();
        assert_eq!((taken, failed), (1, 1), "{topic}");
    }
}

#[test]
fn a_setting_that_no_topic_can_have_is_refused_by_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path());
    let admin = admin(&broker.bootstrap());
    let create = |only_ask: bool, name: &str, value: &str| {
        let options = AdminOptions::new().validate_only(only_ask);
        let topic = NewTopic::new("t", 1, TopicReplication::Fixed(1));
        let made = block_on(admin.create_topics([&topic.set(name, value)], &options));
        made.unwrap().remove(0)
    };
    for (name, value) in [
        ("cleanup.policy", "compact"),
        ("retention.ms", "1000"),
        ("message.timestamp.type", "LogAppendTime"),
        ("max.message.bytes", "-1"),
        ("max.message.bytes", "1MB"),
        ("no.such.setting", "1"),
    ] {
        for only_ask in [true, false] {
            let refused = create(only_ask, name, value).unwrap_err();
            assert_eq!(refused.1, RDKafkaErrorCode::InvalidConfig, "{name}");
        }
    }
    // What is in effect anyway.
    create(false, "cleanup.policy", "delete").unwrap();
}

#[test]
fn a_name_that_differs_from_another_in_dots_and_underscores_only_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path());
    let at = broker.bootstrap();
    send_numbers(&at, "card.tx_dlq", 0..1);
    let topic = NewTopic::new("card_tx.dlq", 1, TopicReplication::Fixed(1));
    let made = block_on(admin(&at).create_topics([&topic], &AdminOptions::new())).unwrap();
    assert_eq!(
        made[0].as_ref().unwrap_err().1,
        RDKafkaErrorCode::InvalidTopic
    );
    // Nor does asking for it create it.
    let consumer: BaseConsumer = consumer_config(&at, "g").create().unwrap();
    let metadata = consumer
        .fetch_metadata(Some("card_tx.dlq"), PATIENCE)
        .unwrap();
    assert!(metadata.topics()[0].error().is_some());
    let all = consumer.fetch_metadata(None, PATIENCE).unwrap();
    let names: Vec<_> = all.topics().iter().map(|topic| topic.name()).collect();
    assert_eq!(names, ["card.tx_dlq"]);
}

#[test]
fn a_waiting_reader_is_woken_by_the_record_it_waits_for() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start_with(dir.path(), |o| o.default_partitions = 1);
    let at = broker.bootstrap();
    send_numbers(&at, "t", 0..1);
    let mut config = consumer_config(&at, "g");
    config
        .set("fetch.wait.max.ms", "20000")
        .set("fetch.min.bytes", "1")
        .set("socket.timeout.ms", "30000");
    let consumer: BaseConsumer = config.create().unwrap();
    let mut list = TopicPartitionList::new();
    list.add_partition_offset("t", 0, Offset::Offset(1))
        .unwrap();
    consumer.assign(&list).unwrap();
    // There is nothing to read yet, so it waits at the broker.
    assert!(consumer.poll(Duration::from_secs(1)).is_none());
    let sent = std::time::Instant::now();
    send_numbers(&at, "t", 1..2);
    wait_for("the record", || {
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => message.payload().map(<[u8]>::len),
            _ => None,
        }
    });
    assert!(
        sent.elapsed() < Duration::from_secs(5),
        "{:?}",
        sent.elapsed()
    );
}
