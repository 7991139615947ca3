//! The group's state machine under a clock of the test's own.

use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_protocol::ResponseError;

use super::state::*;

struct Clocked {
    group: Group,
    now: Instant,
    next: Ticket,
    answers: Answers,
}

impl Clocked {
    fn new() -> Self {
        Self {
            group: Group::default(),
            now: Instant::now(),
            next: 0,
            answers: Vec::new(),
        }
    }

    fn request(&self, member_id: &str, instance: Option<&str>) -> Join {
        let protocol = |name: &str| (name.to_string(), Bytes::from_static(b"topics"));
        Join {
            member_id: member_id.into(),
            instance_id: instance.map(str::to_string),
            fresh_id: format!("m{}", self.next),
            id_required: false,
            client_id: "c".into(),
            session_timeout: Duration::from_secs(10),
            rebalance_timeout: Duration::from_secs(60),
            protocol_type: "consumer".into(),
            protocols: vec![protocol("range"), protocol("cooperative-sticky")],
        }
    }

    fn join(&mut self, join: Join) -> Ticket {
        self.next += 1;
        self.group
            .join(join, self.next, self.now, &mut self.answers);
        self.next
    }

    fn sync(
        &mut self,
        id: &str,
        instance: Option<&str>,
        assignments: &[(&str, &'static str)],
    ) -> Ticket {
        self.next += 1;
        let assignments = assignments
            .iter()
            .map(|(id, a)| (id.to_string(), Bytes::from_static(a.as_bytes())));
        let member = (id, instance, self.group.generation);
        self.group.sync(
            member,
            assignments.collect(),
            self.next,
            self.now,
            &mut self.answers,
        );
        self.next
    }

    fn pass(&mut self, seconds: f64) -> Vec<String> {
        self.now += Duration::from_secs_f64(seconds);
        self.group.tick(self.now, &mut self.answers)
    }

    fn answer(&mut self, ticket: Ticket) -> Option<Answer> {
        let at = self.answers.iter().position(|(t, _)| *t == ticket)?;
        Some(self.answers.remove(at).1)
    }

    fn joined(&mut self, ticket: Ticket) -> Joined {
        match self.answer(ticket) {
            Some(Answer::Joined(joined)) => joined,
            other => panic!("expected to be in, got {other:?}"),
        }
    }

    fn join_error(&mut self, ticket: Ticket) -> ResponseError {
        match self.answer(ticket) {
            Some(Answer::JoinFailed { error, .. }) => error,
            other => panic!("expected a refusal, got {other:?}"),
        }
    }

    fn assignment(&mut self, ticket: Ticket) -> Bytes {
        match self.answer(ticket) {
            Some(Answer::Synced { assignment, .. }) => assignment,
            other => panic!("expected an assignment, got {other:?}"),
        }
    }

    /// Two members, assigned "a" and "b"; returns their ids, the leader's first.
    fn stable_pair(instances: [Option<&str>; 2]) -> (Self, String, String) {
        let mut group = Self::new();
        let first = group.join(group.request("", instances[0]));
        let second = group.join(group.request("", instances[1]));
        group.pass(0.2);
        let (first, second) = (group.joined(first), group.joined(second));
        let (leader, follower) = if first.members.is_empty() {
            (second, first)
        } else {
            (first, second)
        };
        let (leader, follower) = (leader.member_id, follower.member_id);
        let instance = |group: &Self, id: &str| group.group.members[id].instance_id.clone();
        let follower_instance = instance(&group, &follower);
        let leader_instance = instance(&group, &leader);
        let waiting = group.sync(&follower, follower_instance.as_deref(), &[]);
        assert_eq!(group.answer(waiting), None);
        let own = group.sync(
            &leader,
            leader_instance.as_deref(),
            &[(&leader, "a"), (&follower, "b")],
        );
        assert_eq!(
            (group.assignment(own), group.assignment(waiting)),
            ("a".into(), "b".into())
        );
        assert_eq!(group.group.phase, Phase::Stable);
        (group, leader, follower)
    }
}

#[test]
fn members_that_come_together_share_one_generation_and_one_leader() {
    let (group, leader, _) = Clocked::stable_pair([None, None]);
    assert_eq!((group.group.generation, group.group.members.len()), (1, 2));
    assert_eq!(group.group.leader, leader);
    assert_eq!(group.group.protocol, "range");
}

#[test]
fn a_lone_member_waits_only_the_first_delay() {
    let mut group = Clocked::new();
    let ticket = group.join(group.request("", None));
    assert_eq!(group.answer(ticket), None);
    group.pass(0.101);
    assert_eq!(group.joined(ticket).members.len(), 1);
}

#[test]
fn a_new_member_is_sent_back_with_an_id_once() {
    let mut group = Clocked::new();
    let ticket = group.join(Join {
        id_required: true,
        ..group.request("", None)
    });
    let Some(Answer::JoinFailed { error, member_id }) = group.answer(ticket) else {
        panic!("it was let in")
    };
    assert_eq!(error, ResponseError::MemberIdRequired);
    let ticket = group.join(Join {
        id_required: true,
        ..group.request(&member_id, None)
    });
    group.pass(0.2);
    assert_eq!(group.joined(ticket).member_id, member_id);
}

#[test]
fn a_third_member_makes_the_others_join_again() {
    let (mut group, leader, follower) = Clocked::stable_pair([None, None]);
    let third = group.join(group.request("", None));
    let beat = group.group.heartbeat(&leader, None, 1, group.now);
    assert_eq!(beat, Err(ResponseError::RebalanceInProgress));
    let first = group.join(group.request(&leader, None));
    assert_eq!(group.answer(third), None);
    let second = group.join(group.request(&follower, None));
    for ticket in [third, first, second] {
        assert_eq!(group.joined(ticket).generation, 2);
    }
}

#[test]
fn a_member_that_does_not_join_again_is_left_behind_at_the_rebalance_timeout() {
    let (mut group, leader, follower) = Clocked::stable_pair([None, None]);
    let third = group.join(group.request("", None));
    let first = group.join(group.request(&leader, None));
    // It keeps sending heartbeats, so its session does not end.
    for _ in 0..13 {
        group.pass(5.0);
        let _ = group.group.heartbeat(&follower, None, 1, group.now);
    }
    assert_eq!(group.joined(first).generation, 2);
    assert_eq!(group.joined(third).generation, 2);
    assert!(!group.group.members.contains_key(&follower));
}

#[test]
fn a_silent_member_loses_its_session_and_the_rest_rebalance() {
    let (mut group, leader, follower) = Clocked::stable_pair([None, None]);
    group.pass(6.0);
    group.group.heartbeat(&leader, None, 1, group.now).unwrap();
    assert_eq!(group.pass(6.0), std::slice::from_ref(&follower));
    let beat = group.group.heartbeat(&follower, None, 1, group.now);
    assert_eq!(beat, Err(ResponseError::UnknownMemberId));
    let ticket = group.join(group.request(&leader, None));
    assert_eq!(group.joined(ticket).members.len(), 1);
}

#[test]
fn a_leader_that_never_assigns_is_removed() {
    let mut group = Clocked::new();
    let (a, b) = (
        group.join(group.request("", None)),
        group.join(group.request("", None)),
    );
    group.pass(0.2);
    let (a, b) = (group.joined(a), group.joined(b));
    let (leader, follower) = if a.members.is_empty() { (b, a) } else { (a, b) };
    let waiting = group.sync(&follower.member_id, None, &[]);
    for _ in 0..13 {
        group.pass(5.0);
        let _ = group.group.heartbeat(&leader.member_id, None, 1, group.now);
    }
    let failed = Some(Answer::SyncFailed(ResponseError::RebalanceInProgress));
    assert_eq!(group.answer(waiting), failed);
    assert!(!group.group.members.contains_key(&leader.member_id));
}

#[test]
fn a_static_member_returns_to_its_assignment_and_its_old_self_is_fenced() {
    let (mut group, leader, follower) = Clocked::stable_pair([Some("i0"), Some("i1")]);
    for (old, assignment) in [(follower, "b"), (leader, "a")] {
        let instance = group.group.members[&old].instance_id.clone().unwrap();
        let ticket = group.join(group.request("", Some(&instance)));
        let back = group.joined(ticket);
        assert_eq!(
            (back.generation, back.members.len()),
            (1, 0),
            "a rebalance took place"
        );
        assert_ne!(back.member_id, back.leader);
        let ticket = group.sync(&back.member_id, Some(&instance), &[]);
        assert_eq!(group.assignment(ticket), assignment);
        let old_beat = group.group.heartbeat(&old, Some(&instance), 1, group.now);
        assert_eq!(old_beat, Err(ResponseError::FencedInstanceId));
        let ticket = group.join(group.request(&old, Some(&instance)));
        assert_eq!(group.join_error(ticket), ResponseError::FencedInstanceId);
    }
    assert_eq!(group.group.phase, Phase::Stable);
}

#[test]
fn leaving_rebalances_and_the_last_one_leaves_the_group_empty() {
    let (mut group, leader, follower) = Clocked::stable_pair([None, None]);
    group
        .group
        .leave(&follower, None, group.now, &mut group.answers)
        .unwrap();
    assert_eq!(group.group.phase, Phase::Joining);
    group
        .group
        .leave(&leader, None, group.now, &mut group.answers)
        .unwrap();
    assert_eq!(group.group.phase, Phase::Empty);
    assert!(group.group.is_unused());
    let again = group
        .group
        .leave(&leader, None, group.now, &mut group.answers);
    assert_eq!(again, Err(ResponseError::UnknownMemberId));
}

#[test]
fn only_members_of_this_generation_may_commit() {
    let (mut group, leader, _) = Clocked::stable_pair([None, None]);
    let now = group.now;
    let mut commit = |id: &str, generation| group.group.may_commit(id, None, generation, now);
    assert_eq!(commit(&leader, 1), Ok(()));
    assert_eq!(commit(&leader, 0), Err(ResponseError::IllegalGeneration));
    assert_eq!(commit("stranger", 1), Err(ResponseError::UnknownMemberId));
    assert_eq!(commit("", -1), Err(ResponseError::UnknownMemberId));
    assert_eq!(Group::default().may_commit("", None, -1, now), Ok(()));
}

#[test]
fn a_member_without_a_common_protocol_is_refused() {
    let (mut group, ..) = Clocked::stable_pair([None, None]);
    let mut other = group.request("", None);
    other.protocols = vec![("private".into(), Bytes::new())];
    let ticket = group.join(other);
    assert_eq!(
        group.join_error(ticket),
        ResponseError::InconsistentGroupProtocol
    );
}
