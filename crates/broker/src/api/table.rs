//! Which requests this broker takes, in which versions, and the layout of each. Where a version does
//! not matter to any client we know, the last one before Kafka's "flexible" encoding is the highest;
//! the flexible ones here carry what exactly-once clients need.

use kafka_protocol::messages::ApiKey;

/// API, lowest and highest version.
pub(crate) const SUPPORTED: &[(ApiKey, i16, i16)] = &[
    (ApiKey::Produce, 3, 9),
    (ApiKey::Fetch, 4, 11),
    (ApiKey::ListOffsets, 1, 5),
    (ApiKey::Metadata, 0, 8),
    (ApiKey::OffsetCommit, 2, 7),
    (ApiKey::OffsetFetch, 1, 7),
    (ApiKey::FindCoordinator, 0, 3),
    (ApiKey::JoinGroup, 0, 5),
    (ApiKey::Heartbeat, 0, 3),
    (ApiKey::LeaveGroup, 0, 3),
    (ApiKey::SyncGroup, 0, 3),
    (ApiKey::DescribeGroups, 0, 4),
    (ApiKey::ListGroups, 0, 4),
    (ApiKey::ApiVersions, 0, 3),
    (ApiKey::CreateTopics, 2, 4),
    (ApiKey::DeleteTopics, 1, 3),
    (ApiKey::DeleteRecords, 0, 1),
    (ApiKey::InitProducerId, 0, 4),
    (ApiKey::OffsetForLeaderEpoch, 2, 3),
    (ApiKey::AddPartitionsToTxn, 0, 2),
    (ApiKey::AddOffsetsToTxn, 0, 2),
    (ApiKey::EndTxn, 0, 2),
    (ApiKey::TxnOffsetCommit, 0, 3),
    (ApiKey::DescribeConfigs, 1, 3),
    (ApiKey::CreatePartitions, 0, 1),
    (ApiKey::DeleteGroups, 0, 1),
];

pub(crate) fn is_supported(api: ApiKey, version: i16) -> bool {
    let found = SUPPORTED.iter().find(|(key, ..)| *key as i16 == api as i16);
    found.is_some_and(|(_, min, max)| (*min..=*max).contains(&version))
}

/// The layout of a request body, in the language of [`crate::shape`]; see Kafka's message
/// definitions, <https://kafka.apache.org/protocol#protocol_messages>.
pub(crate) fn layout(api: ApiKey, version: i16) -> &'static str {
    match (api, version) {
        (ApiKey::Produce, _) => "shi[s[iB]]",
        (ApiKey::Fetch, 4) => "iiiib[s[iqi]]",
        (ApiKey::Fetch, 5..=6) => "iiiib[s[iqqi]]",
        (ApiKey::Fetch, 7..=8) => "iiiibii[s[iqqi]][s<i>]",
        (ApiKey::Fetch, 9..=10) => "iiiibii[s[iiqqi]][s<i>]",
        (ApiKey::Fetch, _) => "iiiibii[s[iiqqi]][s<i>]s",
        (ApiKey::ListOffsets, 1) => "i[s[iq]]",
        (ApiKey::ListOffsets, 2..=3) => "ib[s[iq]]",
        (ApiKey::ListOffsets, _) => "ib[s[iiq]]",
        (ApiKey::Metadata, 0..=3) => "[s]",
        (ApiKey::Metadata, 4..=7) => "[s]b",
        (ApiKey::Metadata, _) => "[s]bbb",
        (ApiKey::OffsetCommit, 2..=4) => "sisq[s[iqs]]",
        (ApiKey::OffsetCommit, 5) => "sis[s[iqs]]",
        (ApiKey::OffsetCommit, 6) => "sis[s[iqis]]",
        (ApiKey::OffsetCommit, _) => "siss[s[iqis]]",
        (ApiKey::OffsetFetch, 1..=6) => "s[s<i>]",
        (ApiKey::OffsetFetch, _) => "s[s<i>]b",
        (ApiKey::FindCoordinator, 0) => "s",
        (ApiKey::FindCoordinator, _) => "sb",
        (ApiKey::JoinGroup, 0) => "siss[sB]",
        (ApiKey::JoinGroup, 1..=4) => "siiss[sB]",
        (ApiKey::JoinGroup, _) => "siisss[sB]",
        (ApiKey::Heartbeat, 0..=2) => "sis",
        (ApiKey::Heartbeat, _) => "siss",
        (ApiKey::LeaveGroup, 0..=2) => "ss",
        (ApiKey::LeaveGroup, _) => "s[ss]",
        (ApiKey::SyncGroup, 0..=2) => "sis[sB]",
        (ApiKey::SyncGroup, _) => "siss[sB]",
        (ApiKey::DescribeGroups, 0..=2) => "<s>",
        (ApiKey::DescribeGroups, _) => "<s>b",
        (ApiKey::ListGroups, 0..=3) => "",
        (ApiKey::ListGroups, _) => "<s>",
        (ApiKey::ApiVersions, 0..=2) => "",
        (ApiKey::ApiVersions, _) => "ss",
        (ApiKey::CreateTopics, _) => "[sih[i<i>][ss]]ib",
        (ApiKey::DeleteTopics, _) => "<s>i",
        (ApiKey::DeleteRecords, _) => "[s[iq]]i",
        (ApiKey::InitProducerId, 0..=2) => "si",
        (ApiKey::InitProducerId, _) => "siqh",
        (ApiKey::OffsetForLeaderEpoch, 2) => "[s[iii]]",
        (ApiKey::OffsetForLeaderEpoch, _) => "i[s[iii]]",
        (ApiKey::AddPartitionsToTxn, _) => "sqh[s<i>]",
        (ApiKey::AddOffsetsToTxn, _) => "sqhs",
        (ApiKey::EndTxn, _) => "sqhb",
        (ApiKey::TxnOffsetCommit, 0..=1) => "ssqh[s[iqs]]",
        (ApiKey::TxnOffsetCommit, 2) => "ssqh[s[iqis]]",
        (ApiKey::TxnOffsetCommit, _) => "ssqhiss[s[iqis]]",
        (ApiKey::DescribeConfigs, 1..=2) => "[bs<s>]b",
        (ApiKey::DescribeConfigs, _) => "[bs<s>]bb",
        (ApiKey::CreatePartitions, _) => "[si[<i>]]ib",
        (ApiKey::DeleteGroups, _) => "<s>",
        _ => "",
    }
}
