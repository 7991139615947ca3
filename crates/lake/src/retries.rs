//! Requests of a stage that are repeated until the lake answers.

use std::time::Duration;

use ftap_supervision::{Failure, Retry, Stage};
use ftap_telemetry::metrics;

use crate::{LakeError, LakeOutage};

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
    pub async fn wait(&mut self, error: LakeError) -> Result<(), Failure> {
        match error.retry() {
            Retry::Transient | Retry::Later => self.brief_tries = 0,
            Retry::Briefly if self.brief_tries < BRIEF_TRIES => self.brief_tries += 1,
            Retry::Briefly | Retry::Permanent => return Err(error.into()),
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
