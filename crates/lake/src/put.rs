//! How a file gets into the lake.
//!
//! Promises: it is written by one create-only put; if another is there first, its footer
//! decides by the data set's own rule.

use std::time::Instant;

use bytes::Bytes;

use crate::error::LakeError;
use crate::footer::{Adoption, Footer};
use crate::listing::read_footer;
use crate::store::{LakeStore, PutOutcome};

/// A finished file that belongs into the lake.
#[derive(Clone, Debug)]
pub struct ClosedFile<F: Footer> {
    /// Its name, and by it its key.
    pub name: F::Name,
    /// The Parquet file.
    pub bytes: Bytes,
    pub footer: F,
    /// When its first record came.
    pub opened_at: Instant,
}

impl<F: Footer> ClosedFile<F> {
    pub fn key(&self) -> String {
        self.name.to_string()
    }
}

/// How a file is in the lake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PutResult<F> {
    Created,
    /// The same run was there.
    Same,
    /// Another run from the same start was there, with this footer; ours was not written.
    Overtaken(F),
}

/// Why a file is not in the lake.
#[derive(Debug, thiserror::Error)]
pub enum PutError<C> {
    /// The lake refused or failed.
    #[error(transparent)]
    Lake(#[from] LakeError),
    /// The object in its place is of another history.
    #[error("{0}")]
    Conflict(C),
}

/// Puts a file; at most once, however often it is repeated after an error.
pub async fn put<F: Footer>(
    lake: &LakeStore,
    file: &ClosedFile<F>,
) -> Result<PutResult<F>, PutError<F::Conflict>> {
    if lake.put_create(&file.key(), file.bytes.clone()).await? == PutOutcome::Created {
        return Ok(PutResult::Created);
    }
    let theirs: F = read_footer(lake, &file.name).await?;
    match file.footer.adopt(&theirs) {
        Ok(Adoption::Same) => Ok(PutResult::Same),
        Ok(Adoption::Overtaken) => Ok(PutResult::Overtaken(theirs)),
        Err(conflict) => Err(PutError::Conflict(conflict)),
    }
}
