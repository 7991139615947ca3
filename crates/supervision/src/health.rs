//! What each group of stages is doing, for `/readyz`, the status line and the dashboard.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant, SystemTime};

use ftap_telemetry::metrics;
use parking_lot::{Mutex, MutexGuard};

use super::graph::{Graph, Wired};

/// A lake that refuses for longer makes the process not ready.
const LAKE_PATIENCE: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupState {
    /// Its stages are being started.
    Starting,
    /// All stages run.
    Running,
    /// The same, and a person has it take in nothing more.
    Paused,
    /// It failed and waits for its next start.
    BackingOff,
    /// It did all it had to do.
    Finished,
    /// No restart can help.
    GaveUp,
}

impl GroupState {
    /// Lower-case name, as shown to users.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::BackingOff => "backing_off",
            Self::Finished => "finished",
            Self::GaveUp => "gave_up",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupHealth {
    /// What it is doing.
    pub state: GroupState,
    /// How often it has been started.
    pub generation: u64,
    /// The newest root cause, if it ever failed.
    pub last_failure: Option<String>,
    /// When that was.
    pub failed_at: Option<SystemTime>,
}

/// All groups of the process.
#[derive(Debug, Default)]
pub struct Health {
    groups: Mutex<BTreeMap<&'static str, GroupHealth>>,
    wired: Mutex<BTreeMap<&'static str, Wired>>,
    lake_outage: Mutex<Option<Outage>>,
    has_asked_lake: AtomicBool,
    unreadable: Mutex<Vec<String>>,
}

#[derive(Clone, Debug)]
struct Outage {
    since: Instant,
    reason: String,
}

/// Why the lake does not take files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LakeDown {
    /// The newest refusal, with what to do about it.
    pub reason: String,
    /// Time since the first one.
    pub lasts: Duration,
}

impl Health {
    /// Notes a group's new state.
    pub fn set(&self, group: &'static str, state: GroupState, generation: u64) {
        let mut groups = self.groups.lock();
        let before = groups.remove(group);
        let failed_at = before.as_ref().and_then(|health| health.failed_at);
        let last_failure = before.and_then(|health| health.last_failure);
        groups.insert(
            group,
            GroupHealth {
                state,
                generation,
                last_failure,
                failed_at,
            },
        );
    }

    /// Notes why a group failed.
    pub fn failed(&self, group: &'static str, generation: u64, root_cause: String) {
        let health = GroupHealth {
            state: GroupState::BackingOff,
            generation,
            last_failure: Some(root_cause),
            failed_at: Some(SystemTime::now()),
        };
        self.groups.lock().insert(group, health);
    }

    /// Notes that the lake refused a request, and why.
    pub fn lake_refused(&self, reason: &str) {
        self.has_asked_lake.store(true, Relaxed);
        let mut outage = self.outage();
        let since = outage.as_ref().map_or_else(Instant::now, |last| last.since);
        *outage = Some(Outage {
            since,
            reason: reason.to_owned(),
        });
        let is_up = since.elapsed() < LAKE_PATIENCE;
        metrics::SERVICE_UP.set_for(["lake"], f64::from(is_up));
    }

    /// Notes that the lake answered.
    pub fn lake_answered(&self) {
        self.has_asked_lake.store(true, Relaxed);
        *self.outage() = None;
        metrics::SERVICE_UP.set_for(["lake"], 1.0);
    }

    /// Whether anything is known of the lake: not in a process that does not use it.
    pub fn has_asked_lake(&self) -> bool {
        self.has_asked_lake.load(Relaxed)
    }

    /// The lake's outage, once it has refused all requests for some seconds.
    pub fn lake_down(&self) -> Option<LakeDown> {
        let outage = self.outage().clone()?;
        let lasts = outage.since.elapsed();
        (lasts >= LAKE_PATIENCE).then_some(LakeDown {
            reason: outage.reason,
            lasts,
        })
    }

    /// Notes which partitions can't be read further, and why: all of them.
    pub fn set_unreadable(&self, partitions: Vec<String>) {
        *self.unreadable.lock() = partitions;
    }

    /// Partitions that can't be read further, and why.
    pub fn unreadable(&self) -> Vec<String> {
        self.unreadable.lock().clone()
    }

    fn outage(&self) -> MutexGuard<'_, Option<Outage>> {
        self.lake_outage.lock()
    }

    /// Whether every group runs, is paused or has finished, there is one, the lake answers and every partition
    /// can be read.
    pub fn ready(&self) -> bool {
        if self.lake_down().is_some() || !self.unreadable.lock().is_empty() {
            return false;
        }
        let groups = self.groups.lock();
        !groups.is_empty()
            && groups.values().all(|group| match group.state {
                GroupState::Running | GroupState::Paused | GroupState::Finished => true,
                GroupState::Starting | GroupState::BackingOff | GroupState::GaveUp => false,
            })
    }

    /// Notes how a group's newest generation is wired.
    pub(crate) fn set_wired(&self, group: &'static str, wired: Wired) {
        self.wired.lock().insert(group, wired);
    }

    /// What each group is made of, and the work its stages have in hand.
    pub fn graphs(&self) -> BTreeMap<&'static str, Graph> {
        let wired = self.wired.lock();
        wired
            .iter()
            .map(|(name, wired)| (*name, wired.graph()))
            .collect()
    }

    pub fn snapshot(&self) -> BTreeMap<&'static str, GroupHealth> {
        self.groups.lock().clone()
    }
}
