//! Starts a group's generations until it finishes, is stopped or fails for good.

use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::Arbiter;
use ftap_telemetry::events::{
    GroupFinished, GroupGaveUp, GroupRestarting, GroupStarted, Speaker, StageAbandoned, StageFailed,
};
use ftap_telemetry::metrics;
use tokio::sync::watch;

use super::control::Asked;
use super::generation::{Fault, FaultCause, Generation};
use super::progress::StallWatch;
use super::restarts::RestartHistory;
use super::stage::Stages;
use crate::{Command, Controls, GroupState, Health, SupervisionSettings};

/// Stages that start and fall together.
pub trait Group {
    /// Its name in logs and on the dashboard.
    fn name(&self) -> &'static str;

    /// Whether its stages have something to finish when a stop is asked for; they
    /// then end by `Generation::finish`.
    fn finishes_before_stop(&self) -> bool {
        true
    }

    /// What a person may ask of it; one that can be paused can be resumed.
    fn takes(&self) -> &'static [Command] {
        &[Command::Restart]
    }

    /// Makes mailboxes, wires and spawns the stages of one generation.
    fn start(&mut self, stages: &mut Stages);
}

#[derive(Clone, Debug)]
pub enum GroupEnd {
    /// It did all it had to do.
    Finished,
    /// It was asked to stop, and finished what it had.
    Stopped,
    /// It was asked to stop and did not finish in time, or failed over it. What was
    /// not finished is done again by the next start.
    StopUnfinished,
    /// No restart can help, or too many did not.
    GaveUp {
        /// Stage, cause and message of the first fault.
        root_cause: String,
        remedy: &'static str,
    },
}

/// What supervision shares with the rest of the process.
#[derive(Clone)]
pub struct SupervisionContext {
    /// When it acts.
    pub settings: SupervisionSettings,
    /// Shows what groups are doing.
    pub health: Arc<Health>,
    /// Has them do what people ask for.
    pub controls: Controls,
    /// Turns true when the group is to finish what it has and end.
    pub shutdown: watch::Receiver<bool>,
}

/// Longest wait for stages to notice their fence after a stop.
const STOP_GRACE: Duration = Duration::from_secs(1);

enum Verdict {
    Finished,
    Stopped(GroupEnd),
    Failed(Fault),
    RestartAsked,
}

/// The label of restarts that a person asked for, of which no stage is the cause.
const ASKED: [&str; 2] = ["supervisor", "asked"];

