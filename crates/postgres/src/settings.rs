//! How to reach PostgreSQL.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::ServerAddress;

/// Encryption on the way to the server, by libpq's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SslMode {
    /// None.
    Disable,
    /// If the server has it; its certificate is not checked.
    Prefer,
    /// Always; the certificate is not checked, so only listeners are kept out.
    Require,
    /// Always, with a certificate of a trusted authority for the host's name.
    VerifyFull,
}

/// How to reach PostgreSQL. Debug masks the password.
#[derive(Clone, PartialEq, Eq)]
pub struct PostgresSettings {
    /// Name, address, or the folder of a Unix socket.
    pub host: String,
    /// Port; part of a socket's name, too.
    pub port: u16,
    pub database: String,
    /// Role.
    pub user: String,
    pub password: Option<String>,
    /// Encryption; there is none on a socket.
    pub ssl_mode: SslMode,
    /// PEM file of authorities that [`SslMode::VerifyFull`] trusts; `None` takes the system's.
    pub ssl_root_cert: Option<PathBuf>,
    /// Folder of the private cluster, if that is what the server is; messages then name it.
    pub private_folder: Option<PathBuf>,
    /// Most connections at a time.
    pub pool_size: usize,
    /// How long a connection may take to be made, or to become free.
    pub connect_timeout: Duration,
    /// How long one statement may take.
    pub statement_timeout: Duration,
}

impl PostgresSettings {
    /// Whether the server is reached by a socket of this machine.
    pub fn is_socket(&self) -> bool {
        self.host.starts_with('/')
    }

    /// What messages call it.
    pub fn address(&self) -> ServerAddress {
        let Self {
            host,
            port,
            database,
            user,
            ..
        } = self;
        let text = format!("{user}@{host}:{port}/{database}");
        ServerAddress::new(text, self.private_folder.clone())
    }
}

impl fmt::Debug for PostgresSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresSettings")
            .field("address", &self.address())
            .field("password", &self.password.as_ref().map(|_| "***"))
            .field("ssl_mode", &self.ssl_mode)
            .field("ssl_root_cert", &self.ssl_root_cert)
            .field("pool_size", &self.pool_size)
            .field("connect_timeout", &self.connect_timeout)
            .field("statement_timeout", &self.statement_timeout)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_is_never_shown() {
        let settings = PostgresSettings {
            host: "db".to_owned(),
            port: 5432,
            database: "d".to_owned(),
            user: "u".to_owned(),
            password: Some("hunter2".to_owned()),
            ssl_mode: SslMode::Prefer,
            ssl_root_cert: None,
            private_folder: None,
            pool_size: 4,
            connect_timeout: Duration::from_secs(5),
            statement_timeout: Duration::from_secs(30),
        };
        let shown = format!("{settings:?} {settings:#?} {}", settings.address());
        assert!(!shown.contains("hunter2"), "{shown}");
        assert!(shown.contains("u@db:5432/d"), "{shown}");
    }
}
