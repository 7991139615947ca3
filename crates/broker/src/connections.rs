//! The connections that are served, and whom each of them waits for.
//!
//! Promises: there are never more than allowed, and those whose clients keep the broker waiting keep
//! no other client out: the one that does so longest makes room for a new one. It may be idle, or
//! have sent half a request, or not read its answer.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::task::AbortHandle;
use tokio::time::Instant;

/// Since when a connection's client keeps the broker waiting; `None` while the broker works for it.
#[derive(Debug, Default)]
pub(crate) struct Client(Mutex<Option<Instant>>);

impl Client {
    /// Waits for the client to do something with its connection; `None` if it takes too long.
    pub(crate) async fn wait_for<T>(
        &self,
        limit: Duration,
        doing: impl Future<Output = T>,
    ) -> Option<T> {
        *self.0.lock() = Some(Instant::now());
        let done = tokio::time::timeout(limit, doing).await;
        *self.0.lock() = None;
        done.ok()
    }
}

#[derive(Debug, Default)]
pub(crate) struct Connections {
    served: Vec<(Arc<Client>, AbortHandle)>,
}

impl Connections {
    /// Makes room for one more, and says whether there is any.
    pub(crate) fn make_room(&mut self, most: usize) -> bool {
        self.served.retain(|(_, task)| !task.is_finished());
        if self.served.len() < most {
            return true;
        }
        let waiting = self.served.iter().enumerate();
        let waiting = waiting.filter_map(|(at, (client, _))| Some(((*client.0.lock())?, at)));
        let Some((_, longest)) = waiting.min() else {
            return false;
        };
        let (_, task) = self.served.swap_remove(longest);
        task.abort();
        true
    }

    pub(crate) fn add(&mut self, client: Arc<Client>, task: AbortHandle) {
        self.served.push((client, task));
    }
}
