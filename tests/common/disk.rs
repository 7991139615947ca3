//! A small disk of a test's own.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A mounted tmpfs; unmounted when dropped.
pub(crate) struct Disk {
    path: PathBuf,
}

impl Disk {
    /// Mounts one of that size in bytes; `None` where that is not permitted.
    pub(crate) fn mount(path: PathBuf, bytes: u64) -> Option<Self> {
        std::fs::create_dir_all(&path).unwrap();
        let mounted = mount(&["-t", "tmpfs", "-o", &format!("size={bytes}")], &path);
        match mounted {
            Ok(()) => Some(Self { path }),
            Err(why) => {
                super::not_run(&format!("a small disk needs root: {why}"));
                None
            }
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Mounts it again with other options; one that is being written to can't turn read-only.
    pub(crate) fn remount(&self, options: &str) {
        let options = format!("remount,{options}");
        super::wait_until(&options, || {
            mount(&["-t", "tmpfs", "-o", &options], &self.path).ok()
        });
    }
}

fn mount(options: &[&str], path: &Path) -> Result<(), String> {
    let output = Command::new("mount")
        .args(options)
        .arg("ftap-test")
        .arg(path)
        .output()
        .map_err(|error| error.to_string())?;
    if output.status.success() {
        Ok(())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: a killed process may still be on its way out.
        let _ = Command::new("umount").arg("-l").arg(&self.path).status();
    }
}
