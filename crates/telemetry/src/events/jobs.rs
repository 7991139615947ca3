//! Events of the jobs alongside the stream: PostgreSQL, schedules, changes, FX rates, BigQuery, what `ftap serve` watches.

use std::collections::BTreeMap;

use super::{EventDoc, Field, FieldDoc, Speaker};

events! { JOBS;
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
        /// The position acknowledged to the server, which sends what follows it.
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
        gone: Vec<String>,
        /// Columns that are new, or have another type.
        new: Vec<String>,
        /// What to do about the rows that do not change.
        remedy: String,
    }
    /// A captured table has another name or schema on the server; it stays captured.
    WARN CapturedTableRenamed "captured_table_renamed" {
        /// The name under which it is captured.
        table: String,
        /// Its schema and name now.
        name: String,
    }
    /// The server runs on another timeline, which continues the log that the lake was read from.
    INFO TimelineChanged "timeline_changed" {
        /// The timeline before.
        before: u32,
        /// The timeline now.
        now: u32,
    }
    /// The lake has no checkpoint, being of an earlier version: what the slot skipped before is not known.
    WARN ContinuityUnproven "continuity_unproven" {
        /// The slot.
        slot: String,
        /// The position from which on it is known.
        confirmed_lsn: String,
        /// What to do.
        remedy: String,
    }
    /// The server refused the message that moves an idle slot: it keeps its log until the next change.
    WARN HeartbeatRefused "heartbeat_refused" {
        /// What it said.
        error: String,
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
        rates: BTreeMap<String, f64>,
        /// Requests made, retries included.
        requests: u32,
        /// Requests that the plan has left this month; null if the API did not say.
        quota_month: Option<u64>,
        /// Requests that it has left this minute; null if the API did not say.
        quota_minute: Option<u64>,
        /// How long the run took.
        duration_ms: u64,
    }
    /// Each day of the events file has FX rates in the lake.
    INFO FxDaysFilled "fx_days_filled" {
        /// First day.
        first: String,
        /// Last day.
        last: String,
        /// Days with events in between.
        days: u64,
        /// Days whose rates were written now; the others had theirs.
        written: u64,
        /// `freecurrencyapi` or `offline`.
        provider: String,
        /// How long it took.
        duration_ms: u64,
    }
    /// The FX rates of the days of the events file are not complete yet; the rest follows after a pause.
    WARN FxDaysPaused "fx_days_paused" {
        /// Days without rates.
        left: u64,
        /// Length of the pause.
        seconds: u64,
        /// Why, and what to do.
        error: String,
    }
    /// A run's FX rates were in the lake already; no request was sent.
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
    /// A service that is watched answers.
    INFO SourceAnswers "source_answers" {
        /// `kafka`, `lake` or `postgres`.
        source: String,
    }
    /// A service that `ftap serve` could watch does not run, and no setting asks for it. It is not down, and is looked for further.
    INFO SourceOff "source_off" {
        /// `postgres`.
        source: String,
        /// What is looked for.
        reason: String,
    }
    /// A service that `ftap serve` watches does not answer. It is shown as down and polled further.
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
        /// Whether it had been submitted before, by this or another process.
        resumed: bool,
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
        /// The job's id; null if no object had rows.
        job: Option<String>,
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
