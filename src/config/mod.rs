//! The settings of the program: one typed struct, read once at start, all of it checked.
//!
//! Promises that a `Config` that exists is usable, that every wrong setting is reported at once and
//! by name, and that secrets print as `***`. Relies on [`catalogue`] for names, defaults and texts.

pub mod catalogue;
mod convert;
mod doubts;
mod kafka_security;
pub mod layers;
mod parse;
#[cfg(test)]
mod parse_tests;
mod reader;
pub mod secret;
pub mod show;
mod sides;

use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ftap_actors::settings::Pace;

pub use convert::Role;
pub use doubts::Doubt;
use layers::{Layers, Source};
use reader::Reader;
pub use secret::Secret;
pub use show::Effective;
pub use sides::{BatchConfig, BigQueryConfig, FxConfig, PostgresConfig, PostgresUse};

/// How severe a line must be to be logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogLevel(pub tracing::Level);

/// The shape of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, else JSON.
    Auto,
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Where the status page is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DashboardAddr {
    /// Nowhere.
    Off,
    /// On this address.
    On(SocketAddr),
}

/// Every setting, typed. See `docs/SETTINGS.md` for what each means.
#[derive(Clone, Debug)]
pub struct Config {
    /// Everything this program keeps on this machine.
    pub data_dir: PathBuf,
    /// The events file that is published.
    pub events_file: PathBuf,
    /// Replay speed.
    pub pace: Pace,
    /// Rows between two local checkpoints.
    pub checkpoint_interval: u64,
    /// Kaggle account; `None` leaves it to `kaggle.json`.
    pub kaggle_username: Option<String>,
    /// Its key.
    pub kaggle_key: Option<Secret>,
    /// Where Kaggle's API is.
    pub kaggle_api_url: String,

    /// Bootstrap servers; `None` means the embedded broker.
    pub kafka_broker: Option<String>,
    /// Topic of the transactions.
    pub kafka_topic: String,
    /// Consumer group of the ingest side.
    pub kafka_consumer_group: String,
    /// Partitions of topics created.
    pub kafka_partitions: i32,
    /// Pause between two tries.
    pub kafka_retry_delay: Duration,
    /// Tries as set; `None` is the role's default.
    pub kafka_max_retries: Option<u32>,
    /// How long a silent consumer keeps its partitions.
    pub kafka_session_timeout: Duration,
    /// Fences a second publisher.
    pub kafka_transactional_id: String,
    /// Longest time a transaction stays open.
    pub transaction_interval: Duration,
    /// Rows after which one is committed.
    pub transaction_rows: u64,
    /// librdkafka properties: TLS, SASL and KAFKA_EXTRA.
    pub kafka_extra: Vec<(String, Secret)>,

    /// The lake on this machine.
    pub lake_dir: PathBuf,
    /// Bucket of the lake; `None` means `lake_dir`.
    pub gcs_bucket: Option<String>,
    /// Key file, found and read once.
    pub gcs_credentials_file: Option<PathBuf>,
    /// Another endpoint than Google's.
    pub gcs_endpoint: Option<String>,
    /// Age at which a file is closed.
    pub flush_interval: Duration,
    /// Rows at which a file is closed.
    pub file_max_rows: u64,
    /// Bytes at which a file is closed.
    pub file_max_bytes: u64,
    /// Compression level.
    pub zstd_level: i32,

    /// Replication slot of the change capture.
    pub cdc_slot: String,
    /// Its publication.
    pub cdc_publication: String,
    /// Age at which its files are closed; `None` is the other files'.
    pub cdc_flush_interval: Option<Duration>,

    /// ParquetBuffer actors.
    pub ingest_workers: NonZeroUsize,
    /// Memory between the consumer and the lake.
    pub ingest_memory_bytes: u64,
    /// Larger messages are rejected.
    pub max_message_bytes: usize,

