//! Messages that can't become rows, written into the topic by a client that is not ours.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use anyhow::{Context, bail};
use rand::{Rng, RngCore};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use rdkafka::client::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};

use crate::kafka::{PARTITIONS, Subject};

const FLUSH_LIMIT: Duration = Duration::from_secs(60);
/// A message that a row could be made from.
const GOOD: &str = r#"{"trans_date_trans_time":"2019-01-01 00:00:18","user_id":"8d4aeae7-3c2f-5b0b-b6f4-8d4a3f1f7b5e","merchant":"fraud_Kilback LLC","category":"misc_pos","trans_num":"POISON","unix_time":1325376018,"is_fraud":0,"original_amt":4.25,"currency":"EUR"}"#;

#[derive(Default)]
struct Delivered {
    acknowledged: Arc<AtomicU64>,
    failed: Arc<AtomicU64>,
}

impl ClientContext for Delivered {}

impl ProducerContext for Delivered {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        match result {
            Ok(_) => self.acknowledged.fetch_add(1, SeqCst),
            Err(_) => self.failed.fetch_add(1, SeqCst),
        };
    }
}

/// See the module.
pub(crate) struct Poison {
    producer: BaseProducer<Delivered>,
    topic: String,
    acknowledged: Arc<AtomicU64>,
    failed: Arc<AtomicU64>,
    sent: u64,
}

/// What happened to the messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub(crate) struct PoisonCount {
    /// The broker has them.
    pub acknowledged: u64,
    /// The broker may have them.
    pub failed: u64,
}

impl Poison {
    /// Connects when the first message is sent.
    pub(crate) fn new(subject: &Subject) -> anyhow::Result<Self> {
        let context = Delivered::default();
        let (acknowledged, failed) = (context.acknowledged.clone(), context.failed.clone());
        let producer = ClientConfig::new()
            .set("bootstrap.servers", &subject.bootstrap)
            .set("enable.idempotence", "true")
            .set("message.max.bytes", "5000000")
            .set("reconnect.backoff.max.ms", "500")
            .create_with_context(context)
            .context("no Kafka client")?;
        Ok(Self {
            producer,
            topic: subject.topic.clone(),
            acknowledged,
            failed,
            sent: 0,
        })
    }

    /// Sends so many; they arrive when the broker is there.
    pub(crate) fn send(&mut self, messages: u32, seed: u64) -> anyhow::Result<()> {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        for _ in 0..messages {
            let partition = random.random_range(0..PARTITIONS);
            let payload = payload(&mut random);
            let mut record = BaseRecord::<(), [u8]>::to(&self.topic).partition(partition);
            record.payload = payload.as_deref();
            if let Err((error, _)) = self.producer.send(record) {
                return Err(error).context("sending poison");
            }
            self.sent += 1;
        }
        self.poll();
        Ok(())
    }

    /// Takes delivery reports.
    pub(crate) fn poll(&self) {
        self.producer.poll(Duration::ZERO);
    }

    /// Waits until each message has arrived or failed.
    pub(crate) fn finish(&self) -> anyhow::Result<PoisonCount> {
        let flushed = self.producer.flush(FLUSH_LIMIT);
        flushed.context("the last poison does not arrive")?;
        let count = PoisonCount {
            acknowledged: self.acknowledged.load(SeqCst),
            failed: self.failed.load(SeqCst),
        };
        if count.acknowledged + count.failed != self.sent {
            bail!("{} poison messages sent, reports: {count:?}", self.sent);
        }
        Ok(count)
    }
}

fn payload(random: &mut ChaCha8Rng) -> Option<Vec<u8>> {
    let text = |text: &str| Some(text.as_bytes().to_vec());
    match random.random_range(0..12) {
        0 => None,
        1 => Some(Vec::new()),
        2 => text("not JSON"),
        3 => text("{}"),
        4 => text("[1, 2, 3]"),
        5 => text(&GOOD.replace(r#""category":"misc_pos","#, "")),
        6 => text(&GOOD.replace("4.25", r#""4.25""#)),
        7 => text(&GOOD.replace("1325376018", "null")),
        8 => text(&GOOD[..random.random_range(1..GOOD.len())]),
        9 => Some(garbage(random, 300_000)),
        10 => Some(garbage(random, 40)),
        // Beyond MAX_MESSAGE_BYTES, and a row but for that.
        _ => text(&GOOD.replace("POISON", &"x".repeat(1_100_000))),
    }
}

fn garbage(random: &mut ChaCha8Rng, bytes: usize) -> Vec<u8> {
    let mut garbage = vec![0; bytes];
    random.fill_bytes(&mut garbage);
    garbage
}
