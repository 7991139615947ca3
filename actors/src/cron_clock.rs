//! Tells one job when to run, by its cron expression.
//!
//! Promises what [`ftap_schedule`] says. One clock per job: it waits for the answer to its tick, so
//! a run that takes long delays no other job. Its group restarts without running the job again for a
//! tick that the job has done, because the job knows a tick by its time.

use std::sync::Arc;

use actix::prelude::*;
use ftap_schedule::{Due, JobPlan, JobTick, Schedule, TimeSource};
use ftap_supervision::{Failure, Internal, Outbox, Stage};
use ftap_telemetry::events::{JobOverrun, JobTicksMissed};

use crate::messages::RunJob;

/// The actor.
pub struct CronClock {
    stage: Stage,
    job: &'static str,
    plan: JobPlan,
    time: Arc<dyn TimeSource>,
    listener: Outbox<RunJob>,
}

impl CronClock {
    /// Ticks for this job.
    pub fn new(
        stage: Stage,
        job: &'static str,
        schedule: Schedule,
        time: Arc<dyn TimeSource>,
        listener: Outbox<RunJob>,
    ) -> Self {
        Self {
            stage,
            job,
            plan: JobPlan::new(schedule),
            time,
            listener,
        }
    }

    /// Does what is due and waits for the next time.
    fn look(&mut self, context: &mut Context<Self>) {
        let now = self.time.now();
        match self.plan.due(now) {
            Due::Nothing => {}
            Due::StillRunning { tick } => JobOverrun {
                job: self.job.to_owned(),
                tick: tick.id(),
            }
            .emit(self.stage.speaker()),
            Due::Run { tick, missed } => {
                if missed > 0 {
                    JobTicksMissed {
                        job: self.job.to_owned(),
                        missed,
                        tick: tick.id(),
                    }
                    .emit(self.stage.speaker());
                }
                self.run(tick, context);
            }
        }
        // Without a next time it looks again now and then, for a clock that is set back.
        let next = self
            .plan
            .next(now)
            .unwrap_or(now + chrono::TimeDelta::days(1));
        let time = self.time.clone();
        context.spawn(
            async move { time.wait(now, next).await }
                .into_actor(self)
                .map(|(), clock, context| clock.look(context)),
        );
    }

    fn run(&mut self, tick: JobTick, context: &mut Context<Self>) {
        let request = self.listener.ask(RunJob(tick));
        context.spawn(request.into_actor(self).map(|answer, clock, _| {
            clock.plan.finished();
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
