//! `ftap cdc`: change capture alone.

use super::jobs::Options;
use crate::cli::CdcArgs;
use crate::config::{Config, PostgresUse};
use crate::data_dir::make_writable;
use crate::exit::BadUsage;
use crate::telemetry::Telemetry;
use crate::topology::jobs::Process;

/// Captures until stopped.
pub(crate) fn execute(
    config: &Config,
    args: &CdcArgs,
    telemetry: &Telemetry,
) -> anyhow::Result<u8> {
    if config.postgres == PostgresUse::Off {
        return Err(BadUsage(format!(
            "POSTGRES is off, from {}, and there is nothing else to capture: set it to on or auto",
            config.source("POSTGRES")
        ))
        .into());
    }
    if config.gcs_bucket.is_none() {
        make_writable(&config.lake_dir, "LAKE_DIR")?;
    }
    let options = Options {
        until_drained: args.until_drained,
        resnapshot: args.resnapshot,
    };
    super::jobs::execute(config, telemetry, Process::Cdc, options)
}
