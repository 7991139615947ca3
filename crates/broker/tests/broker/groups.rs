//! Consumer groups with librdkafka's own assignors.

use std::collections::BTreeSet;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};

use crate::common::*;

const PARTITIONS: i32 = 6;

fn member(bootstrap: &str, assignor: &str, instance: Option<&str>) -> BaseConsumer {
    let mut config: ClientConfig = consumer_config(bootstrap, "g");
    config
        .set("partition.assignment.strategy", assignor)
        .set("session.timeout.ms", "6000");
    if let Some(instance) = instance {
        config.set("group.instance.id", instance);
    }
    let consumer: BaseConsumer = config.create().unwrap();
    consumer.subscribe(&["t"]).unwrap();
    consumer
}

fn partitions_of(consumer: &BaseConsumer) -> BTreeSet<i32> {
    while consumer.poll(Duration::from_millis(5)).is_some() {}
    let assignment = consumer.assignment().unwrap();
    assignment
        .elements()
        .iter()
        .map(|e| e.partition())
        .collect()
}

/// Polls all until they share all partitions with `most` each at most.
fn settle(members: &[&BaseConsumer], most: usize) -> Vec<BTreeSet<i32>> {
    wait_for("the group to settle", || {
        let shares: Vec<_> = members.iter().map(|m| partitions_of(m)).collect();
        let all: BTreeSet<i32> = shares.iter().flatten().copied().collect();
        let count: usize = shares.iter().map(BTreeSet::len).sum();
        let settled =
            count == all.len() && all.len() == 6 && shares.iter().all(|s| s.len() <= most);
        settled.then_some(shares)
    })
}

fn two_members_share(assignor: &str) {
    let dir = tempfile::tempdir().unwrap();
    let broker = start_with(dir.path(), |o| o.default_partitions = PARTITIONS);
    let at = broker.bootstrap();
    send_numbers(&at, "t", 0..1);
    let first = member(&at, assignor, None);
    settle(&[&first], 6);
    let second = member(&at, assignor, None);
    settle(&[&first, &second], 3);
    let list = second.fetch_group_list(Some("g"), PATIENCE).unwrap();
    let group = &list.groups()[0];
    assert_eq!(
        (group.state(), group.protocol(), group.members().len()),
        ("Stable", assignor, 2)
    );
    drop(second);
    settle(&[&first], 6);
}

#[test]
fn two_members_share_by_range_and_one_takes_over_when_the_other_leaves() {
    two_members_share("range");
}

#[test]
fn two_members_share_cooperatively_and_one_takes_over_when_the_other_leaves() {
    two_members_share("cooperative-sticky");
}

#[test]
fn a_static_member_returns_to_its_partitions_without_a_rebalance() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start_with(dir.path(), |o| o.default_partitions = PARTITIONS);
    let at = broker.bootstrap();
    send_numbers(&at, "t", 0..1);
    let first = member(&at, "range", Some("one"));
    let second = member(&at, "range", Some("two"));
    let before = settle(&[&first, &second], 3);
    // librdkafka does not leave the group for a static member that is closed.
    drop(second);
    let second = member(&at, "range", Some("two"));
    let after = settle(&[&first, &second], 3);
    assert_eq!(before, after);
    // A second consumer of the same instance takes its place; the first is fenced.
    let usurper = member(&at, "range", Some("two"));
    wait_for("the fence", || {
        let _ = usurper.poll(Duration::from_millis(5));
        let _ = second.poll(Duration::from_millis(5));
        second.client().fatal_error()
    });
    settle(&[&first, &usurper], 3);
}

#[test]
fn a_member_that_vanishes_is_removed_when_its_session_ends() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start_with(dir.path(), |o| o.default_partitions = PARTITIONS);
    let at = broker.bootstrap();
    send_numbers(&at, "t", 0..1);
    let first = member(&at, "range", None);
    let mut config = consumer_config(&at, "g");
    // A static member does not leave when it is closed: it vanishes.
    config
        .set("partition.assignment.strategy", "range")
        .set("group.instance.id", "gone")
        .set("heartbeat.interval.ms", "100")
        .set("session.timeout.ms", "600");
    let vanishing: BaseConsumer = config.create().unwrap();
    vanishing.subscribe(&["t"]).unwrap();
    settle(&[&first, &vanishing], 3);
    drop(vanishing);
    settle(&[&first], 6);
}
