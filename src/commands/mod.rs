//! One file per subcommand; each gives the process' exit code.

pub(crate) mod batch;
pub(crate) mod cdc;
pub(crate) mod config;
pub(crate) mod dlq;
pub(crate) mod dlq_redrive;
pub(crate) mod fraud;
pub(crate) mod fx;
pub(crate) mod generate;
pub(crate) mod health;
pub(crate) mod jobs;
pub(crate) mod kafka;
pub(crate) mod load;
pub(crate) mod models;
pub(crate) mod prepare;
pub(crate) mod query;
pub(crate) mod reset;
pub(crate) mod run;
pub(crate) mod serve;
pub(crate) mod tap;
pub(crate) mod verify;

use ftap_dataset::DatasetError;

use crate::exit::BadUsage;

/// A missing file, wrong options or missing credentials are the user's to fix: exit code 2. The
/// rest, such as a network that stays down, is a failure.
fn dataset_error(error: DatasetError) -> anyhow::Error {
    match error {
        DatasetError::InvalidOption { .. }
        | DatasetError::NotFound { .. }
        | DatasetError::IsDirectory { .. }
        | DatasetError::NotADirectory { .. }
        | DatasetError::NoPermission { .. }
        | DatasetError::EmptyFile { .. }
        | DatasetError::NoRows { .. }
        | DatasetError::WrongSeparator { .. }
        | DatasetError::NotCsv { .. }
        | DatasetError::NotPrepared { .. }
        | DatasetError::MissingColumns { .. }
        | DatasetError::DuplicateColumn { .. }
        | DatasetError::NoValidRow { .. }
        | DatasetError::InputIsOutput { .. }
        | DatasetError::NoCredentials { .. }
        | DatasetError::BadCredentials { .. }
        | DatasetError::BadBaseUrl { .. } => BadUsage(error.to_string()).into(),
        other => other.into(),
    }
}
