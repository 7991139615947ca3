//! What Kafka, the lake and PostgreSQL look like from outside: for the dashboard's own process, and
//! Kafka for the processes of the stream.
//!
//! Promises that each is looked at by itself, within a time limit and a bounded number of requests,
//! and that nothing is changed by looking; one that does not answer twice in a row is down with the
//! reason, keeps its last figures with their age on the page, has none in the metrics, and holds up
//! none of the others. Relies on the actor `watcher` to look again and again.

pub mod ends;
pub mod kafka;
pub mod lake;
pub mod postgres;

use std::time::{Duration, Instant, SystemTime};

pub use ends::{Ends, EndsLook};
use ftap_telemetry::events::{SourceAnswers, SourceDown, SourceOff, Speaker};
use ftap_telemetry::metrics;
pub use kafka::{KafkaFigures, KafkaLook, PartitionFigures};
pub use lake::{FolderFigures, LakeFigures, LakeLook};
use parking_lot::{Mutex, MutexGuard};
pub use postgres::{PostgresFigures, PostgresLook, SlotFigures};

/// Finds out where something is; asked before each look, because it may move or come later.
pub type Locate<T> = Box<dyn Fn() -> Result<T, Unseen> + Send>;

/// Why a look brought nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unseen {
    /// It should answer and does not: what is wrong, and what to do.
    Down(String),
    /// It does not run, and no setting asks for it: what was looked for.
    Off(String),
}

impl From<String> for Unseen {
    fn from(error: String) -> Self {
        Self::Down(error)
    }
}

/// Looks at one source.
pub trait Look: Send + 'static {
    /// What it sees.
    type Figures: Send + 'static;

    /// The source's name in logs and metrics.
    const SOURCE: &'static str;

    /// Its name for people.
    const PLACE: &'static str;

    /// Longest look.
    const LIMIT: Duration;

    /// Looks once.
    fn look(&mut self) -> impl Future<Output = Result<Self::Figures, Unseen>>;

    /// Where the figures are kept.
    fn place(sources: &mut Sources) -> &mut Option<Seen<Self::Figures>>;

    /// Tells the metrics; `None` is a source that is down, of which nothing is known.
    fn export(figures: Option<&Self::Figures>);

    /// Logs that the source is down. `attempt` is the number of polls in a row that failed.
    fn report_down(&self, error: &str, _attempt: u64, speaker: Speaker) {
        SourceDown {
            source: Self::SOURCE.to_owned(),
            error: error.to_owned(),
        }
        .emit(speaker);
    }
}

/// A source is down when as many polls in a row have failed, or its first: one may be lost on the way.
const MISSED: u64 = 2;

/// What was seen of one source.
#[derive(Clone, Debug)]
pub struct Seen<T> {
    /// Why the newest look failed; `None` if it did not, or there was none yet.
    pub error: Option<String>,
    /// The figures of the newest look that succeeded, and when that was.
    pub figures: Option<(T, SystemTime)>,
    /// It does not run, and no setting asks for it: what was looked for.
    pub off: Option<String>,
    /// Looks in a row that failed, and when the first of them ended.
    missed: u64,
    missed_since: Option<Instant>,
}

impl<T> Default for Seen<T> {
    fn default() -> Self {
        Self {
            error: None,
            figures: None,
            off: None,
            missed: 0,
            missed_since: None,
        }
    }
}

impl<T> Seen<T> {
    /// Whether it answers; what never did is not up.
    pub fn is_up(&self) -> bool {
        self.figures.is_some() && self.missed < MISSED
    }

    /// Whether it is as the settings ask for: it answers, or is off.
    fn is_as_wanted(&self) -> bool {
        self.is_up() || self.off.is_some()
    }

    /// How long it has not answered, once it is down.
    pub fn down_for(&self) -> Option<Duration> {
        let since = self.missed_since.filter(|_| !self.is_up())?;
        Some(since.elapsed())
    }

    /// The figures of the newest look, if that succeeded.
    pub fn current(&self) -> Option<&T> {
        let (figures, _) = self.figures.as_ref()?;
        (self.missed == 0).then_some(figures)
    }
}

