//! Admin requests of which the binding hands on too little: the broker's own words about a topic that
//! it does not create, and what the account may do with one that is there.

use std::ffi::{CStr, CString, c_char, c_int};
use std::ptr;
use std::time::Duration;

use ftap_supervision::Failure;
use rdkafka::admin::AdminClient;
use rdkafka::bindings as sys;
use rdkafka::client::DefaultClientContext;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::types::RDKafkaRespErr as Code;

use crate::failure::{KafkaFailure, failure};
use crate::{Aside, KafkaSettings, client_config};

const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// The request's own timeout comes first.
const EVENT_TIMEOUT: Duration = Duration::from_secs(15);

/// A topic that may be created.
pub(super) struct Wanted<'a> {
    pub(super) topic: &'a str,
    pub(super) partitions: i32,
    /// Settings other than the broker's own.
    pub(super) settings: &'a [(&'a str, &'a str)],
}

/// A broker's answer that is not what was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) code: RDKafkaErrorCode,
    /// In the broker's words, else in librdkafka's.
    pub(super) said: String,
}

/// Creates a topic, or only asks whether it could be created.
pub(super) fn create_topic(
    settings: &KafkaSettings,
    wanted: &Wanted<'_>,
    only_ask: bool,
) -> Result<Result<(), Refusal>, Failure> {
    let what = format!("creating topic {}", wanted.topic);
    let requests = Requests::open(settings, &what)?;
    let name = text(wanted.topic)?;
    // SAFETY: all that librdkafka gets is alive for the call, and it copies it. The result belongs
    // to the event, which lives until it has been read.
    unsafe {
        // -1: the broker's own replication factor.
        let topic =
            sys::rd_kafka_NewTopic_new(name.as_ptr(), wanted.partitions, -1, ptr::null_mut(), 0);
        if topic.is_null() {
            return Err(refused(format!("{what}: its name or number of partitions")));
        }
        let topic = Owned(topic, sys::rd_kafka_NewTopic_destroy);
        for (name, value) in wanted.settings {
            let (name, value) = (text(name)?, text(value)?);
            sys::rd_kafka_NewTopic_set_config(topic.0, name.as_ptr(), value.as_ptr());
        }
        let options = requests.options(sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_CREATETOPICS);
        let set = sys::rd_kafka_AdminOptions_set_validate_only(
            options.0,
            c_int::from(only_ask),
            ptr::null_mut(),
            0,
        );
        debug_assert_eq!(set, Code::RD_KAFKA_RESP_ERR_NO_ERROR);
        let mut topics = [topic.0];
        sys::rd_kafka_CreateTopics(
            requests.rk(),
            topics.as_mut_ptr(),
            topics.len(),
            options.0,
            requests.queue.0,
        );
        let event = requests.answer()?;
        let result = sys::rd_kafka_event_CreateTopics_result(event.0);
        let mut count = 0;
        let results = sys::rd_kafka_CreateTopics_result_topics(result, &mut count);
        if count == 0 {
            return Err(requests.no_answer());
        }
        let code = sys::rd_kafka_topic_result_error(*results);
        if code == Code::RD_KAFKA_RESP_ERR_NO_ERROR {
            return Ok(Ok(()));
        }
        let code = RDKafkaErrorCode::from(code);
        let said = said(sys::rd_kafka_topic_result_error_string(*results));
        Ok(Err(Refusal {
            code,
            said: said.unwrap_or_else(|| code.to_string()),
        }))
    }
}

/// Whether the account may write a topic that is there; true where the broker does not say.
pub(super) fn may_write(settings: &KafkaSettings, topic: &str) -> Result<bool, Failure> {
    let what = format!("asking for the rights on topic {topic}");
    let requests = Requests::open(settings, &what)?;
    let name = text(topic)?;
    // SAFETY: as above.
    unsafe {
        let mut names = [name.as_ptr()];
        let topics = Owned(
            sys::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), names.len()),
            sys::rd_kafka_TopicCollection_destroy,
        );
        let options = requests.options(sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS);
        let set = sys::rd_kafka_AdminOptions_set_include_authorized_operations(options.0, 1);
        debug_assert!(set.is_null());
        sys::rd_kafka_DescribeTopics(requests.rk(), topics.0, options.0, requests.queue.0);
        let event = requests.answer()?;
        let result = sys::rd_kafka_event_DescribeTopics_result(event.0);
        let mut count = 0;
        let results = sys::rd_kafka_DescribeTopics_result_topics(result, &mut count);
        if count == 0 {
            return Err(requests.no_answer());
        }
        let mut count = 0;
        let known = sys::rd_kafka_TopicDescription_authorized_operations(*results, &mut count);
        // As numbers: a newer librdkafka may know more of them.
        let known: *const u32 = known.cast();
        Ok(known.is_null()
            || std::slice::from_raw_parts(known, count)
                .contains(&(sys::rd_kafka_AclOperation_t::RD_KAFKA_ACL_OPERATION_WRITE as u32)))
    }
}

