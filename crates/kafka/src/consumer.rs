//! A group consumer that takes whole batches from librdkafka.
//!
//! `rd_kafka_consume_batch_queue` costs half of what polling message by message
//! does, and its messages can be handed to other threads without copying the
//! payload. Rebalances are collected as [`Signal`]s and answered by the caller,
//! who may look into the lake first; librdkafka waits for that answer.
//!
//! All unsafe code of the crate is in this module.

mod batch;
mod callbacks;
mod list;
mod native;
pub mod probe;
mod statistics;

use std::collections::BTreeSet;
use std::ffi::{CStr, CString, c_char, c_int};
use std::ptr;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Weak};
use std::time::Duration;

use batch::bytes_of;
pub use batch::{Batch, Record, RecordHeader};
use callbacks::{Callbacks, on_commit, on_error, on_log, on_rebalance, on_statistics};
use ftap_supervision::Failure;
use list::{PartitionList, without_offsets};
use native::{check, check_error, set_property};
use rdkafka::bindings as sys;
use rdkafka::types::RDKafkaRespErr as Code;
pub use statistics::Fetched;

use super::common_properties;
use crate::{KafkaFailure, KafkaSettings};

/// What the group or a partition reported to the consumer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Partitions must be assigned: answer with [`GroupConsumer::assign`].
    Assign(Vec<i32>),
    /// Partitions are taken away: answer with [`GroupConsumer::unassign`].
    Revoke {
        partitions: Vec<i32>,
        /// The group has given them away already.
        lost: bool,
    },
    /// The group has taken these offsets. One that it refuses, as it does during a rebalance,
    /// is not heard of again.
    Committed(Vec<(i32, i64)>),
    /// The offset asked for is no longer, or not yet, in the log.
    OutOfRange { partition: i32 },
    /// How far the partitions were fetched, once a second.
    Fetched(Vec<Fetched>),
    /// The broker sent something at `offset` that is not a record batch, or is a damaged one.
    Unreadable {
        partition: i32,
        offset: i64,
        text: String,
    },
    /// Something failed that librdkafka does not fix by itself.
    Error { code: Code, text: String },
}

/// The client, destroyed when the consumer and every batch taken from it are gone.
struct Client {
    rk: *mut sys::rd_kafka_t,
    queue: *mut sys::rd_kafka_queue_t,
    callbacks: Arc<Callbacks>,
}

// SAFETY: librdkafka's handles may be used from any thread.
unsafe impl Send for Client {}
// SAFETY: as above; all shared state on our side is behind a mutex or atomic.
unsafe impl Sync for Client {}

impl Drop for Client {
    fn drop(&mut self) {
        struct Handles(
            *mut sys::rd_kafka_t,
            *mut sys::rd_kafka_queue_t,
            Arc<Callbacks>,
        );
        // SAFETY: moved to one thread, used there alone.
        unsafe impl Send for Handles {}
        let handles = Handles(self.rk, self.queue, self.callbacks.clone());
        // Destroying blocks until librdkafka's threads are gone; dropping
        // the last batch must not wait for that.
        let destroy = move || {
            let Handles(rk, queue, callbacks) = { handles };
            // SAFETY: last owner of both; no message of this client is left, each
            // batch holds the client. The queue goes before the client.
            unsafe {
                sys::rd_kafka_queue_destroy(queue);
                sys::rd_kafka_destroy_flags(rk, sys::RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE as c_int);
            }
            drop(callbacks);
        };
        // No thread available: leak, the process is about to end anyway.
        let _ = std::thread::Builder::new()
            .name("kafka-destroy".into())
            .spawn(destroy);
    }
}

/// A member of a consumer group on one topic.
pub struct GroupConsumer {
    client: Arc<Client>,
    topic: CString,
    buffer: Vec<*mut sys::rd_kafka_message_t>,
    /// Partitions with something that can't be read. librdkafka may skip it; what comes after it is
    /// dropped until a seek, or the rows in it would be missing.
    unreadable: BTreeSet<i32>,
}

// SAFETY: `buffer` is only filled within `poll` and empty between calls.
unsafe impl Send for GroupConsumer {}

