//! What a run shows to people: two live lines while it runs, a summary at its end.
//!
//! Relies on nothing but the metrics, and runs on a thread of its own, so that it continues when a
//! stage hangs, which is when it is needed.

use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ftap_actors::settings::Pace;
use ftap_supervision::{GroupState, Health, is_work_under_way};
use ftap_telemetry::figures::{count, duration, percent, size};
use ftap_telemetry::metrics::{self, Snapshot};
use ftap_watch::Watched;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::commands::run::Role;
use crate::process;
use crate::replay::Replay;
use crate::telemetry::{Notes, Telemetry};
use crate::terminal;

const TICK: Duration = Duration::from_millis(200);
/// Speeds are averages over this time: long enough to be read, short enough to show a stall.
const SPEED_WINDOW: Duration = Duration::from_secs(2);
/// A replay that takes longer gets a hint how it would be faster.
const LONG: Duration = Duration::from_secs(600);

/// The live lines; they go when it is dropped.
pub(crate) struct LiveStatus {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
    telemetry: Telemetry,
}

/// What the live lines show.
pub(crate) struct StatusParts {
    /// What the groups are doing.
    pub health: Arc<Health>,
    /// Whether Kafka answers.
    pub watched: Arc<Watched>,
    /// The dashboard's address.
    pub address: Option<String>,
    /// The events file and its pace, if this process publishes.
    pub replay: Option<Replay>,
    /// Turns true when a stop is asked for.
    pub shutdown: watch::Receiver<bool>,
}

impl LiveStatus {
    /// Shows the lines if people watch.
    pub(crate) fn start(telemetry: &Telemetry, parts: StatusParts) -> Self {
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
                let mut lines = Lines::new(screen.bars().clone(), parts);
                let started = Instant::now();
                let mut speeds = Speeds::default();
                while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(TICK) {
                    let now = Snapshot::now();
                    lines.show(&now, speeds.update(&now), started.elapsed());
                    lines.show_jobs(&screen.notes());
                }
                lines.clear();
            });
        // Without the lines, logs are all there is to see.
        if let Ok(thread) = spawned {
            screen.set_live(true);
            terminal::hide_control_keys();
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
            terminal::restore();
            self.telemetry.screen.set_live(false);
        }
    }
}

/// Jobs with a line of their own once their group is there: group and label.
const JOBS: [(&str, &str); 4] = [
    ("user_updates", "postgres"),
    ("changes", "changes"),
    ("fx_rates", "fx rates"),
    ("bigquery", "bigquery"),
];

/// The lines, none of them wider than the terminal.
struct Lines {
    bars: MultiProgress,
    parts: StatusParts,
    published: Option<ProgressBar>,
    lake: Option<ProgressBar>,
    jobs: [Option<ProgressBar>; JOBS.len()],
    process: ProgressBar,
    hint: ProgressBar,
    goal: Goal,
}

/// How many records there are for the lake. The lag comes once a second, and what is done meanwhile is
/// a part of it.
#[derive(Default)]
struct Goal(Option<(u64, u64)>);

impl Goal {
    /// Of done and lag now; `None` while the lag is not known.
    fn update(&mut self, done: u64, lag: Option<u64>) -> Option<u64> {
        let known = self.0.filter(|(seen, _)| Some(*seen) == lag);
        self.0 = known.or_else(|| lag.map(|lag| (lag, done + lag)));
        self.0.map(|(_, total)| total.max(done))
    }
}

impl Lines {
    fn new(bars: MultiProgress, parts: StatusParts) -> Self {
        let line = |template: &str| styled(bars.add(ProgressBar::new(0)), template);
        let published = parts
            .replay
            .is_some()
            .then(|| line("published {bar:12.cyan/dim} {wide_msg}"));
        let lake = line("lake      {bar:12.green/dim} {wide_msg}");
        Self {
            published,
            lake: Some(lake),
            jobs: [const { None }; JOBS.len()],
            process: line("process   {wide_msg}"),
            hint: line("          {wide_msg}"),
            bars,
            parts,
            goal: Goal::default(),
        }
    }

