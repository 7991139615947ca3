//! Captures the changes of PostgreSQL's tables into the lake; see [`ftap_cdc::capture`].

use actix::prelude::*;
use ftap_cdc::capture::{CaptureParts, run};
use ftap_supervision::Stage;

/// The actor.
pub struct ChangeCapture {
    stage: Stage,
    parts: CaptureParts,
}

impl ChangeCapture {
    /// A capture that starts with its context.
    pub fn new(stage: Stage, parts: CaptureParts) -> Self {
        Self { stage, parts }
    }
}

impl Actor for ChangeCapture {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Context<Self>) {
        let (stage, parts) = (self.stage.clone(), self.parts.clone());
        let task = async move {
            match run(&stage, parts).await {
                Ok(()) => stage.generation().finish(),
                Err(error) => stage.fail(error),
            }
        };
        context.spawn(task.into_actor(self));
    }
}
