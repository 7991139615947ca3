//! The runner's own look at Kafka, by its own client: where the log ends, how far the group is,
//! what the topic holds.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::events::Events;
use crate::recovery::Snapshot;
use crate::signals::Interrupt;

/// Partitions of the topic.
pub(crate) const PARTITIONS: i32 = 3;
const INTERVAL: Duration = Duration::from_millis(100);
const PATIENCE: Duration = Duration::from_secs(2);
/// How long a client is kept that gets no answer.
const CLIENT_PATIENCE: Duration = Duration::from_secs(8);
/// How long a broker may be silent while its topic is read.
const SILENCE: Duration = Duration::from_secs(20);

/// Whom to ask about what.
#[derive(Clone, Debug)]
pub(crate) struct Subject {
    /// `host:port`.
    pub bootstrap: String,
    /// The topic; its dead letters are in `{topic}.dlq`.
    pub topic: String,
    /// The consumer group.
    pub group: String,
}

impl Subject {
    /// Name of the topic of dead letters.
    pub(crate) fn dead_letters(&self) -> String {
        format!("{}.dlq", self.topic)
    }

    fn consumer(&self) -> anyhow::Result<BaseConsumer> {
        ClientConfig::new()
            .set("bootstrap.servers", &self.bootstrap)
            // Never subscribes, so it is not a member.
            .set("group.id", &self.group)
            .set("enable.auto.commit", "false")
            .set("enable.partition.eof", "true")
            .set("isolation.level", "read_committed")
            .set("reconnect.backoff.max.ms", "500")
            .set("fetch.message.max.bytes", "10485760")
            .create()
            .context("no Kafka client")
    }

    fn committed(&self, consumer: &BaseConsumer) -> KafkaResult<Vec<i64>> {
        let mut list = TopicPartitionList::new();
        list.add_partition_range(&self.topic, 0, PARTITIONS - 1);
        let list = consumer.committed_offsets(list, PATIENCE)?;
        let offset = |partition| {
            let found = list.find_partition(&self.topic, partition)?;
            found.error().ok()?;
            match found.offset() {
                Offset::Offset(offset) => Some(offset),
                _ => Some(0),
            }
        };
        (0..PARTITIONS)
            .map(|partition| {
                offset(partition).ok_or(KafkaError::OffsetFetch(
                    rdkafka::types::RDKafkaErrorCode::UnknownPartition,
                ))
            })
            .collect()
    }

    fn snapshot(&self, consumer: &BaseConsumer) -> KafkaResult<Snapshot> {
        let asked = Instant::now();
        let mut ends = Vec::new();
        for partition in 0..PARTITIONS {
            ends.push(
                consumer
                    .fetch_watermarks(&self.topic, partition, PATIENCE)?
                    .1,
            );
        }
        let committed = self.committed(consumer)?;
        Ok(Snapshot {
            asked,
            answered: Instant::now(),
            ends,
            committed,
        })
    }

    /// Whether the group's committed offsets are behind every record that a `read_committed`
    /// reader sees; else how far they are and what is left.
    pub(crate) fn undrained(&self) -> anyhow::Result<Option<String>> {
        let consumer = self.consumer()?;
        let committed = self.committed(&consumer).context("committed offsets")?;
        let starts = (0..).zip(committed.iter().copied()).collect::<Vec<_>>();
        let mut left = None;
        read(&consumer, &self.topic, &starts, |message| {
            left.get_or_insert((message.partition(), message.offset()));
            false
        })?;
        Ok(left.map(|(partition, offset)| {
            format!(
                "committed are {committed:?}, and partition {partition} has a record at {offset}"
            )
        }))
    }
}

