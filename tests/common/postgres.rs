//! A PostgreSQL server of the test's own, and a client.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use ftap_postgres::cluster::{
    ClusterAddress, PostgresClusterError, PrivateCluster, PrivateClusterOptions,
};
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use super::{Lab, real_kafka};

/// The role and database that tests use: no superuser, as on a managed server.
pub(crate) const ROLE: &str = "platform";
/// Its password; no output may show it.
pub(crate) const PASSWORD: &str = "canary-password-71c2";

/// A server; stopped when dropped.
pub(crate) struct Server {
    folder: PathBuf,
    cluster: Option<PrivateCluster>,
    address: ClusterAddress,
}

impl Server {
    /// A server in the laboratory's folder, which gets its address. `None` on a machine without
    /// PostgreSQL, which fails in CI.
    pub(crate) fn start(lab: &mut Lab) -> Option<Self> {
        open_to_all(&lab.path(""));
        let folder = lab.path("server");
        Self::start_in(lab, &folder)
    }

    /// The same in this folder, which the server's account must be able to enter.
    pub(crate) fn start_in(lab: &mut Lab, folder: &Path) -> Option<Self> {
        // They ran with the embedded broker, and no broker makes a difference to them.
        if real_kafka().is_some() {
            eprintln!("NOT RUN: it does not depend on the broker and runs without KAFKA_BROKER");
            return None;
        }
        let folder = folder.to_path_buf();
        let cluster = match PrivateCluster::start(PrivateClusterOptions::new(&folder)) {
            Ok(cluster) => cluster,
            Err(error @ PostgresClusterError::NotInstalled { .. }) => {
                assert!(
                    std::env::var_os("FTAP_REQUIRE_TOOLS").is_none(),
                    "FTAP_REQUIRE_TOOLS is set, and {error}"
                );
                eprintln!("NOT RUN: {error}");
                return None;
            }
            Err(error) => panic!("{error}"),
        };
        let address = cluster.address().clone();
        let server = Self {
            folder,
            cluster: Some(cluster),
            address,
        };
        server.as_superuser(&format!("CREATE ROLE {ROLE} LOGIN PASSWORD '{PASSWORD}'"));
        server.as_superuser(&format!("CREATE DATABASE {ROLE} OWNER {ROLE}"));
        lab.set("POSTGRES", "on");
        lab.set("POSTGRES_HOST", &server.address.host);
        lab.set("POSTGRES_PORT", server.address.port.to_string());
        lab.set("POSTGRES_USER", ROLE);
        lab.set("POSTGRES_PASSWORD", PASSWORD);
        Some(server)
    }

    /// Stops it; nothing answers until [`Self::resume`].
    pub(crate) fn stop(&mut self) {
        self.cluster = None;
    }

    /// Starts it again where it was.
    pub(crate) fn resume(&mut self) {
        let options = PrivateClusterOptions::new(&self.folder);
        self.cluster = Some(PrivateCluster::start(options).unwrap());
    }

    /// The superuser's statement in its own database.
    pub(crate) fn as_superuser(&self, statement: &str) {
        query(&self.address, statement).unwrap();
    }

    /// The first column of the rows of a statement in the tests' database.
    pub(crate) fn sql(&self, statement: &str) -> Vec<String> {
        query(&self.of_role(), statement).unwrap_or_else(|error| panic!("{statement}: {error:?}"))
    }

    /// The same by the superuser.
    pub(crate) fn superuser_sql(&self, statement: &str) -> Vec<String> {
        let address = ClusterAddress {
            database: ROLE.to_owned(),
            ..self.address.clone()
        };
        query(&address, statement).unwrap_or_else(|error| panic!("{statement}: {error:?}"))
    }

    pub(crate) fn number(&self, statement: &str) -> u64 {
        self.sql(statement)[0].parse().unwrap()
    }

    /// Connections of the superuser, held until they are dropped; as many as the server gives.
    pub(crate) fn take_all_connections(&self) -> Held {
        let runtime = runtime();
        let mut clients = Vec::new();
        while let Ok(client) = runtime.block_on(connect(&self.of_role())) {
            clients.push(client);
        }
        Held(clients, runtime)
    }

    fn of_role(&self) -> ClusterAddress {
        ClusterAddress {
            user: ROLE.to_owned(),
            database: ROLE.to_owned(),
            password: PASSWORD.to_owned(),
            ..self.address.clone()
        }
    }
}

/// See [`Server::take_all_connections`].
pub(crate) struct Held(Vec<Client>, tokio::runtime::Runtime);

impl Held {
    /// How many.
    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }
}

/// Programs of a version that is too old to be used: as good as none.
pub(crate) fn old_programs(lab: &Lab) -> PathBuf {
    let dir = lab.path("old-programs");
    std::fs::create_dir_all(&dir).unwrap();
    for name in ["postgres", "initdb"] {
        let program = dir.join(name);
        std::fs::write(&program, "#!/bin/sh\necho 'postgres (PostgreSQL) 9.6.24'\n").unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    dir
}

/// Lets every account enter a folder: a server that is not root has to.
pub(crate) fn open_to_all(folder: &Path) {
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755)).unwrap();
}

fn query(address: &ClusterAddress, statement: &str) -> Result<Vec<String>, tokio_postgres::Error> {
    runtime().block_on(async {
        let client = connect(address).await?;
        let messages = client.simple_query(statement).await?;
        let rows = messages.iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row.get(0).unwrap_or_default().to_owned()),
            _ => None,
        });
        Ok(rows.collect())
    })
}

async fn connect(address: &ClusterAddress) -> Result<Client, tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::Config::new()
        .host(&address.host)
        .port(address.port)
        .user(&address.user)
        .password(&address.password)
        .dbname(&address.database)
        .connect(NoTls)
        .await?;
    tokio::spawn(connection);
    Ok(client)
}

fn runtime() -> tokio::runtime::Runtime {
    // A worker, so that held connections continue while no task awaits them.
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap()
}