/// Everything that is watched; `None` is not watched by this process.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    pub kafka: Option<Seen<KafkaFigures>>,
    /// Kafka as a process of the stream watches it.
    pub ends: Option<Seen<Ends>>,
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
        L::place(&mut self.sources()).get_or_insert_default();
        metrics::SERVICE_UP.set_for([L::SOURCE], 0.0);
    }

    /// Notes what a look brought.
    pub fn note<L: Look>(&self, look: &L, looked: Result<L::Figures, Unseen>, speaker: Speaker) {
        let mut sources = self.sources();
        let seen = L::place(&mut sources).get_or_insert_default();
        let was_down = !seen.is_up();
        match looked {
            Ok(figures) => {
                if was_down {
                    let source = L::SOURCE.to_owned();
                    SourceAnswers { source }.emit(speaker);
                }
                L::export(Some(&figures));
                metrics::SERVICE_ANSWER_AGE.set_age_for([L::SOURCE]);
                *seen = Seen {
                    figures: Some((figures, SystemTime::now())),
                    ..Seen::default()
                };
            }
            Err(Unseen::Off(reason)) => {
                if seen.off.is_none() {
                    SourceOff {
                        source: L::SOURCE.to_owned(),
                        reason: reason.clone(),
                    }
                    .emit(speaker);
                }
                L::export(None);
                metrics::SERVICE_ANSWER_AGE.forget_for([L::SOURCE]);
                metrics::SERVICE_UP.forget_for([L::SOURCE]);
                *seen = Seen {
                    off: Some(reason),
                    ..Seen::default()
                };
                return;
            }
            Err(Unseen::Down(error)) => {
                seen.off = None;
                seen.missed += 1;
                seen.missed_since.get_or_insert_with(Instant::now);
                // Once, and not at each look.
                let is_new = !was_down || seen.error.as_ref() != Some(&error);
                if !seen.is_up() && is_new {
                    look.report_down(&error, seen.missed, speaker);
                    L::export(None);
                }
                seen.error = Some(error);
            }
        }
        let up = if seen.is_up() { 1.0 } else { 0.0 };
        metrics::SERVICE_UP.set_for([L::SOURCE], up);
    }

    /// Whether everything that is watched answers, as far as the settings ask for it.
    pub fn all_up(&self) -> bool {
        let sources = self.sources();
        sources.kafka.as_ref().is_none_or(Seen::is_as_wanted)
            && sources.ends.as_ref().is_none_or(Seen::is_as_wanted)
            && sources.lake.as_ref().is_none_or(Seen::is_as_wanted)
            && sources.postgres.as_ref().is_none_or(Seen::is_as_wanted)
    }

    /// Where the topic's partitions end, if the newest look found out.
    pub fn ends(&self) -> Option<Ends> {
        let sources = self.sources();
        sources.ends.as_ref()?.current().cloned()
    }

    /// A copy of everything.
    pub fn snapshot(&self) -> Sources {
        self.sources().clone()
    }

    fn sources(&self) -> MutexGuard<'_, Sources> {
        self.0.lock()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn series(name: &str) -> Vec<String> {
        let text = metrics::render_gauges();
        let lines = text.lines().filter(|line| line.starts_with(name));
        lines.map(str::to_owned).collect()
    }

    fn figures(partitions: i32) -> KafkaFigures {
        let partition = |partition| PartitionFigures {
            partition,
            start: 0,
            end: 9,
            committed: None,
            lag: 9,
        };
        KafkaFigures {
            bootstrap: String::new(),
            topic: String::new(),
            partitions: (0..partitions).map(partition).collect(),
        }
    }

    #[test]
    fn two_missed_looks_are_an_outage_in_which_nothing_is_known() {
        let look = KafkaLook::new(Box::new(|| Err("not asked".to_owned().into())));
        let watched = Watched::default();
        let up = || series("ftap_service_up{service=\"kafka\"}");
        let note = |looked| watched.note(&look, looked, Speaker::PROCESS);
        watched.expect::<KafkaLook>();
        assert!(!watched.all_up(), "it has not answered yet");
        assert_eq!(up(), ["ftap_service_up{service=\"kafka\"} 0"]);
        note(Ok(figures(2)));
        assert!(watched.all_up());
        assert_eq!(up(), ["ftap_service_up{service=\"kafka\"} 1"]);
        assert_eq!(series("ftap_consumer_lag_records").len(), 2);
        // A partition that is no longer there.
        note(Ok(figures(1)));
        assert_eq!(
            series("ftap_consumer_lag_records"),
            ["ftap_consumer_lag_records{partition=\"0\"} 9"]
        );
        assert!(series("ftap_group_committed_offset").is_empty());

        note(Err("lost".to_owned().into()));
        assert!(watched.all_up(), "one may be lost on the way");
        let seen = watched.snapshot().kafka.unwrap();
        assert_eq!(seen.current(), None, "what was true is not known to be");
        note(Err("lost".to_owned().into()));
        assert!(!watched.all_up());
        assert_eq!(up(), ["ftap_service_up{service=\"kafka\"} 0"]);
        for gauge in ["ftap_consumer_lag_records", "ftap_topic_end_offset"] {
            assert!(series(gauge).is_empty(), "{gauge}");
        }
        assert_eq!(series("ftap_service_answer_age_seconds").len(), 1);
        let seen = watched.snapshot().kafka.unwrap();
        assert!(seen.down_for().is_some());
        assert_eq!(seen.figures.unwrap().0, figures(1), "the page shows them");
        note(Ok(figures(1)));
        assert!(watched.all_up());
        assert_eq!(series("ftap_consumer_lag_records").len(), 1);
    }
    #[test]
    fn what_no_setting_asks_for_is_off_and_not_down() {
        let look = PostgresLook::new(Box::new(|| Err(Unseen::Off(String::new()))), String::new());
        let watched = Watched::default();
        let up = || series("ftap_service_up{service=\"postgres\"}");
        let note = |looked| watched.note(&look, looked, Speaker::PROCESS);
        watched.expect::<PostgresLook>();
        assert!(!watched.all_up(), "it was not looked for yet");
        note(Err(Unseen::Off("no cluster".to_owned())));
        assert!(watched.all_up());
        assert!(up().is_empty(), "an alert would fire at 0");
        note(Ok(PostgresFigures {
            address: String::new(),
            rows: Vec::new(),
            slot: None,
        }));
        assert_eq!(up(), ["ftap_service_up{service=\"postgres\"} 1"]);
        note(Err(Unseen::Off("no cluster".to_owned())));
        assert!(watched.all_up() && up().is_empty());
        let seen = watched.snapshot().postgres.unwrap();
        assert!(!seen.is_up() && seen.figures.is_none());
        // A server that does not answer is down.
        for _ in 0..MISSED {
            note(Err(Unseen::Down("lost".to_owned())));
        }
        assert!(!watched.all_up());
        assert_eq!(up(), ["ftap_service_up{service=\"postgres\"} 0"]);
    }
}
