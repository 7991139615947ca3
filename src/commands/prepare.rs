//! `ftap prepare`: the Kaggle CSV, given or downloaded, split into events, users and merchants.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context as _;
use ftap_dataset::generate::GenerateOptions;
use ftap_dataset::kaggle::{self, KaggleCredentials};
use ftap_dataset::prepare::{PrepareReport, prepare};
use ftap_dataset::schema::{EVENTS_FILE, MERCHANTS_FILE, USERS_FILE};
use ftap_kafka::access;
use ftap_kafka::publish_resume::Fingerprint;
use ftap_telemetry::events::{DataPrepared, SettingDoubtful, Speaker};
use ftap_telemetry::figures::count;
use ftap_verify::topics::Topics;

use crate::cli::PrepareArgs;
use crate::config::Config;
use crate::exit;
use crate::kafka_access::KafkaAccess;
use crate::output::print;
use crate::progress::{self, Unit};
use crate::telemetry::Telemetry;

const GENERATED_SEED: u64 = 1;

/// Downloads or generates if asked to, splits, and says what came out.
pub(crate) fn execute(
    config: &Config,
    args: &PrepareArgs,
    telemetry: &Telemetry,
) -> anyhow::Result<u8> {
    let out_dir = match &args.out {
        Some(dir) => dir.clone(),
        None => config.data_dir.join("prepared"),
    };
    let input = match (&args.file, args.generate) {
        (Some(file), _) => file.clone(),
        (None, Some(_)) if is_prepared(&out_dir) => {
            print(&format!("{}: prepared already\n", out_dir.display()))?;
            return Ok(exit::DONE);
        }
        (None, Some(rows)) => generated(config, rows, telemetry)?,
        (None, None) => download(config, telemetry)?,
    };
    let report = with_progress(&input, &out_dir, telemetry)?;
    print(&summary(&report))?;
    if report.events_path == config.events_file
        && let Ok(true) = topic_has_another_file(config)
    {
        SettingDoubtful {
            setting: "KAFKA_TOPIC".to_owned(),
            detail: format!(
                "topic {} holds another events file, and `ftap run` will refuse this one: run `ftap reset` first, which removes that topic and its lake, or set KAFKA_TOPIC and LAKE_DIR to new ones",
                config.kafka_topic
            ),
        }
        .emit(Speaker::PROCESS);
    }
    Ok(exit::DONE)
}

/// Whether the topic was published from another file than the one prepared. Kafka need not be there.
fn topic_has_another_file(config: &Config) -> anyhow::Result<bool> {
    if config.kafka_broker.is_none() && !config.data_dir.join("kafka").is_dir() {
        return Ok(false);
    }
    let kafka = KafkaAccess::open_to_read(config)?;
    let settings = config.kafka_settings(kafka.bootstrap());
    access::check(&settings)?;
    let topics = Topics::new(&settings)?;
    let Some(bounds) = topics.watermarks(&config.kafka_topic)? else {
        return Ok(false);
    };
    let source = topics.first_source(&config.kafka_topic, &bounds)?;
    let ours = Fingerprint::of(&config.events_file)?.to_string();
    Ok(source.is_some_and(|source| source.split('/').next() != Some(&ours)))
}

/// Each file appears whole or not at all, so three of them are all of it.
fn is_prepared(dir: &Path) -> bool {
    [EVENTS_FILE, USERS_FILE, MERCHANTS_FILE]
        .iter()
        .all(|name| dir.join(name).is_file())
}

fn generated(config: &Config, rows: u64, telemetry: &Telemetry) -> anyhow::Result<PathBuf> {
    let options = GenerateOptions {
        rows,
        seed: GENERATED_SEED,
        bad_rows: 0,
    };
    let folder = config.data_dir.join("generated");
    Ok(super::generate::with_progress(&options, &folder, telemetry)?.path)
}

fn summary(report: &PrepareReport) -> String {
    let mut out = format!(
        "{}: {} events, {} of them fraud\n{}: {} users\n{}: {} merchants\n",
        report.events_path.display(),
        count(report.events),
        count(report.fraud_events),
        report.users_path.display(),
        count(report.users),
        report.merchants_path.display(),
        count(report.merchants),
    );
    if let Some(path) = &report.rejected_path {
        out.push_str(&format!(
            "{}: {} rows could not be used",
            path.display(),
            count(report.rejected)
        ));
        if let Some((line, reason)) = &report.first_rejected {
            out.push_str(&format!("; the first is line {line}: {reason}"));
        }
        out.push('\n');
    }
    out
}

/// Splits with a bar on a terminal and an event in the log.
pub(crate) fn with_progress(
    input: &Path,
    out_dir: &Path,
    telemetry: &Telemetry,
) -> anyhow::Result<PrepareReport> {
    let started = Instant::now();
    let bar = progress::bar(telemetry, "prepare", 0, Unit::Bytes);
    let report = prepare(input, out_dir, &mut |bytes, total| {
        bar.set_length(total);
        bar.set_position(bytes);
    });
    bar.finish_and_clear();
    let report = report.map_err(super::dataset_error)?;
    DataPrepared {
        step: "prepare".to_owned(),
        rows: report.events,
        rejected: report.rejected,
        path: report.events_path.display().to_string(),
        duration_ms: started.elapsed().as_millis() as u64,
    }
    .emit(Speaker::PROCESS);
    Ok(report)
}

fn download(config: &Config, telemetry: &Telemetry) -> anyhow::Result<PathBuf> {
    let started = Instant::now();
    let credentials = KaggleCredentials::find_by(|name| match name {
        // Our own settings know `.env`, too.
        "KAGGLE_API_TOKEN" => config
            .kaggle_api_token
            .as_ref()
            .map(|token| token.expose().to_owned()),
        "KAGGLE_USERNAME" => config.kaggle_username.clone(),
        "KAGGLE_KEY" => config
            .kaggle_key
            .as_ref()
            .map(|key| key.expose().to_owned()),
        name => std::env::var(name).ok(),
    })
    .map_err(super::dataset_error)?;
    if let Some(warning) = credentials.warning() {
        SettingDoubtful {
            setting: "Kaggle's credentials".to_owned(),
            detail: warning.to_owned(),
        }
        .emit(Speaker::PROCESS);
    }
    let bar = progress::bar(telemetry, "download", 0, Unit::Bytes);
    let out_dir = config.data_dir.join("downloaded");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .context("the download can't be started")?;
    let path = runtime.block_on(kaggle::download(
        &credentials,
        &config.kaggle_api_url,
        &out_dir,
        &mut |bytes, total| {
            bar.set_length(total.unwrap_or(bytes));
            bar.set_position(bytes);
        },
    ));
    bar.finish_and_clear();
    let path = path.map_err(super::dataset_error)?;
    DataPrepared {
        step: "download".to_owned(),
        // Rows are counted when the file is split.
        rows: 0,
        rejected: 0,
        path: path.display().to_string(),
        duration_ms: started.elapsed().as_millis() as u64,
    }
    .emit(Speaker::PROCESS);
    Ok(path)
}
