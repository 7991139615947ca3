//! What librdkafka knows of its fetching: the only place where it shows how far it came through
//! records that it hands to no application, such as the marks of transactions.

use std::collections::BTreeMap;

use serde::Deserialize;

/// How far a partition was fetched, once a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fetched {
    pub partition: i32,
    /// The next offset to fetch.
    pub next: i64,
    /// Where the records end that `read_committed` shows: the first offset of the oldest open
    /// transaction, or the log's end.
    pub stable_end: i64,
    /// The offset that the log's next record gets.
    pub end: i64,
    /// Whether all records that were fetched, of any partition, have been taken.
    pub all_taken: bool,
    /// Answers so far of the broker that leads the partition; 0 while there is no connection.
    pub answers: u64,
}

#[derive(Deserialize)]
struct Statistics {
    brokers: BTreeMap<String, Broker>,
    topics: BTreeMap<String, Topic>,
}

#[derive(Deserialize)]
struct Broker {
    nodeid: i32,
    state: String,
    rx: u64,
}

#[derive(Deserialize)]
struct Topic {
    partitions: BTreeMap<String, Partition>,
}

#[derive(Deserialize)]
struct Partition {
    partition: i32,
    broker: i32,
    fetchq_cnt: i64,
    next_offset: i64,
    ls_offset: i64,
    hi_offset: i64,
}

/// The partitions that were fetched at least once, of librdkafka's statistics (its
/// STATISTICS.md).
pub(super) fn parse(json: &[u8]) -> Result<Vec<Fetched>, serde_json::Error> {
    let statistics: Statistics = serde_json::from_slice(json)?;
    let answers_of = |node| {
        let mut brokers = statistics.brokers.values();
        brokers
            .find(|broker| broker.nodeid == node && broker.state == "UP")
            .map_or(0, |broker| broker.rx)
    };
    let partitions = statistics
        .topics
        .values()
        .flat_map(|topic| topic.partitions.values())
        .filter(|partition| partition.next_offset >= 0 && partition.hi_offset >= 0);
    let fetched = partitions.map(|found| Fetched {
        partition: found.partition,
        next: found.next_offset,
        stable_end: found.ls_offset,
        end: found.hi_offset,
        all_taken: found.fetchq_cnt == 0,
        answers: answers_of(found.broker),
    });
    Ok(fetched.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_that_were_fetched_are_found_with_their_brokers_answers() {
        let json = br#"{"brokers": {"a:1/1": {"nodeid": 1, "state": "UP", "rx": 7, "tx": 8},
            "b:1/2": {"nodeid": 2, "state": "CONNECT", "rx": 9}},
            "topics": {"t": {"topic": "t", "partitions": {
            "0": {"partition": 0, "broker": 1, "fetchq_cnt": 0, "next_offset": 5, "ls_offset": 5, "hi_offset": 9},
            "1": {"partition": 1, "broker": 2, "fetchq_cnt": 3, "next_offset": 6, "ls_offset": 8, "hi_offset": 8},
            "-1": {"partition": -1, "broker": -1, "fetchq_cnt": 0, "next_offset": -1001, "ls_offset": -1001, "hi_offset": -1001}}}}}"#;
        let found = parse(json).expect("librdkafka's form");
        let expected = [
            Fetched {
                partition: 0,
                next: 5,
                stable_end: 5,
                end: 9,
                all_taken: true,
                answers: 7,
            },
            Fetched {
                partition: 1,
                next: 6,
                stable_end: 8,
                end: 8,
                all_taken: false,
                answers: 0,
            },
        ];
        assert_eq!(found.len(), 2);
        assert!(expected.iter().all(|one| found.contains(one)), "{found:?}");
    }
}
