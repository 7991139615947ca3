//! One error type for the crate. Every message names the thing, its value and the remedy, and none
//! carries a credential: a Kaggle key never enters this type.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What can go wrong when a data set is generated, downloaded or prepared.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DatasetError {
    /// An option that no data set can be made from.
    #[error("{option} is {value}: {remedy}")]
    InvalidOption {
        /// The option's name as the user wrote it.
        option: &'static str,
        /// The value given.
        value: String,
        remedy: &'static str,
    },
    /// A path that should be there is not.
    #[error(
        "{path} does not exist: check the path, or make a data set with `ftap generate` or `ftap prepare --kaggle`"
    )]
    NotFound {
        /// The path as given.
        path: PathBuf,
    },
    /// A directory where a file is needed.
    #[error("{path} is a directory: name the CSV file inside it, such as {path}/{example}")]
    IsDirectory {
        /// The path as given.
        path: PathBuf,
        /// A file name that fits.
        example: &'static str,
    },
    /// A file where a directory is needed.
    #[error(
        "{path} cannot be used as the output directory because a file is in the way: name another directory"
    )]
    NotADirectory {
        /// The path as given.
        path: PathBuf,
    },
    /// The operating system forbids it.
    #[error(
        "no permission to {action} {path}: change its owner or mode (chmod), or use another path"
    )]
    NoPermission {
        /// What was tried: `read`, `write`, `create`.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
    },
    /// The disk or the quota is full. Nothing half-written keeps its final name.
    #[error(
        "the disk is full while trying to {action} {path}: free some space or choose a directory on another disk, then run it again"
    )]
    DiskFull {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// Another process writes the same file now.
    #[error(
        "another process is writing {path} now: wait for it to end, or choose another output directory"
    )]
    InUse {
        /// The file's final name.
        path: PathBuf,
    },
    /// Any other failure of reading or writing.
    #[error("could not {action} {path}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// The input has no byte but blank lines.
    #[error(
        "{path} is empty: it should be the Kaggle CSV with a header line; download or generate it again"
    )]
    EmptyFile {
        /// The input.
        path: PathBuf,
    },
    /// The input has a header and nothing below it.
    #[error(
        "{path} has a header but no rows: the file is cut short; download or generate it again"
    )]
    NoRows {
        /// The input.
        path: PathBuf,
    },
    /// The header has no comma but another separator.
    #[error("{path} is separated by {seen}, not by commas{hint}: export it again with commas")]
    WrongSeparator {
        /// The input.
        path: PathBuf,
        /// The separator seen, in words.
        seen: &'static str,
        /// A guess at what the file is.
        hint: &'static str,
    },
    /// The input is not a text table.
    #[error("{path} is not a CSV file: {seen}")]
    NotCsv {
        /// The input.
        path: PathBuf,
        /// What its first bytes are, and the remedy.
        seen: String,
    },
    /// The file is not the events file that `prepare` writes.
    #[error("{path} is not a prepared events file: {seen}")]
    NotPrepared {
        /// The file.
        path: PathBuf,
        /// What it is, and the remedy.
        seen: String,
    },
    /// Columns that `prepare` needs are not in the header.
    #[error(
        "{path} has no column {}: the header must name them, in any order; its columns are {}",
        missing.join(", "), found.join(", ")
    )]
    MissingColumns {
        /// The input.
        path: PathBuf,
        /// The absent columns.
        missing: Vec<&'static str>,
        /// The columns the header has.
        found: Vec<String>,
    },
    /// The header names a needed column more than once.
    #[error("{path} has the column {column} more than once: rename or drop the wrong one")]
    DuplicateColumn {
        /// The input.
        path: PathBuf,
        column: &'static str,
    },
    /// Every row was broken, so there is nothing to replay.
    #[error(
        "none of the {rejected} rows of {path} can be used; the first is line {line}: {reason}"
    )]
    NoValidRow {
        /// The input.
        path: PathBuf,
        /// How many rows were read.
        rejected: u64,
        /// The first broken row's line.
        line: u64,
        /// Why it was rejected.
        reason: String,
    },
    /// An output file of `prepare` would overwrite its own input.
    #[error("{path} is both the input and an output: choose another output directory")]
    InputIsOutput {
        /// The file.
        path: PathBuf,
    },
    /// No Kaggle credentials in the environment or in a file.
    #[error(
        "no Kaggle credentials: set KAGGLE_API_TOKEN, or KAGGLE_USERNAME and KAGGLE_KEY, or save the token from https://www.kaggle.com/settings (section API) as `access_token`, or the kaggle.json, in {}", looked_in.display()
    )]
    NoCredentials {
        /// The folder that was looked into first.
        looked_in: PathBuf,
    },
    /// Credentials that cannot be used; never shows the key.
    #[error("the Kaggle credentials in {place} cannot be used: {problem}")]
    BadCredentials {
        /// The file or the variable.
        place: String,
        problem: String,
    },
    /// The address of the Kaggle API cannot be used.
    #[error("the Kaggle address {url} cannot be used: {problem}")]
    BadBaseUrl {
        /// The address, without user and password.
        url: String,
        problem: String,
    },
    /// Kaggle answered 401 or 403.
    #[error(
        "Kaggle refused the credentials of {owner} (HTTP {status}): create new ones at https://www.kaggle.com/settings and, for 403, open the data set's page once to accept its terms"
    )]
    Refused {
        /// The user name, if one was sent.
        owner: String,
        /// 401 or 403.
        status: u16,
    },
    /// Kaggle answered 404.
    #[error(
        "Kaggle does not know {url} (HTTP 404): the data set was moved or the address is wrong; `ftap generate` makes a data set of the same shape"
    )]
    DatasetNotFound {
        /// The address asked.
        url: String,
    },
    /// Kaggle asks to wait.
    #[error("Kaggle asks to wait{} before the next download (HTTP 429): run it again later", wait.map(|wait| format!(" {} seconds", wait.as_secs())).unwrap_or_default())]
    RateLimited {
        /// The `Retry-After` header, if it was there.
        wait: Option<Duration>,
    },
    /// Another HTTP status.
    #[error("Kaggle answered HTTP {status} to {url}{}", if *status >= 500 { ", again and again: run it again later" } else { ": check the address and try again" })]
    HttpStatus {
        /// The address asked.
        url: String,
        status: u16,
    },
    /// The connection failed, timed out or was cut.
    #[error(
        "the download from {url} failed after {attempts} attempts: {problem}; check the network (and HTTPS_PROXY) and run it again"
    )]
    Network {
        /// The address asked.
        url: String,
        /// How often it was tried.
        attempts: u32,
        /// The last failure.
        problem: String,
    },
    /// The answer is not the archive.
    #[error(
        "the download from {url} is not a zip archive but {seen}: check that {url} is Kaggle's API and that no proxy answers in its place"
    )]
    NotAnArchive {
        /// The address asked.
        url: String,
        /// What came.
        seen: String,
    },
    /// The archive is damaged or cut.
    #[error("the downloaded archive is damaged ({problem}): run the download again")]
    DamagedArchive {
        /// What the unzipper says.
        problem: String,
    },
    /// The archive has no CSV of the name expected.
    #[error("the downloaded archive has no {expected}; it has {}: the data set has changed; unzip it by hand and give the file to `ftap prepare`", found.join(", "))]
    NotInArchive {
        /// The file looked for.
        expected: &'static str,
        /// The names in the archive (the first few).
        found: Vec<String>,
    },
}

