//! Tests of the program: `ftap` processes against real brokers, servers and faults.
//!
//! One program, whose tests run side by side: each has its own directory, topic, consumer group and
//! ports. The tests in `on_kafka` depend on the broker; CI runs them on Apache Kafka, too.

#![allow(clippy::print_stderr, clippy::print_stdout, clippy::unwrap_used)]

mod common;
mod on_kafka;
mod shell;

mod bigquery;
mod bigquery_local;
mod broker_down;
mod cdc;
mod cdc_changes;
mod cdc_continuity;
mod cdc_faults;
mod cdc_run;
mod cdc_server;
mod cdc_slot;
mod cdc_snapshot;
mod cdc_verify;
mod cli;
mod compatibility;
mod config;
mod dbt;
mod disk;
mod first_steps;
mod fraud;
mod fx;
mod fx_days;
mod fx_job;
mod gcs;
mod http;
mod lake_page;
mod machine;
mod models;
mod monitoring;
mod pages_ask;
mod pipeline_page;
mod policies;
mod postgres;
mod postgres_changed;
mod postgres_tls;
mod postgres_trouble;
mod query;
mod questions;
mod readers;
mod rights;
mod secrets;
mod tls;
mod unreadable;
mod words;
