//! Output files that appear whole or not at all. A `PendingFile` is written under `NAME.part`,
//! flushed to the disk and renamed; a killed run leaves at most the `.part` file, which the next
//! run overwrites. Relies on rename within one directory being atomic, and on a lock on the
//! `.part` file to keep two runs apart.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::error::DatasetError;

/// Large enough that a write call's cost vanishes, small enough for the processor's cache.
const BUFFER_BYTES: usize = 256 * 1024;

/// A file that gets its final name only by [`PendingFile::publish`]; dropped before, it is removed.
#[derive(Debug)]
pub(crate) struct PendingFile {
    file: File,
    buffer: Vec<u8>,
    bytes: u64,
    final_path: PathBuf,
    part_path: PathBuf,
    published: bool,
}

impl PendingFile {
    /// Opens `DIR/NAME.part`, making the directory if need be.
    pub(crate) fn create(dir: &Path, name: &str) -> Result<Self, DatasetError> {
        fs::create_dir_all(dir).map_err(|e| DatasetError::io("create", dir, e))?;
        let final_path = dir.join(name);
        if final_path.is_dir() {
            return Err(DatasetError::Io {
                action: "write",
                path: final_path,
                source: io::Error::other("a directory has the file's name; move it away"),
            });
        }
        let part_path = dir.join(format!("{name}.part"));
        let file = open_locked(&part_path, &final_path)?;
        let length = file.metadata().map_or(0, |m| m.len());
        if length > 0 {
            file.set_len(0)
                .map_err(|e| DatasetError::io("write", &part_path, e))?;
        }
        Ok(Self {
            file,
            buffer: Vec::with_capacity(BUFFER_BYTES + 4096),
            bytes: 0,
            final_path,
            part_path,
            published: false,
        })
    }

    /// The buffer to append to; call [`PendingFile::spill`] between rows.
    pub(crate) fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }

    /// Writes the buffer out when it is full enough.
    #[inline]
    pub(crate) fn spill(&mut self) -> Result<(), DatasetError> {
        if self.buffer.len() >= BUFFER_BYTES {
            self.flush()?;
        }
        Ok(())
    }

    /// Where the bytes are until they are published.
    pub(crate) fn part_path(&self) -> &Path {
        &self.part_path
    }

    /// Bytes written so far, the buffer included.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes + self.buffer.len() as u64
    }

    fn flush(&mut self) -> Result<(), DatasetError> {
        self.file
            .write_all(&self.buffer)
            .map_err(|e| DatasetError::io("write", &self.part_path, e))?;
        self.bytes += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// Brings every byte to the disk; the final name still waits for [`PendingFile::publish`].
    pub(crate) fn sync(&mut self) -> Result<(), DatasetError> {
        self.flush()?;
        self.file
            .sync_all()
            .map_err(|e| DatasetError::io("write", &self.part_path, e))
    }

    /// Gives the synced file its final name.
    pub(crate) fn publish(mut self) -> Result<PathBuf, DatasetError> {
        self.sync()?;
        fs::rename(&self.part_path, &self.final_path)
            .map_err(|e| DatasetError::io("rename", &self.part_path, e))?;
        self.published = true;
        Ok(self.final_path.clone())
    }
}

impl Drop for PendingFile {
    fn drop(&mut self) {
        if !self.published {
            // Best effort: a file that stays is overwritten by the next run.
            let _ = fs::remove_file(&self.part_path);
        }
    }
}

impl Write for PendingFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.buffer.len() + bytes.len() > BUFFER_BYTES {
            self.file.write_all(&self.buffer)?;
            self.bytes += self.buffer.len() as u64;
            self.buffer.clear();
        }
        self.buffer.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Makes renames in `dir` survive a power cut.
pub(crate) fn sync_directory(dir: &Path) -> Result<(), DatasetError> {
    // Only Unix lets a directory be opened and synced.
    if cfg!(unix) {
        File::open(dir)
            .and_then(|handle| handle.sync_all())
            .map_err(|e| DatasetError::io("write", dir, e))?;
    }
    Ok(())
}

fn open_locked(part_path: &Path, final_path: &Path) -> Result<File, DatasetError> {
    loop {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(part_path)
            .map_err(|e| DatasetError::io("write", part_path, e))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(DatasetError::InUse {
                    path: final_path.to_path_buf(),
                });
            }
            // A file system without locks: two runs at once are then the user's care.
            Err(TryLockError::Error(_)) => {}
        }
        if is_still_there(&file, part_path) {
            return Ok(file);
        }
        // Between open and lock the other run published this very file: writing to it now would
        // damage a finished file, so open a fresh one.
    }
}

#[cfg(unix)]
fn is_still_there(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    match (file.metadata(), fs::metadata(path)) {
        (Ok(open), Ok(named)) => open.dev() == named.dev() && open.ino() == named.ino(),
        _ => false,
    }
}

#[cfg(not(unix))]
fn is_still_there(_file: &File, _path: &Path) -> bool {
    true
}
