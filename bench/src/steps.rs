//! The steps of a row's way, each next to its ceiling: the same bytes moved by a straight loop in the same run.
//!
//! One core, in this process; the broker and the mailbox take two.

use std::fs::{self, File};
use std::hint::black_box;
use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use bytes::Bytes;
use csv::ByteRecord;
use ftap_dataset::generate::{GenerateOptions, generate};
use ftap_dataset::prepare::prepare;
use ftap_lake::{
    BATCH_ROWS, Compression, FileBuilder, FileSettings, LakeLocation, LakeStore, PutOutcome,
    TRANSACTIONS, properties,
};
use ftap_transaction::{RowBuilders, encode_json, schema};
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;

use crate::alloc::{Cost, Meter};
use crate::ftap::Bench;
use crate::peers::{rows_in, source_row};
use crate::table::{Column, Figure, Line, Report, Section, column};
use crate::{child, mailbox, wire};

const ROUNDS: usize = 5;
/// Rows that are held in memory.
const MOST_ROWS: usize = 200_000;
const TIME: i64 = 1_795_000_000_000;
const CODEC: Compression = Compression::Zstd(1);

const COLUMNS: &[Column] = &[
    column("million_rows_per_second", "M rows/s", 2),
    column("megabytes_per_second", "MB/s", 0),
    column("allocations_per_row", "allocations a row", 3),
    column("ceiling_million_rows_per_second", "ceiling, M rows/s", 2),
    column("share_of_ceiling", "share of the ceiling", 3),
];

/// What the steps work on.
#[derive(Default)]
pub(crate) struct Messages {
    /// End to end.
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Messages {
    pub(crate) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let mut start = 0;
        self.ends.iter().map(move |end| {
            let message = &self.bytes[start..*end];
            start = *end;
            message
        })
    }

    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Messages and bytes.
    pub(crate) fn size(&self) -> (usize, usize) {
        (self.ends.len(), self.bytes.len())
    }
}

/// The lines of the table.
pub(crate) struct Steps(Vec<Line>);

impl Steps {
    /// Measures a step and its ceiling on one core, by the thread's CPU time: on a busy machine it varies less.
    /// Both move so many rows and bytes.
    fn compute(
        &mut self,
        name: &str,
        size: (usize, usize),
        mut step: impl FnMut() -> anyhow::Result<()>,
        mut ceiling: impl FnMut() -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let step = |_| Meter::of_thread().of(&mut step);
        self.compare(name, size, step, |_| Meter::of_thread().of(&mut ceiling))
    }

    /// The same by the clock, for what waits for a disk, a socket or another thread. Both get the number of the
    /// round.
    fn measure(
        &mut self,
        name: &str,
        size: (usize, usize),
        mut step: impl FnMut(usize) -> anyhow::Result<()>,
        mut ceiling: impl FnMut(usize) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let step = |round| Meter::start().of(|| step(round));
        self.compare(name, size, step, |round| {
            Meter::start().of(|| ceiling(round))
        })
    }

    /// The same of work that has parts which do not count: it measures itself.
    pub(crate) fn compare(
        &mut self,
        name: &str,
        (rows, bytes): (usize, usize),
        mut step: impl FnMut(usize) -> anyhow::Result<Cost>,
        mut ceiling: impl FnMut(usize) -> anyhow::Result<Cost>,
    ) -> anyhow::Result<()> {
        eprintln!("bench: {name}");
        let mut costs = Vec::new();
        for round in 0..ROUNDS {
            costs.push((step(round)?, ceiling(round)?));
            child::pause(Duration::ZERO)?;
        }
        let of = |value: &dyn Fn(&(Cost, Cost)) -> f64| Figure::of(costs.iter().map(value));
        let millions = rows as f64 / 1e6;
        let megabytes = |(step, _): &(Cost, Cost)| bytes as f64 / 1e6 / step.elapsed.as_secs_f64();
        let figures = vec![
            of(&|(step, _)| millions / step.elapsed.as_secs_f64()),
            (bytes > 0).then(|| of(&megabytes)).flatten(),
            of(&|(step, _)| step.allocations as f64 / rows as f64),
            of(&|(_, ceiling)| millions / ceiling.elapsed.as_secs_f64()),
            of(&|(step, ceiling)| ceiling.elapsed.as_secs_f64() / step.elapsed.as_secs_f64()),
        ];
        let name = name.to_owned();
        self.0.push(Line { name, figures });
        Ok(())
    }
}

