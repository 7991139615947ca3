//! `ftap run`, `ftap produce`, `ftap consume`: the stages, what they stand on, and how they end.
//!
//! Promises that whatever happens the process ends with the exit code that fits: 0 drained or
//! stopped on request, 1 a stage stopped with an error, 2 the user must change something.

use std::cell::OnceCell;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use ftap_dataset::generate::GenerateOptions;
use ftap_dataset::prepare::check_events;
use ftap_lake::{LakeError, LakeStore, check_topic, unfit_topic};
use ftap_supervision::{Controls, Health};
use ftap_watch::Watched;
use tokio::sync::watch;

use crate::closing;
use crate::config::Config;
use crate::dashboard::{self, Parts};
use crate::data_dir::{PublishLock, make_writable};
use crate::exit::{self, BadUsage};
use crate::kafka_access::KafkaAccess;
use crate::output;
use crate::replay::Replay;
use crate::signals;
use crate::status::{LiveStatus, StatusParts, Stopwatch};
use crate::telemetry::Telemetry;
use crate::topology::jobs::{JobContext, Process, optional_jobs};
use crate::topology::{self, TopologyOptions};

/// Rows made up when there is no data: seconds of work, files to look at.
const DEMO_ROWS: u64 = 200_000;
const DEMO_SEED: u64 = 1;
/// What supervision gets after STOP_DEADLINE_SECONDS to log what it left behind.
const GRACE: Duration = Duration::from_secs(1);
/// The process must be gone ten seconds after the signal, summary and all.
const LONGEST_STOP: Duration = Duration::from_secs(9);

/// Which half of the platform this process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Both halves.
    Run,
    /// CSV to Kafka.
    Produce,
    /// Kafka to the lake.
    Consume,
}

/// What the command line adds to the settings.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options {
    /// Which half.
    pub role: Role,
    /// End when everything published is in the lake.
    pub until_drained: bool,
    /// Publish at most these rows.
    pub rows: Option<u64>,
    /// Summary as JSON.
    pub json: bool,
}

/// Runs the stages until they are done, stopped, or have failed.
pub(crate) fn execute(
    config: &Config,
    options: Options,
    telemetry: &Telemetry,
) -> anyhow::Result<u8> {
    let started = Instant::now();
    let publishes = options.role != Role::Consume;
    let ingests = options.role != Role::Produce;
    // Held until the process ends.
    let _lock = take_directories(config, options, telemetry)?;
    let kafka = KafkaAccess::open(config)?;
    let (health, watched) = (Arc::new(Health::default()), Arc::new(Watched::default()));
    let controls = Controls::default();
    let http = dashboard::start(
        config,
        Parts {
            command: command_name(options.role),
            reads_lake: ingests,
            health: health.clone(),
            controls: controls.clone(),
            watched: watched.clone(),
            optional_jobs: match options.role {
                Role::Run => optional_jobs(Process::Run, config),
                Role::Produce | Role::Consume => Vec::new(),
            },
            prometheus: telemetry.prometheus.clone(),
            started,
        },
    )?;
    let shutdown = signals::listen()?;
    let jobs = JobContext {
        config,
        process: Process::Run,
        until_drained: options.until_drained,
        resnapshot: false,
        health: health.clone(),
        watched: watched.clone(),
        shutdown: shutdown.clone(),
        fx: OnceCell::new(),
        postgres: OnceCell::new(),
    };
    // A drain does not wait for a job: each has its run at start, if that ends by itself.
    let groups = match options.role {
        Role::Run => jobs.make()?,
        Role::Produce | Role::Consume => Vec::new(),
    };
    let stopwatch = Stopwatch::start(options.role);
    let replay = publishes.then(|| {
        let file = config.events_file.clone();
        Replay::start(file, config.pace, options.rows)
    });
    let status = LiveStatus::start(
        telemetry,
        StatusParts {
            health: health.clone(),
            watched: watched.clone(),
            address: http.as_ref().map(|http| http.url().to_owned()),
            replay,
            shutdown: shutdown.clone(),
        },
    );
    let topology = TopologyOptions {
        publish: publishes.then(|| config.publish_settings(options.rows)),
        ingest: ingests.then(|| config.ingest_settings()),
        jobs: groups,
        kafka: config.kafka_settings(kafka.bootstrap()),
        supervision: config.supervision_settings(),
        until_drained: options.until_drained,
        health,
        controls,
        watched,
        shutdown: shutdown.clone(),
    };
    let overtime = overtime(shutdown, config.stop_deadline);
    let outcome = actix::System::new().block_on(async move {
        tokio::select! {
            outcome = topology::run(topology) => outcome.map_err(anyhow::Error::new),
            error = overtime => Err(error),
        }
    });
    let summary = stopwatch.summary();
    drop(status);
    drop(http);
    let mut text = if options.json {
        format!("{}\n", summary.json())
    } else {
        summary.table()
    };
    if let (Ok(outcome), false) = (&outcome, options.json) {
        text.push_str(&closing::text(config, options, *outcome, &summary));
    }
    let printed = output::print(&text);
    // A private server may take seconds to stop: the summary comes first.
    drop(jobs);
    drop(kafka);
    // The outcome of the run matters more than whether its summary could be printed.
    outcome?;
    printed?;
    Ok(exit::DONE)
}

