//! What a replication slot sends, in words of our own.
//!
//! Promises: [`decode`] gives back every change of a message, or an error; values stay as
//! the server wrote them. The transport is behind [`ChangeSource`], so that the rules can
//! be driven without a server. Relies on the text format of `pgoutput`, version 1, which
//! sends whole transactions in commit order.

use std::sync::Arc;

use bytes::Bytes;
use ftap_lake::Lsn;
use pg_walstream::{ColumnData, LogicalReplicationMessage, LogicalReplicationParser, TupleData};

use super::schema::{Column, Table};

/// Settings of every session whose values are captured, so that a value has one text.
pub(crate) const SESSION: [(&str, &str); 5] = [
    ("DateStyle", "ISO"),
    ("IntervalStyle", "postgres"),
    ("TimeZone", "UTC"),
    ("extra_float_digits", "1"),
    ("bytea_output", "hex"),
];

/// Prefix of our messages in the server's log.
pub const MESSAGE_PREFIX: &str = "ftap";

/// One value of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cell {
    Null,
    /// The server left it out: a large value that the update did not touch, or a column
    /// outside the key of a row before.
    NotSent,
    /// A value in PostgreSQL's text form.
    Text(Arc<str>),
}

/// The cells of a row, one for each column of its table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tuple(pub Vec<Cell>);

impl Tuple {
    /// The cell of a column; of a column it lacks, one that was not sent.
    pub fn cell(&self, index: usize) -> &Cell {
        self.0.get(index).unwrap_or(&Cell::NotSent)
    }
}

/// A change of one row, or of a whole table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A new row.
    Insert {
        /// The row.
        after: Tuple,
    },
    /// A changed row.
    Update {
        /// Its key before, where that changed, or with REPLICA IDENTITY FULL the row before.
        before: Option<Tuple>,
        /// The row.
        after: Tuple,
    },
    /// A row that is gone.
    Delete {
        /// Its key, or with REPLICA IDENTITY FULL the row.
        before: Tuple,
    },
    /// All rows are gone.
    Truncate,
}

impl Change {
    /// The value of `_op`.
    pub fn op(&self) -> &'static str {
        match self {
            Self::Insert { .. } => "insert",
            Self::Update { .. } => "update",
            Self::Delete { .. } => "delete",
            Self::Truncate => "truncate",
        }
    }
}

impl Change {
    /// The row after and the row before, as the lake keeps them.
    pub(crate) fn rows(&self) -> (Option<&Tuple>, Option<&Tuple>) {
        match self {
            Self::Insert { after } => (Some(after), None),
            Self::Update { before, after } => (Some(after), before.as_ref()),
            // A reader finds by it which row went.
            Self::Delete { before } => (Some(before), Some(before)),
            Self::Truncate => (None, None),
        }
    }
}

/// One message of the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// The changes of a committed transaction follow.
    Begin {
        /// Where its commit record starts.
        lsn: Lsn,
        /// When it was committed, in microseconds since 1970.
        time_us: i64,
        /// The transaction.
        xid: u32,
    },
    /// A table as it is from here on.
    Relation {
        /// Names the table in the messages that follow.
        id: u32,
        table: Arc<Table>,
    },
    /// A change of a table.
    Change {
        /// The table.
        relation: u32,
        change: Change,
    },
    /// Tables were emptied.
    Truncate {
        /// The tables.
        relations: Vec<u32>,
    },
    /// All changes of the transaction were sent.
    Commit {
        /// Where the log continues after it.
        end: Lsn,
    },
    /// Everything that was committed before this place was sent.
    KeepAlive {
        /// The place.
        at: Lsn,
        /// The server wants to know now how far we are; a server that stops waits for it.
        is_urgent: bool,
    },
    /// The transaction asks that it is flushed and recorded in a checkpoint at once: it has a
    /// logical message with the prefix [`MESSAGE_PREFIX`].
    CheckpointRequest,
    /// Nothing that concerns us.
    Other,
}

/// Why the stream ended.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SourceError {
    /// The connection is gone; the next one continues where this one ended.
    #[error("the connection to the slot is gone: {0}")]
    Gone(String),
    /// The server refused.
    #[error("the server refuses to stream: {0}")]
    Refused(String),
    /// The server can't send a row, however often it is asked.
    #[error(
        "the server can't send a change of a row: {0}; the change stays in its log, so correct the row there, then `ftap cdc --resnapshot` copies the tables again. If its text is not UTF-8, a database with another encoding than SQL_ASCII would have refused it"
    )]
    Unsendable(String),
    /// A message could not be understood.
    #[error("a message of the server can't be understood: {0}; report this as a bug")]
    Garbled(String),
}

