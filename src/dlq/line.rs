//! One entry as a JSON line: what `ftap dlq list --export` writes and `redrive --from` reads.
//!
//! Promises: a payload comes back byte for byte, also one that is not text. Of a line that is
//! read only `id` and the payload count; the rest is for the person who edits it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ftap_kafka::EntryId;
use serde::{Deserialize, Serialize};

use super::index::{Entry, Original};

use super::shown;

#[derive(Serialize)]
struct Written<'a> {
    id: String,
    reason: &'a str,
    rejected_at: Option<String>,
    written_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<serde_json::Value>,
    state: &'static str,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    truncated: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<Option<&'a str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload_base64: Option<String>,
    headers: Vec<(&'a str, serde_json::Value)>,
}

/// An entry with its payload as one line.
pub(crate) fn write(entry: &Entry, original: &Original<'_>) -> String {
    let payload = original.payload;
    let headers = original.headers.iter();
    let text = payload.map(std::str::from_utf8).transpose();
    let line = Written {
        id: entry.id.to_string(),
        reason: &entry.reason,
        rejected_at: shown::known_time(entry.rejected_ms),
        written_at: shown::known_time(entry.written_ms),
        key: original.key.map(|key| shown::value(Some(key))),
        state: entry.fate.as_str(),
        truncated: entry.is_truncated,
        payload: text.ok(),
        payload_base64: match text {
            Ok(_) => None,
            Err(_) => payload.map(|payload| STANDARD.encode(payload)),
        },
        headers: headers
            .map(|(name, value)| (*name, shown::value(*value)))
            .collect(),
    };
    let line = serde_json::to_string(&line).expect("texts and flags are always JSON");
    let mut line = shown::json(&line);
    line.push('\n');
    line
}

/// A payload to be sent in an entry's place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Repair {
    pub id: EntryId,
    /// The payload, `None` for none.
    pub payload: Option<Vec<u8>>,
}

#[derive(Deserialize)]
struct Read {
    id: String,
    #[serde(default, deserialize_with = "present")]
    payload: Option<serde_json::Value>,
    #[serde(default, deserialize_with = "present")]
    payload_base64: Option<serde_json::Value>,
}

/// `null` is something else than nothing.
fn present<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<serde_json::Value>, D::Error> {
    serde_json::Value::deserialize(deserializer).map(Some)
}

/// Reads a line, or says what is wrong with it.
pub(crate) fn read(line: &str) -> Result<Repair, String> {
    use serde_json::Value;
    let read: Read = serde_json::from_str(line).map_err(|error| {
        format!(
            "not a JSON object of an entry: {}",
            shown::text(&error.to_string())
        )
    })?;
    let id = read.id.parse()?;
    let payload = match (read.payload, read.payload_base64) {
        (Some(Value::String(text)), None) => Some(text.into_bytes()),
        (Some(Value::Null), None) => None,
        (Some(_), None) => {
            return Err("`payload` must be a string: the message's text".to_owned());
        }
        (None, Some(Value::String(text))) => Some(
            STANDARD
                .decode(text)
                .map_err(|error| format!("`payload_base64` is not base64: {error}"))?,
        ),
        (None, Some(_)) => return Err("`payload_base64` must be a string".to_owned()),
        (None, None) => return Err("neither `payload` nor `payload_base64`".to_owned()),
        (Some(_), Some(_)) => {
            return Err("both `payload` and `payload_base64`: leave one".to_owned());
        }
    };
    Ok(Repair { id, payload })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::dlq::index::{Fate, Place};

    fn entry() -> Entry {
        Entry {
            id: EntryId {
                partition: 2,
                offset: 1234,
            },
            place: Place::Lake { object: 0 },
            rejected_ms: 0,
            written_ms: -1,
            reason: "not_json".into(),
            bytes: 3,
            message_bytes: 3,
            hash: 0,
            is_truncated: false,
            fate: Fate::Open,
        }
    }

    #[test]
    fn every_payload_comes_back_byte_for_byte() {
        let payloads: [Option<&[u8]>; 6] = [
            None,
            Some(b""),
            Some(b"{\"a\": \"\\u0000\"}\r\n"),
            Some("Ærø \u{202e}\x1b[2J".as_bytes()),
            Some(b"\xff\x00\n"),
            Some(&[0xc3]),
        ];
        for payload in payloads {
            let original = Original {
                key: Some(b"key"),
                headers: vec![("a", Some(b"x")), ("a", None), ("b", Some(b"\xff"))],
                payload,
            };
            let line = write(&entry(), &original);
            assert!(line.contains(r#""written_at":null"#), "{line}");
            let headers = r#""headers":[["a","x"],["a",null],["b",{"base64":"/w=="}]]"#;
            assert!(line.contains(headers), "{line}");
            assert_eq!(line.matches('\n').count(), 1, "{line}");
            let repair = read(line.trim_end()).unwrap();
            assert_eq!(repair.id, entry().id);
            assert_eq!(repair.payload.as_deref(), payload, "{line}");
        }
    }

    #[test]
    fn a_key_is_a_text_or_base64_or_absent() {
        let keys: [(Option<&[u8]>, &str); 4] = [
            (None, "null"),
            (Some(b""), "\"\""),
            (Some("Ærø".as_bytes()), "\"Ærø\""),
            (Some(b"\xff\xfek"), r#"{"base64":"//5r"}"#),
        ];
        for (key, wanted) in keys {
            let original = Original {
                key,
                headers: Vec::new(),
                payload: None,
            };
            let line = write(&entry(), &original);
            let line: serde_json::Value = serde_json::from_str(&line).unwrap();
            assert_eq!(line["key"].to_string(), wanted);
            assert_eq!(line.get("key").is_some(), key.is_some(), "{line}");
        }
    }

    #[test]
    fn a_line_that_is_not_an_entry_says_why() {
        for (line, wanted) in [
            ("", "not a JSON object"),
            ("[]", "not a JSON object"),
            ("{\"payload\":\"\"}", "id"),
            ("{\"id\":\"x\",\"payload\":\"\"}", "not an entry's id"),
            ("{\"id\":\"1-2\"}", "neither"),
            ("{\"id\":\"1-2\",\"payload\":{}}", "must be a string"),
            (
                "{\"id\":\"1-2\",\"payload\":\"\",\"payload_base64\":\"\"}",
                "both",
            ),
            ("{\"id\":\"1-2\",\"payload_base64\":\"?\"}", "not base64"),
            (
                "{\"id\":\"1-2\",\"payload_base64\":null}",
                "must be a string",
            ),
            ("{\"id\":\"1-2\",\"payload\":\"\"} x", "not a JSON object"),
        ] {
            let error = read(line).unwrap_err();
            assert!(error.contains(wanted), "{line}: {error}");
        }
    }
}
