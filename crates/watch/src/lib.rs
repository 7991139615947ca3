//! What Kafka, the lake and PostgreSQL look like from outside, for the dashboard's own process.
//!
//! Promises that each is looked at by itself, within a time limit and a bounded number of requests,
//! and that nothing is changed by looking; one that does not answer is down with the reason, keeps its
//! last figures with their age, and holds up none of the others. Relies on the actor `watcher` to look
//! again and again.

pub mod kafka;
pub mod lake;
pub mod postgres;

use std::time::{Duration, SystemTime};

use ftap_telemetry::events::{SourceAnswers, SourceDown, Speaker};
use ftap_telemetry::metrics;
pub use kafka::{KafkaFigures, KafkaLook, PartitionFigures};
pub use lake::{FolderFigures, LakeFigures, LakeLook};
use parking_lot::{Mutex, MutexGuard};
pub use postgres::{PostgresFigures, PostgresLook, SlotFigures};

/// Finds out where something is; asked before each look, because it may move or come later.
pub type Locate<T> = Box<dyn Fn() -> Result<T, String> + Send>;

/// Looks at one source.
pub trait Look: Send + 'static {
    /// What it sees.
    type Figures: Send + 'static;

    /// The source's name in logs and metrics.
    const SOURCE: &'static str;

    /// Longest look.
    const LIMIT: Duration;

    /// Looks once; the error says what is wrong and what to do.
    fn look(&mut self) -> impl Future<Output = Result<Self::Figures, String>>;

    /// Where the figures are kept.
    fn place(sources: &mut Sources) -> &mut Option<Seen<Self::Figures>>;

    /// Tells the metrics.
    fn export(figures: &Self::Figures);
}

/// What was seen of one source.
#[derive(Clone, Debug)]
pub struct Seen<T> {
    /// Why the newest look failed; `None` if it did not, or there was none yet.
    pub error: Option<String>,
    /// The figures of the newest look that succeeded, and when that was.
    pub figures: Option<(T, SystemTime)>,
}

impl<T> Seen<T> {
    /// Whether the newest look succeeded.
    pub fn is_up(&self) -> bool {
        self.error.is_none() && self.figures.is_some()
    }
}

/// Everything that is watched; `None` is not watched by this process.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    pub kafka: Option<Seen<KafkaFigures>>,
    pub lake: Option<Seen<LakeFigures>>,
    /// PostgreSQL.
    pub postgres: Option<Seen<PostgresFigures>>,
}

/// What was seen, shared between those who look and those who show.
#[derive(Debug, Default)]
pub struct Watched(Mutex<Sources>);

impl Watched {
    /// The source will be looked at.
    pub fn expect<L: Look>(&self) {
        L::place(&mut self.sources()).get_or_insert(Seen {
            error: None,
            figures: None,
        });
    }

    /// Notes what a look brought.
    pub fn note<L: Look>(&self, looked: Result<L::Figures, String>, speaker: Speaker) {
        let mut sources = self.sources();
        let seen = L::place(&mut sources).get_or_insert(Seen {
            error: None,
            figures: None,
        });
        let up = if looked.is_ok() { 1.0 } else { 0.0 };
        metrics::PLATFORM_UP.set_for([L::SOURCE], up);
        let source = L::SOURCE.to_owned();
        match looked {
            Ok(figures) => {
                if !seen.is_up() {
                    SourceAnswers { source }.emit(speaker);
                }
                L::export(&figures);
                seen.error = None;
                seen.figures = Some((figures, SystemTime::now()));
            }
            Err(error) => {
                // Once, and not at each look.
                if seen.error.as_ref() != Some(&error) {
                    SourceDown {
                        source,
                        error: error.clone(),
                    }
                    .emit(speaker);
                }
                seen.error = Some(error);
            }
        }
    }

    /// Whether everything that is watched answers.
    pub fn all_up(&self) -> bool {
        let sources = self.sources();
        sources.kafka.as_ref().is_none_or(Seen::is_up)
            && sources.lake.as_ref().is_none_or(Seen::is_up)
            && sources.postgres.as_ref().is_none_or(Seen::is_up)
    }

    /// A copy of everything.
    pub fn snapshot(&self) -> Sources {
        self.sources().clone()
    }

    fn sources(&self) -> MutexGuard<'_, Sources> {
        self.0.lock()
    }
}
