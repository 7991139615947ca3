//! Fetches FX rates for each run of its job.
//!
//! Promises: one run at a time, ended with its generation; a run without rates (whatever the API
//! answers, a refused key included) is logged and leaves nothing behind, and the next one tries
//! again. Rates that are fetched are kept until the lake takes them: a lake that does not answer is
//! waited for, one that refuses for good ends the stage. Relies on [`FxJob`] for objects that a
//! repeated run finds.

use std::sync::Arc;
use std::time::Instant;

use actix::prelude::*;
use chrono::{DateTime, Utc};
use ftap_fx::job::{FetchError, FxJob};
use ftap_fx::report::{expect_runs, report, report_failure};
use ftap_lake::StageLake;
use ftap_supervision::{Failure, Handed, Health, Internal, Stage, failpoint};

use crate::messages::RunJob;

/// The actor.
pub struct FxFetcher {
    stage: Stage,
    job: Arc<FxJob>,
    lake: StageLake,
}

impl FxFetcher {
    /// Runs the job for each `RunJob`; the health learns of a lake that does not answer.
    pub fn new(stage: Stage, job: Arc<FxJob>, health: Arc<Health>) -> Self {
        expect_runs();
        let lake = StageLake::new(stage.clone(), job.lake().clone(), health);
        Self { stage, job, lake }
    }
}

impl Actor for FxFetcher {
    type Context = Context<Self>;

    fn started(&mut self, _: &mut Context<Self>) {
        // It works as it should also while the API does not.
        self.stage.generation().ready();
    }
}

impl Handler<Handed<RunJob>> for FxFetcher {
    // Runs in the actor's context, so that a panic is the stage's.
    type Result = ResponseActFuture<Self, ()>;

    fn handle(&mut self, run: Handed<RunJob>, _: &mut Context<Self>) -> Self::Result {
        let Handed {
            message: RunJob(tick),
            work,
        } = run;
        let (stage, job) = (self.stage.clone(), self.job.clone());
        let lake = self.lake.clone();
        let run = async move {
            let _work = work;
            // Every wait in it has an end of its own.
            let _waiting = stage.progress().waiting();
            if let Err(error) = by_schedule(&stage, &job, &lake, tick.scheduled).await {
                stage.fail(error);
            }
        };
        Box::pin(run.into_actor(self))
    }
}

async fn by_schedule(
    stage: &Stage,
    job: &FxJob,
    lake: &StageLake,
    run_at: DateTime<Utc>,
) -> Result<(), Failure> {
    let started = Instant::now();
    if let Some(done) = job.done_before(run_at).await {
        report(&done, started.elapsed(), stage.speaker());
        return Ok(());
    }
    let fetched = match job.fetch(run_at).await {
        Ok(fetched) => fetched,
        Err(error) => {
            report_failure(run_at, &error, stage.speaker());
            return match error {
                FetchError::Rates(_) => Ok(()),
                FetchError::Encode(_) | FetchError::Offline(_) => {
                    Err(Failure::from_error(Internal::Bug, error))
                }
            };
        }
    };
    let put = lake.put("fx_fetcher", fetched.file()).await?;
    let done = fetched.done(&put);
    failpoint::hit("fx_fetcher.written")?;
    report(&done, started.elapsed(), stage.speaker());
    Ok(())
}