const BATCH_MESSAGES: usize = 4096;
/// `RD_KAFKA_PARTITION_UA`: a subscription names no partition.
const UNASSIGNED_PARTITION: i32 = -1;
/// Errors of one partition's records: the others are not concerned.
const UNREADABLE: [Code; 6] = [
    Code::RD_KAFKA_RESP_ERR__BAD_MSG,
    Code::RD_KAFKA_RESP_ERR__BAD_COMPRESSION,
    Code::RD_KAFKA_RESP_ERR__NOT_IMPLEMENTED,
    Code::RD_KAFKA_RESP_ERR__UNDERFLOW,
    Code::RD_KAFKA_RESP_ERR_INVALID_MSG,
    Code::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE,
];
/// What librdkafka keeps beside a message's bytes, roughly.
const MESSAGE_OVERHEAD_BYTES: u64 = 320;

impl GroupConsumer {
    /// Joins the group.
    pub fn subscribe(settings: &KafkaSettings) -> Result<Self, Failure> {
        let refused = |text: String| Failure::new(KafkaFailure::Property, text);
        let topic = CString::new(settings.topic.as_str()).map_err(|_zero_byte| {
            refused(format!("topic {:?} contains a zero byte", settings.topic))
        })?;
        let callbacks = Arc::new(Callbacks::default());
        let session = settings.session_timeout.as_millis().to_string();
        let heartbeat = (settings.session_timeout.as_millis() / 5)
            .clamp(100, 3000)
            .to_string();
        let own = [
            ("group.id", settings.consumer_group.as_str()),
            ("isolation.level", "read_committed"),
            ("enable.auto.commit", "false"),
            ("enable.auto.offset.store", "false"),
            // The batch API takes an end event's offset for that of a record, and would continue
            // one record too far after its next pause (rd_kafka_q_serve_rkmessages, 2.12.1).
            ("enable.partition.eof", "false"),
            ("auto.offset.reset", "error"),
            ("partition.assignment.strategy", "cooperative-sticky"),
            // How soon a partition that was added is read; the default is five minutes.
            ("topic.metadata.refresh.interval.ms", "30000"),
            ("session.timeout.ms", session.as_str()),
            ("heartbeat.interval.ms", heartbeat.as_str()),
            ("max.poll.interval.ms", "300000"),
            // The default of one second stalls a consumer that empties its queue.
            ("fetch.queue.backoff.ms", "5"),
            ("fetch.wait.max.ms", "100"),
            ("queued.min.messages", "50000"),
            ("queued.max.messages.kbytes", "16384"),
            ("fetch.message.max.bytes", "2097152"),
            // An answer must get through a slow line within the 60 s that librdkafka waits.
            ("fetch.max.bytes", "8388608"),
        ];
        // SAFETY: `conf` is owned until `rd_kafka_new` takes it; the opaque
        // pointer stays valid because `Client` keeps the Arc until after
        // `rd_kafka_destroy`.
        let client = unsafe {
            let conf = sys::rd_kafka_conf_new();
            let properties = common_properties(settings)
                .into_iter()
                .chain(
                    own.iter()
                        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned())),
                )
                .chain(settings.extra.iter().cloned())
                // Not the user's: without it there is no lag.
                .chain([("statistics.interval.ms".to_owned(), "1000".to_owned())]);
            for (key, value) in properties {
                if let Err(text) = set_property(conf, &key, &value) {
                    sys::rd_kafka_conf_destroy(conf);
                    return Err(refused(text));
                }
            }
            sys::rd_kafka_conf_set_opaque(conf, Arc::as_ptr(&callbacks).cast_mut().cast());
            sys::rd_kafka_conf_set_rebalance_cb(conf, Some(on_rebalance));
            sys::rd_kafka_conf_set_offset_commit_cb(conf, Some(on_commit));
            sys::rd_kafka_conf_set_error_cb(conf, Some(on_error));
            sys::rd_kafka_conf_set_log_cb(conf, Some(on_log));
            sys::rd_kafka_conf_set_stats_cb(conf, Some(on_statistics));
            let mut text = [0 as c_char; 512];
            let rk = sys::rd_kafka_new(
                sys::rd_kafka_type_t::RD_KAFKA_CONSUMER,
                conf,
                text.as_mut_ptr(),
                text.len(),
            );
            if rk.is_null() {
                sys::rd_kafka_conf_destroy(conf);
                return Err(refused(format!(
                    "creating a Kafka consumer: {}",
                    CStr::from_ptr(text.as_ptr()).to_string_lossy()
                )));
            }
            // One queue for messages, rebalances and errors.
            sys::rd_kafka_poll_set_consumer(rk);
            Client {
                rk,
                queue: sys::rd_kafka_queue_get_consumer(rk),
                callbacks,
            }
        };
        let consumer = Self {
            client: Arc::new(client),
            topic,
            buffer: vec![ptr::null_mut(); BATCH_MESSAGES],
            unreadable: BTreeSet::new(),
        };
        let list = consumer.list(&[(UNASSIGNED_PARTITION, 0)]);
        // SAFETY: both are alive.
        let code = unsafe { sys::rd_kafka_subscribe(consumer.client.rk, list.0) };
        check("subscribing", code)?;
        Ok(consumer)
    }

    /// Takes what has come within `timeout`: batches by partition, then signals.
    pub fn poll(&mut self, timeout: Duration, batches: &mut Vec<(i32, Batch)>) -> Vec<Signal> {
        let timeout = c_int::try_from(timeout.as_millis()).unwrap_or(c_int::MAX);
        // SAFETY: the buffer has room for as many pointers as is said.
        let count = unsafe {
            sys::rd_kafka_consume_batch_queue(
                self.client.queue,
                timeout,
                self.buffer.as_mut_ptr(),
                self.buffer.len(),
            )
        };
        let count = usize::try_from(count).unwrap_or(0);
        batches.clear();
        for slot in 0..count {
            let message = std::mem::replace(&mut self.buffer[slot], ptr::null_mut());
            // SAFETY: librdkafka gave us this message; it lives until destroyed.
            let head = unsafe { &*message };
            let is_error = head.err != Code::RD_KAFKA_RESP_ERR_NO_ERROR;
            if is_error {
                self.signal_of(head);
            }
            if is_error || self.unreadable.contains(&head.partition) {
                // SAFETY: owned, destroyed once, `head` is not used again.
                unsafe { sys::rd_kafka_message_destroy(message) };
                continue;
            }
            let bytes = (head.len + head.key_len) as u64 + MESSAGE_OVERHEAD_BYTES;
            let partition = head.partition;
            // Few partitions: a linear look from the newest is quicker than a map.
            match batches
                .iter_mut()
                .rev()
                .find(|(number, _)| *number == partition)
            {
                Some((_, batch)) => {
                    batch.messages.push(message);
                    batch.bytes += bytes;
                }
                None => {
                    let mut messages = Vec::with_capacity(count - slot);
                    messages.push(message);
                    let batch = Batch {
                        messages,
                        bytes,
                        _client: self.client.clone(),
                    };
                    batches.push((partition, batch));
                }
            }
        }
        let mut signals = self.client.callbacks.signals.lock();
        signals.drain(..).collect()
    }

    fn signal_of(&mut self, message: &sys::rd_kafka_message_t) {
        // SAFETY: an error message's payload is its text.
        let text = unsafe { bytes_of(message.payload, message.len) };
        let text = String::from_utf8_lossy(text.unwrap_or_default()).into_owned();
        let partition = message.partition;
        let mut err = message.err;
        if err == Code::RD_KAFKA_RESP_ERR__FATAL {
            // SAFETY: the client is alive; no text is asked for.
            err = unsafe { sys::rd_kafka_fatal_error(self.client.rk, ptr::null_mut(), 0) };
        }
        let signal = match err {
            Code::RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET => Signal::OutOfRange { partition },
            code if UNREADABLE.contains(&code) && partition >= 0 => {
                self.unreadable.insert(partition);
                Signal::Unreadable {
                    partition,
                    offset: message.offset,
                    text,
                }
            }
            code => Signal::Error { code, text },
        };
        self.client.callbacks.push(signal);
    }

    /// Answers [`Signal::Assign`]: partitions and the offsets to start at.
    pub fn assign(&self, starts: &[(i32, i64)]) -> Result<(), Failure> {
        let list = self.list(starts);
        // SAFETY: both are alive.
        unsafe {
            check_error(
                "assigning",
                sys::rd_kafka_incremental_assign(self.client.rk, list.0),
            )
        }
    }

    /// Answers [`Signal::Revoke`].
    pub fn unassign(&self, partitions: &[i32]) -> Result<(), Failure> {
        let list = self.list(&without_offsets(partitions));
        // SAFETY: both are alive.
        unsafe {
            check_error(
                "unassigning",
                sys::rd_kafka_incremental_unassign(self.client.rk, list.0),
            )
        }
    }

    /// Stops fetching these partitions; the consumer stays in its group.
    pub fn pause(&self, partitions: &[i32]) -> Result<(), Failure> {
        let list = self.list(&without_offsets(partitions));
        // SAFETY: both are alive.
        check("pausing", unsafe {
            sys::rd_kafka_pause_partitions(self.client.rk, list.0)
        })
    }

    /// Fetches these partitions again.
    pub fn resume(&self, partitions: &[i32]) -> Result<(), Failure> {
        let list = self.list(&without_offsets(partitions));
        // SAFETY: both are alive.
        check("resuming", unsafe {
            sys::rd_kafka_resume_partitions(self.client.rk, list.0)
        })
    }

    /// Reads an assigned partition from another offset on.
    pub fn seek(&mut self, partition: i32, offset: i64) -> Result<(), Failure> {
        self.unreadable.remove(&partition);
        let list = self.list(&[(partition, offset)]);
        // SAFETY: both are alive.
        unsafe {
            check_error(
                "seeking",
                sys::rd_kafka_seek_partitions(self.client.rk, list.0, 10_000),
            )
        }
    }

    /// Tells the group where it is; `wait` for the answer or not.
    pub fn commit(&self, offsets: &[(i32, i64)], wait: bool) -> Result<(), Failure> {
        let list = self.list(offsets);
        // SAFETY: both are alive.
        check("committing offsets", unsafe {
            sys::rd_kafka_commit(self.client.rk, list.0, c_int::from(!wait))
        })
    }

    /// Offsets the group has committed; `None` for a partition without.
    pub fn committed(
        &self,
        partitions: &[i32],
        timeout: Duration,
    ) -> Result<Vec<(i32, Option<i64>)>, Failure> {
        let list = self.list(&without_offsets(partitions));
        let timeout = c_int::try_from(timeout.as_millis()).unwrap_or(c_int::MAX);
        // SAFETY: both are alive; the list is filled in place.
        let code = unsafe { sys::rd_kafka_committed(self.client.rk, list.0, timeout) };
        check("asking for committed offsets", code)?;
        Ok(list
            .entries()
            .into_iter()
            .map(|(partition, offset)| (partition, (offset >= 0).then_some(offset)))
            .collect())
    }

    /// Ends a poll on behalf of another thread.
    pub fn waker(&self) -> Waker {
        Waker(Arc::downgrade(&self.client))
    }

    /// Closes the consumer on behalf of a thread that can't.
    pub fn closer(&self) -> Closer {
        Closer(self.client.clone())
    }

    fn list(&self, partitions: &[(i32, i64)]) -> PartitionList {
        let capacity = c_int::try_from(partitions.len()).unwrap_or(c_int::MAX);
        // SAFETY: the list is owned by the result; `add` returns a live element.
        unsafe {
            let list = sys::rd_kafka_topic_partition_list_new(capacity);
            for (partition, offset) in partitions {
                let element =
                    sys::rd_kafka_topic_partition_list_add(list, self.topic.as_ptr(), *partition);
                (*element).offset = *offset;
            }
            PartitionList(list)
        }
    }
}

impl Drop for GroupConsumer {
    fn drop(&mut self) {
        self.client.close();
    }
}

/// Ends a poll of a consumer before its time: there is something else to do.
pub struct Waker(Weak<Client>);

impl Waker {
    /// Ends the poll that is under way, or else the next one.
    pub fn wake(&self) {
        if let Some(client) = self.0.upgrade() {
            // SAFETY: the client is alive.
            unsafe { sys::rd_kafka_queue_yield(client.queue) }
        }
    }
}

/// See [`GroupConsumer::closer`].
pub struct Closer(Arc<Client>);

impl Closer {
    /// Leaves the group. Blocks up to a few seconds; does nothing the second time.
    pub fn close(&self) {
        self.0.close();
    }
}

impl Client {
    /// Leaves the group, so that its partitions need not wait for a session timeout.
    fn close(&self) {
        if !self.callbacks.closing.swap(true, SeqCst) {
            // SAFETY: alive; batches held elsewhere keep the client from being destroyed.
            unsafe { sys::rd_kafka_consumer_close(self.rk) };
        }
    }
}
