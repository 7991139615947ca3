//! Where to continue, given what lake and server hold, and what to do about an object that
//! exists already.
//!
//! Promises: a change is left out only where an error or a new epoch says so. Pure.

use std::collections::BTreeMap;

use ftap_lake::{Adoption, Lsn, Position};

use super::TABLES;
use super::footer::ChangeFooter;

/// The newest epoch of the lake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LakeEpoch {
    /// Its number.
    pub number: u32,
    /// System identifier of the server it was read from.
    pub system: String,
    /// Whether the snapshots of all tables are whole.
    pub is_complete: bool,
    /// Of each table the position of the last row in the lake.
    pub ends: BTreeMap<String, Position>,
    /// Of each table its object identifier, where an object says it.
    pub oids: BTreeMap<String, u32>,
}

/// Our slot on the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotState {
    /// Its output plugin; a physical slot has none.
    pub plugin: Option<String>,
    /// Its database.
    pub database: Option<String>,
    /// `reserved`, `extended`, `unreserved` or `lost`.
    pub wal_status: Option<String>,
    /// What was acknowledged.
    pub confirmed: Option<Lsn>,
}

/// What the server says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerState {
    /// System identifier.
    pub system: String,
    /// The database we read.
    pub database: String,
    /// End of the log that is durable there.
    pub flushed: Lsn,
    /// Our slot, if there is one.
    pub slot: Option<SlotState>,
    /// Our publication.
    pub publication: PublicationState,
    /// Of each captured table its object identifier.
    pub oids: BTreeMap<String, u32>,
}

/// What our publication gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PublicationState {
    /// There is none.
    Missing,
    /// All changes of all captured tables.
    Whole,
    /// Not all of them.
    Lacks {
        /// What is missing.
        what: String,
        /// The statement that adds it.
        remedy: String,
    },
}

/// Why a snapshot is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnapshotReason {
    /// The lake has none.
    First,
    /// The one before was interrupted.
    Interrupted,
    /// The user asked for it.
    Asked,
}

impl SnapshotReason {
    /// Its name in logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Interrupted => "interrupted",
            Self::Asked => "asked",
        }
    }
}

/// What to do at a start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan {
    /// Make a slot, copy the tables, then plan again.
    Snapshot {
        /// Number of the epoch it opens.
        epoch: u32,
        /// Why.
        reason: SnapshotReason,
    },
    /// Read the slot; changes up to a table's end are in the lake.
    Stream {
        /// The epoch.
        epoch: u32,
        /// Of each table the position of the last row in the lake.
        ends: BTreeMap<String, Position>,
        /// Of each table its object identifier, as far as it is known.
        oids: BTreeMap<String, u32>,
    },
}

