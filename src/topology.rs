//! The whole graph in one file: groups, stages, wiring, capacities.
//!
//! ```text
//! publish       csv_reader ──RowBatch──▶ kafka_publisher ══▶ Kafka
//!                    ▲                        │
//!                    └─────StartReading───────┘
//! ingest        Kafka ══▶ kafka_subscriber ──Records──▶ parquet_buffer × n ──Upload──▶ gcs_uploader ══▶ lake
//!                            ▲    │                           └──Reject──▶ dead_letters ══▶ Kafka   ▲  │
//!                            │    └──────────────────────────FindChainEnds──────────────────────────┘  │
//!                            └───────────────────DurableUpTo, Rewind, ChainEnds────────────────────────┘
//! report        clock ──Tick──▶ reporter
//! jobs, each a group of its own; [`jobs`] lists which process runs which:
//!   by cron       clock ──RunJob──▶ user_mutator ══▶ PostgreSQL,  fx_fetcher ══▶ lake
//!   once          fx_days ══▶ lake
//!   all the time  change_capture: PostgreSQL ══▶ lake,  bigquery_loader: lake ══▶ BigQuery
//!   watching      clock ──Tick──▶ watcher ◀══ Kafka (with the stream); Kafka, lake, PostgreSQL (serve)
//! ```
//!
//! A group restarts as a whole: a rewound source makes what is downstream stale. The end of a job
//! ends nothing else, unless the process has nothing but jobs; a job that failed for good makes the
//! exit code 1 all the same.

pub(crate) mod jobs;
mod run;

use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, Context, Handler};
use ftap_actors::clock::Clock;
use ftap_actors::cron_clock::CronClock;
use ftap_actors::csv_reader::CsvReader;
use ftap_actors::dead_letters::DeadLetters;
use ftap_actors::gcs_uploader::{GcsUploader, Unanswered};
use ftap_actors::kafka_publisher::KafkaPublisher;
use ftap_actors::kafka_subscriber::{KafkaSubscriber, SubscriberParts};
use ftap_actors::messages::RunJob;
use ftap_actors::parquet_buffer::{BufferParts, ParquetBuffer};
use ftap_actors::reporter::Reporter;
use ftap_actors::settings::{IngestSettings, PublishSettings};
use ftap_actors::watcher::Watcher;
use ftap_kafka::DeadLetterPlace;
use ftap_kafka::KafkaSettings;
use ftap_lake::LakeStore;
use ftap_schedule::Schedule;
use ftap_supervision::{Command, Group, Handed, Health, MemoryBudget, Stage, Stages};
use ftap_telemetry::events::StageName;
use ftap_watch::{Look, Watched};
use tokio::sync::{Mutex, watch};

pub(crate) use run::{Outcome, TopologyOptions, run};

/// Messages that a clock may queue. Other senders wait for an answer, or take from the memory
/// budget, and are bounded by that instead.
const MAILBOX: usize = 16;
/// More records than this waiting for a decoder add latency, not speed.
const MAX_BACKLOG_BYTES: u64 = 24_000_000;
const REPORT_INTERVAL: Duration = Duration::from_secs(10);

/// What a group does when a stop is asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum AtStop {
    /// It finishes what it has in hand, within the stop's deadline.
    Finish,
    /// It ends at once: the next start finds what was not done.
    End,
}

/// A group of the graph: its name and how the stages of a generation are made and wired.
pub(crate) struct Wiring {
    name: &'static str,
    at_stop: AtStop,
    takes: &'static [Command],
    wire: Box<dyn FnMut(&mut Stages)>,
}

impl Wiring {
    fn new(name: &'static str, at_stop: AtStop, wire: impl FnMut(&mut Stages) + 'static) -> Self {
        Self {
            name,
            at_stop,
            takes: &[Command::Restart],
            wire: Box::new(wire),
        }
    }

    /// What people may ask of it.
    fn taking(self, takes: &'static [Command]) -> Self {
        Self { takes, ..self }
    }
}

