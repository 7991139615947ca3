//! How long the pipeline takes to recover from a fault. Pure.
//!
//! Measured from the fault until the group's committed offsets have passed, in every partition,
//! the log's end as it was when the fault ended: a kill ends at once, a freeze at its start (the
//! others have to take over), an outage when the broker answers or the store works again. Ends
//! and offsets are asked for ten times a second; the log's end counts as of the first answer to
//! a question put after the fault ended.

use std::time::Instant;

/// An answer of the broker.
#[derive(Clone, Debug)]
pub(crate) struct Snapshot {
    /// When the question was put.
    pub asked: Instant,
    pub answered: Instant,
    /// Offset after the last record of each partition.
    pub ends: Vec<i64>,
    /// The group's committed offset of each partition, 0 without one.
    pub committed: Vec<i64>,
}

/// What was struck.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FaultKind {
    ProducerKill,
    ConsumerKill,
    /// A producer was frozen.
    ProducerFreeze,
    /// A consumer was frozen.
    ConsumerFreeze,
    /// The broker was away.
    Broker,
    /// The store misbehaved.
    Store,
    /// A consumer came or went.
    Rebalance,
}

impl FaultKind {
    /// For people.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::ProducerKill => "producer killed",
            Self::ConsumerKill => "consumer killed",
            Self::ProducerFreeze => "producer frozen",
            Self::ConsumerFreeze => "consumer frozen",
            Self::Broker => "broker away",
            Self::Store => "store fault",
            Self::Rebalance => "consumer added or removed",
        }
    }
}

struct Open {
    id: u64,
    kind: FaultKind,
    started: Instant,
    ended: Option<Instant>,
    targets: Option<Vec<i64>>,
}

/// Faults that are being recovered from, and those that were.
#[derive(Default)]
pub(crate) struct Recoveries {
    open: Vec<Open>,
    next_id: u64,
    done: Vec<(FaultKind, f64)>,
}

impl Recoveries {
    /// A fault that is over at once.
    pub(crate) fn struck(&mut self, kind: FaultKind, at: Instant) {
        let id = self.begin(kind, at);
        self.end(id, at);
    }

    /// A fault that lasts.
    pub(crate) fn begin(&mut self, kind: FaultKind, started: Instant) -> u64 {
        self.next_id += 1;
        self.open.push(Open {
            id: self.next_id,
            kind,
            started,
            ended: None,
            targets: None,
        });
        self.next_id
    }

    /// It is over.
    pub(crate) fn end(&mut self, id: u64, at: Instant) {
        if let Some(open) = self.open.iter_mut().find(|open| open.id == id) {
            open.ended = Some(at);
        }
    }

    /// Takes note of an answer.
    pub(crate) fn note(&mut self, snapshot: &Snapshot) {
        for open in &mut self.open {
            if open.targets.is_none() && open.ended.is_some_and(|ended| snapshot.asked >= ended) {
                open.targets = Some(snapshot.ends.clone());
            }
        }
        let done = &mut self.done;
        self.open.retain(|open| {
            let passed = open.targets.as_ref().is_some_and(|targets| {
                let mut pairs = targets.iter().zip(&snapshot.committed);
                pairs.all(|(target, committed)| committed >= target)
            });
            if passed {
                let took = snapshot.answered.saturating_duration_since(open.started);
                done.push((open.kind, took.as_secs_f64()));
            }
            !passed
        });
    }

    /// No visible record was left to be committed at `at`: whatever is open is recovered from.
    pub(crate) fn drained(&mut self, at: Instant) {
        for open in self.open.drain(..) {
            let took = at.saturating_duration_since(open.started);
            self.done.push((open.kind, took.as_secs_f64()));
        }
    }

    /// Faults that are being recovered from.
    pub(crate) fn open(&self) -> usize {
        self.open.len()
    }

    /// Seconds that each recovery took.
    pub(crate) fn seconds(&self) -> &[(FaultKind, f64)] {
        &self.done
    }
}

/// Number, median and maximum.
pub(crate) fn summary(seconds: impl Iterator<Item = f64>) -> (usize, f64, f64) {
    let mut seconds: Vec<f64> = seconds.collect();
    seconds.sort_by(f64::total_cmp);
    let median = match seconds.len() {
        0 => 0.0,
        odd if odd % 2 == 1 => seconds[odd / 2],
        even => (seconds[even / 2 - 1] + seconds[even / 2]) / 2.0,
    };
    let max = seconds.last().copied().unwrap_or(0.0);
    (seconds.len(), median, max)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn recovered_is_when_every_partition_has_passed_the_end_of_after_the_fault() {
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let snapshot = |seconds: u64, ends: [i64; 2], committed: [i64; 2]| Snapshot {
            asked: at(seconds),
            answered: at(seconds),
            ends: ends.to_vec(),
            committed: committed.to_vec(),
        };
        let mut recoveries = Recoveries::default();
        let outage = recoveries.begin(FaultKind::Broker, at(10));
        recoveries.note(&snapshot(11, [0, 0], [9, 9]));
        recoveries.end(outage, at(12));
        recoveries.note(&snapshot(11, [0, 0], [9, 9]));
        assert!(recoveries.seconds().is_empty(), "asked before it was over");
        recoveries.note(&snapshot(13, [5, 7], [5, 6]));
        recoveries.note(&snapshot(14, [50, 70], [6, 6]));
        assert!(recoveries.seconds().is_empty(), "one partition is behind");
        recoveries.note(&snapshot(15, [50, 70], [6, 7]));
        assert_eq!(recoveries.seconds(), [(FaultKind::Broker, 5.0)]);
    }

    #[test]
    fn the_median_of_an_even_number_is_between_the_two_in_the_middle() {
        assert_eq!(summary([4.0, 1.0, 2.0, 8.0].into_iter()), (4, 3.0, 8.0));
        assert_eq!(summary([].into_iter()), (0, 0.0, 0.0));
    }
}
