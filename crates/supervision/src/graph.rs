//! What a group is made of, for pictures: its stages, and the ways between them.
//!
//! Costs nothing while work passes: ways are noted when a generation is wired, and the work in hand is read
//! when a picture is drawn.

use std::sync::Arc;

use ftap_telemetry::events::StageName;

use super::progress::Progress;

/// A way of messages between two stages, or of data between a stage and a place outside of the group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    /// A stage's kind, or a place.
    pub from: &'static str,
    /// The same.
    pub to: &'static str,
    /// The message's type; empty to and from places.
    pub message: &'static str,
}

impl Way {
    pub(crate) fn of_messages<M>(from: StageName, to: StageName) -> Self {
        let name = std::any::type_name::<M>();
        Self {
            from: from.kind(),
            to: to.kind(),
            message: name.rsplit("::").next().unwrap_or(name),
        }
    }
}

/// A stage and the work it has in hand, messages in its mailbox included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StageWork {
    pub name: StageName,
    pub in_hand: u64,
}

/// One look at a group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Graph {
    pub stages: Vec<StageWork>,
    pub ways: Vec<Way>,
}

/// How a generation is wired.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wired {
    pub(crate) stages: Vec<(StageName, Arc<Progress>)>,
    pub(crate) ways: Vec<Way>,
}

impl Wired {
    pub(crate) fn graph(&self) -> Graph {
        let stages = self.stages.iter().map(|(name, progress)| StageWork {
            name: *name,
            in_hand: progress.pending(),
        });
        Graph {
            stages: stages.collect(),
            ways: self.ways.clone(),
        }
    }
}
