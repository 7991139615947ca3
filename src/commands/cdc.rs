//! `ftap cdc`: change capture alone.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::Context as _;
use ftap_cdc::capture::CaptureParts;
use ftap_lake::store::LakeStore;
use ftap_supervision::Health;

use crate::cli::CdcArgs;
use crate::config::{Config, PostgresUse};
use crate::data_dir::make_writable;
use crate::exit::BadUsage;
use crate::postgres_access::PostgresAccess;
use crate::telemetry::Telemetry;
use crate::topology::sides::{ChangesGroup, Side};

/// What the capture of this process needs; as in `ftap run`, beside the stream.
pub fn capture(
    config: &Config,
    postgres: &PostgresAccess,
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
        health,
    })
}

/// Captures until stopped.
pub fn execute(config: &Config, args: &CdcArgs, telemetry: &Telemetry) -> anyhow::Result<u8> {
    if config.postgres == PostgresUse::Off {
        return Err(BadUsage(format!(
            "POSTGRES is off, from {}, and there is nothing else to capture: set it to on or auto",
            config.source("POSTGRES")
        ))
        .into());
    }
    if config.postgres_host.is_none() {
        make_writable(&config.data_dir, "DATA_DIR")?;
    }
    if config.gcs_bucket.is_none() {
        make_writable(&config.lake_dir, "LAKE_DIR")?;
    }
    super::sides::execute(config, telemetry, "cdc", args.until_drained, |parts| {
        let health = parts.health.clone();
        let parts = CaptureParts {
            resnapshot: Arc::new(AtomicBool::new(args.resnapshot)),
            until_drained: args.until_drained,
            is_all: true,
            ..capture(config, parts.required_postgres()?, health)?
        };
        Ok(vec![Side::new(ChangesGroup { parts })])
    })
}
