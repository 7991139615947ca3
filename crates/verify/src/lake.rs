//! Reads the objects of the lake, rows and all.
//!
//! Promises: what an object's name and footer say is compared with what its rows are; neither
//! is trusted in place of the rows. One object is in memory at a time, and
//! the one after it. An object that can't be read at all is an error that names it.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use anyhow::anyhow;
use arrow_array::cast::AsArray;
use arrow_array::types::{
    Float64Type, Int32Type, Int64Type, TimestampMicrosecondType, TimestampMillisecondType,
};
use arrow_array::{Array, RecordBatch};
use bytes::Bytes;
use ftap_lake::{
    Checksum, FooterError, FooterFormat as _, LakeError, LakeStore, ListedObject, ObjectName,
    TRANSACTIONS, TransactionFooter, date_of_millis,
};
use ftap_telemetry::chain;
use ftap_transaction::{EVENT_TIME, field};
use futures::TryStreamExt as _;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use tokio::runtime::Handle;

use crate::BACKOFF;
use crate::content::{self, Hasher};
use crate::items::LakeRow;
use crate::ledger::Ledger;
use crate::problem::Kind;

const BATCH_ROWS: usize = 8192;
/// Batches decoded ahead of those that are accounted for, which takes as long.
const BATCHES_AHEAD: usize = 4;

/// An object found in the lake.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub key: String,
    /// Its name, `None` if the key is not a lake object's.
    pub name: Option<ObjectName>,
    /// Its size.
    pub bytes: u64,
}

/// Every Parquet file where transactions are kept, in the order of the chains; those named
/// for other topics are left out, those with no such name are not.
pub(crate) async fn list(store: &LakeStore, topic: &str) -> Result<Vec<Found>, LakeError> {
    let mut found = Vec::new();
    let mut objects = store.list(TRANSACTIONS.name);
    while let Some(ListedObject { key, bytes, .. }) = objects.try_next().await? {
        let name = ObjectName::parse(&key).ok();
        let ours = name.as_ref().is_none_or(|name| name.topic() == topic);
        if ours && key.ends_with(".parquet") {
            found.push(Found { key, name, bytes });
        }
    }
    found.sort_by_cached_key(|object| {
        let name = object.name.as_ref();
        let place = name.map(|name| (name.partition(), name.first_offset(), name.date()));
        // Files that have no place in a chain come last, so that they are the copies.
        (place.is_none(), place, object.key.clone())
    });
    Ok(found)
}

/// Accounts for the objects, given in the order of [`list`]. They are decoded on a thread of their own.
pub(crate) fn audit(
    store: &LakeStore,
    runtime: &Handle,
    objects: &[Found],
    auditor: &mut Auditor<'_>,
) -> anyhow::Result<()> {
    thread::scope(|scope| {
        let (sender, opened) = sync_channel(1);
        let decoding = scope.spawn(move || {
            for found in objects {
                let get = async || store.get(&found.key).await;
                let bytes = runtime.block_on(BACKOFF.retry(get, |_, _| {}))?;
                if !decode(bytes, &sender) {
                    break;
                }
            }
            anyhow::Ok(())
        });
        for (found, opened) in objects.iter().zip(opened) {
            auditor.object(found, opened);
        }
        let decoded = decoding.join();
        decoded.map_err(|_panic| anyhow!("reading the lake failed: this is a bug"))?
    })
}

/// An object whose rows follow.
struct Opened {
    footer: Result<TransactionFooter, FooterError>,
    batches: Receiver<anyhow::Result<RecordBatch>>,
}

/// Sends an object on, then its rows as they are decoded; `false` if no one takes objects any more.
fn decode(bytes: Bytes, objects: &SyncSender<anyhow::Result<Opened>>) -> bool {
    let (sender, batches) = sync_channel(BATCHES_AHEAD);
    let open = || -> anyhow::Result<_> {
        let builder = ParquetRecordBatchReaderBuilder::try_new(bytes)?;
        let pairs = builder.metadata().file_metadata().key_value_metadata();
        let pairs = pairs.into_iter().flatten();
        let footer = TransactionFooter::from_pairs(
            pairs.map(|pair| (pair.key.as_str(), pair.value.as_deref())),
        );
        let reader = builder.with_batch_size(BATCH_ROWS).build()?;
        Ok((Opened { footer, batches }, reader))
    };
    match open() {
        Ok((opened, reader)) => {
            let is_taken = objects.send(Ok(opened)).is_ok();
            // The rest of an object at fault is not looked at.
            let mut batches = reader.map(|batch| Ok(batch?));
            let _ = batches.try_for_each(|batch| sender.send(batch));
            is_taken
        }
        Err(error) => objects.send(Err(error)).is_ok(),
    }
}

