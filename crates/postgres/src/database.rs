//! A database that is ready for use: found, reached, with its tables and what the prepared files hold.

use std::sync::Arc;
use std::time::{Duration, Instant};

use deadpool_postgres::{Object, Pool};
use ftap_supervision::{Backoff, Pause};
use ftap_telemetry::events::{PostgresReady, PostgresUnavailable, Speaker, TableLoaded};
use ftap_telemetry::metrics;

use super::prepare::{self, Preparation};
use super::{Loaded, PostgresError, PostgresLocation, PostgresSettings, pool};

/// A server that takes a statement and never answers is noticed by this many time limits: the
/// server's own counts for each statement, and a run has a handful of them.
const STATEMENTS_PER_RUN: u32 = 4;

/// For jobs that wait until PostgreSQL answers.
pub const BACKOFF: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));

/// Logs each pause.
pub fn report_unavailable(speaker: Speaker) -> impl Fn(&PostgresError, Pause) {
    move |error, pause| {
        PostgresUnavailable {
            attempt: pause.attempt,
            error: error.to_string(),
            retry_in_ms: pause.ms(),
        }
        .emit(speaker);
    }
}

/// Shows in `ftap_service_up` whether the server answered the job that asked it last, in a process that
/// does not watch it otherwise.
pub fn note_answer(has_answered: bool) {
    metrics::SERVICE_UP.set_for(["postgres"], f64::from(has_answered));
}

/// Where the database is and what must be in it.
#[derive(Clone, Debug)]
pub struct Database {
    location: PostgresLocation,
    preparation: Preparation,
}

/// A database that was prepared.
#[derive(Debug)]
pub struct OpenDatabase {
    pool: Pool,
    settings: Arc<PostgresSettings>,
}

impl Database {
    /// A database that is looked for at its first use.
    pub fn new(location: PostgresLocation, preparation: Preparation) -> Self {
        Self {
            location,
            preparation,
        }
    }

    /// Waits until it is known where the server is and prepares the database, unless `open` has that
    /// behind it; then loads files that have come or changed. `None` if there is no PostgreSQL.
    pub async fn open<'a>(
        &self,
        open: &'a mut Option<OpenDatabase>,
        speaker: Speaker,
    ) -> Result<Option<&'a OpenDatabase>, PostgresError> {
        let Some(settings) = self.location.settings().await else {
            return Ok(None);
        };
        // A private server that was started again may be somewhere else.
        if open.as_ref().is_some_and(|open| open.settings != settings) {
            *open = None;
        }
        let preparation = &self.preparation;
        let open = match open {
            Some(open) => {
                let load = prepare::load(&open.pool, &open.settings, preparation);
                report_loaded(&open.limited(load).await?, speaker);
                open
            }
            None => {
                let fresh = OpenDatabase {
                    pool: pool(&settings)?,
                    settings,
                };
                let started = Instant::now();
                let prepare = prepare::prepare(&fresh.pool, &fresh.settings, preparation);
                let prepared = fresh.limited(prepare).await?;
                PostgresReady {
                    address: fresh.settings.address().to_string(),
                    version: prepared.server_version,
                    duration_ms: started.elapsed().as_millis() as u64,
                }
                .emit(speaker);
                report_loaded(&prepared.loaded, speaker);
                let fresh = open.insert(fresh);
                if let Some(error) = prepared.refused {
                    return Err(error);
                }
                fresh
            }
        };
        Ok(Some(open))
    }
}

impl OpenDatabase {
    /// A connection of its pool.
    pub async fn connection(&self) -> Result<Object, PostgresError> {
        prepare::connection(&self.pool, &self.settings).await
    }

    /// What a client's error means.
    pub fn error(&self, error: &tokio_postgres::Error) -> PostgresError {
        PostgresError::of(&self.settings, error)
    }

    /// A value of another type than `init/01_schema.sql` gives the column.
    pub(crate) fn other_schema(
        &self,
        column: &str,
        error: &tokio_postgres::Error,
    ) -> PostgresError {
        PostgresError::OtherSchema {
            address: self.settings.address(),
            said: format!("{column}: {error}"),
        }
    }

    /// Another client interfered.
    pub fn conflict(&self, said: &str) -> PostgresError {
        PostgresError::Conflict {
            address: self.settings.address(),
            said: said.to_owned(),
        }
    }

    /// Ends requests that a hanging server would never answer.
    pub async fn limited<T>(
        &self,
        work: impl Future<Output = Result<T, PostgresError>>,
    ) -> Result<T, PostgresError> {
        let limit = self.limit();
        match tokio::time::timeout(limit, work).await {
            Ok(result) => result,
            Err(_) => Err(PostgresError::Unavailable {
                address: self.settings.address(),
                said: format!("no answer within {} s", limit.as_secs_f64()),
            }),
        }
    }

    fn limit(&self) -> Duration {
        self.settings.connect_timeout + self.settings.statement_timeout * STATEMENTS_PER_RUN
    }
}

/// Logs each table that was loaded.
pub fn report_loaded(loaded: &[Loaded], speaker: Speaker) {
    for loaded in loaded {
        TableLoaded {
            table: loaded.table.to_owned(),
            file: loaded.file.display().to_string(),
            rows: loaded.rows,
            inserted: loaded.inserted,
            duration_ms: loaded.duration.as_millis() as u64,
        }
        .emit(speaker);
    }
}
