//! The jobs alongside the stream, and which process runs which: the one list.
//!
//! A new job is a function in its domain's crate, an actor that calls it, and an entry here.

use std::cell::OnceCell;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::Context as _;
use ftap_actors::bigquery_loader::{BigQueryLoader, LoaderParts};
use ftap_actors::change_capture::ChangeCapture;
use ftap_actors::fx_days::{EventDays, FxDays};
use ftap_actors::fx_fetcher::FxFetcher;
use ftap_actors::user_mutator::{self, UserMutator};
use ftap_cdc::capture::CaptureParts;
use ftap_dashboard::OffJob;
use ftap_dataset::prepare::event_days;
use ftap_fx::job::FxJob;
use ftap_fx::{Provider, report as fx_report};
use ftap_kafka::KafkaSettings;
use ftap_lake::LakeStore;
use ftap_postgres::{Database, PostgresSettings, UPDATE_USERS, UserUpdates};
use ftap_supervision::{Command, Health};
use ftap_watch::{KafkaLook, LakeLook, Locate, PostgresLook, Unseen, Watched};
use tokio::sync::watch;

use super::{AtStop, CronNames, LoneNames, Wiring, cron_job, lone_job, watch_job};
use crate::commands;
use crate::config::{Config, PostgresUse};
use crate::kafka_access;
use crate::postgres_access::{self, PostgresAccess};

/// Fresh enough for people.
const WATCH_INTERVAL: Duration = Duration::from_secs(5);
/// A look at a bucket is a dozen requests, each of which costs.
const BUCKET_WATCH_INTERVAL: Duration = Duration::from_secs(60);

/// Processes that run jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Process {
    /// `ftap run`
    Run,
    /// `ftap batch`
    Batch,
    /// `ftap cdc`
    Cdc,
    /// `ftap serve`
    Serve,
}

impl Process {
    /// The command that starts it.
    pub(crate) fn command(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Batch => "batch",
            Self::Cdc => "cdc",
            Self::Serve => "serve",
        }
    }
}

struct Job {
    group: &'static str,
    /// What it does, for people.
    what: &'static str,
    /// What they read if `is_on` has it off.
    off: Off,
    processes: &'static [Process],
    /// It works in PostgreSQL: without PostgreSQL it does not run.
    uses_postgres: bool,
    /// Whether the settings have it run.
    is_on: fn(&Config) -> bool,
    make: fn(&JobContext<'_>, &'static str) -> anyhow::Result<Option<Wiring>>,
}

/// Why a job is off, and what turns it on.
#[derive(Clone, Copy)]
struct Off {
    why: &'static str,
    remedy: &'static str,
}

/// No setting turns it off.
const ALWAYS_ON: Off = Off {
    why: "it has not started yet",
    remedy: "wait for what it needs",
};
const POSTGRES_OFF: Off = Off {
    why: "POSTGRES is off",
    remedy: "set POSTGRES to auto or on",
};
const NO_POSTGRES: Off = Off {
    why: "no PostgreSQL has been found yet",
    remedy: "install PostgreSQL's server (Debian: apt-get install postgresql) or set POSTGRES_HOST; ftap run --until-drained uses it with POSTGRES_HOST only",
};

