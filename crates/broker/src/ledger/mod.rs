//! What the coordinator must not forget: committed positions, producer ids, transactions. Every
//! change is an [`Entry`] that is in the journal before it takes effect in memory, so a kill at any
//! moment loses nothing that was acknowledged. The journal is rewritten when most of it is history.

mod entry;
mod journal;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::path::Path;

pub(crate) use entry::{Entry, Position, Positions};
use journal::Journal;

const PRODUCER_IDS_PER_ENTRY: i64 = 1_000;
const COMPACT_ABOVE_BYTES: u64 = 1 << 20;
const COMPACT_AT_TIMES_LIVE: u64 = 4;

/// Where a transactional id stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TxnState {
    /// No transaction since the id's last `InitProducerId`.
    Idle,
    Open {
        since_ms: i64,
    },
    /// Decided, markers not all written.
    Ending {
        commit: bool,
    },
    Ended {
        commit: bool,
    },
}

#[derive(Debug, Clone)]
pub(crate) struct Txn {
    pub producer_id: i64,
    pub epoch: i16,
    pub timeout_ms: i32,
    pub state: TxnState,
    pub partitions: BTreeSet<(String, i32)>,
    pending: BTreeMap<String, BTreeMap<(String, i32), Position>>,
}

impl Txn {
    fn open(&mut self, at_ms: i64) {
        if !matches!(self.state, TxnState::Open { .. }) {
            self.state = TxnState::Open { since_ms: at_ms };
            self.partitions.clear();
            self.pending.clear();
        }
    }
}

/// The facts in memory.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    next_producer_id: i64,
    pub txns: BTreeMap<String, Txn>,
    pub id_of_producer: HashMap<i64, String>,
    pub positions: BTreeMap<String, BTreeMap<(String, i32), Position>>,
}

impl Facts {
    /// Applies an entry. Entries about unknown ids change nothing.
    fn apply(&mut self, entry: Entry) {
        match entry {
            Entry::ProducerIds { below } => {
                self.next_producer_id = self.next_producer_id.max(below)
            }
            Entry::Producer {
                transactional_id,
                producer_id,
                epoch,
                timeout_ms,
            } => {
                let txn = Txn {
                    producer_id,
                    epoch,
                    timeout_ms,
                    state: TxnState::Idle,
                    partitions: BTreeSet::new(),
                    pending: BTreeMap::new(),
                };
                if let Some(old) = self.txns.insert(transactional_id.clone(), txn) {
                    self.id_of_producer.remove(&old.producer_id);
                }
                self.id_of_producer.insert(producer_id, transactional_id);
            }
            Entry::TxnPartitions {
                transactional_id,
                at_ms,
                partitions,
            } => {
                if let Some(txn) = self.txns.get_mut(&transactional_id) {
                    txn.open(at_ms);
                    txn.partitions.extend(partitions);
                }
            }
            Entry::TxnPositions {
                transactional_id,
                at_ms,
                group,
                positions,
            } => {
                if let Some(txn) = self.txns.get_mut(&transactional_id) {
                    txn.open(at_ms);
                    txn.pending.entry(group).or_default().extend(positions);
                }
            }
            Entry::Decided {
                transactional_id,
                epoch,
                commit,
            } => {
                if let Some(txn) = self.txns.get_mut(&transactional_id) {
                    txn.state = TxnState::Ending { commit };
                    txn.epoch = epoch;
                    let pending = std::mem::take(&mut txn.pending);
                    if commit {
                        for (group, positions) in pending {
                            self.positions.entry(group).or_default().extend(positions);
                        }
                    }
                }
            }
            Entry::Finished { transactional_id } => {
                if let Some(txn) = self.txns.get_mut(&transactional_id) {
                    if let TxnState::Ending { commit } = txn.state {
                        txn.state = TxnState::Ended { commit };
                    }
                    txn.partitions.clear();
                }
            }
            Entry::Positions { group, positions } => {
                self.positions.entry(group).or_default().extend(positions);
            }
            Entry::GroupDeleted { group } => {
                self.positions.remove(&group);
            }
            Entry::TopicDeleted { topic } => {
                for positions in self.positions.values_mut() {
                    positions.retain(|(name, _), _| *name != topic);
                }
                self.positions.retain(|_, positions| !positions.is_empty());
                for txn in self.txns.values_mut() {
                    txn.partitions.retain(|(name, _)| *name != topic);
                    for positions in txn.pending.values_mut() {
                        positions.retain(|(name, _), _| *name != topic);
                    }
                }
            }
        }
    }

