//! Keeps what can't become a row: raw bytes to the topic `{topic}.dlq`.
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
use ftap_kafka::admin::{TopicUse, ensure_topic};
use ftap_kafka::{KafkaSettings, client_config, failure};
use ftap_supervision::{Failure, Handed, Permit, Stage, Work, failpoint};
use parking_lot::Mutex;
use rdkafka::client::ClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, ProducerContext};
use tokio::sync::oneshot;

use crate::messages::{DeadLetter, Reject};

/// Bytes kept of a payload that the broker refuses as too large.
const TRUNCATED_BYTES: usize = 512 * 1024;

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

/// Records of one [`Reject`] that the broker has not confirmed.
struct Outstanding {
    records: AtomicUsize,
    done: Mutex<Option<oneshot::Sender<()>>>,
    stage: Stage,
    _permit: Permit,
    _work: Work,
}

impl Outstanding {
    fn confirm(&self) {
        if self.records.fetch_sub(1, SeqCst) == 1 {
            let done = self.done.lock().take();
            // There is no listener when the partition was taken away meanwhile.
            let _ = done.map(|done| done.send(()));
        }
    }
}

struct Deliveries;

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = Arc<Outstanding>;

    fn delivery(&self, result: &DeliveryResult<'_>, outstanding: Self::DeliveryOpaque) {
        match result {
            Ok(_) => outstanding.confirm(),
            Err((error, _)) => {
                outstanding
                    .stage
                    .fail(failure("writing to the dead-letter topic", error.clone()));
            }
        }
    }
}

fn run(
    stage: &Stage,
    kafka: &KafkaSettings,
    queue: &Receiver<Handed<Reject>>,
) -> Result<(), Failure> {
    let topic = kafka.dead_letter_topic();
    let mut producer = None;
    loop {
        if stage.is_fenced() {
            return Ok(());
        }
        match queue.recv_timeout(Duration::from_millis(10)) {
            Ok(reject) => {
                failpoint::hit("dead_letters")?;
                let producer = match &producer {
                    Some(producer) => producer,
                    none => {
                        debug_assert!(none.is_none());
                        producer.insert(open(stage, kafka, &topic)?)
                    }
                };
                send_all(stage, producer, kafka, &topic, reject)?;
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        }
        if let Some(producer) = &producer {
            producer.poll(Duration::ZERO);
        }
    }
}

fn open(
    stage: &Stage,
    kafka: &KafkaSettings,
    topic: &str,
) -> Result<BaseProducer<Deliveries>, Failure> {
    let _waiting = stage.progress().waiting();
    ensure_topic(kafka, topic, kafka.partitions, TopicUse::DeadLetter, stage)?;
    client_config(
        kafka,
        &[
            ("enable.idempotence", "true"),
            ("linger.ms", "5"),
            ("message.max.bytes", "104857600"),
            ("queue.buffering.max.kbytes", "131072"),
        ],
    )
    .create_with_context(Deliveries)
    .map_err(|error| failure("creating the dead-letter producer", error))
}

fn send_all(
    stage: &Stage,
    producer: &BaseProducer<Deliveries>,
    kafka: &KafkaSettings,
    topic: &str,
    Handed {
        message: reject,
        work,
    }: Handed<Reject>,
) -> Result<(), Failure> {
    let outstanding = Arc::new(Outstanding {
        records: AtomicUsize::new(reject.records.len()),
        done: Mutex::new(Some(reject.done)),
        stage: stage.clone(),
        _permit: reject.permit,
        _work: work,
    });
    reject
        .records
        .iter()
        .try_for_each(|letter| send(stage, producer, kafka, topic, letter, &outstanding))
}

fn send(
    stage: &Stage,
    producer: &BaseProducer<Deliveries>,
    kafka: &KafkaSettings,
    topic: &str,
    letter: &DeadLetter,
    outstanding: &Arc<Outstanding>,
) -> Result<(), Failure> {
    let key = format!("{}-{}", letter.partition, letter.offset);
    let texts = [
        ("topic", kafka.topic.clone()),
        ("partition", letter.partition.to_string()),
        ("offset", letter.offset.to_string()),
        ("timestamp_ms", letter.timestamp_ms.to_string()),
        ("reason", letter.reason.clone()),
    ];
    let headers = |is_truncated: bool| {
        let mut headers = OwnedHeaders::new_with_capacity(texts.len() + 2);
        for (name, value) in &texts {
            headers = headers.insert(Header {
                key: name,
                value: Some(value.as_bytes()),
            });
        }
        if let Some(key) = &letter.key {
            headers = headers.insert(Header {
                key: "key",
                value: Some(key),
            });
        }
        if is_truncated {
            headers = headers.insert(Header {
                key: "truncated",
                value: Some(b"true"),
            });
        }
        headers
    };
    let mut payload = letter.payload.as_deref();
    let mut is_truncated = false;
    let _waiting = stage.progress().waiting();
    loop {
        let mut record = BaseRecord::with_opaque_to(topic, outstanding.clone())
            .key(&key)
            .headers(headers(is_truncated));
        record.payload = payload;
        match producer.send(record) {
            Ok(()) => return Ok(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {
                if stage.is_fenced() {
                    return Ok(());
                }
                producer.poll(Duration::from_millis(5));
            }
            // The whole record stays readable in its own topic as long as that keeps it.
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::MessageSizeTooLarge), _))
                if !is_truncated =>
            {
                is_truncated = true;
                payload = payload.map(|bytes| &bytes[..bytes.len().min(TRUNCATED_BYTES)]);
            }
            Err((error, _)) => return Err(failure("writing to the dead-letter topic", error)),
        }
    }
}
