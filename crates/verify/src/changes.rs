//! The changes of the captured tables: each one that was recorded is in the lake, and the tables that
//! they make are those of PostgreSQL.
//!
//! Promises: a file that is gone, or that repeats another, and a row that differs make the whole result
//! inexact. What could not be compared with PostgreSQL is listed with the reason.

use std::fmt;

use ftap_cdc::audit::{ChainAudit, audit};
use ftap_cdc::equality::{
    Difference, DifferenceKind, EqualityError, Figures, TableEquality, compare as compare_tables,
};
use ftap_lake::{LakeError, LakeStore};
use ftap_postgres::PostgresSettings;
use ftap_telemetry::figures::count;
use serde_json::{Value, json};

use crate::BACKOFF;

/// The server that the tables are captured from.
pub struct Source {
    /// How to reach it; `Err` says why there is none to compare with.
    pub settings: Result<PostgresSettings, String>,
    /// The publication that names the tables.
    pub publication: String,
}

/// What was found of the captured tables.
pub(crate) struct ChangesReport {
    chains: Vec<ChainAudit>,
    /// The tables compared with PostgreSQL, or why they were not.
    tables: Result<Vec<TableEquality>, String>,
    /// Without its slot the server keeps no changes for the lake, so what came since is lost.
    slot_is_gone: bool,
}

/// Audits and compares them; `None` if the lake has no changes.
pub(crate) async fn compare(
    store: &LakeStore,
    source: &Source,
) -> Result<Option<ChangesReport>, LakeError> {
    let chains = BACKOFF
        .retry(async || audit(store).await, |_, _| {})
        .await?;
    if chains.is_empty() {
        return Ok(None);
    }
    let mut slot_is_gone = false;
    let tables = match &source.settings {
        Err(why) => Err(why.clone()),
        Ok(settings) => {
            let compare =
                async || compare_tables(store, &chains, settings, &source.publication).await;
            match BACKOFF.retry(compare, |_, _| {}).await {
                Ok(tables) => Ok(tables),
                Err(EqualityError::Lake(error)) => return Err(error),
                Err(error) => {
                    slot_is_gone = matches!(error, EqualityError::SlotMissing(_));
                    Err(error.to_string())
                }
            }
        }
    };
    Ok(Some(ChangesReport {
        chains,
        tables,
        slot_is_gone,
    }))
}

impl ChangesReport {
    /// Whether no file is missing or doubled, no row differs, and the slot is there.
    pub(crate) fn is_exact(&self) -> bool {
        self.is_whole() && self.is_equal() && !self.slot_is_gone
    }

    /// What was not compared, and why.
    pub(crate) fn notes(&self) -> Vec<String> {
        match &self.tables {
            Err(why) => vec![format!("not compared with PostgreSQL: {why}")],
            Ok(tables) => tables
                .iter()
                .filter_map(|TableEquality { table, result }| {
                    let why = result.as_ref().err()?;
                    Some(format!("{table} was not compared with PostgreSQL: {why}"))
                })
                .collect(),
        }
    }

    fn is_whole(&self) -> bool {
        self.chains.iter().all(|chain| chain.problems.is_empty())
    }

    /// Whether no row differs of those that were compared.
    fn is_equal(&self) -> bool {
        self.figures().all(|(_, figures)| figures.differing == 0)
    }

    fn figures(&self) -> impl Iterator<Item = (&str, &Figures)> {
        let tables = self.tables.iter().flatten();
        tables.filter_map(|table| Some((table.table.as_str(), table.result.as_ref().ok()?)))
    }

