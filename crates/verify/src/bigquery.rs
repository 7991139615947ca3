//! What BigQuery has, compared with the objects that were loaded.
//!
//! Promises: rows that were loaded and are missing or doubled make the whole result inexact;
//! objects that wait for a load do not, and are listed with what to do.

use std::fmt;

use ftap_lake::LakeStore;
use ftap_telemetry::figures::count;
use ftap_warehouse::audit::{TableAudit, audit};
use ftap_warehouse::client::BigQueryClient;
use ftap_warehouse::{BigQueryError, BigQuerySettings};
use serde_json::{Value, json};

use crate::BACKOFF;

/// What was found in BigQuery.
pub(crate) struct BigQueryReport {
    dataset: String,
    tables: Vec<TableAudit>,
}

/// Compares; what does not answer is tried again for a while.
pub(crate) async fn compare(
    settings: &BigQuerySettings,
    store: &LakeStore,
) -> Result<BigQueryReport, BigQueryError> {
    let client = BigQueryClient::open(settings).await?;
    let audit = async || audit(&client, store, settings).await;
    Ok(BigQueryReport {
        dataset: format!("{}.{}", settings.project, settings.dataset),
        tables: BACKOFF.retry(audit, |_, _| {}).await?,
    })
}

impl BigQueryReport {
    /// Whether each row that was loaded is there once, and nothing else is.
    pub(crate) fn is_exact(&self) -> bool {
        self.tables.iter().all(TableAudit::is_exact)
    }

    /// For programs.
    pub(crate) fn json(&self) -> Value {
        let table = |audit: &TableAudit| {
            json!({
                "table": audit.table,
                "exact": audit.is_exact(),
                "objects_loaded": audit.objects,
                "rows_loaded": audit.rows,
                "rows": audit.stored.rows,
                "distinct_rows": audit.stored.distinct,
                "missing": audit.missing(),
                "doubled": audit.doubled(),
                "foreign": audit.foreign(),
                "objects_on_the_way": audit.objects_on_the_way,
                "rows_on_the_way": audit.rows_on_the_way,
                "objects_behind": audit.objects_behind,
                "rows_behind": audit.rows_behind,
                "objects_gone": audit.objects_gone,
            })
        };
        json!({
            "dataset": self.dataset,
            "exact": self.is_exact(),
            "tables": self.tables.iter().map(table).collect::<Vec<_>>(),
        })
    }
}

impl fmt::Display for BigQueryReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\nBigQuery {}", self.dataset)?;
        const COLUMNS: [&str; 5] = ["loaded", "there", "missing", "doubled", "behind"];
        write!(f, "{:>17}", "table")?;
        for column in COLUMNS {
            write!(f, "  {column:>12}")?;
        }
        writeln!(f)?;
        for audit in &self.tables {
            write!(f, "{:>17}", audit.table)?;
            for figure in [
                audit.rows,
                audit.stored.rows,
                audit.missing(),
                audit.doubled(),
                audit.rows_behind + audit.rows_on_the_way,
            ] {
                write!(f, "  {:>12}", count(figure))?;
            }
            writeln!(f)?;
        }
        let sum = |figure: fn(&TableAudit) -> u64| self.tables.iter().map(figure).sum::<u64>();
        let behind = sum(|audit| audit.objects_behind + audit.objects_on_the_way);
        if behind > 0 {
            let rows = sum(|audit| audit.rows_behind + audit.rows_on_the_way);
            writeln!(
                f,
                "note: BigQuery is behind: {} objects with {} rows are not loaded yet; `ftap load` does it now",
                count(behind),
                count(rows)
            )?;
        }
        let gone = sum(|audit| audit.objects_gone);
        if gone > 0 {
            writeln!(
                f,
                "note: {} objects that were loaded are not in the lake any more",
                count(gone)
            )?;
        }
        for audit in self.tables.iter().filter(|audit| !audit.is_exact()) {
            writeln!(
                f,
                "problem: {}.{}: {} rows missing, {} doubled, {} that no load brought",
                self.dataset,
                audit.table,
                count(audit.missing()),
                count(audit.doubled()),
                count(audit.foreign())
            )?;
        }
        if self.is_exact() {
            writeln!(f, "Every row that was loaded is in BigQuery exactly once.")
        } else {
            writeln!(
                f,
                "NOT exact in BigQuery: move the tables named above aside, delete their folders under bigquery/ in the lake, and run `ftap load`."
            )
        }
    }
}
