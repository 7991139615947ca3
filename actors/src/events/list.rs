//! The events themselves. Order: process, publish, ingest, supervision.

use super::{EventDoc, Speaker};

events! {
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
        /// 0 done, 1 a stage gave up, 2 bad usage or settings, 3 verify found loss or duplication.
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
        /// Its partitions.
        partitions: i32,
    }
    /// librdkafka reported something that it mends itself.
    DEBUG KafkaClientMessage "kafka_client_message" {
        /// What it said.
        detail: String,
    }
    /// The publisher found where the topic ends and goes on from there.
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
        partitions: i32,
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
    /// `ftap dlq redrive` has sent everything it was asked to.
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
        partitions: String,
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
        partitions: String,
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
    /// A record could not become a row; its bytes are in the dead-letter topic. At most one a second is logged, all are counted.
    WARN RecordRejected "record_rejected" {
        /// Kafka partition.
        partition: i32,
        /// Its offset.
        offset: i64,
        /// Stable code of the reason.
        reason: String,
        /// Rejected so far by this actor.
        rejected_total: u64,
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
        /// Where reading goes on.
        resume_at: i64,
    }
    /// The lake does not take or give an object; it is tried again for ever. Told at its start, then after a minute and longer.
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
    /// Memory is free again; the partitions go on.
    INFO PartitionsResumed "partitions_resumed" {
        /// Memory in use.
        memory_bytes: u64,
    }
    /// Everything published is in the lake.
    INFO Drained "drained" {
        /// Partitions that were waited for.
        partitions: u64,
    }
    /// Speed and lag, every ten seconds while something moves.
    INFO Throughput "throughput" {
        /// Rows put into the topic, per second.
        published_per_second: f64,
        /// Rows made durable in the lake, per second.
        committed_per_second: f64,
        /// Records in the topic that are not in the lake; absent while no partition is assigned.
        lag_records: Option<i64>,
    }
    /// A group of stages runs.
    INFO GroupStarted "group_started" {
        /// `publish`, `ingest` or the name of a single.
        group: String,
        /// Its stages.
        stages: String,
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
    /// A group is started anew after a pause.
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
    /// There is no PostgreSQL to use: users, their changes and their capture are off, the rest runs.
    WARN PostgresOff "postgres_off" {
        /// Why.
        reason: String,
        /// What to do.
        remedy: String,
    }
    /// PostgreSQL is reached and has the tables.
    INFO PostgresReady "postgres_ready" {
        /// `user@host:port/database`.
        address: String,
        /// Version of the server.
        version: String,
        /// From the first try until now.
        duration_ms: u64,
    }
    /// PostgreSQL does not do what it is asked for the moment; it is tried again.
    WARN PostgresUnavailable "postgres_unavailable" {
        /// Which try this was, from 1.
        attempt: u64,
        /// What is wrong, and what to do.
        error: String,
        /// Pause before the next try.
        retry_in_ms: u64,
    }
    /// A prepared file can't be loaded and nothing of it was; the job tries again at its next time.
    ERROR TableNotLoaded "table_not_loaded" {
        /// The file, where in it, what is wrong and what to do.
        error: String,
    }
    /// A prepared file was loaded into its table.
    INFO TableLoaded "table_loaded" {
        /// The table.
        table: String,
        /// The file.
        file: String,
        /// Rows in the file.
        rows: u64,
        /// Rows of them that the table did not have.
        inserted: u64,
        /// How long it took.
        duration_ms: u64,
    }
    /// A run of the user update job is committed.
    INFO UsersUpdated "users_updated" {
        /// The run's identity: the time of the schedule it is for.
        tick: String,
        /// `city`, `job` or `zip`.
        field: String,
        /// Users changed.
        count: u64,
        /// Users there are.
        users: u64,
        /// How long it took.
        duration_ms: u64,
    }
    /// A run of a job was applied already, by this process or another; nothing is done.
    INFO JobAlreadyApplied "job_already_applied" {
        /// The job.
        job: String,
        /// The run's identity.
        tick: String,
    }
    /// There is no user to change.
    WARN NoUsers "no_users" {
        /// The run's identity.
        tick: String,
        /// What to do.
        remedy: String,
    }
    /// It is time for a job, and its run before is not over: this tick is passed over.
    WARN JobOverrun "job_overrun" {
        /// The job.
        job: String,
        /// The tick that is passed over.
        tick: String,
    }
    /// Ticks of a job passed unseen, in a sleep of the machine for instance; one run covers them.
    INFO JobTicksMissed "job_ticks_missed" {
        /// The job.
        job: String,
        /// How many.
        missed: u64,
        /// The tick that runs.
        tick: String,
    }
    /// A publication for change capture was made.
    INFO PublicationCreated "publication_created" {
        /// The publication.
        publication: String,
    }
    /// Change capture copies its tables.
    INFO ChangesSnapshotStarted "changes_snapshot_started" {
        /// `first`, `interrupted` or `asked`.
        reason: String,
        /// Which snapshot of the lake it is.
        epoch: u32,
        /// The slot that is made with it.
        slot: String,
    }
    /// The server makes no slot as long as older transactions are open.
    WARN ChangesSnapshotWaits "changes_snapshot_waits" {
        /// How long so far.
        waited_ms: u64,
        /// What to do.
        remedy: String,
    }
    /// The tables were copied and the slot made.
    INFO ChangesSnapshotTaken "changes_snapshot_taken" {
        /// Which snapshot of the lake it is.
        epoch: u32,
        /// The place in the server's log that it shows.
        lsn: String,
        /// Rows of all tables.
        rows: u64,
        /// From the slot to the last object.
        duration_ms: u64,
    }
    /// Change capture reads its slot.
    INFO ChangesStreaming "changes_streaming" {
        /// The slot.
        slot: String,
        /// The snapshot that the changes follow.
        epoch: u32,
        /// What the server was told to be durable; it sends what came after.
        confirmed_lsn: String,
        /// Last position in the lake.
        lake_end: String,
    }
    /// An object of changes is durable in the lake.
    INFO ChangesCommitted "changes_committed" {
        /// The object.
        key: String,
        /// The table.
        table: String,
        /// Position of its first row.
        first: String,
        /// Position of its last row.
        last: String,
        /// Rows.
        rows: u64,
        /// Its size.
        bytes: u64,
        /// Why it was closed.
        reason: String,
        /// From its first row to durable.
        duration_ms: u64,
    }
    /// Another writer's object of changes is in the place of ours; the slot is read again behind it.
    WARN ChangesOvertaken "changes_overtaken" {
        /// The object.
        key: String,
        /// Its writer.
        writer: String,
    }
    /// A captured table has other columns from now on; new objects have them.
    WARN TableColumnsChanged "table_columns_changed" {
        /// The table.
        table: String,
        /// Columns that are gone, or had another type.
        gone: String,
        /// Columns that are new, or have another type.
        new: String,
        /// What to do about the rows that do not change.
        remedy: String,
    }
    /// PostgreSQL can't be reached or refuses for the moment; it is tried again.
    WARN ChangeCaptureInterrupted "change_capture_interrupted" {
        /// Which try this was since the last success, from 1.
        attempt: u64,
        /// Why.
        error: String,
        /// Pause before the next try.
        retry_in_ms: u64,
    }
    /// A run's FX rates are in the lake.
    INFO FxRatesWritten "fx_rates_written" {
        /// The object.
        key: String,
        /// `freecurrencyapi` or `offline`.
        provider: String,
        /// `api`, `cache` or `offline`.
        origin: String,
        /// Units per US dollar.
        rates: String,
        /// Requests made, retries included.
        requests: u32,
        /// Requests that the plan has left this month; -1 if the API did not say.
        quota_month: i64,
        /// Requests that it has left this minute; -1 if the API did not say.
        quota_minute: i64,
        /// How long the run took.
        duration_ms: u64,
    }
    /// A run's FX rates were in the lake before; nobody was asked.
    INFO FxRatesKept "fx_rates_kept" {
        /// The object.
        key: String,
    }
    /// A run brought no FX rates; the next one tries again.
    ERROR FxRatesFailed "fx_rates_failed" {
        /// The run's time.
        run_at: String,
        /// Why, and what to do.
        error: String,
    }
    /// Without FREECURRENCYAPI_API_KEY rates are invented, and marked so.
    WARN FxRatesOffline "fx_rates_offline" {
        /// What to do about it.
        remedy: String,
    }
    /// The last answer of the FX API could not be kept; the next run asks again.
    WARN FxCacheFailed "fx_cache_failed" {
        /// Where, and why.
        error: String,
    }
    /// What `ftap serve` watches answers.
    INFO SourceAnswers "source_answers" {
        /// `kafka`, `lake` or `postgres`.
        source: String,
    }
    /// What `ftap serve` watches does not answer; it goes on looking, and shows it as down.
    WARN SourceDown "source_down" {
        /// `kafka`, `lake` or `postgres`.
        source: String,
        /// Why, and what to do.
        error: String,
    }
    /// The dataset is there; objects are loaded into it.
    INFO BigQueryReady "bigquery_ready" {
        /// Project and dataset.
        dataset: String,
        /// Where it is.
        location: String,
        /// Whether it was made just now.
        created: bool,
    }
    /// A table was made.
    INFO BigQueryTableCreated "bigquery_table_created" {
        /// Project, dataset and table.
        table: String,
        /// How many columns it has.
        columns: u64,
    }
    /// A load job is on its way, or was before.
    INFO BigQueryJobSubmitted "bigquery_job_submitted" {
        /// The table.
        table: String,
        /// The job's id.
        job: String,
        /// What it loads, written down in the lake.
        manifest: String,
        /// Objects.
        objects: u64,
        /// Their rows.
        rows: u64,
        /// Somebody had submitted it, perhaps we ourselves.
        before: bool,
    }
    /// A load job ended in an error, which loads nothing; another attempt follows.
    WARN BigQueryJobFailed "bigquery_job_failed" {
        /// The job and why.
        error: String,
        /// Pause before the next attempt.
        retry_in_ms: u64,
    }
    /// Objects of the lake are in BigQuery.
    INFO BigQueryLoaded "bigquery_loaded" {
        /// The table.
        table: String,
        /// The job's id; empty if no object had rows.
        job: String,
        /// What was loaded, written down in the lake.
        manifest: String,
        /// Objects.
        objects: u64,
        /// Their bytes.
        bytes: u64,
        /// Their rows, by their footers.
        rows: u64,
        /// Rows that BigQuery says it loaded.
        rows_loaded: u64,
        /// Since this process took it up.
        duration_ms: u64,
    }
    /// BigQuery says it loaded another number of rows than the objects have.
    ERROR BigQueryRowsDiffer "bigquery_rows_differ" {
        /// The job's id.
        job: String,
        /// What was to be loaded, written down in the lake.
        manifest: String,
        /// Rows of the objects.
        rows: u64,
        /// Rows that BigQuery says it loaded.
        rows_loaded: u64,
        /// What to do.
        remedy: String,
    }
    /// BigQuery or the lake does not answer or refuses for the moment; it is tried again.
    WARN BigQueryUnavailable "bigquery_unavailable" {
        /// Which try this was since the last success, from 1.
        attempt: u64,
        /// Why.
        error: String,
        /// Pause before the next try.
        retry_in_ms: u64,
    }
}
