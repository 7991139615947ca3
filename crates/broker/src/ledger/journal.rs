//! An append-only file of checksummed records. Promises: a record is whole in the file when `append`
//! returns, a failed append leaves no trace, and opening cuts a torn tail off.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use crate::log::{replace_file, sync_dir};

const MAGIC: &[u8] = b"ftap-embedded-journal-1\n";
const RECORD_HEAD: usize = 8;
const MAX_RECORD_BYTES: usize = 64 << 20;

#[derive(Debug)]
pub(crate) struct Journal {
    path: PathBuf,
    file: File,
    bytes: u64,
    fsync: bool,
    tail_dirty: bool,
}

fn framed(record: &[u8]) -> io::Result<Vec<u8>> {
    let length = u32::try_from(record.len()).map_err(io::Error::other)?;
    let mut out = Vec::with_capacity(record.len() + RECORD_HEAD);
    out.extend(length.to_be_bytes());
    out.extend(crc32c::crc32c(record).to_be_bytes());
    out.extend(record);
    Ok(out)
}

impl Journal {
    /// Opens the journal at `path`, made if missing, and hands every record to `replay`.
    pub(super) fn open(
        path: &Path,
        fsync: bool,
        mut replay: impl FnMut(&[u8]) -> Result<(), String>,
    ) -> io::Result<Self> {
        let damaged = |reason: String| io::Error::new(io::ErrorKind::InvalidData, reason);
        let mut file = OpenOptions::new()
            .create(true)
            .read(true)
            .append(true)
            .open(path)?;
        let mut content = Vec::new();
        file.read_to_end(&mut content)?;
        if content.len() < MAGIC.len() {
            // A kill while the file was made.
            file.set_len(0)?;
            file.write_all(MAGIC)?;
            content = MAGIC.to_vec();
        }
        if !content.starts_with(MAGIC) {
            return Err(damaged(
                "it is not a journal of this broker's version".into(),
            ));
        }
        let mut at = MAGIC.len();
        while let Some(record) = record_at(&content, at) {
            replay(record).map_err(|reason| damaged(format!("record at byte {at}: {reason}")))?;
            at += RECORD_HEAD + record.len();
        }
        if at < content.len() {
            tracing::warn!(
                event = "torn_tail_cut",
                path = %path.display(),
                kept_bytes = at,
                cut_bytes = content.len() - at,
            );
            file.set_len(at as u64)?;
        }
        Ok(Self {
            path: path.to_path_buf(),
            file,
            bytes: at as u64,
            fsync,
            tail_dirty: false,
        })
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn append(&mut self, record: &[u8]) -> io::Result<()> {
        if self.tail_dirty {
            self.file.set_len(self.bytes)?;
            self.tail_dirty = false;
        }
        let framed = framed(record)?;
        let mut written = self.file.write_all(&framed);
        if self.fsync && written.is_ok() {
            written = self.file.sync_data();
        }
        if let Err(error) = written {
            self.tail_dirty = self.file.set_len(self.bytes).is_err();
            return Err(error);
        }
        self.bytes += framed.len() as u64;
        Ok(())
    }

    /// Replaces the whole journal by these records, in one step.
    pub(super) fn rewrite(&mut self, records: impl Iterator<Item = Vec<u8>>) -> io::Result<()> {
        let mut content = MAGIC.to_vec();
        for record in records {
            content.extend(framed(&record)?);
        }
        replace_file(&self.path, &content, self.fsync)?;
        self.file = OpenOptions::new()
            .read(true)
            .append(true)
            .open(&self.path)?;
        self.bytes = content.len() as u64;
        self.tail_dirty = false;
        Ok(())
    }

    pub(super) fn flush(&self) -> io::Result<()> {
        self.file.sync_data()?;
        self.path.parent().map_or(Ok(()), sync_dir)
    }
}

fn record_at(content: &[u8], at: usize) -> Option<&[u8]> {
    let head = content.get(at..at + RECORD_HEAD)?;
    let length = u32::from_be_bytes(head[..4].try_into().ok()?) as usize;
    let checksum = u32::from_be_bytes(head[4..].try_into().ok()?);
    if length > MAX_RECORD_BYTES {
        return None;
    }
    let record = content.get(at + RECORD_HEAD..at + RECORD_HEAD + length)?;
    (crc32c::crc32c(record) == checksum).then_some(record)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn replayed(path: &Path) -> Vec<Vec<u8>> {
        let mut records = Vec::new();
        Journal::open(path, false, |record| {
            records.push(record.to_vec());
            Ok(())
        })
        .unwrap();
        records
    }

    #[test]
    fn a_torn_tail_at_any_byte_leaves_the_records_before_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let mut journal = Journal::open(&path, false, |_| Ok(())).unwrap();
        journal.append(b"first").unwrap();
        let first_end = usize::try_from(journal.bytes()).unwrap();
        journal.append(b"second").unwrap();
        let whole = fs::read(&path).unwrap();
        for cut in first_end..whole.len() {
            fs::write(&path, &whole[..cut]).unwrap();
            assert_eq!(replayed(&path), [b"first".to_vec()], "cut at {cut}");
        }
        fs::write(&path, &whole).unwrap();
        assert_eq!(replayed(&path).len(), 2);
    }

    #[test]
    fn a_rewrite_keeps_only_what_it_is_given_and_is_appended_to() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let mut journal = Journal::open(&path, true, |_| Ok(())).unwrap();
        for _ in 0..100 {
            journal.append(b"old").unwrap();
        }
        journal.rewrite([b"kept".to_vec()].into_iter()).unwrap();
        journal.append(b"new").unwrap();
        assert_eq!(replayed(&path), [b"kept".to_vec(), b"new".to_vec()]);
    }

    #[test]
    fn a_foreign_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        fs::write(&path, "something else entirely, and long enough").unwrap();
        let error = Journal::open(&path, false, |_| Ok(())).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}
