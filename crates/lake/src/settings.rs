use std::path::PathBuf;
use std::time::Duration;

#[derive(Clone, Debug)]
pub enum LakeLocation {
    /// A folder of this machine.
    Local(PathBuf),
    /// A Google Cloud Storage bucket.
    Gcs {
        bucket: String,
        /// Service-account key file; `None` asks the metadata server.
        credentials_file: Option<PathBuf>,
        /// Another endpoint than Google's, for tests; sends no real credentials.
        endpoint: Option<String>,
    },
}

/// When a file is closed. Whichever limit is met first counts.
#[derive(Clone, Copy, Debug)]
pub struct RollingSettings {
    /// Rows and rejected records.
    pub max_rows: u64,
    /// Encoded bytes, estimated while the file is open.
    pub max_bytes: u64,
    /// Age, counted from the file's first record.
    pub max_age: Duration,
}
