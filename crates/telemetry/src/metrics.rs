//! What is counted, for the live status, the run's summary and `/metrics` alike.
//!
//! [`Meters`] keeps the few figures that the program itself shows; each change
//! also goes to the `metrics` recorder under the names in [`names`], which
//! follow Prometheus' conventions.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicI64, AtomicU64};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use ::metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};

/// Metric names.

pub mod names {
    pub const ROWS_READ: &str = "ftap_source_rows_read_total";
    pub const ROWS_PUBLISHED: &str = "ftap_rows_published_total";
    pub const SOURCE_ROWS_REJECTED: &str = "ftap_source_rows_rejected_total";
    pub const RECORDS_CONSUMED: &str = "ftap_records_consumed_total";
    pub const ROWS_COMMITTED: &str = "ftap_lake_rows_committed_total";
    pub const RECORDS_REJECTED: &str = "ftap_records_rejected_total";
    pub const FILES: &str = "ftap_lake_files_committed_total";
    pub const FILES_ADOPTED: &str = "ftap_lake_files_adopted_total";
    pub const BYTES: &str = "ftap_lake_bytes_committed_total";
    pub const FLUSH_SECONDS: &str = "ftap_lake_flush_duration_seconds";
    pub const OFFSETS_SKIPPED: &str = "ftap_offsets_skipped_total";
    pub const LAG_RECORDS: &str = "ftap_consumer_lag_records";
    pub const LAG_SECONDS: &str = "ftap_consumer_lag_seconds";
    pub const RESTARTS: &str = "ftap_actor_restarts_total";
    pub const MAILBOX_DEPTH: &str = "ftap_mailbox_depth";
    pub const MEMORY: &str = "ftap_ingest_memory_bytes";
    pub const LAKE_RETRIES: &str = "ftap_lake_retries_total";
    pub const JOB_RUNS: &str = "ftap_job_runs_total";
    pub const USERS_UPDATED: &str = "ftap_users_updated_total";
    pub const FX_REQUESTS: &str = "ftap_fx_requests_total";
    pub const FX_QUOTA: &str = "ftap_fx_quota_remaining";
    pub const BIGQUERY_ROWS: &str = "ftap_bigquery_rows_loaded_total";
    pub const BIGQUERY_OBJECTS: &str = "ftap_bigquery_objects_loaded_total";
    pub const BIGQUERY_DIFFERING: &str = "ftap_bigquery_rows_differing_total";
    pub const BIGQUERY_JOBS: &str = "ftap_bigquery_jobs_total";
    pub const BIGQUERY_WAITING: &str = "ftap_bigquery_objects_waiting";
    pub const BIGQUERY_LAST_LOAD: &str = "ftap_bigquery_last_load_timestamp_seconds";
    pub const CHANGES: &str = "ftap_changes_committed_total";
    pub const CHANGE_FILES: &str = "ftap_change_files_committed_total";
    pub const SLOT_CONNECTED: &str = "ftap_slot_connected";
    pub const SLOT_LAG_BYTES: &str = "ftap_slot_lag_bytes";
    pub const SLOT_LAG_SECONDS: &str = "ftap_slot_lag_seconds";
    pub const SLOT_WAL_BYTES: &str = "ftap_slot_retained_wal_bytes";
    pub const SOURCE_UP: &str = "ftap_platform_up";
    pub const TOPIC_END_OFFSET: &str = "ftap_platform_topic_end_offset";
    pub const GROUP_OFFSET: &str = "ftap_platform_group_committed_offset";
    pub const GROUP_LAG_RECORDS: &str = "ftap_platform_group_lag_records";
    pub const LAKE_OBJECTS: &str = "ftap_platform_lake_objects";
    pub const LAKE_BYTES: &str = "ftap_platform_lake_bytes";
    pub const LAKE_NEWEST: &str = "ftap_platform_lake_newest_timestamp_seconds";
    pub const LAKE_END_OFFSET: &str = "ftap_platform_lake_end_offset";
    pub const TABLE_ROWS: &str = "ftap_platform_table_rows";
    pub const SOURCE_SLOT_ACTIVE: &str = "ftap_platform_slot_active";
    pub const SOURCE_SLOT_LAG_BYTES: &str = "ftap_platform_slot_lag_bytes";
    pub const SOURCE_SLOT_WAL_BYTES: &str = "ftap_platform_slot_retained_wal_bytes";
}

