//! The life of one consumer group as Kafka's classic protocol has it, without I/O: requests and the
//! passing of time go in, answers come out, each with the ticket of the request it belongs to. A
//! request that must wait (join, sync) is answered by a later event.
//!
//! Empty → Joining (members are gathered) → Syncing (the leader assigns) → Stable → Joining …

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_protocol::ResponseError;

/// How long a group's first members are waited for, so that consumers started together share one
/// rebalance.
const FIRST_JOIN_DELAY: Duration = Duration::from_millis(100);
/// Kafka's `group.max.session.timeout.ms`.
const MAX_SESSION: Duration = Duration::from_secs(30 * 60);

/// Identifies a request that waits for its answer.
pub(crate) type Ticket = u64;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Empty,
    Joining,
    Syncing,
    Stable,
}

#[derive(Debug, Clone)]
pub(crate) struct Join {
    pub member_id: String,
    pub instance_id: Option<String>,
    /// The id to give to a member that has none yet.
    pub fresh_id: String,
    /// The client is sent back once to come with its new id (Kafka's KIP-394).
    pub id_required: bool,
    pub client_id: String,
    pub session_timeout: Duration,
    pub rebalance_timeout: Duration,
    pub protocol_type: String,
    pub protocols: Vec<(String, Bytes)>,
}

/// What a member learns when its round of joining ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Joined {
    pub generation: i32,
    pub protocol_type: String,
    pub protocol: String,
    pub leader: String,
    pub member_id: String,
    /// All members with instance id and metadata, for the leader only.
    pub members: Vec<(String, Option<String>, Bytes)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    Joined(Joined),
    JoinFailed {
        error: ResponseError,
        member_id: String,
    },
    Synced {
        protocol_type: String,
        protocol: String,
        assignment: Bytes,
    },
    SyncFailed(ResponseError),
}

/// Answers to requests, in order.
pub(crate) type Answers = Vec<(Ticket, Answer)>;

#[derive(Debug)]
pub(crate) struct Member {
    pub instance_id: Option<String>,
    pub client_id: String,
    pub protocols: Vec<(String, Bytes)>,
    pub assignment: Bytes,
    pub(super) session_timeout: Duration,
    pub(super) rebalance_timeout: Duration,
    pub(super) seen: Instant,
    pub(super) joining: Option<Ticket>,
    pub(super) syncing: Option<Ticket>,
}

impl Member {
    pub(crate) fn metadata(&self, protocol: &str) -> Bytes {
        let found = self.protocols.iter().find(|(name, _)| name == protocol);
        found
            .map(|(_, metadata)| metadata.clone())
            .unwrap_or_default()
    }
}

#[derive(Debug)]
pub(crate) struct Group {
    pub phase: Phase,
    pub generation: i32,
    pub protocol_type: String,
    pub protocol: String,
    pub leader: String,
    pub members: BTreeMap<String, Member>,
    pub(super) instances: HashMap<String, String>,
    /// Ids given out whose owners have not come back with them, and until when they may.
    pub(super) expected: HashMap<String, Instant>,
    /// When the present joining or syncing ends without the missing members.
    pub(super) deadline: Option<Instant>,
    pub(super) first_join: bool,
}

impl Default for Group {
    fn default() -> Self {
        Self {
            phase: Phase::Empty,
            generation: 0,
            protocol_type: String::new(),
            protocol: String::new(),
            leader: String::new(),
            members: BTreeMap::new(),
            instances: HashMap::new(),
            expected: HashMap::new(),
            deadline: None,
            first_join: false,
        }
    }
}

