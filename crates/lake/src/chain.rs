//! Where a partition's chain of objects continues, and what to do when the next object exists
//! already.
//!
//! Promises: the rules 5 and 6 of docs/DESIGN.md's section on ingest, as functions of plain values, so
//! that a model checker can drive them. Pure.

use std::ops::RangeInclusive;

use crate::footer::{Adoption, TransactionFooter};

/// A state of topic and lake that can't be of one topic's life.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// An offset that Kafka never gives.
    #[error("{what} is {offset}; offsets count from 0 and end below 2^63 - 1")]
    InvalidOffset {
        /// Which offset.
        what: &'static str,
        offset: i64,
    },
    /// The lake holds more than the topic has ever held.
    #[error(
        "the lake holds offsets up to {chain_end} but the topic ends at {log_end}: the topic was \
         deleted and created again, or the lake is another topic's; give the new topic another name, \
         or move the topic's objects out of the lake"
    )]
    LakeAheadOfLog {
        /// Last offset of the newest object.
        chain_end: i64,
        /// The topic's end: the offset its next record gets.
        log_end: i64,
    },
    /// The group has committed more than the topic has ever held.
    #[error(
        "the consumer group has committed offset {committed} but the topic ends at {log_end}: the \
         topic was deleted and created again, or lost its tail; reset or delete the group's offsets, \
         or use another KAFKA_CONSUMER_GROUP"
    )]
    CommittedAheadOfLog {
        /// Committed offset.
        committed: i64,
        /// The topic's end: the offset its next record gets.
        log_end: i64,
    },
    /// The object under our key is not of our run.
    #[error(
        "the lake already has an object for {topic}-{partition} from offset {offset}, but its \
         {differs} is {theirs} and ours is {ours}: the topic was deleted and created again, or two \
         topics share the lake; nothing was overwritten; give the new topic another name, or move \
         the old objects out of the lake"
    )]
    Conflict {
        topic: String,
        partition: i32,
        /// First offset of our run.
        offset: i64,
        differs: &'static str,
        /// Its value in the lake.
        theirs: String,
        ours: String,
    },
}

/// Why records are not in the lake and won't be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SkipCause {
    /// Retention removed them from the topic before they were read.
    RetentionPassedChainEnd,
    /// The group's committed offset is beyond the lake's end: it was reset forward, or
    /// objects were taken out of the lake.
    CommittedAheadOfLake,
}

impl SkipCause {
    /// Its name in logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RetentionPassedChainEnd => "retention_passed_chain_end",
            Self::CommittedAheadOfLake => "committed_ahead_of_lake",
        }
    }
}

/// Offsets that are left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// From and to, both included.
    pub offsets: RangeInclusive<i64>,
    pub cause: SkipCause,
}

/// What a start was taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartFrom {
    /// The end of the lake's newest object.
    LakeEnd,
    /// The group's committed offset.
    Committed,
    /// The oldest record there is.
    LogStart,
}

impl StartFrom {
    /// Its name in logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::LakeEnd => "lake_end",
            Self::Committed => "committed",
            Self::LogStart => "log_start",
        }
    }
}

/// Where reading of a partition starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    /// The first offset to read: a boundary of the chain.
    pub offset: i64,
    /// What is left out by starting there.
    pub skipped: Option<Skipped>,
    /// What the offset was taken from.
    pub from: StartFrom,
}

/// Where reading starts (rule 6): max(committed offset, chain end + 1), or the oldest record if
/// that is gone or there is neither.
///
/// `committed` is the group's committed offset (the next to read), `chain_end` the last
/// offset of the partition's newest object, `log_start` the oldest offset the topic still
/// has, `log_end` the offset its next record gets (the high watermark).
pub fn start_offset(
    committed: Option<i64>,
    chain_end: Option<i64>,
    log_start: i64,
    log_end: i64,
) -> Result<Start, ChainError> {
    let valid = |what, offset: i64| {
        if (0..i64::MAX).contains(&offset) {
            Ok(offset)
        } else {
            Err(ChainError::InvalidOffset { what, offset })
        }
    };
    valid("the topic's start", log_start)?;
    valid("the topic's end", log_end)?;
    let committed = committed
        .map(|offset| valid("the committed offset", offset))
        .transpose()?;
    let lake_next = chain_end
        .map(|offset| valid("the lake's last offset", offset))
        .transpose()?
        .map(|last| last + 1);

    if let (Some(next), Some(chain_end)) = (lake_next, chain_end)
        && next > log_end
    {
        return Err(ChainError::LakeAheadOfLog { chain_end, log_end });
    }
    if let Some(committed) = committed
        && committed > log_end
    {
        return Err(ChainError::CommittedAheadOfLog { committed, log_end });
    }

    let (wanted, from) = match (committed, lake_next) {
        (None, None) => (log_start, StartFrom::LogStart),
        (Some(committed), None) => (committed, StartFrom::Committed),
        (Some(committed), Some(next)) if committed > next => (committed, StartFrom::Committed),
        (_, Some(next)) => (next, StartFrom::LakeEnd),
    };
    let (offset, from) = if wanted < log_start {
        (log_start, StartFrom::LogStart)
    } else {
        (wanted, from)
    };
    // The first offset that should have been read: with an empty lake, the oldest that
    // was still there when the group committed, of which the log's start is all we know.
    let due = lake_next.unwrap_or(committed.map_or(log_start, |c| c.min(log_start)));
    let skipped = (due < offset).then(|| Skipped {
        offsets: due..=offset - 1,
        cause: match from {
            StartFrom::LogStart => SkipCause::RetentionPassedChainEnd,
            StartFrom::Committed | StartFrom::LakeEnd => SkipCause::CommittedAheadOfLake,
        },
    });
    Ok(Start {
        offset,
        skipped,
        from,
    })
}

