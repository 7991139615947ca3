//! Where to continue, given what lake and server hold, and what to do about an object that
//! exists already.
//!
//! Promises: a change is left out only where an error or a new epoch says so. Pure.

use std::collections::BTreeMap;
use std::fmt;

use ftap_lake::{Adoption, ChangeObjectName, ChangePart, Lsn, Position};

use super::catalog::Catalog;
use super::checkpoint::{Checkpoint, Witness};
use super::footer::ChangeFooter;
use super::{SCHEMA, TABLES};

/// The newest epoch of the lake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LakeEpoch {
    /// Its number.
    pub number: u32,
    /// System identifier of the server it was read from.
    pub system: String,
    /// The slot it was read from.
    pub slot: String,
    /// Whether the snapshots of all tables are whole.
    pub is_complete: bool,
    /// Of each table the position of the last row in the lake, as far as the checkpoint goes.
    pub ends: BTreeMap<String, Position>,
    /// Of each table its object identifier, where an object says it.
    pub oids: BTreeMap<String, u32>,
    /// The newest checkpoint.
    pub checkpoint: Option<Checkpoint>,
    /// Whether the epoch is of a version that writes checkpoints.
    pub has_checkpoints: bool,
    /// Of each table the objects after the checkpoint, oldest first.
    pub unrecorded: BTreeMap<String, Vec<ChangeFooter>>,
}

/// What the lake has of one table of an epoch.
#[derive(Clone, Debug)]
pub(crate) struct TableChain {
    /// Whether the last part of its snapshot is there.
    pub(crate) snapshot_is_whole: bool,
    /// The newest object up to the checkpoint.
    pub(crate) newest: ChangeFooter,
    /// The objects after it, oldest first.
    pub(crate) unrecorded: Vec<ChangeFooter>,
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
    /// Why the server gave it up, as `pg_replication_slots` calls it from version 17 on.
    pub lost_by: Option<String>,
}

impl SlotState {
    /// Why the server gave it up, and what keeps it from that the next time.
    fn loss(&self) -> String {
        match self.lost_by.as_deref() {
            None | Some("wal_removed") => {
                "the server removed log that it had not sent yet, more than max_slot_wal_keep_size; raise that there".to_owned()
            }
            Some("idle_timeout") => {
                "it was not read for longer than idle_replication_slot_timeout; raise that there, or keep `ftap cdc` running".to_owned()
            }
            Some("wal_level_insufficient") => {
                "the server ran with another wal_level than logical for a while".to_owned()
            }
            Some(reason) => format!("the server invalidated it ({reason})"),
        }
    }
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
    /// The captured tables and what publishes them.
    pub catalog: Catalog,
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
        /// Where.
        resume: Box<Resume>,
    },
}

/// Where a stream continues, and what must be in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resume {
    /// Up to here everything is in the lake and recorded there.
    pub confirmed: Lsn,
    /// Commits that the server must send again before anything after them, in this order.
    pub awaited: Vec<Witness>,
    /// Of each table the position up to which its rows are in the lake and recorded there.
    pub ends: BTreeMap<String, Position>,
    /// Of each table the objects after that, oldest first: the server must send their rows again.
    pub unrecorded: BTreeMap<String, Vec<ChangeFooter>>,
    /// The catalogue as it was compared last; `None` in a lake of an earlier version.
    pub catalog: Option<Catalog>,
}

/// A part of the server's log that the lake does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// What the lake has recorded.
    pub after: Lsn,
    /// The end of the server's log.
    pub up_to: Lsn,
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "after {} up to {}", self.after, self.up_to)
    }
}

