//! Changes of PostgreSQL tables in the lake: the rules and the file format.
//!
//! Promises: of each captured table the lake holds a snapshot and every change after it
//! exactly once and in commit order, whatever is killed when, or an error says which may be
//! missing. Each change has a [`Position`], which the server never gives to another one; per table
//! the objects of an epoch are one chain of contiguous runs of positions, each created once under a
//! key that follows from its first position. A position is acknowledged after a [`checkpoint`] of it
//! is in the lake. [`footer`], [`checkpoint`], [`catalog`], [`chain`] and [`buffer`] are the rules,
//! without I/O; [`schema`], [`value`] and [`file`] are the format; [`source`], [`snapshot`],
//! [`server`] and [`lake`] touch the network; [`audit`] and [`equality`] check what the lake holds.
//! Relies on the store's create-only put, and on a replication slot sending again everything that
//! was not acknowledged, in the same order.

pub mod audit;
pub mod buffer;
pub mod capture;
pub mod catalog;
pub mod chain;
pub mod checkpoint;
pub mod equality;
pub mod file;
pub mod footer;
pub mod lake;
#[cfg(test)]
mod model;
mod requirements;
pub mod schema;
pub mod server;
mod settings;
pub mod snapshot;
pub mod source;
mod tunnel;
pub mod value;
pub mod wire;

pub use chain::{Plan, PlanError, SnapshotReason, plan};
pub use file::{ChangeFile, ChangeFileBuilder};
pub use footer::ChangeFooter;
pub use ftap_lake::{CAPTURED_TABLES as TABLES, Lsn, Position};
pub use schema::{Column, Table};
pub use settings::CaptureSettings;
pub use source::{Cell, Change, ChangeSource, Message, Tuple};

/// The schema of the tables; written out everywhere, since a search path begins with the
/// schema of the role's name.
pub const SCHEMA: &str = "public";
