//! What PostgreSQL's errors mean: whether waiting can help, and what to do.

use std::path::PathBuf;

use deadpool_postgres::PoolError;
use ftap_supervision::{Entry, Failure, FailureKind, Retry, Retryable};
use tokio_postgres::error::{DbError, SqlState};
use tokio_postgres::types::{WasNull, WrongType};

use super::{PostgresSettings, ServerAddress};

/// Kinds of failure of PostgreSQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PostgresFailure {
    /// It does not answer, or refuses for the moment: no connection left, read-only.
    Unavailable,
    /// It refuses: login, permission, another schema, wal_level.
    Refused,
    /// A prepared file is to blame; the next file may be loaded.
    BadFile,
}

impl FailureKind for PostgresFailure {
    fn entry(self) -> Entry {
        match self {
            Self::Unavailable => Entry {
                name: "postgres_unavailable",
                domain: "postgres",
                retry: Retry::Transient,
                remedy: "check that PostgreSQL runs, takes changes and has connections left; `ftap run` with POSTGRES=off does without",
            },
            Self::Refused => Entry {
                name: "postgres_refused",
                domain: "postgres",
                retry: Retry::Permanent,
                remedy: "fix what the error names: the server, its role or its tables; `ftap run` with POSTGRES=off does without",
            },
            Self::BadFile => Entry {
                name: "prepared_file_bad",
                domain: "source",
                retry: Retry::Permanent,
                remedy: "prepare the file again: `ftap prepare FILE`",
            },
        }
    }
}

/// What went wrong with PostgreSQL.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PostgresError {
    /// The server does not answer.
    #[error("PostgreSQL at {address} does not answer: {said}; {}", .address.when_silent())]
    Unavailable {
        address: ServerAddress,
        /// What the client said.
        said: String,
    },
    /// All of the server's connections are taken.
    #[error(
        "PostgreSQL at {address} has no connection left: {said}; raise its max_connections or lower POSTGRES_POOL_SIZE"
    )]
    OutOfConnections {
        address: ServerAddress,
        /// What the server said.
        said: String,
    },
    /// The server accepts no changes.
    #[error("PostgreSQL at {address} is read-only: {said}; {}", .address.when_read_only())]
    ReadOnly {
        address: ServerAddress,
        /// What the server said.
        said: String,
    },
    /// The role or its password is wrong, or the server wants none of us.
    #[error("PostgreSQL at {address} refuses the login: {said}; {}", .address.when_refused())]
    LoginRefused {
        address: ServerAddress,
        /// What the server said.
        said: String,
    },
    /// There is no such database.
    #[error("PostgreSQL at {address} has no such database: {said}; {}", .address.when_database_is_gone())]
    UnknownDatabase {
        address: ServerAddress,
        /// What the server said.
        said: String,
    },
    /// The role may not do what is needed.
    #[error("PostgreSQL at {address} does not permit it: {said}; grant it to that role{}", grant(.address, .said))]
    NotPermitted {
        address: ServerAddress,
        /// What the server said.
        said: String,
    },
    /// A table is not what `init/01_schema.sql` makes.
    #[error(
        "a table in PostgreSQL at {address} is not as init/01_schema.sql makes it: {said}; undo the change, or rename the table and start again"
    )]
    OtherSchema {
        address: ServerAddress,
        /// What the server said.
        said: String,
    },
    /// Logical decoding is off.
    #[error(
        "PostgreSQL at {address} does not decode its log: {said}; set wal_level = logical in postgresql.conf and restart the server"
    )]
    WalLevel {
        address: ServerAddress,
        /// What the server said.
        said: String,
    },
    /// Something in between does not replicate.
    #[error(
        "{address} is a connection pooler, not the PostgreSQL server itself, and replicates nothing: {said}; set POSTGRES_HOST and POSTGRES_PORT to the server's own address for change capture"
    )]
    Pooler {
        address: ServerAddress,
        /// What the pooler said.
        said: String,
    },
    /// A publication leaves out what must be captured.
    #[error("the publication in PostgreSQL at {address} is not enough: {said}")]
    Publication {
        address: ServerAddress,
        /// What it lacks, and the remedy.
        said: String,
    },
    /// A table can't be captured as it is.
    #[error("table {table} in PostgreSQL at {address} can't be captured: {why}; {remedy}")]
    Table {
        address: ServerAddress,
        /// Its schema and name.
        table: String,
        why: String,
        /// The statement that helps.
        remedy: String,
    },
    /// All replication slots are taken.
    #[error(
        "PostgreSQL at {address} has no replication slot left: {said}; drop unused ones (SELECT pg_drop_replication_slot(…)) or raise max_replication_slots in postgresql.conf and restart the server"
    )]
    OutOfSlots {
        address: ServerAddress,
        /// What the server said.
        said: String,
    },
    /// Another session was in the way; the next try may succeed.
    #[error("another session was in the way in PostgreSQL at {address}: {said}")]
    Conflict {
        address: ServerAddress,
        /// What the server said.
        said: String,
    },
    /// The disk is full, or the like.
    #[error("PostgreSQL at {address} can't continue: {said}; {}", .address.when_out_of_resources())]
    Resources {
        address: ServerAddress,
        /// What the server said.
        said: String,
    },
    /// Encryption can't be set up.
    #[error("TLS to PostgreSQL: {0}")]
    Tls(String),
    /// A prepared file can't be read.
    #[error("{path} can't be read: {source}; make it with `ftap prepare FILE`")]
    Unreadable {
        path: PathBuf,
        source: std::io::Error,
    },
    /// A prepared file has a value that can't be loaded; nothing of it was.
    #[error(
        "{path}, {place}: {problem}; nothing was loaded; recreate the file with `ftap prepare FILE`"
    )]
    BadFile {
        /// The file.
        path: PathBuf,
        /// Line from 1, the header's, and column.
        place: String,
        problem: String,
    },
    /// There is none on this machine, and none is named.
    #[error(
        "there is no PostgreSQL to use: the log's line `postgres_off` says why, and what to do"
    )]
    Missing,
    /// Asked for by a test.
    #[error("{0}")]
    Injected(#[source] Failure),
    /// Anything else that the server refuses.
    #[error("PostgreSQL at {address} refuses a statement: {said}")]
    Refused {
        address: ServerAddress,
        /// What the server said.
        said: String,
    },
}

