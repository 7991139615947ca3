//! The steps of a process, in the order in which `capture` takes them, and those of the world.

use std::collections::VecDeque;
use std::sync::Arc;

use ftap_lake::Adoption;

use super::process::{
    Copying, Outcome, Planned, Process, Put, Step, Stream, checkpoint, first_checkpoint,
};
use super::world::{Lake, Recorded, SLOT, Slot, View};
use super::{Broken, Capture, State};
use crate::chain::{PlanError, SnapshotReason, on_already_exists};
use crate::{Lsn, Plan, TABLES, plan};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// The process asks the server for its state.
    Start {
        process: usize,
        resnapshot: bool,
    },
    /// It reads the lake and plans.
    Plan(usize),
    /// It opens the slot, or begins to copy.
    Open(usize),
    Receive(usize),
    /// The server leaves out an empty commit.
    LeaveOut(usize),
    KeepAlive(usize),
    Take(usize),
    /// The next of what it took is put, or the next step of a snapshot is done.
    Put(usize),
    Acknowledge(usize),
    CompareCatalog(usize),
    /// It notices that it is disconnected.
    End(usize),
    Commit,
    Kill(usize),
    Disconnect(usize),
    Advance,
    Drop,
    Copy,
    Restore,
}

/// The steps of a snapshot after the slot that it begins at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SnapshotStep {
    Part(&'static str),
    DropSlot,
    KeepSlot,
    Checkpoint,
}

impl Capture {
    fn snapshot_steps(&self) -> [SnapshotStep; 5] {
        use SnapshotStep::{Checkpoint, DropSlot, KeepSlot, Part};
        let [first, last] = TABLES.map(Part);
        match self.broken {
            Some(Broken::LastObjectBeforeFirstCheckpoint) => {
                [first, DropSlot, KeepSlot, last, Checkpoint]
            }
            Some(Broken::SlotKeptAfterLastObject) => [first, Checkpoint, last, DropSlot, KeepSlot],
            _ => [first, DropSlot, KeepSlot, Checkpoint, last],
        }
    }

    pub(super) fn possible(&self, state: &State, actions: &mut Vec<Action>) {
        for process in 0..state.processes.len() {
            self.possible_of(state, process, actions);
        }
        let State { server, left, .. } = state;
        if server.log.len() < self.commits.len() {
            actions.push(Action::Commit);
        }
        if let Some(slot) = server.slot.as_ref().filter(|slot| slot.reader.is_none())
            && left.interferences > 0
        {
            actions.push(Action::Drop);
            if slot.confirmed < server.flushed() {
                actions.push(Action::Advance);
            }
        }
        if left.restores > 0 {
            match state.copy {
                None => actions.push(Action::Copy),
                Some(_) => actions.push(Action::Restore),
            }
        }
    }

    fn possible_of(&self, state: &State, id: usize, actions: &mut Vec<Action>) {
        let process = &state.processes[id];
        let left = &state.left;
        let start = |resnapshot| Action::Start {
            process: id,
            resnapshot,
        };
        match process {
            Process::Down => actions.push(start(false)),
            Process::Asked { .. } => actions.push(Action::Plan(id)),
            Process::Planned(_) => actions.push(Action::Open(id)),
            Process::Streaming(stream) => self.possible_of_stream(state, id, stream, actions),
            Process::Copying(_) => actions.push(Action::Put(id)),
            Process::Failed(_) => {}
        }
        if matches!(process, Process::Down | Process::Failed(_)) {
            if left.resnapshots > 0 {
                actions.push(start(true));
            }
            return;
        }
        if left.kills > 0 {
            actions.push(Action::Kill(id));
        }
        let is_connected = match process {
            Process::Streaming(stream) => stream.is_connected,
            Process::Copying(copying) => copying.is_connected,
            _ => false,
        };
        if left.disconnects > 0 && is_connected {
            actions.push(Action::Disconnect(id));
        }
    }

