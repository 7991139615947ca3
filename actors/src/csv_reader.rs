//! Reads the prepared events file, encodes its rows as Kafka messages and hands
//! them on in batches, paced.
//!
//! Relies on the publisher's answer for back-pressure: one batch is on its way
//! while the next is being made, never more.

use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::prelude::*;
use csv::ByteRecord;
use ftap_kafka::publish_resume::{Place, PublishFailure, load_checkpoint};
use ftap_supervision::{Failure, Handed, Internal, Outbox, Stage, failpoint};
use ftap_telemetry::events::{PublishResumed, SourceRowRejected};
use ftap_telemetry::metrics;
use ftap_transaction::{EVENT_COLUMNS, SourceRow, encode_json, partition_of};

use crate::messages::{EncodedRow, RowBatch, StartReading};
use crate::settings::{Pace, PublishSettings};

const BATCH_ROWS: usize = 4096;
const BATCH_BYTES: usize = 1024 * 1024;
/// Rows that are passed over don't fill a batch; this bounds the time it takes.
const MAX_ROWS_READ: u64 = 65_536;

/// The actor.
pub struct CsvReader {
    stage: Stage,
    settings: Arc<PublishSettings>,
    publisher: Outbox<RowBatch>,
}

impl CsvReader {
    /// Reads the file of `settings` when the publisher says from where.
    pub fn new(stage: Stage, settings: Arc<PublishSettings>, publisher: Outbox<RowBatch>) -> Self {
        Self {
            stage,
            settings,
            publisher,
        }
    }
}

impl Actor for CsvReader {
    type Context = Context<Self>;
}

impl Handler<Handed<StartReading>> for CsvReader {
    type Result = ();

    fn handle(&mut self, start: Handed<StartReading>, context: &mut Context<Self>) {
        let stage = self.stage.clone();
        let Handed {
            message: start,
            work,
        } = start;
        let replay = replay(
            stage.clone(),
            self.settings.clone(),
            self.publisher.clone(),
            start,
        );
        let task = async move {
            let _work = work;
            if let Err(error) = replay.await {
                stage.fail(error);
            }
        };
        context.spawn(task.into_actor(self));
    }
}

async fn replay(
    stage: Stage,
    settings: Arc<PublishSettings>,
    publisher: Outbox<RowBatch>,
    start: StartReading,
) -> Result<(), Failure> {
    let first_row = start.resume.first_row();
    // A checkpoint beyond what the topic has belongs to another life of the topic.
    let place = load_checkpoint(&settings.checkpoint_file, &start.source)
        .filter(|place| place.row <= first_row)
        .unwrap_or_default();
    let mut source = EventsFile::open(&settings.events_file, place)?;
    PublishResumed {
        source: settings.events_file.display().to_string(),
        fingerprint: start.source.clone(),
        first_row,
        byte_offset: place.byte,
        partition_count: start.partitions,
    }
    .emit(stage.speaker());

    // A transaction has rows of all partitions, so the topic has all up to the newest one. This process
    // may have published some of them before the group started again.
    let newest = start.resume.last_rows.iter().flatten().max();
    let before = newest.map_or(0, |row| row + 1);
    let before = before.saturating_sub(metrics::ROWS_PUBLISHED.total());
    metrics::PUBLISHED_BEFORE.set(before as f64);
    let mut pacer = Pacer::new(settings.pace);
    let mut on_its_way = None;
    loop {
        failpoint::hit("csv_reader")?;
        if stage.generation().control().is_paused() {
            // What is ready goes out before the pause.
            if let Some(request) = on_its_way.take() {
                answer(&stage, request).await?;
            }
            let _waiting = stage.progress().waiting();
            tokio::select! {
                () = stage.generation().control().resumed() => pacer.skip_to_now(),
                () = stage.generation().stop_request() => return Ok(()),
            }
        }
        let batch = source.next_batch(&start, &settings, &mut pacer, &stage)?;
        stage.progress().step();
        let is_last = batch.is_last;
        if let Some(request) = on_its_way.take() {
            answer(&stage, request).await?;
        }
        if stage.is_fenced() || stage.generation().stop_requested() {
            return Ok(());
        }
        on_its_way = Some(publisher.ask(batch));
        if is_last {
            break;
        }
        if let Some(pause) = pacer.pause() {
            // What is ready goes out before the pause.
            if let Some(request) = on_its_way.take() {
                answer(&stage, request).await?;
            }
            let _waiting = stage.progress().waiting();
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = stage.generation().stop_request() => return Ok(()),
            }
        }
    }
    match on_its_way {
        Some(request) => answer(&stage, request).await,
        None => Ok(()),
    }
}

