//! The events file: its fingerprint, the place reached in it, and where to resume.
//!
//! The topic's tail is the truth about what is published; `checkpoint.json` only
//! saves reading the file from its start and may be lost or stale.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

use ftap_supervision::{Entry, Failure, FailureKind, Retry};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3;

use crate::tail::Tail;

const HEAD_BYTES: u64 = 64 * 1024;

/// Kinds of failure of publishing, Kafka's own apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublishFailure {
    /// The events file can't be read.
    SourceUnreadable,
    /// The events file is not what it should be.
    SourceInvalid,
    /// The topic does not continue this events file.
    Conflict,
}

impl FailureKind for PublishFailure {
    fn entry(self) -> Entry {
        match self {
            Self::SourceUnreadable => Entry {
                name: "source_unreadable",
                domain: "source",
                retry: Retry::Transient,
                remedy: "check that EVENTS_FILE exists and can be read",
            },
            Self::SourceInvalid => Entry {
                name: "source_invalid",
                domain: "source",
                retry: Retry::Permanent,
                remedy: "prepare the file again: `ftap prepare FILE`",
            },
            Self::Conflict => Entry {
                name: "publish_conflict",
                domain: "kafka",
                retry: Retry::Permanent,
                remedy: "to start over, `ftap reset` removes the topic and the lake; to keep them, set KAFKA_TOPIC, LAKE_DIR (or GCS_BUCKET_NAME) and KAFKA_CONSUMER_GROUP to new ones",
            },
        }
    }
}

/// Identifies an events file: a hash of its name, size and first 64 KiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint(u64);

impl Fingerprint {
    /// Of the file at `path`.
    pub fn of(path: &Path) -> Result<Self, Failure> {
        let unreadable = |error: std::io::Error| {
            Failure::new(
                PublishFailure::SourceUnreadable,
                format!("events file {}", path.display()),
            )
            .caused_by(error)
        };
        let file = File::open(path).map_err(unreadable)?;
        let size = file.metadata().map_err(unreadable)?.len();
        let mut head = Vec::new();
        file.take(HEAD_BYTES)
            .read_to_end(&mut head)
            .map_err(unreadable)?;
        let mut hash = Xxh3::new();
        let name = path.file_name().unwrap_or_default().as_encoded_bytes();
        for part in [name, &size.to_le_bytes(), &head] {
            hash.update(&(part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        Ok(Self(hash.digest()))
    }

    /// Value of the `source` header for a topic with this many partitions.
    pub fn header(self, partitions: i32) -> String {
        format!("{self}/{partitions}")
    }
}

impl std::fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A place in the events file between two rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Ordinal of the next row, from 0.
    pub row: u64,
    /// Byte of the file where it begins; 0 stands for the header line.
    pub byte: u64,
}

#[derive(Serialize, Deserialize)]
struct Checkpoint {
    source: String,
    #[serde(flatten)]
    place: Place,
}

/// Reads the checkpoint of this source; `None` if there is none that can be used.
pub fn load_checkpoint(path: &Path, source: &str) -> Option<Place> {
    let text = std::fs::read(path).ok()?;
    let checkpoint: Checkpoint = serde_json::from_slice(&text).ok()?;
    (checkpoint.source == source).then_some(checkpoint.place)
}

/// Replaces the checkpoint by rename: a reader sees the old one or the new one.
pub fn save_checkpoint(path: &Path, source: &str, place: Place) -> std::io::Result<()> {
    let text = serde_json::to_vec(&Checkpoint {
        source: source.to_owned(),
        place,
    })?;
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let temporary = path.with_extension("json.tmp");
    let mut file = File::create(&temporary)?;
    file.write_all(&text)?;
    file.sync_all()?;
    std::fs::rename(&temporary, path)
}

/// Which rows the topic lacks: per partition, everything after its last row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resume {
    /// Newest row of each partition.
    pub last_rows: Vec<Option<u64>>,
}

impl Resume {
    /// Whether `row` is still to be sent to `partition`.
    pub fn lacks(&self, partition: i32, row: u64) -> bool {
        let last = usize::try_from(partition)
            .ok()
            .and_then(|index| self.last_rows.get(index).copied().flatten());
        last.is_none_or(|last| row > last)
    }