    fn possible_of_stream(
        &self,
        state: &State,
        id: usize,
        stream: &Stream,
        actions: &mut Vec<Action>,
    ) {
        if !stream.pending.is_empty() {
            actions.push(Action::Put(id));
            return;
        }
        let outcome = self.buffers.outcome(stream.script);
        if outcome.must_flush {
            actions.push(Action::Take(id));
            return;
        }
        if self.takes_something(stream) {
            actions.push(Action::Take(id));
        }
        if !stream.is_connected {
            actions.push(Action::End(id));
            return;
        }
        if outcome.is_proven && stream.recorded > stream.acknowledged {
            actions.push(Action::Acknowledge(id));
        }
        let server = &state.server;
        let (commit, part) = stream.next;
        match server.log.get(commit) {
            Some(commit) => {
                actions.push(Action::Receive(id));
                if part == 0 && commit.is_empty() {
                    actions.push(Action::LeaveOut(id));
                }
            }
            // Else it changes nothing.
            None if self.keep_alive(stream, server.flushed()).error.is_some() => {
                actions.push(Action::KeepAlive(id));
            }
            None => {}
        }
        if stream.publication != server.publication {
            actions.push(Action::CompareCatalog(id));
        }
    }

    fn keep_alive(&self, stream: &Stream, at: u64) -> Arc<Outcome> {
        let script = self.buffers.then(stream.script, Step::KeepAlive(at));
        self.buffers.outcome(script)
    }

    /// Whether a flush would put anything.
    fn takes_something(&self, stream: &Stream) -> bool {
        let flushed = self.buffers.then(stream.script, Step::Take);
        let flushed = self.buffers.outcome(flushed);
        !flushed.files.is_empty() || checkpoint(stream, &flushed).is_some()
    }

    /// The next step of the first process where nothing is disturbed any more; `None` at its end.
    pub(super) fn fair(&self, state: &State) -> Option<Action> {
        let mut others = state.processes.iter().enumerate().skip(1);
        let other =
            others.find(|(_, process)| !matches!(process, Process::Down | Process::Failed(_)));
        if let Some((other, _)) = other {
            return Some(Action::Kill(other));
        }
        let mut actions = Vec::new();
        self.possible_of(state, 0, &mut actions);
        let is_fault = |action: &Action| match action {
            Action::Kill(_) | Action::Disconnect(_) | Action::LeaveOut(_) => true,
            Action::Start { resnapshot, .. } => *resnapshot,
            _ => false,
        };
        actions.retain(|action| !is_fault(action));
        // What it takes last is what is left when nothing more is received.
        let is_last = |action: &Action| matches!(action, Action::Take(_));
        let first = actions.iter().rfind(|action| !is_last(action));
        first.or(actions.first()).copied()
    }

    pub(super) fn step(&self, before: &State, action: Action) -> State {
        let mut state = before.clone();
        match action {
            Action::Start {
                process,
                resnapshot,
            } => {
                state.left.resnapshots -= u8::from(resnapshot);
                state.processes[process] = Process::Asked {
                    resnapshot,
                    server: state.server.view(),
                    before: None,
                };
            }
            Action::Plan(id) => self.plan(&mut state, id),
            Action::Open(id) => self.open(&mut state, id),
            Action::Put(id) => match state.processes[id].clone() {
                Process::Copying(copying) => self.copy(&mut state, id, copying),
                Process::Streaming(stream) => self.put(&mut state, id, stream),
                _ => {}
            },
            Action::Receive(id)
            | Action::LeaveOut(id)
            | Action::KeepAlive(id)
            | Action::Take(id)
            | Action::Acknowledge(id)
            | Action::CompareCatalog(id) => {
                if let Process::Streaming(stream) = state.processes[id].clone() {
                    self.stream(&mut state, id, stream, action);
                }
            }
            Action::End(id) => state.end(id),
            Action::Commit => {
                let kind = self.commits[state.server.log.len()];
                state.server.commit(kind);
                state.is_disturbed |= kind == super::Kind::Unpublished;
            }
            Action::Kill(id) => {
                state.left.kills = state.left.kills.saturating_sub(1);
                state.end(id);
            }
            Action::Disconnect(id) => {
                state.left.disconnects -= 1;
                state.disconnect(id);
            }
            Action::Advance => {
                state.left.interferences -= 1;
                state.is_disturbed = true;
                let end = state.server.flushed();
                state.server.idle_slot().unwrap().confirmed = end;
            }
            Action::Drop => {
                state.left.interferences -= 1;
                state.is_disturbed = true;
                state.server.slot = None;
            }
            Action::Copy => {
                let mut copy = state.server.clone();
                for id in 0..state.processes.len() {
                    copy.forget(id as u8);
                }
                state.copy = Some(copy);
            }
            Action::Restore => {
                state.left.restores -= 1;
                state.is_disturbed = true;
                for id in 0..state.processes.len() {
                    state.disconnect(id);
                }
                let mut copy = state.copy.take().unwrap();
                copy.life = state.server.life + 1;
                let lost = std::mem::replace(&mut state.server, copy);
                state.past.push(lost.log);
            }
        }
        state
    }