/// Waits for the publisher; it has its own watch, so this wait is not a stall.
async fn answer(stage: &Stage, request: RecipientRequest<Handed<RowBatch>>) -> Result<(), Failure> {
    let _waiting = stage.progress().waiting();
    let answer = request.await.unwrap_or_else(|error| {
        Err(
            Failure::new(Internal::NeighbourGone, "kafka_publisher does not answer")
                .caused_by(error),
        )
    });
    // A publisher that was asked to stop leaves batches unanswered.
    if stage.generation().stop_requested() {
        return Ok(());
    }
    answer
}

/// When the next row is due, by the gaps between the rows' `unix_time`.
struct Pacer {
    pace: Pace,
    due: Instant,
    last_unix_time: Option<i64>,
}

impl Pacer {
    fn new(pace: Pace) -> Self {
        Self {
            pace,
            due: Instant::now(),
            last_unix_time: None,
        }
    }

    /// Notes a row; true if it is not due yet.
    fn is_early(&mut self, unix_time: i64) -> bool {
        let Pace::Speed(speed) = self.pace else {
            return false;
        };
        if let Some(last) = self.last_unix_time {
            let gap = unix_time.saturating_sub(last).max(0) as f64 / speed;
            // A wait of a year is long enough, and keeps the clock from overflowing.
            self.due += Duration::from_secs_f64(gap.min(31_536_000.0));
        }
        self.last_unix_time = Some(unix_time);
        self.due > Instant::now()
    }

    /// Rows that came due in the meantime are not hurried after.
    fn skip_to_now(&mut self) {
        self.due = self.due.max(Instant::now());
    }

    fn pause(&self) -> Option<Duration> {
        let left = self.due.saturating_duration_since(Instant::now());
        (!left.is_zero()).then_some(left)
    }
}

struct EventsFile {
    reader: csv::Reader<File>,
    /// Byte of the file where `reader` began.
    base: u64,
    next_row: u64,
    record: ByteRecord,
    /// The record has been read but was not due.
    held_back: bool,
}

impl EventsFile {
    fn open(path: &Path, place: Place) -> Result<Self, Failure> {
        let unreadable = || {
            let file = format!("events file {}", path.display());
            Failure::new(PublishFailure::SourceUnreadable, file)
        };
        let mut file = File::open(path).map_err(|error| unreadable().caused_by(error))?;
        file.seek(SeekFrom::Start(place.byte))
            .map_err(|error| unreadable().caused_by(error))?;
        let mut reader = csv::ReaderBuilder::new()
            .delimiter(b';')
            .has_headers(false)
            .flexible(true)
            .buffer_capacity(256 * 1024)
            .from_reader(file);
        let mut record = ByteRecord::new();
        if place.byte == 0 {
            reader
                .read_byte_record(&mut record)
                .map_err(|error| unreadable().caused_by(error))?;
            check_header(path, &record)?;
        }
        Ok(Self {
            reader,
            base: place.byte,
            next_row: place.row,
            record,
            held_back: false,
        })
    }

    fn next_batch(
        &mut self,
        start: &StartReading,
        settings: &PublishSettings,
        pacer: &mut Pacer,
        stage: &Stage,
    ) -> Result<RowBatch, Failure> {
        let mut batch = RowBatch {
            rows: Vec::with_capacity(BATCH_ROWS),
            payloads: Vec::with_capacity(BATCH_BYTES + BATCH_BYTES / 4),
            keys: Vec::with_capacity(BATCH_ROWS * 36),
            ..RowBatch::default()
        };
        let mut read = 0;
        let mut place = self.place();
        while batch.rows.len() < BATCH_ROWS
            && batch.payloads.len() < BATCH_BYTES
            && read < MAX_ROWS_READ
        {
            if settings
                .row_limit
                .is_some_and(|limit| self.next_row >= limit)
            {
                batch.is_last = true;
                break;
            }
            if !std::mem::take(&mut self.held_back) {
                let more = self
                    .reader
                    .read_byte_record(&mut self.record)
                    .map_err(|error| {
                        Failure::new(
                            PublishFailure::SourceUnreadable,
                            format!(
                                "events file {}, row {}",
                                settings.events_file.display(),
                                self.next_row
                            ),
                        )
                        .caused_by(error)
                    })?;
                if !more {
                    batch.is_last = true;
                    break;
                }
            }
            let row = self.next_row;
            match self.encode(&mut batch, start.partitions) {
                // Rows that are in the topic already cost no time.
                Ok(partition) if !start.resume.lacks(partition, row) => batch.forget_last(),
                Ok(_) if pacer.is_early(self.unix_time()) => {
                    batch.forget_last();
                    self.held_back = true;
                    break;
                }
                Ok(partition) => batch.finish_row(row, partition),
                // Earlier rows were reported when they were first skipped.
                Err(reason) if row >= start.resume.first_row() => {
                    metrics::SOURCE_ROWS_REJECTED.add(1);
                    SourceRowRejected { row, reason }.emit(stage.speaker());
                }
                Err(_) => {}
            }
            self.next_row += 1;
            read += 1;
            place = self.place();
        }
        metrics::ROWS_READ.add(read);
        batch.end = place;
        Ok(batch)
    }

