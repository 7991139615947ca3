//! Offsets: those of the logs, by time or at the ends, and those that groups committed.

use std::collections::BTreeMap;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use kafka_protocol::messages::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponsePartition, OffsetFetchResponseTopic,
};
use kafka_protocol::messages::offset_for_leader_epoch_response::{
    EpochEndOffset, OffsetForLeaderTopicResult,
};
use kafka_protocol::messages::{
    ListOffsetsRequest, ListOffsetsResponse, OffsetCommitRequest, OffsetCommitResponse,
    OffsetFetchRequest, OffsetFetchResponse, OffsetForLeaderEpochRequest,
    OffsetForLeaderEpochResponse, TopicName,
};

use super::{LEADER_EPOCH, code, text};
use crate::broker::Shared;
use crate::ledger::{Entry, Position};
use crate::log::Isolation;

/// `timestamp` of a request for the end of the log, and for its start.
const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
/// Kafka's `offset.metadata.max.bytes`.
const MAX_METADATA_BYTES: usize = 4096;

/// A partition, and whether a position in it may be committed.
type Accepted = (i32, Result<(), ResponseError>);

pub(crate) fn list_offsets(
    shared: &Shared,
    request: ListOffsetsRequest,
    version: i16,
) -> ListOffsetsResponse {
    // Earlier versions have no place for it.
    let leader_epoch = if version >= 4 { LEADER_EPOCH } else { -1 };
    let isolation = Isolation::from_wire(request.isolation_level);
    let find = |topic: &str, index: i32, timestamp: i64| {
        let partition = shared.topics.partition(topic, index);
        let partition = partition.ok_or(ResponseError::UnknownTopicOrPartition)?;
        let log = partition.log();
        match timestamp {
            LATEST => Ok((log.readable_end(isolation), -1)),
            EARLIEST => Ok((log.start(), -1)),
            at if at >= 0 => {
                let found = log.offset_for_time(at)?;
                let readable = found.filter(|(offset, _)| *offset < log.readable_end(isolation));
                Ok(readable.unwrap_or((-1, -1)))
            }
            _ => Err(ResponseError::UnsupportedVersion),
        }
    };
    let topics = request.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|p| {
            let found = find(&topic.name, p.partition_index, p.timestamp);
            let (offset, timestamp) = *found.as_ref().unwrap_or(&(-1, -1));
            ListOffsetsPartitionResponse::default()
                .with_partition_index(p.partition_index)
                .with_error_code(code(&found))
                .with_offset(offset)
                .with_timestamp(timestamp)
                .with_leader_epoch(leader_epoch)
        });
        let partitions = partitions.collect();
        ListOffsetsTopicResponse::default()
            .with_name(topic.name)
            .with_partitions(partitions)
    });
    ListOffsetsResponse::default().with_topics(topics.collect())
}

pub(crate) fn offset_for_leader_epoch(
    shared: &Shared,
    request: OffsetForLeaderEpochRequest,
) -> OffsetForLeaderEpochResponse {
    let topics = request.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|p| {
            let partition = shared.topics.partition(&topic.topic, p.partition);
            let end = partition
                .map(|found| found.log().end())
                .ok_or(ResponseError::UnknownTopicOrPartition);
            // There is one epoch only, and it ends where the log does.
            let known = p.leader_epoch == LEADER_EPOCH;
            EpochEndOffset::default()
                .with_error_code(code(&end))
                .with_partition(p.partition)
                .with_leader_epoch(if known { LEADER_EPOCH } else { -1 })
                .with_end_offset(end.ok().filter(|_| known).unwrap_or(-1))
        });
        let partitions = partitions.collect();
        OffsetForLeaderTopicResult::default()
            .with_topic(topic.topic)
            .with_partitions(partitions)
    });
    OffsetForLeaderEpochResponse::default().with_topics(topics.collect())
}

