//! The transaction coordinator. Promises: once a commit or an abort was acknowledged, every partition
//! of the transaction gets its marker, whatever is killed in between; a producer whose epoch is old
//! can neither write nor decide. It relies on the ledger for what is durable, and holds an id's own
//! lock while a batch is checked and appended, so that no batch slips in behind a marker.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::path::Path;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use kafka_protocol::ResponseError;
use parking_lot::Mutex;

use crate::batch::{BatchHeader, Decision};
use crate::ledger::{Entry, Ledger, Positions, Txn, TxnState};
use crate::log::storage_error;
use crate::topics::{Partition, Topics};

/// A producer as a request names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ProducerKey {
    pub id: i64,
    pub epoch: i16,
}

pub(crate) struct Coordinator {
    topics: Arc<Topics>,
    ledger: Mutex<Ledger>,
    turns: Mutex<HashMap<String, Arc<Mutex<()>>>>,
    max_timeout: Duration,
}

pub(crate) fn now_ms() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// The wall clock as it was at the start, and what has passed since: a transaction's age must
/// not change when the machine's clock is set.
fn steady_ms() -> i64 {
    static START: LazyLock<(i64, Instant)> = LazyLock::new(|| (now_ms(), Instant::now()));
    let (wall_ms, start) = *START;
    let passed = i64::try_from(start.elapsed().as_millis()).unwrap_or(i64::MAX);
    wall_ms.saturating_add(passed)
}

impl Coordinator {
    /// Opens the ledger at `path` and finishes what a kill interrupted.
    pub(crate) fn open(
        path: &Path,
        fsync: bool,
        topics: Arc<Topics>,
        max_timeout: Duration,
    ) -> io::Result<Self> {
        let coordinator = Self {
            topics,
            ledger: Mutex::new(Ledger::open(path, fsync)?),
            turns: Mutex::default(),
            max_timeout,
        };
        coordinator.skip_ids_in_use()?;
        coordinator.forget_missing_topics()?;
        coordinator.finish_decided();
        coordinator.abort_orphans();
        Ok(coordinator)
    }

    pub(crate) fn ledger(&self) -> &Mutex<Ledger> {
        &self.ledger
    }

    /// Makes an entry durable and true, or answers with the error clients get.
    pub(crate) fn record(&self, entry: Entry) -> Result<(), ResponseError> {
        let recorded = self.ledger.lock().record(entry);
        recorded.map_err(|error| storage_error(Path::new("coordinator journal"), &error))
    }

    /// The lock of a transactional id. Only ids in the ledger, or about to be, get one.
    fn turn(&self, id: &str) -> Arc<Mutex<()>> {
        Arc::clone(self.turns.lock().entry(id.to_string()).or_default())
    }

    fn txn(&self, id: &str) -> Option<Txn> {
        self.ledger.lock().facts().txns.get(id).cloned()
    }

    fn new_producer_id(&self) -> Result<i64, ResponseError> {
        let id = self.ledger.lock().new_producer_id();
        id.map_err(|error| storage_error(Path::new("coordinator journal"), &error))
    }

    /// A producer id of its own for an idempotent producer.
    pub(crate) fn init_idempotent(&self) -> Result<ProducerKey, ResponseError> {
        Ok(ProducerKey {
            id: self.new_producer_id()?,
            epoch: 0,
        })
    }

