//! How supervision sees that a stage is stuck: work in hand and no step made.
//!
//! Counters instead of pings: a ping waits in the mailbox behind the work and
//! says nothing about a thread that works for the actor. Only a stage that awaits something is
//! asked for a sign of life as well: while one of its tasks waits, another may block the thread.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use tokio::sync::Notify;

/// Messages between stages that are not dealt with.
static HANDED: AtomicU64 = AtomicU64::new(0);

/// Whether some stage of the process still has a message to deal with.
pub fn is_work_under_way() -> bool {
    HANDED.load(Relaxed) > 0
}

/// Work and steps of one stage; shared by the stage and those that give it work.
#[derive(Debug, Default)]
pub struct Progress {
    pending: AtomicU64,
    steps: AtomicU64,
    waiting: AtomicU64,
    pulse_wanted: Notify,
    pulses: AtomicU64,
}

impl Progress {
    /// The stage has one more piece of work in hand, until the guard is dropped.
    pub fn begin(self: &Arc<Self>) -> Work {
        self.pending.fetch_add(1, Relaxed);
        Work {
            progress: self.clone(),
            is_handed: false,
        }
    }

    /// The same for a message of another stage.
    pub(crate) fn begin_handed(self: &Arc<Self>) -> Work {
        HANDED.fetch_add(1, Relaxed);
        let mut work = self.begin();
        work.is_handed = true;
        work
    }

    /// Something moved.
    pub fn step(&self) {
        self.steps.fetch_add(1, Relaxed);
    }

    /// Work in hand.
    pub fn pending(&self) -> u64 {
        self.pending.load(Relaxed)
    }

    /// While the guard lives the stage awaits something that has a limit of its own (a pause, a
    /// reply, a timeout of a client), or a thread of its own does. It is stuck only if its arbiter
    /// runs nothing else either, so the arbiter's thread must not block meanwhile.
    pub fn waiting(self: &Arc<Self>) -> Waiting {
        self.waiting.fetch_add(1, Relaxed);
        Waiting(self.clone())
    }

    /// Answers, on the stage's arbiter, each question whether that still runs.
    pub(crate) async fn beat(self: Arc<Self>) {
        loop {
            self.pulse_wanted.notified().await;
            self.pulses.fetch_add(1, Relaxed);
        }
    }

    fn observe(&self) -> Observation {
        if self.waiting.load(Relaxed) > 0 {
            self.pulse_wanted.notify_one();
        }
        Observation {
            steps: self.steps.load(Relaxed),
            pulses: self.pulses.load(Relaxed),
            busy: self.pending.load(Relaxed) > 0,
        }
    }
}

/// One piece of work in hand. Dropping it finishes the work, which is a step as well.
#[derive(Debug)]
pub struct Work {
    progress: Arc<Progress>,
    is_handed: bool,
}

impl Drop for Work {
    fn drop(&mut self) {
        HANDED.fetch_sub(self.is_handed.into(), Relaxed);
        self.progress.pending.fetch_sub(1, Relaxed);
        self.progress.step();
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
    pulses: u64,
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
    }

    #[tokio::test]
    async fn a_stage_that_waits_is_stalled_only_if_its_thread_gives_no_sign_of_life() {
        let start = Instant::now();
        let progress = Arc::new(Progress::default());
        let _work = progress.begin();
        let _waiting = progress.waiting();
        let mut watch = StallWatch::new(progress.clone(), start);
        let at = |seconds| start + Duration::from_secs(seconds);
        let beat = tokio::spawn(progress.clone().beat());
        for second in [10, 20, 30] {
            watch.stalled_for(at(second));
            let seen = progress.pulses.load(Relaxed);
            while progress.pulses.load(Relaxed) == seen {
                tokio::task::yield_now().await;
            }
        }
        assert_eq!(watch.stalled_for(at(40)), Duration::ZERO, "its task waits");
        beat.abort();
        let _ = beat.await;
        watch.stalled_for(at(50));
        assert!(
            watch.stalled_for(at(55)) >= Duration::from_secs(5),
            "its thread hangs"
        );
    }
}
