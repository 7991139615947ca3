//! The log of one partition: segment files of undecoded batches. Promises: an appended batch is
//! whole in the file before `append` returns; a failed append leaves the log as it was; opening a
//! log cuts a torn tail off. It survives a kill of the process; a loss of power only as far as
//! `fsync` is on. Relies on its caller for mutual exclusion; reading from disk needs no lock.

mod producers;
pub(crate) mod read;
mod recovery;
mod segment;
mod storage;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, IoSlice, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::ResponseError;
use producers::ProducerTable;
pub(crate) use producers::{Aborted, Verdict};
use read::ReadPlan;
use segment::Segment;
pub(crate) use storage::storage_error;

use crate::batch::{self, BatchHeader, Decision, PREFIX_BYTES};

const START_FILE: &str = "start";
/// Readers whose place is remembered, so that a sequential reader never searches.
const CURSORS: usize = 16;

/// What a log needs to know of the broker's options.
#[derive(Debug, Clone)]
pub(crate) struct LogOptions {
    pub segment_bytes: u64,
    pub retention_bytes: Option<u64>,
    pub retention_age: Option<Duration>,
    pub fsync: bool,
}

/// What a reader may see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Isolation {
    ReadUncommitted,
    ReadCommitted,
}

impl Isolation {
    pub(crate) fn from_wire(level: i8) -> Self {
        if level == 1 {
            Self::ReadCommitted
        } else {
            Self::ReadUncommitted
        }
    }
}

#[derive(Debug)]
struct Cursor {
    offset: i64,
    segment: i64,
    position: u64,
}

#[derive(Debug)]
pub(crate) struct PartitionLog {
    dir: PathBuf,
    options: LogOptions,
    /// Never empty; the last one is appended to.
    segments: Vec<Segment>,
    active: Arc<File>,
    /// The closed segment read last, kept open for its sequential readers.
    reading: Option<(i64, Arc<File>)>,
    start: i64,
    producers: ProducerTable,
    cursors: VecDeque<Cursor>,
    /// The active file may hold bytes past its last whole batch.
    tail_dirty: bool,
    deleted: bool,
}

impl PartitionLog {
    /// Offset of the first record that can be read.
    pub(crate) fn start(&self) -> i64 {
        self.start
    }

    /// Offset the next record will get.
    pub(crate) fn end(&self) -> i64 {
        self.last().next_offset
    }

    /// Up to where a `read_committed` reader may read.
    pub(crate) fn stable_end(&self) -> i64 {
        self.producers.first_open().unwrap_or(self.end())
    }

    pub(crate) fn readable_end(&self, isolation: Isolation) -> i64 {
        match isolation {
            Isolation::ReadUncommitted => self.end(),
            Isolation::ReadCommitted => self.stable_end(),
        }
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.segments.iter().map(|s| s.bytes).sum()
    }

    fn last(&self) -> &Segment {
        self.segments.last().expect("a log always has a segment")
    }

    fn last_mut(&mut self) -> &mut Segment {
        self.segments
            .last_mut()
            .expect("a log always has a segment")
    }

    /// Appends a checked batch and returns its base offset, or that of its first copy when an
    /// idempotent producer repeats it.
    pub(crate) fn append(
        &mut self,
        batch: &[u8],
        header: &BatchHeader,
    ) -> Result<i64, ResponseError> {
        if self.deleted {
            return Err(ResponseError::UnknownTopicOrPartition);
        }
        match self.producers.check(header)? {
            Verdict::Duplicate(base_offset) => Ok(base_offset),
            Verdict::Append => self.write(batch, *header, None),
        }
    }

    /// Ends a producer's open transaction here. Does nothing when it has none, so that finishing a
    /// decision twice is harmless.
    pub(crate) fn append_marker(
        &mut self,
        producer_id: i64,
        producer_epoch: i16,
        decision: Decision,
        now_ms: i64,
    ) -> Result<(), ResponseError> {
        if self.deleted || !self.producers.has_open(producer_id) {
            return Ok(());
        }
        let marker = batch::marker(producer_id, producer_epoch, decision, now_ms);
        let header = BatchHeader::parse(&marker).ok_or(ResponseError::UnknownServerError)?;
        self.write(&marker, header, Some(decision)).map(|_| ())
    }

