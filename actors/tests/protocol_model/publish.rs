//! Rows from a file into two partitions by publishers with one transactional id, as a state
//! machine. The newest process may be a successor of one that is still alive (a zombie).

use ftap_kafka::publish_resume::{Resume, resume};
use ftap_kafka::tail::{Mark, Tail};

use ftap_testing::model::{Machine, Safety, Stuck};

const ROWS: u64 = 4;
const PARTITIONS: usize = 2;
const SOURCE: &str = "0123456789abcdef/2";
const TOPIC: &str = "t";

/// The rules under test; the default ones are those of the program.
#[derive(Clone)]
pub(crate) struct PublishRules {
    pub lacks: fn(&Resume, i32, u64) -> bool,
    /// Whether starting transactions ends those of earlier publishers.
    pub fences: bool,
    /// Whether that comes before the tail is read.
    pub fence_first: bool,
    /// Whether a message without a mark at a partition's end is taken for an empty tail.
    pub foreign_hides_tail: bool,
}

impl Default for PublishRules {
    fn default() -> Self {
        Self {
            lacks: |resume, partition, row| resume.lacks(partition, row),
            fences: true,
            fence_first: true,
            foreign_hides_tail: false,
        }
    }
}

pub(crate) struct Publish {
    rules: PublishRules,
    crashes: u8,
    foreign: u8,
}

impl Publish {
    pub(crate) fn new(rules: PublishRules) -> Self {
        Self {
            rules,
            crashes: 2,
            foreign: 1,
        }
    }
}

