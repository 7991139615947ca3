//! What came of a run, for people and for programs.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value;

use crate::args::Args;
use crate::audit::{Audit, Places};
use crate::capture::Captured;
use crate::events::Events;
use crate::kafka::TopicContent;
use crate::plan::{Floor, Plan};
use crate::poison::PoisonCount;
use crate::recovery::{FaultKind, Recoveries, summary};
use crate::run::Outcome;
use crate::store::StoreCounts;
use crate::storm::Done;
use crate::tally::Tally;

/// Seconds from a fault to its recovery.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Recovery {
    pub faults: usize,
    pub median_seconds: f64,
    /// Maximum.
    pub max_seconds: f64,
}

/// See the module.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    /// Nothing lost, nothing doubled, nothing else wrong.
    pub ok: bool,
    /// Why not.
    pub failures: Vec<String>,
    /// Seed of the plan.
    pub seed: u64,
    /// As asked for.
    pub minutes: f64,
    /// Broker and store.
    pub setup: String,
    /// What the plan promised.
    pub floor: Floor,
    pub done: Done,
    /// What the store was asked, if it counts.
    pub store: Option<StoreCounts>,
    /// Poison that arrived.
    pub poison: PoisonCount,
    /// What the logs say.
    pub logs: Tally,
    /// Rows of the events file.
    pub rows: u64,
    /// What the topic holds.
    pub topic: TopicContent,
    /// What the independent reader found.
    pub audit: Audit,
    /// Whether `ftap verify` found everything exact.
    pub verify_exact: bool,
    /// What came of change capture.
    pub captured: Option<Captured>,
    /// Recovery from all faults.
    pub recovery: Recovery,
    /// The same by kind.
    pub recovery_by_kind: BTreeMap<FaultKind, Recovery>,
    pub storm_seconds: f64,
    /// Seconds from its end until everything was in the lake.
    pub drain_seconds: f64,
    /// The run's directory.
    pub dir: PathBuf,
}

impl Report {
    /// Judges.
    pub(crate) fn new(
        args: &Args,
        plan: &Plan,
        events: &Events,
        outcome: Outcome,
        tally: &Tally,
        recoveries: &Recoveries,
        dir: &Path,
    ) -> Self {
        let mut failures = tally.failures.clone();
        failures.extend(judge(plan, events, &outcome));
        let of_capture = outcome.captured.iter().flat_map(|c| c.failures.iter());
        failures.extend(of_capture.cloned());
        failures.extend(culprits(&outcome.audit, dir));
        let of = |wanted: Option<FaultKind>| {
            let seconds = recoveries.seconds().iter();
            let seconds = seconds.filter(|(kind, _)| wanted.is_none_or(|wanted| wanted == *kind));
            let (faults, median_seconds, max_seconds) = summary(seconds.map(|(_, took)| *took));
            Recovery {
                faults,
                median_seconds,
                max_seconds,
            }
        };
        let kinds: BTreeSet<FaultKind> =
            recoveries.seconds().iter().map(|(kind, _)| *kind).collect();
        Self {
            ok: failures.is_empty(),
            failures,
            seed: plan.seed,
            minutes: args.minutes,
            setup: format!(
                "{:?} broker, {:?} store, {} consumers at the start, {} rows/s",
                args.broker, args.store, args.consumers, args.rate
            ),
            floor: plan.floor,
            done: outcome.done,
            store: outcome.store,
            poison: outcome.poison,
            logs: tally.clone(),
            rows: events.rows,
            topic: outcome.topic,
            verify_exact: outcome.verify_code == Some(0),
            audit: outcome.audit,
            captured: outcome.captured,
            recovery: of(None),
            recovery_by_kind: kinds
                .into_iter()
                .map(|kind| (kind, of(Some(kind))))
                .collect(),
            storm_seconds: outcome.stormed.as_secs_f64(),
            drain_seconds: outcome.drained_in.as_secs_f64(),
            dir: dir.to_owned(),
        }
    }
}