/// Adds the section of steps.
pub(crate) fn measure(bench: &Bench, report: &mut Report) -> anyhow::Result<()> {
    let mut steps = Steps(Vec::new());
    let file = fs::read(&bench.events.file).context("the prepared file")?;
    // The heading and the rows; cut where a row ends.
    let mut ends = memchr::memchr_iter(b'\n', &file);
    let end = ends.nth(MOST_ROWS).map_or(file.len(), |at| at + 1);
    let file = &file[..end];
    let records: Result<Vec<_>, _> = rows_in(file).into_byte_records().collect();
    let messages = publishing(&mut steps, file, &records?)?;
    ingest(&mut steps, &messages)?;
    lake(&mut steps, file, &messages, &bench.fresh_folder()?)?;
    mailbox::measure(&mut steps)?;
    wire::measure(&mut steps, &messages, &bench.fresh_folder()?)?;
    data_set(&mut steps, messages.len(), &bench.fresh_folder()?)?;
    report.sections.push(Section {
        title: "Steps next to their ceilings".to_owned(),
        note: "In one process. In brackets what the ceiling does with the same bytes. Down to the file by the CPU time of one core, then by the clock.",
        columns: COLUMNS,
        lines: steps.0,
    });
    Ok(())
}

fn publishing(steps: &mut Steps, file: &[u8], records: &[ByteRecord]) -> anyhow::Result<Messages> {
    let rows = records.len();
    let decode = || {
        let (mut reader, mut record, mut fields) = (rows_in(file), ByteRecord::new(), 0);
        while reader.read_byte_record(&mut record)? {
            fields += black_box(&record).len();
        }
        ensure!(fields == rows * 8, "{fields} fields");
        Ok(())
    };
    let name = "CSV row decode (finds the separators)";
    steps.compute(name, (rows, file.len()), decode, || {
        black_box(memchr::memchr2_iter(b';', b'\n', file).count());
        Ok(())
    })?;

    let mut messages = Messages::default();
    for record in records {
        encode_json(&source_row(record)?, &mut messages.bytes)?;
        messages.ends.push(messages.bytes.len());
    }
    let encode = || {
        let mut out = Vec::with_capacity(1 << 20);
        for record in records {
            empty_if_full(&mut out);
            encode_json(&source_row(record)?, &mut out)?;
        }
        black_box(out.len());
        Ok(())
    };
    let name = "encode as JSON (checks UTF-8 and copies)";
    steps.compute(name, messages.size(), encode, || copy(&messages))?;
    Ok(messages)
}

fn ingest(steps: &mut Steps, messages: &Messages) -> anyhow::Result<()> {
    let name = "JSON into Arrow (checks UTF-8 and copies)";
    let decode = || batches(messages, |_| Ok(()));
    steps.compute(name, messages.size(), decode, || copy(messages))?;

    // The form of Python's `json.dumps`.
    let mut spaced = Messages::default();
    for message in messages.iter() {
        let text = String::from_utf8_lossy(message);
        let text = text.replace("\":", "\": ").replace(",\"", ", \"");
        spaced.bytes.extend_from_slice(text.as_bytes());
        spaced.ends.push(spaced.bytes.len());
    }
    let name = "JSON of another writer into Arrow (checks UTF-8 and copies)";
    let decode = || batches(&spaced, |_| Ok(()));
    steps.compute(name, spaced.size(), decode, || copy(&spaced))?;

    let mut ready = Vec::new();
    batches(messages, |batch| {
        ready.push(batch.clone());
        Ok(())
    })?;
    let written = |properties: &WriterProperties| {
        let mut writer = ArrowWriter::try_new(Vec::new(), schema(), Some(properties.clone()))?;
        for batch in &ready {
            writer.write(batch)?;
        }
        anyhow::Ok(writer.into_inner()?.len())
    };
    let ours = properties(&TRANSACTIONS, CODEC)?;
    let plain = properties(&TRANSACTIONS, Compression::None)?;
    let size = (messages.len(), written(&ours)?);
    let name = "Arrow into Parquet (the same without compression)";
    let write = |properties| written(properties).map(drop);
    steps.compute(name, size, || write(&ours), || write(&plain))?;

    let name = "JSON into a lake's file (Arrow builders and Parquet writer alone)";
    let build = || lake_file(messages.iter()).map(drop);
    steps.compute(name, messages.size(), build, || {
        let mut writer = ArrowWriter::try_new(Vec::new(), schema(), Some(ours.clone()))?;
        batches(messages, |batch| Ok(writer.write(batch)?))?;
        black_box(writer.into_inner()?.len());
        Ok(())
    })
}

