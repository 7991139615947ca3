//! What one partition knows about its producers: the last batches of each (so that a repeated batch
//! is answered, not appended again), open transactions and aborted ones. Pure: fed with batch headers
//! in log order, both when appending and when the log is read again on open.

use std::collections::{BTreeMap, HashMap, VecDeque};

use kafka_protocol::ResponseError;

use crate::batch::{BatchHeader, Decision, sequence_after};

/// Kafka keeps five, which is the most a client may have in flight.
const REMEMBERED_BATCHES: usize = 5;
/// Beyond this many producers those silent for longest are forgotten, which bounds the memory.
const REMEMBERED_PRODUCERS: usize = 10_000;

#[derive(Debug, Clone, Copy)]
struct Sent {
    first_sequence: i32,
    last_sequence: i32,
    base_offset: i64,
    last_offset: i64,
}

#[derive(Debug, Default)]
struct Producer {
    epoch: i16,
    sent: VecDeque<Sent>,
    last_offset: i64,
    transaction_start: Option<i64>,
}

/// An aborted transaction, as a `read_committed` fetch reports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Aborted {
    pub producer_id: i64,
    pub first_offset: i64,
    /// The offset of the abort marker.
    pub last_offset: i64,
}

/// What to do with a batch.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Append,
    /// Already in the log at this base offset.
    Duplicate(i64),
}

#[derive(Debug, Default)]
pub(crate) struct ProducerTable {
    producers: HashMap<i64, Producer>,
    /// First offset of each open transaction, and whose it is.
    open: BTreeMap<i64, i64>,
    aborted: Vec<Aborted>,
}

impl ProducerTable {
    /// Kafka's rules for idempotent producers.
    pub(super) fn check(&self, header: &BatchHeader) -> Result<Verdict, ResponseError> {
        if header.producer_id < 0 {
            return Ok(Verdict::Append);
        }
        // An unknown producer may start anywhere: retention may have removed what it sent before.
        let Some(producer) = self.producers.get(&header.producer_id) else {
            return Ok(Verdict::Append);
        };
        if header.producer_epoch < producer.epoch {
            return Err(ResponseError::InvalidProducerEpoch);
        }
        if header.producer_epoch > producer.epoch {
            return match header.base_sequence {
                0 => Ok(Verdict::Append),
                _ => Err(ResponseError::OutOfOrderSequenceNumber),
            };
        }
        let repeated = producer.sent.iter().find(|sent| {
            sent.first_sequence == header.base_sequence
                && sent.last_sequence == header.last_sequence()
        });
        if let Some(sent) = repeated {
            return Ok(Verdict::Duplicate(sent.base_offset));
        }
        let expected = producer
            .sent
            .back()
            .map_or(0, |sent| sequence_after(sent.last_sequence, 1));
        if header.base_sequence == expected {
            Ok(Verdict::Append)
        } else {
            Err(ResponseError::OutOfOrderSequenceNumber)
        }
    }

    /// Takes note of a batch that is now in the log. `decision` is set for a transaction marker.
    pub(super) fn note(&mut self, header: &BatchHeader, decision: Option<Decision>) {
        if header.producer_id < 0 {
            return;
        }
        if self.producers.len() >= REMEMBERED_PRODUCERS {
            self.forget_silent_half();
        }
        let producer = self.producers.entry(header.producer_id).or_default();
        if producer.epoch != header.producer_epoch {
            producer.epoch = header.producer_epoch;
            producer.sent.clear();
        }
        producer.last_offset = header.last_offset();
        if header.is_control() {
            if let Some(first_offset) = producer.transaction_start.take() {
                self.open.remove(&first_offset);
                if decision == Some(Decision::Abort) {
                    self.aborted.push(Aborted {
                        producer_id: header.producer_id,
                        first_offset,
                        last_offset: header.base_offset,
                    });
                }
            }
            return;
        }
        if producer.sent.len() == REMEMBERED_BATCHES {
            producer.sent.pop_front();
        }
        producer.sent.push_back(Sent {
            first_sequence: header.base_sequence,
            last_sequence: header.last_sequence(),
            base_offset: header.base_offset,
            last_offset: header.last_offset(),
        });
        if header.is_transactional() && producer.transaction_start.is_none() {
            producer.transaction_start = Some(header.base_offset);
            self.open.insert(header.base_offset, header.producer_id);
        }
    }

    /// Where the first open transaction starts: readers of committed data stop there.
    pub(super) fn first_open(&self) -> Option<i64> {
        self.open.keys().next().copied()
    }

    /// The producers with an open transaction, and the epoch each used.
    pub(super) fn open_producers(&self) -> Vec<(i64, i16)> {
        self.open
            .values()
            .map(|id| (*id, self.producers.get(id).map_or(0, |p| p.epoch)))
            .collect()
    }

