//! Fetch: waits until there is enough to read, then puts into the response where it stands in the
//! segments' files. The response is laid out by hand (versions 4 to 11), because the codec would hold
//! every record in memory.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::FetchRequest;
use kafka_protocol::messages::fetch_request::FetchPartition;
use tokio::time::Instant;

use super::code;
use crate::broker::Shared;
use crate::buffer::{FileRange, ResponseBuffer};
use crate::log::read::{ReadPlan, Selected};
use crate::log::{Aborted, Isolation, storage_error};
use crate::topics::{Partition, Watch};

/// A client that asks for longer gets an empty answer and asks again.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

struct Wanted<'a> {
    topic: usize,
    request: &'a FetchPartition,
    partition: Option<Arc<Partition>>,
    plan: Result<ReadPlan, ResponseError>,
}

/// Writes the response's body to `out`.
pub(crate) async fn fetch(
    shared: &Shared,
    request: &FetchRequest,
    version: i16,
    out: &mut ResponseBuffer,
) {
    let isolation = Isolation::from_wire(request.isolation_level);
    // Without fetch sessions every request names all its partitions, which is cheap in one process.
    let session_error = if version >= 7 && request.session_id != 0 {
        ResponseError::FetchSessionIdNotFound.code()
    } else {
        0
    };
    let mut wanted = find(shared, request);
    let partitions = wanted.iter().filter_map(|w| w.partition.clone()).collect();
    let watch = Watch::new(partitions);
    let wait =
        Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0)).min(LONGEST_WAIT);
    let deadline = Instant::now() + wait;
    let enough = u64::try_from(request.min_bytes).unwrap_or(0);
    let available = loop {
        let (available, failed) = plan(&mut wanted, isolation);
        if session_error != 0 || failed || available >= enough {
            break available;
        }
        if tokio::time::timeout_at(deadline, watch.woken())
            .await
            .is_err()
        {
            // What came in since is answered with the next request.
            break available;
        }
    };
    drop(watch);
    let budget = usize::try_from(request.max_bytes)
        .unwrap_or(0)
        .min(shared.options.max_fetch_bytes);
    out.put_i32(0); // throttle time
    if version >= 7 {
        out.put_i16(session_error);
        out.put_i32(0); // session id
    }
    let wanted = if session_error == 0 {
        wanted
    } else {
        Vec::new()
    };
    let mut write = || write_topics(request, &wanted, isolation, version, budget, out);
    if available == 0 {
        write();
    } else {
        // Headers that are not in the page cache are waited for, without keeping other connections from
        // this thread.
        tokio::task::block_in_place(write);
    }
}

fn find<'a>(shared: &Shared, request: &'a FetchRequest) -> Vec<Wanted<'a>> {
    let mut wanted = Vec::new();
    for (topic, in_topic) in request.topics.iter().enumerate() {
        let partitions = shared.topics.get(&in_topic.topic);
        for request in &in_topic.partitions {
            let index = usize::try_from(request.partition).ok();
            let found = index.and_then(|i| partitions.as_ref()?.get(i).cloned());
            wanted.push(Wanted {
                topic,
                request,
                partition: found,
                plan: Err(ResponseError::UnknownTopicOrPartition),
            });
        }
    }
    wanted
}

/// Plans every partition; returns the bytes there are and whether any partition has an error.
fn plan(wanted: &mut [Wanted<'_>], isolation: Isolation) -> (u64, bool) {
    let mut available = 0;
    let mut failed = false;
    for one in wanted {
        if let Some(partition) = &one.partition {
            one.plan = partition
                .log()
                .plan_read(one.request.fetch_offset, isolation);
        }
        match &one.plan {
            Ok(plan) => available += plan.available_bytes(),
            Err(_) => failed = true,
        }
    }
    (available, failed)
}

fn write_topics(
    request: &FetchRequest,
    wanted: &[Wanted<'_>],
    isolation: Isolation,
    version: i16,
    budget: usize,
    out: &mut ResponseBuffer,
) {
    let mut left = budget;
    let mut empty = true;
    let topics = if wanted.is_empty() {
        &[][..]
    } else {
        &request.topics
    };
    out.put_i32(i32::try_from(topics.len()).unwrap_or(0));
    for (at, topic) in topics.iter().enumerate() {
        out.put_string(&topic.topic);
        out.put_i32(i32::try_from(topic.partitions.len()).unwrap_or(0));
        for one in wanted.iter().filter(|w| w.topic == at) {
            let bytes = write_partition(one, isolation, version, left, empty, out);
            left = left.saturating_sub(bytes);
            empty &= bytes == 0;
        }
    }
}

/// Writes one partition's part and returns how many bytes of records it has.
fn write_partition(
    one: &Wanted<'_>,
    isolation: Isolation,
    version: i16,
    left: usize,
    at_least_one: bool,
    out: &mut ResponseBuffer,
) -> usize {
    let most = usize::try_from(one.request.partition_max_bytes)
        .unwrap_or(0)
        .min(left);
    let found = match (&one.plan, &one.partition) {
        (Ok(plan), Some(partition)) => match plan.select(most, at_least_one) {
            Ok(selected) => Ok((plan, partition, selected)),
            Err(error) => Err(storage_error(Path::new("a partition's segment"), &error)),
        },
        (Err(error), _) => Err(*error),
        (Ok(_), None) => Err(ResponseError::UnknownTopicOrPartition),
    };
    out.put_i32(one.request.partition);
    out.put_i16(code(&found));
    let Ok((plan, partition, selected)) = found else {
        return write_nothing(version, out);
    };
    out.put_i64(plan.high_watermark);
    out.put_i64(plan.stable_end);
    if version >= 5 {
        out.put_i64(plan.log_start);
    }
    let aborted = note_selected(plan, partition, &selected, isolation);
    out.put_i32(i32::try_from(aborted.len()).unwrap_or(0));
    for transaction in aborted {
        out.put_i64(transaction.producer_id);
        out.put_i64(transaction.first_offset);
    }
    if version >= 11 {
        out.put_i32(-1); // preferred read replica
    }
    out.put_i32(i32::try_from(selected.bytes).unwrap_or(0));
    out.put_file(FileRange {
        file: Arc::clone(&plan.file),
        position: selected.position,
        bytes: selected.bytes,
    });
    selected.bytes
}

/// The rest of a partition's part that has an error.
fn write_nothing(version: i16, out: &mut ResponseBuffer) -> usize {
    out.put_i64(-1); // high watermark
    out.put_i64(-1); // last stable offset
    if version >= 5 {
        out.put_i64(-1); // start of the log
    }
    out.put_i32(0); // aborted transactions
    if version >= 11 {
        out.put_i32(-1); // preferred read replica
    }
    out.put_i32(0); // bytes of records
    0
}

/// Remembers where the reader's next batch begins; returns the aborted transactions that it must
/// leave out.
fn note_selected(
    plan: &ReadPlan,
    partition: &Partition,
    selected: &Selected,
    isolation: Isolation,
) -> Vec<Aborted> {
    if selected.bytes == 0 {
        return Vec::new();
    }
    let mut log = partition.log();
    log.remember(selected.next_offset, plan.segment, selected.next_position());
    match isolation {
        Isolation::ReadCommitted => log.aborted_between(plan.offset, selected.next_offset),
        Isolation::ReadUncommitted => Vec::new(),
    }
}
