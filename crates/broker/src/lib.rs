//! A small Kafka broker for one machine without set-up: file-backed, single-node, in the process.
//!
//! # Promises
//! - **Durable**: an acknowledged batch, a committed position, a decided transaction survive a kill
//!   (`kill -9`) of the process. They are in the page cache, so a loss of power may cost the last
//!   seconds; [`BrokerOptions::fsync`] closes that at the price of speed.
//! - **Exactly once**: idempotent producers and transactions as in Kafka, fencing included; a
//!   `read_committed` consumer sees no open and no aborted record.
//! - **Bounded**: memory does not grow with the backlog; frames, batches, answers and connections
//!   have limits, and answers go from the files to the socket in small pieces. A malformed frame closes
//!   its connection and affects no other client. A client that is idle, sends half a request or does
//!   not read its answer holds its connection for a limited time only, and makes room for others.
//! - **Alive**: a full disk or an I/O error is answered KAFKA_STORAGE_ERROR, leaves the log as it
//!   was, and the broker serves on.
//!
//! # Not in it
//! No replication, no authentication (so it listens on loopback only), no log compaction, no quotas,
//! no fetch sessions, no group membership across restarts (members join again; their committed
//! positions are kept until the group or the topic is deleted). A timestamp search in a compressed
//! batch finds the batch's first record. Transactional ids are never forgotten, so they should be
//! few and fixed. Beyond one machine use Apache Kafka.
//!
//! # Files
//! `meta` (format and cluster id), `.lock`, `coordinator.journal` (committed positions, producer
//! ids, transactions), `topics/{topic}/{partition}/{base offset}.log` (batches as they were sent) and
//! `start` there (the first offset that can be read, once records were deleted).
//!
//! ```no_run
//! use ftap_broker::{Broker, BrokerOptions};
//!
//! # fn main() -> Result<(), ftap_broker::BrokerError> {
//! let broker = Broker::start(BrokerOptions::default())?;
//! println!("bootstrap.servers={}", broker.bootstrap());
//! broker.shutdown()
//! # }
//! ```

// In a test a panic is the message.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod api;
mod batch;
mod broker;
mod buffer;
mod connections;
mod error;
mod groups;
mod ledger;
mod log;
mod options;
mod records;
mod server;
#[cfg(test)]
mod server_tests;
mod shape;
mod topics;
mod transactions;
#[cfg(test)]
mod transactions_tests;

pub use broker::{Broker, BrokerHandle};
pub use error::BrokerError;
pub use options::BrokerOptions;
