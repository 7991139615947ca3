//! Processes that permissions hold for, even if the tests run as root.

use std::io::Error;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// `CAP_DAC_OVERRIDE` of linux/capability.h: the right to pass over permissions.
const CAP_DAC_OVERRIDE: libc::c_ulong = 1;

/// Whether [`drop_override`] can be used here; if not, says that the test is not run, or fails
/// where `FTAP_REQUIRE_TOOLS=1` forbids that.
pub(crate) fn can_drop_override() -> bool {
    let mut probe = Command::new("true");
    drop_override(&mut probe);
    let Err(error) = probe.status() else {
        return true;
    };
    let why = format!("root's right to pass over permissions can't be dropped: {error}");
    let required = std::env::var("FTAP_REQUIRE_TOOLS").is_ok_and(|value| value == "1");
    assert!(!required, "{why}, and FTAP_REQUIRE_TOOLS=1");
    eprintln!("NOT RUN: {why}");
    false
}

/// The command will not be allowed what its user's permissions forbid.
pub(crate) fn drop_override(command: &mut Command) {
    // SAFETY: geteuid and prctl are system calls that touch no memory, allowed between fork
    // and exec.
    unsafe {
        if libc::geteuid() != 0 {
            return;
        }
        command.pre_exec(
            || match libc::prctl(libc::PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, 0, 0, 0) {
                0 => Ok(()),
                _ => Err(Error::last_os_error()),
            },
        );
    }
}
