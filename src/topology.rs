//! The whole graph in one place: stages, wiring, capacities, groups.
//!
//! ```text
//! publish   csv_reader ──▶ kafka_publisher ══▶ Kafka
//! ingest    Kafka ══▶ kafka_subscriber ──▶ parquet_buffer × n ──▶ gcs_uploader ══▶ lake
//!                             ▲                   └──▶ dead_letters ══▶ Kafka
//!                             └── committed, rewind ────────┘ (gcs_uploader)
//! report    clock ──▶ reporter
//! sides     user_updates: cron_clock ──▶ user_mutator ══▶ PostgreSQL
//!           fx_rates:     fx_clock ──▶ fx_fetcher ══▶ lake
//!           changes:      PostgreSQL ══▶ change_capture ══▶ lake
//!           bigquery:     lake ══▶ bigquery_loader ══▶ BigQuery
//!           watch_*:      clock ──▶ watcher ◀══ Kafka, lake, PostgreSQL (`ftap serve`)
//! ```
//!
//! A side's end ends nothing else, unless the process has nothing but sides; one that gave up makes
//! the exit code 1 all the same. A group restarts as a whole: a rewound source makes what is downstream
//! stale.

pub mod bigquery;
pub mod sides;

use std::sync::Arc;
use std::time::Duration;

use ftap_actors::clock::Clock;
use ftap_actors::csv_reader::CsvReader;
use ftap_actors::dead_letters::DeadLetters;
use ftap_actors::gcs_uploader::GcsUploader;
use ftap_actors::kafka_publisher::KafkaPublisher;
use ftap_actors::kafka_subscriber::{KafkaSubscriber, SubscriberParts};
use ftap_actors::memory::MemoryBudget;
use ftap_actors::parquet_buffer::{BufferParts, ParquetBuffer};
use ftap_actors::reporter::Reporter;
use ftap_actors::settings::{IngestSettings, PublishSettings};
use ftap_kafka::KafkaSettings;
use ftap_lake::LakeError;
use ftap_lake::store::LakeStore;
use ftap_supervision::Health;
use ftap_supervision::SupervisionContext;
use ftap_supervision::{Group, GroupEnd, StageName, Stages, SupervisionSettings, supervise};
use ftap_telemetry::metrics;
use futures::future::FusedFuture as _;
use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _};
use sides::Side;
use tokio::sync::watch;

/// Messages that `try_send` may queue; senders that wait for a reply, or take
/// from the memory budget, are bounded by that instead.
const MAILBOX: usize = 16;
/// More records than this waiting for a decoder add latency, not speed.
const MAX_BACKLOG_BYTES: u64 = 24_000_000;
const REPORT_INTERVAL: Duration = Duration::from_secs(10);

/// What to run.
pub struct TopologyOptions {
    /// The publish group, if this process has it.
    pub publish: Option<PublishSettings>,
    /// The ingest group, if this process has it.
    pub ingest: Option<IngestSettings>,
    /// Groups beside the stream.
    pub sides: Vec<Side>,
    /// How to reach Kafka.
    pub kafka: KafkaSettings,
    /// When supervision acts.
    pub supervision: SupervisionSettings,
    /// End when everything published is in the lake.
    pub until_drained: bool,
    /// What the groups are doing.
    pub health: Arc<Health>,
    /// Turns true when the process is to flush and stop.
    pub shutdown: watch::Receiver<bool>,
}

/// How a run ended well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Everything published is in the lake, or there was nothing more to publish.
    Drained,
    /// Stopped on request, flushed.
    Stopped,
}

/// Why a run ended badly; the process is to end with exit code 1.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A group gave up.
    #[error("{group} gave up: {root_cause}\n  {remedy}")]
    GaveUp {
        /// The group.
        group: &'static str,
        /// Stage, cause and message of the first fault.
        root_cause: String,
        /// What to do.
        remedy: String,
    },
    /// Groups beside the stream gave up, which itself went on.
    #[error("{}", list(.0))]
    SidesGaveUp(Vec<RunError>),
    /// Everything that was read is in the lake, but records were left out.
    #[error(
        "{offsets} offsets are not in the lake and were skipped, see the `offsets_skipped` events: the group's committed offset or the topic's retention is beyond the lake's end\n  to read what the topic still has into an empty lake, use another KAFKA_CONSUMER_GROUP or delete the group's offsets"
    )]
    Skipped {
        /// How many.
        offsets: u64,
    },
    /// A group was asked to stop and did not finish in time.
    #[error(
        "{group} did not finish within STOP_DEADLINE_SECONDS: nothing is lost, the next start goes on where the lake ends"
    )]
    StopUnfinished {
        /// The group.
        group: &'static str,
    },
    /// The lake can't be opened at all.
    #[error("the lake can't be opened")]
    Lake(#[from] LakeError),
}

