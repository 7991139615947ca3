//! Foreign bytes for a terminal.
//!
//! Promises: what comes out holds no control character and nothing that reorders text, so a
//! payload can't move the cursor, colour the screen or hide what it says. It can be read back:
//! what was escaped begins with a backslash, and a backslash is doubled.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, SecondsFormat};
use serde_json::Value;

/// Text with everything unprintable escaped.
pub(crate) fn text(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    push(&mut out, text);
    out
}

/// Bytes as text; those that are no UTF-8 as `\xNN`.
pub(crate) fn bytes(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        push(&mut out, chunk.valid());
        for byte in chunk.invalid() {
            // Writing to a string can't fail.
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    out
}

fn push(out: &mut String, text: &str) {
    for char in text.chars() {
        match char {
            // Harmless, and a JSON payload is full of them.
            '"' | '\'' => out.push(char),
            _ => out.extend(char.escape_debug()),
        }
    }
}

/// JSON with everything unprintable escaped as JSON does it: only strings hold such.
pub(crate) fn json(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    let mut units = [0; 2];
    for char in json.chars() {
        if char.is_ascii() || char.escape_debug().len() == 1 {
            out.push(char);
            continue;
        }
        for unit in char.encode_utf16(&mut units) {
            let _ = write!(out, "\\u{unit:04x}");
        }
    }
    // The one of ASCII that JSON leaves as it is.
    out.replace('\x7f', "\\u007f")
}

/// Text as it is, none as null, other bytes as an object.
pub(crate) fn value(bytes: Option<&[u8]>) -> Value {
    match bytes.map(std::str::from_utf8) {
        None => Value::Null,
        Some(Ok(text)) => text.into(),
        Some(Err(_)) => serde_json::json!({ "base64": bytes.map(|bytes| STANDARD.encode(bytes)) }),
    }
}

/// A time in UTC, to the millisecond; Kafka's -1 is none.
pub(crate) fn known_time(timestamp_ms: i64) -> Option<String> {
    if timestamp_ms == -1 {
        return None;
    }
    Some(match DateTime::from_timestamp_millis(timestamp_ms) {
        Some(time) => time.to_rfc3339_opts(SecondsFormat::Millis, true),
        None => format!("{timestamp_ms} ms"),
    })
}

/// The same for people.
pub(crate) fn time(timestamp_ms: i64) -> String {
    known_time(timestamp_ms).unwrap_or_else(|| "unknown".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_terminal_obeys_comes_through() {
        let payload = b"{\"a\":\"\x1b[2J\x07\xe2\x80\xae\xc2\x9b31m\xff\r\nb\\c\"}";
        let shown = bytes(payload);
        assert_eq!(
            shown,
            r#"{"a":"\u{1b}[2J\u{7}\u{202e}\u{9b}31m\xff\r\nb\\c"}"#
        );
        assert!(shown.chars().all(|char| !char.is_control()));
        assert_eq!(bytes("Ærø 漢字".as_bytes()), "Ærø 漢字");
    }

    #[test]
    fn json_says_the_same_without_them() {
        let text = "\x1b\u{9b}\u{202e}\u{7f}\u{e0001}Ærø\\";
        let written = serde_json::to_string(text).expect("a string is JSON");
        let shown = json(&written);
        assert!(
            shown.contains("\\u202e") && shown.contains("Ærø"),
            "{shown}"
        );
        assert!(shown.chars().all(|char| !char.is_control()), "{shown}");
        assert_eq!(
            serde_json::from_str::<String>(&shown).ok().as_deref(),
            Some(text)
        );
    }

    #[test]
    fn times_are_utc_and_strange_ones_are_shown_as_they_are() {
        assert_eq!(time(1_325_376_018_123), "2012-01-01T00:00:18.123Z");
        assert_eq!(time(i64::MIN), format!("{} ms", i64::MIN));
    }
}
