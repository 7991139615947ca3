//! The lake: objects that are created once, what they are called, and what they say of themselves.
//!
//! Promises: of the records of a Kafka partition each becomes exactly one row or one
//! listed rejection of one object, whatever is killed when. Three layers:
//!
//! - `store` knows objects and bytes: one create-only put, one checked listing;
//! - `datasets`, `naming`, `footer`, `chain`, `rolling` and `queue` are the rules, without I/O;
//!   `file`, `dead_letters` and `writer` build an object in memory by them;
//! - `put` and `listing` join the two, and `stage` repeats what they do until the lake answers.
//!
//! Relies on the store's create-only put and on offsets never being reused within a topic's life.

mod chain;
mod checksum;
mod datasets;
mod dead_letters;
mod error;
mod file;
mod footer;
mod gcs;
mod leftovers;
mod listing;
mod local;
mod naming;
mod outage;
mod patience;
mod position;
mod put;
mod queue;
mod refusal;
mod rolling;
mod settings;
mod stage;
mod store;
mod whole_listings;
mod writer;

pub use chain::{
    ChainError, Joint, SkipCause, Skipped, Start, StartFrom, check_continuation, joint,
    on_already_exists, start_offset,
};
pub use checksum::{Checksum, ChecksumError, checksum_of};
pub use datasets::{
    CAPTURED_TABLES, CHECKPOINTS_FOLDER, DATA_SETS, DEAD_LETTERS, DataSet, DayFolders, DayOf,
    FRAUD_SCORES, FX_RATES, LOADS_FOLDER, TRANSACTIONS, change,
};
pub use dead_letters::{
    DeadLetterBuilder, DeadLetterFooter, Header, RejectedRecord, dead_letter_schema,
    dead_letters_of, footer_if_it_counts, list_dead_letters, read_dead_letters,
};
pub use error::{FileError, LakeError, LakeFailure};
pub use file::{Appended, BATCH_ROWS, FileBuilder, FileSettings};
pub use footer::{
    Adoption, Codec, Flag, Footer, FooterError, FooterField, FooterFormat, Hash, NoConflict,
    OptionalNumber, OptionalText, Pairs, RejectedRange, Text, TransactionFooter, WholeNumber,
    footer_table,
};
pub use gcs::gcs_credentials;
pub use listing::{ChainEnd, chain_ends, check_topic, objects_of, read_footer, read_footers};
pub use naming::{
    ChangeObjectName, ChangePart, DeadLetterName, FxObjectName, NameError, ObjectName,
    ScoresObjectName, date_of_micros, date_of_millis, parse_date, unfit_topic,
};
pub use position::{Lsn, LsnError, Position};
pub use put::{ClosedFile, PutError, PutResult, put};
pub use queue::PutQueue;
pub use refusal::error_text;
pub use rolling::{CloseReason, MAX_REJECTED_RANGES, should_close};
pub use settings::{LakeLocation, RollingSettings};
pub use stage::StageLake;
pub use store::{LakeStore, ListedObject, PutOutcome};
pub use writer::{Compression, FileWriter, properties};
