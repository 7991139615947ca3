//! Folders that the server's account can reach, a client, and a process that can be killed.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ftap_postgres::cluster::{
    ClusterAddress, PostgresClusterError, PrivateCluster, PrivateClusterOptions,
};
use tokio_postgres::{Client, NoTls};

pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// Names the folder in the process that [`Holder`] starts.
const HOLD: &str = "FTAP_TEST_HOLD_CLUSTER";

/// A folder that everybody may enter: a server that is not root has to.
pub(crate) fn open_folder() -> tempfile::TempDir {
    let dir = tempfile::Builder::new()
        .prefix("ftap-pg-")
        .tempdir()
        .unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    dir
}

/// Starts a cluster; `None` on a machine without PostgreSQL, which fails in CI.
pub(crate) fn start(folder: &Path) -> Option<PrivateCluster> {
    match PrivateCluster::start(PrivateClusterOptions::new(folder)) {
        Ok(cluster) => Some(cluster),
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

/// Runs one statement in a connection of its own.
pub(crate) fn sql(
    address: &ClusterAddress,
    statement: &str,
) -> Result<Vec<String>, tokio_postgres::Error> {
    runtime().block_on(async {
        let client = connect(address).await?;
        let messages = client.simple_query(statement).await?;
        Ok(messages
            .iter()
            .filter_map(|message| match message {
                tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(ToOwned::to_owned),
                _ => None,
            })
            .collect())
    })
}

pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

pub(crate) async fn connect(address: &ClusterAddress) -> Result<Client, tokio_postgres::Error> {
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

pub(crate) fn wait_until<T>(what: &str, mut done: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(value) = done() {
            return value;
        }
        assert!(began.elapsed() < PATIENCE, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub(crate) fn kill(pid: u32, signal: libc::c_int) {
    // SAFETY: kill has no memory effects; the tests only name processes that they started.
    unsafe { libc::kill(i32::try_from(pid).unwrap(), signal) };
}

pub(crate) fn is_running(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(')').map_or("", |(_, rest)| rest).trim();
    !state.is_empty() && !state.starts_with('Z')
}

/// Another process that has the cluster, until it is killed.
pub(crate) struct Holder {
    child: Child,
    /// The server's process.
    pub server: u32,
    pub address: ClusterAddress,
}

impl Holder {
    /// Runs this test program again with nothing but [`hold`].
    pub(crate) fn start(folder: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "common::hold",
                "--nocapture",
                "--include-ignored",
            ])
            .env(HOLD, folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let server = lines
            .map(Result::unwrap)
            .find_map(|line| line.split_once("server ")?.1.trim().parse().ok())
            .expect("the holder starts a server");
        Self {
            child,
            server,
            address: PrivateCluster::running(folder).unwrap(),
        }
    }

    /// `kill -9`.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// What [`Holder`]'s process runs; in the test program itself it has nothing to do.
#[test]
fn hold() {
    let Some(folder) = std::env::var_os(HOLD) else {
        return;
    };
    let cluster = start(&PathBuf::from(folder)).unwrap();
    println!("\nserver {}", cluster.pid());
    // Until its starter is gone or kills it.
    let mut line = String::new();
    let _ = std::io::stdin().read_line(&mut line);
}
