//! The rules of change capture, without server or lake.

#![allow(clippy::unwrap_used)]

mod buffer;
mod names;
mod plan;

use ftap_cdc::{Lsn, Position};

fn position(lsn: u64, seq: u64) -> Position {
    Position { lsn: Lsn(lsn), seq }
}
