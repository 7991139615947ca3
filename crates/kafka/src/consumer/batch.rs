//! Messages as librdkafka holds them, owned by a batch.
//!
//! Promises that no message outlives its batch, and no batch its client.

use std::ffi::{CStr, c_void};
use std::sync::Arc;

use rdkafka::bindings as sys;
use rdkafka::types::RDKafkaRespErr as Code;

use super::Client;

/// Messages of one partition, in offset order, payloads still in librdkafka's memory.
pub struct Batch {
    pub(super) messages: Vec<*mut sys::rd_kafka_message_t>,
    pub(super) bytes: u64,
    // Destroyed after the messages: see `Drop`.
    pub(super) _client: Arc<Client>,
}

// SAFETY: each message is owned by the batch alone; destroying it on another
// thread is allowed.
unsafe impl Send for Batch {}

/// One message of a batch.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// Offset in its partition.
    pub offset: i64,
    /// Kafka timestamp in milliseconds; -1 when the message has none.
    pub timestamp_ms: i64,
    /// Key, if it has one.
    pub key: Option<&'a [u8]>,
    /// Payload, if it has one.
    pub payload: Option<&'a [u8]>,
    message: &'a sys::rd_kafka_message_t,
}

/// Name and value, if it has one.
pub type RecordHeader = (String, Option<Vec<u8>>);

impl Record<'_> {
    /// Its headers, in order.
    pub fn headers(&self) -> Vec<RecordHeader> {
        let mut list = std::ptr::null_mut();
        let mut found = Vec::new();
        // SAFETY: the message lives as long as the record. librdkafka keeps the list, and what it
        // points to, as long as the message.
        unsafe {
            if sys::rd_kafka_message_headers(self.message, &raw mut list)
                != Code::RD_KAFKA_RESP_ERR_NO_ERROR
            {
                return found;
            }
            let (mut name, mut value, mut length) = (std::ptr::null(), std::ptr::null(), 0);
            while sys::rd_kafka_header_get_all(
                list,
                found.len(),
                &raw mut name,
                &raw mut value,
                &raw mut length,
            ) == Code::RD_KAFKA_RESP_ERR_NO_ERROR
            {
                let name = CStr::from_ptr(name).to_string_lossy().into_owned();
                found.push((name, bytes_of(value, length).map(<[u8]>::to_vec)));
            }
        }
        found
    }
}

impl Batch {
    /// Number of messages; at least one.
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    /// Never true for a batch that was handed out.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Memory of the messages: payloads, keys and librdkafka's own overhead, estimated.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The messages in order.
    pub fn records(&self) -> impl Iterator<Item = Record<'_>> {
        self.messages.iter().map(|message| {
            // SAFETY: the batch owns the message until it is dropped, and the
            // record borrows the batch.
            unsafe { record(*message) }
        })
    }

    pub fn first_offset(&self) -> Option<i64> {
        self.records().next().map(|record| record.offset)
    }

    pub fn last_offset(&self) -> Option<i64> {
        // SAFETY: owned by the batch.
        self.messages
            .last()
            .map(|message| unsafe { (**message).offset })
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        for message in &self.messages {
            // SAFETY: owned, destroyed once.
            unsafe { sys::rd_kafka_message_destroy(*message) };
        }
    }
}

/// SAFETY: `message` points to a live message that outlives `'a`.
unsafe fn record<'a>(message: *const sys::rd_kafka_message_t) -> Record<'a> {
    // SAFETY: by contract.
    unsafe {
        let mut kind = sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        let timestamp_ms = sys::rd_kafka_message_timestamp(message, &mut kind);
        let message = &*message;
        Record {
            offset: message.offset,
            timestamp_ms,
            key: bytes_of(message.key, message.key_len),
            payload: bytes_of(message.payload, message.len),
            message,
        }
    }
}

/// SAFETY: `data` is null or points to `len` bytes that outlive `'a`.
pub(super) unsafe fn bytes_of<'a>(data: *const c_void, len: usize) -> Option<&'a [u8]> {
    // SAFETY: by contract.
    (!data.is_null()).then(|| unsafe { std::slice::from_raw_parts(data.cast(), len) })
}
