//! What the subscriber knows of one assigned partition. Pure.

use std::collections::VecDeque;

/// Offsets of one partition between Kafka and the lake.
#[derive(Debug)]
pub struct Progress {
    /// Tells this reading of the partition from earlier ones.
    pub epoch: u64,
    /// The offset after the last record handed on; the start before the first.
    position: i64,
    /// First offset that is not in the lake.
    durable: i64,
    /// The end of the partition when it was last reached.
    end: Option<i64>,
    /// Batches that are not durable yet.
    in_flight: VecDeque<InFlight>,
    in_flight_records: i64,
}

#[derive(Clone, Copy, Debug)]
struct InFlight {
    last_offset: i64,
    records: i64,
    first_timestamp_ms: i64,
}

impl Progress {
    /// Reads from `start` on.
    pub fn new(epoch: u64, start: i64) -> Self {
        Self {
            epoch,
            position: start,
            durable: start,
            end: None,
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
        self.end = None;
        self.in_flight_records += records;
        self.in_flight.push_back(InFlight {
            last_offset,
            records,
            first_timestamp_ms,
        });
    }

    /// Nothing visible is left below `offset`. Word that was overtaken by records is ignored.
    pub fn reached_end(&mut self, offset: i64) {
        if offset >= self.position {
            self.end = Some(offset);
        }
    }

    /// Everything below `next_offset` is in the lake.
    pub fn committed(&mut self, next_offset: i64) {
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

    /// Whether every record handed on is in the lake.
    pub fn is_flushed(&self) -> bool {
        self.durable >= self.position
    }

    /// Whether every record below `target` was handed on.
    pub fn has_read_to(&self, target: i64) -> bool {
        self.position >= target || self.end.is_some_and(|end| end >= target)
    }

    /// Records between the lake and the log's `end`. What was not read yet may be
    /// control records in part, which nobody can tell before.
    pub fn lag(&self, end: i64) -> i64 {
        let unread = match self.has_read_to(end) {
            true => 0,
            false => end - self.position,
        };
        self.in_flight_records + unread
    }

    /// Kafka timestamp of the oldest record that is not in the lake.
    pub fn oldest_in_flight_ms(&self) -> Option<i64> {
        self.in_flight.front().map(|batch| batch.first_timestamp_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_is_drained_when_its_end_was_read_and_is_durable() {
        let mut partition = Progress::new(1, 10);
        assert!(partition.is_flushed() && !partition.has_read_to(13));
        partition.handed_on(11, 2, 500);
        partition.reached_end(11);
        assert!(
            !partition.has_read_to(13),
            "word of an end before the last record is stale"
        );
        partition.reached_end(13);
        assert!(partition.has_read_to(13) && !partition.is_flushed());
        assert_eq!(
            (partition.lag(13), partition.oldest_in_flight_ms()),
            (2, Some(500))
        );
        partition.committed(12);
        assert!(partition.is_flushed());
        assert_eq!(
            (partition.lag(13), partition.oldest_in_flight_ms()),
            (0, None),
            "offset 12 is a control record"
        );
    }

    #[test]
    fn a_late_commit_takes_nothing_back() {
        let mut partition = Progress::new(1, 0);
        partition.handed_on(9, 10, 1);
        partition.committed(10);
        partition.committed(5);
        assert!(partition.is_flushed());
    }
}
