//! Downloads the original data set by Kaggle's public API.
//!
//! Promises: the credentials go to the API's host alone, over TLS (or to this machine), and never
//! again once a redirect has left it; neither the key nor a signed address is in an error; the CSV appears when
//! it is whole and its checksum holds. Memory is flat: the archive goes to a temporary file. What
//! may pass (5xx, timeouts, a cut connection, a short `Retry-After`) is tried again with backoff.

mod archive;
mod credentials;

use std::path::{Path, PathBuf};
use std::time::Duration;

pub use credentials::KaggleCredentials;
use ftap_http_client::{
    UnsafeUrl, is_this_machine, problem_of, retry_after, safe_url, without_path,
};
use ftap_supervision::{Backoff, Retry, Retryable};
use reqwest::header::LOCATION;
use reqwest::{Client, Response, StatusCode, Url, redirect};

use crate::error::DatasetError;
use crate::pending::PendingFile;

/// The data set: owner and name.
pub(crate) const DATASET: &str = "priyamchoksi/credit-card-transactions-dataset";

const ARCHIVE_FILE: &str = "credit_card_transactions.zip";
const MAX_REDIRECTS: usize = 10;

/// How long a download is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DownloadPolicy {
    /// Between requests.
    pub backoff: Backoff,
    /// No byte for so long is a failure.
    pub idle_timeout: Duration,
}

impl Default for DownloadPolicy {
    fn default() -> Self {
        Self {
            backoff: Backoff::new(Duration::from_secs(1), Duration::from_secs(60)).attempts(5),
            idle_timeout: Duration::from_secs(60),
        }
    }
}

/// Downloads the data set from the API at `base_url` and unpacks
/// [`crate::schema::SOURCE_FILE`] into `out_dir`. `progress` gets the bytes so far and, where the
/// server says it, the size; a retry begins at 0 again.
///
/// # Errors
/// Refused credentials, an unknown data set, a network that stays down, an answer that is not an
/// archive with the CSV in it, and whatever keeps the files from being written.
pub async fn download(
    credentials: &KaggleCredentials,
    base_url: &str,
    out_dir: &Path,
    progress: &mut (dyn FnMut(u64, Option<u64>) + Send),
) -> Result<PathBuf, DatasetError> {
    let policy = DownloadPolicy::default();
    download_with(&policy, credentials, base_url, out_dir, progress).await
}

/// [`download`] under another policy.
///
/// # Errors
/// As [`download`].
pub async fn download_with(
    policy: &DownloadPolicy,
    credentials: &KaggleCredentials,
    base_url: &str,
    out_dir: &Path,
    progress: &mut (dyn FnMut(u64, Option<u64>) + Send),
) -> Result<PathBuf, DatasetError> {
    let url = endpoint(base_url)?;
    let client = client(&url, policy)?;
    let mut attempts = 0;
    let fetch = async || {
        attempts += 1;
        fetch(&client, &url, credentials, out_dir, progress).await
    };
    let archive = policy.backoff.retry(fetch, |_, _| {}).await;
    let archive = archive.map_err(|failure| failure.into_error(&url, attempts))?;
    let out_dir = out_dir.to_path_buf();
    let unpacking = tokio::task::spawn_blocking(move || {
        // The archive lives until here and is removed with its handle.
        archive::extract(archive.part_path(), &out_dir)
    });
    unpacking.await.unwrap_or_else(|stopped| {
        Err(DatasetError::DamagedArchive {
            problem: stopped.to_string(),
        })
    })
}

/// Why a request brought no archive.
enum Failure {
    /// No retry can fix it.
    Final(DatasetError),
    /// The next attempt may succeed.
    Passing(Passing),
    /// HTTP 429.
    AskedToWait(Option<Duration>),
}

enum Passing {
    Status(StatusCode),
    Network(String),
}

impl Retryable for Failure {
    fn retry(&self) -> Retry {
        match self {
            Self::Final(_) => Retry::Permanent,
            Self::Passing(_) | Self::AskedToWait(_) => Retry::Transient,
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::AskedToWait(wait) => *wait,
            Self::Final(_) | Self::Passing(_) => None,
        }
    }
}

impl Failure {
    fn network(error: reqwest::Error) -> Self {
        Self::Passing(Passing::Network(problem_of(error)))
    }

    fn into_error(self, url: &Url, attempts: u32) -> DatasetError {
        let url = shown(url);
        match self {
            Self::Final(error) => error,
            Self::AskedToWait(wait) => DatasetError::RateLimited { wait },
            Self::Passing(Passing::Status(status)) => DatasetError::HttpStatus {
                url,
                status: status.as_u16(),
            },
            Self::Passing(Passing::Network(problem)) => DatasetError::Network {
                url,
                attempts,
                problem,
            },
        }
    }
}

impl From<DatasetError> for Failure {
    fn from(error: DatasetError) -> Self {
        Self::Final(error)
    }
}

fn endpoint(base_url: &str) -> Result<Url, DatasetError> {
    let base = base_url.trim_end_matches('/');
    safe_url(&format!("{base}{}", path()))
        .map_err(|UnsafeUrl { url, problem }| DatasetError::BadBaseUrl { url, problem })
}