    fn show(&mut self, now: &Snapshot, speed: Speed, elapsed: Duration) {
        let is_stopping = *self.parts.shutdown.borrow();
        let left = self.parts.replay.as_ref().and_then(|replay| {
            let done = now.published_before + now.rows_published;
            replay.time_left(done, now.publish_total?, speed.published)
        });
        if let Some(bar) = &self.published {
            let done = now.published_before + now.rows_published;
            let total = now.publish_total.unwrap_or(0).max(done);
            bar.set_length(total.max(1));
            bar.set_position(done);
            let has_ended = state_of(&self.parts.health, "publish") == Some(GroupState::Finished);
            bar.set_message(published_message(now, speed, left, has_ended));
        }
        let ingest = state_of(&self.parts.health, "ingest");
        if ingest.is_none() && elapsed > SPEED_WINDOW {
            // This process only publishes.
            if let Some(bar) = self.lake.take() {
                bar.finish_and_clear();
            }
        }
        if let Some(bar) = &self.lake {
            let lag = now.lag_records.and_then(|lag| u64::try_from(lag).ok());
            let done = now.rows_committed + now.records_rejected;
            let is_drained = ingest == Some(GroupState::Finished) && !is_stopping;
            let total = match self.goal.update(done, lag) {
                Some(_) if is_drained => Some(done),
                total => total,
            };
            bar.set_length(total.unwrap_or(done).max(1));
            bar.set_position(done);
            bar.set_message(lake_message(now, speed, total));
        }
        self.process
            .set_message(process_message(now, &self.parts, elapsed));
        self.hint.set_message(if is_stopping {
            "flushing and stopping · Ctrl-C again ends at once".to_owned()
        } else {
            self.hint_message(left)
        });
    }

    fn hint_message(&self, left: Option<Duration>) -> String {
        let is_slow = left.is_some_and(|left| left >= LONG);
        if is_slow
            && let Some(Replay { pace, .. }) = &self.parts.replay
            && let Pace::Speed(speed) = pace
        {
            return format!("at PRODUCE_SPEED={speed}; faster: --produce-speed max · Ctrl-C stops");
        }
        match &self.parts.address {
            Some(address) => format!("{address} · Ctrl-C flushes and stops"),
            None => "Ctrl-C flushes and stops".to_owned(),
        }
    }

    fn show_jobs(&mut self, notes: &Notes) {
        let health = &self.parts.health;
        for ((group, label), shown) in JOBS.iter().zip(&mut self.jobs) {
            let Some(state) = state_of(health, group) else {
                continue;
            };
            let bar = shown.get_or_insert_with(|| {
                let bar = self.bars.insert_before(&self.process, ProgressBar::new(0));
                styled(bar, &format!("{label:<10}{{wide_msg}}"))
            });
            let done = match *group {
                "user_updates" => postgres_message(notes),
                "changes" => changes_message(),
                "fx_rates" => fx_message(notes),
                _ => (notes.bigquery_rows > 0)
                    .then(|| format!("{} rows loaded", count(notes.bigquery_rows))),
            };
            bar.set_message(done.unwrap_or_else(|| state.as_str().replace('_', " ")));
        }
    }

    fn clear(&self) {
        let jobs = self.jobs.iter().flatten();
        self.published
            .iter()
            .chain(&self.lake)
            .chain(jobs)
            .chain([&self.process, &self.hint])
            .for_each(ProgressBar::finish_and_clear);
    }
}

fn styled(bar: ProgressBar, template: &str) -> ProgressBar {
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("━╸─"));
    }
    bar
}

fn state_of(health: &Health, group: &str) -> Option<GroupState> {
    health.snapshot().get(group).map(|health| health.state)
}

fn published_message(
    now: &Snapshot,
    speed: Speed,
    left: Option<Duration>,
    has_ended: bool,
) -> String {
    let done = now.published_before + now.rows_published;
    let rows = match now.publish_total {
        None => format!("{} rows", count(done)),
        Some(total) => format!(
            "{} {} of {} rows",
            percent(done, total),
            count(done),
            count(total)
        ),
    };
    match left {
        _ if has_ended && now.rows_published == 0 => format!("{rows} · nothing new"),
        _ if has_ended => rows,
        Some(left) => format!(
            "{rows} · {}/s · {} left",
            count(speed.published),
            duration(left)
        ),
        None => format!("{rows} · {}/s", count(speed.published)),
    }
}

