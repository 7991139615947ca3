//! Kafka through librdkafka: client properties, access, error classes, topics,
//! tails, and a group consumer that hands out whole batches.

pub mod access;
pub mod admin;
pub mod consumer;
pub mod drain;
mod entry_id;
mod failure;
pub mod partition_progress;
pub mod produce;
pub mod publish_resume;
mod reader;
mod settings;
pub mod tail;
pub mod transaction_size;
pub mod transactional;

pub use entry_id::EntryId;
pub use failure::{END_TRANSACTION, KafkaFailure, SKIP_UNREADABLE, failure};
use rdkafka::ClientConfig;
pub(crate) use reader::Aside;
pub use reader::Reader;
pub use settings::{DeadLetterPlace, KafkaSettings};

/// Header with the row's ordinal in the events file, ASCII decimal, from 0.
pub const ROW_HEADER: &str = "row";
/// Header with `{fingerprint}/{partition count}` of the events file, ASCII.
pub const SOURCE_HEADER: &str = "source";

/// Whether a value of [`SOURCE_HEADER`] is one of ours: other programs use that name, too.
pub fn is_source(value: &[u8]) -> bool {
    let (fingerprint, partitions) = value.split_at(value.len().min(16));
    fingerprint.len() == 16
        && fingerprint.iter().all(u8::is_ascii_hexdigit)
        && partitions.split_first().is_some_and(|(slash, count)| {
            *slash == b'/' && !count.is_empty() && count.iter().all(u8::is_ascii_digit)
        })
}

/// Header of a message that was rejected, repaired and sent again: the [`EntryId`] of its
/// entry.
pub const REDRIVE_HEADER: &str = "redrive";
/// Header of a dead letter: how many headers the rejected record had, which are the last ones.
pub const ORIGINAL_HEADERS: &str = "original_headers";
/// Header of the mark in the dead-letter topic, under an entry's key, that its message was
/// sent again: written in one transaction with that message.
pub const REDRIVEN_HEADER: &str = "redriven";

/// What a batch of zstd may unpack to, as a property of every consumer. A batch that can't be unpacked
/// stops its partition. By default that may be one of 34 MB: librdkafka stops at 100 MB, and where it
/// does not know the size, it tries three times as much each time.
pub const UNPACK_LIMIT: (&str, &str) = ("receive.message.max.bytes", "1000000000");

/// Properties that every client of this program has.
pub(crate) fn common_properties(settings: &KafkaSettings) -> Vec<(String, String)> {
    [
        ("bootstrap.servers", settings.bootstrap_servers.as_str()),
        ("client.id", "ftap"),
        // Loopback brokers are reached by whatever address they advertise.
        ("broker.address.family", "any"),
        ("reconnect.backoff.max.ms", "2000"),
        ("topic.metadata.propagation.max.ms", "10000"),
        UNPACK_LIMIT,
        ("allow.auto.create.topics", "false"),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .collect()
}

/// A client configuration: common properties, then `own`, then the user's.
pub fn client_config(settings: &KafkaSettings, own: &[(&str, &str)]) -> ClientConfig {
    let mut config = ClientConfig::new();
    for (key, value) in common_properties(settings) {
        config.set(key, value);
    }
    for (key, value) in own {
        config.set(*key, *value);
    }
    for (key, value) in &settings.extra {
        config.set(key, value);
    }
    config
}
