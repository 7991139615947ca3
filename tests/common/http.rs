//! A client of the dashboard that sends what the test says.

use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::Value;

use super::process::Ftap;

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Answer {
    pub status: u16,
    /// Null if it is not JSON.
    pub body: Value,
}

/// Asks for a path; `None` without an answer.
pub(crate) fn get(address: &str, host: &str, path: &str) -> Option<Answer> {
    let mut stream = TcpStream::connect(address).ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some(Answer {
        status: head.split(' ').nth(1)?.parse().ok()?,
        body: serde_json::from_str(body).unwrap_or(Value::Null),
    })
}

/// The address that a process listens on, as it logs it; of all addresses this machine's own.
pub(crate) fn address_of(process: &Ftap) -> String {
    let listening = process.wait_for_event("http_listening");
    let url = listening["url"].as_str().unwrap();
    url.trim_start_matches("http://")
        .replace("0.0.0.0", "127.0.0.1")
}
