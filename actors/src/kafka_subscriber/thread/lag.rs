//! How far behind the lake is: reported once a second, as metrics and as committed offsets.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ftap_supervision::Failure;
use ftap_telemetry::metrics;

use super::Subscriber;

const INTERVAL: Duration = Duration::from_secs(1);

impl Subscriber {
    pub(super) fn once_a_second(&mut self) -> Result<(), Failure> {
        if self.last_lag.elapsed() < INTERVAL {
            return Ok(());
        }
        self.last_lag = Instant::now();
        self.report_lag();
        self.repeat_commits()
    }

    /// Commits again what the group has not taken: during a rebalance it refuses all commits,
    /// and on a quiet topic no other would follow. Draining and the lag would otherwise never
    /// finish.
    fn repeat_commits(&mut self) -> Result<(), Failure> {
        let owed = self.assigned.iter();
        let owed: Vec<(i32, i64)> = owed
            .filter_map(|(partition, progress)| Some((*partition, progress.owed()?)))
            .collect();
        if owed.is_empty() || self.stage.is_fenced() {
            return Ok(());
        }
        self.consumer.commit(&owed, false)
    }

    fn report_lag(&mut self) {
        let now_ms = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |now| i64::try_from(now.as_millis()).unwrap_or(i64::MAX));
        for (partition, progress) in &mut self.assigned {
            let Some(end) = self.consumer.known_end(*partition) else {
                continue;
            };
            let age_ms = progress
                .oldest_in_flight_ms()
                .map_or(0, |oldest| (now_ms - oldest).max(0));
            let age = Duration::from_millis(u64::try_from(age_ms).unwrap_or(0));
            let (label, lag) = (partition.to_string(), progress.lag(end, !self.paused));
            metrics::LAG_RECORDS.set_for([&label], lag as f64);
            metrics::LAG_SECONDS.set_for([&label], age.as_secs_f64());
        }
    }
}
