//! Quarantine: what stands in the dead-letter topic or in the lake, and how repaired records go back.
//!
//! An entry is named by where its record came from. It is open until it is redriven: then the
//! dead-letter topic has a mark under the same key, written in one transaction with the
//! repaired message. Relies on an entry not outliving its mark, which is younger and in the
//! same partition, and on both outliving the time in which a redrive may be repeated.
//!
//! An entry of the lake has no mark: the repaired message itself is looked for, by its header. It follows
//! the record in the record's partition, so an entry is open only as long as the topic has all that
//! follows the record; after that its state is unknown.

pub(crate) mod args;
pub(crate) mod index;
pub(crate) mod lake;
pub(crate) mod line;
pub(crate) mod plan;
pub(crate) mod sender;
pub(crate) mod settled;
pub(crate) mod shown;

use std::fmt;
use std::str::FromStr;

use rdkafka::message::Message;

/// Where an entry's record came from; written `{partition}-{offset}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct EntryId {
    /// Partition of the topic.
    pub partition: i32,
    pub offset: i64,
}

impl EntryId {
    /// The id that is the key of a record of the dead-letter topic.
    pub(crate) fn of(message: &impl Message) -> Option<Self> {
        std::str::from_utf8(message.key()?).ok()?.parse().ok()
    }
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.partition, self.offset)
    }
}

impl FromStr for EntryId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        text.split_once('-')
            .filter(|(partition, offset)| digits(partition) && digits(offset))
            .and_then(|(partition, offset)| {
                Some(Self {
                    partition: partition.parse().ok()?,
                    offset: offset.parse().ok()?,
                })
            })
            .ok_or_else(|| {
                format!(
                    "{} is not an entry's id; expected {{partition}}-{{offset}}, such as 2-1234",
                    shown::text(text)
                )
            })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_id_is_read_as_it_is_written_and_nothing_else_is() {
        let id = EntryId {
            partition: 2,
            offset: i64::MAX,
        };
        assert_eq!(id.to_string().parse::<EntryId>().unwrap(), id);
        for wrong in [
            "",
            "-",
            "1",
            "1-",
            "-1",
            "1-2-3",
            "+1-2",
            "1--2",
            "a-1",
            "1-9223372036854775808",
            "1\x1b-2",
        ] {
            let error = wrong.parse::<EntryId>().unwrap_err();
            assert!(
                error.contains("2-1234") && !error.contains('\x1b'),
                "{error}"
            );
        }
    }
}
