//! How supervision sees that a stage is stuck: work in hand and no step made.
//!
//! Counters instead of pings: a ping waits in the mailbox behind the work and
//! says nothing about a thread that works for the actor.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

/// Work and steps of one stage; shared by the stage and those that give it work.
#[derive(Debug, Default)]
pub struct Progress {
    pending: AtomicU64,
    steps: AtomicU64,
    waiting: AtomicU64,
}

impl Progress {
    /// The stage has one more piece of work in hand, until the guard is dropped.
    pub fn begin(self: &Arc<Self>) -> Work {
        self.pending.fetch_add(1, Relaxed);
        Work(self.clone())
    }

    /// Something moved.
    pub fn step(&self) {
        self.steps.fetch_add(1, Relaxed);
    }

    /// Work in hand.
    pub fn pending(&self) -> u64 {
        self.pending.load(Relaxed)
    }

    /// While the guard lives the stage waits for something that has a limit of
    /// its own (a pause, a reply, a timeout of a client) and can't be stuck.
    pub fn waiting(self: &Arc<Self>) -> Waiting {
        self.waiting.fetch_add(1, Relaxed);
        Waiting(self.clone())
    }

    fn observe(&self) -> Observation {
        Observation {
            steps: self.steps.load(Relaxed),
            busy: self.pending.load(Relaxed) > 0 && self.waiting.load(Relaxed) == 0,
        }
    }
}

/// One piece of work in hand. Dropping it finishes the work, which is a step as well.
#[derive(Debug)]
pub struct Work(Arc<Progress>);

impl Drop for Work {
    fn drop(&mut self) {
        self.0.pending.fetch_sub(1, Relaxed);
        self.0.step();
    }
}

/// See [`Progress::waiting`].
#[derive(Debug)]
pub struct Waiting(Arc<Progress>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Relaxed);
        self.0.step();
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Observation {
    steps: u64,
    busy: bool,
}

/// Watches one [`Progress`] over time.
#[derive(Debug)]
pub(crate) struct StallWatch {
    progress: Arc<Progress>,
    last: Observation,
    since: std::time::Instant,
}

impl StallWatch {
    /// Starts watching.
    pub(crate) fn new(progress: Arc<Progress>, now: std::time::Instant) -> Self {
        let last = progress.observe();
        Self {
            progress,
            last,
            since: now,
        }
    }

    /// How long the stage has had work and made no step.
    pub(crate) fn stalled_for(&mut self, now: std::time::Instant) -> std::time::Duration {
        let seen = self.progress.observe();
        if !seen.busy || seen != self.last {
            self.last = seen;
            self.since = now;
        }
        now.saturating_duration_since(self.since)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn only_work_without_steps_counts_as_stalled() {
        let start = Instant::now();
        let progress = Arc::new(Progress::default());
        let mut watch = StallWatch::new(progress.clone(), start);
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(
            watch.stalled_for(at(10)),
            Duration::ZERO,
            "idle is not stalled"
        );
        let (first, _second) = (progress.begin(), progress.begin());
        assert_eq!(
            watch.stalled_for(at(20)),
            Duration::ZERO,
            "new work starts the clock"
        );
        assert_eq!(watch.stalled_for(at(25)), Duration::from_secs(5));
        drop(first);
        assert_eq!(
            watch.stalled_for(at(30)),
            Duration::ZERO,
            "a step resets it"
        );
        let waiting = progress.waiting();
        assert_eq!(
            watch.stalled_for(at(60)),
            Duration::ZERO,
            "a bounded wait is not stalled"
        );
        drop(waiting);
        watch.stalled_for(at(70));
        assert_eq!(watch.stalled_for(at(75)), Duration::from_secs(5));
    }
}