    fn plan(&self, state: &mut State, id: usize) {
        let Process::Asked {
            resnapshot,
            server,
            before,
        } = state.processes[id].clone()
        else {
            return;
        };
        let lake = &state.lakes[self.lakes[id]];
        state.processes[id] = match self.decide(lake, server, resnapshot) {
            Ok(Plan::Snapshot { epoch, .. }) => {
                Process::Planned(Planned::Snapshot { epoch, resnapshot })
            }
            Ok(Plan::Stream { epoch, resume }) => Process::Planned(Planned::Stream {
                script: self.buffers.begin(epoch, *resume),
                publication: server.publication,
            }),
            Err(error)
                if before.as_ref() == Some(lake) || self.is_broken(Broken::BelievesFirstError) =>
            {
                Process::Failed(error.to_string())
            }
            Err(_) => Process::Asked {
                resnapshot,
                server: state.server.view(),
                before: Some(Arc::clone(lake)),
            },
        };
    }

    /// The program's plan, unless a rule of it is broken.
    fn decide(&self, lake: &Lake, server: View, resnapshot: bool) -> Result<Plan, PlanError> {
        let lake = lake.newest_epoch();
        let mut seen = server;
        if let Some(checkpoint) = lake.as_ref().and_then(|lake| lake.checkpoint.clone()) {
            if self.is_broken(Broken::IgnoresConfirmed) {
                let recorded = checkpoint.confirmed.0;
                seen.confirmed = seen.confirmed.map(|confirmed| confirmed.min(recorded));
            }
            if self.is_broken(Broken::IgnoresCatalog) {
                seen.publication = Recorded(checkpoint.into()).publication() as u8;
            }
        }
        let mut planned = plan(SLOT, lake.as_ref(), &seen.state(), resnapshot);
        if let Ok(Plan::Stream { resume, .. }) = &mut planned {
            match self.broken {
                Some(Broken::IgnoresWitness) => resume.awaited.clear(),
                Some(Broken::IgnoresPartialCommit) => resume.awaited.truncate(1),
                Some(Broken::TrustsUnrecordedObjects) => {
                    for (table, objects) in std::mem::take(&mut resume.unrecorded) {
                        resume.ends.insert(table, objects.last().unwrap().last());
                    }
                }
                _ => {}
            }
        }
        match planned {
            Err(PlanError::SlotWithoutLake { .. }) if self.is_broken(Broken::DropsForeignSlot) => {
                Ok(Plan::Snapshot {
                    epoch: 1,
                    reason: SnapshotReason::First,
                })
            }
            planned => planned,
        }
    }

