//! `ftap load`: what is in the lake and not yet in BigQuery, now.
//!
//! Promises: exit code 0 when everything that was in the lake at the start is loaded. If it is
//! stopped or killed, the same command continues; an `ftap run` may load at the same time.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use ftap_lake::LakeStore;
use ftap_telemetry::events::Speaker;
use ftap_telemetry::figures::count;
use ftap_warehouse::client::BigQueryClient;
use ftap_warehouse::load::{Depth, Loaded, Loader};
use ftap_warehouse::{BACKOFF, BigQueryError, BigQuerySettings, report_unavailable};
use serde_json::json;

use crate::cli::LoadArgs;
use crate::config::Config;
use crate::exit::{self, BadUsage};
use crate::output::print;
use crate::signals;

/// How long what does not answer is tried again; who runs this by cron has the next one soon.
const PATIENCE: Duration = Duration::from_secs(600);

/// Loads and says how much.
pub(crate) fn execute(config: &Config, args: &LoadArgs) -> anyhow::Result<u8> {
    let Some(settings) = config.bigquery_settings() else {
        return Err(BadUsage(
            "BIGQUERY_PROJECT and BIGQUERY_DATASET are not set, so there is nowhere to load to: set both, and GCS_BUCKET_NAME".to_owned(),
        )
        .into());
    };
    let lake = LakeStore::open(&config.lake())?;
    let mut shutdown = signals::listen()?;
    let loaded = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("the runtime can't be started")?
        .block_on(async move {
            tokio::select! {
                loaded = load(settings, lake) => loaded.map_err(anyhow::Error::new),
                _ = shutdown.wait_for(|stop| *stop) => Err(anyhow::anyhow!(
                    "stopped before everything was loaded; the same command continues from there"
                )),
            }
        })?;
    print(&if args.json {
        let tables = loaded.iter();
        let tables = tables.map(|(table, loaded)| {
            let figures = json!({"objects": loaded.objects, "rows": loaded.rows});
            ((*table).to_owned(), figures)
        });
        let tables: serde_json::Map<_, _> = tables.collect();
        format!("{}\n", serde_json::Value::from(tables))
    } else {
        loaded
            .iter()
            .map(|(table, loaded)| {
                format!(
                    "{table}: {} objects with {} rows loaded\n",
                    count(loaded.objects),
                    count(loaded.rows)
                )
            })
            .collect()
    })?;
    Ok(exit::DONE)
}

async fn load(
    settings: BigQuerySettings,
    lake: LakeStore,
) -> Result<Vec<(&'static str, Loaded)>, BigQueryError> {
    let settings = Arc::new(settings);
    let client = BigQueryClient::open(&settings).await?;
    let mut loader = Loader::new(Arc::new(client), lake, settings, Speaker::PROCESS);
    let pass = async || loader.pass(Depth::Full).await;
    let report = report_unavailable(Speaker::PROCESS);
    BACKOFF.within(PATIENCE).retry(pass, report).await
}
