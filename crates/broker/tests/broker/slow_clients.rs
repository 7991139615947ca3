//! Clients that keep the broker waiting: they send nothing, or half a request, or do not read.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use ftap_broker::BrokerHandle;
use rdkafka::Message;

use crate::common::*;

const SHORT: Duration = Duration::from_millis(300);
const READERS: usize = 100;
const TOPIC: &str = "t";
const MAX_BYTES: i32 = 16 << 20;

fn connect(addr: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn api_versions() -> Vec<u8> {
    frame(&header(18, 0))
}

/// Asks for all records of partition 0.
fn fetch_all() -> Vec<u8> {
    fetch(0, Duration::ZERO)
}

/// Asks for the record after the one of a topic made by [`one_record`], to be waited for that long.
fn fetch_next(wait: Duration) -> Vec<u8> {
    fetch(1, wait)
}

fn one_record(broker: &BrokerHandle) {
    send_numbers(&broker.bootstrap(), TOPIC, 0..1);
}

fn fetch(offset: i64, wait: Duration) -> Vec<u8> {
    let wait = i32::try_from(wait.as_millis()).unwrap();
    let mut body = header(1, 4);
    for number in [-1, wait, 1, MAX_BYTES] {
        body.extend(number.to_be_bytes());
    }
    body.extend([0, 0, 0, 0, 1, 0, 1, b't', 0, 0, 0, 1]); // isolation, the topic, one partition
    body.extend(0i32.to_be_bytes());
    body.extend(offset.to_be_bytes());
    body.extend(MAX_BYTES.to_be_bytes());
    frame(&body)
}

fn is_served(stream: &mut TcpStream) -> bool {
    let mut length = [0; 4];
    let asked = stream.write_all(&api_versions());
    if asked.is_err() || stream.read_exact(&mut length).is_err() {
        return false;
    }
    let length = usize::try_from(i32::from_be_bytes(length)).unwrap();
    stream.read_exact(&mut vec![0; length]).is_ok()
}

/// Reads until the broker closes the connection; returns how much came.
fn read_to_the_end(stream: &mut TcpStream) -> usize {
    let mut bytes = 0;
    let mut piece = vec![0; 1 << 16];
    loop {
        match stream.read(&mut piece) {
            Ok(0) => return bytes,
            Ok(read) => bytes += read,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return bytes,
            Err(error) => panic!("after {bytes} bytes: {error}"),
        }
    }
}

fn fill(bootstrap: &str, batches: usize) {
    let value = "x".repeat(900_000);
    let (producer, acks) = producer(&client(bootstrap));
    for _ in 0..batches {
        send(&producer, TOPIC, 0, &value);
    }
    rdkafka::producer::Producer::flush(&producer, PATIENCE).unwrap();
    assert_eq!(acks.acknowledged.lock().unwrap().len(), batches);
}

fn impatient(dir: &std::path::Path) -> BrokerHandle {
    start_with(dir, |options| {
        options.idle_timeout = SHORT;
        options.client_timeout = SHORT;
    })
}

#[test]
fn a_client_that_sends_nothing_or_half_a_request_is_closed_in_time() {
    let dir = tempfile::tempdir().unwrap();
    let broker = impatient(dir.path());
    let mut silent = connect(broker.addr());
    assert!(is_served(&mut silent));
    assert_eq!(read_to_the_end(&mut silent), 0);

    let mut half = connect(broker.addr());
    half.write_all(&api_versions()[..1]).unwrap();
    assert_eq!(read_to_the_end(&mut half), 0);

    // Bit by bit, always within the time of an idle connection.
    let mut slow = connect(broker.addr());
    let until = Instant::now() + PATIENCE;
    let request = fetch_all();
    let closed = request.iter().cycle().any(|byte| {
        assert!(Instant::now() < until, "the slow client is still served");
        std::thread::sleep(SHORT / 10);
        slow.write_all(&[*byte]).is_err()
    });
    assert!(closed);
}

#[test]
fn a_client_that_waits_for_records_is_not_idle() {
    let dir = tempfile::tempdir().unwrap();
    let broker = impatient(dir.path());
    one_record(&broker);
    let mut waiting = connect(broker.addr());
    let asked = Instant::now();
    waiting.write_all(&fetch_next(SHORT * 4)).unwrap();
    let mut length = [0; 4];
    waiting.read_exact(&mut length).unwrap();
    assert!(i32::from_be_bytes(length) > 20 && asked.elapsed() > SHORT * 3);
}

#[test]
fn a_real_client_whose_idle_connection_was_closed_continues() {
    let dir = tempfile::tempdir().unwrap();
    let broker = impatient(dir.path());
    let (producer, acks) = producer(client(&broker.bootstrap()).set("enable.idempotence", "true"));
    for number in 1..=3 {
        send(&producer, TOPIC, 0, &number.to_string());
        rdkafka::producer::Producer::flush(&producer, PATIENCE).unwrap();
        let until = Instant::now() + SHORT * 3;
        while Instant::now() < until {
            producer.poll(SHORT / 10);
        }
    }
    assert_eq!(acks.acknowledged.lock().unwrap().len(), 3);
    let read = read_all(&broker.bootstrap(), TOPIC, 1, "read_uncommitted");
    assert_eq!(texts(&read), ["1", "2", "3"]);
}

#[test]
fn a_client_that_does_not_read_its_response_is_closed_in_time() {
    let dir = tempfile::tempdir().unwrap();
    let broker = impatient(dir.path());
    fill(&broker.bootstrap(), 16);
    let mut reader = connect(broker.addr());
    reader.write_all(&fetch_all()).unwrap();
    std::thread::sleep(SHORT * 4);
    let read = read_to_the_end(&mut reader);
    assert!(read < 14 << 20, "{read} bytes came after all");
    // The same answer goes to one that reads.
    let read = read_all(&broker.bootstrap(), TOPIC, 1, "read_uncommitted");
    assert_eq!(read.len(), 16);
}

fn resident_bytes(pid: i32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kilobytes = line.unwrap().split_whitespace().nth(1).unwrap();
    kilobytes.parse::<u64>().unwrap() << 10
}

#[test]
fn a_hundred_readers_that_never_read_take_little_memory_and_keep_no_client_out() {
    let dir = tempfile::tempdir().unwrap();
    let process = BrokerProcess::start(dir.path(), 0);
    fill(&process.bootstrap, 16);
    let addr: SocketAddr = process.bootstrap.parse().unwrap();
    let before = resident_bytes(process.pid());
    let readers: Vec<TcpStream> = (0..READERS)
        .map(|_| {
            let mut stream = connect(addr);
            stream.write_all(&fetch_all()).unwrap();
            stream
        })
        .collect();
    for reader in &readers {
        assert_eq!(reader.peek(&mut [0]).unwrap(), 1, "no answer has begun");
    }
    let read = read_all(&process.bootstrap, TOPIC, 1, "read_uncommitted");
    assert_eq!(read.len(), 16);
    assert_eq!(read[0].payload().unwrap().len(), 900_000);
    let more = resident_bytes(process.pid()).saturating_sub(before) >> 20;
    assert!(more < 100, "{READERS} readers take {more} MB");
}

#[test]
fn the_client_that_keeps_the_broker_waiting_longest_makes_room() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start_with(dir.path(), |options| options.max_connections = 3);
    one_record(&broker);
    let wait = Duration::from_secs(60);
    let mut waiting = connect(broker.addr());
    assert!(is_served(&mut waiting));
    waiting.write_all(&fetch_next(wait)).unwrap();
    let mut idle = connect(broker.addr());
    assert!(is_served(&mut idle));
    let mut half = connect(broker.addr());
    assert!(is_served(&mut half));
    half.write_all(&[0]).unwrap();

    let mut fourth = connect(broker.addr());
    assert!(is_served(&mut fourth));
    assert_eq!(read_to_the_end(&mut idle), 0);
    fourth.write_all(&fetch_next(wait)).unwrap();
    let mut fifth = connect(broker.addr());
    assert!(is_served(&mut fifth));
    assert_eq!(read_to_the_end(&mut half), 0);
    fifth.write_all(&fetch_next(wait)).unwrap();

    // Now all of them wait for the broker, once it has read that last request.
    wait_for("a refused connection", || {
        let mut sixth = connect(broker.addr());
        let refused = !is_served(&mut sixth);
        if !refused {
            fifth = connect(broker.addr());
            fifth.write_all(&fetch_next(wait)).unwrap();
        }
        refused.then_some(())
    });
    for stream in [&waiting, &fourth] {
        stream.set_nonblocking(true).unwrap();
        let read = stream.peek(&mut [0]).unwrap_err();
        assert_eq!(read.kind(), ErrorKind::WouldBlock, "it waits no longer");
    }
    drop(waiting);
    wait_for("the place of a client that is gone", || {
        is_served(&mut connect(broker.addr())).then_some(())
    });
}

#[test]
fn a_client_that_hangs_up_after_half_of_its_next_request_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start_with(dir.path(), |options| options.max_connections = 1);
    one_record(&broker);
    wait_for("its place", || {
        let mut gone = connect(broker.addr());
        is_served(&mut gone).then(|| {
            let ahead = [&fetch_next(Duration::from_secs(60))[..], &[0]].concat();
            gone.write_all(&ahead).unwrap();
        })
    });
    // Sooner than the fetch would end.
    wait_for("the place of a client that is gone", || {
        is_served(&mut connect(broker.addr())).then_some(())
    });
}
