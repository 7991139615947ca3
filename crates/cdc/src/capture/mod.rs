//! Captures the changes of PostgreSQL's tables into the lake.
//!
//! Promises: what [`changes`](ftap_cdc) promises, over kills and restarts of this
//! process and of the server. A place in the server's log is acknowledged only when every
//! object up to it and a checkpoint of it are durable; as the log of an idle server grows, a message
//! in it moves the slot on. A server that does not answer is retried indefinitely.

mod heartbeat;
mod lag;
mod put;
mod session;
mod snapshot;
mod stream;
mod tables;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use ftap_lake::{CAPTURED_TABLES, LakeStore, StageLake};
use ftap_postgres::{PostgresError, PostgresLocation, Preparation, note_answer, pool};
use ftap_supervision::{
    Backoff, Entry, Failure, FailureKind, Health, Pause, Retry, Retryable, Stage,
};
use ftap_telemetry::events::ChangeCaptureInterrupted;
use ftap_telemetry::metrics;
use lag::LagClock;
use session::{Session, SessionEnd, SessionError};

use crate::CaptureSettings;

/// Between sessions.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(15))
    .healthy_after(Duration::from_secs(10));

/// Kinds of failure of change capture, those of PostgreSQL and the lake apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CaptureFailure {
    /// The lake's changes and PostgreSQL's slot contradict each other.
    Conflict,
}

impl FailureKind for CaptureFailure {
    fn entry(self) -> Entry {
        match self {
            Self::Conflict => Entry {
                name: "changes_conflict",
                domain: "postgres",
                retry: Retry::Permanent,
                remedy: "check that POSTGRES_HOST, CDC_SLOT and the lake belong together, then do what the error says",
            },
        }
    }
}

/// What change capture needs.
#[derive(Clone)]
pub struct CaptureParts {
    /// Where PostgreSQL is.
    pub location: PostgresLocation,
    /// Makes the tables where there are none.
    pub preparation: Preparation,
    /// The settings.
    pub settings: Arc<CaptureSettings>,
    /// Whether a snapshot that was asked for is still to be taken; outlives generations.
    pub resnapshot: Arc<AtomicBool>,
    /// Where the changes go.
    pub lake: LakeStore,
    /// Reports that the lake does not answer.
    pub health: Arc<Health>,
    /// End when everything is in the lake that the server has at the start.
    pub until_drained: bool,
    /// The process has nothing else to do: without PostgreSQL this is a failure.
    pub is_all: bool,
}

/// Captures until a stop is asked for, the drain is done, or no retry can help.
pub async fn run(stage: &Stage, parts: CaptureParts) -> Result<(), Failure> {
    let mut lag = LagClock::default();
    for table in CAPTURED_TABLES {
        metrics::CHANGES_COMMITTED.expect_for([table]);
        metrics::CHANGE_FILES_COMMITTED.expect_for([table]);
    }
    let lake = StageLake::new(stage.clone(), parts.lake.clone(), parts.health.clone());
    let capture = async || {
        let done = sessions(stage, &parts, &lake, &mut lag).await;
        if let Err(error) = &done {
            lag.report(false, Instant::now());
            if error.is_silence() {
                note_answer(false);
            }
        }
        done
    };
    let report = |error: &SessionError, pause: Pause| {
        ChangeCaptureInterrupted {
            attempt: pause.attempt,
            error: error.to_string(),
            retry_in_ms: pause.ms(),
        }
        .emit(stage.speaker());
    };
    let stop = stage.generation().stop_request();
    match BACKOFF.retry_until(stop, capture, report).await {
        // Only a stop ends what another session can help.
        Err(error) if !error.retry().helps() => Err(error.into()),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// One session after the other until one is the last, or fails.
async fn sessions(
    stage: &Stage,
    parts: &CaptureParts,
    lake: &StageLake,
    lag: &mut LagClock,
) -> Result<(), SessionError> {
    while !stage.is_fenced() {
        // Asked each time: a private server that was started again may be somewhere else.
        let found = tokio::select! {
            found = parts.location.settings() => found,
            () = stage.generation().stop_request() => return Ok(()),
        };
        let postgres = match found {
            Some(postgres) => postgres,
            None if parts.is_all => return Err(PostgresError::Missing.into()),
            None => return Ok(()),
        };
        let session = Session {
            stage,
            pool: pool(&postgres)?,
            postgres: &postgres,
            parts,
            lake,
        };
        match session.run(lag).await? {
            SessionEnd::Finished => return Ok(()),
            SessionEnd::Again => {}
        }
    }
    Ok(())
}

impl CaptureParts {
    fn snapshot_was_asked(&self) -> bool {
        self.resnapshot.load(Relaxed)
    }

    fn snapshot_was_taken(&self) {
        self.resnapshot.store(false, Relaxed);
    }
}
