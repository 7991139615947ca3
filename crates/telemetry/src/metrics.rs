//! Every metric of the process: its name, kind, labels and meaning, in one table.
//!
//! A metric is a static of this module: code counts with `metrics::ROWS_READ.add(n)`. Counters and
//! histograms go to the `metrics` recorder, which renders them for `/metrics`. Gauges are kept and
//! rendered here, because the recorder can't forget one. `docs/METRICS.md` is rendered from the same
//! table, and a test compares.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use ::metrics::Label;
use parking_lot::Mutex;

/// One entry of the table.
#[derive(Clone, Copy)]
pub struct MetricDoc {
    pub name: &'static str,
    /// `counter`, `gauge` or `histogram`.
    pub kind: &'static str,
    pub labels: &'static [&'static str],
    pub doc: &'static str,
    metric: &'static dyn Metric,
}

/// What the table does with each of its metrics.
trait Metric: Sync {
    /// Describes it to the recorder.
    fn describe(&self, doc: &'static str);

    /// Appends what the recorder does not render.
    fn render(&self, _doc: &MetricDoc, _out: &mut String) {}
}

/// A sum that only grows, with `L` labels.
pub struct Counter<const L: usize> {
    name: &'static str,
    labels: [&'static str; L],
    total: AtomicU64,
}

impl<const L: usize> Counter<L> {
    const KIND: &'static str = "counter";

    const fn new(name: &'static str, labels: [&'static str; L]) -> Self {
        Self {
            name,
            labels,
            total: AtomicU64::new(0),
        }
    }

    /// Adds `count` under the given label values, in the order of the table.
    pub fn add_for(&self, values: [&str; L], count: u64) {
        self.total.fetch_add(count, Relaxed);
        ::metrics::counter!(self.name, labelled(self.labels, values)).increment(count);
    }

    /// What may be counted under these label values is shown as 0 until it is: `increase()` of a
    /// series that begins with its first count does not see that count.
    pub fn expect_for(&self, values: [&str; L]) {
        self.add_for(values, 0);
    }

    /// The sum over all label values since the process started.
    pub fn total(&self) -> u64 {
        self.total.load(Relaxed)
    }
}

impl<const L: usize> Metric for Counter<L> {
    fn describe(&self, doc: &'static str) {
        ::metrics::describe_counter!(self.name, doc);
        // Those who know the values of labels expect them, see `expect_for`.
        if L == 0 {
            ::metrics::counter!(self.name).increment(0);
        }
    }
}

impl Counter<0> {
    pub fn add(&self, count: u64) {
        self.add_for([], count);
    }
}

/// A value that moves both ways, with `L` labels. It is unknown, and not shown, until it is set.
pub struct Gauge<const L: usize> {
    values: Mutex<BTreeMap<Vec<String>, GaugeValue>>,
}

#[derive(Clone, Copy, Debug)]
enum GaugeValue {
    Fixed(f64),
    /// Seconds since then, whenever they are asked for.
    Since(Instant),
}

impl GaugeValue {
    fn now(self) -> f64 {
        match self {
            Self::Fixed(value) => value,
            Self::Since(then) => then.elapsed().as_secs_f64(),
        }
    }
}

impl<const L: usize> Gauge<L> {
    const KIND: &'static str = "gauge";

    /// The table has its name and labels, with which it is rendered.
    const fn new(_: &'static str, _: [&'static str; L]) -> Self {
        Self {
            values: Mutex::new(BTreeMap::new()),
        }
    }

    /// Sets the value under the given label values, in the order of the table.
    pub fn set_for(&self, values: [&str; L], value: f64) {
        self.insert(values, GaugeValue::Fixed(value));
    }

    /// From now on the value is the number of seconds since this moment.
    pub fn set_age_for(&self, values: [&str; L]) {
        self.insert(values, GaugeValue::Since(Instant::now()));
    }

    /// Sets all values there are: what is not among them is unknown.
    pub fn replace(&self, values: impl IntoIterator<Item = ([String; L], f64)>) {
        let values = values.into_iter();
        let values = values.map(|(labels, value)| (labels.to_vec(), GaugeValue::Fixed(value)));
        *self.values.lock() = values.collect();
    }

