//! Foreign-exchange rates: where they come from, what is accepted, and their objects in the lake.
//!
//! Promises: only complete, positive, finite rates are ever written; generated rates are
//! marked as such; a run's object is written once, even if several processes repeat the run. Relies on the lake's
//! create-only put.

pub mod api;
pub mod cache;
pub mod days;
pub mod job;
pub mod object;
pub mod offline;
pub mod report;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use chrono::NaiveDate;
use ftap_lake::Compression;
use ftap_supervision::Backoff;

/// The currency that rates are quoted in: units of each currency per one of these.
pub(crate) const BASE_CURRENCY: &str = "USD";
/// The currencies of the transactions, in the order of an object's rows.
pub(crate) const CURRENCIES: [&str; 4] = ["EUR", "DKK", "NOK", "SEK"];

/// Who quoted the rates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provider {
    /// freecurrencyapi.com.
    FreeCurrencyApi,
    /// Generated: a random walk around fixed reference rates.
    Offline,
}

impl Provider {
    /// Value of the `provider` column.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::FreeCurrencyApi => "freecurrencyapi",
            Self::Offline => "offline",
        }
    }
}

/// A checked set of rates: units per [`BASE_CURRENCY`], in the order of [`CURRENCIES`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rates {
    values: [f64; CURRENCIES.len()],
    provider: Provider,
}

/// A rate that can't be one.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("the rate of {currency} is {value:e}; wanted a number above 0 and below a million")]
pub struct BadRate {
    currency: &'static str,
    value: f64,
}

impl Rates {
    /// Checks each of the rates.
    pub fn new(values: [f64; CURRENCIES.len()], provider: Provider) -> Result<Self, BadRate> {
        for (currency, value) in CURRENCIES.into_iter().zip(values) {
            if !(value > 0.0 && value < MAX_RATE) {
                return Err(BadRate { currency, value });
            }
        }
        Ok(Self { values, provider })
    }

    /// Currency and rate, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, f64)> {
        CURRENCIES.into_iter().zip(self.values)
    }

    /// Who quoted them.
    pub fn provider(&self) -> Provider {
        self.provider
    }
}

/// No currency had so many units to the dollar but in the last days of a hyperinflation.
const MAX_RATE: f64 = 1e6;

/// A key that prints as stars.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey(String);

impl ApiKey {
    /// Wraps a key.
    pub fn new(key: impl Into<String>) -> Self {
        Self(key.into())
    }

    fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// How rates are fetched.
#[derive(Clone, Debug)]
pub struct FxSettings {
    /// The API's address up to its version, without a slash at the end.
    pub api_url: String,
    /// The key; without one the offline provider answers.
    pub api_key: Option<ApiKey>,
    /// How long an answer stands for the newest rates; zero asks each time.
    pub cache_time: Duration,
    /// Where the last answer is kept over restarts.
    pub cache_file: PathBuf,
    /// Seed of the offline provider.
    pub offline_seed: u64,
    pub compression: Compression,
    /// This process, in the objects' footers.
    pub writer_id: String,
    /// How requests are tried.
    pub policy: RequestPolicy,
}

/// How long and how often a request is tried.
#[derive(Clone, Copy, Debug)]
pub struct RequestPolicy {
    /// A whole try, body included.
    pub timeout: Duration,
    /// Between tries.
    pub backoff: Backoff,
}

impl Default for RequestPolicy {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(20),
            // The API's own limit is by the minute.
            backoff: Backoff::new(Duration::from_secs(1), Duration::from_secs(61)).attempts(5),
        }
    }
}

/// Why there are no rates.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum FxError {
    /// FX_API_URL is not an address, or one that would reveal the key.
    #[error(
        "FX_API_URL is {url:?}: {problem}; the usual one is https://api.freecurrencyapi.com/v1"
    )]
    BadUrl {
        /// The address, without user and password.
        url: String,
        problem: String,
    },
    /// The key is wrong, or may not do this.
    #[error(
        "the FX API at {url} refused FREECURRENCYAPI_API_KEY with status {status}: check the key at app.freecurrencyapi.com, or unset it for offline rates"
    )]
    Refused {
        /// The endpoint.
        url: String,
        /// The HTTP status.
        status: u16,
    },
    /// This month's requests are used up.
    #[error(
        "the FX API's monthly quota is used up (status 429 from {url}): nothing was written; wait for the next month, use another plan, or fetch less often (INGEST_FX_SCHEDULE, FX_CACHE_SECONDS)"
    )]
    QuotaExhausted {
        /// The endpoint.
        url: String,
    },
    /// Too many requests, and the wait asked for is too long.
    #[error(
        "the FX API at {url} wants a pause of {seconds} s (status 429): nothing was written; the next run tries again"
    )]
    RateLimited {
        /// The endpoint.
        url: String,
        /// The wait that it asks for.
        seconds: u64,
    },
    /// A status that no retry fixes, or one that persisted.
    #[error(
        "the FX API at {url} answered with status {status}, {attempts} times: nothing was written"
    )]
    Status {
        /// The endpoint.
        url: String,
        /// The HTTP status.
        status: u16,
        /// Tries made.
        attempts: u32,
    },
    /// No answer, or half of one.
    #[error(
        "the FX API at {url} could not be asked, {attempts} times: {problem}; nothing was written"
    )]
    Network {
        /// The endpoint.
        url: String,
        /// Tries made.
        attempts: u32,
        /// What went wrong, without secrets.
        problem: String,
    },
    /// An answer that is not what the API documents.
    #[error(
        "the FX API at {url} gave an answer that can't be used: {problem}; nothing was written"
    )]
    BadAnswer {
        /// The endpoint.
        url: String,
        problem: String,
    },
    /// A day of which no rates can exist yet.
    #[error("{date} is in the future: there are no rates of it")]
    Future {
        /// The day.
        date: NaiveDate,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_positive_finite_rates_are_rates() {
        assert!(Rates::new([0.9, 6.8, 10.5, 10.4], Provider::Offline).is_ok());
        for wrong in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            let error =
                Rates::new([0.9, wrong, 10.5, 10.4], Provider::Offline).expect_err("no rate");
            assert!(error.to_string().contains("DKK"), "{error}");
        }
    }

    #[test]
    fn a_key_never_prints() {
        assert_eq!(format!("{:?}", ApiKey::new("hunter2")), "***");
    }
}
