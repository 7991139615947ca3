//! A fake of the FX API, with the faults that an API has.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

const GOOD: &str = r#"{"data":{"EUR":0.92,"DKK":6.87,"NOK":10.61,"SEK":10.43}}"#;

/// What it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Rates.
    Rates,
    /// A status, with further headers.
    Status(u16, &'static str),
    /// A page of somebody in between.
    Html,
    /// Half of the body.
    Cut,
    /// Nothing, ever.
    Hang,
}

/// The API on a free port, until the test program ends.
pub struct FxApi {
    /// Its address.
    pub url: String,
    reply: Arc<Mutex<Reply>>,
    requests: Arc<Mutex<Vec<String>>>,
}

impl FxApi {
    /// One that answers so.
    pub fn start(reply: Reply) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let api = Self {
            url: format!("http://{}/v1", listener.local_addr().unwrap()),
            reply: Arc::new(Mutex::new(reply)),
            requests: Arc::default(),
        };
        let (reply, requests) = (api.reply.clone(), api.requests.clone());
        std::thread::spawn(move || {
            let mut held = Vec::new();
            for stream in listener.incoming().flatten() {
                // A client that was killed while it asked.
                let Some(head) = read_head(&stream) else {
                    continue;
                };
                let date = head
                    .split_once("date=")
                    .map(|(_, rest)| rest[..10].to_owned());
                requests.lock().unwrap().push(head);
                let reply = *reply.lock().unwrap();
                if !answer(&stream, reply, date.as_deref()) {
                    held.push(stream);
                }
            }
        });
        api
    }

    /// From now on it answers so.
    pub fn set(&self, reply: Reply) {
        *self.reply.lock().unwrap() = reply;
    }

    /// The heads of the requests so far.
    pub fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

fn read_head(stream: &TcpStream) -> Option<String> {
    let mut head = String::new();
    let mut reader = BufReader::new(stream.take(16 << 10));
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    Some(head)
}

/// Whether the connection is over with it. A client that is gone is none of its business.
fn answer(mut stream: &TcpStream, reply: Reply, date: Option<&str>) -> bool {
    let good = match date {
        Some(date) => format!(r#"{{"data":{{"{date}":{}}}}}"#, &GOOD[8..GOOD.len() - 1]),
        None => GOOD.to_owned(),
    };
    let (status, headers, body, length) = match reply {
        Reply::Rates => (200, "", good.as_str(), good.len()),
        Reply::Status(status, headers) => (status, headers, "{}", 2),
        Reply::Html => (200, "", "<html>log in</html>", 19),
        Reply::Cut => (200, "", &good[..20], good.len()),
        Reply::Hang => return false,
    };
    let _ = write!(
        stream,
        "HTTP/1.1 {status} X\r\n{headers}Connection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    true
}
