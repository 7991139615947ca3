//! Change capture under faults: a PostgreSQL server with a load, `ftap cdc`, and what strikes them.
//!
//! Promises: the faults follow from the seed; after another client has moved or dropped the slot,
//! capture must end with an error that names the remedy, which is then used. Whether the lake is
//! right is judged at the end, by `changes.py` and by `ftap verify`.

use std::collections::{BTreeMap, VecDeque};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use ftap_postgres::cluster::{PrivateCluster, PrivateClusterOptions};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use serde::Serialize;
use serde_json::Value;

use crate::args::Args;
use crate::audit;
use crate::fleet::Fleet;
use crate::load::{Load, TOTAL, sql};
use crate::process::{Process, describe};
use crate::run::say;
use crate::signals::Interrupt;

/// Kinds of faults in the order in which they come.
const KINDS: [Fault; 10] = [
    Fault::Kill,
    Fault::KillServer,
    Fault::Kill,
    Fault::Zombie,
    Fault::Advance,
    Fault::Kill,
    Fault::FreezeServer,
    Fault::Kill,
    Fault::CrashServer,
    Fault::Drop,
];
const FAULTS_PER_MINUTE: f64 = 10.0;
/// After which the server ends a silent reader's connection.
const SENDER_TIMEOUT: Duration = Duration::from_secs(3);
const RESTART_PAUSE: Duration = Duration::from_millis(300);
/// How long the start, an error that must come, or the drain may take.
const PATIENCE: Duration = Duration::from_secs(120);
const SLOT: &str = "ftap_changes";
const NAME: &str = "capture";

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Fault {
    /// SIGKILL to `ftap cdc`.
    Kill,
    /// SIGSTOP; another one takes the slot; SIGCONT.
    Zombie,
    /// SIGKILL to PostgreSQL.
    KillServer,
    /// SIGKILL to one of its processes, which makes it recover.
    CrashServer,
    /// SIGSTOP to all of PostgreSQL's processes.
    FreezeServer,
    /// Another client moves the slot to the end of the log.
    Advance,
    /// Another client drops the slot.
    Drop,
}

/// What came of it.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Captured {
    /// Faults that were done.
    pub faults: BTreeMap<Fault, u64>,
    /// Errors that had to come and came, as the log has them.
    pub errors: Vec<String>,
    /// Snapshots that were complete.
    pub snapshots: u64,
    /// Transactions, by kind.
    pub load: BTreeMap<&'static str, u64>,
    /// How processes ended that were not asked to.
    pub own_exits: BTreeMap<String, u64>,
    /// Rows that were compared, by table, and what else the independent reader says.
    pub audit: Value,
    pub failures: Vec<String>,
}

/// What `ftap cdc` is expected to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    /// To read the slot, whatever strikes it.
    Streams,
    /// To be away, until the slot was tampered with.
    Away(Fault),
    /// To end with an error.
    Fails { since: Instant },
    /// To take a snapshot.
    CopiesAgain,
}

/// See the module.
pub(crate) struct Capture {
    cluster: PrivateCluster,
    _folder: tempfile::TempDir,
    logs: PathBuf,
    data: PathBuf,
    load: Load,
    process: Option<Process>,
    start_at: Instant,
    starts: u32,
    expected: Expected,
    streams: bool,
    /// A frozen one whose successor works, until when it is frozen, and whether it was resumed.
    zombie: Option<(Process, Instant, bool)>,
    /// Processes of PostgreSQL that are frozen, and until when.
    frozen: Option<(Vec<u32>, Instant)>,
    random: ChaCha8Rng,
    planned: VecDeque<(Duration, Fault)>,
    began: Option<Instant>,
    length: Duration,
    floor: u64,
    pub captured: Captured,
}

