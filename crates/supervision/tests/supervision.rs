//! Supervision with small actors that fail in every way there is.
#![allow(clippy::unwrap_used)]

use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use actix::prelude::*;
use ftap_supervision::{
    Backoff, Command, Controls, Entry, Failure, FailureKind, Group, GroupEnd, GroupState, Handed,
    Health, Retry, Stage, Stages, SupervisionContext, SupervisionSettings, supervise,
};
use ftap_telemetry::metrics;
use tokio::sync::watch;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Misdeed {
    Panic,
    PanicInThread,
    Error,
    HopelessError,
    Hang,
    StopUnasked,
    None,
}

/// A domain's kinds of failure.
enum Misfortune {
    Passing,
    Lasting,
}

impl FailureKind for Misfortune {
    fn entry(self) -> Entry {
        let (name, retry) = match self {
            Self::Passing => ("passing", Retry::Transient),
            Self::Lasting => ("lasting", Retry::Permanent),
        };
        Entry {
            name,
            domain: "test",
            retry,
            remedy: "use another KAFKA_TOPIC",
        }
    }
}

#[derive(Message)]
#[rtype(result = "()")]
struct Job;

struct Worker {
    stage: Stage,
    misdeed: Misdeed,
    effects: Arc<Mutex<Vec<u64>>>,
    release: Arc<AtomicBool>,
}

impl Actor for Worker {
    type Context = Context<Self>;
}

impl Handler<Handed<Job>> for Worker {
    type Result = ();

