//! What messages call a server, and where they send the user who has to fix it.

use std::fmt;
use std::path::PathBuf;

/// A server in messages: `user@host:port/database`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerAddress {
    text: String,
    /// Folder of the private cluster, if it is one: no setting leads to it.
    private: Option<PathBuf>,
}

impl ServerAddress {
    pub(super) fn new(text: String, private: Option<PathBuf>) -> Self {
        Self { text, private }
    }

    /// The role that connects.
    pub(super) fn role(&self) -> &str {
        self.text.split_once('@').map_or("", |(role, _)| role)
    }

    /// What to do when it does not answer.
    pub(super) fn when_silent(&self) -> String {
        match &self.private {
            Some(folder) => format!(
                "it is the private cluster in {folder}, which runs while `ftap run`, `batch` or `cdc` does, and is started again by that; if one of them runs, {folder}/server.log says why it ended",
                folder = folder.display()
            ),
            None => {
                "check that it runs and that POSTGRES_HOST and POSTGRES_PORT name it".to_owned()
            }
        }
    }

    /// What to do when the database is not there.
    pub(super) fn when_database_is_gone(&self) -> String {
        match &self.private {
            Some(folder) => damaged(folder),
            None => "check POSTGRES_DB, or create it (CREATE DATABASE)".to_owned(),
        }
    }

    /// What to do when it takes no changes.
    pub(super) fn when_read_only(&self) -> &'static str {
        match self.private {
            Some(_) => "set default_transaction_read_only to off there",
            None => {
                "name its primary in POSTGRES_HOST, or set default_transaction_read_only to off there"
            }
        }
    }

    /// What to do when it refuses the login.
    pub(super) fn when_refused(&self) -> String {
        match &self.private {
            Some(folder) => format!(
                "{folder}/password is not the password of the private cluster's role any more: bring the file or the password (ALTER ROLE ftap PASSWORD …) back, or move {folder} away to start with an empty cluster",
                folder = folder.display()
            ),
            None => {
                "check POSTGRES_USER and POSTGRES_PASSWORD, and the server's pg_hba.conf".to_owned()
            }
        }
    }

    /// What to do when it says that its own files are not as they should be.
    pub(super) fn when_out_of_resources(&self) -> String {
        match &self.private {
            Some(folder) => format!(
                "free disk space or memory; {folder}/server.log says more, and if it tells of lost files: {damaged}",
                folder = folder.display(),
                damaged = damaged(folder),
            ),
            None => "see its log, and free disk space or memory there".to_owned(),
        }
    }
}

fn damaged(folder: &std::path::Path) -> String {
    let folder = folder.display();
    format!(
        "the private cluster in {folder} is damaged ({folder}/server.log): bring a copy of {folder}/cluster back, or move {folder} away to start with an empty one"
    )
}

impl fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