fn list(errors: &[RunError]) -> String {
    let texts: Vec<_> = errors.iter().map(ToString::to_string).collect();
    texts.join("\n")
}

struct PublishGroup {
    kafka: Arc<KafkaSettings>,
    settings: Arc<PublishSettings>,
}

impl Group for PublishGroup {
    fn name(&self) -> &'static str {
        "publish"
    }

    fn start(&mut self, stages: &mut Stages) {
        let reader = stages.mailbox::<CsvReader>("csv_reader", MAILBOX);
        let publisher = stages.mailbox::<KafkaPublisher>("kafka_publisher", MAILBOX);
        let (to_reader, to_publisher) = (reader.outbox(), publisher.outbox());

        let settings = self.settings.clone();
        stages.spawn(reader, move |stage| {
            CsvReader::new(stage, settings, to_publisher)
        });
        let (kafka, settings) = (self.kafka.clone(), self.settings.clone());
        stages.spawn(publisher, move |stage| {
            KafkaPublisher::new(stage, kafka, settings, to_reader)
        });
    }
}

struct IngestGroup {
    kafka: Arc<KafkaSettings>,
    settings: Arc<IngestSettings>,
    lake: LakeStore,
    health: Arc<Health>,
    drain: watch::Receiver<bool>,
}

impl Group for IngestGroup {
    fn name(&self) -> &'static str {
        "ingest"
    }

    fn start(&mut self, stages: &mut Stages) {
        // A quarter for records on their way to the decoders, the rest for files.
        let backlog_limit = (self.settings.memory_budget_bytes / 4).min(MAX_BACKLOG_BYTES);
        let backlog = MemoryBudget::new(backlog_limit);
        let budget = MemoryBudget::new(self.settings.memory_budget_bytes - backlog_limit);
        let subscriber = stages.mailbox::<KafkaSubscriber>("kafka_subscriber", MAILBOX);
        let uploader = stages.mailbox::<GcsUploader>("gcs_uploader", MAILBOX);
        let dead_letters = stages.mailbox::<DeadLetters>("dead_letters", MAILBOX);

        let mut buffers = Vec::new();
        for worker in 0..self.settings.workers.get() {
            let name = StageName::numbered("parquet_buffer", worker);
            let buffer = stages.mailbox::<ParquetBuffer>(name, MAILBOX);
            buffers.push(buffer.outbox());
            let parts = BufferParts {
                topic: Arc::from(self.kafka.topic.as_str()),
                settings: self.settings.clone(),
                uploader: uploader.outbox(),
                dead_letters: dead_letters.outbox(),
                budget: budget.clone(),
            };
            stages.spawn(buffer, move |stage| ParquetBuffer::new(stage, parts));
        }

        let (to_subscriber, to_uploader) = (subscriber.outbox(), uploader.outbox());
        let kafka = self.kafka.clone();
        stages.spawn(dead_letters, move |stage| DeadLetters::new(stage, kafka));
        let (lake, health) = (self.lake.clone(), self.health.clone());
        stages.spawn(uploader, move |stage| {
            GcsUploader::new(stage, lake, to_subscriber, health)
        });
        let parts = SubscriberParts {
            kafka: self.kafka.clone(),
            buffers,
            uploader: to_uploader,
            budget,
            backlog,
            drain: self.drain.clone(),
        };
        stages.spawn(subscriber, move |stage| KafkaSubscriber::new(stage, parts));
    }
}

struct ReportGroup {}

impl Group for ReportGroup {
    fn name(&self) -> &'static str {
        "report"
    }

    fn finishes_before_stop(&self) -> bool {
        false
    }

    fn start(&mut self, stages: &mut Stages) {
        stages.generation().ready();
        let reporter = stages.mailbox::<Reporter>("reporter", MAILBOX);
        let clock = stages.mailbox::<Clock>("clock", MAILBOX);
        let to_reporter = reporter.outbox();
        stages.spawn(reporter, Reporter::new);
        stages.spawn(clock, move |_| Clock::new(REPORT_INTERVAL, to_reporter));
    }
}

