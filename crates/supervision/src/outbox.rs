//! The way from one stage to another: the recipient of its messages together with its progress.
//!
//! Promises that a message counts as work of the stage that gets it from the moment it is sent
//! until its [`Work`] is dropped, wherever it is dropped: in the handler, in a task, on a thread,
//! or with a mailbox that is never read. Stages know each other by their outboxes only.

use std::sync::Arc;

use actix::dev::SendError;
use actix::prelude::{Message, Recipient, RecipientRequest};

use super::progress::{Progress, Work};

/// A message and the work that it is for its receiver.
pub struct Handed<M> {
    pub message: M,
    /// Drop it when the message has been dealt with.
    pub work: Work,
}

impl<M: Message> Message for Handed<M> {
    type Result = M::Result;
}

/// Sends messages to a stage and counts them as its work.
pub struct Outbox<M>
where
    M: Message + Send + 'static,
    M::Result: Send,
{
    recipient: Recipient<Handed<M>>,
    progress: Arc<Progress>,
}

impl<M> Outbox<M>
where
    M: Message + Send + 'static,
    M::Result: Send,
{
    pub(super) fn new(recipient: Recipient<Handed<M>>, progress: Arc<Progress>) -> Self {
        Self {
            recipient,
            progress,
        }
    }

    /// Sends without waiting. The mailbox takes any number: what bounds them is the sender's
    /// business, such as a memory budget.
    pub fn hand(&self, message: M) {
        self.recipient.do_send(self.handed(message));
    }

    /// Sends unless the mailbox is full; for a message that may be lost.
    pub fn offer(&self, message: M) {
        match self.recipient.try_send(self.handed(message)) {
            Ok(()) | Err(SendError::Full(_) | SendError::Closed(_)) => {}
        }
    }

    /// Sends and gives the answer, or an error if the stage has ended.
    pub fn ask(&self, message: M) -> RecipientRequest<Handed<M>> {
        self.recipient.send(self.handed(message))
    }

    fn handed(&self, message: M) -> Handed<M> {
        Handed {
            message,
            work: self.progress.begin_handed(),
        }
    }
}

impl<M> Clone for Outbox<M>
where
    M: Message + Send + 'static,
    M::Result: Send,
{
    fn clone(&self) -> Self {
        Self::new(self.recipient.clone(), self.progress.clone())
    }
}
