//! A slow line to a broker: a proxy that lets so many bytes a second through.
//!
//! The broker's answers name the proxy's port for its own, so that clients stay on the line.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};

/// What the line takes at once.
const PIECE: usize = 8 * 1024;

/// A line to `broker` that takes `bytes_per_second` in each direction, all connections together; its address.
pub(crate) fn to(broker: &str, bytes_per_second: u64) -> String {
    pass(broker, bytes_per_second, "127.0.0.1")
}

/// A line to `broker` whose answers name a host that there is not.
pub(crate) fn astray(broker: &str) -> String {
    pass(broker, 1_000_000, "x.invalid")
}

fn pass(broker: &str, bytes_per_second: u64, host: &'static str) -> String {
    let broker: SocketAddr = broker.parse().unwrap();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let line = || Line {
        bytes_per_second,
        turn: Arc::default(),
    };
    let (there, back) = (line(), line());
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let (client, server) = (client.unwrap(), TcpStream::connect(broker));
            // A broker that is down closes the connection.
            let Ok(server) = server else { continue };
            let (there, back) = (there.clone(), back.clone());
            let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            std::thread::spawn(move || {
                pass_on(&mut from, &mut to, &there);
                let _ = to.shutdown(std::net::Shutdown::Both);
            });
            std::thread::spawn(move || {
                answer(server, client, &back, (broker.port(), host, address.port()))
            });
        }
    });
    address.to_string()
}

/// One direction.
#[derive(Clone)]
struct Line {
    bytes_per_second: u64,
    turn: Arc<Mutex<()>>,
}

impl Line {
    /// Whether they could be sent; other connections get their turn after each piece.
    fn send(&self, to: &mut TcpStream, bytes: &[u8]) -> bool {
        bytes.chunks(PIECE).all(|piece| {
            let turn = self.turn.lock();
            let seconds = piece.len() as f64 / self.bytes_per_second as f64;
            std::thread::sleep(Duration::from_secs_f64(seconds));
            let is_sent = to.write_all(piece).is_ok();
            // Otherwise this thread may have the next turn as well, and the next.
            MutexGuard::unlock_fair(turn);
            is_sent
        })
    }
}

fn pass_on(from: &mut TcpStream, to: &mut TcpStream, line: &Line) {
    let mut piece = [0; PIECE];
    while let Ok(count @ 1..) = from.read(&mut piece) {
        if !line.send(to, &piece[..count]) {
            return;
        }
    }
}

/// Passes whole responses on; in them `127.0.0.1` and a port are the broker's address.
/// The other host has as many letters.
fn answer(
    mut from: TcpStream,
    mut to: TcpStream,
    line: &Line,
    (broker, host, proxy): (u16, &str, u16),
) {
    let place = |host: &str, port: u16| [host.as_bytes(), &u32::from(port).to_be_bytes()].concat();
    let (old, new) = (place("127.0.0.1", broker), place(host, proxy));
    let mut length = [0; 4];
    while from.read_exact(&mut length).is_ok() {
        let mut response = vec![0; u32::from_be_bytes(length) as usize];
        if from.read_exact(&mut response).is_err() {
            break;
        }
        let mut at = 0;
        while let Some(found) = response[at..].windows(old.len()).position(|w| w == old) {
            at += found;
            response[at..at + new.len()].copy_from_slice(&new);
        }
        if !line.send(&mut to, &length) || !line.send(&mut to, &response) {
            break;
        }
    }
    let _ = to.shutdown(std::net::Shutdown::Both);
}
