//! `ftap cdc`: change capture alone.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use anyhow::Context as _;
use ftap_actors::change_capture::CaptureParts;
use ftap_actors::health::Health;
use ftap_actors::lake::store::LakeStore;
use ftap_actors::meters::Meters;

use crate::cli::CdcArgs;
use crate::config::{Config, PostgresUse, Role};
use crate::data_dir::make_writable;
use crate::exit::{self, BadUsage};
use crate::http::{self, Shown};
use crate::postgres_access::PostgresAccess;
use crate::signals;
use crate::telemetry::Telemetry;
use crate::topology::sides::{ChangesGroup, Side};
use crate::topology::{self, TopologyOptions};

/// What the capture of this process needs; as in `ftap run`, beside the stream.
pub fn capture(
    config: &Config,
    postgres: &PostgresAccess,
    meters: Arc<Meters>,
    health: Arc<Health>,
) -> anyhow::Result<CaptureParts> {
    Ok(CaptureParts {
        location: postgres.location(),
        preparation: config.preparation(),
        settings: Arc::new(config.capture_settings()),
        resnapshot: Arc::new(AtomicBool::new(false)),
        until_drained: false,
        is_all: false,
        lake: LakeStore::open(&config.lake()).context("the lake can't be opened")?,
        meters,
        health,
    })
}

/// Captures until stopped.
pub fn execute(config: &Config, args: &CdcArgs, telemetry: &Telemetry) -> anyhow::Result<u8> {
    let started = Instant::now();
    if config.postgres.usage == PostgresUse::Off {
        return Err(BadUsage(format!(
            "POSTGRES is off, from {}, and there is nothing else to capture: set it to on or auto",
            config.source("POSTGRES")
        ))
        .into());
    }
    if config.postgres.host.is_none() {
        make_writable(&config.data_dir, "DATA_DIR")?;
    }
    if config.gcs_bucket.is_none() {
        make_writable(&config.lake_dir, "LAKE_DIR")?;
    }
    let meters = Arc::new(Meters::default());
    let health = Arc::new(Health::default());
    let http = http::start(
        config,
        Shown {
            command: "cdc",
            meters: meters.clone(),
            health: health.clone(),
            prometheus: telemetry.prometheus.clone(),
            started,
        },
    )?;
    let shutdown = signals::listen()?;
    let postgres = PostgresAccess::open(config);
    let parts = CaptureParts {
        resnapshot: Arc::new(AtomicBool::new(args.resnapshot)),
        until_drained: args.until_drained,
        is_all: true,
        ..capture(config, &postgres, meters.clone(), health.clone())?
    };
    let topology = TopologyOptions {
        publish: None,
        ingest: None,
        sides: vec![Side::new(ChangesGroup { parts })],
        // No stage of this process talks to Kafka.
        kafka: config.kafka_settings("", Role::Consume),
        supervision: config.supervision_settings(),
        until_drained: args.until_drained,
        meters,
        health,
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
    drop(postgres);
    outcome?;
    Ok(exit::DONE)
}
