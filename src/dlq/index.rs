//! What was rejected: in the dead-letter topic, and in the lake.
//!
//! Promises: each entry once, however often and wherever it is kept; its state as a
//! `read_committed` reader sees it. Takes about 150 bytes for an entry: payloads are never kept,
//! [`Index::payloads`] reads them again, one at a time, and [`Index::in_order`] some at a time.
//!
//! An entry of the topic that was redriven has a mark there. One of the lake has none: the message that
//! was sent in its place says so itself, by its header, and follows the record in its partition. Where
//! the topic has lost what followed, that is not known.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use ftap_kafka::EntryId;
use ftap_kafka::admin::topic_settings;
use ftap_kafka::{KafkaSettings, ORIGINAL_HEADERS, REDRIVE_HEADER, REDRIVEN_HEADER};
use ftap_lake::{Header, RejectedRecord};
use ftap_verify::topics::{Topics, Watermarks, header};
use rdkafka::message::{BorrowedMessage, Headers, Message};
use xxhash_rust::xxh3::xxh3_64;

use super::lake::LakeLetters;
use crate::config::Config;

/// Messages in memory at a time, to be put in order.
const BYTES_IN_ORDER: u64 = 64 << 20;

/// What was rejected.
pub(crate) struct Original<'m> {
    pub key: Option<&'m [u8]>,
    pub headers: Vec<OriginalHeader<'m>>,
    pub payload: Option<&'m [u8]>,
}

impl Original<'_> {
    fn kept(&self) -> Kept {
        let headers = self.headers.iter();
        let header =
            |(name, value): &OriginalHeader<'_>| ((*name).to_owned(), value.map(<[u8]>::to_vec));
        Kept {
            key: self.key.map(<[u8]>::to_vec),
            headers: headers.map(header).collect(),
            payload: self.payload.map(<[u8]>::to_vec),
        }
    }
}

/// The same in memory of its own.
struct Kept {
    key: Option<Vec<u8>>,
    headers: Vec<Header>,
    payload: Option<Vec<u8>>,
}

impl Kept {
    fn original(&self) -> Original<'_> {
        Original {
            key: self.key.as_deref(),
            headers: borrowed(&self.headers),
            payload: self.payload.as_deref(),
        }
    }
}

fn borrowed(headers: &[Header]) -> Vec<OriginalHeader<'_>> {
    let headers = headers.iter();
    let headers = headers.map(|(name, value)| (name.as_str(), value.as_deref()));
    headers.collect()
}

/// Name and value, if it has one.
pub(crate) type OriginalHeader<'m> = (&'m str, Option<&'m [u8]>);

/// Where an entry is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// In the dead-letter topic, where it is newest.
    Topic { partition: i32, offset: i64 },
    /// In the lake, in the object of this number. It is whole there, also if the topic has it, too.
    Lake { object: usize },
}

/// What happened to an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Open,
    /// It was sent again.
    Redriven,
    /// It is in the lake, and the topic no longer has all that followed the record.
    Unknown,
}

impl Fate {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Redriven => "redriven",
            Self::Unknown => "unknown",
        }
    }
}

/// A rejected record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub id: EntryId,
    pub place: Place,
    /// When it was rejected, in Unix milliseconds.
    pub rejected_ms: i64,
    /// The record's own timestamp, in Unix milliseconds; -1 if that is not known.
    pub written_ms: i64,
    /// Code of the reason; written by anybody, so not to be shown as it is.
    pub reason: Arc<str>,
    /// Size of the payload that is kept.
    pub bytes: u64,
    /// Size of its message: payload and headers.
    pub message_bytes: u64,
    pub hash: u64,
    /// Whether that is only the beginning of the payload.
    pub is_truncated: bool,
    pub fate: Fate,
}

impl Entry {
    /// Whether its reason is `wanted`, or of the kind `wanted`.
    pub(crate) fn has_reason(&self, wanted: &str) -> bool {
        match self.reason.strip_prefix(wanted) {
            Some(rest) => rest.is_empty() || rest.starts_with(':'),
            None => false,
        }
    }

    pub(crate) fn is_redriven(&self) -> bool {
        self.fate == Fate::Redriven
    }
}

