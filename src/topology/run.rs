//! Runs the groups of a process to their end.

use std::sync::Arc;

use ftap_actors::settings::{IngestSettings, PublishSettings};
use ftap_kafka::KafkaSettings;
use ftap_lake::LakeError;
use ftap_lake::LakeStore;
use ftap_supervision::{
    Controls, Group, GroupEnd, Health, SupervisionContext, SupervisionSettings, supervise,
};
use ftap_telemetry::events::{DrainWaits, Speaker};
use ftap_telemetry::metrics;
use ftap_watch::ends::ENDS_INTERVAL;
use ftap_watch::{EndsLook, Watched};
use futures::future::LocalBoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _};
use tokio::sync::watch;

use super::Wiring;

/// What to run.
pub(crate) struct TopologyOptions {
    /// The publish group, if this process has it.
    pub publish: Option<PublishSettings>,
    /// The ingest group, if this process has it.
    pub ingest: Option<IngestSettings>,
    /// Groups alongside the stream.
    pub jobs: Vec<Wiring>,
    /// How to reach Kafka.
    pub kafka: KafkaSettings,
    /// When supervision acts.
    pub supervision: SupervisionSettings,
    /// End when everything published is in the lake.
    pub until_drained: bool,
    /// What the groups are doing.
    pub health: Arc<Health>,
    /// Has them do what people ask for.
    pub controls: Controls,
    /// What is seen of Kafka.
    pub watched: Arc<Watched>,
    /// Turns true when the process must flush and stop.
    pub shutdown: watch::Receiver<bool>,
}

/// How a run ended well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Everything published is in the lake, or there was nothing more to publish.
    Drained,
    /// Stopped on request, flushed.
    Stopped,
}

/// Why a run ended badly: exit code 1.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    /// A group failed for good.
    #[error("{group} stopped: {root_cause}\n  {remedy}")]
    GaveUp {
        group: &'static str,
        /// Stage, cause and message of the first fault.
        root_cause: String,
        remedy: String,
    },
    /// Jobs failed for good; the stream continued.
    #[error("{}", list(.0))]
    JobsGaveUp(Vec<RunError>),
    /// Everything that was read is in the lake, but records were left out.
    #[error(
        "{offsets} offsets are not in the lake and were skipped, see the `offsets_skipped` events: the group's committed offset or the topic's retention is beyond the lake's end\n  to read what the topic still has into an empty lake, use another KAFKA_CONSUMER_GROUP or delete the group's offsets"
    )]
    Skipped { offsets: u64 },
    /// A group was asked to stop and did not finish in time.
    #[error(
        "{group} did not finish within STOP_DEADLINE_SECONDS: nothing is lost, the next start continues where the lake ends"
    )]
    StopUnfinished { group: &'static str },
    /// A stop was asked for before the drain that was asked for was over.
    #[error(
        "stopped before everything was in the lake, which --until-drained waits for\n  nothing is lost: the next start continues where this one ended"
    )]
    NotDrained,
    /// The lake can't be opened at all.
    #[error("the lake can't be opened")]
    Lake(#[from] LakeError),
}

fn list(errors: &[RunError]) -> String {
    let texts: Vec<_> = errors.iter().map(ToString::to_string).collect();
    texts.join("\n")
}

/// What a group is to the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Publish,
    Ingest,
    Report,
    Job,
}

/// The groups that run, and what has gone wrong so far.
struct Groups {
    running: FuturesUnordered<LocalBoxFuture<'static, (Part, &'static str, GroupEnd)>>,
    parts: Vec<Part>,
    failure: Option<RunError>,
    failed_jobs: Vec<RunError>,
}

impl Groups {
    fn start(&mut self, part: Part, group: Wiring, context: &SupervisionContext) {
        let name = group.name();
        let run = supervise(group, context.clone());
        self.parts.push(part);
        self.running
            .push(run.map(move |end| (part, name, end)).boxed_local());
    }

    fn has(&self, part: Part) -> bool {
        self.parts.contains(&part)
    }

    /// The next group to end; nothing when all have.
    async fn next(&mut self) -> Option<(Part, &'static str, GroupEnd)> {
        let ended = self.running.next().await?;
        if let Some(at) = self.parts.iter().position(|part| *part == ended.0) {
            self.parts.swap_remove(at);
        }
        Some(ended)
    }

