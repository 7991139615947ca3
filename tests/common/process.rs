//! An `ftap` process, its log events as they come, and its end.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::PATIENCE;
use super::verdict::failure;

#[derive(Default)]
struct Log {
    lines: Mutex<Vec<Value>>,
    grew: Condvar,
}

/// A running `ftap`; killed when dropped.
pub(crate) struct Ftap {
    child: Mutex<Child>,
    log: Arc<Log>,
    stderr: Option<JoinHandle<()>>,
    stdout: Option<JoinHandle<String>>,
    printed: Mutex<Option<String>>,
}

impl Ftap {
    /// Starts the command and collects what it says, in its directory's `ftap-N.log` as well.
    pub(crate) fn start(command: Command) -> Self {
        let dir = command.get_current_dir().unwrap().to_owned();
        Self::start_in(command, &dir)
    }

    /// The same with the log in another directory.
    pub(crate) fn start_in(mut command: Command, dir: &Path) -> Self {
        static LOGS: AtomicU32 = AtomicU32::new(0);
        let number = LOGS.fetch_add(1, Ordering::Relaxed);
        let mut file = File::create(dir.join(format!("ftap-{number}.log"))).unwrap();
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Arc::new(Log::default());
        let (stderr, mut stdout) = (child.stderr.take().unwrap(), child.stdout.take().unwrap());
        let into = log.clone();
        let stderr = std::thread::spawn(move || {
            for line in BufReader::new(stderr).split(b'\n') {
                let line = String::from_utf8_lossy(&line.unwrap()).into_owned();
                writeln!(file, "{line}").unwrap();
                // A line that is not JSON is an error for the user, or a panic's text.
                let value = serde_json::from_str(&line).unwrap_or(Value::String(line));
                into.lines.lock().unwrap().push(value);
                into.grew.notify_all();
            }
        });
        let stdout = std::thread::spawn(move || {
            let mut text = String::new();
            stdout.read_to_string(&mut text).unwrap();
            text
        });
        Self {
            child: Mutex::new(child),
            log,
            stderr: Some(stderr),
            stdout: Some(stdout),
            printed: Mutex::new(None),
        }
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.lock().unwrap().id()
    }

    /// Waits until `pick` finds what it looks for among the lines so far.
    pub(crate) fn wait_for<T>(&self, what: &str, pick: impl FnMut(&[Value]) -> Option<T>) -> T {
        self.try_wait_for(what, PATIENCE, pick)
            .unwrap_or_else(|| panic!("{what} did not come: {}", self.tail()))
    }

