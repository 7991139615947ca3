//! The time of faults: carries the plan out, brings back what fell, and notes recoveries.
//!
//! Promises: it ends only after the plan's floor is reached and nothing is struck any more; a
//! fault that has no target at its moment waits for one.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::bail;
use serde::Serialize;

use crate::broker::Broker;
use crate::capture::Capture;
use crate::fleet::{Fleet, Role, SESSION_TIMEOUT};
use crate::kafka::Monitor;
use crate::plan::{Extra, Fault, Plan};
use crate::poison::Poison;
use crate::recovery::{FaultKind, Recoveries, Snapshot};
use crate::signals::Interrupt;
use crate::store::Store;

const TICK: Duration = Duration::from_millis(20);
/// How long a fault waits for a target before it is left out.
const FAULT_PATIENCE: Duration = Duration::from_secs(20);
/// How long a frozen process waits for others to take over.
const TAKEOVER_PATIENCE: Duration = Duration::from_secs(30);
/// How long a producer that was replaced may continue before it is killed.
const REPLACED_PATIENCE: Duration = Duration::from_secs(4);
/// Between two faults that are added because the floor is not reached.
const EXTRA_PAUSE: Duration = Duration::from_secs(1);
/// How much longer than planned a storm may last.
const OVERTIME: Duration = Duration::from_secs(180);

#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Done {
    /// SIGKILLs that met a living process, the broker's included.
    pub kills: u64,
    /// Of those, producers.
    pub producer_kills: u64,
    /// Of those, consumers.
    pub consumer_kills: u64,
    /// Of those, brokers.
    pub broker_kills: u64,
    /// Consumers that came back after others had taken their partitions.
    pub consumer_zombies: u64,
    /// Producers that came back after a successor had begun to publish.
    pub producer_zombies: u64,
    /// Brokers stopped with SIGTERM and started again.
    pub broker_restarts: u64,
    pub consumers_added: u64,
    /// Consumers stopped with SIGTERM.
    pub consumers_removed: u64,
    /// Times in which the store misbehaved, by kind.
    pub store_windows: BTreeMap<crate::plan::StoreFault, u64>,
    /// Planned faults that found no target.
    pub left_out: u64,
}

impl Done {
    /// Consumers and producers.
    pub(crate) fn zombies(&self) -> u64 {
        self.consumer_zombies + self.producer_zombies
    }
}

/// A frozen process.
struct Frozen {
    name: String,
    role: Role,
    since: Instant,
    hold: Duration,
    /// Partitions that it had; others have to take them.
    partitions: BTreeSet<i32>,
    taken: BTreeSet<i32>,
    taken_over: Option<Instant>,
    successor: Option<String>,
}

/// A fault that is due.
struct Due {
    since: Instant,
    fault: Fault,
}

/// Whom a storm strikes.
pub(crate) struct Targets<'a> {
    /// The producers and consumers.
    pub fleet: &'a mut Fleet,
    pub broker: &'a mut Broker,
    pub store: &'a mut Store,
    /// Looks at Kafka.
    pub monitor: &'a Monitor,
    /// Spoils the topic.
    pub poison: &'a mut Poison,
    pub recoveries: &'a mut Recoveries,
    pub capture: Option<&'a mut Capture>,
}

/// See the module.
pub(crate) struct Storm<'a> {
    targets: Targets<'a>,
    interrupt: Interrupt,
    done: Done,
    frozen: Vec<Frozen>,
    replaced: Vec<(String, Instant)>,
    broker_fault: Option<u64>,
    store_fault: Option<(u64, Instant)>,
    answered: Option<Instant>,
    said: Instant,
}

impl<'a> Storm<'a> {
    /// Carries the plan out.
    pub(crate) fn run(
        targets: Targets<'a>,
        plan: &Plan,
        interrupt: &Interrupt,
    ) -> anyhow::Result<Done> {
        let mut storm = Self {
            targets,
            interrupt: interrupt.clone(),
            done: Done::default(),
            frozen: Vec::new(),
            replaced: Vec::new(),
            broker_fault: None,
            store_fault: None,
            answered: None,
            said: Instant::now(),
        };
        storm.carry_out(plan)?;
        Ok(storm.done)
    }