    /// The first row that some partition may lack.
    pub fn first_row(&self) -> u64 {
        self.last_rows
            .iter()
            .map(|last| last.map_or(0, |row| row + 1))
            .min()
            .unwrap_or(0)
    }
}

/// Compares the tails of the topic with the events file.
///
/// `source` is the header value of the file as it would be published now. The
/// topic must be empty or continue the same file with the same partition count.
pub fn resume(topic: &str, source: &str, tails: &[Tail]) -> Result<Resume, Failure> {
    let conflict = |text: String| Err(Failure::new(PublishFailure::Conflict, text));
    let marked = || tails.iter().filter_map(|tail| tail.marked.as_ref());
    if marked().next().is_none()
        && let Some((partition, tail)) = tails
            .iter()
            .enumerate()
            .find(|(_, tail)| tail.last_offset.is_some())
    {
        return conflict(format!(
            "topic {topic} holds foreign messages: offset {} of partition {partition} has no `{}` header",
            tail.last_offset.unwrap_or_default(),
            crate::ROW_HEADER,
        ));
    }
    if let Some(mark) = marked().find(|mark| mark.source != source) {
        let (theirs, their_partitions) = mark.source.split_once('/').unwrap_or((&mark.source, "?"));
        let (ours, our_partitions) = source.split_once('/').unwrap_or((source, "?"));
        return conflict(if theirs == ours {
            format!(
                "topic {topic} has {our_partitions} partitions now but had {} when this \
                 file was first published: its rows would go to other partitions and be doubled",
                their_partitions.escape_debug()
            )
        } else {
            format!(
                "topic {topic} holds another events file (fingerprint {}, row {}); this one is {ours}",
                theirs.escape_debug(),
                mark.row
            )
        });
    }
    Ok(Resume {
        last_rows: tails
            .iter()
            .map(|tail| tail.marked.as_ref().map(|mark| mark.row))
            .collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tail::Mark;

    fn tail(row: Option<u64>, source: &str, last_offset: Option<i64>) -> Tail {
        Tail {
            marked: row.map(|row| Mark {
                row,
                source: source.to_owned(),
            }),
            last_offset,
        }
    }

    #[test]
    fn each_partition_resumes_after_its_own_last_row() {
        let tails = [
            tail(Some(7), "a/3", Some(3)),
            tail(None, "a/3", None),
            tail(Some(9), "a/3", Some(5)),
        ];
        let resume = resume("t", "a/3", &tails).expect("same source");
        assert_eq!(resume.first_row(), 0, "partition 1 has nothing yet");
        assert!(!resume.lacks(0, 7) && resume.lacks(0, 8));
        assert!(resume.lacks(1, 0));
        assert!(!resume.lacks(2, 8) && resume.lacks(2, 10));
    }

    #[test]
    fn what_does_not_continue_the_topic_is_refused_with_the_reason() {
        let cases = [
            (vec![tail(None, "", Some(4))], "foreign messages"),
            (vec![tail(Some(1), "b/1", Some(4))], "another events file"),
            (vec![tail(Some(1), "a/6", Some(4))], "had 6 when"),
        ];
        for (tails, wanted) in cases {
            let error = resume("t", "a/1", &tails).expect_err(wanted);
            assert!(error.is(PublishFailure::Conflict));
            assert!(error.to_string().contains(wanted), "{error}");
        }
    }

    #[test]
    fn foreign_messages_behind_our_own_do_not_matter() {
        let tails = [tail(Some(5), "a/2", Some(9)), tail(None, "", Some(1))];
        assert_eq!(
            resume("t", "a/2", &tails).expect("ours").last_rows,
            [Some(5), None]
        );
    }

    #[test]
    fn a_checkpoint_is_used_for_its_own_source_only() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("sub/checkpoint.json");
        let place = Place {
            row: 12,
            byte: 3456,
        };
        save_checkpoint(&path, "a/3", place).expect("written");
        assert_eq!(load_checkpoint(&path, "a/3"), Some(place));
        assert_eq!(load_checkpoint(&path, "b/3"), None);
        std::fs::write(&path, "{").expect("written");
        assert_eq!(
            load_checkpoint(&path, "a/3"),
            None,
            "a torn one is as good as none"
        );
    }
}
