//! What is in the dead-letter topic.
//!
//! Promises: each entry once, however often the topic holds it; its state as a
//! `read_committed` reader sees it. Takes about 150 bytes for an entry: payloads are never kept,
//! [`Index::payloads`] reads them again, one at a time, and [`Index::in_order`] some at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ftap_kafka::{ORIGINAL_HEADERS, REDRIVEN_HEADER};
use rdkafka::message::{BorrowedMessage, Headers, Message, OwnedMessage};
use xxhash_rust::xxh3::xxh3_64;

use super::EntryId;
use crate::verify::topic::{Topics, Watermarks, header};

/// Messages in memory at a time, to be put in order.
const BYTES_IN_ORDER: u64 = 64 << 20;

/// What was rejected.
pub(crate) struct Original<'m> {
    pub key: Option<&'m [u8]>,
    pub headers: Vec<OriginalHeader<'m>>,
    pub payload: Option<&'m [u8]>,
}

/// Name and value, if it has one.
pub(crate) type OriginalHeader<'m> = (&'m str, Option<&'m [u8]>);

/// A rejected record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub id: EntryId,
    /// Partition and offset in the dead-letter topic, where it is newest.
    pub place: (i32, i64),
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
    /// Whether it was sent again.
    pub is_redriven: bool,
}

impl Entry {
    /// Whether its reason is `wanted`, or of the kind `wanted`.
    pub(crate) fn has_reason(&self, wanted: &str) -> bool {
        match self.reason.strip_prefix(wanted) {
            Some(rest) => rest.is_empty() || rest.starts_with(':'),
            None => false,
        }
    }

    /// `open` or `redriven`.
    pub(crate) fn state(&self) -> &'static str {
        if self.is_redriven { "redriven" } else { "open" }
    }
}

/// The dead-letter topic at one moment.
pub(crate) struct Index {
    topic: String,
    bounds: Vec<Watermarks>,
    pub entries: BTreeMap<EntryId, Entry>,
    /// Ids that are marked; their entries may have expired.
    pub redriven: BTreeSet<EntryId>,
    /// Records that are neither entries nor marks.
    pub foreign: u64,
}

impl Index {
    /// Reads the dead-letter topic, `None` if there is none: nothing was ever rejected.
    pub(crate) fn read(topics: &Topics<'_>, topic: &str) -> anyhow::Result<Option<Self>> {
        let Some(bounds) = topics.watermarks(topic)? else {
            return Ok(None);
        };
        let mut index = Self {
            topic: topic.to_owned(),
            bounds,
            entries: BTreeMap::new(),
            redriven: BTreeSet::new(),
            foreign: 0,
        };
        let mut reasons: BTreeSet<Arc<str>> = BTreeSet::new();
        let bounds = index.bounds.clone();
        topics.each(topic, &bounds, |message| {
            index.add(message, &mut reasons);
            Ok(())
        })?;
        for id in &index.redriven {
            if let Some(entry) = index.entries.get_mut(id) {
                entry.is_redriven = true;
            }
        }
        Ok(Some(index))
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
        let reason = String::from_utf8_lossy(reason);
        let reason = match reasons.get(reason.as_ref()) {
            Some(known) => known.clone(),
            None => {
                let new: Arc<str> = Arc::from(reason.as_ref());
                reasons.insert(new.clone());
                new
            }
        };
        let written = header(message, "timestamp_ms")
            .and_then(|value| std::str::from_utf8(value).ok()?.parse().ok());
        let entry = Entry {
            id,
            place: (message.partition(), message.offset()),
            rejected_ms: message.timestamp().to_millis().unwrap_or(-1),
            written_ms: written.unwrap_or(-1),
            reason,
            bytes: message.payload_len() as u64,
            message_bytes: bytes_of(message),
            hash: xxh3_64(message.payload().unwrap_or_default()),
            is_truncated: header(message, "truncated").is_some(),
            is_redriven: false,
        };
        // The same record rejected again after a crash: one entry.
        self.entries.insert(id, entry);
    }

    /// Reads the topic again and hands over the wanted entries by partition and offset of their records,
    /// so that two readings can be compared. The topic may have them in any order, which makes this slower
    /// than [`Index::payloads`] if there are many.
    pub(crate) fn in_order(
        &self,
        topics: &Topics<'_>,
        wanted: impl Fn(&Entry) -> bool,
        mut take: impl FnMut(&Entry, &OwnedMessage) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let mut entries = self
            .entries
            .values()
            .filter(|entry| wanted(entry))
            .peekable();
        while entries.peek().is_some() {
            let mut bytes = 0;
            let mut some: BTreeMap<EntryId, Option<OwnedMessage>> = BTreeMap::new();
            while let Some(entry) = entries
                .next_if(|entry| some.is_empty() || bytes + entry.message_bytes <= BYTES_IN_ORDER)
            {
                bytes += entry.message_bytes;
                some.insert(entry.id, None);
            }
            let ids: BTreeSet<EntryId> = some.keys().copied().collect();
            self.payloads(
                topics,
                |entry| ids.contains(&entry.id),
                |entry, message| {
                    some.insert(entry.id, Some(message.detach()));
                    Ok(())
                },
            )?;
            for (id, message) in some {
                // Retention may have taken it since.
                if let (Some(entry), Some(message)) = (self.entries.get(&id), message) {
                    take(entry, &message)?;
                }
            }
        }
        Ok(())
    }

    /// Reads the topic again and hands over the wanted entries in its order.
    pub(crate) fn payloads(
        &self,
        topics: &Topics<'_>,
        wanted: impl Fn(&Entry) -> bool,
        mut take: impl FnMut(&Entry, &BorrowedMessage<'_>) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let mut bounds: Vec<Watermarks> = vec![(0, 0); self.bounds.len()];
        for entry in self.entries.values().filter(|entry| wanted(entry)) {
            let (partition, offset) = entry.place;
            let index = usize::try_from(partition).unwrap_or(usize::MAX);
            if let Some((low, high)) = bounds.get_mut(index) {
                let is_first = low == high;
                *low = if is_first { offset } else { offset.min(*low) };
                *high = (offset + 1).max(*high);
            }
        }
        topics.each(&self.topic, &bounds, |message| {
            let place = (message.partition(), message.offset());
            match EntryId::of(message).and_then(|id| self.entries.get(&id)) {
                Some(entry) if entry.place == place && wanted(entry) => take(entry, message),
                _ => Ok(()),
            }
        })
    }
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

/// The record that was rejected.
pub(crate) fn original(message: &impl Message) -> Original<'_> {
    Original {
        key: header(message, "key"),
        headers: original_headers(message),
        payload: message.payload(),
    }
}