    /// The next epoch for a transactional id: ends what was open and fences who used it before.
    pub(crate) fn init_transactional(
        &self,
        id: &str,
        timeout_ms: i32,
        current: Option<ProducerKey>,
    ) -> Result<ProducerKey, ResponseError> {
        if id.is_empty() {
            return Err(ResponseError::InvalidRequest);
        }
        let allowed = u64::try_from(timeout_ms)
            .is_ok_and(|ms| ms > 0 && Duration::from_millis(ms) <= self.max_timeout);
        if !allowed {
            return Err(ResponseError::InvalidTransactionTimeout);
        }
        let turn = self.turn(id);
        let _turn = turn.lock();
        let Some(txn) = self.txn(id) else {
            let key = self.init_idempotent()?;
            return self.assign(id, key, timeout_ms);
        };
        if let Some(current) = current {
            // Its own last epoch may come back if the answer to this request was lost.
            let own = current.id == txn.producer_id
                && (current.epoch == txn.epoch || current.epoch == txn.epoch.saturating_sub(1));
            if !own {
                return Err(ResponseError::ProducerFenced);
            }
        }
        let mut epoch = txn.epoch;
        match txn.state {
            TxnState::Open { .. } => {
                epoch = next_epoch(epoch);
                self.decide(id, epoch, Decision::Abort)?;
                tracing::info!(
                    event = "transaction_aborted",
                    transactional_id = id,
                    reason = "its producer restarted"
                );
            }
            TxnState::Ending { commit } => self.write_markers(id, decision(commit))?,
            TxnState::Idle | TxnState::Ended { .. } => {}
        }
        // Epochs are i16; a new producer id starts over when they are used up.
        let key = if epoch >= i16::MAX - 1 {
            self.init_idempotent()?
        } else {
            ProducerKey {
                id: txn.producer_id,
                epoch: epoch + 1,
            }
        };
        self.assign(id, key, timeout_ms)
    }

    fn assign(
        &self,
        id: &str,
        key: ProducerKey,
        timeout_ms: i32,
    ) -> Result<ProducerKey, ResponseError> {
        self.record(Entry::Producer {
            transactional_id: id.to_string(),
            producer_id: key.id,
            epoch: key.epoch,
            timeout_ms,
        })?;
        Ok(key)
    }

    fn check(&self, id: &str, key: ProducerKey) -> Result<Txn, ResponseError> {
        let txn = self
            .txn(id)
            .ok_or(ResponseError::InvalidProducerIdMapping)?;
        if txn.producer_id != key.id {
            return Err(ResponseError::InvalidProducerIdMapping);
        }
        if txn.epoch != key.epoch {
            return Err(ResponseError::ProducerFenced);
        }
        Ok(txn)
    }

    /// A transaction that may take part in more: open, or about to be.
    fn check_addable(&self, id: &str, key: ProducerKey) -> Result<Txn, ResponseError> {
        let txn = self.check(id, key)?;
        match txn.state {
            TxnState::Ending { .. } => Err(ResponseError::ConcurrentTransactions),
            TxnState::Idle | TxnState::Open { .. } | TxnState::Ended { .. } => Ok(txn),
        }
    }

    pub(crate) fn add_partitions(
        &self,
        id: &str,
        key: ProducerKey,
        partitions: Vec<(String, i32)>,
    ) -> Result<(), ResponseError> {
        self.check(id, key)?;
        let turn = self.turn(id);
        let _turn = turn.lock();
        let txn = self.check_addable(id, key)?;
        let open = matches!(txn.state, TxnState::Open { .. });
        if open && partitions.iter().all(|p| txn.partitions.contains(p)) {
            return Ok(());
        }
        self.record(Entry::TxnPartitions {
            transactional_id: id.to_string(),
            at_ms: steady_ms(),
            partitions,
        })
    }

    /// Adds positions of a group to the transaction; none at first, when the group is announced.
    pub(crate) fn add_positions(
        &self,
        id: &str,
        key: ProducerKey,
        group: &str,
        positions: Positions,
    ) -> Result<(), ResponseError> {
        self.check(id, key)?;
        let turn = self.turn(id);
        let _turn = turn.lock();
        let txn = self.check_addable(id, key)?;
        if !positions.is_empty() && !matches!(txn.state, TxnState::Open { .. }) {
            return Err(ResponseError::InvalidTxnState);
        }
        self.record(Entry::TxnPositions {
            transactional_id: id.to_string(),
            at_ms: steady_ms(),
            group: group.to_string(),
            positions,
        })
    }

