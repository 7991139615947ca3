//! A clock of the day that a test sets as it likes, for the processes it starts with it.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::Lab;

/// Clock of the day of some processes; the machine's own stays as it is.
pub(crate) struct Clock {
    library: PathBuf,
    offset: PathBuf,
}

impl Clock {
    /// One that is right; `None` where there is no C compiler or no Linux.
    pub(crate) fn new(lab: &Lab) -> Option<Self> {
        if !cfg!(all(target_os = "linux", target_env = "gnu")) {
            super::not_run("a clock that jumps needs Linux with glibc");
            return None;
        }
        let clock = Self {
            library: lab.path("clock.so"),
            offset: lab.path("clock"),
        };
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/common/clock.c");
        let compiled = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .arg(&clock.library)
            .arg(source)
            .output();
        let Ok(compiled) = compiled else {
            super::not_run("a clock that jumps needs a C compiler, called cc");
            return None;
        };
        let errors = String::from_utf8_lossy(&compiled.stderr).into_owned();
        assert!(compiled.status.success(), "{errors}");
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