    fn handle(&mut self, _job: Handed<Job>, context: &mut Context<Self>) {
        match self.misdeed {
            Misdeed::Panic => panic!("worker broke"),
            Misdeed::PanicInThread => {
                self.stage
                    .spawn_thread("worker-thread", || panic!("thread broke"));
                return;
            }
            Misdeed::Error => self
                .stage
                .fail(Failure::new(Misfortune::Passing, "no broker")),
            Misdeed::HopelessError => {
                self.stage
                    .fail(Failure::new(Misfortune::Lasting, "another file"));
            }
            Misdeed::Hang => {
                while !self.release.load(SeqCst) {
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
            Misdeed::StopUnasked => context.stop(),
            Misdeed::None => {}
        }
        // The effect outside the process, behind the fence as everywhere.
        if !self.stage.is_fenced() && self.misdeed == Misdeed::None {
            self.effects
                .lock()
                .unwrap()
                .push(self.stage.generation().number());
            self.stage.generation().finish();
        } else if self.misdeed == Misdeed::Hang && !self.stage.is_fenced() {
            self.effects.lock().unwrap().push(u64::MAX);
        }
    }
}

/// Misbehaves in its first `bad_generations`, then works once and finishes.
struct TestGroup {
    misdeed: Misdeed,
    bad_generations: u64,
    effects: Arc<Mutex<Vec<u64>>>,
    release: Arc<AtomicBool>,
    starts: Arc<AtomicU64>,
}

impl TestGroup {
    fn new(misdeed: Misdeed, bad_generations: u64) -> Self {
        Self {
            misdeed,
            bad_generations,
            effects: Arc::default(),
            release: Arc::default(),
            starts: Arc::default(),
        }
    }
}

impl Group for TestGroup {
    fn name(&self) -> &'static str {
        "test"
    }

    fn start(&mut self, stages: &mut Stages) {
        self.starts.fetch_add(1, SeqCst);
        let misdeed = if stages.generation().number() <= self.bad_generations {
            self.misdeed
        } else {
            Misdeed::None
        };
        let bystander = stages.mailbox::<Worker>("bystander", 4);
        let worker = stages.mailbox::<Worker>("worker", 4);
        let to_worker = worker.outbox(&bystander);
        let (effects, release) = (self.effects.clone(), self.release.clone());
        stages.spawn(bystander, move |stage| Worker {
            stage,
            misdeed: Misdeed::None,
            effects,
            release,
        });
        let (effects, release) = (self.effects.clone(), self.release.clone());
        stages.spawn(worker, move |stage| Worker {
            stage,
            misdeed,
            effects,
            release,
        });
        to_worker.hand(Job);
    }
}

fn quick(misdeed: Misdeed) -> SupervisionSettings {
    SupervisionSettings {
        // A panic with its backtrace takes a busy machine longer than a hang here may.
        stall_timeout: if misdeed == Misdeed::Hang {
            Duration::from_millis(200)
        } else {
            Duration::from_secs(60)
        },
        stop_deadline: Duration::from_millis(300),
        backoff: Backoff::new(Duration::from_millis(10), Duration::from_millis(40)),
        max_restarts: 5,
        restart_window: Duration::from_secs(60),
    }
}

struct Run {
    end: GroupEnd,
    health: Arc<Health>,
}

fn run(group: TestGroup) -> Run {
    let health = Arc::new(Health::default());
    let (_stop, shutdown) = watch::channel(false);
    let context = SupervisionContext {
        settings: quick(group.misdeed),
        health: health.clone(),
        controls: Controls::default(),
        shutdown,
    };
    let end = System::new().block_on(supervise(group, context));
    Run { end, health }
}

#[test]
fn a_panic_an_error_a_stop_and_a_panicking_thread_each_lead_to_one_restart_of_the_group() {
    let cases = [
        (Misdeed::Panic, "worker: panic: worker broke"),
        (Misdeed::PanicInThread, "worker: panic: thread broke"),
        (Misdeed::Error, "worker: no broker"),
        (Misdeed::StopUnasked, "worker: stopped without being asked"),
    ];
    for (misdeed, root_cause) in cases {
        let restarts = metrics::RESTARTS.total();
        let group = TestGroup::new(misdeed, 1);
        let effects = group.effects.clone();
        let run = run(group);
        assert!(
            matches!(run.end, GroupEnd::Finished),
            "{misdeed:?}: {:?}",
            run.end
        );
        assert_eq!(
            *effects.lock().unwrap(),
            [2],
            "{misdeed:?}: only generation 2 worked"
        );
        // Other tests of this process restart groups at the same time.
        assert!(metrics::RESTARTS.total() > restarts, "{misdeed:?}");
        let health = &run.health.snapshot()["test"];
        assert_eq!((health.state, health.generation), (GroupState::Finished, 2));
        assert_eq!(
            health.last_failure.as_deref(),
            Some(root_cause),
            "{misdeed:?}"
        );
    }
}

#[test]
fn a_stage_that_hangs_is_replaced_and_does_no_harm_when_it_wakes() {
    let group = TestGroup::new(Misdeed::Hang, 1);
    let (effects, release) = (group.effects.clone(), group.release.clone());
    let run = run(group);
    assert!(matches!(run.end, GroupEnd::Finished));
    let failure = run.health.snapshot()["test"].last_failure.clone().unwrap();
    assert!(failure.starts_with("worker: stuck"), "{failure}");
    // The zombie wakes behind its fence.
    release.store(true, SeqCst);
    let until = Instant::now() + Duration::from_millis(200);
    while Instant::now() < until {
        assert_eq!(*effects.lock().unwrap(), [2], "the zombie acted");
        std::thread::yield_now();
    }
}

#[test]
fn an_error_that_no_retry_can_fix_stops_at_once_with_a_remedy() {
    let group = TestGroup::new(Misdeed::HopelessError, u64::MAX);
    let starts = group.starts.clone();
    let run = run(group);
    let GroupEnd::GaveUp { root_cause, remedy } = run.end else {
        panic!("{:?}", run.end);
    };
    assert_eq!(root_cause, "worker: another file");
    assert!(remedy.contains("KAFKA_TOPIC"), "{remedy}");
    assert_eq!(starts.load(SeqCst), 1);
}

#[test]
fn a_group_that_keeps_failing_stops_after_its_restarts() {
    let group = TestGroup::new(Misdeed::Panic, u64::MAX);
    let starts = group.starts.clone();
    let run = run(group);
    assert!(matches!(run.end, GroupEnd::GaveUp { .. }), "{:?}", run.end);
    assert_eq!(starts.load(SeqCst), 6, "the first start and five restarts");
    assert_eq!(run.health.snapshot()["test"].state, GroupState::GaveUp);
}

#[test]
fn a_failing_group_takes_no_other_group_down() {
    let failing = TestGroup::new(Misdeed::Panic, u64::MAX);
    let healthy = TestGroup::new(Misdeed::None, 0);
    let effects = healthy.effects.clone();
    let (_stop, shutdown) = watch::channel(false);
    let context = SupervisionContext {
        settings: quick(Misdeed::None),
        health: Arc::default(),
        controls: Controls::default(),
        shutdown,
    };
    let (bad, good) = System::new().block_on(async {
        futures::future::join(
            supervise(failing, context.clone()),
            supervise(healthy, context.clone()),
        )
        .await
    });
    assert!(matches!(bad, GroupEnd::GaveUp { .. }));
    assert!(matches!(good, GroupEnd::Finished));
    assert_eq!(
        *effects.lock().unwrap(),
        [1],
        "the healthy group ran once, undisturbed"
    );
}

#[test]
fn a_stop_during_the_pause_before_a_restart_is_obeyed() {
    let group = TestGroup::new(Misdeed::Panic, u64::MAX);
    let (stop, shutdown) = watch::channel(false);
    let context = SupervisionContext {
        settings: SupervisionSettings {
            backoff: Backoff::new(Duration::from_secs(3600), Duration::from_secs(3600)),
            ..quick(Misdeed::None)
        },
        health: Arc::default(),
        controls: Controls::default(),
        shutdown,
    };
    let health = context.health.clone();
    let end = System::new().block_on(async {
        let watcher = async {
            while health.snapshot().get("test").map(|group| group.state)
                != Some(GroupState::BackingOff)
            {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            stop.send_replace(true);
        };
        futures::future::join(supervise(group, context), watcher)
            .await
            .0
    });
    assert!(matches!(end, GroupEnd::Stopped), "{end:?}");
}

#[test]
fn a_restart_that_is_asked_for_starts_the_next_generation_and_is_not_held_against_the_group() {
    let group = TestGroup::new(Misdeed::Hang, u64::MAX);
    let (starts, release) = (group.starts.clone(), group.release.clone());
    let (stop, shutdown) = watch::channel(false);
    let context = SupervisionContext {
        settings: SupervisionSettings {
            max_restarts: 0,
            ..quick(Misdeed::None)
        },
        health: Arc::default(),
        controls: Controls::default(),
        shutdown,
    };
    let (health, controls) = (context.health.clone(), context.controls.clone());
    let before = metrics::RESTARTS.total();
    let end = System::new().block_on(async {
        let started = async |wanted| {
            let end = Instant::now() + Duration::from_secs(60);
            while starts.load(SeqCst) < wanted {
                assert!(Instant::now() < end, "generation {wanted} does not start");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let asking = async {
            for generation in 1..=3 {
                started(generation).await;
                controls.ask("test", Command::Restart).unwrap();
            }
            started(4).await;
            stop.send_replace(true);
        };
        futures::future::join(supervise(group, context), asking)
            .await
            .0
    });
    release.store(true, SeqCst);
    assert!(matches!(end, GroupEnd::StopUnfinished), "{end:?}");
    assert!(metrics::RESTARTS.total() >= before + 3);
    assert_eq!(health.snapshot()["test"].last_failure, None);
}
