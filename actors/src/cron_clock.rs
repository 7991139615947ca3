//! Says to one job when to run, by its cron expression.
//!
//! Promises: the job runs at start and then by its schedule; one that still runs is not started
//! again; ticks that passed unnoticed (a suspended machine, a clock set forward) make one run. One
//! clock per job: it waits for the answer to its tick, so a run that takes long delays no other job.
//! Its group restarts without running the job again for a tick that the job has done, because the
//! job knows a tick by its time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use actix::prelude::*;
use chrono::{DateTime, TimeDelta, Utc};
use ftap_schedule::{JobTick, Schedule, TickCause};
use ftap_supervision::{Failure, Internal, Outbox, Stage};
use ftap_telemetry::events::{JobOverrun, JobTicksMissed};
use job_scheduler_ng::{Job, JobScheduler};

use crate::messages::RunJob;

/// How late a jump of the clock is noticed at most.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// The actor.
pub struct CronClock {
    stage: Stage,
    job: &'static str,
    schedule: Schedule,
    scheduler: JobScheduler<'static>,
    /// Set by the scheduler.
    is_due: Arc<AtomicBool>,
    /// Newest tick that was run or passed over; `None` before the start.
    seen: Option<DateTime<Utc>>,
    is_running: bool,
    listener: Outbox<RunJob>,
}

impl CronClock {
    /// Ticks for this job.
    pub fn new(
        stage: Stage,
        job: &'static str,
        schedule: Schedule,
        listener: Outbox<RunJob>,
    ) -> Self {
        let is_due = Arc::new(AtomicBool::new(false));
        let mut due = Job::new(schedule.cron(), {
            let is_due = is_due.clone();
            move || is_due.store(true, Ordering::Relaxed)
        });
        // It is due at once, for the newest time that has passed.
        let newest = schedule.newest_until(Utc::now());
        due.last_tick(newest.map(|newest| (newest - TimeDelta::seconds(1)).fixed_offset()));
        let mut scheduler = JobScheduler::new();
        scheduler.add(due);
        Self {
            stage,
            job,
            schedule,
            scheduler,
            is_due,
            seen: None,
            is_running: false,
            listener,
        }
    }

    /// Does what is due and waits for the next time.
    fn look(&mut self, context: &mut Context<Self>) {
        self.scheduler.tick();
        if self.is_due.swap(false, Ordering::Relaxed) {
            self.tick(context);
        }
        let next = self.scheduler.time_till_next_job().min(LONGEST_WAIT);
        context.run_later(next, Self::look);
    }

    fn tick(&mut self, context: &mut Context<Self>) {
        let Some(scheduled) = self.schedule.newest_until(Utc::now()) else {
            return;
        };
        let tick = JobTick {
            scheduled,
            cause: self.seen.map_or(TickCause::Start, |_| TickCause::Schedule),
        };
        let seen = self.seen.replace(scheduled);
        // The next time came between the scheduler's look and ours.
        if seen == Some(scheduled) {
            return;
        }
        if self.is_running {
            JobOverrun {
                job: self.job.to_owned(),
                tick: tick.id(),
            }
            .emit(self.stage.speaker());
            return;
        }
        let missed = seen.map_or(0, |seen| self.schedule.count_between(seen, scheduled));
        if missed > 0 {
            JobTicksMissed {
                job: self.job.to_owned(),
                missed: missed as u64,
                tick: tick.id(),
            }
            .emit(self.stage.speaker());
        }
        self.run(tick, context);
    }

    fn run(&mut self, tick: JobTick, context: &mut Context<Self>) {
        self.is_running = true;
        let request = self.listener.ask(RunJob(tick));
        context.spawn(request.into_actor(self).map(|answer, clock, _| {
            clock.is_running = false;
            if answer.is_err() {
                clock.stage.fail(Failure::new(
                    Internal::NeighbourGone,
                    format!("the job {} is gone", clock.job),
                ));
            }
        }));
    }
}

impl Actor for CronClock {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Context<Self>) {
        self.look(context);
    }
}