/// Counters and gauges of one process. Shared by reference, never reset.
#[derive(Debug, Default)]
pub struct Meters {
    rows_read: AtomicU64,
    rows_published: AtomicU64,
    source_rows_rejected: AtomicU64,
    records_consumed: AtomicU64,
    rows_committed: AtomicU64,
    records_rejected: AtomicU64,
    files: AtomicU64,
    bytes: AtomicU64,
    offsets_skipped: AtomicU64,
    restarts: AtomicU64,
    memory_bytes: AtomicU64,
    publish_total: AtomicU64,
    last_commit_timestamp_ms: AtomicI64,
    lag: Mutex<BTreeMap<i32, i64>>,
    changes: AtomicU64,
    slot: Mutex<Option<SlotLag>>,
}

/// How far change capture is behind PostgreSQL.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SlotLag {
    /// Whether the slot is being read.
    pub connected: bool,
    /// Log that is not acknowledged, in bytes.
    pub lag_bytes: u64,
    /// How long the oldest of it has been there, in seconds.
    pub lag_seconds: f64,
    /// Log that the server keeps for the slot, in bytes.
    pub retained_bytes: u64,
}

/// The figures at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Rows read from the events file.
    pub rows_read: u64,
    /// Rows committed to the topic by this process.
    pub rows_published: u64,
    /// Rows of the events file passed over as broken.
    pub source_rows_rejected: u64,
    /// Records taken from Kafka.
    pub records_consumed: u64,
    /// Rows made durable in the lake by this process.
    pub rows_committed: u64,
    /// Records made durable as rejections by this process.
    pub records_rejected: u64,
    /// Objects written.
    pub files: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Offsets skipped with a logged range.
    pub offsets_skipped: u64,
    /// Restarts of groups.
    pub restarts: u64,
    /// Memory between the consumer and the lake.
    pub memory_bytes: u64,
    /// Rows of the source that are to be published in all; 0 while unknown.
    pub publish_total: u64,
    /// Records in the topic that are not durable in the lake, all partitions of this
    /// process; `None` while it has none, which is not the same as no lag.
    pub lag_records: Option<i64>,
}

