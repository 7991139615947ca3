//! The broker under clients it did not write: librdkafka throughout, kcat and Python where they are
//! installed. One binary, because every one of them links librdkafka.

#![allow(clippy::print_stderr, clippy::print_stdout, clippy::unwrap_used)]

mod batches_that_lie;
mod common;
mod foreign_clients;
mod groups;
mod kills;
mod logs;
mod malformed;
mod produce_consume;
mod slow_clients;
mod startup;
mod storage_full;
mod transactions;
