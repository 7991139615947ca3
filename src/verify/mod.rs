//! Accounts for every row and every offset: source file, topic, lake.
//!
//! Promises: exit code 0 only if each row of the file is in the topic and in the lake exactly
//! once and says the same in all three, each recorded change of the captured tables is in the lake, and
//! the tables that the changes make are those of PostgreSQL, where it can be reached. Reads all of them
//! itself, down to the rows, and trusts no counter, no footer and no decoder of the pipeline. What can't
//! be read is an error.

mod bigquery;
mod changes;
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
pub(crate) mod topic;

#[cfg(test)]
mod ledger_tests;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::mpsc::channel;
use std::time::Duration;

use anyhow::Context;
use ftap_actors::settings::DeadLetterPlace;
use ftap_kafka::KafkaSettings;
use ftap_lake::{LakeLocation, LakeStore};
use ftap_supervision::Backoff;
use ftap_transaction::partition_of;
use ftap_warehouse::BigQuerySettings;
use tokio::runtime::Handle;

use crate::config::Config;
use crate::kafka_access::{self, KafkaAccess};
use crate::output;
use items::Bounds;
use lake::{Auditor, Found};
use ledger::Ledger;
use report::Report;
use topic::{Letter, Parser, Topics, Watermarks};

/// How long a lake that does not answer is tried again.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5))
    .within(Duration::from_secs(30));
/// Exit code for loss, duplication or a difference.
const NOT_EXACT: u8 = 3;

/// Options of `ftap verify`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct VerifyArgs {
    /// Print the result as one JSON object
    #[arg(long)]
    pub json: bool,
    /// The events file to account for [default: EVENTS_FILE]
    #[arg(long, value_name = "FILE")]
    pub source: Option<PathBuf>,
    /// Account for the first N rows of the file only, as `run --rows N` publishes them
    #[arg(long, value_name = "N", value_parser = crate::cli::whole(1_u64..))]
    pub rows: Option<u64>,
}

/// Verifies; the value is the process' exit code.
pub(crate) async fn run(config: &Config, args: &VerifyArgs) -> anyhow::Result<u8> {
    if config.kafka_broker.is_none() && !kafka_access::has_embedded(config) {
        anyhow::bail!(
            "there is no topic {} in {}: run `ftap run` or `ftap produce` first, or check KAFKA_BROKER, KAFKA_TOPIC and DATA_DIR",
            config.kafka_topic,
            config.data_dir.join("kafka").display()
        );
    }
    let kafka = KafkaAccess::open_to_read(config)?;
    let inputs = Inputs {
        kafka: config.kafka_settings(kafka.bootstrap()),
        lake: config.lake(),
        source: args.source.clone().unwrap_or(config.events_file.clone()),
        rows: args.rows,
        dead_letters: config.dead_letters,
        max_message_bytes: config.max_message_bytes,
        changes: changes::Source::of(config),
        bigquery: config.bigquery_settings(),
    };
    let runtime = Handle::current();
    // Reading and hashing would keep the runtime from everything else.
    let report = tokio::task::spawn_blocking(move || reconcile(&inputs, &runtime))
        .await
        .context("verifying failed: this is a bug")??;
    output::print(&if args.json {
        format!("{}\n", report.json())
    } else {
        report.to_string()
    })?;
    Ok(if report.is_exact() { 0 } else { NOT_EXACT })
}

/// What to compare.
struct Inputs {
    kafka: KafkaSettings,
    lake: LakeLocation,
    source: PathBuf,
    rows: Option<u64>,
    dead_letters: DeadLetterPlace,
    max_message_bytes: usize,
    changes: changes::Source,
    bigquery: Option<BigQuerySettings>,
}

/// Compares. Blocks; call it where that is allowed.
fn reconcile(inputs: &Inputs, runtime: &Handle) -> anyhow::Result<Report> {
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

    source::read(&inputs.source, inputs.rows, |row| {
        let place = |(hash, key)| (hash, partition_of(key, partitions_then) as usize);
        ledger.file_row(row.map(place));
    })?;
    let source_rows = ledger.file_rows();

    let (sources, seen) = channel();
    topics.read(
        topic,
        &watermarks,
        |parser, message| parser.record(message, inputs.max_message_bytes, &sources),
        |partition, records| {
            for record in &records {
                ledger.topic_record(partition, record);
            }
        },
    )?;
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
        |_, message| topic::letter(message, before),
        |_, letters| {
            for letter in letters.into_iter().flatten() {
                match letter {
                    Letter::Rejected(letter) => ledger.dead_letter(letter),
                    Letter::Redriven(marker) => ledger.redriven(marker),
                }
            }
        },
    )
}
