//! What end-to-end tests need: `ftap` processes in a laboratory of their own.
//!
//! Every test has its own directory, topic and consumer group, so tests run side by side. They
//! run on the embedded broker, or on the Kafka that `KAFKA_BROKER` names.

#![allow(dead_code)]

pub(crate) mod changes;
pub(crate) mod clock;
pub(crate) mod cluster;
pub(crate) mod compose;
pub(crate) mod container_postgres;
pub(crate) mod containers;
pub(crate) mod disk;
pub(crate) mod dlq;
pub(crate) mod fx_api;
pub(crate) mod http;
pub(crate) mod kafka;
pub(crate) mod lake_file;
pub(crate) mod namespace;
pub(crate) mod postgres;
pub(crate) mod privileges;
pub(crate) mod process;
pub(crate) mod slow_line;
pub(crate) mod verdict;
pub(crate) mod warehouse;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use process::Ftap;
use verdict::Verdict;

/// Rows of the file that most tests publish.
pub(crate) const ROWS: u64 = 20_000;
/// Longest wait for anything: a busy machine is slow, a broken program never ends.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// A directory, a topic, a consumer group and the settings that go with them.
pub(crate) struct Lab {
    dir: tempfile::TempDir,
    broker: Option<String>,
    settings: Vec<(String, String)>,
    /// Kept alive for the test.
    _served: Option<Ftap>,
}

impl Lab {
    /// On the Kafka of `KAFKA_BROKER`, else each `ftap run` serves its own broker.
    pub(crate) fn new(name: &str) -> Self {
        Self::with_broker(name, real_kafka(), None)
    }

    /// With a broker that several processes share and the test can write to.
    pub(crate) fn shared(name: &str) -> Self {
        if let Some(broker) = real_kafka() {
            return Self::with_broker(name, Some(broker), None);
        }
        let mut lab = Self::with_broker(name, None, None);
        lab.set("DATA_DIR", lab.path("broker"));
        let served = lab.start(["kafka", "--port", "0"]);
        let started = served.wait_for_event("embedded_kafka_started");
        lab.broker = Some(started["bootstrap"].as_str().unwrap().to_owned());
        lab._served = Some(served);
        lab.set("DATA_DIR", lab.path("data"));
        lab
    }

    fn with_broker(name: &str, broker: Option<String>, served: Option<Ftap>) -> Self {
        static LABS: AtomicU32 = AtomicU32::new(0);
        let dir = tempfile::Builder::new()
            .prefix("ftap-e2e-")
            .tempdir()
            .unwrap();
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let topic = format!(
            "{name}-{}-{}-{}",
            std::process::id(),
            LABS.fetch_add(1, Ordering::Relaxed),
            since.as_millis()
        );
        let mut lab = Self {
            dir,
            broker,
            settings: Vec::new(),
            _served: served,
        };
        lab.set("DATA_DIR", lab.path("data"));
        lab.set("LAKE_DIR", lab.path("lake"));
        lab.set("EVENTS_FILE", events_file());
        lab.set("KAFKA_CONSUMER_GROUP", format!("group-{topic}"));
        lab.set("KAFKA_TOPIC", topic);
        lab.set("KAFKA_PARTITIONS", "3");
        lab.set("KAFKA_RETRY_DELAY", "0.2");
        // What is killed must not keep its partitions for long.
        lab.set("KAFKA_SESSION_TIMEOUT_MS", "3000");
        lab.set("PRODUCE_SPEED", "max");
        lab.set("GCS_FLUSH_SECONDS", "1");
        lab.set("RESTART_INITIAL_BACKOFF_MS", "50");
        lab.set("LOG_FORMAT", "json");
        lab.set("DASHBOARD_ADDR", "off");
        // Tests of the stream don't start a server each.
        lab.set("POSTGRES", "off");
        // Nor do they look for rates among their files.
        lab.set("INGEST_FX_SCHEDULE", "off");
        lab
    }

    /// With no broker but the one that a setting names.
    pub(crate) fn without_broker(mut self) -> Self {
        self.broker = None;
        self
    }

    /// A path in the test's directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Changes a setting for the processes started from now on.
    pub(crate) fn set(&mut self, name: &str, value: impl AsRef<OsStr>) {
        let value = value.as_ref().to_str().unwrap().to_owned();
        self.settings.retain(|(known, _)| known != name);
        self.settings.push((name.to_owned(), value));
    }

    /// The value of a setting.
    pub(crate) fn get(&self, name: &str) -> &str {
        let found = self.settings.iter().find(|(known, _)| known == name);
        &found.unwrap_or_else(|| panic!("{name} is not set")).1
    }

    /// The topic of this test.
    pub(crate) fn topic(&self) -> &str {
        self.get("KAFKA_TOPIC")
    }

    /// The broker's address; only where the test has a broker of its own.
    pub(crate) fn broker(&self) -> &str {
        self.broker.as_deref().expect("use Lab::shared")
    }