    /// When a stage counts as stuck.
    pub stall_timeout: Duration,
    /// How long stages get to stop.
    pub stop_deadline: Duration,
    /// First pause before a restart.
    pub restart_initial_backoff: Duration,
    /// Longest pause.
    pub restart_max_backoff: Duration,
    /// More restarts than this end the process.
    pub restart_limit: usize,
    /// Within this time.
    pub restart_window: Duration,

    /// Least severe level logged.
    pub log_level: LogLevel,
    /// Shape of log lines.
    pub log_format: LogFormat,
    /// Where the status page is served.
    pub dashboard_addr: DashboardAddr,
    /// Only names of this machine are answered, whatever the address.
    pub dashboard_only_localhost: bool,
    /// Between two looks at what is shown; `None` is the source's own default.
    pub dashboard_look_interval: Option<Duration>,
    /// What it asks for; `None` only where other machines can't reach it.
    pub dashboard_token: Option<Secret>,

    /// PostgreSQL.
    pub postgres: PostgresConfig,
    /// Batch jobs.
    pub batch: BatchConfig,
    /// FX rates.
    pub fx: FxConfig,
    /// BigQuery.
    pub bigquery: BigQueryConfig,

    effective: Vec<Effective>,
    doubts: Vec<Doubt>,
}

/// Everything that is wrong with the settings, each on a line of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError(pub Vec<String>);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_slice() {
            [one] => f.write_str(one),
            many => {
                write!(f, "{} settings can't be used:", many.len())?;
                many.iter()
                    .try_for_each(|problem| write!(f, "\n  {problem}"))
            }
        }
    }
}

impl std::error::Error for ConfigError {}

/// An address that other machines reach needs a token.
fn dashboard(r: &mut Reader<'_>) -> (DashboardAddr, bool, Option<Secret>) {
    let addr = r.value("DASHBOARD_ADDR", parse::dashboard_addr);
    let only_localhost = r.value("DASHBOARD_ONLY_LOCALHOST", parse::boolean);
    let token = r.optional("DASHBOARD_TOKEN", parse::token);
    if let DashboardAddr::On(on) = addr
        && !on.ip().is_loopback()
        && !only_localhost
        && !r.only_asks()
    {
        if token.is_some() {
            r.doubt("DASHBOARD_ADDR", "other machines can reach it, and the token goes over the line as it is: let a proxy speak TLS for it, or keep the network private");
        } else if !r.is_given("DASHBOARD_TOKEN") {
            r.fault(
                "DASHBOARD_ADDR",
                "other machines can reach it, so DASHBOARD_TOKEN has to be set",
            );
        }
    }
    (addr, only_localhost, token)
}

impl Config {
    /// Reads the environment and `.env` under the given flags, which are keyed by setting name. A
    /// process that `only_asks` serves nothing, and needs no token.
    pub fn load(
        flags: std::collections::BTreeMap<String, String>,
        only_asks: bool,
    ) -> Result<Self, ConfigError> {
        let dot_env = Path::new(".env");
        let mut layers = Layers::load(flags, std::env::vars_os(), dot_env)
            .map_err(|problem| ConfigError(vec![problem]))?;
        layers.only_asks = only_asks;
        let mut config = Self::from_layers(&layers)?;
        config.doubts.extend(doubts::open_dot_env(&layers, dot_env));
        Ok(config)
    }