/// Every job. Those that only need settings come first: what is wrong with these shows before
/// PostgreSQL is waited for.
const JOBS: [Job; 8] = [
    Job {
        group: "fx_rates",
        what: "FX rates",
        off: Off {
            why: "INGEST_FX_SCHEDULE is off",
            remedy: "set INGEST_FX_SCHEDULE to a cron expression such as */5 * * * *",
        },
        processes: &[Process::Run, Process::Batch],
        uses_postgres: false,
        is_on: |config| config.ingest_fx_schedule.is_some(),
        make: fx_rates,
    },
    Job {
        group: "fx_days",
        what: "FX rates of each day of the events",
        off: Off {
            why: "INGEST_FX_SCHEDULE is off, or FX_FILL_DAYS is false",
            remedy: "set INGEST_FX_SCHEDULE to a cron expression such as */5 * * * *, and FX_FILL_DAYS to true",
        },
        processes: &[Process::Run, Process::Batch],
        uses_postgres: false,
        is_on: |config| config.ingest_fx_schedule.is_some() && config.fx_fill_days,
        make: fx_days,
    },
    Job {
        group: "bigquery",
        what: "Loads into BigQuery",
        off: Off {
            why: "BIGQUERY_PROJECT, BIGQUERY_DATASET and GCS_BUCKET_NAME are not all set",
            remedy: "set these three; tables are loaded from a lake in GCS",
        },
        processes: &[Process::Run, Process::Batch],
        uses_postgres: false,
        is_on: |config| config.bigquery_settings().is_some(),
        make: bigquery,
    },
    Job {
        group: user_mutator::GROUP,
        what: "Updates of users in PostgreSQL",
        off: Off {
            why: "UPDATE_USERS_SCHEDULE is off",
            remedy: "set UPDATE_USERS_SCHEDULE to a cron expression such as */5 * * * *",
        },
        processes: &[Process::Run, Process::Batch],
        uses_postgres: true,
        is_on: |config| config.update_users_schedule.is_some(),
        make: user_updates,
    },
    Job {
        group: "changes",
        what: "Changes of users and merchants, from PostgreSQL into the lake",
        off: ALWAYS_ON,
        processes: &[Process::Run, Process::Cdc],
        uses_postgres: true,
        is_on: |_| true,
        make: changes,
    },
    Job {
        group: "watch_kafka",
        what: "Watching Kafka",
        off: ALWAYS_ON,
        processes: &[Process::Serve],
        uses_postgres: false,
        is_on: |_| true,
        make: watch_kafka,
    },
    Job {
        group: "watch_lake",
        what: "Watching the lake",
        off: ALWAYS_ON,
        processes: &[Process::Serve],
        uses_postgres: false,
        is_on: |_| true,
        make: watch_lake,
    },
    Job {
        group: "watch_postgres",
        what: "Watching PostgreSQL",
        off: POSTGRES_OFF,
        processes: &[Process::Serve],
        uses_postgres: false,
        is_on: |config| config.postgres != PostgresUse::Off,
        make: watch_postgres,
    },
];

/// How a process' jobs need PostgreSQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PostgresNeed {
    /// No job uses it.
    None,
    /// Without it the rest runs; one warning reports it.
    Optional,
    /// Without it the process fails.
    Required,
}

pub(crate) struct JobContext<'a> {
    pub config: &'a Config,
    pub process: Process,
    /// End when what is there at the start is done.
    pub until_drained: bool,
    /// Copy the captured tables again.
    pub resnapshot: bool,
    pub health: Arc<Health>,
    /// What is seen of the platform's services.
    pub watched: Arc<Watched>,
    pub shutdown: watch::Receiver<bool>,
    /// Opened for the first job that uses it.
    pub fx: OnceCell<Arc<FxJob>>,
    /// Opened for the first job that uses it. A private cluster runs as long as this value lives.
    pub postgres: OnceCell<PostgresAccess>,
}

/// The jobs that the settings have this process run.
fn jobs_of(process: Process, config: &Config) -> impl Iterator<Item = &'static Job> {
    JOBS.iter().filter(move |job| {
        let is_possible = !job.uses_postgres || config.postgres != PostgresUse::Off;
        job.processes.contains(&process) && is_possible && (job.is_on)(config)
    })
}

/// The jobs of a process, with what is shown of those that do not run.
pub(crate) fn optional_jobs(process: Process, config: &Config) -> Vec<OffJob> {
    let jobs = JOBS.iter().filter(|job| job.processes.contains(&process));
    let jobs = jobs.map(|job| {
        let off = match config.postgres {
            _ if !(job.is_on)(config) => job.off,
            PostgresUse::Off if job.uses_postgres => POSTGRES_OFF,
            _ if job.uses_postgres => NO_POSTGRES,
            _ => ALWAYS_ON,
        };
        OffJob {
            group: job.group,
            what: job.what,
            why: off.why,
            remedy: off.remedy,
        }
    });
    jobs.collect()
}

/// Whether the settings have this process run any job.
pub(crate) fn has_jobs(process: Process, config: &Config) -> bool {
    jobs_of(process, config).next().is_some()
}

