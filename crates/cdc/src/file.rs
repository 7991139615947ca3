//! One object of changes under construction, in memory.
//!
//! Promises: the rows appended are in the object in order, each exactly once; memory stays
//! near the encoded size plus one batch. Relies on the caller for contiguity.
//!
//! A row's hash is XXH3-64 (seed 0) over its operation, transaction, position and cells as
//! the server sent them, each with a tag and, where it has text, its length (little-endian,
//! 8 bytes); the first row's is the footer's `first_change`, the checksum is the hash of
//! all rows' hashes one after the other.

use std::sync::Arc;
use std::time::Instant;

use arrow_array::builder::{Int64Builder, StringBuilder, TimestampMicrosecondBuilder};
use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{ArrowError, SchemaRef};
use ftap_lake::{
    ChangeObjectName, ChangePart, ClosedFile, Compression, DataSet, FileError, FileWriter,
    Position, date_of_micros,
};
use xxhash_rust::xxh3::Xxh3;

use super::footer::{ChangeFooter, Content};
use super::schema::{Kind, Table};
use super::source::{Cell, Change, Tuple};
use super::value::{ColumnBuilder, Fit};

/// Rows handed to the Parquet writer at once.
const BATCH_ROWS: usize = 8 * 1024;
/// Bytes of text handed to the Parquet writer at once, for long values.
const BATCH_BYTES: usize = 4 << 20;
/// What a column of a batch can hold beside the rows that are in it already.
const MAX_TEXT_BYTES: usize = i32::MAX as usize - 2 * BATCH_BYTES;

/// What all objects of a stream share.
#[derive(Clone, Debug)]
pub struct Origin {
    /// The server's system identifier.
    pub system: Arc<str>,
    pub slot: Arc<str>,
    /// The process that writes.
    pub writer_id: Arc<str>,
    /// The snapshot the changes follow, or that is being written.
    pub epoch: u32,
    pub compression: Compression,
}

/// The commit a change belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Commit {
    /// When it was, in microseconds since 1970.
    pub time_us: i64,
    /// Its transaction; `None` for a snapshot.
    pub xid: Option<u32>,
}

/// An object that takes rows.
pub struct ChangeFileBuilder {
    table: Arc<Table>,
    origin: Origin,
    name: ChangeObjectName,
    opened_at: Instant,
    previous: Position,
    first: Position,
    first_commit: Commit,
    last: Position,
    first_change: u64,
    rows: u64,
    checksum: Xxh3,
    schema: SchemaRef,
    columns: Vec<ColumnBuilder>,
    own: OwnColumns,
    batch_rows: usize,
    batch_bytes: usize,
    writer: FileWriter,
}

/// A finished object.
pub type ChangeFile = ClosedFile<ChangeFooter>;

struct OwnColumns {
    op: StringBuilder,
    lsn: Int64Builder,
    time: TimestampMicrosecondBuilder,
    xid: Int64Builder,
    seq: Int64Builder,
    epoch: Int64Builder,
    before: StringBuilder,
    unchanged: StringBuilder,
    exact: StringBuilder,
}

impl ChangeFileBuilder {
    /// An object of changes whose first row will be at `first`; the one before it ended at
    /// `previous`.
    pub fn changes(
        table: Arc<Table>,
        origin: Origin,
        previous: Position,
        first: Position,
        commit: Commit,
    ) -> Result<Self, FileError> {
        let part = ChangePart::Changes(first);
        Self::open(table, origin, part, previous, first, commit)
    }

    /// Part `number` of a snapshot, from 1.
    pub fn snapshot(
        table: Arc<Table>,
        origin: Origin,
        number: u32,
        at: Position,
        commit: Commit,
    ) -> Result<Self, FileError> {
        Self::open(table, origin, ChangePart::Snapshot(number), at, at, commit)
    }

    fn open(
        table: Arc<Table>,
        origin: Origin,
        part: ChangePart,
        previous: Position,
        first: Position,
        commit: Commit,
    ) -> Result<Self, FileError> {
        let name = ChangeObjectName {
            table: table.name.clone(),
            epoch: origin.epoch,
            part,
            date: date_of_micros(commit.time_us),
        };
        let schema = table.columns_in_lake();
        let set = DataSet::of_changes(&table.name);
        let set = set.ok_or_else(|| FileError::NotCaptured(table.name.clone()))?;
        let writer = FileWriter::open(set, name.key(), schema.clone(), origin.compression)?;
        let columns = table.columns.iter();
        let columns = columns.map(|column| ColumnBuilder::new(Kind::of(column.type_oid)));
        Ok(Self {
            columns: columns.collect(),
            table,
            origin,
            name,
            opened_at: Instant::now(),
            previous,
            first,
            first_commit: commit,
            last: first,
            first_change: 0,
            rows: 0,
            checksum: Xxh3::new(),
            schema,
            own: OwnColumns::new(),
            batch_rows: 0,
            batch_bytes: 0,
            writer,
        })
    }