/// What is wrong, if anything.
fn judge(plan: &Plan, events: &Events, outcome: &Outcome) -> Vec<String> {
    let mut wrong = Vec::new();
    let Outcome {
        done,
        poison,
        topic,
        audit,
        verify,
        ..
    } = outcome;
    if done.kills < plan.floor.kills || done.zombies() < plan.floor.zombies {
        wrong.push(format!(
            "{} kills and {} zombies, expected at least {} and {}",
            done.kills,
            done.zombies(),
            plan.floor.kills,
            plan.floor.zombies
        ));
    }
    if let Some(store) = &outcome.store
        && (store.overwrites > 0 || store.puts_not_create_only > 0)
    {
        wrong.push(format!(
            "{} objects were overwritten, {} puts were not create-only",
            store.overwrites, store.puts_not_create_only
        ));
    }
    if outcome.verify_code != Some(0) {
        wrong.push(format!(
            "ftap verify ended with {:?}: {}",
            outcome.verify_code, verify["problems"]
        ));
    }
    let rejected = verify["total"]["rejected"].as_u64();
    if rejected != Some(topic.poison) {
        wrong.push(format!(
            "ftap verify counts {rejected:?} rejected records, the topic holds {} that are poison",
            topic.poison
        ));
    }
    let sent = poison.acknowledged + poison.failed;
    if !(poison.acknowledged..=sent).contains(&topic.poison) {
        wrong.push(format!(
            "{} of {sent} poison messages were acknowledged, the topic holds {}",
            poison.acknowledged, topic.poison
        ));
    }
    if topic.rows_doubled > 0 || topic.rows_missing > 0 || topic.rows != events.rows {
        wrong.push(format!(
            "the file has {} rows, the topic {}: {} doubled, {} missing, such as {:?}",
            events.rows, topic.rows, topic.rows_doubled, topic.rows_missing, topic.rows_wrong
        ));
    }
    if !topic.poison_without_letter.is_empty() || !topic.letters_of_others.is_empty() {
        wrong.push(format!(
            "poison without a dead letter: {:?}; dead letters of messages that are not poison: {:?}",
            topic.poison_without_letter, topic.letters_of_others
        ));
    }
    if !audit.is_exact() || audit.file_rows != events.rows {
        wrong.push(format!(
            "the independent reader: {} lost, {} doubled, {} foreign of {} rows; offsets: {} missing {:?}, {} doubled {:?} in {:?}, {} unknown {:?}; cents {} in the file, {} in the lake; such as {}",
            audit.lost,
            audit.doubled,
            audit.foreign,
            audit.file_rows,
            audit.offsets_missing,
            audit.where_missing,
            audit.offsets_doubled,
            audit.where_doubled,
            audit.files_doubled,
            audit.offsets_unknown,
            audit.where_unknown,
            audit.cents_file,
            audit.cents_lake,
            Value::from(audit.examples.iter().take(3).cloned().collect::<Vec<_>>()),
        ));
    }
    wrong
}

/// What the processes said about the places that are wrong.
fn culprits(audit: &Audit, dir: &Path) -> Vec<String> {
    let places: Vec<&Places> = audit
        .where_missing
        .iter()
        .chain(&audit.where_doubled)
        .chain(&audit.where_unknown)
        .take(6)
        .collect();
    if places.is_empty() {
        return Vec::new();
    }
    let mut lines = Vec::new();
    let logs = std::fs::read_dir(dir.join("logs")).into_iter().flatten();
    for path in logs.flatten().map(|entry| entry.path()) {
        let Some(name) = path.file_stem().and_then(|name| name.to_str()) else {
            continue;
        };
        if !name.starts_with("consumer") || path.extension().is_none_or(|ending| ending != "log") {
            continue;
        }
        let text = std::fs::read(&path).unwrap_or_default();
        for line in String::from_utf8_lossy(&text).lines() {
            let Ok(event) = serde_json::from_str::<Value>(line) else {
                continue;
            };
            if places.iter().any(|place| concerns(&event, place)) {
                let time = event["timestamp"].as_str().unwrap_or_default().to_owned();
                lines.push((time, format!("{name}: {line}")));
            }
        }
    }
    lines.sort();
    lines.into_iter().map(|(_, line)| line).take(60).collect()
}

