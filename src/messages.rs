//! Searches in Kafka, and in what the lake keeps of rejected records, for the page of messages; sends rejected
//! ones back.
//!
//! Promises: one at a time; a search is over after a few times [`PATIENCE`], with at most
//! [`MAX_MESSAGES`] messages and the beginnings of their payloads in memory, reads without a group and commits
//! nothing, and sees only committed messages, as the lake does. A record is sent back by the code of
//! `ftap dlq redrive`.

mod lake;

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use ftap_dashboard::{
    Found, MAX_MESSAGES, Message, Messages, NotSent, Place, Rejected, Search, Start,
};
use ftap_kafka::DeadLetterPlace;
use ftap_kafka::EntryId;
use ftap_kafka::{KafkaSettings, REDRIVEN_HEADER, Reader};
use ftap_transaction::check;
use ftap_verify::topics::header;
use parking_lot::Mutex;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers as _, Message as _};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::commands::dlq_redrive::{Options, redrive};
use crate::config::Config;
use crate::dlq::plan::{Counts, Refusals, Repaired, Wanted};
use crate::kafka_access;

/// How long each place is read.
const PATIENCE: Duration = Duration::from_secs(5);
/// What a search says that had no more time.
const TIME_IS_UP: &str = "Time was up before all of it was searched: name a partition, an offset or a time to begin with.";
/// How long a broker may take to answer a request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(100);
/// What is kept of a payload, a key or a header.
const MAX_BYTES: usize = 8 << 10;
const MAX_HEADERS: usize = 20;
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
    let consumer = Reader::new(&settings, "ftap-tap", &own);
    let consumer = consumer.context("the Kafka client can't be made")?;
    let mut found = Found {
        places: format!("topic {topic}"),
        ..Found::default()
    };
    let mut kept = Kept::new(search);
    // With DEAD_LETTERS=lake this account may have no rights on that topic.
    let is_none = |code| {
        search.place == Place::Quarantine
            && config.dead_letters == DeadLetterPlace::Lake
            && code == RDKafkaErrorCode::TopicAuthorizationFailed
    };
    if let Some(partitions) = partitions(&consumer, &topic, &bootstrap, is_none)? {
        found.is_there = true;
        let wanted = partitions.into_iter();
        // In quarantine the partition is that of the record's origin.
        let wanted = wanted.filter(|partition| {
            search.place == Place::Quarantine
                || search.partition.is_none_or(|only| only == *partition)
        });
        let wanted: Vec<_> = wanted.collect();
        let open = starts(&consumer, &topic, search, &wanted)?;
        let take = |message: &BorrowedMessage<'_>| kept.take(message);
        if !read(&consumer, &topic, open, take)? {
            found.gaps.push(TIME_IS_UP.to_owned());
        }
    }
    if search.place == Place::Quarantine {
        found.places += " and in the lake";
        match lake::search(config, &mut kept) {
            Ok(searched) => {
                found.is_there |= searched.is_there;
                if !searched.is_whole {
                    found.gaps.push(TIME_IS_UP.to_owned());
                }
            }
            Err(error) => found.gaps.push(format!(
                "What the lake keeps of rejected messages is not among them: {error:#}"
            )),
        }
        lake::look_for_sent_again(&consumer, &settings, &mut kept)?;
    }
    found.messages = kept.messages();
    Ok(found)
}

