//! What a caller may choose.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use crate::error::BrokerError;
use crate::log::LogOptions;
use crate::topics::TopicSettings;

/// Options of a [`crate::Broker`]. The default serves any free port of 127.0.0.1 with the data in
/// `data/kafka`.
#[derive(Debug, Clone)]
pub struct BrokerOptions {
    /// Where topics, positions and transactions are kept; made if missing. One broker at a time.
    pub data_dir: PathBuf,
    /// Where to listen: a loopback address; port 0 takes any free port.
    pub addr: SocketAddr,
    /// Partitions of a topic created without a number.
    pub default_partitions: i32,
    /// Whether asking for an unknown topic's metadata creates it.
    pub auto_create_topics: bool,
    /// Bytes kept per partition; whole segments beyond are deleted. `None` keeps everything.
    pub retention_bytes: Option<u64>,
    /// Age, by record timestamp, from which segments are deleted. `None` keeps everything.
    pub retention_age: Option<Duration>,
    /// How often retention is looked after.
    pub retention_check_interval: Duration,
    /// Size at which a partition starts its next file.
    pub segment_bytes: u64,
    /// Threads that serve connections.
    pub worker_threads: usize,
    /// Size of the largest request; a larger one closes its connection.
    pub max_request_bytes: usize,
    /// Size of the largest record batch, unless the topic has a `max.message.bytes` of its own; a
    /// larger one is answered MESSAGE_TOO_LARGE.
    pub max_batch_bytes: usize,
    /// Most bytes of records in one answer to a fetch, whatever the client allows.
    pub max_fetch_bytes: usize,
    /// Connections served at a time. For one more, the one whose client has kept the broker waiting
    /// longest is closed; if there is none, the new one.
    pub max_connections: usize,
    /// How long a connection may be without a request; then it is closed, as Kafka's
    /// `connections.max.idle.ms`. Clients connect again when they need it.
    pub idle_timeout: Duration,
    /// How long a client may take to send a request once it has begun, and to read its response.
    pub client_timeout: Duration,
    /// The longest timeout a transaction may ask for.
    pub max_transaction_timeout: Duration,
    /// Whether each append reaches the disk before it is acknowledged. Without it an acknowledged
    /// record survives a kill of the process, not a loss of power.
    pub fsync: bool,
    /// How long [`crate::BrokerHandle::shutdown`] waits for the broker's threads.
    pub shutdown_timeout: Duration,
}

impl Default for BrokerOptions {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("data/kafka"),
            addr: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            default_partitions: 3,
            auto_create_topics: true,
            retention_bytes: None,
            retention_age: None,
            retention_check_interval: Duration::from_secs(30),
            segment_bytes: 256 << 20,
            worker_threads: 2,
            max_request_bytes: 64 << 20,
            max_batch_bytes: 16 << 20,
            max_fetch_bytes: 16 << 20,
            max_connections: 512,
            idle_timeout: Duration::from_secs(10 * 60),
            client_timeout: Duration::from_secs(30),
            max_transaction_timeout: Duration::from_secs(15 * 60),
            fsync: false,
            shutdown_timeout: Duration::from_secs(10),
        }
    }
}

impl BrokerOptions {
    pub(crate) fn check(&self) -> Result<(), BrokerError> {
        if !self.addr.ip().is_loopback() {
            return Err(BrokerError::NotLoopback { addr: self.addr });
        }
        let limits: [(&'static str, bool, String, &'static str); 6] = [
            (
                "default_partitions",
                (1..=10_000).contains(&self.default_partitions),
                self.default_partitions.to_string(),
                "between 1 and 10000",
            ),
            (
                "segment_bytes",
                (1 << 10..=1 << 40).contains(&self.segment_bytes),
                self.segment_bytes.to_string(),
                "between 1024 and 2^40",
            ),
            (
                "worker_threads",
                (1..=256).contains(&self.worker_threads),
                self.worker_threads.to_string(),
                "between 1 and 256",
            ),
            (
                "max_request_bytes",
                (1 << 10..=1 << 30).contains(&self.max_request_bytes),
                self.max_request_bytes.to_string(),
                "between 1024 and 2^30",
            ),
            (
                "max_batch_bytes",
                (1 << 10..=self.max_request_bytes).contains(&self.max_batch_bytes),
                self.max_batch_bytes.to_string(),
                "between 1024 and max_request_bytes",
            ),
            (
                "max_fetch_bytes",
                (1 << 10..=1 << 30).contains(&self.max_fetch_bytes),
                self.max_fetch_bytes.to_string(),
                "between 1024 and 2^30",
            ),
        ];
        for (option, allowed, value, must_be) in limits {
            if !allowed {
                return Err(BrokerError::Option {
                    option,
                    value,
                    must_be,
                });
            }
        }
        Ok(())
    }

    /// The largest batch that a topic takes: what fits into a request at most.
    pub(crate) fn batch_limit(&self, topic: TopicSettings) -> usize {
        let wanted = topic.max_message_bytes.unwrap_or(self.max_batch_bytes);
        wanted.min(self.max_request_bytes)
    }

    pub(crate) fn log_options(&self) -> LogOptions {
        LogOptions {
            segment_bytes: self.segment_bytes,
            retention_bytes: self.retention_bytes,
            retention_age: self.retention_age,
            fsync: self.fsync,
        }
    }
}