    /// Notes how a group ended; true if the process must stop over it.
    fn note(&mut self, part: Part, group: &'static str, end: GroupEnd) -> bool {
        let error = match end {
            GroupEnd::Finished | GroupEnd::Stopped => return false,
            GroupEnd::StopUnfinished => RunError::StopUnfinished { group },
            GroupEnd::GaveUp { root_cause, remedy } => RunError::GaveUp {
                group,
                root_cause,
                remedy: remedy.to_owned(),
            },
        };
        if part != Part::Job {
            self.failure.get_or_insert(error);
            return true;
        }
        // The next start finds what a job did not finish; the stream and other jobs continue.
        if matches!(error, RunError::GaveUp { .. }) {
            self.failed_jobs.push(error);
        }
        false
    }
}

/// Runs the graph until it is drained, stopped or has failed for good.
///
/// Call it inside an `actix::System`. When a group of the stream fails for good the others are
/// asked to finish what they have.
pub(crate) async fn run(options: TopologyOptions) -> Result<Outcome, RunError> {
    let (stop, stopping) = watch::channel(false);
    let (drain, draining) = watch::channel(false);
    let context = SupervisionContext {
        settings: options.supervision,
        health: options.health,
        controls: options.controls.clone(),
        shutdown: stopping,
    };
    let mut groups = Groups {
        running: FuturesUnordered::new(),
        parts: Vec::new(),
        failure: None,
        failed_jobs: Vec::new(),
    };
    let kafka = Arc::new(options.kafka);
    if let Some(settings) = options.publish {
        let group = super::publish(kafka.clone(), settings);
        groups.start(Part::Publish, group, &context);
    } else if options.until_drained {
        drain.send_replace(true);
    }
    if let Some(settings) = options.ingest {
        let lake = LakeStore::open(&settings.lake)?;
        let (health, watched) = (context.health.clone(), options.watched.clone());
        let group = super::ingest(kafka.clone(), settings, lake, health, watched, draining);
        groups.start(Part::Ingest, group, &context);
    }
    let has_stream = groups.has(Part::Publish) || groups.has(Part::Ingest);
    if has_stream {
        let look = EndsLook::new(kafka);
        let group = super::watch_job("watch_ends", look, ENDS_INTERVAL, &options.watched);
        groups.start(Part::Job, group, &context);
    }
    for job in options.jobs {
        groups.start(Part::Job, job, &context);
    }
    groups.start(Part::Report, super::report(), &context);

    let mut shutdown = options.shutdown;
    let mut is_stopped = false;
    // Whether a group that the process waits for was stopped before it was done by itself.
    let mut is_cut_short = false;
    let mut paused = options.controls.paused();
    let works = |groups: &Groups| {
        let streams = groups.has(Part::Publish) || groups.has(Part::Ingest);
        streams || (!has_stream && groups.has(Part::Job))
    };
    while works(&groups) {
        tokio::select! {
            _ = shutdown.wait_for(|wanted| *wanted), if !is_stopped => {
                is_stopped = true;
                stop.send_replace(true);
            }
            Ok(()) = paused.changed(), if options.until_drained => {
                let groups = paused.borrow_and_update();
                if !groups.is_empty() {
                    let groups = groups.iter().map(ToString::to_string).collect();
                    DrainWaits { groups }.emit(Speaker::PROCESS);
                }
            }
            Some((part, name, end)) = groups.next() => {
                if part == Part::Publish && options.until_drained {
                    drain.send_replace(true);
                }
                let is_awaited = matches!(part, Part::Publish | Part::Ingest) || !has_stream;
                is_cut_short |= is_awaited && matches!(end, GroupEnd::Stopped);
                // Without its reader a publisher in the same process has no purpose.
                if groups.note(part, name, end) || part == Part::Ingest {
                    stop.send_replace(true);
                }
            }
        }
    }
    stop.send_replace(true);
    while let Some((part, name, end)) = groups.next().await {
        groups.note(part, name, end);
    }
    if let Some(failure) = groups.failure {
        return Err(failure);
    }
    if !groups.failed_jobs.is_empty() {
        return Err(RunError::JobsGaveUp(groups.failed_jobs));
    }
    if is_stopped && is_cut_short && options.until_drained {
        return Err(RunError::NotDrained);
    }
    if is_stopped {
        return Ok(Outcome::Stopped);
    }
    match metrics::OFFSETS_SKIPPED.total() {
        0 => Ok(Outcome::Drained),
        offsets => Err(RunError::Skipped { offsets }),
    }
}
