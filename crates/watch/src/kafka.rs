//! Kafka from outside: where the topic's partitions end and how far the group has come.
//!
//! The marks that transactions leave in the log have offsets, too. They are nothing to be read, so a
//! partition of whose last offsets only marks are left has no lag. Records behind an open transaction
//! count.

use std::collections::BTreeMap;
use std::time::Duration;

use ftap_kafka::access::Entrance;
use ftap_kafka::{KafkaSettings, admin, client_config, failure, tail};
use ftap_supervision::{Failure, Progress};
use ftap_telemetry::metrics;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::{Locate, Look, Seen, Sources, Unseen};

/// Two looks that fail are an outage, which is to show soon.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);
/// Marks between two records are few; only so small a lag is looked into.
const MAX_MARKS: i64 = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionFigures {
    pub partition: i32,
    /// First offset that is left.
    pub start: i64,
    /// The next record's offset.
    pub end: i64,
    /// What the group has committed, if anything.
    pub committed: Option<i64>,
    /// Offsets between the two, 0 if only marks of transactions are left.
    pub lag: i64,
}

/// The topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KafkaFigures {
    /// Bootstrap servers.
    pub bootstrap: String,
    pub topic: String,
    /// Its partitions; none if there is no such topic yet.
    pub partitions: Vec<PartitionFigures>,
}

/// See the module.
pub struct KafkaLook {
    locate: Locate<KafkaSettings>,
    /// Lags that were looked into: committed offset, end, and what was found between them.
    known: BTreeMap<i32, (i64, i64, i64)>,
}

impl KafkaLook {
    /// Looks at the cluster that is found.
    pub fn new(locate: Locate<KafkaSettings>) -> Self {
        Self {
            locate,
            known: BTreeMap::new(),
        }
    }
}

impl Look for KafkaLook {
    type Figures = KafkaFigures;

    const SOURCE: &'static str = "kafka";

    const PLACE: &'static str = "Kafka";

    const LIMIT: Duration = Duration::from_secs(30);

    async fn look(&mut self) -> Result<KafkaFigures, Unseen> {
        let settings = (self.locate)()?;
        let mut known = std::mem::take(&mut self.known);
        // librdkafka blocks.
        let looked = tokio::task::spawn_blocking(move || {
            let looked = look(&settings, &mut known).map_err(|error| reason(&settings, error));
            (looked, known)
        });
        let (looked, known) = looked.await.map_err(|error| error.to_string())?;
        self.known = known;
        Ok(looked?)
    }

    fn place(sources: &mut Sources) -> &mut Option<Seen<KafkaFigures>> {
        &mut sources.kafka
    }

    fn export(figures: Option<&KafkaFigures>) {
        let partitions = figures.map_or(&[][..], |figures| &figures.partitions);
        let set = |gauge: &metrics::Gauge<1>, value: fn(&PartitionFigures) -> Option<i64>| {
            gauge.replace(partitions.iter().filter_map(|found| {
                let label = found.partition.to_string();
                Some(([label], value(found)? as f64))
            }));
        };
        set(&metrics::TOPIC_END, |found| Some(found.end));
        set(&metrics::GROUP_OFFSET, |found| found.committed);
        set(&metrics::LAG_RECORDS, |found| Some(found.lag));
    }
}

/// A broker that refuses us says why only when it is asked with care.
fn reason(settings: &KafkaSettings, error: Failure) -> String {
    match Entrance::default().attempt(settings) {
        Ok(()) => error.to_string(),
        Err(reason) => format!("{}: {reason}", settings.bootstrap_servers),
    }
}

fn look(
    settings: &KafkaSettings,
    known: &mut BTreeMap<i32, (i64, i64, i64)>,
) -> Result<KafkaFigures, Failure> {
    let topic = &settings.topic;
    let what = format!("looking at topic {topic}");
    let failed = |error| failure(&what, error);
    let count = admin::partition_count_within(REQUEST_TIMEOUT, settings, topic)?.unwrap_or(0);
    let mut figures = KafkaFigures {
        bootstrap: settings.bootstrap_servers.clone(),
        topic: topic.clone(),
        partitions: Vec::new(),
    };
    if count == 0 {
        return Ok(figures);
    }
    let consumer: BaseConsumer = client_config(
        settings,
        &[
            ("group.id", settings.consumer_group.as_str()),
            ("enable.auto.commit", "false"),
            ("isolation.level", "read_committed"),
        ],
    )
    .create()
    .map_err(failed)?;
    let mut wanted = TopicPartitionList::new();
    wanted.add_partition_range(topic, 0, count - 1);
    let committed = consumer
        .committed_offsets(wanted, REQUEST_TIMEOUT)
        .map_err(failed)?;
    let ends = tail::high_watermarks(settings, topic, count)?;
    let mut hidden = Vec::new();
    for element in committed.elements() {
        let partition = element.partition();
        let (start, visible) = consumer
            .fetch_watermarks(topic, partition, REQUEST_TIMEOUT)
            .map_err(failed)?;
        let index = usize::try_from(partition).unwrap_or(0);
        let end = ends.get(index).map_or(visible, |end| visible.max(*end));
        if visible < end {
            hidden.push(partition);
        }
        let committed = match element.offset() {
            Offset::Offset(offset) => Some(offset),
            _ => None,
        };
        figures.partitions.push(PartitionFigures {
            partition,
            start,
            end,
            committed,
            lag: (end - committed.unwrap_or(start).max(start)).max(0),
        });
    }
    figures.partitions.sort_by_key(|found| found.partition);
    look_into_marks(settings, &mut figures.partitions, &hidden, known)?;
    Ok(figures)
}

fn look_into_marks(
    settings: &KafkaSettings,
    partitions: &mut [PartitionFigures],
    hidden: &[i32],
    known: &mut BTreeMap<i32, (i64, i64, i64)>,
) -> Result<(), Failure> {
    let mut unknown = Vec::new();
    let mut visible: Vec<_> = partitions
        .iter_mut()
        .filter(|found| !hidden.contains(&found.partition))
        .collect();
    for found in &visible {
        let place = (found.end - found.lag, found.end);
        let is_known = known
            .get(&found.partition)
            .is_some_and(|(from, to, _)| (*from, *to) == place);
        if (1..=MAX_MARKS).contains(&found.lag) && !is_known {
            unknown.push((found.partition, place.0));
        }
    }
    let records = if unknown.is_empty() {
        BTreeMap::new()
    } else {
        tail::read_records_at(settings, &settings.topic, &unknown, &Progress::default())?
    };
    for found in &mut visible {
        let from = found.end - found.lag;
        if unknown.iter().any(|(of, _)| *of == found.partition) {
            let lag = records
                .get(&found.partition)
                .map_or(0, |(offset, _)| (found.end - offset).max(0));
            known.insert(found.partition, (from, found.end, lag));
        }
        if let Some((known_from, known_end, lag)) = known.get(&found.partition)
            && (*known_from, *known_end) == (from, found.end)
        {
            found.lag = *lag;
        }
    }
    Ok(())
}
