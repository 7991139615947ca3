//! Puts rows into the topic, each exactly once for a `read_committed` reader.
//!
//! A fixed `transactional.id` fences whatever an earlier publisher left behind;
//! only then is the topic's tail read, so nothing can be added behind it. Rows go
//! out in file order in transactions; a row is sent only to a partition whose
//! tail is older than it. After any failure the next generation starts from the
//! tail again. Transactions are as large as the line to Kafka allows, see
//! [`transaction_size`](ftap_kafka::transaction_size).
//!
//! Only the last row of a transaction in each partition bears the mark of its row and file: it is what the next
//! publisher reads, and messages without headers cost half of those with them. So the newest row of each partition is
//! held back until another one follows, or the transaction is committed.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use actix::prelude::*;
use ftap_kafka::admin::{TopicUse, ensure_topic, topic_settings, wait_for_broker};
use ftap_kafka::produce::{Messages, Reports, TopicProducer};
use ftap_kafka::publish_resume::{Fingerprint, Place, Resume, resume, save_checkpoint};
use ftap_kafka::tail::{LookFor, read_tails};
use ftap_kafka::transaction_size::{TARGET, TransactionSize};
use ftap_kafka::{KafkaSettings, ROW_HEADER, SOURCE_HEADER, client_config, failure, transactional};
use ftap_supervision::{Failure, Handed, Internal, Outbox, Stage, Work, failpoint};
use ftap_telemetry::events::{
    PublishFinished, PublishingSlow, RowsPublished, TransactionPublished, TransactionSampled,
};
use ftap_telemetry::metrics;
use rdkafka::error::KafkaError;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use tokio::sync::oneshot;

use crate::messages::{EncodedRow, NEIGHBOUR_GRACE, RowBatch, StartReading};
use crate::settings::PublishSettings;

/// Batches the actor may hand to its thread ahead; the reader sends one at a time.
const BATCHES_AHEAD: usize = 2;
/// One call of several: between them it is seen whether to stop.
const CALL_TIMEOUT: Duration = Duration::from_secs(1);
/// How long an open transaction may take.
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(60);
/// How long Kafka may take to let a transactional producer in.
const START_PATIENCE: Duration = Duration::from_secs(90);
/// How long a commit may take when a stop was asked for.
const STOP_PATIENCE: Duration = Duration::from_secs(3);
const SAMPLE_INTERVAL: Duration = Duration::from_secs(1);
/// Of a row as a message.
const LARGEST_ROW_BYTES: usize = 10_000_000;
/// Least time between two lines about a slow line.
const SLOW_INTERVAL: Duration = Duration::from_secs(60);

/// A row with its key and payload.
type Row<'a> = (EncodedRow, &'a [u8], &'a [u8]);

/// A batch, and the way to its sender.
type Job = (Handed<RowBatch>, oneshot::Sender<Result<(), Failure>>);

/// The actor: passes batches to the thread that owns the producer.
pub struct KafkaPublisher {
    jobs: SyncSender<Job>,
}

impl KafkaPublisher {
    /// Starts the producer's thread, which lets `reader` start.
    pub fn new(
        stage: Stage,
        kafka: Arc<KafkaSettings>,
        settings: Arc<PublishSettings>,
        reader: Outbox<StartReading>,
    ) -> Self {
        let (jobs, queue) = sync_channel(BATCHES_AHEAD);
        let transaction_timeout = transactional::timeout(&kafka, TRANSACTION_TIMEOUT);
        let publisher = Publisher {
            stage: stage.clone(),
            kafka,
            settings,
            reader,
            transaction_timeout,
        };
        let preparing = stage.progress().begin();
        stage.spawn_thread("kafka-publisher", move || publisher.run(&queue, preparing));
        Self { jobs }
    }
}

impl Actor for KafkaPublisher {
    type Context = Context<Self>;
}

impl Handler<Handed<RowBatch>> for KafkaPublisher {
    type Result = ResponseFuture<Result<(), Failure>>;

    fn handle(&mut self, batch: Handed<RowBatch>, _: &mut Context<Self>) -> Self::Result {
        let (done, answer) = oneshot::channel();
        let gone = || {
            Failure::new(
                Internal::NeighbourGone,
                "the producer's thread has ended".to_owned(),
            )
        };
        // A job that can't be sent drops `done`, and the answer is the same.
        let _ = self.jobs.try_send((batch, done));
        Box::pin(async move {
            match answer.await {
                Ok(answer) => answer,
                Err(_) => {
                    // The thread reports its own fault, which is the root cause; this one is
                    // only for the case that it does not.
                    tokio::time::sleep(NEIGHBOUR_GRACE).await;
                    Err(gone())
                }
            }
        })
    }
}

