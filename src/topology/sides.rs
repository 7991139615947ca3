//! Groups beside the stream: PostgreSQL's jobs and the like. None of them takes the stream down.

use std::sync::Arc;
use std::time::Duration;

use ftap_actors::change_capture::ChangeCapture;
use ftap_actors::clock::Clock;
use ftap_actors::cron_clock::CronClock;
use ftap_actors::fx_fetcher::{self, FxFetcher};
use ftap_actors::user_mutator::{self, UserMutator};
use ftap_actors::watcher::Watcher;
use ftap_cdc::capture::CaptureParts;
use ftap_fx::job::FxJob;
use ftap_postgres::Database;
use ftap_postgres::{UPDATE_USERS, UpdateSettings, UserUpdates};
use ftap_schedule::{Schedule, SystemTime};
use ftap_supervision::Health;
use ftap_supervision::SupervisionContext;
use ftap_supervision::{Group, GroupEnd, Stages, supervise};
use ftap_watch::{Look, Watched};
use futures::FutureExt as _;
use futures::future::LocalBoxFuture;
use tokio::sync::Mutex;

use super::MAILBOX;

/// A group that runs beside the stream: given supervision, it runs to its end.
pub struct Side(Box<dyn FnOnce(SupervisionContext) -> SideEnd>);

/// The group's name and how it ended.
pub type SideEnd = LocalBoxFuture<'static, (&'static str, GroupEnd)>;

impl Side {
    /// A side of one group.
    pub fn new(group: impl Group + 'static) -> Self {
        Self(Box::new(move |context| {
            let name = group.name();
            supervise(group, context)
                .map(move |end| (name, end))
                .boxed_local()
        }))
    }

    /// Starts it.
    pub(super) fn start(self, context: SupervisionContext) -> SideEnd {
        self.0(context)
    }
}

/// Changes users by a schedule: `cron_clock ──▶ user_mutator ══▶ PostgreSQL`.
pub struct UserUpdatesGroup {
    /// The database.
    pub database: Database,
    /// When.
    pub schedule: Schedule,
    /// How.
    pub settings: UpdateSettings,
    /// The process has nothing else to do: without PostgreSQL this is a failure.
    pub is_all: bool,
    /// Notified while a prepared file can't be loaded.
    pub health: Arc<Health>,
}

impl Group for UserUpdatesGroup {
    fn name(&self) -> &'static str {
        user_mutator::GROUP
    }

    /// What a run has not committed has not happened; the next start sees that.
    fn finishes_before_stop(&self) -> bool {
        false
    }

    fn start(&mut self, stages: &mut Stages) {
        let mutator = stages.mailbox::<UserMutator>("user_mutator", MAILBOX);
        let clock = stages.mailbox::<CronClock>("cron_clock", MAILBOX);
        let to_mutator = mutator.outbox();
        let job = UserUpdates::new(self.database.clone(), self.settings);
        let (is_all, health) = (self.is_all, self.health.clone());
        stages.spawn(mutator, move |stage| {
            UserMutator::new(stage, job, is_all, health)
        });
        let schedule = self.schedule.clone();
        stages.spawn(clock, move |stage| {
            CronClock::new(
                stage,
                UPDATE_USERS,
                schedule,
                Arc::new(SystemTime),
                to_mutator,
            )
        });
    }
}

/// Fetches FX rates by a schedule: `fx_clock ──▶ fx_fetcher ══▶ lake`.
pub struct FxRatesGroup {
    /// What is run.
    pub job: Arc<FxJob>,
    /// When.
    pub schedule: Schedule,
    /// Notified while the lake does not answer.
    pub health: Arc<Health>,
}

impl Group for FxRatesGroup {
    fn name(&self) -> &'static str {
        "fx_rates"
    }

    /// An object is there whole or not at all; the next start sees that.
    fn finishes_before_stop(&self) -> bool {
        false
    }

    fn start(&mut self, stages: &mut Stages) {
        let fetcher = stages.mailbox::<FxFetcher>("fx_fetcher", MAILBOX);
        let clock = stages.mailbox::<CronClock>("fx_clock", MAILBOX);
        let to_fetcher = fetcher.outbox();
        let job = self.job.clone();
        let health = self.health.clone();
        stages.spawn(fetcher, move |stage| FxFetcher::new(stage, job, health));
        let schedule = self.schedule.clone();
        stages.spawn(clock, move |stage| {
            CronClock::new(
                stage,
                fx_fetcher::JOB,
                schedule,
                Arc::new(SystemTime),
                to_fetcher,
            )
        });
    }
}

/// Captures changes: `PostgreSQL ══▶ change_capture ══▶ lake`.
pub struct ChangesGroup {
    /// What the capture needs.
    pub parts: CaptureParts,
}

impl Group for ChangesGroup {
    fn name(&self) -> &'static str {
        "changes"
    }

    fn start(&mut self, stages: &mut Stages) {
        let mailbox = stages.mailbox::<ChangeCapture>("change_capture", MAILBOX);
        let parts = self.parts.clone();
        stages.spawn(mailbox, move |stage| ChangeCapture::new(stage, parts));
    }
}

/// Watches one of the platform's services: `clock ──▶ watcher ──▶ Kafka, lake or PostgreSQL`.
pub struct WatchGroup<L: Look> {
    name: &'static str,
    /// Outlives a generation, and so does what it remembers.
    look: Arc<Mutex<L>>,
    interval: Duration,
    watched: Arc<Watched>,
}

impl<L: Look> WatchGroup<L> {
    /// Notes there what the look brings, again after each interval.
    pub fn new(name: &'static str, look: L, interval: Duration, watched: &Arc<Watched>) -> Self {
        // From the start: what was never seen is not up.
        watched.expect::<L>();
        Self {
            name,
            look: Arc::new(Mutex::new(look)),
            interval,
            watched: watched.clone(),
        }
    }
}

impl<L: Look> Group for WatchGroup<L> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn finishes_before_stop(&self) -> bool {
        false
    }

    fn start(&mut self, stages: &mut Stages) {
        let watcher = stages.mailbox::<Watcher<L>>(self.name, MAILBOX);
        let clock = stages.mailbox::<Clock>("clock", MAILBOX);
        let to_watcher = watcher.outbox();
        let (look, watched) = (self.look.clone(), self.watched.clone());
        let interval = self.interval;
        stages.spawn(watcher, move |stage| Watcher::new(stage, look, watched));
        stages.spawn(clock, move |_| Clock::new(interval, to_watcher));
    }
}
