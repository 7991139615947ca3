//! Which PostgreSQL a command uses, so that the batch side works without one having been set up.
//!
//! POSTGRES_HOST if it is set. Else the private cluster under DATA_DIR: one that another process
//! runs, else one that this process runs as long as the value lives. It starts on a thread of its
//! own: the stream does not wait for it. Without PostgreSQL on the machine one warning says what to
//! do, and the rest runs; whoever can't do without waits, and gets the same as an error instead.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use ftap_postgres::cluster::{
    ClusterAddress, PostgresClusterError, PrivateCluster, PrivateClusterOptions,
};
use ftap_postgres::{PostgresLocation, PostgresLocator, PostgresSettings, PostgresState};
use ftap_telemetry::events::{PostgresOff, Speaker};
use tokio::sync::watch;

use crate::config::Config;

/// What the server gets to stop before the process ends; it goes on stopping by itself after that.
const STOP_LIMIT: Duration = Duration::from_secs(3);
/// How soon a process takes over the cluster of another one that has ended.
const TAKE_OVER_INTERVAL: Duration = Duration::from_millis(500);
/// How soon a stop is noticed while somebody waits for the cluster.
const STOP_INTERVAL: Duration = Duration::from_millis(50);

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
    /// PostgreSQL as the settings have it. Does not wait for a private cluster; one that can't be
    /// started is a warning.
    pub fn open(config: &Config) -> Self {
        Self::start(config, None)
    }

    /// PostgreSQL for a process that can't do without: waits until it is known where it is, or a stop
    /// is asked for.
    pub fn require(config: &Config, stop: &watch::Receiver<bool>) -> anyhow::Result<Self> {
        let (tell, told) = channel();
        let access = Self::start(config, Some(tell));
        loop {
            let is_starting = matches!(access.location.state(), PostgresState::Starting);
            match told.recv_timeout(STOP_INTERVAL) {
                Ok(Trouble { reason, remedy }) => {
                    return Err(anyhow::anyhow!(
                        "there is no PostgreSQL to use: {reason}\n  {remedy}"
                    ));
                }
                Err(RecvTimeoutError::Timeout) if is_starting && !*stop.borrow() => {}
                // Found, to be stopped, or not ours to start.
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    return Ok(access);
                }
            }
        }
    }

    fn start(config: &Config, tell: Option<Sender<Trouble>>) -> Self {
        if let Some(settings) = config.postgres_settings() {
            return Self {
                location: PostgresLocation::known(settings),
                _cluster: None,
            };
        }
        let (locator, location) = PostgresLocator::new();
        let (stop, stopped) = channel();
        let (end, ended) = channel();
        let own = config.clone();
        let spawned = std::thread::Builder::new()
            .name("postgres-start".to_owned())
            .spawn(move || {
                if let Err(error) = hold_cluster(&own, &locator, &stopped) {
                    // Told first: who waits is to find it as soon as there is nothing to wait for.
                    Trouble::of(&error, &own).report(tell.as_ref());
                    locator.none();
                }
                drop(end);
            });
        if let Err(error) = spawned {
            // The locator is gone with its thread, which says that there is none.
            let error = PostgresClusterError::Thread(error);
            Trouble::of(&error, config).report(None);
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

/// Why there is no private cluster, and what to do.
struct Trouble {
    reason: String,
    remedy: String,
}

impl Trouble {
    fn of(error: &PostgresClusterError, config: &Config) -> Self {
        let remedy = error.remedy();
        let elsewhere = "or name a server in POSTGRES_HOST";
        let remedy = match (error, &config.postgres.bin_dir) {
            (PostgresClusterError::NotInstalled { .. }, Some(dir)) => format!(
                "POSTGRES_BIN_DIR is {}: name the folder of a newer version's programs, or unset it; {elsewhere}",
                dir.display()
            ),
            (
                PostgresClusterError::NotInstalled { .. }
                | PostgresClusterError::NoAccount
                | PostgresClusterError::UnknownUser { .. },
                _,
            ) => format!("{remedy}; {elsewhere}"),
            (
                PostgresClusterError::Folder { .. }
                | PostgresClusterError::OtherOwner { .. }
                | PostgresClusterError::Unreachable { .. },
                _,
            ) => format!("{remedy}; or set DATA_DIR to another directory"),
            _ => remedy,
        };
        Self {
            reason: error.reason(),
            remedy,
        }
    }

    /// Tells who waits for the cluster, or if nobody does, all.
    fn report(self, tell: Option<&Sender<Self>>) {
        let untold = match tell {
            Some(tell) => tell.send(self).map_err(|unsent| unsent.0).err(),
            None => Some(self),
        };
        if let Some(Self { reason, remedy }) = untold {
            let remedy = format!(
                "{remedy}; `ftap run` with POSTGRES=off does without, and without this warning"
            );
            PostgresOff { reason, remedy }.emit(Speaker::PROCESS);
        }
    }
}

/// Has the cluster until it is to stop.
fn hold_cluster(
    config: &Config,
    locator: &PostgresLocator,
    stopped: &Receiver<()>,
) -> Result<(), PostgresClusterError> {
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
                return Ok(());
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
                    return Ok(());
                }
            }
            Err(error) => return Err(error),
        }
    }
}

fn settings(config: &Config, address: &ClusterAddress) -> PostgresSettings {
    let known = config.postgres_at(
        (address.host.clone(), address.port),
        address.database.clone(),
        address.user.clone(),
        Some(address.password.clone()),
    );
    PostgresSettings {
        private_folder: Some(config.data_dir.join("postgres")),
        ..known
    }
}
