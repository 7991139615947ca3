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
pub(crate) struct Places {
    pub partition: i64,
    pub first_offset: i64,
    /// Last offset, included.
    pub last_offset: i64,
}

/// What the independent reader found, see `audit.py`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Audit {
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
    pub(crate) fn is_exact(&self) -> bool {
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
pub(crate) fn python() -> anyhow::Result<PathBuf> {
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
pub(crate) fn audit(
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

/// What another program prints as one JSON object.
pub(crate) fn json(
    name: &str,
    command: Command,
    logs: &Path,
    interrupt: &Interrupt,
) -> anyhow::Result<Value> {
    let process = Process::start(name.to_owned(), command, logs)?;
    let (process, code) = finish(process, AUDIT_LIMIT, interrupt)?;
    if code != Some(0) {
        bail!("{name} failed:\n{}", process.last_lines(20));
    }
    let printed = process.printed();
    serde_json::from_str(&printed).with_context(|| format!("{name}: {printed}"))
}

/// What `ftap verify --json` says: its exit code and its report.
pub(crate) fn verify(
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

/// A Python with duckdb; without one the test is not run, and says so.
#[cfg(test)]
pub(crate) fn python_of_tests() -> Option<PathBuf> {
    use std::io::Write as _;

    let named = std::env::var_os("FTAP_PYTHON").unwrap_or_else(|| "python3".into());
    let python = PathBuf::from(named);
    if has_duckdb(&python) {
        return Some(python);
    }
    assert!(
        std::env::var_os("FTAP_REQUIRE_TOOLS").is_none_or(|wanted| wanted != "1"),
        "{} lacks duckdb: pip install -r .ci/requirements.txt",
        python.display()
    );
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    // Past the test runner, which hides what passing tests print.
    let said = format!("{test} was NOT run: no Python with duckdb\n");
    let _ = std::io::stderr().write_all(said.as_bytes());
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Three rows in two files, then whatever `change` makes of them.
    const LAKE: &str = r#"
import sys, duckdb
db = duckdb.connect()
columns = """'2019-01-01 00:00:18' as trans_date_trans_time, 'user' as user_id, 'shop' as merchant,
    'home' as category, 'n' || o as trans_num, 1325376018::bigint as unix_time,
    0::bigint as is_fraud, 4.97 / 0.11 as original_amt, 'SEK' as currency,
    0::int as _kafka_partition, o::bigint as _kafka_offset"""
def put(name, offsets):
    db.execute(f"copy (select {columns} from unnest({offsets}) t(o)) to '{sys.argv[1]}/{name}.parquet'")
put("a", [0, 1])
put("b", [3])
"#;
    const EVENTS: &str =
        "trans_date_trans_time;user_id;merchant;category;amt;trans_num;unix_time;is_fraud
2019-01-01 00:00:18;user;shop;home;4.97;n0;1325376018;0
2019-01-01 00:00:18;user;shop;home;4.97;n1;1325376018;0
2019-01-01 00:00:18;user;shop;home;4.97;n3;1325376018;0
";
    /// A control record is at 2, poison at 4.
    const TOPIC: &str = "partition;offset;kind\n0;0;row\n0;1;row\n0;3;row\n0;4;poison\n";

    fn audited(python: &Path, change: &str) -> Audit {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        for folder in ["lake", "logs"] {
            std::fs::create_dir(path(folder)).unwrap();
        }
        std::fs::write(path("events"), EVENTS).unwrap();
        std::fs::write(path("topic"), TOPIC).unwrap();
        let made = Command::new(python)
            .args(["-c", &format!("{LAKE}{change}\n")])
            .arg(path("lake"))
            .status();
        assert!(made.unwrap().success());
        let (lake, logs) = (path("lake"), path("logs"));
        let interrupt = Interrupt::default();
        audit(
            python,
            &lake,
            &path("events"),
            &path("topic"),
            &logs,
            &interrupt,
        )
        .unwrap()
    }

    #[test]
    fn the_independent_reader_finds_what_is_lost_doubled_foreign_or_changed() {
        let Some(python) = python_of_tests() else {
            return;
        };
        let exact = audited(&python, "");
        assert!(exact.is_exact(), "{exact:?}");
        assert_eq!(
            (exact.files, exact.lake_rows, exact.cents_lake),
            (2, 3, 1491)
        );

        let lost = audited(&python, "import os; os.remove(sys.argv[1] + '/a.parquet')");
        assert!(!lost.is_exact());
        assert_eq!(
            (lost.lost, lost.offsets_missing, lost.doubled),
            (2, 2, 0),
            "{lost:?}"
        );
        let place = &lost.where_missing[0];
        assert_eq!((place.first_offset, place.last_offset), (0, 1), "{lost:?}");

        let doubled = audited(&python, "put('c', [1])");
        assert!(!doubled.is_exact());
        assert_eq!(
            (doubled.doubled, doubled.offsets_doubled),
            (1, 1),
            "{doubled:?}"
        );
        assert_eq!(doubled.files_doubled.len(), 2, "{doubled:?}");

        let foreign = audited(&python, "put('c', [4])");
        assert!(!foreign.is_exact());
        assert_eq!(
            (foreign.foreign, foreign.offsets_unknown),
            (1, 1),
            "{foreign:?}"
        );

        let changed = audited(
            &python,
            "columns = columns.replace('4.97', '4.98'); put('b', [3])",
        );
        assert!(!changed.is_exact());
        assert_eq!((changed.lost, changed.foreign), (1, 1), "{changed:?}");
        assert_eq!(changed.cents_lake - changed.cents_file, 1);

        let nothing = audited(
            &python,
            "import os; [os.remove(sys.argv[1] + '/' + name + '.parquet') for name in 'ab']",
        );
        assert_eq!((nothing.lost, nothing.lake_rows), (3, 0), "{nothing:?}");
    }
}
