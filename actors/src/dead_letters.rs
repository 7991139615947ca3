//! Keeps what can't become a row: raw bytes to the dead-letter topic.
//!
//! Promises: `done` of a [`Reject`] resolves only after the broker has all of its
//! records. A crash in between sends them again, so the topic holds each rejected
//! record at least once; its key `{partition}-{offset}` tells duplicates.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use actix::prelude::*;
use ftap_kafka::admin::{TopicUse, ensure_topic, topic_settings};
use ftap_kafka::{EntryId, KafkaFailure, KafkaSettings, ORIGINAL_HEADERS, client_config, failure};
use ftap_supervision::{Failure, Handed, Permit, Stage, Work, failpoint};
use parking_lot::Mutex;
use rdkafka::client::ClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, Message as _, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext};
use tokio::sync::oneshot;

use crate::messages::{DeadLetter, MAX_LETTER_BYTES, Reject};

/// Bytes kept of a value and of a key; the next ones when the broker refuses them as too large.
const SIZES: [usize; 5] = [usize::MAX, 512 << 10, 64 << 10, 4 << 10, 0];
/// How soon Kafka's confirmations are looked for.
const CONFIRMATION_WAIT: Duration = Duration::from_millis(10);
/// How soon the end of the generation is noticed while there is nothing to do.
const IDLE_WAIT: Duration = Duration::from_millis(250);

/// The actor: passes rejections to the thread that owns the producer.
pub struct DeadLetters {
    stage: Stage,
    jobs: Sender<Handed<Reject>>,
}

impl DeadLetters {
    /// Starts the thread; it reaches for the broker at the first rejection.
    pub fn new(stage: Stage, kafka: Arc<KafkaSettings>) -> Self {
        let (jobs, queue) = channel();
        let for_thread = stage.clone();
        stage.spawn_thread("dead-letters", move || run(&for_thread, &kafka, &queue));
        Self { stage, jobs }
    }
}

impl Actor for DeadLetters {
    type Context = Context<Self>;
}

impl Handler<Handed<Reject>> for DeadLetters {
    type Result = ();

    fn handle(&mut self, reject: Handed<Reject>, _: &mut Context<Self>) {
        if self.stage.is_fenced() {
            return;
        }
        // Bounded by the memory budget. A thread that has ended has its own fault.
        let _ = self.jobs.send(reject);
    }
}

/// Records of one [`Reject`], until the broker has confirmed them all.
struct Outstanding {
    records: Vec<DeadLetter>,
    unconfirmed: AtomicUsize,
    done: Mutex<Option<oneshot::Sender<()>>>,
    stage: Stage,
    _permit: Permit,
    _work: Work,
}

impl Outstanding {
    fn confirm(&self) {
        if self.unconfirmed.fetch_sub(1, SeqCst) == 1 {
            let done = self.done.lock().take();
            // There is no listener when the partition was taken away meanwhile.
            let _ = done.map(|done| done.send(()));
        }
    }
}

/// One of them, on its way.
struct Letter {
    of: Arc<Outstanding>,
    index: usize,
    /// How much of value and key is sent, each; an index into [`SIZES`].
    size: usize,
}

impl Letter {
    /// The next smaller one; the whole record stays readable in its own topic as long as that
    /// keeps it.
    fn smaller(mut self: Box<Self>) -> Option<Box<Self>> {
        self.size += 1;
        (self.size < SIZES.len()).then_some(self)
    }
}

fn is_too_large(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(RDKafkaErrorCode::MessageSizeTooLarge | RDKafkaErrorCode::InvalidMessageSize)
    )
}

/// Why nothing of a record is kept.
fn unwritten(topic: &str, error: KafkaError) -> Failure {
    if is_too_large(&error) {
        // Value and key were left out, headers are kept whole.
        let text = format!("the headers of a rejected record are too large for topic {topic}");
        return Failure::new(KafkaFailure::LetterTooLarge, text).caused_by(error);
    }
    failure(&format!("writing to the dead-letter topic {topic}"), error)
}

struct Deliveries {
    /// What must be sent again, smaller.
    too_large: Sender<Box<Letter>>,
}

impl ClientContext for Deliveries {
    /// None are asked for. By default a parser of all of them would be compiled here.
    fn stats_raw(&self, _: &[u8]) {}
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = Box<Letter>;

    fn delivery(&self, result: &DeliveryResult<'_>, letter: Box<Letter>) {
        let Err((error, message)) = result else {
            return letter.of.confirm();
        };
        let of = letter.of.clone();
        let again = if is_too_large(error) {
            letter.smaller()
        } else {
            None
        };
        match again {
            // The receiver is gone only if the thread has ended, which has its own fault.
            Some(letter) => drop(self.too_large.send(letter)),
            None => of.stage.fail(unwritten(message.topic(), error.clone())),
        }
    }
}

