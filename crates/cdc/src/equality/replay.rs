//! A table as the lake's files of an epoch make it.
//!
//! Promises: changes of transactions that the snapshot does not show are left out. Relies on the
//! files being given in the order of their chain. Memory: per row its key and 8 bytes per column.

use std::collections::BTreeMap;

use arrow_array::cast::AsArray;
use arrow_array::{Array, Int64Array, RecordBatch, StringArray};
use bytes::Bytes;
use ftap_lake::{Lsn, change};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::errors::ParquetError;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value as Json};

use super::row::{ColumnInFile, NoKey, Rows, Shape, UnknownType, Value};
use super::visibility::Visibility;

/// Why a file can't be replayed.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReplayError {
    #[error(transparent)]
    Parquet(#[from] ParquetError),
    #[error(transparent)]
    Type(#[from] UnknownType),
    /// One of the columns that every file has is not there or of another type.
    #[error("it has no column {0} of the expected type")]
    NoColumn(&'static str),
    #[error("its {column} is not the expected JSON: {source}")]
    Json {
        column: &'static str,
        source: serde_json::Error,
    },
    #[error("{0:?} is not an operation")]
    Operation(String),
    /// A change that does not name its row: the table's identity was another one then.
    #[error(
        "a change of the commit at {commit} does not have {column}, which is a part of the table's key now"
    )]
    NoKey { commit: Lsn, column: String },
}

/// See the module.
pub(super) struct Replay<'a> {
    shape: &'a Shape,
    visibility: &'a Visibility,
    pub(super) rows: Rows,
    /// Changes that were applied.
    pub(super) changes: u64,
}

impl<'a> Replay<'a> {
    pub(super) fn new(shape: &'a Shape, visibility: &'a Visibility) -> Self {
        Self {
            shape,
            visibility,
            rows: Rows::new(),
            changes: 0,
        }
    }

    /// Applies the rows of the next file.
    pub(super) fn file(&mut self, bytes: Bytes) -> Result<(), ReplayError> {
        let reader = ParquetRecordBatchReaderBuilder::try_new(bytes)?.build()?;
        for batch in reader {
            self.batch(&batch.map_err(ParquetError::from)?)?;
        }
        Ok(())
    }

    fn batch(&mut self, batch: &RecordBatch) -> Result<(), ReplayError> {
        let own = OwnColumns::of(batch)?;
        let array = |name: &str| batch.column_by_name(name).map(AsRef::as_ref);
        let columns = self.shape.columns.iter();
        let columns: Vec<_> = columns.map(|column| column.in_file(array)).collect();
        for row in 0..batch.num_rows() {
            let xid = own.xid.is_valid(row).then(|| own.xid.value(row) as u32);
            if xid.is_some_and(|xid| !self.visibility.shows(xid, own.commit(row))) {
                continue;
            }
            self.apply(&own, &columns, row)?;
            self.changes += u64::from(xid.is_some());
        }
        Ok(())
    }

