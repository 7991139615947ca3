//! Pauses for callers that try a pass again.

use std::time::Duration;

use ftap_supervision::Retry;

/// A pause that doubles.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    pause: Duration,
    attempt: u64,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            pause: Duration::from_secs(1),
            attempt: 0,
        }
    }
}

impl Backoff {
    const LONGEST: Duration = Duration::from_secs(60);

    /// Which try has failed, from 1, and how long to wait.
    pub fn next(&mut self, retry: Retry) -> (u64, Duration) {
        self.attempt += 1;
        let pause = match retry {
            Retry::Later => Self::LONGEST,
            _ => self.pause,
        };
        self.pause = (self.pause * 2).min(Self::LONGEST);
        (self.attempt, pause)
    }
}
