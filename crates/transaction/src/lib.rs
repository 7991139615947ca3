//! One card transaction on its way: CSV row, Kafka message, Arrow row.
//!
//! Promises: [`encode_json`] writes exactly the message of docs/DATA.md and
//! [`RowBuilders`] accepts exactly the messages the lake can hold; what it refuses
//! gets a [`RejectReason`] and leaves no trace. The same bytes always give the same
//! result, so a replay is byte-identical. Relies on nothing outside this folder and
//! does no I/O.

mod currency;
mod decode;
mod encode;
mod fast;
mod fields;
mod partition;
mod reject;
mod rows;
mod timestamp;
mod values;

pub use currency::{Currency, currency_of};
pub use encode::{AMOUNT_FORM, EVENT_COLUMNS, RowError, SourceRow, encode_json, original_amount};
pub use partition::partition_of;
pub use reject::RejectReason;
pub use rows::{EVENT_TIME, KAFKA_TIMESTAMP, RECORD_COLUMNS, RowBuilders, schema};
pub use timestamp::{NO_TIMESTAMP, plausible_timestamp};
pub use values::{EVENT_TIME_FORM, date, event_time, is_blank};

/// Whether the lake would take a payload as a row: the reader's own decoder and its limit.
pub fn check(payload: Option<&[u8]>, max_message_bytes: usize) -> Result<(), RejectReason> {
    let payload = payload.unwrap_or_default();
    if payload.len() > max_message_bytes {
        return Err(RejectReason::TooLarge);
    }
    decode::decode(payload, |_| ())
}

/// Fingerprint of a Kafka record: the XXH3-64 hash of its payload, with its timestamp in
/// milliseconds as the seed, 0 for one before 1970. A record without payload counts as an empty one.
pub fn record_fingerprint(payload: Option<&[u8]>, timestamp_ms: i64) -> u64 {
    let seed = timestamp_ms.max(0) as u64;
    xxhash_rust::xxh3::xxh3_64_with_seed(payload.unwrap_or_default(), seed)
}

/// Names of the message's fields, in the message's order, which is the lake's, too.
pub mod field {
    macro_rules! names {
        ($(#[doc = $doc:literal] $constant:ident $name:ident: $kind:ty;)*) => {
            $(
                #[doc = $doc]
                pub const $constant: &str = stringify!($name);
            )*

            /// All of them, in order.
            pub const ALL: [&str; [$(stringify!($name)),*].len()] = [$($constant),*];
        };
    }
    crate::fields::message_fields!(names);
}
