//! Why a private cluster could not be started. Each message names the thing, its value and the remedy.

use std::path::{Path, PathBuf};
use std::{fmt, io};

use ftap_supervision::{Retry, Retryable};

/// An error of [`crate::cluster::PrivateCluster::start`].
#[derive(Debug)]
#[non_exhaustive]
pub enum PostgresClusterError {
    /// There is no PostgreSQL server on this machine, or none that is new enough.
    NotInstalled {
        /// Where it was looked for.
        searched: String,
        /// Versions that were found and are too old.
        too_old: String,
    },
    /// The cluster was made by a major version that is not installed any more.
    OtherVersion {
        /// The cluster's folder.
        path: PathBuf,
        /// Major version that made it.
        made_by: String,
        /// Versions that are installed.
        installed: String,
    },
    /// Another process has the cluster.
    InUse {
        /// The cluster's folder.
        path: PathBuf,
    },
    /// A folder or file can't be made, read or written.
    Folder {
        /// The folder or file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The cluster's files belong to another account than the server's.
    OtherOwner {
        /// The folder.
        path: PathBuf,
        /// User id of its owner.
        owner: u32,
        /// Name or user id of the account that the server is to run as.
        account: String,
    },
    /// The server's account can't get into a folder above the cluster.
    Unreachable {
        account: String,
        /// The folder that it can't enter.
        closed: PathBuf,
        /// The cluster's folder.
        path: PathBuf,
    },
    /// This process is root and there is no account to run the server as.
    NoAccount,
    /// The system does not know this process' user, without which no cluster can be made.
    UnknownUser { user_id: u32 },
    /// The cluster could not be made.
    Create {
        /// `initdb` or `postgres --single`.
        program: &'static str,
        /// The cluster's folder.
        path: PathBuf,
        /// The end of what it said.
        said: String,
    },
    /// The server ended before it took connections.
    Ended {
        /// Exit code or signal.
        status: String,
        /// The end of its log.
        said: String,
        log: PathBuf,
    },
    /// The server does not take connections.
    TimedOut {
        /// The limit.
        seconds: u64,
        /// The end of its log.
        said: String,
        log: PathBuf,
    },
    /// A server that an earlier process left behind could not be stopped.
    Leftover {
        /// Its process id.
        pid: i32,
        /// The cluster's folder.
        path: PathBuf,
    },
    /// No thread could be started.
    Thread(io::Error),
}

impl Retryable for PostgresClusterError {
    fn retry(&self) -> Retry {
        match self {
            // A killed server's remaining processes end within moments.
            Self::Ended { said, .. } if said.contains("shared memory block") => Retry::Transient,
            _ => Retry::Permanent,
        }
    }
}

impl PostgresClusterError {
    pub(super) fn folder(path: &Path, source: io::Error) -> Self {
        Self::Folder {
            path: path.to_path_buf(),
            source,
        }
    }

    pub fn reason(&self) -> String {
        match self {
            Self::NotInstalled { searched, too_old } => {
                let found = match too_old.as_str() {
                    "" => String::new(),
                    versions => format!(" (there is {versions})"),
                };
                format!(
                    "no PostgreSQL server of version {} or newer was found in {searched}{found}",
                    super::MIN_MAJOR
                )
            }
            Self::OtherVersion {
                path,
                made_by,
                installed,
            } => format!(
                "the cluster in {} was made by PostgreSQL {made_by}, installed is {installed}",
                path.display()
            ),
            Self::InUse { path } => format!(
                "the cluster in {} is in use by another process",
                path.display()
            ),
            Self::Folder { path, source } => {
                format!("{} is not usable for PostgreSQL: {source}", path.display())
            }
            Self::OtherOwner {
                path,
                owner,
                account,
            } => format!(
                "{} belongs to user {owner}, and PostgreSQL runs as {account}, which may not use it",
                path.display()
            ),
            Self::Unreachable {
                account,
                closed,
                path,
            } => format!(
                "PostgreSQL does not run as root, and its account `{account}` can't enter {} on the way to {}",
                closed.display(),
                path.display()
            ),
            Self::NoAccount => "PostgreSQL does not run as root, and this machine has neither an account `postgres` nor `nobody`".to_owned(),
            Self::UnknownUser { user_id } => format!(
                "this process runs as user {user_id}, of whom the system knows no name, and initdb asks for one"
            ),
            Self::Create {
                program,
                path,
                said,
            } => format!("{program} failed in {}: {said}", path.display()),
            Self::Ended { status, said, .. } => {
                format!("the PostgreSQL server ended at its start ({status}): {said}")
            }
            Self::TimedOut { seconds, said, .. } => format!(
                "the PostgreSQL server did not take connections within {seconds} s: {said}"
            ),
            Self::Leftover { pid, path } => format!(
                "the PostgreSQL server {pid}, left behind in {}, can't be stopped",
                path.display()
            ),
            Self::Thread(error) => {
                format!("the thread that keeps PostgreSQL can't be started: {error}")
            }
        }
    }

    /// What to do about it where it is; another folder may be a remedy besides.
    pub fn remedy(&self) -> String {
        match self {
            Self::NotInstalled { .. } => {
                "install one (Debian: apt-get install postgresql)".to_owned()
            }
            Self::OtherVersion { path, made_by, .. } => format!(
                "install PostgreSQL {made_by} again (Debian: apt-get install postgresql-{made_by}), move it by pg_upgrade, or move {} away to start with an empty one",
                path.display()
            ),
            Self::InUse { .. } => "stop that process".to_owned(),
            Self::Folder { path, source } => match source.kind() {
                io::ErrorKind::PermissionDenied => {
                    format!(
                        "let this user write there (chown, chmod u+rwx {})",
                        path.display()
                    )
                }
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                    "free some space on that disk".to_owned()
                }
                _ => "make it a folder that this user may write to".to_owned(),
            },
            Self::OtherOwner { path, account, .. } => {
                format!("as root: chown -R {account} {}", path.display())
            }
            Self::Unreachable { closed, .. } => format!("chmod o+x {}", closed.display()),
            Self::NoAccount => {
                "make one (useradd --system postgres), or run as another user".to_owned()
            }
            Self::UnknownUser { user_id } => format!(
                "give it a name (useradd --uid {user_id} NAME; in a container a line in /etc/passwd), or run as a user that has one"
            ),
            Self::Create { .. } => "fix what it reports and start again".to_owned(),
            Self::Ended { log, .. } | Self::TimedOut { log, .. } => {
                let folder = log.parent().unwrap_or(log).display();
                format!(
                    "see {}; if the cluster is damaged, bring a copy of {folder}/cluster back, or move {folder} away to start with an empty one",
                    log.display()
                )
            }
            Self::Leftover { pid, .. } => format!("end it (kill -QUIT {pid}) and start again"),
            Self::Thread(_) => "raise the process limit (ulimit -u)".to_owned(),
        }
    }
}

impl fmt::Display for PostgresClusterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.reason(), self.remedy())
    }
}

impl std::error::Error for PostgresClusterError {}
