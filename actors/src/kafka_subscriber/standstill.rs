//! Partitions whose reading stands still before their end: reported, and tried again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, SecondsFormat};
use ftap_kafka::partition_progress::Standstill;
use ftap_kafka::tail::read_timestamps_at;
use ftap_kafka::{END_TRANSACTION, KafkaFailure, KafkaSettings, SKIP_UNREADABLE};
use ftap_supervision::{Failure, Health, Stage};
use ftap_telemetry::events::{PartitionUnreadable, RecordsHidden};

/// How often the same standstill is logged, and something that can't be read is tried again.
const REPEAT: Duration = Duration::from_secs(60);

pub(super) struct Standstills {
    stage: Stage,
    kafka: Arc<KafkaSettings>,
    health: Arc<Health>,
    logged: BTreeMap<i32, Instant>,
}

impl Standstills {
    pub(super) fn new(stage: Stage, kafka: Arc<KafkaSettings>, health: Arc<Health>) -> Self {
        health.set_unreadable(Vec::new());
        Self {
            stage,
            kafka,
            health,
            logged: BTreeMap::new(),
        }
    }

    /// Takes all standstills there are, once a second; returns the partitions that must be tried
    /// again.
    pub(super) fn report(&mut self, all: &BTreeMap<i32, Standstill>) -> Vec<i32> {
        self.logged
            .retain(|partition, _| all.contains_key(partition));
        let unreadable = all.iter().filter_map(|(partition, standstill)| {
            Some(self.describe(*partition, standstill)?.to_string())
        });
        self.health.set_unreadable(unreadable.collect());
        let mut again = Vec::new();
        for (partition, standstill) in all {
            let last = self.logged.get(partition);
            if last.is_some_and(|last| last.elapsed() < REPEAT) {
                continue;
            }
            if last.is_some() {
                again.push(*partition);
            }
            self.logged.insert(*partition, Instant::now());
            self.log(*partition, standstill);
        }
        again
    }

    /// The failure that something unreadable is for a drain, which can't end.
    pub(super) fn failure(&self, all: &BTreeMap<i32, Standstill>) -> Option<Failure> {
        all.iter()
            .find_map(|(partition, standstill)| self.describe(*partition, standstill))
    }

    fn describe(&self, partition: i32, standstill: &Standstill) -> Option<Failure> {
        let Standstill::Unreadable { offset, reason, .. } = standstill else {
            return None;
        };
        let topic = &self.kafka.topic;
        let reason = reason.as_deref().unwrap_or("no readable record batch");
        Some(Failure::new(
            KafkaFailure::Unreadable,
            format!(
                "topic {topic}, partition {partition}, offset {offset} can't be read: {reason}"
            ),
        ))
    }

    fn log(&self, partition: i32, standstill: &Standstill) {
        match standstill {
            Standstill::OpenTransaction { from, end } => RecordsHidden {
                partition,
                first_offset: *from,
                last_offset: end - 1,
                since: self.timestamp(partition, *from),
                remedy: END_TRANSACTION.to_owned(),
            }
            .emit(self.stage.speaker()),
            Standstill::Unreadable {
                offset,
                end,
                reason,
            } => PartitionUnreadable {
                partition,
                offset: *offset,
                last_offset: end - 1,
                error: reason.clone(),
                remedy: SKIP_UNREADABLE.to_owned(),
            }
            .emit(self.stage.speaker()),
        }
    }

    fn timestamp(&self, partition: i32, offset: i64) -> Option<String> {
        let _waiting = self.stage.progress().waiting();
        let (topic, progress) = (&self.kafka.topic, self.stage.progress());
        let found = read_timestamps_at(&self.kafka, topic, &[(partition, offset)], progress);
        let time = DateTime::from_timestamp_millis(*found.ok()?.get(&partition)?)?;
        Some(time.to_rfc3339_opts(SecondsFormat::Millis, true))
    }
}
