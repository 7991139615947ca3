//! Where PostgreSQL is, as soon as that is known: a private cluster starts beside the stages, which
//! must not wait for it before they start.

use std::sync::Arc;

use tokio::sync::watch;

use super::PostgresSettings;

/// What is known.
#[derive(Clone, Debug)]
pub enum PostgresState {
    /// The private cluster is being started.
    Starting,
    At(Arc<PostgresSettings>),
    /// There is none; it was logged once, with the remedy.
    Off,
}

/// For the process that starts the server: publishes where it is.
#[derive(Debug)]
pub struct PostgresLocator(watch::Sender<PostgresState>);

impl PostgresLocator {
    /// A locator and what it tells.
    pub fn new() -> (Self, PostgresLocation) {
        let (sender, receiver) = watch::channel(PostgresState::Starting);
        (Self(sender), PostgresLocation(receiver))
    }

    pub fn found(&self, settings: PostgresSettings) {
        self.0.send_replace(PostgresState::At(Arc::new(settings)));
    }

    pub fn none(&self) {
        self.0.send_replace(PostgresState::Off);
    }
}

/// For the users of the server.
#[derive(Clone, Debug)]
pub struct PostgresLocation(watch::Receiver<PostgresState>);

impl PostgresLocation {
    /// A server that is known from the start.
    pub fn known(settings: PostgresSettings) -> Self {
        let (locator, location) = PostgresLocator::new();
        locator.found(settings);
        location
    }

    /// What is known now.
    pub fn state(&self) -> PostgresState {
        self.0.borrow().clone()
    }

    /// Waits until it is known where the server is; `None` if there is none.
    pub async fn settings(&self) -> Option<Arc<PostgresSettings>> {
        let mut receiver = self.0.clone();
        let decided = receiver
            .wait_for(|state| !matches!(state, PostgresState::Starting))
            .await;
        match decided.as_deref() {
            Ok(PostgresState::At(settings)) => Some(settings.clone()),
            // A locator that is gone without a word found nothing.
            Ok(PostgresState::Off | PostgresState::Starting) | Err(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn asking_early_waits_and_asking_in_vain_is_an_error() {
        let (locator, location) = PostgresLocator::new();
        assert!(matches!(location.state(), PostgresState::Starting));
        let waiting = location.clone();
        let asked = tokio::spawn(async move { waiting.settings().await.is_some() });
        locator.none();
        assert!(!asked.await.unwrap());
        let (locator, location) = PostgresLocator::new();
        drop(locator);
        assert!(location.settings().await.is_none());
    }
}