impl JobContext<'_> {
    /// Makes the groups of this process' jobs.
    pub(crate) fn make(&self) -> anyhow::Result<Vec<Wiring>> {
        let jobs = jobs_of(self.process, self.config).map(|job| (job.make)(self, job.group));
        jobs.filter_map(Result::transpose).collect()
    }

    /// Whether a job may start a private PostgreSQL cluster.
    pub(crate) fn may_start_cluster(&self) -> bool {
        self.postgres_need() != PostgresNeed::None && self.config.postgres_host.is_none()
    }

    fn postgres_need(&self) -> PostgresNeed {
        let mut jobs = jobs_of(self.process, self.config);
        if !jobs.any(|job| job.uses_postgres) {
            return PostgresNeed::None;
        }
        let mut jobs = jobs_of(self.process, self.config);
        let is_all = jobs.all(|job| job.uses_postgres);
        match (self.process, self.config.postgres) {
            (_, PostgresUse::Off) => PostgresNeed::None,
            (_, PostgresUse::On) => PostgresNeed::Required,
            // A drain does not wait for a private cluster to start.
            (Process::Run, PostgresUse::Auto) => {
                if self.until_drained && self.config.postgres_host.is_none() {
                    PostgresNeed::None
                } else {
                    PostgresNeed::Optional
                }
            }
            (_, PostgresUse::Auto) if is_all => PostgresNeed::Required,
            (_, PostgresUse::Auto) => PostgresNeed::Optional,
        }
    }

    /// PostgreSQL, if it is used. Where it is required this waits until it is found.
    fn postgres(&self) -> anyhow::Result<Option<&PostgresAccess>> {
        if let Some(opened) = self.postgres.get() {
            return Ok(Some(opened));
        }
        let access = match self.postgres_need() {
            PostgresNeed::None => return Ok(None),
            PostgresNeed::Optional => PostgresAccess::open(self.config),
            PostgresNeed::Required => PostgresAccess::require(self.config, &self.shutdown)?,
        };
        Ok(Some(self.postgres.get_or_init(|| access)))
    }

    fn fx_job(&self) -> anyhow::Result<Arc<FxJob>> {
        if let Some(opened) = self.fx.get() {
            return Ok(opened.clone());
        }
        let job = Arc::new(commands::fx::open(self.config)?);
        Ok(self.fx.get_or_init(|| job).clone())
    }

    /// Whether a job fails that finds no PostgreSQL; beside the stream it finishes.
    fn fails_without_postgres(&self) -> bool {
        self.process != Process::Run && self.postgres_need() == PostgresNeed::Required
    }

    fn lake(&self) -> anyhow::Result<LakeStore> {
        LakeStore::open(&self.config.lake()).context("the lake can't be opened")
    }

    fn watch_interval(&self) -> Duration {
        let set = self.config.dashboard_look_interval;
        set.unwrap_or(WATCH_INTERVAL)
    }
}

fn fx_rates(context: &JobContext<'_>, group: &'static str) -> anyhow::Result<Option<Wiring>> {
    let Some(schedule) = context.config.ingest_fx_schedule.clone() else {
        return Ok(None);
    };
    let names = CronNames {
        group,
        clock: "fx_clock",
        actor: "fx_fetcher",
        job: fx_report::JOB,
        writes: "lake",
    };
    let job = context.fx_job()?;
    let health = context.health.clone();
    let make = move |stage| FxFetcher::new(stage, job, health);
    Ok(Some(cron_job(names, schedule, make)))
}

fn fx_days(context: &JobContext<'_>, group: &'static str) -> anyhow::Result<Option<Wiring>> {
    let job = context.fx_job()?;
    // A drained lake has the rates of its days, if no quota counts them. Who asks for a stop does not wait for that.
    let at_stop = if context.until_drained && job.provider() == Provider::Offline {
        AtStop::Finish
    } else {
        AtStop::End
    };
    let file = context.config.events_file.clone();
    let days: EventDays = Arc::new(move || event_days(&file));
    let health = context.health.clone();
    let make = move |stage| FxDays::new(stage, job, health, days);
    let names = LoneNames {
        group,
        actor: "fx_days",
        reads: "events file",
        writes: "lake",
    };
    Ok(Some(lone_job(names, at_stop, make)))
}

fn user_updates(context: &JobContext<'_>, group: &'static str) -> anyhow::Result<Option<Wiring>> {
    let schedule = context.config.update_users_schedule.clone();
    let (Some(schedule), Some(postgres)) = (schedule, context.postgres()?) else {
        return Ok(None);
    };
    let names = CronNames {
        group,
        clock: "cron_clock",
        actor: "user_mutator",
        job: UPDATE_USERS,
        writes: "PostgreSQL",
    };
    let config = context.config;
    let database = Database::new(postgres.location(), config.preparation());
    let settings = config.update_settings();
    let needs_postgres = context.fails_without_postgres();
    let health = context.health.clone();
    let make = move |stage| {
        let job = UserUpdates::new(database, settings);
        UserMutator::new(stage, job, needs_postgres, health)
    };
    Ok(Some(cron_job(names, schedule, make)))
}

