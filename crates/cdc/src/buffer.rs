//! From the messages of a slot to the objects of the lake.
//!
//! Promises: of each table every change behind its end is in exactly one of the objects
//! handed out, in order; a place is given out as safe only when the objects handed out
//! until then hold everything before it. Memory is bounded by the rolling limits, not by
//! the size of a transaction: an object may end within a commit, and the next one continues
//! it. Pure.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Instant;

use ftap_lake::{CloseReason, FileError, Lsn, Position, RollingSettings, should_close};

use super::file::{ChangeFile, ChangeFileBuilder, Commit, Origin};
use super::footer::Content;
use super::schema::Table;
use super::source::{Change, Message};

/// What the stream sent is against its own protocol.
#[derive(Debug, thiserror::Error)]
pub enum BufferError {
    /// A message at the wrong place.
    #[error("the server sent {0}, which its protocol does not allow; report this as a bug")]
    OutOfOrder(String),
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
    /// What may be acknowledged when they are durable.
    pub safe: Lsn,
}

struct OpenCommit {
    lsn: Lsn,
    commit: Commit,
    seq: u64,
}

/// See the module.
pub struct ChangeBuffer {
    origin: Origin,
    rolling: RollingSettings,
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
    /// An empty buffer behind these ends.
    pub fn new(origin: Origin, rolling: RollingSettings, ends: BTreeMap<String, Position>) -> Self {
        Self {
            origin,
            rolling,
            ends,
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
                self.commit = Some(OpenCommit {
                    lsn,
                    commit: Commit {
                        time_us,
                        xid: Some(xid),
                    },
                    seq: 0,
                });
            }
            Message::Relation { id, table } => {
                self.relations.insert(id, table);
            }
            Message::Change { relation, change } => self.append(relation, &change)?,
            Message::Truncate { relations } => {
                for relation in relations {
                    self.append(relation, &Change::Truncate)?;
                }
            }
            Message::Commit { end } => {
                if self.commit.take().is_none() {
                    return Err(out_of_order("the end of a transaction that did not begin"));
                }
                self.received = self.received.max(end);
            }
            Message::KeepAlive { at, is_urgent } => {
                if self.commit.is_none() {
                    self.received = self.received.max(at);
                    // A server that stops waits until it hears that we have everything.
                    if is_urgent && self.holds_rows() {
                        return Ok(Flow::Flush(CloseReason::Requested));
                    }
                }
            }
            Message::Other => {}
        }
        Ok(match self.due() {
            Some(reason) => Flow::Flush(reason),
            None => Flow::Continue,
        })
    }

    fn append(&mut self, relation: u32, change: &Change) -> Result<(), BufferError> {
        let Some(table) = self.relations.get(&relation) else {
            let text = format!("a change of table {relation} without its columns");
            return Err(out_of_order(&text));
        };
        if !table.is_captured() {
            return Ok(());
        }
        let Some(open) = &mut self.commit else {
            return Err(out_of_order("a change outside a transaction"));
        };
        open.seq += 1;
        let position = Position {
            lsn: open.lsn,
            seq: open.seq,
        };
        let commit = open.commit;
        if self
            .ends
            .get(&table.name)
            .is_some_and(|end| position <= *end)
        {
            // Sent again, and in the lake already.
            return Ok(());
        }
        let fits = self.open.get(&table.name);
        if fits.is_some_and(|builder| !builder.table().same_shape(table)) {
            let table = table.name.clone();
            self.close(&table)?;
        }
        let table = &self.relations[&relation];
        let builder = match self.open.entry(table.name.clone()) {
            std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::btree_map::Entry::Vacant(entry) => entry.insert(
                ChangeFileBuilder::changes(table.clone(), self.origin.clone(), position, commit)?,
            ),
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
            .is_some_and(|open| Some(open.lsn) == last);
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

    /// What may be acknowledged if all objects handed out are durable; `None` while rows
    /// are here that were not handed out.
    pub fn idle_at(&self) -> Option<Lsn> {
        (!self.holds_rows() && self.received > Lsn::default()).then_some(self.received)
    }

    /// Everything before it was received.
    pub fn received(&self) -> Lsn {
        self.received
    }

    /// Closes everything that is open and hands it out.
    pub fn take(&mut self) -> Result<Flush, FileError> {
        let tables: Vec<String> = self.open.keys().cloned().collect();
        for table in tables {
            self.close(&table)?;
        }
        Ok(Flush {
            files: std::mem::take(&mut self.closed),
            safe: self.received,
        })
    }
}

fn out_of_order(what: &str) -> BufferError {
    BufferError::OutOfOrder(what.to_owned())
}
