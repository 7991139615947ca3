//! The end of a drain: whether a group has put everything into the lake that the topic had when
//! draining began, records behind an open transaction included.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ftap_supervision::{Failure, Progress};

use crate::consumer::GroupConsumer;
use crate::partition_progress::Progress as PartitionProgress;
use crate::tail::{LookFor, high_watermarks, read_tails};
use crate::{KafkaFailure, KafkaSettings, Reader};

/// Markers of transactions that were just committed take less than that.
const MARKER_PATIENCE: Duration = Duration::from_secs(10);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// How often an open transaction and other members' offsets are asked for.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// What draining waits for.
pub struct Drain {
    settings: Arc<KafkaSettings>,
    partition_count: i32,
    /// When draining began, and where each partition's log ended then.
    began: Option<(Instant, Vec<i64>)>,
    /// Where each partition's visible records ended when no transaction hid any of that.
    targets: Option<BTreeMap<i32, i64>>,
    /// When the other members' offsets were last asked for.
    last_look: Option<Instant>,
}

impl Drain {
    /// Asks nothing yet.
    pub fn new(settings: Arc<KafkaSettings>, partition_count: i32) -> Self {
        Self {
            settings,
            partition_count,
            began: None,
            targets: None,
            last_look: None,
        }
    }

    /// Whether every record that the topic had when draining began has been read by this member,
    /// as far as it has the partition. Fails if an open transaction hides some for too long.
    pub fn is_read(
        &mut self,
        bounds: &Reader,
        assigned: &BTreeMap<i32, PartitionProgress>,
        progress: &Arc<Progress>,
    ) -> Result<bool, Failure> {
        let targets = match &self.targets {
            Some(targets) => targets,
            None => {
                if self.records_are_hidden(bounds, progress)? {
                    return Ok(false);
                }
                let ends = self.visible_ends(progress)?;
                self.targets.insert(ends)
            }
        };
        Ok(assigned.iter().all(|(partition, progress)| {
            progress.position() >= targets.get(partition).copied().unwrap_or(0)
        }))
    }

    /// Whether records that were there when draining began are still hidden because their
    /// transaction is open, or because its markers, which follow the answer to a commit, have not
    /// arrived.
    fn records_are_hidden(
        &mut self,
        bounds: &Reader,
        progress: &Arc<Progress>,
    ) -> Result<bool, Failure> {
        let _waiting = progress.waiting();
        let topic = &self.settings.topic;
        let (since, ends) = match &self.began {
            Some(began) => began,
            None => {
                let ends = high_watermarks(&self.settings, topic, self.partition_count)?;
                self.began.insert((Instant::now(), ends))
            }
        };
        let waited = since.elapsed();
        if waited > MARKER_PATIENCE
            && self
                .last_look
                .is_some_and(|last| last.elapsed() < LOOK_INTERVAL)
        {
            return Ok(true);
        }
        self.last_look = Some(Instant::now());
        for (partition, end) in (0..).zip(ends) {
            let (_, visible) = bounds.watermarks(topic, partition)?;
            if visible >= *end {
                continue;
            }
            if waited < self.settings.open_transaction_timeout {
                return Ok(true);
            }
            let (last, seconds) = (end - 1, waited.as_secs());
            return Err(Failure::new(
                KafkaFailure::OpenTransaction,
                format!(
                    "topic {topic}, partition {partition}: the transaction that is open since offset {visible} \
                     hides records up to offset {last}, and did not end within {seconds} s"
                ),
            ));
        }
        Ok(false)
    }

    /// The offset after the last visible record of each partition.
    fn visible_ends(&self, progress: &Arc<Progress>) -> Result<BTreeMap<i32, i64>, Failure> {
        let _waiting = progress.waiting();
        let tails = read_tails(
            &self.settings,
            &self.settings.topic,
            self.partition_count,
            LookFor::AnyRecord,
            progress,
        )?;
        let ends = tails
            .iter()
            .map(|tail| tail.last_offset.map_or(0, |last| last + 1));
        Ok((0..).zip(ends).collect())
    }

    /// Whether the other members have committed the offsets of theirs, asked once a second.
    pub fn others_are_done(
        &mut self,
        consumer: &GroupConsumer,
        assigned: &BTreeMap<i32, PartitionProgress>,
    ) -> Result<bool, Failure> {
        let targets = self.targets.iter().flatten();
        let others: Vec<(i32, i64)> = targets
            .filter(|(partition, _)| !assigned.contains_key(partition))
            .map(|(partition, target)| (*partition, *target))
            .collect();
        if others.is_empty() {
            return Ok(true);
        }
        if self
            .last_look
            .is_some_and(|last| last.elapsed() < LOOK_INTERVAL)
        {
            return Ok(false);
        }
        self.last_look = Some(Instant::now());
        let partitions: Vec<i32> = others.iter().map(|(partition, _)| *partition).collect();
        let committed: BTreeMap<i32, Option<i64>> = consumer
            .committed(&partitions, REQUEST_TIMEOUT)?
            .into_iter()
            .collect();
        Ok(others.iter().all(|(partition, target)| {
            committed.get(partition).copied().flatten().unwrap_or(0) >= *target
        }))
    }
}
