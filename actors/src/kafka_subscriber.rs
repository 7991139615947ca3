//! Reads the topic as a member of a consumer group and deals its records to the
//! ParquetBuffers.
//!
//! Where a partition starts is decided by the lake (docs/DESIGN.md: the lake is the
//! truth, a committed offset a hint). The consumer's thread never blocks on the
//! lake: it asks the uploader for the chain's end and continues to poll, and it
//! commits an offset only after the uploader said that the file is durable.

mod standstill;
mod unread;

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use actix::prelude::*;
use ftap_kafka::admin::{
    TopicUse, check_dead_letter_topic, ensure_topic, topic_settings, wait_for_broker,
};
use ftap_kafka::consumer::{Batch, GroupConsumer, Signal, Waker};
use ftap_kafka::drain::Drain;
use ftap_kafka::partition_progress::{Awaiting, Progress, Standstill};
use ftap_kafka::tail::{bounds_reader, read_records_at};
use ftap_kafka::{DeadLetterPlace, KafkaFailure, KafkaSettings, Reader};
use ftap_lake::{
    ChainError, CloseReason, LakeFailure, Skipped, StartFrom, TransactionFooter,
    check_continuation, start_offset,
};
use ftap_supervision::{Asked, Failure, Handed, Health, MemoryBudget, Outbox, Stage, failpoint};
use ftap_telemetry::events::{
    Drained, OffsetsSkipped, PartitionStarted, PartitionsAssigned, PartitionsPaused,
    PartitionsResumed, PartitionsRevoked,
};
use ftap_telemetry::metrics;
use ftap_transaction::plausible_timestamp;
use ftap_watch::{Ends, Watched};
use tokio::sync::watch;

use crate::messages::{
    ChainEnds, ClosePartitions, DurableUpTo, FindChainEnds, Records, Rewind, ToBuffer,
    ToSubscriber, ToUploader,
};
use standstill::Standstills;
use unread::Unread;

/// What the consumer's thread works with.
pub struct SubscriberParts {
    /// How to reach Kafka.
    pub kafka: Arc<KafkaSettings>,
    /// Decoders; partition `p` belongs to number `p % len`.
    pub buffers: Vec<Outbox<ToBuffer>>,
    /// Knows the lake.
    pub uploader: Outbox<ToUploader>,
    /// Files, open or waiting for the lake, and what was rejected. Beyond it the
    /// partitions are paused.
    pub budget: MemoryBudget,
    /// Records that wait for a decoder. Beyond it the consumer does not poll.
    pub backlog: MemoryBudget,
    /// Where the topic's partitions end, while Kafka answers.
    pub watched: Arc<Watched>,
    /// Turns true when the topic's current end must be reached and flushed.
    pub drain: watch::Receiver<bool>,
    /// Learns of partitions that can't be read.
    pub health: Arc<Health>,
    pub dead_letters: DeadLetterPlace,
}

/// The actor: passes messages to the thread that owns the consumer.
pub struct KafkaSubscriber {
    inbox: Sender<Handed<ToSubscriber>>,
    /// Once there is a consumer.
    waker: Arc<OnceLock<Waker>>,
}

impl KafkaSubscriber {
    /// Starts the consumer's thread.
    pub fn new(stage: Stage, parts: SubscriberParts) -> Self {
        let (inbox, messages) = channel();
        // Reading never ends by itself: a thread that makes no step is stuck.
        let reading = stage.progress().begin();
        let for_thread = stage.clone();
        let waker = Arc::new(OnceLock::new());
        let for_consumer = Arc::clone(&waker);
        stage.spawn_thread("kafka-subscriber", move || {
            let _reading = reading;
            run(for_thread, parts, &messages, &for_consumer)
        });
        Self { inbox, waker }
    }
}

impl Actor for KafkaSubscriber {
    type Context = Context<Self>;
}

impl Handler<Handed<ToSubscriber>> for KafkaSubscriber {
    type Result = ();