    /// Commits or aborts. Repeating the same decision is answered alike.
    pub(crate) fn end(
        &self,
        id: &str,
        key: ProducerKey,
        wanted: Decision,
    ) -> Result<(), ResponseError> {
        self.check(id, key)?;
        let turn = self.turn(id);
        let _turn = turn.lock();
        let txn = self.check(id, key)?;
        match txn.state {
            TxnState::Open { .. } => self.decide(id, key.epoch, wanted),
            TxnState::Ending { commit } if decision(commit) == wanted => {
                self.write_markers(id, wanted)
            }
            TxnState::Ended { commit } if decision(commit) == wanted => Ok(()),
            TxnState::Idle | TxnState::Ending { .. } | TxnState::Ended { .. } => {
                Err(ResponseError::InvalidTxnState)
            }
        }
    }

    /// Records the decision, which is final from then on, and carries it out.
    fn decide(&self, id: &str, epoch: i16, decision: Decision) -> Result<(), ResponseError> {
        self.record(Entry::Decided {
            transactional_id: id.to_string(),
            epoch,
            commit: decision == Decision::Commit,
        })?;
        self.write_markers(id, decision)
    }

    fn write_markers(&self, id: &str, decision: Decision) -> Result<(), ResponseError> {
        let Some(txn) = self.txn(id) else {
            return Ok(());
        };
        for (topic, index) in &txn.partitions {
            let Some(partition) = self.topics.partition(topic, *index) else {
                continue;
            };
            let written =
                partition
                    .log()
                    .append_marker(txn.producer_id, txn.epoch, decision, now_ms());
            // The decision stands: the client asks again, and the clock's tick continues with it.
            written.map_err(|_logged| ResponseError::ConcurrentTransactions)?;
            partition.wake();
        }
        self.record(Entry::Finished {
            transactional_id: id.to_string(),
        })
        .map_err(|_logged| ResponseError::ConcurrentTransactions)
    }

    /// Appends a transactional batch if its producer and its partition belong to an open transaction.
    pub(crate) fn append(
        &self,
        partition: &Partition,
        place: (&str, i32),
        batch: &[u8],
        header: &BatchHeader,
    ) -> Result<i64, ResponseError> {
        let key = ProducerKey {
            id: header.producer_id,
            epoch: header.producer_epoch,
        };
        let id = self
            .ledger
            .lock()
            .facts()
            .id_of_producer
            .get(&key.id)
            .cloned();
        let id = id.ok_or(ResponseError::InvalidProducerEpoch)?;
        let turn = self.turn(&id);
        let _turn = turn.lock();
        let taking_part = {
            let ledger = self.ledger.lock();
            let txn = ledger.facts().txns.get(&id);
            let txn = txn.filter(|t| t.producer_id == key.id && t.epoch == key.epoch);
            let txn = txn.ok_or(ResponseError::InvalidProducerEpoch)?;
            matches!(txn.state, TxnState::Open { .. })
                && txn
                    .partitions
                    .iter()
                    .any(|(topic, index)| (topic.as_str(), *index) == place)
        };
        if !taking_part {
            return Err(ResponseError::InvalidTxnState);
        }
        partition.log().append(batch, header)
    }

    /// Whether a transaction is open or ending.
    pub(crate) fn has_unfinished(&self) -> bool {
        let ledger = self.ledger.lock();
        let mut txns = ledger.facts().txns.values();
        txns.any(|txn| matches!(txn.state, TxnState::Open { .. } | TxnState::Ending { .. }))
    }

