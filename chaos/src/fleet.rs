//! The producers and consumers: started, watched, struck, and restarted as compose would.

use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use anyhow::bail;
use rand::Rng;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use serde_json::Value;

use crate::process::{Process, describe};
use crate::tally::Tally;

/// After which the group gives a silent consumer's partitions to others.
pub(crate) const SESSION_TIMEOUT: Duration = Duration::from_secs(3);
/// Pause before a killed process is back.
const RESTART_PAUSE: Duration = Duration::from_millis(300);
/// The same after it ended by itself.
const GAVE_UP_PAUSE: Duration = Duration::from_secs(1);
/// A stop takes ten seconds at most by the program's own promise; this machine may be busy.
const STOP_LIMIT: Duration = Duration::from_secs(25);
const MOST_CONSUMERS: usize = 3;

/// What a process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// `ftap produce`
    Producer,
    /// `ftap consume`
    Consumer,
}

impl Role {
    fn name(self) -> &'static str {
        match self {
            Self::Producer => "producer",
            Self::Consumer => "consumer",
        }
    }

    /// Where to inject faults, if the binary can.
    fn failpoints(self) -> &'static [&'static str] {
        match self {
            Self::Producer => &["csv_reader", "kafka_publisher", "kafka_publisher.commit"],
            Self::Consumer => &[
                "kafka_subscriber",
                "parquet_buffer",
                "gcs_uploader",
                "gcs_uploader.committed",
                "dead_letters",
            ],
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Duty {
    /// It is restarted when it ends.
    Serving,
    /// It was asked to stop.
    Leaving { since: Instant },
    /// Another has its place: it is not restarted.
    Retired,
    /// It is to stay away.
    Gone,
}

/// A place for one process, with a data directory of its own.
pub(crate) struct Member {
    pub role: Role,
    /// `consumer-2`
    pub name: String,
    number: u64,
    starts: u64,
    process: Option<Process>,
    start_at: Instant,
    duty: Duty,
    frozen: bool,
    partitions: BTreeSet<i32>,
    /// When it began to publish.
    publishing: Option<Instant>,
    finished: bool,
}

impl Member {
    /// Whether there is a process that runs on.
    pub(crate) fn is_running(&self) -> bool {
        self.process.is_some() && !self.frozen && self.duty == Duty::Serving
    }

    pub(crate) fn partitions(&self) -> &BTreeSet<i32> {
        &self.partitions
    }

    /// When this start of it began to publish.
    pub(crate) fn publishing_since(&self) -> Option<Instant> {
        self.publishing
    }

    fn note(&mut self, event: &Value) {
        match event["event"].as_str().unwrap_or_default() {
            "partition_started" => {
                let partition = event["partition"].as_i64();
                self.partitions
                    .extend(partition.and_then(|number| i32::try_from(number).ok()));
            }
            "partitions_revoked" => {
                let gone = event["partitions"].as_array().into_iter().flatten();
                for partition in gone.filter_map(|number| i32::try_from(number.as_i64()?).ok()) {
                    self.partitions.remove(&partition);
                }
            }
            "publish_resumed" => self.publishing = Some(Instant::now()),
            "publish_finished" => self.finished = true,
            // Its partitions are read again, or not.
            "stage_failed" if event["group"] == "ingest" => self.partitions.clear(),
            _ => {}
        }
    }
}

/// See the module.
pub(crate) struct Fleet {
    ftap: PathBuf,
    dir: PathBuf,
    seed: u64,
    settings: Vec<(String, String)>,
    /// Whether the binary has failpoints.
    failpoints: bool,
    next_number: u64,
    members: Vec<Member>,
    /// What the logs said.
    pub tally: Tally,
    /// The file is in the topic.
    pub published: bool,
}

impl Fleet {
    /// An empty one. `settings` are the environment of every process.
    pub(crate) fn new(ftap: &Path, dir: &Path, seed: u64, settings: Vec<(String, String)>) -> Self {
        let binary = std::fs::read(ftap).unwrap_or_default();
        let mark = b"FTAP_FAILPOINTS";
        let failpoints = binary.windows(mark.len()).any(|window| window == mark);
        Self {
            ftap: ftap.to_owned(),
            dir: dir.to_owned(),
            seed,
            settings,
            failpoints,
            next_number: 1,
            members: Vec::new(),
            tally: Tally::default(),
            published: false,
        }
    }

    /// Changes a setting for the processes started from now on.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.settings.retain(|(known, _)| known != name);
        self.settings.push((name.to_owned(), value.to_owned()));
    }

    /// No more injected faults.
    pub(crate) fn disarm(&mut self) {
        self.failpoints = false;
    }

    /// One more process; it starts at the next tick.
    pub(crate) fn add(&mut self, role: Role) -> &Member {
        let number = self.next_number;
        self.next_number += 1;
        self.members.push(Member {
            role,
            name: format!("{}-{number}", role.name()),
            number,
            starts: 0,
            process: None,
            start_at: Instant::now(),
            duty: Duty::Serving,
            frozen: false,
            partitions: BTreeSet::new(),
            publishing: None,
            finished: false,
        });
        &self.members[self.members.len() - 1]
    }

    /// `ftap` with the run's settings and nothing else of the environment.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.ftap);
        let kept = ["PATH", "HOME", "LD_LIBRARY_PATH"];
        command
            .args(args)
            .env_clear()
            .envs(
                kept.iter()
                    .filter_map(|name| Some((*name, std::env::var_os(name)?))),
            )
            .env("RUST_BACKTRACE", "1")
            .envs(self.settings.iter().cloned())
            .current_dir(&self.dir);
        command
    }

    /// Starts what is due, reads the logs, notes which processes have ended.
    pub(crate) fn tick(&mut self) -> anyhow::Result<()> {
        for index in 0..self.members.len() {
            self.read_log(index);
            self.look_after(index)?;
        }
        self.members
            .retain(|member| member.process.is_some() || member.duty == Duty::Serving);
        Ok(())
    }

    fn read_log(&mut self, index: usize) {
        let member = &mut self.members[index];
        let Some(process) = &mut member.process else {
            return;
        };
        let (name, events) = (process.name.clone(), process.new_events());
        for event in events {
            member.note(&event);
            self.tally.note(&name, &event);
        }
    }

    fn look_after(&mut self, index: usize) -> anyhow::Result<()> {
        let member = &mut self.members[index];
        let Some(process) = &mut member.process else {
            let is_due = member.duty == Duty::Serving && Instant::now() >= member.start_at;
            let done = member.role == Role::Producer && self.published;
            return if is_due && !done {
                self.start(index)
            } else {
                Ok(())
            };
        };
        let Some(status) = process.ended()? else {
            return match member.duty {
                Duty::Leaving { since } if since.elapsed() > STOP_LIMIT => {
                    let (name, lines) = (process.name.clone(), process.last_lines(20));
                    bail!("{name} did not stop within {STOP_LIMIT:?} of SIGTERM:\n{lines}")
                }
                _ => Ok(()),
            };
        };
        // What it said last.
        self.read_log(index);
        let member = &mut self.members[index];
        let Some(process) = member.process.take() else {
            return Ok(());
        };
        member.partitions.clear();
        member.publishing = None;
        let how = describe(status);
        let is_leaving = matches!(member.duty, Duty::Leaving { .. });
        match status.code() {
            Some(0) if member.role == Role::Producer && member.finished => {
                self.published = true;
                member.duty = Duty::Gone;
            }
            // 1: a stage stopped with an error, or could not flush in time because something is down.
            Some(0 | 1) if is_leaving => {}
            _ if is_leaving && is_too_early(status, &process) => {}
            Some(1) => {
                let why = process.last_lines(2);
                self.tally.own_exit(member.role.name(), &how, &why);
                member.start_at = Instant::now() + GAVE_UP_PAUSE;
            }
            _ => {
                let lines = process.last_lines(20);
                let failure = format!("{} ended with {how}:\n{lines}", process.name);
                self.tally.failures.push(failure);
                self.tally.own_exit(member.role.name(), &how, &lines);
                member.start_at = Instant::now() + GAVE_UP_PAUSE;
            }
        }
        if is_leaving {
            self.members[index].duty = Duty::Gone;
        }
        Ok(())
    }

    fn start(&mut self, index: usize) -> anyhow::Result<()> {
        let (role, number, starts) = {
            let member = &mut self.members[index];
            member.starts += 1;
            (member.role, member.number, member.starts)
        };
        let name = format!("{}.{starts}", self.members[index].name);
        let mut random = ChaCha8Rng::seed_from_u64(self.seed);
        random.set_stream((number << 32) | starts);
        let mut command = match role {
            Role::Producer => self.command(&["produce"]),
            Role::Consumer => self.command(&["consume"]),
        };
        command.env("DATA_DIR", self.dir.join("data").join(format!("{number}")));
        let is_set = |name: &str| self.settings.iter().any(|(known, _)| known == name);
        let varied = vary(role, &mut random).into_iter();
        command.envs(varied.filter(|(name, _)| !is_set(name)));
        if self.failpoints && random.random_ratio(1, 3) {
            let point = role.failpoints().choose(&mut random).unwrap_or(&"none");
            let action = ["panic", "error", "hang"][random.random_range(0..3)];
            let hit = random.random_range(1..20);
            command.env("FTAP_FAILPOINTS", format!("{point}={action}@{hit}"));
            command.env("STALL_TIMEOUT_SECONDS", "5");
        }
        let process = Process::start(name, command, &self.dir.join("logs"))?;
        let member = &mut self.members[index];
        member.finished = false;
        member.process = Some(process);
        Ok(())
    }

    /// Names of those that fit, by their number.
    pub(crate) fn names(&self, wanted: impl Fn(&Member) -> bool) -> Vec<String> {
        let found = self.members.iter().filter(|member| wanted(member));
        found.map(|member| member.name.clone()).collect()
    }

    /// Those that do this and run on.
    pub(crate) fn running(&self, role: Role) -> Vec<String> {
        self.names(|member| member.role == role && member.is_running())
    }

    pub(crate) fn has_room(&self) -> bool {
        let serving =
            self.names(|member| member.role == Role::Consumer && member.duty == Duty::Serving);
        serving.len() < MOST_CONSUMERS
    }

    pub(crate) fn member(&self, name: &str) -> Option<&Member> {
        self.members.iter().find(|member| member.name == name)
    }

    fn process(&mut self, name: &str) -> Option<(&mut Member, usize)> {
        let index = self
            .members
            .iter()
            .position(|member| member.name == name && member.process.is_some())?;
        Some((&mut self.members[index], index))
    }

    /// SIGKILL; true if there was a process to kill.
    pub(crate) fn kill(&mut self, name: &str) -> anyhow::Result<bool> {
        let Some((_, index)) = self.process(name) else {
            return Ok(false);
        };
        let Some(process) = &mut self.members[index].process else {
            return Ok(false);
        };
        if process.ended()?.is_some() {
            return Ok(false);
        }
        process.kill()?;
        // What it said last counts, too.
        self.read_log(index);
        let member = &mut self.members[index];
        member.process = None;
        member.frozen = false;
        member.partitions.clear();
        member.publishing = None;
        member.start_at = Instant::now() + RESTART_PAUSE;
        Ok(true)
    }

    /// SIGSTOP.
    pub(crate) fn freeze(&mut self, name: &str) {
        if let Some((member, _)) = self.process(name) {
            member.frozen = true;
            member
                .process
                .iter()
                .for_each(|process| process.signal(libc::SIGSTOP));
        }
    }

    /// SIGCONT.
    pub(crate) fn thaw(&mut self, name: &str) {
        if let Some((member, _)) = self.process(name) {
            member.frozen = false;
            member
                .process
                .iter()
                .for_each(|process| process.signal(libc::SIGCONT));
        }
    }

    /// It is not restarted when it ends.
    pub(crate) fn retire(&mut self, name: &str) {
        if let Some(member) = self.members.iter_mut().find(|member| member.name == name) {
            member.duty = Duty::Retired;
        }
    }

    /// SIGTERM; it is not restarted.
    pub(crate) fn dismiss(&mut self, name: &str) {
        if let Some((member, _)) = self.process(name) {
            member.duty = Duty::Leaving {
                since: Instant::now(),
            };
            member
                .process
                .iter()
                .for_each(|process| process.signal(libc::SIGTERM));
        }
    }

    /// SIGTERM to all of a role, and waits until they end, which they must do successfully.
    pub(crate) fn stop_all(&mut self, role: Role) -> anyhow::Result<()> {
        let mut failures = Vec::new();
        for member in self.members.iter_mut().filter(|member| member.role == role) {
            let Some(process) = &mut member.process else {
                continue;
            };
            // A retired zombie that was not killed in time, or one that was just stopping.
            process.signal(libc::SIGCONT);
            process.signal(libc::SIGTERM);
            let status = process.wait(STOP_LIMIT)?;
            let is_well = |status: ExitStatus| status.success() || is_too_early(status, process);
            if !status.is_some_and(is_well) {
                let how = status.map_or("no end".to_owned(), describe);
                let lines = process.last_lines(20);
                failures.push(format!(
                    "{} was stopped while nothing was wrong, with {how}:\n{lines}",
                    process.name
                ));
            }
        }
        for index in 0..self.members.len() {
            self.read_log(index);
        }
        let finished = |member: &Member| member.role == Role::Producer && member.finished;
        self.published |= self.members.iter().any(finished);
        self.members.retain(|member| member.role != role);
        self.tally.failures.extend(failures);
        Ok(())
    }
}

/// SIGTERM came before the process had said its first word, or could listen for signals.
fn is_too_early(status: ExitStatus, process: &Process) -> bool {
    status.signal() == Some(libc::SIGTERM) && process.last_lines(1).is_empty()
}

/// Processes differ in what cuts their files, as they do while a change is rolled out.
fn vary(role: Role, random: &mut ChaCha8Rng) -> Vec<(&'static str, &'static str)> {
    let mut choice = |values: &[&'static str]| values.choose(random).copied().unwrap_or("1");
    match role {
        Role::Producer => vec![
            ("TRANSACTION_INTERVAL_MS", choice(&["50", "200", "500"])),
            ("TRANSACTION_ROWS", choice(&["100", "1000", "100000"])),
        ],
        Role::Consumer => vec![
            ("GCS_FLUSH_SECONDS", choice(&["0.5", "1", "2", "3"])),
            ("FILE_MAX_ROWS", choice(&["700", "3000", "1000000"])),
            ("INGEST_WORKERS", choice(&["1", "2", "3"])),
        ],
    }
}
