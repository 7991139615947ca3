//! Trying again: the one policy for everything that waits after a failure and repeats what failed.
//!
//! Promises: whether another try can help is up to the error alone, see [`Retryable`]; pauses double
//! and have jitter, so that what failed together is not repeated together; a pause that a server
//! asks for is never shortened, and one that is too long is an error at once; the last error is
//! returned as it came.

use std::future::pending;
use std::time::Duration;

use tokio::time::Instant;

use super::failure::{Failure, Retry};

/// Tries in a row after errors that only a few tries may help.
const BRIEF_TRIES: u32 = 5;
/// The part of a pause that jitter may take away.
const JITTER: f64 = 0.25;

/// An error that says whether another try can help.
pub trait Retryable {
    fn retry(&self) -> Retry;

    /// The pause that a server asks for.
    fn retry_after(&self) -> Option<Duration> {
        None
    }
}

impl Retryable for Retry {
    fn retry(&self) -> Retry {
        *self
    }
}

impl Retryable for Failure {
    fn retry(&self) -> Retry {
        self.entry().retry
    }
}

/// How long to wait between tries, and when to stop trying: never, unless an option says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    attempts: Option<u32>,
    limit: Option<Duration>,
    healthy_after: Option<Duration>,
}

/// What follows a failed try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pause {
    /// The number of the try that failed, from 1.
    pub attempt: u64,
    pub length: Duration,
}

impl Pause {
    /// Its length in milliseconds.
    pub fn ms(self) -> u64 {
        self.length.as_millis() as u64
    }
}

impl Backoff {
    /// Pauses that double from `first` up to `longest`.
    pub const fn new(first: Duration, longest: Duration) -> Self {
        Self {
            first,
            longest,
            attempts: None,
            limit: None,
            healthy_after: None,
        }
    }

    /// Allows as many tries in total; at least one is made.
    #[must_use]
    pub const fn attempts(mut self, attempts: u32) -> Self {
        self.attempts = Some(attempts);
        self
    }

    /// Starts no try later than `limit` after the first one.
    #[must_use]
    pub const fn within(mut self, limit: Duration) -> Self {
        self.limit = Some(limit);
        self
    }

    /// Starts over with the first pause after a try that lasted this long before it failed.
    #[must_use]
    pub const fn healthy_after(mut self, lasted: Duration) -> Self {
        self.healthy_after = Some(lasted);
        self
    }

    /// For a loop that does more than repeat one call. The first try starts now.
    pub fn start(self) -> Retries {
        let now = Instant::now();
        Retries {
            backoff: self,
            began: now,
            tried: now,
            failures: 0,
            brief: 0,
        }
    }

    /// Tries until `call` succeeds or trying again can't help; `report` learns of each pause.
    /// Dropping the future is the way to stop it.
    pub async fn retry<T, E: Retryable>(
        self,
        call: impl AsyncFnMut() -> Result<T, E>,
        report: impl FnMut(&E, Pause),
    ) -> Result<T, E> {
        self.retry_until(pending(), call, report).await
    }

    /// As [`retry`](Self::retry), but `stop` ends a pause with the last error. It does not cut a
    /// try off.
    pub async fn retry_until<T, E: Retryable>(
        self,
        stop: impl Future<Output = ()>,
        mut call: impl AsyncFnMut() -> Result<T, E>,
        mut report: impl FnMut(&E, Pause),
    ) -> Result<T, E> {
        tokio::pin!(stop);
        let mut retries = self.start();
        loop {
            let error = match call().await {
                Ok(done) => return Ok(done),
                Err(error) => error,
            };
            let Some(pause) = retries.after(&error) else {
                return Err(error);
            };
            report(&error, pause);
            tokio::select! {
                () = tokio::time::sleep(pause.length) => {}
                () = &mut stop => return Err(error),
            }
        }
    }

