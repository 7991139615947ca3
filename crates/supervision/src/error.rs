//! Why a stage failed, where the failure belongs and whether a restart can help.
//!
//! One table, [`ErrorKind::retry`], decides for every kind of error in the crate.

use std::fmt;

/// What an error belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Domain {
    /// The events file and its checkpoint.
    Source,
    /// The broker, its topics and groups.
    Kafka,
    /// The Parquet lake.
    Lake,
    /// PostgreSQL and its tables.
    Postgres,
    /// BigQuery and its tables.
    BigQuery,
    /// The program itself.
    Internal,
}

impl Domain {
    /// Lower-case name for logs and labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Kafka => "kafka",
            Self::Lake => "lake",
            Self::Postgres => "postgres",
            Self::BigQuery => "bigquery",
            Self::Internal => "internal",
        }
    }
}

/// Whether a restart can help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// Waiting may mend it.
    Helps,
    /// Somebody must change something first.
    Hopeless,
}

/// Kinds of failure, each with one fate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The events file can't be read.
    SourceUnreadable,
    /// The events file is not what it should be.
    SourceInvalid,
    /// The topic does not continue this events file.
    PublishConflict,
    /// A broker does not answer or answers with a passing error.
    KafkaUnavailable,
    /// As many tries as `KAFKA_MAX_RETRIES` allows have failed.
    KafkaRetriesExhausted,
    /// The broker refuses: authorisation, unknown topic with creation forbidden, bad property.
    KafkaRefused,
    /// Another publisher with our transactional id took over.
    PublisherFenced,
    /// The lake does not answer.
    LakeUnavailable,
    /// The lake refuses, or holds what contradicts the topic.
    LakeConflict,
    /// PostgreSQL does not answer, or refuses for the moment: no connection left, read-only.
    PostgresUnavailable,
    /// PostgreSQL refuses for good: login, permission, another schema, wal_level.
    PostgresRefused,
    /// The lake's changes and PostgreSQL's slot contradict each other.
    ChangesConflict,
    /// BigQuery does not answer, or refuses for the moment.
    BigQueryUnavailable,
    /// BigQuery refuses for good: permission, project, a table's columns, a manifest that is gone.
    BigQueryRefused,
    /// A neighbour in the group is gone; its own fault is the root cause.
    NeighbourGone,
    /// Asked for by a test.
    Injected,
    /// A fault of the program.
    Bug,
}

impl ErrorKind {
    /// The one table that decides about restarts.
    pub fn retry(self) -> Retry {
        match self {
            Self::SourceUnreadable
            | Self::KafkaUnavailable
            | Self::PublisherFenced
            | Self::LakeUnavailable
            | Self::PostgresUnavailable
            | Self::BigQueryUnavailable
            | Self::NeighbourGone
            | Self::Injected
            | Self::Bug => Retry::Helps,
            Self::SourceInvalid
            | Self::PublishConflict
            | Self::KafkaRetriesExhausted
            | Self::KafkaRefused
            | Self::LakeConflict
            | Self::PostgresRefused
            | Self::ChangesConflict
            | Self::BigQueryRefused => Retry::Hopeless,
        }
    }

    /// Where the error belongs.
    pub fn domain(self) -> Domain {
        match self {
            Self::SourceUnreadable | Self::SourceInvalid => Domain::Source,
            Self::PublishConflict
            | Self::KafkaUnavailable
            | Self::KafkaRetriesExhausted
            | Self::KafkaRefused
            | Self::PublisherFenced => Domain::Kafka,
            Self::LakeUnavailable | Self::LakeConflict => Domain::Lake,
            Self::PostgresUnavailable | Self::PostgresRefused | Self::ChangesConflict => {
                Domain::Postgres
            }
            Self::BigQueryUnavailable | Self::BigQueryRefused => Domain::BigQuery,
            Self::NeighbourGone | Self::Injected | Self::Bug => Domain::Internal,
        }
    }

    /// What a user can do when the program has given up over it.
    pub fn remedy(self) -> &'static str {
        match self {
            Self::SourceUnreadable => "check that EVENTS_FILE exists and can be read",
            Self::SourceInvalid => "prepare the file anew: `ftap prepare FILE`",
            Self::PublishConflict => {
                "publish to another KAFKA_TOPIC, or delete the topic and the lake's files of it"
            }
            Self::KafkaUnavailable | Self::KafkaRetriesExhausted => {
                "check KAFKA_BROKER and that the broker runs; KAFKA_MAX_RETRIES=0 waits for ever"
            }
            Self::KafkaRefused => {
                "check the settings that the error names, the topic, its permissions and KAFKA_EXTRA"
            }
            Self::PublisherFenced => {
                "let one publisher feed the topic, or give each its own KAFKA_TRANSACTIONAL_ID and topic"
            }
            Self::LakeUnavailable => "check that the lake can be reached and written",
            Self::LakeConflict => {
                "the lake and the topic contradict each other: use another KAFKA_TOPIC, or another lake together with another KAFKA_CONSUMER_GROUP, or move the named files away"
            }
            Self::PostgresUnavailable => {
                "check that PostgreSQL runs, takes changes and has connections left; `ftap run` with POSTGRES=off does without"
            }
            Self::PostgresRefused => {
                "mend what the error names: the server, its role or its tables; `ftap run` with POSTGRES=off does without"
            }
            Self::ChangesConflict => {
                "check that POSTGRES_HOST, CDC_SLOT and the lake belong together; `ftap cdc --resnapshot` makes the slot and the copies of the tables anew"
            }
            Self::BigQueryUnavailable => {
                "check that BigQuery can be reached; what is in the lake is loaded when it can"
            }
            Self::BigQueryRefused => {
                "mend what the error names and start again, or run `ftap load`: what is in the lake waits for it"
            }
            Self::NeighbourGone | Self::Injected | Self::Bug => {
                "see the root cause in the log; if it is a fault of ftap, please report it"
            }
        }
    }
}

/// An error that ends a stage.
#[derive(Clone, Debug)]
pub struct StageError {
    kind: ErrorKind,
    message: String,
}

impl StageError {
    /// An error of a kind, with a message that names the thing and its value.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
        }
    }

    /// Its kind.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }
}

impl fmt::Display for StageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for StageError {}
