//! Which Kafka a command uses, so that every command works without one having been set up.
//!
//! KAFKA_BROKER if it is set. Otherwise the embedded broker of this data directory: served by another
//! process, or by this process as long as the value lives. The broker's own lock decides between the
//! two; the file `kafka/bootstrap` only contains the address, so a file left behind by a killed process
//! can't mislead. A command that only reads also accepts a data directory that it may not write: it
//! serves a copy.

use std::fs::{self, File, TryLockError};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use ftap_broker::{Broker, BrokerError, BrokerHandle, BrokerOptions};
use ftap_telemetry::events::{BrokerDataCopied, EmbeddedKafkaStarted, Speaker};

use crate::config::Config;
use crate::exit::BadUsage;

/// How long the process that holds the lock may take to write its address.
const ADDRESS_WAIT: Duration = Duration::from_secs(5);

/// Kafka's address, and the embedded broker if this process serves one.
pub(crate) struct KafkaAccess {
    bootstrap: String,
    served: Option<Served>,
    /// Served instead of a data directory that can't be written, or is not there; removed with the value.
    _copy: Option<tempfile::TempDir>,
}

/// What a command does with the topics.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    Read,
    Write,
}

struct Served {
    broker: BrokerHandle,
    address_file: PathBuf,
}

impl KafkaAccess {
    /// Kafka according to the settings; an embedded broker is served on a free port.
    pub(crate) fn open(config: &Config) -> anyhow::Result<Self> {
        match &config.kafka_broker {
            Some(bootstrap) => Ok(Self {
                bootstrap: bootstrap.clone(),
                served: None,
                _copy: None,
            }),
            None => Self::embedded(config, Use::Write),
        }
    }

    /// The same for a command that only reads: the data directory may be read-only, or belong to
    /// another user. One that is not there is not created: nothing is in its topics.
    pub(crate) fn open_to_read(config: &Config) -> anyhow::Result<Self> {
        match &config.kafka_broker {
            Some(_) => Self::open(config),
            None if !has_embedded(config) => serve_nothing(config),
            None => Self::embedded(config, Use::Read),
        }
    }

