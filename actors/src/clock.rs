//! Ticks at a fixed interval.

use std::time::Duration;

use actix::prelude::*;
use ftap_supervision::Outbox;

use crate::messages::Tick;

/// The actor. Ticks that its listener does not take are dropped: a missed tick loses nothing.
pub struct Clock {
    interval: Duration,
    listener: Outbox<Tick>,
}

impl Clock {
    pub fn new(interval: Duration, listener: Outbox<Tick>) -> Self {
        Self { interval, listener }
    }
}

impl Actor for Clock {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Context<Self>) {
        let mut count = 0;
        context.run_interval(self.interval, move |clock, _| {
            count += 1;
            clock.listener.offer(Tick { count });
        });
    }
}
