//! When a file is closed.
//!
//! Promises: whichever limit is met first closes the file, and a file's footer stays
//! small. Pure.

use std::time::Duration;

use crate::RollingSettings;

/// Rejected ranges after which a file is closed: a footer entry takes some 60 bytes, so
/// its list stays below a megabyte.
pub const MAX_REJECTED_RANGES: usize = 10_000;

/// Why a file was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CloseReason {
    /// Enough rows and rejected records.
    Rows,
    /// Enough encoded bytes.
    Bytes,
    /// Old enough.
    Age,
    /// The footer's list of rejected ranges is long enough.
    Footer,
    /// The program stops.
    Shutdown,
    /// Everything there is has been read.
    Drain,
    Requested,
}

impl CloseReason {
    /// Its name in logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rows => "rows",
            Self::Bytes => "bytes",
            Self::Age => "age",
            Self::Footer => "footer",
            Self::Shutdown => "shutdown",
            Self::Drain => "drain",
            Self::Requested => "requested",
        }
    }
}

/// The limit a file has met, if any. `records` are rows and rejected records together.
pub fn should_close(
    records: u64,
    encoded_bytes: u64,
    rejected_ranges: usize,
    age: Duration,
    settings: &RollingSettings,
) -> Option<CloseReason> {
    if records == 0 {
        return None;
    }
    if records >= settings.max_rows {
        Some(CloseReason::Rows)
    } else if encoded_bytes >= settings.max_bytes {
        Some(CloseReason::Bytes)
    } else if rejected_ranges >= MAX_REJECTED_RANGES {
        Some(CloseReason::Footer)
    } else if age >= settings.max_age {
        Some(CloseReason::Age)
    } else {
        None
    }
}
