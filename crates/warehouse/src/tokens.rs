//! Tokens for BigQuery, from the lake's credentials.
//!
//! Promises: a token is in no error; a test server gets none that is one.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use ftap_lake::{LakeError, error_text, gcs_credentials};
use ftap_supervision::Retry;
use gcp_bigquery_client::auth::Authenticator;
use gcp_bigquery_client::error::BQError;
use object_store::gcp::GcpCredentialProvider;
use parking_lot::{Mutex, MutexGuard};

use super::BigQuerySettings;
use super::error::BigQueryError;

/// What a test server gets.
const TEST_TOKEN: &str = "test-endpoint";

/// Tokens of the lake's credentials; clones share them.
#[derive(Clone)]
pub(super) struct Tokens(Arc<TokenState>);

struct TokenState {
    bucket: String,
    credentials_file: Option<PathBuf>,
    /// `None` sends a test server's.
    source: Mutex<Option<GcpCredentialProvider>>,
    /// Why there was none: the crate's error has no room for it.
    problem: Mutex<String>,
}

impl Tokens {
    /// Checks the credentials file.
    pub(super) fn open(settings: &BigQuerySettings) -> Result<Self, LakeError> {
        let state = TokenState {
            bucket: settings.bucket.clone(),
            credentials_file: settings.credentials_file.clone(),
            source: Mutex::new(None),
            problem: Mutex::default(),
        };
        if settings.api_url.is_none() {
            *state.source() = Some(state.provider()?);
        }
        Ok(Self(Arc::new(state)))
    }

    /// The source of now, before a request.
    pub(super) fn forget_problem(&self) -> Option<GcpCredentialProvider> {
        self.0.last_error().clear();
        self.0.source().clone()
    }

    /// Asks for a new token, unless another caller did since `old` was read.
    pub(super) fn renew(&self, old: Option<GcpCredentialProvider>) -> Result<(), LakeError> {
        let mut source = self.0.source();
        let is_old = match (&*source, &old) {
            (Some(now), Some(old)) => Arc::ptr_eq(now, old),
            _ => false,
        };
        if is_old {
            *source = Some(self.0.provider()?);
        }
        Ok(())
    }

    /// Why there was no token.
    pub(super) fn problem(&self) -> BigQueryError {
        let detail = self.0.last_error().clone();
        // Google's token endpoint answers a revoked or unknown key with 400.
        let is_refused = [
            "status 400",
            "status 401",
            "status 403",
            "400 Bad",
            "401 Un",
            "403 Fo",
        ];
        let is_refused = is_refused.iter().any(|text| detail.contains(text));
        BigQueryError::Refused {
            place: "account".to_owned(),
            action: "get a token",
            remedy: "check GOOGLE_APPLICATION_CREDENTIALS and this machine's clock".to_owned(),
            retry: if is_refused {
                Retry::Permanent
            } else {
                Retry::Transient
            },
            detail,
        }
    }
}

impl TokenState {
    fn provider(&self) -> Result<GcpCredentialProvider, LakeError> {
        gcs_credentials(&self.bucket, self.credentials_file.as_deref())
    }

    fn source(&self) -> MutexGuard<'_, Option<GcpCredentialProvider>> {
        self.source.lock()
    }

    fn last_error(&self) -> MutexGuard<'_, String> {
        self.problem.lock()
    }
}

#[async_trait]
impl Authenticator for Tokens {
    async fn access_token(&self) -> Result<String, BQError> {
        let source = self.0.source().clone();
        let Some(source) = source else {
            return Ok(TEST_TOKEN.to_owned());
        };
        match source.get_credential().await {
            Ok(credential) => Ok(credential.bearer.clone()),
            Err(error) => {
                *self.0.last_error() = error_text(&error);
                Err(BQError::NoToken)
            }
        }
    }
}