    /// Appends key and payload of the current record; its partition if it is a
    /// good row, else what is wrong with it and nothing appended.
    fn encode(&self, batch: &mut RowBatch, partitions: i32) -> Result<i32, String> {
        if self.record.len() != EVENT_COLUMNS.len() {
            return Err(format!(
                "{} fields instead of {}",
                self.record.len(),
                EVENT_COLUMNS.len()
            ));
        }
        let row = SourceRow {
            trans_date_trans_time: &self.record[0],
            user_id: &self.record[1],
            merchant: &self.record[2],
            category: &self.record[3],
            amt: &self.record[4],
            trans_num: &self.record[5],
            unix_time: &self.record[6],
            is_fraud: &self.record[7],
        };
        encode_json(&row, &mut batch.payloads).map_err(|error| error.to_string())?;
        batch.keys.extend_from_slice(row.user_id);
        Ok(partition_of(row.user_id, partitions))
    }

    fn unix_time(&self) -> i64 {
        std::str::from_utf8(&self.record[6])
            .ok()
            .and_then(|text| text.parse().ok())
            .unwrap_or(0)
    }

    fn place(&self) -> Place {
        Place {
            row: self.next_row,
            byte: self.base + self.reader.position().byte(),
        }
    }
}

impl RowBatch {
    fn forget_last(&mut self) {
        let (keys, payloads) = self.rows.last().map_or((0, 0), |row| {
            (row.key_end as usize, row.payload_end as usize)
        });
        self.keys.truncate(keys);
        self.payloads.truncate(payloads);
    }

    fn finish_row(&mut self, row: u64, partition: i32) {
        let end = |length: usize| {
            u32::try_from(length).expect("a batch ends after a megabyte and one row")
        };
        self.rows.push(EncodedRow {
            row,
            payload_end: end(self.payloads.len()),
            key_end: end(self.keys.len()),
            partition,
        });
    }
}

fn check_header(path: &Path, header: &ByteRecord) -> Result<(), Failure> {
    if header
        .iter()
        .eq(EVENT_COLUMNS.iter().map(|name| name.as_bytes()))
    {
        return Ok(());
    }
    let seen = String::from_utf8_lossy(header.get(0).unwrap_or_default())
        .chars()
        .take(120)
        .collect::<String>();
    let hint = if header.is_empty() {
        "the file is empty".to_owned()
    } else if header.len() == 1 && seen.contains(',') {
        format!("it seems to be separated by commas ({seen:?}…): run `ftap prepare` on it first")
    } else {
        format!(
            "its first line has {} fields and begins with {seen:?}",
            header.len()
        )
    };
    Err(Failure::new(
        PublishFailure::SourceInvalid,
        format!(
            "events file {}: {hint}; expected the header `{}`",
            path.display(),
            EVENT_COLUMNS.join(";")
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gaps_of_the_data_divided_by_the_speed_are_the_gaps_of_the_clock() {
        let mut pacer = Pacer::new(Pace::Speed(100.0));
        let start = pacer.due;
        pacer.is_early(1000);
        assert_eq!(pacer.due, start, "the first row is due at once");
        pacer.is_early(1050);
        pacer.is_early(1050);
        pacer.is_early(1040);
        assert_eq!(
            pacer.due - start,
            Duration::from_millis(500),
            "a step back costs nothing"
        );
    }

    #[test]
    fn a_wrong_header_is_explained() {
        let record = ByteRecord::from(vec!["a,b,c"]);
        let error = check_header(Path::new("e.csv"), &record)
            .expect_err("wrong")
            .to_string();
        assert!(
            error.contains("separated by commas") && error.contains("ftap prepare"),
            "{error}"
        );
        let error = check_header(Path::new("e.csv"), &ByteRecord::new())
            .expect_err("empty")
            .to_string();
        assert!(error.contains("empty"), "{error}");
    }
}
