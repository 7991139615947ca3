//! One run from its start to its verdict.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::args::Args;
use crate::audit::{self, Audit};
use crate::broker::Broker;
use crate::capture::{Capture, Captured};
use crate::events::{self, Events};
use crate::fleet::{Fleet, Role, SESSION_TIMEOUT};
use crate::kafka::{Monitor, PARTITIONS, Subject, TopicContent, read_topic};
use crate::plan::Plan;
use crate::poison::{Poison, PoisonCount};
use crate::recovery::Recoveries;
use crate::report::Report;
use crate::signals::Interrupt;
use crate::store::{Store, StoreCounts};
use crate::storm::{Done, Storm, Targets};

/// How long it may take until the first rows are in the lake.
const START_LIMIT: Duration = Duration::from_secs(120);
/// How long the rest may take once nothing is struck any more.
const DRAIN_LIMIT: Duration = Duration::from_secs(300);
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// Runs it in `dir`, which must exist and is not removed.
pub(crate) fn run(
    args: &Args,
    ftap: &Path,
    dir: &Path,
    runtime: &tokio::runtime::Runtime,
    interrupt: &Interrupt,
) -> anyhow::Result<Report> {
    let python = audit::python()?;
    say(&format!("works in {}", dir.display()));
    for folder in ["logs", "data"] {
        std::fs::create_dir_all(dir.join(folder)).with_context(|| dir.display().to_string())?;
    }
    // A copy: a build in the meantime does not change what runs.
    let copy = dir.join("ftap");
    std::fs::copy(ftap, &copy)
        .with_context(|| format!("{} can't be copied to {}", ftap.display(), copy.display()))?;

    let mut store = Store::start(args.store, dir, runtime)?;
    let plan = Plan::new(args.seed, args.minutes, store.has_faults());
    write_json(&dir.join("plan.json"), &plan)?;

    let mut fleet = Fleet::new(&copy, dir, args.seed, Vec::new());
    fleet.set("LOG_FORMAT", "json");
    let rows = (args.minutes * 60.0 * f64::from(args.rate)).ceil().max(1.0) as u64;
    say(&format!("makes {rows} rows"));
    let events = events::make(rows, args.seed, dir, |args| fleet.command(args), interrupt)?;

    say(&format!("starts the broker ({:?})", args.broker));
    let mut broker = Broker::start(args.broker, &copy, dir, interrupt)?;
    let subject = Subject {
        bootstrap: broker.bootstrap(),
        topic: "transactions".to_owned(),
        group: "chaos".to_owned(),
    };
    for (name, value) in settings(&subject, &events, args) {
        fleet.set(name, &value);
    }
    for (name, value) in store.settings() {
        fleet.set(name, &value);
    }

    let capture = args.capture.then(|| Capture::start(args, dir, &mut fleet));
    let mut capture = capture.transpose()?;
    let monitor = Monitor::start(subject.clone())?;
    let mut poison = Poison::new(&subject)?;
    let mut recoveries = Recoveries::default();
    fleet.add(Role::Producer);
    for _ in 0..args.consumers {
        fleet.add(Role::Consumer);
    }
    wait_until_it_flows(&mut fleet, &monitor, interrupt)?;
    say(&format!(
        "storms for {} minutes by the plan of seed {}",
        args.minutes, args.seed
    ));
    let began = Instant::now();
    let targets = Targets {
        fleet: &mut fleet,
        broker: &mut broker,
        store: &mut store,
        monitor: &monitor,
        poison: &mut poison,
        recoveries: &mut recoveries,
        capture: capture.as_mut(),
    };
    let done = Storm::run(targets, &plan, interrupt)?;
    let stormed = began.elapsed();

    say("no more faults: waits until everything is in the lake");
    let mut end = End {
        fleet: &mut fleet,
        broker: &mut broker,
        monitor: &monitor,
        recoveries: &mut recoveries,
        interrupt,
    };
    let drained = end.drain(&subject, &poison)?;
    drop(monitor);
    if let Some(capture) = &mut capture {
        capture.drain(&fleet, dir, interrupt)?;
    }

    say("compares file, topic and lake");
    let list = dir.join("topic.csv");
    let topic = read_topic(&subject, &events, &list, interrupt)?;
    let logs = dir.join("logs");
    let verify = fleet.command(&["verify", "--json"]);
    let (verify_code, verify) = audit::verify(verify, &logs, interrupt)?;
    write_json(&dir.join("verify.json"), &verify)?;
    let lake = store.dir().join("transactions");
    let audit = audit::audit(&python, &lake, &events.path, &list, &logs, interrupt)?;
    write_json(&dir.join("audit.json"), &audit)?;
    broker.stop()?;
    let captured = capture.map(|capture| capture.judge(&python, store.dir(), dir, interrupt));
    let captured = captured.transpose()?;

    let outcome = Outcome {
        done,
        poison: drained.poison,
        topic,
        verify_code,
        verify,
        audit,
        captured,
        store: store.counts().map(StoreCounts::from),
        stormed,
        drained_in: drained.took,
    };
    let report = Report::new(
        args,
        &plan,
        &events,
        outcome,
        &fleet.tally,
        &recoveries,
        dir,
    );
    write_json(&dir.join("report.json"), &report)?;
    Ok(report)
}

/// Nothing is struck before rows go through every partition. Poison before the first row would
/// be taken for a topic that belongs to another program, and rightly so.
fn wait_until_it_flows(
    fleet: &mut Fleet,
    monitor: &Monitor,
    interrupt: &Interrupt,
) -> anyhow::Result<()> {
    let began = Instant::now();
    loop {
        interrupt.sleep(Duration::from_millis(20))?;
        fleet.tick()?;
        let snapshots = monitor.new_snapshots();
        let flows = |committed: &[i64]| committed.iter().all(|offset| *offset > 0);
        if snapshots.iter().any(|snapshot| flows(&snapshot.committed)) {
            return Ok(());
        }
        if began.elapsed() > START_LIMIT {
            bail!(
                "no row has reached the lake within {} s of the start: {:?}",
                START_LIMIT.as_secs(),
                fleet.tally
            );
        }
    }
}

