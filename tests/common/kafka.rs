//! A Kafka client of the tests' own, beside the program's.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use ftap_kafka::UNPACK_LIMIT;
use futures::executor::block_on;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

const TIMEOUT: Duration = Duration::from_secs(30);

fn config(broker: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", broker);
    config
}

fn admin(broker: &str) -> (AdminClient<DefaultClientContext>, AdminOptions) {
    let options = AdminOptions::new().operation_timeout(Some(TIMEOUT));
    (config(broker).create().unwrap(), options)
}

pub(crate) fn create_topic(broker: &str, topic: &str, partitions: i32) {
    create_topic_with(broker, topic, partitions, &[]);
}

/// The same with settings of its own.
pub(crate) fn create_topic_with(
    broker: &str,
    topic: &str,
    partitions: i32,
    settings: &[(&str, &str)],
) {
    let (admin, options) = admin(broker);
    let mut topic = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
    for (name, value) in settings {
        topic = topic.set(name, value);
    }
    let made = block_on(admin.create_topics([&topic], &options)).unwrap();
    made.into_iter().for_each(|result| drop(result.unwrap()));
}

/// Sends a request that librdkafka, or its binding, does not have; the header is that of versions without
/// tagged fields. Returns the response's body.
fn request(broker: &str, api: u16, version: u16, body: &[u8]) -> Vec<u8> {
    let request = [
        &api.to_be_bytes(),
        &version.to_be_bytes(),
        &b"ftap"[..],
        &text("tests"),
        body,
    ]
    .concat();
    let mut stream = TcpStream::connect(broker).unwrap();
    let length = (request.len() as u32).to_be_bytes();
    stream.write_all(&[&length, &request[..]].concat()).unwrap();
    let mut length = [0; 4];
    stream.read_exact(&mut length).unwrap();
    let mut response = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut response).unwrap();
    // The correlation id.
    assert_eq!(response[..4], *b"ftap");
    response.split_off(4)
}

fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u16).to_be_bytes(), text.as_bytes()].concat()
}

/// Sets how many bytes a second the broker takes from clients of this id, and how many it sends them:
/// AlterClientQuotas (key 49).
pub(crate) fn limit_clients(broker: &str, client_id: &str, bytes_per_second: u64) {
    let one = 1u32.to_be_bytes();
    // Key, value, whether to remove it.
    let limit = |key: &str| {
        let value = (bytes_per_second as f64).to_be_bytes();
        [&text(key)[..], &value, &[0]].concat()
    };
    let body = [
        // One entry of one entity.
        &[one, one].concat()[..],
        &text("client-id"),
        &text(client_id),
        &2u32.to_be_bytes(),
        &limit("producer_byte_rate"),
        &limit("consumer_byte_rate"),
        // Whether to validate only.
        &[0],
    ]
    .concat();
    // Throttle time, number of entries, error.
    let response = request(broker, 49, 0, &body);
    assert_eq!(response[4..10], [0, 0, 0, 1, 0, 0]);
}

/// What an ACL is for, and its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Resource {
    Topic(String),
    Group(String),
    TransactionalId(String),
}

/// Operations of ACLs, by their numbers in the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Read = 3,
    Write = 4,
    Create = 5,
    DescribeConfigs = 10,
}

/// Allows a user an operation (CreateAcls, key 30), or takes that back (DeleteAcls, key 31); done when
/// the broker goes by it.
pub(crate) fn set_right(
    broker: &str,
    user: &str,
    resource: &Resource,
    operation: Operation,
    allowed: bool,
) {
    let (kind, name) = match resource {
        Resource::Topic(name) => (2, name),
        Resource::Group(name) => (3, name),
        Resource::TransactionalId(name) => (5, name),
    };
    // Of a literal name, from any host, allowed.
    let acl = [
        &[kind][..],
        &text(name),
        &[3],
        &text(&format!("User:{user}")),
        &text("*"),
        &[operation as u8, 3],
    ]
    .concat();
    let api = if allowed { 30 } else { 31 };
    let response = request(broker, api, 1, &[&1u32.to_be_bytes(), &acl[..]].concat());
    assert_eq!(response[4..10], [0, 0, 0, 1, 0, 0], "{resource:?}");
    super::wait_until("the broker's rights", || {
        // DescribeAcls: throttle time, error, an empty message, number of resources.
        let known = request(broker, 29, 1, &acl);
        assert_eq!(known[4..8], [0, 0, 0, 0]);
        (known[11] == u8::from(allowed)).then_some(())
    });
}