    /// Types and checks the values of all layers.
    pub fn from_layers(layers: &Layers) -> Result<Self, ConfigError> {
        let mut r = Reader::new(layers);
        let data_dir = r.path("DATA_DIR", || PathBuf::from("data"));
        let (pace, slow) = r.value("PRODUCE_SPEED", parse::pace);
        if slow {
            r.doubt("PRODUCE_SPEED", "a speed of 0 or less means 1, the data's own pace; write `max` for no waiting at all");
        }
        let kafka_topic = r.value("KAFKA_TOPIC", parse::topic);
        let gcs_bucket = r.optional("GCS_BUCKET_NAME", parse::bucket);
        let gcs_endpoint = r.optional("GCS_ENDPOINT", parse::endpoint);
        let kafka_broker = r.optional("KAFKA_BROKER", parse::bootstrap_servers);
        let kafka_extra = r
            .optional("KAFKA_EXTRA", parse::kafka_extra)
            .unwrap_or_default()
            .into_iter()
            .map(|(name, value)| (name, Secret::new(value)))
            .collect();
        let (dashboard_addr, dashboard_only_localhost, dashboard_token) = dashboard(&mut r);
        let bigquery = sides::bigquery(&mut r, gcs_bucket.is_some());
        let postgres = sides::postgres(&mut r);
        let batch = sides::batch(&mut r);
        let fx = sides::fx(&mut r);
        let config = Self {
            events_file: r.path("EVENTS_FILE", || {
                data_dir
                    .join("prepared")
                    .join("credit_card_transactions_events.csv")
            }),
            pace,
            checkpoint_interval: r.value("CHECKPOINT_INTERVAL", |t| parse::whole(t, 1..=u64::MAX)),
            kaggle_username: r.optional("KAGGLE_USERNAME", parse::text),
            kaggle_key: r.secret("KAGGLE_KEY"),
            kaggle_api_url: r.value("KAGGLE_API_URL", parse::endpoint),

            kafka_consumer_group: r.value("KAFKA_CONSUMER_GROUP", parse::identifier),
            kafka_partitions: r.value("KAFKA_PARTITIONS", |t| parse::whole(t, 1..=1000)),
            kafka_retry_delay: r.value("KAFKA_RETRY_DELAY", |t| parse::seconds(t, 0.01..=3600.0)),
            kafka_max_retries: r.optional("KAFKA_MAX_RETRIES", |t| parse::whole(t, 0..=u32::MAX)),
            kafka_session_timeout: r.value("KAFKA_SESSION_TIMEOUT_MS", |t| {
                parse::milliseconds(t, 1000..=1_800_000)
            }),
            kafka_transactional_id: r
                .optional("KAFKA_TRANSACTIONAL_ID", parse::identifier)
                .unwrap_or_else(|| format!("ftap-publisher-{kafka_topic}")),
            transaction_interval: r.value("TRANSACTION_INTERVAL_MS", |t| {
                parse::milliseconds(t, 10..=60_000)
            }),
            transaction_rows: r.value("TRANSACTION_ROWS", |t| parse::whole(t, 1..=u64::MAX)),
            kafka_extra: kafka_security::read(&mut r, kafka_extra, kafka_broker.as_deref()),
            kafka_broker,
            kafka_topic,

            lake_dir: r.path("LAKE_DIR", || data_dir.join("lake")),
            gcs_credentials_file: r.credentials_file(
                "GOOGLE_APPLICATION_CREDENTIALS",
                gcs_bucket.is_some() && gcs_endpoint.is_none(),
            ),
            gcs_bucket,
            gcs_endpoint,
            flush_interval: r.value("GCS_FLUSH_SECONDS", |t| parse::seconds(t, 0.1..=86_400.0)),
            file_max_rows: r.value("FILE_MAX_ROWS", |t| parse::whole(t, 1..=u64::MAX)),
            file_max_bytes: r.value("FILE_MAX_BYTES", |t| {
                parse::bytes(t, 64_000..=4_000_000_000)
            }),
            zstd_level: r.value("ZSTD_LEVEL", |t| parse::whole(t, 1..=22)),

            cdc_slot: r.value("CDC_SLOT", parse::slot),
            cdc_publication: r.value("CDC_PUBLICATION", parse::slot),
            cdc_flush_interval: r
                .optional("CDC_FLUSH_SECONDS", |t| parse::seconds(t, 0.1..=86_400.0)),

            ingest_workers: r
                .optional("INGEST_WORKERS", |t| parse::non_zero(t, 1024))
                .unwrap_or_else(|| {
                    std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
                }),
            ingest_memory_bytes: r.value("INGEST_MEMORY_BYTES", |t| {
                parse::bytes(t, 16_000_000..=u64::MAX)
            }),
            max_message_bytes: r.value("MAX_MESSAGE_BYTES", |t| parse::bytes(t, 1000..=64_000_000))
                as usize,

            stall_timeout: r.value("STALL_TIMEOUT_SECONDS", |t| {
                parse::seconds(t, 0.1..=86_400.0)
            }),
            stop_deadline: r.value("STOP_DEADLINE_SECONDS", |t| parse::seconds(t, 0.1..=9.0)),
            restart_initial_backoff: r.value("RESTART_INITIAL_BACKOFF_MS", |t| {
                parse::milliseconds(t, 1..=3_600_000)
            }),
            restart_max_backoff: r.value("RESTART_MAX_BACKOFF_SECONDS", |t| {
                parse::seconds(t, 0.001..=3600.0)
            }),
            restart_limit: r.value("RESTART_LIMIT", |t| parse::whole(t, 0..=usize::MAX)),
            restart_window: r.value("RESTART_WINDOW_SECONDS", |t| {
                parse::seconds(t, 1.0..=86_400.0)
            }),

            log_level: r.value("LOG_LEVEL", parse::log_level),
            log_format: r.value("LOG_FORMAT", parse::log_format),
            dashboard_addr,
            dashboard_only_localhost,
            dashboard_look_interval: r.optional("DASHBOARD_LOOK_SECONDS", |t| {
                parse::seconds(t, 0.1..=3600.0)
            }),
            dashboard_token,

            postgres,
            batch,
            fx,
            bigquery,
            data_dir,
            effective: Vec::new(),
            doubts: Vec::new(),
        };
        let (effective, mut doubts) = r.finish()?;
        doubts.extend(doubts::near_misses(layers));
        doubts.extend(doubts::odd_combinations(&config));
        Ok(Self {
            effective,
            doubts,
            ..config
        })
    }

