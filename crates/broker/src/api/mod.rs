//! One module per family of requests: each turns a decoded request into its response. A handler never
//! fails as a whole: errors travel as Kafka's codes inside the response.

pub(crate) mod admin;
pub(crate) mod fetch;
pub(crate) mod groups;
pub(crate) mod metadata;
pub(crate) mod offsets;
pub(crate) mod produce;
pub(crate) mod table;
pub(crate) mod txn;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::{BrokerId, RequestKind, ResponseKind};
use kafka_protocol::protocol::StrBytes;

use crate::broker::Shared;

/// The only node of the cluster.
pub(crate) const NODE: BrokerId = BrokerId(1);
/// Leadership never changes, so neither does its epoch.
pub(crate) const LEADER_EPOCH: i32 = 0;

pub(crate) fn text(value: &str) -> StrBytes {
    StrBytes::from_string(value.to_string())
}

/// The wire's code of a result.
pub(crate) fn code<T>(result: &Result<T, ResponseError>) -> i16 {
    result.as_ref().err().map_or(0, ResponseError::code)
}

/// Answers a request; `None` when it is one that gets no answer or that this broker does not know.
pub(crate) async fn handle(
    shared: &Shared,
    client_id: &str,
    request: RequestKind,
    version: i16,
) -> Option<ResponseKind> {
    use RequestKind as Q;
    use ResponseKind as A;
    Some(match request {
        Q::ApiVersions(_) => A::ApiVersions(metadata::api_versions(0)),
        Q::Metadata(r) => A::Metadata(metadata::metadata(shared, r, version)),
        Q::FindCoordinator(_) => A::FindCoordinator(metadata::find_coordinator(shared)),
        Q::DescribeConfigs(r) => A::DescribeConfigs(metadata::describe_configs(shared, r)),
        Q::Produce(r) => return produce::produce(shared, r).map(A::Produce),
        Q::ListOffsets(r) => A::ListOffsets(offsets::list_offsets(shared, r, version)),
        Q::OffsetForLeaderEpoch(r) => {
            A::OffsetForLeaderEpoch(offsets::offset_for_leader_epoch(shared, r))
        }
        Q::OffsetCommit(r) => A::OffsetCommit(offsets::commit(shared, r)),
        Q::OffsetFetch(r) => A::OffsetFetch(offsets::fetch(shared, r)),
        Q::JoinGroup(r) => A::JoinGroup(groups::join(shared, client_id, r, version).await),
        Q::SyncGroup(r) => A::SyncGroup(groups::sync(shared, r).await),
        Q::Heartbeat(r) => A::Heartbeat(groups::heartbeat(shared, r)),
        Q::LeaveGroup(r) => A::LeaveGroup(groups::leave(shared, r, version)),
        Q::ListGroups(r) => A::ListGroups(groups::list(shared, r)),
        Q::DescribeGroups(r) => A::DescribeGroups(groups::describe(shared, r)),
        Q::DeleteGroups(r) => A::DeleteGroups(groups::delete(shared, r)),
        Q::CreateTopics(r) => A::CreateTopics(admin::create_topics(shared, r)),
        Q::DeleteTopics(r) => A::DeleteTopics(admin::delete_topics(shared, r)),
        Q::CreatePartitions(r) => A::CreatePartitions(admin::create_partitions(shared, r)),
        Q::DeleteRecords(r) => A::DeleteRecords(admin::delete_records(shared, r)),
        Q::InitProducerId(r) => A::InitProducerId(txn::init_producer_id(shared, r, version)),
        Q::AddPartitionsToTxn(r) => A::AddPartitionsToTxn(txn::add_partitions(shared, r, version)),
        Q::AddOffsetsToTxn(r) => A::AddOffsetsToTxn(txn::add_offsets(shared, r, version)),
        Q::TxnOffsetCommit(r) => A::TxnOffsetCommit(txn::commit_offsets(shared, r)),
        Q::EndTxn(r) => A::EndTxn(txn::end(shared, r, version)),
        _ => return None,
    })
}
