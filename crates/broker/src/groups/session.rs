//! The group's state machine, second part: what members ask once they are in, and the passing of
//! time.

use std::time::Instant;

use bytes::Bytes;
use kafka_protocol::ResponseError;

use super::state::{Answer, Answers, Group, Member, Phase, Ticket};

impl Group {
    pub(super) fn touch(&mut self, member_id: &str, now: Instant) {
        if let Some(member) = self.members.get_mut(member_id) {
            member.seen = now;
        }
    }

    pub(super) fn identify(
        &self,
        member_id: &str,
        instance_id: Option<&str>,
    ) -> Result<(), ResponseError> {
        if let Some(instance) = instance_id {
            match self.instances.get(instance) {
                Some(owner) if owner != member_id => return Err(ResponseError::FencedInstanceId),
                Some(_) => {}
                None => return Err(ResponseError::UnknownMemberId),
            }
        }
        if self.members.contains_key(member_id) {
            Ok(())
        } else {
            Err(ResponseError::UnknownMemberId)
        }
    }

    fn check(
        &self,
        member_id: &str,
        instance_id: Option<&str>,
        generation: i32,
    ) -> Result<(), ResponseError> {
        self.identify(member_id, instance_id)?;
        if generation == self.generation {
            Ok(())
        } else {
            Err(ResponseError::IllegalGeneration)
        }
    }

    /// Takes a sync request; `assignments` counts only from the leader.
    pub(crate) fn sync(
        &mut self,
        member: (&str, Option<&str>, i32),
        assignments: Vec<(String, Bytes)>,
        ticket: Ticket,
        now: Instant,
        out: &mut Answers,
    ) {
        let (member_id, instance_id, generation) = member;
        if let Err(error) = self.check(member_id, instance_id, generation) {
            out.push((ticket, Answer::SyncFailed(error)));
            return;
        }
        self.touch(member_id, now);
        match self.phase {
            Phase::Empty => out.push((ticket, Answer::SyncFailed(ResponseError::UnknownMemberId))),
            Phase::Joining => out.push((
                ticket,
                Answer::SyncFailed(ResponseError::RebalanceInProgress),
            )),
            Phase::Stable => out.push((ticket, self.synced(member_id))),
            Phase::Syncing => {
                if let Some(member) = self.members.get_mut(member_id)
                    && let Some(earlier) = member.syncing.replace(ticket)
                {
                    out.push((
                        earlier,
                        Answer::SyncFailed(ResponseError::RebalanceInProgress),
                    ));
                }
                if self.leader == member_id {
                    self.assign(assignments, now, out);
                }
            }
        }
    }

    fn assign(&mut self, assignments: Vec<(String, Bytes)>, now: Instant, out: &mut Answers) {
        for member in self.members.values_mut() {
            member.assignment = Bytes::new();
        }
        for (id, assignment) in assignments {
            if let Some(member) = self.members.get_mut(&id) {
                member.assignment = assignment;
            }
        }
        self.phase = Phase::Stable;
        self.deadline = None;
        let waiting: Vec<(String, Ticket)> = self
            .members
            .iter_mut()
            .filter_map(|(id, m)| m.syncing.take().map(|ticket| (id.clone(), ticket)))
            .collect();
        for (id, ticket) in waiting {
            self.touch(&id, now);
            out.push((ticket, self.synced(&id)));
        }
    }

    fn synced(&self, member_id: &str) -> Answer {
        let assignment = self.members.get(member_id).map(|m| m.assignment.clone());
        Answer::Synced {
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            assignment: assignment.unwrap_or_default(),
        }
    }

    pub(crate) fn heartbeat(
        &mut self,
        member_id: &str,
        instance_id: Option<&str>,
        generation: i32,
        now: Instant,
    ) -> Result<(), ResponseError> {
        self.check(member_id, instance_id, generation)?;
        self.touch(member_id, now);
        match self.phase {
            Phase::Joining => Err(ResponseError::RebalanceInProgress),
            Phase::Empty | Phase::Syncing | Phase::Stable => Ok(()),
        }
    }