impl Capture {
    /// Starts the server and its load, and tells `fleet` where it is.
    pub(crate) fn start(args: &Args, dir: &Path, fleet: &mut Fleet) -> anyhow::Result<Self> {
        say("starts PostgreSQL");
        let (seed, minutes) = (args.seed, args.minutes);
        // The server is not root, and has to get in.
        let folder = tempfile::Builder::new().prefix("chaos-pg-").tempdir()?;
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755))?;
        let timeout = format!("wal_sender_timeout={}", SENDER_TIMEOUT.as_millis());
        let cluster = PrivateCluster::start(PrivateClusterOptions {
            settings: vec![timeout, "max_slot_wal_keep_size=-1".to_owned()],
            ..PrivateClusterOptions::new(folder.path().join("pg"))
        })?;
        for (name, value) in [
            ("POSTGRES_HOST", cluster.host().to_owned()),
            ("POSTGRES_PORT", cluster.port().to_string()),
            ("POSTGRES_DB", cluster.database().to_owned()),
            ("POSTGRES_USER", cluster.user().to_owned()),
            ("POSTGRES_PASSWORD", cluster.password().to_owned()),
            ("CDC_SLOT", SLOT.to_owned()),
            ("CDC_FLUSH_SECONDS", "1".to_owned()),
        ] {
            fleet.set(name, &value);
        }
        let load = Load::start(cluster.address().clone(), seed)?;
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        random.set_stream(2);
        let length = Duration::from_secs_f64(minutes * 60.0);
        let count = (FAULTS_PER_MINUTE * minutes).ceil().max(KINDS.len() as f64) as usize;
        let span = length.as_secs_f64() / count as f64;
        let planned = (0..count).map(|index| {
            let at = (index as f64 + random.random::<f64>()) * span;
            (Duration::from_secs_f64(at), KINDS[index % KINDS.len()])
        });
        Ok(Self {
            planned: planned.collect(),
            cluster,
            _folder: folder,
            logs: dir.join("logs"),
            data: dir.join("data").join(NAME),
            load,
            process: None,
            start_at: Instant::now(),
            starts: 0,
            expected: Expected::Streams,
            streams: false,
            zombie: None,
            frozen: None,
            random,
            began: None,
            length,
            floor: (count / KINDS.len()) as u64,
            captured: Captured::default(),
        })
    }

    /// Whether every planned fault was done and has passed.
    pub(crate) fn is_calm(&self) -> bool {
        self.planned.is_empty()
            && self.zombie.is_none()
            && self.frozen.is_none()
            && self.expected == Expected::Streams
            && self.streams
    }

    /// Starts what is due, strikes what is due, and reads what the process says.
    pub(crate) fn tick(&mut self, fleet: &Fleet) -> anyhow::Result<()> {
        self.watch(fleet)?;
        self.thaw()?;
        if self.streams && self.began.is_none() {
            self.began = Some(Instant::now());
        }
        let due = self.began.map_or(Duration::ZERO, |began| began.elapsed());
        // One at a time, and only where capture works: each must be survived.
        if let Some((at, fault)) = self.planned.front().copied()
            && due >= at
            && self.streams
            && self.expected == Expected::Streams
            && self.zombie.is_none()
            && self.frozen.is_none()
        {
            self.planned.pop_front();
            self.strike(fault, fleet)?;
        }
        if due > self.length + PATIENCE {
            bail!("{} faults on capture found no moment", self.planned.len());
        }
        Ok(())
    }

    fn watch(&mut self, fleet: &Fleet) -> anyhow::Result<()> {
        if let Expected::Away(fault) = self.expected {
            let statement = match fault {
                Fault::Drop => format!("SELECT pg_drop_replication_slot('{SLOT}')"),
                _ => format!(
                    "INSERT INTO public.users (user_id) VALUES (gen_random_uuid()); SELECT pg_replication_slot_advance('{SLOT}', pg_current_wal_flush_lsn())"
                ),
            };
            // Refused while the server still has the killed reader.
            if sql(self.cluster.address(), &statement).is_ok() {
                let since = Instant::now();
                self.expected = Expected::Fails { since };
                self.start_at = since;
            }
            return Ok(());
        }
        let Some(process) = &mut self.process else {
            if Instant::now() >= self.start_at {
                self.launch(fleet)?;
            }
            return Ok(());
        };
        let ended = process.ended()?;
        for event in process.new_events() {
            match event["event"].as_str().unwrap_or_default() {
                "changes_streaming" => self.streams = true,
                "changes_snapshot_taken" => {
                    self.captured.snapshots += 1;
                    if self.expected == Expected::CopiesAgain {
                        self.expected = Expected::Streams;
                    }
                }
                "panicked" => {
                    let failure = format!("{} panicked: {event}", process.name);
                    self.captured.failures.push(failure);
                }
                _ => {}
            }
        }
        if let Expected::Fails { since } = self.expected
            && (self.streams || since.elapsed() > PATIENCE)
        {
            self.captured.failures.push(format!(
                "{} continued without an error although its slot had been moved or dropped",
                process.name
            ));
            self.expected = Expected::CopiesAgain;
        }
        let Some(status) = ended else { return Ok(()) };
        let (name, lines) = (process.name.clone(), process.last_lines(20));
        self.process = None;
        self.streams = false;
        self.start_at = Instant::now() + RESTART_PAUSE;
        let is_about_slot = |line: &&str| {
            line.contains("replication slot") && line.contains("`ftap cdc --resnapshot`")
        };
        let named = lines.lines().find(is_about_slot);
        match (self.expected, status.code(), named) {
            (Expected::Fails { .. }, Some(1), Some(line)) => {
                self.captured.errors.push(line.to_owned());
                self.expected = Expected::CopiesAgain;
            }
            // The server's answer to a fault, or a table that can't be copied while it has another
            // name.
            (_, Some(1), None) | (Expected::CopiesAgain, Some(1), _) => {
                let last = lines.lines().last().unwrap_or_default().to_owned();
                *self.captured.own_exits.entry(last).or_default() += 1;
            }
            _ => {
                let how = describe(status);
                let failure = format!("{name} ended with {how} in {:?}:\n{lines}", self.expected);
                self.captured.failures.push(failure);
            }
        }
        Ok(())
    }

    fn launch(&mut self, fleet: &Fleet) -> anyhow::Result<()> {
        self.starts += 1;
        let mut command = match self.expected {
            Expected::CopiesAgain => fleet.command(&["cdc", "--resnapshot"]),
            _ => fleet.command(&["cdc"]),
        };
        command.env("DATA_DIR", &self.data);
        let name = format!("{NAME}.{}", self.starts);
        self.process = Some(Process::start(name, command, &self.logs)?);
        self.streams = false;
        Ok(())
    }

    fn thaw(&mut self) -> anyhow::Result<()> {
        if let Some((processes, until)) = &self.frozen
            && Instant::now() >= *until
        {
            processes.iter().for_each(|id| signal(*id, libc::SIGCONT));
            self.frozen = None;
        }
        if let Some((process, until, is_resumed)) = &mut self.zombie
            && Instant::now() >= *until
        {
            if *is_resumed {
                process.kill()?;
                self.zombie = None;
            } else {
                process.signal(libc::SIGCONT);
                *is_resumed = true;
                *until = Instant::now() + SENDER_TIMEOUT;
            }
        }
        Ok(())
    }

    fn strike(&mut self, fault: Fault, fleet: &Fleet) -> anyhow::Result<()> {
        *self.captured.faults.entry(fault).or_default() += 1;
        match fault {
            Fault::Kill => self.kill()?,
            Fault::Zombie => {
                let Some(process) = self.process.take() else {
                    return Ok(());
                };
                process.signal(libc::SIGSTOP);
                let hold = Duration::from_millis(self.random.random_range(500..4_000));
                self.zombie = Some((process, Instant::now() + SENDER_TIMEOUT + hold, false));
                self.launch(fleet)?;
            }
            Fault::KillServer => signal(self.cluster.pid(), libc::SIGKILL),
            Fault::CrashServer => {
                let children = children(self.cluster.pid());
                let picked = self.random.random_range(0..children.len().max(1));
                if let Some(child) = children.get(picked) {
                    signal(*child, libc::SIGKILL);
                }
            }
            Fault::FreezeServer => {
                let server = self.cluster.pid();
                let mut all = vec![server];
                signal(server, libc::SIGSTOP);
                all.extend(children(server));
                all.iter().for_each(|id| signal(*id, libc::SIGSTOP));
                let hold = Duration::from_millis(self.random.random_range(500..8_000));
                self.frozen = Some((all, Instant::now() + hold));
            }
            Fault::Advance | Fault::Drop => {
                self.kill()?;
                self.expected = Expected::Away(fault);
            }
        }
        Ok(())
    }

    fn kill(&mut self) -> anyhow::Result<()> {
        if let Some(mut process) = self.process.take() {
            process.kill()?;
        }
        self.streams = false;
        self.start_at = Instant::now() + RESTART_PAUSE;
        Ok(())
    }

    /// Ends the load, has everything captured, and writes the tables as they are into `dir`.
    pub(crate) fn drain(
        &mut self,
        fleet: &Fleet,
        dir: &Path,
        interrupt: &Interrupt,
    ) -> anyhow::Result<()> {
        say("waits until all changes are in the lake");
        self.load.stop()?;
        self.captured.load = self.load.done();
        self.kill()?;
        let mut command = fleet.command(&["cdc", "--until-drained"]);
        command.env("DATA_DIR", &self.data);
        let mut process = Process::start(format!("{NAME}.drain"), command, &self.logs)?;
        let began = Instant::now();
        let status = loop {
            if let Some(status) = process.ended()? {
                break status;
            }
            if began.elapsed() > PATIENCE {
                bail!("capture does not drain:\n{}", process.last_lines(20));
            }
            interrupt.sleep(Duration::from_millis(20))?;
        };
        if !status.success() {
            let (how, lines) = (describe(status), process.last_lines(20));
            let failure = format!("`ftap cdc --until-drained` ended with {how}:\n{lines}");
            self.captured.failures.push(failure);
        }
        for table in ["users", "merchants"] {
            let query = format!("SELECT to_jsonb(t)::text FROM public.{table} t");
            let rows = sql(self.cluster.address(), &query)?;
            let rows: Vec<String> = rows.into_iter().flatten().flatten().collect();
            let path = dir.join(format!("{table}.jsonl"));
            std::fs::write(&path, rows.join("\n")).with_context(|| path.display().to_string())?;
        }
        Ok(())
    }

    /// What is wrong, if anything.
    pub(crate) fn judge(
        mut self,
        python: &Path,
        lake: &Path,
        dir: &Path,
        interrupt: &Interrupt,
    ) -> anyhow::Result<Captured> {
        let command = reader(python, lake, dir, TOTAL);
        let audit = audit::json("changes", command, &self.logs, interrupt)?;
        let faults = &self.captured.faults;
        for kind in KINDS {
            let done = faults.get(&kind).copied().unwrap_or_default();
            if done < self.floor {
                let floor = self.floor;
                let failure = format!("capture: {done} faults {kind:?}, expected at least {floor}");
                self.captured.failures.push(failure);
            }
        }
        let problems = audit["problems"].as_array().cloned().unwrap_or_default();
        for problem in problems {
            let failure = format!("capture, by the independent reader: {problem}");
            self.captured.failures.push(failure);
        }
        self.captured.audit = audit;
        Ok(self.captured)
    }
}

