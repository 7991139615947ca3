//! Loads one prepared file into its table, within the transaction that loads all of them or nothing.
//!
//! Promises: a bad value names file, line and column and leaves the tables as they were; rows that are
//! there stay as they are, whatever happened to them since; the same file is loaded once, so that a
//! restart does not bring back what was deleted.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use deadpool_postgres::Transaction;
use futures::SinkExt as _;
use xxhash_rust::xxh3::xxh3_128;

use super::columns::{Column, ColumnType};
use super::{PostgresError, PostgresSettings};

const DELIMITER: u8 = b';';
/// Sent at a time.
const CHUNK_BYTES: usize = 64 * 1024;

/// A table, and the file that fills it.
pub(super) struct Table {
    pub(super) name: &'static str,
    /// The first is the primary key.
    pub(super) columns: &'static [Column],
}

/// One row per user.
pub(super) const USERS: Table = Table {
    name: "users",
    columns: &[
        Column::new("user_id", ColumnType::Uuid),
        Column::new("first_name", ColumnType::Text),
        Column::new("last_name", ColumnType::Text),
        Column::new("gender", ColumnType::Char),
        Column::new("street", ColumnType::Text),
        Column::new("city", ColumnType::Text),
        Column::new("zip", ColumnType::Int),
        Column::new("lat", ColumnType::Decimal),
        Column::new("long", ColumnType::Decimal),
        Column::new("job", ColumnType::Text),
        Column::new("dob", ColumnType::Date),
    ],
};

/// One row per merchant.
pub(super) const MERCHANTS: Table = Table {
    name: "merchants",
    columns: &[
        Column::new("merchant", ColumnType::Text),
        Column::new("merch_lat", ColumnType::Decimal),
        Column::new("merch_long", ColumnType::Decimal),
        Column::new("merch_zipcode", ColumnType::Int),
    ],
};

#[derive(Clone, Debug)]
pub struct Loaded {
    pub table: &'static str,
    pub file: PathBuf,
    /// Rows in the file.
    pub rows: u64,
    /// Rows of them that the table did not have.
    pub inserted: u64,
    /// How long it took.
    pub duration: std::time::Duration,
}

/// Loads a file; `None` if there is none or it was loaded before and the table has rows.
pub(super) async fn load(
    transaction: &Transaction<'_>,
    settings: &PostgresSettings,
    table: &Table,
    file: &Path,
) -> Result<Option<Loaded>, PostgresError> {
    let started = Instant::now();
    let failed = |error: tokio_postgres::Error| PostgresError::of(settings, &error);
    let content = match std::fs::read(file) {
        Ok(content) => Bytes::from(content),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => {
            return Err(PostgresError::Unreadable {
                path: file.to_path_buf(),
                source,
            });
        }
    };
    let fingerprint = format!("{:032x}", xxh3_128(&content));
    let Table { name, columns } = table;
    let names = names(columns);

    let known = transaction
        .query_one(
            &format!(
                "SELECT EXISTS (SELECT FROM ftap.loads WHERE table_name = $1 AND fingerprint = $2) \
                 AND EXISTS (SELECT FROM public.{name})"
            ),
            &[name, &fingerprint],
        )
        .await
        .map_err(failed)?;
    if known.get(0) {
        return Ok(None);
    }
    let typed: Vec<_> = columns
        .iter()
        .map(|column| format!("{} {}", column.name, column.kind.sql()))
        .collect();
    transaction
        .batch_execute(&format!(
            "CREATE TEMPORARY TABLE staging_{name} ({}) ON COMMIT DROP",
            typed.join(", ")
        ))
        .await
        .map_err(failed)?;
    let sink = transaction
        .copy_in::<_, Bytes>(&format!("COPY staging_{name} ({names}) FROM STDIN"))
        .await
        .map_err(failed)?;
    let mut sink = pin!(sink);
    let mut rows = Rows::new(file, &content, columns)?;
    let mut chunk = BytesMut::with_capacity(CHUNK_BYTES);
    // A bad row returns from here, and the transaction is rolled back with all that was sent.
    while rows.next_into(&mut chunk)? {
        if chunk.len() >= CHUNK_BYTES {
            sink.send(chunk.split().freeze()).await.map_err(failed)?;
        }
    }
    sink.send(chunk.freeze()).await.map_err(failed)?;
    let copied = sink.finish().await.map_err(failed)?;
    let key = columns[0].name;
    let inserted = transaction
        .execute(
            &format!(
                "INSERT INTO public.{name} ({names}) SELECT {names} FROM staging_{name} ON CONFLICT ({key}) DO NOTHING"
            ),
            &[],
        )
        .await
        .map_err(failed)?;
    transaction
        .execute(
            "INSERT INTO ftap.loads (table_name, fingerprint, file, rows_inserted) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (table_name, fingerprint) DO UPDATE SET rows_inserted = EXCLUDED.rows_inserted, loaded_at = now()",
            &[
                name,
                &fingerprint,
                &file.display().to_string(),
                &i64::try_from(inserted).unwrap_or(i64::MAX),
            ],
        )
        .await
        .map_err(failed)?;
    Ok(Some(Loaded {
        table: name,
        file: file.to_path_buf(),
        rows: copied,
        inserted,
        duration: started.elapsed(),
    }))
}

