//! Change capture under a model checker: every order of steps, kills, zombies, and of what others do
//! to the slot and the server, within a budget of each.
//!
//! The model calls the program's own rules: [`plan`], the buffer with its files and footers, the
//! choice of objects, what an object that exists means, and the checkpoints. Only the order of steps
//! of `capture` is written here again. Safety is checked in every reachable state; liveness, too:
//! from each, one fair run without faults ends with everything in the lake, or with an error. A
//! rule that is broken on purpose must be caught.

#![allow(clippy::print_stdout, clippy::unwrap_used)]

mod process;
mod step;
mod world;

use std::sync::Arc;

use ftap_testing::model::{Machine, Safety, Stuck, holds};
use process::{Buffers, Process};
use step::Action;
use world::{Commit, Kind, Lake, Row, Server};

use crate::Lsn;

/// A rule that is broken on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Broken {
    AcknowledgesEndOfWitness,
    AcknowledgesBeforeCheckpoint,
    CheckpointBeforeObjects,
    TrustsUnrecordedObjects,
    IgnoresConfirmed,
    SlotNotAskedAgain,
    BelievesFirstError,
    IgnoresWitness,
    IgnoresPartialCommit,
    IgnoresCatalog,
    DropsForeignSlot,
    SnapshotByStalePlan,
    LastObjectBeforeFirstCheckpoint,
    SlotKeptAfterLastObject,
    NoLock,
    OvertakenIsSuccess,
    PutOverwrites,
}

/// How often each thing may happen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Faults {
    kills: u8,
    /// The server ends a process' connections, and the process continues.
    disconnects: u8,
    /// Another client moves the slot to the end of the log, or drops it.
    interferences: u8,
    /// The server is replaced by an earlier copy of it.
    restores: u8,
    resnapshots: u8,
}

struct Capture {
    /// What is committed, in this order.
    commits: &'static [Kind],
    /// The lake of each process.
    lakes: &'static [usize],
    faults: Faults,
    /// The first process has its snapshot and reads the slot.
    begins_with_snapshot: bool,
    broken: Option<Broken>,
    buffers: Buffers,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    server: Server,
    copy: Option<Server>,
    /// Logs of the server before it was restored.
    past: Vec<Vec<Commit>>,
    lakes: Vec<Arc<Lake>>,
    processes: Vec<Process>,
    /// The lake of each process.
    of_lake: &'static [usize],
    left: Faults,
    /// Something happened that must lead to an error.
    is_disturbed: bool,
}

impl Capture {
    fn new(commits: &'static [Kind], lakes: &'static [usize], faults: Faults) -> Self {
        Self {
            commits,
            lakes,
            faults,
            begins_with_snapshot: false,
            broken: None,
            buffers: Buffers::default(),
        }
    }

    fn with_snapshot(self) -> Self {
        Self {
            begins_with_snapshot: true,
            ..self
        }
    }

    fn broken(self, rule: Broken) -> Self {
        Self {
            broken: Some(rule),
            ..self
        }
    }

    fn is_broken(&self, rule: Broken) -> bool {
        self.broken == Some(rule)
    }

    fn initial(&self) -> State {
        let lakes = self.lakes.iter().max().map_or(0, |last| last + 1);
        let mut state = State {
            server: Server::new(),
            copy: None,
            past: Vec::new(),
            lakes: vec![Arc::default(); lakes],
            processes: vec![Process::Down; self.lakes.len()],
            of_lake: self.lakes,
            left: self.faults,
            is_disturbed: false,
        };
        while self.begins_with_snapshot && !matches!(state.processes[0], Process::Streaming(_)) {
            let action = self.fair(&state).unwrap();
            state = self.step(&state, action);
        }
        state
    }
}

impl State {
    /// Up to its newest checkpoint a lake holds each row of one history of the server, once; except
    /// those that were not published, as long as no checkpoint says that the publication is whole.
    fn is_truthful(&self) -> bool {
        let logs = || self.past.iter().chain([&self.server.log]);
        self.lakes.iter().all(|lake| {
            let Some((epoch, Some(checkpoint))) = lake.readable() else {
                return true;
            };
            let up_to = checkpoint.0.confirmed;
            let held = lake.rows(epoch, up_to);
            let is_recorded = |commit: &&Commit| {
                commit.lsn < lake.snapshot(epoch).0
                    || (commit.kind != Kind::Unpublished && commit.lsn <= up_to.0)
                    || (u32::from(commit.publication) <= checkpoint.publication()
                        && commit.lsn <= up_to.0)
            };
            logs().any(|log| rows(log.iter().filter(is_recorded)) == held)
        })
    }

    fn has_a_reason_for_errors(&self) -> bool {
        // What is refused before it has a lake does no harm.
        let has_lake = |lake: usize| self.lakes[lake].newest_epoch().is_some();
        let mut processes = self.processes.iter().zip(self.of_lake);
        self.is_disturbed
            || !processes
                .any(|(process, lake)| matches!(process, Process::Failed(_)) && has_lake(*lake))
    }

