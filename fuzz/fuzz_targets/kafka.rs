//! Requests to the embedded broker, each in a frame and a connection of its own: the broker answers
//! or hangs up, and still serves.

#![no_main]

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use ftap_broker::{Broker, BrokerOptions};
use libfuzzer_sys::{Corpus, fuzz_target};

/// More requests than it takes for a transaction or a group.
const MAX_REQUESTS: usize = 16;
/// ApiVersions 0, with correlation id 7 and no client id.
const API_VERSIONS: [u8; 10] = [0, 18, 0, 0, 0, 0, 0, 7, 0xff, 0xff];

fn ask(addr: SocketAddr, request: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(addr).expect("a connection");
    let limit = Some(Duration::from_secs(10));
    stream.set_read_timeout(limit).expect("a timeout");
    let length = (request.len() as u32).to_be_bytes();
    let mut answer = Vec::new();
    // The broker may hang up before everything is sent.
    let _ = stream.write_all(&[&length, request].concat());
    let _ = stream.shutdown(Shutdown::Write);
    match stream.read_to_end(&mut answer) {
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => panic!("no answer"),
        _ => answer,
    }
}

// An input is a list of requests, each after its length in two bytes.
fuzz_target!(|data: &[u8]| -> Corpus {
    let mut requests = Vec::new();
    let mut rest = data;
    while let Some((length, after)) = rest.split_first_chunk() {
        let length = usize::from(u16::from_be_bytes(*length));
        let (request, after) = after.split_at(length.min(after.len()));
        requests.push(request);
        rest = after;
    }
    if requests.is_empty() || requests.len() > MAX_REQUESTS {
        return Corpus::Reject;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let broker = Broker::start(BrokerOptions {
        data_dir: folder.path().to_owned(),
        worker_threads: 1,
        ..BrokerOptions::default()
    });
    let broker = broker.expect("a broker");
    for request in requests {
        ask(broker.addr(), request);
    }
    let answer = ask(broker.addr(), &API_VERSIONS);
    assert!(answer.len() > 20, "it serves no more: {answer:?}");
    broker.shutdown().expect("everything on the disk");
    Corpus::Keep
});
