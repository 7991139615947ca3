//! Accounts for every row and every offset: source file, topic, lake.
//!
//! Promises: a report is exact only if each row of the file is in the topic and in the lake exactly
//! once and says the same in all three, each recorded change of the captured tables is in the lake, and
//! the tables that the changes make are those of PostgreSQL, where it can be reached. Reads all of them
//! itself, down to the rows, and trusts no counter, no footer and no decoder of the pipeline. What can't
//! be read is an error.

mod bigquery;
pub mod changes;
mod content;
mod dead_letters;
mod items;
mod lake;
mod ledger;
mod problem;
mod ranges;
mod redrives;
mod report;
mod source;
mod topic;
pub mod topics;

#[cfg(test)]
mod ledger_tests;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::mpsc::channel;
use std::time::Duration;

use anyhow::Context;
use ftap_kafka::{DeadLetterPlace, KafkaSettings};
use ftap_lake::{LakeLocation, LakeStore};
use ftap_supervision::Backoff;
use ftap_warehouse::BigQuerySettings;
use tokio::runtime::Handle;

use items::Bounds;
use lake::{Auditor, Found};
use ledger::Ledger;
pub use report::Report;
use source::Rows;
use topic::{Letter, Parser};
use topics::{Topics, Watermarks};

/// How long a lake that does not answer is tried again.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5))
    .within(Duration::from_secs(30));
/// What to compare.
pub struct Inputs {
    /// The topic, and where its rejected records are.
    pub kafka: KafkaSettings,
    /// The lake.
    pub lake: LakeLocation,
    /// The events file.
    pub source: PathBuf,
    /// Only so many rows of the file, the first ones, were published.
    pub rows: Option<u64>,
    /// Where rejected records are kept now.
    pub dead_letters: DeadLetterPlace,
    /// The size beyond which a message is rejected.
    pub max_message_bytes: usize,
    /// The captured tables.
    pub changes: changes::Source,
    /// BigQuery, where it is loaded.
    pub bigquery: Option<BigQuerySettings>,
}

/// Compares. Blocks; call it where that is allowed, with the runtime that reads the lake.
///
/// # Errors
/// If something can't be read: then it is not known whether anything is missing.
pub fn reconcile(inputs: &Inputs, runtime: &Handle) -> anyhow::Result<Report> {
    let topic = inputs.kafka.topic.as_str();
    let store = LakeStore::open(&inputs.lake)?;
    // The lake first: while something still runs it must not seem to be ahead of the topic.
    let list = async || lake::list(&store, topic).await;
    let objects = runtime.block_on(BACKOFF.retry(list, |_, _| {}))?;
    let topics = Topics::new(&inputs.kafka)?;
    let dead_letter_topic = inputs.kafka.dead_letter_topic.clone();
    // The marks that are there now have their messages in the topic when that is looked at.
    let marks = topics
        .dead_letters(inputs.dead_letters)?
        .unwrap_or_default();
    let watermarks = topics.watermarks(topic)?.with_context(|| {
        format!(
            "there is no topic {topic} at {}: run `ftap run` or `ftap produce` first, or check KAFKA_TOPIC",
            inputs.kafka.bootstrap_servers
        )
    })?;
    let hidden = topics.hidden(topic, &watermarks)?;
    let mut notes = retention_notes(&watermarks);
    notes.extend(hidden.iter().map(|(partition, (first, end))| {
        format!(
            "partition {partition}: the transaction that is open since offset {first} hides records up to \
             offset {}",
            end - 1
        )
    }));
    let mut ledger = Ledger::new(&bounds(&watermarks, &objects));
    let partitions = i32::try_from(watermarks.len())?;
    // The publisher put each row where its key belonged then; partitions added since are empty.
    let partitions_then = topics
        .first_source(topic, &watermarks)?
        .and_then(|source| partitions_of(&source))
        .map_or(partitions, |then| then.min(partitions));

    let mut rows = Rows::open(&inputs.source, inputs.rows, partitions_then)?;
    let (sources, seen) = channel();
    // The file is read beside the topic, as far as the topic's records need its rows.
    topics.read(
        topic,
        &watermarks,
        |parser: &mut Parser, message| parser.record(message, inputs.max_message_bytes, &sources),
        |partition, records| {
            for record in &records {
                while ledger.awaits_rows(partition, record)
                    && let Some(next) = rows.next()?
                {
                    ledger.file_rows(&next);
                }
                ledger.topic_record(partition, record);
            }
            Ok(())
        },
    )?;
    while let Some(next) = rows.next()? {
        ledger.file_rows(&next);
    }
    let source_rows = ledger.rows_of_file();
    let mut parser = Parser::default();
    topics.each_hidden(topic, &hidden, |message| {
        let record = parser.record(message, inputs.max_message_bytes, &sources);
        ledger.hidden_record(&record);
    })?;
    drop(sources);
    notes.extend(source_notes(seen.into_iter().collect(), partitions));

    let bounds = topics.dead_letters(inputs.dead_letters)?;
    let has_dead_letters = bounds.is_some();
    if let Some(bounds) = bounds {
        read_dead_letters(&topics, &dead_letter_topic, &bounds, &marks, &mut ledger)?;
    }
    // After the topic's: those of the lake are whole.
    dead_letters::read(&store, topic, runtime, &mut ledger)?;

    let mut auditor = Auditor::new(topic, &mut ledger);
    lake::audit(&store, runtime, &objects, &mut auditor)?;

    let changes = runtime.block_on(changes::compare(&store, &inputs.changes))?;
    let bigquery = match &inputs.bigquery {
        Some(settings) => Some(runtime.block_on(bigquery::compare(settings, &store))?),
        None => None,
    };

    Ok(Report {
        source: inputs.source.display().to_string(),
        source_rows,
        topic: topic.to_owned(),
        dead_letter_topic,
        has_dead_letters,
        lake: store.describe(),
        objects: objects.len() as u64,
        object_bytes: objects.iter().map(|found| found.bytes).sum(),
        balance: ledger.close(),
        changes,
        bigquery,
        notes,
    })
}

