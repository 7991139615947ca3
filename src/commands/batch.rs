//! `ftap batch`: the jobs that run by the clock, or one of them once.
//!
//! Promises that a run by hand says and does what a scheduled one does, and ends with 0 if it is
//! applied, now or before, else with 1.

use anyhow::Context as _;
use chrono::Utc;
use ftap_actors::events::{PostgresUnavailable, Speaker};
use ftap_actors::postgres::{Database, PostgresError, retry_pause};
use ftap_actors::schedule::{JobTick, TickCause};
use ftap_actors::user_mutator::{Applied, UserUpdates};

use crate::cli::{BatchArgs, BatchJob};
use crate::config::{Config, PostgresUse};
use crate::data_dir::make_writable;
use crate::exit::{self, BadUsage};
use crate::postgres_access::PostgresAccess;
use crate::signals;
use crate::telemetry::Telemetry;
use crate::topology::sides::{Side, UserUpdatesGroup};

/// Tries of a run by hand: half a minute in all. Who runs it by cron has the next one soon.
const ONCE_ATTEMPTS: u32 = 5;

/// Runs the jobs until they are stopped or have given up, or one of them once.
pub fn execute(config: &Config, args: &BatchArgs, telemetry: &Telemetry) -> anyhow::Result<u8> {
    if config.postgres.usage == PostgresUse::Off {
        return Err(BadUsage(format!(
            "POSTGRES is off, from {}, and the batch jobs work on PostgreSQL: set it to on or auto",
            config.source("POSTGRES")
        ))
        .into());
    }
    if config.postgres.host.is_none() {
        make_writable(&config.data_dir, "DATA_DIR")?;
    }
    match args.once {
        Some(BatchJob::Users) => users_once(config, args),
        None => by_schedule(config, telemetry),
    }
}

/// The group that changes users.
pub fn user_updates(config: &Config, postgres: &PostgresAccess, is_all: bool) -> UserUpdatesGroup {
    UserUpdatesGroup {
        database: Database::new(postgres.location(), config.preparation()),
        schedule: config.batch.update_users_schedule.clone(),
        settings: config.update_settings(),
        is_all,
    }
}

fn by_schedule(config: &Config, telemetry: &Telemetry) -> anyhow::Result<u8> {
    super::sides::execute(config, telemetry, "batch", false, |parts| {
        Ok(vec![Side::new(user_updates(
            config,
            parts.postgres(),
            true,
        ))])
    })
}

fn users_once(config: &Config, args: &BatchArgs) -> anyhow::Result<u8> {
    let mut shutdown = signals::listen()?;
    let postgres = PostgresAccess::open(config);
    let job = UserUpdates::new(
        Database::new(postgres.location(), config.preparation()),
        config.update_settings(),
    );
    let tick = JobTick {
        scheduled: args.tick.unwrap_or_else(Utc::now),
        cause: TickCause::Schedule,
    };
    let outcome = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("the runtime can't be started")?
        .block_on(async move {
            tokio::select! {
                applied = attempts(&job, tick) => applied.map_err(anyhow::Error::new),
                _ = shutdown.wait_for(|stop| *stop) => Err(anyhow::anyhow!("stopped before the run was applied")),
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
    let mut attempt = 1;
    loop {
        match job.run(tick, Speaker::PROCESS).await {
            Ok(applied) => return applied.ok_or(PostgresError::Missing),
            Err(error) if error.retry_helps() && attempt < ONCE_ATTEMPTS => {
                let pause = retry_pause(attempt);
                PostgresUnavailable {
                    attempt: attempt.into(),
                    error: error.to_string(),
                    retry_in_ms: pause.as_millis() as u64,
                }
                .emit(Speaker::PROCESS);
                tokio::time::sleep(pause).await;
                attempt += 1;
            }
            Err(error) => return Err(error),
        }
    }
}
