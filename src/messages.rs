//! Searches in Kafka for the page of messages, and sends rejected ones back.
//!
//! Promises: one at a time; a search is over after [`PATIENCE`] and a request, with at most
//! [`MAX_MESSAGES`] messages and the beginnings of their payloads in memory, reads without a group and commits
//! nothing, and sees only committed messages, as the lake does. A record is sent back by the code of
//! `ftap dlq redrive`.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use ftap_dashboard::{
    Found, MAX_MESSAGES, Message, Messages, NotSent, Place, Rejected, Search, Start,
};
use ftap_kafka::{KafkaSettings, REDRIVEN_HEADER, reader_config};
use ftap_transaction::check;
use parking_lot::Mutex;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers as _, Message as _};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::commands::dlq_redrive::{Options, redrive};
use crate::config::Config;
use crate::dlq::EntryId;
use crate::dlq::plan::{Counts, Refusals, Repaired, Wanted};
use crate::kafka_access;
use crate::verify::topic::header;

/// How long messages are read.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a broker may take to answer a request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(100);
/// What is kept of a payload, a key or a header.
const MAX_BYTES: usize = 8 << 10;
/// In quarantine half of the records may be marks of those sent again.
const MARKS: i64 = 2;

/// The topics according to the settings.
pub(crate) struct TopicMessages {
    config: Config,
    /// Each search has a client of its own with threads and buffers.
    one_at_a_time: Mutex<()>,
}

impl TopicMessages {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            config: config.clone(),
            one_at_a_time: Mutex::default(),
        }
    }
}

impl Messages for TopicMessages {
    fn search(&self, search: &Search) -> Result<Found, Box<dyn Error + Send + Sync>> {
        let _alone = self.one_at_a_time.lock();
        // All of the chain, which the page prints as one line.
        find(&self.config, search).map_err(|error| format!("{error:#}").into())
    }

    fn send_again(&self, id: &str, payload: Vec<u8>) -> Result<(), NotSent> {
        let id: EntryId = id.parse().map_err(NotSent::Refused)?;
        check(Some(&payload), self.config.max_message_bytes).map_err(|reason| {
            NotSent::Refused(format!("{id}: would be rejected again: {reason}"))
        })?;
        let _alone = self.one_at_a_time.lock();
        let repaired = Repaired {
            line: 0,
            payload: Some(payload),
        };
        let wanted = Wanted::Repaired(BTreeMap::from([(id, repaired)]));
        let mut counts = Counts::default();
        settings(&self.config)
            .and_then(|settings| {
                let options = Options::default();
                redrive(&self.config, &settings, &wanted, options, &mut counts)
            })
            .map_err(|error| match error.downcast::<Refusals>() {
                Ok(refusals) => NotSent::Refused(refusals.reasons()),
                Err(other) => NotSent::Failed(format!("{other:#}").into()),
            })?;
        match counts {
            Counts { redriven: 1, .. } => Ok(()),
            Counts {
                rows_of_the_lake: 1,
                ..
            } => Err(NotSent::Done(format!("{id} is a row of the lake already"))),
            _ => Err(NotSent::Done(format!("{id} was sent again before"))),
        }
    }
}

/// How the topics are reached; a broker is not started for that.
fn settings(config: &Config) -> anyhow::Result<KafkaSettings> {
    let bootstrap = config.kafka_broker.clone();
    let bootstrap = bootstrap.or_else(|| kafka_access::running_embedded(config));
    let bootstrap = bootstrap.ok_or_else(|| {
        anyhow!("no broker is served from DATA_DIR: start `ftap run`, or set KAFKA_BROKER")
    })?;
    Ok(config.kafka_settings(&bootstrap))
}

fn find(config: &Config, search: &Search) -> anyhow::Result<Found> {
    let settings = settings(config)?;
    let bootstrap = settings.bootstrap_servers.clone();
    let topic = match search.place {
        Place::Topic => settings.topic.clone(),
        Place::Quarantine => settings.dead_letter_topic.clone(),
    };
    let own = [
        ("auto.offset.reset", "earliest"),
        ("queued.max.messages.kbytes", "4096"),
    ];
    let client = reader_config(&settings, "ftap-tap", &own);
    let consumer: BaseConsumer = client.create().context("the Kafka client can't be made")?;
    let mut found = Found {
        topic,
        ..Found::default()
    };
    let Some(partitions) = partitions(&consumer, &found.topic, &bootstrap)? else {
        return Ok(found);
    };
    found.is_there = true;
    let wanted = partitions.into_iter();
    // In quarantine the partition is that of the record's origin.
    let wanted = wanted.filter(|partition| {
        search.place == Place::Quarantine || search.partition.is_none_or(|only| only == *partition)
    });
    let wanted: Vec<_> = wanted.collect();
    let mut open = starts(&consumer, &found.topic, search, &wanted)?;
    open.retain(|_, (start, end)| start < end);
    let mut kept = Kept::new(search);
    found.is_incomplete = !read(&consumer, &found.topic, open, &mut kept)?;
    found.messages = kept.messages();
    Ok(found)
}

