//! Whether a table has the columns that are worked on, before a change of one of them fails now and
//! then, as chance has it.

use deadpool_postgres::Transaction;

use super::columns::ColumnType;
use super::load::Table;
use super::{PostgresError, PostgresSettings};

/// Column, type by its internal name, type as SQL writes it. No row: there is no such column, for
/// every column is asked for by name.
const COLUMNS: &str = "SELECT a.attname::text, t.typname::text, format_type(a.atttypid, a.atttypmod) \
     FROM pg_attribute AS a JOIN pg_type AS t ON t.oid = a.atttypid \
     WHERE a.attrelid = $1::text::regclass AND a.attnum > 0 AND NOT a.attisdropped";

/// Names the first column that is absent or of a type that does not do. More columns are no harm.
pub(super) async fn check(
    transaction: &Transaction<'_>,
    settings: &PostgresSettings,
    table: &Table,
) -> Result<(), PostgresError> {
    let name = format!("public.{}", table.name);
    let rows = transaction
        .query(COLUMNS, &[&name])
        .await
        .map_err(|error| PostgresError::of(settings, &error))?;
    let wrong = |said: String| PostgresError::OtherSchema {
        address: settings.address(),
        said,
    };
    for column in table.columns {
        let (wanted, needed) = (column.name, column.kind.sql());
        let found = rows.iter().find(|row| row.get::<_, &str>(0) == wanted);
        let Some(found) = found else {
            return Err(wrong(format!(
                "{name} has no column {wanted}; make it again (ALTER TABLE {name} ADD COLUMN {wanted} {needed})"
            )));
        };
        if !column.kind.takes(found.get(1)) {
            return Err(wrong(format!(
                "the column {wanted} of {name} is {}; expected {needed} (ALTER TABLE {name} ALTER COLUMN {wanted} TYPE {needed} USING {wanted}::{needed})",
                found.get::<_, &str>(2)
            )));
        }
    }
    Ok(())
}

impl ColumnType {
    /// Whether a column of the type of that internal name takes and gives the values.
    fn takes(self, type_name: &str) -> bool {
        let those: &[&str] = match self {
            Self::Text => &["text", "varchar"],
            Self::Char => &["bpchar", "varchar", "text"],
            Self::Int => &["int4", "int8"],
            Self::Decimal => &["numeric", "float8"],
            Self::Date => &["date"],
            Self::Uuid => &["uuid"],
        };
        those.contains(&type_name)
    }
}
