//! `ftap`: replays card transactions through Kafka into an exactly-once Parquet lake.
//!
//! This file only strings the parts together: command line, settings, logs, command, exit code.
//! Logs go to stderr, results to stdout.

mod allocator;
mod cli;
mod closing;
mod commands;
mod config;
mod dashboard;
mod data_dir;
mod dlq;
mod exit;
mod kafka_access;
mod messages;
mod monotonic_waits;
mod open_files;
mod output;
mod postgres_access;
mod process;
mod progress;
mod replay;
mod signals;
mod status;
mod telemetry;
mod terminal;
mod topology;

use std::collections::BTreeMap;

use anyhow::Context as _;
use ftap_telemetry::events::{ProcessStarted, ProcessStopped, SettingDoubtful, Speaker};

use cli::Command;
use commands::run::{Options, Role};
use config::Config;
use data_dir::InUse;
use exit::BadUsage;
use telemetry::Telemetry;

/// Open files: `run` with all it may do takes 137 on two cores, some more on others and with more partitions.
const FILES_OF_MOST: libc::rlim_t = 256;
/// What writes a file or asks a question takes some ten.
const FILES_OF_FEW: libc::rlim_t = 32;

fn main() {
    allocator::set_up();
    let parsed = cli::parse(std::env::args_os());
    let no_flags = BTreeMap::new();
    // Before anything can fail.
    if Config::wants_json(parsed.as_ref().map_or(&no_flags, |parsed| &parsed.flags)) {
        exit::report_as_json();
    }
    let parsed = match parsed {
        Ok(parsed) => parsed,
        Err(error) => exit::now(exit::usage(&error)),
    };
    // `ftap config` shows another command's settings.
    let user = match &parsed.command {
        Command::Config(args) => args.command.as_deref().unwrap_or("run"),
        _ => &parsed.name,
    };
    let config =
        check_machine(&parsed.command).and_then(|()| Ok(Config::load(user, parsed.flags)?));
    let code = match config {
        Ok(config) => run(&parsed.command, &parsed.name, &config),
        Err(error) => exit::report(&error),
    };
    terminal::restore();
    // Not a return: a stage that hangs in a library must not keep the process alive.
    exit::now(code);
}

/// What libraries would panic or hang without.
fn check_machine(command: &Command) -> anyhow::Result<()> {
    process::check_clock()?;
    let files = match command {
        Command::Config(_) | Command::Health(_) | Command::Generate(_) => FILES_OF_FEW,
        _ => FILES_OF_MOST,
    };
    Ok(open_files::ensure(files)?)
}

fn run(command: &Command, name: &str, config: &Config) -> u8 {
    let telemetry = match telemetry::init(config) {
        Ok(telemetry) => telemetry,
        Err(error) => return exit::report(&error.context("logs and metrics can't be set up")),
    };
    for warning in config.warnings() {
        SettingDoubtful {
            setting: warning.setting.clone(),
            detail: warning.detail.clone(),
        }
        .emit(Speaker::PROCESS);
    }
    // The others are over in a moment and have a result: these two lines would only be in its way.
    let long_running = matches!(
        command,
        Command::Run(_)
            | Command::Produce(_)
            | Command::Consume(_)
            | Command::Kafka(_)
            | Command::Batch(_)
            | Command::Cdc(_)
            | Command::Serve
    );
    if long_running {
        ProcessStarted {
            command: name.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
        }
        .emit(Speaker::PROCESS);
    }
    let code = match in_use(command, config) {
        // Held until the command is done.
        Ok(_in_use) => dispatch(command, config, &telemetry),
        Err(error) => Err(error.into()),
    };
    let code = code.unwrap_or_else(|error| exit::report(&error));
    if long_running {
        ProcessStopped {
            exit_code: code.into(),
        }
        .emit(Speaker::PROCESS);
    }
    code
}

/// Keeps `ftap reset` away from what this process uses.
fn in_use(command: &Command, config: &Config) -> Result<Option<InUse>, BadUsage> {
    let data_dir = &config.data_dir;
    let has_lake = config.gcs_bucket.is_none() && config.lake_dir.starts_with(data_dir);
    let keeps_data = match command {
        // It takes the directory for itself; the others use nothing in it.
        Command::Reset(_) | Command::Config(_) | Command::Health(_) => return Ok(None),
        Command::Run(_) | Command::Produce(_) | Command::Kafka(_) => true,
        Command::Consume(_) => config.kafka_broker.is_none() || has_lake,
        Command::Batch(_) | Command::Cdc(_) => config.postgres_host.is_none() || has_lake,
        _ => false,
    };
    InUse::join(data_dir, keeps_data)
}

fn dispatch(command: &Command, config: &Config, telemetry: &Telemetry) -> anyhow::Result<u8> {
    let stages = |role, until_drained, rows, json| {
        let options = Options {
            role,
            until_drained,
            rows,
            json,
        };
        commands::run::execute(config, options, telemetry)
    };
    match command {
        Command::Run(args) => stages(Role::Run, args.until_drained, args.rows, args.json),
        Command::Produce(args) => stages(Role::Produce, false, args.rows, args.json),
        Command::Consume(args) => stages(Role::Consume, args.until_drained, None, args.json),
        Command::Batch(args) => commands::batch::execute(config, args, telemetry),
        Command::Generate(args) => commands::generate::execute(config, args, telemetry),
        Command::Reset(args) => commands::reset::execute(config, args),
        Command::Prepare(args) => commands::prepare::execute(config, args, telemetry),
        Command::Fx(args) => tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("the runtime can't be started")?
            .block_on(commands::fx::execute(config, args)),
        Command::Load(args) => commands::load::execute(config, args),
        Command::Tap(args) => commands::tap::execute(config, args),
        Command::Models(args) => commands::models::execute(config, args),
        Command::Fraud(args) => commands::fraud::execute(config, args),
        Command::Query(args) => commands::query::execute(config, args),
        Command::Dlq(args) => commands::dlq::execute(config, args),
        Command::Config(args) => commands::config::execute(config, args),
        Command::Health(args) => commands::health::execute(config, args),
        Command::Cdc(args) => commands::cdc::execute(config, args, telemetry),
        Command::Serve => commands::serve::execute(config, telemetry),
        Command::Kafka(args) => commands::kafka::execute(config, args),
        Command::Verify(args) => commands::verify::execute(config, args),
    }
}
