//! A process made of nothing but sides: `ftap batch`, `ftap cdc`.

use std::cell::OnceCell;
use std::sync::Arc;
use std::time::Instant;

use ftap_supervision::Health;
use ftap_watch::Watched;
use tokio::sync::watch;

use crate::config::Config;
use crate::exit;
use crate::http::{self, Shown};
use crate::postgres_access::PostgresAccess;
use crate::signals;
use crate::telemetry::Telemetry;
use crate::topology::sides::Side;
use crate::topology::{self, TopologyOptions};

/// What sides are made of.
pub struct SideParts<'a> {
    config: &'a Config,
    opened: &'a OnceCell<PostgresAccess>,
    shutdown: &'a watch::Receiver<bool>,
    /// What is counted.
    /// What the groups are doing.
    pub health: &'a Arc<Health>,
    /// What is seen of the platform's services.
    pub watched: &'a Arc<Watched>,
}

impl<'a> SideParts<'a> {
    /// PostgreSQL, which lasts as long as the process runs; a private one starts when it is asked for.
    pub fn postgres(&self) -> &'a PostgresAccess {
        self.opened
            .get_or_init(|| PostgresAccess::open(self.config))
    }

    /// The same for sides that can't do without: waits until it is found, and is an error without.
    pub fn required_postgres(&self) -> anyhow::Result<&'a PostgresAccess> {
        let access = PostgresAccess::require(self.config, self.shutdown)?;
        Ok(self.opened.get_or_init(|| access))
    }
}

/// Runs the sides that `make` gives until they are done, stopped, or have failed.
pub fn execute(
    config: &Config,
    telemetry: &Telemetry,
    command: &'static str,
    until_drained: bool,
    make: impl FnOnce(SideParts<'_>) -> anyhow::Result<Vec<Side>>,
) -> anyhow::Result<u8> {
    let started = Instant::now();
    let health = Arc::new(Health::default());
    let watched = Arc::new(Watched::default());
    let http = http::start(
        config,
        Shown {
            command,
            health: health.clone(),
            watched: watched.clone(),
            prometheus: telemetry.prometheus.clone(),
            started,
        },
    )?;
    let shutdown = signals::listen()?;
    let postgres = OnceCell::new();
    let sides = make(SideParts {
        config,
        opened: &postgres,
        shutdown: &shutdown,
        health: &health,
        watched: &watched,
    })?;
    let topology = TopologyOptions {
        publish: None,
        ingest: None,
        sides,
        // No stage of this process talks to Kafka.
        kafka: config.kafka_settings(""),
        supervision: config.supervision_settings(),
        until_drained,
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
