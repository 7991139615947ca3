//! One partition from the log to the lake, with several writers, as a state machine.
//!
//! Each writer has what the program's stages have: a consumer's thread (assignment, position),
//! a buffer with a mailbox, an uploader with a queue and one put under way. A writer that lost
//! its partition and was not told is a zombie: it goes on whenever the checker likes. Where a
//! decision is taken, the program's own function takes it.

use std::collections::VecDeque;
use std::sync::Arc;

use ftap_actors::kafka_subscriber::partition::{Awaiting, Progress};
use ftap_actors::lake::chain::{Adoption, SkipCause};
use ftap_actors::lake::queue::PutQueue;

use super::world::{Rules, World, bits, timestamp};

/// How often each fault may still happen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Faults {
    pub crashes: u8,
    pub zombies: u8,
    pub revocations: u8,
    pub lost_replies: u8,
    pub resets: u8,
    pub retentions: u8,
    pub remakes: u8,
}

#[derive(Clone)]
pub struct Ingest {
    pub rules: Rules,
    pub world: Arc<World>,
    pub writers: usize,
    pub first_end: i64,
    pub faults: Faults,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
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
    /// What retention took before anybody could know of it.
    unknowable: u64,
    overwritten: bool,
    false_skip: bool,
    refused_in_vain: bool,
    faults: Faults,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Writer {
    awaiting: Awaiting,
    /// Questions to the lake that it has not answered.
    questions: Vec<u64>,
    /// Answers on their way: the request and the newest file.
    answers: Vec<(u64, Option<u16>)>,
    progress: Option<Progress>,
    life: u8,
    epochs: u64,
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
    epoch: u64,
    open: Option<(i64, i64)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Put {
    epoch: u64,
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
pub enum Action {
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
    pub fn is_fault(self) -> bool {
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

    fn end_readings(&mut self, epoch: u64, rules: &Rules) {
        self.queue.end(epoch);
        if !rules.readings_end {
            // What the queue was before: it forgot what had ended.
            self.queue = PutQueue::default();
            if let Some(put) = self.put {
                self.queue.push(1, (put.epoch, put.run));
                self.queue.start();
            }
        }
    }

    fn give_up(&mut self, rules: &Rules) {
        self.awaiting.remove(&[0]);
        if self.progress.take().is_some() {
            self.mailbox.push_back(ToBuffer::Close);
            self.end_readings(self.epochs, rules);
        }
    }

    fn open(&mut self, start: i64) {
        self.epochs += 1;
        self.progress = Some(Progress::new(self.epochs, start, start));
        self.mailbox.push_back(ToBuffer::Open(self.epochs));
    }
}

impl Ingest {
    pub fn initial(&self) -> State {
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
            unknowable: 0,
            overwritten: false,
            false_skip: false,
            refused_in_vain: false,
            faults: self.faults,
        }
    }

    /// What may happen next; what is no fault comes first, in an order that gets things done.
    pub fn possible(&self, state: &State, actions: &mut Vec<Action>) {
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
        actions.extend((0..writer.questions.len()).map(|i| LakeIsListed(w, i)));
        for i in 0..writer.answers.len() {
            if self.may_start(state, w, i) {
                actions.push(ListingIsTold(w, i));
            }
        }
        if writer.is_reading() && state.owner != Some(w) {
            actions.push(LossIsNoticed(w));
        }
        // The topic was made anew under it; or retention overtook it and it has flushed.
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

    /// Whether nobody but `except` reads, holds records or has a put on the network.
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
            && buffer.epoch == progress.epoch
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
        match self.rules.latest_answer {
            true => awaiting
                .of(request)
                .first()
                .map(|(_, committed)| *committed),
            false => (!awaiting.is_empty()).then_some(state.committed),
        }
    }

    fn start(
        &self,
        state: &State,
        committed: Option<i64>,
        newest: Option<u16>,
    ) -> Result<ftap_actors::lake::Start, ftap_actors::lake::ChainError> {
        let chain_end = newest.map(|run| self.world.run(run).last);
        (self.rules.start)(committed, chain_end, state.log_start, state.log_end)
    }

    pub fn step(&self, last: &State, action: Action) -> State {
        use Action::*;
        let mut state = last.clone();
        match action {
            LatePutArrives(i) => {
                let run = state.orphans.remove(i);
                self.store(&mut state, run);
            }
            PutArrives(w) => {
                if let Some(Put { run, .. }) = state.writers[w].put {
                    let found = self.store(&mut state, run);
                    if let Some(put) = &mut state.writers[w].put {
                        put.found = Some(found);
                    }
                }
            }
            PutIsAnswered(w) => self.settle(&mut state, w),
            ThreadIsTold(w) => self.tell_thread(&mut state, w),
            CommitArrives(i) => {
                state.committed = Some(state.commits.remove(i));
                state.set_by_operator = false;
            }
            ListingIsTold(w, i) => self.begin_reading(&mut state, w, i),
            Append => {
                state.log_end += 1;
                // A transaction's end follows its records at once.
                if state.log_end % 5 == 2 && state.log_end < self.world.records {
                    state.log_end += 1;
                }
            }
            Crash(w) | ReaderRestarts(w) => {
                if let Crash(_) = action {
                    state.faults.crashes -= 1;
                }
                state.writers[w].restart(&mut state.orphans);
                state.owner = state.owner.filter(|owner| *owner != w);
            }
            Reset(to) => {
                state.faults.resets -= 1;
                let next = self.lake_end(&state.lake).map_or(0, |last| last + 1);
                state.was_reset_forward |= to > next;
                state.committed = Some(to);
                state.set_by_operator = true;
            }
            Retain => {
                state.faults.retentions -= 1;
                state.log_start += 1;
            }
            Remake(keeps_offsets) => {
                state.faults.remakes -= 1;
                (state.life, state.log_start, state.log_end) = (state.life + 1, 0, 0);
                if !keeps_offsets {
                    state.committed = None;
                }
                state.set_by_operator = true;
            }
            Evict(_) => {
                state.faults.zombies -= 1;
                state.owner = None;
            }
            Assign(w) => {
                state.owner = Some(w);
                let committed = state.committed;
                let writer = &mut state.writers[w];
                let request = writer.awaiting.ask(&[(0, committed)]);
                writer.questions.push(request);
            }
            _ => self.step_of_writer(&mut state, action),
        }
        state
    }

    fn step_of_writer(&self, state: &mut State, action: Action) {
        use Action::*;
        match action {
            BufferTakesMail(w) => {
                let writer = &mut state.writers[w];
                writer.buffer = match writer.mailbox.pop_front() {
                    Some(ToBuffer::Open(epoch)) => Some(Buffer { epoch, open: None }),
                    _ => None,
                };
            }
            DeadLettersArrive(w) => {
                state.dead_letters |= std::mem::take(&mut state.writers[w].rejected);
            }
            LakeIsListed(w, i) => {
                let newest = self.newest(&state.lake);
                let writer = &mut state.writers[w];
                let request = writer.questions.remove(i);
                writer.answers.push((request, newest));
            }
            PutIsSent(w) => {
                let writer = &mut state.writers[w];
                writer.put = writer.queue.start().map(|(epoch, run)| Put {
                    epoch,
                    run,
                    found: None,
                });
            }
            LoseReply(w) => {
                state.faults.lost_replies -= 1;
                if let Some(put) = &mut state.writers[w].put
                    && put.found.take().is_none()
                    && !state.orphans.contains(&put.run)
                {
                    state.orphans.push(put.run);
                    state.orphans.sort_unstable();
                }
            }
            LossIsNoticed(w) => state.writers[w].give_up(&self.rules),
            Revoke(w) => {
                state.faults.revocations -= 1;
                state.owner = None;
                state.writers[w].give_up(&self.rules);
            }
            Read(w) => self.read(state, w),
            Close(w) => self.close(state, w),
            _ => {}
        }
    }

    fn read(&self, state: &mut State, w: usize) {
        let end = state.log_end;
        let writer = &mut state.writers[w];
        let (Some(progress), Some(buffer)) = (&mut writer.progress, &mut writer.buffer) else {
            return;
        };
        let Some(offset) = self.world.next_visible(progress.position(), end) else {
            return;
        };
        progress.handed_on(offset, 1, timestamp(offset));
        let first = buffer.open.map_or(offset, |(first, _)| first);
        buffer.open = Some((first, offset));
        writer.rejected |= u64::from(offset % 5 == 3) << offset;
        if self.world.is_full(first, offset) {
            self.close(state, w);
        }
    }

    fn close(&self, state: &mut State, w: usize) {
        let writer = &mut state.writers[w];
        let Some(buffer) = &mut writer.buffer else {
            return;
        };
        let Some((first, last)) = buffer.open.take() else {
            return;
        };
        let run = self.world.id(writer.life, first, last);
        writer.queue.push(buffer.epoch, (buffer.epoch, run));
        if !self.rules.commit_after_put {
            commit(state, last + 1);
        }
    }

    /// What the store does with a put; the file that is there afterwards.
    fn store(&self, state: &mut State, run: u16) -> u16 {
        let name = &self.world.run(run).name;
        let there = |other: &u16| self.world.run(*other).name == *name;
        match state.lake.iter().position(there) {
            Some(at) if self.rules.create_only => state.lake[at],
            Some(at) => {
                state.overwritten |= state.lake[at] != run;
                state.lake[at] = run;
                run
            }
            None => {
                state.lake.push(run);
                state.lake.sort_unstable();
                run
            }
        }
    }

    fn settle(&self, state: &mut State, w: usize) {
        let life = state.life;
        let writer = &mut state.writers[w];
        let Some(Put {
            epoch,
            run,
            found: Some(found),
        }) = writer.put.take()
        else {
            return;
        };
        writer.queue.settled();
        let ours = &self.world.run(run).footer;
        // Our own file of this very put needs no reading; comparing it says the same.
        match (self.rules.exists)(ours, &self.world.run(found).footer) {
            Ok(Adoption::Same) => writer
                .words
                .push_back(Word::Committed(epoch, ours.last_offset + 1)),
            Ok(Adoption::Adopt { resume_at }) => {
                writer.end_readings(epoch, &self.rules);
                writer.words.push_back(Word::Rewind(epoch, resume_at));
            }
            Err(_) => {
                state.refused_in_vain |= life == 0;
                self.refuse(state, w);
            }
        }
    }

    fn refuse(&self, state: &mut State, w: usize) {
        state.writers[w].restart(&mut state.orphans);
        state.writers[w].is_refused = true;
        state.owner = state.owner.filter(|owner| *owner != w);
    }

    fn tell_thread(&self, state: &mut State, w: usize) {
        let writer = &mut state.writers[w];
        let is_current = |writer: &Writer, epoch| {
            writer
                .progress
                .as_ref()
                .is_some_and(|progress| progress.epoch == epoch)
        };
        match writer.words.pop_front() {
            Some(Word::Committed(epoch, next)) if is_current(writer, epoch) => {
                if let Some(progress) = &mut writer.progress {
                    progress.committed(next);
                }
                commit(state, next);
            }
            Some(Word::Rewind(epoch, offset)) if is_current(writer, epoch) => {
                writer.open(offset);
                commit(state, offset);
            }
            _ => {}
        }
    }

    fn begin_reading(&self, state: &mut State, w: usize, answer: usize) {
        let (request, newest) = state.writers[w].answers[answer];
        let committed = self.committed_for(state, w, request);
        state.writers[w].answers.remove(answer);
        let Some(committed) = committed else {
            return;
        };
        let footer = newest.map(|run| &self.world.run(run).footer);
        let found = footer
            .and_then(|footer| self.world.next_visible(footer.first_offset, state.log_end))
            .map(|offset| (offset, self.world.fingerprint(state.life, offset)));
        let goes_on = footer
            .is_none_or(|footer| (self.rules.continuation)(footer, state.log_start, found).is_ok());
        let Ok(start) = self.start(state, committed, newest) else {
            state.refused_in_vain |= state.life == 0;
            return self.refuse(state, w);
        };
        if !goes_on {
            state.refused_in_vain |= state.life == 0;
            return self.refuse(state, w);
        }
        if let Some(skipped) = &start.skipped {
            let mask = bits(*skipped.offsets.start(), *skipped.offsets.end());
            let is_real = skipped.cause == SkipCause::RetentionPassedChainEnd
                && state.log_start >= start.offset
                || state.was_reset_forward;
            state.false_skip |= !is_real || mask & self.covered(state) != 0;
            state.skipped |= mask;
        }
        if newest.is_none() {
            let known = committed.map_or(state.log_start, |c| c.min(state.log_start));
            state.unknowable |= bits(0, known - 1);
        }
        let writer = &mut state.writers[w];
        writer.awaiting.remove(&[0]);
        writer.life = state.life;
        writer.open(start.offset);
    }

    fn covered(&self, state: &State) -> u64 {
        let files = state.lake.iter();
        files.fold(0, |mask, run| mask | self.world.offsets(*run))
    }

    pub fn each_offset_once(&self, state: &State) -> bool {
        let mut seen = 0;
        !state.overwritten
            && state.lake.iter().all(|run| {
                let mine = self.world.offsets(*run);
                let is_new = seen & mine == 0;
                seen |= mine;
                is_new
            })
    }

    pub fn nothing_lost(&self, state: &State) -> bool {
        let last = state.lake.iter().map(|run| self.world.run(*run).last).max();
        let due = last.map_or(0, |last| bits(0, last));
        due & !(self.covered(state) | state.skipped | state.unknowable) == 0
    }

    pub fn skips_are_real(&self, state: &State) -> bool {
        !state.false_skip && state.skipped & self.covered(state) == 0
    }

    pub fn committed_is_durable(&self, state: &State) -> bool {
        let last = state.lake.iter().map(|run| self.world.run(*run).last).max();
        let behind = |committed| committed <= last.map_or(0, |last| last + 1);
        state.set_by_operator || state.committed.is_none_or(behind)
    }

    pub fn rejections_are_kept(&self, state: &State) -> bool {
        let mut files = state.lake.iter();
        files.all(|run| self.world.run(*run).rejected & !state.dead_letters == 0)
    }

    pub fn one_life(&self, state: &State) -> bool {
        let lives = |run: &u16| self.world.run(*run).life;
        !state.refused_in_vain
            && state
                .lake
                .iter()
                .all(|run| lives(run) == lives(&state.lake[0]))
    }

    /// Runs on without faults: whether the chain reaches the log's end. `None` in between.
    pub fn fair_step(&self, state: &State) -> Result<Option<State>, ()> {
        let mut actions = Vec::new();
        self.possible(state, &mut actions);
        if let Some(action) = actions.into_iter().find(|action| !action.is_fault()) {
            return Ok(Some(self.step(state, action)));
        }
        let all = bits(0, self.world.records - 1);
        let is_complete = all & !(self.covered(state) | state.skipped | state.unknowable) == 0;
        // A topic made anew is refused: an operator has to act.
        match is_complete || state.life > 0 || self.is_beyond_assumption(state) {
            true => Ok(None),
            false => Err(()),
        }
    }
}

fn commit(state: &mut State, offset: i64) {
    if !state.commits.contains(&offset) {
        state.commits.push(offset);
        state.commits.sort_unstable();
    }
}
