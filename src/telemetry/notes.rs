//! What the live status takes from events, and which events it takes the place of.

use chrono::{DateTime, Local};
use serde_json::Value;
use tracing::Level;

use super::line::Fields;

/// What the jobs with PostgreSQL and FX rates last did.
#[derive(Clone, Debug, Default)]
pub(crate) struct Notes {
    /// Users and merchants that a table was loaded with, or has.
    pub users: Option<u64>,
    pub merchants: Option<u64>,
    /// Which users' field was changed for how many of them, and when.
    pub updated: Option<(u64, String, DateTime<Local>)>,
    /// Who provided the newest FX rates, and when.
    pub fx: Option<(String, DateTime<Local>)>,
    /// Rows loaded into BigQuery by this process.
    pub bigquery_rows: u64,
}

impl Notes {
    /// Nothing was done yet.
    pub(crate) const fn new() -> Self {
        Self {
            users: None,
            merchants: None,
            updated: None,
            fx: None,
            bigquery_rows: 0,
        }
    }

    /// Notes what an event says.
    pub(crate) fn take(&mut self, fields: &Fields) {
        let number = |name| fields.get(name).and_then(Value::as_u64);
        let text = |name| fields.get(name).and_then(Value::as_str).map(str::to_owned);
        match name_of(fields) {
            "table_loaded" => match fields.get("table").and_then(Value::as_str) {
                Some("users") => self.users = number("rows"),
                Some("merchants") => self.merchants = number("rows"),
                _ => {}
            },
            "users_updated" => {
                self.users = number("users");
                self.updated = number("count")
                    .zip(text("field"))
                    .map(|(count, field)| (count, field, Local::now()));
            }
            "fx_rates_written" => {
                self.fx = text("provider").map(|provider| (provider, Local::now()));
            }
            "bigquery_loaded" => self.bigquery_rows += number("rows").unwrap_or(0),
            _ => {}
        }
    }
}

/// Whether the live status says what the event says, or the error at the end of the run will.
pub(super) fn is_held_back(level: Level, fields: &Fields) -> bool {
    match name_of(fields) {
        // Its outage was on the screen, so its end is, too.
        "lake_recovered" => false,
        // Once is enough: the group is shown as starting until Kafka answers.
        "kafka_unreachable" => fields.get("attempt").is_some_and(|attempt| *attempt != 1),
        // Followed by the end of the group with the same text.
        "stage_failed" => fields.get("retryable") == Some(&Value::Bool(false)),
        // The process ends with that error.
        "group_gave_up" => {
            let group = fields.get("group").and_then(Value::as_str);
            matches!(group, Some("publish" | "ingest"))
        }
        _ => level > Level::WARN,
    }
}

fn name_of(fields: &Fields) -> &str {
    fields
        .get("event")
        .and_then(Value::as_str)
        .unwrap_or_default()
}
