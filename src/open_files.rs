//! The limit of open files: raised as far as this user may, and checked before anything is opened.
//!
//! Promises: with too low a limit the process ends with one line that names it. Libraries here panic or
//! hang when a file, a socket or a thread's event queue can't be opened.

use crate::exit::BadUsage;

/// More is of no use, and macOS refuses much more.
const ENOUGH: libc::rlim_t = 10_240;

/// Raises the soft limit to the hard one, or to [`ENOUGH`]; an error if that is less than `needed`.
pub(crate) fn ensure(needed: libc::rlim_t) -> Result<(), BadUsage> {
    let Some(mut limit) = get() else {
        return Ok(());
    };
    let wanted = limit.rlim_max.min(ENOUGH);
    if limit.rlim_cur < wanted {
        let raised = libc::rlimit {
            rlim_cur: wanted,
            ..limit
        };
        // SAFETY: setrlimit only reads the struct.
        if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raised) } == 0 {
            limit = raised;
        }
    }
    match limit.rlim_cur {
        enough if enough >= needed => Ok(()),
        few => Err(BadUsage(format!(
            "the limit of open files is {few}, and this command needs {needed}: raise it (`ulimit -n 4096`, as root where that is not permitted; for a container `--ulimit nofile=4096`)"
        ))),
    }
}

fn get() -> Option<libc::rlimit> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: getrlimit only writes to the struct.
    let code = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) };
    (code == 0).then_some(limit)
}
