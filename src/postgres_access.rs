//! Which PostgreSQL a command uses, so that the batch side works without one having been set up.
//!
//! POSTGRES_HOST if it is set. Else the private cluster under DATA_DIR: one that another process
//! runs, else one that this process runs as long as the value lives. It starts on a thread of its
//! own: the stream does not wait for it. Without PostgreSQL on the machine one warning says what to
//! do, and the rest runs.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use ftap_actors::events::{PostgresOff, Speaker};
use ftap_actors::postgres::{PostgresLocation, PostgresLocator, PostgresSettings};
use ftap_embedded::postgres::{
    ClusterAddress, PostgresClusterError, PrivateCluster, PrivateClusterOptions,
};

use crate::config::Config;

/// What the server gets to stop before the process ends; it goes on stopping by itself after that.
const STOP_LIMIT: Duration = Duration::from_secs(3);
/// How soon a process takes over the cluster of another one that has ended.
const TAKE_OVER_INTERVAL: Duration = Duration::from_millis(500);

/// PostgreSQL's place, and the private cluster if this process runs it.
pub struct PostgresAccess {
    location: PostgresLocation,
    /// Stops the cluster when it is dropped.
    _cluster: Option<ClusterThread>,
}

/// The thread that starts, holds and stops the private cluster.
struct ClusterThread {
    /// Dropped to ask for its end.
    stop: Option<Sender<()>>,
    /// Told, or left by its sender, at its end.
    ended: Receiver<()>,
}

impl PostgresAccess {
    /// PostgreSQL as the settings have it. Does not wait for a private cluster.
    pub fn open(config: &Config) -> Self {
        if let Some(settings) = config.postgres_settings() {
            return Self {
                location: PostgresLocation::known(settings),
                _cluster: None,
            };
        }
        let (locator, location) = PostgresLocator::new();
        let (stop, stopped) = channel();
        let (end, ended) = channel();
        let config = config.clone();
        let spawned = std::thread::Builder::new()
            .name("postgres-start".to_owned())
            .spawn(move || {
                hold_cluster(&config, &locator, &stopped);
                drop(end);
            });
        if let Err(error) = spawned {
            // The locator is gone with its thread, which says that there is none.
            off(error.to_string());
        }
        Self {
            location,
            _cluster: Some(ClusterThread {
                stop: Some(stop),
                ended,
            }),
        }
    }

    /// Where it is, as soon as that is known.
    pub fn location(&self) -> PostgresLocation {
        self.location.clone()
    }
}

impl Drop for ClusterThread {
    fn drop(&mut self) {
        self.stop = None;
        let _ = self.ended.recv_timeout(STOP_LIMIT);
    }
}

/// The server of POSTGRES_HOST, else the private cluster if some process runs it.
pub fn running(config: &Config) -> Option<PostgresSettings> {
    config.postgres_settings().or_else(|| {
        let address = PrivateCluster::running(&config.data_dir.join("postgres"))?;
        Some(settings(config, &address))
    })
}

fn hold_cluster(config: &Config, locator: &PostgresLocator, stopped: &Receiver<()>) {
    let data_dir = config.data_dir.join("postgres");
    let mut options = PrivateClusterOptions::new(&data_dir);
    options.bin_dir = config.postgres.bin_dir.clone();
    options.max_slot_wal_keep_bytes = config.postgres.slot_wal_keep_bytes;
    let mut shared = None;
    loop {
        match PrivateCluster::start(options.clone()) {
            Ok(cluster) => {
                locator.found(settings(config, cluster.address()));
                // Until the sender is dropped.
                let _ = stopped.recv();
                return;
            }
            // Another process has it, and may end before this one does.
            Err(PostgresClusterError::InUse { .. }) => {
                let running = PrivateCluster::running(&data_dir);
                if running != shared
                    && let Some(address) = &running
                {
                    locator.found(settings(config, address));
                    shared = running;
                }
                if !matches!(
                    stopped.recv_timeout(TAKE_OVER_INTERVAL),
                    Err(RecvTimeoutError::Timeout)
                ) {
                    return;
                }
            }
            Err(error) => {
                off(error.to_string());
                locator.none();
                return;
            }
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
