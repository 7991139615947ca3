//! Brokers in this process and in one of their own, and librdkafka clients for them.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ftap_broker::{Broker, BrokerHandle, BrokerOptions};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{DeliveryResult, Message, OwnedMessage};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use rdkafka::{ClientConfig, ClientContext};

pub(crate) const PATIENCE: Duration = Duration::from_secs(40);

/// Starts a broker in this process on `dir`.
pub(crate) fn start(dir: &Path) -> BrokerHandle {
    start_with(dir, |_| {})
}

pub(crate) fn start_with(dir: &Path, edit: impl FnOnce(&mut BrokerOptions)) -> BrokerHandle {
    let mut options = BrokerOptions {
        data_dir: dir.to_path_buf(),
        ..BrokerOptions::default()
    };
    edit(&mut options);
    Broker::start(options).unwrap()
}

/// A broker in a process of its own, to be killed: this test binary, run again for the one test that
/// serves.
pub(crate) struct BrokerProcess {
    child: Child,
    pub bootstrap: String,
}

const DIR_VARIABLE: &str = "FTAP_TEST_BROKER_DIR";
const PORT_VARIABLE: &str = "FTAP_TEST_BROKER_PORT";
const READY: &str = "serving at ";

/// Serves when this process was started to; does nothing in a normal test run.
#[test]
fn serve_in_a_process_of_its_own() {
    let Some(dir) = std::env::var_os(DIR_VARIABLE) else {
        return;
    };
    let port: u16 = std::env::var(PORT_VARIABLE).unwrap().parse().unwrap();
    let broker = start_with(Path::new(&dir), |options| {
        options.addr.set_port(port);
        options.segment_bytes = 8 << 20;
    });
    println!("{READY}{}", broker.bootstrap());
    loop {
        std::thread::park();
    }
}

impl BrokerProcess {
    pub(crate) fn start(dir: &Path, port: u16) -> Self {
        Self::start_prepared(dir, port, |_| {})
    }

    pub(crate) fn start_prepared(
        dir: &Path,
        port: u16,
        prepare: impl FnOnce(&mut Command),
    ) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args([
                "--exact",
                "common::serve_in_a_process_of_its_own",
                "--nocapture",
            ])
            .env(DIR_VARIABLE, dir)
            .env(PORT_VARIABLE, port.to_string())
            .stdout(Stdio::piped());
        prepare(&mut command);
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let ready = lines
            .map_while(Result::ok)
            .find_map(|line| line.split_once(READY).map(|(_, at)| at.trim().to_string()));
        let bootstrap = ready.expect("the broker process did not start");
        Self { child, bootstrap }
    }

    pub(crate) fn port(&self) -> u16 {
        self.bootstrap.rsplit(':').next().unwrap().parse().unwrap()
    }

    pub(crate) fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for BrokerProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn client(bootstrap: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", bootstrap)
        .set("broker.address.family", "v4")
        .set("reconnect.backoff.ms", "20")
        .set("reconnect.backoff.max.ms", "200")
        .set("topic.metadata.refresh.interval.ms", "1000");
    config
}

pub(crate) fn consumer_config(bootstrap: &str, group: &str) -> ClientConfig {
    let mut config = client(bootstrap);
    config
        .set("group.id", group)
        .set("auto.offset.reset", "earliest")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("fetch.wait.max.ms", "50")
        .set("fetch.queue.backoff.ms", "5")
        .set("heartbeat.interval.ms", "200");
    config
}

/// Partition, offset and payload of an acknowledged message.
pub(crate) type Acknowledged = (i32, i64, Vec<u8>);

/// Collects what was acknowledged and what failed.
#[derive(Clone, Default)]
pub(crate) struct Acks {
    pub acknowledged: Arc<Mutex<Vec<Acknowledged>>>,
    pub failed: Arc<AtomicU64>,
}

impl ClientContext for Acks {}

