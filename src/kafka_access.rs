//! Which Kafka a command talks to, so that every command works without one having been set up.
//!
//! KAFKA_BROKER if it is set. Else the embedded broker of this data directory: one that another
//! process serves, else one that this process serves as long as the value lives. The broker's own
//! lock decides between the two; the file `kafka/bootstrap` only carries the address, so that a
//! file left behind by a killed process can't mislead. A command that only reads is content with a
//! data directory that it may not write: it serves a copy.

use std::fs::{self, File, TryLockError};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ftap_broker::{Broker, BrokerError, BrokerHandle, BrokerOptions};
use ftap_telemetry::events::{BrokerDataCopied, EmbeddedKafkaStarted, Speaker};

use crate::config::Config;
use crate::exit::BadUsage;

/// How long the process that has the lock may take to write its address.
const ADDRESS_WAIT: Duration = Duration::from_secs(5);

/// Kafka's address, and the embedded broker if this process serves it.
pub struct KafkaAccess {
    bootstrap: String,
    served: Option<Served>,
    /// What is served instead of a data directory that can't be written; gone with the value.
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
    /// Kafka as the settings have it, the embedded broker on any free port if need be.
    pub fn open(config: &Config) -> anyhow::Result<Self> {
        match &config.kafka_broker {
            Some(bootstrap) => Ok(Self {
                bootstrap: bootstrap.clone(),
                served: None,
                _copy: None,
            }),
            None => Self::embedded(config, Use::Write),
        }
    }

    /// The same for a command that only reads: the data directory may be read-only, or another
    /// user's.
    pub fn open_to_read(config: &Config) -> anyhow::Result<Self> {
        match &config.kafka_broker {
            Some(_) => Self::open(config),
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
            // Whoever has the lock wrote its address, is about to, or is just going away.
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
    pub fn serve(config: &Config, port: u16) -> anyhow::Result<Self> {
        start(config, &broker_dir(config), port).map_err(|error| match error {
            BrokerError::InUse { .. } => BadUsage(match running(&broker_dir(config)) {
                Some(bootstrap) => format!(
                    "the embedded Kafka broker of this data directory is served already, on {bootstrap}: use that one, or set DATA_DIR to another directory"
                ),
                None => error.to_string(),
            })
            .into(),
            error => broker_error(error),
        })
    }

    /// `host:port`, several separated by commas.
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }
}

impl Drop for KafkaAccess {
    fn drop(&mut self) {
        if let Some(served) = self.served.take() {
            // Left behind it would do no harm: the lock decides.
            let _ = std::fs::remove_file(&served.address_file);
            // Its data is on the disk with every answer; a thread left behind loses nothing.
            let _ = served.broker.shutdown();
        }
    }
}

/// A port, a directory or a value is the user's to mend; the rest is a failure.
fn broker_error(error: BrokerError) -> anyhow::Error {
    let told = format!("the embedded Kafka broker can't be started: {error}");
    match error {
        BrokerError::Bind { addr, .. } => BadUsage(format!(
            "{told}\n  `ftap kafka --port` takes another port than {}",
            addr.port()
        ))
        .into(),
        BrokerError::DataDir { .. } | BrokerError::Option { .. } => BadUsage(told).into(),
        _ => anyhow::anyhow!(told),
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
        // The process has ten seconds in all, and the stages come first.
        shutdown_timeout: Duration::from_millis(500),
        ..BrokerOptions::default()
    })?;
    let bootstrap = broker.bootstrap();
    let address_file = data_dir.join("bootstrap");
    let pending = data_dir.join("bootstrap.tmp");
    // By rename: a reader sees the whole address or none. A reader that finds none asks again.
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

/// Serves a copy of a broker's directory that can't be written; `None` while another process
/// has it, because a copy of what is being written would be torn.
fn serve_copy(
    config: &Config,
    data_dir: &Path,
    why: &io::Error,
) -> anyhow::Result<Option<KafkaAccess>> {
    // A lock needs no permission to write.
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
    let copy = tempfile::Builder::new()
        .prefix("ftap-read-")
        .tempdir()
        .map_err(failed)?;
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

/// Copies files and folders, with no permissions but this user's; gives the bytes.
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

/// The embedded broker of the data directory, if some process serves it.
pub fn running_embedded(config: &Config) -> Option<String> {
    running(&broker_dir(config))
}

/// The address that a running process wrote, if something listens there.
fn running(data_dir: &Path) -> Option<String> {
    let bootstrap = std::fs::read_to_string(data_dir.join("bootstrap")).ok()?;
    let addr: SocketAddr = bootstrap.trim().parse().ok()?;
    std::net::TcpStream::connect_timeout(&addr, Duration::from_secs(1)).ok()?;
    Some(addr.to_string())
}
