//! Consumer groups: the wire's side of the coordinator.

use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::delete_groups_response::DeletableGroupResult;
use kafka_protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;
use kafka_protocol::messages::leave_group_response::MemberResponse;
use kafka_protocol::messages::list_groups_response::ListedGroup;
use kafka_protocol::messages::{
    DeleteGroupsRequest, DeleteGroupsResponse, DescribeGroupsRequest, DescribeGroupsResponse,
    GroupId, HeartbeatRequest, HeartbeatResponse, JoinGroupRequest, JoinGroupResponse,
    LeaveGroupRequest, LeaveGroupResponse, ListGroupsRequest, ListGroupsResponse, SyncGroupRequest,
    SyncGroupResponse,
};
use kafka_protocol::protocol::StrBytes;

use super::{code, text};
use crate::broker::Shared;
use crate::groups::state::{Answer, Group, Join, Joined, Phase};
use crate::ledger::Entry;

/// Since version 4 a new member is sent back with its id first.
const FIRST_VERSION_REQUIRING_ID: i16 = 4;
/// Before version 1 the session timeout served for both.
const FIRST_VERSION_WITH_REBALANCE_TIMEOUT: i16 = 1;
/// The longest a rebalance may be made to wait.
const LONGEST_REBALANCE_MS: i32 = 30 * 60 * 1000;
const CONSUMER_PROTOCOL: &str = "consumer";

fn millis(value: i32) -> Duration {
    Duration::from_millis(u64::try_from(value).unwrap_or(0))
}

pub(crate) async fn join(
    shared: &Shared,
    client_id: &str,
    r: JoinGroupRequest,
    version: i16,
) -> JoinGroupResponse {
    let failed = |error: ResponseError, member_id: &str| {
        JoinGroupResponse::default()
            .with_error_code(error.code())
            .with_generation_id(-1)
            .with_protocol_name(Some(text("")))
            .with_member_id(text(member_id))
    };
    if r.group_id.is_empty() {
        return failed(ResponseError::InvalidGroupId, &r.member_id);
    }
    let rebalance_ms = if version >= FIRST_VERSION_WITH_REBALANCE_TIMEOUT {
        r.rebalance_timeout_ms
    } else {
        r.session_timeout_ms
    };
    let instance_id = r.group_instance_id.map(|id| id.to_string());
    let join = Join {
        fresh_id: shared.fresh_member_id(instance_id.as_deref().unwrap_or(client_id)),
        member_id: r.member_id.to_string(),
        instance_id,
        id_required: version >= FIRST_VERSION_REQUIRING_ID,
        client_id: client_id.to_string(),
        session_timeout: millis(r.session_timeout_ms),
        rebalance_timeout: millis(rebalance_ms.clamp(1, LONGEST_REBALANCE_MS)),
        protocol_type: r.protocol_type.to_string(),
        protocols: r
            .protocols
            .into_iter()
            .map(|p| (p.name.to_string(), p.metadata))
            .collect(),
    };
    let waiting = shared
        .groups
        .wait(&r.group_id, |group, ticket, now, answers| {
            group.join(join, ticket, now, answers);
        });
    match waiting.await {
        Answer::Joined(joined) => joined_response(joined),
        Answer::JoinFailed { error, member_id } => failed(error, &member_id),
        Answer::SyncFailed(error) => failed(error, ""),
        Answer::Synced { .. } => failed(ResponseError::UnknownServerError, ""),
    }
}

fn joined_response(joined: Joined) -> JoinGroupResponse {
    let members = joined.members.into_iter().map(|(id, instance, metadata)| {
        JoinGroupResponseMember::default()
            .with_member_id(text(&id))
            .with_group_instance_id(instance.as_deref().map(text))
            .with_metadata(metadata)
    });
    JoinGroupResponse::default()
        .with_generation_id(joined.generation)
        .with_protocol_type(Some(text(&joined.protocol_type)))
        .with_protocol_name(Some(text(&joined.protocol)))
        .with_leader(text(&joined.leader))
        .with_member_id(text(&joined.member_id))
        .with_members(members.collect())
}

pub(crate) async fn sync(shared: &Shared, r: SyncGroupRequest) -> SyncGroupResponse {
    let failed = |error: ResponseError| SyncGroupResponse::default().with_error_code(error.code());
    if shared.groups.with(&r.group_id, |_, _, _| ()).is_none() {
        return failed(ResponseError::UnknownMemberId);
    }
    let assignments = r
        .assignments
        .into_iter()
        .map(|a| (a.member_id.to_string(), a.assignment))
        .collect();
    let waiting = shared
        .groups
        .wait(&r.group_id, |group, ticket, now, answers| {
            let member = (
                r.member_id.as_str(),
                r.group_instance_id.as_deref(),
                r.generation_id,
            );
            group.sync(member, assignments, ticket, now, answers);
        });
    match waiting.await {
        Answer::Synced {
            protocol_type,
            protocol,
            assignment,
        } => SyncGroupResponse::default()
            .with_protocol_type(Some(text(&protocol_type)))
            .with_protocol_name(Some(text(&protocol)))
            .with_assignment(assignment),
        Answer::SyncFailed(error) | Answer::JoinFailed { error, .. } => failed(error),
        Answer::Joined(_) => failed(ResponseError::UnknownServerError),
    }
}