impl ProducerContext for Acks {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        match result {
            Ok(message) => {
                let payload = message.payload().unwrap_or_default().to_vec();
                let place = (message.partition(), message.offset(), payload);
                self.acknowledged.lock().unwrap().push(place);
            }
            Err(_) => {
                self.failed.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

pub(crate) fn producer(config: &ClientConfig) -> (BaseProducer<Acks>, Acks) {
    let acks = Acks::default();
    (config.create_with_context(acks.clone()).unwrap(), acks)
}

/// Queues a message, waiting while the queue is full.
pub(crate) fn send(producer: &BaseProducer<Acks>, topic: &str, partition: i32, payload: &str) {
    let mut record = BaseRecord::<(), str>::to(topic).payload(payload);
    if partition >= 0 {
        record = record.partition(partition);
    }
    while let Err((_, back)) = producer.send(record) {
        record = back;
        producer.poll(Duration::from_millis(10));
    }
}

/// Sends numbers as text to partition 0 and waits for all acknowledgements.
pub(crate) fn send_numbers(bootstrap: &str, topic: &str, numbers: std::ops::Range<u64>) {
    let (producer, acks) = producer(client(bootstrap).set("enable.idempotence", "true"));
    let count = numbers.end - numbers.start;
    for number in numbers {
        send(&producer, topic, 0, &number.to_string());
    }
    producer.flush(PATIENCE).unwrap();
    assert_eq!(acks.acknowledged.lock().unwrap().len() as u64, count);
}

/// Reads partition 0..`partitions` from the start to the end.
pub(crate) fn read_all(
    bootstrap: &str,
    topic: &str,
    partitions: i32,
    isolation: &str,
) -> Vec<OwnedMessage> {
    read_from(
        bootstrap,
        topic,
        partitions,
        isolation,
        rdkafka::Offset::Beginning,
    )
}

pub(crate) fn read_from(
    bootstrap: &str,
    topic: &str,
    partitions: i32,
    isolation: &str,
    offset: rdkafka::Offset,
) -> Vec<OwnedMessage> {
    let consumer: BaseConsumer = consumer_config(bootstrap, "reader")
        .set("isolation.level", isolation)
        .create()
        .unwrap();
    let mut list = rdkafka::TopicPartitionList::new();
    for partition in 0..partitions {
        list.add_partition_offset(topic, partition, offset).unwrap();
    }
    consumer.assign(&list).unwrap();
    let mut messages = Vec::new();
    let mut ended = std::collections::BTreeSet::new();
    let until = Instant::now() + PATIENCE;
    while ended.len() < usize::try_from(partitions).unwrap() {
        assert!(
            Instant::now() < until,
            "read {} messages, then no end",
            messages.len()
        );
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => messages.push(message.detach()),
            Some(Err(rdkafka::error::KafkaError::PartitionEOF(partition))) => {
                ended.insert(partition);
            }
            Some(Err(_)) | None => {}
        }
    }
    messages
}

pub(crate) fn texts(messages: &[OwnedMessage]) -> Vec<String> {
    let text = |m: &OwnedMessage| String::from_utf8(m.payload().unwrap().to_vec()).unwrap();
    messages.iter().map(text).collect()
}

/// Waits until `condition` gives a value.
pub(crate) fn wait_for<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < until, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A request as it goes over the wire.
pub(crate) fn frame(body: &[u8]) -> Vec<u8> {
    let length = i32::try_from(body.len()).unwrap();
    [&length.to_be_bytes()[..], body].concat()
}

/// Sends bytes, hangs up, and reads until the broker does, too.
pub(crate) fn throw(addr: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(addr).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    // The broker may close before everything is sent.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    answer
}

/// A header of that API and version, without client id.
pub(crate) fn header(api: i16, version: i16) -> Vec<u8> {
    let mut bytes = api.to_be_bytes().to_vec();
    bytes.extend(version.to_be_bytes());
    bytes.extend(7i32.to_be_bytes());
    bytes.extend((-1i16).to_be_bytes());
    bytes
}