    /// Whether a member may commit positions now; a generation below 0 means a consumer that does
    /// not use the group's assignment.
    pub(crate) fn may_commit(
        &mut self,
        member_id: &str,
        instance_id: Option<&str>,
        generation: i32,
        now: Instant,
    ) -> Result<(), ResponseError> {
        if generation < 0 && member_id.is_empty() && self.members.is_empty() {
            return Ok(());
        }
        self.check(member_id, instance_id, generation)?;
        self.touch(member_id, now);
        match self.phase {
            // It has this generation's number already but not its assignment.
            Phase::Syncing => Err(ResponseError::RebalanceInProgress),
            _ => Ok(()),
        }
    }

    /// Removes a member by its id, or a static one by its instance id alone.
    pub(crate) fn leave(
        &mut self,
        member_id: &str,
        instance_id: Option<&str>,
        now: Instant,
        out: &mut Answers,
    ) -> Result<(), ResponseError> {
        if self.expected.remove(member_id).is_some() {
            self.finish_joining_if_complete(now, out);
            return Ok(());
        }
        let by_instance = instance_id.filter(|_| member_id.is_empty());
        let id = match by_instance {
            Some(instance) => self.instances.get(instance).cloned(),
            None => {
                self.identify(member_id, instance_id)?;
                Some(member_id.to_string())
            }
        };
        let id = id.ok_or(ResponseError::UnknownMemberId)?;
        self.remove(&id, out);
        self.after_removal(now, out);
        Ok(())
    }

    fn remove(&mut self, member_id: &str, out: &mut Answers) {
        let Some(member) = self.members.remove(member_id) else {
            return;
        };
        if let Some(instance) = &member.instance_id {
            self.instances.remove(instance);
        }
        let error = ResponseError::UnknownMemberId;
        if let Some(ticket) = member.joining {
            let member_id = member_id.to_string();
            out.push((ticket, Answer::JoinFailed { error, member_id }));
        }
        if let Some(ticket) = member.syncing {
            out.push((ticket, Answer::SyncFailed(error)));
        }
    }

    fn after_removal(&mut self, now: Instant, out: &mut Answers) {
        if self.members.is_empty() {
            if self.phase != Phase::Empty {
                self.generation += 1;
                self.become_empty();
            }
            return;
        }
        self.rebalance(now, out);
        self.finish_joining_if_complete(now, out);
    }

    /// Lets time pass: ends sessions and overdue phases. Returns the members removed.
    pub(crate) fn tick(&mut self, now: Instant, out: &mut Answers) -> Vec<String> {
        self.expected.retain(|_, until| *until > now);
        let silent = |m: &Member| {
            let waits = m.joining.is_some() || m.syncing.is_some();
            !waits && now.duration_since(m.seen) > m.session_timeout
        };
        let mut removed: Vec<String> = self
            .members
            .iter()
            .filter(|(_, m)| silent(m))
            .map(|(id, _)| id.clone())
            .collect();
        let overdue = self.deadline.is_some_and(|deadline| now >= deadline);
        if overdue && self.phase == Phase::Syncing {
            let late = self.members.iter().filter(|(_, m)| m.syncing.is_none());
            removed.extend(late.map(|(id, _)| id.clone()));
        }
        for id in &removed {
            self.remove(id, out);
        }
        if !removed.is_empty() {
            self.after_removal(now, out);
        }
        if self.phase == Phase::Joining {
            if self.deadline.is_some_and(|deadline| now >= deadline) {
                self.finish_joining(now, out);
            } else {
                self.finish_joining_if_complete(now, out);
            }
        } else if overdue && self.phase == Phase::Syncing && removed.is_empty() {
            // Everybody synced but the leader's assignment is missing: start over.
            self.rebalance(now, out);
        }
        removed
    }
}