impl Meters {
    /// Tells the recorder what each name means. Call once, after installing it.
    pub fn describe() {
        use names::*;
        describe_counter!(ROWS_READ, "Rows read from the events file");
        describe_counter!(ROWS_PUBLISHED, "Rows committed to the Kafka topic");
        describe_counter!(
            SOURCE_ROWS_REJECTED,
            "Rows of the events file passed over as broken"
        );
        describe_counter!(RECORDS_CONSUMED, "Records taken from the Kafka topic");
        describe_counter!(ROWS_COMMITTED, "Rows made durable in the lake");
        describe_counter!(
            RECORDS_REJECTED,
            "Records sent to the dead-letter topic, by reason"
        );
        describe_counter!(FILES, "Objects written to the lake");
        describe_counter!(FILES_ADOPTED, "Objects of another writer taken over");
        describe_counter!(BYTES, "Bytes written to the lake");
        describe_histogram!(FLUSH_SECONDS, "From closing a file until it is durable");
        describe_counter!(
            OFFSETS_SKIPPED,
            "Offsets neither in the lake nor in the topic any more"
        );
        describe_gauge!(
            LAG_RECORDS,
            "Records in the topic that are not in the lake, by partition"
        );
        describe_gauge!(
            LAG_SECONDS,
            "Age of the oldest record that is not in the lake, by partition"
        );
        describe_counter!(JOB_RUNS, "Runs of batch jobs by job and outcome");
        describe_counter!(
            FX_REQUESTS,
            "Requests to the FX API that brought rates, retries included"
        );
        describe_gauge!(
            FX_QUOTA,
            "Requests that the FX API's plan has left, by period"
        );
        describe_counter!(USERS_UPDATED, "Users changed by the update job");
        describe_counter!(RESTARTS, "Restarts by actor and cause");
        describe_gauge!(MAILBOX_DEPTH, "Messages waiting, by actor");
        describe_gauge!(MEMORY, "Memory between the consumer and the lake");
        describe_counter!(
            LAKE_RETRIES,
            "Puts and reads of the lake that were tried again"
        );
        describe_counter!(BIGQUERY_ROWS, "Rows loaded into BigQuery, by table");
        describe_counter!(BIGQUERY_OBJECTS, "Objects loaded into BigQuery, by table");
        describe_counter!(
            BIGQUERY_DIFFERING,
            "Rows by which BigQuery's count of a load differs from the objects', by table"
        );
        describe_counter!(BIGQUERY_JOBS, "Load jobs that ended, by outcome");
        describe_gauge!(
            BIGQUERY_WAITING,
            "Objects found that are not in BigQuery yet, by table; at most those of one job"
        );
        describe_gauge!(
            BIGQUERY_LAST_LOAD,
            "When this process last finished a load, by table"
        );
        describe_counter!(CHANGES, "Changes durable in the lake, by table");
        describe_counter!(CHANGE_FILES, "Objects of changes in the lake, by table");
        describe_gauge!(SLOT_CONNECTED, "Whether the replication slot is being read");
        describe_gauge!(SLOT_LAG_BYTES, "PostgreSQL's log that is not acknowledged");
        describe_gauge!(
            SLOT_LAG_SECONDS,
            "How long the oldest log that is not acknowledged has been there"
        );
        describe_gauge!(SLOT_WAL_BYTES, "Log that PostgreSQL keeps for the slot");
        describe_gauge!(SOURCE_UP, "Whether what `ftap serve` watches answers");
        describe_gauge!(TOPIC_END_OFFSET, "The next record's offset, by partition");
        describe_gauge!(GROUP_OFFSET, "What the group has committed, by partition");
        describe_gauge!(
            GROUP_LAG_RECORDS,
            "Offsets that the group has not committed, by partition"
        );
        describe_gauge!(LAKE_OBJECTS, "Objects in the lake, by folder");
        describe_gauge!(LAKE_BYTES, "Bytes in the lake, by folder");
        describe_gauge!(LAKE_NEWEST, "When the newest object was written, by folder");
        describe_gauge!(
            LAKE_END_OFFSET,
            "The offset after the last one in the lake, by partition"
        );
        describe_gauge!(TABLE_ROWS, "Rows in PostgreSQL, by table");
        describe_gauge!(SOURCE_SLOT_ACTIVE, "Whether the replication slot is read");
        describe_gauge!(
            SOURCE_SLOT_LAG_BYTES,
            "Log that the slot's reader has not acknowledged"
        );
        describe_gauge!(
            SOURCE_SLOT_WAL_BYTES,
            "Log that the server keeps for the slot"
        );
    }

    /// Rows read from the events file.
    pub fn rows_read(&self, rows: u64) {
        self.rows_read.fetch_add(rows, Relaxed);
        counter!(names::ROWS_READ).increment(rows);
    }

    /// Rows of a committed Kafka transaction.
    pub fn rows_published(&self, rows: u64) {
        self.rows_published.fetch_add(rows, Relaxed);
        counter!(names::ROWS_PUBLISHED).increment(rows);
    }

    /// Rows in the source, when they are known.
    pub fn set_publish_total(&self, rows: u64) {
        self.publish_total.store(rows, Relaxed);
    }

    /// A broken row of the events file.
    pub fn source_row_rejected(&self) {
        self.source_rows_rejected.fetch_add(1, Relaxed);
        counter!(names::SOURCE_ROWS_REJECTED).increment(1);
    }

    /// Records taken from Kafka.
    pub fn records_consumed(&self, records: u64) {
        self.records_consumed.fetch_add(records, Relaxed);
        counter!(names::RECORDS_CONSUMED).increment(records);
    }

    /// A record went to the dead-letter topic.
    pub fn record_rejected(&self, reason: &str) {
        counter!(names::RECORDS_REJECTED, "reason" => reason.to_owned()).increment(1);
    }

    /// A file became durable.
    pub fn file_committed(&self, rows: u64, rejected: u64, bytes: u64, took: Duration) {
        self.rows_committed.fetch_add(rows, Relaxed);
        self.records_rejected.fetch_add(rejected, Relaxed);
        self.files.fetch_add(1, Relaxed);
        self.bytes.fetch_add(bytes, Relaxed);
        counter!(names::ROWS_COMMITTED).increment(rows);
        counter!(names::FILES).increment(1);
        counter!(names::BYTES).increment(bytes);
        histogram!(names::FLUSH_SECONDS).record(took.as_secs_f64());
    }

    /// Another writer's file was taken over.
    pub fn file_adopted(&self) {
        counter!(names::FILES_ADOPTED).increment(1);
    }

