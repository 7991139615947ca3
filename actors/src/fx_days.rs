//! Fills the days of the events file with FX rates, then ends.
//!
//! Promises: it continues where an earlier run was cut short, logs one line at its end, and one for
//! each pause that the API makes necessary. Relies on [`days`] for which days lack rates.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::prelude::*;
use chrono::NaiveDate;
use ftap_fx::job::{FetchError, FxJob};
use ftap_fx::report::count_requests;
use ftap_fx::{FxError, Provider, days};
use ftap_lake::StageLake;
use ftap_supervision::{Failure, Health, Internal, Stage};
use ftap_telemetry::events::{FxDaysFilled, FxDaysPaused};
use futures::{StreamExt as _, TryStreamExt as _, stream};

/// Days under way at once where no quota counts requests; a bucket takes its time for each.
const OFFLINE_AT_ONCE: usize = 8;
const PAUSE: Duration = Duration::from_secs(600);
/// The quota is the month's.
const QUOTA_PAUSE: Duration = Duration::from_secs(86_400);

/// Reads the days that have events.
pub type EventDays = Arc<dyn Fn() -> io::Result<BTreeSet<NaiveDate>> + Send + Sync>;

/// The actor.
pub struct FxDays {
    filler: Filler,
    days: EventDays,
}

impl FxDays {
    /// Starts with its context; the health learns of a lake that does not answer.
    pub fn new(stage: Stage, job: Arc<FxJob>, health: Arc<Health>, days: EventDays) -> Self {
        let lake = StageLake::new(stage.clone(), job.lake().clone(), health);
        let filler = Filler { stage, job, lake };
        Self { filler, days }
    }
}

impl Actor for FxDays {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Context<Self>) {
        let (filler, days) = (self.filler.clone(), self.days.clone());
        let task = async move {
            // It works as it should also while the API does not.
            filler.stage.generation().ready();
            match filler.run(days).await {
                Ok(()) => filler.stage.generation().finish(),
                Err(error) => filler.stage.fail(error),
            }
        };
        context.spawn(task.into_actor(self));
    }
}

#[derive(Clone)]
struct Filler {
    stage: Stage,
    job: Arc<FxJob>,
    lake: StageLake,
}

/// Why days are left for later.
struct Pause {
    day: NaiveDate,
    length: Duration,
    error: String,
}

impl Filler {
    async fn run(&self, days: EventDays) -> Result<(), Failure> {
        // Every wait in it has an end of its own.
        let _waiting = self.stage.progress().waiting();
        let started = Instant::now();
        let read = tokio::task::spawn_blocking(move || days()).await;
        // The publisher and the load of the tables say what is wrong with the prepared files.
        let days = read.ok().and_then(Result::ok).unwrap_or_default();
        let (Some(first), Some(last)) = (days.first(), days.last()) else {
            return Ok(());
        };
        let provider = self.job.provider();
        let mut written = 0;
        let mut failed_day = None;
        loop {
            let list = async |lake: &_| days::missing(lake, provider, &days).await;
            let mut missing = self.lake.ask("the days with FX rates", list).await?;
            if missing.is_empty() {
                break;
            }
            // A day that always fails must not keep back those after it.
            let at = missing.partition_point(|day| Some(*day) <= failed_day);
            missing.rotate_left(at);
            if let Some(pause) = self.fill(&missing, &mut written).await? {
                failed_day = Some(pause.day);
                FxDaysPaused {
                    left: missing.len() as u64 - written,
                    seconds: pause.length.as_secs(),
                    error: pause.error,
                }
                .emit(self.stage.speaker());
                tokio::time::sleep(pause.length).await;
            }
        }
        FxDaysFilled {
            first: first.to_string(),
            last: last.to_string(),
            days: days.len() as u64,
            written,
            provider: provider.as_str().to_owned(),
            duration_ms: started.elapsed().as_millis() as u64,
        }
        .emit(self.stage.speaker());
        Ok(())
    }

    /// Writes the rates of these days until something makes a pause necessary.
    async fn fill(
        &self,
        missing: &[NaiveDate],
        written: &mut u64,
    ) -> Result<Option<Pause>, Failure> {
        let at_once = match self.job.provider() {
            Provider::Offline => OFFLINE_AT_ONCE,
            Provider::FreeCurrencyApi => 1,
        };
        let days = stream::iter(missing).map(|day| self.day(*day));
        let mut days = days.buffer_unordered(at_once);
        while let Some((is_written, pause)) = days.try_next().await? {
            *written += u64::from(is_written);
            if pause.is_some() {
                return Ok(pause);
            }
        }
        Ok(None)
    }

    /// Writes the rates of a day; whether it did, and whether the next one must wait.
    async fn day(&self, day: NaiveDate) -> Result<(bool, Option<Pause>), Failure> {
        let pause = |length, error| Some(Pause { day, length, error });
        let fetched = match days::fetch(&self.job, day).await {
            Ok(fetched) => fetched,
            Err(FetchError::Rates(error)) => {
                let length = match &error {
                    FxError::QuotaExhausted { .. } => QUOTA_PAUSE,
                    FxError::RateLimited { seconds, .. } => Duration::from_secs(*seconds),
                    _ => PAUSE,
                };
                return Ok((false, pause(length, format!("{day}: {error}"))));
            }
            Err(error) => return Err(Failure::from_error(Internal::Bug, error)),
        };
        count_requests(fetched.origin());
        self.lake.put("fx_days", fetched.file()).await?;
        let next = if days::may_continue(&fetched) {
            None
        } else {
            let error = "the rest of this month's requests is left to INGEST_FX_SCHEDULE";
            pause(QUOTA_PAUSE, error.to_owned())
        };
        Ok((true, next))
    }
}
