//! TLS for the session that replicates.
//!
//! Promises: a session is encrypted and the server checked exactly as by the connections of
//! [`postgres`](ftap_postgres). `pgwire-replication` would bring a second cryptographic
//! library and rules of its own, so it is given a socket in a folder that only this user
//! can enter, and what goes through it is encrypted here.

use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use ftap_postgres::{PostgresError, PostgresSettings, SslMode, is_broken_connection, tls_config};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpStream, UnixListener};
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Asks the server for TLS: length and code of PostgreSQL's `SSLRequest`.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

/// A socket of this machine that leads to the server; one session can use it.
pub(crate) struct Tunnel {
    folder: PathBuf,
    task: JoinHandle<()>,
}

impl Tunnel {
    /// A tunnel, or `None` where there is nothing to encrypt: on a socket, with TLS
    /// disabled, or preferred and not offered.
    pub(crate) async fn open(settings: &PostgresSettings) -> Result<Option<Self>, PostgresError> {
        if settings.is_socket() || settings.ssl_mode == SslMode::Disable {
            return Ok(None);
        }
        let limit = settings.connect_timeout;
        let connected = tokio::time::timeout(limit, connect(settings)).await;
        let connected = connected.unwrap_or_else(|_| {
            Err(PostgresError::Unavailable {
                address: settings.address(),
                said: format!("no connection within {} s", limit.as_secs_f64()),
            })
        });
        let Some(stream) = connected? else {
            return Ok(None);
        };
        let open = || {
            let folder = private_folder()?;
            let listener = UnixListener::bind(socket(&folder, settings.port))?;
            Ok((folder, listener))
        };
        let (folder, listener) =
            open().map_err(|error: io::Error| PostgresError::Tls(format!(
                "no socket for the session that replicates can be made in {}: {error}; set TMPDIR to a folder with a short path that can be written",
                std::env::temp_dir().display()
            )))?;
        let task = tokio::spawn(carry(listener, stream));
        Ok(Some(Self { folder, task }))
    }

    /// Stands for the server's host.
    pub(crate) fn host(&self) -> String {
        self.folder.display().to_string()
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.task.abort();
        // A folder that stays behind holds nothing but a dead socket.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Either side's end ends the other's.
async fn carry(listener: UnixListener, mut server: TlsStream<TcpStream>) {
    if let Ok((mut session, _)) = listener.accept().await {
        let _ = copy_bidirectional(&mut session, &mut server).await;
    }
}

async fn connect(
    settings: &PostgresSettings,
) -> Result<Option<TlsStream<TcpStream>>, PostgresError> {
    let gone = |error: io::Error| PostgresError::Unavailable {
        address: settings.address(),
        said: error.to_string(),
    };
    let server = (settings.host.as_str(), settings.port);
    let mut stream = TcpStream::connect(server).await.map_err(gone)?;
    stream.set_nodelay(true).map_err(gone)?;
    stream.write_all(&SSL_REQUEST).await.map_err(gone)?;
    if stream.read_u8().await.map_err(gone)? != b'S' {
        return match settings.ssl_mode {
            SslMode::Prefer | SslMode::Disable => Ok(None),
            SslMode::Require | SslMode::VerifyFull => Err(PostgresError::Tls(
                "the server offers none; set POSTGRES_SSLMODE to prefer or disable, or turn ssl on there".to_owned(),
            )),
        };
    }
    let name = ServerName::try_from(settings.host.clone())
        .map_err(|error| PostgresError::Tls(format!("{}: {error}", settings.host)))?;
    let connector = TlsConnector::from(Arc::new(tls_config(settings)?));
    let encrypted = connector.connect(name, stream).await;
    let encrypted = encrypted.map_err(|error| {
        if is_broken_connection(&error) {
            gone(error)
        } else {
            PostgresError::Tls(format!("{error}; see POSTGRES_SSLMODE"))
        }
    })?;
    Ok(Some(encrypted))
}

fn private_folder() -> io::Result<PathBuf> {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    loop {
        let number = COUNTER.fetch_add(1, Relaxed);
        let name = format!(
            "ftap-{}-{number}-{:08x}",
            std::process::id(),
            rand::random::<u32>()
        );
        let folder = std::env::temp_dir().join(name);
        match std::fs::DirBuilder::new().mode(0o700).create(&folder) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => return made.map(|()| folder),
        }
    }
}

/// As every client of PostgreSQL builds it.
fn socket(folder: &Path, port: u16) -> PathBuf {
    folder.join(format!(".s.PGSQL.{port}"))
}
