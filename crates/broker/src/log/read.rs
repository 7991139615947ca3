//! Finding batches in a segment file, without the log's lock: a plan made under the lock says
//! where to look, and files only ever grow past the plan's limit or are unlinked while open.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use kafka_protocol::ResponseError;

use super::segment::HeaderWalk;
use super::{PartitionLog, storage_error};
use crate::batch;

/// Where to read, and the offsets that hold at that moment.
#[derive(Debug, Clone)]
pub(crate) struct ReadPlan {
    pub file: Arc<File>,
    pub segment: i64,
    /// Start of a batch at or before the one wanted.
    pub position: u64,
    pub limit: u64,
    pub offset: i64,
    pub readable_end: i64,
    pub high_watermark: i64,
    pub stable_end: i64,
    pub log_start: i64,
}

/// Whole batches that a reader gets; none if `bytes` is 0.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Selected {
    pub position: u64,
    pub bytes: usize,
    /// Offset of the batch after them.
    pub next_offset: i64,
}

impl Selected {
    /// Position of the batch after them.
    pub(crate) fn next_position(&self) -> u64 {
        self.position + self.bytes as u64
    }
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

    /// Finds the whole batches from the one with `offset` on, of at most `max_bytes`; a first batch
    /// larger than that is taken all the same if `at_least_one`, so that a reader always gets on.
    pub(crate) fn select(&self, max_bytes: usize, at_least_one: bool) -> io::Result<Selected> {
        let mut selected = Selected {
            position: self.position,
            bytes: 0,
            next_offset: self.offset,
        };
        if self.offset >= self.readable_end {
            return Ok(selected);
        }
        let mut walk = HeaderWalk::new(&self.file, self.position, self.limit);
        while let Some((position, header)) = walk.next_header()? {
            if header.last_offset() < self.offset {
                continue;
            }
            let is_first = selected.bytes == 0;
            let fits = selected.bytes + header.bytes <= max_bytes || (is_first && at_least_one);
            if !fits || header.base_offset >= self.readable_end {
                break;
            }
            if is_first {
                selected.position = position;
            }
            selected.bytes += header.bytes;
            selected.next_offset = header.last_offset() + 1;
        }
        Ok(selected)
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
