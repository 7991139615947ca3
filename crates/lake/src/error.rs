//! What can go wrong with the lake, and whether waiting helps.

use std::error::Error;
use std::path::PathBuf;

use arrow_schema::ArrowError;
use ftap_supervision::{Entry, Failure, FailureKind, Retry, Retryable};
use parquet::errors::ParquetError;

use crate::chain::ChainError;
use crate::naming::NameError;

/// Kinds of failure of the lake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LakeFailure {
    /// The lake does not answer.
    Unavailable,
    /// The lake, or something in it, can't be used: the error has the remedy.
    Refused,
    /// The lake and the topic contradict each other.
    Conflict,
}

impl FailureKind for LakeFailure {
    fn entry(self) -> Entry {
        match self {
            Self::Unavailable => Entry {
                name: "lake_unavailable",
                domain: "lake",
                retry: Retry::Transient,
                remedy: "check that the lake can be reached and written",
            },
            Self::Refused => Entry {
                name: "lake_refused",
                domain: "lake",
                retry: Retry::Permanent,
                remedy: "nothing is lost: after that, the next start continues from here",
            },
            Self::Conflict => Entry {
                name: "lake_conflict",
                domain: "lake",
                retry: Retry::Permanent,
                remedy: "the lake and the topic contradict each other: use another KAFKA_TOPIC, or another lake together with another KAFKA_CONSUMER_GROUP, or move the named files away",
            },
        }
    }
}

/// An error of the lake. No message holds a credential or the query of a URL.
#[derive(Debug, thiserror::Error)]
pub enum LakeError {
    /// A local path can't be used at the moment.
    #[error("can't {action} {path}: {source}; {remedy}", path = path.display())]
    Path {
        /// What was tried.
        action: &'static str,
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
        remedy: &'static str,
        /// Whether waiting helps.
        retry: Retry,
    },
    /// The file with the account's key can't be used.
    #[error("credentials file {path} {problem}; set GOOGLE_APPLICATION_CREDENTIALS to the JSON key file of a service account, or to that of your own login, which `gcloud auth application-default login` writes", path = path.display())]
    Credentials {
        /// The file.
        path: PathBuf,
        /// What is wrong with it; nothing of its content.
        problem: String,
    },
    /// A setting of the lake can't be used.
    #[error("{setting} is {value:?}: {problem}")]
    Setting {
        setting: &'static str,
        value: String,
        problem: String,
    },
    /// The store refused or failed.
    #[error("{store}: can't {action} {key}: {detail}; {remedy}")]
    Store {
        /// The store, see `LakeStore::describe`.
        store: String,
        /// What was tried.
        action: &'static str,
        /// The object or folder.
        key: String,
        /// The store's answer.
        detail: String,
        remedy: &'static str,
        /// Whether waiting helps.
        retry: Retry,
    },
    /// An object that can't be read as a file of this lake.
    #[error("{key} is not a readable lake file: {source}; restore it from a copy")]
    Object {
        key: String,
        source: Box<dyn Error + Send + Sync>,
    },
    /// The lake holds another topic's rows, and none of this one's.
    #[error(
        "{store} holds the rows of topic {found}, and KAFKA_TOPIC is {topic}: rows of both would be in one folder and counted together. Give {topic} a lake of its own with LAKE_DIR or GCS_BUCKET_NAME, or set KAFKA_TOPIC={found}"
    )]
    OtherTopic {
        /// The store, see `LakeStore::describe`.
        store: String,
        /// The topic in the lake.
        found: String,
        topic: String,
    },
    /// The lake can't name objects after the topic.
    #[error(
        "KAFKA_TOPIC is {topic}, and the lake's files are named after it: {problem}; rename the topic, or copy it into one with another name and set KAFKA_TOPIC to that"
    )]
    TopicName {
        topic: String,
        /// Which readers or file systems it does not suit.
        problem: String,
    },
}

/// A file that can't be built.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// A name that can't be an object's.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The compression can't be used.
    #[error("ZSTD_LEVEL is {0}: expected a zstd level from 1 to 22")]
    Level(i32),
    /// Changes of a table that no data set holds; a bug of the caller.
    #[error("table {0} is not captured: report this as a bug")]
    NotCaptured(String),
    /// Records that are out of order; a bug of the caller.
    #[error(
        "record at offset {offset} can't follow offset {last} in the file of {name}; restart from the file's first offset"
    )]
    OffsetOrder {
        /// The file.
        name: String,
        /// The record's offset.
        offset: i64,
        /// What came before; for the first record, what was announced.
        last: i64,
    },
    /// A file without any record; a bug of the caller.
    #[error("the file of {0} holds no record, so there is nothing to close")]
    EmptyFile(String),
    /// Columns could not be built.
    #[error("can't build the columns of {name}: {source}")]
    Arrow {
        /// The file.
        name: String,
        source: ArrowError,
    },
    /// Columns could not be encoded.
    #[error("can't encode {name} as Parquet: {source}")]
    Parquet {
        /// The file.
        name: String,
        source: ParquetError,
    },
}

impl LakeError {
    /// An object that can't be read.
    pub fn object(key: &str, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Object {
            key: key.to_owned(),
            source: source.into(),
        }
    }
}

impl Retryable for LakeError {
    fn retry(&self) -> Retry {
        match self {
            Self::Path { retry, .. } | Self::Store { retry, .. } => *retry,
            Self::Credentials { .. }
            | Self::Setting { .. }
            | Self::Object { .. }
            | Self::OtherTopic { .. }
            | Self::TopicName { .. } => Retry::Permanent,
        }
    }
}

impl Retryable for FileError {
    fn retry(&self) -> Retry {
        match self {
            // A generation that starts again from the lake's end fixes these two.
            Self::OffsetOrder { .. } | Self::EmptyFile(_) => Retry::Transient,
            Self::Name(_)
            | Self::Level(_)
            | Self::NotCaptured(_)
            | Self::Arrow { .. }
            | Self::Parquet { .. } => Retry::Permanent,
        }
    }
}

fn kind_of(retry: Retry) -> LakeFailure {
    match retry {
        Retry::Transient | Retry::Later => LakeFailure::Unavailable,
        // Its few tries are over.
        Retry::Briefly | Retry::Permanent => LakeFailure::Refused,
    }
}

impl From<LakeError> for Failure {
    fn from(error: LakeError) -> Self {
        Self::from_error(kind_of(error.retry()), error)
    }
}

impl From<FileError> for Failure {
    fn from(error: FileError) -> Self {
        Self::from_error(kind_of(error.retry()), error)
    }
}

impl From<ChainError> for Failure {
    fn from(error: ChainError) -> Self {
        Self::from_error(LakeFailure::Conflict, error)
    }
}
