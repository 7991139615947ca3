//! The changes of the captured tables: each one that was recorded is in the lake.
//!
//! Promises: a file that is gone, or that repeats another, makes the whole result inexact.

use std::fmt;

use ftap_cdc::audit::{ChainAudit, audit};
use ftap_lake::{LakeError, LakeStore};
use serde_json::{Value, json};

use super::BACKOFF;
use crate::output::count;

/// What was found of the captured tables.
pub(super) struct ChangesReport {
    chains: Vec<ChainAudit>,
}

/// Audits them; `None` if the lake has no changes.
pub(super) async fn compare(store: &LakeStore) -> Result<Option<ChangesReport>, LakeError> {
    let chains = BACKOFF
        .retry(async || audit(store).await, |_, _| {})
        .await?;
    Ok((!chains.is_empty()).then_some(ChangesReport { chains }))
}

impl ChangesReport {
    /// Whether no file is missing or doubled.
    pub(super) fn is_exact(&self) -> bool {
        self.chains.iter().all(|chain| chain.problems.is_empty())
    }

    /// For programs.
    pub(super) fn json(&self) -> Value {
        let chain = |chain: &ChainAudit| {
            let problems = chain.problems.iter().map(ToString::to_string);
            json!({
                "table": chain.table,
                "epoch": chain.epoch,
                "files": chain.files,
                "rows": chain.rows,
                "end": chain.end.to_string(),
                "problems": problems.collect::<Vec<_>>(),
            })
        };
        json!({
            "exact": self.is_exact(),
            "chains": self.chains.iter().map(chain).collect::<Vec<_>>(),
        })
    }
}

impl fmt::Display for ChangesReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "\n{:>17}  {:>12}  {:>12}  {:>12}  up to",
            "changes of", "epoch", "files", "rows"
        )?;
        for chain in &self.chains {
            writeln!(
                f,
                "{:>17}  {:>12}  {:>12}  {:>12}  {}",
                chain.table,
                chain.epoch,
                count(chain.files),
                count(chain.rows),
                chain.end
            )?;
        }
        for chain in &self.chains {
            for problem in &chain.problems {
                writeln!(
                    f,
                    "problem: {}, epoch {}: {problem}",
                    chain.table, chain.epoch
                )?;
            }
        }
        if self.is_exact() {
            writeln!(
                f,
                "Every change that was recorded is in the lake exactly once."
            )
        } else {
            writeln!(
                f,
                "NOT exact in the changes: restore the files, or copy the tables again with `ftap cdc --resnapshot`."
            )
        }
    }
}
