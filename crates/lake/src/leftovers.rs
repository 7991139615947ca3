//! Clears away what killed writers of a local lake left behind.
//!
//! Promises: a staging file that is still being written stays. Its writer holds a lock on it,
//! which the system releases when the writer ends, however it ends; process ids would say
//! nothing of writers in other containers. Where a file system has no locks, or they don't reach
//! other machines, the age is on the safe side, and should a file be taken from under its
//! writer all the same, its put fails without an object and is tried again.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::Path;
use std::time::Duration;

/// A put takes seconds.
const LEAST_AGE: Duration = Duration::from_secs(120);

/// Removes dead staging files below the lake's folder; how many there were.
pub(crate) fn clear(root: &Path) -> io::Result<u64> {
    let mut cleared = 0;
    for entry in fs::read_dir(root)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            // One that vanishes or can't be read is not worth an error.
            cleared += clear(&entry.path()).unwrap_or(0);
        } else if kind.is_file() && is_staging(&entry.file_name().to_string_lossy()) {
            cleared += u64::from(remove_if_dead(&entry.path()).unwrap_or(false));
        }
    }
    Ok(cleared)
}

/// As [`super::local`] names them: an object's name or the probe's, `#`, digits.
fn is_staging(name: &str) -> bool {
    name.rsplit_once('#').is_some_and(|(object, number)| {
        (object.ends_with(".parquet") || object == "probe")
            && !number.is_empty()
            && number.bytes().all(|digit| digit.is_ascii_digit())
    })
}

fn remove_if_dead(path: &Path) -> io::Result<bool> {
    let file = File::open(path)?;
    let age = file.metadata()?.modified()?.elapsed().unwrap_or_default();
    if age < LEAST_AGE {
        return Ok(false);
    }
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(false),
        Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => {}
        Err(TryLockError::Error(error)) => return Err(error),
    }
    fs::remove_file(path)?;
    Ok(true)
}
