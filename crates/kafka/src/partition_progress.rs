//! What the subscriber knows of the partitions it was given. Pure.

use std::collections::{BTreeMap, VecDeque};

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
    /// Position and the log's end when the lag was last asked for.
    seen: Option<(i64, i64)>,
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
            seen: None,
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

    /// Records between the lake and the log's `end`. Ask at intervals longer than a
    /// fetch takes.
    ///
    /// Control records at the log's end cannot be distinguished from others before they are
    /// read, and they never are: offsets that were not read for a whole interval while
    /// `is_reading` are counted as control records.
    pub fn lag(&mut self, end: i64, is_reading: bool) -> i64 {
        let seen = (self.position, end);
        let stands_still = self.seen.replace(seen) == Some(seen);
        let unread = if is_reading && stands_still {
            0
        } else {
            (end - self.position).max(0)
        };
        self.in_flight_records + unread
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

    #[test]
    fn the_lag_is_what_was_not_read_and_what_is_not_durable() {
        let mut partition = Progress::new(1, 10, 10);
        assert_eq!(partition.lag(13, true), 3, "nothing read yet");
        partition.handed_on(11, 2, 500);
        assert_eq!(partition.lag(13, true), 3, "offset 12 may be a record");
        assert_eq!(partition.lag(13, false), 3, "paused: it may still be one");
        assert_eq!(
            partition.lag(13, true),
            2,
            "it was not read for an interval"
        );
        assert_eq!(partition.oldest_in_flight_ms(), Some(500));
        assert!(!partition.is_flushed());
        partition.durable_up_to(12);
        assert!(partition.is_flushed());
        assert_eq!(
            (partition.lag(13, true), partition.oldest_in_flight_ms()),
            (0, None)
        );
        assert_eq!(partition.lag(20, true), 8, "the log has grown");
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
