//! What a run shows to people: two live lines while it runs, a summary at its end.
//!
//! Relies on nothing but the metrics, and runs on a thread of its own, so that it continues when a
//! stage hangs, which is when it is needed.

use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ftap_supervision::{GroupState, Health};
use ftap_telemetry::metrics::Snapshot;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::output::{count, size};
use crate::process;
use crate::telemetry::Telemetry;

const TICK: Duration = Duration::from_millis(200);
/// Speeds are averages over this time: long enough to be read, short enough to show a stall.
const SPEED_WINDOW: Duration = Duration::from_secs(2);

/// The live lines; they go when it is dropped.
pub struct LiveStatus {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
    telemetry: Telemetry,
}

impl LiveStatus {
    /// Shows the lines if people watch. `address` is the status page's.
    pub fn start(
        telemetry: &Telemetry,
        health: Arc<Health>,
        address: Option<String>,
        shutdown: watch::Receiver<bool>,
    ) -> Self {
        let mut status = Self {
            stop: None,
            thread: None,
            telemetry: telemetry.clone(),
        };
        if !telemetry.interactive {
            return status;
        }
        let (stop, stopped) = mpsc::channel();
        let screen = telemetry.screen;
        let spawned = std::thread::Builder::new()
            .name("status".to_owned())
            .spawn(move || {
                let lines = Lines::new(screen.bars(), address);
                let started = Instant::now();
                let mut speeds = Speeds::default();
                while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(TICK) {
                    let now = Snapshot::now();
                    lines.show(&now, speeds.update(&now), &health, started.elapsed());
                    lines.say_stopping(*shutdown.borrow());
                }
                lines.clear();
            });
        // Without the lines, logs are all there is to see.
        if let Ok(thread) = spawned {
            screen.set_live(true);
            status.stop = Some(stop);
            status.thread = Some(thread);
        }
        status
    }
}

impl Drop for LiveStatus {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
            self.telemetry.screen.set_live(false);
        }
    }
}

struct Lines {
    published: ProgressBar,
    lake: ProgressBar,
    hint: ProgressBar,
}

impl Lines {
    fn new(bars: &indicatif::MultiProgress, address: Option<String>) -> Self {
        let line = |template: &str| {
            let bar = bars.add(ProgressBar::new(0));
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style.progress_chars("━╸─"));
            }
            bar
        };
        Self {
            published: line("published {bar:24.cyan/dim} {msg}"),
            lake: line("lake      {bar:24.green/dim} {msg}"),
            hint: {
                let hint = line("          {msg}");
                let page = address.map(|address| format!("{address} · "));
                hint.set_message(format!(
                    "{}Ctrl-C flushes and stops",
                    page.unwrap_or_default()
                ));
                hint
            },
        }
    }

    fn say_stopping(&self, stopping: bool) {
        if stopping {
            self.hint
                .set_message("flushing and stopping · Ctrl-C again ends at once");
        }
    }

    fn show(&self, now: &Snapshot, speed: Speed, health: &Health, elapsed: Duration) {
        let total = now.publish_total.max(now.rows_published);
        self.published.set_length(total.max(1));
        self.published.set_position(now.rows_published);
        let of_total = match now.publish_total {
            0 => String::new(),
            total => format!(" of {}", count(total)),
        };
        self.published.set_message(format!(
            "{}{of_total} rows · {}/s{}",
            count(now.rows_published),
            count(speed.published),
            trouble(health),
        ));

        let lag = now.lag_records.and_then(|lag| u64::try_from(lag).ok());
        let done = now.rows_committed + now.records_rejected;
        self.lake.set_length((done + lag.unwrap_or(0)).max(1));
        self.lake.set_position(done);
        self.lake
            .set_message(lake_message(now, speed, lag, elapsed));
    }

    fn clear(&self) {
        self.published.finish_and_clear();
        self.lake.finish_and_clear();
        self.hint.finish_and_clear();
    }
}

