//! A process made of nothing but a side: `ftap batch`, `ftap cdc`.

use std::sync::Arc;
use std::time::Instant;

use ftap_actors::health::Health;
use ftap_actors::meters::Meters;

use crate::config::{Config, Role};
use crate::exit;
use crate::http::{self, Shown};
use crate::postgres_access::PostgresAccess;
use crate::signals;
use crate::telemetry::Telemetry;
use crate::topology::sides::Side;
use crate::topology::{self, TopologyOptions};

/// What a side is made of.
pub struct SideParts<'a> {
    /// Where PostgreSQL is.
    pub postgres: &'a PostgresAccess,
    /// What is counted.
    pub meters: &'a Arc<Meters>,
    /// What the groups are doing.
    pub health: &'a Arc<Health>,
}

/// Runs the side that `make` gives until it is done, stopped, or has given up.
pub fn execute(
    config: &Config,
    telemetry: &Telemetry,
    command: &'static str,
    until_drained: bool,
    make: impl FnOnce(SideParts<'_>) -> anyhow::Result<Side>,
) -> anyhow::Result<u8> {
    let started = Instant::now();
    let meters = Arc::new(Meters::default());
    let health = Arc::new(Health::default());
    let http = http::start(
        config,
        Shown {
            command,
            meters: meters.clone(),
            health: health.clone(),
            prometheus: telemetry.prometheus.clone(),
            started,
        },
    )?;
    let shutdown = signals::listen()?;
    let postgres = PostgresAccess::open(config);
    let side = make(SideParts {
        postgres: &postgres,
        meters: &meters,
        health: &health,
    })?;
    let topology = TopologyOptions {
        publish: None,
        ingest: None,
        sides: vec![side],
        // No stage of this process talks to Kafka.
        kafka: config.kafka_settings("", Role::Consume),
        supervision: config.supervision_settings(),
        until_drained,
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