    fn write(
        &mut self,
        batch: &[u8],
        mut header: BatchHeader,
        decision: Option<Decision>,
    ) -> Result<i64, ResponseError> {
        let failed = |error: io::Error| storage_error(&self.dir, &error);
        if self.tail_dirty {
            self.active.set_len(self.last().bytes).map_err(failed)?;
            self.tail_dirty = false;
        }
        let full = self.last().bytes + header.bytes as u64 > self.options.segment_bytes;
        if full && self.last().bytes > 0 {
            self.roll()
                .map_err(|error| storage_error(&self.dir, &error))?;
        }
        let base_offset = self.end();
        header.base_offset = base_offset;
        // Only the prefix is rewritten, so the payload goes to the file from where it was received.
        let mut prefix = [0u8; PREFIX_BYTES];
        prefix[..8].copy_from_slice(&base_offset.to_be_bytes());
        prefix[8..12].copy_from_slice(&batch[8..12]);
        let written = write_both(&self.active, &prefix, &batch[PREFIX_BYTES..]).and_then(|()| {
            if self.options.fsync {
                self.active.sync_data()
            } else {
                Ok(())
            }
        });
        if let Err(error) = written {
            self.tail_dirty = self.active.set_len(self.last().bytes).is_err();
            return Err(storage_error(&self.dir, &error));
        }
        self.last_mut().note(&header);
        self.producers.note(&header, decision);
        Ok(base_offset)
    }

    /// Closes the active segment and starts the next.
    fn roll(&mut self) -> io::Result<()> {
        let next = Segment::empty(&self.dir, self.end());
        let file = next.open_for_append()?;
        // A file of this name can only be a leftover of a failed start of the same segment.
        file.set_len(0)?;
        if self.options.fsync {
            self.active.sync_data()?;
            sync_dir(&self.dir)?;
        }
        self.active = Arc::new(file);
        self.segments.push(next);
        Ok(())
    }

    /// Says where to read from `offset`; the reading itself is done without the log.
    pub(crate) fn plan_read(
        &mut self,
        offset: i64,
        isolation: Isolation,
    ) -> Result<ReadPlan, ResponseError> {
        if self.deleted {
            return Err(ResponseError::UnknownTopicOrPartition);
        }
        if offset < self.start || offset > self.end() {
            return Err(ResponseError::OffsetOutOfRange);
        }
        let at = self.segments.partition_point(|s| s.base_offset <= offset);
        let at = at.saturating_sub(1);
        let segment = &self.segments[at];
        let cursor = self
            .cursors
            .iter()
            .find(|c| c.offset == offset && c.segment == segment.base_offset);
        let plan = ReadPlan {
            file: Arc::clone(&self.active),
            segment: segment.base_offset,
            position: cursor.map_or_else(|| segment.position_before(offset), |c| c.position),
            limit: segment.bytes,
            offset,
            readable_end: self.readable_end(isolation),
            high_watermark: self.end(),
            stable_end: self.stable_end(),
            log_start: self.start,
        };
        if at + 1 == self.segments.len() {
            return Ok(plan);
        }
        let file = match &self.reading {
            Some((base, file)) if *base == plan.segment => Arc::clone(file),
            _ => {
                let opened = self.segments[at].open_for_read();
                let file = opened.map_err(|error| storage_error(&self.dir, &error))?;
                self.reading = Some((plan.segment, Arc::clone(&file)));
                file
            }
        };
        Ok(ReadPlan { file, ..plan })
    }

    /// Remembers that the batch after `offset - 1` starts at `position` of that segment.
    pub(crate) fn remember(&mut self, offset: i64, segment: i64, position: u64) {
        if self.cursors.len() == CURSORS {
            self.cursors.pop_front();
        }
        self.cursors.push_back(Cursor {
            offset,
            segment,
            position,
        });
    }

