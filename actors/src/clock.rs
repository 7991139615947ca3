//! Ticks at fixed intervals, and the reporter that turns them into the
//! `throughput` event.

use std::time::{Duration, Instant};

use actix::prelude::*;
use ftap_supervision::Stage;
use ftap_telemetry::events::Throughput;
use ftap_telemetry::metrics::Snapshot;

use crate::messages::Tick;

/// Who wants ticks, and how often.
pub struct Subscription {
    /// Time between two ticks.
    pub interval: Duration,
    /// Where to.
    pub listener: Recipient<Tick>,
}

/// The actor. A listener that has not taken its last tick gets no further one:
/// ticks are never queued up.
pub struct Clock {
    subscriptions: Vec<Subscription>,
}

impl Clock {
    /// Ticks for these.
    pub fn new(subscriptions: Vec<Subscription>) -> Self {
        Self { subscriptions }
    }
}

impl Actor for Clock {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Context<Self>) {
        for subscription in &self.subscriptions {
            let listener = subscription.listener.clone();
            let mut count = 0;
            context.run_interval(subscription.interval, move |_, _| {
                count += 1;
                // `try_send` refuses when the mailbox is full; a missed tick is no loss.
                let _ = listener.try_send(Tick { count });
            });
        }
    }
}

/// Says how fast rows move, while they do.
pub struct Reporter {
    stage: Stage,
    last: (Instant, Snapshot),
}

impl Reporter {
    /// Reports from now on.
    pub fn new(stage: Stage) -> Self {
        let last = (Instant::now(), Snapshot::now());
        Self { stage, last }
    }
}

impl Actor for Reporter {
    type Context = Context<Self>;
}

impl Handler<Tick> for Reporter {
    type Result = ();

    fn handle(&mut self, _: Tick, _: &mut Context<Self>) {
        let (now, figures) = (Instant::now(), Snapshot::now());
        let (then, before) = std::mem::replace(&mut self.last, (now, figures));
        let seconds = now.duration_since(then).as_secs_f64();
        let rate = |now: u64, before: u64| (now - before) as f64 / seconds.max(f64::EPSILON);
        let published_per_second = rate(figures.rows_published, before.rows_published);
        let committed_per_second = rate(figures.rows_committed, before.rows_committed);
        if published_per_second > 0.0
            || committed_per_second > 0.0
            || figures.lag_records.is_some_and(|lag| lag > 0)
        {
            Throughput {
                published_per_second,
                committed_per_second,
                lag_records: figures.lag_records,
            }
            .emit(self.stage.speaker());
        }
    }
}