    fn carry_out(&mut self, plan: &Plan) -> anyhow::Result<()> {
        let began = Instant::now();
        let length = Duration::from_millis(plan.length_ms);
        let mut planned = plan.faults.iter().peekable();
        let mut extra = Extra::new(plan.seed);
        let mut last_extra = began;
        let mut due: Vec<Due> = Vec::new();
        loop {
            self.interrupt.sleep(TICK)?;
            self.tick()?;
            while let Some(next) =
                planned.next_if(|next| began.elapsed() >= Duration::from_millis(next.at_ms))
            {
                due.push(Due {
                    since: Instant::now(),
                    fault: next.fault.clone(),
                });
            }
            let mut waiting = Vec::new();
            for due in due.drain(..) {
                if self.strike(&due.fault)? {
                    continue;
                }
                if due.since.elapsed() > FAULT_PATIENCE {
                    self.done.left_out += 1;
                } else {
                    waiting.push(due);
                }
            }
            due = waiting;
            self.say(began, length);
            if began.elapsed() < length || planned.peek().is_some() {
                continue;
            }
            let missing_kills = self.done.kills < plan.floor.kills;
            let missing_zombies =
                self.done.zombies() + (self.frozen.len() as u64) < plan.floor.zombies;
            if (missing_kills || missing_zombies)
                && due.is_empty()
                && last_extra.elapsed() > EXTRA_PAUSE
            {
                last_extra = Instant::now();
                let fault = if missing_zombies {
                    extra.freeze()
                } else {
                    extra.kill()
                };
                due.push(Due {
                    since: Instant::now(),
                    fault,
                });
            }
            let is_reached = !missing_kills && self.done.zombies() >= plan.floor.zombies;
            if is_reached && due.is_empty() && self.is_calm() {
                return Ok(());
            }
            if began.elapsed() > length + OVERTIME {
                bail!(
                    "the plan's floor of {} kills and {} zombies was not reached: {:?}",
                    plan.floor.kills,
                    plan.floor.zombies,
                    self.done
                );
            }
        }
    }

    /// Nothing is being struck any more.
    fn is_calm(&self) -> bool {
        self.frozen.is_empty()
            && self.replaced.is_empty()
            && self.store_fault.is_none()
            && self.targets.broker.is_up()
            && (self.targets.capture.as_ref()).is_none_or(|capture| capture.is_calm())
    }

    fn tick(&mut self) -> anyhow::Result<()> {
        self.targets.fleet.tick()?;
        if let Some(capture) = &mut self.targets.capture {
            capture.tick(self.targets.fleet)?;
        }
        self.targets.poison.poll();
        for snapshot in self.targets.monitor.new_snapshots() {
            self.note(&snapshot);
        }
        if self.targets.broker.tick(self.answered)?
            && let Some(id) = self.broker_fault.take()
        {
            self.targets.recoveries.end(id, Instant::now());
        }
        if let Some((id, until)) = self.store_fault
            && Instant::now() >= until
        {
            self.targets.store.stop_faults();
            self.targets.recoveries.end(id, Instant::now());
            self.store_fault = None;
        }
        self.thaw_those_replaced()?;
        for (name, since) in std::mem::take(&mut self.replaced) {
            if self.targets.fleet.member(&name).is_none() {
                continue;
            }
            if since.elapsed() < REPLACED_PATIENCE {
                self.replaced.push((name, since));
            } else {
                self.kill(&name, Role::Producer)?;
            }
        }
        Ok(())
    }

    fn note(&mut self, snapshot: &Snapshot) {
        self.answered = Some(snapshot.asked);
        self.targets.recoveries.note(snapshot);
    }

    fn thaw_those_replaced(&mut self) -> anyhow::Result<()> {
        for mut frozen in std::mem::take(&mut self.frozen) {
            if frozen.taken_over.is_none() && self.has_been_taken_over(&mut frozen) {
                frozen.taken_over = Some(Instant::now());
            }
            // A session must have expired, whichever process took over: otherwise it is not a zombie.
            let is_time = frozen.since.elapsed() > SESSION_TIMEOUT
                && frozen
                    .taken_over
                    .is_some_and(|since| since.elapsed() >= frozen.hold);
            if !is_time && frozen.since.elapsed() < TAKEOVER_PATIENCE {
                self.frozen.push(frozen);
                continue;
            }
            let is_zombie = frozen.taken_over.is_some();
            self.targets.fleet.thaw(&frozen.name);
            match frozen.role {
                Role::Consumer => self.done.consumer_zombies += u64::from(is_zombie),
                Role::Producer => {
                    self.done.producer_zombies += u64::from(is_zombie);
                    if frozen.successor.is_some() {
                        self.replaced.push((frozen.name, Instant::now()));
                    }
                }
            }
        }
        Ok(())
    }

