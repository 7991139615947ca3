//! librdkafka's lists of partitions.

use rdkafka::bindings as sys;
use rdkafka::types::RDKafkaRespErr as Code;

/// A list of partitions with offsets, owned.
pub(super) struct PartitionList(pub(super) *mut sys::rd_kafka_topic_partition_list_t);

impl PartitionList {
    /// Partition and offset of each element.
    pub(super) fn entries(&self) -> Vec<(i32, i64)> {
        // SAFETY: owned; `elems` holds `cnt` elements.
        unsafe { entries(self.0) }
    }
}

impl Drop for PartitionList {
    fn drop(&mut self) {
        // SAFETY: owned, destroyed once.
        unsafe { sys::rd_kafka_topic_partition_list_destroy(self.0) }
    }
}

/// SAFETY: `list` is null or a live list.
pub(super) unsafe fn entries(list: *const sys::rd_kafka_topic_partition_list_t) -> Vec<(i32, i64)> {
    // SAFETY: by contract.
    unsafe { elements(list) }
        .iter()
        .map(|element| (element.partition, element.offset))
        .collect()
}

/// The elements that the broker did not refuse. SAFETY: `list` is null or a live list.
pub(super) unsafe fn taken(list: *const sys::rd_kafka_topic_partition_list_t) -> Vec<(i32, i64)> {
    // SAFETY: by contract.
    unsafe { elements(list) }
        .iter()
        .filter(|element| element.err == Code::RD_KAFKA_RESP_ERR_NO_ERROR)
        .map(|element| (element.partition, element.offset))
        .collect()
}

/// SAFETY: `list` is null or a live list, which outlives the result.
unsafe fn elements<'a>(
    list: *const sys::rd_kafka_topic_partition_list_t,
) -> &'a [sys::rd_kafka_topic_partition_t] {
    // SAFETY: by contract; `elems` holds `cnt` elements.
    unsafe {
        match list.as_ref() {
            Some(list) if !list.elems.is_null() => {
                std::slice::from_raw_parts(list.elems, usize::try_from(list.cnt).unwrap_or(0))
            }
            _ => &[],
        }
    }
}

pub(super) fn without_offsets(partitions: &[i32]) -> Vec<(i32, i64)> {
    partitions
        .iter()
        .map(|partition| (*partition, i64::from(sys::RD_KAFKA_OFFSET_INVALID)))
        .collect()
}
