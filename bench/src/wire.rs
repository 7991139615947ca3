//! librdkafka and the embedded broker in one process, next to the same bytes through a socket and a file.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use ftap_broker::{Broker, BrokerOptions};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use crate::alloc::{Cost, Meter};
use crate::steps::{Messages, Steps};

const PARTITIONS: i32 = 3;
const COPY_BYTES: usize = 1 << 20;
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn measure(steps: &mut Steps, messages: &Messages, folder: &Path) -> anyhow::Result<()> {
    let broker = Broker::start(BrokerOptions {
        data_dir: folder.join("kafka"),
        default_partitions: PARTITIONS,
        ..BrokerOptions::default()
    })?;
    let at = broker.bootstrap();
    let size = messages.size();
    let raw = folder.join("raw");
    let into_file = |_| through_socket(size.1, &raw);
    let topic = |round: usize| format!("round-{round}");
    let name = "produce to the embedded broker (socket into a file)";
    steps.compare(
        name,
        size,
        |round| produce(&at, &topic(round), messages),
        into_file,
    )?;
    let out_of_file = |_| out_of_file(&raw);
    for isolation in ["read_uncommitted", "read_committed"] {
        let name = format!("fetch from it, {isolation} (file into a socket)");
        let fetch = |round: usize| fetch(&at, &topic(round), messages.len(), isolation);
        steps.compare(&name, size, fetch, out_of_file)?;
    }
    broker.shutdown().context("the broker")?;
    Ok(())
}

fn produce(at: &str, topic: &str, messages: &Messages) -> anyhow::Result<Cost> {
    let producer: ThreadedProducer<DefaultProducerContext> = ClientConfig::new()
        .set("bootstrap.servers", at)
        .set("enable.idempotence", "true")
        .set("linger.ms", "5")
        .set("batch.num.messages", "10000")
        .set("batch.size", "1000000")
        .set("queue.buffering.max.messages", "400000")
        .set("queue.buffering.max.kbytes", "400000")
        .create()?;
    // Connecting is not measured; the broker creates the topic.
    producer.client().fetch_metadata(Some(topic), PATIENCE)?;
    let meter = Meter::start();
    for (number, message) in messages.iter().enumerate() {
        let partition = i32::try_from(number / 1_000 % PARTITIONS as usize)?;
        let mut record = BaseRecord::<(), [u8]>::to(topic)
            .partition(partition)
            .payload(message);
        while let Err((error, back)) = producer.send(record) {
            if error.rdkafka_error_code() != Some(RDKafkaErrorCode::QueueFull) {
                bail!("producing: {error}");
            }
            record = back;
            thread::sleep(Duration::from_millis(1));
        }
    }
    producer.flush(PATIENCE)?;
    ensure!(producer.in_flight_count() == 0, "not everything was sent");
    Ok(meter.stop())
}

fn fetch(at: &str, topic: &str, messages: usize, isolation: &str) -> anyhow::Result<Cost> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", at)
        .set("group.id", "bench")
        .set("enable.auto.commit", "false")
        .set("isolation.level", isolation)
        .set("fetch.queue.backoff.ms", "5")
        .set("fetch.message.max.bytes", "4000000")
        .set("queued.min.messages", "200000")
        .set("check.crcs", "false")
        .create()?;
    consumer.fetch_metadata(Some(topic), PATIENCE)?;
    let mut list = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        list.add_partition_offset(topic, partition, Offset::Beginning)?;
    }
    let meter = Meter::start();
    consumer.assign(&list)?;
    for read in 0..messages {
        let message = consumer.poll(PATIENCE);
        let message = message.with_context(|| format!("nothing after {read} messages"))?;
        message.with_context(|| format!("after {read} messages"))?;
    }
    Ok(meter.stop())
}

fn through_socket(bytes: usize, path: &Path) -> anyhow::Result<Cost> {
    let (mut client, mut server) = socket_pair()?;
    let mut file = File::create(path)?;
    let meter = Meter::start();
    let writer = thread::spawn(move || copy(&mut server, &mut file));
    let chunk = vec![b'x'; COPY_BYTES];
    let mut left = bytes;
    while left > 0 {
        let part = left.min(chunk.len());
        client.write_all(&chunk[..part])?;
        left -= part;
    }
    drop(client);
    let copied = writer.join().ok().context("the other thread panicked")??;
    ensure!(copied == bytes, "{copied} bytes went through the socket");
    Ok(meter.stop())
}

fn out_of_file(path: &Path) -> anyhow::Result<Cost> {
    let (mut client, mut server) = socket_pair()?;
    let mut file = File::open(path)?;
    let meter = Meter::start();
    let writer = thread::spawn(move || copy(&mut file, &mut server));
    let read = copy(&mut client, &mut std::io::sink())?;
    let written = writer.join().ok().context("the other thread panicked")??;
    ensure!(
        read == written,
        "{read} of {written} bytes went through the socket"
    );
    Ok(meter.stop())
}

fn socket_pair() -> anyhow::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let client = TcpStream::connect(listener.local_addr()?)?;
    Ok((client, listener.accept()?.0))
}

fn copy(from: &mut impl Read, to: &mut impl Write) -> std::io::Result<usize> {
    let (mut buffer, mut copied) = (vec![0; COPY_BYTES], 0);
    loop {
        let read = from.read(&mut buffer)?;
        if read == 0 {
            return Ok(copied);
        }
        to.write_all(&buffer[..read])?;
        copied += read;
    }
}
