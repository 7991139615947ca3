//! Makes a cluster beside its final place and moves it there when it is whole.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use rand::distr::{Alphanumeric, SampleString};

use super::NAME;
use super::account::Account;
use super::binaries::Binaries;
use super::error::PostgresClusterError;
use super::server::stop_with_parent;

const PASSWORD_CHARS: usize = 32;
/// Enough of a program's output to see what it complains about.
const SAID_BYTES: usize = 2_000;

/// The password of this folder's cluster, made once; only the account and root can read it.
pub(super) fn password(base: &Path, account: &Account) -> Result<String, PostgresClusterError> {
    let path = base.join("password");
    if let Ok(text) = std::fs::read_to_string(&path)
        && !text.trim().is_empty()
    {
        return Ok(text.trim().to_owned());
    }
    if base.join("cluster").exists() {
        return Err(PostgresClusterError::folder(
            &path,
            std::io::Error::new(
                std::io::ErrorKind::NotFound,
                "the cluster's password is gone: put the file back, or move the folder `cluster` away to start with an empty one",
            ),
        ));
    }
    let password = Alphanumeric.sample_string(&mut rand::rng(), PASSWORD_CHARS);
    let pgpass = format!("*:*:*:{NAME}:{password}\n");
    write_private(base, "pgpass", &pgpass, account)?;
    // Last: where this file is, all of it is.
    write_private(base, "password", &format!("{password}\n"), account)?;
    Ok(password)
}

fn write_private(
    base: &Path,
    name: &str,
    text: &str,
    account: &Account,
) -> Result<(), PostgresClusterError> {
    let pending = base.join(format!("{name}.tmp"));
    let path = base.join(name);
    let written = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&pending)
        .and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.sync_all()
        });
    written.map_err(|source| PostgresClusterError::folder(&pending, source))?;
    account.own(&pending, 0o600)?;
    std::fs::rename(&pending, &path).map_err(|source| PostgresClusterError::folder(&path, source))
}

/// Makes the cluster with its role and database, unless it is there.
pub(super) fn cluster(
    base: &Path,
    binaries: &Binaries,
    account: &Account,
) -> Result<(), PostgresClusterError> {
    let cluster = base.join("cluster");
    if cluster.join("PG_VERSION").is_file() {
        return Ok(());
    }
    account.has_name()?;
    let pending = base.join("cluster.tmp");
    // A start that was killed left it.
    if pending.exists() {
        std::fs::remove_dir_all(&pending)
            .map_err(|source| PostgresClusterError::folder(&pending, source))?;
    }
    let mut initdb = account.command(&binaries.initdb(), base);
    stop_with_parent(&mut initdb);
    let output = initdb
        .args(["--username", NAME, "--auth", "scram-sha-256"])
        .args(["--encoding", "UTF8", "--locale", "C", "--no-instructions"])
        .arg("--pwfile")
        .arg(base.join("password"))
        .arg("--pgdata")
        .arg(&pending)
        .output();
    check("initdb", base, output)?;
    check(
        "postgres --single",
        base,
        create_database(binaries, account, base, &pending),
    )?;
    std::fs::rename(&pending, &cluster)
        .map_err(|source| PostgresClusterError::folder(&cluster, source))
}

fn create_database(
    binaries: &Binaries,
    account: &Account,
    base: &Path,
    cluster: &Path,
) -> std::io::Result<Output> {
    let mut command: Command = account.command(&binaries.postgres(), base);
    stop_with_parent(&mut command);
    // `exit_on_error`: its exit code would be 0 otherwise.
    let mut child = command
        .args(["--single", "-c", "exit_on_error=on", "-D"])
        .arg(cluster)
        .arg("postgres")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        writeln!(stdin, "CREATE DATABASE {NAME};")?;
    }
    child.wait_with_output()
}

fn check(
    program: &'static str,
    base: &Path,
    output: std::io::Result<Output>,
) -> Result<(), PostgresClusterError> {
    let said = match output {
        Ok(output) if output.status.success() => return Ok(()),
        Ok(output) => tail(&output.stderr),
        Err(error) => error.to_string(),
    };
    Err(PostgresClusterError::Create {
        program,
        path: base.to_path_buf(),
        said,
    })
}

/// The end of a program's output.
pub(super) fn tail(output: &[u8]) -> String {
    let from = output.len().saturating_sub(SAID_BYTES);
    String::from_utf8_lossy(&output[from..]).trim().to_owned()
}
