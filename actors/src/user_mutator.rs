//! Changes some users at each tick, as people move, change jobs, get another post code.
//!
//! Promises: a run is one transaction that also records the run, so each tick is applied once,
//! whatever is killed when and however often it is asked for; with a seed the same tick changes the
//! same users of the same table in the same way. While PostgreSQL does not answer it waits and tries
//! again; a prepared file that can't be loaded is tried again at the next tick; any other error that
//! waiting cannot fix ends the stage. Relies on `init/01_schema.sql`.

use std::sync::Arc;

use actix::prelude::*;
use ftap_postgres::{BACKOFF, PostgresError, PostgresFailure, UserUpdates, report_unavailable};
use ftap_schedule::JobTick;
use ftap_supervision::{GroupState, Handed, Health, Stage};
use ftap_telemetry::events::TableNotLoaded;

use crate::messages::RunJob;

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
    /// Runs the job at each tick. Without PostgreSQL it does nothing, or fails if `needs_postgres`.
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

impl Handler<Handed<RunJob>> for UserMutator {
    // Runs in the actor's context, so that a panic is the stage's.
    type Result = ResponseActFuture<Self, ()>;

    fn handle(&mut self, run: Handed<RunJob>, _: &mut Context<Self>) -> Self::Result {
        let Handed {
            message: RunJob(tick),
            work,
        } = run;
        let (stage, job) = (self.stage.clone(), self.job.clone());
        let (needs_postgres, health) = (self.needs_postgres, self.health.clone());
        let task = async move {
            let _work = work;
            run_until_done(stage, job, tick, needs_postgres, health).await;
        };
        Box::pin(task.into_actor(self))
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
    // Every wait in it has an end of its own.
    let _waiting = stage.progress().waiting();
    let run = async || job.run(tick, speaker).await;
    match BACKOFF.retry(run, report_unavailable(speaker)).await {
        Ok(Some(_)) => {
            stage.generation().ready();
            // A run before this one may have failed over a file.
            if !stage.is_fenced() {
                health.set(GROUP, GroupState::Running, stage.generation().number());
            }
        }
        Ok(None) if needs_postgres => stage.fail(PostgresError::Missing.into()),
        Ok(None) => stage.generation().finish(),
        Err(error) if error.kind() == PostgresFailure::BadFile => {
            let error = error.to_string();
            health.failed(GROUP, stage.generation().number(), error.clone());
            TableNotLoaded { error }.emit(speaker);
        }
        Err(error) => stage.fail(error.into()),
    }
}
