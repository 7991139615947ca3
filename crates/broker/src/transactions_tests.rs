//! The transaction coordinator on real files, stopped between any two of its steps.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::ResponseError;

use crate::batch::tests::batch_of;
use crate::batch::{BatchHeader, Decision};
use crate::ledger::{Entry, TxnState};
use crate::log::{Isolation, LogOptions};
use crate::topics::{TopicSettings, Topics};
use crate::transactions::{Coordinator, ProducerKey};

const PARTITIONS: i32 = 3;

/// Topics and coordinator as a process has them; dropped and opened again as after a kill.
struct Opened {
    topics: Arc<Topics>,
    coordinator: Coordinator,
}

fn open(dir: &Path) -> Opened {
    let options = LogOptions {
        segment_bytes: 1 << 20,
        retention_bytes: None,
        retention_age: None,
        fsync: false,
    };
    let topics = Arc::new(Topics::open(&dir.join("topics"), options).unwrap());
    if topics.get("t").is_none() {
        topics
            .create("t", PARTITIONS, TopicSettings::default())
            .unwrap();
    }
    let longest = Duration::from_secs(60);
    let journal = dir.join("journal");
    let coordinator = Coordinator::open(&journal, false, Arc::clone(&topics), longest).unwrap();
    Opened {
        topics,
        coordinator,
    }
}

impl Opened {
    fn init(&self) -> ProducerKey {
        self.coordinator
            .init_transactional("x", 60_000, None)
            .unwrap()
    }

    fn append(
        &self,
        key: ProducerKey,
        partition: i32,
        sequence: i32,
    ) -> Result<i64, ResponseError> {
        let batch = batch_of(2, (key.id, key.epoch, sequence), true, 0);
        let header = BatchHeader::parse(&batch).unwrap();
        let found = self.topics.partition("t", partition).unwrap();
        self.coordinator
            .append(&found, ("t", partition), &batch, &header)
    }

    /// Opens a transaction with two records in each partition.
    fn fill(&self, key: ProducerKey, sequence: i32) {
        let all = (0..PARTITIONS).map(|p| ("t".to_string(), p)).collect();
        self.coordinator.add_partitions("x", key, all).unwrap();
        for partition in 0..PARTITIONS {
            self.append(key, partition, sequence).unwrap();
        }
    }

    fn state(&self) -> TxnState {
        self.coordinator.ledger().lock().facts().txns["x"].state
    }

    /// End of the log, end of what is stable, and number of aborted transactions.
    fn ends(&self, partition: i32) -> (i64, i64, usize) {
        let found = self.topics.partition("t", partition).unwrap();
        let log = found.log();
        let stable = log.readable_end(Isolation::ReadCommitted);
        (log.end(), stable, log.aborted_between(0, i64::MAX).len())
    }
}

#[test]
fn a_decision_is_completed_wherever_a_kill_came_between_its_markers() {
    for decision in [Decision::Commit, Decision::Abort] {
        for markers_before_the_kill in 0..=PARTITIONS {
            let dir = tempfile::tempdir().unwrap();
            let opened = open(dir.path());
            let key = opened.init();
            opened.fill(key, 0);
            let decided = Entry::Decided {
                transactional_id: "x".into(),
                epoch: key.epoch,
                commit: decision == Decision::Commit,
            };
            opened.coordinator.record(decided).unwrap();
            for partition in 0..markers_before_the_kill {
                let found = opened.topics.partition("t", partition).unwrap();
                found
                    .log()
                    .append_marker(key.id, key.epoch, decision, 0)
                    .unwrap();
            }
            drop(opened);
            let opened = open(dir.path());
            let commit = decision == Decision::Commit;
            assert_eq!(opened.state(), TxnState::Ended { commit });
            let aborted = usize::from(!commit);
            for partition in 0..PARTITIONS {
                assert_eq!(
                    opened.ends(partition),
                    (3, 3, aborted),
                    "{markers_before_the_kill} markers"
                );
            }
            // The client did not hear of it and asks again.
            assert_eq!(opened.coordinator.end("x", key, decision), Ok(()));
            assert_eq!(opened.ends(0), (3, 3, aborted));
            opened.fill(key, 2);
        }
    }
}

#[test]
fn an_undecided_transaction_is_open_after_a_kill_until_its_producer_is_back() {
    let dir = tempfile::tempdir().unwrap();
    let opened = open(dir.path());
    let key = opened.init();
    opened.fill(key, 0);
    drop(opened);
    let opened = open(dir.path());
    assert_eq!(opened.ends(1), (2, 0, 0));
    // It may even continue where it was.
    assert_eq!(opened.append(key, 1, 2), Ok(2));
    let next = opened.init();
    assert_eq!((next.id, opened.ends(1)), (key.id, (5, 5, 1)));
    assert!(next.epoch > key.epoch);
    assert_eq!(
        opened.append(key, 1, 4),
        Err(ResponseError::InvalidProducerEpoch)
    );
    let late = opened.coordinator.end("x", key, Decision::Commit);
    assert_eq!(late, Err(ResponseError::ProducerFenced));
}

#[test]
fn a_batch_that_comes_after_the_decision_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let opened = open(dir.path());
    let key = opened.init();
    opened.fill(key, 0);
    opened.coordinator.end("x", key, Decision::Abort).unwrap();
    assert_eq!(
        opened.append(key, 0, 2),
        Err(ResponseError::InvalidTxnState)
    );
    let other = opened.coordinator.end("x", key, Decision::Commit);
    assert_eq!(other, Err(ResponseError::InvalidTxnState));
    assert_eq!(opened.ends(0), (3, 3, 1));
}

#[test]
fn epochs_that_run_out_give_a_new_producer_id() {
    let dir = tempfile::tempdir().unwrap();
    let opened = open(dir.path());
    let first = opened.init();
    let nearly_out = Entry::Producer {
        transactional_id: "x".into(),
        producer_id: first.id,
        epoch: i16::MAX - 2,
        timeout_ms: 60_000,
    };
    opened.coordinator.record(nearly_out).unwrap();
    let last = opened.init();
    assert_eq!((last.id, last.epoch), (first.id, i16::MAX - 1));
    opened.fill(last, 0);
    let next = opened.init();
    assert_ne!(next.id, first.id);
    assert_eq!((next.epoch, opened.ends(0)), (0, (3, 3, 1)));
    opened.fill(next, 0);
}

#[test]
fn a_lost_journal_leaves_no_transaction_open_and_no_id_used_twice() {
    let dir = tempfile::tempdir().unwrap();
    let opened = open(dir.path());
    let key = opened.init();
    opened.fill(key, 0);
    drop(opened);
    std::fs::remove_file(dir.path().join("journal")).unwrap();
    let opened = open(dir.path());
    assert_eq!(opened.ends(2), (3, 3, 1));
    assert!(opened.init().id > key.id);
}

#[test]
fn timeouts_beyond_the_limit_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let opened = open(dir.path());
    for timeout_ms in [-1, 0, 60_001] {
        let refused = opened.coordinator.init_transactional("x", timeout_ms, None);
        assert_eq!(refused, Err(ResponseError::InvalidTransactionTimeout));
    }
}
