//! One run: rates from the API, the cache or the offline provider into the lake.
//!
//! Promises: nothing is written unless all rates are good; a run repeated with the same time
//! changes nothing and sends no request.

use chrono::{DateTime, NaiveDate, NaiveTime, Utc};
use ftap_lake::{
    ClosedFile, FileError, FxObjectName, LakeError, LakeStore, PutError, PutResult, put,
};

use super::api::{Answer, FxApi, Quota};
use super::object::{self, FxFooter};
use super::offline::Walk;
use super::{BadRate, FxError, FxSettings, Provider, Rates, cache};

/// Why a run has no object to write.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// There are no rates.
    #[error(transparent)]
    Rates(#[from] FxError),
    /// A fault of the program.
    #[error(transparent)]
    Encode(#[from] FileError),
    /// The offline provider went astray: a fault of the program.
    #[error(transparent)]
    Offline(#[from] BadRate),
}

/// Why a run wrote nothing.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// It had nothing to write.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The lake did not take it.
    #[error(transparent)]
    Lake(#[from] LakeError),
}

/// An object that is ready to be put.
#[derive(Clone, Debug)]
pub struct Fetched {
    file: ClosedFile<FxFooter>,
    rates: Rates,
    origin: Origin,
    cache_error: Option<String>,
}

impl Fetched {
    /// The object.
    pub fn file(&self) -> &ClosedFile<FxFooter> {
        &self.file
    }

    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// What the run did, once the object is in the lake.
    pub fn done(&self, put: &PutResult<FxFooter>) -> Done {
        let key = self.file.key();
        match put {
            PutResult::Created => Done::Written {
                key,
                rates: self.rates,
                origin: self.origin,
                cache_error: self.cache_error.clone(),
            },
            PutResult::Same | PutResult::Overtaken(_) => Done::AlreadyThere { key },
        }
    }
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
        key: String,
        rates: Rates,
        origin: Origin,
        /// Why the answer could not be kept for later, if so.
        cache_error: Option<String>,
    },
    /// It existed before the request, or another process put it first.
    AlreadyThere { key: String },
}

/// Fetches rates into the lake.
pub struct FxJob {
    settings: FxSettings,
    api: Option<FxApi>,
    walk: Walk,
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
            walk: Walk::new(settings.offline_seed),
            settings,
            api,
            lake,
        })
    }

    /// Where the objects go.
    pub fn lake(&self) -> &LakeStore {
        &self.lake
    }

    /// Who will be asked.
    pub fn provider(&self) -> Provider {
        match self.api {
            Some(_) => Provider::FreeCurrencyApi,
            None => Provider::Offline,
        }
    }

    /// The run's end, if its object is in the lake already.
    pub async fn done_before(&self, run_at: DateTime<Utc>) -> Option<Done> {
        let key = FxObjectName(run_at).key();
        // Whatever else is wrong the put says better.
        let is_there = self.lake.exists(&key).await.unwrap_or(false);
        is_there.then_some(Done::AlreadyThere { key })
    }

    /// The newest rates, as the object of the run at `run_at`.
    pub async fn fetch(&self, run_at: DateTime<Utc>) -> Result<Fetched, FetchError> {
        let Some(api) = &self.api else {
            let rates = self.walk.rates(run_at.date_naive())?;
            return self.fetched(run_at, rates, Origin::Offline, None);
        };
        let (file, url) = (&self.settings.cache_file, &self.settings.api_url);
        let now = Utc::now();
        if let Some(rates) = cache::load(file, url, self.settings.cache_time, now) {
            return self.fetched(run_at, rates, Origin::Cache, None);
        }
        let answer = api.latest().await?;
        let kept = cache::save(file, url, &answer.rates, now);
        let cache_error = kept
            .err()
            .map(|error| format!("{}: {error}", file.display()));
        self.fetched(run_at, answer.rates, origin(&answer), cache_error)
    }

    /// The rates of a past time's day, as the object of that time.
    pub(crate) async fn fetch_past(&self, run_at: DateTime<Utc>) -> Result<Fetched, FetchError> {
        let date = run_at.date_naive();
        if date > Utc::now().date_naive() {
            return Err(FxError::Future { date }.into());
        }
        let (rates, origin) = match &self.api {
            Some(api) => {
                let answer = api.historical(date).await?;
                (answer.rates, origin(&answer))
            }
            None => (self.walk.rates(date)?, Origin::Offline),
        };
        self.fetched(run_at, rates, origin, None)
    }

    fn fetched(
        &self,
        run_at: DateTime<Utc>,
        rates: Rates,
        origin: Origin,
        cache_error: Option<String>,
    ) -> Result<Fetched, FetchError> {
        Ok(Fetched {
            file: object::file(
                run_at,
                &rates,
                self.settings.compression,
                &self.settings.writer_id,
            )?,
            rates,
            origin,
            cache_error,
        })
    }

    async fn put(&self, fetched: &Fetched) -> Result<Done, LakeError> {
        match put(&self.lake, &fetched.file).await {
            Ok(committed) => Ok(fetched.done(&committed)),
            Err(PutError::Lake(error)) => Err(error),
            Err(PutError::Conflict(never)) => match never {},
        }
    }

    /// A whole run of now, tried once.
    pub async fn run(&self, run_at: DateTime<Utc>) -> Result<Done, JobError> {
        match self.done_before(run_at).await {
            Some(done) => Ok(done),
            None => Ok(self.put(&self.fetch(run_at).await?).await?),
        }
    }

    /// A whole run of a past time, tried once: the rates are those of its day.
    pub async fn run_past(&self, run_at: DateTime<Utc>) -> Result<Done, JobError> {
        match self.done_before(run_at).await {
            Some(done) => Ok(done),
            None => Ok(self.put(&self.fetch_past(run_at).await?).await?),
        }
    }

    /// The rates of a day, in an object of its midnight.
    pub async fn backfill(&self, date: NaiveDate) -> Result<Done, JobError> {
        self.run_past(midnight(date)).await
    }
}

pub(crate) fn midnight(date: NaiveDate) -> DateTime<Utc> {
    date.and_time(NaiveTime::MIN).and_utc()
}

fn origin(answer: &Answer) -> Origin {
    Origin::Api {
        attempts: answer.attempts,
        quota: answer.quota,
    }
}
