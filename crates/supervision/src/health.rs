//! What each group of stages is doing, for `/readyz`, the status line and the dashboard.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};

/// A lake that refuses for longer makes the process not ready.
const LAKE_PATIENCE: Duration = Duration::from_secs(5);

/// State of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupState {
    /// Its stages are being started.
    Starting,
    /// All stages run.
    Running,
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
            Self::BackingOff => "backing_off",
            Self::Finished => "finished",
            Self::GaveUp => "gave_up",
        }
    }
}

/// One group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupHealth {
    /// What it is doing.
    pub state: GroupState,
    /// How often it has been started.
    pub generation: u64,
    /// The newest root cause, if it ever failed.
    pub last_failure: Option<String>,
}

/// All groups of the process.
#[derive(Debug, Default)]
pub struct Health {
    groups: Mutex<BTreeMap<&'static str, GroupHealth>>,
    lake_refuses_since: Mutex<Option<Instant>>,
}

impl Health {
    /// Notes a group's new state.
    pub fn set(&self, group: &'static str, state: GroupState, generation: u64) {
        let mut groups = self.groups.lock();
        let last_failure = groups.remove(group).and_then(|health| health.last_failure);
        groups.insert(
            group,
            GroupHealth {
                state,
                generation,
                last_failure,
            },
        );
    }

    /// Notes why a group failed.
    pub fn failed(&self, group: &'static str, generation: u64, root_cause: String) {
        let health = GroupHealth {
            state: GroupState::BackingOff,
            generation,
            last_failure: Some(root_cause),
        };
        self.groups.lock().insert(group, health);
    }

    /// Notes that the lake refused a request.
    pub fn lake_refused(&self) {
        let mut since = self.lake_since();
        since.get_or_insert_with(Instant::now);
    }

    /// Notes that the lake answered.
    pub fn lake_answered(&self) {
        *self.lake_since() = None;
    }

    /// Whether the lake has refused all requests for some seconds.
    pub fn lake_is_down(&self) -> bool {
        self.lake_since()
            .is_some_and(|since| since.elapsed() >= LAKE_PATIENCE)
    }

    fn lake_since(&self) -> MutexGuard<'_, Option<Instant>> {
        self.lake_refuses_since.lock()
    }

    /// Whether every group runs or has finished, there is one, and the lake answers.
    pub fn ready(&self) -> bool {
        if self.lake_is_down() {
            return false;
        }
        let groups = self.groups.lock();
        !groups.is_empty()
            && groups
                .values()
                .all(|group| matches!(group.state, GroupState::Running | GroupState::Finished))
    }

    /// Every group by name.
    pub fn snapshot(&self) -> BTreeMap<&'static str, GroupHealth> {
        self.groups.lock().clone()
    }
}
