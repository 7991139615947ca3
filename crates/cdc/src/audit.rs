//! Whether every change that was recorded is still in the lake.
//!
//! Promises: per epoch and table, a snapshot without one of its parts, a gap or an overlap between
//! files, and files that a checkpoint recorded and that are gone are each found, with the range.
//! Relies on the footers, whose rows are not read again. The rules are pure.

use std::collections::BTreeMap;
use std::fmt;
use std::pin::pin;

use ftap_lake::{ChangeObjectName, ChangePart, LakeError, LakeStore, Position, read_footers};
use futures::TryStreamExt as _;

use crate::TABLES;
use crate::checkpoint::Checkpoint;
use crate::footer::{ChangeFooter, Content};
use crate::lake::{checkpoint_names, object_names, read_checkpoint};

/// What was found of one table in one epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainAudit {
    /// The table.
    pub table: String,
    /// The snapshot that its changes follow.
    pub epoch: u32,
    /// Files, those of the snapshot included.
    pub files: u64,
    /// Rows in them.
    pub rows: u64,
    /// Position of the last row.
    pub end: Position,
    /// What is wrong.
    pub problems: Vec<ChainProblem>,
}

/// What is wrong with a table's files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChainProblem {
    /// Part `number` of the snapshot is gone.
    SnapshotPartMissing {
        /// Its number, from 1.
        number: u32,
    },
    /// The last parts of the snapshot are gone, or all of them.
    SnapshotEndMissing {
        /// The first part that is gone.
        from: u32,
    },
    /// Files between two others are gone.
    Gap {
        /// Position of the last row before it.
        after: Position,
        /// Position of its last row.
        up_to: Position,
    },
    /// A file begins before the one in front of it ends.
    Overlap {
        /// The file.
        key: String,
        /// Position of its first row.
        first: Position,
        /// Where the file before it ends.
        end: Position,
    },
    /// The newest files are gone: a checkpoint has recorded more.
    NewestMissing {
        /// Position of the last row in the lake.
        after: Position,
        /// Position of the last row that was recorded.
        up_to: Position,
    },
    /// The epoch has no checkpoint, so that nothing shows how far it went.
    NoCheckpoint,
}

impl fmt::Display for ChainProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SnapshotPartMissing { number } => {
                write!(f, "part {number} of the snapshot is missing")
            }
            Self::SnapshotEndMissing { from } => {
                write!(f, "the snapshot is missing from part {from} on")
            }
            Self::Gap { after, up_to } => {
                write!(f, "changes after {after} up to {up_to} are missing")
            }
            Self::Overlap { key, first, end } => {
                write!(
                    f,
                    "{key} begins at {first}, before the end of the file before it, {end}"
                )
            }
            Self::NewestMissing { after, up_to } => write!(
                f,
                "changes after {after} up to {up_to} are missing, the newest that were recorded"
            ),
            Self::NoCheckpoint => write!(
                f,
                "its checkpoints are missing from {}/",
                ftap_lake::CHECKPOINTS_FOLDER
            ),
        }
    }
}

/// Audits all epochs; those that were never complete are left out.
pub async fn audit(lake: &LakeStore) -> Result<Vec<ChainAudit>, LakeError> {
    // Before the objects, so that those a checkpoint has recorded are listed.
    let mut newest = BTreeMap::new();
    for name in checkpoint_names(lake).await? {
        newest.insert(name.epoch, name);
    }
    let mut epochs: BTreeMap<u32, BTreeMap<String, Vec<(ChangeObjectName, ChangeFooter)>>> = newest
        .keys()
        .map(|epoch| (*epoch, BTreeMap::new()))
        .collect();
    let mut objects = pin!(read_footers::<ChangeFooter>(
        lake,
        object_names(lake).await?
    ));
    while let Some((name, footer)) = objects.try_next().await? {
        let tables = epochs.entry(name.epoch).or_default();
        tables
            .entry(name.table.clone())
            .or_default()
            .push((name, footer));
    }
    let mut audits = Vec::new();
    for (epoch, mut tables) in epochs {
        let checkpoint = match newest.get(&epoch) {
            Some(name) => Some(read_checkpoint(lake, *name).await?),
            None => None,
        };
        let of_epoch = TABLES.map(|table| {
            let objects = tables.remove(table).unwrap_or_default();
            chain(table, epoch, objects, checkpoint.as_ref())
        });
        if was_complete(&of_epoch, checkpoint.as_ref()) {
            audits.extend(of_epoch);
        }
    }
    Ok(audits)
}

