//! Supervision: groups of stages that live and die together as generations.
//!
//! actix' own `Supervisor` neither survives a panic nor backs off. Here every
//! stage runs on an arbiter of its own under a wrapper that sees panics, errors
//! and stops alike ([`Stages::spawn`]); a [`Generation`] fences whatever a failed group
//! left behind; [`supervise`] starts generations until the group
//! finishes, is stopped, or no restart can help; [`Controls`] are what people may ask of
//! running groups. Stages reach each other by an [`Outbox`].
//! What may fail for a moment is repeated under a [`Backoff`], by stages and by everything else.

mod control;
pub mod failpoint;
mod failure;
mod generation;
mod graph;
mod group;
mod health;
mod memory;
mod outbox;
mod progress;
mod restarts;
mod retry;
mod settings;
mod stage;

pub use control::{Asked, Command, Control, Controls, Refusal};
pub use failure::{Entry, Failure, FailureKind, Internal, Retry};
pub use ftap_telemetry::events::StageName;
pub use generation::{Fault, FaultCause, Generation};
pub use graph::{Graph, StageWork, Way};
pub use group::{Group, GroupEnd, SupervisionContext, supervise};
pub use health::{GroupHealth, GroupState, Health};
pub use memory::{MemoryBudget, Permit};
pub use outbox::{Handed, Outbox};
pub use progress::{Progress, Work, is_work_under_way};
pub use retry::{Backoff, Pause, Retries, Retryable};
pub use settings::SupervisionSettings;
pub use stage::{Mailbox, Stage, Stages, panic_text};