/// Which messages of the topic must be seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sight {
    /// Those that are visible now.
    Now,
    /// All that are there now: what an open transaction hides is waited for.
    Whole,
}

/// What was rejected, at one moment.
pub(crate) struct Index<'a> {
    topics: &'a Topics<'a>,
    topic: String,
    /// Of the dead-letter topic, `None` if there is none.
    bounds: Option<Vec<Watermarks>>,
    lake: LakeLetters,
    pub entries: BTreeMap<EntryId, Entry>,
    /// Ids of entries that were redriven; they may have expired themselves.
    pub redriven: BTreeSet<EntryId>,
    /// Records of the dead-letter topic that are neither entries nor marks.
    pub foreign: u64,
}

impl<'a> Index<'a> {
    /// Reads both places.
    pub(crate) fn read(
        config: &Config,
        settings: &KafkaSettings,
        topics: &'a Topics<'a>,
        sight: Sight,
    ) -> anyhow::Result<Self> {
        // The lake first: what is redriven meanwhile has its message in the topic when that is read.
        let lake = LakeLetters::find(config, Duration::MAX)?;
        let mut index = Self {
            topics,
            topic: settings.dead_letter_topic.clone(),
            bounds: topics.dead_letters(config.dead_letters)?,
            lake,
            entries: BTreeMap::new(),
            redriven: BTreeSet::new(),
            foreign: 0,
        };
        let mut reasons: BTreeSet<Arc<str>> = BTreeSet::new();
        if let Some(bounds) = index.bounds.clone() {
            topics.each(&settings.dead_letter_topic, &bounds, |message| {
                index.add(message, &mut reasons);
                Ok(())
            })?;
        }
        for object in 0..index.lake.count() {
            let entries = &mut index.entries;
            index.lake.each(object, |id, record| {
                let entry = of_lake(id, object, record, &mut reasons);
                entries.insert(id, entry);
                Ok(())
            })?;
        }
        let sent = index.sent_again(settings, sight)?;
        index.redriven.extend(sent.ids.iter().copied());
        for (id, entry) in &mut index.entries {
            entry.fate = match entry.place {
                _ if index.redriven.contains(id) => Fate::Redriven,
                Place::Topic { .. } => Fate::Open,
                Place::Lake { .. } => sent.fate(*id),
            };
        }
        Ok(index)
    }

    /// The messages that were sent in the place of entries of the lake.
    fn sent_again(&self, settings: &KafkaSettings, sight: Sight) -> anyhow::Result<SentAgain> {
        let mut sent = SentAgain::default();
        let in_lake = self.entries.values();
        let in_lake = in_lake.filter(|entry| matches!(entry.place, Place::Lake { .. }));
        let mut after: BTreeMap<i32, i64> = BTreeMap::new();
        for EntryId { partition, offset } in in_lake.map(|entry| entry.id) {
            // They ascend.
            after.entry(partition).or_insert(offset + 1);
        }
        if after.is_empty() {
            return Ok(sent);
        }
        let topic = settings.topic.as_str();
        let bounds = match sight {
            Sight::Now => self.topics.watermarks(topic)?,
            Sight::Whole => self.topics.watermarks_of_all(topic)?,
        };
        // Compaction may have removed any message.
        if topic_settings(settings, topic)?.is_compacted {
            return Ok(sent);
        }
        let mut bounds = bounds.unwrap_or_default();
        for (partition, (low, high)) in (0..).zip(&mut bounds) {
            sent.kept_from.insert(partition, *low);
            *low = after.get(&partition).map_or(*high, |after| *after.max(low));
        }
        let ids = &mut sent.ids;
        self.topics.read(
            topic,
            &bounds,
            |(), message| SentAgain::id_of(message),
            |_, found| {
                ids.extend(found.into_iter().flatten());
                Ok(())
            },
        )?;
        Ok(sent)
    }

    /// Whether neither place was ever used, as far as these settings lead to them.
    pub(crate) fn is_nothing(&self) -> bool {
        self.bounds.is_none() && self.lake.count() == 0
    }

