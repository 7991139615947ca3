//! Ends of reading: a stop, and the drain to the topic's end.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use ftap_kafka::tail::{LookFor, high_watermarks, read_tails};
use ftap_lake::CloseReason;
use ftap_supervision::Failure;

use super::{REQUEST_TIMEOUT, Subscriber};
use crate::messages::ToBuffer;
use ftap_kafka::partition_progress::Progress;

/// How long a transaction that is open when draining begins is waited for. After that it is
/// another producer's, whose records are not waited for.
const MARKER_PATIENCE: Duration = Duration::from_secs(10);
const MARKER_PAUSE: Duration = Duration::from_millis(50);
const FLUSH_REPEAT: Duration = Duration::from_millis(200);
/// How often other members' offsets are asked for.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

impl Subscriber {
    pub(super) fn flush(&self, reason: CloseReason) {
        for buffer in &self.parts.buffers {
            buffer.hand(ToBuffer::Flush(reason));
        }
    }

    fn flush_repeatedly(&mut self, reason: CloseReason) {
        if self
            .last_flush
            .is_none_or(|last| last.elapsed() >= FLUSH_REPEAT)
        {
            self.last_flush = Some(Instant::now());
            self.flush(reason);
        }
    }

    /// A stop was asked for: true when everything handed on is in the lake.
    pub(super) fn stop_reading(&mut self) -> Result<bool, Failure> {
        if !self.paused {
            self.paused = true;
            let partitions: Vec<i32> = self.assigned.keys().copied().collect();
            self.consumer.pause(&partitions)?;
        }
        if self.assigned.values().all(Progress::is_flushed) {
            return Ok(true);
        }
        self.flush_repeatedly(CloseReason::Shutdown);
        Ok(false)
    }

    /// Whether everything that was visible in the topic when draining began is in the lake.
    pub(super) fn is_drained(&mut self) -> Result<bool, Failure> {
        if self.assigned.is_empty() || !self.awaiting.is_empty() {
            return Ok(false);
        }
        let targets = match &self.drain_targets {
            Some(targets) => targets,
            None => {
                if self.commits_are_pending()? {
                    return Ok(false);
                }
                let ends = self.visible_ends()?;
                self.drain_targets.insert(ends)
            }
        };
        let is_behind = |(partition, progress): (&i32, &Progress)| {
            progress.position() < targets.get(partition).copied().unwrap_or(0)
        };
        if self.assigned.iter().any(is_behind) {
            return Ok(false);
        }
        if !self.assigned.values().all(Progress::is_flushed) {
            self.flush_repeatedly(CloseReason::Drain);
            return Ok(false);
        }
        self.others_are_drained()
    }

    /// Whether records are still hidden because their transaction is open. A commit is answered
    /// before its markers are in the partitions, so rows that were just published may not be
    /// visible yet.
    fn commits_are_pending(&mut self) -> Result<bool, Failure> {
        let since = *self.drain_asked_at.get_or_insert_with(Instant::now);
        if since.elapsed() >= MARKER_PATIENCE {
            return Ok(false);
        }
        let _waiting = self.stage.progress().waiting();
        let (kafka, partitions) = (&self.parts.kafka, self.partition_count);
        let ends = high_watermarks(kafka, &kafka.topic, partitions)?;
        for (partition, end) in (0..).zip(ends) {
            let (_, visible) = self.consumer.watermarks(partition, REQUEST_TIMEOUT)?;
            if visible < end {
                // Each question is a connection of its own.
                std::thread::sleep(MARKER_PAUSE);
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The offset after the last visible record of each partition.
    fn visible_ends(&self) -> Result<BTreeMap<i32, i64>, Failure> {
        let _waiting = self.stage.progress().waiting();
        let tails = read_tails(
            &self.parts.kafka,
            &self.parts.kafka.topic,
            self.partition_count,
            LookFor::AnyRecord,
            self.stage.progress(),
        )?;
        let ends = tails
            .iter()
            .map(|tail| tail.last_offset.map_or(0, |last| last + 1));
        Ok((0..).zip(ends).collect())
    }

    /// Partitions of other members: the offset they committed tells.
    fn others_are_drained(&mut self) -> Result<bool, Failure> {
        let targets = self.drain_targets.iter().flatten();
        let others: Vec<(i32, i64)> = targets
            .filter(|(partition, _)| !self.assigned.contains_key(partition))
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
        let committed: BTreeMap<i32, Option<i64>> = self
            .consumer
            .committed(&partitions, REQUEST_TIMEOUT)?
            .into_iter()
            .collect();
        Ok(others.iter().all(|(partition, target)| {
            committed.get(partition).copied().flatten().unwrap_or(0) >= *target
        }))
    }
}