/// Records of a topic that was written without transactions.
pub(crate) fn count(broker: &str, topic: &str) -> u64 {
    let consumer: BaseConsumer = config(broker).create().unwrap();
    let metadata = consumer.fetch_metadata(Some(topic), TIMEOUT).unwrap();
    let ends = metadata.topics()[0].partitions().iter().map(|partition| {
        let ends = consumer.fetch_watermarks(topic, partition.id(), TIMEOUT);
        let (low, high) = ends.unwrap();
        (high - low) as u64
    });
    ends.sum()
}

/// Whether there is such a topic.
pub(crate) fn has_topic(broker: &str, topic: &str) -> bool {
    let consumer: BaseConsumer = config(broker).create().unwrap();
    // Of all topics: asking for one by name may create it.
    let metadata = consumer.fetch_metadata(None, TIMEOUT).unwrap();
    metadata.topics().iter().any(|found| found.name() == topic)
}

pub(crate) fn add_partitions(broker: &str, topic: &str, partitions: usize) {
    let (admin, options) = admin(broker);
    let more = NewPartitions::new(topic, partitions);
    let made = block_on(admin.create_partitions([&more], &options)).unwrap();
    made.into_iter().for_each(|result| drop(result.unwrap()));
}

pub(crate) fn delete_topic(broker: &str, topic: &str) {
    let (admin, options) = admin(broker);
    let gone = block_on(admin.delete_topics(&[topic], &options)).unwrap();
    gone.into_iter().for_each(|result| drop(result.unwrap()));
}

/// Removes all records of a partition but the newest `kept`; gives the first that is left.
pub(crate) fn keep_newest(broker: &str, topic: &str, partition: i32, kept: i64) -> i64 {
    let (admin, options) = admin(broker);
    let consumer: BaseConsumer = config(broker).create().unwrap();
    let (_, end) = consumer
        .fetch_watermarks(topic, partition, TIMEOUT)
        .unwrap();
    let mut offsets = TopicPartitionList::new();
    offsets
        .add_partition_offset(topic, partition, Offset::Offset(end - kept))
        .unwrap();
    block_on(admin.delete_records(&offsets, &options)).unwrap();
    end - kept
}

/// Writes messages without key or headers to a partition.
pub(crate) fn produce(broker: &str, topic: &str, partition: i32, payloads: &[Option<Vec<u8>>]) {
    let producer: BaseProducer = config(broker)
        .set("message.max.bytes", "10000000")
        .create()
        .unwrap();
    for payload in payloads {
        let mut record = BaseRecord::<(), [u8]>::to(topic).partition(partition);
        record.payload = payload.as_deref();
        producer.send(record).map_err(|(error, _)| error).unwrap();
    }
    producer.flush(TIMEOUT).unwrap();
}

/// Writes one message to a partition.
pub(crate) fn produce_one(
    broker: &str,
    topic: &str,
    partition: i32,
    key: Option<&str>,
    payload: &[u8],
    headers: &[(&str, &str)],
) {
    let producer: BaseProducer = config(broker).create().unwrap();
    let mut record = BaseRecord::<str, [u8]>::to(topic)
        .partition(partition)
        .payload(payload)
        .headers(
            headers
                .iter()
                .fold(OwnedHeaders::new(), |all, (key, value)| {
                    all.insert(Header {
                        key,
                        value: Some(*value),
                    })
                }),
        );
    record.key = key;
    producer.send(record).map_err(|(error, _)| error).unwrap();
    producer.flush(TIMEOUT).unwrap();
}

/// Writes one value of so many bytes that compresses to almost nothing.
pub(crate) fn produce_hollow(broker: &str, topic: &str, partition: i32, bytes: usize) {
    let producer: BaseProducer = config(broker)
        .set("message.max.bytes", "1000000000")
        .set("compression.type", "zstd")
        .create()
        .unwrap();
    let payload = vec![b'x'; bytes];
    let record = BaseRecord::<(), [u8]>::to(topic).partition(partition);
    let sent = producer.send(record.payload(&payload));
    sent.map_err(|(error, _)| error).unwrap();
    producer.flush(TIMEOUT).unwrap();
}

/// A message as a test looks at it.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub partition: i32,
    pub offset: i64,
    pub payload: Option<Vec<u8>>,
    pub headers: HashMap<String, String>,
}

