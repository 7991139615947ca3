//! A response on its way to its client: bytes, and ranges of files, which are read piece by piece as
//! the client takes them. A response that is not read therefore holds one piece in memory, however
//! much it has to say.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

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
        if range.bytes > 0 {
            self.files.push((self.bytes.len(), range));
        }
    }

    /// Overwrites the first four bytes: the length, which is known last.
    pub(crate) fn set_length(&mut self, length: i32) {
        if let Some(first) = self.bytes.first_chunk_mut() {
            *first = length.to_be_bytes();
        }
    }

    /// Writes everything. An error of the client's side and one of the disk's end the connection
    /// alike: the length has been sent, so nothing else can follow.
    pub(crate) async fn write_to(&self, out: &mut TcpStream) -> io::Result<()> {
        let mut written = 0;
        for (before, range) in &self.files {
            out.write_all(&self.bytes[written..*before]).await?;
            written = *before;
            let mut sending = Sending::of(range);
            // Waiting for what is not in the page cache keeps no other connection from this thread.
            // Leaving the thread to others takes longer than a piece, so it is left for as many as
            // the socket takes.
            while !tokio::task::block_in_place(|| sending.write_some(out))? {
                out.writable().await?;
            }
        }
        out.write_all(&self.bytes[written..]).await
    }
}

/// A range of a file on its way.
struct Sending<'a> {
    range: &'a FileRange,
    /// How much of it has been read.
    done: usize,
    piece: Vec<u8>,
    /// How much of the piece has been written.
    written: usize,
}

impl<'a> Sending<'a> {
    fn of(range: &'a FileRange) -> Self {
        Self {
            range,
            done: 0,
            piece: Vec::new(),
            written: 0,
        }
    }

    /// Writes until all is written, which is said, or the client has to read first.
    fn write_some(&mut self, out: &TcpStream) -> io::Result<bool> {
        loop {
            if self.written == self.piece.len() && !self.read_next()? {
                return Ok(true);
            }
            match out.try_write(&self.piece[self.written..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => self.written += written,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
    }

    /// Whether there is a next piece.
    fn read_next(&mut self) -> io::Result<bool> {
        let next = (self.range.bytes - self.done).min(PIECE_BYTES);
        self.piece.resize(next, 0);
        self.written = 0;
        let position = self.range.position + self.done as u64;
        let read = self.range.file.read_exact_at(&mut self.piece, position);
        read.inspect_err(|error| {
            storage_error(Path::new("a partition's segment"), error);
        })?;
        self.done += next;
        Ok(next > 0)
    }
}