    /// The first process has reported an error, or recorded everything.
    fn is_at_the_end(&self) -> bool {
        if let Process::Failed(_) = self.processes[0] {
            return true;
        }
        let Some((epoch, Some(checkpoint))) = self.lakes[0].readable() else {
            return false;
        };
        let log = &self.server.log;
        let is_whole = self.lakes[0].rows(epoch, Lsn(u64::MAX)) == rows(log);
        let last = log.iter().rfind(|commit| !commit.is_empty());
        is_whole && last.is_none_or(|last| checkpoint.0.confirmed.0 >= last.lsn)
    }
}

fn rows<'a>(commits: impl IntoIterator<Item = &'a Commit>) -> Vec<Row> {
    let rows = commits.into_iter().flat_map(|commit| commit.rows());
    let mut rows: Vec<_> = rows.collect();
    rows.sort_unstable();
    rows
}

impl Machine for Capture {
    type State = State;
    type Action = Action;

    fn first(&self) -> State {
        self.initial()
    }

    fn possible(&self, state: &State, actions: &mut Vec<Action>) {
        self.possible(state, actions);
    }

    fn next(&self, state: &State, action: Action) -> State {
        self.step(state, action)
    }

    fn safety() -> Safety<Self> {
        vec![
            (
                "up to its checkpoint a lake has every change once",
                |_, state| state.is_truthful(),
            ),
            ("an error has a reason outside the program", |_, state| {
                state.has_a_reason_for_errors()
            }),
        ]
    }

    /// One that waits for what does not come is started again.
    fn fair(&self, state: &State) -> Result<Option<State>, Stuck> {
        let action = || self.fair(state).unwrap_or(Action::Kill(0));
        Ok((!state.is_at_the_end()).then(|| self.step(state, action())))
    }
}

fn catches(rule: Broken, model: Capture) {
    ftap_testing::model::catches(&format!("{rule:?}"), model.broken(rule));
}

const NONE: Faults = Faults {
    kills: 0,
    disconnects: 0,
    interferences: 0,
    restores: 0,
    resnapshots: 0,
};

fn killed() -> Capture {
    let faults = Faults { kills: 1, ..NONE };
    Capture::new(&[Kind::One, Kind::Three], &[0], faults)
}

fn zombie() -> Capture {
    let faults = Faults {
        disconnects: 1,
        ..NONE
    };
    Capture::new(&[Kind::One, Kind::One], &[0, 0], faults).with_snapshot()
}

fn two_snapshots() -> Capture {
    let faults = Faults {
        disconnects: 1,
        ..NONE
    };
    Capture::new(&[Kind::One], &[0, 0], faults)
}

fn interfered_with() -> Capture {
    let faults = Faults {
        kills: 1,
        interferences: 1,
        resnapshots: 1,
        ..NONE
    };
    Capture::new(&[Kind::One, Kind::Nothing, Kind::One], &[0], faults).with_snapshot()
}

fn restored() -> Capture {
    let faults = Faults {
        restores: 1,
        ..NONE
    };
    Capture::new(&[Kind::One, Kind::Three], &[0], faults).with_snapshot()
}

fn unpublished() -> Capture {
    let faults = Faults {
        kills: 1,
        resnapshots: 1,
        ..NONE
    };
    let commits = &[Kind::One, Kind::Unpublished, Kind::Heartbeat];
    Capture::new(commits, &[0], faults).with_snapshot()
}

fn two_lakes() -> Capture {
    let faults = Faults {
        resnapshots: 1,
        ..NONE
    };
    Capture::new(&[Kind::One], &[0, 1], faults)
}

#[test]
fn a_process_that_is_killed_loses_and_doubles_nothing() {
    holds("killed", killed());
}

#[test]
fn a_zombie_loses_and_doubles_nothing() {
    holds("zombie", zombie());
}

#[test]
fn two_snapshots_at_a_time_lose_and_double_nothing() {
    holds("two snapshots", two_snapshots());
}

#[test]
fn a_slot_that_others_move_or_drop_is_an_error() {
    holds("interfered with", interfered_with());
}

#[test]
fn a_server_restored_from_a_copy_is_an_error() {
    holds("restored", restored());
}

#[test]
fn a_publication_that_lacked_changes_is_an_error() {
    holds("unpublished", unpublished());
}

#[test]
fn a_second_lake_on_a_slot_is_refused_and_the_first_is_not_disturbed() {
    holds("two lakes", two_lakes());
}

#[test]
fn every_broken_rule_is_caught() {
    use Broken::*;
    let rules: [(Broken, fn() -> Capture); 17] = [
        (AcknowledgesEndOfWitness, killed),
        (AcknowledgesBeforeCheckpoint, killed),
        (CheckpointBeforeObjects, killed),
        (LastObjectBeforeFirstCheckpoint, killed),
        (SlotKeptAfterLastObject, killed),
        (BelievesFirstError, two_snapshots),
        (OvertakenIsSuccess, zombie),
        (PutOverwrites, zombie),
        (NoLock, two_snapshots),
        (IgnoresConfirmed, interfered_with),
        (SlotNotAskedAgain, interfered_with),
        (IgnoresWitness, restored),
        (IgnoresPartialCommit, restored),
        (TrustsUnrecordedObjects, restored),
        (IgnoresCatalog, unpublished),
        (DropsForeignSlot, two_lakes),
        (SnapshotByStalePlan, two_lakes),
    ];
    for (rule, model) in rules {
        catches(rule, model());
    }
}