fn lake_message(now: &Snapshot, speed: Speed, total: Option<u64>) -> String {
    let done = now.rows_committed + now.records_rejected;
    let mut message = String::new();
    if let Some(total) = total {
        message = format!("{} ", percent(done, total));
    }
    message.push_str(&format!(
        "{} rows · {}/s · {} files, {}",
        count(now.rows_committed),
        count(speed.committed),
        count(now.files),
        size(now.bytes),
    ));
    if now.records_rejected > 0 {
        message.push_str(&format!(" · rejected {}", count(now.records_rejected)));
    }
    message
}

fn process_message(now: &Snapshot, parts: &StatusParts, elapsed: Duration) -> String {
    let mut message = format!("{} s", count(elapsed.as_secs()));
    if let Some(memory) = process::memory_bytes() {
        message.push_str(&format!(" · {}", size(memory)));
    }
    // After its end the lag is not looked at.
    let ingests = state_of(&parts.health, "ingest") != Some(GroupState::Finished);
    if let Some(lag) = now.lag_records.filter(|_| ingests) {
        message.push_str(&format!(" · lag {}", count(lag.max(0).unsigned_abs())));
    }
    message.push_str(&format!(" · restarts {}", now.restarts));
    message.push_str(&trouble(&parts.health));
    let ends = parts.watched.snapshot().ends;
    if let Some(lasts) = ends.and_then(|ends| ends.figures.is_some().then(|| ends.down_for())?) {
        message.push_str(&format!(" · Kafka down {}", duration(lasts)));
    }
    message
}

/// The groups that do not run, and a lake that takes nothing.
fn trouble(health: &Health) -> String {
    let mut message: String = health
        .snapshot()
        .into_iter()
        .filter(|(name, group)| match group.state {
            GroupState::Running | GroupState::Finished => false,
            // The others' own lines say that.
            GroupState::Starting => matches!(*name, "publish" | "ingest"),
            GroupState::Paused | GroupState::BackingOff | GroupState::GaveUp => true,
        })
        .map(|(name, group)| format!(" · {name}: {}", group.state.as_str().replace('_', " ")))
        .collect();
    if let Some(down) = health.lake_down() {
        message.push_str(&format!(" · lake down {}", duration(down.lasts)));
    }
    message
}

fn postgres_message(notes: &Notes) -> Option<String> {
    let rows = |rows: Option<u64>, name: &str| rows.map(|rows| format!("{} {name}", count(rows)));
    let updated = notes.updated.as_ref().map(|(changed, field, at)| {
        format!(
            "{} got a new {field} at {}",
            count(*changed),
            at.format("%H:%M:%S")
        )
    });
    let parts: Vec<_> = [
        rows(notes.users, "users"),
        rows(notes.merchants, "merchants"),
        updated,
    ]
    .into_iter()
    .flatten()
    .collect();
    (!parts.is_empty()).then(|| parts.join(" · "))
}

fn changes_message() -> Option<String> {
    let is_connected = metrics::SLOT_CONNECTED.get()? > 0.0;
    let changes = metrics::CHANGES_COMMITTED.total();
    let changes = format!("{} rows in the lake", count(changes));
    let lag = metrics::SLOT_LAG_BYTES.get().unwrap_or_default() as u64;
    Some(if is_connected {
        format!("{changes} · lag {}", size(lag))
    } else {
        format!("{changes} · not connected")
    })
}