/// Lake and server contradict each other; only a person can tell which one is right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// The slot is gone.
    #[error(
        "replication slot {slot} is gone, so changes {gap} are lost as changes; `ftap cdc --resnapshot` creates a new slot and copies the tables again"
    )]
    SlotMissing {
        /// The slot.
        slot: String,
        gap: Gap,
    },
    /// The server invalidated the slot.
    #[error(
        "replication slot {slot} is lost, and changes {gap} with it: {cause}; `ftap cdc --resnapshot` creates a new slot and copies the tables again"
    )]
    SlotLost {
        /// The slot.
        slot: String,
        gap: Gap,
        /// Why, and what keeps it from that the next time.
        cause: String,
    },
    /// The publication is gone.
    #[error(
        "the publication of replication slot {slot} is gone, and the slot can't see one that is created now, so changes {gap} are lost: `ftap cdc --resnapshot` creates both and copies the tables again"
    )]
    PublicationMissing {
        /// The slot.
        slot: String,
        gap: Gap,
    },
    /// The publication leaves changes out.
    #[error(
        "the publication of replication slot {slot} lacks {what}, so changes {gap} may be missing in the lake: {remedy}, then `ftap cdc --resnapshot` copies the tables again"
    )]
    PublicationLacks {
        /// The slot.
        slot: String,
        gap: Gap,
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
    /// A slot that another lake may follow.
    #[error(
        "replication slot {slot} exists, but the lake has no snapshot that it follows: it may be another lake's, which would miss changes without it; set CDC_SLOT to another name, or, if no other lake reads it, SELECT pg_drop_replication_slot('{slot}')"
    )]
    SlotWithoutLake {
        /// The slot.
        slot: String,
    },
    /// Changes were skipped by another client of the slot.
    #[error(
        "replication slot {slot} was confirmed up to {confirmed}, but this lake has recorded changes only up to {recorded}: the changes after {recorded} up to {confirmed} were skipped, because the slot was advanced, created again, or read by another client; `ftap cdc --resnapshot` copies the tables again. If another lake reads this slot, set CDC_SLOT to another name first"
    )]
    SlotAdvanced {
        /// The slot.
        slot: String,
        /// What the lake has recorded.
        recorded: Lsn,
        /// What the slot has confirmed.
        confirmed: Lsn,
    },
    /// The epoch's checkpoints were removed.
    #[error(
        "the lake has changes of epoch {epoch} up to {end}, but no checkpoint of it in {folder}/: they were removed, so nothing shows which changes after it the slot has skipped; restore them, or copy the tables again with `ftap cdc --resnapshot`",
        folder = ftap_lake::CHECKPOINTS_FOLDER
    )]
    CheckpointsRemoved {
        /// The epoch.
        epoch: u32,
        /// Last position in the lake.
        end: Position,
    },
    /// Objects of a snapshot that was whole are gone.
    #[error(
        "the lake has changes of epoch {epoch}, but not its whole snapshot: files of it were removed; restore them, or copy the tables again with `ftap cdc --resnapshot`"
    )]
    SnapshotRemoved {
        /// The epoch.
        epoch: u32,
    },
    /// Objects that a checkpoint has recorded are gone.
    #[error(
        "the lake's changes of {table} end at {end}, but they were recorded up to {recorded}: objects were removed from {table}_changes/; restore them, or copy the tables again with `ftap cdc --resnapshot`"
    )]
    ObjectsRemoved {
        /// The table.
        table: String,
        /// Last position in the lake.
        end: Position,
        /// Last position by the checkpoint.
        recorded: Position,
    },
    /// Changes may not have been published for a while.
    #[error(
        "{what} after {since}, so changes after {since} up to {now} may be missing; `ftap cdc --resnapshot` copies the tables again"
    )]
    PublicationBroken {
        /// What happened.
        what: String,
        /// When all was well.
        since: Lsn,
        /// The end of the server's log.
        now: Lsn,
    },
    /// The log is not the one that the lake was read from.
    #[error(
        "the server's log is not the one that this lake was read from up to {recorded}: {what}; it was restored from a copy, or another server was promoted. `ftap cdc --resnapshot` copies the tables again"
    )]
    AnotherHistory {
        /// What the lake has recorded.
        recorded: Lsn,
        /// What contradicts.
        what: String,
    },
    /// A table that must be copied has another name.
    #[error("table {table} is now called {name}: rename it back before its rows are copied again")]
    TableRenamed {
        /// The table.
        table: String,
        /// Its schema and name now.
        name: String,
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
/// complete one without a slot has lost what came after it. `server` must be read before `lake`:
/// the slot is acknowledged after its checkpoint.
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
        // Also when a snapshot was asked for, which would drop the slot.
        if lake.is_none_or(|lake| lake.slot != slot_name) {
            return Err(PlanError::SlotWithoutLake { slot: slot_name });
        }
    }
    let next = lake.map_or(1, |lake| lake.number.saturating_add(1));
    let snapshot = |reason| {
        for (table, state) in &server.catalog.tables {
            if state.name != format!("{SCHEMA}.{table}") {
                return Err(PlanError::TableRenamed {
                    table: table.clone(),
                    name: state.name.clone(),
                });
            }
        }
        Ok(Plan::Snapshot {
            epoch: next,
            reason,
        })
    };
    if resnapshot {
        return snapshot(SnapshotReason::Asked);
    }
    let Some(lake) = lake else {
        return snapshot(SnapshotReason::First);
    };
    if lake.system != server.system {
        return Err(PlanError::AnotherServer {
            theirs: lake.system.clone(),
            ours: server.system.clone(),
        });
    }
    let end = lake.end();
    if end.lsn > server.flushed {
        return Err(PlanError::LakeAhead {
            end,
            flushed: server.flushed,
        });
    }
    if !lake.is_complete {
        // A snapshot is recorded before it is whole, and changes after it only then.
        let was_complete = lake
            .checkpoint
            .as_ref()
            .is_some_and(|c| c.witness.is_some());
        if was_complete {
            return Err(PlanError::SnapshotRemoved { epoch: lake.number });
        }
        return snapshot(SnapshotReason::Interrupted);
    }
    let slot = usable_slot(&slot_name, lake, server)?;
    let confirmed = slot.confirmed.unwrap_or_default();
    let resume = match &lake.checkpoint {
        Some(checkpoint) => resume(&slot_name, lake, checkpoint, confirmed, server)?,
        None if lake.has_checkpoints => {
            return Err(PlanError::CheckpointsRemoved {
                epoch: lake.number,
                end,
            });
        }
        None => Resume {
            confirmed,
            ends: lake.ends.clone(),
            ..Resume::default()
        },
    };
    Ok(Plan::Stream {
        epoch: lake.number,
        resume: Box::new(resume),
    })
}

