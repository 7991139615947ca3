//! Why a broker could not start or stop. Each message names the thing, its value and the remedy.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// An error of [`crate::Broker::start`] or [`crate::BrokerHandle::shutdown`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BrokerError {
    /// The data directory can't be created, read or written.
    #[error(
        "data directory {path} is not usable: {source}; choose a directory this user may write to"
    )]
    DataDir {
        /// The directory or file concerned.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another process holds the directory's lock.
    #[error(
        "data directory {path} is in use by another broker process; stop that process or choose another directory"
    )]
    InUse {
        /// The directory concerned.
        path: PathBuf,
    },
    /// The address is reachable from other machines, and this broker knows no authentication.
    #[error(
        "address {addr} is not a loopback address; the embedded broker has no authentication, so use 127.0.0.1 or [::1], and a real Kafka for other machines"
    )]
    NotLoopback {
        /// The address asked for.
        addr: SocketAddr,
    },
    /// The address can't be listened on.
    #[error("cannot listen on {addr}: {source}; free that port or use port 0 for any free one")]
    Bind {
        /// The address asked for.
        addr: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// A file of the broker's own holds what it never writes.
    #[error(
        "{path} is damaged: {reason}; restore the directory from a copy, or delete it to start empty"
    )]
    Corrupt {
        /// The file concerned.
        path: PathBuf,
        reason: String,
    },
    /// No room is left for the data directory.
    #[error("the disk of {path} is full: {source}; free some space and start again")]
    DiskFull {
        /// The file concerned.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// An option has a value it can't have.
    #[error("option {option} is {value}, it must be {must_be}")]
    Option {
        /// The field of [`crate::BrokerOptions`].
        option: &'static str,
        value: String,
        /// What is allowed.
        must_be: &'static str,
    },
    /// The broker's threads could not be started.
    #[error("cannot start the broker's threads: {0}; raise the process limit (ulimit -u)")]
    Threads(io::Error),
    /// The broker did not stop within its time limit.
    #[error(
        "the broker did not stop within {seconds} s; its data is safe, its threads are left behind"
    )]
    ShutdownTimedOut {
        /// The limit.
        seconds: u64,
    },
}

impl BrokerError {
    /// Sorts an I/O error on `path` into the kinds a user can act on.
    pub(crate) fn io(path: &Path, source: io::Error) -> Self {
        let path = path.to_path_buf();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::DiskFull { path, source }
            }
            io::ErrorKind::InvalidData => Self::Corrupt {
                path,
                reason: source.to_string(),
            },
            _ => Self::DataDir { path, source },
        }
    }
}