    /// The entries that lead to these facts.
    fn as_entries(&self) -> Vec<Entry> {
        let mut entries = vec![Entry::ProducerIds {
            below: self.next_producer_id,
        }];
        for (group, positions) in &self.positions {
            entries.push(Entry::Positions {
                group: group.clone(),
                positions: positions
                    .iter()
                    .map(|(k, v)| (k.clone(), v.clone()))
                    .collect(),
            });
        }
        for (id, txn) in &self.txns {
            let transactional_id = || id.clone();
            entries.push(Entry::Producer {
                transactional_id: transactional_id(),
                producer_id: txn.producer_id,
                epoch: txn.epoch,
                timeout_ms: txn.timeout_ms,
            });
            let at_ms = match txn.state {
                TxnState::Open { since_ms } => since_ms,
                _ => 0,
            };
            if txn.state != TxnState::Idle {
                entries.push(Entry::TxnPartitions {
                    transactional_id: transactional_id(),
                    at_ms,
                    partitions: txn.partitions.iter().cloned().collect(),
                });
            }
            for (group, positions) in &txn.pending {
                entries.push(Entry::TxnPositions {
                    transactional_id: transactional_id(),
                    at_ms,
                    group: group.clone(),
                    positions: positions
                        .iter()
                        .map(|(k, v)| (k.clone(), v.clone()))
                        .collect(),
                });
            }
            if let TxnState::Ending { commit } | TxnState::Ended { commit } = txn.state {
                entries.push(Entry::Decided {
                    transactional_id: transactional_id(),
                    epoch: txn.epoch,
                    commit,
                });
            }
            if let TxnState::Ended { .. } = txn.state {
                entries.push(Entry::Finished {
                    transactional_id: transactional_id(),
                });
            }
        }
        entries
    }

    /// Whether an undecided transaction would move the group's position in this partition.
    pub(crate) fn is_unstable(&self, group: &str, partition: &(String, i32)) -> bool {
        self.txns.values().any(|txn| {
            txn.pending
                .get(group)
                .is_some_and(|positions| positions.contains_key(partition))
        })
    }
}

/// The facts and their journal.
#[derive(Debug)]
pub(crate) struct Ledger {
    journal: Journal,
    facts: Facts,
    producer_ids: std::ops::Range<i64>,
    live_bytes: u64,
}

impl Ledger {
    pub(crate) fn open(path: &Path, fsync: bool) -> io::Result<Self> {
        let mut facts = Facts::default();
        let journal = Journal::open(path, fsync, |record| {
            let entry = Entry::decode(record).ok_or("it is of an unknown kind")?;
            facts.apply(entry);
            Ok(())
        })?;
        let mut ledger = Self {
            producer_ids: facts.next_producer_id..facts.next_producer_id,
            live_bytes: 0,
            journal,
            facts,
        };
        ledger.compact()?;
        Ok(ledger)
    }

    pub(crate) fn facts(&self) -> &Facts {
        &self.facts
    }

    /// Makes an entry durable, then true.
    pub(crate) fn record(&mut self, entry: Entry) -> io::Result<()> {
        self.journal.append(&entry.encode())?;
        self.facts.apply(entry);
        let most = (self.live_bytes * COMPACT_AT_TIMES_LIVE).max(COMPACT_ABOVE_BYTES);
        if self.journal.bytes() > most {
            // The entry is safe already; a failed rewrite is tried again with the next one.
            if let Err(error) = self.compact() {
                tracing::warn!(event = "storage_error", during = "journal compaction", %error);
            }
        }
        Ok(())
    }

