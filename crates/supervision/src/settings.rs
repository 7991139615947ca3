use std::time::Duration;

/// When supervision acts.
#[derive(Clone, Copy, Debug)]
pub struct SupervisionSettings {
    /// A stage with work and no progress for this long is stuck.
    pub stall_timeout: Duration,
    /// How long stages get to stop before they are left behind.
    pub stop_deadline: Duration,
    /// First pause before a restart; doubles up to `max_backoff`.
    pub initial_backoff: Duration,
    /// Longest pause before a restart.
    pub max_backoff: Duration,
    /// After running this long without a fault, a group's backoff is reset.
    pub healthy_after: Duration,
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
            initial_backoff: Duration::from_secs(1),
            max_backoff: Duration::from_secs(60),
            healthy_after: Duration::from_secs(120),
            max_restarts: 10,
            restart_window: Duration::from_secs(600),
        }
    }
}
