//! Produce: each partition's batch is checked and appended on its own.

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
use kafka_protocol::messages::{ProduceRequest, ProduceResponse};

use super::code;
use crate::batch;
use crate::broker::Shared;

/// Appends; `None` when the client wants no answer.
pub(crate) fn produce(shared: &Shared, request: ProduceRequest) -> Option<ProduceResponse> {
    let acks = request.acks;
    let legal_acks = matches!(acks, -1..=1);
    let mut responses = Vec::with_capacity(request.topic_data.len());
    for topic in request.topic_data {
        let mut partitions = Vec::with_capacity(topic.partition_data.len());
        for partition in topic.partition_data {
            let appended = if legal_acks {
                append(shared, &topic.name, partition.index, partition.records)
            } else {
                Err(ResponseError::InvalidRequiredAcks)
            };
            let (base_offset, log_start) = *appended.as_ref().unwrap_or(&(-1, -1));
            partitions.push(
                PartitionProduceResponse::default()
                    .with_index(partition.index)
                    .with_error_code(code(&appended))
                    .with_base_offset(base_offset)
                    .with_log_append_time_ms(-1)
                    .with_log_start_offset(log_start),
            );
        }
        responses.push(
            TopicProduceResponse::default()
                .with_name(topic.name)
                .with_partition_responses(partitions),
        );
    }
    (acks != 0).then(|| ProduceResponse::default().with_responses(responses))
}

fn append(
    shared: &Shared,
    topic: &str,
    index: i32,
    records: Option<Bytes>,
) -> Result<(i64, i64), ResponseError> {
    let partition = shared.topics.partition(topic, index);
    let partition = partition.ok_or(ResponseError::UnknownTopicOrPartition)?;
    let records = records.unwrap_or_default();
    // Unpacking takes time, and the page cache takes a write at once only if it is not full: other
    // connections must not notice.
    let base_offset = tokio::task::block_in_place(|| {
        let limit = shared.options.batch_limit(partition.settings());
        let header = batch::check_produced(&records, limit)?;
        if header.is_transactional() {
            shared
                .coordinator
                .append(&partition, (topic, index), &records, &header)
        } else {
            partition.log().append(&records, &header)
        }
    })?;
    partition.wake();
    Ok((base_offset, partition.log().start()))
}