/// What librdkafka gave us, and the function that takes it back.
struct Owned<T>(*mut T, unsafe extern "C" fn(*mut T));

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        // SAFETY: it is ours, and dropped once.
        unsafe { (self.1)(self.0) }
    }
}

/// A client, and the queue that its answers come to.
struct Requests<'a> {
    what: &'a str,
    // Before the client that it belongs to.
    queue: Owned<sys::rd_kafka_queue_t>,
    client: Aside<AdminClient<DefaultClientContext>>,
}

impl<'a> Requests<'a> {
    fn open(settings: &KafkaSettings, what: &'a str) -> Result<Self, Failure> {
        let client: AdminClient<DefaultClientContext> = client_config(settings, &[])
            .create()
            .map_err(|error| failure(what, error))?;
        // SAFETY: the client is alive, and outlives the queue.
        let queue = unsafe { sys::rd_kafka_queue_new(client.inner().native_ptr()) };
        Ok(Self {
            what,
            queue: Owned(queue, sys::rd_kafka_queue_destroy),
            client: Aside::new(client),
        })
    }

    fn rk(&self) -> *mut sys::rd_kafka_t {
        self.client.inner().native_ptr()
    }

    fn options(&self, of: sys::rd_kafka_admin_op_t) -> Owned<sys::rd_kafka_AdminOptions_t> {
        // SAFETY: the client is alive; the timeout is within its bounds.
        unsafe {
            let options = sys::rd_kafka_AdminOptions_new(self.rk(), of);
            let set = sys::rd_kafka_AdminOptions_set_request_timeout(
                options,
                millis(REQUEST_TIMEOUT),
                ptr::null_mut(),
                0,
            );
            debug_assert_eq!(set, Code::RD_KAFKA_RESP_ERR_NO_ERROR);
            Owned(options, sys::rd_kafka_AdminOptions_destroy)
        }
    }

    /// The answer to the one request.
    fn answer(&self) -> Result<Owned<sys::rd_kafka_event_t>, Failure> {
        // SAFETY: the queue is alive; the event is ours.
        unsafe {
            let event = sys::rd_kafka_queue_poll(self.queue.0, millis(EVENT_TIMEOUT));
            if event.is_null() {
                return Err(self.no_answer());
            }
            let event = Owned(event, sys::rd_kafka_event_destroy);
            let code = sys::rd_kafka_event_error(event.0);
            if code == Code::RD_KAFKA_RESP_ERR_NO_ERROR {
                return Ok(event);
            }
            let kind = KafkaFailure::from(RDKafkaErrorCode::from(code));
            let said = said(sys::rd_kafka_event_error_string(event.0)).unwrap_or_default();
            Err(Failure::new(kind, format!("{}: {said}", self.what)))
        }
    }

    fn no_answer(&self) -> Failure {
        let text = format!("{}: no answer", self.what);
        Failure::new(KafkaFailure::Unavailable, text)
    }
}

fn millis(duration: Duration) -> c_int {
    c_int::try_from(duration.as_millis()).unwrap_or(c_int::MAX)
}

fn text(text: &str) -> Result<CString, Failure> {
    CString::new(text).map_err(|_zero_byte| refused(format!("{text:?} contains a zero byte")))
}

fn refused(text: String) -> Failure {
    Failure::new(KafkaFailure::TopicName, text)
}

/// SAFETY: `text` is null or a string that lives through the call.
unsafe fn said(text: *const c_char) -> Option<String> {
    if text.is_null() {
        return None;
    }
    // SAFETY: by contract.
    let text = unsafe { CStr::from_ptr(text) };
    Some(text.to_string_lossy().into_owned())
}
