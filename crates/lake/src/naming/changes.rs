use std::fmt;

use chrono::NaiveDate;

use super::{SUFFIX, parse_date};
use crate::position::{Lsn, Position};

const FOLDER_SUFFIX: &str = "_changes";

/// What an object holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ChangePart {
    /// A part of the epoch's snapshot, from 1. Without an LSN: two first starts at once
    /// would each have their own, and both snapshots would be in the lake.
    Snapshot(u32),
    /// The run of changes that starts here.
    Changes(Position),
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChangeObjectName {
    pub table: String,
    /// Counts the table's snapshots from 1.
    pub epoch: u32,
    /// What it holds.
    pub part: ChangePart,
    /// UTC date of the snapshot, or of the first change's commit.
    pub date: NaiveDate,
}

impl ChangeObjectName {
    /// The object's key: `users_changes/2026-11-22/users-000001-00000000016B3748-0000000001.parquet`,
    /// or `users_changes/2026-11-22/users-000001-snapshot-0001.parquet`.
    pub fn key(&self) -> String {
        self.to_string()
    }

    pub fn parse(key: &str) -> Option<Self> {
        let (folder, rest) = key.split_once('/')?;
        let table = folder.strip_suffix(FOLDER_SUFFIX)?;
        let (date, file) = rest.split_once('/')?;
        let parts = file
            .strip_suffix(SUFFIX)?
            .strip_prefix(table)?
            .strip_prefix('-')?;
        let mut parts = parts.split('-');
        let (epoch, lsn, seq) = (parts.next()?, parts.next()?, parts.next()?);
        let part = match lsn {
            "snapshot" => ChangePart::Snapshot(seq.parse().ok()?),
            _ => ChangePart::Changes(Position {
                lsn: Lsn(u64::from_str_radix(lsn, 16).ok()?),
                seq: seq.parse().ok()?,
            }),
        };
        let name = Self {
            table: table.to_owned(),
            epoch: epoch.parse().ok()?,
            part,
            date: parse_date(date)?,
        };
        // Leading zeros, signs and lower case would be other keys of the same object.
        (name.key() == key).then_some(name)
    }
}

impl fmt::Display for ChangeObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            table,
            epoch,
            part,
            date,
        } = self;
        let date = date.format("%Y-%m-%d");
        write!(f, "{table}{FOLDER_SUFFIX}/{date}/{table}-{epoch:06}-")?;
        match part {
            ChangePart::Snapshot(number) => write!(f, "snapshot-{number:04}")?,
            ChangePart::Changes(Position { lsn, seq }) => write!(f, "{:016X}-{seq:010}", lsn.0)?,
        }
        f.write_str(SUFFIX)
    }
}
