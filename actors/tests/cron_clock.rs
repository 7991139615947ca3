//! The clock of a job, with a job that takes its time, every second.
#![allow(clippy::unwrap_used)]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use actix::prelude::*;
use chrono::{TimeDelta, Utc};
use ftap_actors::cron_clock::CronClock;
use ftap_actors::messages::RunJob;
use ftap_schedule::{JobTick, TickCause};
use ftap_supervision::{
    Controls, Group, GroupEnd, Handed, Health, Stages, SupervisionContext, SupervisionSettings,
    supervise,
};
use tokio::sync::{Semaphore, watch};

const PATIENCE: Duration = Duration::from_secs(30);

/// A job that notes its ticks and runs as long as the test wants.
struct Job {
    ticks: Arc<Mutex<Vec<JobTick>>>,
    /// One permit lets one run end.
    ends: Arc<Semaphore>,
}

impl Actor for Job {
    type Context = Context<Self>;
}

impl Handler<Handed<RunJob>> for Job {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, run: Handed<RunJob>, _: &mut Context<Self>) -> Self::Result {
        let RunJob(tick) = run.message;
        self.ticks.lock().unwrap().push(tick);
        let ends = self.ends.clone();
        Box::pin(async move { ends.acquire().await.unwrap().forget() })
    }
}

struct Both {
    ticks: Arc<Mutex<Vec<JobTick>>>,
    ends: Arc<Semaphore>,
}

impl Group for Both {
    fn name(&self) -> &'static str {
        "both"
    }

    fn finishes_before_stop(&self) -> bool {
        false
    }

    fn start(&mut self, stages: &mut Stages) {
        let job = stages.mailbox::<Job>("job", 4);
        let clock = stages.mailbox::<CronClock>("clock", 4);
        let to_job = job.outbox(&clock);
        let (ticks, ends) = (self.ticks.clone(), self.ends.clone());
        stages.spawn(job, move |_| Job { ticks, ends });
        stages.spawn(clock, move |stage| {
            let schedule = "* * * * * *".parse().unwrap();
            CronClock::new(stage, "job", schedule, to_job)
        });
    }
}

#[test]
fn a_job_runs_at_start_then_by_the_clock_and_never_twice_at_a_time_or_for_a_tick() {
    let started = Utc::now();
    let ticks = Arc::new(Mutex::new(Vec::new()));
    let ends = Arc::new(Semaphore::new(0));
    let both = Both {
        ticks: ticks.clone(),
        ends: ends.clone(),
    };
    let end = System::new().block_on(async move {
        let (stop, shutdown) = watch::channel(false);
        let context = SupervisionContext {
            settings: SupervisionSettings::default(),
            health: Arc::new(Health::default()),
            controls: Controls::default(),
            shutdown,
        };
        let group = actix::spawn(supervise(both, context));
        let seen = || ticks.lock().unwrap().clone();
        let wait_for = async |count: usize| {
            let wait = async {
                while seen().len() < count {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            };
            tokio::time::timeout(PATIENCE, wait).await.expect("a tick");
            seen()[count - 1]
        };

        let first = wait_for(1).await;
        assert_eq!(first.cause, TickCause::Start);
        let newest = started - TimeDelta::seconds(1);
        assert!(first.scheduled > newest, "the newest that has passed");
        // It still runs when its next times come: they are passed over.
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert_eq!(seen().len(), 1);
        ends.add_permits(5);
        wait_for(6).await;
        stop.send_replace(true);
        let runs = seen();
        for (last, next) in runs.iter().zip(&runs[1..]) {
            assert_eq!(next.cause, TickCause::Schedule);
            assert!(next.scheduled > last.scheduled, "{runs:?}");
            assert_eq!(next.scheduled.timestamp_subsec_nanos(), 0, "{runs:?}");
        }
        assert!(runs[1].scheduled >= first.scheduled + TimeDelta::seconds(3));
        group.await.unwrap()
    });
    assert!(matches!(end, GroupEnd::Stopped), "{end:?}");
}
