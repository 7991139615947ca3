//! Bytes that no client sends: they close their connection and affect no other client.

use std::net::SocketAddr;

use ftap_broker::BrokerHandle;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use rdkafka::consumer::{BaseConsumer, Consumer};

use crate::common::*;

fn assert_serving(broker: &BrokerHandle) {
    let consumer: BaseConsumer = client(&broker.bootstrap())
        .set("group.id", "g")
        .create()
        .unwrap();
    let metadata = consumer.fetch_metadata(None, PATIENCE).unwrap();
    assert_eq!(metadata.brokers().len(), 1);
}

#[test]
fn frames_of_impossible_size_close_the_connection() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path());
    for length in [-1, 0, 7, i32::MAX, i32::MIN] {
        let answer = throw(broker.addr(), &length.to_be_bytes());
        assert_eq!(answer, [0u8; 0], "length {length}");
    }
    assert_serving(&broker);
}

#[test]
fn a_claim_of_two_thousand_million_elements_does_not_end_the_process() {
    let dir = tempfile::tempdir().unwrap();
    let process = BrokerProcess::start(dir.path(), 0);
    let addr: SocketAddr = process.bootstrap.parse().unwrap();
    for (api, version) in [(3, 8), (3, 1), (2, 5), (15, 4), (20, 3), (9, 7)] {
        let body = [
            &header(api, version)[..],
            &i32::MAX.to_be_bytes()[..],
            &[0; 64],
        ]
        .concat();
        throw(addr, &frame(&body));
    }
    let good = frame(&header(18, 0));
    assert!(throw(addr, &good).len() > 20, "the broker is gone");
}

#[test]
fn requests_cut_off_anywhere_do_no_harm() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path());
    let whole = frame(&[&header(3, 1)[..], &[0, 0, 0, 1, 0, 1, b'x'][..]].concat());
    for cut in 0..whole.len() {
        assert_eq!(
            throw(broker.addr(), &whole[..cut]),
            [0u8; 0],
            "cut at {cut}"
        );
    }
    assert!(throw(broker.addr(), &whole).len() > 20);
    assert_serving(&broker);
}

#[test]
fn random_requests_leave_the_broker_serving() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path());
    let addr = broker.addr();
    let mut runner = TestRunner::new(Config::with_cases(600));
    let requests = (
        0i16..62,
        0i16..12,
        proptest::collection::vec(any::<u8>(), 0..120),
    );
    let thrown = runner.run(&requests, |(api, version, body)| {
        throw(
            addr,
            &frame(&[&header(api, version)[..], &body[..]].concat()),
        );
        Ok(())
    });
    thrown.unwrap();
    assert_serving(&broker);
}

#[test]
fn mutated_requests_leave_the_broker_serving() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path());
    let addr = broker.addr();
    let templates: Vec<Vec<u8>> = vec![
        [&header(3, 1)[..], &[0, 0, 0, 1, 0, 1, b'x']].concat(),
        // Produce: no transaction, acks 1, one topic with one partition and 70 bytes of records.
        [
            &header(0, 3)[..],
            &[
                0xff, 0xff, 0, 1, 0, 0, 0, 9, 0, 0, 0, 1, 0, 1, b'x', 0, 0, 0, 1, 0, 0, 0, 0, 0, 0,
                0, 70,
            ],
            &[2; 70],
        ]
        .concat(),
        // Fetch: a wait of 1 ms.
        [
            &header(1, 4)[..],
            &[
                0xff, 0xff, 0xff, 0xff, 0, 0, 0, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0, 1, 0, 1,
                b'x', 0, 0, 0, 1,
            ],
            &[0; 16],
        ]
        .concat(),
        [
            &header(11, 0)[..],
            &[
                0, 1, b'g', 0, 0, 0, 100, 0, 0, 0, 1, b'c', 0, 0, 0, 1, 0, 1, b'p', 0, 0, 0, 0,
            ],
        ]
        .concat(),
        [&header(22, 0)[..], &[0, 1, b'i', 0, 0, 3, 0xe8]].concat(),
    ];
    let mut runner = TestRunner::new(Config::with_cases(600));
    let mutations = (
        0..templates.len(),
        proptest::collection::vec((0usize..200, any::<u8>()), 0..4),
    );
    let thrown = runner.run(&mutations, |(template, edits)| {
        let mut bytes = frame(&templates[template]);
        for (at, value) in edits {
            // The length stays, so that the body is looked at.
            let at = 4 + at % (bytes.len() - 4);
            bytes[at] = value;
        }
        throw(addr, &bytes);
        Ok(())
    });
    thrown.unwrap();
    assert_serving(&broker);
    let consumer: BaseConsumer = client(&broker.bootstrap())
        .set("group.id", "g")
        .create()
        .unwrap();
    consumer.fetch_group_list(None, PATIENCE).unwrap();
}
