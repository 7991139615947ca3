//! Finds PostgreSQL's server programs: the newest for a new cluster, the same major version for one
//! that exists.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::error::PostgresClusterError;

/// Oldest major version that is used: the newest that the maintainers still support, and the first
/// with everything that change capture needs.
pub const MIN_MAJOR: u32 = 14;

/// Parents of version folders such as `15/bin`.
const VERSION_ROOTS: &[&str] = &[
    "/usr/lib/postgresql",
    "/usr/local/lib/postgresql",
    "/opt/homebrew/opt",
    "/usr/local/opt",
    "/opt/local/lib",
    "/Library/PostgreSQL",
    "/Applications/Postgres.app/Contents/Versions",
];
/// Where other systems have them.
const BIN_DIRS: &[&str] = &[
    "/usr/local/pgsql/bin",
    "/usr/local/bin",
    "/usr/bin",
    "/usr/libexec/postgresql",
];
const MAX_MAJOR_TRIED: u32 = 30;

/// The programs of one version.
#[derive(Clone, Debug)]
pub(super) struct Binaries {
    dir: PathBuf,
    /// `15.18` for instance.
    pub(super) version: String,
    major: u32,
}

impl Binaries {
    /// The programs for the cluster in that folder, which may not exist yet.
    pub(super) fn find(
        bin_dir: Option<&Path>,
        cluster: &Path,
    ) -> Result<Self, PostgresClusterError> {
        let dirs = match bin_dir {
            Some(dir) => vec![dir.to_path_buf()],
            None => usual_dirs(),
        };
        let mut found: Vec<Self> = dirs.iter().filter_map(|dir| Self::at(dir)).collect();
        let too_old = versions(found.extract_if(.., |binaries| binaries.major < MIN_MAJOR));
        let made_by = std::fs::read_to_string(cluster.join("PG_VERSION")).ok();
        let newest = found.iter().max_by_key(|binaries| binaries.major).cloned();
        let Some(newest) = newest else {
            return Err(PostgresClusterError::NotInstalled {
                searched: match bin_dir {
                    Some(dir) => dir.display().to_string(),
                    None => "pg_config's folder, PATH and the usual places".to_owned(),
                },
                too_old,
            });
        };
        let Some(made_by) = made_by else {
            return Ok(newest);
        };
        let made_by = made_by.trim();
        let same = found.iter().find(|b| b.major.to_string() == made_by);
        same.cloned()
            .ok_or_else(|| PostgresClusterError::OtherVersion {
                path: cluster.to_path_buf(),
                made_by: made_by.to_owned(),
                installed: versions(found.iter().cloned()),
            })
    }

    fn at(dir: &Path) -> Option<Self> {
        if !dir.join("postgres").is_file() || !dir.join("initdb").is_file() {
            return None;
        }
        let said = output(Command::new(dir.join("postgres")).arg("--version"))?;
        // `postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)`, `… 19beta1`.
        let version = said
            .split_whitespace()
            .find(|word| word.starts_with(|c: char| c.is_ascii_digit()))?;
        let digits = version.find(|c: char| !c.is_ascii_digit());
        let major = version[..digits.unwrap_or(version.len())].parse().ok()?;
        Some(Self {
            dir: dir.to_path_buf(),
            version: version.to_owned(),
            major,
        })
    }

    pub(super) fn initdb(&self) -> PathBuf {
        self.dir.join("initdb")
    }

    /// The server.
    pub(super) fn postgres(&self) -> PathBuf {
        self.dir.join("postgres")
    }
}

fn versions(binaries: impl Iterator<Item = Binaries>) -> String {
    let versions: BTreeSet<_> = binaries.map(|binaries| binaries.version).collect();
    let versions: Vec<_> = versions.into_iter().collect();
    versions.join(", ")
}

fn usual_dirs() -> Vec<PathBuf> {
    let mut dirs = Vec::new();
    if let Some(dir) = output(Command::new("pg_config").arg("--bindir")) {
        dirs.push(PathBuf::from(dir.trim()));
    }
    if let Some(path) = std::env::var_os("PATH") {
        dirs.extend(std::env::split_paths(&path));
    }
    for root in VERSION_ROOTS {
        let entries = std::fs::read_dir(root).into_iter().flatten().flatten();
        dirs.extend(entries.map(|entry| entry.path().join("bin")));
    }
    dirs.extend(
        (MIN_MAJOR..=MAX_MAJOR_TRIED).map(|v| PathBuf::from(format!("/usr/pgsql-{v}/bin"))),
    );
    dirs.extend(BIN_DIRS.iter().map(PathBuf::from));
    dirs
}

fn output(command: &mut Command) -> Option<String> {
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}
