//! The objects, in memory or as files by key.
//!
//! Promises: an object appears whole or not at all, and of several create-only puts of one key
//! one wins, also between servers on the same folder. A file in the folder is an object if its
//! key has no part that starts with a dot.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use parking_lot::{Mutex, MutexGuard};

/// What is known of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Meta {
    pub size: u64,
    /// Higher for each write.
    pub generation: u64,
    pub modified: DateTime<Utc>,
}

impl Meta {
    pub(crate) fn etag(&self) -> String {
        format!("\"{:016x}\"", self.generation)
    }
}

/// What a put may find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    None,
    /// The object must have this generation, 0 for absent.
    Generation(u64),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Put {
    Created(Meta),
    Replaced(Meta),
    ConditionFailed,
}

#[derive(Clone)]
struct Entry {
    meta: Meta,
    /// `None` if it is a file.
    bytes: Option<Bytes>,
}

pub(crate) struct Objects {
    folder: Option<PathBuf>,
    entries: Mutex<BTreeMap<String, Entry>>,
    generations: AtomicU64,
}

/// Where files are written before they get their names.
const STAGING: &str = ".staging";

impl Objects {
    /// Those in memory, or those that the folder has.
    pub(crate) fn open(folder: Option<PathBuf>) -> io::Result<Self> {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let objects = Self {
            folder,
            entries: Mutex::default(),
            // Microseconds, as Google's, so a restart continues above.
            generations: AtomicU64::new(since.map_or(1, |since| since.as_micros() as u64)),
        };
        if let Some(folder) = &objects.folder {
            let open = || {
                fs::create_dir_all(folder.join(STAGING))?;
                objects.walk(folder, "")
            };
            open().map_err(|error| about(folder, error))?;
        }
        Ok(objects)
    }

    fn walk(&self, folder: &Path, prefix: &str) -> io::Result<()> {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let name = entry.file_name();
            let Some(name) = name.to_str().filter(|name| !name.starts_with('.')) else {
                continue;
            };
            let (key, file) = (format!("{prefix}{name}"), entry.metadata()?);
            if file.is_dir() {
                self.walk(&entry.path(), &format!("{key}/"))?;
            } else {
                let meta = Meta {
                    size: file.len(),
                    generation: self.next_generation(),
                    modified: file.modified()?.into(),
                };
                self.lock().insert(key, Entry { meta, bytes: None });
            }
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Entry>> {
        self.entries.lock()
    }

    fn next_generation(&self) -> u64 {
        self.generations.fetch_add(1, Ordering::Relaxed)
    }

    /// Writes an object; blocks on the disk.
    pub(crate) fn put(&self, key: &str, bytes: Bytes, condition: Condition) -> io::Result<Put> {
        let generation = self.next_generation();
        let staged = match &self.folder {
            Some(folder) => {
                let staging = folder.join(STAGING);
                let staging = staging.join(format!("{}-{generation}", std::process::id()));
                fs::write(&staging, &bytes).map_err(|error| about(&staging, error))?;
                Some((staging, folder.join(key)))
            }
            None => None,
        };
        let put = self.settle(key, bytes, condition, generation, staged.as_ref());
        if let Some((staging, _)) = &staged {
            // Gone already if it was renamed.
            let _ = fs::remove_file(staging);
        }
        put
    }

    fn settle(
        &self,
        key: &str,
        bytes: Bytes,
        condition: Condition,
        generation: u64,
        staged: Option<&(PathBuf, PathBuf)>,
    ) -> io::Result<Put> {
        let mut entries = self.lock();
        let present = entries.get(key).map(|entry| entry.meta.generation);
        if let Condition::Generation(wanted) = condition
            && wanted != present.unwrap_or(0)
        {
            return Ok(Put::ConditionFailed);
        }
        if let Some((staging, path)) = staged {
            let placed = match path.parent() {
                Some(parent) => fs::create_dir_all(parent),
                None => Ok(()),
            };
            let placed = placed.and_then(|()| match condition {
                // Refuses a name that another server took meanwhile.
                Condition::Generation(0) => fs::hard_link(staging, path),
                _ => fs::rename(staging, path),
            });
            match placed {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::AlreadyExists && path.is_file() => {
                    return Ok(Put::ConditionFailed);
                }
                Err(error) => return Err(about(path, error)),
            }
        }
        let meta = Meta {
            size: bytes.len() as u64,
            generation,
            modified: Utc::now(),
        };
        let bytes = staged.is_none().then_some(bytes);
        let entry = Entry {
            meta: meta.clone(),
            bytes,
        };
        entries.insert(key.to_owned(), entry);
        Ok(match present {
            Some(_) => Put::Replaced(meta),
            None => Put::Created(meta),
        })
    }

    pub(crate) fn meta(&self, key: &str) -> Option<Meta> {
        self.lock().get(key).map(|entry| entry.meta.clone())
    }

    /// A part of an object; blocks on the disk.
    pub(crate) fn read(&self, key: &str, range: Range<u64>) -> io::Result<Bytes> {
        let gone = || io::Error::new(ErrorKind::NotFound, format!("{key} is gone"));
        let entry = self.lock().get(key).cloned().ok_or_else(gone)?;
        match (entry.bytes, &self.folder) {
            (Some(bytes), _) => {
                let end = range.end.min(bytes.len() as u64);
                Ok(bytes.slice(range.start.min(end) as usize..end as usize))
            }
            (None, Some(folder)) => {
                let path = folder.join(key);
                let read = || {
                    let mut file = File::open(&path)?;
                    file.seek(SeekFrom::Start(range.start))?;
                    let mut bytes = Vec::new();
                    file.take(range.end.saturating_sub(range.start))
                        .read_to_end(&mut bytes)?;
                    Ok(Bytes::from(bytes))
                };
                read().map_err(|error| about(&path, error))
            }
            (None, None) => Err(gone()),
        }
    }

    /// Takes an object away.
    pub(crate) fn remove(&self, key: &str) -> io::Result<bool> {
        let mut entries = self.lock();
        if entries.remove(key).is_none() {
            return Ok(false);
        }
        if let Some(folder) = &self.folder {
            let path = folder.join(key);
            fs::remove_file(&path).map_err(|error| about(&path, error))?;
        }
        Ok(true)
    }

    /// All keys in order.
    pub(crate) fn keys(&self) -> Vec<String> {
        self.lock().keys().cloned().collect()
    }

    /// Those that start with `prefix` and come after `after`, in order, until `take` is false.
    pub(crate) fn scan(
        &self,
        prefix: &str,
        after: &str,
        mut take: impl FnMut(&str, &Meta) -> bool,
    ) {
        let entries = self.lock();
        let from = std::ops::Bound::Included(prefix);
        for (key, entry) in entries.range::<str, _>((from, std::ops::Bound::Unbounded)) {
            if !key.starts_with(prefix) {
                return;
            }
            if key.as_str() > after && !take(key, &entry.meta) {
                return;
            }
        }
    }
}

/// Why a key can't be an object's here; files need names that folders can hold.
pub(crate) fn key_problem(key: &str) -> Option<&'static str> {
    if key.len() > 1024 {
        return Some("the key is longer than 1024 bytes");
    }
    let bad = key.split('/').any(|part| {
        part.is_empty() || part.starts_with('.') || part.len() > 255 || part.contains('\0')
    });
    bad.then_some("a part of the key is empty, too long or starts with a dot")
}

fn about(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}
