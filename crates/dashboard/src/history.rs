//! The last quarter of an hour: rows that moved and the lag, sampled by the server's own thread.
//!
//! Promises a fixed size, and that a sample is taken whatever the stages do.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use chrono::{DateTime, SecondsFormat, Utc};
use ftap_supervision::Health;
use ftap_telemetry::metrics;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::time::{MissedTickBehavior, interval};

use crate::rows::{Column, Rows};

const INTERVAL: Duration = Duration::from_secs(3);
const LENGTH: Duration = Duration::from_secs(15 * 60);
const SAMPLES: usize = (LENGTH.as_secs() / INTERVAL.as_secs()) as usize + 1;
/// The speed that is shown as now's.
const SPEED_SAMPLES: usize = 3;

/// The samples, the oldest first.
#[derive(Default)]
pub struct History(Mutex<VecDeque<Sample>>);

/// Figures of one moment; what is not known is `None`.
#[derive(Clone, Copy, Debug)]
struct Sample {
    taken: Instant,
    at: DateTime<Utc>,
    /// Rows in the topic, or added to it by this process.
    published: Option<f64>,
    /// Rows in the lake, or added to it by this process.
    committed: Option<f64>,
    lag_rows: Option<f64>,
    lag_seconds: Option<f64>,
}

impl Sample {
    fn now(health: &Health) -> Self {
        let now = metrics::Snapshot::now();
        // A process without the group sees it by the offsets, if it watches them.
        let groups = health.snapshot();
        let own = |group, rows: u64| groups.contains_key(group).then_some(rows as f64);
        Self {
            taken: Instant::now(),
            at: Utc::now(),
            published: own("publish", now.rows_published).or_else(|| metrics::TOPIC_END.sum()),
            committed: own("ingest", now.rows_committed).or_else(|| metrics::GROUP_OFFSET.sum()),
            lag_rows: metrics::LAG_RECORDS.sum(),
            lag_seconds: metrics::LAG_SECONDS.max(),
        }
    }
}

/// What moves now.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Speed {
    /// Rows per second.
    pub published: Option<f64>,
    pub committed: Option<f64>,
}

impl History {
    /// Takes samples until it is dropped.
    pub(crate) async fn keep(&self, health: &Health) {
        let mut ticks = interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.add(Sample::now(health));
        }
    }

    fn add(&self, sample: Sample) {
        let mut samples = self.0.lock();
        if samples.len() == SAMPLES {
            samples.pop_front();
        }
        samples.push_back(sample);
    }

    /// Over the newest samples.
    pub(crate) fn speed(&self) -> Speed {
        let samples = self.0.lock();
        let newest: Vec<_> = samples.iter().rev().take(SPEED_SAMPLES + 1).collect();
        match (newest.last(), newest.first()) {
            (Some(old), Some(new)) => Speed {
                published: rate(old, new, |sample| sample.published),
                committed: rate(old, new, |sample| sample.committed),
            },
            _ => Speed::default(),
        }
    }

    /// A row for each pair of neighbours.
    pub(crate) fn rows(&self) -> Rows {
        let samples = self.0.lock();
        let rows = samples.iter().zip(samples.iter().skip(1));
        let rows = rows.map(|(old, new)| {
            let rate = |figure: fn(&Sample) -> Option<f64>| rounded(rate(old, new, figure));
            vec![
                json!(new.at.to_rfc3339_opts(SecondsFormat::Secs, true)),
                rate(|sample| sample.published),
                rate(|sample| sample.committed),
                rounded(new.lag_rows),
                rounded(new.lag_seconds),
            ]
        });
        let column = |name: &str| Column {
            name: name.to_owned(),
            is_number: name != TIME,
        };
        Rows {
            rows: rows.collect(),
            columns: [TIME, PUBLISHED, COMMITTED, LAG_ROWS, LAG_SECONDS]
                .map(column)
                .into(),
            cut: false,
        }
    }
}

pub(crate) const TIME: &str = "time";
pub(crate) const PUBLISHED: &str = "published_per_s";
pub(crate) const COMMITTED: &str = "committed_per_s";
pub(crate) const LAG_ROWS: &str = "lag_rows";
pub(crate) const LAG_SECONDS: &str = "lag_s";

/// `None` where one of the two is not known, or the count began again.
fn rate(old: &Sample, new: &Sample, figure: fn(&Sample) -> Option<f64>) -> Option<f64> {
    let seconds = new.taken.saturating_duration_since(old.taken).as_secs_f64();
    let rows = figure(new)? - figure(old)?;
    (rows >= 0.0 && seconds > 0.0).then(|| rows / seconds)
}

fn rounded(figure: Option<f64>) -> Value {
    figure.map_or(Value::Null, |figure| json!(figure.round() as i64))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(start: Instant, second: u64, published: Option<f64>) -> Sample {
        Sample {
            taken: start + Duration::from_secs(second),
            at: Utc::now(),
            published,
            committed: None,
            lag_rows: Some(7.0),
            lag_seconds: None,
        }
    }

    #[test]
    fn speed_is_taken_between_samples_and_what_is_not_known_is_a_gap() {
        let (history, start) = (History::default(), Instant::now());
        assert_eq!(history.speed(), Speed::default());
        for (second, published) in [
            (0, Some(0.0)),
            (3, Some(300.0)),
            (6, None),
            (9, Some(900.0)),
        ] {
            history.add(sample(start, second, published));
        }
        let rows = history.rows();
        assert_eq!(rows.numbers(PUBLISHED), [Some(100.0), None, None]);
        assert_eq!(rows.numbers(COMMITTED), [None; 3]);
        assert_eq!(rows.numbers(LAG_ROWS), [Some(7.0); 3]);
        assert_eq!(history.speed().published, Some(100.0));
    }

    #[test]
    fn a_quarter_of_an_hour_is_kept_and_no_more() {
        let (history, start) = (History::default(), Instant::now());
        for second in 0..2 * SAMPLES as u64 {
            history.add(sample(start, second, Some(0.0)));
        }
        assert_eq!(history.rows().rows.len(), SAMPLES - 1);
    }
}