/// The partitions of a topic; `None` if there is none.
fn partitions(
    consumer: &BaseConsumer,
    topic: &str,
    bootstrap: &str,
    is_none: impl Fn(RDKafkaErrorCode) -> bool,
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
        Some(code) if is_none(code) => return Ok(None),
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

/// Shows messages to `take` until every partition is at its end or has given enough, as `take` says, or time is up;
/// whether that was in time.
fn read(
    consumer: &BaseConsumer,
    topic: &str,
    mut open: BTreeMap<i32, (i64, i64)>,
    mut take: impl FnMut(&BorrowedMessage<'_>) -> bool,
) -> anyhow::Result<bool> {
    open.retain(|_, (start, end)| start < end);
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
                let is_enough = message.offset() < *end && take(&message);
                if is_last || is_enough {
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

/// When a message was written, in Unix milliseconds or -1, and where it is from.
type Order = (i64, i32, i64);

/// The messages found so far, the best of them in the order of their times.
struct Kept<'a> {
    search: &'a Search,
    messages: BTreeMap<Order, Message>,
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

    /// Takes a message if it is searched for; whether its partition has given enough.
    fn take(&mut self, message: &BorrowedMessage<'_>) -> bool {
        let search = self.search;
        let is_searched = match search.place {
            Place::Topic => true,
            Place::Quarantine => EntryId::of(message).map_or_else(
                || search.partition.is_none() && !matches!(search.start, Start::Offset(_)),
                |id| is_from(id, search),
            ),
        };
        if !is_searched {
            return false;
        }
        let own_key = match search.place {
            Place::Topic => None,
            Place::Quarantine => {
                // A mark has the id, and not the record's own key.
                if header(message, REDRIVEN_HEADER).is_some() {
                    self.redriven.extend(message.key().map(<[u8]>::to_vec));
                    return false;
                }
                header(message, "key")
            }
        };
        if !is_key([message.key(), own_key], search) {
            return false;
        }
        let rejected = match search.place {
            Place::Topic => None,
            Place::Quarantine => {
                let reason = header(message, "reason").unwrap_or(b"no reason is known");
                Some(Rejected {
                    reason: String::from_utf8_lossy(reason).into_owned(),
                    is_redriven: Some(false),
                })
            }
        };
        let (partition, offset) = (message.partition(), message.offset());
        let mut place = format!("partition {partition}, offset {offset}");
        if rejected.is_some() {
            place = format!("{place} of {}", message.topic());
        }
        let timestamp_ms = message.timestamp().to_millis();
        let payload = message.payload();
        let headers = message.headers().into_iter().flat_map(|all| all.iter());
        let headers = headers.map(|header| (header.key, header.value));
        let kept = Message {
            place,
            timestamp_ms,
            key: message.key().map(beginning),
            headers: beginnings(headers),
            payload: payload.map(beginning),
            payload_bytes: payload.map_or(0, <[u8]>::len),
            rejected,
        };
        self.keep((timestamp_ms.unwrap_or(-1), partition, offset), kept);
        let count = self.counts.entry(partition).or_default();
        *count += 1;
        // Later messages of a partition are later in time, too, so that they would be too many. In quarantine there
        // may be marks among them.
        search.place == Place::Topic && search.start != Start::Newest && *count >= MAX_MESSAGES
    }

    fn keep(&mut self, order: Order, message: Message) {
        self.messages.insert(order, message);
        if self.messages.len() > MAX_MESSAGES {
            match self.search.start {
                Start::Newest => self.messages.pop_first(),
                Start::Offset(_) | Start::Time(_) => self.messages.pop_last(),
            };
        }
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
            if let (Some(rejected), Some(key)) = (&mut message.rejected, &message.key)
                && redriven.contains(key)
            {
                rejected.is_redriven = Some(true);
            }
        }
        if search.start == Start::Newest {
            messages.reverse();
        }
        messages
    }
}

/// Whether one of a message's keys, in quarantine its id and the record's own, is searched for.
fn is_key(keys: [Option<&[u8]>; 2], search: &Search) -> bool {
    let wanted = search.key.as_deref();
    wanted.is_none_or(|wanted| keys.contains(&Some(wanted)))
}

/// Whether a rejected record is from the partition, and from the offset on, that are searched.
fn is_from(id: EntryId, search: &Search) -> bool {
    let from = match search.start {
        Start::Offset(from) => from,
        Start::Newest | Start::Time(_) => 0,
    };
    search.partition.is_none_or(|only| id.partition == only) && id.offset >= from
}

fn beginning(bytes: &[u8]) -> Vec<u8> {
    bytes[..bytes.len().min(MAX_BYTES)].to_vec()
}

/// The same of headers.
fn beginnings<'h>(
    headers: impl Iterator<Item = (&'h str, Option<&'h [u8]>)>,
) -> Vec<(String, Option<Vec<u8>>)> {
    let headers = headers.take(MAX_HEADERS);
    let headers = headers.map(|(name, value)| (name.to_owned(), value.map(beginning)));
    headers.collect()
}
