//! The pages that show people their data and the platform, and the endpoints that machines read.
//!
//! Promises to answer while the stages are busy, hang or restart: the server has a thread and a runtime
//! of its own, and queries over the lake have others. Every request passes [`guard`]; [`connections`]
//! lets no client keep others out. What a page shows of the data is the answer of a query that a person
//! could have asked, over the objects of one moment of the lake.

mod answers;
mod assets;
mod cards;
mod connections;
mod events;
mod files;
mod filters;
mod guard;
mod history;
mod holdings;
mod messages;
mod pages;
mod picture;
mod platform;
mod plots;
mod questions;
mod router;
mod rows;
mod status;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ftap_supervision::{Controls, Health};
use ftap_watch::Watched;
use metrics_exporter_prometheus::PrometheusHandle;

pub use answers::Answers;
pub use connections::{Server, serve};
pub use guard::{Access, Token};
pub use history::History;
pub use messages::{
    Found, MAX_MESSAGES, Message, Messages, NotSent, Place, Rejected, Search, Start,
};

/// What is shown.
pub struct Dashboard {
    /// `run`, `produce`, `serve` and so on.
    pub command: &'static str,
    /// What the groups are doing.
    pub health: Arc<Health>,
    /// Has them do what people ask for.
    pub controls: Controls,
    /// What is seen of the platform's services.
    pub watched: Arc<Watched>,
    /// Renders `/metrics`.
    pub prometheus: PrometheusHandle,
    /// When the process started.
    pub started: Instant,
    /// Processor time of the process so far.
    pub cpu_time: fn() -> Duration,
    /// Its resident memory in bytes, where the system tells.
    pub memory_bytes: fn() -> Option<u64>,
    /// What is in the lake; `None` for a process that does not read it.
    pub answers: Option<Answers>,
    /// Searches in Kafka; `None` for a process that knows none.
    pub messages: Option<Box<dyn Messages>>,
    /// Jobs that the command runs if its settings and surroundings have them run.
    pub optional_jobs: Vec<OffJob>,
    /// The last quarter of an hour.
    pub history: History,
    /// Where `ftap fraud train` writes its model.
    pub fraud_model: PathBuf,
}

/// A job, and what is shown of it while its group has not started.
pub struct OffJob {
    pub group: &'static str,
    /// What it does.
    pub what: &'static str,
    pub why: &'static str,
    /// How it is turned on.
    pub remedy: &'static str,
}
