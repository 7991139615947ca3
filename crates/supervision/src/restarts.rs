//! When to restart and when to stop: the backoff of [`Retries`] with a limit of restarts in a window.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use crate::SupervisionSettings;
use crate::failure::Retry;
use crate::retry::{Pause, Retries};

/// The restarts of one group.
#[derive(Debug)]
pub(crate) struct RestartHistory {
    retries: Retries,
    max_restarts: usize,
    window: Duration,
    restarts: VecDeque<Instant>,
}

impl RestartHistory {
    /// No restarts yet; the first generation starts now.
    pub(crate) fn new(settings: &SupervisionSettings) -> Self {
        Self {
            retries: settings.backoff.start(),
            max_restarts: settings.max_restarts,
            window: settings.restart_window,
            restarts: VecDeque::new(),
        }
    }

    /// Restarts within the window, the last one included.
    pub(crate) fn recent(&self) -> usize {
        self.restarts.len()
    }

    /// The pause before the restart that follows a failure at `now`; `None` if no restart can
    /// help, or there were too many in the window. `jitter` is from 0 to 1.
    pub(crate) fn after_fault(&mut self, now: Instant, retry: Retry, jitter: f64) -> Option<Pause> {
        while let Some(oldest) = self.restarts.front() {
            if now.saturating_duration_since(*oldest) <= self.window {
                break;
            }
            self.restarts.pop_front();
        }
        self.restarts.push_back(now);
        let pause = self.retries.after_at(now, &retry, jitter)?;
        (self.restarts.len() <= self.max_restarts).then_some(pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::retry::Backoff;

    /// Seconds of the pauses after generations that ran for so many seconds.
    fn pauses(settings: &SupervisionSettings, ran: &[u64]) -> Vec<Option<u64>> {
        let mut history = RestartHistory::new(settings);
        let mut now = Instant::now();
        ran.iter()
            .map(|ran| {
                now += Duration::from_secs(*ran);
                let pause = history.after_fault(now, Retry::Transient, 0.0)?.length;
                now += pause;
                Some(pause.as_secs())
            })
            .collect()
    }

    #[test]
    fn the_pause_doubles_up_to_the_limit_and_a_healthy_period_resets_it() {
        let settings = SupervisionSettings {
            max_restarts: 100,
            ..SupervisionSettings::default()
        };
        assert_eq!(
            pauses(&settings, &[1, 1, 1, 1, 1, 1, 1, 1, 121, 1]),
            [1, 2, 4, 8, 16, 32, 60, 60, 1, 2].map(Some)
        );
    }

    #[test]
    fn the_eleventh_restart_in_ten_minutes_is_refused_but_not_a_slow_series() {
        let settings = SupervisionSettings {
            backoff: Backoff::new(Duration::ZERO, Duration::ZERO),
            ..SupervisionSettings::default()
        };
        let fast = pauses(&settings, &[10; 11]);
        assert_eq!(fast.iter().position(Option::is_none), Some(10), "{fast:?}");
        assert!(!pauses(&settings, &[61; 40]).contains(&None));
    }

    #[test]
    fn what_no_restart_can_help_is_not_restarted() {
        let mut history = RestartHistory::new(&SupervisionSettings::default());
        let now = Instant::now();
        assert_eq!(history.after_fault(now, Retry::Permanent, 0.0), None);
    }
}
