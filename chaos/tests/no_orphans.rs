//! However a run ends, the processes that it started end with it, the frozen ones included.
//!
//! Needs the `ftap` of the same build beside the runner, as `cargo test` of the workspace makes
//! it; without it the test says so and passes, except where `FTAP_REQUIRE_TOOLS=1` forbids that.

#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);

fn ftap() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_BIN_EXE_chaos")).with_file_name("ftap");
    if beside.is_file() {
        return Some(beside);
    }
    assert!(
        std::env::var_os("FTAP_REQUIRE_TOOLS").is_none_or(|wanted| wanted != "1"),
        "{} is missing: cargo test --workspace makes it",
        beside.display()
    );
    // Past the test runner, which hides what passing tests print.
    let said = format!("no_orphans was NOT run: {} is missing\n", beside.display());
    std::io::stderr().write_all(said.as_bytes()).unwrap();
    None
}

/// Living processes whose parent is `parent`; zombies without a waiting parent are not included.
fn children(parent: u32) -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    ids.filter(|id| parent_of(*id) == Some(parent)).collect()
}

fn parent_of(id: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    // The name before may hold anything but the last bracket.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    if fields.next()? == "Z" {
        return None;
    }
    fields.next()?.parse().ok()
}

fn signal(id: u32, signal: libc::c_int) {
    // SAFETY: kill has no memory effects; the id is of a process that this test has started.
    unsafe { libc::kill(id as libc::pid_t, signal) };
}

/// A run with everything started, its directory, and its processes.
fn storming(ftap: &Path) -> (Child, PathBuf, Vec<u32>) {
    let mut runner = Command::new(env!("CARGO_BIN_EXE_chaos"))
        .args(["--minutes", "5", "--broker", "embedded", "--rate", "100"])
        .arg("--ftap")
        .arg(ftap)
        // It is not asked before the end.
        .env("FTAP_PYTHON", "/bin/true")
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(runner.stderr.take().unwrap()).lines();
    let mut line_with = |text: &str| {
        let mut lines = lines.by_ref().map(Result::unwrap);
        lines.find(|line| line.contains(text)).unwrap()
    };
    let works_in = line_with("works in ");
    let dir = works_in.rsplit_once("works in ").unwrap().1.into();
    line_with("storms");
    // Writing more must not fail.
    std::thread::spawn(move || lines.for_each(drop));
    let began = Instant::now();
    loop {
        let started = children(runner.id());
        // The broker, the producer, two consumers.
        if started.len() >= 4 {
            return (runner, dir, started);
        }
        assert!(began.elapsed() < PATIENCE, "{started:?}");
        assert!(runner.try_wait().unwrap().is_none(), "the run has ended");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn assert_gone(started: &[u32]) {
    let began = Instant::now();
    while started.iter().any(|id| parent_of(*id).is_some()) {
        assert!(began.elapsed() < PATIENCE, "{started:?} live on");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn processes_end_with_the_runner_however_it_ends() {
    let Some(ftap) = ftap() else {
        return;
    };
    let (mut runner, dir, started) = storming(&ftap);
    signal(started[0], libc::SIGSTOP);
    signal(runner.id(), libc::SIGTERM);
    assert_eq!(runner.wait().unwrap().code(), Some(130));
    assert_gone(&started);
    assert!(!dir.exists(), "{} is left", dir.display());

    let (mut runner, dir, started) = storming(&ftap);
    signal(started[0], libc::SIGSTOP);
    runner.kill().unwrap();
    runner.wait().unwrap();
    assert_gone(&started);
    std::fs::remove_dir_all(dir).unwrap();
}
