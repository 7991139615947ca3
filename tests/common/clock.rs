//! A clock of the day that a test sets as it likes, for the processes it starts with it.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::Lab;

/// A library for LD_PRELOAD, from a source in this folder; `None` where there is no C compiler or no
/// Linux.
pub(crate) fn library(lab: &Lab, source: &str) -> Option<PathBuf> {
    if !cfg!(all(target_os = "linux", target_env = "gnu")) {
        super::not_run("replacing a system call needs Linux with glibc");
        return None;
    }
    let library = lab.path(source).with_extension("so");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/common");
    let compiled = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .arg(&library)
        .arg(folder.join(source))
        .output();
    let Ok(compiled) = compiled else {
        super::not_run("replacing a system call needs a C compiler, called cc");
        return None;
    };
    let errors = String::from_utf8_lossy(&compiled.stderr).into_owned();
    assert!(compiled.status.success(), "{errors}");
    Some(library)
}

/// Clock of the day of some processes; the machine's own stays as it is.
pub(crate) struct Clock {
    library: PathBuf,
    offset: PathBuf,
}

impl Clock {
    /// One that is right; `None` where there is none.
    pub(crate) fn new(lab: &Lab) -> Option<Self> {
        let clock = Self {
            library: library(lab, "clock.c")?,
            offset: lab.path("clock"),
        };
        clock.jump_to(0);
        Some(clock)
    }

    /// Lets the process to be started go by this clock.
    pub(crate) fn wind(&self, command: &mut Command) {
        command
            .env("LD_PRELOAD", &self.library)
            .env("FTAP_TEST_CLOCK", &self.offset);
    }

    /// Off by so many seconds from now on.
    pub(crate) fn jump_to(&self, seconds: i64) {
        // In place, as the processes have it mapped.
        let mut file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&self.offset)
            .unwrap();
        file.write_all(&seconds.to_ne_bytes()).unwrap();
    }
}
