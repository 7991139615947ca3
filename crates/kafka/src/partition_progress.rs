//! What the subscriber knows of the partitions it was given. Pure.

use std::collections::{BTreeMap, VecDeque};

use crate::consumer::Fetched;

/// As many reports in a row, one a second, without a step make a standstill.
const STILL_LIMIT: u32 = 10;

/// Why nothing more is read although the log continues.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Standstill {
    /// A transaction that is open since `from` hides the records from there on.
    OpenTransaction { from: i64, end: i64 },
    /// The broker answers, and what it has at `offset` can't be read.
    Unreadable {
        offset: i64,
        end: i64,
        /// What librdkafka said of it, if anything.
        reason: Option<String>,
    },
}

/// Offsets of one partition between Kafka and the lake.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Progress {
    /// Tells this reading of the partition from earlier ones.
    pub assignment: u64,
    /// The offset after the last record handed on; the start before the first.
    position: i64,
    /// First offset that is not in the lake.
    durable: i64,
    /// What the group has taken of it: a commit may be refused, as all are during a rebalance.
    acknowledged: i64,
    /// The offset after those that were read or are nothing to be read: marks of transactions
    /// and aborted records.
    read_to: i64,
    /// The newest report of what was fetched.
    fetched: Option<Fetched>,
    /// Reports in a row in which nothing moved.
    still: u32,
    /// The offset at which librdkafka could not read, and why.
    unreadable: Option<(i64, String)>,
    /// Batches that are not durable yet.
    in_flight: VecDeque<InFlight>,
    in_flight_records: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct InFlight {
    last_offset: i64,
    records: i64,
    first_timestamp_ms: i64,
}

impl Progress {
    /// Reads from `start` on, of which the group has committed the offsets up to `acknowledged`.
    pub fn new(assignment: u64, start: i64, acknowledged: i64) -> Self {
        Self {
            assignment,
            position: start,
            durable: start,
            acknowledged,
            read_to: start,
            fetched: None,
            still: 0,
            unreadable: None,
            in_flight: VecDeque::new(),
            in_flight_records: 0,
        }
    }

    /// The next offset to be handed on.
    pub fn position(&self) -> i64 {
        self.position
    }

    /// `records` up to `last_offset` were handed on, the first of them from `first_timestamp_ms`.
    pub fn handed_on(&mut self, last_offset: i64, records: i64, first_timestamp_ms: i64) {
        self.position = last_offset + 1;
        self.still = 0;
        self.unreadable = None;
        self.in_flight_records += records;
        self.in_flight.push_back(InFlight {
            last_offset,
            records,
            first_timestamp_ms,
        });
    }

    /// Everything below `next_offset` is in the lake.
    pub fn durable_up_to(&mut self, next_offset: i64) {
        self.durable = self.durable.max(next_offset);
        while self
            .in_flight
            .front()
            .is_some_and(|batch| batch.last_offset < self.durable)
            && let Some(batch) = self.in_flight.pop_front()
        {
            self.in_flight_records -= batch.records;
        }
    }

    /// The group has taken `offset`.
    pub fn acknowledged(&mut self, offset: i64) {
        self.acknowledged = self.acknowledged.max(offset);
    }

    /// The offset that the group has not acknowledged yet.
    pub fn owed(&self) -> Option<i64> {
        (self.durable > self.acknowledged).then_some(self.durable)
    }

    /// Whether every record handed on is in the lake.
    pub fn is_flushed(&self) -> bool {
        self.durable >= self.position
    }

    /// Takes a report of what was fetched while records were (`is_reading`) or were not taken.
    pub fn fetched(&mut self, now: Fetched, is_reading: bool) {
        // Nothing below the next offset is on its way any more: what was not handed on was not a record.
        if now.all_taken {
            self.read_to = now.next;
        }
        let is_still = is_reading
            && now.all_taken
            && now.next < now.end
            && self
                .fetched
                .is_some_and(|last| last.next == now.next && last.answers < now.answers);
        self.still = if is_still { self.still + 1 } else { 0 };
        self.fetched = Some(now);
    }

