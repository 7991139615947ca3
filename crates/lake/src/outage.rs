//! What is reported of a lake that does not answer: one line when it begins, some while it lasts,
//! one when it is over.
//!
//! Promises: however many partitions wait, an outage is reported once; while it lasts it is reported
//! again after a minute, then after ever longer pauses.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ftap_supervision::{Health, Pause, Stage};
use ftap_telemetry::events::{LakeRecovered, LakeUnavailable};
use parking_lot::Mutex;

const FIRST_REMINDER: Duration = Duration::from_secs(60);
const LONGEST_REMINDER: Duration = Duration::from_secs(900);

/// The lake as one uploader sees it; clones share it.
#[derive(Clone)]
pub(crate) struct LakeOutage {
    health: Arc<Health>,
    current: Arc<Mutex<Option<Current>>>,
}

struct Current {
    since: Instant,
    attempts: u64,
    logged_at: Instant,
    next_reminder: Duration,
}

impl LakeOutage {
    pub(crate) fn new(health: Arc<Health>) -> Self {
        Self {
            health,
            current: Arc::default(),
        }
    }

    /// A request failed and is tried again after `pause`.
    pub(crate) fn refused(&self, stage: &Stage, what: &str, error: String, pause: Pause) {
        self.health.lake_refused(&error);
        let now = Instant::now();
        let mut current = self.current.lock();
        let tell = match current.as_mut() {
            Some(outage) => {
                outage.attempts += 1;
                let due = now.duration_since(outage.logged_at) >= outage.next_reminder;
                if due {
                    outage.logged_at = now;
                    outage.next_reminder = (outage.next_reminder * 2).min(LONGEST_REMINDER);
                }
                due
            }
            None => true,
        };
        let outage = current.get_or_insert(Current {
            since: now,
            attempts: 1,
            logged_at: now,
            next_reminder: FIRST_REMINDER,
        });
        if tell {
            LakeUnavailable {
                key: what.to_owned(),
                attempt: outage.attempts,
                error,
                retry_in_ms: pause.ms(),
            }
            .emit(stage.speaker());
        }
    }

    /// A request was answered.
    pub(crate) fn answered(&self, stage: &Stage) {
        self.health.lake_answered();
        let mut current = self.current.lock();
        if let Some(outage) = current.take() {
            LakeRecovered {
                attempts: outage.attempts,
                duration_ms: outage.since.elapsed().as_millis() as u64,
            }
            .emit(stage.speaker());
        }
    }
}
