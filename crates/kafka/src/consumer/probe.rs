//! Asks a broker for metadata and tells why it does not answer.
//!
//! librdkafka tells its callers "transport failure" or "timed out" for a wrong password, an
//! untrusted certificate and a broker that is down alike. What it found out goes to its error
//! callback, and why a certificate was refused only to the callback that verifies it. This client
//! listens to both, and verifies nothing less than the others do.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::sync::Arc;
use std::time::Duration;

use ftap_supervision::Failure;
use parking_lot::Mutex;
use rdkafka::bindings as sys;
use rdkafka::types::{RDKafkaErrorCode, RDKafkaRespErr as Code};

use super::callbacks::on_log;
use super::native::set_property;
use crate::{KafkaFailure, KafkaSettings, common_properties};

/// What a broker that does not answer is known to have said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Heard {
    /// The newest error of a connection: its code and librdkafka's text.
    pub error: Option<(RDKafkaErrorCode, String)>,
    /// Why its certificate was refused, as OpenSSL numbers it (X509_V_ERR_*).
    pub certificate_error: Option<i32>,
}

type Shared = Arc<Mutex<Heard>>;

/// A client that only asks.
pub(crate) struct Probe {
    rk: *mut sys::rd_kafka_t,
    topic: *mut sys::rd_kafka_topic_t,
    heard: Shared,
}

impl Drop for Probe {
    fn drop(&mut self) {
        // SAFETY: both are owned; no callback runs any more when the client is destroyed, and
        // `heard` lives until then.
        unsafe {
            sys::rd_kafka_topic_destroy(self.topic);
            sys::rd_kafka_destroy(self.rk);
        }
    }
}

impl Probe {
    /// Makes the client; nothing is asked yet. Certificate and key files are read here.
    pub(crate) fn open(settings: &KafkaSettings) -> Result<Self, Failure> {
        let refused = |text: String| Failure::new(KafkaFailure::Property, text);
        let name = CString::new(settings.topic.as_str()).map_err(|_zero_byte| {
            refused(format!("topic {:?} contains a zero byte", settings.topic))
        })?;
        let heard = Shared::default();
        // SAFETY: `conf` is owned until `rd_kafka_new` takes it; the opaque pointer stays valid
        // because the probe keeps the Arc until after `rd_kafka_destroy`.
        unsafe {
            let conf = sys::rd_kafka_conf_new();
            let properties = common_properties(settings)
                .into_iter()
                .chain(settings.extra.iter().cloned());
            for (key, value) in properties {
                if let Err(text) = set_property(conf, &key, &value) {
                    sys::rd_kafka_conf_destroy(conf);
                    return Err(refused(text));
                }
            }
            sys::rd_kafka_conf_set_opaque(conf, Arc::as_ptr(&heard).cast_mut().cast());
            sys::rd_kafka_conf_set_error_cb(conf, Some(on_error));
            sys::rd_kafka_conf_set_log_cb(conf, Some(on_log));
            if verifies_certificates(settings) {
                sys::rd_kafka_conf_set_ssl_cert_verify_cb(conf, Some(on_certificate));
            }
            let mut text = [0 as c_char; 512];
            let kind = sys::rd_kafka_type_t::RD_KAFKA_PRODUCER;
            let rk = sys::rd_kafka_new(kind, conf, text.as_mut_ptr(), text.len());
            if rk.is_null() {
                sys::rd_kafka_conf_destroy(conf);
                let text = CStr::from_ptr(text.as_ptr()).to_string_lossy();
                return Err(refused(format!("creating a Kafka client: {text}")));
            }
            let topic = sys::rd_kafka_topic_new(rk, name.as_ptr(), std::ptr::null_mut());
            if topic.is_null() {
                sys::rd_kafka_destroy(rk);
                return Err(refused(format!(
                    "{} is not a valid topic name",
                    settings.topic
                )));
            }
            Ok(Self { rk, topic, heard })
        }
    }

    /// Waits for an answer of any kind, and returns the brokers' advertised addresses; without one it tells what was heard so far, since
    /// librdkafka tells the same only once.
    pub(crate) fn ask(
        &self,
        timeout: Duration,
    ) -> Result<Vec<(String, u16)>, (RDKafkaErrorCode, Heard)> {
        let timeout = c_int::try_from(timeout.as_millis()).unwrap_or(c_int::MAX);
        let mut metadata = std::ptr::null();
        let mut brokers = Vec::new();
        // SAFETY: all are alive; `metadata` is read and destroyed if it was given.
        let code = unsafe {
            let code = sys::rd_kafka_metadata(self.rk, 0, self.topic, &mut metadata, timeout);
            if let Some(found) = metadata.as_ref() {
                for index in 0..usize::try_from(found.broker_cnt).unwrap_or(0) {
                    let broker = &*found.brokers.add(index);
                    let host = CStr::from_ptr(broker.host).to_string_lossy().into_owned();
                    brokers.push((host, u16::try_from(broker.port).unwrap_or(0)));
                }
                sys::rd_kafka_metadata_destroy(metadata);
            }
            // Errors wait for the application to look.
            sys::rd_kafka_poll(self.rk, 0);
            code
        };
        if code == Code::RD_KAFKA_RESP_ERR_NO_ERROR {
            return Ok(brokers);
        }
        let heard = self.heard.lock();
        Err((RDKafkaErrorCode::from(code), heard.clone()))
    }
}

/// librdkafka would call the callback also where the user has turned verification off, and it
/// may not turn it on again.
fn verifies_certificates(settings: &KafkaSettings) -> bool {
    let said = |value: &str| matches!(value, "false" | "f" | "0" | "no" | "n");
    !settings.extra.iter().any(|(name, value)| {
        name == "enable.ssl.certificate.verification" && said(&value.to_ascii_lowercase())
    })
}

unsafe extern "C" fn on_error(
    _rk: *mut sys::rd_kafka_t,
    code: c_int,
    reason: *const c_char,
    opaque: *mut c_void,
) {
    // SAFETY: librdkafka lends the text for the call; `opaque` is the probe's, see `open`.
    let (heard, text) = unsafe {
        (
            &*opaque.cast::<Mutex<Heard>>(),
            CStr::from_ptr(reason).to_string_lossy().into_owned(),
        )
    };
    // It only sums up the others.
    if code == Code::RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN as c_int {
        return;
    }
    let code = match code {
        c if c == Code::RD_KAFKA_RESP_ERR__AUTHENTICATION as c_int => {
            RDKafkaErrorCode::Authentication
        }
        c if c == Code::RD_KAFKA_RESP_ERR__SSL as c_int => RDKafkaErrorCode::SSL,
        _ => RDKafkaErrorCode::BrokerTransportFailure,
    };
    heard.lock().error = Some((code, text));
}

/// Accepts exactly what OpenSSL accepts, and remembers why it did not.
unsafe extern "C" fn on_certificate(
    _rk: *mut sys::rd_kafka_t,
    _broker_name: *const c_char,
    _broker_id: i32,
    x509_error: *mut c_int,
    _depth: c_int,
    _certificate: *const c_char,
    _size: usize,
    _reason: *mut c_char,
    _reason_size: usize,
    opaque: *mut c_void,
) -> c_int {
    // SAFETY: librdkafka lends the number for the call; `opaque` is the probe's, see `open`.
    let (heard, error) = unsafe { (&*opaque.cast::<Mutex<Heard>>(), *x509_error) };
    if error == 0 {
        return 1;
    }
    heard.lock().certificate_error = Some(error);
    0
}
