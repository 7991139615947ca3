//! Dataset, tables and jobs.

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::rows;
use super::rule::{Operation, Rule};
use super::server::Objects;

/// What a test may ask about a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobView {
    pub id: String,
    pub table: String,
    /// What it was to load.
    pub uris: Vec<String>,
    /// `PENDING`, `DONE`, or the reason of its failure.
    pub state: String,
}

pub(crate) struct TableState {
    /// What its maker sent, and the columns added since.
    pub made: Value,
    /// Objects that were loaded, one entry a load.
    pub loads: Vec<String>,
    pub rows: u64,
}

enum Standing {
    Running { until: Instant, miscounts: bool },
    Done { rows: u64 },
    Failed { reason: String, message: String },
}

pub(crate) struct JobRecord {
    sent: Value,
    standing: Standing,
    hidden_until: Option<Instant>,
}

/// How a job behaves.
pub(crate) enum Plan {
    Usual,
    Fails(&'static str, &'static str),
    Takes(Duration),
    Hidden(Duration),
    Miscounts,
}

pub(crate) struct State {
    pub objects: Objects,
    pub dataset: Option<Value>,
    pub tables: BTreeMap<String, TableState>,
    pub jobs: BTreeMap<String, JobRecord>,
    order: Vec<String>,
    pub rules: Vec<Rule>,
    pub asked: BTreeMap<Operation, u64>,
    pub without_token: u64,
    pub queries: BTreeMap<String, Value>,
}

impl State {
    pub(crate) fn new(objects: Objects) -> Self {
        Self {
            objects,
            dataset: None,
            tables: BTreeMap::new(),
            jobs: BTreeMap::new(),
            order: Vec::new(),
            rules: Vec::new(),
            asked: BTreeMap::new(),
            without_token: 0,
            queries: BTreeMap::new(),
        }
    }

    /// `false` if there is a job of that id.
    pub(crate) fn submit(&mut self, id: &str, sent: Value, plan: &Plan) -> bool {
        if self.jobs.contains_key(id) {
            return false;
        }
        let now = Instant::now();
        let running = |until, miscounts| Standing::Running { until, miscounts };
        let (standing, hidden_until) = match plan {
            Plan::Usual => (running(now, false), None),
            Plan::Miscounts => (running(now, true), None),
            Plan::Takes(time) => (running(now + *time, false), None),
            Plan::Hidden(time) => (running(now, false), Some(now + *time)),
            Plan::Fails(reason, message) => {
                let failed = Standing::Failed {
                    reason: (*reason).to_owned(),
                    message: (*message).to_owned(),
                };
                (failed, None)
            }
        };
        let job = JobRecord {
            sent,
            standing,
            hidden_until,
        };
        self.jobs.insert(id.to_owned(), job);
        self.order.push(id.to_owned());
        self.settle();
        true
    }

    /// Runs the jobs that are due, at every request.
    pub(crate) fn settle(&mut self) {
        let now = Instant::now();
        for id in self.order.clone() {
            let due = match self.jobs.get(&id).map(|job| (&job.standing, &job.sent)) {
                Some((Standing::Running { until, miscounts }, sent)) if *until <= now => {
                    Some((sent["configuration"]["load"].clone(), u64::from(*miscounts)))
                }
                _ => None,
            };
            let Some((load, extra)) = due else { continue };
            let standing = match self.run(&load) {
                Ok(rows) => Standing::Done { rows: rows + extra },
                Err((reason, message)) => Standing::Failed {
                    reason: reason.to_owned(),
                    message,
                },
            };
            if let Some(job) = self.jobs.get_mut(&id) {
                job.standing = standing;
            }
        }
    }

