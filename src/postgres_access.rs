//! Which PostgreSQL a command uses, so that the batch jobs work without one having been set up.
//!
//! POSTGRES_HOST if it is set. Otherwise the private cluster under DATA_DIR: run by another process, or
//! by this process as long as the value lives. It starts on a thread of its own, so the stream does not
//! wait for it. If PostgreSQL is not installed, one warning states what to do, and everything else runs;
//! a command that requires PostgreSQL waits for it, and fails with the same text.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use ftap_postgres::cluster::{
    ClusterAddress, PostgresClusterError, PrivateCluster, PrivateClusterOptions,
};
use ftap_postgres::{PostgresLocation, PostgresLocator, PostgresSettings, PostgresState};
use ftap_telemetry::events::{PostgresOff, Speaker};
use tokio::sync::watch;

use crate::config::Config;

/// How long the process waits for the server to stop; after that the server continues by itself.
const STOP_LIMIT: Duration = Duration::from_secs(3);
/// How often a process tries to take over the cluster of another one, which may have ended.
const TAKE_OVER_INTERVAL: Duration = Duration::from_millis(500);
/// How often a command that waits for the cluster checks for a stop.
const STOP_INTERVAL: Duration = Duration::from_millis(50);

/// PostgreSQL's location, and the private cluster if this process runs it.
pub(crate) struct PostgresAccess {
    location: PostgresLocation,
    /// Stops the cluster when it is dropped.
    _cluster: Option<ClusterThread>,
}

/// The thread that starts, holds and stops the private cluster.
struct ClusterThread {
    /// Dropped to request its end.
    stop: Option<Sender<()>>,
    /// Closed at its end.
    ended: Receiver<()>,
}

impl PostgresAccess {
    /// PostgreSQL according to the settings. Does not wait for a private cluster; if it can't start,
    /// a warning is logged.
    pub(crate) fn open(config: &Config) -> Self {
        Self::start(config, None)
    }

    /// PostgreSQL for a process that requires it: waits until its location is known, or a stop is
    /// requested.
    pub(crate) fn require(config: &Config, stop: &watch::Receiver<bool>) -> anyhow::Result<Self> {
        let (report, reports) = channel();
        let access = Self::start(config, Some(report));
        loop {
            let is_starting = matches!(access.location.state(), PostgresState::Starting);
            match reports.recv_timeout(STOP_INTERVAL) {
                Ok(Trouble { reason, remedy }) => {
                    return Err(anyhow::anyhow!(
                        "there is no PostgreSQL to use: {reason}\n  {remedy}"
                    ));
                }
                Err(RecvTimeoutError::Timeout) if is_starting && !*stop.borrow() => {}
                // Found, about to be stopped, or not started by this process.
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    return Ok(access);
                }
            }
        }
    }

    fn start(config: &Config, waiting: Option<Sender<Trouble>>) -> Self {
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
                    // Before `none`: a command that waits must find it when there is nothing to wait for.
                    Trouble::of(&error, &own).report(waiting.as_ref());
                    locator.none();
                }
                drop(end);
            });
        if let Err(error) = spawned {
            // The locator is dropped with the closure, which means that there is no cluster.
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

    pub(crate) fn location(&self) -> PostgresLocation {
        self.location.clone()
    }
}

impl Drop for ClusterThread {
    fn drop(&mut self) {
        self.stop = None;
        let _ = self.ended.recv_timeout(STOP_LIMIT);
    }
}

/// The server of POSTGRES_HOST, otherwise the private cluster if a process runs it.
pub(crate) fn running(config: &Config) -> Option<PostgresSettings> {
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
        let remedy = match (error, &config.postgres_bin_dir) {
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

    /// Sends it to the command that waits for the cluster; if none does, logs it.
    fn report(self, waiting: Option<&Sender<Self>>) {
        let unsent = match waiting {
            Some(waiting) => waiting.send(self).map_err(|unsent| unsent.0).err(),
            None => Some(self),
        };
        if let Some(Self { reason, remedy }) = unsent {
            let remedy = format!(
                "{remedy}; `ftap run` with POSTGRES=off runs without it, and without this warning"
            );
            PostgresOff { reason, remedy }.emit(Speaker::PROCESS);
        }
    }
}

/// Runs the cluster, or follows the process that does, until it must stop.
fn hold_cluster(
    config: &Config,
    locator: &PostgresLocator,
    stopped: &Receiver<()>,
) -> Result<(), PostgresClusterError> {
    let data_dir = config.data_dir.join("postgres");
    let mut options = PrivateClusterOptions::new(&data_dir);
    options.bin_dir = config.postgres_bin_dir.clone();
    options.max_slot_wal_keep_bytes = config.postgres_slot_wal_keep_bytes;
    let mut shared = None;
    loop {
        match PrivateCluster::start(options.clone()) {
            Ok(cluster) => {
                locator.found(settings(config, cluster.address()));
                // Until the sender is dropped.
                let _ = stopped.recv();
                return Ok(());
            }
            // Another process runs it, and may end before this one does.
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
