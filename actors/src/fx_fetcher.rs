//! Fetches FX rates when told to.
//!
//! Promises: one run at a time; a run that fails is logged and leaves nothing behind, the next one
//! tries again; the actor itself ends only over what no run can mend. Relies on [`FxJob`].

use std::time::{Duration, Instant};

use chrono::{DateTime, SecondsFormat, Utc};
use metrics::{counter, gauge};

use crate::events::{
    FxCacheFailed, FxRatesFailed, FxRatesKept, FxRatesOffline, FxRatesWritten, Speaker,
};
use crate::fx::Provider;
use crate::fx::job::{Done, FxJob, JobError, Origin};

/// One run, logged and counted.
pub async fn run(job: &FxJob, run_at: DateTime<Utc>, speaker: Speaker) -> Result<Done, JobError> {
    let started = Instant::now();
    let done = job.run(run_at).await;
    match &done {
        Ok(done) => report(done, started.elapsed(), speaker),
        Err(error) => {
            counter!("ftap_fx_runs_total", "outcome" => "failed").increment(1);
            FxRatesFailed {
                run_at: run_at.to_rfc3339_opts(SecondsFormat::Secs, true),
                error: error.to_string(),
            }
            .emit(speaker);
        }
    }
    done
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
            counter!("ftap_fx_runs_total", "outcome" => "kept").increment(1);
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
    counter!("ftap_fx_runs_total", "outcome" => "written").increment(1);
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
    counter!("ftap_fx_requests_total").increment(requests.into());
    for (period, left) in [("month", quota.month), ("minute", quota.minute)] {
        if let Some(left) = left {
            gauge!("ftap_fx_quota_remaining", "period" => period).set(left as f64);
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
