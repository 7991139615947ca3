//! A process that the runner started, its log as it grows, and its end.
//!
//! Promises: it never outlives the runner, however that ends: killed when dropped, and by the
//! kernel when the thread that started it is gone (so processes are started from the main
//! thread only). Its group is its own: a Ctrl-C at the terminal reaches the runner alone.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;
use ftap_testing::end_with_parent;
use serde_json::Value;

const POLL: Duration = Duration::from_millis(20);

/// A started process.
pub(crate) struct Process {
    /// Name and number of the start, as in its log file's name.
    pub name: String,
    child: Child,
    log: LogFile,
    printed: PathBuf,
}

impl Process {
    /// Starts it; standard error goes to `{logs}/{name}.log`, standard output to `.out`.
    pub(crate) fn start(name: String, mut command: Command, logs: &Path) -> anyhow::Result<Self> {
        let log = logs.join(format!("{name}.log"));
        let printed = logs.join(format!("{name}.out"));
        let create = |path: &Path| {
            File::create(path).with_context(|| format!("{} can't be written", path.display()))
        };
        command
            .stdin(Stdio::null())
            .stderr(create(&log)?)
            .stdout(create(&printed)?);
        end_with_parent(&mut command);
        let program = command.get_program().to_owned();
        let child = command
            .spawn()
            .with_context(|| format!("{} can't be started", program.display()))?;
        Ok(Self {
            name,
            child,
            log: LogFile::new(log),
            printed,
        })
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: libc::c_int) {
        let id = self.child.id() as libc::pid_t;
        // SAFETY: kill has no memory effects; the child has not been waited for, so the id is its.
        unsafe { libc::kill(id, signal) };
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        let status = self.child.try_wait();
        status.with_context(|| format!("{} can't be waited for", self.name))
    }

    /// Waits for its end; `None` if it does not come in time.
    pub(crate) fn wait(&mut self, limit: Duration) -> anyhow::Result<Option<ExitStatus>> {
        let began = Instant::now();
        loop {
            if let Some(status) = self.ended()? {
                return Ok(Some(status));
            }
            if began.elapsed() > limit {
                return Ok(None);
            }
            std::thread::sleep(POLL);
        }
    }

    /// Ends it as `kill -9` does.
    pub(crate) fn kill(&mut self) -> anyhow::Result<()> {
        self.signal(libc::SIGKILL);
        let status = self.child.wait();
        status.with_context(|| format!("{} can't be waited for", self.name))?;
        Ok(())
    }

    /// Events that it has logged since this was last asked.
    pub(crate) fn new_events(&mut self) -> Vec<Value> {
        self.log.new_events()
    }

    /// Its last log lines, for messages about its failure.
    pub(crate) fn last_lines(&self, count: usize) -> String {
        let text = std::fs::read(&self.log.path).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(count)..].join("\n")
    }

    /// What it has printed as its result.
    pub(crate) fn printed(&self) -> String {
        let text = std::fs::read(&self.printed).unwrap_or_default();
        String::from_utf8_lossy(&text).into_owned()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An exit code or a signal, in words.
pub(crate) fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "an unknown end".to_owned(),
    }
}

/// A log that another process writes.
struct LogFile {
    path: PathBuf,
    read: u64,
    /// The beginning of a line whose end is not there yet.
    rest: Vec<u8>,
}

impl LogFile {
    fn new(path: PathBuf) -> Self {
        Self {
            path,
            read: 0,
            rest: Vec::new(),
        }
    }

    fn new_events(&mut self) -> Vec<Value> {
        let mut bytes = std::mem::take(&mut self.rest);
        // A log that can't be read now is read the next time.
        if let Ok(mut file) = File::open(&self.path)
            && file.seek(SeekFrom::Start(self.read)).is_ok()
        {
            self.read += file.read_to_end(&mut bytes).unwrap_or(0) as u64;
        }
        let whole = bytes
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |last| last + 1);
        self.rest = bytes.split_off(whole);
        // Lines that are no JSON are for people.
        bytes
            .split(|byte| *byte == b'\n')
            .filter_map(|line| serde_json::from_slice(line).ok())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::Write;

    use super::*;

    #[test]
    fn events_are_read_once_and_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut file = File::create(&path).unwrap();
        let mut log = LogFile::new(path);
        file.write_all(b"{\"event\":\"a\"}\nfor people\n{\"eve")
            .unwrap();
        assert_eq!(log.new_events(), [serde_json::json!({"event": "a"})]);
        assert!(log.new_events().is_empty());
        file.write_all(b"nt\":\"b\"}\n").unwrap();
        assert_eq!(log.new_events(), [serde_json::json!({"event": "b"})]);
    }
}