    fn open(&self, state: &mut State, id: usize) {
        let Process::Planned(planned) = state.processes[id].clone() else {
            return;
        };
        let server = &mut state.server;
        state.processes[id] = match planned {
            Planned::Stream {
                script,
                publication,
            } => {
                let from = self.buffers.resume(script);
                let is_asked = !self.is_broken(Broken::SlotNotAskedAgain)
                    && !self.is_broken(Broken::IgnoresConfirmed);
                let slot = server.idle_slot();
                match slot.filter(|slot| !is_asked || slot.confirmed <= from.confirmed.0) {
                    None => Process::Down,
                    Some(slot) => {
                        slot.reader = Some(id as u8);
                        let confirmed = slot.confirmed;
                        let next = server.log.partition_point(|commit| commit.lsn < confirmed);
                        Process::Streaming(Stream {
                            script,
                            publication,
                            next: (next, 0),
                            is_connected: true,
                            recorded: from.confirmed.0,
                            acknowledged: confirmed,
                            pending: VecDeque::new(),
                        })
                    }
                }
            }
            Planned::Snapshot { epoch, resnapshot } => {
                let is_locked = server.locked_by.is_some() && !self.is_broken(Broken::NoLock);
                let is_read = server.slot.is_some() && server.idle_slot().is_none();
                let lake = &state.lakes[self.lakes[id]];
                let again = self.decide(lake, server.view(), resnapshot);
                let is_due = matches!(again, Ok(Plan::Snapshot { epoch: due, .. }) if due == epoch);
                let is_stale = !is_due && !self.is_broken(Broken::SnapshotByStalePlan);
                if is_locked || is_read || is_stale {
                    Process::Down
                } else {
                    server.locked_by = Some(id as u8);
                    server.slots_made += 1;
                    Process::Copying(Copying {
                        epoch,
                        publication: server.publication,
                        log: server.log.clone(),
                        at: server.flushed(),
                        done: 0,
                        is_connected: true,
                    })
                }
            }
        };
    }

    /// One step of a snapshot. What another process has done first ends it, to plan again.
    fn copy(&self, state: &mut State, id: usize, mut copying: Copying) {
        let steps = self.snapshot_steps();
        let step = steps[copying.done];
        let server = &mut state.server;
        let lake = Arc::make_mut(&mut state.lakes[self.lakes[id]]);
        let is_done = match step {
            SnapshotStep::Part(table) => {
                let part = self.buffers.snapshot_part(&copying, table);
                match lake.objects.get(&part.name) {
                    Some(theirs) => matches!(
                        on_already_exists(&part.footer, &theirs.footer),
                        Ok(Adoption::Same)
                    ),
                    None => {
                        lake.objects.insert(part.name.clone(), part);
                        true
                    }
                }
            }
            SnapshotStep::DropSlot => {
                let is_idle = server.slot.is_none() || server.idle_slot().is_some();
                let may = copying.is_connected && is_idle;
                if may {
                    server.slot = None;
                }
                may
            }
            SnapshotStep::KeepSlot => {
                let may = copying.is_connected && server.slot.is_none();
                if may {
                    server.slot = Some(Slot {
                        confirmed: copying.at,
                        reader: None,
                    });
                }
                may
            }
            SnapshotStep::Checkpoint => match put_checkpoint(lake, first_checkpoint(&copying)) {
                Ok(()) => true,
                Err(error) => {
                    server.forget(id as u8);
                    state.processes[id] = Process::Failed(error);
                    return;
                }
            },
        };
        copying.done += 1;
        if is_done && copying.done < steps.len() {
            state.processes[id] = Process::Copying(copying);
        } else {
            state.end(id);
        }
    }

    fn put(&self, state: &mut State, id: usize, mut stream: Stream) {
        let lake = Arc::make_mut(&mut state.lakes[self.lakes[id]]);
        let done = match stream.pending.pop_front() {
            Some(Put::Object(object)) => match lake.objects.get(&object.name) {
                Some(theirs) if !self.is_broken(Broken::PutOverwrites) => {
                    match on_already_exists(&object.footer, &theirs.footer) {
                        Ok(Adoption::Overtaken) => {
                            if !self.is_broken(Broken::OvertakenIsSuccess) {
                                state.end(id);
                                return;
                            }
                            Ok(())
                        }
                        Ok(Adoption::Same) => Ok(()),
                        Err(error) => Err(error.to_string()),
                    }
                }
                _ => {
                    lake.objects.insert(object.name.clone(), object);
                    Ok(())
                }
            },
            Some(Put::Checkpoint(recorded)) => {
                stream.recorded = recorded.0.confirmed.0;
                put_checkpoint(lake, recorded)
            }
            Some(Put::Acknowledgement(at)) => {
                if stream.is_connected {
                    state.acknowledge(at);
                }
                Ok(())
            }
            None => Ok(()),
        };
        state.processes[id] = match done {
            Ok(()) => Process::Streaming(stream),
            Err(error) => {
                state.server.forget(id as u8);
                Process::Failed(error)
            }
        };
    }

