//! How old the records are that stay in the topic because nothing is read: the group is paused, or a transaction that is
//! open hides them.
//!
//! Asks Kafka once for each place at which reading stands. What it does not tell stays unknown.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ftap_kafka::KafkaSettings;
use ftap_kafka::tail::read_timestamps_at;
use ftap_supervision::Stage;
use ftap_transaction::plausible_timestamp;

/// How long an answer counts that has no timestamp.
const REPEAT: Duration = Duration::from_secs(10);

pub(super) struct Unread {
    stage: Stage,
    kafka: Arc<KafkaSettings>,
    /// What was answered, by partition.
    answers: BTreeMap<i32, Answer>,
}

struct Answer {
    position: i64,
    /// Kafka timestamp of the first record from there on.
    timestamp_ms: Option<i64>,
    at: Instant,
}

impl Unread {
    pub(super) fn new(stage: Stage, kafka: Arc<KafkaSettings>) -> Self {
        Self {
            stage,
            kafka,
            answers: BTreeMap::new(),
        }
    }

    /// The timestamps of the first records at or after these offsets, by partition, as far as they are known.
    pub(super) fn timestamps(&mut self, positions: &[(i32, i64)]) -> BTreeMap<i32, i64> {
        let answers = &self.answers;
        let is_asked = |(partition, position): &(i32, i64)| {
            answers.get(partition).is_some_and(|answer| {
                let counts = answer.timestamp_ms.is_some() || answer.at.elapsed() < REPEAT;
                answer.position == *position && counts
            })
        };
        let open: Vec<_> = positions
            .iter()
            .copied()
            .filter(|place| !is_asked(place))
            .collect();
        if !open.is_empty() {
            self.ask(&open);
        }
        let known = positions.iter().filter_map(|(partition, _)| {
            Some((*partition, self.answers.get(partition)?.timestamp_ms?))
        });
        known.collect()
    }

    fn ask(&mut self, open: &[(i32, i64)]) {
        let _waiting = self.stage.progress().waiting();
        let (topic, progress) = (&self.kafka.topic, self.stage.progress());
        let found = read_timestamps_at(&self.kafka, topic, open, progress).unwrap_or_default();
        for (partition, position) in open {
            let timestamp_ms = found.get(partition).copied();
            let answer = Answer {
                position: *position,
                timestamp_ms: timestamp_ms.and_then(plausible_timestamp),
                at: Instant::now(),
            };
            self.answers.insert(*partition, answer);
        }
    }
}