    /// As [`retry`](Self::retry), for threads: `sleep` returns whether to try again after it.
    pub fn retry_blocking<T, E: Retryable>(
        self,
        mut call: impl FnMut() -> Result<T, E>,
        mut report: impl FnMut(&E, Pause),
        mut sleep: impl FnMut(Duration) -> bool,
    ) -> Result<T, E> {
        let mut retries = self.start();
        loop {
            let error = match call() {
                Ok(done) => return Ok(done),
                Err(error) => error,
            };
            let Some(pause) = retries.after(&error) else {
                return Err(error);
            };
            report(&error, pause);
            if !sleep(pause.length) {
                return Err(error);
            }
        }
    }
}

/// The tries so far.
#[derive(Clone, Copy, Debug)]
pub struct Retries {
    backoff: Backoff,
    began: Instant,
    /// When the current try started.
    tried: Instant,
    failures: u32,
    brief: u32,
}

impl Retries {
    /// Whether to try again after `error`, and the pause before it.
    pub fn after(&mut self, error: &impl Retryable) -> Option<Pause> {
        self.after_at(Instant::now(), error, rand::random())
    }

    /// `jitter` is from 0 to 1.
    pub(crate) fn after_at(
        &mut self,
        now: Instant,
        error: &impl Retryable,
        jitter: f64,
    ) -> Option<Pause> {
        let backoff = self.backoff;
        let lasted = now.saturating_duration_since(self.tried);
        if backoff
            .healthy_after
            .is_some_and(|healthy| lasted >= healthy)
        {
            (self.began, self.failures, self.brief) = (self.tried, 0, 0);
        }
        let doublings = self.failures;
        self.failures = self.failures.saturating_add(1);
        let retry = error.retry();
        self.brief = match retry {
            Retry::Briefly => self.brief + 1,
            Retry::Transient | Retry::Later | Retry::Permanent => 0,
        };
        let jitter = JITTER * jitter;
        let length = match error.retry_after() {
            Some(asked) if asked > backoff.longest => return None,
            Some(asked) => asked + backoff.first.mul_f64(jitter),
            None => {
                let doubled = 1u32.checked_shl(doublings).unwrap_or(u32::MAX);
                let doubled = match retry {
                    Retry::Later => backoff.longest,
                    _ => backoff.first.saturating_mul(doubled).min(backoff.longest),
                };
                doubled.mul_f64(1.0 - jitter)
            }
        };
        self.tried = now + length;
        let is_over = !retry.helps()
            || self.brief > BRIEF_TRIES
            || backoff.attempts.is_some_and(|most| self.failures >= most)
            || backoff
                .limit
                .is_some_and(|limit| self.tried - self.began > limit);
        (!is_over).then_some(Pause {
            attempt: self.failures.into(),
            length,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const BACKOFF: Backoff = Backoff::new(SECOND, Duration::from_secs(60));

    struct Asked(Duration);

    impl Retryable for Asked {
        fn retry(&self) -> Retry {
            Retry::Transient
        }

        fn retry_after(&self) -> Option<Duration> {
            Some(self.0)
        }
    }

    /// Seconds of the pauses without jitter, until there is none, for tries that fail at once.
    fn pauses(backoff: Backoff, errors: &[Retry]) -> Vec<u64> {
        let mut retries = backoff.start();
        let next = |error: &Retry| {
            let pause = retries.after_at(retries.tried, error, 0.0)?;
            Some(pause.length.as_secs())
        };
        errors.iter().map_while(next).collect()
    }

    #[test]
    fn pauses_double_up_to_the_longest_and_the_error_decides() {
        use Retry::{Briefly, Later, Permanent, Transient};
        assert_eq!(
            pauses(BACKOFF, &[Transient; 40])[..9],
            [1, 2, 4, 8, 16, 32, 60, 60, 60]
        );
        assert_eq!(pauses(BACKOFF, &[Transient; 40]).len(), 40);
        assert_eq!(pauses(BACKOFF, &[Later, Transient, Permanent]), [60, 2]);
        assert_eq!(pauses(BACKOFF, &[Briefly; 9]), [1, 2, 4, 8, 16]);
        let between = [Briefly, Briefly, Briefly, Transient];
        assert_eq!(pauses(BACKOFF, &between.repeat(3)).len(), 12);
    }

    #[test]
    fn attempts_and_time_are_limited() {
        let transient = [Retry::Transient; 40];
        assert_eq!(pauses(BACKOFF.attempts(3), &transient), [1, 2]);
        assert_eq!(pauses(BACKOFF.attempts(0), &transient), [0; 0]);
        let limit = Duration::from_secs(7);
        assert_eq!(pauses(BACKOFF.within(limit), &transient), [1, 2, 4]);
    }

    #[test]
    fn a_try_that_lasted_starts_over() {
        let mut retries = BACKOFF.healthy_after(10 * SECOND).start();
        let mut failed_after = |lasted: u32| {
            let now = retries.tried + lasted * SECOND;
            retries.after_at(now, &Retry::Transient, 0.0)
        };
        let pause = |attempt, seconds| {
            let length = seconds * SECOND;
            Some(Pause { attempt, length })
        };
        assert_eq!(failed_after(0), pause(1, 1));
        assert_eq!(failed_after(9), pause(2, 2));
        assert_eq!(failed_after(10), pause(1, 1));
    }

    #[test]
    fn jitter_takes_a_quarter_at_most_and_nothing_of_what_a_server_asks_for() {
        let length = |error: &dyn Fn(&mut Retries) -> Option<Pause>| {
            error(&mut BACKOFF.start()).map(|pause| pause.length)
        };
        let now = Instant::now();
        let at = |jitter| length(&|retries| retries.after_at(now, &Retry::Transient, jitter));
        assert_eq!(at(1.0), Some(Duration::from_millis(750)));
        let asked = |seconds: u32, jitter| {
            length(&|retries| retries.after_at(now, &Asked(seconds * SECOND), jitter))
        };
        assert_eq!(asked(30, 0.0), Some(30 * SECOND));
        assert_eq!(asked(30, 1.0), Some(Duration::from_millis(30_250)));
        assert_eq!(asked(61, 0.0), None, "longer than the longest pause");
        let mut seen: Vec<_> = (0..20)
            .map(|_| length(&|retries| retries.after(&Retry::Transient)))
            .collect();
        seen.dedup();
        assert!(seen.len() > 1, "every pause has jitter: {seen:?}");
    }

    #[tokio::test]
    async fn a_call_is_repeated_until_it_succeeds() {
        let (mut calls, mut attempts) = (0, Vec::new());
        let call = async || {
            calls += 1;
            if calls < 4 {
                Err(Retry::Transient)
            } else {
                Ok(calls)
            }
        };
        let at_once = Backoff::new(Duration::ZERO, Duration::ZERO);
        let report = |_: &Retry, pause: Pause| attempts.push(pause.attempt);
        assert_eq!(at_once.retry(call, report).await, Ok(4));
        assert_eq!(attempts, [1, 2, 3]);
    }

    #[tokio::test]
    async fn a_stop_ends_the_pause_and_not_the_try() {
        let (stop, steps) = (tokio::sync::Notify::new(), std::cell::Cell::new(0));
        let call = async || {
            stop.notify_one();
            // Gives the stop a chance that it must not take.
            tokio::task::yield_now().await;
            steps.set(steps.get() + 1);
            Err::<(), _>(Retry::Transient)
        };
        let hour = 3600 * SECOND;
        let hours = Backoff::new(hour, hour);
        let stopped = hours.retry_until(stop.notified(), call, |_, _| ());
        let result = tokio::time::timeout(30 * SECOND, stopped)
            .await
            .expect("it stops");
        assert_eq!((result, steps.get()), (Err(Retry::Transient), 1));
    }

    #[test]
    fn a_thread_sleeps_in_its_own_way() {
        let (mut calls, mut reports, mut slept) = (0, 0, Vec::new());
        let call = || {
            calls += 1;
            Err::<(), _>(Retry::Transient)
        };
        let sleep = |length| {
            assert!(slept.len() < 3, "no sleep follows the last");
            slept.push(length);
            slept.len() < 3
        };
        let result = BACKOFF.retry_blocking(call, |_, _| reports += 1, sleep);
        assert_eq!((result, calls, reports), (Err(Retry::Transient), 3, 3));
        assert!(slept.is_sorted() && slept[2] >= 3 * SECOND, "{slept:?}");
    }
}