    fn handle(&mut self, message: Handed<ToSubscriber>, _: &mut Context<Self>) {
        // A thread that has ended has reported its own fault.
        let _ = self.inbox.send(message);
        if let Some(waker) = self.waker.get() {
            waker.wake();
        }
    }
}

const POLL: Duration = Duration::from_millis(50);
const BACKLOG_PAUSE: Duration = Duration::from_millis(1);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
const LAG_INTERVAL: Duration = Duration::from_secs(1);
const FLUSH_REPEAT: Duration = Duration::from_millis(200);

/// Runs the consumer until its generation ends.
fn run(
    stage: Stage,
    parts: SubscriberParts,
    inbox: &Receiver<Handed<ToSubscriber>>,
    waker: &OnceLock<Waker>,
) -> Result<(), Failure> {
    if !wait_for_broker(&parts.kafka, &stage)? {
        stage.generation().finish();
        return Ok(());
    }
    let topic = &parts.kafka.topic;
    let partition_count = ensure_topic(
        &parts.kafka,
        topic,
        parts.kafka.partitions,
        TopicUse::Source,
        &stage,
    )?;
    let (kafka, for_check) = (Arc::clone(&parts.kafka), stage.clone());
    // Once a process is enough. Reading need not wait for the answer, the end of the thread does.
    let is_checked =
        parts.dead_letters == DeadLetterPlace::Topic && stage.generation().number() == 1;
    std::thread::scope(|scope| {
        if is_checked {
            scope.spawn(|| check_dead_letter_topic(&kafka, &for_check));
        }
        read(stage, parts, inbox, waker, partition_count)
    })
}

/// Reads until the generation ends.
fn read(
    stage: Stage,
    parts: SubscriberParts,
    inbox: &Receiver<Handed<ToSubscriber>>,
    waker: &OnceLock<Waker>,
    partition_count: i32,
) -> Result<(), Failure> {
    let consumer = GroupConsumer::subscribe(&parts.kafka)?;
    // It connects while the group lets the consumer in.
    let bounds = bounds_reader(&parts.kafka)?;
    // Each thread has one consumer.
    let _ = waker.set(consumer.waker());
    let closer = consumer.closer();
    stage.generation().on_abandon(move || closer.close());
    stage.generation().ready();
    let drain = Drain::new(Arc::clone(&parts.kafka), partition_count, consumer.waker());
    let (kafka, health) = (Arc::clone(&parts.kafka), Arc::clone(&parts.health));
    let standstills = Standstills::new(stage.clone(), kafka, health);
    let unread = Unread::new(stage.clone(), Arc::clone(&parts.kafka));
    let flushes = stage.generation().control().flushes();
    let mut subscriber = Subscriber {
        stage,
        flushes,
        standstills,
        unread,
        parts,
        consumer,
        bounds,
        assigned: BTreeMap::new(),
        awaiting: Awaiting::default(),
        next_assignment: 1,
        paused: false,
        is_short_of_memory: false,
        overtaken: None,
        drain,
        last_flush: None,
        last_lag: Instant::now(),
        last_look: 0,
    };
    subscriber.run(inbox)
}

struct Subscriber {
    stage: Stage,
    flushes: Asked,
    standstills: Standstills,
    unread: Unread,
    parts: SubscriberParts,
    consumer: GroupConsumer,
    bounds: Reader,
    assigned: BTreeMap<i32, Progress>,
    /// Given by the group, not yet taken: the lake is being asked where they start.
    awaiting: Awaiting,
    next_assignment: u64,
    paused: bool,
    is_short_of_memory: bool,
    /// The log no longer has the next record; ends the generation when all is flushed.
    overtaken: Option<Failure>,
    drain: Drain,
    last_flush: Option<Instant>,
    last_lag: Instant,
    /// The look at the partitions' ends that the lag was computed from.
    last_look: u64,
}

impl Drop for Subscriber {
    /// What is not read is not known.
    fn drop(&mut self) {
        metrics::LAG_RECORDS.forget();
        metrics::LAG_SECONDS.forget();
        metrics::INGEST_MEMORY.forget();
    }
}

