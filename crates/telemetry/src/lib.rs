//! What ftap reports about itself: log events and metrics, each declared once.

pub mod events;
pub mod metrics;
