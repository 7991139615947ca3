//! Messages as they are in Kafka: those of the topic, and those that the lake rejected, which can be edited and sent
//! again.

use std::fmt::Write as _;
use std::sync::Arc;

use askama::Template;
use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use chrono::{DateTime, NaiveDateTime, SecondsFormat};
use hyper::StatusCode;
use serde::Deserialize;

use super::{Frame, page};
use crate::Dashboard;
use crate::messages::{Found, MAX_MESSAGES, Message, NotSent, Place, Search, Start};
use crate::router::{Answer, Asked, plain};

pub(crate) const ADDRESS: &str = "/messages";
/// Where a message is sent again.
pub(crate) const SEND_PATH: &str = "/messages/send";
/// Bytes that are shown of what is not text.
const MAX_HEX_BYTES: usize = 512;

/// The form, as in the address; what is empty is not searched by.
#[derive(Default, Deserialize)]
pub(crate) struct Wanted {
    #[serde(default, rename = "in")]
    place: String,
    #[serde(default)]
    partition: String,
    #[serde(default)]
    offset: String,
    #[serde(default)]
    time: String,
    #[serde(default)]
    key: String,
}

/// A field that is wrong: name and what is expected.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{name} {value:?}: expected {expected}")]
struct BadField {
    name: &'static str,
    value: String,
    expected: &'static str,
}

impl Wanted {
    fn is_quarantine(&self) -> bool {
        self.place == "quarantine"
    }

    fn search(&self) -> Result<Search, BadField> {
        let bad = |name, value: &str, expected| BadField {
            name,
            value: value.to_owned(),
            expected,
        };
        let place = match self.place.as_str() {
            "" | "topic" => Place::Topic,
            "quarantine" => Place::Quarantine,
            other => return Err(bad("in", other, "topic or quarantine")),
        };
        let partition = match self.partition.trim() {
            "" => None,
            text => {
                let number = text.parse().ok().filter(|number| *number >= 0);
                Some(number.ok_or_else(|| bad("partition", text, "a number from 0"))?)
            }
        };
        let start = match (self.offset.trim(), self.time.trim()) {
            ("", "") => Start::Newest,
            (text, "") => {
                let offset = text.parse().ok().filter(|offset| *offset >= 0);
                Start::Offset(offset.ok_or_else(|| bad("offset", text, "a number from 0"))?)
            }
            ("", text) => Start::Time(
                time(text)
                    .ok_or_else(|| bad("time", text, "a time in UTC, as 2026-01-31T23:59"))?,
            ),
            (_, text) => return Err(bad("time", text, "an offset or a time, not both")),
        };
        Ok(Search {
            place,
            partition,
            start,
            key: (!self.key.is_empty()).then(|| self.key.clone().into_bytes()),
        })
    }
}

fn time(text: &str) -> Option<i64> {
    let forms = [
        "%Y-%m-%dT%H:%M",
        "%Y-%m-%dT%H:%M:%S",
        "%Y-%m-%dT%H:%M:%S%.f",
    ];
    let text = text.trim_end_matches('Z');
    let mut parsed = forms
        .iter()
        .filter_map(|form| NaiveDateTime::parse_from_str(text, form).ok());
    Some(parsed.next()?.and_utc().timestamp_millis())
}

#[derive(Template)]
#[template(path = "messages.html")]
struct MessagesPage {
    frame: Frame,
    wanted: Wanted,
    /// What was found, or why nothing could be.
    found: Result<Found, String>,
}

impl MessagesPage {
    fn is_newest(&self) -> bool {
        self.wanted.offset.trim().is_empty() && self.wanted.time.trim().is_empty()
    }
}

pub(crate) async fn show(
    State(dashboard): State<Arc<Dashboard>>,
    Asked(wanted): Asked<Wanted>,
) -> Answer {
    let found = match wanted.search() {
        Ok(search) => search_in(dashboard.clone(), search).await,
        Err(error) => Err(error.to_string()),
    };
    page(&MessagesPage {
        frame: Frame::of(&dashboard, ADDRESS),
        wanted,
        found,
    })
}

async fn search_in(dashboard: Arc<Dashboard>, search: Search) -> Result<Found, String> {
    let searched = tokio::task::spawn_blocking(move || match &dashboard.messages {
        Some(messages) => messages.search(&search).map_err(|error| error.to_string()),
        None => Err("this process knows no Kafka".to_owned()),
    });
    match searched.await {
        Ok(found) => found,
        Err(stopped) => Err(stopped.to_string()),
    }
}

#[derive(Deserialize)]
pub(crate) struct SendAgain {
    key: String,
    payload: String,
}

