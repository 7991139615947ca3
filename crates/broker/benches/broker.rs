//! How fast the broker takes records in and gives them out, with librdkafka in the same process, and
//! beside it the ceiling: the same bytes through a loopback socket and a file without any Kafka.
//!
//! `cargo bench -p ftap-broker [-- MESSAGES]`. Machines differ and are busy: compare the ratios of
//! one run.

#![allow(clippy::print_stdout, clippy::unwrap_used)]

use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use ftap_broker::{Broker, BrokerOptions};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

const MESSAGE_BYTES: usize = 300;
const PARTITIONS: i32 = 3;
const COPY_BYTES: usize = 1 << 20;

struct Measured {
    messages: u64,
    elapsed: Duration,
    cpu: Duration,
    broker_cpu: Duration,
}

impl Measured {
    fn per_second(&self) -> f64 {
        self.messages as f64 / self.elapsed.as_secs_f64()
    }

    fn print(&self, what: &str, ceiling: Option<&Self>) {
        let ratio = ceiling.map_or(String::new(), |c| {
            format!("  {:.2} of the ceiling", self.per_second() / c.per_second())
        });
        println!(
            "{what:<22} {:>6.2} M/s {:>7.0} MB/s  {:.2} CPU-s per million, {:.2} of it the broker's{ratio}",
            self.per_second() / 1e6,
            self.per_second() * MESSAGE_BYTES as f64 / 1e6,
            self.cpu.as_secs_f64() / self.messages as f64 * 1e6,
            self.broker_cpu.as_secs_f64() / self.messages as f64 * 1e6,
        );
    }
}

fn cpu() -> Duration {
    // SAFETY: getrusage only fills the structure it is given.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &raw mut usage);
        usage
    };
    let of = |t: libc::timeval| Duration::new(t.tv_sec as u64, t.tv_usec as u32 * 1000);
    of(usage.ru_utime) + of(usage.ru_stime)
}

/// CPU time of the broker's threads, known by their name.
fn broker_cpu() -> Duration {
    let mut ticks = 0;
    for task in std::fs::read_dir("/proc/self/task")
        .into_iter()
        .flatten()
        .flatten()
    {
        let stat = std::fs::read_to_string(task.path().join("stat")).unwrap_or_default();
        let Some((name, fields)) = stat.rsplit_once(") ") else {
            continue;
        };
        if name.contains("(ftap-kafka") {
            // User and system time are the 14th and 15th field, counted from the task's number.
            let times = fields.split(' ').skip(11).take(2);
            ticks += times.filter_map(|t| t.parse::<u64>().ok()).sum::<u64>();
        }
    }
    // The kernel reports in hundredths of a second on every Linux.
    Duration::from_millis(ticks * 10)
}

fn measure(messages: u64, work: impl FnOnce()) -> Measured {
    let (start, cpu_before, broker_before) = (Instant::now(), cpu(), broker_cpu());
    work();
    Measured {
        messages,
        elapsed: start.elapsed(),
        cpu: cpu().saturating_sub(cpu_before),
        broker_cpu: broker_cpu().saturating_sub(broker_before),
    }
}

fn socket_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (client, listener.accept().unwrap().0)
}

fn copy(from: &mut impl Read, to: &mut impl Write) {
    let mut buffer = vec![0; COPY_BYTES];
    loop {
        let n = from.read(&mut buffer).unwrap();
        if n == 0 {
            return;
        }
        to.write_all(&buffer[..n]).unwrap();
    }
}

/// The bytes through a socket into a file.
fn ceiling_in(path: &Path, messages: u64) -> Measured {
    measure(messages, || {
        let (mut client, mut server) = socket_pair();
        let mut file = File::create(path).unwrap();
        let writer = thread::spawn(move || copy(&mut server, &mut file));
        let chunk = vec![b'x'; COPY_BYTES];
        let mut left = messages as usize * MESSAGE_BYTES;
        while left > 0 {
            let n = left.min(chunk.len());
            client.write_all(&chunk[..n]).unwrap();
            left -= n;
        }
        drop(client);
        writer.join().unwrap();
    })
}

/// The bytes out of a file through a socket.
fn ceiling_out(path: &Path, messages: u64) -> Measured {
    measure(messages, || {
        let (client, mut server) = socket_pair();
        let mut file = File::open(path).unwrap();
        let writer = thread::spawn(move || copy(&mut file, &mut server));
        copy(&mut &client, &mut std::io::sink());
        writer.join().unwrap();
    })
}

