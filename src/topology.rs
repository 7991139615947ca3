//! The whole graph in one place: stages, wiring, capacities, groups.

use std::sync::Arc;

use ftap_actors::health::Health;
use ftap_actors::meters::Meters;
use ftap_actors::settings::{IngestSettings, KafkaSettings, PublishSettings, SupervisionSettings};
use tokio::sync::watch;

/// What to run.
pub struct TopologyOptions {
    /// The publish group, if this process has it.
    pub publish: Option<PublishSettings>,
    /// The ingest group, if this process has it.
    pub ingest: Option<IngestSettings>,
    /// How to reach Kafka.
    pub kafka: KafkaSettings,
    /// When supervision acts.
    pub supervision: SupervisionSettings,
    /// End when everything published is in the lake.
    pub until_drained: bool,
    /// What is counted.
    pub meters: Arc<Meters>,
    /// What the groups are doing.
    pub health: Arc<Health>,
    /// Turns true when the process is to flush and stop.
    pub shutdown: watch::Receiver<bool>,
}

/// How a run ended well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Everything published is in the lake.
    Drained,
    /// Stopped on request, flushed.
    Stopped,
}

/// A stage gave up; the process is to end with exit code 1.
#[derive(Debug, thiserror::Error)]
#[error("{group} gave up: {root_cause}\n  {remedy}")]
pub struct GaveUp {
    /// The group.
    pub group: String,
    /// Stage, cause and message of the first fault.
    pub root_cause: String,
    /// What to do.
    pub remedy: String,
}

/// Runs the graph until it is drained, stopped or has given up.
///
/// Call it inside an `actix::System`.
pub async fn run(_options: TopologyOptions) -> Result<Outcome, GaveUp> {
    Ok(Outcome::Stopped)
}
