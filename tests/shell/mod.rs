//! The binary in a directory of its own, with none of our variables in its environment.

#![allow(dead_code)]

pub(crate) mod terminal;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::common::verdict::said;

/// Longest wait for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A working directory; `.env` and `data` in it are the test's own.
pub(crate) struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
        }
    }

    /// One with an events file where `ftap run` looks for it.
    pub(crate) fn prepared(rows: u64) -> Self {
        let place = Self::new();
        place
            .run(&["generate", "--rows", &rows.to_string()])
            .ends_with(0);
        place
            .run(&["prepare", "data/generated/credit_card_transactions.csv"])
            .ends_with(0);
        place
    }

    /// `ftap serve` without PostgreSQL, and its address.
    pub(crate) fn serve(&self) -> (Running, String) {
        let mut serve = self.ftap(&["serve"]);
        serve.env("POSTGRES", "off");
        let serve = Running::start(serve);
        let url = serve.url();
        (serve, url)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// `ftap` with the arguments; nothing of the caller's environment but what programs need.
    pub(crate) fn ftap(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ftap"));
        command
            .args(args)
            .current_dir(self.dir.path())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.dir.path())
            // Tests run side by side, the default port is one.
            .env("DASHBOARD_ADDR", "127.0.0.1:0")
            .stdin(Stdio::null());
        command
    }

    /// Runs to the end.
    pub(crate) fn run(&self, args: &[&str]) -> Done {
        Done::from(self.ftap(args).output().unwrap())
    }

    /// Starts, to be watched.
    pub(crate) fn start(&self, args: &[&str]) -> Running {
        Running::start(self.ftap(args))
    }
}

/// What a finished process left.
#[derive(Debug)]
pub(crate) struct Done {
    pub code: Option<i32>,
    pub stdout: String,
    /// What it said to people: the error that ended it is text.
    pub stderr: String,
    /// The same as it was written.
    pub log: String,
}

impl From<Output> for Done {
    fn from(output: Output) -> Self {
        let log = String::from_utf8(output.stderr).unwrap();
        Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: said(&log),
            log,
        }
    }
}

impl Done {
    /// Fails unless the exit code is this one.
    #[track_caller]
    pub(crate) fn ends_with(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{}\n{}", self.stdout, self.stderr);
        self
    }

    /// Fails unless stderr has all of these.
    #[track_caller]
    pub(crate) fn says(self, parts: &[&str]) -> Self {
        for part in parts {
            assert!(self.stderr.contains(part), "no {part:?} in {}", self.stderr);
        }
        self
    }
}

/// A process that is running; killed when dropped.
pub(crate) struct Running {
    pub child: Child,
    lines: Receiver<String>,
}

impl Running {
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (send, lines) = channel();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                let _ = send.send(line);
            }
        });
        Self { child, lines }
    }

    /// Waits for a log event of that name.
    #[track_caller]
    pub(crate) fn event(&self, name: &str) -> Value {
        let end = Instant::now() + PATIENCE;
        let mut seen = String::new();
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let Ok(line) = self.lines.recv_timeout(left) else {
                panic!("no event {name} in\n{seen}");
            };
            match serde_json::from_str::<Value>(&line) {
                Ok(event) if event["event"] == name => return event,
                _ => seen.push_str(&format!("{line}\n")),
            }
        }
    }

    /// Waits until it serves pages: their address.
    #[track_caller]
    pub(crate) fn url(&self) -> String {
        let listening = self.event("http_listening");
        listening["url"].as_str().unwrap().to_owned()
    }

    pub(crate) fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args([signal, &pid]).status().unwrap();
        assert!(sent.success());
    }

    /// Waits for the end: exit code and stdout.
    #[track_caller]
    pub(crate) fn end(mut self) -> (Option<i32>, String) {
        let end = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < end, "it does not end");
            std::thread::sleep(Duration::from_millis(20));
        };
        let mut stdout = String::new();
        if let Some(mut pipe) = self.child.stdout.take() {
            pipe.read_to_string(&mut stdout).unwrap();
        }
        (status.code(), stdout)
    }

    /// Waits for the end: stdout. Fails unless the exit code is this one.
    #[track_caller]
    pub(crate) fn ends_with(mut self, code: i32) -> String {
        let (_, nothing) = channel();
        let lines = std::mem::replace(&mut self.lines, nothing);
        let (ended, stdout) = self.end();
        let log: Vec<String> = lines.iter().collect();
        assert_eq!(ended, Some(code), "{stdout}\n{}", log.join("\n"));
        stdout
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One HTTP answer.
pub(crate) struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

pub(crate) fn get(url: &str, path: &str) -> Answer {
    request(url, "GET", path, "localhost")
}

/// One HTTP request by hand, so that every header is the test's choice.
pub(crate) fn request(url: &str, method: &str, path: &str, host: &str) -> Answer {
    request_with(url, method, path, host, &[])
}

/// The same with more headers.
pub(crate) fn request_with(
    url: &str,
    method: &str,
    path: &str,
    host: &str,
    headers: &[(&str, &str)],
) -> Answer {
    let more: String = headers
        .iter()
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .collect();
    raw(
        url,
        &format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{more}\r\n"),
    )
}

/// Sends these bytes and reads what comes until the server closes.
pub(crate) fn raw(url: &str, text: &str) -> Answer {
    let mut stream = TcpStream::connect(url.trim_start_matches("http://")).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // A server that has refused already may not take the rest.
    let _ = stream.write_all(text.as_bytes());
    answer_of(stream)
}

/// What the server says until it closes.
pub(crate) fn answer_of(mut stream: TcpStream) -> Answer {
    let mut bytes = Vec::new();
    let mut part = [0; 4096];
    // One that closes with our bytes unread may reset the connection after its answer.
    while let Ok(read @ 1..) = stream.read(&mut part) {
        bytes.extend_from_slice(&part[..read]);
    }
    let text = String::from_utf8_lossy(&bytes);
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    Answer {
        status: status.unwrap_or(0),
        head: head.to_ascii_lowercase(),
        body: body.to_owned(),
    }
}
