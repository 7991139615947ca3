//! The lake's promises: its rules, its files, and its store on a folder and on a bucket with faults.

#![allow(clippy::large_futures, clippy::print_stdout, clippy::unwrap_used)]

mod dead_letters;
mod file;
mod rules;
mod store;
