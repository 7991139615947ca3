//! Making, growing and removing topics, and removing records.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::create_topics_response::CreatableTopicResult;
use kafka_protocol::messages::delete_records_response::{
    DeleteRecordsPartitionResult, DeleteRecordsTopicResult,
};
use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use kafka_protocol::messages::{
    CreatePartitionsRequest, CreatePartitionsResponse, CreateTopicsRequest, CreateTopicsResponse,
    DeleteRecordsRequest, DeleteRecordsResponse, DeleteTopicsRequest, DeleteTopicsResponse,
};

use super::metadata::topic_settings;
use super::{code, text};
use crate::broker::Shared;
use crate::ledger::Entry;
use crate::topics::{MAX_MESSAGE_BYTES, TopicSettings};

/// An offset that means the end of the log.
const HIGH_WATERMARK: i64 = -1;

/// Why a topic is not created: Kafka's code, and the same in words.
struct Refusal {
    error: ResponseError,
    words: String,
}

pub(crate) fn create_topics(shared: &Shared, request: CreateTopicsRequest) -> CreateTopicsResponse {
    let topics = request.topics.into_iter().map(|topic| {
        let created = create_topic(shared, &topic, request.validate_only);
        let refusal = created.err();
        CreatableTopicResult::default()
            .with_error_code(refusal.as_ref().map_or(0, |refusal| refusal.error.code()))
            .with_error_message(refusal.map(|refusal| text(&refusal.words)))
            .with_name(topic.name)
    });
    CreateTopicsResponse::default().with_topics(topics.collect())
}

fn create_topic(shared: &Shared, topic: &CreatableTopic, only_check: bool) -> Result<(), Refusal> {
    let refused = |error| Refusal {
        error,
        words: explain(shared, error, topic),
    };
    // There is one node, so no more than one copy; -1 leaves it to the broker.
    if !matches!(topic.replication_factor, -1..=1) || topic.replication_factor == 0 {
        return Err(refused(ResponseError::InvalidReplicationFactor));
    }
    let partitions = match (topic.assignments.len(), topic.num_partitions) {
        (0, -1) => shared.options.default_partitions,
        (0, n) => n,
        (assigned, _) => i32::try_from(assigned).unwrap_or(0),
    };
    shared
        .topics
        .check_new(&topic.name, partitions)
        .map_err(refused)?;
    let settings = settings(shared, topic).map_err(|words| Refusal {
        error: ResponseError::InvalidConfig,
        words,
    })?;
    if only_check {
        return Ok(());
    }
    let created = shared.topics.create(&topic.name, partitions, settings);
    created.map_err(refused)
}

/// The topic's own settings; what can't be honoured is refused by name. A value that is in effect
/// anyway is fine.
fn settings(shared: &Shared, topic: &CreatableTopic) -> Result<TopicSettings, String> {
    let mut own = TopicSettings::default();
    let broker = topic_settings(shared, own);
    for config in &topic.configs {
        let name = config.name.as_str();
        let value = config.value.as_ref().map_or("", |value| value.as_str());
        if name == MAX_MESSAGE_BYTES {
            let bytes = value.parse::<i32>().ok();
            let bytes = bytes.and_then(|bytes| usize::try_from(bytes).ok());
            own.max_message_bytes = Some(bytes.ok_or_else(|| {
                format!(
                    "{name} is {value:?}, it must be a number from 0 to {}",
                    i32::MAX
                )
            })?);
            continue;
        }
        match broker.iter().find(|setting| setting.name == name) {
            Some(setting) if setting.value == value => {}
            Some(setting) => {
                return Err(format!(
                    "{name} is {value:?}, but all topics of this broker have {}",
                    setting.value
                ));
            }
            None => return Err(format!("this broker has no topic setting {name}")),
        }
    }
    Ok(own)
}

fn explain(shared: &Shared, error: ResponseError, topic: &CreatableTopic) -> String {
    let name = topic.name.as_str();
    match error {
        ResponseError::TopicAlreadyExists => format!("topic {name} already exists"),
        ResponseError::InvalidTopicException => match shared.topics.collision(name) {
            // As Apache Kafka says it.
            Some(other) => format!("Topic '{name}' collides with existing topic: {other}"),
            None => {
                format!("topic name {name:?} must be 1 to 249 letters, digits, '.', '_' or '-'")
            }
        },
        ResponseError::InvalidPartitions => {
            format!(
                "{} partitions asked for, between 1 and 10000 are possible",
                topic.num_partitions
            )
        }
        ResponseError::InvalidReplicationFactor => {
            format!(
                "replication factor {} asked for, this broker is the only node: use 1",
                topic.replication_factor
            )
        }
        other => other.to_string(),
    }
}

pub(crate) fn delete_topics(shared: &Shared, request: DeleteTopicsRequest) -> DeleteTopicsResponse {
    let responses = request.topic_names.into_iter().map(|name| {
        let deleted = shared.topics.delete(&name).and_then(|()| {
            shared.coordinator.record(Entry::TopicDeleted {
                topic: name.to_string(),
            })
        });
        DeletableTopicResult::default()
            .with_error_code(code(&deleted))
            .with_name(Some(name))
    });
    DeleteTopicsResponse::default().with_responses(responses.collect())
}

pub(crate) fn create_partitions(
    shared: &Shared,
    request: CreatePartitionsRequest,
) -> CreatePartitionsResponse {
    let results = request.topics.into_iter().map(|topic| {
        let grown = shared
            .topics
            .grow(&topic.name, topic.count, request.validate_only);
        CreatePartitionsTopicResult::default()
            .with_error_code(code(&grown))
            .with_name(topic.name)
    });
    CreatePartitionsResponse::default().with_results(results.collect())
}

pub(crate) fn delete_records(
    shared: &Shared,
    request: DeleteRecordsRequest,
) -> DeleteRecordsResponse {
    let delete = |topic: &str, index: i32, offset: i64| {
        let partition = shared.topics.partition(topic, index);
        let partition = partition.ok_or(ResponseError::UnknownTopicOrPartition)?;
        let mut log = partition.log();
        let before = if offset == HIGH_WATERMARK {
            log.end()
        } else {
            offset
        };
        log.delete_before(before)
    };
    let topics = request.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|p| {
            let start = delete(&topic.name, p.partition_index, p.offset);
            DeleteRecordsPartitionResult::default()
                .with_partition_index(p.partition_index)
                .with_error_code(code(&start))
                .with_low_watermark(start.unwrap_or(-1))
        });
        let partitions = partitions.collect();
        DeleteRecordsTopicResult::default()
            .with_name(topic.name)
            .with_partitions(partitions)
    });
    DeleteRecordsResponse::default().with_topics(topics.collect())
}
