//! Fetch: waits until there is enough to read, then reads straight into the response. The response
//! is laid out by hand (versions 4 to 11), because the codec would copy every record once more.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::FetchRequest;
use kafka_protocol::messages::fetch_request::FetchPartition;
use tokio::time::Instant;

use crate::broker::Shared;
use crate::buffer::ResponseBuffer;
use crate::log::read::ReadPlan;
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
    loop {
        let (available, failed) = plan(&mut wanted, isolation);
        if session_error != 0 || failed || available >= enough {
            break;
        }
        if tokio::time::timeout_at(deadline, watch.woken())
            .await
            .is_err()
        {
            // What came in since is answered with the next request.
            break;
        }
    }
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
    // What is not in the page cache is waited for, without keeping other connections from this thread.
    tokio::task::block_in_place(|| {
        write_topics(request, &wanted, isolation, version, budget, out);
    });
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
    let start = out.len();
    out.put_i32(one.request.partition);
    let error_at = out.len();
    out.put_i16(one.plan.as_ref().err().map_or(0, ResponseError::code));
    let plan = one.plan.as_ref().ok();
    out.put_i64(plan.map_or(-1, |p| p.high_watermark));
    out.put_i64(plan.map_or(-1, |p| p.stable_end));
    if version >= 5 {
        out.put_i64(plan.map_or(-1, |p| p.log_start));
    }
    let aborted_at = out.len();
    out.put_i32(0);
    if version >= 11 {
        out.put_i32(-1); // preferred read replica
    }
    let length_at = out.len();
    out.put_i32(0);
    let (Some(plan), Some(partition)) = (plan, &one.partition) else {
        return 0;
    };
    let most = usize::try_from(one.request.partition_max_bytes)
        .unwrap_or(0)
        .min(left);
    let records_at = out.len();
    let done = match plan.read(out, most, at_least_one) {
        Ok(done) => done,
        Err(error) => {
            out.truncate(records_at);
            let code = storage_error(Path::new("a partition's segment"), &error).code();
            debug_assert!(error_at > start);
            out.set_i16(error_at, code);
            return 0;
        }
    };
    out.set_i32(length_at, i32::try_from(done.bytes).unwrap_or(0));
    if done.bytes > 0 {
        let mut log = partition.log();
        log.remember(done.next_offset, plan.segment, done.next_position);
        if isolation == Isolation::ReadCommitted {
            let aborted = log.aborted_between(plan.offset, done.next_offset);
            drop(log);
            insert_aborted(&aborted, aborted_at, out);
        }
    }
    done.bytes
}

/// Which transactions were aborted is known after the records were read and stands before them.
fn insert_aborted(aborted: &[Aborted], at: usize, out: &mut ResponseBuffer) {
    if aborted.is_empty() {
        return;
    }
    let mut encoded = Vec::with_capacity(aborted.len() * 16);
    for transaction in aborted {
        encoded.extend(transaction.producer_id.to_be_bytes());
        encoded.extend(transaction.first_offset.to_be_bytes());
    }
    out.set_i32(at, i32::try_from(aborted.len()).unwrap_or(0));
    out.insert(at + 4, &encoded);
}
