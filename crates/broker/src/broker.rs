//! The broker as its owner sees it: started, asked for its address, shut down. It runs on threads of
//! its own, so that any caller, synchronous or not, can hold it.

use std::fs::{self, File, TryLockError};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use std::{io, thread};

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::error::BrokerError;
use crate::groups::Groups;
use crate::log::replace_file;
use crate::options::BrokerOptions;
use crate::server;
use crate::topics::Topics;
use crate::transactions::{Coordinator, now_ms};

const META_FILE: &str = "meta";
const META_VERSION: &str = "ftap-embedded 1";
const LOCK_FILE: &str = ".lock";
const TICK: Duration = Duration::from_millis(100);

/// What all connections share.
pub(crate) struct Shared {
    pub options: BrokerOptions,
    pub addr: SocketAddr,
    pub cluster_id: String,
    pub topics: Arc<Topics>,
    pub groups: Groups,
    pub coordinator: Coordinator,
    member_ids: AtomicU64,
    /// Makes member ids differ from those of earlier runs.
    started_ms: i64,
}

impl Shared {
    pub(crate) fn host(&self) -> String {
        self.addr.ip().to_string()
    }

    pub(crate) fn port(&self) -> i32 {
        i32::from(self.addr.port())
    }

    pub(crate) fn fresh_member_id(&self, prefix: &str) -> String {
        let number = self.member_ids.fetch_add(1, Ordering::Relaxed);
        let prefix: String = prefix.chars().take(100).collect();
        format!("{prefix}-{:x}-{number:x}", self.started_ms)
    }
}

/// Starts brokers.
#[derive(Debug, Clone, Copy)]
pub struct Broker;

/// A running broker. Dropping it shuts the broker down, too, without telling of errors.
#[derive(Debug)]
pub struct BrokerHandle {
    addr: SocketAddr,
    stop: watch::Sender<bool>,
    /// Behind a lock only so that the handle can be shared between threads.
    done: Mutex<mpsc::Receiver<Result<(), BrokerError>>>,
    shutdown_timeout: Duration,
    stopped: bool,
}

impl Broker {
    /// Opens the data directory, repairs what a kill left torn, and serves until the handle is shut
    /// down or dropped. When this returns, clients can connect.
    ///
    /// # Errors
    /// See [`BrokerError`].
    pub fn start(options: BrokerOptions) -> Result<BrokerHandle, BrokerError> {
        options.check()?;
        let dir = options.data_dir.clone();
        fs::create_dir_all(&dir).map_err(|error| BrokerError::io(&dir, error))?;
        let lock = lock_directory(&dir)?;
        let cluster_id = read_or_write_meta(&dir, options.fsync)?;
        let listener = listen(options.addr)?;
        let addr = listener.local_addr().map_err(|source| BrokerError::Bind {
            addr: options.addr,
            source,
        })?;
        let topics_dir = dir.join("topics");
        let topics = Topics::open(&topics_dir, options.log_options());
        let topics = Arc::new(topics.map_err(|error| BrokerError::io(&topics_dir, error))?);
        let journal = dir.join("coordinator.journal");
        let coordinator = Coordinator::open(
            &journal,
            options.fsync,
            Arc::clone(&topics),
            options.max_transaction_timeout,
        );
        let shutdown_timeout = options.shutdown_timeout;
        let shared = Arc::new(Shared {
            addr,
            cluster_id,
            topics,
            groups: Groups::default(),
            coordinator: coordinator.map_err(|error| BrokerError::io(&journal, error))?,
            member_ids: AtomicU64::new(0),
            started_ms: now_ms(),
            options,
        });
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(shared.options.worker_threads)
            .thread_name("ftap-kafka")
            .enable_all()
            .build()
            .map_err(BrokerError::Threads)?;
        let (stop, stopping) = watch::channel(false);
        let (finished, done) = mpsc::channel();
        let run = move || {
            runtime.block_on(serve(Arc::clone(&shared), listener, stopping));
            // Connections end where they wait; what is being appended is finished first.
            runtime.shutdown_timeout(shutdown_timeout);
            let result = flush(&shared);
            // Closing it is not enough: a process that is being forked holds a copy until it runs its
            // program. An error means that the file system has no locks.
            let _ = lock.unlock();
            // Fails if the handle was dropped, which is fine.
            let _ = finished.send(result);
        };
        let spawned = thread::Builder::new()
            .name("ftap-kafka-main".into())
            .spawn(run);
        spawned.map_err(BrokerError::Threads)?;
        tracing::info!(event = "broker_started", %addr, data_dir = %dir.display());
        Ok(BrokerHandle {
            addr,
            stop,
            done: Mutex::new(done),
            shutdown_timeout,
            stopped: false,
        })
    }
}

