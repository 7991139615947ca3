//! I/O errors in the log and in the answers to clients.
//!
//! Promises: the first error of a place is logged at once, and then one every
//! [`LOG_INTERVAL`] with the number of those left out. Clients repeat a refused request for as
//! long as a disk is full, many times a second.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use kafka_protocol::ResponseError;
use parking_lot::Mutex;

const LOG_INTERVAL: Duration = Duration::from_secs(10);

struct Last {
    logged: Instant,
    left_out: u64,
}

/// As many as there are partitions and the journal.
static LAST: Mutex<Option<HashMap<PathBuf, Last>>> = Mutex::new(None);

/// How many errors of that place were left out before this one; `None` leaves this one out, too.
fn due(path: &Path, now: Instant) -> Option<u64> {
    let mut places = LAST.lock();
    let places = places.get_or_insert_with(HashMap::new);
    match places.get_mut(path) {
        Some(last) if now.saturating_duration_since(last.logged) < LOG_INTERVAL => {
            last.left_out += 1;
            None
        }
        Some(last) => {
            last.logged = now;
            Some(std::mem::take(&mut last.left_out))
        }
        None => {
            let first = Last {
                logged: now,
                left_out: 0,
            };
            places.insert(path.to_path_buf(), first);
            Some(0)
        }
    }
}

fn remedy(kind: io::ErrorKind) -> &'static str {
    match kind {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "free some space on that disk: clients try again meanwhile"
        }
        io::ErrorKind::ReadOnlyFilesystem => {
            "mount that file system writable: clients try again meanwhile"
        }
        io::ErrorKind::PermissionDenied => "give this user write permission on it",
        _ => "check the disk: clients try again meanwhile",
    }
}

/// Logs an I/O error of the log in `dir` and gives the answer clients get for it.
pub(crate) fn storage_error(dir: &Path, error: &io::Error) -> ResponseError {
    if let Some(left_out) = due(dir, Instant::now()) {
        let remedy = remedy(error.kind());
        tracing::error!(event = "storage_error", path = %dir.display(), %error, remedy, left_out);
    }
    ResponseError::KafkaStorageError
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_error_of_a_place_is_due_at_a_time_and_the_next_counts_those_between() {
        let start = Instant::now();
        let (here, there) = (Path::new("due/here"), Path::new("due/there"));
        assert_eq!(due(here, start), Some(0));
        for _ in 0..5 {
            assert_eq!(due(here, start), None);
        }
        assert_eq!(due(there, start), Some(0), "another place");
        assert_eq!(due(here, start + LOG_INTERVAL), Some(5));
        assert_eq!(due(here, start + LOG_INTERVAL), None);
    }
}
