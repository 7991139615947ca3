//! What the footer of an object of changes says about the run it holds, and its rule.
//!
//! Pure.

use ftap_lake::{
    Adoption, ChangeObjectName, ChangePart, Codec, Flag, Footer, FooterError, Hash, Lsn,
    OptionalNumber, Pairs, Position, Text, WholeNumber, footer,
};

use crate::chain::{ChangeConflict, on_already_exists};

/// What an object holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// Rows of a snapshot; more of them follow in the next part.
    SnapshotPart,
    /// The last rows of a snapshot, which is whole with them.
    SnapshotEnd,
    Changes,
}

struct Contents;
struct LogPosition;
struct OptionalLogPosition;

impl Codec<Content> for Contents {
    const FORM: &'static str = "`snapshot_part`, `snapshot_end` or `changes`";

    fn encode(value: &Content) -> Option<String> {
        let text = match value {
            Content::SnapshotPart => "snapshot_part",
            Content::SnapshotEnd => "snapshot_end",
            Content::Changes => "changes",
        };
        Some(text.to_owned())
    }

    fn decode(text: &str) -> Option<Content> {
        match text {
            "snapshot_part" => Some(Content::SnapshotPart),
            "snapshot_end" => Some(Content::SnapshotEnd),
            "changes" => Some(Content::Changes),
            _ => None,
        }
    }
}

impl Codec<Lsn> for LogPosition {
    const FORM: &'static str = "a log position such as `0/16B3748`";

    fn encode(value: &Lsn) -> Option<String> {
        Some(value.to_string())
    }

    fn decode(text: &str) -> Option<Lsn> {
        text.parse().ok()
    }
}

impl Codec<Option<Lsn>> for OptionalLogPosition {
    const FORM: &'static str = "a log position, or absent";

    fn encode(value: &Option<Lsn>) -> Option<String> {
        value.as_ref().map(Lsn::to_string)
    }

    fn decode(text: &str) -> Option<Option<Lsn>> {
        text.parse().ok().map(Some)
    }

    fn absent() -> Option<Option<Lsn>> {
        Some(None)
    }
}

footer! {
    /// The run of one object of changes.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct ChangeFooter, "ftap.changes_version" = 1;
    "ftap.table" (Text: "table") table: String,
    "ftap.system" (Text: "the server's system identifier; positions of another server mean nothing") system: String,
    "ftap.slot" (Text: "replication slot") slot: String,
    "ftap.epoch" (WholeNumber: "number of the snapshot, from 1") epoch: u32,
    "ftap.content" (Contents: "what the file holds; `snapshot_end` completes the snapshot") content: Content,
    "ftap.first_lsn" (LogPosition: "position of the first row") first_lsn: Lsn,
    "ftap.first_seq" (WholeNumber: "its number within the commit") first_seq: u64,
    "ftap.last_lsn" (LogPosition: "position of the last row") last_lsn: Lsn,
    "ftap.last_seq" (WholeNumber: "its number within the commit") last_seq: u64,
    "ftap.commit_goes_on" (Flag: "`true` if the next file may continue the last commit") commit_goes_on: bool,
    "ftap.first_change" (Hash: "hash of the first row; distinguishes a server from a restored copy of it") first_change: u64,
    "ftap.rows" (WholeNumber: "rows in the file") rows: u64,
    "ftap.checksum" (Hash: "XXH3-64 of all row hashes") checksum: u64,
    "ftap.writer_id" (Text: "the process that wrote the file") writer_id: String,
    "ftap.table_oid" (OptionalNumber: "the table's OID; absent in files of an earlier version") table_oid: Option<u32>,
    "ftap.previous_lsn" (OptionalLogPosition: "position of the last row of the table's file before this one; in a snapshot, its own; absent in files of an earlier version") previous_lsn: Option<Lsn>,
    "ftap.previous_seq" (OptionalNumber: "its number within the commit") previous_seq: Option<u64>,
}

impl ChangeFooter {
    /// Position of the first row.
    pub fn first(&self) -> Position {
        Position {
            lsn: self.first_lsn,
            seq: self.first_seq,
        }
    }

    /// Position of the last row.
    pub fn last(&self) -> Position {
        Position {
            lsn: self.last_lsn,
            seq: self.last_seq,
        }
    }

    /// Where the table's object before this one ended; `None` in a file of an earlier version.
    pub fn previous(&self) -> Option<Position> {
        let (lsn, seq) = self.previous_lsn.zip(self.previous_seq)?;
        Some(Position { lsn, seq })
    }

    fn check(&self, pairs: &Pairs<'_>) -> Result<(), FooterError> {
        if self.previous_lsn.is_some() != self.previous_seq.is_some() {
            return Err(pairs.invalid("ftap.previous_seq", "both or neither of ftap.previous_*"));
        }
        let may_start = |previous| match self.content {
            Content::Changes => previous < self.first(),
            Content::SnapshotPart | Content::SnapshotEnd => previous == self.first(),
        };
        if !self.previous().is_none_or(may_start) {
            return Err(pairs.invalid("ftap.previous_lsn", "the end of the file before this one"));
        }
        if self.last() < self.first() {
            return Err(pairs.invalid("ftap.last_lsn", "no position before the first one"));
        }
        if self.content == Content::Changes && self.rows == 0 {
            return Err(pairs.invalid("ftap.rows", "at least one change"));
        }
        Ok(())
    }
}

impl Footer for ChangeFooter {
    type Name = ChangeObjectName;
    type Conflict = ChangeConflict;

    fn check_name(&self, name: &ChangeObjectName) -> Result<(), FooterError> {
        let is_its_own = self.table == name.table
            && self.epoch == name.epoch
            && match name.part {
                ChangePart::Changes(first) => {
                    self.content == Content::Changes && self.first() == first
                }
                ChangePart::Snapshot(_) => self.content != Content::Changes,
            };
        if is_its_own {
            Ok(())
        } else {
            Err(FooterError::OfAnother(format!(
                "{} from {} in epoch {}",
                self.table,
                self.first(),
                self.epoch
            )))
        }
    }

    fn adopt(&self, theirs: &Self) -> Result<Adoption, ChangeConflict> {
        on_already_exists(self, theirs)
    }
}
