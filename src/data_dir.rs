//! The data directory: can it be used, and who is using it.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use ftap_telemetry::figures::size;

use crate::exit::BadUsage;
use crate::process;

/// Makes a directory and shows that files can be written in it; the error names path, user and
/// remedy. `setting` is the setting that leads there.
pub(crate) fn make_writable(dir: &Path, setting: &str) -> anyhow::Result<()> {
    let probe = dir.join(format!(".writable-{}.tmp", std::process::id()));
    std::fs::create_dir_all(dir)
        .and_then(|()| File::create(&probe))
        .and_then(|mut file| file.write_all(b"ftap"))
        .and_then(|()| std::fs::remove_file(&probe))
        .map_err(|error| {
            // A probe that was made and could not be filled must not stay; it may not exist at all.
            let _ = std::fs::remove_file(&probe);
            unusable(dir, setting, &error)
        })
}

fn unusable(dir: &Path, setting: &str, error: &io::Error) -> anyhow::Error {
    let user = process::user_id();
    let shown = dir.display();
    let remedy = match error.kind() {
        // Nothing that the user has said is wrong.
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            return anyhow::anyhow!(no_space(dir, setting, error));
        }
        io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory => {
            "a file is in the way: move it".to_owned()
        }
        io::ErrorKind::ReadOnlyFilesystem => {
            "the file system is read-only: mount it for writing".to_owned()
        }
        _ if dir.exists() => format!("as a user who may: chown -R {user} {shown}"),
        // What does not exist has no owner to change.
        _ => format!("as a user who may: mkdir -p {shown} && chown {user} {shown}"),
    };
    BadUsage(format!(
        "{shown} can't be written by user {user} (from {setting}): {error}\n  {remedy}, or set {setting} to another directory"
    ))
    .into()
}

fn no_space(dir: &Path, setting: &str, error: &io::Error) -> String {
    // The nearest folder that is there: the system would not make the others.
    let whole = std::path::absolute(dir).unwrap_or_default();
    let disk = whole.ancestors().find_map(process::disk_bytes);
    let figures = match disk {
        Some((free, total)) if error.kind() == io::ErrorKind::StorageFull => {
            format!("; of {} there {} are free", size(total), size(free))
        }
        // A quota's are not known.
        _ => String::new(),
    };
    let needs = match setting {
        "DATA_DIR" => "; a first `ftap run` takes about 220 MB",
        _ => "",
    };
    format!(
        "no space is left in {} (from {setting}): {error}{figures}{needs}\n  free some space on that disk, or set {setting} to another directory",
        dir.display()
    )
}

/// Held by each process that uses a data directory, together with others, or by the one that resets it.
#[derive(Debug)]
pub(crate) struct InUse {
    // Locked as long as it is open, also when the process is killed.
    _file: File,
}

impl InUse {
    /// Joins the processes that use the directory; `None` if it takes no lock. A process that keeps
    /// data there creates what is missing, another one writes nothing.
    pub(crate) fn join(data_dir: &Path, keeps_data: bool) -> Result<Option<Self>, BadUsage> {
        let file = if keeps_data {
            // What is wrong with the directory is reported where it is needed.
            std::fs::create_dir_all(data_dir)
                .ok()
                .and_then(|()| Self::create(data_dir))
        } else {
            File::open(Self::path(data_dir)).ok()
        };
        let Some(file) = file else {
            return Ok(None);
        };
        match file.try_lock_shared() {
            Ok(()) => Ok(Some(Self { _file: file })),
            Err(TryLockError::WouldBlock) => Err(BadUsage(format!(
                "`ftap reset` is removing what is in the data directory {}: wait until it is done, or set DATA_DIR to another directory",
                data_dir.display()
            ))),
            // A file system without locks.
            Err(TryLockError::Error(_)) => Ok(None),
        }
    }

    /// For this process alone; an error while another one uses the directory. `None` if there is
    /// no such directory.
    pub(crate) fn alone(data_dir: &Path) -> Result<Option<Self>, BadUsage> {
        let Some(file) = Self::create(data_dir) else {
            return Ok(None);
        };
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => Err(BadUsage(format!(
                "an ftap process uses the data directory {}: stop it first",
                data_dir.display()
            ))),
            Ok(()) | Err(TryLockError::Error(_)) => Ok(Some(Self { _file: file })),
        }
    }

    fn path(data_dir: &Path) -> PathBuf {
        data_dir.join("in-use.lock")
    }

    /// The lock's file; another user's takes a lock without the permission to write.
    fn create(data_dir: &Path) -> Option<File> {
        let path = Self::path(data_dir);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        options.open(&path).or_else(|_| File::open(&path)).ok()
    }
}

/// Held while a process publishes from this data directory: two would fence each other off endlessly
/// and write over each other's checkpoint.
#[derive(Debug)]
pub(crate) struct PublishLock {
    // Locked as long as it is open, also when the process is killed.
    _file: File,
}

impl PublishLock {
    /// Takes the lock, or says who has it.
    pub(crate) fn take(data_dir: &Path) -> anyhow::Result<Self> {
        let path = data_dir.join("publish.lock");
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|error| unusable(data_dir, "DATA_DIR", &error))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let holder = std::fs::read_to_string(&path).unwrap_or_default();
                let holder = match holder.trim() {
                    "" => "another process".to_owned(),
                    pid => format!("process {pid}"),
                };
                return Err(BadUsage(format!(
                    "{holder} publishes from the data directory {} already: stop it first, or set DATA_DIR to another directory",
                    data_dir.display()
                ))
                .into());
            }
            // A file system without locks: the brokers' own fencing still holds.
            Err(TryLockError::Error(_)) => {}
        }
        // Only for the message above, so a failed write does not matter.
        let _ = file.set_len(0);
        let _ = write!(file, "{}", std::process::id());
        Ok(Self { _file: file })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_second_publisher_of_a_data_directory_is_refused_and_the_holder_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let held = PublishLock::take(dir.path()).unwrap();
        let error = PublishLock::take(dir.path()).unwrap_err().to_string();
        assert!(error.contains(&std::process::id().to_string()), "{error}");
        drop(held);
        assert!(PublishLock::take(dir.path()).is_ok());
    }

    #[test]
    fn a_directory_is_reset_by_a_process_that_is_alone_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let new = dir.path().join("data");
        assert!(InUse::join(&new, false).unwrap().is_none() && !new.exists());
        assert!(InUse::alone(&new).unwrap().is_none());
        let held = [true, false].map(|keeps| InUse::join(&new, keeps).unwrap().unwrap());
        let error = InUse::alone(&new).unwrap_err().0;
        assert!(error.contains("stop it first"), "{error}");
        drop(held);
        let alone = InUse::alone(&new).unwrap();
        assert!(alone.is_some());
        let error = InUse::join(&new, true).unwrap_err().0;
        assert!(error.contains("ftap reset"), "{error}");
        drop(alone);
        assert!(InUse::join(&new, true).is_ok());
    }

    #[test]
    fn a_file_in_the_way_is_named_with_the_setting() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("data");
        std::fs::write(&file, "").unwrap();
        let error = make_writable(&file, "DATA_DIR").unwrap_err();
        let error = error.downcast::<BadUsage>().unwrap().0;
        assert!(
            error.contains("in the way") && error.contains("DATA_DIR"),
            "{error}"
        );
        assert!(make_writable(&dir.path().join("new/deep"), "DATA_DIR").is_ok());
        assert_eq!(
            std::fs::read_dir(dir.path().join("new/deep"))
                .unwrap()
                .count(),
            0
        );
    }
}