    /// Whether somebody set it: a flag, the environment or `.env`.
    pub fn is_set(&self, name: &str) -> bool {
        !matches!(self.layer(name), Source::Default | Source::RunDefault)
    }

    /// Where a setting's value is from, in words: completes "it is VALUE, from …".
    pub fn source(&self, name: &str) -> String {
        match self.layer(name) {
            Source::Environment => "the environment".to_owned(),
            Source::Flag => "a flag".to_owned(),
            other => other.to_string(),
        }
    }

    fn layer(&self, name: &str) -> Source {
        let mut settings = self.effective.iter();
        let setting = settings.find(|setting| setting.name == name);
        setting.map_or(Source::Default, |setting| setting.source)
    }

    /// Every setting with its value, masked where it is secret, and its source.
    pub fn effective(&self) -> &[Effective] {
        &self.effective
    }

    /// Values that were understood but are probably not what was meant.
    pub fn doubts(&self) -> &[Doubt] {
        &self.doubts
    }

    /// What differs in `ftap run`, where one person watches one process: it publishes at full
    /// speed, and a lake on this machine shows its files within seconds. Settings that somebody set
    /// stay as they are.
    pub fn with_run_defaults(mut self) -> Self {
        if !self.is_set("PRODUCE_SPEED") {
            self.pace = Pace::Max;
            self.note_run_default("PRODUCE_SPEED", "max");
        }
        if !self.is_set("GCS_FLUSH_SECONDS") && self.gcs_bucket.is_none() {
            self.flush_interval = Duration::from_secs(5);
            self.note_run_default("GCS_FLUSH_SECONDS", "5");
        }
        self
    }

    fn note_run_default(&mut self, name: &str, value: &str) {
        if let Some(setting) = self.effective.iter_mut().find(|s| s.name == name) {
            setting.value = value.to_owned();
            setting.source = Source::RunDefault;
        }
    }
}
