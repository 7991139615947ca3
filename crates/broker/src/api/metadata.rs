//! What clients ask to find their way: versions, topics, coordinators, settings.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult,
};
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{
    ApiVersionsResponse, DescribeConfigsRequest, DescribeConfigsResponse, FindCoordinatorResponse,
    MetadataRequest, MetadataResponse, TopicName,
};

use super::table::SUPPORTED;
use super::{LEADER_EPOCH, NODE, code, text};
use crate::broker::Shared;
use crate::topics::{MAX_MESSAGE_BYTES, TopicSettings, check_name};

const TOPIC_RESOURCE: i8 = 2;
const BROKER_RESOURCE: i8 = 4;
/// `config_source` for a value that the topic was created with.
const TOPIC_CONFIG: i8 = 1;
/// `config_source` for a value the broker was started with.
const STATIC_BROKER_CONFIG: i8 = 4;
/// Lets a client know that this request counted as the old one that had no such flag.
const FIRST_VERSION_WITH_CREATION_FLAG: i16 = 4;

pub(crate) fn api_versions(error_code: i16) -> ApiVersionsResponse {
    let keys = SUPPORTED.iter().map(|(api, min, max)| {
        ApiVersion::default()
            .with_api_key(*api as i16)
            .with_min_version(*min)
            .with_max_version(*max)
    });
    ApiVersionsResponse::default()
        .with_error_code(error_code)
        .with_api_keys(keys.collect())
}

pub(crate) fn metadata(
    shared: &Shared,
    request: MetadataRequest,
    version: i16,
) -> MetadataResponse {
    // Version 0 asks for all topics with an empty list, later ones with none.
    let asked = request
        .topics
        .filter(|topics| version > 0 || !topics.is_empty());
    let create = shared.options.auto_create_topics
        && (version < FIRST_VERSION_WITH_CREATION_FLAG || request.allow_auto_topic_creation);
    let topics = match asked {
        None => {
            let all = shared.topics.all();
            all.iter()
                .map(|(name, p)| topic(name, Ok(p.len())))
                .collect()
        }
        Some(asked) => {
            let names = asked
                .iter()
                .map(|t| t.name.as_ref().map_or("", |name| name.as_str()));
            names
                .map(|name| topic(name, find_or_create(shared, name, create)))
                .collect()
        }
    };
    let broker = MetadataResponseBroker::default()
        .with_node_id(NODE)
        .with_host(text(&shared.host()))
        .with_port(shared.port());
    MetadataResponse::default()
        .with_brokers(vec![broker])
        .with_cluster_id(Some(text(&shared.cluster_id)))
        .with_controller_id(NODE)
        .with_topics(topics)
}

fn find_or_create(shared: &Shared, name: &str, create: bool) -> Result<usize, ResponseError> {
    if let Some(partitions) = shared.topics.get(name) {
        return Ok(partitions.len());
    }
    if !create {
        check_name(name)?;
        return Err(ResponseError::UnknownTopicOrPartition);
    }
    let count = shared.options.default_partitions;
    match shared.topics.create(name, count, TopicSettings::default()) {
        Ok(()) | Err(ResponseError::TopicAlreadyExists) => {
            let partitions = shared.topics.get(name);
            partitions
                .map(|p| p.len())
                .ok_or(ResponseError::UnknownTopicOrPartition)
        }
        Err(error) => Err(error),
    }
}

fn topic(name: &str, partitions: Result<usize, ResponseError>) -> MetadataResponseTopic {
    let count = partitions
        .as_ref()
        .map_or(0, |n| i32::try_from(*n).unwrap_or(0));
    let partition = |index| {
        MetadataResponsePartition::default()
            .with_partition_index(index)
            .with_leader_id(NODE)
            .with_leader_epoch(LEADER_EPOCH)
            .with_replica_nodes(vec![NODE])
            .with_isr_nodes(vec![NODE])
    };
    MetadataResponseTopic::default()
        .with_error_code(code(&partitions))
        .with_name(Some(TopicName(text(name))))
        .with_partitions((0..count).map(partition).collect())
}

