//! Where the lake is: a directory, or the GCS test server with its faults.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use clap::ValueEnum;
use ftap_testing::gcs::{Counts, Fault, Operation, Options, Rule, Server, Times};
use serde::Serialize;
use tokio::runtime::Runtime;

use crate::plan::StoreFault;

const BUCKET: &str = "chaos-lake";
const SLOW: Duration = Duration::from_millis(1_200);
/// When a put that was refused is done all the same.
const LATE: Duration = Duration::from_millis(2_500);

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum StoreKind {
    /// The GCS test server, in this process
    Gcs,
    /// A directory; it has no faults
    Dir,
}

/// What the store was asked, and what it did.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct StoreCounts {
    /// Puts asked for.
    pub puts: u64,
    /// Puts that might have overwritten.
    pub puts_not_create_only: u64,
    /// Objects that a put made.
    pub creates: u64,
    /// Objects that a put replaced.
    pub overwrites: u64,
    /// Puts refused because the object was there.
    pub preconditions_failed: u64,
    /// Everything that was asked.
    pub requests: u64,
    /// Faults given, by kind.
    pub faults: BTreeMap<&'static str, u64>,
}

impl From<Counts> for StoreCounts {
    fn from(counts: Counts) -> Self {
        Self {
            puts: counts.puts,
            puts_not_create_only: counts.puts_not_create_only,
            creates: counts.creates,
            overwrites: counts.overwrites,
            preconditions_failed: counts.preconditions_failed,
            requests: counts.requests(),
            faults: counts.faults,
        }
    }
}

/// See the module.
pub(crate) struct Store {
    dir: PathBuf,
    server: Option<Server>,
}

impl Store {
    /// Under `run_dir`.
    pub(crate) fn start(
        kind: StoreKind,
        run_dir: &Path,
        runtime: &Runtime,
    ) -> anyhow::Result<Self> {
        let dir = run_dir.join("lake");
        let options = Options {
            bucket: BUCKET.to_owned(),
            data_dir: Some(dir.clone()),
            ..Options::default()
        };
        let server = match kind {
            StoreKind::Dir => None,
            StoreKind::Gcs => {
                let started = runtime.block_on(Server::start(options));
                Some(started.context("the GCS test server can't be started")?)
            }
        };
        Ok(Self { dir, server })
    }

    /// Whether it can misbehave.
    pub(crate) fn has_faults(&self) -> bool {
        self.server.is_some()
    }

    /// The directory under which the objects are.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// What tells `ftap` where it is.
    pub(crate) fn settings(&self) -> Vec<(&'static str, String)> {
        match &self.server {
            Some(server) => vec![
                ("GCS_BUCKET_NAME", BUCKET.to_owned()),
                ("GCS_ENDPOINT", server.endpoint().to_owned()),
            ],
            None => vec![("LAKE_DIR", self.dir.display().to_string())],
        }
    }

    /// From now on it misbehaves.
    pub(crate) fn spoil(&self, how: StoreFault, seed: u64) {
        if let Some(server) = &self.server {
            server.set_rules(rules(how, seed));
        }
    }

    /// From now on it works.
    pub(crate) fn stop_faults(&self) {
        if let Some(server) = &self.server {
            server.clear_rules();
        }
    }

    /// What it was asked, if it counts.
    pub(crate) fn counts(&self) -> Option<Counts> {
        self.server.as_ref().map(Server::counts)
    }
}

fn rules(how: StoreFault, seed: u64) -> Vec<Rule> {
    let one_in = |n, offset: u64| Times::OneIn {
        n,
        seed: seed.wrapping_add(offset),
    };
    let (any, put) = (Operation::Any, Operation::Put);
    match how {
        StoreFault::Unavailable => vec![Rule::new(any, Times::Always, Fault::Status(503))],
        StoreFault::UnavailableAfterCommit => {
            vec![Rule::new(put, Times::Always, Fault::CommitThenStatus(503))]
        }
        StoreFault::TooManyRequests => vec![Rule::new(any, one_in(2, 0), Fault::Status(429))],
        StoreFault::Slow => vec![Rule::new(any, Times::Always, Fault::Delay(SLOW))],
        StoreFault::Cut => vec![
            Rule::new(any, one_in(3, 0), Fault::Cut),
            Rule::new(any, one_in(2, 1), Fault::CutBody),
        ],
        StoreFault::CutAfterCommit => vec![Rule::new(put, one_in(2, 0), Fault::CommitThenCut)],
        StoreFault::LateCommit => {
            let late = Fault::LateCommit {
                status: 503,
                after: LATE,
            };
            vec![Rule::new(put, one_in(2, 0), late)]
        }
        StoreFault::TokenExpired => vec![Rule::new(any, one_in(2, 0), Fault::TokenExpired)],
        StoreFault::PreconditionFailed => {
            vec![Rule::new(put, one_in(2, 0), Fault::PreconditionFailed)]
        }
        StoreFault::Mixed => vec![
            Rule::new(any, one_in(4, 0), Fault::Delay(SLOW / 4)),
            Rule::new(put, one_in(6, 1), Fault::CommitThenStatus(503)),
            Rule::new(put, one_in(6, 2), Fault::CommitThenCut),
            Rule::new(put, one_in(6, 3), Fault::PreconditionFailed),
            Rule::new(any, one_in(6, 4), Fault::CutBody),
            Rule::new(any, one_in(6, 5), Fault::Status(503)),
            Rule::new(any, one_in(6, 6), Fault::Status(429)),
            Rule::new(any, one_in(6, 7), Fault::TokenExpired),
            Rule::new(any, one_in(6, 8), Fault::HalfAnswer),
        ],
    }
}
