//! Transactions: the wire's side of the coordinator.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::add_partitions_to_txn_response::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnTopicResult,
};
use kafka_protocol::messages::txn_offset_commit_response::{
    TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic,
};
use kafka_protocol::messages::{
    AddOffsetsToTxnRequest, AddOffsetsToTxnResponse, AddPartitionsToTxnRequest,
    AddPartitionsToTxnResponse, EndTxnRequest, EndTxnResponse, InitProducerIdRequest,
    InitProducerIdResponse, ProducerId, TxnOffsetCommitRequest, TxnOffsetCommitResponse,
};

use super::code;
use super::offsets::check_position;
use crate::batch::Decision;
use crate::broker::Shared;
use crate::ledger::Position;
use crate::transactions::ProducerKey;

/// Versions from which clients know PRODUCER_FENCED; older ones get INVALID_PRODUCER_EPOCH.
const FENCED_SINCE_INIT: i16 = 4;
const FENCED_SINCE_OTHERS: i16 = 2;

fn wire_code<T>(result: &Result<T, ResponseError>, knows_fenced: bool) -> i16 {
    match result {
        Err(ResponseError::ProducerFenced) if !knows_fenced => {
            ResponseError::InvalidProducerEpoch.code()
        }
        other => code(other),
    }
}

fn key(id: ProducerId, epoch: i16) -> ProducerKey {
    ProducerKey { id: id.0, epoch }
}

pub(crate) fn init_producer_id(
    shared: &Shared,
    r: InitProducerIdRequest,
    version: i16,
) -> InitProducerIdResponse {
    let result = match &r.transactional_id {
        None => shared.coordinator.init_idempotent(),
        Some(id) => {
            let current = (version >= 3 && r.producer_id.0 >= 0)
                .then(|| key(r.producer_id, r.producer_epoch));
            shared
                .coordinator
                .init_transactional(id, r.transaction_timeout_ms, current)
        }
    };
    let given = result.unwrap_or(ProducerKey { id: -1, epoch: -1 });
    InitProducerIdResponse::default()
        .with_error_code(wire_code(&result, version >= FENCED_SINCE_INIT))
        .with_producer_id(ProducerId(given.id))
        .with_producer_epoch(given.epoch)
}

pub(crate) fn add_partitions(
    shared: &Shared,
    r: AddPartitionsToTxnRequest,
    version: i16,
) -> AddPartitionsToTxnResponse {
    let topics = r.v3_and_below_topics;
    let all = || {
        topics
            .iter()
            .flat_map(|t| t.partitions.iter().map(move |p| (t.name.as_str(), *p)))
    };
    let unknown = |topic: &str, index: i32| shared.topics.partition(topic, index).is_none();
    let any_unknown = all().any(|(topic, index)| unknown(topic, index));
    let result = if any_unknown {
        // All or nothing: the known ones are not added either.
        Err(ResponseError::OperationNotAttempted)
    } else {
        let producer = key(r.v3_and_below_producer_id, r.v3_and_below_producer_epoch);
        let partitions = all()
            .map(|(topic, index)| (topic.to_string(), index))
            .collect();
        shared
            .coordinator
            .add_partitions(&r.v3_and_below_transactional_id, producer, partitions)
    };
    let code = wire_code(&result, version >= FENCED_SINCE_OTHERS);
    let results = topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|index| {
            let code = if any_unknown && unknown(&topic.name, *index) {
                ResponseError::UnknownTopicOrPartition.code()
            } else {
                code
            };
            AddPartitionsToTxnPartitionResult::default()
                .with_partition_index(*index)
                .with_partition_error_code(code)
        });
        AddPartitionsToTxnTopicResult::default()
            .with_name(topic.name.clone())
            .with_results_by_partition(partitions.collect())
    });
    AddPartitionsToTxnResponse::default().with_results_by_topic_v3_and_below(results.collect())
}

pub(crate) fn add_offsets(
    shared: &Shared,
    r: AddOffsetsToTxnRequest,
    version: i16,
) -> AddOffsetsToTxnResponse {
    let producer = key(r.producer_id, r.producer_epoch);
    let result =
        shared
            .coordinator
            .add_positions(&r.transactional_id, producer, &r.group_id, Vec::new());
    AddOffsetsToTxnResponse::default()
        .with_error_code(wire_code(&result, version >= FENCED_SINCE_OTHERS))
}

pub(crate) fn commit_offsets(
    shared: &Shared,
    r: TxnOffsetCommitRequest,
) -> TxnOffsetCommitResponse {
    let is_member = r.generation_id >= 0 || !r.member_id.is_empty();
    let allowed = if is_member {
        let instance = r.group_instance_id.as_deref();
        shared
            .groups
            .may_commit(&r.group_id, &r.member_id, instance, r.generation_id)
    } else {
        Ok(())
    };
    let mut positions = Vec::new();
    let mut refused = allowed.err();
    for topic in &r.topics {
        for p in &topic.partitions {
            let metadata = p
                .committed_metadata
                .as_ref()
                .map(|m| m.to_string())
                .unwrap_or_default();
            if let Err(error) = check_position(shared, &topic.name, p.partition_index, &metadata) {
                refused = refused.or(Some(error));
            }
            let position = Position {
                offset: p.committed_offset,
                leader_epoch: p.committed_leader_epoch,
                metadata,
            };
            positions.push(((topic.name.to_string(), p.partition_index), position));
        }
    }
    let result = match refused {
        Some(error) => Err(error),
        None => {
            let producer = key(r.producer_id, r.producer_epoch);
            shared
                .coordinator
                .add_positions(&r.transactional_id, producer, &r.group_id, positions)
        }
    };
    let code = wire_code(&result, false);
    let topics = r.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|p| {
            TxnOffsetCommitResponsePartition::default()
                .with_partition_index(p.partition_index)
                .with_error_code(code)
        });
        let partitions = partitions.collect();
        TxnOffsetCommitResponseTopic::default()
            .with_name(topic.name)
            .with_partitions(partitions)
    });
    TxnOffsetCommitResponse::default().with_topics(topics.collect())
}

pub(crate) fn end(shared: &Shared, r: EndTxnRequest, version: i16) -> EndTxnResponse {
    let decision = if r.committed {
        Decision::Commit
    } else {
        Decision::Abort
    };
    let producer = key(r.producer_id, r.producer_epoch);
    let result = shared
        .coordinator
        .end(&r.transactional_id, producer, decision);
    EndTxnResponse::default().with_error_code(wire_code(&result, version >= FENCED_SINCE_OTHERS))
}
