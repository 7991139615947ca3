//! Reads a topic to its end as any `read_committed` reader would, without a consumer group.
//!
//! Promises: every record visible between the bounds taken at the start is handed over once;
//! whatever stops that is an error that names the broker. Partitions are spread over threads,
//! because parsing takes longer than reading. Leaves nothing behind on the broker.

use std::collections::BTreeMap;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use ftap_kafka::tail::{silence, unreadable};
use ftap_kafka::{
    DeadLetterPlace, END_TRANSACTION, KafkaFailure, KafkaSettings, Reader, SOURCE_HEADER, access,
    failure, is_source,
};
use ftap_supervision::Retryable as _;
use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

/// How long a broker may take to answer a question.
const ANSWER: Duration = Duration::from_secs(15);
/// How long no record may come; under a client quota they come in bursts.
const SILENCE: Duration = Duration::from_secs(60);
/// How long another producer's transaction is waited for.
const OPEN_TRANSACTION: Duration = Duration::from_secs(60);
/// librdkafka needs a group; none is joined and nothing is committed. With ACLs it must be allowed.
const GROUP: &str = "ftap-verify";
const POLL: Duration = Duration::from_millis(200);
const BATCH: usize = 4096;

/// Where a partition begins and ends: its oldest offset and the one its next record gets.
pub type Watermarks = (i64, i64);

/// One broker's topics.
pub struct Topics<'a> {
    settings: &'a KafkaSettings,
    consumer: Reader,
}

impl<'a> Topics<'a> {
    /// Prepares to read. A broker that is away is waited for later; one that refuses us says here
    /// which setting is why.
    pub fn new(settings: &'a KafkaSettings) -> anyhow::Result<Self> {
        match access::check(settings) {
            Err(error) if !error.retry().helps() => return Err(error.into()),
            _ => {}
        }
        let consumer = consumer(settings, "read_committed")?;
        Ok(Self { settings, consumer })
    }

    /// What open transactions hide of `topic`: by partition, the first hidden offset and the one
    /// that the next record gets. `visible` are its watermarks.
    pub fn hidden(
        &self,
        topic: &str,
        visible: &[Watermarks],
    ) -> anyhow::Result<BTreeMap<i32, Watermarks>> {
        let consumer = consumer(self.settings, "read_uncommitted")?;
        let mut hidden = BTreeMap::new();
        for (partition, (_, visible)) in (0..).zip(visible) {
            let (_, end) = consumer
                .fetch_watermarks(topic, partition, ANSWER)
                .with_context(|| format!("topic {topic} partition {partition}: its end"))?;
            if *visible < end {
                hidden.insert(partition, (*visible, end));
            }
        }
        Ok(hidden)
    }

