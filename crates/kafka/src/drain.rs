//! The end of a drain: whether a group has put everything into the lake that the topic had when
//! draining began, records behind an open transaction included.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::time::{Duration, Instant};

use ftap_supervision::{Failure, Progress};

use crate::consumer::{GroupConsumer, Waker};
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
    waker: Arc<Waker>,
    /// When draining began.
    began: Option<Instant>,
    /// Where each partition's log ended then.
    ends: Lookup<Vec<i64>>,
    /// Where each partition's visible records ended when no transaction hid any of that.
    targets: Lookup<BTreeMap<i32, i64>>,
    /// When the other members' offsets were last asked for.
    last_look: Option<Instant>,
}

impl Drain {
    /// Asks nothing yet. The consumer is woken when an answer is there.
    pub fn new(settings: Arc<KafkaSettings>, partition_count: i32, waker: Waker) -> Self {
        Self {
            settings,
            partition_count,
            waker: Arc::new(waker),
            began: None,
            ends: Lookup::default(),
            targets: Lookup::default(),
            last_look: None,
        }
    }

    /// Where this member must get to, as far as it is known: by partition, the offset after the last record that was
    /// visible when draining began. The first call begins to ask, so it is worth to call early. Fails if an open
    /// transaction hides records for too long.
    pub fn targets(
        &mut self,
        bounds: &Reader,
        progress: &Arc<Progress>,
    ) -> Result<Option<&BTreeMap<i32, i64>>, Failure> {
        if self.targets.is_new() && self.records_are_hidden(bounds, progress)? {
            return Ok(None);
        }
        let (settings, partitions) = (Arc::clone(&self.settings), self.partition_count);
        let progress = Arc::clone(progress);
        let visible_ends = move || {
            let topic = &settings.topic;
            let tails = read_tails(&settings, topic, partitions, LookFor::AnyRecord, &progress)?;
            let ends = tails
                .iter()
                .map(|tail| tail.last_offset.map_or(0, |last| last + 1));
            Ok((0..).zip(ends).collect())
        };
        self.targets.answer(&self.waker, visible_ends)
    }

    /// Whether every record that the topic had when draining began has been read by this member,
    /// as far as it has the partition. Fails as [`Drain::targets`] does.
    pub fn is_read(
        &mut self,
        bounds: &Reader,
        assigned: &BTreeMap<i32, PartitionProgress>,
        progress: &Arc<Progress>,
    ) -> Result<bool, Failure> {
        let Some(targets) = self.targets(bounds, progress)? else {
            return Ok(false);
        };
        Ok(assigned.iter().all(|(partition, progress)| {
            progress.position() >= targets.get(partition).copied().unwrap_or(0)
        }))
    }

    /// Whether records that were there when draining began are still hidden because their
    /// transaction is open, or because its markers, which follow the answer to a commit, have not
    /// arrived; also as long as it is not known what was there.
    fn records_are_hidden(
        &mut self,
        bounds: &Reader,
        progress: &Arc<Progress>,
    ) -> Result<bool, Failure> {
        let waited = self.began.get_or_insert_with(Instant::now).elapsed();
        let (settings, partitions) = (Arc::clone(&self.settings), self.partition_count);
        let log_ends = move || high_watermarks(&settings, &settings.topic, partitions);
        let Some(ends) = self.ends.answer(&self.waker, log_ends)? else {
            return Ok(true);
        };
        if waited > MARKER_PATIENCE
            && self
                .last_look
                .is_some_and(|last| last.elapsed() < LOOK_INTERVAL)
        {
            return Ok(true);
        }
        self.last_look = Some(Instant::now());
        let _waiting = progress.waiting();
        let topic = &self.settings.topic;
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

    /// Whether the other members have committed the offsets of theirs, asked once a second.
    pub fn others_are_done(
        &mut self,
        consumer: &GroupConsumer,
        assigned: &BTreeMap<i32, PartitionProgress>,
    ) -> Result<bool, Failure> {
        let targets = self.targets.known().into_iter().flatten();
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

/// A question that is asked once, on a thread of its own: the consumer polls meanwhile.
#[derive(Default)]
enum Lookup<T> {
    #[default]
    New,
    Asked(Receiver<Result<T, Failure>>),
    Known(T),
}

impl<T: Send + 'static> Lookup<T> {
    fn is_new(&self) -> bool {
        matches!(self, Self::New)
    }

    fn known(&self) -> Option<&T> {
        match self {
            Self::Known(known) => Some(known),
            Self::New | Self::Asked(_) => None,
        }
    }

    /// The answer, once it is there; the first call asks for it.
    fn answer(
        &mut self,
        waker: &Arc<Waker>,
        ask: impl FnOnce() -> Result<T, Failure> + Send + 'static,
    ) -> Result<Option<&T>, Failure> {
        match self {
            Self::New => {
                let (sender, receiver) = channel();
                let waker = Arc::clone(waker);
                let asking = move || {
                    // After the end of the generation no one listens any more.
                    let _ = sender.send(ask());
                    waker.wake();
                };
                std::thread::Builder::new()
                    .name("kafka-lookup".to_owned())
                    .spawn(asking)
                    .map_err(|error| {
                        let text = "starting the thread that asks where the topic ends".to_owned();
                        Failure::new(KafkaFailure::Unavailable, text).caused_by(error)
                    })?;
                *self = Self::Asked(receiver);
            }
            Self::Asked(receiver) => match receiver.try_recv() {
                Ok(answer) => *self = Self::Known(answer?),
                Err(TryRecvError::Empty) => {}
                Err(TryRecvError::Disconnected) => {
                    let text = "asking where the topic ends: the thread ended without an answer";
                    return Err(Failure::new(KafkaFailure::Unavailable, text.to_owned()));
                }
            },
            Self::Known(_) => {}
        }
        Ok(self.known())
    }
}