impl Group {
    /// When [`Group::tick`] has something to do for the present joining or syncing.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    pub(crate) fn is_unused(&self) -> bool {
        self.members.is_empty() && self.expected.is_empty()
    }

    pub(crate) fn join(&mut self, join: Join, ticket: Ticket, now: Instant, out: &mut Answers) {
        let refuse = |error, member_id: &str| {
            let member_id = member_id.to_string();
            (ticket, Answer::JoinFailed { error, member_id })
        };
        if join.session_timeout.is_zero() || join.session_timeout > MAX_SESSION {
            out.push(refuse(
                ResponseError::InvalidSessionTimeout,
                &join.member_id,
            ));
            return;
        }
        if !self.agrees(&join) {
            out.push(refuse(
                ResponseError::InconsistentGroupProtocol,
                &join.member_id,
            ));
            return;
        }
        if join.member_id.is_empty() {
            self.join_without_id(join, ticket, now, out);
            return;
        }
        let expected = self.expected.remove(&join.member_id).is_some();
        if let Err(error) = self.identify(&join.member_id, join.instance_id.as_deref())
            && !(expected && error == ResponseError::UnknownMemberId)
        {
            out.push(refuse(error, &join.member_id));
            return;
        }
        let member_id = join.member_id.clone();
        let Some(member) = self.members.get(&member_id) else {
            self.enter(member_id, join, ticket, now, out);
            return;
        };
        let same = member.protocols == join.protocols;
        let settled = match self.phase {
            // The leader joins again to force a rebalance; a follower that repeats itself has lost
            // the answer.
            Phase::Stable => same && self.leader != member_id,
            Phase::Syncing => same,
            Phase::Empty | Phase::Joining => false,
        };
        if settled {
            self.touch(&member_id, now);
            out.push((ticket, Answer::Joined(self.joined(&member_id))));
        } else {
            self.enter(member_id, join, ticket, now, out);
        }
    }

    fn join_without_id(&mut self, join: Join, ticket: Ticket, now: Instant, out: &mut Answers) {
        let fresh = join.fresh_id.clone();
        let known = join
            .instance_id
            .as_ref()
            .and_then(|instance| self.instances.get(instance).cloned());
        if let Some(old) = known {
            self.replace_static(&old, join, ticket, now, out);
        } else if join.instance_id.is_none() && join.id_required {
            self.expected
                .insert(fresh.clone(), now + join.session_timeout);
            let error = ResponseError::MemberIdRequired;
            out.push((
                ticket,
                Answer::JoinFailed {
                    error,
                    member_id: fresh,
                },
            ));
        } else {
            self.enter(fresh, join, ticket, now, out);
        }
    }

    /// A static member is back under a new member id; a client that still uses the old one is fenced.
    fn replace_static(
        &mut self,
        old: &str,
        join: Join,
        ticket: Ticket,
        now: Instant,
        out: &mut Answers,
    ) {
        let fresh = join.fresh_id.clone();
        let Some(mut member) = self.members.remove(old) else {
            self.enter(fresh, join, ticket, now, out);
            return;
        };
        if let Some(waiting) = member.joining.take() {
            let error = ResponseError::FencedInstanceId;
            out.push((
                waiting,
                Answer::JoinFailed {
                    error,
                    member_id: old.to_string(),
                },
            ));
        }
        if let Some(waiting) = member.syncing.take() {
            out.push((waiting, Answer::SyncFailed(ResponseError::FencedInstanceId)));
        }
        let same_metadata = join
            .protocols
            .iter()
            .any(|(name, metadata)| *name == self.protocol && *metadata == member.metadata(name));
        if let Some(instance) = &member.instance_id {
            self.instances.insert(instance.clone(), fresh.clone());
        }
        let led = self.leader == old;
        self.members.insert(fresh.clone(), member);
        if self.phase == Phase::Stable && same_metadata {
            // It resumes its old assignment without a rebalance. A former leader gets the old
            // leader's name, so it assigns nothing now.
            let mut joined = self.joined(&fresh);
            if led {
                joined.leader = old.to_string();
                self.leader = fresh.clone();
            }
            joined.members.clear();
            self.update(&fresh, &join, now);
            out.push((ticket, Answer::Joined(joined)));
        } else {
            if led {
                self.leader = fresh.clone();
            }
            self.enter(fresh, join, ticket, now, out);
        }
    }

    fn update(&mut self, member_id: &str, join: &Join, now: Instant) {
        if let Some(member) = self.members.get_mut(member_id) {
            member.protocols = join.protocols.clone();
            member.session_timeout = join.session_timeout;
            member.rebalance_timeout = join.rebalance_timeout;
            member.client_id = join.client_id.clone();
            member.seen = now;
        }
    }

    /// Adds or updates a member that waits for the end of the joining phase.
    fn enter(
        &mut self,
        member_id: String,
        join: Join,
        ticket: Ticket,
        now: Instant,
        out: &mut Answers,
    ) {
        if self.members.is_empty() {
            self.protocol_type = join.protocol_type.clone();
        }
        if let Some(instance) = &join.instance_id {
            self.instances.insert(instance.clone(), member_id.clone());
        }
        self.update(&member_id, &join, now);
        let member = self
            .members
            .entry(member_id.clone())
            .or_insert_with(|| Member {
                instance_id: join.instance_id,
                client_id: join.client_id,
                protocols: join.protocols,
                assignment: Bytes::new(),
                session_timeout: join.session_timeout,
                rebalance_timeout: join.rebalance_timeout,
                seen: now,
                joining: None,
                syncing: None,
            });
        if let Some(earlier) = member.joining.replace(ticket) {
            let error = ResponseError::RebalanceInProgress;
            out.push((earlier, Answer::JoinFailed { error, member_id }));
        }
        self.rebalance(now, out);
        self.finish_joining_if_complete(now, out);
    }

    pub(super) fn rebalance(&mut self, now: Instant, out: &mut Answers) {
        if self.phase == Phase::Joining {
            return;
        }
        for member in self.members.values_mut() {
            if let Some(ticket) = member.syncing.take() {
                out.push((
                    ticket,
                    Answer::SyncFailed(ResponseError::RebalanceInProgress),
                ));
            }
        }
        self.first_join = self.phase == Phase::Empty;
        let wait = if self.first_join {
            FIRST_JOIN_DELAY
        } else {
            self.rebalance_timeout()
        };
        self.deadline = Some(now + wait);
        self.phase = Phase::Joining;
    }

    pub(super) fn rebalance_timeout(&self) -> Duration {
        let timeouts = self.members.values().map(|m| m.rebalance_timeout);
        timeouts.max().unwrap_or(FIRST_JOIN_DELAY)
    }

    pub(super) fn finish_joining_if_complete(&mut self, now: Instant, out: &mut Answers) {
        let all_here =
            self.expected.is_empty() && self.members.values().all(|m| m.joining.is_some());
        if self.phase == Phase::Joining && all_here && !self.first_join {
            self.finish_joining(now, out);
        }
    }

    pub(super) fn finish_joining(&mut self, now: Instant, out: &mut Answers) {
        // A static member that is away keeps its place until its session ends.
        let gone = |m: &Member| m.joining.is_none() && m.instance_id.is_none();
        self.members.retain(|_, m| !gone(m));
        self.first_join = false;
        self.generation += 1;
        if self.members.is_empty() {
            self.become_empty();
            return;
        }
        let here = |members: &BTreeMap<String, Member>, id: &str| {
            members.get(id).is_some_and(|m| m.joining.is_some())
        };
        if !here(&self.members, &self.leader) {
            let first = self.members.iter().find(|(_, m)| m.joining.is_some());
            let first = first.or_else(|| self.members.iter().next());
            self.leader = first.map(|(id, _)| id.clone()).unwrap_or_default();
        }
        self.protocol = self.common_protocol();
        self.phase = Phase::Syncing;
        self.deadline = Some(now + self.rebalance_timeout());
        let waiting: Vec<(String, Ticket)> = self
            .members
            .iter_mut()
            .filter_map(|(id, m)| {
                m.seen = now;
                m.joining.take().map(|ticket| (id.clone(), ticket))
            })
            .collect();
        for (id, ticket) in waiting {
            out.push((ticket, Answer::Joined(self.joined(&id))));
        }
    }

    pub(super) fn become_empty(&mut self) {
        self.phase = Phase::Empty;
        self.deadline = None;
        self.first_join = false;
        self.leader.clear();
        self.protocol.clear();
        self.instances.clear();
    }

    fn joined(&self, member_id: &str) -> Joined {
        let members = if self.leader == member_id {
            let metadata = |m: &Member| m.metadata(&self.protocol);
            let all = self.members.iter();
            all.map(|(id, m)| (id.clone(), m.instance_id.clone(), metadata(m)))
                .collect()
        } else {
            Vec::new()
        };
        Joined {
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            leader: self.leader.clone(),
            member_id: member_id.to_string(),
            members,
        }
    }

    /// The protocols every member knows.
    fn shared_protocols(&self) -> BTreeSet<&str> {
        let names = |m: &'_ Member| -> BTreeSet<String> {
            m.protocols.iter().map(|p| p.0.clone()).collect()
        };
        let mut members = self.members.values();
        let Some(first) = members.next() else {
            return BTreeSet::new();
        };
        let rest: Vec<_> = members.map(names).collect();
        let shared = first.protocols.iter().map(|(name, _)| name.as_str());
        shared
            .filter(|name| rest.iter().all(|names| names.contains(*name)))
            .collect()
    }

    /// Each member votes for the first of its protocols that all share.
    fn common_protocol(&self) -> String {
        let shared = self.shared_protocols();
        let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
        for member in self.members.values() {
            let vote = member
                .protocols
                .iter()
                .find(|(name, _)| shared.contains(name.as_str()));
            if let Some((name, _)) = vote {
                *votes.entry(name).or_default() += 1;
            }
        }
        let winner = votes.into_iter().max_by_key(|(_, count)| *count);
        winner.map(|(name, _)| name.to_string()).unwrap_or_default()
    }

    fn agrees(&self, join: &Join) -> bool {
        if join.protocol_type.is_empty() || join.protocols.is_empty() {
            return false;
        }
        let alone = self.members.is_empty()
            || (self.members.len() == 1 && self.members.contains_key(&join.member_id));
        if alone {
            return true;
        }
        let shared = self.shared_protocols();
        let common = join
            .protocols
            .iter()
            .any(|(name, _)| shared.contains(name.as_str()));
        join.protocol_type == self.protocol_type && common
    }
}