impl Group for Wiring {
    fn name(&self) -> &'static str {
        self.name
    }

    fn finishes_before_stop(&self) -> bool {
        self.at_stop == AtStop::Finish
    }

    fn takes(&self) -> &'static [Command] {
        self.takes
    }

    fn start(&mut self, stages: &mut Stages) {
        (self.wire)(stages);
    }
}

/// The events file into the topic.
fn publish(kafka: Arc<KafkaSettings>, settings: PublishSettings) -> Wiring {
    let settings = Arc::new(settings);
    Wiring::new("publish", AtStop::Finish, move |stages| {
        let reader = stages.mailbox::<CsvReader>("csv_reader", MAILBOX);
        let publisher = stages.mailbox::<KafkaPublisher>("kafka_publisher", MAILBOX);
        let (to_reader, to_publisher) = (reader.outbox(&publisher), publisher.outbox(&reader));
        reader.reads("events file");
        publisher.writes("Kafka");

        let own = settings.clone();
        stages.spawn(reader, move |stage| {
            CsvReader::new(stage, own, to_publisher)
        });
        let (kafka, own) = (kafka.clone(), settings.clone());
        stages.spawn(publisher, move |stage| {
            KafkaPublisher::new(stage, kafka, own, to_reader)
        });
    })
    .taking(&[Command::Pause, Command::Restart])
}

/// The topic into the lake. `drain` turns true when the topic's current end must be reached.
fn ingest(
    kafka: Arc<KafkaSettings>,
    settings: IngestSettings,
    lake: LakeStore,
    health: Arc<Health>,
    watched: Arc<Watched>,
    drain: watch::Receiver<bool>,
) -> Wiring {
    let settings = Arc::new(settings);
    let topic: Arc<str> = Arc::from(kafka.topic.as_str());
    // A quarter for records on their way to the decoders, the rest for files.
    let backlog_limit = (settings.memory_budget_bytes / 4).min(MAX_BACKLOG_BYTES);
    let budget_limit = settings.memory_budget_bytes - backlog_limit;
    let unanswered = Unanswered::default();
    Wiring::new("ingest", AtStop::Finish, move |stages| {
        let (backlog, budget) = (
            MemoryBudget::new(backlog_limit),
            MemoryBudget::new(budget_limit),
        );
        let subscriber = stages.mailbox::<KafkaSubscriber>("kafka_subscriber", MAILBOX);
        let uploader = stages.mailbox::<GcsUploader>("gcs_uploader", MAILBOX);
        // Where the lake keeps them, they go the way of the files.
        let dead_letters = (settings.dead_letters == DeadLetterPlace::Topic)
            .then(|| stages.mailbox::<DeadLetters>("dead_letters", MAILBOX));
        let (to_subscriber, to_uploader) =
            (subscriber.outbox(&uploader), uploader.outbox(&subscriber));
        subscriber.reads("Kafka");
        uploader.writes("lake");
        if let Some(dead_letters) = &dead_letters {
            dead_letters.writes("dead letters");
        }

        let mut buffers = Vec::new();
        for worker in 0..settings.workers.get() {
            let name = StageName::numbered("parquet_buffer", worker);
            let buffer = stages.mailbox::<ParquetBuffer>(name, MAILBOX);
            buffers.push(buffer.outbox(&subscriber));
            let parts = BufferParts {
                topic: topic.clone(),
                settings: settings.clone(),
                uploader: uploader.outbox(&buffer),
                dead_letters: dead_letters.as_ref().map(|it| it.outbox(&buffer)),
                budget: budget.clone(),
            };
            stages.spawn(buffer, move |stage| ParquetBuffer::new(stage, parts));
        }
        if let Some(dead_letters) = dead_letters {
            let own = kafka.clone();
            stages.spawn(dead_letters, move |stage| DeadLetters::new(stage, own));
        }
        let (lake, for_uploader, unanswered) = (lake.clone(), health.clone(), unanswered.clone());
        stages.spawn(uploader, move |stage| {
            GcsUploader::new(stage, lake, to_subscriber, for_uploader, unanswered)
        });
        let parts = SubscriberParts {
            kafka: kafka.clone(),
            buffers,
            uploader: to_uploader,
            budget,
            backlog,
            watched: watched.clone(),
            drain: drain.clone(),
            health: health.clone(),
            dead_letters: settings.dead_letters,
        };
        stages.spawn(subscriber, move |stage| KafkaSubscriber::new(stage, parts));
    })
    .taking(&[Command::Flush, Command::Pause, Command::Restart])
}

