//! PostgreSQL: how it is reached, what its errors mean, and the tables that the batch side keeps there.
//!
//! Promises: connections are limited in number and each wait has an end; every error says whether
//! waiting can help and what to do; no password is ever shown. It relies on `init/*.sql`, the same
//! files that the container of docker compose runs.

mod address;
pub mod cluster;
mod columns;
mod database;
mod error;
mod load;
mod location;
mod pool;
mod prepare;
mod settings;
mod shape;
mod tls;
mod updates;

pub use address::ServerAddress;
pub use database::{
    BACKOFF, Database, OpenDatabase, note_answer, report_loaded, report_unavailable,
};
pub use deadpool_postgres::Pool;
pub use error::{PostgresError, PostgresFailure, is_broken_connection};
pub use load::Loaded;
pub use location::{PostgresLocation, PostgresLocator, PostgresState};
pub use pool::{NO_TIMEOUTS, pool};
pub use prepare::{Preparation, Prepared, connection, load, prepare};
pub use settings::{PostgresSettings, SslMode};
pub use tls::tls_config;
pub use updates::{Applied, JOB as UPDATE_USERS, UpdateSettings, UserUpdates};
