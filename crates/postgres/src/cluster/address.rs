//! How a private cluster is reached, and the file that tells other processes of this machine.

use std::fmt;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;

use super::NAME;
use super::error::PostgresClusterError;

/// A socket's path has room for this many bytes; macOS has the least.
const MAX_SOCKET_PATH: usize = 103;
const SOCKET_PORT: u16 = 5432;

/// How to reach a private cluster. Debug masks the password.
#[derive(Clone, PartialEq, Eq)]
pub struct ClusterAddress {
    /// The socket's folder, or 127.0.0.1.
    pub host: String,
    /// The port; it is part of a socket's name, too.
    pub port: u16,
    /// The role.
    pub user: String,
    pub database: String,
    /// The role's password.
    pub password: String,
}

impl fmt::Debug for ClusterAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClusterAddress")
            .field("host", &self.host)
            .field("port", &self.port)
            .field("user", &self.user)
            .field("database", &self.database)
            .field("password", &"***")
            .finish()
    }
}

impl ClusterAddress {
    /// A socket in the cluster's folder, or a free port where the path is too long for that.
    pub(super) fn choose(base: &Path, password: String) -> Result<Self, PostgresClusterError> {
        let host = base.to_str().filter(|path| {
            // PostgreSQL reads the setting as a list.
            let socket = format!("{path}/.s.PGSQL.{SOCKET_PORT}");
            socket.len() <= MAX_SOCKET_PATH && !path.contains([',', '"', '\\'])
        });
        let (host, port) = match host {
            Some(folder) => (folder.to_owned(), SOCKET_PORT),
            None => {
                let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
                    .and_then(|listener| listener.local_addr())
                    .map_err(|source| PostgresClusterError::folder(base, source))?;
                (Ipv4Addr::LOCALHOST.to_string(), free.port())
            }
        };
        Ok(Self::of(host, port, password))
    }

    fn of(host: String, port: u16, password: String) -> Self {
        Self {
            host,
            port,
            user: NAME.to_owned(),
            database: NAME.to_owned(),
            password,
        }
    }

    /// Whether the server is reached by a socket.
    pub(super) fn is_socket(&self) -> bool {
        self.host.starts_with('/')
    }

    /// Tells other processes; only a convenience, so a failure is none.
    pub(super) fn write(&self, base: &Path) {
        let pending = base.join("address.tmp");
        let text = format!("{}\n{}\n", self.host, self.port);
        // By rename: a reader sees the whole address or none.
        let _ = std::fs::write(&pending, text)
            .and_then(|()| std::fs::rename(&pending, base.join("address")));
    }

    /// What [`Self::write`] wrote. Only a connection shows whether the server still runs.
    pub(super) fn read(base: &Path) -> Option<Self> {
        let text = std::fs::read_to_string(base.join("address")).ok()?;
        let mut lines = text.lines();
        let (host, port) = (lines.next()?, lines.next()?.parse().ok()?);
        let password = std::fs::read_to_string(base.join("password")).ok()?;
        Some(Self::of(host.to_owned(), port, password.trim().to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_too_deep_for_a_socket_gets_a_loopback_port() {
        let near = ClusterAddress::choose(Path::new("/srv/ftap"), "p".to_owned()).unwrap();
        assert_eq!((near.host.as_str(), near.port), ("/srv/ftap", 5432));
        let deep = format!("/{}", "d".repeat(90));
        let far = ClusterAddress::choose(Path::new(&deep), "p".to_owned()).unwrap();
        assert_eq!(far.host, "127.0.0.1");
        assert!(!far.is_socket() && far.port > 0);
    }

    #[test]
    fn the_password_is_never_shown() {
        let address = ClusterAddress::of("h".to_owned(), 1, "hunter2".to_owned());
        assert!(!format!("{address:?}").contains("hunter2"));
    }
}
