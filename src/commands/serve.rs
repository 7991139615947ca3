//! `ftap serve`: the dashboard's own process. It has no stages of the stream, it only watches.
//!
//! Promises to start nothing and to change nothing: without KAFKA_BROKER or POSTGRES_HOST it looks
//! for the embedded ones that another process runs from DATA_DIR, at each look again.

use std::time::Duration;

use ftap_kafka::KafkaSettings;
use ftap_postgres::PostgresSettings;
use ftap_watch::{KafkaLook, LakeLook, Locate, PostgresLook};

use crate::config::{Config, PostgresUse};
use crate::exit::BadUsage;
use crate::telemetry::Telemetry;
use crate::topology::sides::{Side, WatchGroup};
use crate::{kafka_access, postgres_access};

/// Fresh enough for people.
const INTERVAL: Duration = Duration::from_secs(5);
/// A look at a bucket is a dozen requests, each of which costs.
const BUCKET_INTERVAL: Duration = Duration::from_secs(60);

/// Watches until stopped.
pub fn execute(config: &Config, telemetry: &Telemetry) -> anyhow::Result<u8> {
    if config.dashboard_addr.is_none() {
        return Err(BadUsage(format!(
            "DASHBOARD_ADDR is off, from {}, and there is nothing else to serve: set it to an address:port",
            config.source("DASHBOARD_ADDR")
        ))
        .into());
    }
    super::sides::execute(config, telemetry, "serve", false, |parts| {
        let watched = parts.watched;
        let lake = LakeLook::new(config.lake(), config.kafka_topic.clone());
        let set = config.dashboard_look_interval;
        let interval = set.unwrap_or(INTERVAL);
        let lake_interval = match config.gcs_bucket {
            Some(_) => set.unwrap_or(BUCKET_INTERVAL),
            None => interval,
        };
        let kafka = KafkaLook::new(kafka(config));
        let mut sides = vec![
            Side::new(WatchGroup::new("watch_kafka", kafka, interval, watched)),
            Side::new(WatchGroup::new("watch_lake", lake, lake_interval, watched)),
        ];
        if config.postgres != PostgresUse::Off {
            let look = PostgresLook::new(postgres(config), config.cdc_slot.clone());
            sides.push(Side::new(WatchGroup::new(
                "watch_postgres",
                look,
                interval,
                watched,
            )));
        }
        Ok(sides)
    })
}

fn kafka(config: &Config) -> Locate<KafkaSettings> {
    let config = config.clone();
    Box::new(move || {
        let bootstrap = match &config.kafka_broker {
            Some(bootstrap) => bootstrap.clone(),
            None => kafka_access::running_embedded(&config).ok_or_else(|| {
                format!(
                    "KAFKA_BROKER is not set, and no process serves the embedded broker of {}",
                    config.data_dir.display()
                )
            })?,
        };
        Ok(config.kafka_settings(&bootstrap))
    })
}

fn postgres(config: &Config) -> Locate<PostgresSettings> {
    let config = config.clone();
    Box::new(move || {
        postgres_access::running(&config).ok_or_else(|| {
            format!(
                "POSTGRES_HOST is not set, and no process runs the private cluster of {}",
                config.data_dir.display()
            )
        })
    })
}
