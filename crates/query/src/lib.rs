//! SQL over the lake.
//!
//! Promises: every data set is a table of the objects that one checked listing found, every model of `dbt/` a
//! view of them, so that a query sees one moment; nothing is written; memory, time and depth are bounded. The
//! engine is DataFusion. Relies on objects never changing once they are there.

mod comparison;
mod depth;
mod engine;
#[cfg(test)]
mod engine_tests;
mod error;
mod format;
mod functions;
mod json_text;
mod kept;
mod models;
mod moment;
mod table;
mod text_hash;

pub use depth::STACK_BYTES;
pub use engine::{Answer, Engine, Limits, Source};
pub use error::{Position, QueryError, nearest};
pub use format::{Format, Written, write};
pub use models::{Model, ModelColumn, ModelError, ModelTest, models};