impl DatasetError {
    /// Turns a system error into the variant that names the remedy.
    pub(crate) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        let path = path.to_path_buf();
        match source.kind() {
            io::ErrorKind::NotFound => Self::NotFound { path },
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                Self::NoPermission { action, path }
            }
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::DiskFull { action, path }
            }
            io::ErrorKind::IsADirectory => Self::IsDirectory {
                path,
                example: crate::schema::SOURCE_FILE,
            },
            io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => {
                Self::NotADirectory { path }
            }
            _ => Self::Io {
                action,
                path,
                source,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Some of these cannot be brought about on every machine: root may write anywhere.
    #[test]
    fn system_errors_become_the_error_that_names_the_remedy() {
        for (kind, part) in [
            (io::ErrorKind::NotFound, "check the path"),
            (
                io::ErrorKind::PermissionDenied,
                "no permission to write data/x: change its owner",
            ),
            (io::ErrorKind::ReadOnlyFilesystem, "or use another path"),
            (io::ErrorKind::StorageFull, "the disk is full"),
            (io::ErrorKind::QuotaExceeded, "free some space"),
            (io::ErrorKind::IsADirectory, "data/x is a directory"),
            (io::ErrorKind::NotADirectory, "name another directory"),
            (io::ErrorKind::Other, "could not write data/x"),
        ] {
            let error = DatasetError::io("write", Path::new("data/x"), kind.into());
            let text = error.to_string();
            assert!(text.contains(part), "{text:?} should say {part:?}");
        }
    }
}
