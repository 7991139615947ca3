//! Hands messages to librdkafka many at a time: one call for a run of messages of one partition, without headers, which
//! that call does not take. rdkafka has no such call.

use std::ffi::CString;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::bindings as sys;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{
    BaseProducer, BaseRecord, DeliveryResult, NoCustomPartitioner, Producer, ProducerContext,
    PurgeConfig,
};
use rdkafka::types::RDKafkaRespErr as Code;

/// How long librdkafka is given to make room in its queue.
const ROOM_PATIENCE: Duration = Duration::from_millis(2);
/// How long it may take to learn why a transaction has failed.
const CAUSE_TIMEOUT: Duration = Duration::from_secs(30);
/// Between two looks at reports of what was not delivered.
const FLUSH_STEP: Duration = Duration::from_millis(100);

/// Whether a message was not delivered. Then the open transaction has failed: librdkafka empties its queue, and sends
/// nothing more of the transaction.
#[derive(Default)]
pub struct Reports {
    has_failure: AtomicBool,
}

impl ClientContext for Reports {}

impl ProducerContext<NoCustomPartitioner> for Reports {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if result.is_err() {
            self.has_failure.store(true, Relaxed);
        }
    }
}

/// A producer, and the topic that it fills.
pub struct TopicProducer {
    topic: *mut sys::rd_kafka_topic_t,
    /// Destroyed after the topic: see `Drop`.
    producer: BaseProducer<Reports>,
}

// SAFETY: librdkafka's handles may be used from any thread.
unsafe impl Send for TopicProducer {}

impl TopicProducer {
    /// Of a topic of this name.
    ///
    /// # Errors
    /// If librdkafka does not take the name.
    pub fn new(producer: BaseProducer<Reports>, topic: &str) -> Result<Self, KafkaError> {
        let name = CString::new(topic)?;
        // SAFETY: the client lives as long as `producer`; the name is copied; no settings are given.
        let topic = unsafe {
            sys::rd_kafka_topic_new(
                producer.client().native_ptr(),
                name.as_ptr(),
                std::ptr::null_mut(),
            )
        };
        if topic.is_null() {
            return Err(KafkaError::MessageProduction(
                RDKafkaErrorCode::InvalidTopic,
            ));
        }
        Ok(Self { topic, producer })
    }

    /// For everything else.
    pub fn producer(&self) -> &BaseProducer<Reports> {
        &self.producer
    }

    /// Commits the open transaction.
    ///
    /// # Errors
    /// Those of rdkafka's call, which would first wait for the delivery of all messages in steps of 100 ms: reports of
    /// what was delivered, which end such a step, are turned off.
    pub fn commit_transaction(&self, timeout: Duration) -> Result<(), KafkaError> {
        let deadline = Instant::now() + timeout;
        let client = self.producer.client().native_ptr();
        let step = FLUSH_STEP.min(timeout);
        loop {
            // SAFETY: the client lives as long as `self`. The call ends when no message is left.
            let code = unsafe { sys::rd_kafka_flush(client, millis(step)) };
            match RDKafkaErrorCode::from(code) {
                RDKafkaErrorCode::NoError => break,
                RDKafkaErrorCode::OperationTimedOut if Instant::now() < deadline => {}
                code => return Err(KafkaError::Flush(code)),
            }
            // Reports of what was not delivered keep their messages until they are looked at.
            self.producer.poll(Duration::ZERO);
            if self.producer.context().has_failure.load(Relaxed) {
                // What came into the queue just after it was emptied is never sent: the flush would wait for it, and
                // the commit not tell why.
                self.producer.purge(PurgeConfig::default().queue());
            }
        }
        let left = deadline.saturating_duration_since(Instant::now());
        self.producer.commit_transaction(left.max(step))
    }

