//! The lake as a stage uses it: requests are repeated until it answers.
//!
//! Promises: log and health learn of an outage, see [`LakeOutage`]; nothing is asked or put any
//! more once the stage's generation is over.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ftap_supervision::{Backoff, Failure, Health, Internal, Retry, Retryable, Stage, failpoint};
use ftap_telemetry::metrics;

use crate::footer::{Footer, NoConflict};
use crate::outage::LakeOutage;
use crate::put::{ClosedFile, PutError, PutResult, put};
use crate::store::LakeStore;

/// Tries that a new token may help end after about 6 s.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(15));

impl<C> Retryable for PutError<C> {
    fn retry(&self) -> Retry {
        match self {
            Self::Lake(error) => error.retry(),
            Self::Conflict(_) => Retry::Permanent,
        }
    }
}

/// The lake of one stage; clones share it.
#[derive(Clone)]
pub struct StageLake {
    stage: Stage,
    store: LakeStore,
    outage: LakeOutage,
}

impl StageLake {
    pub fn new(stage: Stage, store: LakeStore, health: Arc<Health>) -> Self {
        Self {
            stage,
            store,
            outage: LakeOutage::new(health),
        }
    }

    /// The store, for requests that are made once.
    pub fn store(&self) -> &LakeStore {
        &self.store
    }

    /// Makes a request, `what` in the log, until it is answered or no repetition can help.
    pub async fn ask<T, E>(
        &self,
        what: &str,
        request: impl AsyncFnMut(&LakeStore) -> Result<T, E>,
    ) -> Result<T, Failure>
    where
        E: Retryable + fmt::Display + Into<Failure>,
    {
        self.repeat(what, || Ok(()), request).await
    }

    /// Puts a file, however long it takes. `failpoint` is hit before each try.
    pub async fn put<F: Footer>(
        &self,
        failpoint: &'static str,
        file: &ClosedFile<F>,
    ) -> Result<PutResult<F>, Failure>
    where
        F::Conflict: fmt::Display + Into<Failure>,
    {
        let put = async |lake: &LakeStore| put(lake, file).await;
        self.repeat(&file.key(), || failpoint::hit(failpoint), put)
            .await
    }

    async fn repeat<T, E>(
        &self,
        what: &str,
        before: impl Fn() -> Result<(), Failure>,
        mut request: impl AsyncFnMut(&LakeStore) -> Result<T, E>,
    ) -> Result<T, Failure>
    where
        E: Retryable + fmt::Display + Into<Failure>,
    {
        let mut retries = BACKOFF.start();
        loop {
            if self.stage.is_fenced() {
                let text = "the generation is over";
                return Err(Failure::new(Internal::NeighbourGone, text));
            }
            before()?;
            // A slow store is not a stall: its client has limits of its own.
            let _waiting = self.stage.progress().waiting();
            let error = match request(&self.store).await {
                Ok(answer) => {
                    self.outage.answered(&self.stage);
                    return Ok(answer);
                }
                Err(error) => error,
            };
            let Some(pause) = retries.after(&error) else {
                return Err(error.into());
            };
            metrics::LAKE_RETRIES.add(1);
            self.outage
                .refused(&self.stage, what, error.to_string(), pause);
            tokio::time::sleep(pause.length).await;
        }
    }
}

impl From<NoConflict> for Failure {
    fn from(never: NoConflict) -> Self {
        match never {}
    }
}

impl<C: Into<Failure>> From<PutError<C>> for Failure {
    fn from(error: PutError<C>) -> Self {
        match error {
            PutError::Lake(error) => error.into(),
            PutError::Conflict(conflict) => conflict.into(),
        }
    }
}
