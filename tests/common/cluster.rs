//! A PostgreSQL server of the test's own, and a client beside the program's.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use ftap_postgres::cluster::{PostgresClusterError, PrivateCluster, PrivateClusterOptions};
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use super::{Lab, wait_until};

/// A row as text, NULL as `None`.
pub(crate) type TextRow = Vec<Option<String>>;

/// A private cluster in a folder of its own; stopped when dropped.
pub(crate) struct Postgres {
    pub cluster: PrivateCluster,
    _dir: Option<tempfile::TempDir>,
}

/// A connection, and the runtime it lives on.
pub(crate) struct Session {
    runtime: tokio::runtime::Runtime,
    client: Client,
}

/// A folder that a server can be started in: it is not root and has to get in.
pub(crate) fn server_folder() -> tempfile::TempDir {
    let folder = tempfile::Builder::new().prefix("ftap-pg-").tempdir();
    let folder = folder.unwrap();
    let all = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(folder.path(), all).unwrap();
    folder
}

impl Postgres {
    /// Starts a server; `None` on a machine without PostgreSQL, which fails in CI.
    pub(crate) fn start() -> Option<Self> {
        Self::start_keeping(1 << 30)
    }

    /// The same with a limit, in bytes, to the log that it keeps for a slot.
    pub(crate) fn start_keeping(max_slot_wal_keep_bytes: u64) -> Option<Self> {
        Self::start_with(max_slot_wal_keep_bytes, &[])
    }

    /// The same with more settings, each `name=value`.
    pub(crate) fn start_with(max_slot_wal_keep_bytes: u64, settings: &[&str]) -> Option<Self> {
        let dir = server_folder();
        let options = PrivateClusterOptions {
            max_slot_wal_keep_bytes,
            settings: settings.iter().map(ToString::to_string).collect(),
            ..PrivateClusterOptions::new(dir.path().join("pg"))
        };
        match PrivateCluster::start(options) {
            Ok(cluster) => Some(Self {
                cluster,
                _dir: Some(dir),
            }),
            Err(error @ PostgresClusterError::NotInstalled { .. }) => {
                assert!(
                    std::env::var_os("FTAP_REQUIRE_TOOLS").is_none(),
                    "FTAP_REQUIRE_TOOLS is set, and {error}"
                );
                eprintln!("NOT RUN: {error}");
                None
            }
            Err(error) => panic!("{error}"),
        }
    }

    /// Starts the server of a folder that has one.
    pub(crate) fn start_in(folder: &Path) -> Self {
        Self::start_in_with(folder, &[])
    }

    /// The same with more settings, each `name=value`.
    pub(crate) fn start_in_with(folder: &Path, settings: &[&str]) -> Self {
        let options = PrivateClusterOptions {
            settings: settings.iter().map(ToString::to_string).collect(),
            ..PrivateClusterOptions::new(folder)
        };
        Self {
            cluster: PrivateCluster::start(options).unwrap(),
            _dir: None,
        }
    }

    /// Points a lab's processes to it.
    pub(crate) fn use_in(&self, lab: &mut Lab) {
        lab.set("POSTGRES", "on");
        lab.set("POSTGRES_HOST", self.cluster.host());
        lab.set("POSTGRES_PORT", self.cluster.port().to_string());
        lab.set("POSTGRES_DB", self.cluster.database());
        lab.set("POSTGRES_USER", self.cluster.user());
        lab.set("POSTGRES_PASSWORD", self.cluster.password());
    }

    /// Ends the server as `kill -9` does; it is started again by itself.
    pub(crate) fn kill(&self) {
        let pid = self.cluster.pid();
        // SAFETY: kill has no memory effects; the server runs, so the id is its.
        unsafe { libc::kill(pid as libc::pid_t, libc::SIGKILL) };
        wait_until("another server", || {
            (self.cluster.pid() != pid).then_some(())
        });
    }

    /// Ends one of the server's processes as `kill -9` does: all of them fall, and the log is
    /// recovered. Unlike [`kill`](Self::kill) at once, however often it comes.
    pub(crate) fn crash(&self) {
        let mut session = self.session();
        let pid = session.sql("SELECT pg_backend_pid()")[0][0]
            .clone()
            .unwrap();
        // SAFETY: kill has no memory effects; the session is open, so the id is its process'.
        unsafe { libc::kill(pid.parse().unwrap(), libc::SIGKILL) };
    }

    /// A connection, as soon as the server takes one.
    pub(crate) fn session(&self) -> Session {
        self.session_in(self.cluster.database())
    }

    /// The same to another database.
    pub(crate) fn session_in(&self, database: &str) -> Session {
        wait_until("a connection", || self.try_session(database))
    }

    fn try_session(&self, database: &str) -> Option<Session> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let mut config = tokio_postgres::Config::new();
        config
            .host(self.cluster.host())
            .port(self.cluster.port())
            .user(self.cluster.user())
            .password(self.cluster.password())
            .dbname(database)
            .connect_timeout(Duration::from_secs(5));
        let client = runtime.block_on(async {
            let (client, connection) = config.connect(NoTls).await.ok()?;
            tokio::spawn(connection);
            Some(client)
        })?;
        Some(Session { runtime, client })
    }

    /// Runs statements in a connection of their own.
    pub(crate) fn sql(&self, statements: &str) -> Vec<TextRow> {
        self.session().sql(statements)
    }

    /// The first value of the first row.
    pub(crate) fn value(&self, query: &str) -> String {
        let rows = self.sql(query);
        rows[0][0].clone().unwrap_or_default()
    }
}

impl Session {
    /// Runs statements; every row of all of them.
    pub(crate) fn sql(&mut self, statements: &str) -> Vec<TextRow> {
        self.try_sql(statements)
            .unwrap_or_else(|error| panic!("{statements}: {error:?}"))
    }

    /// The same where the server may be gone.
    pub(crate) fn try_sql(
        &mut self,
        statements: &str,
    ) -> Result<Vec<TextRow>, tokio_postgres::Error> {
        let messages = self
            .runtime
            .block_on(self.client.simple_query(statements))?;
        let rows = messages.into_iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(
                (0..row.len())
                    .map(|index| row.get(index).map(str::to_owned))
                    .collect(),
            ),
            _ => None,
        });
        Ok(rows.collect())
    }
}