/// Lake and server contradict each other; only a person can tell which one is right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// The slot is gone.
    #[error(
        "replication slot {slot} is gone, but the lake has changes up to {end}: later changes are lost as changes; `ftap cdc --resnapshot` creates a new slot and copies the tables again"
    )]
    SlotMissing {
        /// The slot.
        slot: String,
        /// Last position in the lake.
        end: Position,
    },
    /// The server invalidated the slot.
    #[error(
        "replication slot {slot} is lost: the server removed log that it had not sent yet, more than max_slot_wal_keep_size; `ftap cdc --resnapshot` creates a new slot and copies the tables again"
    )]
    SlotLost {
        /// The slot.
        slot: String,
    },
    /// The publication is gone.
    #[error(
        "the publication of replication slot {slot} is gone, and the slot can't see one that is created now: `ftap cdc --resnapshot` creates both and copies the tables again"
    )]
    PublicationMissing {
        /// The slot.
        slot: String,
    },
    /// The publication leaves changes out.
    #[error(
        "the publication of replication slot {slot} lacks {what}, so their changes since then are lost: {remedy}, then `ftap cdc --resnapshot` copies the tables again"
    )]
    PublicationLacks {
        /// The slot.
        slot: String,
        /// What is missing.
        what: String,
        /// The statement that adds it.
        remedy: String,
    },
    /// A table of the same name that is another one.
    #[error(
        "table {table} was dropped and created again since it was captured (its object identifier is {ours}, in the lake {theirs}): its new rows may be captured, but the removal of its old rows was not; `ftap cdc --resnapshot` copies the tables again"
    )]
    TableRemade {
        /// The table.
        table: String,
        /// Object identifier in the lake.
        theirs: u32,
        /// On the server.
        ours: u32,
    },
    /// The slot belongs to another process.
    #[error(
        "replication slot {slot} is not ours: its {what} is {theirs}, expected {ours}; set CDC_SLOT to another name"
    )]
    SlotForeign {
        /// The slot.
        slot: String,
        /// What differs.
        what: &'static str,
        /// Its value.
        theirs: String,
        /// What it must be.
        ours: String,
    },
    /// A slot, but no snapshot.
    #[error(
        "replication slot {slot} exists, but the lake has no snapshot it could follow: the lake is another one, or was emptied; `ftap cdc --resnapshot` drops the slot and starts again, CDC_SLOT=… leaves it to its owner"
    )]
    SlotWithoutLake {
        /// The slot.
        slot: String,
    },
    /// Another server, or one that was created again.
    #[error(
        "the lake's changes are of the server {theirs}, this one is {ours}: positions of the two can't be compared; set POSTGRES_HOST to the right server, or start again with `ftap cdc --resnapshot`"
    )]
    AnotherServer {
        /// System identifier in the lake.
        theirs: String,
        /// Of the server.
        ours: String,
    },
    /// The server has less than the lake.
    #[error(
        "the lake has changes up to {end}, but the server's log ends at {flushed}: the server was restored from a copy; `ftap cdc --resnapshot` copies the tables again"
    )]
    LakeAhead {
        /// Last position in the lake.
        end: Position,
        /// End of the server's log.
        flushed: Lsn,
    },
}

/// What to do at a start.
///
/// A slot is made permanent after most of its snapshot is in the lake and before all of it is. So a
/// slot without any snapshot is not ours, the slot of a complete one begins at it or after it, and a
/// complete one without a slot has lost what came after it.
pub fn plan(
    slot_name: &str,
    lake: Option<&LakeEpoch>,
    server: &ServerState,
    resnapshot: bool,
) -> Result<Plan, PlanError> {
    let slot_name = slot_name.to_owned();
    if let Some(slot) = &server.slot {
        let foreign = |what, theirs: &Option<String>, ours: &str| PlanError::SlotForeign {
            slot: slot_name.clone(),
            what,
            theirs: theirs.as_deref().unwrap_or("none").to_owned(),
            ours: ours.to_owned(),
        };
        if slot.plugin.as_deref() != Some("pgoutput") {
            return Err(foreign("output plugin", &slot.plugin, "pgoutput"));
        }
        if slot.database.as_deref() != Some(server.database.as_str()) {
            return Err(foreign("database", &slot.database, &server.database));
        }
    }
    let next = lake.map_or(1, |lake| lake.number.saturating_add(1));
    let snapshot = |reason| {
        Ok(Plan::Snapshot {
            epoch: next,
            reason,
        })
    };
    if resnapshot {
        return snapshot(SnapshotReason::Asked);
    }
    let Some(lake) = lake else {
        return match server.slot {
            None => snapshot(SnapshotReason::First),
            Some(_) => Err(PlanError::SlotWithoutLake { slot: slot_name }),
        };
    };
    if lake.system != server.system {
        return Err(PlanError::AnotherServer {
            theirs: lake.system.clone(),
            ours: server.system.clone(),
        });
    }
    let end = lake.ends.values().max().copied().unwrap_or_default();
    if end.lsn > server.flushed {
        return Err(PlanError::LakeAhead {
            end,
            flushed: server.flushed,
        });
    }
    if !lake.is_complete {
        return snapshot(SnapshotReason::Interrupted);
    }
    match &server.slot {
        None => Err(PlanError::SlotMissing {
            slot: slot_name,
            end,
        }),
        Some(slot) if slot.wal_status.as_deref() == Some("lost") => {
            Err(PlanError::SlotLost { slot: slot_name })
        }
        Some(_) => match &server.publication {
            PublicationState::Missing => Err(PlanError::PublicationMissing { slot: slot_name }),
            PublicationState::Lacks { what, remedy } => Err(PlanError::PublicationLacks {
                slot: slot_name,
                what: what.clone(),
                remedy: remedy.clone(),
            }),
            PublicationState::Whole => {
                for (table, ours) in &server.oids {
                    same_table(&lake.oids, table, *ours)?;
                }
                Ok(Plan::Stream {
                    epoch: lake.number,
                    ends: lake.ends.clone(),
                    oids: server.oids.clone(),
                })
            }
        },
    }
}