    /// Aborted transactions a reader of `from..to` must filter.
    pub(crate) fn aborted_between(&self, from: i64, to: i64) -> Vec<Aborted> {
        self.producers.aborted_between(from, to).copied().collect()
    }

    pub(crate) fn open_producers(&self) -> Vec<(i64, i16)> {
        self.producers.open_producers()
    }

    /// The largest producer id that wrote here and is remembered.
    pub(crate) fn largest_producer_id(&self) -> Option<i64> {
        self.producers.largest_id()
    }

    /// Moves the start of the log forward, to the end at most.
    pub(crate) fn delete_before(&mut self, offset: i64) -> Result<i64, ResponseError> {
        if offset > self.end() || offset < 0 {
            return Err(ResponseError::OffsetOutOfRange);
        }
        if offset > self.start {
            let error = |error: io::Error| storage_error(&self.dir, &error);
            write_start(&self.dir, offset, self.options.fsync).map_err(error)?;
            self.start = offset;
            self.remove_segments_before_start()
                .map_err(|error| storage_error(&self.dir, &error))?;
        }
        Ok(self.start)
    }

    fn remove_segments_before_start(&mut self) -> io::Result<()> {
        while self.segments.len() > 1 && self.segments[1].base_offset <= self.start {
            fs::remove_file(&self.segments[0].path)?;
            self.segments.remove(0);
        }
        self.producers.forget_before(self.start);
        Ok(())
    }

    /// Removes whole segments that are too old or too many; returns how many bytes went.
    pub(crate) fn enforce_retention(&mut self, now_ms: i64) -> io::Result<u64> {
        let before = self.bytes();
        let stable = self.stable_end();
        let oldest_kept = self
            .options
            .retention_age
            .map(|age| now_ms.saturating_sub(i64::try_from(age.as_millis()).unwrap_or(i64::MAX)));
        // Records without timestamps have no age.
        let expired = |segment: &Segment| {
            let newest = segment.max_timestamp_ms;
            newest >= 0 && oldest_kept.is_some_and(|oldest| newest < oldest)
        };
        if self.last().bytes > 0 && !self.tail_dirty && expired(self.last()) {
            self.roll()?;
        }
        let mut kept_bytes = before;
        let mut new_start = self.start;
        for pair in self.segments.windows(2) {
            let (segment, next) = (&pair[0], &pair[1]);
            let over = self
                .options
                .retention_bytes
                .is_some_and(|most| kept_bytes - segment.bytes >= most);
            // An open transaction's records stay until it ends.
            if next.base_offset > stable || !(over || expired(segment)) {
                break;
            }
            kept_bytes -= segment.bytes;
            new_start = new_start.max(next.base_offset);
        }
        if new_start > self.start {
            write_start(&self.dir, new_start, self.options.fsync)?;
            self.start = new_start;
            self.remove_segments_before_start()?;
        }
        Ok(before - self.bytes())
    }

    pub(crate) fn flush(&self) -> io::Result<()> {
        self.active.sync_data()
    }

    /// From now on appends and reads fail.
    pub(crate) fn mark_deleted(&mut self) {
        self.deleted = true;
    }
}

fn write_both(mut file: &File, head: &[u8], tail: &[u8]) -> io::Result<()> {
    let mut slices = [IoSlice::new(head), IoSlice::new(tail)];
    let mut left = &mut slices[..];
    while !left.is_empty() {
        match file.write_vectored(left) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => IoSlice::advance_slices(&mut left, n),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn write_start(dir: &Path, start: i64, fsync: bool) -> io::Result<()> {
    replace_file(
        &dir.join(START_FILE),
        format!("{start}\n").as_bytes(),
        fsync,
    )
}

/// Writes a small file so that a reader finds either the old content or the new.
pub(crate) fn replace_file(path: &Path, content: &[u8], fsync: bool) -> io::Result<()> {
    let temporary = path.with_extension("tmp");
    let mut file = File::create(&temporary)?;
    file.write_all(content)?;
    if fsync {
        file.sync_data()?;
    }
    fs::rename(&temporary, path)?;
    match path.parent() {
        Some(dir) if fsync => sync_dir(dir),
        _ => Ok(()),
    }
}

pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}