    /// Adds a row of a snapshot.
    pub(crate) fn append_snapshot(&mut self, row: &Tuple, commit: Commit) -> Result<(), FileError> {
        self.append_row("snapshot", Some(row), None, self.first, commit)
    }

    /// Adds a change.
    pub fn append(
        &mut self,
        change: &Change,
        position: Position,
        commit: Commit,
    ) -> Result<(), FileError> {
        let (after, before) = change.rows();
        self.append_row(change.op(), after, before, position, commit)
    }

    fn append_row(
        &mut self,
        op: &str,
        row: Option<&Tuple>,
        before: Option<&Tuple>,
        position: Position,
        commit: Commit,
    ) -> Result<(), FileError> {
        let hash = row_hash(op, row, before, position, commit);
        if self.rows == 0 {
            self.first_change = hash;
        }
        self.checksum.update(&hash.to_le_bytes());
        let is_delete = op == "delete";
        let mut exact = serde_json::Map::new();
        let mut unchanged = Vec::new();
        for (index, builder) in self.columns.iter_mut().enumerate() {
            let cell = match row.map_or(&Cell::Null, |row| row.cell(index)) {
                // The row before may hold what the server left out.
                Cell::NotSent => match before.map(|row| row.cell(index)) {
                    Some(known @ Cell::Text(_)) => known,
                    _ => &Cell::NotSent,
                },
                cell => cell,
            };
            let name = &self.table.columns[index].name;
            match cell {
                Cell::Null => builder.append_null(),
                Cell::NotSent => {
                    builder.append_null();
                    if !is_delete {
                        unchanged.push(serde_json::Value::from(name.as_str()));
                    }
                }
                Cell::Text(text) => {
                    self.batch_bytes += text.len();
                    if builder.append(text) == Fit::Inexact {
                        exact.insert(name.clone(), text.to_string().into());
                    }
                }
            }
        }
        let before = before.map(|before| self.table.json(before));
        let before_bytes = before.as_ref().map_or(0, String::len);
        // The text of a row may grow six times as JSON, and a column holds 2 GiB.
        if before_bytes > MAX_TEXT_BYTES {
            return Err(FileError::Arrow {
                name: self.name.key(),
                source: ArrowError::OffsetOverflowError(before_bytes),
            });
        }
        self.batch_bytes += before_bytes + 64;
        let own = &mut self.own;
        own.op.append_value(op);
        own.lsn.append_value(position.lsn.0 as i64);
        own.time.append_value(commit.time_us);
        own.xid.append_option(commit.xid.map(i64::from));
        own.seq.append_value(position.seq as i64);
        own.epoch.append_value(i64::from(self.origin.epoch));
        own.before.append_option(before);
        let unchanged = (!unchanged.is_empty()).then(|| serde_json::Value::from(unchanged));
        own.unchanged
            .append_option(unchanged.map(|names| names.to_string()));
        let exact = (!exact.is_empty()).then(|| serde_json::Value::from(exact));
        own.exact
            .append_option(exact.map(|texts| texts.to_string()));
        self.last = position;
        self.rows += 1;
        self.batch_rows += 1;
        if self.batch_rows >= BATCH_ROWS || self.batch_bytes >= BATCH_BYTES {
            self.encode()?;
        }
        Ok(())
    }

    /// Hands the buffered rows to the Parquet writer.
    fn encode(&mut self) -> Result<(), FileError> {
        let mut arrays: Vec<ArrayRef> = Vec::with_capacity(self.schema.fields().len());
        arrays.extend(self.columns.iter_mut().map(ColumnBuilder::finish));
        arrays.extend(self.own.finish());
        let batch = RecordBatch::try_new(self.schema.clone(), arrays).map_err(|source| {
            FileError::Arrow {
                name: self.name.key(),
                source,
            }
        })?;
        self.writer.write(&batch)?;
        self.batch_rows = 0;
        self.batch_bytes = 0;
        Ok(())
    }