/// Rows 0 and 3 go to partition 0, rows 1 and 2 to partition 1.
fn partition_of(row: u64) -> usize {
    usize::from(row == 1 || row == 2)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Fate {
    Open,
    Committed,
    Aborted,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Record {
    /// `None`: a foreign message.
    row: Option<u64>,
    writer: usize,
    fate: Fate,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Publisher {
    is_alive: bool,
    /// Number given by the broker when transactions were started.
    epoch: Option<u8>,
    /// Last row and last offset of each partition; the outer `None`: not read yet.
    tails: Vec<Option<(Option<u64>, Option<i64>)>>,
    next_row: u64,
    has_open: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct State {
    logs: Vec<Vec<Record>>,
    /// The newest epoch of the transactional id.
    epoch: u8,
    publishers: Vec<Publisher>,
    crashes: u8,
    foreign: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Begin(usize),
    StartTransactions(usize),
    ReadTail(usize, usize),
    Send(usize),
    Commit(usize),
    /// Knows that a newer publisher has taken over.
    EndFenced(usize),
    // Faults.
    Crash(usize),
    /// The broker commits, the publisher does not live to see it.
    CommitAndCrash(usize),
    /// A successor starts beside a publisher that lives.
    BeginBeside(usize),
    Foreign(usize),
}

impl State {
    fn end_transaction(&mut self, writer: usize, fate: Fate) {
        for record in self.logs.iter_mut().flatten() {
            if record.writer == writer && record.fate == Fate::Open {
                record.fate = fate;
            }
        }
        if let Some(publisher) = self.publishers.get_mut(writer) {
            publisher.has_open = false;
        }
    }

    /// What a `read_committed` reader sees: nothing behind a transaction that is open.
    fn visible(&self, partition: usize) -> impl Iterator<Item = &Record> {
        let log = self.logs[partition].iter();
        log.take_while(|record| record.fate != Fate::Open)
            .filter(|record| record.fate == Fate::Committed)
    }

    fn tail(&self, partition: usize, foreign_hides: bool) -> Tail {
        let mut tail = Tail::default();
        for (offset, record) in (0..).zip(self.visible(partition)) {
            tail.saw(offset, record.row.map(mark));
            if foreign_hides && record.row.is_none() {
                tail.marked = None;
            }
        }
        tail
    }
}

fn mark(row: u64) -> Mark {
    let source = SOURCE.to_owned();
    Mark { row, source }
}

impl Publish {
    fn is_current(&self, state: &State, writer: usize) -> bool {
        let epoch = state.publishers[writer].epoch;
        !self.rules.fences || epoch == Some(state.epoch)
    }

    /// `None`: refused, the topic holds nothing but foreign messages.
    fn resume(&self, publisher: &Publisher) -> Option<Resume> {
        let tails = publisher.tails.iter().flatten();
        let tails: Vec<Tail> = tails
            .map(|(row, last_offset)| Tail {
                marked: row.map(mark),
                last_offset: *last_offset,
            })
            .collect();
        resume(TOPIC, SOURCE, &tails).ok()
    }

    fn start_transactions(&self, state: &mut State, writer: usize) {
        if self.rules.fences {
            for other in 0..state.publishers.len() {
                state.end_transaction(other, Fate::Aborted);
            }
        }
        state.epoch += 1;
        state.publishers[writer].epoch = Some(state.epoch);
    }

    fn read_tail(&self, state: &mut State, writer: usize, partition: usize) {
        let tail = state.tail(partition, self.rules.foreign_hides_tail);
        let seen = (tail.marked.map(|mark| mark.row), tail.last_offset);
        state.publishers[writer].tails[partition] = Some(seen);
    }

    fn begin(&self, state: &mut State, writer: usize) {
        state.publishers[writer] = Publisher {
            is_alive: true,
            tails: vec![None; PARTITIONS],
            ..Publisher::default()
        };
    }

    fn next_lacking(&self, publisher: &Publisher) -> Option<u64> {
        let resume = self.resume(publisher)?;
        (publisher.next_row..ROWS).find(|row| {
            let partition = i32::try_from(partition_of(*row)).unwrap();
            (self.rules.lacks)(&resume, partition, *row)
        })
    }
}

impl Machine for Publish {
    type State = State;
    type Action = Action;

    fn first(&self) -> State {
        State {
            logs: vec![Vec::new(); PARTITIONS],
            epoch: 0,
            publishers: vec![Publisher::default(); 2],
            crashes: self.crashes,
            foreign: self.foreign,
        }
    }

    fn possible(&self, state: &State, actions: &mut Vec<Action>) {
        use Action::*;
        let all_dead = state.publishers.iter().all(|publisher| !publisher.is_alive);
        for (w, publisher) in state.publishers.iter().enumerate() {
            if !publisher.is_alive {
                match all_dead {
                    true => actions.push(Begin(w)),
                    false if state.crashes > 0 => actions.push(BeginBeside(w)),
                    false => {}
                }
                continue;
            }
            let unread = publisher.tails.iter().position(Option::is_none);
            let is_fenced = publisher.epoch.is_some() && !self.is_current(state, w);
            match (publisher.epoch, unread) {
                _ if is_fenced && (unread.is_none() || !self.rules.fence_first) => {
                    actions.push(EndFenced(w));
                }
                (None, Some(partition)) if !self.rules.fence_first => {
                    actions.push(ReadTail(w, partition));
                }
                (None, _) => actions.push(StartTransactions(w)),
                (_, Some(partition)) => actions.push(ReadTail(w, partition)),
                (_, None) => {
                    if self.next_lacking(publisher).is_some() {
                        actions.push(Send(w));
                    }
                    if publisher.has_open {
                        actions.push(Commit(w));
                    }
                }
            }
            if state.crashes > 0 {
                actions.push(Crash(w));
                if publisher.has_open && self.is_current(state, w) {
                    actions.push(CommitAndCrash(w));
                }
            }
        }
        if state.foreign > 0 {
            actions.extend((0..PARTITIONS).map(Foreign));
        }
    }

    fn next(&self, last: &State, action: Action) -> State {
        use Action::*;
        let mut state = last.clone();
        match action {
            Begin(w) => self.begin(&mut state, w),
            BeginBeside(w) => {
                state.crashes -= 1;
                self.begin(&mut state, w);
            }
            StartTransactions(w) => self.start_transactions(&mut state, w),
            ReadTail(w, partition) => self.read_tail(&mut state, w, partition),
            Send(w) => {
                if let Some(row) = self.next_lacking(&state.publishers[w]) {
                    state.publishers[w].next_row = row + 1;
                    state.publishers[w].has_open = true;
                    state.logs[partition_of(row)].push(Record {
                        row: Some(row),
                        writer: w,
                        fate: Fate::Open,
                    });
                }
            }
            Commit(w) => state.end_transaction(w, Fate::Committed),
            CommitAndCrash(w) => {
                state.crashes -= 1;
                state.end_transaction(w, Fate::Committed);
                state.publishers[w] = Publisher::default();
            }
            Crash(w) => {
                state.crashes -= 1;
                state.publishers[w] = Publisher::default();
                // Without a successor that fences, its timeout ends the transaction.
                if !self.rules.fences {
                    state.end_transaction(w, Fate::Aborted);
                }
            }
            EndFenced(w) => state.publishers[w] = Publisher::default(),
            Foreign(partition) => {
                state.foreign -= 1;
                state.logs[partition].push(Record {
                    row: None,
                    writer: usize::MAX,
                    fate: Fate::Committed,
                });
            }
        }
        state
    }

    fn safety() -> Safety<Self> {
        vec![(
            "each partition has its rows once, in order and without a gap",
            |_, state| {
                (0..PARTITIONS).all(|partition| {
                    let rows: Vec<u64> = state
                        .visible(partition)
                        .filter_map(|record| record.row)
                        .collect();
                    let wanted = (0..ROWS).filter(|row| partition_of(*row) == partition);
                    rows.into_iter().eq(wanted.take(
                        state
                            .visible(partition)
                            .filter(|record| record.row.is_some())
                            .count(),
                    ))
                })
            },
        )]
    }

    fn fair(&self, state: &State) -> Result<Option<State>, Stuck> {
        use Action::*;
        let mut actions = Vec::new();
        self.possible(state, &mut actions);
        let is_fault = |action: &Action| {
            matches!(
                action,
                Crash(_) | CommitAndCrash(_) | BeginBeside(_) | Foreign(_)
            )
        };
        if let Some(action) = actions.into_iter().find(|action| !is_fault(action)) {
            return Ok(Some(self.next(state, action)));
        }
        let rows: usize = (0..PARTITIONS)
            .map(|partition| state.visible(partition).filter(|r| r.row.is_some()).count())
            .sum();
        let is_refused = |publisher: &Publisher| {
            publisher.tails.iter().all(Option::is_some) && self.resume(publisher).is_none()
        };
        if u64::try_from(rows) == Ok(ROWS) || state.publishers.iter().any(is_refused) {
            Ok(None)
        } else {
            Err(Stuck)
        }
    }
}