impl PostgresError {
    /// Sorts an error of the client by the server's code.
    pub fn of(settings: &PostgresSettings, error: &tokio_postgres::Error) -> Self {
        let address = settings.address();
        match error.as_db_error() {
            Some(error) => Self::of_code(address, error.code().code(), said_by(error)),
            // Connection, protocol and time-out errors have no code.
            None => Self::of_client(address, error),
        }
    }

    /// Sorts an error of the pool.
    pub(crate) fn of_pool(settings: &PostgresSettings, error: &PoolError) -> Self {
        let address = settings.address();
        match error {
            PoolError::Backend(error) => Self::of(settings, error),
            PoolError::PostCreateHook(deadpool_postgres::HookError::Backend(error)) => {
                Self::of(settings, error)
            }
            PoolError::Timeout(kind) => Self::Unavailable {
                address,
                said: format!(
                    "no connection within {} s ({kind:?})",
                    settings.connect_timeout.as_secs_f64()
                ),
            },
            other => Self::Unavailable {
                address,
                said: other.to_string(),
            },
        }
    }

    fn of_client(address: ServerAddress, error: &tokio_postgres::Error) -> Self {
        // The outer text is only "error connecting to server".
        let cause = std::error::Error::source(error).map(ToString::to_string);
        let said = match cause {
            Some(cause) => format!("{error}: {cause}"),
            None => error.to_string(),
        };
        let source = std::error::Error::source(error);
        if source.is_some_and(|cause| cause.is::<WrongType>() || cause.is::<WasNull>()) {
            return Self::OtherSchema { address, said };
        }
        if said.contains("password missing") {
            return Self::LoginRefused {
                address,
                said: "it asks for a password and POSTGRES_PASSWORD is unset".to_owned(),
            };
        }
        if (said.contains("TLS handshake") || said.contains("certificate"))
            && !is_broken_connection(error)
        {
            return Self::Tls(format!("{said}; see POSTGRES_SSLMODE"));
        }
        Self::Unavailable { address, said }
    }

