//! Durable create-only files in a folder of this machine.
//!
//! Promises: [`create`] makes a whole file appear under its name at once, or not at all,
//! and what it reports survives a crash of the machine. `object_store`'s own local put
//! syncs nothing, so a power cut could leave an empty file under a name that can never be
//! written again. Relies on a file system with hard links, which refuse an existing name.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::error::{LakeError, RetryHint};
use super::store::PutOutcome;

/// Makes the folder, with its parents, and gives its absolute path.
pub(super) fn open_root(path: &Path) -> Result<PathBuf, LakeError> {
    fs::create_dir_all(path)
        .map_err(|source| path_error("create the lake's folder", path, source))?;
    let root = path
        .canonicalize()
        .map_err(|source| path_error("open the lake's folder", path, source))?;
    if let Some(parent) = root.parent() {
        // Not ours to write in, so not being allowed to sync it is no fault.
        let _ = sync_folder(parent);
    }
    Ok(root)
}

/// Writes and removes a small file in the folder.
pub(super) fn check_writable(root: &Path) -> Result<(), LakeError> {
    let (path, mut file) = staging_file(&root.join("probe"))?;
    let written = file.write_all(b"probe").and_then(|()| file.sync_all());
    let removed = fs::remove_file(&path);
    written
        .and(removed)
        .map_err(|source| path_error("write in the lake's folder", root, source))
}

/// Creates `root/key` with `bytes` unless there is such a file.
pub(super) fn create(root: &Path, key: &str, bytes: &[u8]) -> Result<PutOutcome, LakeError> {
    let path = root.join(key);
    let folder = path.parent().unwrap_or(root);
    fs::create_dir_all(folder).map_err(|source| path_error("create the folder", folder, source))?;
    let outcome = if path.exists() {
        PutOutcome::AlreadyExists
    } else {
        link_new(&path, bytes)?
    };
    // Also for a file of somebody else: its writer may have been killed before this, and
    // our caller is about to commit offsets that rely on it.
    for folder in folder
        .ancestors()
        .take_while(|folder| folder.starts_with(root))
    {
        sync_folder(folder).map_err(|source| path_error("sync the folder", folder, source))?;
    }
    Ok(outcome)
}

fn link_new(path: &Path, bytes: &[u8]) -> Result<PutOutcome, LakeError> {
    let (staging, mut file) = staging_file(path)?;
    let written = file
        .write_all(bytes)
        .and_then(|()| file.sync_all())
        .and_then(|()| match fs::hard_link(&staging, path) {
            Ok(()) => Ok(PutOutcome::Created),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(PutOutcome::AlreadyExists),
            Err(error) => Err(error),
        });
    // A leftover is harmless, and cleared away later: listings ignore its name.
    let _ = fs::remove_file(&staging);
    written.map_err(|source| path_error("write", path, source))
}

/// A new file beside `path` whose name `object_store` leaves out of listings: `#` and digits.
fn staging_file(path: &Path) -> Result<(PathBuf, File), LakeError> {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    loop {
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let mut name = path.as_os_str().to_owned();
        name.push(format!("#{}{number:06}", std::process::id()));
        let staging = PathBuf::from(name);
        match File::create_new(&staging) {
            Ok(file) => {
                // Tells `leftovers` that its writer lives; a file system without locks has none.
                let _ = file.try_lock();
                return Ok((staging, file));
            }
            // Left behind by an earlier process with our number.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(source) => return Err(path_error("create", &staging, source)),
        }
    }
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// The remedy for an I/O error, and whether waiting helps.
pub(super) fn judge(kind: ErrorKind) -> (&'static str, RetryHint) {
    match kind {
        ErrorKind::PermissionDenied => (
            "give this user write permission on it, or choose another folder",
            RetryHint::Transient,
        ),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            ("free some space on that disk", RetryHint::Transient)
        }
        ErrorKind::ReadOnlyFilesystem => (
            "mount that file system writable, or choose another folder",
            RetryHint::Transient,
        ),
        ErrorKind::NotADirectory | ErrorKind::AlreadyExists | ErrorKind::IsADirectory => (
            "a file stands where a folder is needed, or a folder where a file is: choose another folder",
            RetryHint::Fatal,
        ),
        ErrorKind::InvalidInput | ErrorKind::InvalidFilename => {
            ("choose another folder", RetryHint::Fatal)
        }
        ErrorKind::Unsupported | ErrorKind::CrossesDevices => (
            "choose a folder on a file system with hard links",
            RetryHint::Fatal,
        ),
        _ => ("check the disk; this is tried again", RetryHint::Transient),
    }
}

pub(super) fn path_error(action: &'static str, path: &Path, source: io::Error) -> LakeError {
    let (remedy, retry) = judge(source.kind());
    LakeError::Path {
        action,
        path: path.to_owned(),
        source,
        remedy,
        retry,
    }
}
