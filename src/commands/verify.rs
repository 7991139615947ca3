//! `ftap verify`: opens what is compared, and prints what came of it.

use std::path::PathBuf;

use anyhow::Context as _;
use ftap_verify::{Inputs, changes, reconcile};

use crate::config::{Config, PostgresUse};
use crate::kafka_access::{self, KafkaAccess};
use crate::{exit, output, postgres_access};

/// Exit code for loss, duplication or a difference.
const NOT_EXACT: u8 = 3;

/// Options of `ftap verify`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct VerifyArgs {
    /// Print the result as one JSON object
    #[arg(long)]
    pub json: bool,
    /// The events file to account for [default: EVENTS_FILE]
    #[arg(long, value_name = "FILE")]
    pub source: Option<PathBuf>,
    /// Account for the first N rows of the file only, as `run --rows N` publishes them
    #[arg(long, value_name = "N", value_parser = crate::cli::whole(1_u64..))]
    pub rows: Option<u64>,
}

/// Compares and prints; exit code 0 only if nothing is missing, doubled or different.
pub(crate) fn execute(config: &Config, args: &VerifyArgs) -> anyhow::Result<u8> {
    if config.kafka_broker.is_none() && !kafka_access::has_embedded(config) {
        anyhow::bail!(
            "there is no topic {} in {}: run `ftap run` or `ftap produce` first, or check KAFKA_BROKER, KAFKA_TOPIC and DATA_DIR",
            config.kafka_topic,
            config.data_dir.join("kafka").display()
        );
    }
    let kafka = KafkaAccess::open_to_read(config)?;
    let inputs = Inputs {
        kafka: config.kafka_settings(kafka.bootstrap()),
        lake: config.lake(),
        source: args.source.clone().unwrap_or(config.events_file.clone()),
        rows: args.rows,
        dead_letters: config.dead_letters,
        max_message_bytes: config.max_message_bytes,
        changes: captured(config),
        bigquery: config.bigquery_settings(),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("the runtime can't be started")?;
    let report = reconcile(&inputs, runtime.handle())?;
    output::print(&if args.json {
        format!("{}\n", report.json())
    } else {
        report.to_string()
    })?;
    Ok(if report.is_exact() {
        exit::DONE
    } else {
        NOT_EXACT
    })
}

/// The server that the tables are captured from.
fn captured(config: &Config) -> changes::Source {
    let settings = match config.postgres {
        PostgresUse::Off => Err(format!(
            "POSTGRES is off, from {}",
            config.source("POSTGRES")
        )),
        _ => postgres_access::running(config).ok_or_else(|| {
            "POSTGRES_HOST is unset, and no process runs the private cluster: start `ftap cdc`, then verify again".to_owned()
        }),
    };
    changes::Source {
        settings,
        publication: config.cdc_publication.clone(),
    }
}
