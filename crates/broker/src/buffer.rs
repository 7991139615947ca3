//! A response on its way to its client: bytes, and ranges of files, which are read piece by piece as
//! the client takes them. A response that is not read therefore holds one piece in memory, however
//! much it has to say.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use tokio::io::{AsyncWrite, AsyncWriteExt};

use crate::log::storage_error;

/// Large enough that the calls do not count, small enough for as many as there may be connections.
const PIECE_BYTES: usize = 256 << 10;

/// Bytes of a file, which only grows or is unlinked while it is open.
#[derive(Debug)]
pub(crate) struct FileRange {
    pub file: Arc<File>,
    pub position: u64,
    pub bytes: usize,
}

#[derive(Debug, Default)]
pub(crate) struct ResponseBuffer {
    bytes: Vec<u8>,
    /// Each with how many of `bytes` stand before it, ascending.
    files: Vec<(usize, FileRange)>,
    /// Kept for the next response.
    piece: Vec<u8>,
}

impl ResponseBuffer {
    /// Length of the whole.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
            + self
                .files
                .iter()
                .map(|(_, range)| range.bytes)
                .sum::<usize>()
    }

    /// Gives back what a rare large response took.
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(PIECE_BYTES);
        self.files.clear();
    }

    pub(crate) fn put(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    pub(crate) fn put_i16(&mut self, value: i16) {
        self.put(&value.to_be_bytes());
    }

    pub(crate) fn put_i32(&mut self, value: i32) {
        self.put(&value.to_be_bytes());
    }

    pub(crate) fn put_i64(&mut self, value: i64) {
        self.put(&value.to_be_bytes());
    }

    pub(crate) fn put_string(&mut self, value: &str) {
        self.put_i16(i16::try_from(value.len()).unwrap_or(0));
        self.put(value.as_bytes());
    }

    pub(crate) fn put_file(&mut self, range: FileRange) {
        self.files.push((self.bytes.len(), range));
    }

    /// Overwrites the first four bytes: the length, which is known last.
    pub(crate) fn set_length(&mut self, length: i32) {
        if let Some(first) = self.bytes.first_chunk_mut() {
            *first = length.to_be_bytes();
        }
    }

    /// Writes everything. An error of the client's side and one of the disk's end the connection
    /// alike: the length has been sent, so nothing else can follow.
    pub(crate) async fn write_to(&mut self, out: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        let largest = self.files.iter().map(|(_, range)| range.bytes).max();
        let largest = largest.unwrap_or(0).min(PIECE_BYTES);
        if self.piece.len() < largest {
            self.piece.resize(largest, 0);
        }
        let mut written = 0;
        for (before, range) in &self.files {
            out.write_all(&self.bytes[written..*before]).await?;
            written = *before;
            let mut done = 0;
            while done < range.bytes {
                let part = (range.bytes - done).min(PIECE_BYTES);
                let part = &mut self.piece[..part];
                // What is not in the page cache is waited for, without keeping other connections
                // from this thread.
                tokio::task::block_in_place(|| {
                    range.file.read_exact_at(part, range.position + done as u64)
                })
                .inspect_err(|error| {
                    storage_error(Path::new("a partition's segment"), error);
                })?;
                out.write_all(part).await?;
                done += part.len();
            }
        }
        out.write_all(&self.bytes[written..]).await
    }
}
