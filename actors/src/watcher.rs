//! Looks at one source at each tick and notes what it sees, see [`ftap_watch`].
//!
//! Promises that at most one look is under way, and that none lasts longer than its limit.

use std::sync::Arc;

use actix::prelude::*;
use ftap_supervision::{Handed, Stage};
use ftap_watch::{Look, Watched};
use tokio::sync::Mutex;

use crate::messages::Tick;

/// The actor.
pub struct Watcher<L: Look> {
    stage: Stage,
    look: Arc<Mutex<L>>,
    watched: Arc<Watched>,
    is_looking: bool,
}

impl<L: Look> Watcher<L> {
    /// Looks at its start and at each tick.
    pub fn new(stage: Stage, look: Arc<Mutex<L>>, watched: Arc<Watched>) -> Self {
        Self {
            stage,
            look,
            watched,
            is_looking: false,
        }
    }

    fn look(&mut self, context: &mut Context<Self>) {
        if self.is_looking {
            return;
        }
        self.is_looking = true;
        let look = self.look.clone();
        let (watched, speaker) = (self.watched.clone(), self.stage.speaker());
        let looked = async move {
            let mut look = look.lock().await;
            let looked = match tokio::time::timeout(L::LIMIT, look.look()).await {
                Ok(looked) => looked,
                Err(_) => Err(format!("no answer within {} s", L::LIMIT.as_secs()).into()),
            };
            watched.note(&*look, looked, speaker);
        };
        context.spawn(looked.into_actor(self).map(|(), watcher, _| {
            watcher.is_looking = false;
        }));
    }
}

impl<L: Look> Actor for Watcher<L> {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Context<Self>) {
        self.stage.generation().ready();
        self.look(context);
    }
}

impl<L: Look> Handler<Handed<Tick>> for Watcher<L> {
    type Result = ();

    fn handle(&mut self, _: Handed<Tick>, context: &mut Context<Self>) {
        self.look(context);
    }
}