/// Runs a group to its end. Call it inside an `actix::System`.
pub async fn supervise<G: Group>(mut group: G, mut context: SupervisionContext) -> GroupEnd {
    let name = group.name();
    let registered = context.controls.register(name, group.takes());
    let control = &registered.0;
    metrics::RESTARTS.expect_for(ASKED);
    let mut history = RestartHistory::new(&context.settings);
    let mut number = 0;
    loop {
        if *context.shutdown.borrow() {
            return stopped(name, &context, number, GroupEnd::Stopped);
        }
        number += 1;
        context.health.set(name, GroupState::Starting, number);
        let mut restarts = control.restarts();
        let generation = Generation::new(number, control.clone());
        let mut stages = Stages::new(generation.clone());
        group.start(&mut stages);
        context.health.set_wired(name, generation.wired());
        for stage in stages.names() {
            for cause in FaultCause::NAMES {
                metrics::RESTARTS.expect_for([&stage.to_string(), cause]);
            }
        }
        let speaker = Speaker::new("supervisor", number);
        GroupStarted {
            group: name.to_owned(),
            stages: stages.names().map(|name| name.to_string()).collect(),
        }
        .emit(speaker);
        let shutdown = context.shutdown.clone();
        let verdict = tokio::select! {
            verdict = watch_generation(name, &generation, &mut context, &mut restarts) => verdict,
            () = stop_at_once(&group, shutdown) => Verdict::Stopped(GroupEnd::Stopped),
        };
        generation.fence();
        // What did not finish within the deadline of a stop gets a moment to notice its
        // fence, not a second deadline: the process is to end.
        let limit = match verdict {
            Verdict::Stopped(_) => context.settings.stop_deadline.min(STOP_GRACE),
            Verdict::Finished | Verdict::Failed(_) | Verdict::RestartAsked => {
                context.settings.stop_deadline
            }
        };
        tear_down(name, stages, &generation, limit, speaker).await;
        // What they had goes with them.
        for (stage, _) in generation.progress() {
            metrics::MAILBOX_DEPTH.set_for([&stage.to_string()], 0.0);
        }

        let fault = match verdict {
            Verdict::Finished => {
                GroupFinished {
                    group: name.to_owned(),
                }
                .emit(speaker);
                context.health.set(name, GroupState::Finished, number);
                return GroupEnd::Finished;
            }
            Verdict::Stopped(end) => return stopped(name, &context, number, end),
            Verdict::RestartAsked => {
                metrics::RESTARTS.add_for(ASKED, 1);
                continue;
            }
            Verdict::Failed(fault) => fault,
        };
        report(name, &fault, speaker);
        context.health.failed(name, number, fault.to_string());
        let entry = fault.cause.entry();
        match history.after_fault(tokio::time::Instant::now(), entry.retry, rand::random()) {
            None => {
                let (root_cause, remedy) = (fault.to_string(), entry.remedy);
                GroupGaveUp {
                    group: name.to_owned(),
                    restarts: number - 1,
                    root_cause: root_cause.clone(),
                    remedy: remedy.to_owned(),
                }
                .emit(speaker);
                context.health.set(name, GroupState::GaveUp, number);
                return GroupEnd::GaveUp { root_cause, remedy };
            }
            Some(pause) => {
                metrics::RESTARTS.add_for([&fault.stage.to_string(), fault.cause.as_str()], 1);
                GroupRestarting {
                    group: name.to_owned(),
                    restarts: history.recent() as u64,
                    backoff_ms: pause.ms(),
                    root_cause: fault.to_string(),
                }
                .emit(speaker);
                tokio::select! {
                    () = tokio::time::sleep(pause.length) => {}
                    () = restarts.next() => {}
                    _ = context.shutdown.wait_for(|stop| *stop) => {}
                }
            }
        }
    }
}

async fn stop_at_once<G: Group>(group: &G, mut shutdown: watch::Receiver<bool>) {
    if group.finishes_before_stop() {
        return std::future::pending().await;
    }
    // A dropped sender means that the process ends: as good as a request.
    let _ = shutdown.wait_for(|stop| *stop).await;
}

fn stopped(
    name: &'static str,
    context: &SupervisionContext,
    number: u64,
    end: GroupEnd,
) -> GroupEnd {
    context.health.set(name, GroupState::Finished, number);
    end
}

