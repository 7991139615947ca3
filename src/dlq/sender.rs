//! Sends repaired messages back, each exactly once.
//!
//! Promises: a message and its entry's mark, if the dead-letter topic has the entry, are committed in
//! one Kafka transaction, or neither is. [`Sender::open`] fences every earlier redrive of the topic and waits until
//! what that left open is aborted or visible; what is read of both topics after it
//! stays true until this sender changes it, or another one fences it off.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, anyhow};
use ftap_kafka::KafkaSettings;
use ftap_kafka::admin::topic_settings;
use ftap_kafka::{
    REDRIVE_HEADER, REDRIVEN_HEADER, ROW_HEADER, SOURCE_HEADER, client_config, failure, is_source,
    transactional,
};
use ftap_supervision::{Failure, failpoint};
use ftap_telemetry::events::{EntriesRedriven, Speaker};
use parking_lot::Mutex;
use rdkafka::client::ClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};

use super::index::{Entry, Original, OriginalHeader, Place};

/// A transaction holds up the topic's readers, so it stays small.
const MAX_MESSAGES: u64 = 1000;
const MAX_BYTES: usize = 4_000_000;
/// How long a killed redrive holds up the topic's readers.
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(30);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
const PATIENCE: Duration = Duration::from_secs(60);
const ABORT_TIMEOUT: Duration = Duration::from_secs(5);

/// Keeps the first message that was not delivered.
#[derive(Default)]
struct Failures(Mutex<Option<String>>);

impl ClientContext for Failures {
    /// None are asked for. By default a parser of all of them would be compiled here.
    fn stats_raw(&self, _: &[u8]) {}
}

impl ProducerContext for Failures {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, message)) = result {
            let mut first = self.0.lock();
            first.get_or_insert_with(|| {
                not_delivered(message.topic(), message.payload_len(), error)
            });
        }
    }
}

fn not_delivered(topic: &str, bytes: usize, error: &KafkaError) -> String {
    let remedy = match error.rdkafka_error_code() {
        Some(RDKafkaErrorCode::MessageSizeTooLarge | RDKafkaErrorCode::InvalidMessageSize) => {
            ": raise max.message.bytes of the topic, or leave the entry out"
        }
        _ => "",
    };
    format!("a message of {bytes} bytes was not taken by topic {topic}: {error}{remedy}")
}

struct Open {
    since: Instant,
    messages: u64,
    bytes: usize,
}

/// See the module.
pub(crate) struct Sender {
    producer: BaseProducer<Failures>,
    topic: String,
    dead_letter_topic: String,
    max_messages: u64,
    open: Option<Open>,
    /// Messages whose transactions are committed.
    pub sent: u64,
    /// Transactions committed.
    pub transactions: u64,
}