    /// Forgets all values.
    pub fn forget(&self) {
        self.values.lock().clear();
    }

    /// Forgets the value under these label values.
    pub fn forget_for(&self, values: [&str; L]) {
        self.values.lock().remove(&values.map(str::to_owned)[..]);
    }

    fn insert(&self, values: [&str; L], value: GaugeValue) {
        let values = values.map(str::to_owned).to_vec();
        self.values.lock().insert(values, value);
    }

    /// The values that are known, by their labels.
    pub fn values(&self) -> Vec<([String; L], f64)> {
        let values = self.values.lock();
        let known = values.iter().filter_map(|(labels, value)| {
            let labels = labels.clone().try_into().ok()?;
            Some((labels, value.now()))
        });
        known.collect()
    }

    /// The sum over all label values; `None` while none is known, which is not the same as 0.
    pub fn sum(&self) -> Option<f64> {
        let values = self.values.lock();
        (!values.is_empty()).then(|| values.values().map(|value| value.now()).sum())
    }
}

impl Gauge<1> {
    /// The largest value; `None` while none is known.
    pub fn max(&self) -> Option<f64> {
        let values = self.values.lock();
        values.values().map(|value| value.now()).reduce(f64::max)
    }
}

impl<const L: usize> Metric for Gauge<L> {
    fn describe(&self, _: &'static str) {}

    fn render(&self, doc: &MetricDoc, out: &mut String) {
        let values = self.values.lock().clone();
        let series = values.iter().map(|(labels, value)| {
            let labels = labels.iter().map(String::as_str);
            (labels.collect(), value.now())
        });
        render(out, doc, series);
    }
}

/// Metrics of the process itself, which are found out when they are asked for.
pub mod process {
    use super::{Metric, MetricDoc};

    struct AskedFor;

    impl Metric for AskedFor {
        fn describe(&self, _: &'static str) {}
    }

    const fn asked_for(
        name: &'static str,
        kind: &'static str,
        labels: &'static [&'static str],
        doc: &'static str,
    ) -> MetricDoc {
        MetricDoc {
            name,
            kind,
            labels,
            doc,
            metric: &AskedFor,
        }
    }

    pub static BUILD_INFO: MetricDoc = asked_for(
        "ftap_build_info",
        "gauge",
        &["version"],
        "1, with ftap's version.",
    );
    pub static CPU_SECONDS: MetricDoc = asked_for(
        "process_cpu_seconds_total",
        "counter",
        &[],
        "Processor time, user and system.",
    );
    pub static RESIDENT_MEMORY: MetricDoc = asked_for(
        "process_resident_memory_bytes",
        "gauge",
        &[],
        "Resident memory.",
    );
}

/// Every metric that `/metrics` may show.
pub fn all() -> impl Iterator<Item = &'static MetricDoc> {
    let process = [
        &process::BUILD_INFO,
        &process::CPU_SECONDS,
        &process::RESIDENT_MEMORY,
    ];
    CATALOGUE.iter().chain(process)
}