/// How fast rows move, into the log.
fn report() -> Wiring {
    Wiring::new("report", AtStop::End, |stages| {
        stages.generation().ready();
        let reporter = stages.mailbox::<Reporter>("reporter", MAILBOX);
        let clock = stages.mailbox::<Clock>("clock", MAILBOX);
        let to_reporter = reporter.outbox(&clock);
        reporter.writes("log");
        stages.spawn(reporter, Reporter::new);
        stages.spawn(clock, move |_| Clock::new(REPORT_INTERVAL, to_reporter));
    })
}

/// Names of a job that runs by cron.
struct CronNames {
    group: &'static str,
    clock: &'static str,
    actor: &'static str,
    /// The job's name in events.
    job: &'static str,
    /// Where its work goes.
    writes: &'static str,
}

/// A job that runs by cron. What a run has not finished has not happened: a stop ends it at once.
fn cron_job<A>(
    names: CronNames,
    schedule: Schedule,
    make: impl FnOnce(Stage) -> A + Clone + Send + 'static,
) -> Wiring
where
    A: Actor<Context = Context<A>> + Handler<Handed<RunJob>>,
{
    Wiring::new(names.group, AtStop::End, move |stages| {
        let actor = stages.mailbox::<A>(names.actor, MAILBOX);
        let clock = stages.mailbox::<CronClock>(names.clock, MAILBOX);
        let to_actor = actor.outbox(&clock);
        actor.writes(names.writes);
        stages.spawn(actor, make.clone());
        let (job, schedule) = (names.job, schedule.clone());
        stages.spawn(clock, move |stage| {
            CronClock::new(stage, job, schedule, to_actor)
        });
    })
}

/// Names of a job of one actor, and the places it works between.
struct LoneNames {
    group: &'static str,
    actor: &'static str,
    reads: &'static str,
    writes: &'static str,
}

/// A job of one actor that works all the time.
fn lone_job<A>(
    names: LoneNames,
    at_stop: AtStop,
    make: impl FnOnce(Stage) -> A + Clone + Send + 'static,
) -> Wiring
where
    A: Actor<Context = Context<A>>,
{
    Wiring::new(names.group, at_stop, move |stages| {
        let mailbox = stages.mailbox::<A>(names.actor, MAILBOX);
        mailbox.reads(names.reads);
        mailbox.writes(names.writes);
        stages.spawn(mailbox, make.clone());
    })
}

/// Watches one of the platform's services: notes what each look brings.
fn watch_job<L: Look>(
    name: &'static str,
    look: L,
    interval: Duration,
    watched: &Arc<Watched>,
) -> Wiring {
    // From the start: what was never seen is not up.
    watched.expect::<L>();
    let watched = watched.clone();
    // Outlives a generation, and so does what it remembers.
    let look = Arc::new(Mutex::new(look));
    Wiring::new(name, AtStop::End, move |stages| {
        let watcher = stages.mailbox::<Watcher<L>>(name, MAILBOX);
        let clock = stages.mailbox::<Clock>("clock", MAILBOX);
        let to_watcher = watcher.outbox(&clock);
        watcher.reads(L::PLACE);
        let (look, watched) = (look.clone(), watched.clone());
        stages.spawn(watcher, move |stage| Watcher::new(stage, look, watched));
        stages.spawn(clock, move |_| Clock::new(interval, to_watcher));
    })
}
