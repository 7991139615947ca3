//! `kill -9` of the broker's process in the middle of its work.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write;
use std::time::Duration;

use rdkafka::message::Message;
use rdkafka::producer::{BaseRecord, Producer, ThreadedProducer};

use crate::common::*;

#[test]
fn every_acknowledged_record_is_there_once_after_three_kills() {
    let dir = tempfile::tempdir().unwrap();
    let mut process = BrokerProcess::start(dir.path(), 0);
    let port = process.port();
    let mut config = client(&process.bootstrap);
    config
        .set("enable.idempotence", "true")
        .set("message.timeout.ms", "60000")
        .set("batch.num.messages", "100")
        .set("linger.ms", "1");
    let (producer, acks) = producer(&config);
    let mut sent = 0;
    for _ in 0..3 {
        let acknowledged = acks.acknowledged.lock().unwrap().len();
        // Killed while records flow: some thousands after the last start.
        wait_for("records to flow", || {
            for _ in 0..200 {
                send(&producer, "t", sent % 3, &format!("{sent:07}"));
                sent += 1;
            }
            producer.poll(Duration::ZERO);
            (acks.acknowledged.lock().unwrap().len() > acknowledged + 3_000).then_some(())
        });
        process.kill();
        process = BrokerProcess::start(dir.path(), port);
    }
    producer.flush(Duration::from_secs(60)).unwrap();
    assert_eq!(acks.failed.load(std::sync::atomic::Ordering::Relaxed), 0);
    let acknowledged = acks.acknowledged.lock().unwrap().clone();
    assert_eq!(acknowledged.len(), usize::try_from(sent).unwrap());
    let read = read_all(&process.bootstrap, "t", 3, "read_committed");
    assert_eq!(read.len(), acknowledged.len());
    let mut places = BTreeMap::new();
    for message in &read {
        places.insert(
            (message.partition(), message.offset()),
            message.payload().unwrap().to_vec(),
        );
    }
    for (partition, offset, payload) in acknowledged {
        // An answer lost in a kill is known by its record alone, hence without an offset.
        if offset >= 0 {
            assert_eq!(places.get(&(partition, offset)), Some(&payload));
        }
    }
    let mut payloads: Vec<_> = places.into_values().collect();
    payloads.sort();
    payloads.dedup();
    assert_eq!(payloads.len(), read.len());
}

#[test]
fn transactions_are_whole_after_kills() {
    let dir = tempfile::tempdir().unwrap();
    let mut process = BrokerProcess::start(dir.path(), 0);
    let port = process.port();
    let mut config = client(&process.bootstrap);
    config
        .set("transactional.id", "x")
        .set("transaction.timeout.ms", "60000")
        .set("linger.ms", "1");
    // Polled by a thread of its own, which ending a transaction needs.
    let producer: ThreadedProducer<Acks> = config.create_with_context(Acks::default()).unwrap();
    producer.init_transactions(PATIENCE).unwrap();
    let end = |commit: bool| {
        if commit {
            producer.commit_transaction(PATIENCE)
        } else {
            // An abort drops what is still queued; these must be in the log.
            producer
                .flush(PATIENCE)
                .and_then(|()| producer.abort_transaction(PATIENCE))
        }
    };
    let mut committed = Vec::new();
    for number in 0..48u64 {
        let text = format!("{number:05}");
        producer.begin_transaction().unwrap();
        for partition in 0..3 {
            let record = BaseRecord::<(), str>::to("t")
                .partition(partition)
                .payload(&text);
            producer.send(record).map_err(|(error, _)| error).unwrap();
        }
        let commit = number % 5 != 0;
        let outcome = if number % 8 == 7 {
            std::thread::scope(|scope| {
                let ending = scope.spawn(|| end(commit));
                // At another moment each time: while records are sent, at the decision, at markers.
                std::thread::sleep(Duration::from_millis(number * 7 % 60));
                process.kill();
                process = BrokerProcess::start(dir.path(), port);
                ending.join().unwrap()
            })
        } else {
            end(commit)
        };
        if let Err(error) = outcome {
            producer
                .abort_transaction(PATIENCE)
                .unwrap_or_else(|_| panic!("{error}"));
        } else if commit {
            committed.push(text);
        }
    }
    assert!(committed.len() > 20, "{} transactions", committed.len());
    let read = read_all(&process.bootstrap, "t", 3, "read_committed");
    for partition in 0..3 {
        let of_partition: Vec<_> = read
            .iter()
            .filter(|m| m.partition() == partition)
            .cloned()
            .collect();
        assert_eq!(texts(&of_partition), committed, "partition {partition}");
    }
    let all = read_all(&process.bootstrap, "t", 3, "read_uncommitted");
    assert!(all.len() > read.len(), "nothing was aborted");
}

#[test]
fn a_torn_tail_is_cut_off_and_the_log_continues() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start_with(dir.path(), |o| o.default_partitions = 1);
    send_numbers(&broker.bootstrap(), "t", 0..50);
    broker.shutdown().unwrap();
    let segment = dir.path().join("topics/t/0/00000000000000000000.log");
    let whole = std::fs::read(&segment).unwrap();
    let torn: [Vec<u8>; 4] = [
        whole[..30].to_vec(),
        whole[..whole.len().min(75)].to_vec(),
        vec![0; 4096],
        // A header that promises more than there is.
        [&whole[..8], &i32::MAX.to_be_bytes()[..], &whole[12..61]].concat(),
    ];
    for (i, tail) in torn.into_iter().enumerate() {
        let mut file = OpenOptions::new().append(true).open(&segment).unwrap();
        file.write_all(&tail).unwrap();
        let broker = start(dir.path());
        let so_far = 50 + u64::try_from(i).unwrap();
        send_numbers(&broker.bootstrap(), "t", so_far..so_far + 1);
        let read = texts(&read_all(&broker.bootstrap(), "t", 1, "read_committed"));
        let expected: Vec<_> = (0..=so_far).map(|n| n.to_string()).collect();
        assert_eq!(read, expected, "tail {i}");
        broker.shutdown().unwrap();
    }
}

#[test]
fn a_flipped_bit_in_the_last_batch_costs_that_batch_alone() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start_with(dir.path(), |o| o.default_partitions = 1);
    send_numbers(&broker.bootstrap(), "t", 0..10);
    send_numbers(&broker.bootstrap(), "t", 10..20);
    broker.shutdown().unwrap();
    let segment = dir.path().join("topics/t/0/00000000000000000000.log");
    let mut bytes = std::fs::read(&segment).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&segment, &bytes).unwrap();
    let broker = start(dir.path());
    let read = texts(&read_all(&broker.bootstrap(), "t", 1, "read_committed"));
    assert!(
        read.len() >= 10 && read.len() < 20,
        "{} records",
        read.len()
    );
    send_numbers(&broker.bootstrap(), "t", 20..21);
}