pub(crate) fn find_coordinator(shared: &Shared) -> FindCoordinatorResponse {
    FindCoordinatorResponse::default()
        .with_node_id(NODE)
        .with_host(text(&shared.host()))
        .with_port(shared.port())
}

pub(crate) fn describe_configs(
    shared: &Shared,
    request: DescribeConfigsRequest,
) -> DescribeConfigsResponse {
    let results = request.resources.into_iter().map(|resource| {
        let found = match resource.resource_type {
            BROKER_RESOURCE => Ok(broker_settings(shared)),
            TOPIC_RESOURCE => shared
                .topics
                .get(&resource.resource_name)
                .map(|partitions| {
                    let own = partitions.first().map(|partition| partition.settings());
                    topic_settings(shared, own.unwrap_or_default())
                })
                .ok_or(ResponseError::UnknownTopicOrPartition),
            _ => Err(ResponseError::InvalidRequest),
        };
        let asked = resource.configuration_keys;
        let wanted = |name: &str| {
            asked
                .as_ref()
                .is_none_or(|keys| keys.iter().any(|key| key.as_str() == name))
        };
        let error_code = code(&found);
        let configs = found
            .unwrap_or_default()
            .into_iter()
            .filter(|setting| wanted(setting.name))
            .map(|setting| {
                let source = if setting.is_topics_own {
                    TOPIC_CONFIG
                } else {
                    STATIC_BROKER_CONFIG
                };
                DescribeConfigsResourceResult::default()
                    .with_name(text(setting.name))
                    .with_value(Some(text(&setting.value)))
                    .with_read_only(true)
                    .with_config_source(source)
            })
            .collect();
        DescribeConfigsResult::default()
            .with_error_code(error_code)
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name)
            .with_configs(configs)
    });
    DescribeConfigsResponse::default().with_results(results.collect())
}

/// A setting as it is in effect.
pub(super) struct Setting {
    pub(super) name: &'static str,
    pub(super) value: String,
    is_topics_own: bool,
}

impl Setting {
    fn of_broker(name: &'static str, value: impl ToString) -> Self {
        Self {
            name,
            value: value.to_string(),
            is_topics_own: false,
        }
    }
}

pub(super) fn topic_settings(shared: &Shared, own: TopicSettings) -> Vec<Setting> {
    let options = &shared.options;
    vec![
        Setting::of_broker("cleanup.policy", "delete"),
        Setting::of_broker("retention.bytes", retention_bytes(shared)),
        Setting::of_broker("retention.ms", retention_ms(shared)),
        Setting::of_broker("segment.bytes", options.segment_bytes),
        Setting {
            name: MAX_MESSAGE_BYTES,
            value: options.batch_limit(own).to_string(),
            is_topics_own: own.max_message_bytes.is_some(),
        },
        Setting::of_broker("message.timestamp.type", "CreateTime"),
    ]
}

fn broker_settings(shared: &Shared) -> Vec<Setting> {
    let options = &shared.options;
    vec![
        Setting::of_broker("auto.create.topics.enable", options.auto_create_topics),
        Setting::of_broker("default.replication.factor", 1),
        Setting::of_broker("log.retention.bytes", retention_bytes(shared)),
        Setting::of_broker("log.retention.ms", retention_ms(shared)),
        Setting::of_broker("log.segment.bytes", options.segment_bytes),
        Setting::of_broker("message.max.bytes", options.max_batch_bytes),
        Setting::of_broker("num.partitions", options.default_partitions),
    ]
}

/// -1 for no limit.
fn retention_bytes(shared: &Shared) -> String {
    let limit = shared.options.retention_bytes;
    limit.map_or("-1".into(), |bytes| bytes.to_string())
}

/// -1 for no limit.
fn retention_ms(shared: &Shared) -> String {
    let limit = shared.options.retention_age;
    limit.map_or("-1".into(), |age| age.as_millis().to_string())
}
