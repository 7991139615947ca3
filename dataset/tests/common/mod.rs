//! What several test files need.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const CHILD_DIR: &str = "FTAP_DATASET_TEST_CHILD_DIR";

/// A test that runs itself as a process of its own, to be killed for real.
pub struct Killed;

impl Killed {
    /// Whether this is the process that will be killed.
    pub fn is_child() -> bool {
        std::env::var_os(CHILD_DIR).is_some()
    }

    /// Where that process writes.
    pub fn dir() -> PathBuf {
        PathBuf::from(std::env::var_os(CHILD_DIR).unwrap())
    }
}

/// Runs the test `name` of this binary as a child and kills it when `file` has bytes.
pub fn kill_once_written(name: &str, dir: &Path, file: &Path) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name])
        .env(CHILD_DIR, dir)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let patience = Instant::now() + Duration::from_secs(60);
    while !file.metadata().is_ok_and(|metadata| metadata.len() > 0) {
        assert!(
            child.try_wait().unwrap().is_none(),
            "{name} ended by itself"
        );
        assert!(Instant::now() < patience, "{} never came", file.display());
        std::thread::yield_now();
    }
    child.kill().unwrap();
    child.wait().unwrap();
}