fn produce(bootstrap: &str, messages: u64) -> Measured {
    let producer: ThreadedProducer<DefaultProducerContext> = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("enable.idempotence", "true")
        .set("linger.ms", "5")
        .set("batch.num.messages", "10000")
        .set("batch.size", "1000000")
        .set("queue.buffering.max.messages", "400000")
        .set("queue.buffering.max.kbytes", "400000")
        .create()
        .unwrap();
    // Connecting and creating the topic are not measured.
    producer
        .send(BaseRecord::<(), str>::to("t").partition(0).payload("first"))
        .map_err(|(e, _)| e)
        .unwrap();
    producer.flush(Duration::from_secs(30)).unwrap();
    let payload = [b'x'; MESSAGE_BYTES];
    measure(messages, || {
        for number in 0..messages {
            let partition = i32::try_from(number / 1_000 % PARTITIONS as u64).unwrap();
            let mut record = BaseRecord::<(), [u8]>::to("t")
                .partition(partition)
                .payload(&payload);
            while let Err((error, back)) = producer.send(record) {
                assert_eq!(
                    error.rdkafka_error_code(),
                    Some(RDKafkaErrorCode::QueueFull),
                    "{error}"
                );
                record = back;
                thread::sleep(Duration::from_millis(1));
            }
        }
        producer.flush(Duration::from_secs(120)).unwrap();
        assert_eq!(producer.in_flight_count(), 0);
    })
}

fn consume(bootstrap: &str, messages: u64, isolation: &str) -> Measured {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("group.id", "bench")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "false")
        .set("isolation.level", isolation)
        .set("fetch.queue.backoff.ms", "5")
        .set("fetch.message.max.bytes", "4000000")
        .set("queued.min.messages", "200000")
        .set("check.crcs", "false")
        .create()
        .unwrap();
    consumer
        .fetch_metadata(Some("t"), Duration::from_secs(30))
        .unwrap();
    let mut list = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        list.add_partition_offset("t", partition, Offset::Beginning)
            .unwrap();
    }
    measure(messages, || {
        consumer.assign(&list).unwrap();
        let mut read = 0;
        while read < messages {
            match consumer.poll(Duration::from_secs(30)) {
                Some(Ok(message)) => {
                    if message.payload_len() == MESSAGE_BYTES {
                        read += 1;
                    }
                }
                Some(Err(KafkaError::PartitionEOF(_))) => {}
                other => panic!("after {read} messages: {other:?}"),
            }
        }
    })
}

fn peak_memory_mb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes: u64 = line
        .and_then(|l| l.trim().strip_suffix(" kB")?.parse().ok())
        .unwrap_or(0);
    kilobytes / 1_000
}

fn main() {
    // Cargo passes `--bench`; a number sets the size of the run.
    let messages = std::env::args()
        .find_map(|arg| arg.parse().ok())
        .unwrap_or(2_000_000);
    let dir = tempfile::tempdir().unwrap();
    let options = BrokerOptions {
        data_dir: dir.path().join("kafka"),
        default_partitions: PARTITIONS,
        ..BrokerOptions::default()
    };
    let broker = Broker::start(options.clone()).unwrap();
    let at = broker.bootstrap();
    println!(
        "{messages} messages of {MESSAGE_BYTES} bytes, {PARTITIONS} partitions, idempotent producer, librdkafka in the same process"
    );
    let raw = dir.path().join("raw");
    let ceiling = ceiling_in(&raw, messages);
    ceiling.print("ceiling in", None);
    produce(&at, messages).print("broker in", Some(&ceiling));
    let ceiling = ceiling_out(&raw, messages);
    ceiling.print("ceiling out", None);
    consume(&at, messages, "read_uncommitted").print("broker out", Some(&ceiling));
    consume(&at, messages, "read_committed").print("broker out, committed", Some(&ceiling));
    broker.shutdown().unwrap();
    let start = Instant::now();
    let broker = Broker::start(options).unwrap();
    println!(
        "opened again in {:?}; peak memory of client and broker {} MB",
        start.elapsed(),
        peak_memory_mb()
    );
    drop(broker);
}
