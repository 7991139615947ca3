//! freecurrencyapi.com.
//!
//! Promises: the key travels in a header, to the configured host alone (no redirects) and over TLS
//! unless that host is this machine, and is in no error; every answer is checked whole before it
//! counts; a request ends within its policy, whatever the server does. Errors on the server's side
//! and validation errors cost no quota, by the API's documents, so trying again is free.

use std::time::Duration;

use chrono::NaiveDate;
use ftap_http_client::{
    UnsafeUrl, is_this_machine, problem_of, retry_after, safe_url, without_path,
};
use ftap_supervision::{Retry, Retryable};
use reqwest::header::{HeaderMap, HeaderValue};
use reqwest::{Client, Response, StatusCode, Url, redirect};
use serde_json::{Map, Value};

use super::{ApiKey, BASE_CURRENCY, CURRENCIES, FxError, Provider, Rates, RequestPolicy};

/// An answer takes some 100 bytes.
const MAX_ANSWER_BYTES: usize = 64 * 1024;
/// The API's limit goes by the minute: a refusal without a `Retry-After` ends with it.
const MINUTE: Duration = Duration::from_secs(60);
const KEY_HEADER: &str = "apikey";
const REMAINING_MONTH: &str = "x-ratelimit-remaining-quota-month";
const REMAINING_MINUTE: &str = "x-ratelimit-remaining-quota-minute";

/// What is left of the plan, as far as the server says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quota {
    /// Requests until the month ends.
    pub month: Option<u64>,
    /// Requests until the minute ends.
    pub minute: Option<u64>,
}

/// Rates, and what asking for them cost.
#[derive(Clone, Copy, Debug)]
pub struct Answer {
    pub rates: Rates,
    /// What is left.
    pub quota: Quota,
    /// Requests made.
    pub attempts: u32,
}

/// A client of the API.
pub struct FxApi {
    client: Client,
    base: Url,
    policy: RequestPolicy,
}

impl FxApi {
    /// Checks the address; nothing is sent.
    pub fn new(api_url: &str, key: &ApiKey, policy: RequestPolicy) -> Result<Self, FxError> {
        let base = safe_url(api_url)
            .map_err(|UnsafeUrl { url, problem }| FxError::BadUrl { url, problem })?;
        let bad = |problem: String| FxError::BadUrl {
            url: without_path(base.as_str()),
            problem,
        };
        let mut value = HeaderValue::from_str(key.expose()).map_err(|_says_no_more| {
            bad("FREECURRENCYAPI_API_KEY contains characters that no key has".to_owned())
        })?;
        value.set_sensitive(true);
        let mut headers = HeaderMap::new();
        headers.insert(KEY_HEADER, value);
        let mut builder = Client::builder()
            .user_agent(concat!("ftap/", env!("CARGO_PKG_VERSION")))
            .default_headers(headers)
            // A header of our own would travel along.
            .redirect(redirect::Policy::none())
            .timeout(policy.timeout)
            .connect_timeout(policy.timeout.min(Duration::from_secs(10)));
        if is_this_machine(&base) {
            builder = builder.no_proxy();
        }
        let client = builder.build().map_err(|error| {
            bad(format!(
                "no client can be made for it: {}",
                problem_of(error)
            ))
        })?;
        Ok(Self {
            client,
            base,
            policy,
        })
    }

    /// The newest rates.
    pub async fn latest(&self) -> Result<Answer, FxError> {
        self.ask("latest", None, rates_of).await
    }

    /// The rates of a day; costs one request, as [`FxApi::latest`] does.
    pub async fn historical(&self, date: NaiveDate) -> Result<Answer, FxError> {
        let date = date.to_string();
        self.ask("historical", Some(&date), |data| match data.get(&date) {
            Some(Value::Object(day)) => rates_of(day),
            _ => Err(format!("`data` has no object of {date}")),
        })
        .await
    }

    fn endpoint(&self, name: &str, date: Option<&str>) -> Url {
        let mut url = self.base.clone();
        url.set_path(&format!(
            "{}/{name}",
            self.base.path().trim_end_matches('/')
        ));
        let mut query = url.query_pairs_mut();
        if let Some(date) = date {
            query.append_pair("date", date);
        }
        query
            .append_pair("base_currency", BASE_CURRENCY)
            .append_pair("currencies", &CURRENCIES.join(","));
        drop(query);
        url
    }

    async fn ask(
        &self,
        endpoint: &str,
        date: Option<&str>,
        read: impl Fn(&Map<String, Value>) -> Result<Rates, String>,
    ) -> Result<Answer, FxError> {
        let url = self.endpoint(endpoint, date);
        let base = without_path(self.base.as_str());
        let shown = format!("{}/{endpoint}", base.trim_end_matches('/'));
        let mut attempts = 0;
        let ask = async || {
            attempts += 1;
            self.attempt(&url, &shown, &read).await
        };
        match self.policy.backoff.retry(ask, |_, _| {}).await {
            Ok((rates, quota)) => Ok(Answer {
                rates,
                quota,
                attempts,
            }),
            Err(failure) => Err(failure.into_error(shown, attempts)),
        }
    }