/// Hands over the visible records from `starts` on, to where they end now, for as long as
/// the callback returns true.
fn read(
    consumer: &BaseConsumer,
    topic: &str,
    starts: &[(i32, i64)],
    mut take: impl FnMut(&BorrowedMessage<'_>) -> bool,
) -> anyhow::Result<()> {
    let mut list = TopicPartitionList::new();
    for (partition, offset) in starts {
        list.add_partition_offset(topic, *partition, Offset::Offset(*offset))
            .with_context(|| format!("{topic}-{partition} at {offset}"))?;
    }
    consumer.assign(&list).context("assigning")?;
    let mut running: BTreeSet<i32> = starts.iter().map(|(partition, _)| *partition).collect();
    let mut last = Instant::now();
    while !running.is_empty() {
        match consumer.poll(Duration::from_millis(200)) {
            Some(Ok(message)) => {
                last = Instant::now();
                if !take(&message) {
                    break;
                }
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                last = Instant::now();
                running.remove(&partition);
            }
            // It tries again by itself.
            Some(Err(_)) | None if last.elapsed() < SILENCE => {}
            Some(Err(error)) => return Err(anyhow!(error).context(format!("reading {topic}"))),
            None => bail!("reading {topic}: no answer for {} s", SILENCE.as_secs()),
        }
    }
    Ok(())
}

/// Asks for ends and offsets, again and again.
pub(crate) struct Monitor {
    snapshots: Receiver<Snapshot>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Monitor {
    /// Starts asking; as long as there is no answer it says nothing.
    pub(crate) fn start(subject: Subject) -> anyhow::Result<Self> {
        let consumer = subject.consumer()?;
        let stop = Arc::new(AtomicBool::new(false));
        let (sender, snapshots) = channel();
        let stopped = stop.clone();
        let ask = move || watch(&subject, consumer, &stopped, &sender);
        let thread = std::thread::Builder::new()
            .name("monitor".to_owned())
            .spawn(ask)
            .context("the monitor can't be started")?;
        Ok(Self {
            snapshots,
            stop,
            thread: Some(thread),
        })
    }

    /// What has been answered since this was last called.
    pub(crate) fn new_snapshots(&self) -> Vec<Snapshot> {
        self.snapshots.try_iter().collect()
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        self.stop.store(true, SeqCst);
        if let Some(thread) = self.thread.take() {
            // It has said already what it had to say.
            let _ = thread.join();
        }
    }
}

fn watch(subject: &Subject, mut consumer: BaseConsumer, stop: &AtomicBool, to: &Sender<Snapshot>) {
    let mut heard = Instant::now();
    while !stop.load(SeqCst) {
        // No topic yet, or no broker: the next question may be answered.
        if let Ok(snapshot) = subject.snapshot(&consumer) {
            heard = Instant::now();
            if to.send(snapshot).is_err() {
                return;
            }
        } else if heard.elapsed() > CLIENT_PATIENCE
            // Seen on a busy machine: a client that outlived a killed broker got no answer for
            // minutes, while new ones and the group's members did.
            && let Ok(fresh) = subject.consumer()
        {
            (consumer, heard) = (fresh, Instant::now());
        }
        std::thread::sleep(INTERVAL);
    }
}

/// What the topic holds, to compare the lake with.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub(crate) struct TopicContent {
    /// Records with a `trans_num` of the file.
    pub rows: u64,
    /// Other records: poison.
    pub poison: u64,
    /// Rows of the file that are in the topic again.
    pub rows_doubled: u64,
    /// Rows of the file that are not in it.
    pub rows_missing: u64,
    /// The first of the rows doubled or missing.
    pub rows_wrong: Vec<u64>,
    /// Poison without a dead letter, as `partition-offset`.
    pub poison_without_letter: Vec<String>,
    /// Dead letters of messages that are not poison.
    pub letters_of_others: Vec<String>,
}

/// Reads the topic and its dead letters to their end; `list` gets a line
/// `partition;offset;row or poison` for each record.
pub(crate) fn read_topic(
    subject: &Subject,
    events: &Events,
    list: &Path,
    interrupt: &Interrupt,
) -> anyhow::Result<TopicContent> {
    let mut content = TopicContent::default();
    let file = File::create(list).with_context(|| format!("{}", list.display()))?;
    let mut file = BufWriter::new(file);
    writeln!(file, "partition;offset;kind")?;
    let rows = events.by_trans_num()?;
    let mut seen = vec![false; rows.len()];
    let mut poison = BTreeSet::new();
    let starts: Vec<(i32, i64)> = (0..PARTITIONS).map(|partition| (partition, 0)).collect();
    let mut failed = Ok(());
    read(&subject.consumer()?, &subject.topic, &starts, |message| {
        let (partition, offset) = (message.partition(), message.offset());
        let kind = match trans_num(message).and_then(|number| rows.get(&number)) {
            Some(&row) => {
                content.rows += 1;
                let place = usize::try_from(row).ok().and_then(|row| seen.get_mut(row));
                if place.is_none_or(|seen| std::mem::replace(seen, true)) {
                    content.rows_doubled += 1;
                    content.rows_wrong.push(row);
                }
                "row"
            }
            None => {
                content.poison += 1;
                poison.insert(format!("{partition}-{offset}"));
                "poison"
            }
        };
        failed = writeln!(file, "{partition};{offset};{kind}")
            .map_err(anyhow::Error::from)
            .and_then(|()| interrupt.check());
        failed.is_ok()
    })?;
    failed?;
    file.flush()?;
    let missing = seen.iter().enumerate().filter(|(_, seen)| !**seen);
    let missing: Vec<u64> = missing.map(|(row, _)| row as u64).collect();
    content.rows_missing = missing.len() as u64;
    content.rows_wrong.extend(missing);
    content.rows_wrong.truncate(100);

    let mut letters = BTreeSet::new();
    if !poison.is_empty() {
        let topic = subject.dead_letters();
        read(&subject.consumer()?, &topic, &starts, |letter| {
            let place = header(letter, "partition").zip(header(letter, "offset"));
            letters.extend(place.map(|(partition, offset)| format!("{partition}-{offset}")));
            true
        })?;
    }
    content.poison_without_letter = poison.difference(&letters).cloned().collect();
    content.letters_of_others = letters.difference(&poison).cloned().collect();
    Ok(content)
}

fn trans_num(message: &BorrowedMessage<'_>) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Transaction {
        trans_num: String,
    }
    let transaction: Transaction = serde_json::from_slice(message.payload()?).ok()?;
    Some(transaction.trans_num)
}

fn header<'a>(message: &'a BorrowedMessage<'_>, name: &str) -> Option<&'a str> {
    let headers = message.headers()?;
    let found = headers.iter().find(|header| header.key == name)?;
    std::str::from_utf8(found.value?).ok()
}