    /// The same for at most `patience`; `None` also if the process ended without it.
    pub(crate) fn try_wait_for<T>(
        &self,
        _what: &str,
        patience: Duration,
        mut pick: impl FnMut(&[Value]) -> Option<T>,
    ) -> Option<T> {
        let end = Instant::now() + patience;
        let mut lines = self.log.lines.lock().unwrap();
        loop {
            if let Some(found) = pick(&lines) {
                return Some(found);
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            let ended = self.stderr.as_ref().is_none_or(JoinHandle::is_finished);
            if ended {
                return pick(&lines);
            }
            let step = left.min(Duration::from_millis(100));
            lines = self.log.grew.wait_timeout(lines, step).unwrap().0;
        }
    }

    /// Waits for the first event of that name.
    pub(crate) fn wait_for_event(&self, name: &str) -> Value {
        self.wait_for_events(name, 1).remove(0)
    }

    /// Waits for as many events of that name.
    pub(crate) fn wait_for_events(&self, name: &str, count: usize) -> Vec<Value> {
        self.wait_for(name, |lines| {
            let found: Vec<_> = named(lines, name).collect();
            (found.len() >= count).then_some(found)
        })
    }

    /// The events of that name so far.
    pub(crate) fn events(&self, name: &str) -> Vec<Value> {
        named(&self.log.lines.lock().unwrap(), name).collect()
    }

    /// Lines that are no events: what the program says to its user.
    pub(crate) fn messages(&self) -> String {
        let lines = self.log.lines.lock().unwrap();
        let text = |line: &Value| line.as_str().map(str::to_owned).or_else(|| failure(line));
        let texts: Vec<_> = lines.iter().filter_map(text).collect();
        texts.join("\n")
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: libc::c_int) {
        let pid = self.pid() as libc::pid_t;
        // SAFETY: kill has no memory effects; the child has not been waited for, so the id is its.
        unsafe { libc::kill(pid, signal) };
    }

    /// Ends it as `kill -9` does and waits for that.
    pub(crate) fn kill(&self) {
        self.signal(libc::SIGKILL);
        self.wait();
    }

    /// Whether it has ended by itself.
    pub(crate) fn has_ended(&self) -> bool {
        self.child.lock().unwrap().try_wait().unwrap().is_some()
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&self) -> Option<ExitStatus> {
        self.child.lock().unwrap().try_wait().unwrap()
    }

    /// Waits for its end.
    pub(crate) fn wait(&self) -> ExitStatus {
        self.wait_at_most(PATIENCE)
    }

    /// Waits for its end, which has to come soon enough.
    pub(crate) fn wait_at_most(&self, patience: Duration) -> ExitStatus {
        let start = Instant::now();
        loop {
            let status = self.child.lock().unwrap().try_wait().unwrap();
            if let Some(status) = status {
                self.wait_for_last_lines();
                return status;
            }
            assert!(
                start.elapsed() < patience,
                "still running after {patience:?}: {}",
                self.tail()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// They may still be on their way when the process has ended.
    fn wait_for_last_lines(&self) {
        let end = Instant::now() + Duration::from_secs(5);
        while !self.stderr.as_ref().is_none_or(JoinHandle::is_finished) && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits for its end, which must be successful.
    pub(crate) fn wait_for_success(&self) {
        let status = self.wait();
        assert!(status.success(), "{status}: {}", self.tail());
    }

    /// Its exit code, and what it said to its user.
    pub(crate) fn wait_for_failure(&self) -> (i32, String) {
        let status = self.wait();
        assert!(!status.success(), "it did not fail: {}", self.tail());
        (status.code().unwrap_or(-1), self.messages())
    }

    /// What it printed as its result, once it has ended.
    pub(crate) fn printed(&mut self) -> String {
        self.wait();
        let reader = self.stdout.take();
        let mut printed = self.printed.lock().unwrap();
        if let Some(reader) = reader {
            *printed = Some(reader.join().unwrap());
        }
        printed.clone().unwrap()
    }

    /// Its summary, printed with `--json`.
    pub(crate) fn summary(&mut self) -> Value {
        let printed = self.printed();
        serde_json::from_str(&printed).unwrap_or_else(|error| panic!("{error}: {printed:?}"))
    }

    /// Its memory now, in bytes; `None` if it has ended or the system does not say.
    pub(crate) fn memory_bytes(&self) -> Option<u64> {
        self.memory("VmRSS:")
    }

    /// The most memory it has had, in bytes, asked for again and again until it ends.
    pub(crate) fn peak_memory_bytes(&self) -> u64 {
        let mut peak = 0;
        while !self.has_ended() {
            peak = self.memory("VmHWM:").unwrap_or(peak);
            std::thread::sleep(Duration::from_millis(50));
        }
        peak
    }

    fn memory(&self, figure: &str) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix(figure))?;
        let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        Some(kibibytes * 1024)
    }

    /// The figure of one of its metrics, with its labels if it has any; it needs DASHBOARD_ADDR.
    pub(crate) fn metric(&self, name: &str) -> Option<f64> {
        let metrics = self.metrics();
        let mut lines = metrics.lines();
        lines.find_map(|line| {
            line.strip_prefix(name)?
                .strip_prefix(' ')?
                .trim()
                .parse()
                .ok()
        })
    }

    /// What it shows to Prometheus.
    pub(crate) fn metrics(&self) -> String {
        let listening = self.wait_for_event("http_listening");
        let address = listening["url"]
            .as_str()
            .unwrap()
            .trim_start_matches("http://");
        let mut stream = TcpStream::connect(address.trim_end_matches('/')).unwrap();
        write!(
            stream,
            "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        body.to_owned()
    }

    /// The last lines of its log, for messages of failed tests.
    pub(crate) fn tail(&self) -> String {
        let lines = self.log.lines.lock().unwrap();
        let from = lines.len().saturating_sub(25);
        let shown: Vec<_> = lines[from..].iter().map(Value::to_string).collect();
        format!("its log ends\n{}", shown.join("\n"))
    }
}

impl Drop for Ftap {
    fn drop(&mut self) {
        let mut child = self
            .child
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        // Both fail only if it has ended already.
        let _ = child.kill();
        let _ = child.wait();
    }
}

fn named<'a>(lines: &'a [Value], name: &'a str) -> impl Iterator<Item = Value> + 'a {
    lines
        .iter()
        .filter(move |line| line["event"] == name)
        .cloned()
}
