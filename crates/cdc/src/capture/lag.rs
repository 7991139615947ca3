//! How far the slot is behind, in bytes and in seconds.
//!
//! Promises: the seconds are those since the oldest commit that is not durable in the lake, by
//! the server's clock; where none was read yet, those since this process first saw that the
//! server's log is longer. They continue to grow while server or lake is down; of a server that
//! hangs nothing is known, so the seconds are then at least those of its silence.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use ftap_postgres::note_answer;
use ftap_telemetry::metrics;

use crate::Lsn;
use crate::server::SlotSample;

/// Samples that are kept; beyond it only the newest is replaced, so the oldest stay.
const MAX_SAMPLES: usize = 1024;
/// A server that says nothing for so long is not known to be level with us any more.
const SILENCE: Duration = Duration::from_secs(15);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct LagClock {
    samples: VecDeque<(Instant, Lsn)>,
    durable: Lsn,
    last: Option<(Instant, SlotSample)>,
    /// Commit time of the oldest change that was read and is not durable.
    holds_since_us: Option<i64>,
}

impl LagClock {
    /// Takes what the server said at `now`.
    pub(super) fn sample(&mut self, sample: SlotSample, now: Instant) {
        self.last = Some((now, sample));
        self.durable(sample.confirmed);
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

    /// Everything before this place that concerns us is durable in the lake; the slot may be
    /// acknowledged less far.
    pub(super) fn durable(&mut self, durable: Lsn) {
        self.durable = self.durable.max(durable);
        while self
            .samples
            .front()
            .is_some_and(|(_, lsn)| *lsn <= self.durable)
        {
            self.samples.pop_front();
        }
    }

    /// The oldest change that was read and is not durable was committed then, in microseconds
    /// since 1970 by the server's clock.
    pub(super) fn holds_since(&mut self, commit_us: Option<i64>) {
        self.holds_since_us = commit_us;
    }

    /// How long the oldest log that is not durable has been there.
    pub(super) fn behind_for(&self, now: Instant) -> Duration {
        let seen = self.samples.front();
        let seen = seen.map_or(Duration::ZERO, |(at, _)| now.saturating_duration_since(*at));
        let held = self.last.zip(self.holds_since_us);
        let held = held.map_or(Duration::ZERO, |((at, sample), commit_us)| {
            let behind_us = sample.server_time_us.saturating_sub(commit_us);
            let behind = Duration::from_micros(u64::try_from(behind_us).unwrap_or(0));
            behind.saturating_add(now.saturating_duration_since(at))
        });
        let silent = self.silent_for(now);
        let unknown = if silent >= SILENCE {
            silent
        } else {
            Duration::ZERO
        };
        seen.max(held).max(unknown)
    }

    fn silent_for(&self, now: Instant) -> Duration {
        let last = self.last.map(|(at, _)| now.saturating_duration_since(at));
        last.unwrap_or_default()
    }

    /// Sets the metrics of the slot.
    pub(super) fn report(&self, connected: bool, now: Instant) {
        let is_silent = self.silent_for(now) >= SILENCE;
        if connected {
            note_answer(!is_silent);
        }
        let connected = connected && !is_silent;
        metrics::SLOT_CONNECTED.set(f64::from(connected));
        let Some((_, last)) = self.last else {
            return;
        };
        metrics::SLOT_LAG_SECONDS.set(self.behind_for(now).as_secs_f64());
        if connected {
            metrics::SLOT_LAG_BYTES.set(last.flushed.0.saturating_sub(self.durable.0) as f64);
            metrics::SLOT_RETAINED_BYTES.set(last.flushed.0.saturating_sub(last.restart.0) as f64);
        } else {
            metrics::SLOT_LAG_BYTES.forget();
            metrics::SLOT_RETAINED_BYTES.forget();
        }
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
            server_time_us: 1_000_000_000,
        };
        let mut lag = LagClock::default();
        lag.sample(sample(100), at(0));
        assert_eq!(lag.behind_for(at(9)), Duration::ZERO, "all is durable");
        lag.sample(sample(200), at(10));
        lag.sample(sample(300), at(20));
        assert_eq!(lag.behind_for(at(25)), Duration::from_secs(15));
        lag.durable(Lsn(250));
        assert_eq!(lag.behind_for(at(25)), Duration::from_secs(5));
        lag.durable(Lsn(300));
        assert_eq!(lag.behind_for(at(25)), Duration::ZERO);
        // A server that hangs.
        assert_eq!(lag.behind_for(at(50)), Duration::from_secs(30));
    }

    #[test]
    fn a_start_that_is_behind_says_so_by_the_age_of_what_it_reads() {
        let start = Instant::now();
        let mut lag = LagClock::default();
        lag.sample(
            SlotSample {
                flushed: Lsn(200),
                confirmed: Lsn(100),
                restart: Lsn(50),
                is_lost: false,
                server_time_us: 3_600_000_000,
            },
            start,
        );
        assert_eq!(
            lag.behind_for(start),
            Duration::ZERO,
            "nothing is known yet"
        );
        lag.holds_since(Some(0));
        let later = start + Duration::from_secs(5);
        assert_eq!(lag.behind_for(later), Duration::from_secs(3605));
        // A commit by a clock that was ahead.
        lag.holds_since(Some(i64::MAX));
        assert_eq!(lag.behind_for(later), Duration::from_secs(5));
    }
}
