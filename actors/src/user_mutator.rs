//! Changes some users at each tick, as people move, change jobs, get another post code.
//!
//! Promises: a run is one transaction that also records the run, so each tick is applied once,
//! whatever is killed when and however often it is asked for; with a seed the same tick changes the
//! same users of the same table in the same way. While PostgreSQL does not answer it waits and tries
//! again; a prepared file that can't be loaded is tried again at the next tick; any other error that no
//! waiting can mend ends the stage. Relies on `init/01_schema.sql`.

mod update;
mod values;

use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::prelude::*;
use metrics::counter;
use tokio::sync::Mutex;

use crate::events::{
    JobAlreadyApplied, NoUsers, PostgresUnavailable, Speaker, TableNotLoaded, UsersUpdated,
};
use crate::health::{GroupState, Health};
use crate::meters::names;
use crate::postgres::{Database, OpenDatabase, PostgresError, retry_pause};
use crate::schedule::JobTick;
use crate::supervision::Stage;

pub use update::Applied;

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
}

impl UserUpdates {
    /// A job on this database; it connects at its first run.
    pub fn new(database: Database, settings: UpdateSettings) -> Self {
        Self {
            database,
            settings,
            open: Mutex::new(None),
        }
    }

    /// One try of one run. `None` if there is no PostgreSQL.
    pub async fn run(
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
            .limited(update::apply(database, self.settings, tick))
            .await?;
        report(&applied, tick, started.elapsed(), speaker);
        Ok(Some(applied))
    }
}

fn report(applied: &Applied, tick: JobTick, took: Duration, speaker: Speaker) {
    let outcome = match applied {
        Applied::Now { count, .. } => {
            counter!(names::USERS_UPDATED).increment(*count);
            "applied"
        }
        Applied::Before => "applied_before",
        Applied::NoUsers => "no_users",
    };
    counter!(names::JOB_RUNS, "job" => JOB, "outcome" => outcome).increment(1);
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

/// Its group's name in [`Health`].
pub const GROUP: &str = "user_updates";

/// The actor.
pub struct UserMutator {
    stage: Stage,
    job: Arc<UserUpdates>,
    needs_postgres: bool,
    health: Arc<Health>,
}

impl UserMutator {
    /// Runs the job when told to. Where there is no PostgreSQL it has nothing to do, or if it needs
    /// one, fails.
    pub fn new(stage: Stage, job: UserUpdates, needs_postgres: bool, health: Arc<Health>) -> Self {
        Self {
            stage,
            job: Arc::new(job),
            needs_postgres,
            health,
        }
    }
}

impl Actor for UserMutator {
    type Context = Context<Self>;
}

impl Handler<JobTick> for UserMutator {
    // Runs in the actor's context, so that a panic is the stage's.
    type Result = ResponseActFuture<Self, ()>;

    fn handle(&mut self, tick: JobTick, _: &mut Context<Self>) -> Self::Result {
        let (stage, job) = (self.stage.clone(), self.job.clone());
        let (needs_postgres, health) = (self.needs_postgres, self.health.clone());
        Box::pin(run_until_done(stage, job, tick, needs_postgres, health).into_actor(self))
    }
}

async fn run_until_done(
    stage: Stage,
    job: Arc<UserUpdates>,
    tick: JobTick,
    needs_postgres: bool,
    health: Arc<Health>,
) {
    let speaker = stage.speaker();
    stage.progress().add_work(1);
    // Every wait in it has an end of its own.
    let _waiting = stage.progress().waiting();
    let mut attempt: u32 = 0;
    loop {
        attempt += 1;
        match job.run(tick, speaker).await {
            Ok(Some(_)) => {
                stage.generation().ready();
                // A run before this one may have failed over a file.
                if !stage.is_fenced() {
                    health.set(GROUP, GroupState::Running, stage.generation().number());
                }
                break;
            }
            Ok(None) if needs_postgres => {
                stage.fail(PostgresError::Missing.into());
                break;
            }
            Ok(None) => {
                stage.generation().finish();
                break;
            }
            Err(error) if error.retry_helps() => {
                let pause = retry_pause(attempt);
                PostgresUnavailable {
                    attempt: attempt.into(),
                    error: error.to_string(),
                    retry_in_ms: pause.as_millis() as u64,
                }
                .emit(speaker);
                tokio::time::sleep(pause).await;
            }
            Err(error) if error.is_of_a_file() => {
                let error = error.to_string();
                health.failed(GROUP, stage.generation().number(), error.clone());
                TableNotLoaded { error }.emit(speaker);
                break;
            }
            Err(error) => {
                stage.fail(error.into());
                break;
            }
        }
    }
    stage.progress().finish_work(1);
}
