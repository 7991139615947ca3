//! The result as a table for people or as one JSON object for programs.

use std::fmt::{self, Write as _};

use ftap_telemetry::figures::{count, size};
use serde::Serialize;
use serde_json::json;

use crate::bigquery::BigQueryReport;
use crate::changes::ChangesReport;
use crate::items::Account;
use crate::ledger::Balance;
use crate::problem::{Kind, Problem};

/// What was compared with what, and what came of it.
pub struct Report {
    /// The events file.
    pub(crate) source: String,
    /// Rows of it that were looked at.
    pub(crate) source_rows: u64,
    pub(crate) topic: String,
    /// The topic in which rejected records were looked for.
    pub(crate) dead_letter_topic: String,
    /// Whether it exists.
    pub(crate) has_dead_letters: bool,
    pub(crate) lake: String,
    pub(crate) objects: u64,
    /// Their size.
    pub(crate) object_bytes: u64,
    /// The accounts.
    pub(crate) balance: Balance,
    /// The captured tables, if the lake has changes.
    pub(crate) changes: Option<ChangesReport>,
    /// What BigQuery has, where it is loaded.
    pub(crate) bigquery: Option<BigQueryReport>,
    /// Remarks that are not losses.
    pub(crate) notes: Vec<String>,
}

#[derive(Serialize)]
struct PartitionAccount {
    partition: usize,
    #[serde(flatten)]
    account: Account,
}

impl Report {
    /// Whether every row, every offset and every change is there exactly once, in BigQuery, too.
    pub fn is_exact(&self) -> bool {
        let (changes, bigquery) = (self.changes.as_ref(), self.bigquery.as_ref());
        self.is_exact_in_lake()
            && changes.is_none_or(ChangesReport::is_exact)
            && bigquery.is_none_or(BigQueryReport::is_exact)
    }

    fn is_exact_in_lake(&self) -> bool {
        self.balance.problems.is_empty()
    }

    /// Remarks that are not losses, on the stream.
    fn notes(&self) -> Vec<String> {
        let (total, balance) = (self.total(), &self.balance);
        let counted = [
            (
                balance.broken.count(),
                format!("broken rows of the file: {}", balance.broken),
            ),
            (
                total.foreign,
                format!(
                    "{} records of the topic are of other origin (no header `row` or `redrive`): compared by offset only",
                    count(total.foreign)
                ),
            ),
            (
                total.redriven,
                format!(
                    "{} rejected records were repaired and redriven (`ftap dlq list --state redriven`)",
                    count(total.redriven)
                ),
            ),
            (
                balance.once_too_large,
                format!(
                    "{} records were rejected under a smaller MAX_MESSAGE_BYTES: `ftap dlq redrive --reason too_large` sends them again",
                    count(balance.once_too_large)
                ),
            ),
        ];
        let counted = counted.into_iter().filter(|(count, _)| *count > 0);
        let counted = counted.map(|(_, note)| note);
        let all = counted.chain(self.notes.iter().cloned());
        all.chain(self.dead_letter_note()).collect()
    }

    /// Where rejected records and their marks were looked for, if any are missing: the setting may have changed.
    fn dead_letter_note(&self) -> Option<String> {
        let mut kinds = self.balance.problems.iter().map(|problem| problem.kind);
        kinds.find(|kind| matches!(kind, Kind::NoDeadLetter | Kind::RedriveUnmarked))?;
        let exists = if self.has_dead_letters {
            ""
        } else {
            ", which does not exist"
        };
        Some(format!(
            "rejected records were looked for in the lake, and in the dead-letter topic {}{exists}: if they were written to another one, set KAFKA_DEAD_LETTER_TOPIC to that",
            self.dead_letter_topic
        ))
    }

    fn total(&self) -> Account {
        let mut total = Account::default();
        for account in &self.balance.accounts {
            total.add(account);
        }
        total
    }

