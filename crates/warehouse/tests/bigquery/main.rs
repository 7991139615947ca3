//! Loading the lake into BigQuery: the rules, and the loader against test servers with faults.

#![allow(clippy::unwrap_used)]

mod audits;
mod crashes;
mod faults;
mod place;
mod refusals;
mod rules;
mod schemas;