fn fx_message(notes: &Notes) -> Option<String> {
    let (provider, at) = notes.fx.as_ref()?;
    let made_up = if provider == "offline" {
        ", made up"
    } else {
        ""
    };
    Some(format!("in the lake at {}{made_up}", at.format("%H:%M:%S")))
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
pub(crate) struct Stopwatch {
    started: Instant,
    cpu: Duration,
    role: Role,
    /// The time with work; ends when the sender is dropped.
    work: (Sender<()>, std::io::Result<JoinHandle<Duration>>),
}

impl Stopwatch {
    pub(crate) fn start(role: Role) -> Self {
        let (stop, stopped) = mpsc::channel();
        let count = move || {
            let mut clock = WorkClock::new(Instant::now());
            while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(WORK_TICK) {
                clock.tick(&Snapshot::now(), is_work_under_way(), Instant::now());
            }
            clock.tick(&Snapshot::now(), false, Instant::now());
            clock.busy
        };
        let thread = std::thread::Builder::new().name("stopwatch".to_owned());
        Self {
            started: Instant::now(),
            cpu: process::cpu_time(),
            role,
            work: (stop, thread.spawn(count)),
        }
    }

    /// The figures at the end.
    pub(crate) fn summary(self) -> Summary {
        let (stop, thread) = self.work;
        drop(stop);
        let busy = thread.ok().and_then(|thread| thread.join().ok());
        let elapsed = self.started.elapsed();
        Summary {
            figures: Snapshot::now(),
            role: self.role,
            elapsed,
            busy: busy.map_or(elapsed, |busy| busy.min(elapsed)),
            cpu: process::cpu_time().saturating_sub(self.cpu),
            peak_memory_bytes: process::peak_memory_bytes(),
        }
    }
}

const WORK_TICK: Duration = Duration::from_millis(50);
/// Rows that follow others this soon have been worked on in between: a transaction, a file. In a longer
/// gap the lag is looked at, which comes once a second.
const WORK_GAP: Duration = Duration::from_secs(1);

/// The time in which there was something to do: rows moved, were on their way between stages, or were
/// waited for that a slow source had.
struct WorkClock {
    busy: Duration,
    last_busy: Instant,
    /// Whether the topic had more at each tick since.
    awaits_rows: bool,
    seen: Snapshot,
}

impl WorkClock {
    fn new(now: Instant) -> Self {
        Self {
            busy: Duration::ZERO,
            last_busy: now,
            awaits_rows: true,
            seen: Snapshot::now(),
        }
    }

    fn tick(&mut self, figures: &Snapshot, is_under_way: bool, now: Instant) {
        let moved = |of: &Snapshot| {
            let rejected = of.records_rejected;
            (
                of.rows_read,
                of.rows_published,
                of.records_consumed,
                of.rows_committed,
                rejected,
            )
        };
        if moved(figures) != moved(&self.seen) || is_under_way {
            let since = now.saturating_duration_since(self.last_busy);
            let is_work = since <= WORK_GAP || self.awaits_rows;
            self.busy += if is_work { since } else { WORK_TICK };
            self.last_busy = now;
            self.awaits_rows = true;
        } else {
            self.awaits_rows &= has_more(figures);
        }
        self.seen = *figures;
    }
}

/// Whether the topic is known to have records that were not read; those that were read and are not in the
/// lake may wait for their file to be full.
fn has_more(figures: &Snapshot) -> bool {
    let done = figures.rows_committed + figures.records_rejected;
    let in_hand = figures.records_consumed.saturating_sub(done);
    figures
        .lag_records
        .is_some_and(|lag| u64::try_from(lag).is_ok_and(|lag| lag > in_hand))
}

/// Of less, a rate would be that of the start and of the end.
const LEAST_ROWS: u64 = 1000;
/// Several ticks of the clock that it is measured by.
const LEAST_TIME: Duration = Duration::from_millis(250);

/// See [`Stopwatch`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Summary {
    /// What was counted.
    pub figures: Snapshot,
    role: Role,
    elapsed: Duration,
    /// The part of it in which there was something to do.
    busy: Duration,
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

    /// `None` if it would say nothing.
    fn rows_per_second(&self) -> Option<u64> {
        self.rates_mean_something()
            .then(|| (self.rows() as f64 / self.busy.as_secs_f64()) as u64)
    }

    /// CPU-seconds per million rows; `None` if it would say nothing.
    fn cpu_per_million(&self) -> Option<f64> {
        self.rates_mean_something()
            .then(|| self.cpu.as_secs_f64() * 1e6 / self.rows() as f64)
    }

    fn rates_mean_something(&self) -> bool {
        self.rows() >= LEAST_ROWS && self.busy >= LEAST_TIME
    }

    /// A small table of what applies to the command.
    pub(crate) fn table(&self) -> String {
        let figures = &self.figures;
        let source = figures.source_rows_rejected;
        let rejected = match (self.role, source) {
            (Role::Produce, rows) => count(rows),
            (_, 0) => count(figures.records_rejected),
            (_, rows) => format!(
                "{} ({} more of the source)",
                count(figures.records_rejected),
                count(rows)
            ),
        };
        let (publishes, ingests) = (self.role != Role::Consume, self.role != Role::Produce);
        let seconds = |time: Duration| format!("{:.1}", time.as_secs_f64());
        let before = Some(figures.published_before).filter(|rows| *rows > 0);
        let skipped = Some(figures.offsets_skipped).filter(|offsets| *offsets > 0);
        let lines = [
            (
                "rows published",
                publishes.then(|| count(figures.rows_published)),
            ),
            ("rows there already", before.map(count)),
            (
                "rows put in the lake",
                ingests.then(|| count(figures.rows_committed)),
            ),
            ("rejected", Some(rejected)),
            ("files", ingests.then(|| count(figures.files))),
            ("bytes", ingests.then(|| size(figures.bytes))),
            ("seconds", Some(seconds(self.elapsed))),
            ("of which busy", Some(seconds(self.busy))),
            ("rows/s while busy", self.rows_per_second().map(count)),
            (
                "CPU-s per million rows",
                self.cpu_per_million().map(|cpu| format!("{cpu:.2}")),
            ),
            ("peak memory", Some(size(self.peak_memory_bytes))),
            ("restarts", Some(count(figures.restarts))),
            ("offsets skipped", skipped.map(count)),
        ];
        lines
            .into_iter()
            .filter_map(|(name, value)| Some(format!("{name:<24}{:>16}\n", value?)))
            .collect()
    }

    /// The same for programs, in bytes, seconds and rows; null is what does not apply.
    pub(crate) fn json(&self) -> Value {
        let figures = &self.figures;
        let publishes = |figure: u64| (self.role != Role::Consume).then_some(figure);
        let ingests = |figure: u64| (self.role != Role::Produce).then_some(figure);
        json!({
            "rows_published": publishes(figures.rows_published),
            "rows_published_before": publishes(figures.published_before),
            "rows_committed": ingests(figures.rows_committed),
            "records_rejected": ingests(figures.records_rejected),
            "source_rows_rejected": publishes(figures.source_rows_rejected),
            "offsets_skipped": ingests(figures.offsets_skipped),
            "files": ingests(figures.files),
            "bytes": ingests(figures.bytes),
            "seconds": self.elapsed.as_secs_f64(),
            "seconds_with_work": self.busy.as_secs_f64(),
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

    fn summary(role: Role) -> Summary {
        Summary {
            role,
            busy: Duration::from_secs(2),
            figures: Snapshot {
                rows_published: 200_000,
                rows_committed: 199_990,
                records_rejected: 10,
                files: 12,
                bytes: 5_700_000,
                ..Snapshot::default()
            },
            elapsed: Duration::from_secs(9),
            cpu: Duration::from_secs(1),
            peak_memory_bytes: 180_000_000,
        }
    }

    #[test]
    fn the_summary_names_every_figure_the_user_was_promised() {
        let table = summary(Role::Run).table();
        for expected in [
            "200,000", "199,990", "rejected", "12", "5.7 MB", "9.0", "2.0", "99,995", "5.00",
            "180.0 MB", "restarts",
        ] {
            assert!(table.contains(expected), "{expected} is not in\n{table}");
        }
        let json = summary(Role::Run).json();
        assert_eq!(json["rows_per_second"], 99_995);
        assert!((json["cpu_seconds_per_million_rows"].as_f64().unwrap() - 5.0).abs() < 0.01);
    }

    #[test]
    fn what_does_not_apply_to_the_command_is_left_out() {
        let (produce, consume) = (summary(Role::Produce), summary(Role::Consume));
        for of_lake in ["put in the lake", "files", "bytes"] {
            assert!(!produce.table().contains(of_lake), "{of_lake}");
        }
        assert!(!consume.table().contains("published"));
        assert!(consume.json()["rows_published"].is_null());
        assert!(produce.json()["files"].is_null());
        let nothing = Summary {
            figures: Snapshot::default(),
            ..summary(Role::Run)
        };
        let table = nothing.table();
        assert!(
            !table.contains("rows/s") && !table.contains("CPU-s"),
            "{table}"
        );
        assert!(nothing.json()["rows_per_second"].is_null());
    }

    #[test]
    fn a_rate_of_few_rows_or_of_a_moment_is_left_out() {
        let short = Summary {
            busy: Duration::from_millis(100),
            ..summary(Role::Run)
        };
        let mut few = summary(Role::Run);
        few.figures.rows_committed = 1;
        for summary in [short, few] {
            let table = summary.table();
            assert!(!table.contains("rows/s"), "{table}");
            assert!(!table.contains("CPU-s"), "{table}");
            let json = summary.json();
            assert!(json["rows_per_second"].is_null(), "{json}");
            assert!(json["cpu_seconds_per_million_rows"].is_null(), "{json}");
        }
    }

    #[test]
    fn a_lag_of_a_moment_ago_is_not_added_to_what_was_done_since() {
        let mut goal = Goal::default();
        assert_eq!(goal.update(0, None), None);
        assert_eq!(goal.update(10, Some(90)), Some(100));
        assert_eq!(goal.update(100, Some(90)), Some(100), "all of it");
        assert_eq!(goal.update(120, Some(90)), Some(120), "and more that came");
        assert_eq!(goal.update(120, Some(30)), Some(150));
        assert_eq!(goal.update(120, None), None);
    }

    #[test]
    fn only_time_with_something_to_do_counts() {
        let start = Instant::now();
        let mut clock = WorkClock::new(start);
        let mut figures = Snapshot::now();
        let mut tick = |ms: u64, rows: u64, is_under_way| {
            figures.rows_committed += rows;
            clock.tick(&figures, is_under_way, start + Duration::from_millis(ms));
            clock.busy.as_millis()
        };
        assert_eq!(tick(500, 0, false), 0, "nothing has happened");
        assert_eq!(tick(600, 9, false), 600, "it led to these rows");
        assert_eq!(tick(650, 0, true), 650, "a file is on its way");
        assert_eq!(tick(3_600_650, 0, false), 650, "an hour without rows");
        assert_eq!(tick(3_600_700, 9, false), 700);
        assert_eq!(tick(3_600_800, 9, false), 800);
    }

    #[test]
    fn the_wait_for_a_slow_source_counts_and_that_for_a_full_file_does_not() {
        let start = Instant::now();
        let mut clock = WorkClock::new(start);
        let mut figures = Snapshot::default();
        let mut tick = |ms: u64, rows: u64, lag: i64| {
            figures.records_consumed += rows;
            figures.lag_records = Some(lag);
            clock.tick(&figures, false, start + Duration::from_millis(ms));
            clock.busy.as_millis()
        };
        assert_eq!(tick(100, 9, 100), 100);
        assert_eq!(tick(5_000, 0, 100), 100, "91 are still to be read");
        assert_eq!(tick(9_000, 50, 100), 9_000, "they were waited for");
        assert_eq!(tick(15_000, 0, 59), 9_000, "59 wait for their file");
        assert_eq!(tick(20_000, 1, 60), 9_050);
    }

    #[test]
    fn a_group_in_trouble_is_named_in_the_live_line() {
        let health = Health::default();
        health.set("publish", GroupState::Running, 1);
        assert_eq!(trouble(&health), "");
        health.failed("ingest", 1, "lake: no".to_owned());
        assert_eq!(trouble(&health), " · ingest: backing off");
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
