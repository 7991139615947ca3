//! One event as one line: a flat JSON object, or text for people.

use std::fmt::{self, Write as _};

use ftap_telemetry::events::JSON_MARK;
use ftap_telemetry::troubles::Trouble;
use serde_json::Value;
use tracing::Level;
use tracing::field::{Field, Visit};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};

/// How lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// A flat JSON object.
    Json,
    /// `time LEVEL event actor#generation field=value …`
    Text {
        /// With ANSI colours.
        color: bool,
    },
}

/// The fields of one event in their order.
#[derive(Debug, Default)]
pub(crate) struct Fields(Vec<(&'static str, Value)>);

impl Fields {
    /// Adds a text.
    pub(crate) fn text(&mut self, name: &'static str, value: &str) {
        self.0.push((name, Value::from(value)));
    }

    /// Adds a number.
    pub(crate) fn number(&mut self, name: &'static str, value: u64) {
        self.0.push((name, Value::from(value)));
    }

    /// The value of a field.
    pub(crate) fn get(&self, name: &str) -> Option<&Value> {
        self.0
            .iter()
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value)
    }

    /// For the list of newest troubles.
    pub(super) fn trouble(&self, level: Level) -> Trouble {
        let text = |name| self.get(name).and_then(Value::as_str).map(str::to_owned);
        let (mut texts, mut figures) = (Vec::new(), Vec::new());
        for (name, value) in &self.0 {
            match value {
                _ if matches!(*name, "event" | "actor" | "generation" | "remedy") => {}
                Value::Null => {}
                Value::String(text) if matches!(*name, "error" | "detail" | "message") => {
                    texts.push(text.clone());
                }
                Value::String(text) => texts.push(format!("{name}: {text}")),
                other => figures.push(format!("{name}: {other}")),
            }
        }
        Trouble {
            at: std::time::SystemTime::now(),
            is_error: level == Level::ERROR,
            event: text("event").unwrap_or_default(),
            actor: text("actor").unwrap_or_default(),
            generation: self
                .get("generation")
                .and_then(Value::as_u64)
                .unwrap_or_default(),
            text: texts.join(" · "),
            figures: figures.join(" · "),
            remedy: text("remedy"),
            times: 1,
        }
    }

    /// Adds what the events of the embedded services lack.
    pub(crate) fn adopt_embedded(&mut self, target: &str) {
        self.number("generation", 0);
        let actor = if target.starts_with("ftap_postgres") {
            "private_postgres"
        } else {
            "embedded_kafka"
        };
        self.text("actor", actor);
    }

    /// Makes a library's event one of ours, so that every line has the same head.
    pub(crate) fn adopt_foreign(&mut self, target: &str) {
        if self.get("library").is_none() {
            self.text("library", target);
        }
        let head = [
            ("event", Value::from("library_message")),
            ("actor", Value::from("ftap")),
            ("generation", Value::from(0)),
        ];
        let missing: Vec<_> = head
            .into_iter()
            .filter(|(name, _)| self.get(name).is_none())
            .collect();
        self.0.splice(0..0, missing);
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = format!("{value:?}");
        let json = text.strip_prefix(JSON_MARK);
        let json = json.and_then(|json| serde_json::from_str(json).ok());
        self.0
            .push((field.name(), json.unwrap_or_else(|| Value::from(text))));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(field.name(), value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.0.push((field.name(), Value::from(value)));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.0.push((field.name(), Value::from(value)));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.0.push((field.name(), Value::from(value)));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        // JSON has no NaN: it becomes null.
        self.0.push((field.name(), Value::from(value)));
    }
}

impl Shape {
    /// The line, with its end.
    pub(super) fn render(self, level: Level, fields: &Fields) -> String {
        let timestamp = now_rfc3339();
        match self {
            Self::Json => json(&timestamp, level, fields),
            Self::Text { color } => text(&timestamp, level, fields, color),
        }
    }
}

fn now_rfc3339() -> String {
    let mut out = String::new();
    let _ = SystemTime.format_time(&mut Writer::new(&mut out));
    out
}

fn json(timestamp: &str, level: Level, fields: &Fields) -> String {
    let mut out = String::with_capacity(256);
    let _ = write!(out, r#"{{"timestamp":"{timestamp}","level":"{level}""#);
    for (name, value) in &fields.0 {
        let _ = write!(out, r#","{name}":{value}"#);
    }
    out.push_str("}\n");
    out
}

fn text(timestamp: &str, level: Level, fields: &Fields, color: bool) -> String {
    let (paint, dim, reset) = match (color, level) {
        (false, _) => ("", "", ""),
        (true, Level::ERROR) => ("\x1b[31m", "\x1b[2m", "\x1b[0m"),
        (true, Level::WARN) => ("\x1b[33m", "\x1b[2m", "\x1b[0m"),
        (true, Level::INFO) => ("\x1b[32m", "\x1b[2m", "\x1b[0m"),
        (true, _) => ("\x1b[34m", "\x1b[2m", "\x1b[0m"),
    };
    // 2026-01-02T03:04:05.678901Z: people need the time to the millisecond.
    let time = timestamp.get(11..23).unwrap_or(timestamp);
    let shown = |name| match fields.get(name) {
        Some(Value::String(text)) => text.clone(),
        Some(value) => value.to_string(),
        None => String::new(),
    };
    let mut out = String::with_capacity(256);
    let _ = write!(
        out,
        "{dim}{time}{reset} {paint}{:5}{reset} {} {dim}{}#{}{reset}",
        level.as_str(),
        shown("event"),
        shown("actor"),
        shown("generation"),
    );
    for (name, value) in &fields.0 {
        match value {
            _ if matches!(*name, "event" | "actor" | "generation") => {}
            Value::String(text) if text.contains(char::is_control) => {
                let _ = write!(out, " {dim}{name}={reset}{text:?}");
            }
            Value::String(text) => {
                let _ = write!(out, " {dim}{name}={reset}{text}");
            }
            value => {
                let _ = write!(out, " {dim}{name}={reset}{value}");
            }
        }
    }
    out.push('\n');
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn fields() -> Fields {
        let mut fields = Fields::default();
        fields.text("event", "file_committed");
        fields.text("actor", "gcs_uploader");
        fields.number("generation", 2);
        fields.text("key", "a\n\"b\"");
        fields.0.push(("speed", Value::from(f64::NAN)));
        fields
    }

    #[test]
    fn a_json_line_is_one_flat_object_whatever_the_values_hold() {
        let line = Shape::Json.render(Level::INFO, &fields());
        assert_eq!(line.matches('\n').count(), 1, "{line}");
        let value: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["event"], "file_committed");
        assert_eq!(value["generation"], 2);
        assert_eq!(value["key"], "a\n\"b\"");
        assert!(value["speed"].is_null());
        assert!(value["timestamp"].as_str().unwrap().ends_with('Z'));
    }

    #[test]
    fn a_text_line_stays_one_line() {
        let line = Shape::Text { color: false }.render(Level::WARN, &fields());
        assert_eq!(line.matches('\n').count(), 1, "{line}");
        assert!(
            line.contains("WARN  file_committed gcs_uploader#2"),
            "{line}"
        );
    }

    #[test]
    fn a_librarys_event_gets_the_same_head() {
        let mut fields = Fields::default();
        fields.text("message", "hello");
        fields.adopt_foreign("actix_server");
        let value: Value = serde_json::from_str(&Shape::Json.render(Level::WARN, &fields)).unwrap();
        assert_eq!(value["event"], "library_message");
        assert_eq!(value["generation"], 0);
        assert_eq!(value["library"], "actix_server");
    }
}
