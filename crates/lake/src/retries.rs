//! Requests of a stage that are repeated until the lake answers, and an error of the lake as its stage's.

use std::time::Duration;

use ftap_supervision::{ErrorKind, Stage, StageError};
use ftap_telemetry::metrics;

use crate::{LakeError, LakeOutage, RetryHint};

/// First pause before a request is repeated; doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);
/// Tries after an error that a new token may cure: about 6 s in all.
const BRIEF_TRIES: u32 = 5;

/// The pauses between tries of one request.
pub struct Retries<'a> {
    stage: &'a Stage,
    outage: &'a LakeOutage,
    what: &'a str,
    brief_tries: u32,
    pause: Duration,
}

impl<'a> Retries<'a> {
    pub fn new(stage: &'a Stage, outage: &'a LakeOutage, what: &'a str) -> Self {
        Self {
            stage,
            outage,
            what,
            brief_tries: 0,
            pause: FIRST_PAUSE,
        }
    }

    /// Sleeps before the next try; fails when no try can help.
    pub async fn wait(&mut self, error: LakeError) -> Result<(), StageError> {
        match error.retry() {
            RetryHint::Transient => self.brief_tries = 0,
            RetryHint::Briefly if self.brief_tries < BRIEF_TRIES => self.brief_tries += 1,
            RetryHint::Briefly | RetryHint::Fatal => return Err(stage_error(&error)),
        }
        metrics::LAKE_RETRIES.add(1);
        self.outage
            .refused(self.stage, self.what, error.to_string(), self.pause);
        let _waiting = self.stage.progress().waiting();
        tokio::time::sleep(self.pause).await;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        Ok(())
    }
}

/// An error of the lake as a stage's error.
pub fn stage_error(error: &LakeError) -> StageError {
    let kind = match error.retry() {
        RetryHint::Transient => ErrorKind::LakeUnavailable,
        RetryHint::Briefly | RetryHint::Fatal => ErrorKind::LakeConflict,
    };
    StageError::new(kind, error.to_string())
}