    /// The whole report, all ranges included.
    pub fn json(&self) -> serde_json::Value {
        let accounts = self.balance.accounts.iter().enumerate();
        let accounts: Vec<_> = accounts
            .map(|(partition, account)| PartitionAccount {
                partition,
                account: *account,
            })
            .collect();
        let problem = |problem: &Problem| {
            json!({
                "kind": problem.kind,
                "meaning": problem.kind.meaning(),
                "partition": problem.partition,
                "object": problem.object,
                "unit": problem.kind.unit(),
                "count": problem.ranges.count(),
                "ranges": problem.ranges,
                "detail": problem.detail,
            })
        };
        let of_changes = self.changes.iter().flat_map(ChangesReport::notes);
        let notes: Vec<_> = self.notes().into_iter().chain(of_changes).collect();
        json!({
            "exact": self.is_exact(),
            "source": {
                "file": self.source,
                "rows": self.source_rows,
                "broken": self.balance.broken.count(),
                "broken_rows": self.balance.broken,
            },
            "topic": self.topic,
            "dead_letter_topic": self.dead_letter_topic,
            "lake": {
                "location": self.lake,
                "objects": self.objects,
                "bytes": self.object_bytes,
                "rows_older_than_topic": self.balance.expired,
            },
            "partitions": accounts,
            "total": self.total(),
            "problems": self.balance.problems.iter().map(problem).collect::<Vec<_>>(),
            "notes": notes,
            "changes": self.changes.as_ref().map(ChangesReport::json),
            "bigquery": self.bigquery.as_ref().map(BigQueryReport::json),
        })
    }
}

const COLUMNS: [&str; 7] = [
    "in the file",
    "in the topic",
    "in the lake",
    "rejected",
    "missing",
    "doubled",
    "differing",
];

fn line(f: &mut fmt::Formatter<'_>, name: &str, account: &Account) -> fmt::Result {
    write!(f, "{name:>9}")?;
    let figures = [
        account.file,
        account.topic,
        account.lake,
        account.rejected,
        account.missing,
        account.doubled,
        account.differing,
    ];
    for (figure, column) in figures.into_iter().zip(COLUMNS) {
        write!(
            f,
            "  {:>width$}",
            count(figure),
            width = column.len().max(12)
        )?;
    }
    writeln!(f)
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let broken = self.balance.broken.count();
        writeln!(
            f,
            "file   {}: {} rows, {} broken",
            self.source,
            count(self.source_rows),
            count(broken)
        )?;
        writeln!(
            f,
            "topic  {}: {} partitions",
            self.topic,
            self.balance.accounts.len()
        )?;
        writeln!(
            f,
            "lake   {}: {} objects, {}",
            self.lake,
            count(self.objects),
            size(self.object_bytes)
        )?;
        write!(f, "\n{:>9}", "partition")?;
        for column in COLUMNS {
            write!(f, "  {column:>width$}", width = column.len().max(12))?;
        }
        writeln!(f)?;
        for (partition, account) in self.balance.accounts.iter().enumerate() {
            line(f, &partition.to_string(), account)?;
        }
        let total = self.total();
        line(f, "all", &total)?;
        writeln!(f)?;
        for note in self.notes() {
            writeln!(f, "note: {note}")?;
        }
        for problem in &self.balance.problems {
            writeln!(f, "{}", describe(problem))?;
        }
        if self.is_exact_in_lake() {
            writeln!(f, "Every row is in the topic and in the lake exactly once.")?;
        } else {
            writeln!(
                f,
                "NOT exact: {} missing, {} doubled, {} differing, {} problems listed above.",
                count(total.missing),
                count(total.doubled),
                count(total.differing),
                self.balance.problems.len()
            )?;
        }
        if let Some(changes) = &self.changes {
            write!(f, "{changes}")?;
        }
        if let Some(bigquery) = &self.bigquery {
            write!(f, "{bigquery}")?;
        }
        Ok(())
    }
}

fn describe(problem: &Problem) -> String {
    let mut text = format!("problem: {}", problem.kind.meaning());
    if let Some(partition) = problem.partition {
        // Writing to a string can't fail.
        let _ = write!(text, ", partition {partition}");
    }
    if let Some(object) = &problem.object {
        let _ = write!(text, ", {object}");
    }
    if !problem.ranges.is_empty() {
        let unit = match problem.kind.unit() {
            crate::problem::Unit::Rows => "rows",
            crate::problem::Unit::Offsets => "offsets",
        };
        let many = count(problem.ranges.count());
        let _ = write!(text, ": {many}, {unit} {}", problem.ranges);
    }
    if let Some(detail) = &problem.detail {
        let _ = write!(text, ": {detail}");
    }
    text
}