fn path() -> String {
    format!("/datasets/download/{DATASET}")
}

/// The address as errors show it.
fn shown(url: &Url) -> String {
    let path = path();
    match url.as_str().strip_suffix(&path) {
        Some(base) => without_path(base) + &path,
        None => without_path(url.as_str()),
    }
}

fn client(url: &Url, policy: &DownloadPolicy) -> Result<Client, DatasetError> {
    let mut builder = Client::builder()
        .user_agent(concat!("ftap/", env!("CARGO_PKG_VERSION")))
        // `ask` follows them.
        .redirect(redirect::Policy::none())
        .connect_timeout(policy.idle_timeout.min(Duration::from_secs(10)))
        .read_timeout(policy.idle_timeout);
    if is_this_machine(url) {
        builder = builder.no_proxy();
    }
    builder
        .build()
        .map_err(|e| Failure::network(e).into_error(url, 0))
}

/// One attempt: asks for the archive and writes it to a temporary file.
async fn fetch(
    client: &Client,
    url: &Url,
    credentials: &KaggleCredentials,
    out_dir: &Path,
    progress: &mut (dyn FnMut(u64, Option<u64>) + Send),
) -> Result<PendingFile, Failure> {
    let response = ask(client, url, credentials).await?;
    let mut response = check_status(response, url, credentials)?;
    let total = response.content_length();
    let mut archive = PendingFile::create(out_dir, ARCHIVE_FILE)?;
    let mut head = Vec::new();
    let mut is_archive = false;
    progress(0, total);
    while let Some(chunk) = response.chunk().await.map_err(Failure::network)? {
        if !is_archive {
            head.extend_from_slice(&chunk[..chunk.len().min(256)]);
            is_archive = looks_like_archive(&head, url)?;
        }
        archive.buffer().extend_from_slice(&chunk);
        archive.spill()?;
        progress(archive.bytes(), total);
    }
    if !is_archive {
        return Err(not_an_archive(&head, url).into());
    }
    archive.sync()?;
    Ok(archive)
}

/// Asks the API and follows where it redirects to. reqwest compares a redirect's host with the one
/// before only, so it would send the credentials to a host that redirects to itself.
async fn ask(
    client: &Client,
    api: &Url,
    credentials: &KaggleCredentials,
) -> Result<Response, Failure> {
    let refused = |problem: &str| Err(Failure::Passing(Passing::Network(problem.to_owned())));
    let mut url = api.clone();
    let mut has_left_api = false;
    for _ in 0..=MAX_REDIRECTS {
        let mut request = client.get(url.clone());
        if !has_left_api {
            request = credentials.authorize(request);
        }
        let response = request.send().await.map_err(Failure::network)?;
        let location = response.headers().get(LOCATION);
        let Some(location) = location.filter(|_| response.status().is_redirection()) else {
            return Ok(response);
        };
        let target = location.to_str().ok().and_then(|to| url.join(to).ok());
        let Some(target) = target else {
            return refused("redirected to what is not an address");
        };
        if url.scheme() == "https" && target.scheme() != "https" {
            return refused("redirected from https to another scheme");
        }
        has_left_api |= target.origin() != api.origin();
        url = target;
    }
    refused("too many redirects")
}

fn check_status(
    response: Response,
    url: &Url,
    credentials: &KaggleCredentials,
) -> Result<Response, Failure> {
    let status = response.status();
    match status {
        status if status.is_success() => Ok(response),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            Err(Failure::Final(DatasetError::Refused {
                owner: credentials.owner().to_owned(),
                status: status.as_u16(),
            }))
        }
        StatusCode::NOT_FOUND => Err(Failure::Final(DatasetError::DatasetNotFound {
            url: shown(url),
        })),
        StatusCode::TOO_MANY_REQUESTS => Err(Failure::AskedToWait(retry_after(response.headers()))),
        status if status.is_server_error() || status == StatusCode::REQUEST_TIMEOUT => {
            Err(Failure::Passing(Passing::Status(status)))
        }
        status => Err(Failure::Final(DatasetError::HttpStatus {
            url: shown(url),
            status: status.as_u16(),
        })),
    }
}

/// Whether the first bytes are a zip archive's; false when there are too few to tell.
fn looks_like_archive(head: &[u8], url: &Url) -> Result<bool, DatasetError> {
    if head.len() < 4 {
        return Ok(false);
    }
    if head.starts_with(b"PK\x03\x04") || head.starts_with(b"PK\x05\x06") {
        return Ok(true);
    }
    Err(not_an_archive(head, url))
}

fn not_an_archive(head: &[u8], url: &Url) -> DatasetError {
    let text = String::from_utf8_lossy(head);
    let text = text.trim_start();
    let seen = if text.is_empty() {
        "empty".to_owned()
    } else if text.starts_with('<') {
        "an HTML page, such as a login or error page".to_owned()
    } else if text.starts_with('{') {
        "a JSON message".to_owned()
    } else {
        "something else".to_owned()
    };
    DatasetError::NotAnArchive {
        url: shown(url),
        seen,
    }
}