    /// Aborts transactions that are open for longer than allowed, and continues with markers that
    /// could not be written before.
    pub(crate) fn tick(&self) {
        let now = steady_ms();
        let overdue: Vec<String> = {
            let ledger = self.ledger.lock();
            let late = |txn: &Txn| matches!(txn.state, TxnState::Open { since_ms } if now > since_ms.saturating_add(i64::from(txn.timeout_ms)));
            let txns = ledger.facts().txns.iter();
            txns.filter(|(_, txn)| late(txn))
                .map(|(id, _)| id.clone())
                .collect()
        };
        for id in overdue {
            let turn = self.turn(&id);
            let _turn = turn.lock();
            let Some(txn) = self.txn(&id) else { continue };
            if !matches!(txn.state, TxnState::Open { since_ms } if now > since_ms.saturating_add(i64::from(txn.timeout_ms)))
            {
                continue;
            }
            // The new epoch fences the producer that took too long.
            if self
                .decide(&id, next_epoch(txn.epoch), Decision::Abort)
                .is_ok()
            {
                tracing::warn!(
                    event = "transaction_aborted",
                    transactional_id = %id,
                    reason = "its timeout passed",
                    timeout_ms = txn.timeout_ms,
                );
            }
        }
        self.finish_decided();
    }

    fn finish_decided(&self) {
        let ending: Vec<(String, bool)> = {
            let ledger = self.ledger.lock();
            let txns = ledger.facts().txns.iter();
            txns.filter_map(|(id, txn)| match txn.state {
                TxnState::Ending { commit } => Some((id.clone(), commit)),
                _ => None,
            })
            .collect()
        };
        for (id, commit) in ending {
            let turn = self.turn(&id);
            let _turn = turn.lock();
            let still = self.txn(&id).map(|txn| txn.state);
            if still == Some(TxnState::Ending { commit })
                && self.write_markers(&id, decision(commit)).is_err()
            {
                tracing::warn!(event = "transaction_unfinished", transactional_id = %id, commit);
            }
        }
    }

    /// Without its journal, the coordinator must not give out ids that the logs know.
    fn skip_ids_in_use(&self) -> io::Result<()> {
        let topics = self.topics.all();
        let partitions = topics.iter().flat_map(|(_, partitions)| partitions.iter());
        let largest = partitions
            .filter_map(|p| p.log().largest_producer_id())
            .max();
        match largest {
            Some(id) => self.ledger.lock().skip_producer_ids(id),
            None => Ok(()),
        }
    }

    /// A kill between the deletion of a topic and its entry leaves positions behind.
    fn forget_missing_topics(&self) -> io::Result<()> {
        let mut ledger = self.ledger.lock();
        let groups = ledger.facts().positions.values();
        let named: BTreeSet<String> = groups
            .flat_map(|p| p.keys().map(|(t, _)| t.clone()))
            .collect();
        for topic in named {
            if self.topics.get(&topic).is_none() {
                ledger.record(Entry::TopicDeleted { topic })?;
            }
        }
        Ok(())
    }

    /// Ends transactions that a log has and the ledger does not know, which would hold back the
    /// readers of committed data indefinitely. Only a lost journal leaves such.
    fn abort_orphans(&self) {
        for (topic, partitions) in self.topics.all() {
            for (index, partition) in (0..).zip(partitions.iter()) {
                let open = partition.log().open_producers();
                for (producer_id, epoch) in open {
                    let known = {
                        let ledger = self.ledger.lock();
                        let facts = ledger.facts();
                        let txn = facts
                            .id_of_producer
                            .get(&producer_id)
                            .and_then(|id| facts.txns.get(id));
                        txn.is_some_and(|t| t.partitions.contains(&(topic.clone(), index)))
                    };
                    if known {
                        continue;
                    }
                    tracing::warn!(event = "transaction_aborted", topic = %topic, partition = index, producer_id, reason = "the journal does not know it");
                    // A failure was logged; the next start tries again.
                    let _ = partition.log().append_marker(
                        producer_id,
                        epoch,
                        Decision::Abort,
                        now_ms(),
                    );
                }
            }
        }
    }
}

fn decision(commit: bool) -> Decision {
    if commit {
        Decision::Commit
    } else {
        Decision::Abort
    }
}

fn next_epoch(epoch: i16) -> i16 {
    epoch.saturating_add(1)
}
