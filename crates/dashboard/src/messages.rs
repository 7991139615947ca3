//! Messages of the topic and of its quarantine, as far as the pages know them: who starts the server gives it a
//! [`Messages`] that reads them.

use std::error::Error;

/// Most messages of one search.
pub const MAX_MESSAGES: usize = 100;

/// Where messages are searched.
pub trait Messages: Send + Sync {
    /// Blocks for a few seconds at most.
    ///
    /// # Errors
    /// If there is no broker, or it does not answer or refuses.
    fn search(&self, search: &Search) -> Result<Found, Box<dyn Error + Send + Sync>>;

    /// Sends a payload in the place of the rejected message with this key, once: then it is marked. Blocks for
    /// seconds.
    ///
    /// # Errors
    /// If it can't be sent, must not be, or was; then nothing is sent.
    fn send_again(&self, key: &str, payload: Vec<u8>) -> Result<(), NotSent>;
}

/// Why a message is not sent again.
#[derive(Debug, thiserror::Error)]
pub enum NotSent {
    /// What must be changed first.
    #[error("{0}")]
    Refused(String),
    /// Nothing is left to be done.
    #[error("{0}: nothing was sent")]
    Done(String),
    #[error(transparent)]
    Failed(Box<dyn Error + Send + Sync>),
}

/// Where to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Topic,
    /// What could not become a row: the dead-letter topic, and what the lake keeps of it.
    Quarantine,
}

/// What is searched for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Search {
    pub place: Place,
    /// `None` for all.
    pub partition: Option<i32>,
    pub start: Start,
    /// Only messages with this key; in quarantine it is a record's own, or the id that it has there.
    pub key: Option<Vec<u8>>,
}

/// Which messages are taken if there are more than [`MAX_MESSAGES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// The newest ones, which come first.
    Newest,
    /// The first ones at or after an offset.
    Offset(i64),
    /// The first ones at or after a time, in Unix milliseconds.
    Time(i64),
}

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Where was searched, for people.
    pub places: String,
    /// Whether there is such a place.
    pub is_there: bool,
    pub messages: Vec<Message>,
    /// What was not searched, and why.
    pub gaps: Vec<String>,
}

/// A message.
#[derive(Clone, Debug)]
pub struct Message {
    /// Where it is kept, for people.
    pub place: String,
    /// Unix milliseconds.
    pub timestamp_ms: Option<i64>,
    pub key: Option<Vec<u8>>,
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    /// The beginning of the payload.
    pub payload: Option<Vec<u8>>,
    /// Size of the whole payload.
    pub payload_bytes: usize,
    /// In quarantine.
    pub rejected: Option<Rejected>,
}

/// What is known of a rejected message.
#[derive(Clone, Debug)]
pub struct Rejected {
    pub reason: String,
    /// Whether it was sent again; `None` if that is not known.
    pub is_redriven: Option<bool>,
}