/// Waits for the end of a generation: its finish, its first fault (a stall is
/// one), a restart that was asked for, or a stop that was and either completed or ran out of time.
async fn watch_generation(
    name: &'static str,
    generation: &Generation,
    context: &mut SupervisionContext,
    restarts: &mut Asked,
) -> Verdict {
    let settings = context.settings;
    let mut watches: Vec<_> = generation
        .progress()
        .into_iter()
        .map(|(stage, progress)| {
            (
                stage,
                progress.clone(),
                StallWatch::new(progress, Instant::now()),
            )
        })
        .collect();
    let mut ticks =
        tokio::time::interval((settings.stall_timeout / 10).max(Duration::from_millis(20)));
    let mut stop_before: Option<tokio::time::Instant> = None;
    let mut pauses = generation.control().pauses();
    let mut is_ready = false;
    loop {
        let deadline = stop_before;
        tokio::select! {
            () = generation.readiness(), if !is_ready => {
                is_ready = true;
                context.health.set(name, running(generation), generation.number());
            }
            () = pauses.next(), if is_ready => {
                context.health.set(name, running(generation), generation.number());
            }
            () = restarts.next(), if deadline.is_none() => return Verdict::RestartAsked,
            fault = generation.ended() => {
                return match (fault, deadline.is_some()) {
                    (Some(fault), false) => Verdict::Failed(fault),
                    (None, false) => Verdict::Finished,
                    (Some(fault), true) => {
                        report(name, &fault, Speaker::new("supervisor", generation.number()));
                        Verdict::Stopped(GroupEnd::StopUnfinished)
                    }
                    (None, true) => Verdict::Stopped(GroupEnd::Stopped),
                };
            }
            _ = context.shutdown.wait_for(|stop| *stop), if deadline.is_none() => {
                generation.request_stop();
                stop_before = Some(tokio::time::Instant::now() + settings.stop_deadline);
            }
            () = tokio::time::sleep_until(deadline.unwrap_or_else(tokio::time::Instant::now)), if deadline.is_some() => {
                return Verdict::Stopped(GroupEnd::StopUnfinished);
            }
            _ = ticks.tick() => {
                for (stage, progress, watch) in &mut watches {
                    metrics::MAILBOX_DEPTH.set_for([&stage.to_string()], progress.pending() as f64);
                    let stalled = watch.stalled_for(Instant::now());
                    if stalled >= settings.stall_timeout {
                        generation.fail(*stage, FaultCause::Stuck(stalled));
                    }
                }
            }
        }
    }
}

fn running(generation: &Generation) -> GroupState {
    if generation.control().is_paused() {
        GroupState::Paused
    } else {
        GroupState::Running
    }
}

/// Stops arbiters and joins threads under one deadline; what does not end is
/// left behind, fenced.
async fn tear_down(
    group: &'static str,
    stages: Stages,
    generation: &Generation,
    limit: Duration,
    speaker: Speaker,
) {
    type Join = Box<dyn FnOnce() + Send>;
    let threads = generation
        .take_threads()
        .into_iter()
        .map(|(stage, thread)| {
            let join: Join = Box::new(move || drop(thread.join()));
            (stage, join)
        });
    let arbiters = stages.into_arbiters().into_iter().map(|(stage, arbiter)| {
        Arbiter::stop(&arbiter);
        let join: Join = Box::new(move || drop(arbiter.join()));
        (stage, join)
    });
    let started = Instant::now();
    let joins: Vec<_> = threads.chain(arbiters).collect();
    let waits = joins.into_iter().map(|(stage, join)| async move {
        let (done, joined) = tokio::sync::oneshot::channel::<()>();
        // A plain thread: a join that never returns must not keep the runtime from ending.
        let spawned = std::thread::Builder::new()
            .name(format!("join-{stage}"))
            .spawn(move || {
                join();
                let _ = done.send(());
            });
        if spawned.is_err() || tokio::time::timeout(limit, joined).await.is_err() {
            StageAbandoned {
                group: group.to_owned(),
                stage: stage.to_string(),
                waited_ms: started.elapsed().as_millis() as u64,
            }
            .emit(speaker);
            return true;
        }
        false
    });
    if futures::future::join_all(waits).await.contains(&true) {
        let generation = generation.clone();
        // Its own thread as well: a hook may block as the stage did.
        let _ = std::thread::Builder::new()
            .name("abandon".to_owned())
            .spawn(move || generation.run_abandon_hooks());
    }
}

fn report(group: &str, fault: &Fault, speaker: Speaker) {
    let entry = fault.cause.entry();
    StageFailed {
        group: group.to_owned(),
        stage: fault.stage.to_string(),
        cause: fault.cause.as_str().to_owned(),
        domain: entry.domain.to_owned(),
        error: fault.to_string(),
        retryable: entry.retry.helps(),
    }
    .emit(speaker);
}
