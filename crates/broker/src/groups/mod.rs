//! The group coordinator: runs each group's state machine under one lock and hands answers to the
//! requests that wait for them. Membership lives in memory only: after a restart members find that
//! they are unknown and join again. Committed positions are durable (see the ledger).

mod session;
pub(crate) mod state;
#[cfg(test)]
mod state_tests;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use kafka_protocol::ResponseError;
use parking_lot::Mutex;
use state::{Answer, Answers, Group, Ticket};
use tokio::sync::oneshot;

#[derive(Default)]
struct Inner {
    groups: HashMap<String, Group>,
    waiting: HashMap<Ticket, oneshot::Sender<Answer>>,
}

impl Inner {
    fn deliver(&mut self, answers: Answers) {
        for (ticket, answer) in answers {
            if let Some(waiting) = self.waiting.remove(&ticket) {
                // A client that hung up is noticed by its session.
                let _ = waiting.send(answer);
            }
        }
    }
}

#[derive(Default)]
pub(crate) struct Groups {
    inner: Mutex<Inner>,
    tickets: AtomicU64,
}

impl Groups {
    /// Runs `request`, which answers or keeps the ticket, and waits for the answer.
    pub(crate) async fn wait(
        &self,
        group_id: &str,
        request: impl FnOnce(&mut Group, Ticket, Instant, &mut Answers),
    ) -> Answer {
        let ticket = self.tickets.fetch_add(1, Ordering::Relaxed);
        let (sender, mut receiver) = oneshot::channel();
        let mut deadline = {
            let mut inner = self.inner.lock();
            inner.waiting.insert(ticket, sender);
            let group = inner.groups.entry(group_id.to_string()).or_default();
            let mut answers = Answers::new();
            request(group, ticket, Instant::now(), &mut answers);
            let deadline = group.deadline();
            inner.deliver(answers);
            deadline
        };
        loop {
            let overdue = async {
                match deadline {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                answer = &mut receiver => {
                    return answer.unwrap_or(Answer::SyncFailed(ResponseError::CoordinatorNotAvailable));
                }
                () = overdue => deadline = self.tick_group(group_id),
            }
        }
    }

    fn tick_group(&self, group_id: &str) -> Option<Instant> {
        let mut inner = self.inner.lock();
        let mut answers = Answers::new();
        let group = inner.groups.get_mut(group_id)?;
        group.tick(Instant::now(), &mut answers);
        let deadline = group.deadline();
        inner.deliver(answers);
        deadline
    }

    /// Lets time pass for every group and forgets those without members.
    pub(crate) fn tick(&self) {
        let mut inner = self.inner.lock();
        let mut answers = Answers::new();
        let now = Instant::now();
        for (group_id, group) in &mut inner.groups {
            for member_id in group.tick(now, &mut answers) {
                tracing::info!(event = "group_member_removed", group = %group_id, member = %member_id);
            }
        }
        inner.groups.retain(|_, group| !group.is_unused());
        inner.deliver(answers);
    }

    /// Runs `request` on a group that has members now; `None` otherwise.
    pub(crate) fn with<T>(
        &self,
        group_id: &str,
        request: impl FnOnce(&mut Group, Instant, &mut Answers) -> T,
    ) -> Option<T> {
        let mut inner = self.inner.lock();
        let mut answers = Answers::new();
        let group = inner.groups.get_mut(group_id)?;
        let result = request(group, Instant::now(), &mut answers);
        inner.deliver(answers);
        Some(result)
    }

    /// Calls `view` for every group in memory.
    pub(crate) fn for_each(&self, mut view: impl FnMut(&str, &Group)) {
        for (group_id, group) in &self.inner.lock().groups {
            view(group_id, group);
        }
    }

    /// Whether the member may commit positions for the group.
    pub(crate) fn may_commit(
        &self,
        group_id: &str,
        member_id: &str,
        instance_id: Option<&str>,
        generation: i32,
    ) -> Result<(), ResponseError> {
        let known = self.with(group_id, |group, now, _| {
            group.may_commit(member_id, instance_id, generation, now)
        });
        match known {
            Some(result) => result,
            None if generation < 0 => Ok(()),
            None => Err(ResponseError::UnknownMemberId),
        }
    }
}