/// The independent reader; `total` is the sum of the merchants' amounts.
fn reader(python: &Path, lake: &Path, tables: &Path, total: u32) -> Command {
    let mut command = Command::new(python);
    command.args(["-c", include_str!("changes.py")]);
    command.arg(lake).arg(tables).arg(total.to_string());
    command
}

fn signal(id: u32, signal: libc::c_int) {
    // SAFETY: kill has no memory effects; the id is of a process of the server this run started.
    unsafe { libc::kill(id as libc::pid_t, signal) };
}

/// The processes whose parent is this one.
fn children(parent: u32) -> Vec<u32> {
    let list = format!("/proc/{parent}/task/{parent}/children");
    let list = std::fs::read_to_string(list).unwrap_or_default();
    let ids = list.split_whitespace();
    ids.filter_map(|id| id.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::audit::python_of_tests;

    /// A snapshot, a transfer between merchants, and users that come, change and go; then whatever
    /// `change` makes of it.
    const LAKE: &str = r#"
import os, sys, duckdb
dir, db = sys.argv[1], duckdb.connect()
def put(table, key, value, rows):
    os.makedirs(f"{dir}/{table}_changes/d", exist_ok=True)
    texts = [f"('{op}', {lsn}, {seq}, {before}, '{k}', {v}, 1, null::varchar, now())" for op, lsn, seq, before, k, v in rows]
    path = f"{dir}/{table}_changes/d/{rows[0][0]}-{rows[0][1]}-{rows[0][2]}.parquet"
    db.execute(f"copy (select * from (values {', '.join(texts)}) t(_op, _commit_lsn, _seq, _before, {key}, {value}, _epoch, _unchanged, _commit_time)) to '{path}'")
def users(*rows): put("users", "user_id", "zip", rows)
def merchants(*rows): put("merchants", "merchant", "merch_zipcode", rows)
null = "null::varchar"
users(("snapshot", 5, 0, null, "a", 1), ("snapshot", 5, 0, null, "b", 2))
merchants(("snapshot", 5, 0, null, "m", 60), ("snapshot", 5, 0, null, "n", 40))
merchants(("update", 10, 1, null, "m", 50), ("update", 10, 2, null, "n", 50))
users(("insert", 20, 1, null, "c", 3), ("update", 20, 2, """'{"user_id": "a"}'""", "z", 1))
users(("delete", 30, 1, """'{"user_id": "b"}'""", "b", "null"))
users(("update", 40, 1, null, "c", 4))
"#;

    fn problems(python: &Path, change: &str) -> String {
        let dir = tempfile::tempdir().unwrap();
        let tables = [
            (
                "users",
                "{\"user_id\": \"c\", \"zip\": 4}\n{\"user_id\": \"z\", \"zip\": 1}",
            ),
            (
                "merchants",
                "{\"merchant\": \"m\", \"merch_zipcode\": 50}\n{\"merchant\": \"n\", \"merch_zipcode\": 50}",
            ),
        ];
        for (table, rows) in tables {
            std::fs::write(dir.path().join(format!("{table}.jsonl")), rows).unwrap();
        }
        let made = Command::new(python)
            .args(["-c", &format!("{LAKE}{change}\n")])
            .arg(dir.path())
            .status();
        assert!(made.unwrap().success());
        let found = reader(python, dir.path(), dir.path(), 100)
            .output()
            .unwrap();
        assert!(found.status.success(), "{found:?}");
        let found: Value = serde_json::from_slice(&found.stdout).unwrap();
        found["problems"].to_string()
    }

    #[test]
    fn the_replay_finds_what_is_lost_doubled_or_torn() {
        let Some(python) = python_of_tests() else {
            return;
        };
        assert_eq!(problems(&python, ""), "[]");
        let removed = |file: &str| format!("os.remove(f'{{dir}}/{file}.parquet')");
        for (change, expected) in [
            (
                removed("users_changes/d/update-40-1"),
                "users c: zip is 4, in the lake 3",
            ),
            (
                removed("users_changes/d/delete-30-1"),
                "users b is in the lake only",
            ),
            (removed("users_changes/d/insert-20-1"), "c is updated"),
            (
                "users(('insert', 40, 1, null, 'x', 9))".to_owned(),
                "in the lake twice",
            ),
            (
                "users(('insert', 50, 2, null, 'x', 9))".to_owned(),
                "change 2 after 0",
            ),
            (
                "merchants(('update', 60, 1, null, 'm', 51), ('update', 61, 1, null, 'n', 49))"
                    .to_owned(),
                "merchants have 101",
            ),
        ] {
            let found = problems(&python, &change);
            assert!(found.contains(expected), "{change}: {found}");
        }
    }
}