/// The slot that the lake follows, if it and its publication have kept all changes.
fn usable_slot<'s>(
    slot_name: &str,
    lake: &LakeEpoch,
    server: &'s ServerState,
) -> Result<&'s SlotState, PlanError> {
    let gap = Gap {
        after: lake
            .checkpoint
            .as_ref()
            .map_or(lake.end().lsn, |c| c.confirmed),
        up_to: server.flushed,
    };
    let Some(slot) = &server.slot else {
        return Err(PlanError::SlotMissing {
            slot: slot_name.to_owned(),
            gap,
        });
    };
    if slot.wal_status.as_deref() == Some("lost") {
        return Err(PlanError::SlotLost {
            slot: slot_name.to_owned(),
            gap,
            cause: slot.loss(),
        });
    }
    match &server.publication {
        PublicationState::Missing => {
            return Err(PlanError::PublicationMissing {
                slot: slot_name.to_owned(),
                gap,
            });
        }
        PublicationState::Lacks { what, remedy } => {
            return Err(PlanError::PublicationLacks {
                slot: slot_name.to_owned(),
                gap,
                what: what.clone(),
                remedy: remedy.clone(),
            });
        }
        PublicationState::Whole => {}
    }
    for (table, state) in &server.catalog.tables {
        same_table(&lake.oids, table, state.oid)?;
    }
    Ok(slot)
}

/// Continues after a checkpoint, if nothing was missed since.
fn resume(
    slot: &str,
    lake: &LakeEpoch,
    checkpoint: &Checkpoint,
    confirmed: Lsn,
    server: &ServerState,
) -> Result<Resume, PlanError> {
    let recorded = checkpoint.confirmed;
    if confirmed > recorded {
        return Err(PlanError::SlotAdvanced {
            slot: slot.to_owned(),
            recorded,
            confirmed,
        });
    }
    let (now, then) = (&server.catalog, &checkpoint.catalog);
    if let Some(what) = now.break_since(then) {
        return Err(PlanError::PublicationBroken {
            what,
            since: then.read_at,
            now: server.flushed,
        });
    }
    // Only a witness can prove that another timeline continues ours.
    if checkpoint.witness.is_none() && now.timeline != then.timeline {
        let (ours, theirs) = (now.timeline, then.timeline);
        return Err(PlanError::AnotherHistory {
            recorded,
            what: format!("its timeline is {ours}, that of the snapshot was {theirs}"),
        });
    }
    for (table, recorded) in &checkpoint.ends {
        let end = lake.ends.get(table).copied().unwrap_or_default();
        if end < *recorded {
            return Err(PlanError::ObjectsRemoved {
                table: table.clone(),
                end,
                recorded: *recorded,
            });
        }
    }
    Ok(Resume {
        confirmed: recorded,
        awaited: checkpoint
            .witness
            .into_iter()
            .chain(checkpoint.partial)
            .collect(),
        ends: checkpoint.ends.clone(),
        unrecorded: lake.unrecorded.clone(),
        catalog: Some(then.clone()),
    })
}