pub(crate) async fn send_again(
    State(dashboard): State<Arc<Dashboard>>,
    wanted: Result<Json<SendAgain>, JsonRejection>,
) -> Answer {
    let SendAgain { key, payload } = match wanted {
        Ok(Json(wanted)) => wanted,
        Err(error) => return plain(error.status(), error.body_text()),
    };
    let sent = tokio::task::spawn_blocking(move || match &dashboard.messages {
        Some(messages) => messages.send_again(&key, payload.into_bytes()),
        None => Err(NotSent::Refused("this process knows no Kafka".to_owned())),
    });
    let sent = sent
        .await
        .unwrap_or_else(|stopped| Err(NotSent::Failed(stopped.into())));
    match sent {
        Ok(()) => plain(
            StatusCode::OK,
            "Sent again: its row comes with the next file.",
        ),
        Err(error) => {
            let code = match &error {
                NotSent::Refused(_) => StatusCode::UNPROCESSABLE_ENTITY,
                NotSent::Done(_) => StatusCode::CONFLICT,
                NotSent::Failed(_) => StatusCode::INTERNAL_SERVER_ERROR,
            };
            plain(code, error.to_string())
        }
    }
}

impl Message {
    /// What a person may edit and send again: the payload, if it is shown whole; nothing of one that is not text.
    fn editable(&self) -> Option<&str> {
        let is_open = self
            .rejected
            .as_ref()
            .is_some_and(|rejected| rejected.is_redriven != Some(true));
        let payload = self.payload.as_deref().unwrap_or_default();
        let is_whole = payload.len() == self.payload_bytes;
        (is_open && is_whole && self.key.is_some())
            .then(|| std::str::from_utf8(payload).unwrap_or_default())
    }

    fn is_text(&self) -> bool {
        let payload = self.payload.as_deref().unwrap_or_default();
        std::str::from_utf8(payload).is_ok()
    }

    fn time(&self) -> String {
        let time = self.timestamp_ms.and_then(DateTime::from_timestamp_millis);
        time.map_or_else(
            || "without a time".to_owned(),
            |time| time.to_rfc3339_opts(SecondsFormat::Millis, true),
        )
    }

    fn key_text(&self) -> Option<String> {
        self.key.as_deref().map(text_or_hex)
    }

    fn payload_text(&self) -> String {
        match &self.payload {
            None => "no payload".to_owned(),
            Some(payload) => text_or_hex(payload),
        }
    }

    /// How much of the payload is not shown.
    fn rest(&self) -> Option<String> {
        let shown = self.payload.as_ref().map_or(0, Vec::len);
        (shown < self.payload_bytes)
            .then(|| format!("the first {shown} of {} bytes", self.payload_bytes))
    }

    fn headers_text(&self) -> String {
        let headers = self.headers.iter().map(|(name, value)| match value {
            Some(value) => format!("{name}: {}", text_or_hex(value)),
            None => name.clone(),
        });
        headers.collect::<Vec<_>>().join(", ")
    }
}

/// UTF-8 as it is, a cut character at its end left out; else bytes in hex.
fn text_or_hex(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(error) if error.error_len().is_none() && error.valid_up_to() > 0 => {
            String::from_utf8_lossy(&bytes[..error.valid_up_to()]).into_owned()
        }
        Err(_) => {
            let mut hex = "hex".to_owned();
            for byte in bytes.iter().take(MAX_HEX_BYTES) {
                // Writing to a string can't fail.
                let _ = write!(hex, " {byte:02x}");
            }
            if bytes.len() > MAX_HEX_BYTES {
                hex.push_str(" …");
            }
            hex
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_form_becomes_a_search_and_a_wrong_field_is_named() {
        let wanted = |fields: [&str; 5]| {
            let [place, partition, offset, time, key] = fields.map(str::to_owned);
            Wanted {
                place,
                partition,
                offset,
                time,
                key,
            }
            .search()
        };
        let search = wanted(["quarantine", " 2", "", "2019-01-01T00:01", "k"]).unwrap();
        let expected = Search {
            place: Place::Quarantine,
            partition: Some(2),
            start: Start::Time(1_546_300_860_000),
            key: Some(b"k".to_vec()),
        };
        assert_eq!(search, expected);
        assert_eq!(
            wanted(["", "", "7", "", ""]).unwrap().start,
            Start::Offset(7)
        );
        assert_eq!(wanted(["", "", "", "", ""]).unwrap().start, Start::Newest);
        for (fields, name) in [
            (["x", "", "", "", ""], "in"),
            (["", "-1", "", "", ""], "partition"),
            (["", "", "9999999999999999999", "", ""], "offset"),
            (["", "", "", "today", ""], "time"),
            (["", "", "1", "2019-01-01T00:00", ""], "time"),
        ] {
            assert_eq!(wanted(fields).unwrap_err().name, name);
        }
    }

    #[test]
    fn bytes_are_text_or_hex() {
        assert_eq!(text_or_hex("Ærø".as_bytes()), "Ærø");
        assert_eq!(text_or_hex(&"Ærø".as_bytes()[..4]), "Ær");
        assert_eq!(text_or_hex(b"a\xff\x00"), "hex 61 ff 00");
        assert!(text_or_hex(&[0xff; MAX_HEX_BYTES + 1]).ends_with("ff …"));
    }
}