/// Whether the topic still is the one that the chain was written from.
///
/// `end` is the footer of the chain's newest object, `found` offset and fingerprint of the
/// first visible record at or after its first offset. Offsets alone can't tell a topic that
/// was deleted, created again and has outgrown the lake. Once retention has removed the record,
/// or compaction may have, nothing can be compared.
pub fn check_continuation(
    end: &TransactionFooter,
    log_start: i64,
    found: Option<(i64, u64)>,
    is_compacted: bool,
) -> Result<(), ChainError> {
    let is_there = found.is_some_and(|(offset, _)| offset == end.first_offset);
    let ours = match found {
        _ if end.first_offset < log_start => return Ok(()),
        _ if is_compacted && !is_there => return Ok(()),
        Some(first) if first == (end.first_offset, end.first_record) => return Ok(()),
        Some((_, record)) if is_there => format!("{record:016x}"),
        Some((offset, _)) => format!("that of offset {offset}"),
        None => "missing".to_owned(),
    };
    Err(ChainError::Conflict {
        topic: end.topic.clone(),
        partition: end.partition,
        offset: end.first_offset,
        differs: "first record's fingerprint",
        theirs: format!("{:016x}", end.first_record),
        ours,
    })
}

/// Between two records of a partition are so few marks of transactions, or fewer; only the topic tells them from
/// records.
const MAX_MARKS: u64 = 8;

/// How an object of a chain follows the one before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Joint {
    /// Each offset between the first and the last is in one of the two.
    Whole,
    /// At most [`MAX_MARKS`] offsets that neither has: as a rule the marks that transactions leave in the log.
    Marks(RangeInclusive<i64>),
    /// More offsets that neither has.
    Gap(RangeInclusive<i64>),
    /// Offsets that both have.
    Overlap(RangeInclusive<i64>),
}

/// Compares two neighbours of a partition's chain.
pub fn joint(before: &TransactionFooter, after: &TransactionFooter) -> Joint {
    let next = before.next_offset();
    if after.first_offset > next {
        let offsets = next..=after.first_offset - 1;
        if after.first_offset.abs_diff(next) <= MAX_MARKS {
            Joint::Marks(offsets)
        } else {
            Joint::Gap(offsets)
        }
    } else if after.first_offset < next {
        Joint::Overlap(after.first_offset..=before.last_offset.min(after.last_offset))
    } else {
        Joint::Whole
    }
}

/// What `AlreadyExists` means (rule 5), from the footer we wanted to write and the one
/// that is there.
///
/// The first record identifies a run: topic, partition, first offset, and the
/// fingerprint of the record's timestamp and payload, which a topic created again would have
/// to repeat to the millisecond. Where the two runs end at the same offset and rejected
/// the same records, their rows' checksums must be equal as well. Runs that differ in
/// what they rejected (another size limit, another version) are both complete: the one
/// in the lake stays.
pub fn on_already_exists(
    ours: &TransactionFooter,
    theirs: &TransactionFooter,
) -> Result<Adoption, ChainError> {
    let conflict = |differs, theirs: String, ours_value: String| {
        Err(ChainError::Conflict {
            topic: ours.topic.clone(),
            partition: ours.partition,
            offset: ours.first_offset,
            differs,
            theirs,
            ours: ours_value,
        })
    };
    if theirs.topic != ours.topic {
        return conflict("topic", theirs.topic.clone(), ours.topic.clone());
    }
    if theirs.partition != ours.partition {
        let (theirs, ours) = (theirs.partition.to_string(), ours.partition.to_string());
        return conflict("partition", theirs, ours);
    }
    if theirs.first_offset != ours.first_offset {
        let (theirs, ours) = (
            theirs.first_offset.to_string(),
            ours.first_offset.to_string(),
        );
        return conflict("first offset", theirs, ours);
    }
    let hex = |hash: u64| format!("{hash:016x}");
    if theirs.first_record != ours.first_record {
        let (theirs, ours) = (hex(theirs.first_record), hex(ours.first_record));
        return conflict("first record's fingerprint", theirs, ours);
    }
    if theirs.last_offset == ours.last_offset && theirs.rejected == ours.rejected {
        return if theirs.checksum == ours.checksum && theirs.rows == ours.rows {
            Ok(Adoption::Same)
        } else {
            conflict("checksum", hex(theirs.checksum), hex(ours.checksum))
        };
    }
    if theirs.last_offset == i64::MAX {
        return Err(ChainError::InvalidOffset {
            what: "the last offset of the lake's object",
            offset: theirs.last_offset,
        });
    }
    Ok(Adoption::Overtaken)
}