    fn apply(
        &mut self,
        own: &OwnColumns<'_>,
        columns: &[ColumnInFile<'_>],
        row: usize,
    ) -> Result<(), ReplayError> {
        match own.op.value(row) {
            "snapshot" | "insert" => {
                let (key, values) = self.row(own, columns, row)?;
                self.rows.insert(key, values);
            }
            "update" => {
                let (key, mut values) = self.row(own, columns, row)?;
                let old_key = self.key_before(own, row)?;
                let old = self.rows.remove(old_key.as_ref().unwrap_or(&key));
                for name in own.unchanged(row)? {
                    let mut names = self.shape.columns.iter();
                    if let Some(index) = names.position(|column| column.name == name) {
                        let old = old.as_ref().map(|old| old[index]);
                        values[index] = old.unwrap_or(Value::UNKNOWN);
                    }
                }
                self.rows.insert(key, values);
            }
            "delete" => {
                if let Some(key) = self.key_before(own, row)? {
                    self.rows.remove(&key);
                }
            }
            "truncate" => self.rows.clear(),
            other => return Err(ReplayError::Operation(other.to_owned())),
        }
        Ok(())
    }

    /// A row as it is after the change.
    fn row(
        &self,
        own: &OwnColumns<'_>,
        columns: &[ColumnInFile<'_>],
        row: usize,
    ) -> Result<(Box<str>, Box<[Value]>), ReplayError> {
        let exact = own.exact(row)?;
        let mut values = Vec::with_capacity(columns.len());
        let mut key = KeyTexts::default();
        let mut text = String::new();
        for (index, (column, in_file)) in self.shape.columns.iter().zip(columns).enumerate() {
            let value = match text_of(&exact, &column.name) {
                Some(exact) => {
                    exact.clone_into(&mut text);
                    column.of_exact(exact, in_file)
                }
                None => in_file.value(row, &mut text)?,
            };
            if self.shape.is_key(index) && !value.is_null() {
                key.insert(index, text.clone());
            }
            values.push(value);
        }
        let key = self.shape.key(|index| key.get(&index).map(String::as_str));
        let key = key.map_err(|error| own.no_key(row, error))?;
        Ok((key, values.into()))
    }

    /// The key of the row before, where the server sent one.
    fn key_before(
        &self,
        own: &OwnColumns<'_>,
        row: usize,
    ) -> Result<Option<Box<str>>, ReplayError> {
        let before = own.before(row)?;
        if before.is_none() {
            return Ok(None);
        }
        let text = |index: usize| text_of(&before, &self.shape.columns[index].name);
        let key = self.shape.key(text);
        key.map(Some).map_err(|error| own.no_key(row, error))
    }
}

type KeyTexts = BTreeMap<usize, String>;
type Texts = Map<String, Json>;

/// The columns that every file has.
struct OwnColumns<'a> {
    op: &'a StringArray,
    lsn: &'a Int64Array,
    xid: &'a Int64Array,
    before: &'a StringArray,
    unchanged: &'a StringArray,
    exact: &'a StringArray,
}

impl<'a> OwnColumns<'a> {
    fn of(batch: &'a RecordBatch) -> Result<Self, ReplayError> {
        let text = |name| {
            let column = batch.column_by_name(name);
            let column = column.and_then(|column| column.as_string_opt());
            column.ok_or(ReplayError::NoColumn(name))
        };
        let number = |name| {
            let column = batch.column_by_name(name);
            let column = column.and_then(|column| column.as_primitive_opt());
            column.ok_or(ReplayError::NoColumn(name))
        };
        Ok(Self {
            op: text(change::OP)?,
            lsn: number(change::COMMIT_LSN)?,
            xid: number(change::XID)?,
            before: text(change::BEFORE)?,
            unchanged: text(change::UNCHANGED)?,
            exact: text(change::EXACT)?,
        })
    }

    fn commit(&self, row: usize) -> Lsn {
        Lsn(self.lsn.value(row) as u64)
    }

    fn before(&self, row: usize) -> Result<Option<Texts>, ReplayError> {
        json(change::BEFORE, self.before, row)
    }

    fn exact(&self, row: usize) -> Result<Option<Texts>, ReplayError> {
        json(change::EXACT, self.exact, row)
    }

    fn unchanged(&self, row: usize) -> Result<Vec<String>, ReplayError> {
        json(change::UNCHANGED, self.unchanged, row).map(Option::unwrap_or_default)
    }

    fn no_key(&self, row: usize, NoKey { column }: NoKey) -> ReplayError {
        let commit = self.commit(row);
        ReplayError::NoKey { commit, column }
    }
}

fn json<T: DeserializeOwned>(
    column: &'static str,
    texts: &StringArray,
    row: usize,
) -> Result<Option<T>, ReplayError> {
    if texts.is_null(row) {
        return Ok(None);
    }
    let value = serde_json::from_str(texts.value(row));
    value
        .map(Some)
        .map_err(|source| ReplayError::Json { column, source })
}

fn text_of<'a>(texts: &'a Option<Texts>, column: &str) -> Option<&'a str> {
    texts.as_ref()?.get(column)?.as_str()
}