    /// What is at `offset` can't be read.
    pub fn is_unreadable(&mut self, offset: i64, reason: String) {
        self.unreadable = Some((offset, reason));
    }

    /// Why the partition stands still before the log's end; `None` while it moves, and for the
    /// first seconds.
    pub fn standstill(&self) -> Option<Standstill> {
        let Fetched {
            next,
            stable_end,
            end,
            ..
        } = self.fetched?;
        if let Some((offset, reason)) = &self.unreadable {
            let (offset, reason) = (*offset, Some(reason.clone()));
            return Some(Standstill::Unreadable {
                offset,
                end,
                reason,
            });
        }
        (self.still >= STILL_LIMIT).then_some(if next == stable_end {
            Standstill::OpenTransaction { from: next, end }
        } else {
            Standstill::Unreadable {
                offset: next,
                end,
                reason: None,
            }
        })
    }

    /// Records between the lake and the log's `end`. Those of open transactions count, marks of
    /// transactions do until they are fetched.
    pub fn lag(&self, end: i64) -> i64 {
        self.in_flight_records + (end - self.position.max(self.read_to)).max(0)
    }

    /// Kafka timestamp of the oldest record that is not in the lake.
    pub fn oldest_in_flight_ms(&self) -> Option<i64> {
        self.in_flight.front().map(|batch| batch.first_timestamp_ms)
    }
}

/// Partitions given by the group and not yet taken: the lake is being asked where they start.
///
/// The committed offset is read before the lake is asked, and only the answer to that very
/// question counts. As an offset is committed after its file is durable, the lake's end is then
/// never behind it, and what lies between is what an operator skipped. The late answer to an
/// earlier question would show another member's files as missing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Awaiting {
    last_request: u64,
    partitions: BTreeMap<i32, Asked>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Asked {
    request: u64,
    committed: Option<i64>,
}

impl Awaiting {
    /// Asks for partitions of which the group has committed these offsets; gives the
    /// request's number.
    pub fn ask(&mut self, committed: &[(i32, Option<i64>)]) -> u64 {
        self.last_request += 1;
        let request = self.last_request;
        for (partition, committed) in committed {
            let committed = *committed;
            let asked = Asked { request, committed };
            self.partitions.insert(*partition, asked);
        }
        request
    }

    /// Partitions, with their committed offsets, that wait for the answer to this request.
    pub fn of(&self, request: u64) -> Vec<(i32, Option<i64>)> {
        let of_request = |(partition, asked): (&i32, &Asked)| {
            (asked.request == request).then_some((*partition, asked.committed))
        };
        self.partitions.iter().filter_map(of_request).collect()
    }

    /// These are taken, or were taken away.
    pub fn remove(&mut self, partitions: &[i32]) {
        self.partitions
            .retain(|partition, _| !partitions.contains(partition));
    }

