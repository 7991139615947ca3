//! What the lake recorded before a position was acknowledged to the server.
//!
//! Promises: everything up to a checkpoint's witness is in the lake, and the slot was never
//! acknowledged further than the newest checkpoint; what the slot has confirmed beyond it was
//! skipped by another client. A checkpoint is created once, under a key that follows from its
//! epoch and position. Pure.

use std::collections::BTreeMap;
use std::fmt;

use chrono::{DateTime, SecondsFormat, Utc};
use ftap_lake::{CHECKPOINTS_FOLDER, Lsn, Position};
use serde::{Deserialize, Serialize};

use crate::catalog::Catalog;

/// The version that is written, and the only one that is read.
const VERSION: u32 = 1;
const SUFFIX: &str = ".json";

/// A checkpoint's place: `cdc_checkpoints/000001-00000000016B3748.json`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CheckpointName {
    /// The epoch.
    pub epoch: u32,
    /// The position that may be acknowledged.
    pub confirmed: Lsn,
}

impl CheckpointName {
    /// Reads a key.
    pub fn parse(key: &str) -> Option<Self> {
        let (folder, file) = key.split_once('/')?;
        let (epoch, confirmed) = file.strip_suffix(SUFFIX)?.split_once('-')?;
        let name = Self {
            epoch: epoch.parse().ok()?,
            confirmed: Lsn(u64::from_str_radix(confirmed, 16).ok()?),
        };
        (folder == CHECKPOINTS_FOLDER && name.to_string() == key).then_some(name)
    }
}

impl fmt::Display for CheckpointName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { epoch, confirmed } = self;
        let lsn = confirmed.0;
        write!(f, "{CHECKPOINTS_FOLDER}/{epoch:06}-{lsn:016X}{SUFFIX}")
    }
}

/// The last commit that was received before a checkpoint. The slot is acknowledged up to the start
/// of its record, so the server sends it again at each reconnect: another log does not have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Witness {
    /// Start of its commit record.
    pub lsn: Lsn,
    /// The transaction.
    pub xid: u32,
    /// When it was committed, in microseconds since 1970.
    pub time_us: i64,
}

impl fmt::Display for Witness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { lsn, xid, time_us } = self;
        write!(f, "transaction {xid} committed at {lsn}")?;
        match DateTime::from_timestamp_micros(*time_us) {
            Some(time) => write!(f, " ({})", time.format("%Y-%m-%d %H:%M:%S%.6f UTC")),
            None => Ok(()),
        }
    }
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// Version of the format.
    version: u32,
    /// The snapshot that the changes follow.
    pub epoch: u32,
    /// The slot.
    pub slot: String,
    /// The server's system identifier.
    pub system: String,
    /// What may be acknowledged: the witness' position, at first the snapshot's.
    pub confirmed: Lsn,
    /// `None` until a commit was received.
    pub witness: Option<Witness>,
    /// A commit after it of which the lake has a part: it was received while a file was full.
    pub partial: Option<Witness>,
    /// Of each table the position of its last row in the lake.
    pub ends: BTreeMap<String, Position>,
    /// The server's catalogue, as it was compared last.
    #[serde(flatten)]
    pub catalog: Catalog,
    /// The process that wrote it.
    pub writer_id: String,
    /// When it was written, by RFC 3339.
    pub written_at: String,
}

/// Why a checkpoint can't be read.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// Not JSON, or not of this form.
    #[error("it is not a checkpoint of change capture: {0}")]
    Json(#[from] serde_json::Error),
    /// Written by a later version.
    #[error("its version is {0}, this program reads version {VERSION}: update ftap")]
    Version(u32),
    /// Its content is that of another one.
    #[error("it holds the checkpoint of {0}")]
    OfAnother(CheckpointName),
}

/// What a checkpoint is made from.
pub(crate) struct CheckpointParts<'a> {
    pub(crate) epoch: u32,
    pub(crate) slot: &'a str,
    pub(crate) system: &'a str,
    pub(crate) writer_id: &'a str,
    pub(crate) ends: BTreeMap<String, Position>,
    pub(crate) catalog: Catalog,
}

impl Checkpoint {
    /// The first one of an epoch: its snapshot is in the lake, and shows this position.
    pub(crate) fn first(confirmed: Lsn, parts: CheckpointParts<'_>) -> Self {
        Self {
            version: VERSION,
            epoch: parts.epoch,
            slot: parts.slot.to_owned(),
            system: parts.system.to_owned(),
            confirmed,
            witness: None,
            partial: None,
            ends: parts.ends,
            catalog: parts.catalog,
            writer_id: parts.writer_id.to_owned(),
            written_at: Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true),
        }
    }

    /// One after the commit `witness`, and within `partial`.
    pub(crate) fn after(
        witness: Witness,
        partial: Option<Witness>,
        parts: CheckpointParts<'_>,
    ) -> Self {
        Self {
            witness: Some(witness),
            partial,
            ..Self::first(witness.lsn, parts)
        }
    }

    /// Its name.
    pub fn name(&self) -> CheckpointName {
        CheckpointName {
            epoch: self.epoch,
            confirmed: self.confirmed,
        }
    }

    /// The object.
    pub fn to_json(&self) -> Result<Vec<u8>, CheckpointError> {
        Ok(serde_json::to_vec_pretty(self)?)
    }

    /// Reads the object of that name.
    pub fn read(name: CheckpointName, json: &[u8]) -> Result<Self, CheckpointError> {
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        let Versioned { version } = serde_json::from_slice(json)?;
        if version != VERSION {
            return Err(CheckpointError::Version(version));
        }
        let checkpoint: Self = serde_json::from_slice(json)?;
        if checkpoint.name() != name {
            return Err(CheckpointError::OfAnother(checkpoint.name()));
        }
        Ok(checkpoint)
    }
}
