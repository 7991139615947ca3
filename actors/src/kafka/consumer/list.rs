//! librdkafka's lists of partitions.

use rdkafka::bindings as sys;

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
    if list.is_null() {
        return Vec::new();
    }
    // SAFETY: by contract.
    unsafe {
        let count = usize::try_from((*list).cnt).unwrap_or(0);
        (0..count)
            .map(|index| {
                let element = &*(*list).elems.add(index);
                (element.partition, element.offset)
            })
            .collect()
    }
}

pub(super) fn without_offsets(partitions: &[i32]) -> Vec<(i32, i64)> {
    partitions
        .iter()
        .map(|partition| (*partition, i64::from(sys::RD_KAFKA_OFFSET_INVALID)))
        .collect()
}