    fn has_been_taken_over(&self, frozen: &mut Frozen) -> bool {
        match frozen.role {
            Role::Producer => frozen
                .successor
                .as_ref()
                .and_then(|name| self.targets.fleet.member(name)?.publishing_since())
                .is_some(),
            Role::Consumer => {
                for name in self.targets.fleet.running(Role::Consumer) {
                    if let Some(other) = self.targets.fleet.member(&name) {
                        let theirs = other.partitions().intersection(&frozen.partitions);
                        frozen.taken.extend(theirs);
                    }
                }
                frozen.taken == frozen.partitions
            }
        }
    }

    /// True if it was done, false if there was no process to do it to.
    fn strike(&mut self, fault: &Fault) -> anyhow::Result<bool> {
        Ok(match fault {
            Fault::KillProducer => self.kill_one(Role::Producer, 0)?,
            Fault::KillConsumer { pick } => self.kill_one(Role::Consumer, *pick)?,
            Fault::KillTwoConsumers { pick } => self.kill_two_consumers(*pick)?,
            Fault::FreezeConsumer { pick, hold_ms } => self.freeze_a_consumer(*pick, *hold_ms),
            Fault::FreezeProducer { hold_ms } => self.freeze_the_producer(*hold_ms),
            Fault::KillBroker { down_ms } | Fault::RestartBroker { down_ms } => {
                let is_kill = matches!(fault, Fault::KillBroker { .. });
                self.stop_broker(is_kill, Duration::from_millis(*down_ms))?
            }
            Fault::AddConsumer => self.add_consumer(),
            Fault::RemoveConsumer { pick } => self.remove_consumer(*pick),
            Fault::Store { how, for_ms, seed } => {
                if self.store_fault.is_some() {
                    return Ok(false);
                }
                let until = Instant::now() + Duration::from_millis(*for_ms);
                self.targets.store.spoil(*how, *seed);
                let id = self
                    .targets
                    .recoveries
                    .begin(FaultKind::Store, Instant::now());
                self.store_fault = Some((id, until));
                *self.done.store_windows.entry(*how).or_default() += 1;
                true
            }
            Fault::Poison { messages, seed } => {
                self.targets.poison.send(*messages, *seed)?;
                true
            }
        })
    }

    fn kill_one(&mut self, role: Role, pick: u32) -> anyhow::Result<bool> {
        match picked(&self.targets.fleet.running(role), pick) {
            Some(name) => self.kill(&name, role),
            None => Ok(false),
        }
    }

    fn kill_two_consumers(&mut self, pick: u32) -> anyhow::Result<bool> {
        let mut names = self.targets.fleet.running(Role::Consumer);
        if names.is_empty() {
            return Ok(false);
        }
        let first = pick as usize % names.len();
        names.rotate_left(first);
        names.truncate(2);
        for name in names {
            self.kill(&name, Role::Consumer)?;
        }
        Ok(true)
    }

    fn freeze_a_consumer(&mut self, pick: u32, hold_ms: u64) -> bool {
        let with_partitions = self.targets.fleet.names(|member| {
            member.role == Role::Consumer && member.is_running() && !member.partitions().is_empty()
        });
        let Some(name) = picked(&with_partitions, pick) else {
            return false;
        };
        self.freeze_consumer(name, hold_ms);
        true
    }

    /// One at a time: the successor is then the only one.
    fn freeze_the_producer(&mut self, hold_ms: u64) -> bool {
        let publishing = self.targets.fleet.names(|member| {
            member.role == Role::Producer
                && member.is_running()
                && member.publishing_since().is_some()
        });
        let is_busy = !self.replaced.is_empty()
            || self
                .frozen
                .iter()
                .any(|frozen| frozen.role == Role::Producer);
        match picked(&publishing, 0) {
            Some(name) if !is_busy => self.freeze_producer(name, hold_ms),
            _ => return false,
        }
        true
    }

