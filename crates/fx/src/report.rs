//! What a run did, logged and counted.

use std::time::{Duration, Instant};

use chrono::{DateTime, SecondsFormat, Utc};
use ftap_telemetry::events::{
    FxCacheFailed, FxRatesFailed, FxRatesKept, FxRatesOffline, FxRatesWritten, Speaker,
};
use ftap_telemetry::metrics;

use crate::Provider;
use crate::job::{Done, FxJob, JobError, Origin};

/// Name of the job, in logs.
pub const JOB: &str = "fx_rates";

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

/// Shows that runs will be counted.
pub fn expect_runs() {
    for outcome in ["written", "kept", "failed"] {
        metrics::JOB_RUNS.expect_for([JOB, outcome]);
    }
}

/// Logs and counts a run without rates.
pub fn report_failure(run_at: DateTime<Utc>, error: &dyn std::error::Error, speaker: Speaker) {
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

/// Counts the requests that rates took, and notes what is left of the plan.
pub fn count_requests(origin: Origin) {
    let Origin::Api { attempts, quota } = origin else {
        return;
    };
    metrics::FX_REQUESTS.add(attempts.into());
    for (period, left) in [("month", quota.month), ("minute", quota.minute)] {
        if let Some(left) = left {
            metrics::FX_QUOTA.set_for([period], left as f64);
        }
    }
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
    let (name, requests, quota) = match origin {
        Origin::Api { attempts, quota } => ("api", *attempts, *quota),
        Origin::Cache => ("cache", 0, Default::default()),
        Origin::Offline => (Provider::Offline.as_str(), 0, Default::default()),
    };
    count_requests(*origin);
    FxRatesWritten {
        key: key.clone(),
        provider: rates.provider().as_str().to_owned(),
        origin: name.to_owned(),
        rates: rates
            .iter()
            .map(|(currency, rate)| (currency.to_owned(), rate))
            .collect(),
        requests,
        quota_month: quota.month,
        quota_minute: quota.minute,
        duration_ms: took.as_millis() as u64,
    }
    .emit(speaker);
}