impl Subscriber {
    fn run(&mut self, inbox: &Receiver<Handed<ToSubscriber>>) -> Result<(), Failure> {
        let mut batches = Vec::new();
        loop {
            if self.stage.is_fenced() {
                return Ok(());
            }
            self.stage.progress().step();
            self.take_messages(inbox)?;
            if let Some(error) = self.overtaken.clone() {
                if self.stop_reading()? {
                    return Err(error);
                }
            } else if self.stage.generation().stop_requested() {
                if self.stop_reading()? {
                    self.stage.generation().finish();
                    return Ok(());
                }
            } else {
                self.balance_memory();
                self.set_paused(self.is_short_of_memory || self.is_held())?;
            }
            if self.flushes.take() {
                self.flush(CloseReason::Requested);
            }
            if self.parts.backlog.is_exhausted() {
                // The decoders are behind by what they do in a fraction of a second.
                // Nothing is lost by not polling: librdkafka's own queue is bounded.
                std::thread::sleep(BACKLOG_PAUSE);
                continue;
            }
            let signals = self.consumer.poll(POLL, &mut batches);
            for (partition, batch) in batches.drain(..) {
                self.hand_on(partition, batch)?;
            }
            for signal in signals {
                self.obey(signal)?;
            }
            self.once_a_second()?;
            if *self.parts.drain.borrow() && !self.is_held() && self.is_drained()? {
                Drained {
                    partition_count: self.assigned.len() as u64,
                }
                .emit(self.stage.speaker());
                self.stage.generation().finish();
                return Ok(());
            }
        }
    }

    fn hand_on(&mut self, partition: i32, batch: Batch) -> Result<(), Failure> {
        failpoint::hit("kafka_subscriber")?;
        // Records that were on their way when the partitions were paused are read again
        // after the pause, those that come when a stop was asked for by the next reader.
        if self.paused || self.stage.generation().stop_requested() {
            return Ok(());
        }
        let Some(progress) = self.assigned.get_mut(&partition) else {
            return Ok(());
        };
        let Some(last_offset) = batch.last_offset() else {
            return Ok(());
        };
        let first = batch.records().next();
        let first_timestamp = first
            .and_then(|record| plausible_timestamp(record.timestamp_ms))
            .unwrap_or_else(unix_millis);
        let records = i64::try_from(batch.len()).unwrap_or(i64::MAX);
        progress.handed_on(last_offset, records, first_timestamp);
        metrics::RECORDS_CONSUMED.add(batch.len() as u64);
        let permit = self.parts.backlog.take(batch.bytes());
        let assignment = progress.assignment;
        // Bounded by the memory budget, not by the mailbox.
        self.buffer_of(partition).hand(ToBuffer::Records(Records {
            partition,
            assignment,
            batch,
            permit,
        }));
        Ok(())
    }