fn lake_message(now: &Snapshot, speed: Speed, lag: Option<u64>, elapsed: Duration) -> String {
    let mut message = format!(
        "{} rows · {}/s · lag {} · {} files, {} · restarts {}",
        count(now.rows_committed),
        count(speed.committed),
        lag.map_or("–".to_owned(), count),
        count(now.files),
        size(now.bytes),
        now.restarts,
    );
    if now.records_rejected > 0 {
        message.push_str(&format!(" · rejected {}", count(now.records_rejected)));
    }
    if let Some(memory) = process::memory_bytes() {
        message.push_str(&format!(" · {}", size(memory)));
    }
    message.push_str(&format!(" · {} s", elapsed.as_secs()));
    message
}

/// The groups that do not run, and why.
fn trouble(health: &Health) -> String {
    health
        .snapshot()
        .into_iter()
        .filter(|(_, group)| matches!(group.state, GroupState::BackingOff | GroupState::GaveUp))
        .map(|(name, group)| format!(" · {name}: {}", group.state.as_str()))
        .collect()
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Speed {
    published: u64,
    committed: u64,
}

/// Averages over [`SPEED_WINDOW`].
#[derive(Default)]
struct Speeds {
    seen: std::collections::VecDeque<(Instant, u64, u64)>,
}

impl Speeds {
    fn update(&mut self, now: &Snapshot) -> Speed {
        let at = Instant::now();
        self.seen
            .push_back((at, now.rows_published, now.rows_committed));
        while self.seen.len() > 2
            && self
                .seen
                .front()
                .is_some_and(|(first, ..)| at - *first > SPEED_WINDOW)
        {
            self.seen.pop_front();
        }
        let Some(&(first, published, committed)) = self.seen.front() else {
            return Speed::default();
        };
        let seconds = (at - first).as_secs_f64();
        let speed = |new: u64, old: u64| {
            if seconds > 0.0 {
                (new.saturating_sub(old) as f64 / seconds) as u64
            } else {
                0
            }
        };
        Speed {
            published: speed(now.rows_published, published),
            committed: speed(now.rows_committed, committed),
        }
    }
}

/// What a run did and what it cost. The clock starts when the stages do, so that neither generating
/// data nor starting the broker counts.
pub struct Stopwatch {
    started: Instant,
    cpu: Duration,
}

impl Stopwatch {
    /// Starts now.
    pub fn start() -> Self {
        Self {
            started: Instant::now(),
            cpu: process::cpu_time(),
        }
    }

    /// The figures so far.
    pub fn summary(&self) -> Summary {
        Summary {
            figures: Snapshot::now(),
            elapsed: self.started.elapsed(),
            cpu: process::cpu_time().saturating_sub(self.cpu),
            peak_memory_bytes: process::peak_memory_bytes(),
        }
    }
}

/// See [`Stopwatch`].
#[derive(Clone, Copy, Debug)]
pub struct Summary {
    figures: Snapshot,
    elapsed: Duration,
    cpu: Duration,
    peak_memory_bytes: u64,
}

impl Summary {
    /// Rows that went all the way this process covers.
    fn rows(&self) -> u64 {
        match self.figures.rows_committed {
            0 => self.figures.rows_published,
            rows => rows,
        }
    }

    fn rows_per_second(&self) -> u64 {
        match self.elapsed.as_secs_f64() {
            seconds if seconds > 0.0 => (self.rows() as f64 / seconds) as u64,
            _ => 0,
        }
    }

    /// CPU-seconds per million rows; `None` if there was none.
    fn cpu_per_million(&self) -> Option<f64> {
        let rows = self.rows();
        (rows > 0).then(|| self.cpu.as_secs_f64() * 1e6 / rows as f64)
    }

    /// A small table.
    pub fn table(&self) -> String {
        let figures = &self.figures;
        let rejected = match figures.source_rows_rejected {
            0 => count(figures.records_rejected),
            rows => format!(
                "{} ({} more of the source)",
                count(figures.records_rejected),
                count(rows)
            ),
        };
        let skipped = match figures.offsets_skipped {
            0 => None,
            offsets => Some(("offsets skipped", count(offsets))),
        };
        let lines = [
            ("rows published", count(figures.rows_published)),
            ("rows put in the lake", count(figures.rows_committed)),
            ("rejected", rejected),
            ("files", count(figures.files)),
            ("bytes", size(figures.bytes)),
            ("seconds", format!("{:.1}", self.elapsed.as_secs_f64())),
            ("rows/s", count(self.rows_per_second())),
            (
                "CPU-s per million rows",
                self.cpu_per_million()
                    .map_or("-".to_owned(), |cpu| format!("{cpu:.2}")),
            ),
            ("peak memory", size(self.peak_memory_bytes)),
            ("restarts", count(figures.restarts)),
        ];
        lines
            .into_iter()
            .chain(skipped)
            .map(|(name, value)| format!("{name:<24}{value:>16}\n"))
            .collect()
    }

    /// The same for programs, in bytes, seconds and rows.
    pub fn json(&self) -> Value {
        let figures = &self.figures;
        json!({
            "rows_published": figures.rows_published,
            "rows_committed": figures.rows_committed,
            "records_rejected": figures.records_rejected,
            "source_rows_rejected": figures.source_rows_rejected,
            "offsets_skipped": figures.offsets_skipped,
            "files": figures.files,
            "bytes": figures.bytes,
            "seconds": self.elapsed.as_secs_f64(),
            "rows_per_second": self.rows_per_second(),
            "cpu_seconds": self.cpu.as_secs_f64(),
            "cpu_seconds_per_million_rows": self.cpu_per_million(),
            "peak_memory_bytes": self.peak_memory_bytes,
            "restarts": figures.restarts,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn summary() -> Summary {
        Summary {
            figures: Snapshot {
                rows_published: 200_000,
                rows_committed: 199_990,
                records_rejected: 10,
                files: 12,
                bytes: 5_700_000,
                ..Snapshot::default()
            },
            elapsed: Duration::from_secs(2),
            cpu: Duration::from_secs(1),
            peak_memory_bytes: 180_000_000,
        }
    }

    #[test]
    fn the_summary_names_every_figure_the_user_was_promised() {
        let table = summary().table();
        for expected in [
            "200,000", "199,990", "rejected", "12", "5.7 MB", "2.0", "99,995", "5.00", "180.0 MB",
            "restarts",
        ] {
            assert!(table.contains(expected), "{expected} is not in\n{table}");
        }
        let json = summary().json();
        assert_eq!(json["rows_per_second"], 99_995);
        assert!((json["cpu_seconds_per_million_rows"].as_f64().unwrap() - 5.0).abs() < 0.01);
    }

    #[test]
    fn nothing_done_divides_by_nothing() {
        let summary = Stopwatch::start().summary();
        assert!(summary.table().contains("CPU-s per million rows"));
        assert!(summary.json()["cpu_seconds_per_million_rows"].is_null());
    }

    #[test]
    fn a_group_in_trouble_is_named_in_the_live_line() {
        let health = Health::default();
        health.set("publish", GroupState::Running, 1);
        assert_eq!(trouble(&health), "");
        health.failed("ingest", 1, "lake: no".to_owned());
        assert_eq!(trouble(&health), " · ingest: backing_off");
    }

    #[test]
    fn speed_is_taken_over_the_window() {
        let mut speeds = Speeds::default();
        let at = Instant::now().checked_sub(Duration::from_secs(1)).unwrap();
        speeds.seen.push_back((at, 0, 0));
        let now = Snapshot {
            rows_published: 1000,
            ..Snapshot::default()
        };
        let speed = speeds.update(&now);
        assert!((900..=1000).contains(&speed.published), "{speed:?}");
    }
}
