//! Waiting for a broker and making topics. Blocking: for threads of stages.

mod native;

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use ftap_supervision::{Backoff, Failure, Pause, Retryable, Stage};
use ftap_telemetry::events::{DeadLetterTopicUnfit, KafkaUnreachable, TopicCreated};
use futures::executor::block_on;
use native::{Refusal, Wanted};
use rdkafka::admin::{AdminClient, AdminOptions, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::RDKafkaErrorCode;

use super::access::Entrance;
use super::client_config;
use super::failure::{KafkaFailure, failure, refused_with};
use crate::{Aside, KafkaSettings};

const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// Larger batches gain nothing.
const LARGEST_BATCH_BYTES: usize = 1_000_000;
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
    let mut backoff = Backoff::new(settings.retry_delay, settings.retry_delay);
    if let Some(most) = settings.max_retries {
        backoff = backoff.attempts(most.get());
    }
    let report = |error: &Failure, pause: Pause| {
        KafkaUnreachable {
            bootstrap: settings.bootstrap_servers.clone(),
            attempt: pause.attempt,
            error: if error.is(KafkaFailure::Unresolved) {
                format!("{error}: {}", error.entry().remedy)
            } else {
                format!("{error}; check KAFKA_BROKER and that the broker runs")
            },
            retry_in_ms: pause.ms(),
        }
        .emit(stage.speaker());
    };
    if is_over(stage) {
        return Ok(false);
    }
    let attempt = || entrance.attempt(settings);
    match backoff.retry_blocking(attempt, report, |length| sleep(stage, length)) {
        Ok(()) => Ok(true),
        Err(error) if !error.retry().helps() => Err(error),
        Err(_) if is_over(stage) => Ok(false),
        Err(error) => Err(Failure::new(
            KafkaFailure::RetriesExhausted,
            format!(
                "no Kafka broker at {} after {} tries",
                settings.bootstrap_servers,
                settings.max_retries.map_or(0, NonZeroU32::get)
            ),
        )
        .caused_by(error)),
    }
}

fn is_over(stage: &Stage) -> bool {
    stage.is_fenced() || stage.generation().stop_requested()
}