    fn stop_broker(&mut self, is_kill: bool, down: Duration) -> anyhow::Result<bool> {
        if !self.targets.broker.is_up() {
            return Ok(false);
        }
        let id = self
            .targets
            .recoveries
            .begin(FaultKind::Broker, Instant::now());
        self.broker_fault = Some(id);
        if is_kill {
            self.targets.broker.kill(down)?;
            self.done.kills += 1;
            self.done.broker_kills += 1;
        } else {
            self.targets.broker.restart(down);
            self.done.broker_restarts += 1;
        }
        Ok(true)
    }

    fn add_consumer(&mut self) -> bool {
        if !self.targets.fleet.has_room() {
            return false;
        }
        self.targets.fleet.add(Role::Consumer);
        self.done.consumers_added += 1;
        self.targets
            .recoveries
            .struck(FaultKind::Rebalance, Instant::now());
        true
    }

    fn remove_consumer(&mut self, pick: u32) -> bool {
        let names = self.targets.fleet.running(Role::Consumer);
        if names.len() < 2 {
            return false;
        }
        if let Some(name) = picked(&names, pick) {
            self.targets.fleet.dismiss(&name);
            self.done.consumers_removed += 1;
            self.targets
                .recoveries
                .struck(FaultKind::Rebalance, Instant::now());
        }
        true
    }

    fn kill(&mut self, name: &str, role: Role) -> anyhow::Result<bool> {
        let at = Instant::now();
        if !self.targets.fleet.kill(name)? {
            return Ok(false);
        }
        self.done.kills += 1;
        let kind = match role {
            Role::Producer => {
                self.done.producer_kills += 1;
                FaultKind::ProducerKill
            }
            Role::Consumer => {
                self.done.consumer_kills += 1;
                FaultKind::ConsumerKill
            }
        };
        self.targets.recoveries.struck(kind, at);
        Ok(true)
    }

    fn freeze_consumer(&mut self, name: String, hold_ms: u64) {
        let partitions = self
            .targets
            .fleet
            .member(&name)
            .map(|member| member.partitions().clone())
            .unwrap_or_default();
        self.targets.fleet.freeze(&name);
        self.targets
            .recoveries
            .struck(FaultKind::ConsumerFreeze, Instant::now());
        if self.targets.fleet.running(Role::Consumer).is_empty() && self.targets.fleet.has_room() {
            self.targets.fleet.add(Role::Consumer);
        }
        self.frozen.push(Frozen {
            name,
            role: Role::Consumer,
            since: Instant::now(),
            hold: Duration::from_millis(hold_ms),
            partitions,
            taken: BTreeSet::new(),
            taken_over: None,
            successor: None,
        });
    }

    /// As a machine that lost its network and came back: what started it has replaced it.
    fn freeze_producer(&mut self, name: String, hold_ms: u64) {
        self.targets.fleet.freeze(&name);
        self.targets.fleet.retire(&name);
        self.targets
            .recoveries
            .struck(FaultKind::ProducerFreeze, Instant::now());
        let successor = self.targets.fleet.add(Role::Producer).name.clone();
        self.frozen.push(Frozen {
            name,
            role: Role::Producer,
            since: Instant::now(),
            hold: Duration::from_millis(hold_ms),
            partitions: BTreeSet::new(),
            taken: BTreeSet::new(),
            taken_over: None,
            successor: Some(successor),
        });
    }

    /// A line at intervals, to show progress.
    fn say(&mut self, began: Instant, length: Duration) {
        if self.said.elapsed() < Duration::from_secs(15) {
            return;
        }
        self.said = Instant::now();
        eprintln!(
            "chaos: {} of {} s, {} kills, {} zombies, {} of {} faults recovered from",
            began.elapsed().as_secs(),
            length.as_secs(),
            self.done.kills,
            self.done.zombies(),
            self.targets.recoveries.seconds().len(),
            self.targets.recoveries.seconds().len() + self.targets.recoveries.open(),
        );
    }
}

fn picked(names: &[String], pick: u32) -> Option<String> {
    let index = (pick as usize).checked_rem(names.len())?;
    Some(names[index].clone())
}
