//! What the end of a run is judged by: `ftap verify`, and a reader that shares no code with it.
//!
//! The reader is `audit.py`, on DuckDB as it comes from PyPI.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::process::Process;
use crate::signals::Interrupt;

const SCRIPT: &str = include_str!("audit.py");
const REQUIREMENTS: &str = include_str!("../../.ci/requirements.txt");
const AUDIT_LIMIT: Duration = Duration::from_secs(900);

/// Neighbouring places of a log.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Places {
    /// Partition.
    pub partition: i64,
    /// First offset.
    pub first_offset: i64,
    /// Last offset, included.
    pub last_offset: i64,
}

/// What the independent reader found, see `audit.py`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[allow(missing_docs)]
pub struct Audit {
    pub files: u64,
    pub file_rows: u64,
    pub lake_rows: u64,
    pub lost: u64,
    pub doubled: u64,
    pub foreign: u64,
    pub cents_file: i64,
    pub cents_lake: i64,
    pub offsets_doubled: u64,
    pub offsets_missing: u64,
    pub offsets_unknown: u64,
    pub where_doubled: Vec<Places>,
    pub where_missing: Vec<Places>,
    pub where_unknown: Vec<Places>,
    pub files_doubled: Vec<String>,
    pub examples: Vec<Value>,
}

impl Audit {
    /// Whether each row and each offset is there once, and the sums agree.
    pub fn is_exact(&self) -> bool {
        let wrong = [
            self.lost,
            self.doubled,
            self.foreign,
            self.offsets_doubled,
            self.offsets_missing,
            self.offsets_unknown,
        ];
        wrong == [0; 6] && self.cents_file == self.cents_lake && self.file_rows == self.lake_rows
    }
}

/// The Python that has DuckDB: of `FTAP_PYTHON`, else of an environment made under `target/chaos`.
pub fn python() -> anyhow::Result<PathBuf> {
    if let Some(named) = std::env::var_os("FTAP_PYTHON").filter(|named| !named.is_empty()) {
        let named = PathBuf::from(named);
        if !has_duckdb(&named) {
            bail!(
                "FTAP_PYTHON={} lacks duckdb: pip install -r .ci/requirements.txt",
                named.display()
            );
        }
        return Ok(named);
    }
    let environment = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/chaos/venv");
    let python = environment.join("bin/python3");
    if has_duckdb(&python) {
        return Ok(python);
    }
    let duckdb = REQUIREMENTS
        .lines()
        .find(|line| line.starts_with("duckdb"))
        .unwrap_or("duckdb");
    let run = |command: &mut Command| {
        let done = command.stdin(Stdio::null()).output();
        let output = done.with_context(|| format!("{command:?} can't be started"))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            bail!(
                "no Python with DuckDB could be made: {said}\nname one that has it with FTAP_PYTHON (Debian: apt-get install python3-venv)"
            );
        }
        Ok(())
    };
    run(Command::new("python3")
        .args(["-m", "venv"])
        .arg(&environment))?;
    run(Command::new(environment.join("bin/pip")).args([
        "install",
        "--quiet",
        "--disable-pip-version-check",
        duckdb,
    ]))?;
    Ok(python)
}

fn has_duckdb(python: &Path) -> bool {
    Command::new(python)
        .args(["-c", "import duckdb"])
        .stdin(Stdio::null())
        .output()
        .is_ok_and(|output| output.status.success())
}

/// Reads everything there is in the lake at `lake`.
pub fn audit(
    python: &Path,
    lake: &Path,
    events: &Path,
    topic: &Path,
    logs: &Path,
    interrupt: &Interrupt,
) -> anyhow::Result<Audit> {
    let mut command = Command::new(python);
    command
        .args(["-c", SCRIPT])
        .arg(lake)
        .arg(events)
        .arg(topic);
    let (process, code) = finish(
        Process::start("audit".to_owned(), command, logs)?,
        AUDIT_LIMIT,
        interrupt,
    )?;
    if code != Some(0) {
        bail!("the independent reader failed:\n{}", process.last_lines(20));
    }
    let printed = process.printed();
    serde_json::from_str(&printed).with_context(|| format!("the independent reader: {printed}"))
}

/// What `ftap verify --json` says: its exit code and its report.
pub fn verify(
    command: Command,
    logs: &Path,
    interrupt: &Interrupt,
) -> anyhow::Result<(Option<i32>, Value)> {
    let process = Process::start("verify".to_owned(), command, logs)?;
    let (process, code) = finish(process, AUDIT_LIMIT, interrupt)?;
    let report = serde_json::from_str(&process.printed()).unwrap_or(Value::Null);
    if report.is_null() {
        bail!("ftap verify gave no report:\n{}", process.last_lines(20));
    }
    Ok((code, report))
}

fn finish(
    mut process: Process,
    limit: Duration,
    interrupt: &Interrupt,
) -> anyhow::Result<(Process, Option<i32>)> {
    let began = Instant::now();
    loop {
        if let Some(status) = process.ended()? {
            return Ok((process, status.code()));
        }
        if began.elapsed() > limit {
            bail!("{} did not end within {limit:?}", process.name);
        }
        interrupt.sleep(Duration::from_millis(50))?;
    }
}
