//! Durable create-only files in a folder of this machine.
//!
//! Promises: [`create`] makes a whole file appear under its name at once, or not at all,
//! and what it reports survives a crash of the machine. `object_store`'s own local put
//! syncs nothing, so a power cut could leave an empty file under a name that can never be
//! written again. Nothing is written while the folder that was opened is not in its place.
//! Relies on a file system with hard links, which refuse an existing name.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use ftap_supervision::Retry;

use crate::error::LakeError;
use crate::store::PutOutcome;

/// The lake's folder, distinguished from any other that may take its place.
///
/// A disk that is unmounted leaves an empty folder, one that was moved away leaves none.
/// Files put there then would not be found beside the others when it is back, and what
/// is found there is not the chain's end.
#[derive(Debug)]
pub(crate) struct Root {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl Root {
    /// Makes the folder, with its parents.
    pub(crate) fn open(path: &Path) -> Result<Self, LakeError> {
        let path = open_root(path)?;
        let found = fs::metadata(&path)
            .map_err(|source| path_error("open the lake's folder", &path, source))?;
        Ok(Self {
            device: found.dev(),
            inode: found.ino(),
            path,
        })
    }

    /// Its absolute path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Fails unless it is where it was opened.
    pub(crate) fn check_present(&self) -> Result<(), LakeError> {
        let absent = |source, remedy| LakeError::Path {
            action: "use the lake's folder",
            path: self.path.clone(),
            source,
            remedy,
            retry: Retry::Transient,
        };
        match fs::metadata(&self.path) {
            Ok(found) if (found.dev(), found.ino()) == (self.device, self.inode) => Ok(()),
            Ok(_) => Err(absent(
                io::Error::other("another folder is in its place"),
                "mount or move the lake's folder back; to continue in this one, restart",
            )),
            Err(source) if source.kind() == ErrorKind::NotFound => Err(absent(
                source,
                "mount or move the lake's folder back; to begin a new one, restart",
            )),
            Err(source) => Err(path_error("use the lake's folder", &self.path, source)),
        }
    }
}

/// Fails unless there is such a folder.
pub(crate) fn check_exists(path: &Path) -> Result<(), LakeError> {
    fs::metadata(path)
        .map(|_| ())
        .map_err(|source| path_error("find the lake's folder", path, source))
}

/// Makes the folder, with its parents, and gives its absolute path.
fn open_root(path: &Path) -> Result<PathBuf, LakeError> {
    fs::create_dir_all(path)
        .map_err(|source| path_error("create the lake's folder", path, source))?;
    let root = path
        .canonicalize()
        .map_err(|source| path_error("open the lake's folder", path, source))?;
    if let Some(parent) = root.parent() {
        // It may belong to another user: not being allowed to sync it is fine.
        let _ = sync_folder(parent);
    }
    Ok(root)
}

/// Writes and removes a small file in the folder.
pub(crate) fn check_writable(root: &Root) -> Result<(), LakeError> {
    root.check_present()?;
    let root = root.path();
    let (path, mut file) = staging_file(&root.join("probe"))?;
    let written = file.write_all(b"probe").and_then(|()| file.sync_all());
    let removed = fs::remove_file(&path);
    written
        .and(removed)
        .map_err(|source| path_error("write in the lake's folder", root, source))
}

/// Creates `root/key` with `bytes` unless there is such a file.
pub(crate) fn create(root: &Root, key: &str, bytes: &[u8]) -> Result<PutOutcome, LakeError> {
    root.check_present()?;
    let outcome = create_in(root.path(), key, bytes);
    // What was written while it was taken away is nowhere; what was written before is met
    // again. It is also the better reason for a failure.
    root.check_present()?;
    outcome
}

fn create_in(root: &Path, key: &str, bytes: &[u8]) -> Result<PutOutcome, LakeError> {
    let path = root.join(key);
    let folder = path.parent().unwrap_or(root);
    make_folders(root, folder)?;
    let outcome = if path.exists() {
        PutOutcome::AlreadyExists
    } else {
        link_new(&path, bytes)?
    };
    // Also for another process's file: its writer may have been killed before this, and
    // our caller is about to commit offsets that rely on it.
    sync_folders(root, folder)?;
    Ok(outcome)
}

/// Makes a file that was found survive a crash of the machine: its writer may have been killed
/// between giving it its name and syncing its folder.
pub(crate) fn make_durable(root: &Root, key: &str) -> Result<(), LakeError> {
    let path = root.path().join(key);
    sync_folders(root.path(), path.parent().unwrap_or(root.path()))
}

fn sync_folders(root: &Path, folder: &Path) -> Result<(), LakeError> {
    folder
        .ancestors()
        .take_while(|folder| folder.starts_with(root))
        .try_for_each(|folder| {
            sync_folder(folder).map_err(|source| path_error("sync the folder", folder, source))
        })
}

/// Makes the folders below the root, never the root itself.
fn make_folders(root: &Path, folder: &Path) -> Result<(), LakeError> {
    let below = folder.strip_prefix(root).unwrap_or(Path::new(""));
    let mut path = root.to_owned();
    for part in below.components() {
        path.push(part);
        match fs::create_dir(&path) {
            Ok(()) => {}
            // A read-only file system may refuse even what is there.
            Err(_) if path.is_dir() => {}
            Err(source) => return Err(path_error("create the folder", &path, source)),
        }
    }
    Ok(())
}

fn link_new(path: &Path, bytes: &[u8]) -> Result<PutOutcome, LakeError> {
    let (staging, mut file) = staging_file(path)?;
    let written = file
        .write_all(bytes)
        .and_then(|()| file.sync_all())
        .and_then(|()| match fs::hard_link(&staging, path) {
            Ok(()) => Ok(PutOutcome::Created),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(PutOutcome::AlreadyExists),
            // How exFAT, vfat and shared folders say that they have no links: the folder was
            // written in a moment ago. Rust gives EPERM the same kind as EACCES.
            Err(error) if error.raw_os_error() == Some(libc::EPERM) => {
                Err(io::Error::new(ErrorKind::Unsupported, error))
            }
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
pub(crate) fn judge(kind: ErrorKind) -> (&'static str, Retry) {
    match kind {
        ErrorKind::PermissionDenied => (
            "give this user write permission on it, or choose another folder",
            Retry::Transient,
        ),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            ("free some space on that disk", Retry::Transient)
        }
        ErrorKind::ReadOnlyFilesystem => (
            "mount that file system writable, or choose another folder",
            Retry::Transient,
        ),
        ErrorKind::NotADirectory | ErrorKind::AlreadyExists | ErrorKind::IsADirectory => (
            "a file stands where a folder is needed, or a folder where a file is: choose another folder",
            Retry::Permanent,
        ),
        ErrorKind::InvalidInput | ErrorKind::InvalidFilename => {
            ("choose another folder", Retry::Permanent)
        }
        ErrorKind::Unsupported | ErrorKind::CrossesDevices => (
            "choose a folder on a file system with hard links",
            Retry::Permanent,
        ),
        _ => ("check the disk; this is tried again", Retry::Transient),
    }
}

pub(crate) fn path_error(action: &'static str, path: &Path, source: io::Error) -> LakeError {
    let (remedy, retry) = judge(source.kind());
    LakeError::Path {
        action,
        path: path.to_owned(),
        source,
        remedy,
        retry,
    }
}
