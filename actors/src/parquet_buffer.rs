//! Decodes records into Parquet files, one open file per partition.
//!
//! Promises: a file holds one contiguous run of what it was given, and files of a
//! partition reach the uploader in order. A record that can't become a row is on
//! its way to the dead-letter topic before its file is closed, and the uploader waits
//! for its arrival; or it is in an object of its own that goes with the file.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use actix::prelude::*;
use ftap_kafka::consumer::Record;
use ftap_lake::{
    Appended, CloseReason, DeadLetterBuilder, FileBuilder, FileSettings, RejectedRecord,
    should_close,
};
use ftap_supervision::{Failure, Handed, MemoryBudget, Outbox, Permit, Stage, failpoint};
use ftap_telemetry::events::{FileClosed, RecordRejected, TimestampIgnored};
use ftap_telemetry::metrics;
use ftap_transaction::{NO_TIMESTAMP, RejectReason, plausible_timestamp};
use tokio::sync::oneshot;

use crate::messages::{
    DeadLetter, MAX_LETTER_BYTES, Records, Reject, ToBuffer, ToUploader, Upload,
};
use crate::settings::IngestSettings;

/// How often the size of an open file is looked at, in records.
const SIZE_CHECK_RECORDS: usize = 512;
/// How often one record is logged of those that are rejected, or lose their timestamp.
const REJECTION_LOG_INTERVAL: Duration = Duration::from_secs(1);
const SEE_QUARANTINE: &str = "see it with `ftap dlq list` or in quarantine on the page of messages, correct it, and send it again";

/// What a ParquetBuffer works with.
pub struct BufferParts {
    /// The topic, part of each file's name.
    pub topic: Arc<str>,
    /// File limits and encoding.
    pub settings: Arc<IngestSettings>,
    /// Takes the files.
    pub uploader: Outbox<ToUploader>,
    /// Takes what can't become a row; without it the lake does.
    pub dead_letters: Option<Outbox<Reject>>,
    /// Shared by everything behind the consumer.
    pub budget: MemoryBudget,
}

/// The actor.
pub struct ParquetBuffer {
    stage: Stage,
    parts: BufferParts,
    writer_id: Arc<str>,
    partitions: HashMap<i32, Partition>,
    /// The newest rejection that is not logged yet.
    unlogged_rejection: Option<(i32, i64, String)>,
    last_rejection_log: Option<Instant>,
    last_timestamp_log: Option<Instant>,
}

struct Partition {
    assignment: u64,
    open: Option<OpenFile>,
}

struct OpenFile {
    builder: FileBuilder,
    shown: Shown,
    permit: Permit,
    /// Resolve when earlier rejections of this file are durable.
    rejections: Vec<oneshot::Receiver<()>>,
    /// Rejected, not sent yet.
    rejected: Vec<DeadLetter>,
    /// Rejected, where the lake keeps them.
    dead_letters: Option<DeadLetterBuilder>,
}

impl OpenFile {
    /// The size of what would be put if the file were closed now; an estimate.
    fn encoded_bytes(&self) -> u64 {
        let dead_letters = self.dead_letters.as_ref();
        self.builder.encoded_bytes() + dead_letters.map_or(0, DeadLetterBuilder::encoded_bytes)
    }

    fn memory_bytes(&self) -> u64 {
        let dead_letters = self.dead_letters.as_ref();
        let dead_letters = dead_letters.map_or(0, DeadLetterBuilder::memory_bytes);
        (self.builder.memory_bytes() + dead_letters) as u64
    }

    /// Keeps a record for the lake.
    fn keep(
        &mut self,
        record: &Record<'_>,
        reason: &str,
        settings: &FileSettings,
    ) -> Result<(), Failure> {
        let dead_letters = match &mut self.dead_letters {
            Some(dead_letters) => dead_letters,
            none => {
                let name = self.builder.name().clone();
                none.insert(DeadLetterBuilder::open(name, settings.compression)?)
            }
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        dead_letters.append(&RejectedRecord {
            offset: record.offset,
            timestamp_ms: record.timestamp_ms,
            reason,
            key: record.key,
            headers: &record.headers(),
            payload: record.payload,
            rejected_ms: now.map_or(0, |now| now.as_millis() as i64),
        })?;
        Ok(())
    }
}

/// A record for the dead-letter topic.
fn dead_letter(partition: i32, record: &Record<'_>, reason: String) -> DeadLetter {
    let most = |value: &[u8]| value.len().min(MAX_LETTER_BYTES);
    let kept = record.payload.map(|value| &value[..most(value)]);
    DeadLetter {
        partition,
        offset: record.offset,
        timestamp_ms: record.timestamp_ms,
        reason,
        key: record.key.map(<[u8]>::to_vec),
        headers: record.headers(),
        payload: kept.map(<[u8]>::to_vec),
        is_cut: kept.map(<[u8]>::len) != record.payload.map(<[u8]>::len),
    }
}

/// An open file as the metrics have it, until it is closed or dropped.
struct Shown {
    partition: String,
}

impl Shown {
    fn open(partition: i32) -> Self {
        let shown = Self {
            partition: partition.to_string(),
        };
        metrics::OPEN_FILE_AGE.set_age_for([&shown.partition]);
        shown
    }

