//! The thread that starts the server, starts it again when it was killed, and stops it.
//!
//! One thread for the server's whole life, because on Linux the server ends with the thread that
//! started it.

use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ftap_supervision::{Backoff, Pause, Retry};

use super::error::PostgresClusterError;
use super::server::Server;

const LOOK_INTERVAL: Duration = Duration::from_millis(250);
const LOG_INTERVAL: Duration = Duration::from_secs(10);
/// A server that ran for a minute is not failing over and over.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(30))
    .healthy_after(Duration::from_secs(60));

/// Handle of the thread; dropping it stops the server.
#[derive(Debug)]
pub(super) struct Keeper {
    pid: Arc<AtomicU32>,
    /// Dropped to ask for the stop.
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Keeper {
    /// Starts the server; returns when it takes connections.
    pub(super) fn start(
        server: Server,
        stop_timeout: Duration,
    ) -> Result<Self, PostgresClusterError> {
        let pid = Arc::new(AtomicU32::new(0));
        let (stop, stopped) = channel();
        let (started, start) = channel();
        let shown = pid.clone();
        let thread = std::thread::Builder::new()
            .name("postgres-keeper".to_owned())
            .spawn(move || match server.start() {
                Ok(child) => {
                    shown.store(child.id(), SeqCst);
                    let _ = started.send(Ok(()));
                    keep(&server, child, &shown, &stopped, stop_timeout);
                }
                Err(error) => {
                    let _ = started.send(Err(error));
                }
            })
            .map_err(PostgresClusterError::Thread)?;
        match start.recv() {
            Ok(result) => result?,
            Err(_) => {
                let gone = std::io::Error::other("it ended without a word");
                return Err(PostgresClusterError::Thread(gone));
            }
        }
        Ok(Self {
            pid,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// The server's process id.
    pub(super) fn pid(&self) -> u32 {
        self.pid.load(SeqCst)
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // A panic there has been logged, and the server ends with its thread.
            let _ = thread.join();
        }
    }
}

fn keep(
    server: &Server,
    mut child: std::process::Child,
    pid: &AtomicU32,
    stopped: &Receiver<()>,
    stop_timeout: Duration,
) {
    let mut log_looked_at = Instant::now();
    let mut retries = BACKOFF.start();
    loop {
        if is_over(stopped, LOOK_INTERVAL) {
            server.stop(child, stop_timeout);
            return;
        }
        if log_looked_at.elapsed() > LOG_INTERVAL {
            server.bound_log();
            log_looked_at = Instant::now();
        }
        let status = match child.try_wait() {
            Ok(None) => continue,
            Ok(Some(status)) => status.to_string(),
            Err(error) => error.to_string(),
        };
        tracing::warn!(event = "private_postgres_ended", pid = child.id(), %status);
        // It ran before, so whatever is wrong may pass.
        let mut pause = retries.after(&Retry::Transient);
        child = loop {
            match pause {
                Some(pause) if !is_over(stopped, pause.length) => {}
                _ => return,
            }
            match server.start() {
                Ok(child) => break child,
                Err(error) => {
                    pause = retries.after(&Retry::Transient);
                    tracing::error!(event = "private_postgres_failed", %error, retry_in_ms = pause.map(Pause::ms));
                }
            }
        };
        pid.store(child.id(), SeqCst);
        tracing::info!(event = "private_postgres_restarted", pid = child.id());
    }
}

/// Waits that long for the request to stop.
fn is_over(stopped: &Receiver<()>, time: Duration) -> bool {
    !matches!(stopped.recv_timeout(time), Err(RecvTimeoutError::Timeout))
}
