//! What every HTTP client of ftap does the same way: where secrets may go, what may be shown of a
//! failure, how long a server asks to wait.

use std::net::IpAddr;
use std::time::Duration;

use ftap_telemetry::chain;
use reqwest::Url;
use reqwest::header::{HeaderMap, RETRY_AFTER};

/// An address that no secret is sent to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{url} can't be used: {problem}")]
pub struct UnsafeUrl {
    /// As [`without_path`] shows it, without user and password.
    pub url: String,
    pub problem: String,
}

/// An address that credentials may be sent to: https, or plain http to this machine.
///
/// # Errors
/// Anything else.
pub fn safe_url(text: &str) -> Result<Url, UnsafeUrl> {
    let unsafe_url = |problem: String| UnsafeUrl {
        url: without_path(text.rsplit_once('@').map_or(text, |(_, host)| host)),
        problem,
    };
    let url =
        Url::parse(text).map_err(|error| unsafe_url(format!("it is not an address: {error}")))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(unsafe_url(
            "take the user and password out of it".to_owned(),
        ));
    }
    match url.scheme() {
        "https" => Ok(url),
        "http" if is_this_machine(&url) => Ok(url),
        _ => Err(unsafe_url(
            "credentials are sent over https only: begin it with https://".to_owned(),
        )),
    }
}

/// An address with scheme, host and port, and of its path only what surely contains no secret, such as
/// `/api/v1`: some services take a key there. `***` stands for everything else.
pub fn without_path(text: &str) -> String {
    let host = text.find("://").map_or(0, |at| at + "://".len());
    let Some(path) = text[host..].find('/').map(|at| host + at) else {
        return text.to_owned();
    };
    let (address, path) = text.split_at(path);
    let shown = path.split('/').map(|part| match part {
        "" | "api" => part,
        version if is_version(version) => version,
        _ => "***",
    });
    address.to_owned() + &shown.collect::<Vec<_>>().join("/")
}

/// `v1`, `v10.2`.
fn is_version(part: &str) -> bool {
    part.len() <= 5
        && part.strip_prefix('v').is_some_and(|rest| {
            !rest.is_empty()
                && rest
                    .chars()
                    .all(|char| char.is_ascii_digit() || char == '.')
        })
}

/// Whether the host is `localhost` or a loopback address.
pub fn is_this_machine(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || address
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

/// The wait of a `Retry-After` header, in seconds or until a date (RFC 9110, 10.2.3).
pub fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let until = chrono::DateTime::parse_from_rfc2822(value).ok()?;
    let wait = until.signed_duration_since(chrono::Utc::now());
    Some(wait.to_std().unwrap_or(Duration::ZERO))
}

/// What went wrong, with its causes and without the address: that may be a signed one, to which
/// anybody who reads the log would have access.
pub fn problem_of(error: reqwest::Error) -> String {
    chain(&error.without_url())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use reqwest::header::HeaderValue;

    use super::*;

    #[test]
    fn credentials_go_over_https_or_to_this_machine() {
        for safe in [
            "https://api.example.com/v1",
            "http://localhost:8080",
            "http://127.0.0.1:1",
            "http://[::1]:1/v1",
        ] {
            assert!(safe_url(safe).is_ok(), "{safe}");
        }
        for (url, why) in [
            ("api.example.com", "not an address"),
            ("https://me:secret@api.example.com:none", "not an address"),
            ("https://me:secret@api.example.com", "user and password"),
            ("https://secret@api.example.com", "user and password"),
            ("http://api.example.com/secret/v1", "https only"),
            ("http://api.example.com", "https only"),
            ("http://localhost.example.com", "https only"),
            ("http://127.0.0.1.example.com", "https only"),
            ("ftp://localhost", "https only"),
        ] {
            let error = safe_url(url).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn of_a_path_only_versions_and_api_are_shown() {
        for (given, shown) in [
            ("https://host:1/api/v1", "https://host:1/api/v1"),
            ("https://host", "https://host"),
            ("https://host/", "https://host/"),
            ("https://host/v1/s3cret/v2.1/", "https://host/v1/***/v2.1/"),
            ("https://host/v123456", "https://host/***"),
            ("https://host/secret?a/b", "https://host/***/***"),
            ("host/secret", "host/***"),
            ("host:9092", "host:9092"),
        ] {
            assert_eq!(without_path(given), shown);
        }
    }

    #[test]
    fn a_wait_is_in_seconds_or_until_a_date() {
        let wait = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, HeaderValue::from_str(value).unwrap());
            retry_after(&headers)
        };
        assert_eq!(wait(" 17 "), Some(Duration::from_secs(17)));
        assert_eq!(wait("soon"), None);
        assert_eq!(wait("-1"), None);
        assert_eq!(wait("Wed, 21 Oct 2015 07:28:00 GMT"), Some(Duration::ZERO));
        let later = chrono::Utc::now() + chrono::TimeDelta::minutes(10);
        let found = wait(&later.to_rfc2822()).unwrap();
        assert!((590..=600).contains(&found.as_secs()), "{found:?}");
        assert_eq!(retry_after(&HeaderMap::new()), None);
    }
}
