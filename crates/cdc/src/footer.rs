//! What the footer of an object of changes says about the run it holds.
//!
//! Promises: [`ChangeFooter::from_pairs`] reads exactly what [`ChangeFooter::to_pairs`]
//! writes. Pure; key-value pairs with keys `ftap.*`.

use ftap_lake::pairs::{FooterError, Pairs, hash_text};

use super::position::{Lsn, Position};

/// The only version so far.
pub const FORMAT_VERSION: u32 = 1;

const FORMAT_VERSION_KEY: &str = "ftap.changes_version";
const TABLE: &str = "ftap.table";
const TABLE_OID: &str = "ftap.table_oid";
const SYSTEM: &str = "ftap.system";
const SLOT: &str = "ftap.slot";
const EPOCH: &str = "ftap.epoch";
const CONTENT: &str = "ftap.content";
const FIRST_LSN: &str = "ftap.first_lsn";
const FIRST_SEQ: &str = "ftap.first_seq";
const LAST_LSN: &str = "ftap.last_lsn";
const LAST_SEQ: &str = "ftap.last_seq";
const MORE: &str = "ftap.commit_goes_on";
const FIRST_CHANGE: &str = "ftap.first_change";
const ROWS: &str = "ftap.rows";
const CHECKSUM: &str = "ftap.checksum";
const WRITER_ID: &str = "ftap.writer_id";

/// What an object holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// Rows of a snapshot; more of them follow in the next part.
    SnapshotPart,
    /// The last rows of a snapshot, which is whole with them.
    SnapshotEnd,
    /// Changes.
    Changes,
}

impl Content {
    fn as_str(self) -> &'static str {
        match self {
            Self::SnapshotPart => "snapshot_part",
            Self::SnapshotEnd => "snapshot_end",
            Self::Changes => "changes",
        }
    }
}

/// The run of one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangeFooter {
    /// The table.
    pub table: String,
    /// The table's object identifier on the server; objects of an earlier version lack it.
    pub table_oid: Option<u32>,
    /// The server's system identifier: positions of another one mean nothing.
    pub system: String,
    /// The slot.
    pub slot: String,
    /// Counts the table's snapshots from 1.
    pub epoch: u32,
    /// What it holds.
    pub content: Content,
    /// Position of the first row.
    pub first: Position,
    /// Position of the last row.
    pub last: Position,
    /// Whether the last commit may have more changes of this table, in the next object.
    pub commit_goes_on: bool,
    /// Fingerprint of the first row, see [`super::file`]; it tells a server from one of the
    /// same identifier that was restored and went another way.
    pub first_change: u64,
    /// Rows.
    pub rows: u64,
    /// Checksum of the rows as the server sent them, see [`super::file`].
    pub checksum: u64,
    /// The process that wrote the object.
    pub writer_id: String,
}

impl ChangeFooter {
    /// The footer as key-value pairs.
    pub fn to_pairs(&self) -> Vec<(&'static str, String)> {
        let mut pairs = vec![
            (FORMAT_VERSION_KEY, FORMAT_VERSION.to_string()),
            (TABLE, self.table.clone()),
            (SYSTEM, self.system.clone()),
            (SLOT, self.slot.clone()),
            (EPOCH, self.epoch.to_string()),
            (CONTENT, self.content.as_str().to_owned()),
            (FIRST_LSN, self.first.lsn.to_string()),
            (FIRST_SEQ, self.first.seq.to_string()),
            (LAST_LSN, self.last.lsn.to_string()),
            (LAST_SEQ, self.last.seq.to_string()),
            (MORE, self.commit_goes_on.to_string()),
            (FIRST_CHANGE, hash_text(self.first_change)),
            (ROWS, self.rows.to_string()),
            (CHECKSUM, hash_text(self.checksum)),
            (WRITER_ID, self.writer_id.clone()),
        ];
        pairs.extend(self.table_oid.map(|oid| (TABLE_OID, oid.to_string())));
        pairs
    }

    /// Reads key-value pairs; those of others are ignored.
    pub fn from_pairs<'a>(
        pairs: impl IntoIterator<Item = (&'a str, Option<&'a str>)>,
    ) -> Result<Self, FooterError> {
        let pairs = Pairs::new(pairs);
        pairs.expect_version(FORMAT_VERSION_KEY, FORMAT_VERSION)?;
        let content = match pairs.text(CONTENT)? {
            "snapshot_part" => Content::SnapshotPart,
            "snapshot_end" => Content::SnapshotEnd,
            "changes" => Content::Changes,
            _ => return Err(pairs.invalid(CONTENT, "snapshot_part, snapshot_end or changes")),
        };
        let footer = Self {
            table: pairs.text(TABLE)?.to_owned(),
            table_oid: match pairs.text(TABLE_OID) {
                Ok(_) => Some(pairs.number(TABLE_OID)?),
                Err(_) => None,
            },
            system: pairs.text(SYSTEM)?.to_owned(),
            slot: pairs.text(SLOT)?.to_owned(),
            epoch: pairs.number(EPOCH)?,
            content,
            first: position(&pairs, FIRST_LSN, FIRST_SEQ)?,
            last: position(&pairs, LAST_LSN, LAST_SEQ)?,
            commit_goes_on: pairs.parse(MORE, "true or false")?,
            first_change: pairs.hash(FIRST_CHANGE)?,
            rows: pairs.number(ROWS)?,
            checksum: pairs.hash(CHECKSUM)?,
            writer_id: pairs.text(WRITER_ID)?.to_owned(),
        };
        if footer.last < footer.first {
            return Err(pairs.invalid(LAST_LSN, "no position before the first one"));
        }
        if footer.content == Content::Changes && footer.rows == 0 {
            return Err(pairs.invalid(ROWS, "a run of one change at the least"));
        }
        Ok(footer)
    }
}

fn position(
    pairs: &Pairs<'_>,
    lsn: &'static str,
    seq: &'static str,
) -> Result<Position, FooterError> {
    Ok(Position {
        lsn: pairs.parse::<Lsn>(lsn, "a log position such as 0/16B3748")?,
        seq: pairs.number(seq)?,
    })
}
