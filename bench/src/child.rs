//! Processes that are measured: their time, CPU and memory by the kernel's own account.
//!
//! Promises: none outlives the benchmark, whether it ends by itself, by a signal or by an error: each has a
//! group of its own, which is killed at the limit, and dies with the benchmark. The peak memory of
//! a process is never below the benchmark's own at its start, because the kernel counts it before
//! `exec`, too: processes are measured before anything large is read into memory.

use std::fs::{self, File};
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use ftap_testing::end_with_parent;

/// How long any measured process may take.
const LIMIT: Duration = Duration::from_secs(900);
/// What the time of a process is measured to.
const POLL: Duration = Duration::from_millis(1);

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// From now on SIGINT and SIGTERM make long waits end with an error.
pub(crate) fn listen_for_signals() {
    extern "C" fn note(_signal: libc::c_int) {
        INTERRUPTED.store(true, SeqCst);
    }
    #[expect(
        clippy::fn_to_numeric_cast_any,
        reason = "signal takes a handler as a number"
    )]
    let handler = note as extern "C" fn(libc::c_int) as libc::sighandler_t;
    for signal in [libc::SIGINT, libc::SIGTERM] {
        // SAFETY: the handler only stores into an atomic.
        unsafe { libc::signal(signal, handler) };
    }
}

/// Sleeps; an error once a signal has come.
pub(crate) fn pause(time: Duration) -> anyhow::Result<()> {
    if INTERRUPTED.load(SeqCst) {
        bail!("interrupted: every process was ended, and their data removed");
    }
    std::thread::sleep(time);
    Ok(())
}

/// What a process took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    pub seconds: f64,
    pub cpu_seconds: f64,
    pub peak_bytes: u64,
}

/// Starts a process that ends with the benchmark, with its output in `stdout` and `stderr` of a folder.
pub(crate) fn start(command: &mut Command, output: &Path) -> anyhow::Result<Child> {
    let create = |name: &str| {
        let path = output.join(name);
        File::create(&path).with_context(|| format!("{} can't be written", path.display()))
    };
    command
        .stdin(Stdio::null())
        .stdout(create("stdout")?)
        .stderr(create("stderr")?);
    end_with_parent(command);
    let program = command.get_program().to_owned();
    command
        .spawn()
        .with_context(|| format!("{} can't be started", program.display()))
}

/// Sends a signal to the group of a child that was not waited for yet.
pub(crate) fn signal_group(child: &Child, signal: libc::c_int) {
    // SAFETY: kill has no memory effects; the child has not been waited for, so the id is its.
    unsafe { libc::kill(-(child.id() as libc::pid_t), signal) };
}

/// Runs a process to its end; anything but exit code 0 is an error with its last lines.
pub(crate) fn run(command: &mut Command, output: &Path) -> anyhow::Result<Usage> {
    // What earlier processes wrote is not written back during this one.
    // SAFETY: sync has no arguments.
    unsafe { libc::sync() };
    let began = Instant::now();
    let child = start(command, output)?;
    let id = child.id() as libc::pid_t;
    let mut status = 0;
    // SAFETY: all zeros are a valid rusage.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    loop {
        // SAFETY: wait4 fills the two values it is given; nothing else waits for this child.
        match unsafe { libc::wait4(id, &raw mut status, libc::WNOHANG, &raw mut usage) } {
            0 => {}
            -1 => return Err(io::Error::last_os_error()).context("a process can't be waited for"),
            _ => break,
        }
        let waited = pause(POLL);
        if waited.is_err() || began.elapsed() > LIMIT {
            signal_group(&child, libc::SIGKILL);
            // SAFETY: as above.
            unsafe { libc::wait4(id, &raw mut status, 0, &raw mut usage) };
            waited?;
            bail!("{} took longer than {} s", named(command), LIMIT.as_secs());
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    let status = ExitStatus::from_raw(status);
    if !status.success() {
        let [errors, results] = ["stderr", "stdout"].map(|name| last_lines(&output.join(name)));
        bail!("{}: {status}\n{errors}\n{results}", named(command));
    }
    let of = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    Ok(Usage {
        seconds,
        cpu_seconds: of(usage.ru_utime) + of(usage.ru_stime),
        // Linux counts kilobytes of 1024.
        peak_bytes: usage.ru_maxrss as u64 * 1024,
    })
}

/// Program and arguments, without the environment.
fn named(command: &Command) -> String {
    let arguments = command.get_args().map(|argument| argument.display());
    let arguments = arguments.map(|argument| format!(" {argument}"));
    format!(
        "{}{}",
        command.get_program().display(),
        arguments.collect::<String>()
    )
}

/// The end of a log, for messages about a failure.
pub(crate) fn last_lines(path: &Path) -> String {
    let text = fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(10)..].join("\n")
}

/// CPU time of a running process, all its threads and those that have ended.
pub(crate) fn cpu_seconds_of(id: u32) -> Option<f64> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    // SAFETY: sysconf has no memory effects.
    let per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    (per_second > 0).then_some(())?;
    Some(cpu_ticks(&stat)? as f64 / per_second as f64)
}

/// User and system time of a line of `/proc/PID/stat`, the 14th and 15th field.
fn cpu_ticks(stat: &str) -> Option<u64> {
    // The second field, the name, may hold anything but the last bracket.
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut times = fields.split(' ').skip(11);
    let user: u64 = times.next()?.parse().ok()?;
    let system: u64 = times.next()?.parse().ok()?;
    Some(user + system)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_times_of_a_stat_line_are_found_whatever_the_name_is() {
        let stat = "42 (a b) c) S 1 42 42 0 -1 4194560 900 80 0 0 123 45 6 7 20 0 9 0 100";
        assert_eq!(cpu_ticks(stat), Some(168));
        assert_eq!(cpu_ticks("42 (java) S 1"), None);
        assert_eq!(cpu_ticks(""), None);
        assert!(cpu_seconds_of(std::process::id()).is_some());
    }

    #[test]
    fn a_process_that_fails_is_an_error_with_its_last_lines() {
        let dir = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "echo nothing to do >&2; exit 3"]);
        let error = run(&mut command, dir.path()).unwrap_err().to_string();
        assert!(
            error.contains("exit 3: exit status: 3\nnothing to do"),
            "{error}"
        );
        let usage = run(&mut Command::new("true"), dir.path()).unwrap();
        assert!(usage.peak_bytes > 0 && usage.seconds > 0.0, "{usage:?}");
    }
}