/// Sleeps, but not past the end of the generation; returns whether that is still to come.
fn sleep(stage: &Stage, length: Duration) -> bool {
    let end = Instant::now() + length;
    while !is_over(stage) {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return true;
        }
        std::thread::sleep(left.min(Duration::from_millis(50)));
    }
    false
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
    match create(settings, topic, partitions, usage, false)? {
        Created::Whole | Created::WithoutLimit(_) => TopicCreated {
            topic: topic.to_owned(),
            partition_count: partitions,
        }
        .emit(stage.speaker()),
        // Another process was faster.
        Created::Not(refusal) if refusal.code == RDKafkaErrorCode::TopicAlreadyExists => {}
        Created::Not(Refusal { code, said }) => {
            let text = format!("creating topic {topic}: {said}");
            return Err(Failure::new(KafkaFailure::from(code), text));
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

/// How a request to create a topic ended.
enum Created {
    Whole,
    /// With the broker's own limit to a record's size; a larger one was refused.
    WithoutLimit(Refusal),
    Not(Refusal),
}

/// Creates a topic, or only asks whether it could be created.
fn create(
    settings: &KafkaSettings,
    topic: &str,
    partitions: i32,
    usage: TopicUse,
    only_ask: bool,
) -> Result<Created, Failure> {
    let create = |settings_of_topic: &[(&str, &str)]| {
        let wanted = Wanted {
            topic,
            partitions,
            settings: settings_of_topic,
        };
        native::create_topic(settings, &wanted, only_ask)
    };
    let plain = || Ok(create(&[])?.map_or_else(Created::Not, |()| Created::Whole));
    if usage == TopicUse::Source {
        return plain();
    }
    match create(&[("max.message.bytes", DEAD_LETTER_MAX_MESSAGE_BYTES)])? {
        Ok(()) => Ok(Created::Whole),
        // A policy may allow less; what is larger is truncated then.
        Err(refusal)
            if matches!(
                refusal.code,
                RDKafkaErrorCode::PolicyViolation | RDKafkaErrorCode::InvalidConfig
            ) =>
        {
            Ok(match plain()? {
                Created::Whole => Created::WithoutLimit(refusal),
                other => other,
            })
        }
        Err(refusal) => Ok(Created::Not(refusal)),
    }
}

/// Logs what will keep records, or parts of them, from the dead-letter topic, before there is one to
/// keep. Creates nothing and returns no error: a record that needs the topic will.
pub fn check_dead_letter_topic(settings: &KafkaSettings, stage: &Stage) {
    let _waiting = stage.progress().waiting();
    let topic = &settings.dead_letter_topic;
    if let Ok(Some((error, remedy))) = dead_letter_problem(settings, topic) {
        DeadLetterTopicUnfit {
            topic: topic.clone(),
            error,
            remedy,
        }
        .emit(stage.speaker());
    }
}

const ALLOW_WRITE: &str = "allow this account Write on it, and Create unless it exists, or set KAFKA_DEAD_LETTER_TOPIC to a topic that it may write, or DEAD_LETTERS=lake; README lists the rights of each command";

/// The remedy of a problem that costs more than parts of large records.
fn or_ingest_stops(remedy: &str) -> String {
    format!("{remedy}; until then ingest stops at the first record that can't become a row")
}

/// A problem and its remedy.
fn dead_letter_problem(
    settings: &KafkaSettings,
    topic: &str,
) -> Result<Option<(String, String)>, Failure> {
    match partition_count(settings, topic) {
        Err(error) if error.is(KafkaFailure::TopicForbidden) => {
            Ok(Some((error.to_string(), or_ingest_stops(ALLOW_WRITE))))
        }
        Err(error) => Err(error),
        Ok(None) => Ok(
            match create(settings, topic, settings.partitions, TopicUse::DeadLetter, true)? {
                Created::Whole => None,
                Created::Not(refusal) if refusal.code == RDKafkaErrorCode::TopicAlreadyExists => None,
                Created::WithoutLimit(refusal) => Some((
                    format!(
                        "it will be created with the broker's own max.message.bytes, because {DEAD_LETTER_MAX_MESSAGE_BYTES} is refused: {}",
                        refusal.said
                    ),
                    "of a record that does not fit only a part is kept there; to keep all of it, have the topic created with as large a max.message.bytes as the policy allows, or set DEAD_LETTERS=lake".to_owned(),
                )),
                Created::Not(Refusal { code, said }) => Some((
                    format!("it can't be created: {said}"),
                    or_ingest_stops(match KafkaFailure::from(code) {
                        KafkaFailure::TopicName => "set KAFKA_DEAD_LETTER_TOPIC to a name that differs from every other topic's in more than `.` and `_`, or DEAD_LETTERS=lake",
                        _ => "have it created, or set KAFKA_DEAD_LETTER_TOPIC to a topic that this account may write, or DEAD_LETTERS=lake",
                    }),
                )),
            },
        ),
        Ok(Some(_)) if !native::may_write(settings, topic)? => Ok(Some((
            "this account may not write it".to_owned(),
            or_ingest_stops(ALLOW_WRITE),
        ))),
        Ok(Some(_)) => {
            let limit = |topic| Ok(topic_settings(settings, topic)?.max_message_bytes);
            Ok(match (limit(topic)?, limit(&settings.topic)?) {
                (Some(letters), Some(records)) if letters < records => Some((
                    format!(
                        "it takes records of {letters} bytes, and {} of {records}",
                        settings.topic
                    ),
                    format!(
                        "raise its max.message.bytes to {records}; until then only a part of a larger record is kept there. DEAD_LETTERS=lake keeps all of it"
                    ),
                )),
                _ => None,
            })
        }
    }
}

/// What a topic's settings allow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TopicSettings {
    /// `max.message.bytes`: the largest batch of records, as it is sent.
    pub max_message_bytes: Option<usize>,
    /// Whether compaction removes records from its middle.
    pub is_compacted: bool,
}

/// The settings of a topic; the default where we may not ask for them (`DescribeConfigs`).
pub fn topic_settings(settings: &KafkaSettings, topic: &str) -> Result<TopicSettings, Failure> {
    let what = format!("asking for the settings of topic {topic}");
    let admin: AdminClient<DefaultClientContext> = client_config(settings, &[])
        .create()
        .map_err(|error| failure(&what, error))?;
    let admin = Aside::new(admin);
    let options = AdminOptions::new().request_timeout(Some(REQUEST_TIMEOUT));
    let resources = [ResourceSpecifier::Topic(topic)];
    let answers = block_on(admin.describe_configs(&resources, &options))
        .map_err(|error| failure(&what, error))?;
    match answers.into_iter().next() {
        Some(Ok(found)) => {
            let value = |name| found.get(name).and_then(|entry| entry.value.as_deref());
            Ok(TopicSettings {
                max_message_bytes: value("max.message.bytes").and_then(|bytes| bytes.parse().ok()),
                is_compacted: value("cleanup.policy")
                    .is_some_and(|policy| policy.contains("compact")),
            })
        }
        Some(Err(code)) if KafkaFailure::from(code) == KafkaFailure::Unavailable => {
            Err(refused_with(&what, code))
        }
        Some(Err(_)) | None => Ok(TopicSettings::default()),
    }
}

impl TopicSettings {
    /// A producer's `batch.size`, such that the topic takes its batches.
    pub fn batch_bytes(&self) -> usize {
        let limit = self.max_message_bytes.unwrap_or(usize::MAX);
        limit.min(LARGEST_BATCH_BYTES)
    }
}

/// Partitions of a topic; `None` when there is no such topic.
pub fn partition_count(settings: &KafkaSettings, topic: &str) -> Result<Option<i32>, Failure> {
    partition_count_within(REQUEST_TIMEOUT, settings, topic)
}

/// The same for those who look often: Kafka has only so long to answer.
pub fn partition_count_within(
    limit: Duration,
    settings: &KafkaSettings,
    topic: &str,
) -> Result<Option<i32>, Failure> {
    let what = format!("asking for topic {topic}");
    let consumer: BaseConsumer = client_config(settings, &[])
        .create()
        .map_err(|error| failure(&what, error))?;
    let metadata = consumer
        .fetch_metadata(Some(topic), limit)
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