    fn rows(&self, rows: u64) {
        metrics::OPEN_FILE_ROWS.set_for([&self.partition], rows as f64);
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        metrics::OPEN_FILE_ROWS.forget_for([&self.partition]);
        metrics::OPEN_FILE_AGE.forget_for([&self.partition]);
    }
}

impl ParquetBuffer {
    /// A buffer without partitions.
    pub fn new(stage: Stage, parts: BufferParts) -> Self {
        let writer_id = Arc::from(parts.settings.writer_id.as_str());
        for reason in RejectReason::all() {
            metrics::RECORDS_REJECTED.expect_for([&reason.code()]);
        }
        Self {
            stage,
            parts,
            writer_id,
            partitions: HashMap::new(),
            unlogged_rejection: None,
            last_rejection_log: None,
            last_timestamp_log: None,
        }
    }

    /// Appends the records if they are of the current reading of their partition.
    fn take(&mut self, records: &Records) -> Result<(), Failure> {
        let current = self.partitions.get(&records.partition);
        if self.stage.is_fenced() || current.map(|it| it.assignment) != Some(records.assignment) {
            return Ok(());
        }
        self.append(records)
    }

    fn append(&mut self, records: &Records) -> Result<(), Failure> {
        failpoint::hit("parquet_buffer")?;
        let file_settings = FileSettings {
            max_message_bytes: self.parts.settings.max_message_bytes,
            compression: self.parts.settings.compression,
        };
        let number = records.partition;
        for (index, record) in records.batch.records().enumerate() {
            let Some(partition) = self.partitions.get_mut(&number) else {
                return Ok(());
            };
            let open = match &mut partition.open {
                Some(open) => open,
                empty => empty.insert(OpenFile {
                    shown: Shown::open(number),
                    builder: FileBuilder::open(
                        self.parts.topic.clone(),
                        number,
                        record.offset,
                        record.timestamp_ms,
                        &file_settings,
                        self.writer_id.clone(),
                    )?,
                    permit: self.parts.budget.take(0),
                    rejections: Vec::new(),
                    rejected: Vec::new(),
                    dead_letters: None,
                }),
            };
            let appended =
                open.builder
                    .append(record.payload, record.offset, record.timestamp_ms)?;
            let is_undated = plausible_timestamp(record.timestamp_ms).is_none()
                && record.timestamp_ms != NO_TIMESTAMP;
            if let Appended::Rejected(reason) = appended {
                let reason = reason.code();
                if self.parts.dead_letters.is_some() {
                    let letter = dead_letter(number, &record, reason.clone());
                    open.rejected.push(letter);
                } else {
                    open.keep(&record, &reason, &file_settings)?;
                }
                self.note_rejection(number, record.offset, reason);
            }
            if is_undated {
                self.note_ignored_timestamp(number, record.offset, record.timestamp_ms);
            }
            // One rejected record may be as large as many rows.
            let is_due = index % SIZE_CHECK_RECORDS == SIZE_CHECK_RECORDS - 1
                || matches!(appended, Appended::Rejected(_));
            self.close_if_full(number, is_due)?;
        }
        if let Some(open) = self
            .partitions
            .get_mut(&number)
            .and_then(|partition| partition.open.as_mut())
        {
            open.permit.resize(open.memory_bytes());
            open.shown.rows(open.builder.rows());
        }
        self.send_rejections(number);
        Ok(())
    }

    fn note_rejection(&mut self, partition: i32, offset: i64, reason: String) {
        metrics::RECORDS_REJECTED.add_for([&reason], 1);
        self.unlogged_rejection = Some((partition, offset, reason));
        self.log_rejection();
    }

    fn log_rejection(&mut self) {
        let last = self.last_rejection_log;
        if last.is_some_and(|last| last.elapsed() < REJECTION_LOG_INTERVAL) {
            return;
        }
        let Some((partition, offset, reason)) = self.unlogged_rejection.take() else {
            return;
        };
        self.last_rejection_log = Some(Instant::now());
        RecordRejected {
            partition,
            offset,
            reason,
            rejected_total: metrics::RECORDS_REJECTED.total(),
            remedy: SEE_QUARANTINE.to_owned(),
        }
        .emit(self.stage.speaker());
    }

    fn note_ignored_timestamp(&mut self, partition: i32, offset: i64, timestamp_ms: i64) {
        metrics::TIMESTAMPS_IGNORED.add(1);
        let last = self.last_timestamp_log;
        if last.is_none_or(|last| last.elapsed() >= REJECTION_LOG_INTERVAL) {
            self.last_timestamp_log = Some(Instant::now());
            TimestampIgnored {
                partition,
                offset,
                timestamp_ms,
            }
            .emit(self.stage.speaker());
        }
    }

