//! When to restart and when to stop: pure rules, no clock of their own.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::SupervisionSettings;

/// What to do after a fault that a restart can help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Start again after this pause.
    RestartAfter(Duration),
    /// Too many restarts in the window.
    GiveUp,
}

/// The restarts of one group.
#[derive(Debug)]
pub(crate) struct RestartHistory {
    settings: SupervisionSettings,
    failures_in_row: u32,
    restarts: VecDeque<Instant>,
}

impl RestartHistory {
    /// No restarts yet.
    pub(crate) fn new(settings: SupervisionSettings) -> Self {
        Self {
            settings,
            failures_in_row: 0,
            restarts: VecDeque::new(),
        }
    }

    /// Restarts within the window, the last one included.
    pub(crate) fn recent(&self) -> usize {
        self.restarts.len()
    }

    /// Decides after a generation that ran for `ran` failed at `now`.
    ///
    /// The pause is `min(max_backoff, initial_backoff * 2^n)`, of which `jitter`
    /// (0 to 1) takes away up to a quarter, so that groups that fell together
    /// don't rise together. `n` is 0 again after `healthy_after` without a fault.
    pub(crate) fn after_fault(&mut self, now: Instant, ran: Duration, jitter: f64) -> Decision {
        if ran >= self.settings.healthy_after {
            self.failures_in_row = 0;
        }
        while let Some(oldest) = self.restarts.front() {
            if now.saturating_duration_since(*oldest) <= self.settings.restart_window {
                break;
            }
            self.restarts.pop_front();
        }
        self.restarts.push_back(now);
        if self.restarts.len() > self.settings.max_restarts {
            return Decision::GiveUp;
        }
        let doubled = self
            .settings
            .initial_backoff
            .saturating_mul(1u32.checked_shl(self.failures_in_row).unwrap_or(u32::MAX));
        self.failures_in_row = self.failures_in_row.saturating_add(1);
        let pause = doubled.min(self.settings.max_backoff);
        Decision::RestartAfter(pause.mul_f64(1.0 - 0.25 * jitter.clamp(0.0, 1.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pauses(history: &mut RestartHistory, start: Instant, gaps: &[u64]) -> Vec<Decision> {
        let mut now = start;
        gaps.iter()
            .map(|gap| {
                now += Duration::from_secs(*gap);
                history.after_fault(now, Duration::from_secs(*gap), 0.0)
            })
            .collect()
    }

    #[test]
    fn the_pause_doubles_up_to_the_limit_and_a_healthy_period_resets_it() {
        let mut history = RestartHistory::new(SupervisionSettings {
            max_restarts: 100,
            ..SupervisionSettings::default()
        });
        let seconds = |n| Decision::RestartAfter(Duration::from_secs(n));
        assert_eq!(
            pauses(
                &mut history,
                Instant::now(),
                &[1, 1, 1, 1, 1, 1, 1, 1, 121, 1]
            ),
            [1, 2, 4, 8, 16, 32, 60, 60, 1, 2].map(seconds)
        );
    }

    #[test]
    fn the_eleventh_restart_in_ten_minutes_is_refused_but_not_a_slow_series() {
        let mut fast = RestartHistory::new(SupervisionSettings::default());
        let decisions = pauses(&mut fast, Instant::now(), &[10; 11]);
        assert_eq!(decisions[10], Decision::GiveUp);
        assert!(!decisions[..10].contains(&Decision::GiveUp));
        let mut slow = RestartHistory::new(SupervisionSettings::default());
        assert!(!pauses(&mut slow, Instant::now(), &[61; 40]).contains(&Decision::GiveUp));
    }

    #[test]
    fn jitter_shortens_by_a_quarter_at_most() {
        let mut history = RestartHistory::new(SupervisionSettings::default());
        assert_eq!(
            history.after_fault(Instant::now(), Duration::ZERO, 1.0),
            Decision::RestartAfter(Duration::from_millis(750))
        );
    }
}
