//! What an earlier process left in a cluster's folder: a server that still runs, or a pid file that
//! names a process which is no such server.
//!
//! Relies on the cluster's lock being held, so that no living process of ours has the server.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::error::PostgresClusterError;
use super::server::end;

const FAST_LIMIT: Duration = Duration::from_secs(10);
const HARD_LIMIT: Duration = Duration::from_secs(5);

/// What `postmaster.pid` says.
pub(super) struct PidFile {
    /// The server's process id.
    pub(super) pid: i32,
    /// Whether it takes connections.
    pub(super) is_ready: bool,
}

/// Reads `postmaster.pid`: the process id stands on its first line, the state on its eighth.
pub(super) fn pid_file(cluster: &Path) -> Option<PidFile> {
    let text = std::fs::read_to_string(cluster.join("postmaster.pid")).ok()?;
    let mut lines = text.lines();
    let pid = lines.next()?.trim().parse().ok().filter(|pid| *pid > 0)?;
    let is_ready = lines.nth(6).is_some_and(|state| state.trim() == "ready");
    Some(PidFile { pid, is_ready })
}

/// Stops a server that was left behind, and sees to it that its files don't keep the next one from
/// starting: the server takes any process with that id for a living server, even an unrelated one after
/// a reboot or a zombie without a waiting parent.
pub(super) fn stop(base: &Path, cluster: &Path) -> Result<(), PostgresClusterError> {
    if let Some(PidFile { pid, .. }) = pid_file(cluster) {
        if is_running(pid) && serves(pid, cluster) {
            tracing::warn!(
                event = "private_postgres_left_behind",
                pid,
                data_dir = %cluster.display()
            );
            if !end(pid, libc::SIGINT, FAST_LIMIT) && !end(pid, libc::SIGQUIT, HARD_LIMIT) {
                return Err(PostgresClusterError::Leftover {
                    pid,
                    path: cluster.to_path_buf(),
                });
            }
        }
        disown(cluster)?;
    }
    remove_socket_locks(base)
}

/// Writes our number over a dead server's. The server does not take its parent for another server,
/// but continues to check whether a process of the dead one still has the cluster's shared memory:
/// without the file it would not, and two servers might write the same data.
fn disown(cluster: &Path) -> Result<(), PostgresClusterError> {
    let path = cluster.join("postmaster.pid");
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(PostgresClusterError::folder(&path, source)),
    };
    let rest = text.split_once('\n').map_or("", |(_, rest)| rest);
    let text = format!("{}\n{rest}", std::process::id());
    // In place, so that it stays the account's file.
    std::fs::write(&path, text).map_err(|source| PostgresClusterError::folder(&path, source))
}

fn remove_socket_locks(base: &Path) -> Result<(), PostgresClusterError> {
    for entry in std::fs::read_dir(base).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(".s.PGSQL.") {
            let path = entry.path();
            std::fs::remove_file(&path)
                .map_err(|source| PostgresClusterError::folder(&path, source))?;
        }
    }
    Ok(())
}

/// Whether a process with that id exists and is not a zombie.
pub(super) fn is_running(pid: i32) -> bool {
    // SAFETY: signal 0 only asks whether the process exists.
    let exists = unsafe { libc::kill(pid, 0) } == 0
        || std::io::Error::last_os_error().raw_os_error() == Some(libc::EPERM);
    exists && !is_zombie(pid)
}

/// Its parent may take its time to wait for it; where there is no `/proc` it does not show.
fn is_zombie(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    after_name.trim_start().starts_with(['Z', 'X'])
}

/// Whether the process is a server of this cluster, by its command line.
fn serves(pid: i32, cluster: &Path) -> bool {
    let shown = match std::fs::read(format!("/proc/{pid}/cmdline")) {
        Ok(line) => String::from_utf8_lossy(&line).replace('\0', " "),
        Err(_) => {
            let output = Command::new("ps")
                .args(["-ww", "-o", "command=", "-p", &pid.to_string()])
                .stdin(Stdio::null())
                .output();
            output.map_or_else(
                |_| String::new(),
                |output| String::from_utf8_lossy(&output.stdout).into_owned(),
            )
        }
    };
    shown.contains("postgres") && shown.contains(&cluster.display().to_string())
}
