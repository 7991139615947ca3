//! `ftap fx`: the FX rates of past days.
//!
//! Promises: days that are in the lake are neither asked for nor written again, so a run that was
//! cut short is simply repeated; the first error ends it, and what was written stays.

use std::time::Instant;

use chrono::NaiveDate;
use ftap_fx::job::{Done, FetchError, FxJob, JobError};
use ftap_fx::report as fx_report;
use ftap_fx::{FxError, Provider};
use ftap_lake::LakeStore;
use ftap_telemetry::events::Speaker;
use ftap_telemetry::figures::count;

use crate::cli::FxArgs;
use crate::config::Config;
use crate::data_dir::make_writable;
use crate::exit::{self, BadUsage};
use crate::output::print;

/// What writes rates into the lake of the settings; says so if they will be generated.
pub(crate) fn open(config: &Config) -> anyhow::Result<FxJob> {
    if config.gcs_bucket.is_none() {
        make_writable(&config.lake_dir, "LAKE_DIR")?;
    }
    let lake = LakeStore::open(&config.lake())?;
    let job = FxJob::new(config.fx_settings(), lake).map_err(usage)?;
    if job.provider() == Provider::Offline {
        fx_report::warn_offline(Speaker::PROCESS);
    }
    Ok(job)
}

/// Writes one object a day and says how many.
pub(crate) async fn execute(config: &Config, args: &FxArgs) -> anyhow::Result<u8> {
    let (first, last) = (args.date, args.to.unwrap_or(args.date));
    if last < first {
        return Err(BadUsage(format!(
            "--to {last} is before --date {first}: give the earlier day as --date"
        ))
        .into());
    }
    let job = open(config)?;
    let (mut written, mut kept) = (0, 0);
    for date in first.iter_days().take_while(|date| *date <= last) {
        let started = Instant::now();
        let done = job.backfill(date).await;
        let done = done.map_err(|error| stopped(error, date, written, kept))?;
        fx_report::report(&done, started.elapsed(), Speaker::PROCESS);
        match done {
            Done::Written { .. } => written += 1,
            Done::AlreadyThere { .. } => kept += 1,
        }
    }
    print(&format!(
        "{} of FX rates written, {} were there ({first} to {last}, {})\n",
        days(written),
        count(kept),
        job.provider().as_str()
    ))?;
    Ok(exit::DONE)
}

fn days(number: u64) -> String {
    match number {
        1 => "1 day".to_owned(),
        _ => format!("{} days", count(number)),
    }
}

fn usage(error: FxError) -> anyhow::Error {
    BadUsage(error.to_string()).into()
}

fn stopped(error: JobError, date: NaiveDate, written: u64, kept: u64) -> anyhow::Error {
    let done = format!(
        "{date}: stopped after {} written and {} that existed; the same command continues from here",
        days(written),
        count(kept)
    );
    match error {
        JobError::Fetch(FetchError::Rates(error @ FxError::Future { .. })) => {
            BadUsage(error.to_string()).into()
        }
        error => anyhow::Error::new(error).context(done),
    }
}