/// Accounts for the objects one by one.
pub(crate) struct Auditor<'a> {
    topic: &'a str,
    ledger: &'a mut Ledger,
    hasher: Hasher,
    /// Partition, last offset and key of the object before.
    previous: Option<(i32, i64, String)>,
}

/// What the rows of an object come to.
#[derive(Default)]
struct Rows {
    count: u64,
    partition: Option<i32>,
    /// First offset and its timestamp.
    first: Option<(i64, i64)>,
    last: Option<i64>,
    faults: Vec<String>,
}

impl<'a> Auditor<'a> {
    /// For the objects of `topic`.
    pub(crate) fn new(topic: &'a str, ledger: &'a mut Ledger) -> Self {
        Self {
            topic,
            ledger,
            hasher: Hasher::default(),
            previous: None,
        }
    }

    fn object(&mut self, found: &Found, opened: anyhow::Result<Opened>) {
        let accounted = opened.and_then(|opened| self.readable_object(found, opened));
        if let Err(error) = accounted {
            let detail = chain(error.as_ref());
            let partition = found.name.as_ref().map(ObjectName::partition);
            self.ledger
                .object_problem(Kind::UnreadableObject, partition, &found.key, detail);
            if let Some(name) = &found.name {
                self.ledger
                    .unreadable_from(name.partition(), name.first_offset());
            }
        }
    }

    fn readable_object(&mut self, found: &Found, opened: Opened) -> anyhow::Result<()> {
        let key = found.key.as_str();
        let Opened { footer, batches } = opened;
        if found.name.is_none() {
            if footer
                .as_ref()
                .is_ok_and(|footer| footer.topic != self.topic)
            {
                return Ok(());
            }
            let detail = "readers of the folder see its rows, too; move it out of the lake";
            self.ledger
                .object_problem(Kind::StrayObject, None, key, detail.to_owned());
        }

        let mut rows = Rows::default();
        let mut checksum = Checksum::new();
        for batch in batches {
            let batch = batch?;
            let partition = found.name.as_ref().map_or(0, ObjectName::partition);
            if let Err(fault) = self.rows(key, partition, &batch, &mut rows) {
                rows.faults.push(fault);
                break;
            }
            if let Err(error) = checksum.update(&batch) {
                rows.faults.push(error.to_string());
                break;
            }
        }
        match footer {
            Ok(footer) => {
                for range in &footer.rejected {
                    let offsets = (range.first_offset, range.last_offset);
                    self.ledger
                        .lake_rejections(key, footer.partition, offsets, &range.reason);
                }
                compare(self.topic, found, &footer, checksum.digest(), &mut rows);
                self.overlap(key, &footer);
            }
            Err(error) => rows.faults.push(error.to_string()),
        }
        if !rows.faults.is_empty() {
            let partition = rows
                .partition
                .or(found.name.as_ref().map(ObjectName::partition));
            let detail = rows.faults.join("; ");
            self.ledger
                .object_problem(Kind::ObjectContradictsItself, partition, key, detail);
        }
        Ok(())
    }

    fn rows(
        &mut self,
        key: &str,
        named_partition: i32,
        batch: &RecordBatch,
        rows: &mut Rows,
    ) -> Result<(), String> {
        let column = |name: &str| {
            let array = batch
                .column_by_name(name)
                .ok_or(format!("no column {name}"))?;
            match array.null_count() {
                0 => Ok(array),
                _ if name == "_kafka_timestamp" => Ok(array),
                nulls => Err(format!("{nulls} nulls in column {name}")),
            }
        };
        let wrong = |name: &str| format!("column {name} has another type than the lake's");
        let text = |name: &str| {
            let array = column(name)?.as_string_opt::<i32>();
            array.ok_or_else(|| wrong(name))
        };
        macro_rules! values {
            ($type:ty, $name:expr) => {
                column($name)?
                    .as_primitive_opt::<$type>()
                    .ok_or_else(|| wrong($name))?
            };
        }
        let texts = [
            text(field::TRANS_DATE_TRANS_TIME)?,
            text(field::USER_ID)?,
            text(field::MERCHANT)?,
            text(field::CATEGORY)?,
            text(field::TRANS_NUM)?,
            text(field::CURRENCY)?,
        ];
        let unix_times = values!(Int64Type, field::UNIX_TIME).values();
        let frauds = values!(Int64Type, field::IS_FRAUD).values();
        let amounts = values!(Float64Type, field::ORIGINAL_AMT).values();
        let partitions = values!(Int32Type, "_kafka_partition").values();
        let offsets = values!(Int64Type, "_kafka_offset").values();
        let timestamps = values!(TimestampMillisecondType, "_kafka_timestamp");
        // Files of earlier versions lack it.
        let event_times = match batch.column_by_name(EVENT_TIME) {
            Some(_) => Some(values!(TimestampMicrosecondType, EVENT_TIME).values()),
            None => None,
        };

        for index in 0..batch.num_rows() {
            let (partition, offset) = (partitions[index], offsets[index]);
            let timestamp_ms = timestamps.is_valid(index).then(|| timestamps.value(index));
            let content = self.hasher.values(
                texts.map(|column| column.value(index).as_bytes()),
                unix_times[index],
                frauds[index],
                amounts[index],
            );
            let row = LakeRow {
                offset,
                timestamp_ms: timestamp_ms.map_or(-1, content::lake_timestamp),
                content,
                of_earlier_version: event_times.is_none(),
            };
            if let Some(times) = event_times
                && content::event_time(texts[0].value(index)) != Some(times[index])
            {
                rows.fault(format!("{EVENT_TIME} differs at offset {offset}"));
            }
            self.ledger.lake_row(key, partition, row);
            // The folder of NULL is that of 1970.
            rows.add(
                named_partition,
                partition,
                offset,
                timestamp_ms.unwrap_or(0),
            );
        }
        Ok(())
    }

