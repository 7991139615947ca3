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

const TOPIC_RESOURCE: i8 = 2;
const BROKER_RESOURCE: i8 = 4;
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
    let count = shared.options.default_partitions;
    shared.topics.check_new(name, count)?;
    if !create {
        return Err(ResponseError::UnknownTopicOrPartition);
    }
    match shared.topics.create(name, count) {
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
        let known = match resource.resource_type {
            BROKER_RESOURCE => Ok(()),
            TOPIC_RESOURCE => shared
                .topics
                .get(&resource.resource_name)
                .map(|_| ())
                .ok_or(ResponseError::UnknownTopicOrPartition),
            _ => Err(ResponseError::InvalidRequest),
        };
        let asked = resource.configuration_keys;
        let wanted = |name: &str| {
            asked
                .as_ref()
                .is_none_or(|keys| keys.iter().any(|key| key.as_str() == name))
        };
        let configs = settings(shared, resource.resource_type)
            .into_iter()
            .filter(|(name, _)| known.is_ok() && wanted(name))
            .map(|(name, value)| {
                DescribeConfigsResourceResult::default()
                    .with_name(text(name))
                    .with_value(Some(text(&value)))
                    .with_read_only(true)
                    .with_config_source(STATIC_BROKER_CONFIG)
            })
            .collect();
        DescribeConfigsResult::default()
            .with_error_code(code(&known))
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name)
            .with_configs(configs)
    });
    DescribeConfigsResponse::default().with_results(results.collect())
}

fn settings(shared: &Shared, resource_type: i8) -> Vec<(&'static str, String)> {
    let options = &shared.options;
    let bytes = options
        .retention_bytes
        .map_or("-1".into(), |b| b.to_string());
    let age_ms = options
        .retention_age
        .map_or("-1".into(), |age| age.as_millis().to_string());
    if resource_type == TOPIC_RESOURCE {
        vec![
            ("cleanup.policy", "delete".into()),
            ("retention.bytes", bytes),
            ("retention.ms", age_ms),
            ("segment.bytes", options.segment_bytes.to_string()),
            ("max.message.bytes", options.max_batch_bytes.to_string()),
            ("message.timestamp.type", "CreateTime".into()),
        ]
    } else {
        vec![
            (
                "auto.create.topics.enable",
                options.auto_create_topics.to_string(),
            ),
            ("default.replication.factor", "1".into()),
            ("log.retention.bytes", bytes),
            ("log.retention.ms", age_ms),
            ("log.segment.bytes", options.segment_bytes.to_string()),
            ("message.max.bytes", options.max_batch_bytes.to_string()),
            ("num.partitions", options.default_partitions.to_string()),
        ]
    }
}
