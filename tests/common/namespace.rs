//! A command's own view of the files: folders mounted in others, read-only ones among them.

use std::path::PathBuf;
use std::process::Command;

/// What is mounted where, and whether it can only be read.
pub(crate) type Mounts = Vec<(PathBuf, PathBuf, bool)>;

/// Whether [`mount`] can be used here; says so if not, and fails where `FTAP_REQUIRE_TOOLS=1`.
pub(crate) fn is_possible() -> bool {
    let is_possible = linux::is_possible();
    if !is_possible {
        super::not_run("without root's mount namespaces volumes are links, and none is read-only");
    }
    is_possible
}

/// The command will see these mounts in `root`, which is one, too, and can be written in or not. They
/// end with it.
pub(crate) fn mount(
    command: &mut Command,
    root: &std::path::Path,
    mounts: &Mounts,
    read_only: bool,
) {
    linux::mount(command, root, mounts, read_only);
}

#[cfg(not(target_os = "linux"))]
mod linux {
    pub fn is_possible() -> bool {
        false
    }

    pub fn mount(_: &mut std::process::Command, _: &std::path::Path, _: &super::Mounts, _: bool) {
        unreachable!("it is not possible");
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use std::ffi::{CStr, CString, c_int, c_ulong};
    use std::io::Error;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::process::CommandExt;
    use std::path::Path;
    use std::process::Command;
    use std::ptr;

    use super::Mounts;

    pub(super) fn is_possible() -> bool {
        // SAFETY: geteuid has no arguments and cannot fail.
        let is_root = unsafe { libc::geteuid() } == 0;
        let probe = || Command::new("unshare").args(["--mount", "true"]).status();
        is_root && probe().is_ok_and(|status| status.success())
    }

    pub(super) fn mount(command: &mut Command, root: &Path, mounts: &Mounts, is_read_only: bool) {
        let text = |path: &Path| CString::new(path.as_os_str().as_bytes()).unwrap();
        let mounts: Vec<_> = mounts
            .iter()
            .map(|(source, target, read_only)| (text(source), text(target), *read_only))
            .collect();
        let folder = text(command.get_current_dir().unwrap());
        let root = text(root);
        let enter = move || {
            // SAFETY: a flag is all there is to it.
            check(unsafe { libc::unshare(libc::CLONE_NEWNS) })?;
            set(None, c"/", libc::MS_REC | libc::MS_PRIVATE)?;
            set(Some(&root), &root, libc::MS_BIND)?;
            for (source, target, read_only) in &mounts {
                set(Some(source), target, libc::MS_BIND)?;
                if *read_only {
                    seal(target)?;
                }
            }
            if is_read_only {
                seal(&root)?;
            }
            // The folder that it was in is below the mount.
            // SAFETY: the text outlives the call.
            check(unsafe { libc::chdir(folder.as_ptr()) })
        };
        // SAFETY: between fork and exec only system calls are made, with texts made before.
        unsafe { command.pre_exec(enter) };
    }

    fn seal(target: &CStr) -> Result<(), Error> {
        set(
            None,
            target,
            libc::MS_REMOUNT | libc::MS_BIND | libc::MS_RDONLY,
        )
    }

    fn set(source: Option<&CStr>, target: &CStr, flags: c_ulong) -> Result<(), Error> {
        let source = source.map_or(ptr::null(), CStr::as_ptr);
        // SAFETY: the texts outlive the call; those that are null may be.
        check(unsafe { libc::mount(source, target.as_ptr(), ptr::null(), flags, ptr::null()) })
    }

    fn check(code: c_int) -> Result<(), Error> {
        match code {
            0 => Ok(()),
            _ => Err(Error::last_os_error()),
        }
    }
}
