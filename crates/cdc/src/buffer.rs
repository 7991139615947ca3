//! From the messages of a slot to the objects of the lake.
//!
//! Promises: of each table every change behind its end is in exactly one of the objects
//! handed out, in order; a commit is given out as the witness of a checkpoint only when the
//! objects handed out until then hold everything up to it. The server must send again the witness
//! of the checkpoint that the stream continues from and all rows of the objects after it; else its
//! log is another one, which is an error before any object is handed out. Memory is bounded by the
//! rolling limits, not by the size of a transaction: an object may end within a commit, and the
//! next one continues it. Pure.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use ftap_lake::{CloseReason, FileError, Lsn, Position, RollingSettings, should_close};

use xxhash_rust::xxh3::Xxh3;

use super::chain::{PlanError, Resume};
use super::checkpoint::Witness;
use super::file::{ChangeFile, ChangeFileBuilder, Commit, Origin, change_hash};
use super::footer::{ChangeFooter, Content};
use super::schema::Table;
use super::source::{Change, Message};

/// What the stream sent is against its own protocol.
#[derive(Debug, thiserror::Error)]
pub enum BufferError {
    /// A message at the wrong place.
    #[error("the server sent {0}, which its protocol does not allow; report this as a bug")]
    OutOfOrder(String),
    /// The server's log is not the one that the lake was read from.
    #[error(transparent)]
    History(#[from] PlanError),
    /// Columns could not be built or encoded.
    #[error(transparent)]
    File(#[from] FileError),
}

/// What to do after a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// Read on.
    Continue,
    /// Take the objects and put them first.
    Flush(CloseReason),
}

/// Objects to be put, oldest first.
#[derive(Debug, Default)]
pub struct Flush {
    /// The objects; those of one table are in the order of their chain.
    pub files: Vec<ChangeFile>,
    /// What a checkpoint may record when they are durable, if a commit was received whole.
    pub proof: Option<Proof>,
}

/// What a checkpoint records of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// The last commit that was received whole.
    pub witness: Witness,
    /// A commit after it of which a part was handed out.
    pub partial: Option<Witness>,
    /// Of each table the position of its last row in the lake.
    pub ends: BTreeMap<String, Position>,
}

struct OpenCommit {
    witness: Witness,
    seq: u64,
    /// A commit without any may be left out when it is sent again.
    has_content: bool,
    /// A checkpoint was asked for in it.
    asks_for_checkpoint: bool,
}

impl OpenCommit {
    fn commit(&self) -> Commit {
        Commit {
            time_us: self.witness.time_us,
            xid: Some(self.witness.xid),
        }
    }
}

/// Objects of a table that are in the lake and in no checkpoint: their rows are compared with those
/// that the server sends again.
#[derive(Clone)]
struct Replay {
    objects: VecDeque<ChangeFooter>,
    rows: u64,
    checksum: Xxh3,
}

impl Replay {
    fn new(objects: Vec<ChangeFooter>) -> Self {
        Self {
            objects: objects.into(),
            rows: 0,
            checksum: Xxh3::new(),
        }
    }

    /// Takes the next row; whether it is one of an object's. `None` if it contradicts the object.
    fn take(&mut self, position: Position, end: Position, hash: u64) -> Option<bool> {
        let Some(object) = self.objects.front() else {
            return Some(false);
        };
        let follows = object.previous().is_none_or(|previous| previous == end);
        let is_first = position == object.first() && follows;
        let is_expected = if self.rows == 0 { is_first } else { true };
        if !is_expected || position > object.last() {
            return None;
        }
        self.checksum.update(&hash.to_le_bytes());
        self.rows += 1;
        if position == object.last() {
            if self.rows != object.rows || self.checksum.digest() != object.checksum {
                return None;
            }
            self.objects.pop_front();
            self.rows = 0;
            self.checksum = Xxh3::new();
        }
        Some(true)
    }
}

/// See the module.
pub struct ChangeBuffer {
    origin: Origin,
    rolling: RollingSettings,
    /// What the lake had recorded at first.
    recorded: Lsn,
    /// Commits that must be sent before anything after them, until they were.
    awaited: VecDeque<Witness>,
    /// The last commit that was received whole.
    witness: Option<Witness>,
    /// By table.
    replays: BTreeMap<String, Replay>,
    /// Of each table the last position in the lake or handed out.
    ends: BTreeMap<String, Position>,
    relations: HashMap<u32, Arc<Table>>,
    open: BTreeMap<String, ChangeFileBuilder>,
    closed: Vec<ChangeFile>,
    commit: Option<OpenCommit>,
    /// Everything before it was received.
    received: Lsn,
}