/// The partitions of a topic; `None` if there is none.
fn partitions(
    consumer: &BaseConsumer,
    topic: &str,
    bootstrap: &str,
) -> anyhow::Result<Option<Vec<i32>>> {
    let metadata = consumer
        .fetch_metadata(Some(topic), REQUEST_TIMEOUT)
        .with_context(|| {
            format!(
                "Kafka at {bootstrap} does not answer: check KAFKA_BROKER and that the broker runs"
            )
        })?;
    let known = metadata.topics().iter().find(|known| known.name() == topic);
    let Some(known) = known else {
        return Ok(None);
    };
    match known.error().map(RDKafkaErrorCode::from) {
        None => {}
        Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => {
            return Ok(None);
        }
        Some(code) => return Err(anyhow!("topic {topic} can't be read: {code}")),
    }
    let partitions = known.partitions().iter().map(|partition| partition.id());
    Ok(Some(partitions.collect()))
}

/// From where to where each partition is read.
fn starts(
    consumer: &BaseConsumer,
    topic: &str,
    search: &Search,
    partitions: &[i32],
) -> anyhow::Result<BTreeMap<i32, (i64, i64)>> {
    let by_time = match search.start {
        Start::Time(time) => {
            let mut times = TopicPartitionList::new();
            for partition in partitions {
                times.add_partition_offset(topic, *partition, Offset::Offset(time))?;
            }
            let offsets = consumer
                .offsets_for_times(times, REQUEST_TIMEOUT)
                .with_context(|| format!("topic {topic}: the offsets of a time"))?;
            Some(offsets)
        }
        Start::Newest | Start::Offset(_) => None,
    };
    let mut starts = BTreeMap::new();
    for partition in partitions {
        let (low, high) = consumer
            .fetch_watermarks(topic, *partition, REQUEST_TIMEOUT)
            .with_context(|| format!("topic {topic} partition {partition}: its offsets"))?;
        let newest = MAX_MESSAGES as i64 * MARKS;
        let start = match search.start {
            // In quarantine an offset is one of the topic.
            Start::Offset(offset) if search.place == Place::Topic => offset,
            Start::Offset(_) => low,
            // Those with a key may be anywhere.
            Start::Newest
                if search.key.is_some()
                    || search.partition.is_some() && search.place == Place::Quarantine =>
            {
                low
            }
            Start::Newest => high.saturating_sub(newest),
            Start::Time(_) => {
                let offset = by_time
                    .as_ref()
                    .and_then(|offsets| offsets.find_partition(topic, *partition));
                match offset.map(|found| found.offset()) {
                    Some(Offset::Offset(offset)) => offset,
                    _ => high,
                }
            }
        };
        starts.insert(*partition, (start.clamp(low, high), high));
    }
    Ok(starts)
}

/// Reads until every partition is at its end or has given enough, or time is up; whether that was in time.
fn read(
    consumer: &BaseConsumer,
    topic: &str,
    mut open: BTreeMap<i32, (i64, i64)>,
    kept: &mut Kept<'_>,
) -> anyhow::Result<bool> {
    if open.is_empty() {
        return Ok(true);
    }
    let mut list = TopicPartitionList::new();
    for (partition, (start, _)) in &open {
        list.add_partition_offset(topic, *partition, Offset::Offset(*start))?;
    }
    consumer.assign(&list)?;
    let deadline = Instant::now() + PATIENCE;
    let mut has_come = false;
    let mut trouble = None;
    while !open.is_empty() {
        if Instant::now() >= deadline {
            return match trouble {
                Some(error) if !has_come => {
                    Err(error).context(format!("topic {topic} can't be read"))
                }
                _ => Ok(false),
            };
        }
        match consumer.poll(POLL) {
            Some(Ok(message)) => {
                has_come = true;
                let partition = message.partition();
                let Some((_, end)) = open.get(&partition) else {
                    continue;
                };
                let is_last = message.offset() >= end - 1;
                if message.offset() < *end {
                    kept.take(&message);
                }
                if is_last || kept.has_enough_of(partition) {
                    open.remove(&partition);
                }
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                open.remove(&partition);
            }
            Some(Err(error)) => trouble = Some(error),
            None => {}
        }
    }
    Ok(true)
}