struct Publisher {
    stage: Stage,
    kafka: Arc<KafkaSettings>,
    settings: Arc<PublishSettings>,
    reader: Outbox<StartReading>,
    transaction_timeout: Duration,
}

/// The transaction that is open.
struct Open {
    since: Instant,
    rows: u64,
    /// Keys and payloads.
    bytes: u64,
    last_row: u64,
}

/// A row that is not sent yet: if no other follows it in its partition, it will bear the mark.
struct Held {
    row: u64,
    key: Vec<u8>,
    payload: Vec<u8>,
}

struct Session {
    producer: TopicProducer,
    resume: Resume,
    source: String,
    open: Option<Open>,
    /// By partition.
    held: Vec<Option<Held>>,
    size: TransactionSize,
    /// Place after the last row handed to librdkafka.
    place: Place,
    saved_row: u64,
    published: u64,
    last_sample: Option<Instant>,
    last_slow: Option<Instant>,
}

impl Session {
    fn is_due(&self, interval: Duration) -> bool {
        self.open
            .as_ref()
            .is_some_and(|open| open.rows >= self.size.rows() || open.since.elapsed() >= interval)
    }
}

impl Publisher {
    fn run(self, queue: &Receiver<Job>, preparing: Work) -> Result<(), Failure> {
        let Some(mut session) = self.prepare()? else {
            self.stage.generation().finish();
            return Ok(());
        };
        drop(preparing);
        self.stage.generation().ready();
        loop {
            if self.stage.is_fenced() {
                return Ok(());
            }
            if self.stage.generation().stop_requested() {
                self.commit(&mut session)?;
                self.stage.generation().finish();
                return Ok(());
            }
            let wait = session
                .open
                .as_ref()
                .map_or(Duration::from_millis(100), |open| {
                    self.settings
                        .transaction_interval
                        .saturating_sub(open.since.elapsed())
                });
            match queue.recv_timeout(wait.min(Duration::from_millis(100))) {
                Ok((
                    Handed {
                        message: batch,
                        work,
                    },
                    done,
                )) => {
                    let is_last = batch.is_last;
                    self.publish(&mut session, &batch)?;
                    drop(work);
                    let _ = done.send(Ok(()));
                    if is_last {
                        return self.finish(session);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    session.producer.producer().poll(Duration::ZERO);
                }
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
            if session.is_due(self.settings.transaction_interval) {
                self.commit(&mut session)?;
            }
        }
    }

    /// Reaches the broker, fences predecessors, reads the tail, starts the reader.
    fn prepare(&self) -> Result<Option<Session>, Failure> {
        let fingerprint = Fingerprint::of(&self.settings.events_file)?;
        if !wait_for_broker(&self.kafka, &self.stage)? {
            return Ok(None);
        }
        let topic = &self.kafka.topic;
        let partitions = ensure_topic(
            &self.kafka,
            topic,
            self.kafka.partitions,
            TopicUse::Source,
            &self.stage,
        )?;
        let limits = topic_settings(&self.kafka, topic)?;
        let batch_bytes = limits.batch_bytes().to_string();
        // A row that the topic does not take fails before it is sent.
        let row_bytes = limits.max_message_bytes.unwrap_or(LARGEST_ROW_BYTES);
        let row_bytes = row_bytes.clamp(1000, LARGEST_ROW_BYTES).to_string();
        // An idempotent producer has one request under way a partition. While its connection would take more, librdkafka
        // polls without a pause as soon as a batch is full; a request that waits for its turn ends that.
        let in_flight = (partitions - 1).clamp(1, 2).to_string();
        // Enough for a full request of each partition and two more.
        let queued = (10_000 * i64::from(partitions))
            .clamp(30_000, 200_000)
            .to_string();
        let [transaction, delivery] = transactional::timeout_properties(self.transaction_timeout);
        let producer: BaseProducer<Reports> = client_config(
            &self.kafka,
            &[
                ("transactional.id", &self.settings.transactional_id),
                (transaction.0, &transaction.1),
                (delivery.0, &delivery.1),
                ("linger.ms", "5"),
                ("batch.num.messages", "20000"),
                ("batch.size", &batch_bytes),
                ("max.in.flight.requests.per.connection", &in_flight),
                ("queue.buffering.max.messages", &queued),
                ("queue.buffering.max.kbytes", "65536"),
                ("message.max.bytes", &row_bytes),
                ("delivery.report.only.error", "true"),
            ],
        )
        .create_with_context(Reports::default())
        .map_err(|error| failure("creating the producer", error))?;
        let what = format!(
            "starting transactions as {}",
            self.settings.transactional_id
        );
        self.patiently(&what, START_PATIENCE, || {
            producer.init_transactions(CALL_TIMEOUT)
        })?;
        let source = fingerprint.header(partitions);
        let tails = read_tails(
            &self.kafka,
            topic,
            partitions,
            LookFor::Mark,
            self.stage.progress(),
        )?;
        let resume = resume(topic, &source, &tails)?;
        self.reader.hand(StartReading {
            resume: resume.clone(),
            source: source.clone(),
            partitions,
        });
        let producer = TopicProducer::new(producer, topic)
            .map_err(|error| failure("creating the producer", error))?;
        Ok(Some(Session {
            producer,
            resume,
            source,
            open: None,
            held: std::iter::repeat_with(|| None)
                .take(usize::try_from(partitions).unwrap_or(0))
                .collect(),
            size: TransactionSize::new(self.settings.transaction_rows),
            place: Place::default(),
            saved_row: 0,
            published: 0,
            last_sample: None,
            last_slow: None,
        }))
    }

    fn publish(&self, session: &mut Session, batch: &RowBatch) -> Result<(), Failure> {
        let mut rows: Vec<_> = batch
            .iter()
            .filter(|(row, ..)| session.resume.lacks(row.partition, row.row))
            .collect();
        while let Some((first, ..)) = rows.first() {
            if self.stage.is_fenced() {
                return Ok(());
            }
            if session.open.is_none() {
                session
                    .producer
                    .producer()
                    .begin_transaction()
                    .map_err(|error| failure("beginning a transaction", error))?;
            }
            let open = session.open.get_or_insert_with(|| Open {
                since: Instant::now(),
                rows: 0,
                bytes: 0,
                last_row: first.row,
            });
            // A batch may have more rows than a slow line takes in time.
            let room = session.size.rows().saturating_sub(open.rows).max(1);
            let rest = rows.split_off(rows.len().min(usize::try_from(room).unwrap_or(usize::MAX)));
            open.rows += rows.len() as u64;
            for (row, key, payload) in &rows {
                open.bytes += (key.len() + payload.len()) as u64;
                open.last_row = row.row;
            }
            let is_full = open.rows >= session.size.rows();
            self.send(session, &rows)?;
            if is_full {
                self.commit(session)?;
            }
            rows = rest;
        }
        failpoint::hit("kafka_publisher")?;
        session.place = batch.end;
        session.producer.producer().poll(Duration::ZERO);
        self.sample(session, batch);
        Ok(())
    }

    /// Sends rows of the open transaction, but holds the last one of each partition back.
    fn send(&self, session: &mut Session, rows: &[Row<'_>]) -> Result<(), Failure> {
        let mut by_partition: Vec<Vec<&Row<'_>>> = vec![Vec::new(); session.held.len()];
        for row in rows {
            // The reader chose one of so many partitions.
            by_partition[row.0.partition as usize].push(row);
        }
        for (partition, rows) in (0..).zip(by_partition) {
            let Some(((last, key, payload), others)) = rows.split_last() else {
                continue;
            };
            let newest = Held {
                row: last.row,
                key: key.to_vec(),
                payload: payload.to_vec(),
            };
            let before = session.held[partition as usize].replace(newest);
            let others = others
                .iter()
                .map(|(row, key, payload)| (row.row, *key, *payload));
            let before = before.as_ref();
            let rows = before.map(|held| (held.row, &held.key[..], &held.payload[..]));
            let (numbers, mut messages): (Vec<u64>, Messages<'_>) = rows
                .into_iter()
                .chain(others)
                .map(|(row, key, payload)| (row, (key, payload)))
                .unzip();
            session
                .producer
                .send(partition, &mut messages, self.room())
                .map_err(|(index, error)| {
                    self.refused(numbers[index], messages.bytes(index), error)
                })?;
        }
        if tracing::enabled!(target: "ftap", tracing::Level::DEBUG) {
            for (row, _, payload) in rows {
                TransactionPublished {
                    row: row.row,
                    partition: row.partition,
                    message: String::from_utf8_lossy(payload).into_owned(),
                }
                .emit(self.stage.speaker());
            }
        }
        Ok(())
    }

    /// Whether to wait for room in librdkafka's queue.
    fn room(&self) -> impl FnMut() -> bool {
        let mut waiting = None;
        move || {
            // Bounded by the delivery timeout, so it is not a stall.
            waiting.get_or_insert_with(|| self.stage.progress().waiting());
            !self.stage.is_fenced()
        }
    }

    fn refused(&self, row: u64, bytes: usize, error: KafkaError) -> Failure {
        let topic = &self.kafka.topic;
        let what = format!("sending row {row}, {bytes} bytes, to topic {topic}");
        failure(&what, error)
    }

    /// Sends the last row of the open transaction in each partition, with the mark.
    fn send_marked(&self, session: &mut Session) -> Result<(), Failure> {
        for (partition, held) in (0..).zip(&mut session.held) {
            let Some(Held { row, key, payload }) = held.take() else {
                continue;
            };
            let mut digits = itoa::Buffer::new();
            let headers = OwnedHeaders::new_with_capacity(2)
                .insert(Header {
                    key: ROW_HEADER,
                    value: Some(digits.format(row).as_bytes()),
                })
                .insert(Header {
                    key: SOURCE_HEADER,
                    value: Some(session.source.as_bytes()),
                });
            let record = BaseRecord::to(&self.kafka.topic)
                .partition(partition)
                .key(&key[..])
                .payload(&payload[..])
                .headers(headers);
            session
                .producer
                .send_with_headers(record, self.room())
                .map_err(|error| self.refused(row, key.len() + payload.len(), error))?;
        }
        Ok(())
    }

    fn sample(&self, session: &mut Session, batch: &RowBatch) {
        if session
            .last_sample
            .is_some_and(|last| last.elapsed() < SAMPLE_INTERVAL)
        {
            return;
        }
        if let Some((row, _, payload)) = batch.iter().next() {
            session.last_sample = Some(Instant::now());
            TransactionSampled {
                row: row.row,
                partition: row.partition,
                message: String::from_utf8_lossy(payload).into_owned(),
            }
            .emit(self.stage.speaker());
        }
    }

    fn commit(&self, session: &mut Session) -> Result<(), Failure> {
        let Some(open) = session.open.take() else {
            return Ok(());
        };
        self.send_marked(session)?;
        // Then marks may be missing, without which these rows would be published again.
        if self.stage.is_fenced() {
            return Ok(());
        }
        failpoint::hit("kafka_publisher.commit")?;
        let (producer, began) = (&session.producer, Instant::now());
        let left = self
            .transaction_timeout
            .saturating_sub(open.since.elapsed());
        let what = format!(
            "committing a transaction of {} rows, {} bytes, to topic {}",
            open.rows, open.bytes, self.kafka.topic
        );
        self.patiently(&what, left, || producer.commit_transaction(CALL_TIMEOUT))?;
        session.size.committed(open.rows, began.elapsed());
        self.report_slow(session, &open, began.elapsed());
        session.published += open.rows;
        metrics::ROWS_PUBLISHED.add(open.rows);
        RowsPublished {
            rows: open.rows,
            last_row: open.last_row,
            duration_ms: open.since.elapsed().as_millis() as u64,
        }
        .emit(self.stage.speaker());
        let rows_since = session.place.row.saturating_sub(session.saved_row);
        if rows_since >= self.settings.checkpoint_rows {
            self.checkpoint(session);
        }
        Ok(())
    }

    /// Says how slow Kafka takes rows, at most once a minute.
    fn report_slow(&self, session: &mut Session, open: &Open, took: Duration) {
        let last = session.last_slow;
        if took <= TARGET || last.is_some_and(|last| last.elapsed() < SLOW_INTERVAL) {
            return;
        }
        session.last_slow = Some(Instant::now());
        PublishingSlow {
            rows: open.rows,
            bytes: open.bytes,
            duration_ms: took.as_millis() as u64,
            bytes_per_second: (open.bytes as f64 / took.as_secs_f64()) as u64,
            transaction_rows: session.size.rows(),
        }
        .emit(self.stage.speaker());
    }

    /// Losing a checkpoint costs reading the file again, nothing else.
    fn checkpoint(&self, session: &mut Session) {
        let file = &self.settings.checkpoint_file;
        match save_checkpoint(file, &session.source, session.place) {
            Ok(()) => session.saved_row = session.place.row,
            Err(error) => ftap_telemetry::events::CheckpointFailed {
                path: file.display().to_string(),
                error: error.to_string(),
            }
            .emit(self.stage.speaker()),
        }
    }

    fn finish(&self, mut session: Session) -> Result<(), Failure> {
        self.commit(&mut session)?;
        self.checkpoint(&mut session);
        let rejected = metrics::SOURCE_ROWS_REJECTED.total();
        PublishFinished {
            rows: session.place.row,
            published: session.published,
            rejected,
        }
        .emit(self.stage.speaker());
        self.stage.generation().finish();
        Ok(())
    }

    /// Repeats a transactional call while librdkafka says that this helps.
    fn patiently(
        &self,
        what: &str,
        limit: Duration,
        call: impl FnMut() -> Result<(), KafkaError>,
    ) -> Result<(), Failure> {
        let _waiting = self.stage.progress().waiting();
        let began = Instant::now();
        let sleep = |length| {
            std::thread::sleep(length);
            let stops = self.stage.generation().stop_requested();
            !self.stage.is_fenced() && (!stops || began.elapsed() < STOP_PATIENCE)
        };
        // After an error the open transaction dies with the producer: the next generation's
        // `init_transactions` aborts it before it reads the tail.
        transactional::repeat(limit, call, sleep).map_err(|error| failure(what, error))
    }
}
