//! `ftap serve`: the dashboard's own process. It has no stages of the stream, it only watches.
//!
//! Promises to start nothing, and to change nothing but what a person asks for on a page: without KAFKA_BROKER or POSTGRES_HOST it looks
//! for the embedded ones that another process runs from DATA_DIR, at each look again.

use super::jobs::Options;
use crate::config::Config;
use crate::exit::BadUsage;
use crate::telemetry::Telemetry;
use crate::topology::jobs::Process;

/// Watches until stopped.
pub(crate) fn execute(config: &Config, telemetry: &Telemetry) -> anyhow::Result<u8> {
    if config.dashboard_addr.is_none() {
        return Err(BadUsage(format!(
            "DASHBOARD_ADDR is off, from {}, and there is nothing else to serve: set it to an address:port",
            config.source("DASHBOARD_ADDR")
        ))
        .into());
    }
    super::jobs::execute(config, telemetry, Process::Serve, Options::default())
}