fn bounds(watermarks: &[Watermarks], objects: &[Found]) -> Vec<Bounds> {
    let first_of = |partition: i32| {
        let names = objects.iter().filter_map(|found| found.name.as_ref());
        names
            .filter(|name| name.partition() == partition)
            .map(|name| name.first_offset())
            .min()
    };
    (0..)
        .zip(watermarks)
        .map(|(partition, (low, high))| Bounds {
            low: *low,
            high: *high,
            lake_first: first_of(partition),
        })
        .collect()
}

fn retention_notes(watermarks: &[Watermarks]) -> Vec<String> {
    let trimmed = (0..).zip(watermarks).filter(|(_, (low, _))| *low > 0);
    trimmed
        .map(|(partition, (low, _)): (i32, _)| {
            format!(
                "partition {partition}: the topic no longer has offsets below {low}; \
                 the lake's rows of them are compared with the file by content"
            )
        })
        .collect()
}

/// Of a header `source`: the partitions that the topic had.
fn partitions_of(source: &str) -> Option<i32> {
    let (_, count) = source.rsplit_once('/')?;
    count.parse().ok().filter(|count| *count > 0)
}

fn source_notes(sources: BTreeSet<String>, partitions: i32) -> Vec<String> {
    let mut notes = Vec::new();
    if sources.len() > 1 {
        notes.push(format!(
            "the topic has records of {} publications: {}",
            sources.len(),
            sources
                .iter()
                .map(|source| source.escape_debug().to_string())
                .collect::<Vec<_>>()
                .join(", ")
        ));
    }
    let mut counts = sources.iter().filter_map(|source| partitions_of(source));
    if let Some(before) = counts.find(|count| *count != partitions) {
        notes.push(format!(
            "the topic has {partitions} partitions now and had {before} when it was published to"
        ));
    }
    notes
}

fn read_dead_letters(
    topics: &Topics<'_>,
    topic: &str,
    watermarks: &[Watermarks],
    before: &[Watermarks],
    ledger: &mut Ledger,
) -> anyhow::Result<()> {
    if watermarks.iter().any(|(low, _)| *low > 0) {
        ledger.marks_may_have_expired();
    }
    topics.read(
        topic,
        watermarks,
        |(), message| topic::letter(message, before),
        |_, letters| {
            for letter in letters.into_iter().flatten() {
                match letter {
                    Letter::Rejected(letter) => ledger.dead_letter(letter),
                    Letter::Redriven(marker) => ledger.redriven(marker),
                }
            }
            Ok(())
        },
    )
}
