//! One file per subcommand; each gives the process' exit code.

pub mod batch;
pub mod cdc;
pub mod config;
pub mod dlq;
pub mod dlq_redrive;
pub mod fx;
pub mod generate;
pub mod health;
pub mod jobs;
pub mod kafka;
pub mod load;
pub mod prepare;
pub mod reset;
pub mod run;
pub mod serve;
pub mod tap;

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
