//! What a load job loads, written down before it is submitted.
//!
//! Promises: a job's id follows from the bytes of its manifest, the table, the manifest's place in
//! the table's chain and the attempt, so everybody who finds the manifest means the same job; the
//! manifest holds the name of its process and its time, so that the same objects, loaded again after
//! chain and table were deleted, are another job. Pure.
//!
//! ```text
//! bigquery/{project}/{dataset}/{table}/{sequence, 20 digits}.json        the manifest
//! bigquery/{project}/{dataset}/{table}/{sequence, 20 digits}.done.json   its job is done
//! bigquery/{project}/{dataset}/{table}/{sequence, 20 digits}.names       now and then: all so far
//! ```
//! All are create-only. A manifest is put only when the one before it is done. BigQuery forgets a
//! job after 180 days; a manifest with a mark, or with a successor, is never asked about again.

use bytes::Bytes;
use ftap_lake::LOADS_FOLDER;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_128;

use super::schema::Column;

/// Version of the manifests that this program writes and reads.
pub const VERSION: u32 = 1;
/// BigQuery keeps jobs for 180 days; beyond this a job that is not found may have been done.
pub(crate) const JOB_MEMORY_DAYS: i64 = 150;

const SUFFIX: &str = ".json";
const DONE_SUFFIX: &str = ".done.json";
const NAMES_SUFFIX: &str = ".names";
const DIGITS: usize = 20;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchObject {
    pub key: String,
    /// Rows, by its footer.
    pub rows: u64,
    /// Its size.
    pub bytes: u64,
}

/// What one job loads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// See [`VERSION`].
    pub version: u32,
    pub table: String,
    /// Its place in the table's chain, from 1.
    pub sequence: u64,
    /// Fingerprint of the manifest before it, empty for the first.
    pub follows: String,
    /// Where the job runs.
    pub location: String,
    /// Who wrote it.
    pub writer: String,
    /// When, in milliseconds since 1970.
    pub created_ms: i64,
    /// The objects' columns.
    pub columns: Vec<Column>,
    /// The objects, in the order of their keys.
    pub objects: Vec<BatchObject>,
}

/// That a manifest's job is done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// The job, empty if there was nothing to load.
    pub job: String,
    /// Rows of the objects.
    pub rows: u64,
    /// Rows that BigQuery loaded.
    pub rows_loaded: u64,
}

/// A manifest that can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// Not JSON, or not of this shape.
    #[error("{key} is not the manifest of a load: {problem}; restore it")]
    Unreadable {
        /// The object.
        key: String,
        problem: String,
    },
    /// Of a later version of this program.
    #[error("{key} is of version {version} and this program reads {VERSION}: use a newer ftap")]
    Version {
        /// The object.
        key: String,
        version: u32,
    },
    /// The chain has a hole or a manifest of another chain.
    #[error(
        "{key} does not follow {previous}: one of them was deleted or replaced, and what it named would be loaded again; restore it, or delete the folder together with the table to load everything again"
    )]
    Chain {
        /// The object.
        key: String,
        /// What should be before it.
        previous: String,
    },
}

impl Manifest {
    /// Rows of all objects.
    pub fn rows(&self) -> u64 {
        self.objects.iter().map(|object| object.rows).sum()
    }

    /// Bytes of all objects.
    pub fn bytes(&self) -> u64 {
        self.objects.iter().map(|object| object.bytes).sum()
    }

    /// What the job reads: objects without rows, which hold rejections alone, are left out.
    pub fn uris(&self, bucket: &str) -> Vec<String> {
        let with_rows = self.objects.iter().filter(|object| object.rows > 0);
        with_rows
            .map(|object| format!("gs://{bucket}/{}", object.key))
            .collect()
    }

    /// Its bytes, from which its fingerprint follows.
    pub fn encode(&self) -> Bytes {
        let text = serde_json::to_vec(self).expect("strings and numbers become JSON");
        text.into()
    }

