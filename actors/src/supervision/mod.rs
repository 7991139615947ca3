//! Supervision: groups of stages that live and die together as generations.
//!
//! actix' own `Supervisor` neither survives a panic nor backs off. Here every
//! stage runs on an arbiter of its own under a wrapper that sees panics, errors
//! and stops alike ([`stage`]); a [`Generation`] fences whatever a failed group
//! left behind; [`group::supervise`] starts generations until the group
//! finishes, is stopped, or no restart can help.

pub mod backoff;
pub mod error;
pub mod generation;
pub mod group;
pub mod progress;
pub mod stage;

pub use error::{Domain, ErrorKind, Retry, StageError};
pub use generation::{Fault, FaultCause, Generation};
pub use group::{Group, GroupEnd, supervise};
pub use progress::Progress;
pub use stage::{Stage, Stages};
