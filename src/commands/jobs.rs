//! A process made of nothing but jobs: `ftap batch`, `ftap cdc`, `ftap serve`.

use std::cell::OnceCell;
use std::sync::Arc;
use std::time::Instant;

use ftap_supervision::{Controls, Health};
use ftap_watch::Watched;

use crate::config::Config;
use crate::dashboard::{self, Parts};
use crate::data_dir::make_writable;
use crate::exit;
use crate::signals;
use crate::telemetry::Telemetry;
use crate::topology::jobs::{JobContext, Process, optional_jobs};
use crate::topology::{self, TopologyOptions};

/// What the command line adds to the settings.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Options {
    /// End when what is there at the start is done.
    pub until_drained: bool,
    /// Copy the captured tables again.
    pub resnapshot: bool,
}

/// Runs the jobs of this process until they are done, stopped, or have failed for good.
pub(crate) fn execute(
    config: &Config,
    telemetry: &Telemetry,
    process: Process,
    options: Options,
) -> anyhow::Result<u8> {
    let started = Instant::now();
    let health = Arc::new(Health::default());
    let controls = Controls::default();
    let watched = Arc::new(Watched::default());
    let shutdown = signals::listen()?;
    let jobs = JobContext {
        config,
        process,
        until_drained: options.until_drained,
        resnapshot: options.resnapshot,
        health: health.clone(),
        watched: watched.clone(),
        shutdown: shutdown.clone(),
        fx: OnceCell::new(),
        postgres: OnceCell::new(),
    };
    if jobs.may_start_cluster() {
        make_writable(&config.data_dir, "DATA_DIR")?;
    }
    let http = dashboard::start(
        config,
        Parts {
            command: process.command(),
            reads_lake: true,
            health: health.clone(),
            controls: controls.clone(),
            watched: watched.clone(),
            optional_jobs: optional_jobs(process, config),
            prometheus: telemetry.prometheus.clone(),
            started,
        },
    )?;
    let topology = TopologyOptions {
        publish: None,
        ingest: None,
        jobs: jobs.make()?,
        // No stage of this process talks to Kafka.
        kafka: config.kafka_settings(""),
        supervision: config.supervision_settings(),
        until_drained: options.until_drained,
        health,
        controls,
        watched,
        shutdown: shutdown.clone(),
    };
    let overtime = super::run::overtime(shutdown, config.stop_deadline);
    let outcome = actix::System::new().block_on(async move {
        tokio::select! {
            outcome = topology::run(topology) => outcome.map_err(anyhow::Error::new),
            error = overtime => Err(error),
        }
    });
    drop(http);
    drop(jobs);
    outcome?;
    Ok(exit::DONE)
}