/// The messages found so far, the best of them in the order of their times.
struct Kept<'a> {
    search: &'a Search,
    messages: BTreeMap<(i64, i32, i64), Message>,
    /// How many each partition gave.
    counts: BTreeMap<i32, usize>,
    /// Keys that were sent again.
    redriven: BTreeSet<Vec<u8>>,
}

impl<'a> Kept<'a> {
    fn new(search: &'a Search) -> Self {
        Self {
            search,
            messages: BTreeMap::new(),
            counts: BTreeMap::new(),
            redriven: BTreeSet::new(),
        }
    }

    fn take(&mut self, message: &BorrowedMessage<'_>) {
        let search = self.search;
        let is_key = search
            .key
            .as_deref()
            .is_none_or(|key| message.key() == Some(key));
        if !is_key || (search.place == Place::Quarantine && !is_from(message, search)) {
            return;
        }
        let rejected = match search.place {
            Place::Topic => None,
            Place::Quarantine => {
                if header(message, REDRIVEN_HEADER).is_some() {
                    self.redriven.extend(message.key().map(<[u8]>::to_vec));
                    return;
                }
                let reason = header(message, "reason").unwrap_or(b"no reason is known");
                Some(Rejected {
                    reason: String::from_utf8_lossy(reason).into_owned(),
                    is_redriven: false,
                })
            }
        };
        let timestamp_ms = message.timestamp().to_millis();
        let place = (
            timestamp_ms.unwrap_or(-1),
            message.partition(),
            message.offset(),
        );
        let payload = message.payload();
        let headers = message.headers().into_iter().flat_map(|all| all.iter());
        let kept = Message {
            partition: message.partition(),
            offset: message.offset(),
            timestamp_ms,
            key: message.key().map(beginning),
            headers: headers
                .take(20)
                .map(|header| (header.key.to_owned(), header.value.map(beginning)))
                .collect(),
            payload: payload.map(beginning),
            payload_bytes: payload.map_or(0, <[u8]>::len),
            rejected,
        };
        self.messages.insert(place, kept);
        *self.counts.entry(message.partition()).or_default() += 1;
        if self.messages.len() > MAX_MESSAGES {
            match self.search.start {
                Start::Newest => self.messages.pop_first(),
                Start::Offset(_) | Start::Time(_) => self.messages.pop_last(),
            };
        }
    }

    /// Later messages of a partition are later in time, too, so that they would be too many. In quarantine there may
    /// be marks among them.
    fn has_enough_of(&self, partition: i32) -> bool {
        self.search.place == Place::Topic
            && self.search.start != Start::Newest
            && self
                .counts
                .get(&partition)
                .is_some_and(|count| *count >= MAX_MESSAGES)
    }

    fn messages(self) -> Vec<Message> {
        let Self {
            search,
            messages,
            redriven,
            ..
        } = self;
        let mut messages: Vec<_> = messages.into_values().collect();
        for message in &mut messages {
            if let (Some(rejected), Some(key)) = (&mut message.rejected, &message.key) {
                rejected.is_redriven = redriven.contains(key);
            }
        }
        if search.start == Start::Newest {
            messages.reverse();
        }
        messages
    }
}

/// Whether a record of the quarantine came from the partition, and from the offset on, that are searched.
fn is_from(message: &BorrowedMessage<'_>, search: &Search) -> bool {
    let origin = crate::dlq::EntryId::of(message);
    let partition = search
        .partition
        .is_none_or(|only| origin.is_some_and(|id| id.partition == only));
    let offset = match search.start {
        Start::Offset(from) => origin.is_some_and(|id| id.offset >= from),
        Start::Newest | Start::Time(_) => true,
    };
    partition && offset
}

fn beginning(bytes: &[u8]) -> Vec<u8> {
    bytes[..bytes.len().min(MAX_BYTES)].to_vec()
}
