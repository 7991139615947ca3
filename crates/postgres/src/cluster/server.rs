//! Starts the server process, sees when it takes connections, stops it.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use ftap_supervision::Backoff;

use super::PrivateClusterOptions;
use super::account::Account;
use super::address::ClusterAddress;
use super::binaries::Binaries;
use super::create::tail;
use super::error::PostgresClusterError;
use super::leftover::{is_running, pid_file};

const POLL: Duration = Duration::from_millis(10);
const LOG_LIMIT_BYTES: u64 = 8_000_000;
const LOG_TAIL_BYTES: u64 = 2_000;
/// What a killed server's own processes need to notice it and let go of its memory.
const SHARED_MEMORY: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_millis(100))
    .within(Duration::from_secs(10));

/// How to start the server of one cluster.
#[derive(Debug)]
pub(super) struct Server {
    base: PathBuf,
    cluster: PathBuf,
    program: PathBuf,
    account: Account,
    settings: Vec<String>,
    start_timeout: Duration,
}

impl Server {
    /// The server of this folder.
    pub(super) fn new(
        base: &Path,
        binaries: &Binaries,
        account: &Account,
        address: &ClusterAddress,
        options: &PrivateClusterOptions,
    ) -> Self {
        let (socket, listen) = if address.is_socket() {
            (address.host.as_str(), "")
        } else {
            ("", address.host.as_str())
        };
        let keep = (options.max_slot_wal_keep_bytes >> 20).max(1);
        let mut settings = vec![
            format!("port={}", address.port),
            format!("listen_addresses={listen}"),
            format!("unix_socket_directories={socket}"),
            "unix_socket_permissions=0700".to_owned(),
            "fsync=on".to_owned(),
            "wal_level=logical".to_owned(),
            "max_replication_slots=10".to_owned(),
            "max_wal_senders=10".to_owned(),
            format!("max_slot_wal_keep_size={keep}MB"),
            "max_connections=40".to_owned(),
            "shared_buffers=32MB".to_owned(),
            "jit=off".to_owned(),
            "timezone=UTC".to_owned(),
            "log_timezone=UTC".to_owned(),
            "logging_collector=off".to_owned(),
            "log_destination=stderr".to_owned(),
        ];
        // Of two values the server takes the later one.
        settings.extend(options.settings.iter().cloned());
        Self {
            base: base.to_path_buf(),
            cluster: base.join("cluster"),
            program: binaries.postgres(),
            account: account.clone(),
            settings,
            start_timeout: options.start_timeout,
        }
    }

    /// Starts it and waits until it takes connections.
    ///
    /// Call it on a thread that lives as long as the server is to: on Linux the server stops when
    /// the thread that started it ends.
    pub(super) fn start(&self) -> Result<Child, PostgresClusterError> {
        let began = Instant::now();
        let start = || {
            self.bound_log();
            let log_from = self.log_bytes();
            let mut child = self.spawn()?;
            let ready = self.wait_until_ready(&mut child, began, log_from);
            if ready.is_err() {
                let _ = child.kill();
                let _ = child.wait();
            }
            ready.map(|()| child)
        };
        let sleep = |length| {
            std::thread::sleep(length);
            true
        };
        SHARED_MEMORY.retry_blocking(start, |_, _| {}, sleep)
    }

    fn spawn(&self) -> Result<Child, PostgresClusterError> {
        let log = self.open_log()?;
        let other = log
            .try_clone()
            .map_err(|source| PostgresClusterError::folder(&self.log_path(), source))?;
        let mut command: Command = self.account.command(&self.program, &self.base);
        command.arg("-D").arg(&self.cluster);
        for setting in &self.settings {
            command.arg("-c").arg(setting);
        }
        command.stdout(other).stderr(log);
        stop_with_parent(&mut command);
        command
            .spawn()
            .map_err(|source| PostgresClusterError::folder(&self.program, source))
    }

