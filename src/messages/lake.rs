//! Rejected records that the lake keeps (`DEAD_LETTERS=lake`).

use std::collections::BTreeMap;
use std::time::Instant;

use ftap_dashboard::{Message, Rejected, Start};
use ftap_kafka::EntryId;
use ftap_kafka::KafkaSettings;
use ftap_kafka::admin::topic_settings;
use ftap_lake::RejectedRecord;
use rdkafka::consumer::{BaseConsumer, Consumer as _};

use super::{Kept, PATIENCE, REQUEST_TIMEOUT, beginning, beginnings, is_from, is_key, read};
use crate::config::Config;
use crate::dlq::index::{Fate, SentAgain};
use crate::dlq::lake::LakeLetters;

/// How a search went.
pub(super) struct Searched {
    /// Whether there are any.
    pub is_there: bool,
    /// Whether time sufficed.
    pub is_whole: bool,
}

/// Adds those that are searched for; whether they were sent again is not known yet.
pub(super) fn search(config: &Config, kept: &mut Kept<'_>) -> anyhow::Result<Searched> {
    let deadline = Instant::now() + PATIENCE;
    let letters = LakeLetters::find(config, PATIENCE)?;
    let mut searched = Searched {
        is_there: letters.count() > 0,
        is_whole: true,
    };
    let mut objects: Vec<usize> = (0..letters.count()).collect();
    if kept.search.start == Start::Newest {
        objects.reverse();
    }
    for object in objects {
        if Instant::now() >= deadline {
            searched.is_whole = false;
            break;
        }
        letters.each(object, |id, record| {
            take(kept, &letters.key(object), id, record);
            Ok(())
        })?;
    }
    Ok(searched)
}

fn take(kept: &mut Kept<'_>, object: &str, id: EntryId, record: &RejectedRecord<'_>) {
    let key = id.to_string().into_bytes();
    let is_late = match kept.search.start {
        Start::Time(from) => record.rejected_ms >= from,
        Start::Newest | Start::Offset(_) => true,
    };
    if !is_late || !is_from(id, kept.search) || !is_key([Some(&key), record.key], kept.search) {
        return;
    }
    // The topic may have it, too; here it is whole.
    kept.messages
        .retain(|_, other| other.key.as_ref() != Some(&key));
    let headers = record.headers.iter();
    let headers = headers.map(|(name, value)| (name.as_str(), value.as_deref()));
    let message = Message {
        place: object.to_owned(),
        timestamp_ms: Some(record.rejected_ms),
        key: Some(key),
        headers: beginnings([("key", record.key)].into_iter().chain(headers)),
        payload: record.payload.map(beginning),
        payload_bytes: record.payload.map_or(0, <[u8]>::len),
        rejected: Some(Rejected {
            reason: record.reason.to_owned(),
            is_redriven: None,
        }),
    };
    kept.keep((record.rejected_ms, id.partition, id.offset), message);
}

/// Learns what was sent again from the messages that follow the records in their partitions; what these messages don't
/// tell, because they are no longer there or too many, stays unknown.
pub(super) fn look_for_sent_again(
    consumer: &BaseConsumer,
    settings: &KafkaSettings,
    kept: &mut Kept<'_>,
) -> anyhow::Result<()> {
    let topic = settings.topic.as_str();
    let mut oldest: BTreeMap<i32, i64> = BTreeMap::new();
    for id in unknown(kept) {
        let oldest = oldest.entry(id.partition).or_insert(id.offset);
        *oldest = id.offset.min(*oldest);
    }
    if oldest.is_empty() {
        return Ok(());
    }
    let mut open = BTreeMap::new();
    let mut sent = SentAgain::default();
    for (partition, oldest) in oldest {
        let (low, high) = consumer.fetch_watermarks(topic, partition, REQUEST_TIMEOUT)?;
        sent.kept_from.insert(partition, low);
        open.insert(partition, (low.max(oldest + 1), high));
    }
    let was_read = read(consumer, topic, open, |message| {
        sent.ids.extend(SentAgain::id_of(message));
        false
    })?;
    // Compaction may have removed any message.
    if !was_read || topic_settings(settings, topic)?.is_compacted {
        sent.kept_from.clear();
    }
    for message in kept.messages.values_mut() {
        let id = message.key.as_deref().and_then(id_of);
        if let (Some(rejected), Some(id)) = (&mut message.rejected, id)
            && rejected.is_redriven.is_none()
        {
            rejected.is_redriven = match sent.fate(id) {
                Fate::Redriven => Some(true),
                Fate::Open => Some(false),
                Fate::Unknown => None,
            };
        }
    }
    Ok(())
}

/// Those of which it is not known whether they were sent again.
fn unknown(kept: &Kept<'_>) -> Vec<EntryId> {
    let messages = kept.messages.values();
    let unknown = messages.filter(|message| {
        let rejected = message.rejected.as_ref();
        rejected.is_some_and(|rejected| rejected.is_redriven.is_none())
    });
    unknown
        .filter_map(|message| message.key.as_deref().and_then(id_of))
        .collect()
}

fn id_of(key: &[u8]) -> Option<EntryId> {
    std::str::from_utf8(key).ok()?.parse().ok()
}
