//! Loads the lake's objects into BigQuery, window by window.
//!
//! Promises what [`bigquery`](ftap_warehouse) promises; a stop is prompt, because a pass may be
//! dropped at any point. BigQuery or a lake that does not answer is retried indefinitely; what
//! only a person can fix ends the actor.

use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::prelude::*;
use ftap_lake::LakeStore;
use ftap_supervision::Stage;
use ftap_warehouse::client::BigQueryClient;
use ftap_warehouse::load::{Depth, Loader};
use ftap_warehouse::{BACKOFF, BigQueryError, BigQuerySettings, report_unavailable};

/// Old folders are looked at this often: a consumer that is behind writes into them.
const FULL_LOOK: Duration = Duration::from_secs(3600);

/// What the loader needs.
#[derive(Clone)]
pub struct LoaderParts {
    /// Where the tables are.
    pub settings: Arc<BigQuerySettings>,
    /// What is loaded.
    pub lake: LakeStore,
}

/// The actor.
pub struct BigQueryLoader {
    stage: Stage,
    parts: LoaderParts,
}

impl BigQueryLoader {
    /// A loader that starts with its context.
    pub fn new(stage: Stage, parts: LoaderParts) -> Self {
        Self { stage, parts }
    }
}

impl Actor for BigQueryLoader {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Context<Self>) {
        let (stage, parts) = (self.stage.clone(), self.parts.clone());
        let task = async move {
            let stop = stage.generation().clone();
            let result = tokio::select! {
                error = run(&stage, parts) => error,
                () = stop.stop_request() => Ok(()),
            };
            match result {
                Ok(()) => stage.generation().finish(),
                Err(error) => stage.fail(error.into()),
            }
        };
        context.spawn(task.into_actor(self));
    }
}

/// Loads until no retry can help.
async fn run(stage: &Stage, parts: LoaderParts) -> Result<(), BigQueryError> {
    let LoaderParts { settings, lake } = parts;
    let client = BigQueryClient::open(&settings).await?;
    let mut loader = Loader::new(Arc::new(client), lake, settings.clone(), stage.speaker());
    let mut full_look: Option<Instant> = None;
    loop {
        let depth = match full_look {
            Some(then) if then.elapsed() < FULL_LOOK => Depth::Recent,
            _ => Depth::Full,
        };
        let pass = async || {
            loader.connect().await?;
            stage.generation().ready();
            loader.pass(depth).await
        };
        let report = report_unavailable(stage.speaker());
        BACKOFF.retry(pass, report).await?;
        if depth == Depth::Full {
            full_look = Some(Instant::now());
        }
        tokio::time::sleep(settings.window).await;
    }
}