    fn obey(&mut self, signal: Signal) -> Result<(), Failure> {
        match signal {
            // Taking nothing is an answer, too: until there is one librdkafka keeps everything
            // paused and joins no further rebalance.
            Signal::Assign(partitions) if partitions.is_empty() => {
                self.consumer.assign(&[])?;
                self.seek_to_positions()
            }
            Signal::Assign(partitions) => {
                PartitionsAssigned {
                    partitions: partitions.clone(),
                }
                .emit(self.stage.speaker());
                let committed = self.consumer.committed(&partitions, REQUEST_TIMEOUT)?;
                let request = FindChainEnds {
                    topic: self.parts.kafka.topic.clone(),
                    partitions,
                    request: self.awaiting.ask(&committed),
                };
                self.parts.uploader.hand(ToUploader::FindChainEnds(request));
                Ok(())
            }
            Signal::Revoke { partitions, lost } => self.release(partitions, lost),
            Signal::Committed(offsets) => {
                for (partition, offset) in offsets {
                    if let Some(progress) = self.assigned.get_mut(&partition) {
                        progress.acknowledged(offset);
                    }
                }
                Ok(())
            }
            Signal::OutOfRange { partition } => self.recover_range(partition),
            Signal::Fetched(fetched) => {
                for fetched in fetched {
                    if let Some(progress) = self.assigned.get_mut(&fetched.partition) {
                        progress.fetched(fetched, !self.paused);
                    }
                }
                Ok(())
            }
            Signal::Unreadable {
                partition,
                offset,
                text,
            } => {
                if let Some(progress) = self.assigned.get_mut(&partition) {
                    progress.is_unreadable(offset, text);
                    // Else what comes after it would be fetched again and again.
                    self.consumer.pause(&[partition])?;
                }
                Ok(())
            }
            Signal::Error { code, text } => {
                use rdkafka::types::{RDKafkaErrorCode as Known, RDKafkaRespErr};
                let known = Known::from(code);
                let kind = match known {
                    // We made it: it was deleted under us, and may come back.
                    Known::UnknownTopicOrPartition | Known::UnknownTopic => {
                        KafkaFailure::Unavailable
                    }
                    // It let us in before: the next start finds out whether this is for good.
                    Known::Authentication | Known::SSL => KafkaFailure::Unavailable,
                    other => KafkaFailure::from(other),
                };
                let recovers_itself = kind == KafkaFailure::Unavailable
                    && matches!(
                        code,
                        RDKafkaRespErr::RD_KAFKA_RESP_ERR__TRANSPORT
                            | RDKafkaRespErr::RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN
                            | RDKafkaRespErr::RD_KAFKA_RESP_ERR__RESOLVE
                            | RDKafkaRespErr::RD_KAFKA_RESP_ERR__TIMED_OUT
                    );
                if recovers_itself {
                    return Ok(());
                }
                let kafka = &self.parts.kafka;
                let (topic, group) = (&kafka.topic, &kafka.consumer_group);
                let what = format!("consuming {topic} as group {group}: {known}: {text}");
                Err(Failure::new(kind, what))
            }
        }
    }

    fn release(&mut self, partitions: Vec<i32>, lost: bool) -> Result<(), Failure> {
        PartitionsRevoked {
            partitions: partitions.clone(),
            lost,
        }
        .emit(self.stage.speaker());
        self.awaiting.remove(&partitions);
        let taken: Vec<i32> = partitions
            .iter()
            .copied()
            .filter(|partition| self.assigned.remove(partition).is_some())
            .collect();
        let closing = ClosePartitions {
            partitions: taken.clone(),
            last_assignment: self.next_assignment - 1,
        };
        for buffer in &self.parts.buffers {
            buffer.hand(ToBuffer::Close(closing.clone()));
        }
        self.parts.uploader.hand(ToUploader::Close(closing));
        self.consumer.unassign(&taken)?;
        self.seek_to_positions()
    }

    /// Sets exactly where reading resumes after a pause, librdkafka's own during a rebalance
    /// included. By itself it resumes after the last message it put into a batch, which the
    /// pause may have purged as outdated, and which may be an error with an offset of its own.
    fn seek_to_positions(&mut self) -> Result<(), Failure> {
        if self.stage.is_fenced() {
            return Ok(());
        }
        for (partition, progress) in &self.assigned {
            self.consumer.seek(*partition, progress.position())?;
        }
        Ok(())
    }

    fn take_messages(&mut self, inbox: &Receiver<Handed<ToSubscriber>>) -> Result<(), Failure> {
        let mut commits = Vec::new();
        while let Ok(Handed {
            message,
            work: _work,
        }) = inbox.try_recv()
        {
            match message {
                ToSubscriber::DurableUpTo(DurableUpTo {
                    partition,
                    assignment,
                    next_offset,
                }) => {
                    if let Some(progress) = self.current(partition, assignment) {
                        progress.durable_up_to(next_offset);
                        commits.push((partition, next_offset));
                    }
                }
                ToSubscriber::Rewind(Rewind {
                    partition,
                    assignment,
                    offset,
                }) => {
                    if self.current(partition, assignment).is_some() {
                        self.consumer.seek(partition, offset)?;
                        self.open(partition, offset, 0);
                        commits.push((partition, offset));
                    }
                }
                ToSubscriber::ChainEnds(ends) => self.start_reading(&ends)?,
            }
        }
        if commits.is_empty() || self.stage.is_fenced() {
            return Ok(());
        }
        // A hint only: a lost commit costs a listing at the next start.
        self.consumer.commit(&commits, false)
    }