    pub(super) fn largest_id(&self) -> Option<i64> {
        self.producers.keys().max().copied()
    }

    pub(super) fn has_open(&self, producer_id: i64) -> bool {
        self.producers
            .get(&producer_id)
            .is_some_and(|p| p.transaction_start.is_some())
    }

    /// Aborted transactions with records in `from..to`.
    pub(super) fn aborted_between(&self, from: i64, to: i64) -> impl Iterator<Item = &Aborted> {
        self.aborted
            .iter()
            .filter(move |a| a.last_offset >= from && a.first_offset < to)
    }

    fn forget_silent_half(&mut self) {
        let mut last_offsets: Vec<i64> = self.producers.values().map(|p| p.last_offset).collect();
        let middle = last_offsets.len() / 2;
        let (_, median, _) = last_offsets.select_nth_unstable(middle);
        let median = *median;
        self.producers
            .retain(|_, p| p.last_offset >= median || p.transaction_start.is_some());
    }

    /// Forgets what only concerned records before `start`.
    pub(super) fn forget_before(&mut self, start: i64) {
        self.aborted.retain(|a| a.last_offset >= start);
        self.producers
            .retain(|_, p| p.last_offset >= start || p.transaction_start.is_some());
        for producer in self.producers.values_mut() {
            while producer.sent.len() > 1
                && producer.sent.front().is_some_and(|s| s.last_offset < start)
            {
                producer.sent.pop_front();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::marker;
    use crate::batch::tests::batch_of;

    fn header(
        at: i64,
        records: i32,
        producer: (i64, i16, i32),
        transactional: bool,
    ) -> BatchHeader {
        let mut header =
            BatchHeader::parse(&batch_of(records, producer, transactional, 0)).unwrap();
        header.base_offset = at;
        header
    }

    #[test]
    fn repeats_of_the_last_five_batches_are_found_and_gaps_refused() {
        let mut table = ProducerTable::default();
        for i in 0..7 {
            let h = header(i64::from(i) * 10, 10, (1, 0, i * 10), false);
            assert_eq!(table.check(&h), Ok(Verdict::Append));
            table.note(&h, None);
        }
        assert_eq!(
            table.check(&header(0, 10, (1, 0, 20), false)),
            Ok(Verdict::Duplicate(20))
        );
        assert_eq!(
            table.check(&header(0, 10, (1, 0, 60), false)),
            Ok(Verdict::Duplicate(60))
        );
        let gap = table.check(&header(0, 10, (1, 0, 80), false));
        assert_eq!(gap, Err(ResponseError::OutOfOrderSequenceNumber));
        let too_old = table.check(&header(0, 10, (1, 0, 10), false));
        assert_eq!(too_old, Err(ResponseError::OutOfOrderSequenceNumber));
    }

    #[test]
    fn many_producers_do_not_grow_the_table_indefinitely() {
        let mut table = ProducerTable::default();
        table.note(&header(0, 1, (0, 0, 0), true), None);
        for id in 1..50_000 {
            table.note(&header(id, 1, (id, 0, 0), false), None);
        }
        assert!(table.producers.len() <= REMEMBERED_PRODUCERS);
        assert!(table.has_open(0), "an open transaction was forgotten");
        let repeated = table.check(&header(0, 1, (49_000, 0, 0), false));
        assert_eq!(repeated, Ok(Verdict::Duplicate(49_000)));
    }

    #[test]
    fn an_old_epoch_is_fenced_and_a_new_one_starts_at_zero() {
        let mut table = ProducerTable::default();
        table.note(&header(0, 1, (1, 5, 0), false), None);
        let old = table.check(&header(1, 1, (1, 4, 1), false));
        assert_eq!(old, Err(ResponseError::InvalidProducerEpoch));
        let skipped = table.check(&header(1, 1, (1, 6, 1), false));
        assert_eq!(skipped, Err(ResponseError::OutOfOrderSequenceNumber));
        assert_eq!(
            table.check(&header(1, 1, (1, 6, 0), false)),
            Ok(Verdict::Append)
        );
    }

    #[test]
    fn the_stable_end_follows_open_transactions_and_aborts_are_listed() {
        let mut table = ProducerTable::default();
        table.note(&header(0, 5, (1, 0, 0), true), None);
        table.note(&header(5, 5, (2, 0, 0), true), None);
        assert_eq!(table.first_open(), Some(0));
        let mut abort = BatchHeader::parse(&marker(1, 0, Decision::Abort, 0)).unwrap();
        abort.base_offset = 10;
        table.note(&abort, Some(Decision::Abort));
        assert_eq!(table.first_open(), Some(5));
        let aborted = |from, to| table.aborted_between(from, to).count();
        assert_eq!((aborted(0, 1), aborted(10, 11), aborted(11, 20)), (1, 1, 0));
        assert!(!table.has_open(1) && table.has_open(2));
    }
}
