//! One run: rates from the API, the cache or the offline provider into the lake.
//!
//! Promises: nothing is written unless all rates are good; a run repeated with the same time
//! changes nothing and asks nobody.

use chrono::{DateTime, NaiveDate, NaiveTime, Utc};
use object_store::ObjectStoreExt as _;

use super::api::{Answer, FxApi, Quota};
use super::object::{self, EncodeError};
use super::{BadRate, FxError, FxSettings, Provider, Rates, cache, offline};
use crate::lake::LakeError;
use crate::lake::store::{LakeStore, PutOutcome};

/// Why a run wrote nothing.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// There are no rates.
    #[error(transparent)]
    Rates(#[from] FxError),
    /// The lake did not take them.
    #[error(transparent)]
    Lake(#[from] LakeError),
    /// A fault of the program.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The offline provider went astray: a fault of the program.
    #[error(transparent)]
    Offline(#[from] BadRate),
}

/// Where a run's rates were from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The API was asked.
    Api {
        /// Requests made.
        attempts: u32,
        /// What is left of the plan.
        quota: Quota,
    },
    /// An earlier answer still stands.
    Cache,
    /// Invented.
    Offline,
}

/// What a run did.
#[derive(Clone, Debug, PartialEq)]
pub enum Done {
    /// The object is in the lake.
    Written {
        /// Its key.
        key: String,
        /// Its rates.
        rates: Rates,
        /// Where they are from.
        origin: Origin,
        /// Why the answer could not be kept for later, if so.
        cache_error: Option<String>,
    },
    /// It was there before; nobody was asked, or somebody was quicker.
    AlreadyThere {
        /// Its key.
        key: String,
    },
}

/// Fetches rates into the lake.
pub struct FxJob {
    settings: FxSettings,
    api: Option<FxApi>,
    lake: LakeStore,
}

impl FxJob {
    /// Checks the settings; nothing is sent.
    pub fn new(settings: FxSettings, lake: LakeStore) -> Result<Self, FxError> {
        let api = match &settings.api_key {
            Some(key) => Some(FxApi::new(&settings.api_url, key, settings.policy)?),
            None => None,
        };
        Ok(Self {
            settings,
            api,
            lake,
        })
    }

    /// Who will be asked.
    pub fn provider(&self) -> Provider {
        match self.api {
            Some(_) => Provider::FreeCurrencyApi,
            None => Provider::Offline,
        }
    }

    /// The newest rates, as of `run_at`, which also names the object.
    pub async fn run(&self, run_at: DateTime<Utc>) -> Result<Done, JobError> {
        let key = object::key(run_at);
        if self.is_there(&key).await? {
            return Ok(Done::AlreadyThere { key });
        }
        let Some(api) = &self.api else {
            let rates = offline::rates(self.settings.offline_seed, run_at.date_naive())?;
            return self.write(key, run_at, rates, Origin::Offline, None).await;
        };
        let (file, url) = (&self.settings.cache_file, &self.settings.api_url);
        let now = Utc::now();
        if let Some(rates) = cache::load(file, url, self.settings.cache_time, now) {
            return self.write(key, run_at, rates, Origin::Cache, None).await;
        }
        let answer = api.latest().await?;
        let kept = cache::save(file, url, &answer.rates, now);
        let cache_error = kept
            .err()
            .map(|error| format!("{}: {error}", file.display()));
        self.write(key, run_at, answer.rates, origin(&answer), cache_error)
            .await
    }

    /// The rates of a day, in an object of its midnight.
    pub async fn backfill(&self, date: NaiveDate) -> Result<Done, JobError> {
        if date > Utc::now().date_naive() {
            return Err(FxError::Future { date }.into());
        }
        let run_at = date.and_time(NaiveTime::MIN).and_utc();
        let key = object::key(run_at);
        if self.is_there(&key).await? {
            return Ok(Done::AlreadyThere { key });
        }
        let (rates, origin) = match &self.api {
            Some(api) => {
                let answer = api.historical(date).await?;
                (answer.rates, origin(&answer))
            }
            None => (
                offline::rates(self.settings.offline_seed, date)?,
                Origin::Offline,
            ),
        };
        self.write(key, run_at, rates, origin, None).await
    }

    async fn is_there(&self, key: &str) -> Result<bool, LakeError> {
        match self.lake.object_store().head(&key.into()).await {
            Ok(_) => Ok(true),
            // Whatever else is wrong the put says better.
            Err(_) => Ok(false),
        }
    }

    async fn write(
        &self,
        key: String,
        run_at: DateTime<Utc>,
        rates: Rates,
        origin: Origin,
        cache_error: Option<String>,
    ) -> Result<Done, JobError> {
        let bytes = object::encode(run_at, &rates)?;
        Ok(match self.lake.put_create(&key, bytes).await? {
            PutOutcome::Created => Done::Written {
                key,
                rates,
                origin,
                cache_error,
            },
            PutOutcome::AlreadyExists => Done::AlreadyThere { key },
        })
    }
}

fn origin(answer: &Answer) -> Origin {
    Origin::Api {
        attempts: answer.attempts,
        quota: answer.quota,
    }
}