/// With the original's headers, except for our marks: the message is another one.
fn kept(mut headers: OwnedHeaders, original: &[OriginalHeader<'_>]) -> OwnedHeaders {
    let is_published = original
        .iter()
        .any(|(name, value)| *name == SOURCE_HEADER && value.is_some_and(is_source));
    for (key, value) in original {
        let is_mark =
            *key == REDRIVE_HEADER || is_published && [ROW_HEADER, SOURCE_HEADER].contains(key);
        if !is_mark {
            headers = headers.insert(Header { key, value: *value });
        }
    }
    headers
}

impl Sender {
    /// Fences earlier redrives of the topic. A transaction holds at most `max_messages`.
    pub(crate) fn open(kafka: &KafkaSettings, max_messages: u64) -> anyhow::Result<Self> {
        let id = format!("ftap-redrive-{}", kafka.topic);
        let timeout = transactional::timeout(kafka, TRANSACTION_TIMEOUT);
        let [transaction, delivery] = transactional::timeout_properties(timeout);
        let batch_bytes = [&kafka.topic, &kafka.dead_letter_topic]
            .into_iter()
            .map(|topic| Ok(topic_settings(kafka, topic)?.batch_bytes()))
            .collect::<Result<Vec<_>, Failure>>()?;
        let batch_bytes = batch_bytes.into_iter().fold(usize::MAX, usize::min);
        let producer: BaseProducer<Failures> = client_config(
            kafka,
            &[
                ("transactional.id", &id),
                (transaction.0, &transaction.1),
                (delivery.0, &delivery.1),
                ("batch.size", &batch_bytes.to_string()),
                ("linger.ms", "5"),
                ("message.max.bytes", "104857600"),
                ("queue.buffering.max.kbytes", "131072"),
            ],
        )
        .create_with_context(Failures::default())
        .map_err(|error| failure("creating the producer", error))?;
        let sender = Self {
            producer,
            topic: kafka.topic.clone(),
            dead_letter_topic: kafka.dead_letter_topic.clone(),
            max_messages: max_messages.clamp(1, MAX_MESSAGES),
            open: None,
            sent: 0,
            transactions: 0,
        };
        sender
            .patiently(|| sender.producer.init_transactions(REQUEST_TIMEOUT))
            .with_context(|| {
                format!(
                    "starting transactions as {id} at {}: check KAFKA_BROKER and that the broker runs",
                    kafka.bootstrap_servers
                )
            })?;
        Ok(sender)
    }

    /// Sends one message in an entry's place; committed at the latest by [`close`](Self::close).
    pub(crate) fn send(&mut self, entry: &Entry, message: &Original<'_>) -> anyhow::Result<()> {
        let sent = self.try_send(entry, message);
        sent.or_else(|error| self.abort(error))
    }

    /// Commits what is open.
    pub(crate) fn close(&mut self) -> anyhow::Result<()> {
        let closed = self.commit();
        closed.or_else(|error| self.abort(error))
    }

    fn try_send(&mut self, entry: &Entry, original: &Original<'_>) -> anyhow::Result<()> {
        if self.open.is_none() {
            self.producer
                .begin_transaction()
                .map_err(|error| self.failure("beginning a transaction", error))?;
            self.open = Some(Open {
                since: Instant::now(),
                messages: 0,
                bytes: 0,
            });
        }
        let id = entry.id.to_string();
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        // One time for both: `verify` tells by it what retention may have taken.
        let now_ms = now.map_or(0, |now| now.as_millis() as i64);
        let header = |key: &str, value: &str| {
            OwnedHeaders::new_with_capacity(1).insert(Header {
                key,
                value: Some(value.as_bytes()),
            })
        };
        let mut message = BaseRecord::<[u8], [u8]>::to(&self.topic)
            .partition(entry.id.partition)
            .timestamp(now_ms)
            .headers(kept(header(REDRIVE_HEADER, &id), &original.headers));
        message.key = original.key;
        message.payload = original.payload;
        self.queue(message)?;
        failpoint::hit("redrive.send")?;
        if let Place::Topic { partition, .. } = entry.place {
            // Empty, not null: a null would make compaction forget the mark.
            let mark = BaseRecord::<[u8], [u8]>::to(&self.dead_letter_topic)
                .partition(partition)
                .timestamp(now_ms)
                .key(id.as_bytes())
                .payload(&[])
                .headers(header(REDRIVEN_HEADER, "true"));
            self.queue(mark)?;
        }
        let is_full = self.open.as_mut().is_some_and(|open| {
            open.messages += 1;
            open.bytes += original.payload.map_or(0, <[u8]>::len);
            open.messages >= self.max_messages || open.bytes >= MAX_BYTES
        });
        if is_full { self.commit() } else { Ok(()) }
    }

    fn queue(&self, mut record: BaseRecord<'_, [u8], [u8]>) -> anyhow::Result<()> {
        let began = Instant::now();
        loop {
            match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back))
                    if began.elapsed() < PATIENCE =>
                {
                    self.producer.poll(Duration::from_millis(5));
                    record = back;
                }
                Err((error, record)) => {
                    let bytes = record.payload.map_or(0, <[u8]>::len);
                    let refused = not_delivered(record.topic, bytes, &error);
                    // After one that was not delivered, the transaction takes no others.
                    self.producer.poll(Duration::ZERO);
                    let first = self.producer.context().0.lock().take();
                    let what = first.unwrap_or(refused);
                    return Err(self.fenced().unwrap_or_else(|| anyhow!(what)));
                }
            }
        }
    }

    fn commit(&mut self) -> anyhow::Result<()> {
        let Some(open) = &self.open else {
            return Ok(());
        };
        // Each delivery ends in one way or the other; a failed one must not be committed over.
        while self.producer.in_flight_count() > 0 && self.producer.client().fatal_error().is_none()
        {
            self.producer.poll(Duration::from_millis(10));
        }
        let failure = &self.producer.context().0;
        let failure = failure.lock().take();
        if let Some(failure) = failure {
            return Err(self.fenced().unwrap_or_else(|| anyhow!(failure)));
        }
        failpoint::hit("redrive.commit")?;
        self.patiently(|| self.producer.commit_transaction(REQUEST_TIMEOUT))
            .context("committing a transaction")?;
        failpoint::hit("redrive.committed")?;
        self.sent += open.messages;
        self.transactions += 1;
        EntriesRedriven {
            messages: open.messages,
            duration_ms: open.since.elapsed().as_millis() as u64,
        }
        .emit(Speaker::PROCESS);
        self.open = None;
        Ok(())
    }

    /// Lets the topic's readers continue at once; without it they wait for the timeout.
    fn abort(&mut self, error: anyhow::Error) -> anyhow::Result<()> {
        if self.open.take().is_some() && self.producer.client().fatal_error().is_none() {
            // The first error is the one to tell; the next redrive aborts it, too.
            let _ = self.producer.abort_transaction(ABORT_TIMEOUT);
        }
        Err(error)
    }

    /// Repeats a transactional call while librdkafka says that this helps.
    fn patiently(&self, call: impl Fn() -> Result<(), KafkaError>) -> anyhow::Result<()> {
        let sleep = |length| {
            self.producer.poll(length);
            true
        };
        transactional::repeat(PATIENCE, call, sleep).map_err(|error| self.failure("Kafka", error))
    }

    fn failure(&self, what: &str, error: KafkaError) -> anyhow::Error {
        let is_fenced = error.rdkafka_error_code().is_some_and(is_fencing);
        match (is_fenced, self.fenced()) {
            (_, Some(fenced)) => fenced,
            (true, None) => self.fencing(),
            (false, None) => anyhow::Error::new(failure(what, error)),
        }
    }

    fn fenced(&self) -> Option<anyhow::Error> {
        let (code, _) = self.producer.client().fatal_error()?;
        is_fencing(code).then(|| self.fencing())
    }

    fn fencing(&self) -> anyhow::Error {
        anyhow!(
            "another `ftap dlq redrive` of topic {} took the place of this one: nothing is lost or doubled, run it again if entries are still open",
            self.topic
        )
    }
}

fn is_fencing(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::Fenced
            | RDKafkaErrorCode::ProducerFenced
            | RDKafkaErrorCode::InvalidProducerEpoch
    )
}
