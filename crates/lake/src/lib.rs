//! The delivery protocol of the lake.
//!
//! Promises: of the records of a Kafka partition each becomes exactly one row or one
//! listed rejection of one object, whatever is killed when. [`naming`], [`footer`],
//! [`rolling`], [`queue`] and [`chain`] are the rules, without I/O; [`file`] builds an object in
//! memory, [`store`] is the only part that touches a disk or a network. Relies on the
//! store's create-only put and on offsets never being reused within a topic's life.

pub mod chain;
pub mod checksum;
pub mod error;
pub mod file;
pub mod footer;
pub mod gcs;
mod leftovers;
mod local;
pub mod naming;
mod outage;
pub mod pairs;
mod patience;
pub mod queue;
mod refusal;
mod retries;
pub mod rolling;
mod scan;
mod settings;
pub mod store;
mod whole_listings;

pub use chain::{Adoption, ChainError, Start, on_already_exists, start_offset};
pub use checksum::checksum_of;
pub use error::{LakeError, LakeFailure};
pub use file::{Appended, ClosedFile, FileBuilder, FileSettings};
pub use footer::{Footer, RejectedRange};
pub use naming::ObjectName;
pub use outage::LakeOutage;
pub use patience::patiently;
pub use refusal::error_text;
pub use retries::Retries;
pub use rolling::CloseReason;
pub use settings::{LakeLocation, RollingSettings};
pub use store::{ChainEnd, LakeStore, PutOutcome};
