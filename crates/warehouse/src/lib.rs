//! The lake's objects into BigQuery, each exactly once.
//!
//! Promises: each object that is committed in the lake is loaded by exactly one successful load
//! job, whatever is killed when, with lost replies, and with several loaders at once. What a job
//! loads is written down first, see [`batch`]; its id follows from that, so a repeated
//! submission meets the same job. Objects are never changed or deleted. Relies on the lake's create-only
//! put, on BigQuery never running two jobs of one id, and on a load job being atomic: a job that
//! ended in an error has loaded nothing.
//!
//! [`schema`] and [`batch`] are the rules, without I/O; [`Warehouse`] is what is asked
//! of BigQuery and [`client`] asks it; [`ledger`] is what the lake knows about it; [`load`] puts
//! them together, [`audit`] compares.

pub mod audit;
pub mod batch;
pub mod client;
pub mod error;
mod job;
pub mod ledger;
pub mod load;
pub mod schema;
mod tokens;
mod warehouse;

use std::path::PathBuf;
use std::time::Duration;

pub use error::{BigQueryError, BigQueryFailure};
use ftap_supervision::{Backoff, Pause};
use ftap_telemetry::events::{BigQueryUnavailable, Speaker};
pub use warehouse::{Counts, JobFailure, JobState, LoadJob, Submitted, Warehouse};

/// For passes of a [`Loader`](load::Loader).
pub const BACKOFF: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));

/// Logs each pause between passes.
pub fn report_unavailable(speaker: Speaker) -> impl Fn(&BigQueryError, Pause) {
    move |error, pause| {
        BigQueryUnavailable {
            attempt: pause.attempt,
            error: error.to_string(),
            retry_in_ms: pause.ms(),
        }
        .emit(speaker);
    }
}

/// Where the tables are and how they are loaded.
#[derive(Clone, Debug)]
pub struct BigQuerySettings {
    pub project: String,
    /// The dataset; made if it is not there.
    pub dataset: String,
    /// Where the dataset is; `None` takes what it has, `US` for one that is made.
    pub location: Option<String>,
    /// Another address than Google's, for tests; sends no real credentials.
    pub api_url: Option<String>,
    /// The lake's bucket, which BigQuery reads.
    pub bucket: String,
    /// Service-account key file; `None` asks the metadata server.
    pub credentials_file: Option<PathBuf>,
    /// Time between two loads.
    pub window: Duration,
    /// Names this process in what is written down.
    pub writer_id: String,
    /// Pauses and limits.
    pub policy: LoadPolicy,
}

/// Pauses and limits.
#[derive(Clone, Copy, Debug)]
pub struct LoadPolicy {
    pub request_timeout: Duration,
    /// First pause before a job is asked about; it doubles.
    pub first_poll: Duration,
    /// Longest such pause.
    pub longest_poll: Duration,
    /// Before a failed job's next attempt.
    pub retry: Backoff,
    /// Objects of a job; BigQuery takes 10,000.
    pub max_objects: usize,
    /// Their bytes; BigQuery takes 15 TB.
    pub max_bytes: u64,
    /// Up to so many objects a table's whole folder is listed each time: twenty requests.
    pub cheap_look_objects: u64,
    /// Manifests after which a summary spares the next process from reading them.
    pub manifests_a_summary: u64,
}

impl Default for LoadPolicy {
    fn default() -> Self {
        Self {
            request_timeout: Duration::from_secs(60),
            first_poll: Duration::from_millis(500),
            longest_poll: Duration::from_secs(15),
            retry: Backoff::new(Duration::from_secs(2), Duration::from_secs(300)),
            max_objects: 10_000,
            max_bytes: 1_000_000_000_000,
            cheap_look_objects: 20_000,
            manifests_a_summary: 256,
        }
    }
}
