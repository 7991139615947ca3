//! What the processes of a model share: the server and the lakes.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use ftap_lake::{ChangeObjectName, ChangePart, Position};

use crate::catalog::{Catalog, PublicationIdentity};
use crate::chain::{LakeEpoch, PublicationState, ServerState, SlotState, TableChain};
use crate::chain::{newest_epoch, objects_to_read};
use crate::checkpoint::Checkpoint;
use crate::footer::{ChangeFooter, Content};
use crate::schema::{Column, Table};
use crate::source::{Cell, Change, Message, Tuple};
use crate::{Lsn, TABLES};

pub(super) const SLOT: &str = "s";
pub(super) const SYSTEM: &str = "7";
const DATABASE: &str = "d";
/// Of text, for PostgreSQL.
const TEXT: u32 = 25;
/// Bytes of log that a commit takes, and those before the first one.
const COMMIT_BYTES: u64 = 100;
const DAY_US: i64 = 86_400_000_000;

/// What a transaction changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    /// A row of users.
    One,
    /// Two rows of users, then one of merchants.
    Three,
    /// Nothing that is captured; the server may leave it out.
    Nothing,
    /// Our message, which asks for a checkpoint.
    Heartbeat,
    /// A row of users while the publication lacks them; then it has them again.
    Unpublished,
}

/// A committed transaction. A server that was restored from a copy writes others at the same places.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Commit {
    pub(super) lsn: u64,
    /// How often the server had been restored.
    pub(super) life: u8,
    pub(super) kind: Kind,
    /// How often the publication had been altered afterwards.
    pub(super) publication: u8,
}

/// A committed row, or one in the lake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Row {
    pub(super) table: &'static str,
    pub(super) at: Position,
    life: u8,
}

impl Commit {
    pub(super) fn end(self) -> u64 {
        self.lsn + COMMIT_BYTES / 2
    }

    pub(super) fn rows(self) -> Vec<Row> {
        let tables: &[_] = match self.kind {
            Kind::One | Kind::Unpublished => &TABLES[..1],
            Kind::Three => &[TABLES[0], TABLES[0], TABLES[1]],
            Kind::Nothing | Kind::Heartbeat => &[],
        };
        let rows = tables.iter().zip(1..).map(|(table, seq)| Row {
            table,
            at: Position {
                lsn: Lsn(self.lsn),
                seq,
            },
            life: self.life,
        });
        rows.collect()
    }

    /// Whether the server may leave it out.
    pub(super) fn is_empty(self) -> bool {
        matches!(self.kind, Kind::Nothing | Kind::Unpublished)
    }

    /// Its messages, in the parts between which a reader may stop.
    pub(super) fn parts(self) -> Vec<Vec<Message>> {
        let begin = Message::Begin {
            lsn: Lsn(self.lsn),
            // Another life is on another day, so its objects have other keys.
            time_us: i64::from(self.life) * DAY_US,
            xid: self.lsn as u32,
        };
        let commit = Message::Commit {
            end: Lsn(self.end()),
        };
        if self.kind == Kind::Heartbeat {
            return vec![vec![begin, Message::CheckpointRequest, commit]];
        }
        let rows = if self.is_empty() {
            Vec::new()
        } else {
            self.rows()
        };
        let mut parts = vec![vec![begin]];
        for row in rows {
            let id = table(row.table).oid;
            let relation = Message::Relation {
                id,
                table: table(row.table),
            };
            let change = Change::Insert {
                after: row.content(),
            };
            let messages = [
                relation,
                Message::Change {
                    relation: id,
                    change,
                },
            ];
            // Begin and the first row come at once.
            if parts.len() == 1 && parts[0].len() == 1 {
                parts[0].extend(messages);
            } else {
                parts.push(messages.into());
            }
        }
        parts.push(vec![commit]);
        parts
    }
}

impl Row {
    pub(super) fn content(self) -> Tuple {
        let text = format!("{self:?}");
        Tuple(vec![Cell::Text(text.into())])
    }
}