fn names(columns: &[Column]) -> String {
    let names: Vec<_> = columns.iter().map(|column| column.name).collect();
    names.join(", ")
}

/// The rows of a file, checked, in the text form of COPY.
struct Rows<'a> {
    file: &'a Path,
    columns: &'static [Column],
    reader: csv::Reader<&'a [u8]>,
    record: csv::ByteRecord,
    /// Line of each key.
    keys: HashMap<String, u64>,
}

impl<'a> Rows<'a> {
    fn new(
        file: &'a Path,
        content: &'a [u8],
        columns: &'static [Column],
    ) -> Result<Self, PostgresError> {
        let reader = csv::ReaderBuilder::new()
            .delimiter(DELIMITER)
            .has_headers(false)
            .flexible(true)
            .from_reader(content);
        let mut rows = Self {
            file,
            columns,
            reader,
            record: csv::ByteRecord::new(),
            keys: HashMap::new(),
        };
        rows.check_header()?;
        Ok(rows)
    }

    fn check_header(&mut self) -> Result<(), PostgresError> {
        let wanted: Vec<_> = self.columns.iter().map(|column| column.name).collect();
        let wanted = wanted.join(";");
        if !self.read()? {
            return Err(self.bad(
                1,
                None,
                format!("the file is empty; expected the header `{wanted}`"),
            ));
        }
        for (index, column) in self.columns.iter().enumerate() {
            let found = self.record.get(index).unwrap_or_default();
            if found != column.name.as_bytes() {
                let found = shown(found);
                let problem = format!("the header is {found}; expected `{wanted}`");
                return Err(self.bad(1, Some(column.name), problem));
            }
        }
        match self.record.get(self.columns.len()) {
            Some(found) => {
                let problem = format!("the header is {}; expected `{wanted}`", shown(found));
                Err(self.bad(1, None, problem))
            }
            None => Ok(()),
        }
    }

    fn read(&mut self) -> Result<bool, PostgresError> {
        self.reader
            .read_byte_record(&mut self.record)
            .map_err(|error| PostgresError::Unreadable {
                path: self.file.to_path_buf(),
                source: error.into(),
            })
    }

    /// Appends the next row; false at the end.
    fn next_into(&mut self, into: &mut BytesMut) -> Result<bool, PostgresError> {
        if !self.read()? {
            return Ok(false);
        }
        let line = self.record.position().map_or(0, csv::Position::line);
        if self.record.len() != self.columns.len() {
            let (has, wanted) = (self.record.len(), self.columns.len());
            let last = self.record.iter().next_back().unwrap_or_default();
            let problem = if has < wanted && last.contains(&b'\n') {
                // The field continues over the following lines, to the next quote or the end.
                format!(
                    "it has {has} columns, it is to have {wanted}; a quote opens in column {} and is not closed on that line",
                    self.columns[has - 1].name
                )
            } else {
                format!("it has {has} columns, it is to have {wanted}")
            };
            return Err(self.bad(line, None, problem));
        }
        for (index, column) in self.columns.iter().enumerate() {
            let value = &self.record[index];
            if index > 0 {
                into.extend_from_slice(b"\t");
            }
            let is_key = index == 0;
            let checked = match (value.is_empty(), is_key) {
                (true, true) => Err("it is empty, and it is the key".to_owned()),
                (true, false) => Ok(None),
                (false, _) => column.kind.check(value).map(Some),
            };
            match checked {
                Ok(None) => into.extend_from_slice(b"\\N"),
                Ok(Some(text)) => {
                    escape(&text, into);
                    if is_key && let Some(first) = self.keys.insert(text.into_owned(), line) {
                        let problem = format!("{} is on line {first} already", shown(value));
                        return Err(self.bad(line, Some(column.name), problem));
                    }
                }
                Err(reason) => {
                    let problem = if value.is_empty() {
                        reason
                    } else {
                        format!("{} {reason}", shown(value))
                    };
                    return Err(self.bad(line, Some(column.name), problem));
                }
            }
        }
        into.extend_from_slice(b"\n");
        Ok(true)
    }

    fn bad(&self, line: u64, column: Option<&str>, problem: String) -> PostgresError {
        let place = match column {
            Some(column) => format!("line {line}, column {column}"),
            None => format!("line {line}"),
        };
        PostgresError::BadFile {
            path: self.file.to_path_buf(),
            place,
            problem,
        }
    }
}

/// The text form of COPY: <https://www.postgresql.org/docs/current/sql-copy.html>, "Text Format".
fn escape(text: &str, into: &mut BytesMut) {
    for byte in text.bytes() {
        match byte {
            b'\\' => into.extend_from_slice(b"\\\\"),
            b'\n' => into.extend_from_slice(b"\\n"),
            b'\r' => into.extend_from_slice(b"\\r"),
            b'\t' => into.extend_from_slice(b"\\t"),
            other => into.extend_from_slice(&[other]),
        }
    }
}

/// A value in a message: not longer than a line, nothing that a terminal obeys.
fn shown(value: &[u8]) -> String {
    const LONGEST: usize = 80;
    let text = String::from_utf8_lossy(value);
    let mut shown: String = text.chars().take(LONGEST).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    format!("{shown:?}")
}
