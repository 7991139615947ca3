//! `ftap generate`: a seeded, deterministic data set of the Kaggle file's shape.

use std::path::Path;
use std::time::Instant;

use ftap_dataset::generate::{GenerateOptions, GenerateReport, generate};
use ftap_telemetry::events::{DataPrepared, Speaker};
use ftap_telemetry::figures::{count, size};

use crate::cli::GenerateArgs;
use crate::config::Config;
use crate::exit;
use crate::output::print;
use crate::progress::{self, Unit};
use crate::telemetry::Telemetry;

/// Generates and says where the file is and what comes next.
pub(crate) fn execute(
    config: &Config,
    args: &GenerateArgs,
    telemetry: &Telemetry,
) -> anyhow::Result<u8> {
    let out_dir = match &args.out {
        Some(dir) => dir.clone(),
        None => config.data_dir.join("generated"),
    };
    let options = GenerateOptions {
        rows: args.rows,
        seed: args.seed,
        bad_rows: args.bad_rows,
    };
    let report = with_progress(&options, &out_dir, telemetry)?;
    let broken = match report.bad_rows {
        0 => String::new(),
        rows => format!(" and {} broken ones", count(rows)),
    };
    print(&format!(
        "{}: {} rows{broken}, {} of them fraud, {}\nnext: ftap prepare {}\n",
        report.path.display(),
        count(report.rows),
        count(report.fraud_rows),
        size(report.bytes),
        report.path.display(),
    ))?;
    Ok(exit::DONE)
}

/// Generates with a bar on a terminal and an event in the log.
pub(crate) fn with_progress(
    options: &GenerateOptions,
    out_dir: &Path,
    telemetry: &Telemetry,
) -> anyhow::Result<GenerateReport> {
    let started = Instant::now();
    let total = options.rows.saturating_add(options.bad_rows);
    let bar = progress::bar(telemetry, "generate", total, Unit::Rows);
    let report = generate(options, out_dir, &mut |rows| bar.set_position(rows));
    bar.finish_and_clear();
    let report = report.map_err(super::dataset_error)?;
    DataPrepared {
        step: "generate".to_owned(),
        rows: report.rows,
        rejected: report.bad_rows,
        path: report.path.display().to_string(),
        duration_ms: started.elapsed().as_millis() as u64,
    }
    .emit(Speaker::PROCESS);
    Ok(report)
}
