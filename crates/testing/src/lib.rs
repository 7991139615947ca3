//! Test servers with faults, for tests on loopback: a bucket of Google Cloud Storage, BigQuery's load
//! jobs, and an HTTP API that answers by a script. They check no credentials. And a protocol as a
//! state machine under a model checker. Child processes that do not outlive who starts them.

pub mod bigquery;
mod child;
pub mod gcs;
mod http;
pub mod model;
mod scripted;

pub use child::end_with_parent;
pub use scripted::{Reply, Scripted};
