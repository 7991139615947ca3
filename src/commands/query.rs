//! `ftap query`: SQL over what is in the lake.
//!
//! Reads the objects that are there when it starts, and changes nothing: it can run beside
//! everything else, also on a lake that it may only read.

use std::fs::OpenOptions;
use std::io::{self, IsTerminal, Read as _};
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use ftap_lake::{
    DATA_SETS, DEAD_LETTERS, FRAUD_SCORES, FX_RATES, LakeStore, TRANSACTIONS, dead_letter_schema,
};
use ftap_query::{Answer, Engine, Format, Limits, QueryError, STACK_BYTES, Source, Written, write};
use ftap_telemetry::figures::count;

use crate::cli::{LimitArgs, QueryArgs, QueryFormat};
use crate::config::Config;
use crate::exit::{self, BadUsage, OutputClosed};
use crate::output::print;
use crate::signals;

/// Rows of a table on the terminal, unless `--limit` says otherwise.
const TABLE_ROWS: usize = 100;
/// Temporary files of one query.
const SPILL_BYTES: u64 = 10_000_000_000;

/// Answers one statement.
pub(crate) fn execute(config: &Config, args: &QueryArgs) -> anyhow::Result<u8> {
    let sql = statement(args)?;
    let format = format(args);
    if format == Format::Parquet && args.out.is_none() && io::stdout().is_terminal() {
        let what = "Parquet is binary and not for a terminal: name a file with --out, or redirect the output";
        return Err(BadUsage(what.to_owned()).into());
    }
    let for_people = format == Format::Table && args.out.is_none();
    let limit = args.limit.or_else(|| for_people.then_some(TABLE_ROWS));
    let written = until_stopped(async {
        let engine = open(config, &args.limits).await?;
        let answer = engine.query(&sql).await.map_err(judge)?;
        match &args.out {
            None => write(answer, format, limit, &mut io::stdout())
                .await
                .map_err(judge),
            Some(path) => write_new(path, answer, format, limit).await,
        }
    })?;
    if written.cut && for_people {
        print(&format!(
            "{} rows, and there are more: --limit N shows more of them, --format csv all\n",
            count(written.rows as u64)
        ))?;
    }
    Ok(exit::DONE)
}

/// Runs on all cores until it is done, or until a signal.
pub(super) fn until_stopped<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let mut shutdown = signals::listen()?;
    tokio::runtime::Builder::new_multi_thread()
        .thread_stack_size(STACK_BYTES)
        .enable_all()
        .build()
        .context("the runtime can't be started")?
        .block_on(async {
            tokio::select! {
                done = work => done,
                _ = shutdown.wait_for(|stop| *stop) => {
                    Err(anyhow::anyhow!("stopped before the answer was complete"))
                }
            }
        })
}

/// The statement: the argument, a file, or standard input.
fn statement(args: &QueryArgs) -> anyhow::Result<String> {
    let text = match (&args.sql, &args.file) {
        (Some(sql), _) if sql != "-" => sql.clone(),
        (_, Some(path)) => std::fs::read_to_string(path)
            .map_err(|error| BadUsage(format!("--file {}: {error}", path.display())))?,
        (None, None) if io::stdin().is_terminal() => {
            let what = "there is no statement: ftap query \"SELECT …\", --file FILE, or standard input; \
                        \"SHOW TABLES\" shows what there is to ask";
            return Err(BadUsage(what.to_owned()).into());
        }
        _ => {
            let mut text = String::new();
            io::stdin()
                .lock()
                .read_to_string(&mut text)
                .map_err(|error| BadUsage(format!("standard input can't be read: {error}")))?;
            text
        }
    };
    if text.trim().is_empty() {
        return Err(BadUsage("the statement is empty".to_owned()).into());
    }
    Ok(text)
}

/// By `--format`, else by the name of `--out`, else a table.
fn format(args: &QueryArgs) -> Format {
    let extension = args.out.as_deref().and_then(Path::extension);
    match (args.format, extension.and_then(|name| name.to_str())) {
        (Some(format), _) => format.into(),
        (None, Some("csv")) => Format::Csv,
        (None, Some("json" | "jsonl")) => Format::Json,
        (None, Some("parquet")) => Format::Parquet,
        (None, _) => Format::Table,
    }
}

impl From<QueryFormat> for Format {
    fn from(format: QueryFormat) -> Self {
        match format {
            QueryFormat::Table => Self::Table,
            QueryFormat::Csv => Self::Csv,
            QueryFormat::Json => Self::Json,
            QueryFormat::Parquet => Self::Parquet,
        }
    }
}

/// The engine on what is in the lake now.
pub(super) async fn open(config: &Config, limits: &LimitArgs) -> anyhow::Result<Engine> {
    let lake = LakeStore::open_to_read(&config.lake())?;
    let limits = Limits {
        memory_bytes: limits.memory.saturating_mul(1_000_000),
        spill_bytes: SPILL_BYTES,
        time: Duration::from_secs(limits.timeout),
    };
    Engine::open(&lake, &sources(), limits).await.map_err(judge)
}

/// The data sets; the columns of the changes are those that PostgreSQL had.
pub(crate) fn sources() -> Vec<Source> {
    let sources = DATA_SETS.iter().map(|set| Source {
        set,
        columns: match set.name {
            name if name == TRANSACTIONS.name => Some(ftap_transaction::schema()),
            name if name == FX_RATES.name => Some(ftap_fx::object::schema()),
            name if name == DEAD_LETTERS.name => Some(dead_letter_schema()),
            name if name == FRAUD_SCORES.name => Some(ftap_fraud::schema()),
            _ => None,
        },
    });
    sources.collect()
}

/// Writes an answer to a file that is not there yet, whole or not at all.
pub(super) async fn write_new(
    path: &Path,
    answer: Answer,
    format: Format,
    limit: Option<usize>,
) -> anyhow::Result<Written> {
    let file = OpenOptions::new().write(true).create_new(true).open(path);
    let mut file = file.map_err(|error| {
        let advice = match error.kind() {
            io::ErrorKind::AlreadyExists => "; name another one, or remove this one",
            _ => "",
        };
        BadUsage(format!("--out {}: {error}{advice}", path.display()))
    })?;
    let written = write(answer, format, limit, &mut file).await;
    if written.is_err() {
        // Half an answer must not be taken for one.
        let _ = std::fs::remove_file(path);
    }
    written.map_err(judge)
}

pub(super) fn judge(error: QueryError) -> anyhow::Error {
    match error {
        QueryError::Sql { .. } => BadUsage(error.to_string()).into(),
        QueryError::Output(source) if source.kind() == io::ErrorKind::BrokenPipe => {
            OutputClosed.into()
        }
        other => other.into(),
    }
}