/// What a run has found out.
pub(crate) struct Outcome {
    pub done: Done,
    pub poison: PoisonCount,
    /// What the topic holds.
    pub topic: TopicContent,
    /// Exit code of `ftap verify`.
    pub verify_code: Option<i32>,
    /// Its report.
    pub verify: serde_json::Value,
    /// What the independent reader found.
    pub audit: Audit,
    pub captured: Option<Captured>,
    /// What the store was asked, if it counts.
    pub store: Option<StoreCounts>,
    /// How long the storm lasted.
    pub stormed: Duration,
    /// How long the rest took.
    pub drained_in: Duration,
}

struct End<'a> {
    fleet: &'a mut Fleet,
    broker: &'a mut Broker,
    monitor: &'a Monitor,
    recoveries: &'a mut Recoveries,
    interrupt: &'a Interrupt,
}

struct Drained {
    poison: PoisonCount,
    took: Duration,
}

impl End<'_> {
    /// Publishes the rest at full speed, waits until all of it is in the lake, stops everything.
    fn drain(&mut self, subject: &Subject, poison: &Poison) -> anyhow::Result<Drained> {
        let began = Instant::now();
        self.fleet.disarm();
        self.fleet.set("PRODUCE_SPEED", "max");
        // A commit of a hundred rows takes as long as one of many.
        self.fleet.set("TRANSACTION_ROWS", "100000");
        // One that is only starting may have every reason not to stop well.
        let is_publishing = |fleet: &Fleet| {
            !fleet
                .names(|member| member.publishing_since().is_some())
                .is_empty()
        };
        while !self.fleet.published && !is_publishing(self.fleet) {
            self.interrupt.sleep(Duration::from_millis(20))?;
            self.fleet.tick()?;
            self.broker.tick(None)?;
            if began.elapsed() > DRAIN_LIMIT {
                bail!(
                    "no producer publishes {} s after the last fault",
                    DRAIN_LIMIT.as_secs()
                );
            }
        }
        self.fleet.stop_all(Role::Producer)?;
        if !self.fleet.published {
            self.fleet.add(Role::Producer);
        }
        let poison = poison.finish()?;
        let mut last_look = Instant::now();
        let mut left = "the file is not published".to_owned();
        loop {
            self.interrupt.sleep(Duration::from_millis(20))?;
            self.fleet.tick()?;
            self.broker.tick(None)?;
            for snapshot in self.monitor.new_snapshots() {
                self.recoveries.note(&snapshot);
            }
            if self.fleet.published && last_look.elapsed() > LOOK_INTERVAL {
                last_look = Instant::now();
                match subject.undrained() {
                    Ok(None) => break,
                    Ok(Some(what)) => left = what,
                    Err(error) => left = format!("{error:#}"),
                }
            }
            if began.elapsed() > DRAIN_LIMIT {
                bail!(
                    "not everything is in the lake {} s after the last fault: {left}",
                    DRAIN_LIMIT.as_secs()
                );
            }
        }
        self.recoveries.drained(Instant::now());
        let took = began.elapsed();
        self.fleet.stop_all(Role::Consumer)?;
        Ok(Drained { poison, took })
    }
}

fn settings(subject: &Subject, events: &Events, args: &Args) -> Vec<(&'static str, String)> {
    // The storm's length, and some more: the file lasts, however fast the producer is.
    let speed = events.span.as_secs_f64() / (args.minutes * 60.0);
    vec![
        ("KAFKA_BROKER", subject.bootstrap.clone()),
        ("KAFKA_TOPIC", subject.topic.clone()),
        ("KAFKA_CONSUMER_GROUP", subject.group.clone()),
        ("KAFKA_PARTITIONS", PARTITIONS.to_string()),
        ("KAFKA_RETRY_DELAY", "0.5".to_owned()),
        (
            "KAFKA_SESSION_TIMEOUT_MS",
            SESSION_TIMEOUT.as_millis().to_string(),
        ),
        ("EVENTS_FILE", events.path.display().to_string()),
        ("PRODUCE_SPEED", format!("{speed:.3}")),
        ("RESTART_INITIAL_BACKOFF_MS", "200".to_owned()),
        ("RESTART_MAX_BACKOFF_SECONDS", "5".to_owned()),
        ("LOG_LEVEL", "INFO".to_owned()),
        ("DASHBOARD_ADDR", "off".to_owned()),
    ]
}

pub(crate) fn say(what: &str) {
    eprintln!("chaos: {what}");
}

fn write_json(path: &Path, value: &impl serde::Serialize) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(value).context("JSON")?;
    std::fs::write(path, text + "\n").with_context(|| path.display().to_string())
}

/// The binary to run: the one that was named, else the release build, which is made first.
pub(crate) fn find_ftap(named: Option<&Path>) -> anyhow::Result<PathBuf> {
    if let Some(named) = named {
        if !named.is_file() {
            bail!("--ftap {}: there is no such file", named.display());
        }
        return Ok(named.to_owned());
    }
    say("builds ftap (cargo build --release -p ftap)");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = std::process::Command::new(cargo)
        .args(["build", "--release", "-p", "ftap"])
        .current_dir(&root)
        .status()
        .context("cargo can't be started: build ftap yourself and name it with --ftap")?;
    if !status.success() {
        bail!("ftap does not build: see above");
    }
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or(root.join("target"), PathBuf::from);
    Ok(target.join("release/ftap"))
}