    /// What to say then.
    pub(crate) fn nothing(&self) -> String {
        format!(
            "no dead letters were found: there is no topic {}, and the lake has none\n  if rejected records were written to another topic, set KAFKA_DEAD_LETTER_TOPIC to that; `ftap verify` finds records that were rejected and are not there",
            self.topic
        )
    }

    /// Where rejected records were looked for.
    pub(crate) fn places(&self) -> String {
        match (&self.bounds, self.lake.count()) {
            (Some(_), 0) => self.topic.clone(),
            (Some(_), _) => format!("{} and the lake", self.topic),
            (None, _) => "the lake".to_owned(),
        }
    }

    fn add(&mut self, message: &BorrowedMessage<'_>, reasons: &mut BTreeSet<Arc<str>>) {
        let Some(id) = EntryId::of(message) else {
            self.foreign += 1;
            return;
        };
        if header(message, REDRIVEN_HEADER).is_some() {
            self.redriven.insert(id);
            return;
        }
        let Some(reason) = header(message, "reason") else {
            self.foreign += 1;
            return;
        };
        let reason = shared(&String::from_utf8_lossy(reason), reasons);
        let written = header(message, "timestamp_ms")
            .and_then(|value| std::str::from_utf8(value).ok()?.parse().ok());
        let entry = Entry {
            id,
            place: Place::Topic {
                partition: message.partition(),
                offset: message.offset(),
            },
            rejected_ms: message.timestamp().to_millis().unwrap_or(-1),
            written_ms: written.unwrap_or(-1),
            reason,
            bytes: message.payload_len() as u64,
            message_bytes: bytes_of(message),
            hash: xxh3_64(message.payload().unwrap_or_default()),
            is_truncated: header(message, "truncated").is_some(),
            fate: Fate::Open,
        };
        // The same record rejected again after a crash: one entry.
        self.entries.insert(id, entry);
    }

