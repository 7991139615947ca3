//! How far the slot is behind, in bytes and in seconds.
//!
//! Promises: the seconds are those since the server's log first was where it is not yet
//! acknowledged, by this machine's clock; they go on growing while the server is away.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::changes::Lsn;
use crate::changes::server::SlotSample;
use crate::meters::{Meters, SlotLag};

/// Samples that are kept; beyond it only the newest is replaced, so the oldest stay.
const MAX_SAMPLES: usize = 1024;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct LagClock {
    samples: VecDeque<(Instant, Lsn)>,
    durable: Lsn,
    last: Option<SlotSample>,
}

impl LagClock {
    /// Takes what the server said at `now`.
    pub(super) fn sample(&mut self, sample: SlotSample, now: Instant) {
        self.last = Some(sample);
        self.acknowledged(sample.confirmed);
        if sample.flushed <= self.durable {
            return;
        }
        if self
            .samples
            .back()
            .is_some_and(|(_, lsn)| *lsn >= sample.flushed)
        {
            return;
        }
        if self.samples.len() >= MAX_SAMPLES {
            self.samples.pop_back();
        }
        self.samples.push_back((now, sample.flushed));
    }

    /// Everything before this place is durable in the lake.
    pub(super) fn acknowledged(&mut self, durable: Lsn) {
        self.durable = self.durable.max(durable);
        while self
            .samples
            .front()
            .is_some_and(|(_, lsn)| *lsn <= self.durable)
        {
            self.samples.pop_front();
        }
    }

    /// How long the oldest log that is not durable has been there.
    pub(super) fn behind_for(&self, now: Instant) -> Duration {
        let oldest = self.samples.front();
        oldest.map_or(Duration::ZERO, |(at, _)| now.saturating_duration_since(*at))
    }

    /// Tells the meters.
    pub(super) fn report(&self, meters: &Meters, connected: bool, now: Instant) {
        let Some(last) = self.last else {
            return;
        };
        meters.set_slot_lag(SlotLag {
            connected,
            lag_bytes: last.flushed.0.saturating_sub(self.durable.0),
            lag_seconds: self.behind_for(now).as_secs_f64(),
            retained_bytes: last.flushed.0.saturating_sub(last.restart.0),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_count_from_the_oldest_log_that_is_not_durable() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let sample = |flushed| SlotSample {
            flushed: Lsn(flushed),
            confirmed: Lsn(100),
            restart: Lsn(50),
            is_lost: false,
        };
        let mut lag = LagClock::default();
        lag.sample(sample(100), at(0));
        assert_eq!(lag.behind_for(at(9)), Duration::ZERO, "all is durable");
        lag.sample(sample(200), at(10));
        lag.sample(sample(300), at(20));
        assert_eq!(lag.behind_for(at(25)), Duration::from_secs(15));
        lag.acknowledged(Lsn(250));
        assert_eq!(lag.behind_for(at(25)), Duration::from_secs(5));
        lag.acknowledged(Lsn(300));
        assert_eq!(lag.behind_for(at(25)), Duration::ZERO);
    }
}