    /// Copies the messages into librdkafka's queue, in their order. While that is full, `wait` is asked whether to
    /// continue; if not, the rest is left out.
    ///
    /// # Errors
    /// The first message that librdkafka refuses, by its index, and why; those before it are in the queue.
    pub fn send(
        &self,
        partition: i32,
        messages: &mut Messages<'_>,
        mut wait: impl FnMut() -> bool,
    ) -> Result<(), (usize, KafkaError)> {
        let mut sent = 0;
        while let Some(left) = messages
            .native
            .get_mut(sent..)
            .filter(|left| !left.is_empty())
        {
            let count = i32::try_from(left.len()).unwrap_or(i32::MAX);
            // SAFETY: `left` has so many messages, whose keys and payloads are borrowed as long as `messages` is; they
            // are copied.
            unsafe {
                sys::rd_kafka_produce_batch(
                    self.topic,
                    partition,
                    sys::RD_KAFKA_MSG_F_COPY,
                    left.as_mut_ptr(),
                    count,
                );
            }
            let refused = left
                .iter()
                .position(|message| message.err != Code::RD_KAFKA_RESP_ERR_NO_ERROR);
            let Some(index) = refused else {
                return Ok(());
            };
            let code = RDKafkaErrorCode::from(left[index].err);
            sent += index;
            // Then all that follow it are refused, too.
            if code != RDKafkaErrorCode::QueueFull {
                let error = KafkaError::MessageProduction(code);
                return Err((sent, self.root_cause(error)));
            }
            if !wait() {
                return Ok(());
            }
            self.producer.poll(ROOM_PATIENCE);
        }
        Ok(())
    }

    /// The same of one message with headers.
    ///
    /// # Errors
    /// Why librdkafka refuses it.
    pub fn send_with_headers(
        &self,
        mut record: BaseRecord<'_, [u8], [u8]>,
        mut wait: impl FnMut() -> bool,
    ) -> Result<(), KafkaError> {
        while let Err((error, back)) = self.producer.send(record) {
            if error.rdkafka_error_code() != Some(RDKafkaErrorCode::QueueFull) {
                return Err(self.root_cause(error));
            }
            if !wait() {
                return Ok(());
            }
            self.producer.poll(ROOM_PATIENCE);
            record = back;
        }
        Ok(())
    }

    /// Once a message is not delivered, the open transaction takes no others, and only a commit returns the reason.
    fn root_cause(&self, refused: KafkaError) -> KafkaError {
        if refused.rdkafka_error_code() != Some(RDKafkaErrorCode::State) {
            return refused;
        }
        let committed = self.commit_transaction(CAUSE_TIMEOUT);
        committed.err().unwrap_or(refused)
    }
}

impl Drop for TopicProducer {
    fn drop(&mut self) {
        // SAFETY: made by `new`, destroyed once, before its client.
        unsafe { sys::rd_kafka_topic_destroy(self.topic) }
    }
}

/// Messages of one partition, in order.
#[derive(Default)]
pub struct Messages<'a> {
    native: Vec<sys::rd_kafka_message_t>,
    borrowed: PhantomData<&'a [u8]>,
}

impl Messages<'_> {
    /// Size of a message's key and payload.
    pub fn bytes(&self, index: usize) -> usize {
        self.native
            .get(index)
            .map_or(0, |message| message.key_len + message.len)
    }
}

/// Of keys and payloads.
impl<'a> Extend<(&'a [u8], &'a [u8])> for Messages<'a> {
    fn extend<I: IntoIterator<Item = (&'a [u8], &'a [u8])>>(&mut self, messages: I) {
        let native = messages
            .into_iter()
            .map(|(key, payload)| sys::rd_kafka_message_t {
                err: Code::RD_KAFKA_RESP_ERR_NO_ERROR,
                rkt: std::ptr::null_mut(),
                partition: 0,
                // librdkafka only reads them.
                payload: payload.as_ptr().cast_mut().cast(),
                len: payload.len(),
                key: key.as_ptr().cast_mut().cast(),
                key_len: key.len(),
                offset: 0,
                _private: std::ptr::null_mut(),
            });
        self.native.extend(native);
    }
}

fn millis(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}
