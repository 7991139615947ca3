//! The private PostgreSQL cluster against its own server: kills, leftovers, wrong places.

#![allow(clippy::print_stderr, clippy::print_stdout, clippy::unwrap_used)]

mod common;
mod kills;
mod places;
mod starts;
