//! What ftap reports about itself: log events and metrics, each declared once.

mod chain;
pub mod events;
pub mod figures;
pub mod metrics;
pub mod troubles;

pub use chain::{chain, with_causes};