fn lake(steps: &mut Steps, file: &[u8], messages: &Messages, to: &Path) -> anyhow::Result<()> {
    let lake = LakeStore::open(&LakeLocation::Local(to.join("lake")))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let put = |key: &str, bytes| {
        let outcome = runtime.block_on(lake.put_create(key, bytes))?;
        ensure!(outcome == PutOutcome::Created, "{key} was there");
        Ok(())
    };
    let copy = to.join("copy");
    let bytes = lake_file(messages.iter())?;
    let name = "put a file into the lake (write, sync)";
    let size = (messages.len(), bytes.len());
    let put_ready = |round| put(&format!("transactions/{round}"), bytes.clone());
    steps.measure(name, size, put_ready, |_| write_synced(&copy, &bytes))?;

    // What is left of a run without broker, actors, supervision and log.
    let all = |round| {
        let (mut reader, mut record) = (rows_in(file), ByteRecord::new());
        let (mut out, mut message) = (new_file()?, Vec::new());
        let mut offset = 0;
        while reader.read_byte_record(&mut record)? {
            message.clear();
            encode_json(&source_row(&record)?, &mut message)?;
            out.append(Some(&message), offset, TIME + offset / 500)?;
            offset += 1;
        }
        put(&format!("one_loop/{round}"), out.close()?.bytes)
    };
    let name = "from CSV into the lake in one loop (write, sync of the CSV)";
    let size = (messages.len(), file.len());
    steps.measure(name, size, all, |_| write_synced(&copy, file))
}

fn data_set(steps: &mut Steps, rows: usize, folder: &Path) -> anyhow::Result<()> {
    let options = GenerateOptions {
        rows: rows as u64,
        seed: 1,
        bad_rows: 0,
    };
    let source = folder.join("credit_card_transactions.csv");
    let copy = folder.join("copy");
    let make = |_| Ok(generate(&options, folder, &mut |_| {}).map(drop)?);
    make(0)?;
    let bytes = fs::read(&source).context("the generated file")?;
    let size = (rows, bytes.len());
    steps.measure("generate (write, sync)", size, make, |_| {
        write_synced(&copy, &bytes)
    })?;
    let split = |_| Ok(prepare(&source, folder, &mut |_, _| {}).map(drop)?);
    steps.measure("prepare (read)", size, split, |_| {
        let (mut file, mut buffer) = (File::open(&source)?, vec![0; 256 * 1024]);
        while file.read(&mut buffer)? > 0 {}
        Ok(())
    })
}

fn new_file() -> anyhow::Result<FileBuilder> {
    let settings = FileSettings {
        max_message_bytes: 1 << 20,
        compression: CODEC,
    };
    let (topic, writer): (Arc<str>, Arc<str>) = ("transactions".into(), "bench".into());
    Ok(FileBuilder::open(topic, 0, 0, TIME, &settings, writer)?)
}

fn lake_file<'a>(messages: impl Iterator<Item = &'a [u8]>) -> anyhow::Result<Bytes> {
    let mut file = new_file()?;
    for (offset, message) in (0..).zip(messages) {
        file.append(Some(message), offset, TIME + offset / 500)?;
    }
    Ok(file.close()?.bytes)
}

fn batches(
    messages: &Messages,
    mut each: impl FnMut(&arrow_array::RecordBatch) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut builders = RowBuilders::with_capacity(BATCH_ROWS);
    for (offset, message) in (0..).zip(messages.iter()) {
        let added = builders.append(Some(message), 0, offset, TIME + offset / 500);
        ensure!(added.is_ok(), "a message of our own was rejected");
        if builders.len() == BATCH_ROWS {
            each(black_box(&builders.finish()?))?;
        }
    }
    each(black_box(&builders.finish()?))
}

fn copy(messages: &Messages) -> anyhow::Result<()> {
    let mut out = Vec::with_capacity(1 << 20);
    for message in messages.iter() {
        empty_if_full(&mut out);
        ensure!(std::str::from_utf8(message).is_ok(), "not UTF-8");
        out.extend_from_slice(message);
    }
    black_box(out.len());
    Ok(())
}

/// A batch stays in the processor's cache, as it does on its way to the publisher.
fn empty_if_full(out: &mut Vec<u8>) {
    if out.len() > 1 << 19 {
        out.clear();
    }
}

fn write_synced(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    Ok(file.sync_all()?)
}
