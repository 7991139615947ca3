//! Logs the `throughput` event at each tick, while rows move.

use std::time::Instant;

use actix::prelude::*;
use ftap_supervision::{Handed, Stage};
use ftap_telemetry::events::Throughput;
use ftap_telemetry::metrics::Snapshot;

use crate::messages::Tick;

/// The actor.
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

impl Handler<Handed<Tick>> for Reporter {
    type Result = ();

    fn handle(&mut self, _: Handed<Tick>, _: &mut Context<Self>) {
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