    /// Looks at the row limit after each record, at the others when that `is_due`.
    fn close_if_full(&mut self, partition: i32, is_due: bool) -> Result<(), Failure> {
        let rolling = &self.parts.settings.rolling;
        let Some(open) = self
            .partitions
            .get(&partition)
            .and_then(|partition| partition.open.as_ref())
        else {
            return Ok(());
        };
        let builder = &open.builder;
        let records = builder.rows() + builder.rejected_records();
        if records < rolling.max_rows && !is_due {
            return Ok(());
        }
        let reason = should_close(
            records,
            open.encoded_bytes(),
            builder.rejected_ranges(),
            builder.opened_at().elapsed(),
            rolling,
        );
        match reason {
            Some(reason) => self.close(partition, reason),
            None => Ok(()),
        }
    }

    fn close(&mut self, number: i32, reason: CloseReason) -> Result<(), Failure> {
        self.send_rejections(number);
        let Some(partition) = self.partitions.get_mut(&number) else {
            return Ok(());
        };
        let Some(open) = partition.open.take() else {
            return Ok(());
        };
        let closed_at = Instant::now();
        let file = open.builder.close()?;
        let dead_letters = open.dead_letters;
        let dead_letters = dead_letters.map(|letters| letters.close(&file.footer));
        let dead_letters = dead_letters.transpose()?;
        FileClosed {
            partition: number,
            first_offset: file.footer.first_offset,
            last_offset: file.footer.last_offset,
            rows: file.footer.rows,
            bytes: file.bytes.len() as u64,
            reason: reason.as_str().to_owned(),
        }
        .emit(self.stage.speaker());
        let mut permit = open.permit;
        let dead_letter_bytes = dead_letters.as_ref().map_or(0, |file| file.bytes.len());
        permit.resize((file.bytes.len() + dead_letter_bytes) as u64);
        // Bounded by the memory budget: the consumer pauses when files pile up.
        self.parts
            .uploader
            .hand(ToUploader::Upload(Box::new(Upload {
                assignment: partition.assignment,
                file,
                reason,
                rejections: open.rejections,
                dead_letters,
                closed_at,
                permit,
            })));
        Ok(())
    }

    fn send_rejections(&mut self, number: i32) {
        let Some(open) = self
            .partitions
            .get_mut(&number)
            .and_then(|partition| partition.open.as_mut())
        else {
            return;
        };
        let Some(dead_letters) = &self.parts.dead_letters else {
            return;
        };
        if open.rejected.is_empty() {
            return;
        }
        let records = std::mem::take(&mut open.rejected);
        let bytes: usize = records
            .iter()
            .map(|record| size_of::<DeadLetter>() + record.payload.as_ref().map_or(0, Vec::len))
            .sum();
        let (done, durable) = oneshot::channel();
        open.rejections.push(durable);
        // What has arrived already needs no more waiting.
        open.rejections
            .retain_mut(|rejection| !matches!(rejection.try_recv(), Ok(())));
        dead_letters.hand(Reject {
            records,
            permit: self.parts.budget.take(bytes as u64),
            done,
        });
    }

    fn close_all(&mut self, wanted: impl Fn(&FileBuilder) -> Option<CloseReason>) {
        let due: Vec<(i32, CloseReason)> = self
            .partitions
            .iter()
            .filter_map(|(number, partition)| {
                Some((*number, wanted(&partition.open.as_ref()?.builder)?))
            })
            .collect();
        for (number, reason) in due {
            if let Err(error) = self.close(number, reason) {
                self.stage.fail(error);
            }
        }
    }

    fn close_aged(&mut self) {
        if self.stage.is_fenced() {
            return;
        }
        let max_age = self.parts.settings.rolling.max_age;
        self.close_all(|builder| {
            (builder.opened_at().elapsed() >= max_age).then_some(CloseReason::Age)
        });
    }
}

impl Actor for ParquetBuffer {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Context<Self>) {
        // An idle stream flushes, too: age is looked at by a timer.
        let max_age = self.parts.settings.rolling.max_age;
        let interval = (max_age / 10).clamp(Duration::from_millis(20), Duration::from_millis(250));
        context.run_interval(interval, |buffer, _| {
            buffer.close_aged();
            buffer.log_rejection();
        });
    }
}

impl Handler<Handed<ToBuffer>> for ParquetBuffer {
    type Result = ();

    fn handle(&mut self, handed: Handed<ToBuffer>, _: &mut Context<Self>) {
        let Handed {
            message,
            work: _work,
        } = handed;
        match message {
            ToBuffer::Open {
                partition,
                assignment,
            } => {
                let fresh = Partition {
                    assignment,
                    open: None,
                };
                self.partitions.insert(partition, fresh);
            }
            ToBuffer::Close(closing) => {
                for partition in &closing.partitions {
                    self.partitions.remove(partition);
                }
            }
            ToBuffer::Records(records) => {
                if let Err(error) = self.take(&records) {
                    self.stage.fail(error);
                }
            }
            ToBuffer::Flush(reason) => {
                if !self.stage.is_fenced() {
                    self.close_all(|_| Some(reason));
                }
            }
        }
    }
}
