//! The way of a message to an actor and of its answer back, next to two channels between threads.

use std::sync::Arc;
use std::sync::mpsc::{self, sync_channel};
use std::time::Duration;

use actix::prelude::{Actor, Context, Handler, Message, System};
use anyhow::{Context as _, ensure};
use ftap_supervision::{
    Backoff, Controls, Group, GroupEnd, Handed, Health, Stages, SupervisionContext,
    SupervisionSettings, supervise,
};
use tokio::sync::watch;

use crate::alloc::{Cost, Meter};
use crate::steps::Steps;

const HOPS: u64 = 20_000;

#[derive(Message)]
#[rtype(result = "u64")]
struct Hop(u64);

struct Answerer;

impl Actor for Answerer {
    type Context = Context<Self>;
}

impl Handler<Handed<Hop>> for Answerer {
    type Result = u64;

    fn handle(&mut self, hop: Handed<Hop>, _context: &mut Context<Self>) -> u64 {
        hop.message.0
    }
}

/// A stage that answers, and a loop that asks it one message after the other, as the CSV reader asks the publisher.
struct Hops(mpsc::Sender<Cost>);

impl Group for Hops {
    fn name(&self) -> &'static str {
        "bench"
    }

    fn start(&mut self, stages: &mut Stages) {
        let asker = stages.mailbox::<Answerer>("asker", 4);
        let answerer = stages.mailbox::<Answerer>("answerer", 4);
        let outbox = answerer.outbox::<Hop, _>(&asker);
        stages.spawn(asker, |_| Answerer);
        stages.spawn(answerer, |_| Answerer);
        let (generation, costs) = (stages.generation().clone(), self.0.clone());
        actix::spawn(async move {
            // The first answer says that the stage has started.
            let mut answered = outbox.ask(Hop(0)).await.is_ok();
            let meter = Meter::start();
            for number in 0..HOPS {
                answered &= outbox.ask(Hop(number)).await.is_ok();
            }
            if answered {
                // Fails only if the benchmark has ended.
                let _ = costs.send(meter.stop());
            }
            generation.finish();
        });
    }
}

pub(crate) fn measure(steps: &mut Steps) -> anyhow::Result<()> {
    let name = "messages to an actor and back (two channels)";
    steps.compare(name, (HOPS as usize, 0), |_| actors(), |_| channels())
}

fn actors() -> anyhow::Result<Cost> {
    let (costs, cost) = mpsc::channel();
    let (_stop, shutdown) = watch::channel(false);
    let context = SupervisionContext {
        settings: SupervisionSettings {
            stall_timeout: Duration::from_secs(60),
            stop_deadline: Duration::from_secs(8),
            backoff: Backoff::new(Duration::from_secs(1), Duration::from_secs(60)),
            max_restarts: 0,
            restart_window: Duration::from_secs(60),
        },
        health: Arc::new(Health::default()),
        controls: Controls::default(),
        shutdown,
    };
    let end = System::new().block_on(supervise(Hops(costs), context));
    ensure!(
        matches!(end, GroupEnd::Finished),
        "the actors ended by {end:?}"
    );
    cost.try_recv().context("a message had no answer")
}

fn channels() -> anyhow::Result<Cost> {
    let (to, messages) = sync_channel::<u64>(1);
    let (answer, answers) = sync_channel::<u64>(1);
    let answerer = std::thread::spawn(move || {
        messages
            .iter()
            .take_while(|message| answer.send(*message).is_ok())
            .count()
    });
    let meter = Meter::start();
    for number in 0..HOPS {
        to.send(number).context("the other thread has ended")?;
        answers.recv().context("the other thread has ended")?;
    }
    let cost = meter.stop();
    drop(to);
    let answered = answerer.join().ok();
    ensure!(
        answered == Some(HOPS as usize),
        "{answered:?} messages were answered"
    );
    Ok(cost)
}