/// Runs the graph until it is drained, stopped or has given up.
///
/// Call it inside an `actix::System`. When one group gives up the others are
/// asked to finish what they have.
pub async fn run(options: TopologyOptions) -> Result<Outcome, RunError> {
    let kafka = Arc::new(options.kafka);
    let (stop, stopping) = watch::channel(false);
    let (drain, draining) = watch::channel(false);
    let context = SupervisionContext {
        settings: options.supervision,
        health: options.health,
        shutdown: stopping,
    };

    let publishes = options.publish.is_some();
    let ingests = options.ingest.is_some();
    if options.until_drained && !publishes {
        drain.send_replace(true);
    }
    let publish = options.publish.map(|settings| {
        let group = PublishGroup {
            kafka: kafka.clone(),
            settings: Arc::new(settings),
        };
        supervise(group, context.clone())
    });
    let ingest = match options.ingest {
        Some(settings) => {
            let lake = LakeStore::open(&settings.lake)?;
            let group = IngestGroup {
                kafka: kafka.clone(),
                settings: Arc::new(settings),
                lake,
                health: context.health.clone(),
                drain: draining,
            };
            Some(supervise(group, context.clone()))
        }
        None => None,
    };
    let sides = options.sides.into_iter();
    let mut sides: FuturesUnordered<_> = sides.map(|side| side.start(context.clone())).collect();
    let has_only_sides = !publishes && !ingests;
    let report = supervise(ReportGroup {}, context);
    let mut report = Box::pin(report.fuse());
    let mut publish = Box::pin(end_of(publish).fuse());
    let mut ingest = Box::pin(end_of(ingest).fuse());
    let mut shutdown = options.shutdown;

    let mut failure = None;
    let mut sides_gave_up = Vec::new();
    let mut stopped = false;
    let mut publish_runs = publishes;
    let mut ingest_runs = ingests;
    while publish_runs || ingest_runs || (has_only_sides && !sides.is_empty()) {
        let (name, end) = tokio::select! {
            _ = shutdown.wait_for(|wanted| *wanted), if !stopped => {
                stopped = true;
                stop.send_replace(true);
                continue;
            }
            end = &mut publish => {
                publish_runs = false;
                if options.until_drained {
                    drain.send_replace(true);
                }
                ("publish", end)
            }
            end = &mut ingest => {
                ingest_runs = false;
                // Without its reader a publisher in the same process has no purpose.
                stop.send_replace(true);
                ("ingest", end)
            }
            end = &mut report => ("report", end),
            Some(end) = sides.next(), if !sides.is_empty() => {
                // The stream goes on, and other sides; the end tells of it.
                sides_gave_up.extend(gave_up(end));
                continue;
            }
        };
        let error = match end {
            GroupEnd::Finished | GroupEnd::Stopped => continue,
            GroupEnd::StopUnfinished => RunError::StopUnfinished { group: name },
            GroupEnd::GaveUp { root_cause, remedy } => RunError::GaveUp {
                group: name,
                root_cause,
                remedy: remedy.to_owned(),
            },
        };
        stop.send_replace(true);
        failure.get_or_insert(error);
    }
    stop.send_replace(true);
    if !report.is_terminated() {
        report.await;
    }
    while let Some(end) = sides.next().await {
        sides_gave_up.extend(gave_up(end));
    }
    match failure {
        Some(failure) => Err(failure),
        None if !sides_gave_up.is_empty() => Err(RunError::SidesGaveUp(sides_gave_up)),
        None if stopped => Ok(Outcome::Stopped),
        None => match metrics::OFFSETS_SKIPPED.total() {
            0 => Ok(Outcome::Drained),
            offsets => Err(RunError::Skipped { offsets }),
        },
    }
}

/// Of a side's end, what is wrong with it.
fn gave_up((group, end): (&'static str, GroupEnd)) -> Option<RunError> {
    match end {
        GroupEnd::GaveUp { root_cause, remedy } => Some(RunError::GaveUp {
            group,
            root_cause,
            remedy: remedy.to_owned(),
        }),
        GroupEnd::Finished | GroupEnd::Stopped | GroupEnd::StopUnfinished => None,
    }
}

/// The group's end; of no group, none ever.
async fn end_of<F: Future<Output = GroupEnd>>(group: Option<F>) -> GroupEnd {
    match group {
        Some(group) => group.await,
        None => std::future::pending().await,
    }
}
