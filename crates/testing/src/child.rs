//! Processes that are started for a test or a measurement.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

/// Has the process, in a group of its own, killed as soon as the thread that starts it ends, however that comes.
pub fn end_with_parent(command: &mut Command) {
    let parent = std::process::id();
    command.process_group(0);
    // SAFETY: between fork and exec only two system calls are made, which allocate nothing.
    unsafe {
        command.pre_exec(move || {
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
                return Err(io::Error::last_os_error());
            }
            // The parent may have ended before the call above.
            if libc::getppid() as u32 != parent {
                return Err(io::Error::other("the program that starts it has ended"));
            }
            Ok(())
        });
    }
}
