//! What the processes' logs say of a run, counted. Pure.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

/// See the module.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Tally {
    /// Restarts of groups of stages within a process.
    pub stage_restarts: u64,
    /// Their root causes, shortened, and how often.
    pub root_causes: BTreeMap<String, u64>,
    /// Partitions that some process started to read.
    pub partitions_started: u64,
    /// Files that a process saw become durable.
    pub files_committed: u64,
    /// Files of others that a writer met at its own place.
    pub files_adopted: u64,
    /// Tries that the lake refused.
    pub lake_retries: u64,
    /// How processes ended that were not asked to, and how often.
    pub own_exits: BTreeMap<String, u64>,
    /// What must never happen.
    pub failures: Vec<String>,
}

impl Tally {
    /// Counts an event of the process `name`.
    pub(crate) fn note(&mut self, name: &str, event: &Value) {
        let text = |field: &str| event[field].as_str().unwrap_or_default();
        match text("event") {
            "group_restarting" => {
                self.stage_restarts += 1;
                let cause = shortened(text("root_cause"));
                *self.root_causes.entry(cause).or_default() += 1;
            }
            "partition_started" => self.partitions_started += 1,
            "file_committed" => self.files_committed += 1,
            "file_adopted" => self.files_adopted += 1,
            "lake_unavailable" => self.lake_retries += 1,
            "offsets_skipped" => self
                .failures
                .push(format!("{name} skipped offsets: {event}")),
            // A fault of the program, unless this run asked for it.
            "panicked" if !text("error").contains("failpoint") => {
                self.failures.push(format!("{name} panicked: {event}"));
            }
            "group_gave_up" => {
                let cause = format!("stopped: {}", shortened(text("root_cause")));
                *self.root_causes.entry(cause).or_default() += 1;
            }
            _ => {}
        }
    }

    /// Counts the end of a process that was not asked to; `why` is the end of its log.
    pub(crate) fn own_exit(&mut self, role: &str, how: &str, why: &str) {
        let end = format!("{role}: {how}: {}", shortened(why));
        *self.own_exits.entry(end).or_default() += 1;
    }
}

/// Without numbers, so that causes of one kind are one.
fn shortened(cause: &str) -> String {
    let mut short = String::new();
    for letter in cause.chars().take(160) {
        let letter = if letter.is_ascii_digit() { '0' } else { letter };
        if !(letter == '0' && short.ends_with('0')) {
            short.push(letter);
        }
    }
    short
}
