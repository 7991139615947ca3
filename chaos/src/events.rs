//! The run's own events file, made by `ftap generate` and `ftap prepare`.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, bail};

use crate::process::{Process, describe};
use crate::signals::Interrupt;

/// Position of `trans_num` among the columns.
const TRANS_NUM: usize = 5;
/// Position of `unix_time` among the columns.
const UNIX_TIME: usize = 6;
/// More than a line has.
const TAIL_BYTES: u64 = 4_096;

/// A prepared file.
pub(crate) struct Events {
    pub path: PathBuf,
    pub rows: u64,
    /// From its first row's `unix_time` to its last row's.
    pub span: Duration,
}

impl Events {
    /// Each row's ordinal by its `trans_num`, of which there are no two alike.
    pub(crate) fn by_trans_num(&self) -> anyhow::Result<HashMap<String, u64>> {
        let context = || self.path.display().to_string();
        let file = File::open(&self.path).with_context(context)?;
        let lines = BufReader::new(file).lines().skip(1);
        let rows = (0..).zip(lines).map(|(row, line)| {
            let line = line?;
            let number = line.split(';').nth(TRANS_NUM);
            Ok((number.with_context(|| line.clone())?.to_owned(), row))
        });
        let rows: HashMap<_, _> = rows.collect::<anyhow::Result<_>>().with_context(context)?;
        if rows.len() as u64 != self.rows {
            bail!("{}: some rows have the same trans_num", context());
        }
        Ok(rows)
    }
}

/// Makes it; `run` gives the `ftap` command with these arguments.
pub(crate) fn make(
    rows: u64,
    seed: u64,
    dir: &Path,
    run: impl Fn(&[&str]) -> Command,
    interrupt: &Interrupt,
) -> anyhow::Result<Events> {
    let out = dir.join("events");
    let out_text = out.to_string_lossy();
    let step = |name: &str, args: &[&str]| {
        let mut process = Process::start(name.to_owned(), run(args), &dir.join("logs"))?;
        loop {
            if let Some(status) = process.ended()? {
                if status.success() {
                    return Ok(());
                }
                let lines = process.last_lines(20);
                bail!("ftap {name} ended with {}:\n{lines}", describe(status));
            }
            interrupt.sleep(Duration::from_millis(20))?;
        }
    };
    let (count, seed) = (rows.to_string(), seed.to_string());
    step(
        "generate",
        &[
            "generate", "--rows", &count, "--seed", &seed, "--out", &out_text,
        ],
    )?;
    let generated = out.join("credit_card_transactions.csv");
    step(
        "prepare",
        &["prepare", &generated.to_string_lossy(), "--out", &out_text],
    )?;
    // The larger of the two, and no longer needed.
    std::fs::remove_file(&generated).with_context(|| generated.display().to_string())?;
    let path = out.join("credit_card_transactions_events.csv");
    let span = span(&path).with_context(|| path.display().to_string())?;
    Ok(Events { path, rows, span })
}

fn span(path: &Path) -> anyhow::Result<Duration> {
    let mut file = File::open(path)?;
    let first = BufReader::new(&file).lines().nth(1);
    let first = first.context("it has no row")??;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
    let mut tail = String::new();
    file.read_to_string(&mut tail)?;
    let last = tail.lines().last().context("it has no row")?;
    let seconds = unix_time(last)? - unix_time(&first)?;
    Ok(Duration::from_secs(u64::try_from(seconds)?))
}

fn unix_time(line: &str) -> anyhow::Result<i64> {
    let field = line.split(';').nth(UNIX_TIME);
    let field = field.with_context(|| format!("no unix_time in {line:?}"))?;
    field
        .parse()
        .with_context(|| format!("unix_time {field:?}"))
}
