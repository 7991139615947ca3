//! Why a private cluster could not be started. Each message names the thing, its value and the remedy.

use std::io;
use std::path::{Path, PathBuf};

/// An error of [`crate::postgres::PrivateCluster::start`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PostgresClusterError {
    /// There is no PostgreSQL server on this machine.
    #[error(
        "no PostgreSQL server of version {min} or newer was found in {searched}; install one (Debian: apt-get install postgresql)", min = super::MIN_MAJOR
    )]
    NotInstalled {
        /// Where it was looked for.
        searched: String,
    },
    /// The cluster was made by a major version that is not installed any more.
    #[error(
        "the cluster in {path} was made by PostgreSQL {made_by}, installed is {installed}; install PostgreSQL {made_by} again (Debian: apt-get install postgresql-{made_by}), move it by pg_upgrade, or move {path} away to start with an empty one"
    )]
    OtherVersion {
        /// The cluster's folder.
        path: PathBuf,
        /// Major version that made it.
        made_by: String,
        /// Versions that are installed.
        installed: String,
    },
    /// Another process has the cluster.
    #[error(
        "the cluster in {path} is in use by another process; stop that one or choose another folder"
    )]
    InUse {
        /// The cluster's folder.
        path: PathBuf,
    },
    /// A folder or file can't be made, read or written.
    #[error(
        "{path} is not usable for PostgreSQL: {source}; choose a folder this user may write to"
    )]
    Folder {
        /// The folder or file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The server's account can't get into a folder above the cluster.
    #[error(
        "PostgreSQL does not run as root, and its account `{account}` can't enter {closed} on the way to {path}; chmod o+x {closed}, or choose a folder below one that everybody may enter"
    )]
    Unreachable {
        /// The account's name.
        account: String,
        /// The folder that it can't enter.
        closed: PathBuf,
        /// The cluster's folder.
        path: PathBuf,
    },
    /// This process is root and there is no account to run the server as.
    #[error(
        "PostgreSQL does not run as root, and this machine has neither an account `postgres` nor `nobody`; make one (useradd --system postgres) or run as another user"
    )]
    NoAccount,
    /// The cluster could not be made.
    #[error("{program} failed in {path}: {said}")]
    Create {
        /// `initdb` or `postgres --single`.
        program: &'static str,
        /// The cluster's folder.
        path: PathBuf,
        /// The end of what it said.
        said: String,
    },
    /// The server ended before it took connections.
    #[error("the PostgreSQL server ended at its start ({status}): {said}; its log is {log}")]
    Ended {
        /// Exit code or signal.
        status: String,
        /// The end of its log.
        said: String,
        /// Its log.
        log: PathBuf,
    },
    /// The server does not take connections.
    #[error(
        "the PostgreSQL server did not take connections within {seconds} s: {said}; its log is {log}"
    )]
    TimedOut {
        /// The limit.
        seconds: u64,
        /// The end of its log.
        said: String,
        /// Its log.
        log: PathBuf,
    },
    /// A server that an earlier process left behind could not be stopped.
    #[error(
        "the PostgreSQL server {pid}, left behind in {path}, can't be stopped; end it (kill -QUIT {pid}) and start again"
    )]
    Leftover {
        /// Its process id.
        pid: i32,
        /// The cluster's folder.
        path: PathBuf,
    },
    /// No thread could be started.
    #[error(
        "cannot start the thread that keeps PostgreSQL: {0}; raise the process limit (ulimit -u)"
    )]
    Thread(io::Error),
}

impl PostgresClusterError {
    pub(super) fn folder(path: &Path, source: io::Error) -> Self {
        Self::Folder {
            path: path.to_path_buf(),
            source,
        }
    }
}