    /// Offsets skipped with a logged range.
    pub fn offsets_skipped(&self, offsets: u64) {
        self.offsets_skipped.fetch_add(offsets, Relaxed);
        counter!(names::OFFSETS_SKIPPED).increment(offsets);
    }

    /// A put or read of the lake is tried again.
    pub fn lake_retry(&self) {
        counter!(names::LAKE_RETRIES).increment(1);
    }

    /// A stage failed and its group restarts.
    pub fn restarted(&self, stage: &'static str, cause: &'static str) {
        self.restarts.fetch_add(1, Relaxed);
        counter!(names::RESTARTS, "actor" => stage, "cause" => cause).increment(1);
    }

    /// Lag of one partition; `None` when it is no longer ours.
    pub fn set_lag(&self, partition: i32, lag: Option<(i64, Duration)>) {
        let mut by_partition = self.lag.lock().unwrap_or_else(PoisonError::into_inner);
        let label = partition.to_string();
        let (records, age) = lag.unwrap_or_default();
        gauge!(names::LAG_RECORDS, "partition" => label.clone()).set(records as f64);
        gauge!(names::LAG_SECONDS, "partition" => label).set(age.as_secs_f64());
        match lag {
            Some((records, _)) => by_partition.insert(partition, records),
            None => by_partition.remove(&partition),
        };
    }

    /// Messages waiting for an actor.
    pub fn set_mailbox_depth(&self, actor: &'static str, depth: u64) {
        gauge!(names::MAILBOX_DEPTH, "actor" => actor).set(depth as f64);
    }

    /// Memory between the consumer and the lake.
    pub fn set_memory(&self, bytes: u64) {
        self.memory_bytes.store(bytes, Relaxed);
        gauge!(names::MEMORY).set(bytes as f64);
    }

    /// When the lake last took a file, in Unix milliseconds; 0 before the first.
    pub fn last_commit_timestamp_ms(&self) -> i64 {
        self.last_commit_timestamp_ms.load(Relaxed)
    }

    /// Notes when the lake last took a file.
    pub fn set_last_commit_timestamp_ms(&self, unix_ms: i64) {
        self.last_commit_timestamp_ms.store(unix_ms, Relaxed);
    }

    /// Changes became durable.
    pub fn changes_committed(&self, table: &str, rows: u64, bytes: u64) {
        self.changes.fetch_add(rows, Relaxed);
        counter!(names::CHANGES, "table" => table.to_owned()).increment(rows);
        counter!(names::CHANGE_FILES, "table" => table.to_owned()).increment(1);
        counter!(names::BYTES).increment(bytes);
    }

    /// Changes made durable by this process.
    pub fn changes(&self) -> u64 {
        self.changes.load(Relaxed)
    }

    /// Notes how far change capture is behind.
    pub fn set_slot_lag(&self, lag: SlotLag) {
        gauge!(names::SLOT_CONNECTED).set(if lag.connected { 1.0 } else { 0.0 });
        gauge!(names::SLOT_LAG_BYTES).set(lag.lag_bytes as f64);
        gauge!(names::SLOT_LAG_SECONDS).set(lag.lag_seconds);
        gauge!(names::SLOT_WAL_BYTES).set(lag.retained_bytes as f64);
        *self.slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(lag);
    }

    /// How far change capture is behind; `None` before it is known.
    pub fn slot_lag(&self) -> Option<SlotLag> {
        *self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All figures now.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            rows_read: self.rows_read.load(Relaxed),
            rows_published: self.rows_published.load(Relaxed),
            source_rows_rejected: self.source_rows_rejected.load(Relaxed),
            records_consumed: self.records_consumed.load(Relaxed),
            rows_committed: self.rows_committed.load(Relaxed),
            records_rejected: self.records_rejected.load(Relaxed),
            files: self.files.load(Relaxed),
            bytes: self.bytes.load(Relaxed),
            offsets_skipped: self.offsets_skipped.load(Relaxed),
            restarts: self.restarts.load(Relaxed),
            memory_bytes: self.memory_bytes.load(Relaxed),
            publish_total: self.publish_total.load(Relaxed),
            lag_records: {
                let lag = self.lag.lock().unwrap_or_else(PoisonError::into_inner);
                (!lag.is_empty()).then(|| lag.values().sum())
            },
        }
    }
}