    /// The table as it was when the object was opened.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// Rows so far.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// The size the object would have if it were closed now: an upper estimate.
    pub fn encoded_bytes(&self) -> u64 {
        (self.writer.encoded_bytes() + self.batch_bytes) as u64
    }

    /// The commit of the first row.
    pub(crate) fn first_commit(&self) -> Commit {
        self.first_commit
    }

    /// When the first row came.
    pub fn opened_at(&self) -> Instant {
        self.opened_at
    }

    /// Finishes the object. `commit_goes_on` says that the last commit may have more
    /// changes of this table.
    pub fn close(
        mut self,
        content: Content,
        commit_goes_on: bool,
    ) -> Result<ChangeFile, FileError> {
        if self.batch_rows > 0 {
            self.encode()?;
        }
        let footer = ChangeFooter {
            table: self.table.name.clone(),
            table_oid: Some(self.table.oid),
            system: self.origin.system.to_string(),
            slot: self.origin.slot.to_string(),
            epoch: self.origin.epoch,
            content,
            first_lsn: self.first.lsn,
            first_seq: self.first.seq,
            last_lsn: self.last.lsn,
            last_seq: self.last.seq,
            commit_goes_on,
            first_change: self.first_change,
            rows: self.rows,
            checksum: self.checksum.digest(),
            writer_id: self.origin.writer_id.to_string(),
            previous_lsn: Some(self.previous.lsn),
            previous_seq: Some(self.previous.seq),
        };
        let bytes = self.writer.close(&footer)?;
        Ok(ChangeFile {
            name: self.name,
            bytes,
            footer,
            opened_at: self.opened_at,
        })
    }
}

impl OwnColumns {
    fn new() -> Self {
        Self {
            op: StringBuilder::new(),
            lsn: Int64Builder::new(),
            time: TimestampMicrosecondBuilder::new().with_data_type(Kind::TimestampTz.data_type()),
            xid: Int64Builder::new(),
            seq: Int64Builder::new(),
            epoch: Int64Builder::new(),
            before: StringBuilder::new(),
            unchanged: StringBuilder::new(),
            exact: StringBuilder::new(),
        }
    }

    fn finish(&mut self) -> [ArrayRef; 9] {
        [
            Arc::new(self.op.finish()),
            Arc::new(self.lsn.finish()),
            Arc::new(self.time.finish()),
            Arc::new(self.xid.finish()),
            Arc::new(self.seq.finish()),
            Arc::new(self.epoch.finish()),
            Arc::new(self.before.finish()),
            Arc::new(self.unchanged.finish()),
            Arc::new(self.exact.finish()),
        ]
    }
}

impl Table {
    /// A row as a JSON object of texts, without what the server left out.
    fn json(&self, row: &Tuple) -> String {
        let value = |cell: &Cell| match cell {
            Cell::Null => Some(serde_json::Value::Null),
            Cell::Text(text) => Some(text.to_string().into()),
            Cell::NotSent => None,
        };
        let columns = self.columns.iter().enumerate();
        let pairs = columns
            .filter_map(|(index, column)| Some((column.name.clone(), value(row.cell(index))?)));
        serde_json::Value::Object(pairs.collect()).to_string()
    }
}

/// The hash of a change, as the footers' checksums have it.
pub(crate) fn change_hash(change: &Change, position: Position, commit: Commit) -> u64 {
    let (after, before) = change.rows();
    row_hash(change.op(), after, before, position, commit)
}

fn row_hash(
    op: &str,
    row: Option<&Tuple>,
    before: Option<&Tuple>,
    position: Position,
    commit: Commit,
) -> u64 {
    let mut hash = Xxh3::new();
    let text = |hash: &mut Xxh3, tag: u8, text: &str| {
        hash.update(&[tag]);
        hash.update(&(text.len() as u64).to_le_bytes());
        hash.update(text.as_bytes());
    };
    text(&mut hash, b'o', op);
    hash.update(&u64::from(commit.xid.unwrap_or(0)).to_le_bytes());
    hash.update(&commit.time_us.to_le_bytes());
    hash.update(&position.lsn.0.to_le_bytes());
    hash.update(&position.seq.to_le_bytes());
    for (tag, row) in [(b'a', row), (b'b', before)] {
        let Some(row) = row else { continue };
        hash.update(&[tag]);
        for cell in &row.0 {
            match cell {
                Cell::Null => hash.update(b"n"),
                Cell::NotSent => hash.update(b"u"),
                Cell::Text(value) => text(&mut hash, b't', value),
            }
        }
    }
    hash.digest()
}
