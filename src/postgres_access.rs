//! Which PostgreSQL a command uses, so that the batch side works without one having been set up.
//!
//! POSTGRES_HOST if it is set. Else the private cluster under DATA_DIR: one that another process
//! runs, else one that this process runs as long as the value lives. It starts on a thread of its
//! own: the stream does not wait for it. Without PostgreSQL on the machine one warning says what to
//! do, and the rest runs.

use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use ftap_actors::events::{PostgresOff, Speaker};
use ftap_actors::postgres::{PostgresLocation, PostgresLocator, PostgresSettings};
use ftap_embedded::postgres::{
    ClusterAddress, PostgresClusterError, PrivateCluster, PrivateClusterOptions,
};

use crate::config::Config;

/// A start that is under way when the process ends gets this long to come to its own end.
const START_GRACE: Duration = Duration::from_secs(1);

/// PostgreSQL's place, and the private cluster if this process runs it.
pub struct PostgresAccess {
    location: PostgresLocation,
    /// What the starting thread has started.
    started: Option<Receiver<PrivateCluster>>,
}

impl PostgresAccess {
    /// PostgreSQL as the settings have it. Does not wait for a private cluster.
    pub fn open(config: &Config) -> Self {
        if let Some(settings) = config.postgres_settings() {
            return Self {
                location: PostgresLocation::known(settings),
                started: None,
            };
        }
        let (locator, location) = PostgresLocator::new();
        let (hand_over, started) = channel();
        let config = config.clone();
        let spawned = std::thread::Builder::new()
            .name("postgres-start".to_owned())
            .spawn(move || {
                if let Some(cluster) = start(&config, &locator) {
                    // Nobody to take it means that the process is ending: dropped, it stops.
                    let _ = hand_over.send(cluster);
                }
            });
        if let Err(error) = spawned {
            // The locator is gone with its thread, which says that there is none.
            off(error.to_string());
        }
        Self {
            location,
            started: Some(started),
        }
    }

    /// Where it is, as soon as that is known.
    pub fn location(&self) -> PostgresLocation {
        self.location.clone()
    }
}

impl Drop for PostgresAccess {
    fn drop(&mut self) {
        if let Some(started) = self.started.take() {
            // The cluster, if there is one, stops when it is dropped.
            drop(started.recv_timeout(START_GRACE));
        }
    }
}

fn start(config: &Config, locator: &PostgresLocator) -> Option<PrivateCluster> {
    let data_dir = config.data_dir.join("postgres");
    let mut options = PrivateClusterOptions::new(&data_dir);
    options.bin_dir = config.postgres.bin_dir.clone();
    options.max_slot_wal_keep_bytes = config.postgres.slot_wal_keep_bytes;
    match PrivateCluster::start(options) {
        Ok(cluster) => {
            locator.found(settings(config, cluster.address()));
            Some(cluster)
        }
        Err(error) => {
            let shared = match error {
                PostgresClusterError::InUse { .. } => PrivateCluster::running(&data_dir),
                _ => None,
            };
            match shared {
                // Should that process end, the address stays good for the next one's server.
                Some(address) => locator.found(settings(config, &address)),
                None => {
                    off(error.to_string());
                    locator.none();
                }
            }
            None
        }
    }
}

fn settings(config: &Config, address: &ClusterAddress) -> PostgresSettings {
    config.postgres_at(
        (address.host.clone(), address.port),
        address.database.clone(),
        address.user.clone(),
        Some(address.password.clone()),
    )
}

fn off(reason: String) {
    PostgresOff {
        reason,
        remedy: "install PostgreSQL (Debian: apt-get install postgresql), or name a server in POSTGRES_HOST; POSTGRES=off does without and without this warning".to_owned(),
    }
    .emit(Speaker::PROCESS);
}
