//! Batches with a correct checksum whose records no reader can use: refused as Apache Kafka refuses
//! them, before they are acknowledged, and the topic stays readable.

use crate::common::*;

const TOPIC: &str = "t";
/// The codes of Kafka's protocol, <https://kafka.apache.org/protocol#protocol_error_codes>.
const INVALID_TIMESTAMP: i16 = 32;
const UNSUPPORTED_COMPRESSION_TYPE: i16 = 76;
const INVALID_RECORD: i16 = 87;

/// Sends a batch as it is to partition 0; returns the error's code and the offset it got.
fn produce(addr: std::net::SocketAddr, batch: &[u8]) -> (i16, i64) {
    let mut body = header(0, 3);
    body.extend([0xff, 0xff, 0xff, 0xff, 0, 0, 0, 9]); // no transaction, acks all, a time
    body.extend([0, 0, 0, 1, 0, 1, b't', 0, 0, 0, 1, 0, 0, 0, 0]); // the topic, one partition
    body.extend(i32::try_from(batch.len()).unwrap().to_be_bytes());
    body.extend(batch);
    let answer = throw(addr, &frame(&body));
    // Length, correlation id, one topic with its name, one partition with its number.
    let answer = &answer[4 + 4 + 4 + 3 + 4 + 4..];
    let error = i16::from_be_bytes(answer[..2].try_into().unwrap());
    let offset = i64::from_be_bytes(answer[2..10].try_into().unwrap());
    (error, offset)
}

#[test]
fn batches_that_lie_are_refused_and_the_topic_stays_readable() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path());
    send_numbers(&broker.bootstrap(), TOPIC, 0..1);
    let lies: [(&str, &[u8], i16); 4] = [
        (
            "one record is counted, two are there",
            include_bytes!("../data/count1_has2.bin"),
            INVALID_RECORD,
        ),
        (
            "random bytes as records",
            include_bytes!("../data/garbage_records.bin"),
            INVALID_RECORD,
        ),
        (
            "a codec that does not exist",
            include_bytes!("../data/codec7.bin"),
            UNSUPPORTED_COMPRESSION_TYPE,
        ),
        (
            "a timestamp of 2^62 ms",
            include_bytes!("../data/timestamp_2_62.bin"),
            INVALID_TIMESTAMP,
        ),
    ];
    for (lie, batch, code) in lies {
        assert_eq!(produce(broker.addr(), batch), (code, -1), "{lie}");
    }
    send_numbers(&broker.bootstrap(), TOPIC, 1..2);
    let read = read_all(&broker.bootstrap(), TOPIC, 1, "read_uncommitted");
    assert_eq!(texts(&read), ["0", "1"]);
}
