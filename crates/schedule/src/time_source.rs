//! What time it is: the system's, or a test's.

use std::pin::Pin;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::sync::watch;

/// A clock of the wall and a way to wait for it.
pub trait TimeSource: Send + Sync {
    fn now(&self) -> DateTime<Utc>;

    /// Waits from a time that this clock showed until a later one, or less: the caller checks the
    /// clock again. A wait that ends early notices a machine that was suspended and a clock that was set.
    fn wait(&self, from: DateTime<Utc>, until: DateTime<Utc>) -> Wait<'_>;
}

/// See [`TimeSource::wait`].
pub type Wait<'a> = Pin<Box<dyn Future<Output = ()> + 'a>>;

/// The system's clock.
#[derive(Clone, Copy, Debug)]
pub struct SystemTime;

/// How late a jump of the clock is noticed at most.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

impl TimeSource for SystemTime {
    fn now(&self) -> DateTime<Utc> {
        Utc::now()
    }

    fn wait(&self, _: DateTime<Utc>, until: DateTime<Utc>) -> Wait<'_> {
        let left = (until - Utc::now()).to_std().unwrap_or_default();
        Box::pin(tokio::time::sleep(left.min(LONGEST_WAIT)))
    }
}

/// A clock that stands until a test moves it.
#[derive(Clone, Debug)]
pub struct ManualTime(watch::Sender<DateTime<Utc>>);

impl ManualTime {
    /// Stands at this time.
    pub fn new(now: DateTime<Utc>) -> Self {
        Self(watch::Sender::new(now))
    }

    /// Moves it, forward or back.
    pub fn set(&self, now: DateTime<Utc>) {
        self.0.send_replace(now);
    }
}

impl TimeSource for ManualTime {
    fn now(&self) -> DateTime<Utc> {
        *self.0.borrow()
    }

    fn wait(&self, from: DateTime<Utc>, _: DateTime<Utc>) -> Wait<'_> {
        let mut moved = self.0.subscribe();
        Box::pin(async move {
            // The sender lives in `self`, so waiting can't fail.
            let _ = moved.wait_for(|now| *now != from).await;
        })
    }
}