pub(super) fn table(name: &str) -> Arc<Table> {
    let column = Column {
        name: "c".to_owned(),
        type_oid: TEXT,
        type_modifier: -1,
        is_key: true,
    };
    Arc::new(Table {
        oid: 1 + u32::from(name != TABLES[0]),
        schema: crate::SCHEMA.to_owned(),
        name: name.to_owned(),
        columns: vec![column],
    })
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Slot {
    pub(super) confirmed: u64,
    /// The process that reads it.
    pub(super) reader: Option<u8>,
}

/// What a copy of the server has.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Server {
    pub(super) log: Vec<Commit>,
    pub(super) life: u8,
    pub(super) slot: Option<Slot>,
    pub(super) publication: u8,
    /// Each new slot takes a little of the log.
    pub(super) slots_made: u8,
    /// The process that takes a snapshot.
    pub(super) locked_by: Option<u8>,
}

/// What a process learns of the server at a start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct View {
    flushed: u64,
    /// Of the slot, if there is one.
    pub(super) confirmed: Option<u64>,
    pub(super) publication: u8,
}

impl Server {
    pub(super) fn new() -> Self {
        Self {
            log: Vec::new(),
            life: 0,
            slot: None,
            publication: 0,
            slots_made: 0,
            locked_by: None,
        }
    }

    pub(super) fn flushed(&self) -> u64 {
        let last = self.log.last();
        let end = last.map_or(COMMIT_BYTES / 2, |commit| commit.end());
        end + u64::from(self.slots_made)
    }

    pub(super) fn commit(&mut self, kind: Kind) {
        self.publication += u8::from(kind == Kind::Unpublished);
        self.log.push(Commit {
            lsn: COMMIT_BYTES * (self.log.len() as u64 + 1),
            life: self.life,
            kind,
            publication: self.publication,
        });
    }

    /// The connections of a process end.
    pub(super) fn forget(&mut self, process: u8) {
        if let Some(slot) = &mut self.slot
            && slot.reader == Some(process)
        {
            slot.reader = None;
        }
        if self.locked_by == Some(process) {
            self.locked_by = None;
        }
    }

    pub(super) fn view(&self) -> View {
        View {
            flushed: self.flushed(),
            confirmed: self.slot.as_ref().map(|slot| slot.confirmed),
            publication: self.publication,
        }
    }

    /// Those that no process reads can be dropped, advanced and read.
    pub(super) fn idle_slot(&mut self) -> Option<&mut Slot> {
        self.slot.as_mut().filter(|slot| slot.reader.is_none())
    }
}

pub(super) fn catalog(publication: u8) -> Catalog {
    Catalog {
        timeline: 1,
        publication: Some(PublicationIdentity {
            oid: 1,
            xmin: publication.into(),
            options: String::new(),
        }),
        ..Catalog::default()
    }
}

impl View {
    pub(super) fn state(self) -> ServerState {
        ServerState {
            system: SYSTEM.to_owned(),
            database: DATABASE.to_owned(),
            flushed: Lsn(self.flushed),
            slot: self.confirmed.map(|confirmed| SlotState {
                plugin: Some("pgoutput".to_owned()),
                database: Some(DATABASE.to_owned()),
                wal_status: Some("reserved".to_owned()),
                lost_by: None,
                confirmed: Some(Lsn(confirmed)),
            }),
            publication: PublicationState::Whole,
            catalog: catalog(self.publication),
        }
    }
}

/// An object of changes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Object {
    pub(super) name: ChangeObjectName,
    pub(super) footer: ChangeFooter,
    pub(super) rows: Vec<Row>,
}

impl Hash for Object {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // Place and content; the rest follows from them.
        let footer = &self.footer;
        let place = (footer.table == TABLES[0], footer.epoch, footer.first());
        (place, footer.last(), footer.checksum).hash(state);
    }
}

/// A checkpoint whose time and writer are left out, which no rule reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Recorded(pub(super) Arc<Checkpoint>);

