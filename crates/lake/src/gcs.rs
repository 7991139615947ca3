//! The client of a Google Cloud Storage bucket.
//!
//! Promises: a credentials file that can't be used is found before any request is sent,
//! and nothing of its content gets into an error; a test endpoint never sees real
//! credentials.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use object_store::gcp::{
    GcpCredential, GcpCredentialProvider, GoogleCloudStorage, GoogleCloudStorageBuilder,
};
use object_store::{BackoffConfig, ClientOptions, RetryConfig, StaticCredentialProvider};

use crate::error::LakeError;
use crate::whole_listings::WholeListings;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The client's own tries; the caller retries indefinitely, and counts its retries.
const RETRIES: usize = 3;
const RETRY_TIMEOUT: Duration = Duration::from_secs(10);

/// A client for `bucket`.
pub(crate) fn open(
    bucket: &str,
    credentials_file: Option<&Path>,
    endpoint: Option<&str>,
) -> Result<GoogleCloudStorage, LakeError> {
    if bucket.is_empty() || bucket.contains(['/', ':', '?', '#', ' ']) {
        return Err(LakeError::Setting {
            setting: "GCS_BUCKET_NAME",
            value: bucket.to_owned(),
            problem: "wanted a bucket's bare name, without gs:// or a folder".to_owned(),
        });
    }
    let mut options = ClientOptions::new()
        // `patience` has it.
        .with_timeout_disabled()
        .with_connect_timeout(CONNECT_TIMEOUT);
    let mut builder = GoogleCloudStorageBuilder::new()
        .with_bucket_name(bucket)
        .with_http_connector(WholeListings::default())
        .with_retry(RetryConfig {
            backoff: BackoffConfig {
                init_backoff: Duration::from_millis(100),
                max_backoff: Duration::from_secs(2),
                base: 2.0,
            },
            max_retries: RETRIES,
            retry_timeout: RETRY_TIMEOUT,
        });
    // Even beside a test endpoint a wrong file is worth an error.
    let kind = credentials_file.map(check_credentials).transpose()?;
    if let Some(endpoint) = endpoint {
        if !endpoint.starts_with("http://") && !endpoint.starts_with("https://") {
            return Err(LakeError::Setting {
                setting: "GCS_ENDPOINT",
                value: endpoint.to_owned(),
                problem: "wanted a URL such as http://127.0.0.1:4443".to_owned(),
            });
        }
        options = options.with_allow_http(true);
        builder = builder
            .with_base_url(endpoint.trim_end_matches('/'))
            .with_credentials(Arc::new(StaticCredentialProvider::new(GcpCredential {
                bearer: "test-endpoint".to_owned(),
            })));
    } else if let (Some(path), Some(kind)) = (credentials_file, kind) {
        let path = path.to_string_lossy();
        builder = match kind {
            CredentialsKind::ServiceAccount => builder.with_service_account_path(path),
            CredentialsKind::AuthorizedUser => builder.with_application_credentials(path),
        };
    }
    // Options last: some of the builder's setters would be lost otherwise.
    builder
        .with_client_options(options)
        .build()
        .map_err(|error| match credentials_file {
            // The answer may repeat parts of the file.
            Some(path) if endpoint.is_none() => {
                credentials_error(path, "has no usable private key")
            }
            _ => LakeError::Setting {
                setting: "GCS_BUCKET_NAME",
                value: bucket.to_owned(),
                problem: super::refusal::clean(&error.to_string()),
            },
        })
}

/// Tokens of the account that a bucket is used with.
pub fn gcs_credentials(
    bucket: &str,
    credentials_file: Option<&Path>,
) -> Result<GcpCredentialProvider, LakeError> {
    let store = open(bucket, credentials_file, None)?;
    Ok(Arc::clone(store.credentials()))
}

enum CredentialsKind {
    ServiceAccount,
    AuthorizedUser,
}

/// Types of key files that the client can't use; the last two are those of an OAuth client.
const OTHER_KINDS: [&str; 6] = [
    "external_account",
    "external_account_authorized_user",
    "impersonated_service_account",
    "gdch_service_account",
    "installed",
    "web",
];

fn credentials_error(path: &Path, problem: impl Into<String>) -> LakeError {
    LakeError::Credentials {
        path: path.to_owned(),
        problem: problem.into(),
    }
}

fn check_credentials(path: &Path) -> Result<CredentialsKind, LakeError> {
    let text = std::fs::read(path)
        .map_err(|error| credentials_error(path, format!("can't be read: {error}")))?;
    let json: serde_json::Value = serde_json::from_slice(&text).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        credentials_error(path, format!("is not JSON (line {line}, column {column})"))
    })?;
    let text = |name: &str| json.get(name).and_then(serde_json::Value::as_str);
    let needs = |names: [&str; 2]| match names.into_iter().find(|name| text(name).is_none()) {
        Some(name) => Err(credentials_error(path, format!("has no {name}"))),
        None => Ok(()),
    };
    if text("type") == Some("authorized_user") {
        needs(["client_id", "refresh_token"])?;
        return Ok(CredentialsKind::AuthorizedUser);
    }
    // Only names that are known are shown: nothing of the content is.
    let other = OTHER_KINDS
        .into_iter()
        .find(|kind| text("type") == Some(kind) || json.get(kind).is_some());
    if let Some(kind) = other {
        let problem = format!("is of the type {kind}, which is not supported");
        return Err(credentials_error(path, problem));
    }
    needs(["client_email", "private_key"])?;
    Ok(CredentialsKind::ServiceAccount)
}