    /// Whether nothing is waited for.
    pub fn is_empty(&self) -> bool {
        self.partitions.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_to_an_earlier_question_does_not_count() {
        let mut awaiting = Awaiting::default();
        let first = awaiting.ask(&[(0, Some(5)), (1, None)]);
        awaiting.remove(&[0]);
        let second = awaiting.ask(&[(0, Some(10))]);
        assert_eq!(awaiting.of(first), [(1, None)]);
        assert_eq!(awaiting.of(second), [(0, Some(10))]);
        awaiting.remove(&[0, 1]);
        assert!(awaiting.is_empty());
    }

    /// Everything up to `next` was fetched and taken.
    fn fetched(next: i64, stable_end: i64, end: i64, answers: u64) -> Fetched {
        Fetched {
            partition: 0,
            next,
            stable_end,
            end,
            all_taken: true,
            answers,
        }
    }

    #[test]
    fn the_lag_is_what_was_not_read_and_what_is_not_durable() {
        let mut partition = Progress::new(1, 10, 10);
        assert_eq!(partition.lag(13), 3, "nothing read yet");
        partition.handed_on(11, 2, 500);
        assert_eq!(partition.lag(13), 3, "offset 12 may be a record");
        let on_its_way = Fetched {
            all_taken: false,
            ..fetched(13, 13, 13, 1)
        };
        partition.fetched(on_its_way, true);
        assert_eq!(partition.lag(13), 3, "it was fetched and may be a record");
        partition.fetched(fetched(13, 13, 13, 2), true);
        assert_eq!(partition.lag(13), 2, "it was a mark");
        assert_eq!(partition.oldest_in_flight_ms(), Some(500));
        assert!(!partition.is_flushed());
        partition.durable_up_to(12);
        assert!(partition.is_flushed());
        assert_eq!(
            (partition.lag(13), partition.oldest_in_flight_ms()),
            (0, None)
        );
        assert_eq!(partition.lag(20), 7, "the log has grown");
    }

    #[test]
    fn a_partition_that_stands_still_keeps_its_lag_and_says_why() {
        let after = |reports: u32, report: fn(u64) -> Fetched, is_reading| {
            let mut partition = Progress::new(1, 10, 10);
            (0..=reports).for_each(|n| partition.fetched(report(u64::from(n)), is_reading));
            (partition.lag(20), partition.standstill())
        };
        let hidden = |n| fetched(12, 12, 20, n);
        assert_eq!(after(STILL_LIMIT - 1, hidden, true), (8, None));
        let open = Standstill::OpenTransaction { from: 12, end: 20 };
        assert_eq!(after(STILL_LIMIT, hidden, true), (8, Some(open)));
        let damaged = |n| fetched(12, 20, 20, n);
        let unreadable = Standstill::Unreadable {
            offset: 12,
            end: 20,
            reason: None,
        };
        assert_eq!(after(STILL_LIMIT, damaged, true), (8, Some(unreadable)));
        assert_eq!(after(50, damaged, false), (8, None), "paused");
        let silent = |_| fetched(12, 20, 20, 7);
        assert_eq!(after(50, silent, true), (8, None), "no answer comes");
        let at_the_end = |n| fetched(20, 20, 20, n);
        assert_eq!(after(50, at_the_end, true), (0, None));
    }

    #[test]
    fn what_librdkafka_says_can_t_be_read_is_not_waited_for() {
        let mut partition = Progress::new(1, 10, 10);
        partition.fetched(fetched(10, 20, 20, 1), true);
        partition.is_unreadable(11, "bad codec".to_owned());
        let standstill = Standstill::Unreadable {
            offset: 11,
            end: 20,
            reason: Some("bad codec".to_owned()),
        };
        assert_eq!(partition.standstill(), Some(standstill));
        partition.handed_on(12, 3, 500);
        assert_eq!(partition.standstill(), None, "it was repaired");
    }

    #[test]
    fn a_late_commit_takes_nothing_back() {
        let mut partition = Progress::new(1, 0, 0);
        partition.handed_on(9, 10, 1);
        partition.durable_up_to(10);
        partition.durable_up_to(5);
        assert!(partition.is_flushed());
    }

    #[test]
    fn the_group_is_owed_what_it_did_not_take() {
        let mut partition = Progress::new(1, 10, 4);
        assert_eq!(partition.owed(), Some(10), "the lake was ahead");
        partition.acknowledged(10);
        assert_eq!(partition.owed(), None);
        partition.handed_on(11, 2, 500);
        assert_eq!(partition.owed(), None, "not durable yet");
        partition.durable_up_to(12);
        assert_eq!(partition.owed(), Some(12));
        partition.acknowledged(10);
        assert_eq!(partition.owed(), Some(12), "that was the one before");
        partition.acknowledged(12);
        assert_eq!(partition.owed(), None);
    }
}