/// Everything a `read_committed` reader sees of a topic.
pub(crate) fn read_all(broker: &str, topic: &str) -> Vec<Received> {
    let consumer: BaseConsumer = config(broker)
        .set("group.id", "tests")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("isolation.level", "read_committed")
        .set(UNPACK_LIMIT.0, UNPACK_LIMIT.1)
        .create()
        .unwrap();
    let metadata = consumer.fetch_metadata(Some(topic), TIMEOUT).unwrap();
    let partitions = metadata.topics()[0].partitions().len();
    let mut list = TopicPartitionList::new();
    for partition in 0..partitions as i32 {
        list.add_partition_offset(topic, partition, Offset::Beginning)
            .unwrap();
    }
    consumer.assign(&list).unwrap();
    let (mut ended, mut received) = (0, Vec::new());
    while ended < partitions {
        match consumer.poll(TIMEOUT).expect("a message or the end") {
            Err(KafkaError::PartitionEOF(_)) => ended += 1,
            Err(error) => panic!("{error}"),
            Ok(message) => received.push(Received {
                partition: message.partition(),
                offset: message.offset(),
                payload: message.payload().map(<[u8]>::to_vec),
                headers: message
                    .headers()
                    .into_iter()
                    .flat_map(|headers| headers.iter())
                    .map(|header| {
                        let value = String::from_utf8_lossy(header.value.unwrap_or_default());
                        (header.key.to_owned(), value.into_owned())
                    })
                    .collect(),
            }),
        }
    }
    received
}

/// What a consumer group has committed of each partition.
pub(crate) fn committed(
    broker: &str,
    topic: &str,
    group: &str,
    partitions: i32,
) -> Vec<Option<i64>> {
    let mut list = TopicPartitionList::new();
    list.add_partition_range(topic, 0, partitions - 1);
    let found = member(broker, group)
        .committed_offsets(list, TIMEOUT)
        .unwrap();
    let offsets = found.elements().into_iter().map(|element| element.offset());
    offsets
        .map(|offset| match offset {
            Offset::Offset(offset) => Some(offset),
            _ => None,
        })
        .collect()
}

/// Commits for a consumer group without members.
pub(crate) fn commit(broker: &str, topic: &str, group: &str, partitions: i32, offset: i64) {
    let mut list = TopicPartitionList::new();
    for partition in 0..partitions {
        list.add_partition_offset(topic, partition, Offset::Offset(offset))
            .unwrap();
    }
    let consumer = member(broker, group);
    consumer.commit(&list, CommitMode::Sync).unwrap();
}

/// A member of a group that takes partitions eagerly, as older clients do.
pub(crate) fn eager_member(broker: &str, topic: &str, group: &str) -> BaseConsumer {
    let consumer: BaseConsumer = config(broker)
        .set("group.id", group)
        .set("partition.assignment.strategy", "range")
        .create()
        .unwrap();
    consumer.subscribe(&[topic]).unwrap();
    let end = Instant::now() + TIMEOUT;
    while consumer.assignment().unwrap().count() == 0 {
        assert!(Instant::now() < end, "no partitions for the eager member");
        let _ = consumer.poll(Duration::from_millis(100));
    }
    consumer
}

fn member(broker: &str, group: &str) -> BaseConsumer {
    config(broker).set("group.id", group).create().unwrap()
}

/// A transaction that holds one record in each partition, open until it is aborted or dropped.
pub(crate) struct OpenTransaction(BaseProducer);

impl OpenTransaction {
    pub(crate) fn begin(broker: &str, topic: &str, partitions: i32) -> Self {
        let producer: BaseProducer = config(broker)
            .set("transactional.id", format!("foreign-{topic}"))
            .set("transaction.timeout.ms", "600000")
            .create()
            .unwrap();
        producer.init_transactions(TIMEOUT).unwrap();
        producer.begin_transaction().unwrap();
        for partition in 0..partitions {
            let record = BaseRecord::<(), [u8]>::to(topic).partition(partition);
            let record = record.payload(b"foreign".as_slice());
            producer.send(record).map_err(|(error, _)| error).unwrap();
        }
        producer.flush(TIMEOUT).unwrap();
        Self(producer)
    }

    pub(crate) fn abort(&self) {
        self.0.abort_transaction(TIMEOUT).unwrap();
    }
}

/// A topic of one partition that takes records of any time.
pub(crate) fn create_topic_of_any_time(broker: &str, topic: &str) {
    let (admin, options) = admin(broker);
    let mut topic = NewTopic::new(topic, 1, TopicReplication::Fixed(1));
    if super::real_kafka().is_some() {
        topic = topic.set("message.timestamp.after.max.ms", "9223372036854775807");
    }
    let made = block_on(admin.create_topics([&topic], &options)).unwrap();
    made.into_iter().for_each(|result| drop(result.unwrap()));
}

/// Writes one message of that time to the first partition.
pub(crate) fn produce_at(broker: &str, topic: &str, timestamp_ms: i64, payload: &[u8]) {
    let producer: BaseProducer = config(broker).create().unwrap();
    let record = BaseRecord::<(), [u8]>::to(topic)
        .partition(0)
        .payload(payload);
    let record = record.timestamp(timestamp_ms);
    producer.send(record).map_err(|(error, _)| error).unwrap();
    producer.flush(TIMEOUT).unwrap();
}