    /// Reads both places again and hands over the wanted entries by partition and offset of their
    /// records, so that two readings can be compared. The topic may have them in any order, which makes
    /// this slower than [`Index::payloads`] if there are many.
    pub(crate) fn in_order(
        &self,
        wanted: impl Fn(&Entry) -> bool,
        mut take: impl FnMut(&Entry, &Original<'_>) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let mut entries = self
            .entries
            .values()
            .filter(|entry| wanted(entry))
            .peekable();
        while entries.peek().is_some() {
            let mut bytes = 0;
            let mut some: BTreeMap<EntryId, Option<Kept>> = BTreeMap::new();
            while let Some(entry) = entries
                .next_if(|entry| some.is_empty() || bytes + entry.message_bytes <= BYTES_IN_ORDER)
            {
                bytes += entry.message_bytes;
                some.insert(entry.id, None);
            }
            let ids: BTreeSet<EntryId> = some.keys().copied().collect();
            self.payloads(
                |entry| ids.contains(&entry.id),
                |entry, original| {
                    some.insert(entry.id, Some(original.kept()));
                    Ok(())
                },
            )?;
            for (id, kept) in some {
                // Retention may have taken it since.
                if let (Some(entry), Some(kept)) = (self.entries.get(&id), kept) {
                    take(entry, &kept.original())?;
                }
            }
        }
        Ok(())
    }

    /// Reads both places again and hands over the wanted entries in their order.
    pub(crate) fn payloads(
        &self,
        wanted: impl Fn(&Entry) -> bool,
        mut take: impl FnMut(&Entry, &Original<'_>) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let partitions = self.bounds.as_ref().map_or(0, Vec::len);
        let mut bounds: Vec<Watermarks> = vec![(0, 0); partitions];
        let mut objects = BTreeSet::new();
        for entry in self.entries.values().filter(|entry| wanted(entry)) {
            let (partition, offset) = match entry.place {
                Place::Topic { partition, offset } => (partition, offset),
                Place::Lake { object } => {
                    objects.insert(object);
                    continue;
                }
            };
            let index = usize::try_from(partition).unwrap_or(usize::MAX);
            if let Some((low, high)) = bounds.get_mut(index) {
                let is_first = low == high;
                *low = if is_first { offset } else { offset.min(*low) };
                *high = (offset + 1).max(*high);
            }
        }
        let entry_at = |id: &EntryId, place: Place| {
            let entry = self.entries.get(id);
            entry.filter(|entry| entry.place == place && wanted(entry))
        };
        self.topics.each(&self.topic, &bounds, |message| {
            let place = Place::Topic {
                partition: message.partition(),
                offset: message.offset(),
            };
            match EntryId::of(message).and_then(|id| entry_at(&id, place)) {
                Some(entry) => take(entry, &original(message)),
                None => Ok(()),
            }
        })?;
        for object in objects {
            self.lake.each(object, |id, record| {
                match entry_at(&id, Place::Lake { object }) {
                    Some(entry) => take(entry, &original_of(record)),
                    None => Ok(()),
                }
            })?;
        }
        Ok(())
    }
}

/// What the topic says of the entries that the lake keeps.
#[derive(Default)]
pub(crate) struct SentAgain {
    /// By partition, the oldest offset that the topic has; of a topic that may have lost any message, none.
    pub kept_from: BTreeMap<i32, i64>,
    pub ids: BTreeSet<EntryId>,
}

impl SentAgain {
    /// Of an entry of the lake.
    pub(crate) fn fate(&self, id: EntryId) -> Fate {
        let kept_from = self.kept_from.get(&id.partition);
        if self.ids.contains(&id) {
            Fate::Redriven
        } else if kept_from.is_some_and(|from| *from <= id.offset + 1) {
            Fate::Open
        } else {
            Fate::Unknown
        }
    }

    /// The entry in whose place a message was sent.
    pub(crate) fn id_of(message: &impl Message) -> Option<EntryId> {
        let id = std::str::from_utf8(header(message, REDRIVE_HEADER)?);
        id.ok()?.parse().ok()
    }
}

fn of_lake(
    id: EntryId,
    object: usize,
    record: &RejectedRecord<'_>,
    reasons: &mut BTreeSet<Arc<str>>,
) -> Entry {
    let headers = record.headers.iter();
    let headers = headers.map(|(name, value)| name.len() + value.as_ref().map_or(0, Vec::len));
    let bytes = record.payload.map_or(0, <[u8]>::len);
    Entry {
        id,
        place: Place::Lake { object },
        rejected_ms: record.rejected_ms,
        written_ms: record.timestamp_ms,
        reason: shared(record.reason, reasons),
        bytes: bytes as u64,
        message_bytes: (bytes + headers.sum::<usize>()) as u64,
        hash: xxh3_64(record.payload.unwrap_or_default()),
        is_truncated: false,
        fate: Fate::Open,
    }
}

/// One text for all entries of a reason.
fn shared(reason: &str, reasons: &mut BTreeSet<Arc<str>>) -> Arc<str> {
    if let Some(known) = reasons.get(reason) {
        return known.clone();
    }
    let new: Arc<str> = Arc::from(reason);
    reasons.insert(new.clone());
    new
}

fn bytes_of(message: &impl Message) -> u64 {
    let headers = message.headers().into_iter().flat_map(|all| all.iter());
    let headers = headers.map(|header| header.key.len() + header.value.map_or(0, <[u8]>::len));
    (message.payload().map_or(0, <[u8]>::len) + headers.sum::<usize>()) as u64
}

/// The headers of the record that was rejected: the last ones.
fn original_headers(message: &impl Message) -> Vec<OriginalHeader<'_>> {
    let count = header(message, ORIGINAL_HEADERS)
        .and_then(|count| std::str::from_utf8(count).ok()?.parse().ok())
        .unwrap_or(0);
    let headers = message.headers().into_iter().flat_map(|all| all.iter());
    let mut headers: Vec<_> = headers.map(|header| (header.key, header.value)).collect();
    headers.split_off(headers.len().saturating_sub(count))
}

fn original_of<'r>(record: &RejectedRecord<'r>) -> Original<'r> {
    Original {
        key: record.key,
        headers: borrowed(record.headers),
        payload: record.payload,
    }
}

/// The record that was rejected.
fn original(message: &impl Message) -> Original<'_> {
    Original {
        key: header(message, "key"),
        headers: original_headers(message),
        payload: message.payload(),
    }
}
