//! Reading batches from a segment file, without the log's lock: a plan made under the lock says
//! where to look, and files only ever grow past the plan's limit or are unlinked while open.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use kafka_protocol::ResponseError;

use super::segment::HeaderWalk;
use super::{PartitionLog, storage_error};
use crate::batch::{self, BatchHeader, HEADER_BYTES};
use crate::buffer::ResponseBuffer;

/// Where to read, and the offsets that hold at that moment.
#[derive(Debug, Clone)]
pub(crate) struct ReadPlan {
    pub file: Arc<File>,
    pub segment: i64,
    /// Start of a batch at or before the one wanted; exactly that one if `exact`.
    pub position: u64,
    pub exact: bool,
    pub limit: u64,
    pub offset: i64,
    pub readable_end: i64,
    pub high_watermark: i64,
    pub stable_end: i64,
    pub log_start: i64,
}

/// What a read put into the buffer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ReadDone {
    pub bytes: usize,
    /// Offset and position of the batch after the last one read.
    pub next_offset: i64,
    pub next_position: u64,
}

impl ReadPlan {
    /// An estimate of the bytes there are to read, for `min_bytes`.
    pub(crate) fn available_bytes(&self) -> u64 {
        if self.offset >= self.readable_end {
            0
        } else {
            self.limit.saturating_sub(self.position).max(1)
        }
    }

    /// Reads whole batches to the end of `out`, at most `max_bytes`; a first batch larger than that
    /// is read all the same if `at_least_one`, so that a reader always gets on.
    pub(crate) fn read(
        &self,
        out: &mut ResponseBuffer,
        max_bytes: usize,
        at_least_one: bool,
    ) -> io::Result<ReadDone> {
        let nothing = ReadDone {
            bytes: 0,
            next_offset: self.offset,
            next_position: self.position,
        };
        if self.offset >= self.readable_end {
            return Ok(nothing);
        }
        let Some(position) = self.find()? else {
            return Ok(nothing);
        };
        let left = usize::try_from(self.limit - position).unwrap_or(usize::MAX);
        let start = out.len();
        let mut wanted = left.min(max_bytes.max(HEADER_BYTES));
        loop {
            self.file
                .read_exact_at(out.grow_to(start + wanted, start), position)?;
            let chunk = out.tail(start);
            let (bytes, next_offset) = self.whole_batches(chunk);
            let first = BatchHeader::parse(chunk).map_or(0, |h| h.bytes);
            let too_small = bytes == 0 && first > wanted && first <= left;
            if too_small && at_least_one {
                wanted = first;
                continue;
            }
            // The first header was read although the room was smaller than that.
            let bytes = if bytes > max_bytes && !at_least_one {
                0
            } else {
                bytes
            };
            out.truncate(start + bytes);
            if bytes == 0 {
                return Ok(nothing);
            }
            return Ok(ReadDone {
                bytes,
                next_offset,
                next_position: position + bytes as u64,
            });
        }
    }

    fn find(&self) -> io::Result<Option<u64>> {
        if self.exact {
            return Ok(Some(self.position));
        }
        let mut walk = HeaderWalk::new(&self.file, self.position, self.limit);
        while let Some((position, header)) = walk.next_header()? {
            if header.last_offset() >= self.offset {
                return Ok(Some(position));
            }
        }
        Ok(None)
    }

    /// How much of `chunk` is whole batches before `readable_end`, and the offset after them.
    fn whole_batches(&self, chunk: &[u8]) -> (usize, i64) {
        let mut bytes = 0;
        let mut next_offset = self.offset;
        while let Some(header) = chunk.get(bytes..).and_then(BatchHeader::parse) {
            if bytes + header.bytes > chunk.len() || header.base_offset >= self.readable_end {
                break;
            }
            bytes += header.bytes;
            next_offset = header.last_offset() + 1;
        }
        (bytes, next_offset)
    }
}

impl PartitionLog {
    /// The first offset with a timestamp at or after `timestamp_ms`, and that timestamp. In a
    /// compressed batch, which is not unpacked, the batch's first record stands for all.
    pub(crate) fn offset_for_time(
        &self,
        timestamp_ms: i64,
    ) -> Result<Option<(i64, i64)>, ResponseError> {
        self.search_time(timestamp_ms)
            .map_err(|error| storage_error(&self.dir, &error))
    }

    fn search_time(&self, timestamp_ms: i64) -> io::Result<Option<(i64, i64)>> {
        for segment in &self.segments {
            if segment.max_timestamp_ms < timestamp_ms {
                continue;
            }
            let file = segment.open_for_read()?;
            let from = segment.position_before_time(timestamp_ms);
            let mut walk = HeaderWalk::new(&file, from, segment.bytes);
            while let Some((position, header)) = walk.next_header()? {
                let after_start = header.last_offset() >= self.start;
                if header.max_timestamp_ms < timestamp_ms || !after_start || header.is_control() {
                    continue;
                }
                let mut batch = vec![0; header.bytes];
                file.read_exact_at(&mut batch, position)?;
                let found = batch::first_record_at(&batch, timestamp_ms)
                    .unwrap_or((header.base_offset, header.base_timestamp_ms));
                return Ok(Some((found.0.max(self.start), found.1)));
            }
        }
        Ok(None)
    }
}