/// Fails if the table is another one than the one of its name that was captured.
pub(crate) fn same_table(
    known: &BTreeMap<String, u32>,
    table: &str,
    ours: u32,
) -> Result<(), PlanError> {
    match known.get(table) {
        Some(theirs) if *theirs != ours => Err(PlanError::TableRemade {
            table: table.to_owned(),
            theirs: *theirs,
            ours,
        }),
        _ => Ok(()),
    }
}

/// The newest epoch, from the footers of each table's newest object of it.
pub(crate) fn newest_epoch(number: u32, newest: &[(ChangeFooter, bool)]) -> Option<LakeEpoch> {
    let (first, _) = newest.first()?;
    let of = |table: &str| newest.iter().find(|(footer, _)| footer.table == table);
    Some(LakeEpoch {
        number,
        system: first.system.clone(),
        is_complete: TABLES
            .iter()
            .all(|table| of(table).is_some_and(|(_, snapshot_is_whole)| *snapshot_is_whole)),
        ends: newest
            .iter()
            .map(|(footer, _)| (footer.table.clone(), footer.last()))
            .collect(),
        oids: newest
            .iter()
            .filter_map(|(footer, _)| Some((footer.table.clone(), footer.table_oid?)))
            .collect(),
    })
}

/// The object under our key is of another history.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the lake already has changes of {table} from {position}, but their {differs} is {theirs} and ours is {ours}: the server was restored and has another history since, or two servers share the lake; nothing was overwritten; `ftap cdc --resnapshot` starts again"
)]
pub struct ChangeConflict {
    /// The table.
    pub table: String,
    /// First position.
    pub position: Position,
    /// What differs.
    pub differs: &'static str,
    /// Its value in the lake.
    pub theirs: String,
    /// Its value here.
    pub ours: String,
}

/// What `AlreadyExists` means, from the footer we wanted to write and the one that is there.
///
/// The first change identifies a run: position, transaction and time of its commit, and
/// its values. Runs that end at the same position must be equal as a whole.
pub fn on_already_exists(
    ours: &ChangeFooter,
    theirs: &ChangeFooter,
) -> Result<Adoption, ChangeConflict> {
    let hex = |hash: u64| format!("{hash:016x}");
    let differs = [
        ("server", theirs.system.clone(), ours.system.clone()),
        (
            "first change's fingerprint",
            hex(theirs.first_change),
            hex(ours.first_change),
        ),
    ];
    let mut differs: Vec<_> = differs.into_iter().filter(|(_, a, b)| a != b).collect();
    if theirs.last() == ours.last() && theirs.checksum != ours.checksum {
        differs.push(("checksum", hex(theirs.checksum), hex(ours.checksum)));
    }
    match differs.into_iter().next() {
        Some((differs, theirs, our_value)) => Err(ChangeConflict {
            table: ours.table.clone(),
            position: ours.first(),
            differs,
            theirs,
            ours: our_value,
        }),
        None if theirs.last() == ours.last() => Ok(Adoption::Same),
        None => Ok(Adoption::Overtaken),
    }
}