/// Creates what the role writes to. A publisher also takes the lock of its directory, and has an
/// events file afterwards.
fn take_directories(
    config: &Config,
    options: Options,
    telemetry: &Telemetry,
) -> anyhow::Result<Option<PublishLock>> {
    let publishes = options.role != Role::Consume;
    let ingests = options.role != Role::Produce;
    if publishes || config.kafka_broker.is_none() {
        make_writable(&config.data_dir, "DATA_DIR")?;
    }
    if ingests && config.gcs_bucket.is_none() {
        make_writable(&config.lake_dir, "LAKE_DIR")?;
    }
    if ingests {
        refuse_unfit_topic(config)?;
    }
    if !publishes {
        return Ok(None);
    }
    let lock = PublishLock::take(&config.data_dir)?;
    ensure_events(config, options, telemetry)?;
    Ok(Some(lock))
}

/// A topic that no lake may begin for is refused before its first row is published; a lake that has
/// files of it continues.
fn refuse_unfit_topic(config: &Config) -> anyhow::Result<()> {
    let topic = &config.kafka_topic;
    if unfit_topic(topic).is_none() {
        return Ok(());
    }
    let lake = LakeStore::open(&config.lake())?;
    let checked = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("the runtime can't be started")?
        .block_on(check_topic(&lake, topic));
    match checked {
        Err(error @ LakeError::TopicName { .. }) => Err(BadUsage(error.to_string()).into()),
        // A lake that does not answer is waited for by the stages, which check this again.
        _ => Ok(()),
    }
}

/// Ends a stop that hangs in time for the summary; the signal listener would end it without.
pub(crate) async fn overtime(
    mut shutdown: watch::Receiver<bool>,
    stop_deadline: Duration,
) -> anyhow::Error {
    if shutdown.wait_for(|stop| *stop).await.is_err() {
        // No signal can come any more, so there is no stop to cut short.
        std::future::pending::<()>().await;
    }
    tokio::time::sleep(stop_deadline.saturating_add(GRACE).min(LONGEST_STOP)).await;
    anyhow::anyhow!(
        "some stages did not stop in time and are left behind\n  nothing is lost: the next run continues from the last file in the lake"
    )
}

fn command_name(role: Role) -> &'static str {
    match role {
        Role::Run => "run",
        Role::Produce => "produce",
        Role::Consume => "consume",
    }
}

/// Sees to it that there is an events file. `run` makes one up when none was asked for.
fn ensure_events(config: &Config, options: Options, telemetry: &Telemetry) -> anyhow::Result<()> {
    let events = &config.events_file;
    match std::fs::metadata(events) {
        Ok(metadata) if metadata.is_file() => {
            if let Err(error) = std::fs::File::open(events) {
                return Err(unusable_events(config, &error.to_string()));
            }
            return check_events(events).map_err(super::dataset_error);
        }
        Ok(_) => return Err(unusable_events(config, "it is not a file")),
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(unusable_events(config, &error.to_string()));
        }
        Err(_) if config.is_set("EVENTS_FILE") || options.role != Role::Run => {
            return Err(unusable_events(config, "there is no such file"));
        }
        Err(_) => {}
    }
    let demo = GenerateOptions {
        rows: options.rows.unwrap_or(DEMO_ROWS),
        seed: DEMO_SEED,
        bad_rows: 0,
    };
    let generated_dir = config.data_dir.join("generated");
    let generated = super::generate::with_progress(&demo, &generated_dir, telemetry)?;
    let prepared_dir = events
        .parent()
        .map_or_else(|| PathBuf::from("."), PathBuf::from);
    super::prepare::with_progress(&generated.path, &prepared_dir, telemetry)?;
    Ok(())
}

fn unusable_events(config: &Config, problem: &str) -> anyhow::Error {
    BadUsage(format!(
        "EVENTS_FILE is {}, from {}: {problem}\n  make one with `ftap prepare FILE` (or `ftap generate` first), or name another with --events",
        config.events_file.display(),
        config.source("EVENTS_FILE"),
    ))
    .into()
}