impl BrokerHandle {
    /// The address clients connect to.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The address as clients' `bootstrap.servers` wants it: `127.0.0.1:PORT`.
    pub fn bootstrap(&self) -> String {
        self.addr.to_string()
    }

    /// Stops serving, writes everything to the disk and releases the directory.
    ///
    /// # Errors
    /// [`BrokerError::DataDir`] or [`BrokerError::DiskFull`] if that fails,
    /// [`BrokerError::ShutdownTimedOut`] if it takes longer than the options allow.
    pub fn shutdown(mut self) -> Result<(), BrokerError> {
        self.stop_and_wait()
    }

    fn stop_and_wait(&mut self) -> Result<(), BrokerError> {
        if std::mem::replace(&mut self.stopped, true) {
            return Ok(());
        }
        // The receiver is gone only if the broker's thread is.
        let _ = self.stop.send(true);
        let limit = self.shutdown_timeout * 2;
        self.done
            .lock()
            .recv_timeout(limit)
            .unwrap_or(Err(BrokerError::ShutdownTimedOut {
                seconds: limit.as_secs(),
            }))
    }
}

impl Drop for BrokerHandle {
    fn drop(&mut self) {
        if let Err(error) = self.stop_and_wait() {
            tracing::warn!(event = "broker_stopped", %error);
        }
    }
}

async fn serve(shared: Arc<Shared>, listener: TcpListener, mut stopping: watch::Receiver<bool>) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(event = "broker_stopped", %error);
            return;
        }
    };
    let clock = tokio::spawn(clock(Arc::clone(&shared)));
    tokio::select! {
        () = server::accept(&shared, listener) => {}
        // An error means that the handle is gone.
        _ = stopping.wait_for(|stop| *stop) => {}
    }
    clock.abort();
    // A tick that is under way ends first: it must not find its timers gone.
    let _ = clock.await;
}

/// Ends sessions and transactions whose time is over and looks after retention.
async fn clock(shared: Arc<Shared>) {
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut next_retention = tokio::time::Instant::now();
    loop {
        let now = tick.tick().await;
        shared.groups.tick();
        let retention_due = now >= next_retention;
        if retention_due {
            next_retention = now + shared.options.retention_check_interval;
        }
        if retention_due || shared.coordinator.has_unfinished() {
            tokio::task::block_in_place(|| {
                shared.coordinator.tick();
                if retention_due {
                    shared.topics.enforce_retention(now_ms());
                }
            });
        }
    }
}

fn flush(shared: &Shared) -> Result<(), BrokerError> {
    let dir = &shared.options.data_dir;
    shared
        .topics
        .flush()
        .map_err(|error| BrokerError::io(dir, error))?;
    let ledger = shared.coordinator.ledger().lock();
    ledger.flush().map_err(|error| BrokerError::io(dir, error))
}

fn listen(addr: SocketAddr) -> Result<TcpListener, BrokerError> {
    let bind = || {
        let listener = TcpListener::bind(addr)?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    };
    bind().map_err(|source| BrokerError::Bind { addr, source })
}

/// Takes the directory for this process; the lock goes with the process, however it ends.
fn lock_directory(dir: &Path) -> Result<File, BrokerError> {
    let path = dir.join(LOCK_FILE);
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path);
    let file = file.map_err(|error| BrokerError::io(&path, error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(BrokerError::InUse {
            path: dir.to_path_buf(),
        }),
        Err(TryLockError::Error(error)) => Err(BrokerError::io(&path, error)),
    }
}

/// The cluster's id, made at the first start.
fn read_or_write_meta(dir: &Path, fsync: bool) -> Result<String, BrokerError> {
    let path: PathBuf = dir.join(META_FILE);
    let corrupt = |reason: String| BrokerError::Corrupt {
        path: path.clone(),
        reason,
    };
    match fs::read_to_string(&path) {
        Ok(text) => {
            let mut lines = text.lines();
            let version = lines.next().unwrap_or_default();
            if version != META_VERSION {
                return Err(corrupt(format!(
                    "it starts with {version:?} instead of {META_VERSION:?}"
                )));
            }
            let id = lines
                .next()
                .and_then(|line| line.strip_prefix("cluster-id "));
            id.map(str::to_string)
                .ok_or_else(|| corrupt("it has no cluster-id".into()))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let since = SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default();
            let id = format!("embedded-{:x}", since.as_nanos());
            let text = format!("{META_VERSION}\ncluster-id {id}\n");
            let written = replace_file(&path, text.as_bytes(), fsync);
            written.map_err(|error| BrokerError::io(&path, error))?;
            Ok(id)
        }
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            Err(corrupt("it is not text".into()))
        }
        Err(error) => Err(BrokerError::io(&path, error)),
    }
}
