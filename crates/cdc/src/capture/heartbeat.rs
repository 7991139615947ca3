//! When the slot must move on though no change comes: a message in the server's log is then the
//! commit that the next checkpoint records.
//!
//! Promises: an idle slot holds little more than [`GROWTH`] of the server's log, and what was found
//! out about tables and publication is recorded soon. Pure.

use std::cell::Cell;
use std::time::{Duration, Instant};

use crate::Lsn;

/// How far the log may grow beyond the last checkpoint.
const GROWTH: u64 = 1 << 20;
/// A request without a checkpoint is repeated after this.
const PATIENCE: Duration = Duration::from_secs(60);

/// See the module.
pub(super) struct Heartbeat {
    interval: Duration,
    recorded: Cell<Lsn>,
    recorded_at: Cell<Instant>,
    requested_at: Cell<Option<Instant>>,
    is_wanted: Cell<bool>,
    is_refused: Cell<bool>,
}

impl Heartbeat {
    /// After a checkpoint at `recorded`; checkpoints for growth are an `interval` apart.
    pub(super) fn new(recorded: Lsn, interval: Duration) -> Self {
        Self {
            interval,
            recorded: Cell::new(recorded),
            recorded_at: Cell::new(Instant::now()),
            requested_at: Cell::new(None),
            is_wanted: Cell::new(false),
            is_refused: Cell::new(false),
        }
    }

    /// There is something new to record.
    pub(super) fn want(&self) {
        self.is_wanted.set(true);
    }

    /// A checkpoint is in the lake.
    pub(super) fn recorded(&self, at: Lsn) {
        self.recorded.set(at);
        self.recorded_at.set(Instant::now());
        self.requested_at.set(None);
        self.is_wanted.set(false);
    }

    /// Whether a message is due when the log ends at `flushed`.
    pub(super) fn is_due(&self, flushed: Lsn) -> bool {
        let waits = |at: Instant| at.elapsed() < PATIENCE;
        if self.requested_at.get().is_some_and(waits) {
            return false;
        }
        let has_grown = self.has_grown(flushed);
        self.is_wanted.get() || (has_grown && self.recorded_at.get().elapsed() >= self.interval)
    }

    /// Whether the log has grown so far beyond the last checkpoint that the slot must move on.
    pub(super) fn has_grown(&self, flushed: Lsn) -> bool {
        flushed.0.saturating_sub(self.recorded.get().0) >= GROWTH
    }

    /// A message is written.
    pub(super) fn requested(&self) {
        self.requested_at.set(Some(Instant::now()));
    }

    /// The server refused a message; whether this is the first time.
    pub(super) fn is_newly_refused(&self) -> bool {
        !self.is_refused.replace(true)
    }
}