impl ChangeBuffer {
    /// An empty buffer that continues there.
    pub fn new(origin: Origin, rolling: RollingSettings, resume: Resume) -> Self {
        let replays = resume.unrecorded.into_iter();
        Self {
            origin,
            rolling,
            recorded: resume.confirmed,
            awaited: resume.awaited.into(),
            witness: None,
            replays: replays
                .map(|(table, objects)| (table, Replay::new(objects)))
                .collect(),
            ends: resume.ends,
            relations: HashMap::new(),
            open: BTreeMap::new(),
            closed: Vec::new(),
            commit: None,
            received: Lsn::default(),
        }
    }

    /// Takes a message.
    pub fn apply(&mut self, message: Message) -> Result<Flow, BufferError> {
        match message {
            Message::Begin { lsn, time_us, xid } => {
                if self.commit.is_some() {
                    return Err(out_of_order("a transaction within another"));
                }
                let witness = Witness { lsn, xid, time_us };
                self.check_begin(witness)?;
                self.commit = Some(OpenCommit {
                    witness,
                    seq: 0,
                    has_content: false,
                    asks_for_checkpoint: false,
                });
            }
            Message::Relation { id, table } => {
                self.note_content();
                self.relations.insert(id, table);
            }
            Message::Change { relation, change } => self.append(relation, &change)?,
            Message::Truncate { relations } => {
                for relation in relations {
                    self.append(relation, &Change::Truncate)?;
                }
            }
            Message::CheckpointRequest => {
                if let Some(open) = &mut self.commit {
                    open.has_content = true;
                    open.asks_for_checkpoint = true;
                }
            }
            Message::Commit { end } => {
                let Some(open) = self.commit.take() else {
                    return Err(out_of_order("the end of a transaction that did not begin"));
                };
                self.received = self.received.max(end);
                if open.has_content {
                    self.witness = Some(open.witness);
                }
                if open.asks_for_checkpoint {
                    return Ok(Flow::Flush(CloseReason::Requested));
                }
            }
            Message::KeepAlive { at, is_urgent } => {
                if self.commit.is_none() {
                    self.check_nothing_is_awaited_before(at)?;
                    self.received = self.received.max(at);
                    // A server that stops waits until it hears that we have everything.
                    if is_urgent {
                        return Ok(Flow::Flush(CloseReason::Requested));
                    }
                }
            }
            Message::Other => self.note_content(),
        }
        Ok(match self.due() {
            Some(reason) => Flow::Flush(reason),
            None => Flow::Continue,
        })
    }

    fn note_content(&mut self) {
        if let Some(open) = &mut self.commit {
            open.has_content = true;
        }
    }

    /// Everything that is awaited from before `witness` must have come.
    fn check_begin(&mut self, witness: Witness) -> Result<(), PlanError> {
        self.check_replays_before(witness.lsn)?;
        match self.awaited.front() {
            Some(awaited) if witness == *awaited => {
                self.awaited.pop_front();
            }
            Some(awaited) if witness.lsn >= awaited.lsn => {
                return Err(self.another_history(format!("it sent {witness} instead of {awaited}")));
            }
            _ => {}
        }
        Ok(())
    }

    fn check_nothing_is_awaited_before(&self, at: Lsn) -> Result<(), PlanError> {
        match self.awaited.front() {
            // The log ends at the start of a record before the record is read.
            Some(awaited) if at > awaited.lsn => {
                Err(self.another_history(format!("it does not hold {awaited}")))
            }
            _ => self.check_replays_before(at),
        }
    }

    fn check_replays_before(&self, at: Lsn) -> Result<(), PlanError> {
        for (table, replay) in &self.replays {
            if let Some(object) = replay.objects.front()
                && object.last_lsn < at
            {
                return Err(self.another_history(format!(
                    "it does not hold the changes of {table} up to {} that are in the lake",
                    object.last()
                )));
            }
        }
        Ok(())
    }

    fn another_history(&self, what: String) -> PlanError {
        PlanError::AnotherHistory {
            recorded: self.recorded,
            what,
        }
    }