fn run(
    stage: &Stage,
    kafka: &KafkaSettings,
    queue: &Receiver<Handed<Reject>>,
) -> Result<(), Failure> {
    let topic = kafka.dead_letter_topic.clone();
    let mut producer: Option<BaseProducer<Deliveries>> = None;
    let (too_large, again) = channel();
    loop {
        if stage.is_fenced() {
            return Ok(());
        }
        let is_under_way = producer
            .as_ref()
            .is_some_and(|producer| producer.in_flight_count() > 0);
        let wait = if is_under_way {
            CONFIRMATION_WAIT
        } else {
            IDLE_WAIT
        };
        match queue.recv_timeout(wait) {
            Ok(reject) => {
                failpoint::hit("dead_letters")?;
                let producer = match &producer {
                    Some(producer) => producer,
                    none => {
                        debug_assert!(none.is_none());
                        producer.insert(open(stage, kafka, &topic, too_large.clone())?)
                    }
                };
                for letter in letters(stage, reject) {
                    send(producer, kafka, &topic, letter)?;
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        }
        if let Some(producer) = &producer {
            producer.poll(Duration::ZERO);
            for letter in again.try_iter() {
                send(producer, kafka, &topic, letter)?;
            }
        }
    }
}

fn open(
    stage: &Stage,
    kafka: &KafkaSettings,
    topic: &str,
    too_large: Sender<Box<Letter>>,
) -> Result<BaseProducer<Deliveries>, Failure> {
    let _waiting = stage.progress().waiting();
    ensure_topic(kafka, topic, kafka.partitions, TopicUse::DeadLetter, stage)?;
    let batch_bytes = topic_settings(kafka, topic)?.batch_bytes().to_string();
    client_config(
        kafka,
        &[
            ("enable.idempotence", "true"),
            // Large records are often compressed in their own topic.
            ("compression.type", "zstd"),
            ("batch.size", &batch_bytes),
            ("linger.ms", "5"),
            ("message.max.bytes", &MAX_LETTER_BYTES.to_string()),
            ("queue.buffering.max.kbytes", "131072"),
        ],
    )
    .create_with_context(Deliveries { too_large })
    .map_err(|error| failure("creating the dead-letter producer", error))
}

fn letters(
    stage: &Stage,
    Handed {
        message: reject,
        work,
    }: Handed<Reject>,
) -> impl Iterator<Item = Box<Letter>> {
    let count = reject.records.len();
    let of = Arc::new(Outstanding {
        records: reject.records,
        unconfirmed: AtomicUsize::new(count),
        done: Mutex::new(Some(reject.done)),
        stage: stage.clone(),
        _permit: reject.permit,
        _work: work,
    });
    (0..count).map(move |index| {
        Box::new(Letter {
            of: of.clone(),
            index,
            size: 0,
        })
    })
}

fn send(
    producer: &BaseProducer<Deliveries>,
    kafka: &KafkaSettings,
    topic: &str,
    mut letter: Box<Letter>,
) -> Result<(), Failure> {
    let of = letter.of.clone();
    let record = &of.records[letter.index];
    let _waiting = of.stage.progress().waiting();
    loop {
        let size = SIZES[letter.size];
        let start = |bytes: &Vec<u8>| bytes.len().min(size);
        let key = record.key.as_ref().map(|key| &key[..start(key)]);
        let payload = record.payload.as_ref().map(|value| &value[..start(value)]);
        let is_truncated =
            record.is_cut || key != record.key.as_deref() || payload != record.payload.as_deref();
        let id = EntryId {
            partition: record.partition,
            offset: record.offset,
        }
        .to_string();
        let headers = headers(kafka, record, key, is_truncated);
        let mut message = BaseRecord::with_opaque_to(topic, letter)
            .key(&id)
            .headers(headers);
        message.payload = payload;
        let Err((error, message)) = producer.send(message) else {
            return Ok(());
        };
        letter = message.delivery_opaque;
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull) {
            if of.stage.is_fenced() {
                return Ok(());
            }
            producer.poll(Duration::from_millis(5));
        } else {
            let smaller = if is_too_large(&error) {
                letter.smaller()
            } else {
                None
            };
            letter = smaller.ok_or_else(|| unwritten(topic, error))?;
        }
    }
}

/// Ours come first, so that no header of the record's own passes for one of them.
fn headers(
    kafka: &KafkaSettings,
    record: &DeadLetter,
    key: Option<&[u8]>,
    is_truncated: bool,
) -> OwnedHeaders {
    let texts = [
        ("topic", kafka.topic.clone()),
        ("partition", record.partition.to_string()),
        ("offset", record.offset.to_string()),
        ("timestamp_ms", record.timestamp_ms.to_string()),
        ("reason", record.reason.clone()),
        (ORIGINAL_HEADERS, record.headers.len().to_string()),
    ];
    let texts = texts
        .iter()
        .map(|(name, value)| (*name, Some(value.as_bytes())));
    let key = key.map(|key| ("key", Some(key)));
    let truncated = is_truncated.then_some(("truncated", Some(b"true".as_slice())));
    let own = record.headers.iter();
    let own = own.map(|(name, value)| (name.as_str(), value.as_deref()));
    let all = texts.chain(key).chain(truncated).chain(own);
    all.fold(OwnedHeaders::new(), |headers, (key, value)| {
        headers.insert(Header { key, value })
    })
}
