//! Events of the process, of the stream and of supervision, in this order.

use super::{EventDoc, Field, FieldDoc, Speaker};

events! { STREAM;
    /// The process starts.
    INFO ProcessStarted "process_started" {
        /// What it was asked to do: `run`, `produce`, `consume`, …
        command: String,
        /// Version of ftap.
        version: String,
        /// Process id.
        pid: u32,
    }
    /// The process was asked to stop; what is buffered is flushed first.
    INFO ShutdownRequested "shutdown_requested" {
        /// The signal or the reason.
        reason: String,
    }
    /// The process ends.
    INFO ProcessStopped "process_stopped" {
        /// 0 done, 1 a stage stopped with an error, 2 bad usage or settings, 3 verify found loss, duplication or a difference.
        exit_code: i64,
    }
    /// A setting was understood but is probably not what was meant.
    WARN SettingDoubtful "setting_doubtful" {
        /// Name of the setting.
        setting: String,
        /// Why, and what to do.
        detail: String,
    }
    /// The embedded Kafka broker serves.
    INFO EmbeddedKafkaStarted "embedded_kafka_started" {
        /// `host:port` for any Kafka client.
        bootstrap: String,
        /// Where its data is.
        data_dir: String,
    }
    /// The dashboard and metrics server listens.
    INFO HttpListening "http_listening" {
        /// Its address.
        url: String,
    }
    /// `ftap tap` has nothing to show and waits.
    INFO TapWaiting "tap_waiting" {
        /// Whose messages it waits for.
        topic: String,
        /// Messages printed so far.
        printed: u64,
        /// Why nothing comes, as far as it is known.
        reason: String,
    }
    /// A step of preparing data: generated, downloaded or split.
    INFO DataPrepared "data_prepared" {
        /// `generate`, `download` or `prepare`.
        step: String,
        /// Rows written.
        rows: u64,
        /// Rows refused.
        rejected: u64,
        /// Where to.
        path: String,
        /// How long it took.
        duration_ms: u64,
    }
    /// A broker could not be reached; it is tried again.
    WARN KafkaUnreachable "kafka_unreachable" {
        /// The addresses tried.
        bootstrap: String,
        /// Which try this was, from 1.
        attempt: u64,
        /// What the client said.
        error: String,
        /// Pause before the next try.
        retry_in_ms: u64,
    }
    /// The embedded broker's directory can't be written; a copy of it is read instead and then removed.
    INFO BrokerDataCopied "broker_data_copied" {
        /// The directory.
        data_dir: String,
        /// The copy.
        copy: String,
        /// Why it can't be written.
        reason: String,
        /// Bytes copied.
        bytes: u64,
        /// How long that took.
        duration_ms: u64,
    }
    /// A topic was created.
    INFO TopicCreated "topic_created" {
        /// The topic.
        topic: String,
        /// How many it has.
        partition_count: i32,
    }
    /// librdkafka reported a problem that it fixes itself.
    DEBUG KafkaClientMessage "kafka_client_message" {
        /// What it said.
        detail: String,
    }
    /// The publisher found where the topic ends and resumes there.
    INFO PublishResumed "publish_resumed" {
        /// The events file.
        source: String,
        /// Its fingerprint.
        fingerprint: String,
        /// First row that some partition lacks, from 0.
        first_row: u64,
        /// Byte of the file where reading starts.
        byte_offset: u64,
        /// Partitions of the topic.
        partition_count: i32,
    }
    /// Rows of one Kafka transaction became visible to readers.
    DEBUG RowsPublished "rows_published" {
        /// How many.
        rows: u64,
        /// Last row of the file among them.
        last_row: u64,
        /// From begin to commit.
        duration_ms: u64,
    }
    /// Kafka takes rows slowly, because of a slow line or a client quota: transactions get smaller, so that each gets through. At most once a minute.
    WARN PublishingSlow "publishing_slow" {
        /// Rows of the transaction that was just committed.
        rows: u64,
        /// Bytes of their keys and payloads.
        bytes: u64,
        /// Time to deliver and commit them.
        duration_ms: u64,
        /// Of keys and payloads.
        bytes_per_second: u64,
        /// Rows of the next transaction.
        transaction_rows: u64,
    }
    /// One transaction, as a sample: at most one a second.
    INFO TransactionSampled "transaction_sampled" {
        /// Row of the source file.
        row: u64,
        /// Kafka partition.
        partition: i32,
        /// The message.
        message: String,
    }
    /// One transaction, at debug each of them.
    DEBUG TransactionPublished "transaction_published" {
        /// Row of the source file.
        row: u64,
        /// Kafka partition.
        partition: i32,
        /// The message.
        message: String,
    }
    /// A row of the events file could not be understood; it is counted and passed over.
    WARN SourceRowRejected "source_row_rejected" {
        /// Row of the source file, from 0.
        row: u64,
        /// What is wrong with it.
        reason: String,
    }
    /// The checkpoint file could not be written; the next start reads the events file from an older place.
    WARN CheckpointFailed "checkpoint_failed" {
        /// The file.
        path: String,
        /// What the system said.
        error: String,
    }
    /// The events file is published to its end.
    INFO PublishFinished "publish_finished" {
        /// Rows of the file now in the topic.
        rows: u64,
        /// Rows that this process published.
        published: u64,
        /// Rows passed over as broken.
        rejected: u64,
    }
    /// Rejected records were sent again: one Kafka transaction of them.
    DEBUG EntriesRedriven "entries_redriven" {
        /// How many.
        messages: u64,
        /// From begin to commit.
        duration_ms: u64,
    }
    /// `ftap dlq redrive`, or the page of messages, has sent everything it was asked to.
    INFO RedriveFinished "redrive_finished" {
        /// The topic.
        topic: String,
        /// Messages sent.
        redriven: u64,
        /// Entries skipped, because they were redriven before.
        already_redriven: u64,
        /// Entries left in quarantine, because they would be rejected again or are not in the lake yet.
        left: u64,
        /// Kafka transactions.
        transactions: u64,
        /// How long it took.
        duration_ms: u64,
    }
    /// Partitions were assigned to this consumer.
    INFO PartitionsAssigned "partitions_assigned" {
        /// Which.
        partitions: Vec<i32>,
    }
    /// Where reading a partition starts, and why there.
    INFO PartitionStarted "partition_started" {
        /// Kafka partition.
        partition: i32,
        /// First offset to read.
        offset: i64,
        /// `lake_end`, `committed` or `log_start`.
        from: String,
    }
    /// Partitions were taken away; what was buffered for them is dropped, never uploaded.
    INFO PartitionsRevoked "partitions_revoked" {
        /// Which.
        partitions: Vec<i32>,
        /// Whether the group took them without asking.
        lost: bool,
    }
    /// Offsets that are neither in the lake nor in the topic any more.
    ERROR OffsetsSkipped "offsets_skipped" {
        /// Kafka partition.
        partition: i32,
        /// First offset skipped.
        first_offset: i64,
        /// Last offset skipped.
        last_offset: i64,
        /// Why.
        reason: String,
    }
    /// A transaction of another producer is open and hides what was written after its first record. Logged after ten seconds, then every minute.
    WARN RecordsHidden "records_hidden" {
        /// Kafka partition.
        partition: i32,
        /// Offset of the transaction's first record there.
        first_offset: i64,
        /// The newest offset that is hidden.
        last_offset: i64,
        /// Time of that first record; null if it has none or it can't be read.
        since: Option<String>,
        /// What to do.
        remedy: String,
    }
    /// The broker answers, and what it has at an offset can't be read; other partitions continue, `/readyz` returns 503, and it is tried again every minute.
    ERROR PartitionUnreadable "partition_unreadable" {
        /// Kafka partition.
        partition: i32,
        /// The offset.
        offset: i64,
        /// The partition's newest offset.
        last_offset: i64,
        /// Why, if the client says so.
        error: Option<String>,
        /// What to do.
        remedy: String,
    }
    /// The timestamp of a record is before 1900 or after 2261, as that of a producer that counts microseconds: it is NULL in the lake. At most one a second is logged, all are counted.
    WARN TimestampIgnored "timestamp_ignored" {
        /// Kafka partition.
        partition: i32,
        /// The record's offset.
        offset: i64,
        /// Its timestamp in milliseconds.
        timestamp_ms: i64,
    }
    /// The dead-letter topic can't be created or written, or takes smaller records than the topic. Found at the start. Ingest stops at the first record that can't be kept in it; of one that is too large a part is kept.
    WARN DeadLetterTopicUnfit "dead_letter_topic_unfit" {
        /// Its name.
        topic: String,
        /// Why, in the broker's words where it has some.
        error: String,
        /// What to do.
        remedy: String,
    }
    /// A record could not become a row; its bytes go to the dead-letter topic, and ingest stops if that can't be done, or into the lake (DEAD_LETTERS). Of several in a second the newest is logged, all are counted.
    WARN RecordRejected "record_rejected" {
        /// Kafka partition.
        partition: i32,
        /// Its offset.
        offset: i64,
        /// Stable code of the reason.
        reason: String,
        /// Rejected so far by this process.
        rejected_total: u64,
        /// What to do.
        remedy: String,
    }
    /// Rejected records are durable in the lake; the file that lists them follows. With `DEAD_LETTERS=lake`.
    INFO DeadLettersCommitted "dead_letters_committed" {
        /// Object name.
        key: String,
        /// Kafka partition.
        partition: i32,
        /// Records in it.
        records: u64,
        /// Its size.
        bytes: u64,
        /// How long it took to write it.
        duration_ms: u64,
    }
    /// A file was closed and waits for its upload.
    DEBUG FileClosed "file_closed" {
        /// Kafka partition.
        partition: i32,
        /// First offset in it.
        first_offset: i64,
        /// Last offset in it.
        last_offset: i64,
        /// Rows in it.
        rows: u64,
        /// Its size.
        bytes: u64,
        /// `rows`, `bytes`, `age`, `footer`, `shutdown`, `drain`.
        reason: String,
    }
    /// A file is durable in the lake.
    INFO FileCommitted "file_committed" {
        /// Object name.
        key: String,
        /// Kafka partition.
        partition: i32,
        /// First offset in it.
        first_offset: i64,
        /// Last offset in it.
        last_offset: i64,
        /// Rows in it.
        rows: u64,
        /// Records it lists as rejected.
        rejected: u64,
        /// Its size.
        bytes: u64,
        /// Why it was closed: as of `file_closed`.
        reason: String,
        /// From close to durable.
        duration_ms: u64,
    }
    /// Another writer had written from the same offset; its file counts, ours is dropped.
    WARN FileAdopted "file_adopted" {
        /// Object name.
        key: String,
        /// Kafka partition.
        partition: i32,
        /// First offset in it.
        first_offset: i64,
        /// Last offset in it.
        last_offset: i64,
        /// Who wrote it.
        writer: String,
        /// Where reading resumes.
        resume_at: i64,
    }
    /// The lake does not take or give an object; it is retried indefinitely. Logged at the start, then after a minute and at growing intervals.
    WARN LakeUnavailable "lake_unavailable" {
        /// The object.
        key: String,
        /// Which try this was, from 1.
        attempt: u64,
        /// What it said.
        error: String,
        /// Pause before the next try.
        retry_in_ms: u64,
    }
    /// The lake answers again.
    INFO LakeRecovered "lake_recovered" {
        /// Tries that failed.
        attempts: u64,
        /// Since the first of them.
        duration_ms: u64,
    }
    /// What killed writers had left in the lake's folder was removed.
    INFO LeftoversCleared "leftovers_cleared" {
        /// Staging files.
        files: u64,
    }
    /// The memory budget is used up; the partitions are paused.
    INFO PartitionsPaused "partitions_paused" {
        /// Memory in use.
        memory_bytes: u64,
        /// The budget.
        budget_bytes: u64,
    }
    /// Memory is free again; the partitions resume.
    INFO PartitionsResumed "partitions_resumed" {
        /// Memory in use.
        memory_bytes: u64,
    }
    /// Everything published is in the lake.
    INFO Drained "drained" {
        /// Partitions that were waited for.
        partition_count: u64,
    }
    /// Speed and lag, every ten seconds while something moves.
    INFO Throughput "throughput" {
        /// Rows put into the topic, per second.
        published_per_second: f64,
        /// Rows made durable in the lake, per second.
        committed_per_second: f64,
        /// Records in the topic that are not in the lake; null while Kafka does not answer or no partition is assigned.
        lag_records: Option<i64>,
    }
    /// A group of stages runs.
    INFO GroupStarted "group_started" {
        /// `publish`, `ingest` or the name of a single.
        group: String,
        /// Its stages.
        stages: Vec<String>,
    }
    /// A person asked a group for something on the pipeline's page.
    INFO GroupCommanded "group_commanded" {
        /// The group.
        group: String,
        /// `flush`: its open files are closed. `pause`: it takes in nothing until `resume`. `restart`: its next generation starts.
        command: String,
    }
    /// The end of `--until-drained` waits: a person has paused groups, and resumes them on the pipeline's page.
    WARN DrainWaits "drain_waits" {
        /// The groups that are paused.
        groups: Vec<String>,
    }
    /// A stage failed: the root cause of the restart that follows.
    ERROR StageFailed "stage_failed" {
        /// Its group.
        group: String,
        /// The stage.
        stage: String,
        /// `panic`, `error`, `stuck` or `exit`.
        cause: String,
        /// What the error belongs to: `kafka`, `lake`, `source`, …
        domain: String,
        /// The message.
        error: String,
        /// Whether a restart can help.
        retryable: bool,
    }
    /// A group restarts after a pause.
    WARN GroupRestarting "group_restarting" {
        /// The group.
        group: String,
        /// Restarts within the window, this one included.
        restarts: u64,
        /// The pause.
        backoff_ms: u64,
        /// The root cause: stage, cause and message.
        root_cause: String,
    }
    /// A stage did not stop in time; it is left behind, fenced.
    WARN StageAbandoned "stage_abandoned" {
        /// Its group.
        group: String,
        /// The stage.
        stage: String,
        /// How long it was waited for.
        waited_ms: u64,
    }
    /// A group reached its end.
    INFO GroupFinished "group_finished" {
        /// The group.
        group: String,
    }
    /// No restart can help, or too many did not: after `publish` or `ingest` the process drains and ends, after others the rest runs on; the exit code is 1.
    ERROR GroupGaveUp "group_gave_up" {
        /// The group.
        group: String,
        /// Restarts before.
        restarts: u64,
        /// The root cause: stage, cause and message.
        root_cause: String,
        /// What to do.
        remedy: String,
    }
}