/// Whether an event is about a run of offsets that touches the place, or begins next to it.
fn concerns(event: &Value, place: &Places) -> bool {
    if event["partition"].as_i64() != Some(place.partition) {
        return false;
    }
    let near = (place.first_offset - 1)..=(place.last_offset + 1);
    match (
        event["first_offset"].as_i64(),
        event["last_offset"].as_i64(),
    ) {
        (Some(first), Some(last)) => first <= *near.end() && last >= *near.start(),
        _ => ["offset", "resume_at"]
            .iter()
            .filter_map(|field| event[*field].as_i64())
            .any(|offset| near.contains(&offset)),
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = |name: &str, value: String| writeln!(f, "{name:<26} {value}");
        self.faults(&mut line)?;
        self.outcome(&mut line)?;
        if let Some(captured) = &self.captured {
            line("capture: faults", format!("{:?}", captured.faults))?;
            line("capture: load", format!("{:?}", captured.load))?;
            let (errors, snapshots) = (captured.errors.len(), captured.snapshots);
            let text = format!("{errors} that had to come; {snapshots} snapshots");
            line("capture: errors", text)?;
            line("capture: own exits", format!("{:?}", captured.own_exits))?;
            line("capture: tables", captured.audit.to_string())?;
        }
        for failure in &self.failures {
            writeln!(f, "FAILED: {failure}")?;
        }
        if self.ok {
            writeln!(f, "Every row is in the lake exactly once.")
        } else {
            writeln!(f, "FAILED; everything is kept in {}", self.dir.display())
        }
    }
}

/// Writes one line: its name, its value.
type Line<'a> = dyn FnMut(&str, String) -> fmt::Result + 'a;

impl Report {
    /// What was done to the processes, the broker and the store.
    fn faults(&self, line: &mut Line<'_>) -> fmt::Result {
        let done = &self.done;
        line("seed", self.seed.to_string())?;
        line("minutes", self.minutes.to_string())?;
        line("setup", self.setup.clone())?;
        line(
            "kills",
            format!(
                "{} ({} producer, {} consumer, {} broker)",
                done.kills, done.producer_kills, done.consumer_kills, done.broker_kills
            ),
        )?;
        line(
            "zombies",
            format!(
                "{} ({} consumer, {} producer)",
                done.zombies(),
                done.consumer_zombies,
                done.producer_zombies
            ),
        )?;
        line(
            "broker restarts",
            format!(
                "{} ({} of them after a kill)",
                done.broker_restarts + done.broker_kills,
                done.broker_kills
            ),
        )?;
        line(
            "rebalances",
            format!(
                "{} consumers added, {} removed; partitions started {} times",
                done.consumers_added, done.consumers_removed, self.logs.partitions_started
            ),
        )?;
        let windows: u64 = done.store_windows.values().sum();
        let store = self.store.as_ref();
        let given: u64 = store.map_or(0, |store| store.faults.values().sum());
        let asked = store.map_or("a directory has none".to_owned(), |store| {
            format!("{} requests, {} puts", store.requests, store.puts)
        });
        line(
            "store faults",
            format!("{given} in {windows} periods; {asked}"),
        )?;
        line("poison", self.topic.poison.to_string())
    }

    /// What happened to the rows, and how long it took.
    fn outcome(&self, line: &mut Line<'_>) -> fmt::Result {
        line(
            "restarts of stages",
            format!(
                "{}; processes that ended by themselves: {:?}",
                self.logs.stage_restarts, self.logs.own_exits
            ),
        )?;
        line(
            "files",
            format!(
                "{} ({} met and adopted)",
                self.audit.files, self.logs.files_adopted
            ),
        )?;
        line("rows", self.rows.to_string())?;
        line("lost", self.lost().to_string())?;
        line("doubled", self.doubled().to_string())?;
        line(
            "ftap verify",
            if self.verify_exact {
                "exact"
            } else {
                "NOT exact"
            }
            .to_owned(),
        )?;
        line(
            "independent reader",
            format!(
                "{}: {} rows, {} cents",
                if self.audit.is_exact() {
                    "exact"
                } else {
                    "NOT exact"
                },
                self.audit.lake_rows,
                self.audit.cents_lake
            ),
        )?;
        let text = |recovery: &Recovery| {
            format!(
                "median {:.1}, max {:.1}, of {}",
                recovery.median_seconds, recovery.max_seconds, recovery.faults
            )
        };
        line("seconds to recover", text(&self.recovery))?;
        for (kind, recovery) in &self.recovery_by_kind {
            line(&format!("  {}", kind.name()), text(recovery))?;
        }
        line(
            "storm, drain",
            format!("{:.0} s, {:.1} s", self.storm_seconds, self.drain_seconds),
        )
    }

    /// Rows that the lake lacks.
    fn lost(&self) -> u64 {
        self.audit.lost.max(self.audit.offsets_missing)
    }

    /// Rows that it has more than once.
    fn doubled(&self) -> u64 {
        self.audit.doubled.max(self.audit.offsets_doubled)
    }
}
