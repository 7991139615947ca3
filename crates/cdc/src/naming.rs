//! Names of the objects that hold changes.
//!
//! Promises: the key of a run of changes depends on its epoch and its first change alone,
//! so two writers of one run meet at one key; [`ChangeObjectName::parse`] accepts exactly
//! what [`ChangeObjectName::key`] writes. Pure.

use std::fmt;

use chrono::{DateTime, NaiveDate};
use ftap_lake::naming::{date_of, parse_folder};

use super::position::{Lsn, Position};

const SUFFIX: &str = ".parquet";
const FOLDER_SUFFIX: &str = "_changes";

/// What an object holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// A part of the epoch's snapshot, from 1. Without an LSN: two first starts at once
    /// would each have their own, and both snapshots would be in the lake.
    Snapshot(u32),
    /// The run of changes that starts here.
    Changes(Position),
}

/// The name of one object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChangeObjectName {
    /// The table.
    pub table: String,
    /// Counts the table's snapshots from 1.
    pub epoch: u32,
    /// What it holds.
    pub part: Part,
    /// UTC date of the snapshot, or of the first change's commit.
    pub date: NaiveDate,
}

/// The folder of a table's objects: `users_changes`.
pub fn folder(table: &str) -> String {
    format!("{table}{FOLDER_SUFFIX}")
}

/// UTC date of a time in microseconds since 1970; see [`date_of`] for its bounds.
pub fn date_of_micros(micros: i64) -> NaiveDate {
    match DateTime::from_timestamp_micros(micros) {
        Some(time) => date_of(time.timestamp_millis()),
        None => date_of(micros.signum().saturating_mul(i64::MAX)),
    }
}

impl ChangeObjectName {
    /// The object's key: `users_changes/2026-11-22/users-000001-00000000016B3748-0000000001.parquet`,
    /// or `users_changes/2026-11-22/users-000001-snapshot-0001.parquet`.
    pub fn key(&self) -> String {
        self.to_string()
    }

    /// Reads a key.
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
            "snapshot" => Part::Snapshot(seq.parse().ok()?),
            _ => Part::Changes(Position {
                lsn: Lsn(u64::from_str_radix(lsn, 16).ok()?),
                seq: seq.parse().ok()?,
            }),
        };
        let name = Self {
            table: table.to_owned(),
            epoch: epoch.parse().ok()?,
            part,
            date: parse_folder(date)?,
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
            Part::Snapshot(number) => write!(f, "snapshot-{number:04}")?,
            Part::Changes(Position { lsn, seq }) => write!(f, "{:016X}-{seq:010}", lsn.0)?,
        }
        f.write_str(SUFFIX)
    }
}