    fn current(&mut self, partition: i32, assignment: u64) -> Option<&mut Progress> {
        self.assigned
            .get_mut(&partition)
            .filter(|progress| progress.assignment == assignment)
    }

    /// The lake has answered: take the partitions that are still ours to take.
    fn start_reading(&mut self, ends: &ChainEnds) -> Result<(), Failure> {
        let committed = self.awaiting.of(ends.request);
        if committed.is_empty() {
            return Ok(());
        }
        let partitions: Vec<i32> = committed.iter().map(|(partition, _)| *partition).collect();
        let newest = |partition| ends.footers.get(&partition).and_then(Option::as_ref);
        let mut starts = Vec::new();
        let mut chains = Vec::new();
        for (partition, committed) in committed {
            let (log_start, log_end) =
                self.bounds.watermarks(&self.parts.kafka.topic, partition)?;
            let footer = newest(partition);
            let chain_end = footer.map(|footer| footer.last_offset);
            let start = start_offset(committed, chain_end, log_start, log_end)
                .map_err(|error| self.conflict(partition, error))?;
            chains.extend(footer.map(|footer| (footer, log_start)));
            // The next reader's hint, if the last one did not live to give it.
            let acknowledged = match start.from {
                StartFrom::LakeEnd => committed.unwrap_or(0),
                StartFrom::Committed | StartFrom::LogStart => start.offset,
            };
            starts.push((partition, start, acknowledged));
        }
        self.check_continuation(&chains)?;
        for (partition, start, _) in &starts {
            if let Some(skipped) = &start.skipped {
                self.report_skipped(*partition, skipped);
            }
            PartitionStarted {
                partition: *partition,
                offset: start.offset,
                from: start.from.as_str().to_owned(),
            }
            .emit(self.stage.speaker());
        }
        let offsets: Vec<(i32, i64)> = starts
            .iter()
            .map(|(partition, start, _)| (*partition, start.offset))
            .collect();
        self.consumer.assign(&offsets)?;
        self.seek_to_positions()?;
        self.awaiting.remove(&partitions);
        for (partition, start, acknowledged) in &starts {
            self.open(*partition, start.offset, *acknowledged);
        }
        if self.paused {
            self.consumer.pause(&partitions)?;
        }
        Ok(())
    }

    /// Whether each chain was written from the topic that is there now.
    fn check_continuation(&self, chains: &[(&TransactionFooter, i64)]) -> Result<(), Failure> {
        let firsts: Vec<(i32, i64)> = chains
            .iter()
            .filter(|(footer, log_start)| footer.first_offset >= *log_start)
            .map(|(footer, _)| (footer.partition, footer.first_offset))
            .collect();
        if firsts.is_empty() {
            return Ok(());
        }
        let _waiting = self.stage.progress().waiting();
        let topic = &self.parts.kafka.topic;
        let found = read_records_at(&self.parts.kafka, topic, &firsts, self.stage.progress())?;
        let is_compacted = topic_settings(&self.parts.kafka, topic)?.is_compacted;
        chains.iter().try_for_each(|(footer, log_start)| {
            let found = found.get(&footer.partition).copied();
            check_continuation(footer, *log_start, found, is_compacted)
                .map_err(|error| self.conflict(footer.partition, error))
        })
    }

    fn conflict(&self, partition: i32, error: ChainError) -> Failure {
        let place = format!("{}-{partition}", self.parts.kafka.topic);
        Failure::new(LakeFailure::Conflict, place).caused_by(error)
    }

    fn open(&mut self, partition: i32, offset: i64, acknowledged: i64) {
        let assignment = self.next_assignment;
        self.next_assignment += 1;
        self.assigned
            .insert(partition, Progress::new(assignment, offset, acknowledged));
        self.buffer_of(partition).hand(ToBuffer::Open {
            partition,
            assignment,
        });
    }