    /// For programs.
    pub(crate) fn json(&self) -> Value {
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
            "postgres": match &self.tables {
                Ok(tables) => json!({
                    "tables": tables.iter().map(table_json).collect::<Vec<_>>(),
                    "not_compared": null,
                }),
                Err(why) => json!({ "tables": [], "not_compared": why }),
            },
        })
    }

    fn write_notes(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.notes()
            .iter()
            .try_for_each(|note| writeln!(f, "note: {note}"))
    }

    fn write_tables(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tables = match &self.tables {
            Ok(tables) => tables,
            Err(why) if self.slot_is_gone => return writeln!(f, "problem: {why}"),
            Err(_) => return self.write_notes(f),
        };
        const COLUMNS: [&str; 5] = ["files", "changes", "replayed", "in PostgreSQL", "differing"];
        write!(f, "\n{:>17}", "table")?;
        for column in COLUMNS {
            write!(f, "  {column:>13}")?;
        }
        writeln!(f)?;
        for (table, figures) in self.figures() {
            write!(f, "{table:>17}")?;
            for figure in [
                figures.objects,
                figures.changes,
                figures.replayed,
                figures.in_postgres,
                figures.differing,
            ] {
                write!(f, "  {:>13}", count(figure))?;
            }
            writeln!(f)?;
        }
        self.write_notes(f)?;
        for TableEquality { table, result } in tables {
            if let Ok(figures) = result {
                write_remarks(f, table, figures)?;
            }
        }
        if !self.is_equal() {
            writeln!(
                f,
                "NOT equal: changes are missing in the lake or were altered there, or a table was rewritten, which PostgreSQL does not send; `ftap cdc --resnapshot` copies the tables again. Stop a capture that runs first."
            )
        } else if tables.iter().all(|table| table.result.is_ok()) {
            writeln!(f, "Each row that was compared is the same in PostgreSQL.")
        } else {
            Ok(())
        }
    }
}

fn table_json(table: &TableEquality) -> Value {
    let TableEquality { table, result } = table;
    match result {
        Err(why) => json!({ "table": table, "not_compared": why.to_string() }),
        Ok(figures) => json!({
            "table": table,
            "not_compared": null,
            "epoch": figures.epoch,
            "files": figures.objects,
            "changes": figures.changes,
            "replayed": figures.replayed,
            "in_postgres": figures.in_postgres,
            "pending": figures.pending,
            "earlier_form": figures.earlier_form,
            "differing": figures.differing,
            "differences": figures.named.iter().map(difference).collect::<Vec<_>>(),
        }),
    }
}

fn write_remarks(f: &mut fmt::Formatter<'_>, table: &str, figures: &Figures) -> fmt::Result {
    if figures.pending > 0 {
        writeln!(
            f,
            "note: capture is not running: {} of {table} not compared, because the slot holds changes of them; `ftap cdc` takes them into the lake",
            rows(figures.pending)
        )?;
    }
    if figures.earlier_form > 0 {
        writeln!(
            f,
            "note: {} of {table} have columns in an earlier form, and these columns were not compared; `ftap cdc --resnapshot` copies the tables again; stop a capture that runs first",
            rows(figures.earlier_form)
        )?;
    }
    if figures.differing == 0 {
        return Ok(());
    }
    let named: Vec<_> = figures.named.iter().map(difference).collect();
    let more = if figures.differing > named.len() as u64 {
        ", …"
    } else {
        ""
    };
    writeln!(
        f,
        "problem: {table}: {} differ from PostgreSQL: {}{more}",
        rows(figures.differing),
        named.join(", ")
    )
}

/// `1 row`, `2 rows`
fn rows(number: u64) -> String {
    let unit = if number == 1 { "row" } else { "rows" };
    format!("{} {unit}", count(number))
}

fn difference(Difference { key, how }: &Difference) -> String {
    // It may hold anything, control characters included.
    let key = key.escape_debug();
    match how {
        DifferenceKind::OnlyInLake => format!("{key} (only in the lake)"),
        DifferenceKind::OnlyInPostgres => format!("{key} (only in PostgreSQL)"),
        DifferenceKind::Values(columns) => format!("{key} ({})", columns.join(", ")),
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
        if self.is_whole() {
            writeln!(
                f,
                "Every change that was recorded is in the lake exactly once."
            )?;
        } else {
            writeln!(
                f,
                "NOT exact in the changes: restore the files, or copy the tables again with `ftap cdc --resnapshot`."
            )?;
        }
        self.write_tables(f)
    }
}