pub(crate) fn commit(shared: &Shared, request: OffsetCommitRequest) -> OffsetCommitResponse {
    let group = request.group_id.as_str();
    let allowed = if group.is_empty() {
        Err(ResponseError::InvalidGroupId)
    } else {
        shared.groups.may_commit(
            group,
            &request.member_id,
            request.group_instance_id.as_deref(),
            request.generation_id_or_member_epoch,
        )
    };
    let mut positions = Vec::new();
    let mut results: Vec<(TopicName, Vec<Accepted>)> = Vec::new();
    for topic in request.topics {
        let mut partitions = Vec::new();
        for p in topic.partitions {
            let metadata = p
                .committed_metadata
                .map(|m| m.to_string())
                .unwrap_or_default();
            let accepted = allowed
                .and_then(|()| check_position(shared, &topic.name, p.partition_index, &metadata));
            if accepted.is_ok() {
                let position = Position {
                    offset: p.committed_offset,
                    leader_epoch: p.committed_leader_epoch,
                    metadata,
                };
                positions.push(((topic.name.to_string(), p.partition_index), position));
            }
            partitions.push((p.partition_index, accepted));
        }
        results.push((topic.name, partitions));
    }
    let recorded = if positions.is_empty() {
        Ok(())
    } else {
        shared.coordinator.record(Entry::Positions {
            group: group.to_string(),
            positions,
        })
    };
    let topics = results.into_iter().map(|(name, partitions)| {
        let partitions = partitions.into_iter().map(|(index, accepted)| {
            OffsetCommitResponsePartition::default()
                .with_partition_index(index)
                .with_error_code(code(&accepted.and(recorded)))
        });
        OffsetCommitResponseTopic::default()
            .with_name(name)
            .with_partitions(partitions.collect())
    });
    OffsetCommitResponse::default().with_topics(topics.collect())
}

pub(crate) fn check_position(
    shared: &Shared,
    topic: &str,
    index: i32,
    metadata: &str,
) -> Result<(), ResponseError> {
    if metadata.len() > MAX_METADATA_BYTES {
        return Err(ResponseError::OffsetMetadataTooLarge);
    }
    let partition = shared.topics.partition(topic, index);
    partition
        .map(|_| ())
        .ok_or(ResponseError::UnknownTopicOrPartition)
}

pub(crate) fn fetch(shared: &Shared, request: OffsetFetchRequest) -> OffsetFetchResponse {
    let group = request.group_id.as_str();
    let ledger = shared.coordinator.ledger().lock();
    let facts = ledger.facts();
    let committed = facts.positions.get(group);
    let mut asked: BTreeMap<String, Vec<i32>> = BTreeMap::new();
    match request.topics {
        Some(topics) => {
            for topic in topics {
                asked
                    .entry(topic.name.to_string())
                    .or_default()
                    .extend(topic.partition_indexes);
            }
        }
        None => {
            for (topic, index) in committed.into_iter().flat_map(|positions| positions.keys()) {
                asked.entry(topic.clone()).or_default().push(*index);
            }
        }
    }
    let topics = asked.into_iter().map(|(topic, indexes)| {
        let partitions = indexes.into_iter().map(|index| {
            let key = (topic.clone(), index);
            let unstable = request.require_stable && facts.is_unstable(group, &key);
            let position = committed.and_then(|p| p.get(&key)).filter(|_| !unstable);
            let error = if unstable {
                ResponseError::UnstableOffsetCommit.code()
            } else {
                0
            };
            OffsetFetchResponsePartition::default()
                .with_partition_index(index)
                .with_error_code(error)
                .with_committed_offset(position.map_or(-1, |p| p.offset))
                .with_committed_leader_epoch(position.map_or(-1, |p| p.leader_epoch))
                .with_metadata(Some(text(position.map_or("", |p| &p.metadata))))
        });
        let partitions = partitions.collect();
        OffsetFetchResponseTopic::default()
            .with_name(TopicName(text(&topic)))
            .with_partitions(partitions)
    });
    OffsetFetchResponse::default().with_topics(topics.collect())
}