pub(crate) fn heartbeat(shared: &Shared, r: HeartbeatRequest) -> HeartbeatResponse {
    let result = shared.groups.with(&r.group_id, |group, now, _| {
        group.heartbeat(
            &r.member_id,
            r.group_instance_id.as_deref(),
            r.generation_id,
            now,
        )
    });
    let result = result.unwrap_or(Err(ResponseError::UnknownMemberId));
    HeartbeatResponse::default().with_error_code(code(&result))
}

pub(crate) fn leave(shared: &Shared, r: LeaveGroupRequest, version: i16) -> LeaveGroupResponse {
    let leave_one = |member_id: &StrBytes, instance_id: Option<&StrBytes>| {
        let left = shared.groups.with(&r.group_id, |group, now, answers| {
            group.leave(member_id, instance_id.map(|id| id.as_str()), now, answers)
        });
        left.unwrap_or(Err(ResponseError::UnknownMemberId))
    };
    if version < 3 {
        return LeaveGroupResponse::default().with_error_code(code(&leave_one(&r.member_id, None)));
    }
    let members = r.members.iter().map(|member| {
        let left = leave_one(&member.member_id, member.group_instance_id.as_ref());
        MemberResponse::default()
            .with_member_id(member.member_id.clone())
            .with_group_instance_id(member.group_instance_id.clone())
            .with_error_code(code(&left))
    });
    LeaveGroupResponse::default().with_members(members.collect())
}

fn phase_name(phase: Phase) -> &'static str {
    match phase {
        Phase::Empty => "Empty",
        Phase::Joining => "PreparingRebalance",
        Phase::Syncing => "CompletingRebalance",
        Phase::Stable => "Stable",
    }
}

pub(crate) fn list(shared: &Shared, request: ListGroupsRequest) -> ListGroupsResponse {
    let mut listed = Vec::new();
    let mut in_memory = std::collections::BTreeSet::new();
    shared.groups.for_each(|id, group| {
        if group.is_unused() {
            return;
        }
        in_memory.insert(id.to_string());
        listed.push((
            id.to_string(),
            group.protocol_type.clone(),
            phase_name(group.phase),
        ));
    });
    let ledger = shared.coordinator.ledger().lock();
    let committed_only = ledger
        .facts()
        .positions
        .keys()
        .filter(|id| !in_memory.contains(*id));
    listed.extend(committed_only.map(|id| {
        (
            id.clone(),
            CONSUMER_PROTOCOL.to_string(),
            phase_name(Phase::Empty),
        )
    }));
    drop(ledger);
    let wanted = |state: &str| {
        request.states_filter.is_empty()
            || request
                .states_filter
                .iter()
                .any(|s| s.eq_ignore_ascii_case(state))
    };
    let groups =
        listed
            .into_iter()
            .filter(|(.., state)| wanted(state))
            .map(|(id, protocol_type, state)| {
                ListedGroup::default()
                    .with_group_id(GroupId(text(&id)))
                    .with_protocol_type(text(&protocol_type))
                    .with_group_state(text(state))
            });
    ListGroupsResponse::default().with_groups(groups.collect())
}

pub(crate) fn describe(shared: &Shared, request: DescribeGroupsRequest) -> DescribeGroupsResponse {
    let groups = request.groups.into_iter().map(|id| {
        let described = shared.groups.with(&id, |group, _, _| describe_one(group));
        let described = described.unwrap_or_else(|| {
            let ledger = shared.coordinator.ledger().lock();
            let known = ledger.facts().positions.contains_key(id.as_str());
            let state = if known {
                phase_name(Phase::Empty)
            } else {
                "Dead"
            };
            DescribedGroup::default().with_group_state(text(state))
        });
        described.with_group_id(id)
    });
    DescribeGroupsResponse::default().with_groups(groups.collect())
}

fn describe_one(group: &Group) -> DescribedGroup {
    let members = group.members.iter().map(|(id, member)| {
        let metadata = match group.phase {
            Phase::Stable => member.metadata(&group.protocol),
            _ => Bytes::new(),
        };
        DescribedGroupMember::default()
            .with_member_id(text(id))
            .with_group_instance_id(member.instance_id.as_deref().map(text))
            .with_client_id(text(&member.client_id))
            .with_client_host(text("/127.0.0.1"))
            .with_member_metadata(metadata)
            .with_member_assignment(member.assignment.clone())
    });
    DescribedGroup::default()
        .with_group_state(text(phase_name(group.phase)))
        .with_protocol_type(text(&group.protocol_type))
        .with_protocol_data(text(&group.protocol))
        .with_members(members.collect())
}

pub(crate) fn delete(shared: &Shared, request: DeleteGroupsRequest) -> DeleteGroupsResponse {
    let delete_one = |id: &str| {
        let in_use = shared.groups.with(id, |group, _, _| !group.is_unused());
        if in_use == Some(true) {
            return Err(ResponseError::NonEmptyGroup);
        }
        let known = shared
            .coordinator
            .ledger()
            .lock()
            .facts()
            .positions
            .contains_key(id);
        if !known {
            return Err(ResponseError::GroupIdNotFound);
        }
        shared.coordinator.record(Entry::GroupDeleted {
            group: id.to_string(),
        })
    };
    let results = request.groups_names.into_iter().map(|id| {
        let deleted = delete_one(&id);
        DeletableGroupResult::default()
            .with_error_code(code(&deleted))
            .with_group_id(id)
    });
    DeleteGroupsResponse::default().with_results(results.collect())
}
