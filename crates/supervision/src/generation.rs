//! One life of a group: its number, its fence, its first fault.
//!
//! What a failed generation left behind (a thread that hangs in a system call,
//! a reply that comes late) finds the fence down and does no harm: every effect
//! outside the process is preceded by [`Generation::is_fenced`].

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;
use std::thread::JoinHandle;
use std::time::Duration;

use ftap_telemetry::events::StageName;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use super::control::Control;
use super::failure::{Entry, Failure, FailureKind as _, Internal};
use super::graph::{Way, Wired};
use super::progress::Progress;

/// How a stage failed.
#[derive(Clone, Debug)]
pub enum FaultCause {
    /// It panicked with this text.
    Panicked(String),
    /// It ended with an error.
    Failed(Failure),
    /// It had work and made no step for this long.
    Stuck(Duration),
    /// It stopped without being asked.
    Exited,
}

impl FaultCause {
    /// Every name.
    pub(super) const NAMES: [&str; 4] = ["panic", "error", "stuck", "exit"];

    /// Lower-case name for logs and labels.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Panicked(_) => "panic",
            Self::Failed(_) => "error",
            Self::Stuck(_) => "stuck",
            Self::Exited => "exit",
        }
    }

    /// What is known of its kind; a stage that ended without an error is a bug.
    pub(super) fn entry(&self) -> Entry {
        match self {
            Self::Failed(failure) => failure.entry(),
            Self::Panicked(_) | Self::Stuck(_) | Self::Exited => Internal::Bug.entry(),
        }
    }
}

/// The first thing that went wrong in a generation.
#[derive(Clone, Debug)]
pub struct Fault {
    pub stage: StageName,
    /// How it failed.
    pub cause: FaultCause,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: ", self.stage)?;
        match &self.cause {
            FaultCause::Panicked(text) => write!(f, "panic: {text}"),
            FaultCause::Failed(error) => write!(f, "{error}"),
            FaultCause::Stuck(time) => {
                write!(
                    f,
                    "stuck: work in hand and no step for {:.1} s",
                    time.as_secs_f64()
                )
            }
            FaultCause::Exited => write!(f, "stopped without being asked"),
        }
    }
}

type Hook = Box<dyn FnOnce() + Send>;

struct Inner {
    number: u64,
    control: Control,
    fenced: AtomicBool,
    finished: AtomicBool,
    stop: watch::Sender<bool>,
    ready: watch::Sender<bool>,
    fault: Mutex<Option<Fault>>,
    changed: Notify,
    threads: Mutex<Vec<(StageName, JoinHandle<()>)>>,
    progress: Mutex<Vec<(StageName, Arc<Progress>)>>,
    ways: Mutex<Vec<Way>>,
    abandon_hooks: Mutex<Vec<Hook>>,
}

/// Shared handle of one generation.
#[derive(Clone)]
pub struct Generation(Arc<Inner>);

impl std::fmt::Debug for Generation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Generation({})", self.0.number)
    }
}

impl Generation {
    /// Generation `number`, from 1, of a group that is asked for things by `control`.
    pub(crate) fn new(number: u64, control: Control) -> Self {
        Self(Arc::new(Inner {
            number,
            control,
            fenced: AtomicBool::new(false),
            finished: AtomicBool::new(false),
            stop: watch::Sender::new(false),
            ready: watch::Sender::new(false),
            fault: Mutex::new(None),
            changed: Notify::new(),
            threads: Mutex::new(Vec::new()),
            progress: Mutex::new(Vec::new()),
            ways: Mutex::new(Vec::new()),
            abandon_hooks: Mutex::new(Vec::new()),
        }))
    }

    pub fn number(&self) -> u64 {
        self.0.number
    }

    /// What a person asks of the group.
    pub fn control(&self) -> &Control {
        &self.0.control
    }

    /// Takes from this generation the right to act outside the process.
    pub fn fence(&self) {
        self.0.fenced.store(true, SeqCst);
    }

    /// Whether it has lost that right.
    pub fn is_fenced(&self) -> bool {
        self.0.fenced.load(SeqCst)
    }

    /// Asks the stages to finish what they have and end.
    pub(crate) fn request_stop(&self) {
        self.0.stop.send_replace(true);
    }

    /// Whether that was asked.
    pub fn stop_requested(&self) -> bool {
        *self.0.stop.borrow()
    }

    /// Resolves when a stop is asked for.
    pub async fn stop_request(&self) {
        let mut stop = self.0.stop.subscribe();
        // The sender lives in `self`, so waiting can't fail.
        let _ = stop.wait_for(|stop| *stop).await;
    }

    /// Says that the group has reached what it needs and does its work.
    pub fn ready(&self) {
        self.0.ready.send_replace(true);
    }

    /// Resolves when the group is ready.
    pub async fn readiness(&self) {
        let mut ready = self.0.ready.subscribe();
        // The sender lives in `self`, so waiting can't fail.
        let _ = ready.wait_for(|ready| *ready).await;
    }

    /// Says that the group has done all it had to do.
    pub fn finish(&self) {
        self.0.finished.store(true, SeqCst);
        self.0.changed.notify_waiters();
    }

    /// Notes a fault; the first one is the root cause, later ones are its consequences.
    pub fn fail(&self, stage: StageName, cause: FaultCause) {
        let mut first = self.0.fault.lock();
        if first.is_none() {
            *first = Some(Fault { stage, cause });
        }
        drop(first);
        self.0.changed.notify_waiters();
    }

    /// The root cause, if there is one.
    pub fn fault(&self) -> Option<Fault> {
        self.0.fault.lock().clone()
    }

    /// Waits for the first fault or the finish; a fault comes first.
    pub async fn ended(&self) -> Option<Fault> {
        loop {
            let changed = self.0.changed.notified();
            tokio::pin!(changed);
            // Registered before looking, so that no notification falls between.
            changed.as_mut().enable();
            if let Some(fault) = self.fault() {
                return Some(fault);
            }
            if self.0.finished.load(SeqCst) {
                return None;
            }
            changed.await;
        }
    }

    /// Registers what must be done on behalf of a thread that hangs and is left
    /// behind, such as leaving a consumer group. It runs on another thread.
    pub fn on_abandon(&self, hook: impl FnOnce() + Send + 'static) {
        self.0.abandon_hooks.lock().push(Box::new(hook));
    }

    pub(super) fn run_abandon_hooks(&self) {
        let hooks = std::mem::take(&mut *self.0.abandon_hooks.lock());
        for hook in hooks {
            hook();
        }
    }

    pub(super) fn add_progress(&self, stage: StageName, progress: Arc<Progress>) {
        self.0.progress.lock().push((stage, progress));
    }

    pub(super) fn progress(&self) -> Vec<(StageName, Arc<Progress>)> {
        self.0.progress.lock().clone()
    }

    /// Notes a way; several stages of a kind have the same.
    pub(super) fn add_way(&self, way: Way) {
        let mut ways = self.0.ways.lock();
        if !ways.contains(&way) {
            ways.push(way);
        }
    }

    pub(super) fn wired(&self) -> Wired {
        Wired {
            stages: self.progress(),
            ways: self.0.ways.lock().clone(),
        }
    }

    pub(super) fn add_thread(&self, stage: StageName, thread: JoinHandle<()>) {
        self.0.threads.lock().push((stage, thread));
    }

    pub(super) fn take_threads(&self) -> Vec<(StageName, JoinHandle<()>)> {
        std::mem::take(&mut *self.0.threads.lock())
    }
}