impl LakeEpoch {
    /// The last position in the lake.
    fn end(&self) -> Position {
        let unrecorded = self.unrecorded.values().flatten();
        let ends = unrecorded.map(ChangeFooter::last);
        let end = ends.chain(self.ends.values().copied()).max();
        end.unwrap_or_default()
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

/// The objects of a table in an epoch that a start reads.
pub(crate) struct ObjectsToRead<'a> {
    /// The last part of the snapshot that is there.
    pub(crate) snapshot: &'a ChangeObjectName,
    /// The newest object of changes up to the checkpoint.
    pub(crate) newest: Option<&'a ChangeObjectName>,
    /// The objects after it, oldest first.
    pub(crate) unrecorded: Vec<&'a ChangeObjectName>,
}

/// Chooses them among the names of all objects. `recorded` is where the table ends by the
/// checkpoint, if there is one. `None` if the table has no snapshot.
pub(crate) fn objects_to_read<'a>(
    names: &'a [ChangeObjectName],
    epoch: u32,
    table: &str,
    recorded: Option<Option<Position>>,
) -> Option<ObjectsToRead<'a>> {
    let of_table = names
        .iter()
        .filter(|name| name.epoch == epoch && name.table == table);
    let snapshot = of_table
        .clone()
        .filter(|name| matches!(name.part, ChangePart::Snapshot(_)))
        .max_by_key(|name| name.part)?;
    // By part, so that two dates of one position count as one place in the chain.
    let mut changes: Vec<_> = of_table
        .filter_map(|name| match name.part {
            ChangePart::Changes(first) => Some((first, name)),
            ChangePart::Snapshot(_) => None,
        })
        .collect();
    changes.sort_by_key(|(first, _)| *first);
    changes.dedup_by_key(|(first, _)| *first);
    let is_unrecorded = |first: Position| match recorded {
        Some(end) => end.is_none_or(|end| first > end),
        None => false,
    };
    let split = changes.partition_point(|(first, _)| !is_unrecorded(*first));
    let (recorded, unrecorded) = changes.split_at(split);
    Some(ObjectsToRead {
        snapshot,
        newest: recorded.last().map(|(_, name)| *name),
        unrecorded: unrecorded.iter().map(|(_, name)| *name).collect(),
    })
}

/// The newest epoch, from its tables' objects and its newest checkpoint.
pub(crate) fn newest_epoch(
    number: u32,
    chains: Vec<TableChain>,
    checkpoint: Option<Checkpoint>,
) -> Option<LakeEpoch> {
    let of_newest = chains.first().map(|chain| &chain.newest);
    let of_newest = of_newest.map(|footer| (footer.system.clone(), footer.slot.clone()));
    let of_checkpoint = checkpoint.as_ref();
    let of_checkpoint = of_checkpoint.map(|c| (c.system.clone(), c.slot.clone()));
    let (system, slot) = of_checkpoint.or(of_newest)?;
    let whole = |table: &str| {
        let mut chains = chains.iter();
        chains.any(|chain| chain.newest.table == table && chain.snapshot_is_whole)
    };
    let mut oids: BTreeMap<String, u32> = chains
        .iter()
        .filter_map(|TableChain { newest, .. }| Some((newest.table.clone(), newest.table_oid?)))
        .collect();
    for (table, state) in checkpoint.iter().flat_map(|c| &c.catalog.tables) {
        oids.insert(table.clone(), state.oid);
    }
    Some(LakeEpoch {
        number,
        system,
        slot,
        is_complete: TABLES.iter().all(|table| whole(table)),
        has_checkpoints: chains.iter().any(|chain| chain.newest.previous().is_some()),
        ends: chains
            .iter()
            .map(|chain| (chain.newest.table.clone(), chain.newest.last()))
            .collect(),
        oids,
        checkpoint,
        unrecorded: chains
            .into_iter()
            .filter(|chain| !chain.unrecorded.is_empty())
            .map(|chain| (chain.newest.table.clone(), chain.unrecorded))
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
    if let (Some(theirs), Some(ours)) = (theirs.previous(), ours.previous())
        && theirs != ours
    {
        differs.push(("file before", theirs.to_string(), ours.to_string()));
    }
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
