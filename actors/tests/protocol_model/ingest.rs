//! One partition from the log to the lake, with several writers, as a state machine.
//!
//! Each writer has what the program's stages have: a consumer's thread (assignment, position),
//! a buffer with a mailbox, an uploader with a queue and one put under way. A writer that lost
//! its partition without noticing is a zombie: it continues whenever the checker chooses. Where a
//! decision is taken, the program's own function takes it.

mod properties;
mod steps;

use std::collections::VecDeque;
use std::sync::Arc;

use ftap_kafka::partition_progress::{Awaiting, Progress};
use ftap_lake::PutQueue;
use ftap_testing::model::{Machine, Safety, Stuck};

use super::world::{Rules, World};

/// How often each fault may still happen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Faults {
    pub crashes: u8,
    pub zombies: u8,
    pub revocations: u8,
    pub lost_replies: u8,
    pub resets: u8,
    pub retentions: u8,
    pub remakes: u8,
}

#[derive(Clone)]
pub(crate) struct Ingest {
    pub rules: Rules,
    pub world: Arc<World>,
    pub writers: usize,
    pub first_end: i64,
    pub faults: Faults,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct State {
    pub life: u8,
    pub log_start: i64,
    pub log_end: i64,
    /// Files, by number of their run, ascending.
    pub lake: Vec<u16>,
    pub committed: Option<i64>,
    set_by_operator: bool,
    was_reset_forward: bool,
    owner: Option<usize>,
    pub writers: Vec<Writer>,
    /// Puts on the network whose sender does not listen any more.
    orphans: Vec<u16>,
    /// Commits on the network.
    commits: Vec<i64>,
    dead_letters: u64,
    pub skipped: u64,
    /// What an operator set the group back to: it may be read after it was reported as skipped.
    reread: u64,
    /// What retention took before anybody could know of it.
    unknowable: u64,
    overwritten: bool,
    false_skip: bool,
    refused_in_vain: bool,
    faults: Faults,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Writer {
    awaiting: Awaiting,
    /// Questions to the lake that it has not answered.
    questions: Vec<u64>,
    /// Answers on their way: the request and the newest file.
    answers: Vec<(u64, Option<u16>)>,
    progress: Option<Progress>,
    life: u8,
    assignments: u64,
    mailbox: VecDeque<ToBuffer>,
    buffer: Option<Buffer>,
    rejected: u64,
    queue: PutQueue<(u64, u16)>,
    put: Option<Put>,
    words: VecDeque<Word>,
    is_refused: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum ToBuffer {
    Open(u64),
    Close,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Buffer {
    assignment: u64,
    open: Option<(i64, i64)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Put {
    assignment: u64,
    run: u16,
    /// The file that is there after it, its own or another one.
    found: Option<u16>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Word {
    Committed(u64, i64),
    Rewind(u64, i64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Action {
    LatePutArrives(usize),
    BufferTakesMail(usize),
    DeadLettersArrive(usize),
    PutArrives(usize),
    PutIsAnswered(usize),
    ThreadIsTold(usize),
    CommitArrives(usize),
    LakeIsListed(usize, usize),
    ListingIsTold(usize, usize),
    PutIsSent(usize),
    LossIsNoticed(usize),
    ReaderRestarts(usize),
    Assign(usize),
    Append,
    Read(usize),
    Close(usize),
    // Faults, each at the cost of its budget.
    Crash(usize),
    Evict(usize),
    Revoke(usize),
    LoseReply(usize),
    Reset(i64),
    Retain,
    Remake(bool),
}

impl Action {
    pub(crate) fn is_fault(self) -> bool {
        use Action::{Crash, Evict, LoseReply, Remake, Reset, Retain, Revoke};
        matches!(
            self,
            Crash(_) | Evict(_) | Revoke(_) | LoseReply(_) | Reset(_) | Retain | Remake(_)
        )
    }
}

impl Writer {
    fn is_reading(&self) -> bool {
        self.progress.is_some() || !self.awaiting.is_empty()
    }

    fn is_idle(&self) -> bool {
        let has_records = self.buffer.as_ref().is_some_and(|b| b.open.is_some());
        !self.is_reading() && !has_records && self.put.is_none() && self.queue_is_empty()
    }

    fn queue_is_empty(&self) -> bool {
        let mut queue = self.queue.clone();
        queue.settled();
        queue.start().is_none()
    }

    /// A new process.
    fn restart(&mut self, orphans: &mut Vec<u16>) {
        if let Some(Put {
            run, found: None, ..
        }) = self.put
            && !orphans.contains(&run)
        {
            orphans.push(run);
            orphans.sort_unstable();
        }
        *self = Self::default();
    }

    fn end_readings(&mut self, assignment: u64, rules: &Rules) {
        self.queue.end(assignment);
        if !rules.readings_end {
            // What the queue was before: it forgot what had ended.
            self.queue = PutQueue::default();
            if let Some(put) = self.put {
                self.queue.push(1, (put.assignment, put.run));
                self.queue.start();
            }
        }
    }

    fn release(&mut self, rules: &Rules) {
        self.awaiting.remove(&[0]);
        if self.progress.take().is_some() {
            self.mailbox.push_back(ToBuffer::Close);
            self.end_readings(self.assignments, rules);
        }
    }

    fn open(&mut self, start: i64) {
        self.assignments += 1;
        self.progress = Some(Progress::new(self.assignments, start, start));
        self.mailbox.push_back(ToBuffer::Open(self.assignments));
    }
}

impl Ingest {
    pub(crate) fn initial(&self) -> State {
        State {
            life: 0,
            log_start: 0,
            log_end: self.first_end,
            lake: Vec::new(),
            committed: None,
            set_by_operator: false,
            was_reset_forward: false,
            owner: None,
            writers: vec![Writer::default(); self.writers],
            orphans: Vec::new(),
            commits: Vec::new(),
            dead_letters: 0,
            skipped: 0,
            reread: 0,
            unknowable: 0,
            overwritten: false,
            false_skip: false,
            refused_in_vain: false,
            faults: self.faults,
        }
    }

    /// What may happen next. Steps that are not faults come first, in an order that makes progress.
    pub(crate) fn possible(&self, state: &State, actions: &mut Vec<Action>) {
        use Action::*;
        actions.extend((0..state.orphans.len()).map(LatePutArrives));
        for (w, writer) in state.writers.iter().enumerate() {
            self.possible_of(state, w, writer, actions);
        }
        actions.extend((0..state.commits.len()).map(CommitArrives));
        if state.owner.is_none() {
            let free = |writer: &Writer| !writer.is_reading() && !writer.is_refused;
            let fresh = Writer::default();
            // New processes are alike: which of them is taken makes no difference.
            let is_other =
                |w: &usize| state.writers[*w] != fresh || !state.writers[..*w].contains(&fresh);
            let free = (0..self.writers).filter(|w| free(&state.writers[*w]) && is_other(w));
            actions.extend(free.map(Assign));
        }
        if state.log_end < self.world.records {
            actions.push(Append);
        }
        // Reading and closing come last: the fair run makes files as long as it can.
        for (w, writer) in state.writers.iter().enumerate() {
            if self.can_read(state, writer) {
                actions.push(Read(w));
            }
        }
        for (w, writer) in state.writers.iter().enumerate() {
            if writer.buffer.as_ref().is_some_and(|b| b.open.is_some()) && self.world.is_due() {
                actions.push(Close(w));
            }
        }
        self.possible_faults(state, actions);
    }

    fn possible_of(&self, state: &State, w: usize, writer: &Writer, actions: &mut Vec<Action>) {
        use Action::*;
        if !writer.mailbox.is_empty() {
            actions.push(BufferTakesMail(w));
        }
        if writer.rejected != 0 {
            actions.push(DeadLettersArrive(w));
        }
        match writer.put {
            Some(Put { found: None, .. }) => actions.push(PutArrives(w)),
            Some(_) => actions.push(PutIsAnswered(w)),
            None => {
                if let Some((_, run)) = writer.queue.clone().start() {
                    let missing = self.world.run(run).rejected & !state.dead_letters;
                    if missing == 0 || !self.rules.put_after_rejections {
                        actions.push(PutIsSent(w));
                    }
                }
            }
        }
        if !writer.words.is_empty() {
            actions.push(ThreadIsTold(w));
        }
        if writer.put.is_none() || !self.rules.answers_after_puts {
            actions.extend((0..writer.questions.len()).map(|i| LakeIsListed(w, i)));
        }
        for i in 0..writer.answers.len() {
            if self.may_start(state, w, i) {
                actions.push(ListingIsTold(w, i));
            }
        }
        if writer.is_reading() && state.owner != Some(w) {
            actions.push(LossIsNoticed(w));
        }
        // The topic was recreated while it read; or retention overtook it and it has flushed.
        if let Some(progress) = &writer.progress {
            let overtaken = progress.position() < state.log_start && progress.is_flushed();
            if writer.life != state.life || overtaken {
                actions.push(ReaderRestarts(w));
            }
        }
    }

    fn possible_faults(&self, state: &State, actions: &mut Vec<Action>) {
        use Action::*;
        let faults = &state.faults;
        for (w, writer) in state.writers.iter().enumerate() {
            if faults.crashes > 0 && *writer != Writer::default() && !writer.is_refused {
                actions.push(Crash(w));
            }
            if state.owner == Some(w) {
                if faults.zombies > 0 {
                    actions.push(Evict(w));
                }
                if faults.revocations > 0 {
                    actions.push(Revoke(w));
                }
            }
            if faults.lost_replies > 0 && writer.put.is_some() {
                actions.push(LoseReply(w));
            }
        }
        // Kafka resets the offsets of a group without members only.
        if faults.resets > 0 && state.owner.is_none() {
            let is_quiet = self.is_quiet(state, None) && state.commits.is_empty();
            let next = self.lake_end(&state.lake).map_or(0, |last| last + 1);
            let resets = (0..=state.log_end).filter(|to| {
                Some(*to) != state.committed && (*to <= next || is_quiet || !self.rules.no_sleepers)
            });
            actions.extend(resets.map(Reset));
        }
        if faults.retentions > 0 && state.log_start < state.log_end {
            actions.push(Retain);
        }
        // Before the first file nothing tells one life of a topic from the next.
        if faults.remakes > 0 && !state.lake.is_empty() {
            actions.extend([Remake(true), Remake(false)]);
        }
    }

    fn lake_end(&self, lake: &[u16]) -> Option<i64> {
        self.newest(lake).map(|run| self.world.run(run).last)
    }

    /// The newest file as the listing finds it: by its name.
    fn newest(&self, lake: &[u16]) -> Option<u16> {
        let by_name = lake.iter().copied();
        by_name.max_by_key(|run| self.world.run(*run).name.first_offset())
    }

    /// Whether no writer except `except` reads, holds records or has a put in flight.
    fn is_quiet(&self, state: &State, except: Option<usize>) -> bool {
        let mut others = state.writers.iter().enumerate();
        state.orphans.is_empty() && others.all(|(w, writer)| Some(w) == except || writer.is_idle())
    }

    fn can_read(&self, state: &State, writer: &Writer) -> bool {
        let (Some(progress), Some(buffer)) = (&writer.progress, &writer.buffer) else {
            return false;
        };
        let position = progress.position();
        writer.mailbox.is_empty()
            && buffer.assignment == progress.assignment
            && writer.life == state.life
            && position >= state.log_start
            && self.world.next_visible(position, state.log_end).is_some()
    }

    /// The assumption about skips: where offsets are skipped, all earlier readers have ended and
    /// no put of theirs arrived after the lake was asked.
    fn may_start(&self, state: &State, w: usize, answer: usize) -> bool {
        let (request, newest) = state.writers[w].answers[answer];
        let next = newest.map_or(0, |run| self.world.run(run).last + 1);
        let Some(committed) = self.committed_for(state, w, request) else {
            return true;
        };
        let start = self.start(state, committed, newest);
        !start.is_ok_and(|start| start.offset > next)
            || self.is_quiet(state, Some(w)) && newest == self.newest(&state.lake)
            || !self.rules.no_sleepers
    }

    /// A skip that the assumption excludes: what follows is not looked at.
    fn is_beyond_assumption(&self, state: &State) -> bool {
        let mut writers = state.writers.iter().enumerate();
        writers.any(|(w, writer)| (0..writer.answers.len()).any(|i| !self.may_start(state, w, i)))
    }

    fn committed_for(&self, state: &State, w: usize, request: u64) -> Option<Option<i64>> {
        let awaiting = &state.writers[w].awaiting;
        if self.rules.latest_answer {
            awaiting
                .of(request)
                .first()
                .map(|(_, committed)| *committed)
        } else {
            (!awaiting.is_empty()).then_some(state.committed)
        }
    }

    fn start(
        &self,
        state: &State,
        committed: Option<i64>,
        newest: Option<u16>,
    ) -> Result<ftap_lake::Start, ftap_lake::ChainError> {
        let chain_end = newest.map(|run| self.world.run(run).last);
        (self.rules.start)(committed, chain_end, state.log_start, state.log_end)
    }
}

impl Machine for Ingest {
    type State = State;
    type Action = Action;

    fn first(&self) -> Self::State {
        self.initial()
    }

    fn possible(&self, state: &Self::State, actions: &mut Vec<Self::Action>) {
        self.possible(state, actions);
    }

    fn next(&self, state: &Self::State, action: Self::Action) -> Self::State {
        self.step(state, action)
    }

    fn safety() -> Safety<Self> {
        vec![
            ("each offset is in one file at most", Self::each_offset_once),
            (
                "no offset is missing before the chain's end",
                Self::nothing_lost,
            ),
            (
                "what is reported as skipped was, and is not in a file",
                Self::skips_are_real,
            ),
            ("a committed offset is durable", Self::committed_is_durable),
            (
                "a rejected record is in the dead-letter topic first",
                Self::rejections_are_kept,
            ),
            (
                "a chain is of one topic's life, and never refused within it",
                Self::one_life,
            ),
        ]
    }

    fn fair(&self, state: &Self::State) -> Result<Option<Self::State>, Stuck> {
        self.fair_step(state)
    }
}
