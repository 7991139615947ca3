//! The clock of a job, with a job that takes its time and a time that the test sets.
#![allow(clippy::unwrap_used)]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use actix::prelude::*;
use chrono::{DateTime, Utc};
use ftap_actors::cron_clock::CronClock;
use ftap_actors::messages::RunJob;
use ftap_schedule::{JobTick, ManualTime, TickCause};
use ftap_supervision::{
    Group, GroupEnd, Handed, Health, Stages, SupervisionContext, SupervisionSettings, supervise,
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
    time: ManualTime,
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
        let to_job = job.outbox();
        let (ticks, ends, time) = (self.ticks.clone(), self.ends.clone(), self.time.clone());
        stages.spawn(job, move |_| Job { ticks, ends });
        stages.spawn(clock, move |stage| {
            let schedule = "*/5 * * * *".parse().unwrap();
            CronClock::new(stage, "job", schedule, Arc::new(time), to_job)
        });
    }
}

fn at(time: &str) -> DateTime<Utc> {
    format!("2026-01-01T{time}Z").parse().unwrap()
}

#[test]
fn a_job_runs_at_start_then_by_the_clock_once_for_many_missed_and_never_twice_at_a_time() {
    let time = ManualTime::new(at("00:02:00"));
    let ticks = Arc::new(Mutex::new(Vec::new()));
    let ends = Arc::new(Semaphore::new(0));
    let both = Both {
        time: time.clone(),
        ticks: ticks.clone(),
        ends: ends.clone(),
    };
    let end = System::new().block_on(async move {
        let (stop, shutdown) = watch::channel(false);
        let context = SupervisionContext {
            settings: SupervisionSettings::default(),
            health: Arc::new(Health::default()),
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
        // Gives the clock time to do what it must not.
        let settle = async || tokio::time::sleep(Duration::from_millis(100)).await;

        let first = wait_for(1).await;
        assert_eq!(
            (first.scheduled, first.cause),
            (at("00:00:00"), TickCause::Start)
        );
        // It still runs when its next time comes: that tick is passed over.
        time.set(at("00:05:01"));
        settle().await;
        assert_eq!(seen().len(), 1);
        ends.add_permits(1);
        settle().await;
        time.set(at("00:09:59"));
        settle().await;
        assert_eq!(seen().len(), 1);
        time.set(at("00:10:00"));
        let second = wait_for(2).await;
        assert_eq!(
            (second.scheduled, second.cause),
            (at("00:10:00"), TickCause::Schedule)
        );
        ends.add_permits(1);
        settle().await;
        // A night's sleep.
        time.set(at("08:13:00"));
        assert_eq!(wait_for(3).await.scheduled, at("08:10:00"));
        ends.add_permits(1);
        settle().await;
        assert_eq!(seen().len(), 3, "one run covers what was missed");
        stop.send_replace(true);
        group.await.unwrap()
    });
    assert!(matches!(end, GroupEnd::Stopped), "{end:?}");
}