    async fn attempt(
        &self,
        url: &Url,
        shown: &str,
        read: impl Fn(&Map<String, Value>) -> Result<Rates, String>,
    ) -> Result<(Rates, Quota), Failure> {
        let response = self.client.get(url.clone()).send().await;
        let response = response.map_err(Failure::network)?;
        let quota = quota_of(response.headers());
        match response.status() {
            StatusCode::OK => {}
            status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
                return Err(Failure::Final(FxError::Refused {
                    url: shown.to_owned(),
                    status: status.as_u16(),
                }));
            }
            StatusCode::TOO_MANY_REQUESTS if quota.month == Some(0) => {
                return Err(Failure::Final(FxError::QuotaExhausted {
                    url: shown.to_owned(),
                }));
            }
            StatusCode::TOO_MANY_REQUESTS => {
                return Err(Failure::AskedToWait(
                    retry_after(response.headers()).unwrap_or(MINUTE),
                ));
            }
            status if status.is_server_error() || status == StatusCode::REQUEST_TIMEOUT => {
                return Err(Failure::Status(status));
            }
            status => {
                return Err(Failure::Final(FxError::Status {
                    url: shown.to_owned(),
                    status: status.as_u16(),
                    attempts: 1,
                }));
            }
        }
        let body = body_of(response).await?;
        let rates = parse(&body).and_then(|data| read(&data));
        match rates {
            Ok(rates) => Ok((rates, quota)),
            Err(problem) => Err(Failure::Final(FxError::BadAnswer {
                url: shown.to_owned(),
                problem,
            })),
        }
    }
}

enum Failure {
    /// Trying again can't help.
    Final(FxError),
    Status(StatusCode),
    Network(String),
    AskedToWait(Duration),
}

impl Retryable for Failure {
    fn retry(&self) -> Retry {
        match self {
            Self::Final(_) => Retry::Permanent,
            Self::Status(_) | Self::Network(_) | Self::AskedToWait(_) => Retry::Transient,
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::AskedToWait(wait) => Some(*wait),
            Self::Final(_) | Self::Status(_) | Self::Network(_) => None,
        }
    }
}

impl Failure {
    fn network(error: reqwest::Error) -> Self {
        Self::Network(problem_of(error))
    }

    fn into_error(self, url: String, attempts: u32) -> FxError {
        match self {
            Self::Final(error) => error,
            Self::Status(status) => FxError::Status {
                url,
                status: status.as_u16(),
                attempts,
            },
            Self::Network(problem) => FxError::Network {
                url,
                attempts,
                problem,
            },
            Self::AskedToWait(wait) => FxError::RateLimited {
                url,
                seconds: wait.as_secs(),
            },
        }
    }
}

async fn body_of(mut response: Response) -> Result<Vec<u8>, Failure> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(Failure::network)? {
        if body.len() + chunk.len() > MAX_ANSWER_BYTES {
            return Err(Failure::Network(format!(
                "its answer is longer than {MAX_ANSWER_BYTES} bytes"
            )));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// The object under `data`.
fn parse(body: &[u8]) -> Result<Map<String, Value>, String> {
    let Ok(answer) = serde_json::from_slice::<Value>(body) else {
        // Nothing of it is shown: a server that complains about the key may repeat it.
        return Err(if body.trim_ascii_start().starts_with(b"<") {
            "it is an HTML page, not JSON".to_owned()
        } else {
            format!("it is not JSON, {} bytes of something else", body.len())
        });
    };
    match answer {
        Value::Object(mut answer) => match answer.remove("data") {
            Some(Value::Object(data)) => Ok(data),
            _ => Err("it has no object `data`".to_owned()),
        },
        _ => Err("it is not a JSON object".to_owned()),
    }
}

fn rates_of(data: &Map<String, Value>) -> Result<Rates, String> {
    let mut values = [0.0; CURRENCIES.len()];
    for (value, currency) in values.iter_mut().zip(CURRENCIES) {
        *value = match data.get(currency) {
            None => return Err(format!("the rate of {currency} is missing")),
            Some(rate) => rate.as_f64().ok_or_else(|| {
                let found = match rate {
                    Value::Null => "null",
                    Value::String(_) => "a text",
                    _ => "no number",
                };
                format!("the rate of {currency} is {found}; wanted a number above 0")
            })?,
        };
    }
    Rates::new(values, Provider::FreeCurrencyApi).map_err(|error| error.to_string())
}

fn quota_of(headers: &HeaderMap) -> Quota {
    let number = |name| headers.get(name)?.to_str().ok()?.trim().parse().ok();
    Quota {
        month: number(REMAINING_MONTH),
        minute: number(REMAINING_MINUTE),
    }
}
