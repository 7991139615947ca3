//! Rates for the days of the data: one object a day, of its midnight.
//!
//! Promises: a day that has its object is neither asked for nor written again, so a fill that was cut
//! short continues where it ended; requests to the API leave the schedule its share of the month.

use std::collections::BTreeSet;

use chrono::{Datelike as _, Days, NaiveDate, Utc};
use ftap_lake::{FX_RATES, FxObjectName, LakeError, LakeStore};
use futures::TryStreamExt as _;

use crate::Provider;
use crate::job::{FetchError, Fetched, FxJob, Origin, midnight};

/// Requests of the month that a fill leaves to the schedule.
const KEPT_REQUESTS: u64 = 500;
/// The first day of which freecurrencyapi.com has rates.
const FIRST_DAY_OF_API: NaiveDate =
    NaiveDate::from_ymd_opt(1999, 1, 1).expect("a day of the calendar");

/// The days of `days` that can have rates and have no object of their midnight.
pub async fn missing(
    lake: &LakeStore,
    provider: Provider,
    days: &BTreeSet<NaiveDate>,
) -> Result<Vec<NaiveDate>, LakeError> {
    let today = Utc::now().date_naive();
    // The rates of a day are settled when it is over.
    let (first, end) = match provider {
        Provider::Offline => (NaiveDate::MIN, today + Days::new(1)),
        Provider::FreeCurrencyApi => (FIRST_DAY_OF_API, today),
    };
    if first >= end {
        return Ok(Vec::new());
    }
    let mut missing = Vec::new();
    let mut listed = None;
    let mut there = BTreeSet::new();
    for day in days.range(first..end) {
        // By month: the folders of today may hold thousands of objects that are of no interest.
        let month = (day.year(), day.month());
        if listed != Some(month) {
            there = midnights(lake, *day).await?;
            listed = Some(month);
        }
        if !there.contains(day) {
            missing.push(*day);
        }
    }
    Ok(missing)
}

/// The days of a month that have an object of their midnight.
async fn midnights(lake: &LakeStore, day: NaiveDate) -> Result<BTreeSet<NaiveDate>, LakeError> {
    let folder = format!("{}/{}", FX_RATES.name, day.format("%Y/%m"));
    let objects = lake.list(&folder);
    let names = objects.map_ok(|object| FxObjectName::parse(&object.key));
    let names: Vec<_> = names.try_collect().await?;
    let times = names.into_iter().flatten().map(|FxObjectName(time)| time);
    Ok(times
        .filter(|time| midnight(time.date_naive()) == *time)
        .map(|time| time.date_naive())
        .collect())
}

/// The rates of a day that [`missing`] gave, to be put.
pub async fn fetch(job: &FxJob, day: NaiveDate) -> Result<Fetched, FetchError> {
    job.fetch_past(midnight(day)).await
}

/// Whether the month's requests allow another day after this one.
pub fn may_continue(fetched: &Fetched) -> bool {
    match fetched.origin() {
        Origin::Api { quota, .. } => quota.month.is_none_or(|left| left > KEPT_REQUESTS),
        Origin::Cache | Origin::Offline => true,
    }
}
