use std::time::Duration;

use crate::retry::Backoff;

/// A group that ran this long without a fault starts over with the first pause.
const HEALTHY_AFTER: Duration = Duration::from_secs(120);

/// When supervision acts.
#[derive(Clone, Copy, Debug)]
pub struct SupervisionSettings {
    /// A stage with work and no progress for this long is stuck.
    pub stall_timeout: Duration,
    /// How long stages get to stop before they are left behind.
    pub stop_deadline: Duration,
    /// The pauses before restarts.
    pub backoff: Backoff,
    /// More restarts than this within `restart_window` end the process.
    pub max_restarts: usize,
    /// See `max_restarts`.
    pub restart_window: Duration,
}

impl Default for SupervisionSettings {
    fn default() -> Self {
        Self {
            stall_timeout: Duration::from_secs(60),
            stop_deadline: Duration::from_secs(8),
            backoff: Self::backoff(Duration::from_secs(1), Duration::from_secs(60)),
            max_restarts: 10,
            restart_window: Duration::from_secs(600),
        }
    }
}

impl SupervisionSettings {
    /// The pauses before restarts.
    pub fn backoff(first: Duration, longest: Duration) -> Backoff {
        Backoff::new(first, longest).healthy_after(HEALTHY_AFTER)
    }
}
