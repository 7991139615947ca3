//! The card-transactions data set: [`generate`] makes one of the Kaggle file's shape, [`kaggle`]
//! downloads the original, [`prepare`] splits either into events, users and merchants.
//!
//! Promises: output files appear whole or not at all, memory is flat in the number of rows, and the
//! same generator options give the same bytes on any machine. Relies on nothing but a writable
//! directory; no function here prints, the caller shows progress.

pub mod error;
pub mod generate;
pub mod kaggle;
mod pending;
pub mod prepare;
pub mod schema;

pub use error::DatasetError;
use uuid::Uuid;

/// The identity of a cardholder: UUIDv5 in the DNS namespace of
/// `lower(trim(first)) + "|" + lower(trim(last))` (docs/DATA.md, section 2).
///
/// ```
/// let id = ftap_dataset::user_id("Jennifer", " Banks ");
/// assert_eq!(id.to_string(), "b3f6022d-7cd1-5592-8e02-20361131cbfa");
/// ```
#[must_use]
pub fn user_id(first: &str, last: &str) -> Uuid {
    let name = format!(
        "{}|{}",
        first.trim().to_lowercase(),
        last.trim().to_lowercase()
    );
    Uuid::new_v5(&Uuid::NAMESPACE_DNS, name.as_bytes())
}