/// Whether the server's error, by its SQLSTATE and text, says that a value can't be sent: it is not in
/// the database's encoding, has a character that UTF-8 lacks, or its text is larger than 1 GB, for
/// which there is no code of its own and a text that is in English everywhere.
pub(crate) fn is_unsendable(code: &str, said: &str) -> bool {
    matches!(code, "22021" | "22P05" | "54000")
        || said.contains("invalid memory alloc request size")
}

/// A replication slot that is being read.
pub trait ChangeSource {
    /// The next message. Dropping the future loses none.
    fn next(&mut self) -> impl Future<Output = Result<Message, SourceError>>;

    /// Tells the server that everything before this place is durable.
    fn acknowledge(&mut self, durable: Lsn);
}

/// Reads one message of `pgoutput`; boundaries of transactions included.
pub fn decode(parser: &mut LogicalReplicationParser, data: Bytes) -> Result<Message, SourceError> {
    use LogicalReplicationMessage as M;
    let message = parser
        .parse_wal_message_bytes(data)
        .map_err(|error| SourceError::Garbled(error.to_string()))?;
    Ok(match message.message {
        M::Begin {
            final_lsn,
            timestamp,
            xid,
        } => Message::Begin {
            lsn: Lsn(final_lsn),
            time_us: unix_micros(timestamp),
            xid,
        },
        M::Commit { end_lsn, .. } => Message::Commit { end: Lsn(end_lsn) },
        M::Relation {
            relation_id,
            namespace,
            relation_name,
            columns,
            ..
        } => Message::Relation {
            id: relation_id,
            table: Arc::new(Table {
                oid: relation_id,
                schema: namespace.to_string(),
                name: relation_name.to_string(),
                columns: columns
                    .into_iter()
                    .map(|column| Column {
                        is_key: column.is_key(),
                        name: column.name.to_string(),
                        type_oid: column.type_id,
                        type_modifier: column.type_modifier,
                    })
                    .collect(),
            }),
        },
        M::Insert { relation_id, tuple } => Message::Change {
            relation: relation_id,
            change: Change::Insert {
                after: row(&tuple)?,
            },
        },
        M::Update {
            relation_id,
            old_tuple,
            new_tuple,
            key_type,
        } => Message::Change {
            relation: relation_id,
            change: Change::Update {
                before: old_tuple
                    .map(|old| row_before(&old, key_type))
                    .transpose()?,
                after: row(&new_tuple)?,
            },
        },
        M::Delete {
            relation_id,
            old_tuple,
            key_type,
        } => Message::Change {
            relation: relation_id,
            change: Change::Delete {
                before: row_before(&old_tuple, Some(key_type))?,
            },
        },
        M::Truncate { relation_ids, .. } => Message::Truncate {
            relations: relation_ids,
        },
        M::Type { .. } | M::Origin { .. } | M::Message { .. } => Message::Other,
        other => {
            return Err(SourceError::Garbled(format!(
                "unexpected in version 1 of the protocol: {other:?}"
            )));
        }
    })
}

fn row(tuple: &TupleData) -> Result<Tuple, SourceError> {
    tuple
        .columns
        .iter()
        .map(cell)
        .collect::<Result<_, _>>()
        .map(Tuple)
}

/// Of a key (`K`) the other columns are sent as NULL, which they need not be.
fn row_before(tuple: &TupleData, kind: Option<char>) -> Result<Tuple, SourceError> {
    let Tuple(mut cells) = row(tuple)?;
    if kind == Some('K') {
        for cell in &mut cells {
            if *cell == Cell::Null {
                *cell = Cell::NotSent;
            }
        }
    }
    Ok(Tuple(cells))
}

fn cell(data: &ColumnData) -> Result<Cell, SourceError> {
    match data.data_type {
        b'n' => Ok(Cell::Null),
        b'u' => Ok(Cell::NotSent),
        b't' => match std::str::from_utf8(data.as_bytes()) {
            Ok(text) => Ok(Cell::Text(text.into())),
            Err(error) => Err(SourceError::Garbled(format!(
                "a value is not UTF-8: {error}"
            ))),
        },
        other => Err(SourceError::Garbled(format!(
            "a value of the unknown kind {:?}",
            char::from(other)
        ))),
    }
}

/// From PostgreSQL's microseconds since 2000 to ours since 1970.
pub(crate) fn unix_micros(postgres_micros: i64) -> i64 {
    const EPOCH_2000_US: i64 = 946_684_800_000_000;
    postgres_micros.saturating_add(EPOCH_2000_US)
}