    fn stream(&self, state: &mut State, id: usize, mut stream: Stream, action: Action) {
        let server = &mut state.server;
        match action {
            Action::Receive(_) => {
                let (index, part) = stream.next;
                let commit = server.log[index];
                stream.script = self.buffers.then(stream.script, Step::Part(commit, part));
                stream.next = if part + 1 < commit.parts().len() {
                    (index, part + 1)
                } else {
                    (index + 1, 0)
                };
            }
            Action::LeaveOut(_) => stream.next = (stream.next.0 + 1, 0),
            Action::KeepAlive(_) => {
                let step = Step::KeepAlive(server.flushed());
                stream.script = self.buffers.then(stream.script, step);
            }
            Action::Take(_) => {
                stream.script = self.buffers.then(stream.script, Step::Take);
                self.take(&mut stream);
            }
            Action::Acknowledge(_) => {
                stream.acknowledged = stream.recorded;
                let past_it = if self.is_broken(Broken::AcknowledgesEndOfWitness) {
                    1
                } else {
                    0
                };
                state.acknowledge(stream.recorded + past_it);
            }
            Action::CompareCatalog(_) if self.is_broken(Broken::IgnoresCatalog) => {
                stream.publication = server.publication;
            }
            _ => {
                state.end(id);
                return;
            }
        }
        let outcome = self.buffers.outcome(stream.script);
        state.processes[id] = match &outcome.error {
            Some(error) => {
                state.server.forget(id as u8);
                Process::Failed(error.clone())
            }
            None => Process::Streaming(stream),
        };
    }

    /// What a flush puts, in its order.
    fn take(&self, stream: &mut Stream) {
        let outcome = self.buffers.outcome(stream.script);
        let objects = outcome.files.iter().cloned().map(Put::Object);
        let checkpoint = checkpoint(stream, &outcome);
        let early = checkpoint
            .as_ref()
            .map(|checkpoint| checkpoint.0.confirmed.0);
        let checkpoint = checkpoint.map(Put::Checkpoint);
        match self.broken {
            Some(Broken::CheckpointBeforeObjects) => {
                stream.pending.extend(checkpoint);
                stream.pending.extend(objects);
            }
            Some(Broken::AcknowledgesBeforeCheckpoint) => {
                stream.pending.extend(objects);
                stream.pending.extend(early.map(Put::Acknowledgement));
                stream.pending.extend(checkpoint);
            }
            _ => {
                stream.pending.extend(objects);
                stream.pending.extend(checkpoint);
            }
        }
    }
}

/// One that was there first must be of the same commit.
fn put_checkpoint(lake: &mut Lake, recorded: Recorded) -> Result<(), String> {
    let key = (recorded.0.epoch, Lsn(recorded.0.confirmed.0));
    match lake.checkpoints.get(&key) {
        Some(theirs) if theirs.0.witness != recorded.0.witness => {
            Err(format!("another checkpoint at {}", recorded.0.confirmed))
        }
        Some(_) => Ok(()),
        None => {
            lake.checkpoints.insert(key, recorded);
            Ok(())
        }
    }
}

impl State {
    fn acknowledge(&mut self, at: u64) {
        if let Some(slot) = &mut self.server.slot {
            slot.confirmed = slot.confirmed.max(at);
        }
    }

    fn end(&mut self, id: usize) {
        self.server.forget(id as u8);
        self.processes[id] = Process::Down;
    }

    fn disconnect(&mut self, id: usize) {
        self.server.forget(id as u8);
        match &mut self.processes[id] {
            Process::Streaming(stream) => stream.is_connected = false,
            Process::Copying(copying) => copying.is_connected = false,
            _ => {}
        }
    }
}