    /// Sorts a refusal of the server by its SQLSTATE.
    pub fn of_code(address: ServerAddress, code: &str, said: String) -> Self {
        // The standard's classes, where all of a class means the same.
        let class = code.get(..2).unwrap_or_default();
        let code = SqlState::from_code(code);
        match class {
            _ if code == SqlState::TOO_MANY_CONNECTIONS => Self::OutOfConnections { address, said },
            _ if code == SqlState::READ_ONLY_SQL_TRANSACTION => Self::ReadOnly { address, said },
            // A standby, which may be promoted.
            _ if code == SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE
                && said.contains("recovery is in progress") =>
            {
                Self::ReadOnly { address, said }
            }
            _ if code == SqlState::INVALID_CATALOG_NAME => Self::UnknownDatabase { address, said },
            _ if code == SqlState::INSUFFICIENT_PRIVILEGE => Self::NotPermitted { address, said },
            _ if code == SqlState::CONFIGURATION_LIMIT_EXCEEDED && said.contains("slot") => {
                Self::OutOfSlots { address, said }
            }
            _ if code == SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE
                && said.contains("wal_level") =>
            {
                Self::WalLevel { address, said }
            }
            _ if code == SqlState::UNDEFINED_TABLE
                || code == SqlState::UNDEFINED_COLUMN
                || code == SqlState::DATATYPE_MISMATCH
                || code == SqlState::WRONG_OBJECT_TYPE
                || code == SqlState::INVALID_COLUMN_REFERENCE
                || code == SqlState::NOT_NULL_VIOLATION
                || code == SqlState::CHECK_VIOLATION
                || code == SqlState::GENERATED_ALWAYS
                || code == SqlState::UNDEFINED_FUNCTION =>
            {
                Self::OtherSchema { address, said }
            }
            "28" => Self::LoginRefused { address, said },
            // Serialisation failures, deadlocks; locks not given in time; statements cut off by it.
            "40" => Self::Conflict { address, said },
            _ if code == SqlState::LOCK_NOT_AVAILABLE
                || code == SqlState::QUERY_CANCELED
                || code == SqlState::OBJECT_IN_USE =>
            {
                Self::Conflict { address, said }
            }
            "53" | "58" => Self::Resources { address, said },
            // Connection errors, and a server that is starting, stopping or crashed.
            "08" | "57" => Self::Unavailable { address, said },
            _ => Self::Refused { address, said },
        }
    }

    /// Whether the server did not answer.
    pub fn is_silence(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }

    /// Its kind in the table.
    pub fn kind(&self) -> PostgresFailure {
        match self {
            Self::Unavailable { .. }
            | Self::OutOfConnections { .. }
            | Self::ReadOnly { .. }
            | Self::OutOfSlots { .. }
            | Self::Conflict { .. }
            | Self::Resources { .. }
            | Self::Injected(_) => PostgresFailure::Unavailable,
            Self::LoginRefused { .. }
            | Self::UnknownDatabase { .. }
            | Self::NotPermitted { .. }
            | Self::OtherSchema { .. }
            | Self::WalLevel { .. }
            | Self::Pooler { .. }
            | Self::Publication { .. }
            | Self::Table { .. }
            | Self::Tls(_)
            | Self::Missing
            | Self::Refused { .. } => PostgresFailure::Refused,
            Self::Unreadable { .. } | Self::BadFile { .. } => PostgresFailure::BadFile,
        }
    }
}

impl Retryable for PostgresError {
    fn retry(&self) -> Retry {
        self.kind().entry().retry
    }
}

fn said_by(error: &DbError) -> String {
    match error.detail() {
        Some(detail) => format!("{} ({detail})", error.message()),
        None => error.message().to_owned(),
    }
}

/// The statement that gives a permission, where the server's words say which.
fn grant(address: &ServerAddress, said: &str) -> String {
    let missing = said.split_once("permission denied for ");
    let missing = missing.and_then(|(_, what)| what.split_once(' '));
    let Some((kind, name)) = missing else {
        return String::new();
    };
    let name = name.split([' ', ';', ',']).next().unwrap_or(name);
    let what = match kind {
        "schema" => "USAGE, CREATE ON SCHEMA",
        "database" => "CREATE ON DATABASE",
        "table" => "SELECT, INSERT, UPDATE, DELETE ON",
        _ => return String::new(),
    };
    format!(" (GRANT {what} {name} TO {})", address.role())
}

/// Whether a connection broke, as it may within a handshake, rather than that one side refused.
pub fn is_broken_connection(error: &(dyn std::error::Error + 'static)) -> bool {
    let causes = std::iter::successors(Some(error), |error| error.source());
    let io = causes.filter_map(|error| error.downcast_ref::<std::io::Error>());
    // What rustls refuses comes within an error of the stream.
    io.last().is_some_and(|error| {
        let inner = error.get_ref();
        !inner.is_some_and(|inner| inner.is::<rustls::Error>())
    })
}

impl From<PostgresError> for Failure {
    fn from(error: PostgresError) -> Self {
        match error {
            PostgresError::Injected(failure) => failure,
            error => Self::from_error(error.kind(), error),
        }
    }
}
