//! One file of a partition: batches one after the other, with a sparse index in memory. The index has
//! a fixed number of entries however large the file is, so memory does not grow with the backlog.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::batch::{BatchHeader, HEADER_BYTES};

const INDEX_ENTRIES: usize = 256;
const FIRST_INDEX_INTERVAL: u64 = 32 << 10;
const WALK_CHUNK_BYTES: u64 = 8 << 10;

#[derive(Debug, Clone, Copy)]
struct IndexEntry {
    offset: i64,
    position: u64,
    /// The largest timestamp of all batches before this entry.
    max_timestamp_before: i64,
}

#[derive(Debug)]
pub(crate) struct Segment {
    pub base_offset: i64,
    pub next_offset: i64,
    /// Bytes that hold complete batches; a failed append may leave more in the file for a moment.
    pub bytes: u64,
    pub max_timestamp_ms: i64,
    pub path: PathBuf,
    index: Vec<IndexEntry>,
    index_interval: u64,
}

/// The file name of a segment: its base offset in 20 digits, as Kafka's own.
pub(crate) fn segment_name(base_offset: i64) -> String {
    format!("{base_offset:020}.log")
}

impl Segment {
    pub(super) fn empty(dir: &Path, base_offset: i64) -> Self {
        Self {
            base_offset,
            next_offset: base_offset,
            bytes: 0,
            max_timestamp_ms: -1,
            path: dir.join(segment_name(base_offset)),
            index: Vec::new(),
            index_interval: FIRST_INDEX_INTERVAL,
        }
    }

    pub(super) fn open_for_append(&self) -> io::Result<File> {
        OpenOptions::new()
            .create(true)
            .read(true)
            .append(true)
            .open(&self.path)
    }

    pub(super) fn open_for_read(&self) -> io::Result<Arc<File>> {
        File::open(&self.path).map(Arc::new)
    }

    /// Takes note of a batch that was appended at the end.
    pub(super) fn note(&mut self, header: &BatchHeader) {
        let due = self
            .index
            .last()
            .is_none_or(|last| self.bytes - last.position >= self.index_interval);
        if due {
            if self.index.len() == INDEX_ENTRIES {
                let mut keep = false;
                self.index.retain(|_| {
                    keep = !keep;
                    keep
                });
                self.index_interval *= 2;
            }
            self.index.push(IndexEntry {
                offset: header.base_offset,
                position: self.bytes,
                max_timestamp_before: self.max_timestamp_ms,
            });
        }
        self.bytes += header.bytes as u64;
        self.next_offset = header.last_offset() + 1;
        self.max_timestamp_ms = self.max_timestamp_ms.max(header.max_timestamp_ms);
    }

    /// A position of a batch at or before the one that holds `offset`.
    pub(super) fn position_before(&self, offset: i64) -> u64 {
        let after = self.index.partition_point(|entry| entry.offset <= offset);
        after
            .checked_sub(1)
            .and_then(|i| self.index.get(i))
            .map_or(0, |entry| entry.position)
    }

    /// A position at or before the first batch with a record at or after `timestamp_ms`.
    pub(super) fn position_before_time(&self, timestamp_ms: i64) -> u64 {
        let after = self
            .index
            .partition_point(|entry| entry.max_timestamp_before < timestamp_ms);
        after
            .checked_sub(1)
            .and_then(|i| self.index.get(i))
            .map_or(0, |entry| entry.position)
    }
}

/// Steps through the batch headers of a file, reading it in small chunks.
pub(crate) struct HeaderWalk<'a> {
    file: &'a File,
    position: u64,
    limit: u64,
    chunk: Vec<u8>,
    chunk_at: u64,
}

impl<'a> HeaderWalk<'a> {
    /// Walks from `position`, which must be the start of a batch, up to `limit`.
    pub(super) fn new(file: &'a File, position: u64, limit: u64) -> Self {
        Self {
            file,
            position,
            limit,
            chunk: Vec::new(),
            chunk_at: 0,
        }
    }

    /// The next batch's position and header; `None` at the limit and where no whole batch follows.
    pub(super) fn next_header(&mut self) -> io::Result<Option<(u64, BatchHeader)>> {
        let at = self.position;
        if at + HEADER_BYTES as u64 > self.limit {
            return Ok(None);
        }
        let chunk_end = self.chunk_at + self.chunk.len() as u64;
        if at < self.chunk_at || at + HEADER_BYTES as u64 > chunk_end {
            let length = WALK_CHUNK_BYTES.min(self.limit - at);
            self.chunk
                .resize(usize::try_from(length).unwrap_or(HEADER_BYTES), 0);
            self.file.read_exact_at(&mut self.chunk, at)?;
            self.chunk_at = at;
        }
        let within = usize::try_from(at - self.chunk_at).unwrap_or(usize::MAX);
        let Some(header) = self.chunk.get(within..).and_then(BatchHeader::parse) else {
            return Ok(None);
        };
        if at + header.bytes as u64 > self.limit {
            return Ok(None);
        }
        self.position = at + header.bytes as u64;
        Ok(Some((at, header)))
    }
}
