//! What the accounts need of the messages of a topic.

use std::sync::mpsc::Sender;

use ftap_kafka::{EntryId, REDRIVE_HEADER, REDRIVEN_HEADER, ROW_HEADER};
use rdkafka::message::{BorrowedMessage, Message};

use crate::content::{self, Hasher, lake_timestamp};
use crate::items::{DeadLetter, TOO_LARGE, TopicRecord};
use crate::ledger::with_timestamp;
use crate::redrives::Marker;
use crate::topics::{Watermarks, header, source_of};

/// Makes records of messages; one for each thread.
#[derive(Default)]
pub(crate) struct Parser {
    hasher: Hasher,
    last_source: Vec<u8>,
}

impl Parser {
    /// What the accounts need of a message. A new value of the header `source` is sent on.
    pub(crate) fn record(
        &mut self,
        message: &BorrowedMessage<'_>,
        max_message_bytes: usize,
        sources: &Sender<String>,
    ) -> TopicRecord {
        // librdkafka reads them again for each question, and most records have none.
        let marked = message.headers().map(|_| message);
        let source = marked.and_then(source_of);
        if let Some(source) = source
            && self.last_source != source
        {
            self.last_source = source.to_vec();
            // The receiver outlives all readers.
            let _ = sources.send(String::from_utf8_lossy(source).into_owned());
        }
        let payload = message.payload();
        let (content, unsound) = match content::of_message(payload.unwrap_or_default()) {
            Some(content) if content.is_sound() => (Some(self.hasher.content(&content)), None),
            other => (None, other.map(|content| self.hasher.content(&content))),
        };
        let too_large = message.payload_len() > max_message_bytes;
        let raw = if content.is_none() || too_large {
            content::raw_hash(payload)
        } else {
            0
        };
        TopicRecord {
            offset: message.offset(),
            timestamp_ms: lake_timestamp(message.timestamp().to_millis().unwrap_or(-1)),
            row: source.and_then(|_| number(message, ROW_HEADER)),
            redrive: marked.and_then(|message| number(message, REDRIVE_HEADER)),
            content,
            unsound,
            raw,
            too_large,
        }
    }
}

/// A record of the dead-letter topic.
pub(crate) enum Letter {
    /// A rejected record.
    Rejected(DeadLetter),
    /// The mark that an entry was redriven.
    Redriven(Marker),
}

/// What the accounts need of a dead letter, `None` for a message that is none. `bounds` are
/// those of the dead-letter topic before the source topic was looked at.
pub(crate) fn letter(message: &BorrowedMessage<'_>, bounds: &[Watermarks]) -> Option<Letter> {
    if header(message, REDRIVEN_HEADER).is_some() {
        let high = bounds.get(usize::try_from(message.partition()).ok()?);
        return Some(Letter::Redriven(Marker {
            id: EntryId::of(message)?,
            timestamp_ms: message.timestamp().to_millis().unwrap_or(-1),
            was_there: high.is_some_and(|(_, high)| message.offset() < *high),
        }));
    }
    let reason = String::from_utf8_lossy(header(message, "reason")?).into_owned();
    let whole = header(message, "truncated").is_none();
    let content = if whole && reason == TOO_LARGE {
        let written = number(message, "timestamp_ms");
        written.and_then(|written| content_of_rejected(message.payload(), written))
    } else {
        None
    };
    Some(Letter::Rejected(DeadLetter {
        partition: number(message, "partition")?,
        offset: number(message, "offset")?,
        reason,
        raw: whole.then(|| content::raw_hash(message.payload())),
        content,
        is_in_lake: false,
    }))
}

/// Content and timestamp of a rejected record, if it is a transaction after all.
pub(crate) fn content_of_rejected(payload: Option<&[u8]>, written_ms: i64) -> Option<u64> {
    let content = content::of_message(payload.unwrap_or_default())?;
    let hash = Hasher::default().content(&content);
    Some(with_timestamp(hash, lake_timestamp(written_ms)))
}

fn number<T: std::str::FromStr>(message: &BorrowedMessage<'_>, name: &str) -> Option<T> {
    std::str::from_utf8(header(message, name)?)
        .ok()?
        .parse()
        .ok()
}
