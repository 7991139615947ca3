//! librdkafka's configuration and errors.

use std::ffi::{CStr, CString, c_char};

use ftap_supervision::Failure;
use rdkafka::bindings as sys;
use rdkafka::types::RDKafkaRespErr as Code;

use crate::failure::{KafkaFailure, refused_with};

/// SAFETY: `conf` is a live configuration.
pub(super) unsafe fn set_property(
    conf: *mut sys::rd_kafka_conf_t,
    key: &str,
    value: &str,
) -> Result<(), String> {
    let (Ok(name), Ok(content)) = (CString::new(key), CString::new(value)) else {
        return Err(format!("Kafka property {key} contains a zero byte"));
    };
    let mut text = [0 as c_char; 512];
    // SAFETY: by contract; strings and buffer live through the call.
    let result = unsafe {
        sys::rd_kafka_conf_set(
            conf,
            name.as_ptr(),
            content.as_ptr(),
            text.as_mut_ptr(),
            text.len(),
        )
    };
    match result {
        sys::rd_kafka_conf_res_t::RD_KAFKA_CONF_OK => Ok(()),
        // The text may repeat the value, which may be a secret.
        sys::rd_kafka_conf_res_t::RD_KAFKA_CONF_UNKNOWN => {
            Err(format!("Kafka property {key} is not known to librdkafka"))
        }
        _ => Err(format!(
            "Kafka property {key} has a value that librdkafka refuses"
        )),
    }
}

pub(super) fn check(what: &str, code: Code) -> Result<(), Failure> {
    if code == Code::RD_KAFKA_RESP_ERR_NO_ERROR {
        return Ok(());
    }
    let code = rdkafka::types::RDKafkaErrorCode::from(code);
    Err(refused_with(what, code))
}

/// SAFETY: `error` is null or a live error, which this destroys.
pub(super) unsafe fn check_error(
    what: &str,
    error: *mut sys::rd_kafka_error_t,
) -> Result<(), Failure> {
    if error.is_null() {
        return Ok(());
    }
    // SAFETY: by contract.
    let (code, text) = unsafe {
        let code = sys::rd_kafka_error_code(error);
        let text = CStr::from_ptr(sys::rd_kafka_error_string(error))
            .to_string_lossy()
            .into_owned();
        sys::rd_kafka_error_destroy(error);
        (code, text)
    };
    let kind = KafkaFailure::from(rdkafka::types::RDKafkaErrorCode::from(code));
    Err(Failure::new(kind, format!("{what}: {text}")))
}