    /// The log does not have the next offset: retention overtook the reader, or the
    /// topic was created again. librdkafka also says so of a partition that was paused and
    /// whose own position it lost; then ours is still in the log, and it is set again.
    fn recover_range(&mut self, partition: i32) -> Result<(), Failure> {
        let Some(position) = self.assigned.get(&partition).map(Progress::position) else {
            return Ok(());
        };
        let (low, high) = self.bounds.watermarks(&self.parts.kafka.topic, partition)?;
        if (low..=high).contains(&position) {
            return self.consumer.seek(partition, position);
        }
        // What was read before may be gone from the topic as well: it goes into the lake
        // first. The next generation starts behind it and logs the exact range that is lost.
        self.overtaken.get_or_insert(Failure::new(
            KafkaFailure::Unavailable,
            format!(
                "{}-{partition}: offset {position}, the next to read, is no longer in the topic, which holds {low} to {high}",
                self.parts.kafka.topic
            ),
        ));
        Ok(())
    }

    fn report_skipped(&self, partition: i32, skipped: &Skipped) {
        let (first, last) = (*skipped.offsets.start(), *skipped.offsets.end());
        OffsetsSkipped {
            partition,
            first_offset: first,
            last_offset: last,
            reason: skipped.cause.as_str().to_owned(),
        }
        .emit(self.stage.speaker());
        metrics::OFFSETS_SKIPPED.add(u64::try_from(last - first + 1).unwrap_or(0));
    }

    fn balance_memory(&mut self) {
        let budget = &self.parts.budget;
        metrics::INGEST_MEMORY.set((budget.used() + self.parts.backlog.used()) as f64);
        if !self.is_short_of_memory && budget.is_exhausted() {
            PartitionsPaused {
                memory_bytes: budget.used(),
                budget_bytes: budget.limit(),
            }
            .emit(self.stage.speaker());
            self.is_short_of_memory = true;
            // Files that wait for their age or size would hold the memory indefinitely.
            self.flush(CloseReason::Bytes);
        } else if self.is_short_of_memory && budget.has_recovered() {
            PartitionsResumed {
                memory_bytes: budget.used(),
            }
            .emit(self.stage.speaker());
            self.is_short_of_memory = false;
        }
    }

    /// Whether a person has paused the group.
    fn is_held(&self) -> bool {
        self.stage.generation().control().is_paused()
    }

    /// Paused, the consumer polls all the same, and so keeps its partitions.
    fn set_paused(&mut self, paused: bool) -> Result<(), Failure> {
        if paused == self.paused {
            return Ok(());
        }
        self.paused = paused;
        let partitions: Vec<i32> = self.assigned.keys().copied().collect();
        if paused {
            return self.consumer.pause(&partitions);
        }
        self.consumer.resume(&partitions)?;
        self.seek_to_positions()
    }