    /// `ftap` with the test's settings and nothing else of the environment.
    pub(crate) fn command<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ftap"));
        command
            .args(args)
            .env_clear()
            .envs(
                ["PATH", "HOME", "RUST_BACKTRACE"]
                    .iter()
                    .filter_map(|name| Some((*name, std::env::var_os(name)?))),
            )
            .envs(self.settings.iter().cloned())
            .current_dir(self.dir.path())
            .stdin(Stdio::null());
        if let Some(broker) = &self.broker {
            command.env("KAFKA_BROKER", broker);
        }
        command
    }

    pub(crate) fn start<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Ftap {
        Ftap::start(self.command(args))
    }

    /// Runs `ftap run --until-drained` to its end, which must be successful.
    pub(crate) fn run_until_drained(&self) -> Ftap {
        let run = self.start(["run", "--until-drained", "--json"]);
        run.wait_for_success();
        run
    }

    /// What `ftap verify` says.
    pub(crate) fn verify(&self) -> Verdict {
        Verdict::of(self.command(["verify", "--json"]))
    }

    /// Runs `ftap verify`, which has to find everything exactly once, and all of the file.
    pub(crate) fn assert_exact(&self, rows: u64) -> Verdict {
        let verdict = self.verify();
        verdict.assert_exact();
        assert_eq!(verdict.total("file"), rows, "{verdict}");
        verdict
    }

    /// Keys of the lake's objects, sorted.
    pub(crate) fn objects(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        walk(&self.path("lake"), &mut found);
        found.sort();
        found
    }
}

impl Drop for Lab {
    /// A failed test leaves its directory, logs included, for inspection.
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.dir.disable_cleanup(true);
            eprintln!("what is left: {}", self.dir.path().display());
        }
    }
}

fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            walk(&path, found);
        } else if path.extension() == Some(OsStr::new("parquet")) {
            found.push(path);
        }
    }
}

/// The Kafka that the tests run on, besides the embedded one.
pub(crate) fn real_kafka() -> Option<String> {
    std::env::var("KAFKA_BROKER")
        .ok()
        .filter(|broker| !broker.is_empty())
}

/// A prepared events file of [`ROWS`] rows.
pub(crate) fn events_file() -> PathBuf {
    make_events(ROWS, 1)
}

/// A prepared events file; tests that want the same one share it.
pub(crate) fn make_events(rows: u64, seed: u64) -> PathBuf {
    static MADE: Mutex<BTreeMap<(u64, u64), PathBuf>> = Mutex::new(BTreeMap::new());
    // Held while a file is made, so that two tests never make the same one at the same time. A test
    // that fails in here leaves nothing in the map.
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    made.entry((rows, seed))
        .or_insert_with(|| generate_and_prepare(rows, seed))
        .clone()
}

fn generate_and_prepare(rows: u64, seed: u64) -> PathBuf {
    let name = format!("events-{rows}-{seed}-{}", std::process::id());
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let ftap = |args: &[&OsStr]| {
        let output = Command::new(env!("CARGO_BIN_EXE_ftap"))
            .args(args)
            .env("LOG_FORMAT", "json")
            .current_dir(env!("CARGO_TARGET_TMPDIR"))
            .output()
            .unwrap();
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "ftap {args:?}: {errors}");
    };
    let (rows, seed) = (rows.to_string(), seed.to_string());
    let text = OsStr::new::<str>;
    ftap(&[
        text("generate"),
        text("--rows"),
        text(&rows),
        text("--seed"),
        text(&seed),
        text("--out"),
        dir.as_os_str(),
    ]);
    let generated = std::fs::read_dir(&dir)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let generated = generated
        .filter(|path| path.extension() == Some(text("csv")))
        .max_by_key(|path| path.metadata().unwrap().len())
        .unwrap();
    ftap(&[
        text("prepare"),
        generated.as_os_str(),
        text("--out"),
        dir.as_os_str(),
    ]);
    let events = dir.join("credit_card_transactions_events.csv");
    assert!(events.is_file(), "{} is missing", events.display());
    events
}

/// Waits until `done` gives a value; the text says for what, should it never come.
pub(crate) fn wait_until<T>(what: &str, mut done: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = done() {
            return value;
        }
        assert!(start.elapsed() < PATIENCE, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Reports that a test is not run because something is missing; fails where everything must be there.
pub(crate) fn not_run(why: &str) {
    assert_ne!(
        std::env::var("FTAP_REQUIRE_TOOLS").as_deref(),
        Ok("1"),
        "{why}"
    );
    eprintln!("not run: {why}");
}

/// Seconds of data in one second such that the whole file takes about `seconds`.
pub(crate) fn speed_for(seconds: u64) -> String {
    // The data runs over 18 months, whatever the number of rows.
    (536 * 86_400 / seconds).to_string()
}

/// Pseudo-random numbers that are the same in every run: SplitMix64.
pub(crate) struct Random(pub u64);

impl Random {
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}
