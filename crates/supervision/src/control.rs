//! What a person may ask of a running group: to flush, to pause, to resume, to restart.
//!
//! Promises that a pause is the process's: a group that restarts meanwhile, for whatever reason, stays paused.
//! Stages obey by `generation().control()`, a restart is the supervisor's. The one who asks knows groups by name.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ftap_telemetry::events::{GroupCommanded, Speaker};
use parking_lot::Mutex;
use tokio::sync::watch;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Close the open files now.
    Flush,
    /// Take in nothing more.
    Pause,
    Resume,
    /// End this generation and start the next one.
    Restart,
}

impl Command {
    const ALL: [Self; 4] = [Self::Flush, Self::Pause, Self::Resume, Self::Restart];

    /// Lower-case name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Flush => "flush",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Restart => "restart",
        }
    }

    /// The command of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|command| command.as_str() == name)
    }
}

/// Why a command is not obeyed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No group of that name runs.
    NotRunning,
    /// Its stages do not know the command.
    NotTaken,
    AlreadyPaused,
    NotPaused,
}

/// The groups of a process that take commands.
#[derive(Clone, Debug, Default)]
pub struct Controls(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    paused: watch::Sender<BTreeSet<&'static str>>,
    groups: Mutex<BTreeMap<&'static str, Commanded>>,
}

#[derive(Debug)]
struct Commanded {
    takes: &'static [Command],
    switches: Arc<Switches>,
}

/// How often each was asked for.
#[derive(Debug, Default)]
struct Switches {
    flushes: watch::Sender<u64>,
    restarts: watch::Sender<u64>,
}

impl Controls {
    /// Has a group do something, and logs it.
    ///
    /// # Errors
    /// If there is no such group, or it can't do that, or has done it.
    pub fn ask(&self, group: &str, command: Command) -> Result<(), Refusal> {
        let groups = self.0.groups.lock();
        let (name, commanded) = groups.get_key_value(group).ok_or(Refusal::NotRunning)?;
        let is_resume = command == Command::Resume && commanded.takes.contains(&Command::Pause);
        if !is_resume && !commanded.takes.contains(&command) {
            return Err(Refusal::NotTaken);
        }
        let more = |count: &watch::Sender<u64>| count.send_modify(|count| *count += 1);
        match command {
            Command::Flush => more(&commanded.switches.flushes),
            Command::Restart => more(&commanded.switches.restarts),
            Command::Pause => {
                let is_new = self.pause(|paused| paused.insert(*name));
                is_new.then_some(()).ok_or(Refusal::AlreadyPaused)?;
            }
            Command::Resume => {
                let was_paused = self.pause(|paused| paused.remove(name));
                was_paused.then_some(()).ok_or(Refusal::NotPaused)?;
            }
        }
        GroupCommanded {
            group: group.to_owned(),
            command: command.as_str().to_owned(),
        }
        .emit(Speaker::PROCESS);
        Ok(())
    }

    /// What a group can be asked for now; nothing of one that does not run.
    pub fn of(&self, group: &str) -> Vec<Command> {
        let groups = self.0.groups.lock();
        let takes = groups.get(group).map_or(&[][..], |known| known.takes);
        let is_paused = self.0.paused.borrow().contains(group);
        let now = |command: &Command| match command {
            Command::Pause if is_paused => Command::Resume,
            other => *other,
        };
        takes.iter().map(now).collect()
    }

    /// The groups that are paused.
    pub fn paused(&self) -> watch::Receiver<BTreeSet<&'static str>> {
        self.0.paused.subscribe()
    }

    fn pause(&self, change: impl FnOnce(&mut BTreeSet<&'static str>) -> bool) -> bool {
        self.0.paused.send_if_modified(change)
    }

    /// A group takes commands until the value is dropped.
    pub(crate) fn register(&self, group: &'static str, takes: &'static [Command]) -> Registered {
        let switches = Arc::<Switches>::default();
        let commanded = Commanded {
            takes,
            switches: switches.clone(),
        };
        self.0.groups.lock().insert(group, commanded);
        Registered(Control {
            controls: self.clone(),
            group,
            switches,
        })
    }
}

pub(crate) struct Registered(pub(crate) Control);

impl Drop for Registered {
    fn drop(&mut self) {
        let Control {
            controls, group, ..
        } = &self.0;
        controls.0.groups.lock().remove(group);
        controls.pause(|paused| paused.remove(group));
    }
}

/// What is asked of one group.
#[derive(Clone, Debug)]
pub struct Control {
    controls: Controls,
    group: &'static str,
    switches: Arc<Switches>,
}

impl Control {
    pub fn is_paused(&self) -> bool {
        self.controls.0.paused.borrow().contains(self.group)
    }

    /// Resolves when the group is not paused.
    pub async fn resumed(&self) {
        let mut paused = self.controls.paused();
        // The sender lives in `self`, so waiting can't fail.
        let _ = paused.wait_for(|paused| !paused.contains(self.group)).await;
    }

    /// Notices pauses and their ends from now on, those of other groups as well.
    pub(crate) fn pauses(&self) -> Asked<BTreeSet<&'static str>> {
        Asked(self.controls.paused())
    }

    /// Notices flushes that are asked for from now on.
    pub fn flushes(&self) -> Asked {
        Asked(self.switches.flushes.subscribe())
    }

    /// Notices restarts that are asked for from now on.
    pub(crate) fn restarts(&self) -> Asked {
        Asked(self.switches.restarts.subscribe())
    }
}

/// Notices that something is asked for.
pub struct Asked<T = u64>(watch::Receiver<T>);

impl<T> Asked<T> {
    /// Whether it was asked for since this was last said.
    pub fn take(&mut self) -> bool {
        let is_asked = self.0.has_changed().unwrap_or(false);
        if is_asked {
            self.0.mark_unchanged();
        }
        is_asked
    }

    /// Resolves when it is asked for.
    pub async fn next(&mut self) {
        if self.0.changed().await.is_err() {
            // No one is left who could ask.
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_obeys_what_it_takes_once_while_it_runs() {
        let controls = Controls::default();
        assert_eq!(
            controls.ask("ingest", Command::Pause),
            Err(Refusal::NotRunning)
        );
        let registered = controls.register("ingest", &[Command::Pause, Command::Restart]);
        let control = registered.0.clone();
        let mut restarts = control.restarts();
        assert_eq!(
            controls.ask("ingest", Command::Flush),
            Err(Refusal::NotTaken)
        );
        assert_eq!(
            controls.ask("ingest", Command::Resume),
            Err(Refusal::NotPaused)
        );
        assert_eq!(controls.ask("ingest", Command::Pause), Ok(()));
        assert_eq!(
            controls.ask("ingest", Command::Pause),
            Err(Refusal::AlreadyPaused)
        );
        assert!(control.is_paused());
        assert_eq!(controls.of("ingest"), [Command::Resume, Command::Restart]);
        assert_eq!(controls.ask("ingest", Command::Restart), Ok(()));
        assert!(restarts.take() && !restarts.take());
        assert!(!control.restarts().take(), "that was before");
        assert!(control.is_paused(), "a restart ends no pause");
        drop(registered);
        assert!(controls.paused().borrow().is_empty() && controls.of("ingest").is_empty());
    }
}
