//! The end of a drain: whether a group has put everything into the lake that was visible in the
//! topic when draining began.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ftap_supervision::{Failure, Progress};

use crate::KafkaSettings;
use crate::consumer::GroupConsumer;
use crate::partition_progress::Progress as PartitionProgress;
use crate::tail::{LookFor, high_watermarks, read_tails};

/// How long a transaction that is open when draining begins is waited for. After that it is
/// another producer's, whose records are not waited for.
const MARKER_PATIENCE: Duration = Duration::from_secs(10);
const MARKER_PAUSE: Duration = Duration::from_millis(50);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// How often other members' offsets are asked for.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// What draining waits for.
pub struct Drain {
    settings: Arc<KafkaSettings>,
    partition_count: i32,
    /// Where each partition's visible records ended when draining began.
    targets: Option<BTreeMap<i32, i64>>,
    /// When the visible ends were first asked for.
    asked_at: Option<Instant>,
    /// When the other members' offsets were last asked for.
    last_look: Option<Instant>,
}

impl Drain {
    /// Asks nothing yet.
    pub fn new(settings: Arc<KafkaSettings>, partition_count: i32) -> Self {
        Self {
            settings,
            partition_count,
            targets: None,
            asked_at: None,
            last_look: None,
        }
    }

    /// Whether every record that was visible when draining began has been read by this member,
    /// as far as it has the partition.
    pub fn is_read(
        &mut self,
        consumer: &GroupConsumer,
        assigned: &BTreeMap<i32, PartitionProgress>,
        progress: &Arc<Progress>,
    ) -> Result<bool, Failure> {
        let targets = match &self.targets {
            Some(targets) => targets,
            None => {
                if self.commits_are_pending(consumer, progress)? {
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

    /// Whether records are still hidden because their transaction is open. A commit is answered
    /// before its markers are in the partitions, so rows that were just published may not be
    /// visible yet.
    fn commits_are_pending(
        &mut self,
        consumer: &GroupConsumer,
        progress: &Arc<Progress>,
    ) -> Result<bool, Failure> {
        let since = *self.asked_at.get_or_insert_with(Instant::now);
        if since.elapsed() >= MARKER_PATIENCE {
            return Ok(false);
        }
        let _waiting = progress.waiting();
        let topic = &self.settings.topic;
        let ends = high_watermarks(&self.settings, topic, self.partition_count)?;
        for (partition, end) in (0..).zip(ends) {
            let (_, visible) = consumer.watermarks(partition, REQUEST_TIMEOUT)?;
            if visible < end {
                // Each question is a connection of its own.
                std::thread::sleep(MARKER_PAUSE);
                return Ok(true);
            }
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