    fn embedded(config: &Config, usage: Use) -> anyhow::Result<Self> {
        let data_dir = broker_dir(config);
        let deadline = Instant::now() + ADDRESS_WAIT;
        loop {
            let mut unwritable = None;
            match start(config, &data_dir, 0) {
                Ok(access) => return Ok(access),
                Err(BrokerError::InUse { .. }) => {}
                Err(BrokerError::DataDir { source, .. })
                    if usage == Use::Read && data_dir.is_dir() =>
                {
                    unwritable = Some(source);
                }
                Err(error) => return Err(broker_error(error)),
            }
            // The holder of the lock wrote its address, is about to, or is just stopping.
            if let Some(bootstrap) = running(&data_dir) {
                return Ok(Self {
                    bootstrap,
                    served: None,
                    _copy: None,
                });
            }
            if let Some(error) = unwritable
                && let Some(access) = serve_copy(config, &data_dir, &error)?
            {
                return Ok(access);
            }
            if Instant::now() > deadline {
                return Err(BadUsage(format!(
                    "another process holds the embedded Kafka broker in {} and does not answer: stop it, or set DATA_DIR to another directory or KAFKA_BROKER to a broker",
                    data_dir.display()
                ))
                .into());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The embedded broker on a port of 127.0.0.1, 0 for a free one, served by this process.
    pub(crate) fn serve(config: &Config, port: u16) -> anyhow::Result<Self> {
        start(config, &broker_dir(config), port).map_err(|error| match error {
            BrokerError::InUse { .. } => BadUsage(match running(&broker_dir(config)) {
                Some(bootstrap) => format!(
                    "the embedded Kafka broker of this data directory is already served, on {bootstrap}: use that one, or set DATA_DIR to another directory"
                ),
                None => error.to_string(),
            })
            .into(),
            error => broker_error(error),
        })
    }

    /// `host:port`, several separated by commas.
    pub(crate) fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// Whether this process serves it: then no other one publishes.
    pub(crate) fn is_served_here(&self) -> bool {
        self.served.is_some()
    }
}

/// Whether DATA_DIR has an embedded broker, running or not.
pub(crate) fn has_embedded(config: &Config) -> bool {
    broker_dir(config).is_dir()
}

impl Drop for KafkaAccess {
    fn drop(&mut self) {
        if let Some(served) = self.served.take() {
            // Harmless if it stays: the lock decides.
            let _ = std::fs::remove_file(&served.address_file);
            // Its data is on disk before every response, so a thread left behind loses nothing.
            let _ = served.broker.shutdown();
        }
    }
}

/// A port, a directory or a value is for the user to fix; the rest is a failure.
fn broker_error(error: BrokerError) -> anyhow::Error {
    let problem = format!("the embedded Kafka broker can't be started: {error}");
    match error {
        BrokerError::Bind { addr, .. } => BadUsage(format!(
            "{problem}\n  `ftap kafka --port` chooses another port than {}",
            addr.port()
        ))
        .into(),
        BrokerError::DataDir { .. } | BrokerError::Option { .. } => BadUsage(problem).into(),
        _ => anyhow::anyhow!(problem),
    }
}

fn broker_dir(config: &Config) -> PathBuf {
    config.data_dir.join("kafka")
}

fn start(config: &Config, data_dir: &Path, port: u16) -> Result<KafkaAccess, BrokerError> {
    let broker = Broker::start(BrokerOptions {
        data_dir: data_dir.to_path_buf(),
        addr: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
        default_partitions: config.kafka_partitions,
        // The process has ten seconds in total, and the stages come first.
        shutdown_timeout: Duration::from_millis(500),
        ..BrokerOptions::default()
    })?;
    let bootstrap = broker.bootstrap();
    let address_file = data_dir.join("bootstrap");
    let pending = data_dir.join("bootstrap.tmp");
    // By rename: a reader sees the whole address or none, and then reads again.
    let _ = std::fs::write(&pending, &bootstrap)
        .and_then(|()| std::fs::rename(&pending, &address_file));
    EmbeddedKafkaStarted {
        bootstrap: bootstrap.clone(),
        data_dir: data_dir.display().to_string(),
    }
    .emit(Speaker::PROCESS);
    Ok(KafkaAccess {
        bootstrap,
        served: Some(Served {
            broker,
            address_file,
        }),
        _copy: None,
    })
}

/// Serves a broker without topics.
fn serve_nothing(config: &Config) -> anyhow::Result<KafkaAccess> {
    let folder = temporary_folder().context("a folder for an empty broker can't be made")?;
    let mut access = start(config, folder.path(), 0).map_err(broker_error)?;
    access._copy = Some(folder);
    Ok(access)
}

fn temporary_folder() -> io::Result<tempfile::TempDir> {
    tempfile::Builder::new().prefix("ftap-read-").tempdir()
}

/// Serves a copy of a broker's directory that can't be written; `None` while another process
/// uses it, because a copy of what is being written would be inconsistent.
fn serve_copy(
    config: &Config,
    data_dir: &Path,
    why: &io::Error,
) -> anyhow::Result<Option<KafkaAccess>> {
    // Locking needs no permission to write.
    let lock = File::open(data_dir.join(".lock"));
    if let Ok(lock) = &lock
        && matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock))
    {
        return Ok(None);
    }
    let failed = |error: io::Error| {
        BadUsage(format!(
            "the data directory {} can't be written ({why}), and copying it to read it elsewhere failed: {error}\n  set TMPDIR to a directory with room for it, or make it writable for user {}",
            data_dir.display(),
            crate::process::user_id(),
        ))
    };
    let copy = temporary_folder().map_err(failed)?;
    let began = Instant::now();
    let bytes = copy_files(data_dir, copy.path()).map_err(failed)?;
    drop(lock);
    BrokerDataCopied {
        data_dir: data_dir.display().to_string(),
        copy: copy.path().display().to_string(),
        reason: why.to_string(),
        bytes,
        duration_ms: began.elapsed().as_millis() as u64,
    }
    .emit(Speaker::PROCESS);
    let mut access = start(config, copy.path(), 0).map_err(broker_error)?;
    access._copy = Some(copy);
    Ok(Some(access))
}

/// Copies files and folders, for this user only; returns the number of bytes.
fn copy_files(from: &Path, to: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        let kind = entry.file_type()?;
        if kind.is_dir() {
            fs::create_dir(&target)?;
            bytes += copy_files(&entry.path(), &target)?;
        } else if kind.is_file() {
            bytes += io::copy(
                &mut File::open(entry.path())?,
                &mut File::create_new(&target)?,
            )?;
        }
    }
    Ok(bytes)
}

/// The address of the data directory's embedded broker, if a process serves it.
pub(crate) fn running_embedded(config: &Config) -> Option<String> {
    running(&broker_dir(config))
}

/// The address that a running process wrote, if something listens there.
fn running(data_dir: &Path) -> Option<String> {
    let bootstrap = std::fs::read_to_string(data_dir.join("bootstrap")).ok()?;
    let addr: SocketAddr = bootstrap.trim().parse().ok()?;
    std::net::TcpStream::connect_timeout(&addr, Duration::from_secs(1)).ok()?;
    Some(addr.to_string())
}
