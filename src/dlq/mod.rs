//! Quarantine: what stands in the dead-letter topic or in the lake, and how repaired records go back.
//!
//! An entry is named by where its record came from. It is open until it is redriven: then the
//! dead-letter topic has a mark under the same key, written in one transaction with the
//! repaired message. Relies on an entry not outliving its mark, which is younger and in the
//! same partition, and on both outliving the time in which a redrive may be repeated.
//!
//! An entry of the lake has no mark: the repaired message itself is looked for, by its header. It follows
//! the record in the record's partition, so an entry is open only as long as the topic has all that
//! follows the record; after that its state is unknown.

pub(crate) mod args;
pub(crate) mod index;
pub(crate) mod lake;
pub(crate) mod line;
pub(crate) mod plan;
pub(crate) mod sender;
pub(crate) mod settled;
pub(crate) mod shown;
