//! What the operating system knows about this process: processor time, memory, user; and the machine's clock.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// Processor time of this process so far, user and system.
pub(crate) fn cpu_time() -> Duration {
    let usage = usage();
    let time = |value: libc::timeval| {
        let seconds = u64::try_from(value.tv_sec).unwrap_or(0);
        let micros = u64::try_from(value.tv_usec).unwrap_or(0);
        Duration::from_secs(seconds) + Duration::from_micros(micros)
    };
    time(usage.ru_utime) + time(usage.ru_stime)
}

/// Largest resident memory so far, in bytes.
pub(crate) fn peak_memory_bytes() -> u64 {
    status_bytes("VmHWM:").unwrap_or_else(|| {
        let peak = u64::try_from(usage().ru_maxrss).unwrap_or(0);
        // macOS counts in bytes, the others in KiB.
        if cfg!(target_os = "macos") {
            peak
        } else {
            peak * 1024
        }
    })
}

/// Resident memory now, in bytes; `None` where the system has no `/proc`.
pub(crate) fn memory_bytes() -> Option<u64> {
    status_bytes("VmRSS:")
}

/// From now on the calling thread runs in what the others leave, where the system can do that for a thread.
pub(crate) fn yield_to_others() {
    #[cfg(target_os = "linux")]
    // SAFETY: setpriority takes numbers only; 0 is the calling thread. If it fails, nothing has changed.
    unsafe {
        libc::setpriority(libc::PRIO_PROCESS, 0, 19);
    }
}

/// The user this process runs as.
pub(crate) fn user_id() -> u32 {
    // SAFETY: geteuid has no arguments and cannot fail.
    unsafe { libc::geteuid() }
}

/// Bytes that this user may still write on the disk of a path, and its size; `None` where that is not known.
pub(crate) fn disk_bytes(path: &Path) -> Option<(u64, u64)> {
    let path = CString::new(path.as_os_str().as_bytes()).ok()?;
    // SAFETY: statvfs is plain numbers, for which all zeros is a value; the call reads the path and only
    // writes to it.
    let disk = unsafe {
        let mut disk: libc::statvfs = std::mem::zeroed();
        (libc::statvfs(path.as_ptr(), &mut disk) == 0).then_some(disk)
    }?;
    #[allow(clippy::unnecessary_cast, reason = "the types differ between systems")]
    let bytes = |blocks| (blocks as u64).saturating_mul(disk.f_frsize as u64);
    Some((bytes(disk.f_bavail), bytes(disk.f_blocks)))
}

/// Fails if the clock is before 1970, which libraries panic at.
pub(crate) fn check_clock() -> anyhow::Result<()> {
    match SystemTime::now().duration_since(SystemTime::UNIX_EPOCH) {
        Ok(_) => Ok(()),
        Err(before) => anyhow::bail!(
            "this machine's clock is {} s before 1970: set it, by hand (`date --set`) or by NTP",
            before.duration().as_secs()
        ),
    }
}

fn usage() -> libc::rusage {
    // SAFETY: rusage is plain numbers, for which all zeros is a value; getrusage only writes to it.
    unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &mut usage);
        usage
    }
}

fn status_bytes(key: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_knows_our_time_and_memory() {
        assert!(peak_memory_bytes() > 100_000);
        assert!(memory_bytes().is_none_or(|now| now <= peak_memory_bytes()));
        let (before, started) = (cpu_time(), std::time::Instant::now());
        while cpu_time() == before {
            assert!(started.elapsed().as_secs() < 10, "stuck at {before:?}");
            std::hint::spin_loop();
        }
    }
}
