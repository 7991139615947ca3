//! What a process has in memory, and what the program's own buffer makes of the messages it read.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ftap_lake::{Compression, Position, RollingSettings};

use super::world::{Commit, Lake, Object, Recorded, Row, SLOT, SYSTEM, View, catalog, table};
use crate::buffer::{BufferError, ChangeBuffer, Flow, Proof};
use crate::chain::Resume;
use crate::checkpoint::{Checkpoint, CheckpointParts};
use crate::file::{self, ChangeFile, ChangeFileBuilder, Origin};
use crate::footer::Content;
use crate::source::Message;
use crate::{Lsn, TABLES};

/// One step of a session, which its buffer follows from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Step {
    /// A part of a commit was received.
    Part(Commit, usize),
    KeepAlive(u64),
    /// Everything that was buffered was handed out.
    Take,
}

/// An object or a checkpoint that will be put, or what a broken rule does before that.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Put {
    Object(Arc<Object>),
    Checkpoint(Recorded),
    Acknowledgement(u64),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Process {
    Down,
    /// It knows the server, and next the lake.
    Asked {
        resnapshot: bool,
        server: View,
        /// The lake before that, for which the plan was an error.
        before: Option<Arc<Lake>>,
    },
    Planned(Planned),
    Streaming(Stream),
    Copying(Copying),
    /// It ended with this error.
    Failed(String),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Planned {
    Stream {
        /// Of [`Buffers`].
        script: usize,
        publication: u8,
    },
    Snapshot {
        epoch: u32,
        resnapshot: bool,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Stream {
    /// What it received, of [`Buffers`].
    pub(super) script: usize,
    pub(super) publication: u8,
    /// What the server sends next: a commit of its log, and a part of it.
    pub(super) next: (usize, usize),
    pub(super) is_connected: bool,
    pub(super) recorded: u64,
    pub(super) acknowledged: u64,
    pub(super) pending: VecDeque<Put>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Copying {
    pub(super) epoch: u32,
    pub(super) publication: u8,
    /// What is committed where its slot begins.
    pub(super) log: Vec<Commit>,
    pub(super) at: u64,
    pub(super) done: usize,
    pub(super) is_connected: bool,
}

/// What a buffer does at the end of a script.
pub(super) struct Outcome {
    epoch: u32,
    pub(super) error: Option<String>,
    pub(super) must_flush: bool,
    pub(super) is_proven: bool,
    pub(super) files: Vec<Arc<Object>>,
    pub(super) proof: Option<Proof>,
}

/// The steps of a session.
struct Script {
    epoch: u32,
    resume: Resume,
    /// What it received so far.
    received: Vec<Commit>,
    /// The buffer when it last had handed out everything, and the steps since then.
    buffer: Arc<Mutex<ChangeBuffer>>,
    steps: Vec<Step>,
    outcome: Arc<Outcome>,
}

#[derive(Default)]
struct Scripts {
    all: Vec<Script>,
    begun: Vec<usize>,
    next: HashMap<(usize, Step), usize>,
}

type Part = (u32, u64, &'static str);

/// The program's own buffers, by what went into them.
#[derive(Default)]
pub(super) struct Buffers {
    scripts: Mutex<Scripts>,
    parts: Mutex<HashMap<Part, Arc<Object>>>,
}

fn origin(epoch: u32) -> Origin {
    Origin {
        system: SYSTEM.into(),
        slot: SLOT.into(),
        writer_id: "w".into(),
        epoch,
        compression: Compression::Zstd(1),
    }
}

fn object(file: ChangeFile, mut rows: Vec<Row>) -> Arc<Object> {
    rows.sort_unstable();
    assert_eq!(rows.len() as u64, file.footer.rows, "{}", file.key());
    Arc::new(Object {
        name: file.name,
        footer: file.footer,
        rows,
    })
}

impl Buffers {
    /// The script of a session that begins there.
    pub(super) fn begin(&self, epoch: u32, resume: Resume) -> usize {
        let scripts = &mut *self.scripts.lock().unwrap();
        let mut begun = scripts.begun.iter();
        let is_same = |number: &&usize| {
            let script = &scripts.all[**number];
            script.epoch == epoch && script.resume == resume
        };
        if let Some(known) = begun.find(is_same) {
            return *known;
        }
        let number = scripts.all.len();
        scripts.all.push(Script::new(epoch, resume));
        scripts.begun.push(number);
        number
    }

    /// The script that continues it.
    pub(super) fn then(&self, script: usize, step: Step) -> usize {
        let scripts = &mut *self.scripts.lock().unwrap();
        if let Some(known) = scripts.next.get(&(script, step)) {
            return *known;
        }
        let number = scripts.all.len();
        scripts.all.push(scripts.all[script].then(step));
        scripts.next.insert((script, step), number);
        number
    }

    /// Where it began.
    pub(super) fn resume(&self, script: usize) -> Resume {
        self.scripts.lock().unwrap().all[script].resume.clone()
    }

    pub(super) fn outcome(&self, script: usize) -> Arc<Outcome> {
        Arc::clone(&self.scripts.lock().unwrap().all[script].outcome)
    }

    /// The only part of a table's snapshot.
    pub(super) fn snapshot_part(&self, copying: &Copying, name: &'static str) -> Arc<Object> {
        let key = (copying.epoch, copying.at, name);
        let make = || {
            let commit = file::Commit {
                time_us: 0,
                xid: None,
            };
            let at = Position::snapshot(Lsn(copying.at));
            let (table, origin) = (table(name), origin(copying.epoch));
            let part = ChangeFileBuilder::snapshot(table, origin, 1, at, commit);
            let mut part = part.unwrap();
            let rows = copying.log.iter().flat_map(|commit| commit.rows());
            let rows: Vec<_> = rows.filter(|row| row.table == name).collect();
            for row in &rows {
                part.append_snapshot(&row.content(), commit).unwrap();
            }
            object(part.close(Content::SnapshotEnd, false).unwrap(), rows)
        };
        let mut parts = self.parts.lock().unwrap();
        Arc::clone(parts.entry(key).or_insert_with(make))
    }
}

impl Script {
    fn new(epoch: u32, resume: Resume) -> Self {
        let rolling = RollingSettings {
            max_rows: 100,
            max_bytes: u64::MAX,
            max_age: Duration::from_secs(3600),
        };
        let buffer = ChangeBuffer::new(origin(epoch), rolling, resume.clone());
        Self {
            outcome: Arc::new(Outcome {
                is_proven: buffer.is_proven(),
                ..Outcome::none(epoch)
            }),
            epoch,
            resume,
            received: Vec::new(),
            buffer: Arc::new(Mutex::new(buffer)),
            steps: Vec::new(),
        }
    }

    /// With one more step.
    fn then(&self, step: Step) -> Self {
        let mut next = Self {
            epoch: self.epoch,
            resume: self.resume.clone(),
            received: self.received.clone(),
            buffer: Arc::clone(&self.buffer),
            steps: self.steps.clone(),
            outcome: Arc::clone(&self.outcome),
        };
        if let Step::Part(commit, 0) = step {
            next.received.push(commit);
        }
        let mut buffer = self.buffer.lock().unwrap().fork();
        let mut outcome = Outcome::none(self.epoch);
        next.steps.push(step);
        for step in &next.steps {
            outcome.must_flush = false;
            if let Err(error) = apply(&mut buffer, *step, &mut outcome) {
                outcome.error = Some(error.to_string());
            }
        }
        outcome.is_proven = buffer.is_proven();
        if step == Step::Take {
            let flush = buffer.take().unwrap();
            outcome.proof = flush.proof;
            let files = flush.files.into_iter();
            outcome.files = files.map(|file| next.object(file)).collect();
            next.buffer = Arc::new(Mutex::new(buffer));
            next.steps.clear();
        }
        next.outcome = Arc::new(outcome);
        next
    }

    fn object(&self, file: ChangeFile) -> Arc<Object> {
        let footer = &file.footer;
        let rows = self.received.iter().flat_map(|commit| commit.rows());
        let rows = rows.filter(|row| {
            row.table == footer.table && (footer.first()..=footer.last()).contains(&row.at)
        });
        let rows = rows.collect();
        object(file, rows)
    }
}

fn apply(buffer: &mut ChangeBuffer, step: Step, outcome: &mut Outcome) -> Result<(), BufferError> {
    let messages = match step {
        Step::Part(commit, part) => commit.parts().swap_remove(part),
        Step::KeepAlive(at) => vec![Message::KeepAlive {
            at: Lsn(at),
            is_urgent: false,
        }],
        Step::Take => Vec::new(),
    };
    for message in messages {
        outcome.must_flush |= matches!(buffer.apply(message)?, Flow::Flush(_));
    }
    Ok(())
}

impl Outcome {
    fn none(epoch: u32) -> Self {
        Self {
            epoch,
            error: None,
            must_flush: false,
            is_proven: false,
            files: Vec::new(),
            proof: None,
        }
    }
}

/// The checkpoint that is due after a flush, if there is one.
pub(super) fn checkpoint(stream: &Stream, flushed: &Outcome) -> Option<Recorded> {
    let proof = flushed.proof.as_ref();
    let proof = proof.filter(|proof| proof.witness.lsn.0 > stream.recorded)?;
    let parts = parts(flushed.epoch, proof.ends.clone(), stream.publication);
    let checkpoint = Checkpoint::after(proof.witness, proof.partial, parts);
    Some(timeless(checkpoint))
}

pub(super) fn first_checkpoint(copying: &Copying) -> Recorded {
    let at = Position::snapshot(Lsn(copying.at));
    let ends = TABLES.map(|table| (table.to_owned(), at));
    let parts = parts(copying.epoch, ends.into(), copying.publication);
    timeless(Checkpoint::first(Lsn(copying.at), parts))
}

fn parts(
    epoch: u32,
    ends: BTreeMap<String, Position>,
    publication: u8,
) -> CheckpointParts<'static> {
    CheckpointParts {
        epoch,
        slot: SLOT,
        system: SYSTEM,
        writer_id: "w",
        ends,
        catalog: catalog(publication),
    }
}

fn timeless(mut checkpoint: Checkpoint) -> Recorded {
    checkpoint.written_at.clear();
    Recorded(Arc::new(checkpoint))
}