fn changes(context: &JobContext<'_>, group: &'static str) -> anyhow::Result<Option<Wiring>> {
    let Some(postgres) = context.postgres()? else {
        return Ok(None);
    };
    let config = context.config;
    let parts = CaptureParts {
        location: postgres.location(),
        preparation: config.preparation(),
        settings: Arc::new(config.capture_settings()),
        resnapshot: Arc::new(AtomicBool::new(context.resnapshot)),
        until_drained: context.process == Process::Cdc && context.until_drained,
        is_all: context.fails_without_postgres(),
        lake: context.lake()?,
        health: context.health.clone(),
    };
    let make = move |stage| ChangeCapture::new(stage, parts);
    let names = LoneNames {
        group,
        actor: "change_capture",
        reads: "PostgreSQL",
        writes: "lake",
    };
    let group = lone_job(names, AtStop::Finish, make);
    Ok(Some(group.taking(&[Command::Flush, Command::Restart])))
}

fn bigquery(context: &JobContext<'_>, group: &'static str) -> anyhow::Result<Option<Wiring>> {
    let Some(settings) = context.config.bigquery_settings() else {
        return Ok(None);
    };
    let parts = LoaderParts {
        settings: Arc::new(settings),
        lake: context.lake()?,
    };
    let make = move |stage| BigQueryLoader::new(stage, parts);
    let names = LoneNames {
        group,
        actor: "bigquery_loader",
        reads: "lake",
        writes: "BigQuery",
    };
    Ok(Some(lone_job(names, AtStop::End, make)))
}

fn watch_kafka(context: &JobContext<'_>, group: &'static str) -> anyhow::Result<Option<Wiring>> {
    let look = KafkaLook::new(running_kafka(context.config));
    let interval = context.watch_interval();
    Ok(Some(watch_job(group, look, interval, &context.watched)))
}

fn watch_lake(context: &JobContext<'_>, group: &'static str) -> anyhow::Result<Option<Wiring>> {
    let config = context.config;
    let look = LakeLook::new(config.lake(), config.kafka_topic.clone());
    let interval = match config.gcs_bucket {
        Some(_) => config
            .dashboard_look_interval
            .unwrap_or(BUCKET_WATCH_INTERVAL),
        None => context.watch_interval(),
    };
    Ok(Some(watch_job(group, look, interval, &context.watched)))
}

fn watch_postgres(context: &JobContext<'_>, group: &'static str) -> anyhow::Result<Option<Wiring>> {
    let config = context.config;
    let look = PostgresLook::new(running_postgres(config), config.cdc_slot.clone());
    let interval = context.watch_interval();
    let group = watch_job(group, look, interval, &context.watched);
    Ok(Some(group))
}

/// KAFKA_BROKER, else the embedded broker that another process runs from DATA_DIR.
fn running_kafka(config: &Config) -> Locate<KafkaSettings> {
    let config = config.clone();
    Box::new(move || {
        let bootstrap = match &config.kafka_broker {
            Some(bootstrap) => bootstrap.clone(),
            None => kafka_access::running_embedded(&config).ok_or_else(|| {
                format!(
                    "KAFKA_BROKER is not set, and no process serves the embedded broker of {}",
                    config.data_dir.display()
                )
            })?,
        };
        Ok(config.kafka_settings(&bootstrap))
    })
}

/// POSTGRES_HOST, else the private cluster that another process runs from DATA_DIR. Unless POSTGRES
/// asks for one, none need run.
fn running_postgres(config: &Config) -> Locate<PostgresSettings> {
    let config = config.clone();
    Box::new(move || {
        postgres_access::running(&config).ok_or_else(|| {
            let reason = format!(
                "POSTGRES_HOST is not set, and no process runs the private cluster of {}",
                config.data_dir.display()
            );
            match config.postgres {
                PostgresUse::On => Unseen::Down(reason),
                PostgresUse::Auto | PostgresUse::Off => Unseen::Off(reason),
            }
        })
    })
}
