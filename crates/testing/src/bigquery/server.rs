//! The server: its tables, its jobs and what it counts.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use serde_json::Value;

use super::answer;
use super::rule::{Operation, Rule};
use super::state::{JobView, State};
use crate::http::Listening;

/// The bytes of the bucket's objects, by key.
pub type Objects = Box<dyn Fn(&str) -> Option<Vec<u8>> + Send + Sync>;

/// What the connections share.
pub(crate) struct Shared(Mutex<State>);

impl Shared {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock()
    }
}

/// A server that listens; dropped, it closes its port and cuts its connections.
pub struct Server {
    url: String,
    shared: Arc<Shared>,
    _listening: Listening,
}

impl Server {
    /// Listens on a free port of 127.0.0.1, and serves on the current tokio runtime.
    pub async fn start(objects: Objects) -> io::Result<Self> {
        let shared = Arc::new(Shared(Mutex::new(State::new(objects))));
        let answering = Arc::clone(&shared);
        let handler = move |request| answer::answer(Arc::clone(&answering), request);
        let listening = Listening::start(0, handler, || {}).await?;
        Ok(Self {
            url: format!("{}/bigquery/v2", listening.address()),
            shared,
            _listening: listening,
        })
    }

    /// For BIGQUERY_API_URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Replaces all rules.
    pub fn set_rules(&self, rules: Vec<Rule>) {
        self.shared.state().rules = rules;
    }

    /// Whether every rule has struck as often as it was to.
    pub fn rules_are_used_up(&self) -> bool {
        self.shared.state().rules.iter().all(|rule| rule.left == 0)
    }

    /// Requests of a kind.
    pub fn asked(&self, operation: Operation) -> u64 {
        let state = self.shared.state();
        state.asked.get(&operation).copied().unwrap_or_default()
    }

    /// Requests that came without a token.
    pub fn without_token(&self) -> u64 {
        self.shared.state().without_token
    }

    /// All jobs, in the order in which they came.
    pub fn jobs(&self) -> Vec<JobView> {
        let mut state = self.shared.state();
        state.settle();
        state.views()
    }

    /// How often each object was loaded into a table.
    pub fn loads(&self, table: &str) -> BTreeMap<String, u64> {
        let mut state = self.shared.state();
        state.settle();
        let mut loads = BTreeMap::new();
        for key in state
            .tables
            .get(table)
            .into_iter()
            .flat_map(|table| &table.loads)
        {
            *loads.entry(key.clone()).or_default() += 1;
        }
        loads
    }

    pub fn rows(&self, table: &str) -> u64 {
        let mut state = self.shared.state();
        state.settle();
        state.tables.get(table).map_or(0, |table| table.rows)
    }

    /// A table as it was made, with the columns added since.
    pub fn table(&self, table: &str) -> Option<Value> {
        let state = self.shared.state();
        Some(state.tables.get(table)?.made.clone())
    }

    /// Takes a table away with its rows, as an operator might.
    pub fn drop_table(&self, table: &str) {
        self.shared.state().tables.remove(table);
    }

    /// Loses the last load of a table, or does it twice, as nothing should.
    pub fn tamper(&self, table: &str, twice: bool) {
        let mut state = self.shared.state();
        if let Some(table) = state.tables.get_mut(table) {
            match table.loads.pop() {
                Some(key) if twice => table.loads.extend([key.clone(), key]),
                _ => {}
            }
        }
    }
}
