//! A private PostgreSQL cluster from the machine's own binaries, for one machine without set-up.
//!
//! # Promises
//! - **Durable**: fsync is on; a kill of this process or of the server costs nothing committed, and
//!   the next start recovers by itself. A server that is killed is started again.
//! - **Private**: it listens on a socket in its own folder, or on a free port of 127.0.0.1 where
//!   that folder's path is too long for a socket, and asks for a password kept in a file of mode 0600.
//! - **Alone**: one process has it, by a lock. The server does not outlive that process, whatever
//!   ends it (on Linux at once; elsewhere the next start finds and stops it).
//! - **Whole or absent**: a first start that was killed leaves nothing that a later one takes for a
//!   cluster.
//!
//! It relies on PostgreSQL 14 or newer being installed. The server refuses to run as root; there it
//! runs as the account `postgres`, else `nobody`, which must be able to reach the folder.
//!
//! # Files
//! `.lock`, `cluster/` (the server's data), `server.log` and `server.log.1` (bounded), `password`
//! and `pgpass` (for `PGPASSFILE=… psql -h FOLDER -U ftap ftap`), `address` (of the running one).

mod account;
mod address;
mod binaries;
mod create;
mod error;
mod keeper;
mod leftover;
mod server;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use account::Account;
pub use address::ClusterAddress;
use binaries::Binaries;
pub use binaries::MIN_MAJOR;
pub use error::PostgresClusterError;
use keeper::Keeper;

/// The role and the database of every private cluster.
const NAME: &str = "ftap";

/// Where a private cluster is and how it runs.
#[derive(Clone, Debug)]
pub struct PrivateClusterOptions {
    /// The cluster's folder; made if need be.
    pub data_dir: PathBuf,
    /// Folder of `postgres` and `initdb`. `None` looks in `pg_config`'s, in PATH and in the usual places.
    pub bin_dir: Option<PathBuf>,
    /// WAL that a replication slot may hold back before the server gives the slot up.
    pub max_slot_wal_keep_bytes: u64,
    /// More settings of the server, each `name=value`; they go before the usual ones.
    pub settings: Vec<String>,
    /// How long the server gets to start, recovery included.
    pub start_timeout: Duration,
    /// How long a clean stop may take before the server is stopped hard, which costs a recovery only.
    pub stop_timeout: Duration,
}

impl PrivateClusterOptions {
    /// A cluster in this folder, everything else as usual.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            bin_dir: None,
            max_slot_wal_keep_bytes: 1 << 30,
            settings: Vec::new(),
            start_timeout: Duration::from_secs(60),
            stop_timeout: Duration::from_secs(3),
        }
    }
}

/// A running private cluster; dropping it stops the server cleanly.
#[derive(Debug)]
pub struct PrivateCluster {
    address: ClusterAddress,
    keeper: Keeper,
    // Held until the server has stopped: fields are dropped in this order.
    _lock: Lock,
}

/// The folder's lock. A process that is being forked holds a copy of the descriptor until it runs its
/// program, so closing the file is not enough to release the lock.
#[derive(Debug)]
struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        // It fails only where the file system has no locks.
        let _ = self.0.unlock();
    }
}

impl PrivateCluster {
    /// Starts the cluster, making it first if there is none. Blocks until it takes connections.
    pub fn start(options: PrivateClusterOptions) -> Result<Self, PostgresClusterError> {
        let base = prepare_folder(&options.data_dir)?;
        let account = Account::for_folder(&base)?;
        account.owns(&base)?;
        account.take_over(&base)?;
        account.can_reach(&base)?;
        let lock = take_lock(&base)?;
        let cluster = base.join("cluster");
        let binaries = Binaries::find(options.bin_dir.as_deref(), &cluster)?;
        leftover::stop(&base, &cluster)?;
        let password = create::password(&base, &account)?;
        create::cluster(&base, &binaries, &account)?;
        let address = ClusterAddress::choose(&base, password)?;
        let server = server::Server::new(&base, &binaries, &account, &address, &options);
        let keeper = Keeper::start(server, options.stop_timeout)?;
        address.write(&base);
        tracing::info!(
            event = "private_postgres_started",
            host = %address.host,
            port = address.port,
            version = %binaries.version,
            pid = keeper.pid(),
            data_dir = %base.display(),
        );
        Ok(Self {
            address,
            keeper,
            _lock: lock,
        })
    }

    /// The address of the cluster that another process runs in this folder, if one does.
    pub fn running(data_dir: &Path) -> Option<ClusterAddress> {
        ClusterAddress::read(&data_dir.canonicalize().ok()?)
    }

    /// Removes a cluster with all its data. A server that a killed process left behind is stopped
    /// first; one that another process runs is an error.
    pub fn remove(data_dir: &Path) -> Result<(), PostgresClusterError> {
        let Ok(base) = data_dir.canonicalize() else {
            return Ok(());
        };
        let _lock = take_lock(&base)?;
        leftover::stop(&base, &base.join("cluster"))?;
        std::fs::remove_dir_all(&base).map_err(|source| PostgresClusterError::folder(&base, source))
    }

    /// How to reach it.
    pub fn address(&self) -> &ClusterAddress {
        &self.address
    }

    /// The socket's folder, or 127.0.0.1.
    pub fn host(&self) -> &str {
        &self.address.host
    }

    /// The port; it is part of a socket's name, too.
    pub fn port(&self) -> u16 {
        self.address.port
    }

    /// The role, which owns the database and may replicate.
    pub fn user(&self) -> &str {
        NAME
    }

    pub fn database(&self) -> &str {
        NAME
    }

    /// The role's password.
    pub fn password(&self) -> &str {
        &self.address.password
    }

    /// The server's process id; another one after the server was killed and started again.
    pub fn pid(&self) -> u32 {
        self.keeper.pid()
    }
}

fn prepare_folder(data_dir: &Path) -> Result<PathBuf, PostgresClusterError> {
    std::fs::create_dir_all(data_dir)
        .and_then(|()| data_dir.canonicalize())
        .map_err(|source| PostgresClusterError::folder(data_dir, source))
}

fn take_lock(base: &Path) -> Result<Lock, PostgresClusterError> {
    let path = base.join(".lock");
    let file = File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(|source| PostgresClusterError::folder(&path, source))?;
    match file.try_lock() {
        Ok(()) => Ok(Lock(file)),
        Err(std::fs::TryLockError::WouldBlock) => Err(PostgresClusterError::InUse {
            path: base.to_path_buf(),
        }),
        Err(std::fs::TryLockError::Error(source)) => {
            Err(PostgresClusterError::folder(&path, source))
        }
    }
}
