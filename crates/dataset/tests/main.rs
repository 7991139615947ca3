//! The data set's promises, on real files, real sockets and processes that are killed.

#![allow(clippy::print_stdout, clippy::unwrap_used)]

mod common;
mod generate;
mod kaggle;
mod kaggle_credentials;
mod prepare;
mod prepare_errors;
