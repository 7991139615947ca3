//! Names of what is in quarantine.

use std::fmt;
use std::str::FromStr;

use rdkafka::message::Message;

/// Where the record of a quarantine's entry came from; written `{partition}-{offset}`. It names the entry: as the key in
/// the dead-letter topic, and as [`REDRIVE_HEADER`](crate::REDRIVE_HEADER) of the repaired message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryId {
    /// Partition of the topic.
    pub partition: i32,
    pub offset: i64,
}

impl EntryId {
    /// The id that is the key of a record of the dead-letter topic.
    pub fn of(message: &impl Message) -> Option<Self> {
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
                    text.escape_debug()
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