/// An epoch whose snapshot was interrupted has no changes, and a checkpoint without a witness at
/// most: nothing is missing of it, because the next epoch begins with a snapshot of its own.
fn was_complete(tables: &[ChainAudit], checkpoint: Option<&Checkpoint>) -> bool {
    let lacks_its_end = |audit: &ChainAudit| {
        let mut problems = audit.problems.iter();
        problems.any(|problem| matches!(problem, ChainProblem::SnapshotEndMissing { .. }))
    };
    let has_changes = checkpoint.is_some_and(|checkpoint| checkpoint.witness.is_some())
        || tables.iter().any(|audit| audit.end.seq > 0);
    has_changes || !tables.iter().any(lacks_its_end)
}

/// Follows the objects of a table in one epoch, in their order.
#[derive(Clone, Copy, Debug)]
pub struct Walk {
    next_part: u32,
    snapshot_is_whole: bool,
    end: Position,
}

impl Walk {
    /// Before the first object.
    pub fn from_start() -> Self {
        Self {
            next_part: 1,
            snapshot_is_whole: false,
            end: Position::default(),
        }
    }

    /// After an object of which the ones before it are not looked at.
    pub fn after(name: &ChangeObjectName, footer: &ChangeFooter) -> Self {
        let mut walk = Self::from_start();
        walk.snapshot_is_whole = footer.content == Content::Changes;
        walk.step(name, footer);
        walk
    }

    /// Goes to the next object: what is wrong between the ones before and this one.
    pub fn step(&mut self, name: &ChangeObjectName, footer: &ChangeFooter) -> Vec<ChainProblem> {
        let mut problems = Vec::new();
        let end = self.end;
        match name.part {
            ChangePart::Snapshot(number) => {
                let missing = self.next_part..number;
                problems.extend(missing.map(|number| ChainProblem::SnapshotPartMissing { number }));
                self.next_part = number.saturating_add(1);
                self.snapshot_is_whole |= footer.content == Content::SnapshotEnd;
            }
            // Without its snapshot, a chain begins anywhere.
            ChangePart::Changes(first) if self.snapshot_is_whole && first <= end => {
                problems.push(ChainProblem::Overlap {
                    key: name.to_string(),
                    first,
                    end,
                });
            }
            ChangePart::Changes(_) => {
                if let Some(up_to) = footer.previous().filter(|previous| *previous > end)
                    && self.snapshot_is_whole
                {
                    problems.push(ChainProblem::Gap { after: end, up_to });
                }
            }
        }
        self.end = end.max(footer.last());
        problems
    }

    /// What is missing if there are no more parts of the snapshot.
    pub fn missing_snapshot(&self) -> Option<ChainProblem> {
        let from = self.next_part;
        (!self.snapshot_is_whole).then_some(ChainProblem::SnapshotEndMissing { from })
    }
}

/// The chain of one table.
pub fn chain(
    table: &str,
    epoch: u32,
    mut objects: Vec<(ChangeObjectName, ChangeFooter)>,
    checkpoint: Option<&Checkpoint>,
) -> ChainAudit {
    objects.sort_by_key(|(name, _)| name.part);
    let mut walk = Walk::from_start();
    let steps = objects
        .iter()
        .flat_map(|(name, footer)| walk.step(name, footer));
    let mut problems: Vec<_> = steps.collect();
    let Walk {
        snapshot_is_whole,
        end,
        ..
    } = walk;
    if let Some(missing) = walk.missing_snapshot() {
        problems.insert(0, missing);
    }
    let recorded = checkpoint.and_then(|checkpoint| checkpoint.ends.get(table).copied());
    match recorded {
        Some(up_to) if up_to > end && snapshot_is_whole => {
            problems.push(ChainProblem::NewestMissing { after: end, up_to });
        }
        _ => {}
    }
    let writes_checkpoints = objects
        .iter()
        .any(|(_, footer)| footer.previous().is_some());
    if checkpoint.is_none() && writes_checkpoints {
        problems.push(ChainProblem::NoCheckpoint);
    }
    ChainAudit {
        table: table.to_owned(),
        epoch,
        files: objects.len() as u64,
        rows: objects.iter().map(|(_, footer)| footer.rows).sum(),
        end,
        problems,
    }
}
