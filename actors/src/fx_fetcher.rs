//! Fetches FX rates for each run of its job.
//!
//! Promises: one run at a time, ended with its generation; a run without rates (whatever the API
//! answers, a refused key included) is logged and leaves nothing behind, and the next one tries
//! again. Rates that are fetched are kept until the lake takes them: a lake that does not answer is
//! waited for, one that refuses for good ends the stage. Relies on [`FxJob`] for objects that a
//! repeated run finds.

use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::prelude::*;
use chrono::{DateTime, SecondsFormat, Utc};
use ftap_fx::Provider;
use ftap_fx::job::{Done, FetchError, FxJob, JobError, Origin};
use ftap_lake::StageLake;
use ftap_supervision::{Failure, Handed, Health, Internal, Stage, failpoint};
use ftap_telemetry::events::{
    FxCacheFailed, FxRatesFailed, FxRatesKept, FxRatesOffline, FxRatesWritten, Speaker,
};
use ftap_telemetry::metrics;

use crate::messages::RunJob;

/// Name of the job, in logs.
pub const JOB: &str = "fx_rates";

/// The actor.
pub struct FxFetcher {
    stage: Stage,
    job: Arc<FxJob>,
    lake: StageLake,
}

impl FxFetcher {
    /// Runs the job for each `RunJob`; the health learns of a lake that does not answer.
    pub fn new(stage: Stage, job: Arc<FxJob>, health: Arc<Health>) -> Self {
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
    let committed = lake.commit("fx_fetcher", fetched.file()).await?;
    let done = fetched.done(&committed);
    failpoint::hit("fx_fetcher.written")?;
    report(&done, started.elapsed(), stage.speaker());
    Ok(())
}

/// One run by hand, tried once, logged and counted; a past day's has that day's rates.
pub async fn run_once(
    job: &FxJob,
    run_at: DateTime<Utc>,
    speaker: Speaker,
) -> Result<Done, JobError> {
    let started = Instant::now();
    let done = if run_at.date_naive() < Utc::now().date_naive() {
        job.run_past(run_at).await
    } else {
        job.run(run_at).await
    };
    match &done {
        Ok(done) => report(done, started.elapsed(), speaker),
        Err(error) => report_failure(run_at, error, speaker),
    }
    done
}

fn report_failure(run_at: DateTime<Utc>, error: &dyn std::error::Error, speaker: Speaker) {
    metrics::JOB_RUNS.add_for([JOB, "failed"], 1);
    FxRatesFailed {
        run_at: run_at.to_rfc3339_opts(SecondsFormat::Secs, true),
        error: error.to_string(),
    }
    .emit(speaker);
}

/// Says once that rates are made up.
pub fn warn_offline(speaker: Speaker) {
    FxRatesOffline {
        remedy: "set FREECURRENCYAPI_API_KEY to a key of freecurrencyapi.com for real rates".into(),
    }
    .emit(speaker);
}

/// Logs and counts what a run did.
pub fn report(done: &Done, took: Duration, speaker: Speaker) {
    let (key, rates, origin, cache_error) = match done {
        Done::AlreadyThere { key } => {
            metrics::JOB_RUNS.add_for([JOB, "kept"], 1);
            FxRatesKept { key: key.clone() }.emit(speaker);
            return;
        }
        Done::Written {
            key,
            rates,
            origin,
            cache_error,
        } => (key, rates, origin, cache_error),
    };
    metrics::JOB_RUNS.add_for([JOB, "written"], 1);
    if let Some(error) = cache_error {
        FxCacheFailed {
            error: error.clone(),
        }
        .emit(speaker);
    }
    let (origin, requests, quota) = match origin {
        Origin::Api { attempts, quota } => ("api", *attempts, *quota),
        Origin::Cache => ("cache", 0, Default::default()),
        Origin::Offline => (Provider::Offline.as_str(), 0, Default::default()),
    };
    metrics::FX_REQUESTS.add(requests.into());
    for (period, left) in [("month", quota.month), ("minute", quota.minute)] {
        if let Some(left) = left {
            metrics::FX_QUOTA.set_for([period], left as f64);
        }
    }
    let left = |quota: Option<u64>| {
        quota
            .and_then(|left| i64::try_from(left).ok())
            .unwrap_or(-1)
    };
    FxRatesWritten {
        key: key.clone(),
        provider: rates.provider().as_str().to_owned(),
        origin: origin.to_owned(),
        rates: rates
            .iter()
            .map(|(currency, rate)| format!("{currency}={rate}"))
            .collect::<Vec<_>>()
            .join(" "),
        requests,
        quota_month: left(quota.month),
        quota_minute: left(quota.minute),
        duration_ms: took.as_millis() as u64,
    }
    .emit(speaker);
}
