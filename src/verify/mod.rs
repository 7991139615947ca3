//! Accounts for every row and every offset: source file, topic, lake.

use std::path::PathBuf;

/// Options of `ftap verify`.
#[derive(Clone, Debug, clap::Args)]
pub struct VerifyArgs {
    /// Print the result as one JSON object
    #[arg(long)]
    pub json: bool,
    /// The events file to account for [default: EVENTS_FILE]
    #[arg(long, value_name = "FILE")]
    pub source: Option<PathBuf>,
}

/// Verifies; the value is the process' exit code.
pub async fn run(_config: &crate::config::Config, _args: &VerifyArgs) -> anyhow::Result<u8> {
    anyhow::bail!("`ftap verify` is not built yet")
}
