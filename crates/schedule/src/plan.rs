//! The rules of one job's ticks, without a clock: pure, so that every case can be tried.

use chrono::{DateTime, Utc};

use super::{JobTick, Schedule, TickCause};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    Nothing,
    /// Run; `missed` earlier ticks passed unseen and are covered by this run.
    Run {
        /// Which run.
        tick: JobTick,
        /// At most [`MOST_MISSED_COUNTED`].
        missed: u64,
    },
    /// It is time, and the run before is not over: this tick is passed over.
    StillRunning {
        tick: JobTick,
    },
}

/// Counting further would take long after a clock was set forward by years.
pub(crate) const MOST_MISSED_COUNTED: u64 = 1_000;

/// What one job has run and when it is due.
#[derive(Clone, Debug)]
pub struct JobPlan {
    schedule: Schedule,
    /// Newest tick that was run or passed over; `None` before the start.
    seen: Option<DateTime<Utc>>,
    running: bool,
}

impl JobPlan {
    /// A job that is due at once, since it runs at start, too.
    pub fn new(schedule: Schedule) -> Self {
        Self {
            schedule,
            seen: None,
            running: false,
        }
    }

    /// What is due now. A run is taken as started until [`Self::finished`].
    pub fn due(&mut self, now: DateTime<Utc>) -> Due {
        let newest = self.schedule.newest_until(now);
        let Some(seen) = self.seen else {
            // A schedule whose first time is still to come starts with now.
            let scheduled = newest.unwrap_or(now);
            self.seen = Some(scheduled);
            self.running = true;
            return Due::Run {
                tick: JobTick {
                    scheduled,
                    cause: TickCause::Start,
                },
                missed: 0,
            };
        };
        let Some(newest) = newest else {
            return Due::Nothing;
        };
        if newest < seen {
            // The clock was set back. Ticks repeat as it advances; a job that has run for
            // one of them already knows it by its time.
            self.seen = Some(newest);
        }
        if newest <= seen {
            return Due::Nothing;
        }
        let tick = JobTick {
            scheduled: newest,
            cause: TickCause::Schedule,
        };
        let missed = self.missed(seen, newest);
        self.seen = Some(newest);
        if self.running {
            return Due::StillRunning { tick };
        }
        self.running = true;
        Due::Run { tick, missed }
    }

    fn missed(&self, seen: DateTime<Utc>, newest: DateTime<Utc>) -> u64 {
        let mut missed = 0;
        let mut at = seen;
        while let Some(next) = self.schedule.next_after(at)
            && next < newest
            && missed < MOST_MISSED_COUNTED
        {
            missed += 1;
            at = next;
        }
        missed
    }

    /// The run that was due is over.
    pub fn finished(&mut self) {
        self.running = false;
    }

    /// When to look again at the latest.
    pub fn next(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.schedule.next_after(now)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn at(time: &str) -> DateTime<Utc> {
        format!("2026-01-01T{time}Z").parse().unwrap()
    }

    fn plan() -> JobPlan {
        JobPlan::new("*/5 * * * *".parse().unwrap())
    }

    fn run(scheduled: &str, missed: u64) -> Due {
        let tick = JobTick {
            scheduled: at(scheduled),
            cause: TickCause::Schedule,
        };
        Due::Run { tick, missed }
    }

    #[test]
    fn a_job_runs_once_at_start_and_then_by_its_schedule() {
        let mut plan = plan();
        let start = JobTick {
            scheduled: at("00:00:00"),
            cause: TickCause::Start,
        };
        let due = plan.due(at("00:02:00"));
        assert_eq!(
            due,
            Due::Run {
                tick: start,
                missed: 0
            }
        );
        plan.finished();
        assert_eq!(plan.due(at("00:04:59")), Due::Nothing);
        assert_eq!(plan.due(at("00:05:00")), run("00:05:00", 0));
        plan.finished();
        assert_eq!(plan.due(at("00:05:01")), Due::Nothing);
    }

    #[test]
    fn ticks_missed_in_a_sleep_make_one_run() {
        let mut plan = plan();
        plan.due(at("00:02:00"));
        plan.finished();
        assert_eq!(plan.due(at("03:12:00")), run("03:10:00", 37));
        plan.finished();
        assert_eq!(plan.due(at("03:14:00")), Due::Nothing);
    }

    #[test]
    fn a_job_that_still_runs_is_not_started_again() {
        let mut plan = plan();
        plan.due(at("00:02:00"));
        let late = plan.due(at("00:05:30"));
        assert!(matches!(late, Due::StillRunning { tick } if tick.scheduled == at("00:05:00")));
        assert_eq!(plan.due(at("00:06:00")), Due::Nothing);
        plan.finished();
        assert_eq!(plan.due(at("00:07:00")), Due::Nothing);
        assert_eq!(plan.due(at("00:10:00")), run("00:10:00", 0));
    }

    #[test]
    fn a_clock_that_is_set_back_continues_from_there_with_the_same_identities() {
        let mut plan = plan();
        plan.due(at("12:02:00"));
        plan.finished();
        assert_eq!(plan.due(at("10:01:00")), Due::Nothing);
        assert_eq!(plan.due(at("10:05:00")), run("10:05:00", 0));
    }

    #[test]
    fn a_clock_that_jumps_by_years_is_counted_up_to_a_limit() {
        let mut plan = JobPlan::new("* * * * * *".parse().unwrap());
        plan.due(at("00:00:00"));
        plan.finished();
        let later = "2031-01-01T00:00:00Z".parse().unwrap();
        let due = plan.due(later);
        assert!(
            matches!(
                due,
                Due::Run {
                    missed: MOST_MISSED_COUNTED,
                    ..
                }
            ),
            "{due:?}"
        );
    }
}