    /// Shows the hidden records to `take`.
    pub fn each_hidden(
        &self,
        topic: &str,
        hidden: &BTreeMap<i32, Watermarks>,
        mut take: impl FnMut(&BorrowedMessage<'_>),
    ) -> anyhow::Result<()> {
        self.walk(topic, hidden, "read_uncommitted", |message| {
            take(message);
            Ok(true)
        })
    }

    /// Bounds of each partition of `topic`, `None` if there is no such topic.
    pub fn watermarks(&self, topic: &str) -> anyhow::Result<Option<Vec<Watermarks>>> {
        self.watermarks_unless(topic, |_| false)
    }

    /// The same of the dead-letter topic. Where the lake keeps what is rejected, this account may have
    /// no rights on it: then there is none.
    pub fn dead_letters(&self, place: DeadLetterPlace) -> anyhow::Result<Option<Vec<Watermarks>>> {
        let is_none = |code| {
            place == DeadLetterPlace::Lake && code == RDKafkaErrorCode::TopicAuthorizationFailed
        };
        self.watermarks_unless(&self.settings.dead_letter_topic, is_none)
    }

    /// The same of `topic` once all records that it has now are visible.
    pub fn watermarks_of_all(&self, topic: &str) -> anyhow::Result<Option<Vec<Watermarks>>> {
        let Some(visible) = self.watermarks(topic)? else {
            return Ok(None);
        };
        let hidden = self.hidden(topic, &visible)?;
        let began = Instant::now();
        loop {
            let visible = self.watermarks(topic)?.unwrap_or_default();
            let end = |partition: i32| visible.get(partition as usize).map_or(0, |(_, end)| *end);
            let Some((partition, _)) = hidden
                .iter()
                .find(|(partition, (_, high))| end(**partition) < *high)
            else {
                return Ok(Some(visible));
            };
            if began.elapsed() > OPEN_TRANSACTION {
                return Err(anyhow!(
                    "topic {topic} partition {partition}: a transaction of another producer is open since offset {} and hides what may have been redriven\n  {END_TRANSACTION}",
                    end(*partition)
                ));
            }
            std::thread::sleep(POLL);
        }
    }

    fn watermarks_unless(
        &self,
        topic: &str,
        is_none: impl Fn(RDKafkaErrorCode) -> bool,
    ) -> anyhow::Result<Option<Vec<Watermarks>>> {
        let metadata = self
            .consumer
            .fetch_metadata(Some(topic), ANSWER)
            .with_context(|| self.unreachable())?;
        let Some(found) = metadata.topics().iter().find(|found| found.name() == topic) else {
            return Ok(None);
        };
        if let Some(error) = found.error() {
            let code = RDKafkaErrorCode::from(error);
            return match code {
                RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic => {
                    Ok(None)
                }
                code if is_none(code) => Ok(None),
                code => Err(with_remedy(topic, KafkaError::MetadataFetch(code))),
            };
        }
        (0..found.partitions().len() as i32)
            .map(|partition| {
                self.consumer
                    .fetch_watermarks(topic, partition, ANSWER)
                    .with_context(|| format!("topic {topic} partition {partition}: its offsets"))
            })
            .collect::<anyhow::Result<_>>()
            .map(Some)
    }

    fn unreachable(&self) -> String {
        format!(
            "Kafka at {} did not answer within {} s: check KAFKA_BROKER and that the broker runs",
            self.settings.bootstrap_servers,
            ANSWER.as_secs()
        )
    }

    /// Reads `topic` between `bounds` on several threads, each with a state of its own, and hands
    /// over what is made of its records in batches, each in the order of its partition.
    pub fn read<S: Default, T: Send>(
        &self,
        topic: &str,
        bounds: &[Watermarks],
        make: impl Fn(&mut S, &BorrowedMessage<'_>) -> T + Sync,
        mut take: impl FnMut(i32, Vec<T>) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let wanted: Vec<(i32, Watermarks)> = (0..)
            .zip(bounds.iter().copied())
            .filter(|(_, (low, high))| low < high)
            .collect();
        // Two a core, so that three partitions do not leave one core idle while the other reads a second one.
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = (2 * cores).min(wanted.len());
        std::thread::scope(|scope| {
            let (sender, receiver) = sync_channel(2 * threads + 1);
            let readers: Vec<_> = (0..threads)
                .map(|index| {
                    let share: BTreeMap<i32, Watermarks> = wanted
                        .iter()
                        .copied()
                        .skip(index)
                        .step_by(threads)
                        .collect();
                    let (sender, make) = (sender.clone(), &make);
                    scope.spawn(move || self.read_share(topic, &share, make, &sender))
                })
                .collect();
            drop(sender);
            for (partition, batch) in receiver {
                take(partition, batch)?;
            }
            for reader in readers {
                reader
                    .join()
                    .map_err(|_panic| anyhow!("reading topic {topic} failed: this is a bug"))??;
            }
            Ok(())
        })
    }

    /// The header `source` of the oldest record that has one, in the first partition that has such.
    pub fn first_source(
        &self,
        topic: &str,
        bounds: &[Watermarks],
    ) -> anyhow::Result<Option<String>> {
        for (partition, (low, high)) in (0..).zip(bounds.iter().copied()) {
            let share = BTreeMap::from([(partition, (low, high))]);
            let mut found = None;
            if low < high {
                self.walk(topic, &share, "read_committed", |message| {
                    found = source_of(message).map(<[u8]>::to_vec);
                    Ok(found.is_none())
                })?;
            }
            if let Some(source) = found {
                return Ok(Some(String::from_utf8_lossy(&source).into_owned()));
            }
        }
        Ok(None)
    }

    /// Reads `topic` between `bounds` and shows `take` one record after the other, each in the
    /// order of its partition; for payloads that must not pile up in memory.
    pub fn each(
        &self,
        topic: &str,
        bounds: &[Watermarks],
        mut take: impl FnMut(&BorrowedMessage<'_>) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let share: BTreeMap<i32, Watermarks> = (0..)
            .zip(bounds.iter().copied())
            .filter(|(_, (low, high))| low < high)
            .collect();
        self.walk(topic, &share, "read_committed", |message| {
            take(message).map(|()| true)
        })
    }

    fn read_share<S: Default, T>(
        &self,
        topic: &str,
        share: &BTreeMap<i32, Watermarks>,
        make: &impl Fn(&mut S, &BorrowedMessage<'_>) -> T,
        sender: &SyncSender<(i32, Vec<T>)>,
    ) -> anyhow::Result<()> {
        let mut batches: BTreeMap<i32, Vec<T>> = BTreeMap::new();
        let mut state = S::default();
        self.walk(topic, share, "read_committed", |message| {
            let batch = batches.entry(message.partition()).or_default();
            batch.push(make(&mut state, message));
            if batch.len() < BATCH {
                return Ok(true);
            }
            let full = std::mem::replace(batch, Vec::with_capacity(BATCH));
            // This fails only if the whole read has failed.
            Ok(sender.send((message.partition(), full)).is_ok())
        })?;
        for rest in batches {
            if sender.send(rest).is_err() {
                break;
            }
        }
        Ok(())
    }

    /// Shows the records of `share` to `take` until that says `false` or there are no more.
    fn walk(
        &self,
        topic: &str,
        share: &BTreeMap<i32, Watermarks>,
        isolation: &str,
        mut take: impl FnMut(&BorrowedMessage<'_>) -> anyhow::Result<bool>,
    ) -> anyhow::Result<()> {
        let low = |(partition, (low, _)): (&i32, &Watermarks)| (*partition, *low);
        let mut open: BTreeMap<i32, i64> = share.iter().map(low).collect();
        if open.is_empty() {
            return Ok(());
        }
        let consumer = consumer(self.settings, isolation)?;
        let mut list = TopicPartitionList::new();
        for (partition, low) in &open {
            list.add_partition_offset(topic, *partition, Offset::Offset(*low))?;
        }
        consumer.assign(&list)?;
        // Looking at the clock for each record takes a good part of the time that reading it takes.
        let mut silent_since = None;
        while !open.is_empty() {
            // Most are there already, and without a timeout none is computed.
            let polled = consumer
                .poll(Duration::ZERO)
                .or_else(|| consumer.poll(POLL));
            let message = match polled {
                Some(Ok(message)) => message,
                // Open transactions end the readable part early, control records lengthen it.
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    open.remove(&partition);
                    continue;
                }
                Some(Err(error)) if is_unreadable(&error) => {
                    let failure = unreadable(topic, &open, &error.to_string());
                    return Err(anyhow!("{failure}\n  {}", failure.entry().remedy));
                }
                Some(Err(error)) if !is_passing(&error) => {
                    return Err(with_remedy(topic, error));
                }
                _ if silent_since.get_or_insert_with(Instant::now).elapsed() > SILENCE => {
                    let failure = silence(&consumer, topic, &open, SILENCE);
                    return Err(anyhow!("{failure}\n  {}", failure.entry().remedy));
                }
                _ => continue,
            };
            silent_since = None;
            let partition = message.partition();
            let end = share.get(&partition).map_or(0, |(_, high)| *high);
            if message.offset() >= end - 1 {
                open.remove(&partition);
            } else if let Some(next) = open.get_mut(&partition) {
                *next = message.offset() + 1;
            }
            if message.offset() < end && !take(&message)? {
                return Ok(());
            }
        }
        Ok(())
    }
}

fn consumer(settings: &KafkaSettings, isolation: &str) -> anyhow::Result<Reader> {
    let own = [
        ("isolation.level", isolation),
        ("auto.offset.reset", "error"),
        ("check.crcs", "true"),
        ("queued.max.messages.kbytes", "8192"),
    ];
    Reader::new(settings, GROUP, &own).context("the Kafka client's settings")
}

fn is_unreadable(error: &KafkaError) -> bool {
    let code = error.rdkafka_error_code();
    code.map(KafkaFailure::from) == Some(KafkaFailure::Unreadable)
}

fn with_remedy(topic: &str, error: KafkaError) -> anyhow::Error {
    let failure = failure(&format!("reading topic {topic} as group {GROUP}"), error);
    anyhow!("{failure}\n  {}", failure.entry().remedy)
}

/// librdkafka recovers from these by itself.
fn is_passing(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::BrokerTransportFailure
                | RDKafkaErrorCode::AllBrokersDown
                | RDKafkaErrorCode::OperationTimedOut
                | RDKafkaErrorCode::Resolve
                | RDKafkaErrorCode::NotLeaderForPartition
                | RDKafkaErrorCode::LeaderNotAvailable
        )
    )
}

/// The value of a header.
pub fn header<'m>(message: &'m impl Message, name: &str) -> Option<&'m [u8]> {
    message
        .headers()?
        .iter()
        .find(|header| header.key == name)
        .and_then(|header| header.value)
}

/// The events file that a message is marked with.
pub(crate) fn source_of<'m>(message: &'m BorrowedMessage<'_>) -> Option<&'m [u8]> {
    header(message, SOURCE_HEADER).filter(|source| is_source(source))
}