    fn append(&mut self, relation: u32, change: &Change) -> Result<(), BufferError> {
        let Some(table) = self.relations.get(&relation) else {
            let text = format!("a change of table {relation} without its columns");
            return Err(out_of_order(&text));
        };
        let Some(open) = &mut self.commit else {
            return Err(out_of_order("a change outside a transaction"));
        };
        open.has_content = true;
        if !table.is_captured() {
            return Ok(());
        }
        open.seq += 1;
        let position = Position {
            lsn: open.witness.lsn,
            seq: open.seq,
        };
        let commit = open.commit();
        let previous = self.ends.get(&table.name).copied().unwrap_or_default();
        if position <= previous {
            // Sent again, and in the lake already.
            return Ok(());
        }
        if !self.awaited.is_empty() {
            let what = format!("it holds a change of {} at {position}", table.name);
            return Err(self.another_history(what).into());
        }
        if let Some(replay) = self.replays.get_mut(&table.name) {
            match replay.take(position, previous, change_hash(change, position, commit)) {
                Some(true) => {
                    self.ends.insert(table.name.clone(), position);
                    return Ok(());
                }
                Some(false) => {}
                None => {
                    let what = format!(
                        "its change of {} at {position} is not the one that is in the lake",
                        table.name
                    );
                    return Err(self.another_history(what).into());
                }
            }
        }
        let fits = self.open.get(&table.name);
        if fits.is_some_and(|builder| !builder.table().same_shape(table)) {
            let table = table.name.clone();
            self.close(&table)?;
        }
        let table = &self.relations[&relation];
        let builder = match self.open.entry(table.name.clone()) {
            std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::btree_map::Entry::Vacant(entry) => {
                entry.insert(ChangeFileBuilder::changes(
                    table.clone(),
                    self.origin.clone(),
                    previous,
                    position,
                    commit,
                )?)
            }
        };
        builder.append(change, position, commit)?;
        self.ends.insert(table.name.clone(), position);
        Ok(())
    }

    fn close(&mut self, table: &str) -> Result<(), FileError> {
        let Some(builder) = self.open.remove(table) else {
            return Ok(());
        };
        let last = self.ends.get(table).map(|end| end.lsn);
        let goes_on = self
            .commit
            .as_ref()
            .is_some_and(|open| Some(open.witness.lsn) == last);
        self.closed.push(builder.close(Content::Changes, goes_on)?);
        Ok(())
    }

    fn due(&self) -> Option<CloseReason> {
        if !self.closed.is_empty() {
            return Some(CloseReason::Requested);
        }
        let builders = self.open.values();
        let rows = builders.clone().map(ChangeFileBuilder::rows).sum();
        let bytes = builders.map(ChangeFileBuilder::encoded_bytes).sum();
        let age = self.opened_at().map(|at| at.elapsed()).unwrap_or_default();
        should_close(rows, bytes, 0, age, &self.rolling)
    }

    /// When the oldest row came that is still here.
    pub fn opened_at(&self) -> Option<Instant> {
        self.open.values().map(ChangeFileBuilder::opened_at).min()
    }

    /// When the oldest change was committed that is still here, in microseconds since 1970.
    pub(crate) fn oldest_commit_us(&self) -> Option<i64> {
        let builders = self.open.values();
        builders.map(|builder| builder.first_commit().time_us).min()
    }

    /// Whether rows are here that were not handed out.
    pub(crate) fn holds_rows(&self) -> bool {
        !self.open.is_empty() || !self.closed.is_empty()
    }

    /// Up to where everything that concerns us is in the lake if all objects handed out are;
    /// `None` while rows are here that were not handed out.
    pub fn idle_at(&self) -> Option<Lsn> {
        (!self.holds_rows() && self.received > Lsn::default()).then_some(self.received)
    }

    /// Everything before it was received.
    pub fn received(&self) -> Lsn {
        self.received
    }

    /// Whether the server has sent again what it had to: its log is the one that the lake was read
    /// from.
    pub fn is_proven(&self) -> bool {
        let mut replays = self.replays.values();
        self.awaited.is_empty() && replays.all(|replay| replay.objects.is_empty())
    }

    /// Closes everything that is open and hands it out.
    pub fn take(&mut self) -> Result<Flush, FileError> {
        let tables: Vec<String> = self.open.keys().cloned().collect();
        for table in tables {
            self.close(&table)?;
        }
        let witness = self.witness.filter(|_| self.is_proven());
        let open = self.commit.as_ref().map(|open| open.witness);
        let partial = open.filter(|open| self.ends.values().any(|end| end.lsn == open.lsn));
        Ok(Flush {
            files: std::mem::take(&mut self.closed),
            proof: witness.map(|witness| Proof {
                witness,
                partial,
                ends: self.ends.clone(),
            }),
        })
    }
}

#[cfg(test)]
impl ChangeBuffer {
    /// A copy of one that has handed out everything.
    pub(crate) fn fork(&self) -> Self {
        assert!(!self.holds_rows());
        let resume = Resume {
            confirmed: self.recorded,
            awaited: self.awaited.iter().copied().collect(),
            ends: self.ends.clone(),
            ..Resume::default()
        };
        let commit = self.commit.as_ref().map(|open| OpenCommit { ..*open });
        Self {
            witness: self.witness,
            replays: self.replays.clone(),
            relations: self.relations.clone(),
            commit,
            received: self.received,
            ..Self::new(self.origin.clone(), self.rolling, resume)
        }
    }
}

fn out_of_order(what: &str) -> BufferError {
    BufferError::OutOfOrder(what.to_owned())
}
