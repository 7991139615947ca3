//! What librdkafka calls: rebalances and errors become signals, its log ours.

use std::collections::VecDeque;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;

use ftap_telemetry::events::{KafkaClientMessage, Speaker};
use parking_lot::{Mutex, MutexGuard};
use rdkafka::bindings as sys;
use rdkafka::types::RDKafkaRespErr as Code;

use super::Signal;
use super::list::{entries, taken};
use super::native::check_error;
use super::statistics;

/// What the callbacks share with the consumer.
#[derive(Default)]
pub(super) struct Callbacks {
    pub(super) signals: Mutex<VecDeque<Signal>>,
    pub(super) closing: AtomicBool,
    /// The newest refusal: authentication or TLS, no passing disconnection.
    refusal: Mutex<Option<(Code, String)>>,
}

impl Callbacks {
    pub(super) fn push(&self, signal: Signal) {
        self.signals.lock().push_back(signal);
    }

    /// [`Self::push`] from within a poll, which would otherwise wait for a message, too.
    ///
    /// SAFETY: the client must be alive.
    unsafe fn interrupt(&self, rk: *mut sys::rd_kafka_t, signal: Signal) {
        self.push(signal);
        // SAFETY: by contract; the queue is ours until it is given back.
        unsafe {
            let queue = sys::rd_kafka_queue_get_consumer(rk);
            if !queue.is_null() {
                sys::rd_kafka_queue_yield(queue);
                sys::rd_kafka_queue_destroy(queue);
            }
        }
    }

    fn refusal(&self) -> MutexGuard<'_, Option<(Code, String)>> {
        self.refusal.lock()
    }
}

pub(super) unsafe extern "C" fn on_rebalance(
    rk: *mut sys::rd_kafka_t,
    code: Code,
    list: *mut sys::rd_kafka_topic_partition_list_t,
    opaque: *mut c_void,
) {
    // SAFETY: `opaque` is the client's callbacks, alive as long as the client.
    let callbacks = unsafe { &*opaque.cast::<Callbacks>() };
    // SAFETY: librdkafka lends the list for the call.
    let partitions: Vec<i32> = unsafe { entries(list) }
        .into_iter()
        .map(|entry| entry.0)
        .collect();
    if callbacks.closing.load(SeqCst) {
        // The consumer is no longer polled: answer here, or closing would never end.
        // SAFETY: both are alive for the call.
        unsafe {
            let error = match code {
                Code::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => ptr::null_mut(),
                _ => sys::rd_kafka_incremental_unassign(rk, list),
            };
            let _ = check_error("unassigning", error);
        }
        return;
    }
    let signal = match code {
        Code::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => Signal::Assign(partitions),
        Code::RD_KAFKA_RESP_ERR__REVOKE_PARTITIONS => Signal::Revoke {
            partitions,
            // SAFETY: alive for the call.
            lost: unsafe { sys::rd_kafka_assignment_lost(rk) } != 0,
        },
        code => Signal::Error {
            code,
            text: "rebalance failed".to_owned(),
        },
    };
    // SAFETY: alive for the call.
    unsafe { callbacks.interrupt(rk, signal) }
}

pub(super) unsafe extern "C" fn on_commit(
    rk: *mut sys::rd_kafka_t,
    code: Code,
    list: *mut sys::rd_kafka_topic_partition_list_t,
    opaque: *mut c_void,
) {
    if code != Code::RD_KAFKA_RESP_ERR_NO_ERROR {
        return;
    }
    // SAFETY: `opaque` is the client's callbacks, alive as long as the client; librdkafka lends
    // the list for the call.
    let (callbacks, taken) = unsafe { (&*opaque.cast::<Callbacks>(), taken(list)) };
    // SAFETY: alive for the call.
    unsafe { callbacks.interrupt(rk, Signal::Committed(taken)) }
}

pub(super) unsafe extern "C" fn on_statistics(
    _rk: *mut sys::rd_kafka_t,
    json: *mut c_char,
    len: usize,
    opaque: *mut c_void,
) -> c_int {
    // SAFETY: `opaque` is the client's callbacks, alive as long as the client; librdkafka lends
    // the text for the call.
    let (callbacks, json) = unsafe {
        (
            &*opaque.cast::<Callbacks>(),
            std::slice::from_raw_parts(json.cast::<u8>(), len),
        )
    };
    match statistics::parse(json) {
        Ok(fetched) => callbacks.push(Signal::Fetched(fetched)),
        Err(error) => log(&format!("statistics that can't be read: {error}")),
    }
    // The text stays librdkafka's.
    0
}

pub(super) unsafe extern "C" fn on_error(
    rk: *mut sys::rd_kafka_t,
    code: c_int,
    reason: *const c_char,
    opaque: *mut c_void,
) {
    // SAFETY: librdkafka lends the text for the call; `opaque` as above.
    let (callbacks, text) = unsafe {
        (
            &*opaque.cast::<Callbacks>(),
            CStr::from_ptr(reason).to_string_lossy().into_owned(),
        )
    };
    log(&text);
    if code == Code::RD_KAFKA_RESP_ERR__FATAL as c_int {
        let mut detail = [0 as c_char; 512];
        // SAFETY: alive for the call; the buffer's length is passed.
        let code = unsafe { sys::rd_kafka_fatal_error(rk, detail.as_mut_ptr(), detail.len()) };
        callbacks.push(Signal::Error { code, text });
    } else if let Some(refused) = REFUSED.into_iter().find(|known| *known as c_int == code) {
        *callbacks.refusal() = Some((refused, text));
    } else if code == Code::RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN as c_int
        // One broker of several may be just restarting; when none is left this is why.
        && let Some((code, text)) = callbacks.refusal().take()
    {
        callbacks.push(Signal::Error { code, text });
    }
}

const REFUSED: [Code; 2] = [
    Code::RD_KAFKA_RESP_ERR__AUTHENTICATION,
    Code::RD_KAFKA_RESP_ERR__SSL,
];

pub(super) unsafe extern "C" fn on_log(
    _rk: *const sys::rd_kafka_t,
    _level: c_int,
    facility: *const c_char,
    text: *const c_char,
) {
    // SAFETY: librdkafka lends both texts for the call.
    let (facility, text) = unsafe {
        (
            CStr::from_ptr(facility).to_string_lossy(),
            CStr::from_ptr(text).to_string_lossy(),
        )
    };
    log(&format!("{facility}: {text}"));
}

fn log(detail: &str) {
    KafkaClientMessage {
        detail: detail.to_owned(),
    }
    .emit(Speaker::new("kafka_subscriber", 0));
}
