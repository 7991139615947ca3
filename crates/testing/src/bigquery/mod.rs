//! A test server with faults that speaks the part of BigQuery's REST API that the loader uses:
//! datasets, tables, load jobs of Parquet objects, and the one query that counts rows.
//!
//! Promises: no two jobs of one id; a load job is atomic and reads its objects when it runs, wants
//! their columns to fit the table's, and appends all rows or none; rows are counted from the
//! objects themselves. A fault strikes exactly the requests that its [`Rule`] says. What it does
//! not know it refuses, it never guesses. For tests on loopback; it keeps everything in memory.

mod answer;
mod rows;
mod rule;
mod server;
mod state;

pub use rule::{Fault, Operation, Rule};
pub use server::{Objects, Server};
pub use state::JobView;
