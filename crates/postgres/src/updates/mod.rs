//! Changes of some users, one run at a time: a transaction that also records the run, so that each
//! tick is applied once.

mod run;
mod values;

use std::time::{Duration, Instant};

use ftap_schedule::JobTick;
use ftap_telemetry::events::{JobAlreadyApplied, NoUsers, Speaker, UsersUpdated};
use ftap_telemetry::metrics;
pub use run::Applied;
use tokio::sync::Mutex;

use crate::{Database, OpenDatabase, PostgresError, note_answer};

/// Name of the job, in logs and in its ledger.
pub const JOB: &str = "update_users";

/// How users are changed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct UpdateSettings {
    /// Share of the users that one run changes, from 0 to 1; at least one user is.
    pub share: f64,
    /// Makes the choice repeatable: it follows from this, the tick and the table.
    pub seed: Option<u64>,
}

/// The job itself, with an actor around it or without.
pub struct UserUpdates {
    database: Database,
    settings: UpdateSettings,
    open: Mutex<Option<OpenDatabase>>,
    /// The newest run with a try that failed.
    failed: Mutex<Option<JobTick>>,
}

impl UserUpdates {
    /// A job on this database; it connects at its first run.
    pub fn new(database: Database, settings: UpdateSettings) -> Self {
        for outcome in ["applied", "applied_before", "no_users", "failed"] {
            metrics::JOB_RUNS.expect_for([JOB, outcome]);
        }
        Self {
            database,
            settings,
            open: Mutex::new(None),
            failed: Mutex::new(None),
        }
    }

    /// One try of one run. `None` if there is no PostgreSQL.
    pub async fn run(
        &self,
        tick: JobTick,
        speaker: Speaker,
    ) -> Result<Option<Applied>, PostgresError> {
        let tried = self.try_once(tick, speaker).await;
        match &tried {
            Ok(None) => {}
            Ok(Some(_)) => note_answer(true),
            Err(error) => {
                note_answer(!error.is_silence());
                // Its further tries are the same run.
                if self.failed.lock().await.replace(tick) != Some(tick) {
                    metrics::JOB_RUNS.add_for([JOB, "failed"], 1);
                }
            }
        }
        tried
    }

    async fn try_once(
        &self,
        tick: JobTick,
        speaker: Speaker,
    ) -> Result<Option<Applied>, PostgresError> {
        let mut open = self.open.lock().await;
        let Some(database) = self.database.open(&mut open, speaker).await? else {
            return Ok(None);
        };
        let started = Instant::now();
        let applied = database
            .limited(run::apply(database, self.settings, tick))
            .await?;
        report(&applied, tick, started.elapsed(), speaker);
        Ok(Some(applied))
    }
}

fn report(applied: &Applied, tick: JobTick, took: Duration, speaker: Speaker) {
    let outcome = match applied {
        Applied::Now { count, .. } => {
            metrics::USERS_UPDATED.add(*count);
            "applied"
        }
        Applied::Before => "applied_before",
        Applied::NoUsers => "no_users",
    };
    metrics::JOB_RUNS.add_for([JOB, outcome], 1);
    match applied {
        Applied::Now {
            field,
            count,
            users,
        } => UsersUpdated {
            tick: tick.id(),
            field: (*field).to_owned(),
            count: *count,
            users: *users,
            duration_ms: took.as_millis() as u64,
        }
        .emit(speaker),
        Applied::Before => JobAlreadyApplied {
            job: JOB.to_owned(),
            tick: tick.id(),
        }
        .emit(speaker),
        Applied::NoUsers => NoUsers {
            tick: tick.id(),
            remedy: "make the prepared users file with `ftap prepare FILE`; it is loaded at the next run".to_owned(),
        }
        .emit(speaker),
    }
}