    fn wait_until_ready(
        &self,
        child: &mut Child,
        began: Instant,
        log_from: u64,
    ) -> Result<(), PostgresClusterError> {
        let own = i32::try_from(child.id()).unwrap_or(-1);
        loop {
            let ended = child
                .try_wait()
                .map_err(|source| PostgresClusterError::folder(&self.program, source))?;
            if let Some(status) = ended {
                return Err(PostgresClusterError::Ended {
                    status: status.to_string(),
                    said: self.log_since(log_from),
                    log: self.log_path(),
                });
            }
            if pid_file(&self.cluster).is_some_and(|file| file.pid == own && file.is_ready) {
                return Ok(());
            }
            if began.elapsed() > self.start_timeout {
                return Err(PostgresClusterError::TimedOut {
                    seconds: self.start_timeout.as_secs(),
                    said: self.log_since(log_from),
                    log: self.log_path(),
                });
            }
            std::thread::sleep(POLL);
        }
    }

    fn log_path(&self) -> PathBuf {
        self.base.join("server.log")
    }

    fn open_log(&self) -> Result<File, PostgresClusterError> {
        let path = self.log_path();
        OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .map_err(|source| PostgresClusterError::folder(&path, source))
    }

    fn log_bytes(&self) -> u64 {
        std::fs::metadata(self.log_path()).map_or(0, |metadata| metadata.len())
    }

    fn log_since(&self, from: u64) -> String {
        let mut text = Vec::new();
        let from = from.max(self.log_bytes().saturating_sub(LOG_TAIL_BYTES));
        // An unreadable log only makes the message shorter.
        let _ = File::open(self.log_path()).and_then(|mut file| {
            file.seek(SeekFrom::Start(from))?;
            file.take(2 * LOG_TAIL_BYTES).read_to_end(&mut text)
        });
        tail(&text)
    }

    /// Bounds the log: one old half and one new half. The server appends, so
    /// it continues at the start of the emptied file.
    pub(super) fn bound_log(&self) {
        if self.log_bytes() > LOG_LIMIT_BYTES {
            let log = self.log_path();
            let _ = std::fs::copy(&log, self.base.join("server.log.1"))
                .and_then(|_| OpenOptions::new().write(true).open(&log)?.set_len(0));
        }
    }

    /// Asks the server to end its sessions and stop (fast), then harder, which costs a recovery.
    pub(super) fn stop(&self, mut child: Child, limit: Duration) {
        let pid = i32::try_from(child.id()).unwrap_or(-1);
        for (signal, limit) in [
            (libc::SIGINT, limit),
            (libc::SIGQUIT, Duration::from_secs(1)),
        ] {
            send(pid, signal);
            if wait_at_most(&mut child, limit) {
                return;
            }
        }
        let _ = child.kill();
        let _ = child.wait();
    }
}

fn wait_at_most(child: &mut Child, limit: Duration) -> bool {
    let began = Instant::now();
    loop {
        // An error means that there is nothing left to wait for.
        if !matches!(child.try_wait(), Ok(None)) {
            return true;
        }
        if began.elapsed() > limit {
            return false;
        }
        std::thread::sleep(POLL);
    }
}

/// Signals a process and waits for its end.
pub(super) fn end(pid: i32, signal: libc::c_int, limit: Duration) -> bool {
    send(pid, signal);
    let began = Instant::now();
    while is_running(pid) {
        if began.elapsed() > limit {
            return false;
        }
        std::thread::sleep(POLL);
    }
    true
}

fn send(pid: i32, signal: libc::c_int) {
    if pid > 0 {
        // SAFETY: kill has no memory effects.
        unsafe { libc::kill(pid, signal) };
    }
}

/// A program whose starter is gone, even by `kill -9`, gets SIGINT: a server stops (fast), initdb
/// takes away what it has made.
#[cfg(target_os = "linux")]
pub(super) fn stop_with_parent(command: &mut Command) {
    let parent = std::process::id();
    // SAFETY: prctl, getppid and raise may be called between fork and exec; nothing is allocated.
    unsafe {
        command.pre_exec(move || {
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGINT) != 0 {
                return Err(std::io::Error::last_os_error());
            }
            // It may have ended before the call above.
            if libc::getppid().unsigned_abs() != parent {
                libc::raise(libc::SIGKILL);
            }
            Ok(())
        });
    }
}

#[cfg(not(target_os = "linux"))]
pub(super) fn stop_with_parent(_: &mut Command) {}