/// Appends a metric in Prometheus' text format; nothing if it has no series.
pub fn render<'a>(
    out: &mut String,
    metric: &MetricDoc,
    series: impl IntoIterator<Item = (Vec<&'a str>, f64)>,
) {
    let MetricDoc {
        name,
        kind,
        labels: names,
        doc,
        ..
    } = metric;
    let mut is_first = true;
    for (labels, value) in series {
        if std::mem::take(&mut is_first) {
            let help = doc.trim();
            out.push_str(&format!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
        }
        let labels: Vec<_> = names
            .iter()
            .zip(labels)
            .map(|(label, value)| format!("{label}=\"{}\"", escaped(value)))
            .collect();
        let labels = if labels.is_empty() {
            String::new()
        } else {
            format!("{{{}}}", labels.join(","))
        };
        out.push_str(&format!("{name}{labels} {value}\n"));
    }
}

fn escaped(label_value: &str) -> String {
    let value = label_value.replace('\\', "\\\\").replace('"', "\\\"");
    value.replace('\n', "\\n")
}

impl Gauge<0> {
    /// Sets the value.
    pub fn set(&self, value: f64) {
        self.set_for([], value);
    }

    /// The value; `None` while it is unknown.
    pub fn get(&self) -> Option<f64> {
        self.sum()
    }
}

/// A distribution of durations in seconds.
pub struct Histogram<const L: usize> {
    name: &'static str,
    labels: [&'static str; L],
}

impl<const L: usize> Histogram<L> {
    const KIND: &'static str = "histogram";

    const fn new(name: &'static str, labels: [&'static str; L]) -> Self {
        Self { name, labels }
    }

    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Records one duration under the given label values, in the order of the table.
    pub(crate) fn record_for(&self, values: [&str; L], duration: Duration) {
        ::metrics::histogram!(self.name, labelled(self.labels, values))
            .record(duration.as_secs_f64());
    }
}

impl<const L: usize> Metric for Histogram<L> {
    fn describe(&self, doc: &'static str) {
        ::metrics::describe_histogram!(self.name, doc);
    }
}

impl Histogram<0> {
    pub fn record(&self, duration: Duration) {
        self.record_for([], duration);
    }
}

fn labelled<const L: usize>(names: [&'static str; L], values: [&str; L]) -> Vec<Label> {
    names
        .into_iter()
        .zip(values)
        .map(|(name, value)| Label::new(name, value.to_owned()))
        .collect()
}

macro_rules! metrics {
    ($(
        #[doc = $doc:literal]
        $kind:ident<$count:literal> $metric:ident $name:literal [$($label:literal),*];
    )*) => {
        $(
            #[doc = $doc]
            pub static $metric: $kind<$count> = $kind::new($name, [$($label),*]);
        )*

        /// Every metric, in the order of the table.
        pub static CATALOGUE: &[MetricDoc] = &[
            $( MetricDoc {
                name: $name,
                kind: $kind::<$count>::KIND,
                labels: &[$($label),*],
                doc: $doc,
                metric: &$metric,
            } ),*
        ];
    };
}

metrics! {
    /// Rows read from the events file.
    Counter<0> ROWS_READ "ftap_source_rows_read_total" [];
    /// Rows of the events file that the Kafka topic will have when publishing is complete.
    Gauge<0> PUBLISH_TOTAL "ftap_source_rows" [];
    /// Rows of the events file that the Kafka topic had before this process published any.
    Gauge<0> PUBLISHED_BEFORE "ftap_source_rows_published_before" [];
    /// Rows of the events file skipped as malformed.
    Counter<0> SOURCE_ROWS_REJECTED "ftap_source_rows_rejected_total" [];
    /// Rows committed to the Kafka topic.
    Counter<0> ROWS_PUBLISHED "ftap_rows_published_total" [];
    /// Records taken from the Kafka topic.
    Counter<0> RECORDS_CONSUMED "ftap_records_consumed_total" [];
    /// Records that could not become rows, by reason.
    Counter<1> RECORDS_REJECTED "ftap_records_rejected_total" ["reason"];
    /// Records whose timestamp is before 1900 or after 2261: it is NULL in the lake.
    Counter<0> TIMESTAMPS_IGNORED "ftap_record_timestamps_ignored_total" [];
    /// Rows made durable in the lake.
    Counter<0> ROWS_COMMITTED "ftap_lake_rows_committed_total" [];
    /// Rejected records that a durable file lists.
    Counter<0> REJECTIONS_COMMITTED "ftap_lake_rejections_committed_total" [];
    /// Objects of transactions written to the lake.
    Counter<0> FILES_COMMITTED "ftap_lake_files_committed_total" [];
    /// Objects of another writer adopted.
    Counter<0> FILES_ADOPTED "ftap_lake_files_adopted_total" [];
    /// Bytes written to the lake.
    Counter<0> BYTES_COMMITTED "ftap_lake_bytes_committed_total" [];
    /// Time from closing a file until it is durable.
    Histogram<0> FLUSH_SECONDS "ftap_lake_flush_duration_seconds" [];
    /// Requests to the lake that were repeated.
    Counter<0> LAKE_RETRIES "ftap_lake_retries_total" [];
    /// Offsets that are neither in the lake nor in the topic any more.
    Counter<0> OFFSETS_SKIPPED "ftap_offsets_skipped_total" [];
    /// Records in the topic that are not in the lake yet, by partition, while Kafka answers.
    Gauge<1> LAG_RECORDS "ftap_consumer_lag_records" ["partition"];
    /// Age of the oldest record that is not in the lake yet, by partition, while Kafka answers and as far as it is known.
    Gauge<1> LAG_SECONDS "ftap_consumer_lag_seconds" ["partition"];
    /// Rows of the file that is open, by partition; a file that is not open has none.
    Gauge<1> OPEN_FILE_ROWS "ftap_open_file_rows" ["partition"];
    /// Age of the file that is open, by partition.
    Gauge<1> OPEN_FILE_AGE "ftap_open_file_age_seconds" ["partition"];
    /// Memory held between the consumer and the lake.
    Gauge<0> INGEST_MEMORY "ftap_ingest_memory_bytes" [];
    /// Restarts, by the stage that failed and the cause; those that a person asked for are `supervisor`'s and `asked`.
    Counter<2> RESTARTS "ftap_actor_restarts_total" ["actor", "cause"];
    /// Work handed to a stage and not finished, by stage.
    Gauge<1> MAILBOX_DEPTH "ftap_mailbox_depth" ["actor"];
    /// Runs of scheduled jobs, by job and outcome.
    Counter<2> JOB_RUNS "ftap_job_runs_total" ["job", "outcome"];
    /// Users changed by the update job.
    Counter<0> USERS_UPDATED "ftap_users_updated_total" [];
    /// Requests to the FX API that returned rates, retries included.
    Counter<0> FX_REQUESTS "ftap_fx_requests_total" [];
    /// Requests left in the FX API's plan, by period.
    Gauge<1> FX_QUOTA "ftap_fx_quota_remaining" ["period"];
    /// Rows loaded into BigQuery, by table.
    Counter<1> BIGQUERY_ROWS "ftap_bigquery_rows_loaded_total" ["table"];
    /// Objects loaded into BigQuery, by table.
    Counter<1> BIGQUERY_OBJECTS "ftap_bigquery_objects_loaded_total" ["table"];
    /// Rows by which BigQuery's count of a load differs from the objects', by table.
    Counter<1> BIGQUERY_DIFFERING "ftap_bigquery_rows_differing_total" ["table"];
    /// Load jobs that ended, by outcome.
    Counter<1> BIGQUERY_JOBS "ftap_bigquery_jobs_total" ["outcome"];
    /// Objects found that are not in BigQuery yet, by table; at most those of one load job.
    Gauge<1> BIGQUERY_WAITING "ftap_bigquery_objects_waiting" ["table"];
    /// Unix time at which this process last finished a load, by table.
    Gauge<1> BIGQUERY_LAST_LOAD "ftap_bigquery_last_load_timestamp_seconds" ["table"];
    /// Changes made durable in the lake, by table.
    Counter<1> CHANGES_COMMITTED "ftap_changes_committed_total" ["table"];
    /// Objects of changes written to the lake, by table.
    Counter<1> CHANGE_FILES_COMMITTED "ftap_change_files_committed_total" ["table"];
    /// 1 while the replication slot is being read, else 0.
    Gauge<0> SLOT_CONNECTED "ftap_slot_connected" [];
    /// Bytes of PostgreSQL's log that are not acknowledged.
    Gauge<0> SLOT_LAG_BYTES "ftap_slot_lag_bytes" [];
    /// Age of the oldest part of PostgreSQL's log that is not acknowledged.
    Gauge<0> SLOT_LAG_SECONDS "ftap_slot_lag_seconds" [];
    /// Bytes of log that PostgreSQL retains for the slot.
    Gauge<0> SLOT_RETAINED_BYTES "ftap_slot_retained_wal_bytes" [];
    /// 1 while a service that the process uses or watches answers, else 0: the lake after 5 s of refusals, the others after two polls in a row without an answer, PostgreSQL as soon as a job that needs it gets none. Absent for a PostgreSQL that nothing asked for.
    Gauge<1> SERVICE_UP "ftap_service_up" ["service"];
    /// Age of the newest answer of a service that the process watches.
    Gauge<1> SERVICE_ANSWER_AGE "ftap_service_answer_age_seconds" ["service"];
    /// The offset of the topic's next record, by partition.
    Gauge<1> TOPIC_END "ftap_topic_end_offset" ["partition"];
    /// The consumer group's committed offset, by partition.
    Gauge<1> GROUP_OFFSET "ftap_group_committed_offset" ["partition"];
    /// Objects in the lake, by folder.
    Gauge<1> LAKE_OBJECTS "ftap_lake_objects" ["folder"];
    /// Bytes in the lake, by folder.
    Gauge<1> LAKE_BYTES "ftap_lake_bytes" ["folder"];
    /// Unix time at which the newest object was written, by folder.
    Gauge<1> LAKE_NEWEST "ftap_lake_newest_timestamp_seconds" ["folder"];
    /// The offset after the last one in the lake, by partition.
    Gauge<1> LAKE_END "ftap_lake_end_offset" ["partition"];
    /// Rows in PostgreSQL, by table.
    Gauge<1> TABLE_ROWS "ftap_table_rows" ["table"];
}

/// Describes every metric to the recorder. Call once, after installing it.
pub fn describe() {
    for metric in CATALOGUE {
        metric.metric.describe(metric.doc.trim());
    }
}

/// The gauges that are known, in Prometheus' text format.
pub fn render_gauges() -> String {
    let mut out = String::new();
    for metric in CATALOGUE {
        metric.metric.render(metric, &mut out);
    }
    out
}

/// The table as Markdown, the text of `docs/METRICS.md`.
pub fn catalogue_markdown() -> String {
    let mut out = String::from(
        "# Metrics\n\n\
         `/metrics` serves these to Prometheus. A counter exists at 0 from the start of the process or\n\
         of the job that counts. A gauge exists while its value is known. `monitoring/` has alert\n\
         rules and a dashboard made of them. Rendered from `crates/telemetry/src/metrics.rs`; a test compares.\n\n\
         | metric | kind | labels | meaning |\n|---|---|---|---|\n",
    );
    for metric in all() {
        let labels: Vec<_> = metric
            .labels
            .iter()
            .map(|label| format!("`{label}`"))
            .collect();
        writeln!(
            out,
            "| `{}` | {} | {} | {} |",
            metric.name,
            metric.kind,
            labels.join(", "),
            metric.doc.trim()
        )
        .expect("writing to a String can't fail");
    }
    out
}

/// The figures that the program shows itself, at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    pub rows_read: u64,
    pub rows_published: u64,
    pub source_rows_rejected: u64,
    pub records_consumed: u64,
    pub rows_committed: u64,
    /// Rejected records that a durable file lists.
    pub records_rejected: u64,
    pub files: u64,
    pub bytes: u64,
    pub offsets_skipped: u64,
    pub restarts: u64,
    /// Bytes held between the consumer and the lake.
    pub memory_bytes: u64,
    /// Rows that the topic will have when publishing is complete; `None` while unknown.
    pub publish_total: Option<u64>,
    /// Rows that the topic had before this process published any.
    pub published_before: u64,
    /// Records in the topic that are not in the lake, over all partitions of this process; `None`
    /// while it has none, which is not the same as no lag.
    pub lag_records: Option<i64>,
}

impl Snapshot {
    /// The figures now.
    pub fn now() -> Self {
        Self {
            rows_read: ROWS_READ.total(),
            rows_published: ROWS_PUBLISHED.total(),
            source_rows_rejected: SOURCE_ROWS_REJECTED.total(),
            records_consumed: RECORDS_CONSUMED.total(),
            rows_committed: ROWS_COMMITTED.total(),
            records_rejected: REJECTIONS_COMMITTED.total(),
            files: FILES_COMMITTED.total(),
            bytes: BYTES_COMMITTED.total(),
            offsets_skipped: OFFSETS_SKIPPED.total(),
            restarts: RESTARTS.total(),
            memory_bytes: INGEST_MEMORY.get().unwrap_or_default() as u64,
            publish_total: PUBLISH_TOTAL.get().map(|rows| rows as u64),
            published_before: PUBLISHED_BEFORE.get().unwrap_or_default() as u64,
            lag_records: LAG_RECORDS.sum().map(|records| records as i64),
        }
    }
}
