//! Kills, freezes and restarts everything at seeded random moments, then proves that nothing
//! was lost or doubled.
//!
//! Promises: the plan of faults follows from the seed; the exit code is 0 only if the plan's
//! floor was reached and the lake holds every row exactly once, by `ftap verify` and by a reader
//! that shares no code with it; no process outlives the run, however that ends.

#![allow(clippy::print_stderr, clippy::print_stdout)]

mod args;
mod audit;
mod broker;
mod capture;
mod events;
mod fleet;
mod kafka;
mod load;
mod plan;
mod poison;
mod process;
mod recovery;
mod report;
mod run;
mod signals;
mod store;
mod storm;
mod tally;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;

use crate::args::Args;
use crate::plan::Plan;
use crate::signals::{Interrupt, Interrupted};
use crate::store::StoreKind;

fn main() -> ExitCode {
    let args = Args::parse();
    if args.plan {
        let plan = Plan::new(args.seed, args.minutes, args.store == StoreKind::Gcs);
        return match serde_json::to_string_pretty(&plan) {
            Ok(text) => {
                println!("{text}");
                ExitCode::SUCCESS
            }
            Err(error) => fail(&error.into(), None),
        };
    }
    let dir = match run_dir() {
        Ok(dir) => dir,
        Err(error) => return fail(&error, None),
    };
    match execute(&args, &dir) {
        Ok(true) if !args.keep => {
            // What is left costs space, nothing else.
            let _ = std::fs::remove_dir_all(&dir);
            ExitCode::SUCCESS
        }
        Ok(true) => {
            eprintln!("chaos: kept {}", dir.display());
            ExitCode::SUCCESS
        }
        Ok(false) => ExitCode::FAILURE,
        Err(error) if error.is::<Interrupted>() && !args.keep => {
            // As above.
            let _ = std::fs::remove_dir_all(&dir);
            fail(&error, None)
        }
        Err(error) => fail(&error, Some(&dir)),
    }
}

fn execute(args: &Args, dir: &Path) -> anyhow::Result<bool> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("the runner can't be started")?;
    let interrupt = Interrupt::listen(&runtime)?;
    let ftap = run::find_ftap(args.ftap.as_deref())?;
    let report = run::run(args, &ftap, dir, &runtime, &interrupt)?;
    if args.json {
        let text = serde_json::to_string_pretty(&report).context("JSON")?;
        println!("{text}");
    } else {
        print!("{report}");
    }
    Ok(report.ok)
}

fn run_dir() -> anyhow::Result<PathBuf> {
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/chaos");
    std::fs::create_dir_all(&target).with_context(|| target.display().to_string())?;
    let target = target.canonicalize().context("target/chaos")?;
    let made = tempfile::Builder::new().prefix("run-").tempdir_in(&target);
    let dir = made.with_context(|| format!("{} can't be written", target.display()))?;
    Ok(dir.keep())
}

fn fail(error: &anyhow::Error, dir: Option<&Path>) -> ExitCode {
    eprintln!("chaos: FAILED: {error:#}");
    if let Some(dir) = dir {
        eprintln!("chaos: everything is kept in {}", dir.display());
    }
    if error.is::<Interrupted>() {
        ExitCode::from(130)
    } else {
        ExitCode::FAILURE
    }
}
