//! Waiting for a broker and making topics. Blocking: for threads of stages.

use std::time::Duration;

use ftap_supervision::{Failure, Stage};
use ftap_telemetry::events::{KafkaUnreachable, TopicCreated};
use futures::executor::block_on;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::RDKafkaErrorCode;

use super::access::Entrance;
use super::client_config;
use super::failure::{KafkaFailure, failure, refused_with};
use crate::KafkaSettings;

const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// A record of the largest size that the source topic may hold, with headers,
/// must fit into the dead-letter topic, too.
const DEAD_LETTER_MAX_MESSAGE_BYTES: &str = "104857600";

/// Waits until a broker answers, `KAFKA_RETRY_DELAY` between tries.
///
/// Fails when `KAFKA_MAX_RETRIES` tries failed, and when Kafka refuses us for good, see
/// [`access`](super::access); returns `false` when the stage was stopped meanwhile.
pub fn wait_for_broker(settings: &KafkaSettings, stage: &Stage) -> Result<bool, Failure> {
    let _waiting = stage.progress().waiting();
    let mut entrance = Entrance::default();
    let mut attempt = 0;
    while !stage.is_fenced() && !stage.generation().stop_requested() {
        attempt += 1;
        let error = match entrance.attempt(settings) {
            Ok(()) => return Ok(true),
            Err(error) if error.is(KafkaFailure::Refused) => return Err(error),
            Err(error) => error,
        };
        if settings
            .max_retries
            .is_some_and(|max| attempt >= u64::from(max.get()))
        {
            return Err(Failure::new(
                KafkaFailure::RetriesExhausted,
                format!(
                    "no Kafka broker at {} after {attempt} tries",
                    settings.bootstrap_servers
                ),
            )
            .caused_by(error));
        }
        KafkaUnreachable {
            bootstrap: settings.bootstrap_servers.clone(),
            attempt,
            error: format!("{error}; check KAFKA_BROKER and that the broker runs"),
            retry_in_ms: settings.retry_delay.as_millis() as u64,
        }
        .emit(stage.speaker());
        pause(stage, settings.retry_delay);
    }
    Ok(false)
}

/// Sleeps, but not past the end of the generation.
pub fn pause(stage: &Stage, time: Duration) {
    let end = std::time::Instant::now() + time;
    while !stage.is_fenced() && !stage.generation().stop_requested() {
        let left = end.saturating_duration_since(std::time::Instant::now());
        if left.is_zero() {
            return;
        }
        std::thread::sleep(left.min(Duration::from_millis(50)));
    }
}

/// What a topic that this program makes is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TopicUse {
    /// Transactions.
    Source,
    /// Records that can't become rows.
    DeadLetter,
}

/// Makes the topic unless it is there; returns its partition count.
pub fn ensure_topic(
    settings: &KafkaSettings,
    topic: &str,
    partitions: i32,
    usage: TopicUse,
    stage: &Stage,
) -> Result<i32, Failure> {
    if let Some(count) = partition_count(settings, topic)? {
        return Ok(count);
    }
    let admin: AdminClient<DefaultClientContext> = client_config(settings, &[])
        .create()
        .map_err(|error| failure("creating a Kafka admin client", error))?;
    // -1: the broker's own default.
    let mut wanted = NewTopic::new(topic, partitions, TopicReplication::Fixed(-1));
    if usage == TopicUse::DeadLetter {
        wanted = wanted.set("max.message.bytes", DEAD_LETTER_MAX_MESSAGE_BYTES);
    }
    let options = AdminOptions::new().operation_timeout(Some(REQUEST_TIMEOUT));
    let what = format!("creating topic {topic}");
    let results = block_on(admin.create_topics([&wanted], &options))
        .map_err(|error| failure(&what, error))?;
    for result in results {
        match result {
            Ok(_) => TopicCreated {
                topic: topic.to_owned(),
                partitions,
            }
            .emit(stage.speaker()),
            // Another process was faster.
            Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((_, code)) => {
                return Err(refused_with(&what, code));
            }
        }
    }
    // The controller has it; the brokers may need a moment.
    for _ in 0..100 {
        if let Some(count) = partition_count(settings, topic)? {
            return Ok(count);
        }
        if stage.is_fenced() {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Err(Failure::new(
        KafkaFailure::Unavailable,
        format!("topic {topic} was created but the broker does not list it yet"),
    ))
}

/// Partitions of a topic; `None` when there is no such topic.
pub fn partition_count(settings: &KafkaSettings, topic: &str) -> Result<Option<i32>, Failure> {
    let what = format!("asking for topic {topic}");
    let consumer: BaseConsumer = client_config(settings, &[])
        .create()
        .map_err(|error| failure(&what, error))?;
    let metadata = consumer
        .fetch_metadata(Some(topic), REQUEST_TIMEOUT)
        .map_err(|error| failure(&what, error))?;
    let Some(found) = metadata.topics().iter().find(|found| found.name() == topic) else {
        return Ok(None);
    };
    match found.error().map(RDKafkaErrorCode::from) {
        None if found.partitions().is_empty() => Ok(None),
        None => Ok(Some(
            i32::try_from(found.partitions().len()).unwrap_or(i32::MAX),
        )),
        Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => {
            Ok(None)
        }
        Some(RDKafkaErrorCode::LeaderNotAvailable) => Ok(None),
        Some(code) => Err(refused_with(&what, code)),
    }
}