    fn flush(&self, reason: CloseReason) {
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
    fn stop_reading(&mut self) -> Result<bool, Failure> {
        self.set_paused(true)?;
        if self.assigned.values().all(Progress::is_flushed) {
            return Ok(true);
        }
        self.flush_repeatedly(CloseReason::Shutdown);
        Ok(false)
    }

    /// Whether everything that was visible in the topic when draining began is in the lake.
    fn is_drained(&mut self) -> Result<bool, Failure> {
        let progress = self.stage.progress();
        if self.assigned.is_empty() || !self.awaiting.is_empty() {
            // It is found out while the group and the lake answer.
            self.drain.targets(&self.bounds, progress)?;
            return Ok(false);
        }
        if !self.drain.is_read(&self.bounds, &self.assigned, progress)? {
            return Ok(false);
        }
        if !self.assigned.values().all(Progress::is_flushed) {
            self.flush_repeatedly(CloseReason::Drain);
            return Ok(false);
        }
        self.drain.others_are_done(&self.consumer, &self.assigned)
    }

    fn once_a_second(&mut self) -> Result<(), Failure> {
        if self.last_lag.elapsed() < LAG_INTERVAL {
            return Ok(());
        }
        self.last_lag = Instant::now();
        self.report_lag();
        self.report_standstills()?;
        self.repeat_commits()
    }

    /// Commits again what the group has not taken: during a rebalance it refuses all commits,
    /// and on a quiet topic no other would follow. Draining and the lag would otherwise never
    /// finish.
    fn repeat_commits(&mut self) -> Result<(), Failure> {
        let owed = self.assigned.iter();
        let owed: Vec<(i32, i64)> = owed
            .filter_map(|(partition, progress)| Some((*partition, progress.owed()?)))
            .collect();
        if owed.is_empty() || self.stage.is_fenced() {
            return Ok(());
        }
        self.consumer.commit(&owed, false)
    }

    fn report_standstills(&mut self) -> Result<(), Failure> {
        let assigned = self.assigned.iter();
        let all = assigned
            .filter_map(|(partition, progress)| Some((*partition, progress.standstill()?)))
            .collect();
        let again = self.standstills.report(&all);
        let is_draining = *self.parts.drain.borrow();
        if is_draining && let Some(failure) = self.standstills.failure(&all) {
            return Err(failure);
        }
        if self.paused {
            return Ok(());
        }
        for partition in again {
            self.consumer.resume(&[partition])?;
            let position = self.assigned.get(&partition).map(Progress::position);
            if let Some(position) = position {
                self.consumer.seek(partition, position)?;
            }
        }
        Ok(())
    }

    /// Only what Kafka has just said counts: a client that hears nothing seems to be level with it.
    fn report_lag(&mut self) {
        let ends = self.parts.watched.ends();
        let Some(Ends { look, by_partition }) = ends else {
            metrics::LAG_RECORDS.forget();
            metrics::LAG_SECONDS.forget();
            return;
        };
        if std::mem::replace(&mut self.last_look, look) == look {
            return;
        }
        let unread = self.oldest_unread_ms(&by_partition);
        let now_ms = unix_millis();
        let (mut records, mut seconds) = (Vec::new(), Vec::new());
        for (partition, progress) in &self.assigned {
            let Some(end) = by_partition.get(partition) else {
                continue;
            };
            let (label, lag) = ([partition.to_string()], progress.lag(*end));
            let oldest = progress.oldest_in_flight_ms();
            let oldest = oldest.or_else(|| unread.get(partition).copied());
            let age_ms = match oldest {
                Some(oldest) => Some((now_ms - oldest).max(0)),
                None => (lag == 0).then_some(0),
            };
            records.push((label.clone(), lag as f64));
            seconds.extend(age_ms.map(|age_ms| (label, age_ms as f64 / 1e3)));
        }
        metrics::LAG_RECORDS.replace(records);
        metrics::LAG_SECONDS.replace(seconds);
    }

    /// Kafka timestamps of the oldest records of the partitions that stand still, all of whose read records are in the
    /// lake.
    fn oldest_unread_ms(&mut self, ends: &BTreeMap<i32, i64>) -> BTreeMap<i32, i64> {
        let is_held = self.is_held();
        let stands = |progress: &Progress| {
            is_held
                || matches!(
                    progress.standstill(),
                    Some(Standstill::OpenTransaction { .. })
                )
        };
        let standing = self.assigned.iter().filter(|(partition, progress)| {
            let is_behind = ends
                .get(partition)
                .is_some_and(|end| progress.lag(*end) > 0);
            is_behind && progress.oldest_in_flight_ms().is_none() && stands(progress)
        });
        let positions: Vec<(i32, i64)> = standing
            .map(|(partition, progress)| (*partition, progress.position()))
            .collect();
        self.unread.timestamps(&positions)
    }

    fn buffer_of(&self, partition: i32) -> &Outbox<ToBuffer> {
        let index = usize::try_from(partition).unwrap_or(0) % self.parts.buffers.len();
        &self.parts.buffers[index]
    }
}

fn unix_millis() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |now| i64::try_from(now.as_millis()).unwrap_or(i64::MAX))
}
