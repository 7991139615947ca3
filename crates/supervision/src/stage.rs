//! One stage: an actor on an arbiter of its own, seen whole.
//!
//! `actix::spawn(context.into_future(actor))` gives a join handle, and that
//! tells a panic from a stop. An actor's own threads (Kafka's blocking
//! clients) report the same way through [`Stage::spawn_thread`].

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use actix::dev::channel;
use actix::{Actor, Addr, Arbiter, Context, Handler, Message};
use ftap_telemetry::events::{Speaker, StageName};

use super::failure::{Failure, Internal};
use super::generation::{FaultCause, Generation};
use super::graph::Way;
use super::outbox::{Handed, Outbox};
use super::progress::Progress;

/// What an actor knows about itself as a stage.
#[derive(Clone, Debug)]
pub struct Stage {
    name: StageName,
    generation: Generation,
    progress: Arc<Progress>,
}

impl Stage {
    pub fn generation(&self) -> &Generation {
        &self.generation
    }

    /// Its work and steps.
    pub fn progress(&self) -> &Arc<Progress> {
        &self.progress
    }

    /// Who it is in the log.
    pub fn speaker(&self) -> Speaker {
        Speaker::new(self.name, self.generation.number())
    }

    /// Whether the stage's generation is over: do nothing more.
    pub fn is_fenced(&self) -> bool {
        self.generation.is_fenced()
    }

    /// Ends the generation with an error of this stage.
    pub fn fail(&self, error: Failure) {
        self.generation.fail(self.name, FaultCause::Failed(error));
    }

    /// Runs blocking code on a thread that belongs to the stage: its panic or
    /// error is the stage's, and the supervisor joins it.
    pub fn spawn_thread<F>(&self, name: &str, body: F)
    where
        F: FnOnce() -> Result<(), Failure> + Send + 'static,
    {
        let stage = self.clone();
        let spawned = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || match catch_unwind(AssertUnwindSafe(body)) {
                Ok(Ok(())) => {}
                Ok(Err(error)) => stage.fail(error),
                Err(panic) => stage
                    .generation
                    .fail(stage.name, FaultCause::Panicked(panic_text(panic.as_ref()))),
            });
        match spawned {
            Ok(thread) => self.generation.add_thread(self.name, thread),
            Err(error) => self.fail(
                Failure::new(Internal::Bug, format!("can't start thread {name}")).caused_by(error),
            ),
        }
    }
}

/// The mailbox of a stage that is not spawned yet: stages get outboxes to each other before any
/// of them runs.
pub struct Mailbox<A: Actor> {
    address: Addr<A>,
    receiver: channel::AddressReceiver<A>,
    stage: Stage,
}

impl<A: Actor<Context = Context<A>>> Mailbox<A> {
    /// The way to this stage from the one of `sender`.
    pub fn outbox<M, S>(&self, sender: &Mailbox<S>) -> Outbox<M>
    where
        A: Handler<Handed<M>>,
        S: Actor,
        M: Message + Send + 'static,
        M::Result: Send,
    {
        let way = Way::of_messages::<M>(sender.stage.name, self.stage.name);
        self.stage.generation.add_way(way);
        let recipient = self.address.clone().recipient();
        Outbox::new(recipient, self.stage.progress.clone())
    }

    /// Names a place outside of the group that the stage reads from.
    pub fn reads(&self, place: &'static str) {
        let (from, to, message) = (place, self.stage.name.kind(), "");
        let way = Way { from, to, message };
        self.stage.generation.add_way(way);
    }

    /// Names a place outside of the group that the stage writes to.
    pub fn writes(&self, place: &'static str) {
        let (from, to, message) = (self.stage.name.kind(), place, "");
        let way = Way { from, to, message };
        self.stage.generation.add_way(way);
    }
}

/// Builds the stages of one generation.
pub struct Stages {
    generation: Generation,
    /// An actor without addresses stops; these keep each one until its generation ends.
    addresses: Vec<Box<dyn Any + Send>>,
    running: Vec<(StageName, Arbiter)>,
}

impl Stages {
    /// No stages yet.
    pub fn new(generation: Generation) -> Self {
        Self {
            generation,
            addresses: Vec::new(),
            running: Vec::new(),
        }
    }

    /// The generation they belong to.
    pub fn generation(&self) -> &Generation {
        &self.generation
    }

    /// Makes the mailbox of a stage. `capacity` only bounds what [`Outbox::offer`] may queue.
    pub fn mailbox<A: Actor>(&mut self, name: impl Into<StageName>, capacity: usize) -> Mailbox<A> {
        let name = name.into();
        let (sender, receiver) = channel::channel(capacity);
        let stage = Stage {
            name,
            generation: self.generation.clone(),
            progress: Arc::new(Progress::default()),
        };
        self.generation.add_progress(name, stage.progress.clone());
        let address = Addr::new(sender);
        self.addresses.push(Box::new(address.clone()));
        Mailbox {
            address,
            receiver,
            stage,
        }
    }

    /// Runs a stage on an arbiter of its own.
    pub fn spawn<A, F>(&mut self, mailbox: Mailbox<A>, make: F)
    where
        A: Actor<Context = Context<A>>,
        F: FnOnce(Stage) -> A + Send + 'static,
    {
        let Mailbox {
            address: _,
            receiver,
            stage,
        } = mailbox;
        let arbiter = Arbiter::new();
        let name = stage.name;
        let body = move || {
            actix::spawn(stage.progress.clone().beat());
            actix::spawn(async move {
                let of_actor = stage.clone();
                let run = actix::spawn(async move {
                    let actor = make(of_actor);
                    Context::with_receiver(receiver).into_future(actor).await;
                });
                let cause = match run.await {
                    Err(error) if error.is_panic() => {
                        FaultCause::Panicked(panic_text(error.into_panic().as_ref()))
                    }
                    // Stages live as long as their generation; an error was noted before the stop.
                    Ok(()) | Err(_) => FaultCause::Exited,
                };
                if !stage.is_fenced() {
                    stage.generation.fail(stage.name, cause);
                }
            });
        };
        if !arbiter.spawn_fn(body) {
            self.generation.fail(name, FaultCause::Exited);
        }
        self.running.push((name, arbiter));
    }

    /// Names of the running stages.
    pub fn names(&self) -> impl Iterator<Item = StageName> {
        self.running.iter().map(|(name, _)| *name)
    }

    pub(super) fn into_arbiters(self) -> Vec<(StageName, Arbiter)> {
        self.running
    }
}

pub fn panic_text(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "panic without a text".to_owned())
}
