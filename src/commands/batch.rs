//! `ftap batch`: the jobs that run by the clock, or one of them once.
//!
//! Promises that a run by hand says and does what a scheduled one does, and ends with 0 if it is
//! done, now or before, else with 1; that each job continues whatever happens to the others; and
//! that the end names a job that stopped with an error.

use anyhow::Context as _;
use chrono::{SecondsFormat, Utc};
use ftap_fx::report as fx_report;
use ftap_postgres::{Applied, BACKOFF, Database, PostgresError, UserUpdates, report_unavailable};
use ftap_schedule::{JobTick, TickCause};
use ftap_telemetry::events::Speaker;

use super::jobs::Options;
use crate::cli::{BatchArgs, BatchJob};
use crate::config::{Config, PostgresUse};
use crate::data_dir::make_writable;
use crate::exit::{self, BadUsage};
use crate::postgres_access::PostgresAccess;
use crate::signals;
use crate::telemetry::Telemetry;
use crate::topology::jobs::{Process, has_jobs};

/// Tries of a run by hand: half a minute in all. Who runs it by cron has the next one soon.
const ONCE_ATTEMPTS: u32 = 5;

/// Runs the jobs until they are stopped or have failed, or one of them once.
pub(crate) fn execute(
    config: &Config,
    args: &BatchArgs,
    telemetry: &Telemetry,
) -> anyhow::Result<u8> {
    match args.once {
        Some(BatchJob::Users) => users_once(config, args),
        Some(BatchJob::Fx) => fx_once(config, args),
        None => by_schedule(config, telemetry),
    }
}

fn by_schedule(config: &Config, telemetry: &Telemetry) -> anyhow::Result<u8> {
    if !has_jobs(Process::Batch, config) {
        return Err(BadUsage(
            "there is no job to run: INGEST_FX_SCHEDULE is off, and so is UPDATE_USERS_SCHEDULE or POSTGRES, and BIGQUERY_PROJECT is not set; set one of the schedules to a cron expression such as `*/5 * * * *`".to_owned(),
        )
        .into());
    }
    super::jobs::execute(config, telemetry, Process::Batch, Options::default())
}

fn fx_once(config: &Config, args: &BatchArgs) -> anyhow::Result<u8> {
    let now = Utc::now();
    let run_at = args.tick.unwrap_or(now);
    if run_at > now {
        return Err(BadUsage(format!(
            "--tick {} is in the future: there are no rates of it",
            run_at.to_rfc3339_opts(SecondsFormat::AutoSi, true)
        ))
        .into());
    }
    let mut shutdown = signals::listen()?;
    let job = super::fx::open(config)?;
    runtime()?.block_on(async move {
        tokio::select! {
            done = fx_report::run_once(&job, run_at, Speaker::PROCESS) => {
                done.map(|_| exit::DONE).map_err(anyhow::Error::new)
            }
            _ = shutdown.wait_for(|stop| *stop) => Err(stopped()),
        }
    })
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("the runtime can't be started")
}

fn stopped() -> anyhow::Error {
    anyhow::anyhow!("stopped before the run was over")
}

fn users_once(config: &Config, args: &BatchArgs) -> anyhow::Result<u8> {
    if config.postgres == PostgresUse::Off {
        return Err(BadUsage(format!(
            "POSTGRES is off, from {}, and users are changed in PostgreSQL: set it to on or auto",
            config.source("POSTGRES")
        ))
        .into());
    }
    if config.postgres_host.is_none() {
        make_writable(&config.data_dir, "DATA_DIR")?;
    }
    let mut shutdown = signals::listen()?;
    let postgres = PostgresAccess::require(config, &shutdown)?;
    let job = UserUpdates::new(
        Database::new(postgres.location(), config.preparation()),
        config.update_settings(),
    );
    let tick = JobTick {
        scheduled: args.tick.unwrap_or_else(Utc::now),
        cause: TickCause::Schedule,
    };
    let outcome = runtime()?.block_on(async move {
        tokio::select! {
            applied = attempts(&job, tick) => applied.map_err(anyhow::Error::new),
            _ = shutdown.wait_for(|stop| *stop) => Err(stopped()),
        }
    });
    drop(postgres);
    match outcome? {
        Applied::Now { .. } | Applied::Before => Ok(exit::DONE),
        Applied::NoUsers => Err(anyhow::anyhow!(
            "there are no users to change: make {} with `ftap prepare FILE`",
            config.preparation().users_file.display()
        )),
    }
}

async fn attempts(job: &UserUpdates, tick: JobTick) -> Result<Applied, PostgresError> {
    let run = async || job.run(tick, Speaker::PROCESS).await;
    let report = report_unavailable(Speaker::PROCESS);
    let applied = BACKOFF.attempts(ONCE_ATTEMPTS).retry(run, report).await?;
    applied.ok_or(PostgresError::Missing)
}