    /// Reads one, which must match its key.
    pub fn decode(key: &str, bytes: &[u8]) -> Result<Self, ManifestError> {
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        let unreadable = |problem: String| ManifestError::Unreadable {
            key: key.to_owned(),
            problem,
        };
        let versioned: Versioned =
            serde_json::from_slice(bytes).map_err(|error| unreadable(error.to_string()))?;
        if versioned.version != VERSION {
            return Err(ManifestError::Version {
                key: key.to_owned(),
                version: versioned.version,
            });
        }
        serde_json::from_slice(bytes).map_err(|error| unreadable(error.to_string()))
    }
}

/// Of a manifest's bytes: 32 hexadecimal digits.
pub fn fingerprint(bytes: &[u8]) -> String {
    format!("{:032x}", xxh3_128(bytes))
}

/// The id of a manifest's job: letters, digits and dashes.
pub fn job_id(table: &str, sequence: u64, fingerprint: &str, attempt: u64) -> String {
    format!("ftap-{table}-{sequence}-{fingerprint}-{attempt}")
}

/// The folder of a table's chain.
pub fn folder(project: &str, dataset: &str, table: &str) -> String {
    format!("{LOADS_FOLDER}/{project}/{dataset}/{table}")
}

pub fn manifest_key(folder: &str, sequence: u64) -> String {
    format!("{folder}/{sequence:0DIGITS$}{SUFFIX}")
}

/// Key of the mark that its job is done.
pub fn done_key(folder: &str, sequence: u64) -> String {
    format!("{folder}/{sequence:0DIGITS$}{DONE_SUFFIX}")
}

/// Key of the summary of all manifests up to that one.
pub fn names_key(folder: &str, sequence: u64) -> String {
    format!("{folder}/{sequence:0DIGITS$}{NAMES_SUFFIX}")
}

/// An object of a table's chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChainObject {
    /// The manifest of that place.
    Manifest(u64),
    /// Its mark.
    Done(u64),
    /// The summary up to it.
    Names(u64),
}

/// Reads a key of a table's chain.
pub fn parse_key(folder: &str, key: &str) -> Option<ChainObject> {
    let file = key.strip_prefix(folder)?.strip_prefix('/')?;
    let known = |suffix: &str, found: fn(u64) -> ChainObject| {
        let digits = file.strip_suffix(suffix)?;
        Some((digits, found))
    };
    let (digits, found) = known(DONE_SUFFIX, ChainObject::Done)
        .or_else(|| known(NAMES_SUFFIX, ChainObject::Names))
        .or_else(|| known(SUFFIX, ChainObject::Manifest))?;
    let is_number = digits.len() == DIGITS && digits.bytes().all(|byte| byte.is_ascii_digit());
    let sequence = digits.parse().ok().filter(|_| is_number)?;
    Some(found(sequence))
}

/// The attempt that decides a manifest: the first that has not failed. Attempt n + 1 is submitted
/// only when n has failed, so those that have failed come first, and a search need not ask for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttemptSearch {
    /// All before it have failed.
    first_unknown: u64,
    /// It has not failed, if known.
    has_not_failed: Option<u64>,
    step: u64,
}

impl Default for AttemptSearch {
    fn default() -> Self {
        Self {
            first_unknown: 0,
            has_not_failed: None,
            step: 1,
        }
    }
}

impl AttemptSearch {
    /// The attempt to ask about next, or the one that was looked for.
    pub fn next(&self) -> Result<u64, u64> {
        match self.has_not_failed {
            Some(end) if end == self.first_unknown => Err(end),
            Some(end) => Ok(self.first_unknown + (end - self.first_unknown) / 2),
            None => Ok(self.first_unknown + self.step - 1),
        }
    }

    /// Notes whether the attempt that was asked about has failed.
    pub fn note(&mut self, attempt: u64, has_failed: bool) {
        if has_failed {
            self.first_unknown = attempt + 1;
            self.step = self.step.saturating_mul(2);
        } else {
            self.has_not_failed = Some(attempt);
        }
    }
}
