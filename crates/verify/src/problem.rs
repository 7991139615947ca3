//! The ways in which file, topic and lake can disagree.

use serde::Serialize;

use crate::items::Account;
use crate::ranges::Ranges;

/// One kind of disagreement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    /// A row of the file is not in the topic.
    RowMissingFromTopic,
    /// A row of the file is in the topic behind an open transaction, which hides it.
    RowBehindOpenTransaction,
    /// A record of the topic is neither a row of the lake nor a listed rejection.
    MissingFromLake,
    /// As [`Kind::MissingFromLake`], after all that the lake has of the partition: most likely
    /// it has not been read yet.
    NotInLakeYet,
    /// A listed rejection whose bytes are neither in the dead-letter topic nor in the lake.
    NoDeadLetter,
    /// An entry is marked as redriven and its message is not in the topic.
    RedriveMissing,
    /// A redriven message without its mark: it would be sent again.
    RedriveUnmarked,
    /// An entry was redriven more than once.
    RedrivenTwice,
    /// A record was redriven that is a row of the lake itself.
    RedrivenRow,
    /// A row of the file is in the topic again.
    RowDoubledInTopic,
    /// An offset is in the lake again.
    DoubledInLake,
    /// A record says otherwise than its row of the file.
    RowDiffersInTopic,
    /// A record is not in the partition of its key.
    RowInWrongPartition,
    /// A record claims a row that the file does not have or that is broken.
    RowNotInFile,
    /// A row of the lake says otherwise than its record.
    DiffersInLake,
    /// A transaction was rejected though it is a good one.
    WronglyRejected,
    /// A dead letter has another reason or other bytes than its record.
    DeadLetterDiffers,
    /// The lake has an offset that no reader of the topic sees.
    NotInTopic,
    /// The lake has an offset that the topic never gave.
    BeyondTopicEnd,
    /// Lake rows older than the topic's oldest record that are no rows of the file.
    ExpiredNotInFile,
    /// An object's name or footer is not what its rows say.
    ObjectContradictsItself,
    /// An object starts before the one in front of it ends.
    ObjectsOverlap,
    /// A Parquet file among the objects that is none of them.
    StrayObject,
    /// An object that is not a readable Parquet file; what it held counts as missing.
    UnreadableObject,
}

/// What the numbers of a problem count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Unit {
    /// Rows of the events file, from 0.
    Rows,
    /// Kafka offsets.
    Offsets,
}

impl Kind {
    /// What it means, as a sentence without its end.
    pub(crate) fn meaning(self) -> &'static str {
        match self {
            Self::RowMissingFromTopic => "rows of the file missing from the topic",
            Self::RowBehindOpenTransaction => {
                "rows of the file that are in the topic behind an open transaction: they follow when it ends"
            }
            Self::MissingFromLake => "records missing from the lake",
            Self::NotInLakeYet => {
                "records behind the end of their partition's files, most likely not read yet: `ftap consume --until-drained` reads them"
            }
            Self::NoDeadLetter => {
                "rejected records missing from the dead-letter topic and from the lake"
            }
            Self::RedriveMissing => "entries marked as redriven without their message in the topic",
            Self::RedriveUnmarked => {
                "redriven messages without their mark in the dead-letter topic"
            }
            Self::RedrivenTwice => "entries redriven again",
            Self::RedrivenRow => "redriven records that are rows of the lake themselves",
            Self::RowDoubledInTopic => "rows of the file doubled in the topic",
            Self::DoubledInLake => "offsets doubled in the lake",
            Self::RowDiffersInTopic => "records that differ from their row of the file",
            Self::RowInWrongPartition => "rows of the file in another partition than their key's",
            Self::RowNotInFile => "records of rows that the file does not have",
            Self::DiffersInLake => "lake rows that differ from their record",
            Self::WronglyRejected => "good records listed as rejected",
            Self::DeadLetterDiffers => "dead letters that differ from their record",
            Self::NotInTopic => "offsets of the lake that the topic does not show",
            Self::BeyondTopicEnd => {
                "offsets of the lake beyond the topic's end (was the topic deleted and recreated?)"
            }
            Self::ExpiredNotInFile => {
                "lake rows older than the topic's oldest record that are not in the file"
            }
            Self::ObjectContradictsItself => "an object contradicts itself",
            Self::ObjectsOverlap => "an object starts before the one in front of it ends",
            Self::StrayObject => "a Parquet file that is not an object of the lake",
            Self::UnreadableObject => {
                "an object can't be read as a Parquet file: restore it from a copy"
            }
        }
    }

    /// What its numbers are.
    pub(crate) fn unit(self) -> Unit {
        match self {
            Self::RowMissingFromTopic
            | Self::RowBehindOpenTransaction
            | Self::RowDoubledInTopic
            | Self::RowDiffersInTopic
            | Self::RowInWrongPartition
            | Self::RowNotInFile => Unit::Rows,
            _ => Unit::Offsets,
        }
    }

    /// Adds to the figure it belongs to.
    pub(crate) fn book(self, account: &mut Account, count: u64) {
        match self {
            Self::RowMissingFromTopic
            | Self::RowBehindOpenTransaction
            | Self::MissingFromLake
            | Self::NotInLakeYet
            | Self::NoDeadLetter
            | Self::RedriveMissing => {
                account.missing += count;
            }
            Self::RowDoubledInTopic
            | Self::DoubledInLake
            | Self::RedrivenTwice
            | Self::RedrivenRow => account.doubled += count,
            _ => account.differing += count,
        }
    }
}

/// One disagreement, with where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    pub kind: Kind,
    pub partition: Option<i32>,
    /// Key of the object concerned.
    pub object: Option<String>,
    /// The rows or offsets concerned.
    pub ranges: Ranges,
    /// More about it.
    pub detail: Option<String>,
}
