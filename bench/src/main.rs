//! Measures whole commands next to other tools, and the steps of a row's way next to their ceilings.
//!
//! Promises: a run whose rows are not all there is an error and no figure; everything that was written
//! is removed, and every process that was started has ended, however the benchmark ends.

#![allow(clippy::print_stderr, clippy::print_stdout)]

mod against;
mod alloc;
mod child;
mod commands;
mod ftap;
mod kafka;
mod machine;
mod mailbox;
mod peers;
mod steps;
mod table;
mod wire;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, bail, ensure};
use clap::{Parser, ValueEnum};

use crate::against::Against;
use crate::ftap::Bench;
use crate::kafka::Kafka;
use crate::table::Report;

/// Measures ftap's commands next to other tools, and its steps next to their ceilings
///
/// Generates the data, starts Apache Kafka by `scripts/kafka` and runs each command three times, in
/// alternation with the peers that are installed (kcat, DuckDB, confluent-kafka with pyarrow; Kafka Connect by Maven).
/// Everything is under target/bench, needs up to 4 GB there, and is removed at the end. Exit code 1 if
/// something failed, such as a run that lost a row.
#[derive(Debug, Parser)]
#[command(
    name = "bench",
    version,
    after_help = "Example:\n  cargo run --release -p bench -- --rows 200000"
)]
struct Args {
    /// Rows of the data
    #[arg(long, default_value_t = 1_296_675, value_parser = clap::value_parser!(u64).range(1_000..=10_000_000))]
    rows: u64,
    /// The `ftap` to measure; without it the release build is made
    #[arg(long, value_name = "PATH")]
    ftap: Option<PathBuf>,
    /// A Kafka that runs already, in place of one of the benchmark's own
    #[arg(long, value_name = "HOST:PORT")]
    broker: Option<String>,
    /// Measure this part only
    #[arg(long, value_enum)]
    only: Option<Part>,
    /// Measure what a row costs `ftap consume` against this instead
    #[arg(long, value_enum, value_delimiter = ',', conflicts_with = "only")]
    against: Vec<Against>,
    /// How often the larger backlog has the file; ten times take 7 GB
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(2..=100))]
    backlog: u64,
    /// Print JSON, or write it into FILE
    #[arg(long, value_name = "FILE", num_args = 0..=1)]
    json: Option<Option<PathBuf>>,
    /// Print Markdown
    #[arg(long)]
    markdown: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Whole commands
    Commands,
    /// Steps next to their ceilings
    Steps,
}

fn main() -> ExitCode {
    child::listen_for_signals();
    match execute(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: FAILED: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn execute(args: &Args) -> anyhow::Result<()> {
    let ftap = find_ftap(args.ftap.as_deref())?;
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/bench");
    fs::create_dir_all(&target).with_context(|| target.display().to_string())?;
    let target = target.canonicalize().context("target/bench")?;
    let dir = tempfile::tempdir_in(&target).context("target/bench")?;
    let mut report = Report {
        about: machine::about(args.rows),
        ..Report::default()
    };
    let bench = Bench::new(ftap, dir.path(), args.rows)?;
    if args.only != Some(Part::Steps) {
        let kafka = match start_kafka(args, dir.path()) {
            Ok(kafka) => Some(kafka),
            Err(error) if args.broker.is_none() && args.against.is_empty() => {
                report.skipped.push(format!("Apache Kafka: {error:#}"));
                None
            }
            Err(error) => return Err(error.context("Apache Kafka")),
        };
        for against in &args.against {
            let kafka = kafka.as_ref().context("no broker")?;
            commands::warm_up(&bench, kafka)?;
            against::measure(&bench, kafka, *against, args.backlog, &mut report)?;
        }
        if args.against.is_empty() {
            commands::measure(&bench, kafka.as_ref(), &mut report)?;
        }
    }
    // Last: what it reads into memory would count as the peak of processes that start after it.
    if args.only != Some(Part::Commands) && args.against.is_empty() {
        steps::measure(&bench, &mut report)?;
    }
    report.about.push(("load", machine::load_so_far()));
    print(args, &report)
}

fn print(args: &Args, report: &Report) -> anyhow::Result<()> {
    match &args.json {
        Some(Some(file)) => {
            fs::write(file, report.json()).with_context(|| file.display().to_string())?;
        }
        Some(None) => {
            print!("{}", report.json());
            return Ok(());
        }
        None => {}
    }
    let text = if args.markdown {
        report.markdown()
    } else {
        report.text()
    };
    print!("{text}");
    Ok(())
}

fn start_kafka(args: &Args, dir: &Path) -> anyhow::Result<Kafka> {
    if let Some(address) = &args.broker {
        return Kafka::at(address);
    }
    eprintln!("bench: starts Apache Kafka");
    let dir = dir.join("kafka");
    fs::create_dir(&dir).context("the broker's folder")?;
    Kafka::start(&dir)
}

fn find_ftap(named: Option<&Path>) -> anyhow::Result<PathBuf> {
    if let Some(named) = named {
        let found = named.canonicalize();
        return found.with_context(|| format!("--ftap {}", named.display()));
    }
    let beside = std::env::current_exe().context("the benchmark's own place")?;
    let beside = beside.with_file_name("ftap");
    let is_release = beside
        .parent()
        .is_some_and(|folder| folder.ends_with("release"));
    if !is_release {
        bail!(
            "this is not a release build: use `cargo run --release -p bench`, or name an ftap with --ftap"
        );
    }
    eprintln!("bench: builds ftap (cargo build --release)");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    // `cargo run` hands on what .cargo/config.toml sets for C compilers. As variables of the environment they would
    // have each C library compiled again, and all that depends on one, here and by the next build.
    let built = Command::new(cargo)
        .env_remove("CFLAGS")
        .env_remove("CXXFLAGS")
        .args(["build", "--release", "--target-dir"])
        .arg(beside.ancestors().nth(2).unwrap_or(Path::new("target")))
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."))
        .status();
    let built =
        built.context("cargo can't be started: build ftap yourself and name it with --ftap")?;
    ensure!(built.success(), "ftap does not build: see above");
    Ok(beside)
}