impl Hash for Recorded {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let checkpoint = &*self.0;
        (checkpoint.epoch, checkpoint.confirmed, self.publication()).hash(state);
        for (witness, end) in [checkpoint.witness, checkpoint.partial]
            .iter()
            .zip([true, false])
        {
            (witness.map(|witness| witness.time_us), end).hash(state);
        }
        checkpoint.ends.values().for_each(|end| end.hash(state));
    }
}

impl Recorded {
    pub(super) fn publication(&self) -> u32 {
        let publication = self.0.catalog.publication.as_ref();
        publication.map_or(0, |publication| publication.xmin)
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Lake {
    pub(super) objects: BTreeMap<ChangeObjectName, Arc<Object>>,
    /// By epoch and position.
    pub(super) checkpoints: BTreeMap<(u32, Lsn), Recorded>,
}

impl Hash for Lake {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let (objects, checkpoints) = (self.objects.values(), self.checkpoints.values());
        objects.for_each(|object| object.hash(state));
        checkpoints.for_each(|checkpoint| checkpoint.hash(state));
    }
}

impl Lake {
    /// As the start of a process finds it, with the program's own choice of objects.
    pub(super) fn newest_epoch(&self) -> Option<LakeEpoch> {
        let names: Vec<_> = self.objects.keys().cloned().collect();
        let epochs = names.iter().map(|name| name.epoch);
        let number = epochs
            .chain(self.checkpoints.keys().map(|key| key.0))
            .max()?;
        let checkpoint = self.checkpoint(number);
        let chains = TABLES.iter().filter_map(|table| {
            let recorded = checkpoint.map(|c| c.0.ends.get(*table).copied());
            let objects = objects_to_read(&names, number, table, recorded)?;
            let footer = |name| self.objects[name].footer.clone();
            let snapshot = footer(objects.snapshot);
            Some(TableChain {
                snapshot_is_whole: snapshot.content == Content::SnapshotEnd,
                newest: objects.newest.map_or(snapshot, footer),
                unrecorded: objects.unrecorded.into_iter().map(footer).collect(),
            })
        });
        let checkpoint = checkpoint.map(|recorded| Checkpoint::clone(&recorded.0));
        newest_epoch(number, chains.collect(), checkpoint)
    }

    fn checkpoint(&self, epoch: u32) -> Option<&Recorded> {
        let mut of_epoch = self.checkpoints.range((epoch, Lsn(0))..(epoch + 1, Lsn(0)));
        of_epoch.next_back().map(|(_, recorded)| recorded)
    }

    /// The newest epoch that a reader may use, and its newest checkpoint.
    pub(super) fn readable(&self) -> Option<(u32, Option<&Recorded>)> {
        let ends = |epoch: u32| {
            let of_epoch = self.objects.values().map(|object| &object.footer);
            let ends = of_epoch.filter(|f| f.epoch == epoch && f.content == Content::SnapshotEnd);
            ends.count()
        };
        let epochs = self.objects.keys().map(|name| name.epoch);
        let whole = epochs.filter(|epoch| ends(*epoch) == TABLES.len()).max()?;
        Some((whole, self.checkpoint(whole)))
    }

    /// All rows of an epoch up to a position, in order; those of the snapshot included.
    pub(super) fn rows(&self, epoch: u32, up_to: Lsn) -> Vec<Row> {
        let objects = self.objects.values().filter(|object| {
            let is_snapshot = matches!(object.name.part, ChangePart::Snapshot(_));
            object.name.epoch == epoch && (is_snapshot || object.footer.first_lsn <= up_to)
        });
        let rows = objects.flat_map(|object| object.rows.iter().copied());
        let mut rows: Vec<_> = rows.filter(|row| row.at.lsn <= up_to).collect();
        rows.sort_unstable();
        rows
    }

    /// Where the snapshot of an epoch is.
    pub(super) fn snapshot(&self, epoch: u32) -> Lsn {
        let mut of_epoch = self.objects.values().filter(|object| {
            object.name.epoch == epoch && object.footer.content == Content::SnapshotEnd
        });
        of_epoch
            .next()
            .map_or(Lsn(0), |object| object.footer.first_lsn)
    }
}