    /// All rows or none.
    fn run(&mut self, load: &Value) -> Result<u64, (&'static str, String)> {
        let table = text(&load["destinationTable"]["tableId"]);
        let invalid = |message: String| ("invalid", message);
        if load["sourceFormat"] != "PARQUET" || load["writeDisposition"] != "WRITE_APPEND" {
            return Err(invalid("only PARQUET is appended here".to_owned()));
        }
        let Some(found) = self.tables.get(&table) else {
            return Err(("notFound", format!("Not found: Table {table}")));
        };
        let there = fields(&found.made["schema"]);
        let wanted = fields(&load["schema"]);
        if let Some((name, _)) = there.iter().find(|(name, _)| find(&wanted, name).is_none()) {
            return Err(invalid(format!(
                "Provided Schema does not match Table {table}. Field {name} is missing in new schema"
            )));
        }
        let adds = load["schemaUpdateOptions"]
            .as_array()
            .is_some_and(|options| options.contains(&json!("ALLOW_FIELD_ADDITION")));
        for (name, kind) in &wanted {
            match find(&there, name) {
                Some(known) if known != kind => {
                    return Err(invalid(format!(
                        "Provided Schema does not match Table {table}. Field {name} has changed type from {known} to {kind}"
                    )));
                }
                None if !adds => {
                    return Err(invalid(format!(
                        "Provided Schema does not match Table {table}. Cannot add fields (field: {name})"
                    )));
                }
                _ => {}
            }
        }
        let uris = load["sourceUris"].as_array().cloned().unwrap_or_default();
        let (mut rows, mut keys) = (0, Vec::new());
        for uri in uris.iter().map(text) {
            let key = uri
                .strip_prefix("gs://")
                .and_then(|rest| rest.split_once('/'));
            let bytes = key.and_then(|(_, key)| (self.objects)(key));
            let (Some((_, key)), Some(bytes)) = (key, bytes) else {
                return Err(("notFound", format!("Not found: URI {uri}")));
            };
            let reader = rows::open(bytes).map_err(|error| invalid(format!("{uri}: {error}")))?;
            for (name, kind) in rows::columns(&reader).map_err(invalid)? {
                match find(&wanted, &name) {
                    Some(known) if known == kind => {}
                    known => {
                        let known = known.map_or("nothing", String::as_str);
                        return Err(invalid(format!(
                            "Error while reading data, error message: Parquet column '{name}' has type {kind} which does not match the target type {known}. File: {uri}"
                        )));
                    }
                }
            }
            rows += rows::count(&reader);
            keys.push(key.to_owned());
        }
        if keys.is_empty() {
            return Err(invalid(
                "Load configuration must specify at least one source URI".to_owned(),
            ));
        }
        if let Some(found) = self.tables.get_mut(&table) {
            found.made["schema"] = load["schema"].clone();
            found.loads.extend(keys);
            found.rows += rows;
        }
        Ok(rows)
    }

    /// The job as the API shows it; `None` while it is not found.
    pub(crate) fn show_job(&self, id: &str) -> Option<Value> {
        let job = self.jobs.get(id)?;
        if job.hidden_until.is_some_and(|until| Instant::now() < until) {
            return None;
        }
        let mut shown = job.sent.clone();
        shown["status"] = match &job.standing {
            Standing::Running { .. } => json!({"state": "RUNNING"}),
            Standing::Done { .. } => json!({"state": "DONE"}),
            Standing::Failed { reason, message } => {
                let error = json!({"reason": reason, "message": message});
                json!({"state": "DONE", "errorResult": error, "errors": [error]})
            }
        };
        shown["statistics"] = match &job.standing {
            Standing::Done { rows } => json!({"load": {"outputRows": rows.to_string()}}),
            _ => json!({}),
        };
        Some(shown)
    }

    /// Rows and different rows of a table, by these columns.
    pub(crate) fn count(&self, table: &str, names: &[&str]) -> Result<Option<(u64, u64)>, String> {
        let Some(found) = self.tables.get(table) else {
            return Ok(None);
        };
        let mut different = HashSet::new();
        let mut all = 0;
        for key in &found.loads {
            let bytes = (self.objects)(key).ok_or_else(|| format!("{key} is gone"))?;
            let keys = rows::keys(&rows::open(bytes)?, names)?;
            all += keys.len() as u64;
            different.extend(keys);
        }
        Ok(Some((all, different.len() as u64)))
    }

    pub(crate) fn views(&self) -> Vec<JobView> {
        let view = |id: &String| {
            let job = self.jobs.get(id)?;
            let load = &job.sent["configuration"]["load"];
            let uris = load["sourceUris"].as_array();
            Some(JobView {
                id: id.clone(),
                table: text(&load["destinationTable"]["tableId"]),
                uris: uris.into_iter().flatten().map(text).collect(),
                state: match &job.standing {
                    Standing::Running { .. } => "PENDING".to_owned(),
                    Standing::Done { .. } => "DONE".to_owned(),
                    Standing::Failed { reason, .. } => reason.clone(),
                },
            })
        };
        self.order.iter().filter_map(view).collect()
    }
}

pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn fields(schema: &Value) -> Vec<(String, String)> {
    let fields = schema["fields"].as_array().into_iter().flatten();
    fields
        .map(|field| (text(&field["name"]), text(&field["type"])))
        .collect()
}

fn find<'a>(fields: &'a [(String, String)], name: &str) -> Option<&'a String> {
    let found = fields
        .iter()
        .find(|(known, _)| known.eq_ignore_ascii_case(name));
    found.map(|(_, kind)| kind)
}
