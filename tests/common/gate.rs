//! A gate in front of an HTTP server: closed, it answers every request with 503.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

/// See the module; lives as long as the test program.
pub struct Gate {
    addr: SocketAddr,
    state: Arc<State>,
}

struct State {
    behind: String,
    is_open: AtomicBool,
    refused: AtomicU64,
    passing: Mutex<Vec<TcpStream>>,
}

impl Gate {
    /// An open gate before `http://host:port`.
    pub fn open_before(behind: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let state = Arc::new(State {
            behind: behind.trim_start_matches("http://").to_owned(),
            is_open: AtomicBool::new(true),
            refused: AtomicU64::new(0),
            passing: Mutex::default(),
        });
        let shared = state.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = shared.clone();
                std::thread::spawn(move || match state.is_open.load(SeqCst) {
                    true => pass(stream, &state),
                    false => refuse(stream, &state),
                });
            }
        });
        Self { addr, state }
    }

    /// Its address as a URL.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Lets everything through from now on.
    pub fn open(&self) {
        self.state.is_open.store(true, SeqCst);
    }

    /// Turns everything away from now on, and cuts what is on its way.
    pub fn close(&self) {
        self.state.is_open.store(false, SeqCst);
        for stream in self.state.passing.lock().unwrap().drain(..) {
            // One that is closed already needs no closing.
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
    }

    /// Requests turned away.
    pub fn refused(&self) -> u64 {
        self.state.refused.load(SeqCst)
    }
}

/// Reads one request whole, so that its sender reads the answer, and closes.
fn refuse(stream: TcpStream, state: &State) {
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    let mut line = String::new();
    while reader.read_line(&mut line).is_ok_and(|read| read > 2) {
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().unwrap_or(0);
        }
        line.clear();
    }
    let _ = std::io::copy(&mut (&mut reader).take(length), &mut std::io::sink());
    state.refused.fetch_add(1, SeqCst);
    let answer =
        "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    // The sender may have gone; that is its affair.
    let _ = reader.into_inner().write_all(answer.as_bytes());
}

fn pass(stream: TcpStream, state: &State) {
    let server = TcpStream::connect(&state.behind).unwrap();
    state
        .passing
        .lock()
        .unwrap()
        .push(stream.try_clone().unwrap());
    let pump = |mut from: TcpStream, mut to: TcpStream| {
        std::thread::spawn(move || {
            let _ = std::io::copy(&mut from, &mut to);
            let _ = to.shutdown(std::net::Shutdown::Both);
        })
    };
    pump(stream.try_clone().unwrap(), server.try_clone().unwrap());
    pump(server, stream);
}