    fn overlap(&mut self, key: &str, footer: &TransactionFooter) {
        if let Some((partition, last, previous)) = &self.previous
            && *partition == footer.partition
            && footer.first_offset <= *last
        {
            let detail = format!(
                "offsets {}-{} are in {previous} as well",
                footer.first_offset,
                footer.last_offset.min(*last)
            );
            self.ledger
                .object_problem(Kind::ObjectsOverlap, Some(*partition), key, detail);
        }
        let reached = match &self.previous {
            Some((partition, last, _)) if *partition == footer.partition => *last,
            _ => -1,
        };
        if footer.last_offset > reached {
            self.previous = Some((footer.partition, footer.last_offset, key.to_owned()));
        }
    }
}

impl Rows {
    fn add(&mut self, named_partition: i32, partition: i32, offset: i64, timestamp_ms: i64) {
        if self.partition.is_none() && partition != named_partition {
            self.fault(format!("its rows are of partition {partition}"));
        } else if self.partition.is_some_and(|before| before != partition) {
            self.fault(format!("row of partition {partition} among others"));
        }
        if let Some(last) = self.last
            && offset <= last
        {
            self.fault(format!("offset {offset} follows {last}"));
        }
        self.partition = Some(partition);
        self.first.get_or_insert((offset, timestamp_ms));
        self.last = Some(offset);
        self.count += 1;
    }

    /// Notes a fault of a row. One is enough to know, and a file full of them must not fill the
    /// memory.
    fn fault(&mut self, fault: String) {
        if self.faults.len() < 5 {
            self.faults.push(fault);
        }
    }
}

/// What name, footer and rows say of each other.
fn compare(topic: &str, found: &Found, footer: &TransactionFooter, checksum: u64, rows: &mut Rows) {
    let mut fault = |what: &str, says: &dyn std::fmt::Display, really: &dyn std::fmt::Display| {
        rows.faults
            .push(format!("its {what} says {says}, its content {really}"));
    };
    if footer.topic != topic {
        fault("name or footer", &topic, &footer.topic);
    }
    if let Some(name) = &found.name {
        if name.partition() != footer.partition {
            fault(
                "name",
                &format!("partition {}", name.partition()),
                &footer.partition,
            );
        }
        if name.first_offset() != footer.first_offset {
            let says = format!("first offset {}", name.first_offset());
            fault(
                "name",
                &says,
                &format!("offsets {}-{}", footer.first_offset, footer.last_offset),
            );
        }
        // A rejected first record's time is not in the file.
        if let Some((offset, timestamp_ms)) = rows.first
            && offset == footer.first_offset
            && name.date() != date_of_millis(timestamp_ms)
        {
            let really = date_of_millis(timestamp_ms).to_string();
            fault("name", &format!("date {}", name.date()), &really);
        }
    }
    if footer.rows != rows.count {
        rows.faults.push(format!(
            "its footer says {} rows, it has {}",
            footer.rows, rows.count
        ));
    }
    if footer.checksum != checksum {
        rows.faults
            .push("its footer's checksum is not that of its rows".to_owned());
    }
    let rejected = |offset: i64| {
        let mut ranges = footer.rejected.iter();
        ranges.any(|range| (range.first_offset..=range.last_offset).contains(&offset))
    };
    let first = rows.first.map(|(offset, _)| offset);
    for (what, says, really) in [
        ("first", footer.first_offset, first),
        ("last", footer.last_offset, rows.last),
    ] {
        if really != Some(says) && !rejected(says) {
            let really = really.map_or("none".to_owned(), |offset| offset.to_string());
            rows.faults.push(format!(
                "its footer says {what} offset {says}, its rows {really}"
            ));
        }
    }
    let outside = first.is_some_and(|offset| offset < footer.first_offset)
        || rows.last.is_some_and(|offset| offset > footer.last_offset);
    if outside {
        rows.faults
            .push("it has rows outside the offsets of its footer".to_owned());
    }
}