    fn compact(&mut self) -> io::Result<()> {
        let entries = self.facts.as_entries();
        self.journal.rewrite(entries.iter().map(Entry::encode))?;
        self.live_bytes = self.journal.bytes();
        Ok(())
    }

    /// A producer id that was never used before.
    pub(crate) fn new_producer_id(&mut self) -> io::Result<i64> {
        if self.producer_ids.is_empty() {
            let first = self.facts.next_producer_id;
            let below = first + PRODUCER_IDS_PER_ENTRY;
            self.record(Entry::ProducerIds { below })?;
            self.producer_ids = first..below;
        }
        let id = self.producer_ids.start;
        self.producer_ids.start += 1;
        Ok(id)
    }

    /// Gives out only ids above this one from now on.
    pub(crate) fn skip_producer_ids(&mut self, up_to: i64) -> io::Result<()> {
        if up_to < self.facts.next_producer_id {
            return Ok(());
        }
        let below = up_to.saturating_add(1);
        self.record(Entry::ProducerIds { below })?;
        self.producer_ids = below..below;
        Ok(())
    }

    pub(crate) fn flush(&self) -> io::Result<()> {
        self.journal.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn position(offset: i64) -> Position {
        Position {
            offset,
            leader_epoch: -1,
            metadata: String::new(),
        }
    }

    fn partition() -> (String, i32) {
        ("t".into(), 0)
    }

    fn committed(ledger: &Ledger) -> Option<i64> {
        let positions = ledger.facts().positions.get("g")?;
        positions.get(&partition()).map(|p| p.offset)
    }

    #[test]
    fn positions_of_a_transaction_count_once_it_is_decided_and_survive_reopening() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let id = || "x".to_string();
        let mut ledger = Ledger::open(&path, false).unwrap();
        let producer = Entry::Producer {
            transactional_id: id(),
            producer_id: 5,
            epoch: 0,
            timeout_ms: 1,
        };
        ledger.record(producer).unwrap();
        let pending = Entry::TxnPositions {
            transactional_id: id(),
            at_ms: 9,
            group: "g".into(),
            positions: vec![(partition(), position(42))],
        };
        ledger.record(pending).unwrap();
        let ledger_again = Ledger::open(&path, false).unwrap();
        assert_eq!(committed(&ledger_again), None);
        assert!(ledger_again.facts().is_unstable("g", &partition()));
        let mut ledger = Ledger::open(&path, false).unwrap();
        let decided = Entry::Decided {
            transactional_id: id(),
            epoch: 0,
            commit: true,
        };
        ledger.record(decided).unwrap();
        let ledger = Ledger::open(&path, false).unwrap();
        assert_eq!(committed(&ledger), Some(42));
        let state = ledger.facts().txns["x"].state;
        assert_eq!(state, TxnState::Ending { commit: true });
    }

    #[test]
    fn producer_ids_never_repeat_across_reopening() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let mut seen = BTreeSet::new();
        for _ in 0..3 {
            let mut ledger = Ledger::open(&path, false).unwrap();
            for _ in 0..1_500 {
                assert!(seen.insert(ledger.new_producer_id().unwrap()));
            }
        }
    }

    #[test]
    fn the_journal_stays_small_under_many_commits() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let mut ledger = Ledger::open(&path, false).unwrap();
        for offset in 0..60_000 {
            let entry = Entry::Positions {
                group: "g".into(),
                positions: vec![(partition(), position(offset))],
            };
            ledger.record(entry).unwrap();
        }
        assert!(ledger.journal.bytes() < 2 * COMPACT_ABOVE_BYTES);
        assert_eq!(
            committed(&Ledger::open(&path, false).unwrap()),
            Some(59_999)
        );
    }
}
