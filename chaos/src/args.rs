//! The command line.

use std::path::PathBuf;

use clap::Parser;

use crate::broker::BrokerKind;
use crate::store::StoreKind;

/// Kills, freezes and restarts everything at seeded random moments, then proves that nothing
/// was lost or doubled
///
/// Starts a broker, a producer, consumers and a store, strikes them by the plan of the seed,
/// lets the rest drain, and compares the events file, the topic and the lake with `ftap verify`
/// and with a reader of its own (Python with DuckDB: of FTAP_PYTHON, else made under
/// target/chaos). Exit code 0 only if every row is there exactly once; 1 if not, or if something
/// else failed; 2 for bad usage; 130 when interrupted.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "chaos",
    version,
    after_help = "Example:\n  cargo run --release -p chaos -- --minutes 3 --seed 1"
)]
pub(crate) struct Args {
    /// How long faults are made
    #[arg(long, default_value_t = 3.0, value_parser = minutes)]
    pub minutes: f64,
    /// Seed of the plan of faults and of the data
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// The broker
    #[arg(long, value_enum, default_value = "kafka")]
    pub broker: BrokerKind,
    /// Consumers at the start; the plan adds and removes some
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=3))]
    pub consumers: u8,
    /// Where the lake is
    #[arg(long, value_enum, default_value = "gcs")]
    pub store: StoreKind,
    /// Rows a second of the paced producer
    #[arg(long, default_value_t = 2_500, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub rate: u32,
    /// Capture changes of a PostgreSQL server as well, and strike both
    #[arg(long)]
    pub capture: bool,
    /// The `ftap` to run; without it the release build is made
    #[arg(long, value_name = "PATH")]
    pub ftap: Option<PathBuf>,
    /// Keep the run's directory also when all is well
    #[arg(long)]
    pub keep: bool,
    /// Print the report as one JSON object
    #[arg(long)]
    pub json: bool,
    /// Print the plan of faults as JSON and end
    #[arg(long)]
    pub plan: bool,
}

fn minutes(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(minutes) if (0.1..=1_440.0).contains(&minutes) => Ok(minutes),
        _ => Err("it may be a number from 0.1 to 1440".to_owned()),
    }
}
