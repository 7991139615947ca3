//! The settings of what runs beside the stream: PostgreSQL, the batch jobs, FX rates, BigQuery.

use std::path::PathBuf;
use std::time::Duration;

use ftap_postgres::SslMode;
use ftap_schedule::Schedule;

use super::parse;
use super::reader::Reader;
use super::secret::Secret;

/// Whether PostgreSQL is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PostgresUse {
    /// Where it makes sense.
    Auto,
    /// Yes.
    On,
    /// No.
    Off,
}

/// PostgreSQL.
#[derive(Clone, Debug)]
pub struct PostgresConfig {
    /// Whether it is used.
    pub usage: PostgresUse,
    /// Host name, address or socket folder; `None` means the private cluster.
    pub host: Option<String>,
    /// Port.
    pub port: u16,
    /// Database; `None` is the role's.
    pub database: Option<String>,
    /// Role.
    pub user: String,
    /// Its password.
    pub password: Option<Secret>,
    /// Encryption.
    pub ssl_mode: SslMode,
    /// Authorities that are trusted.
    pub ssl_root_cert: Option<PathBuf>,
    /// Most connections.
    pub pool_size: usize,
    /// To make a connection.
    pub connect_timeout: Duration,
    /// For one statement.
    pub statement_timeout: Duration,
    /// The private cluster's programs.
    pub bin_dir: Option<PathBuf>,
    /// WAL that a slot may hold back in the private cluster.
    pub slot_wal_keep_bytes: u64,
    /// Make Airbyte's slot.
    pub airbyte_slot: bool,
}

/// The batch jobs.
#[derive(Clone, Debug)]
pub struct BatchConfig {
    /// Share of the users that one update changes.
    pub update_percentage: f64,
    /// Makes updates repeatable.
    pub update_seed: Option<u64>,
    /// Key of freecurrencyapi.com.
    pub freecurrencyapi_key: Option<Secret>,
    /// When FX rates are fetched; `None` is never.
    pub ingest_fx_schedule: Option<Schedule>,
    /// When users are changed; `None` is never.
    pub update_users_schedule: Option<Schedule>,
}

/// BigQuery.
#[derive(Clone, Debug)]
pub struct BigQueryConfig {
    /// Project and dataset; `None` loads nothing.
    pub target: Option<(String, String)>,
    /// Where the dataset is made.
    pub location: Option<String>,
    /// Time between two loads.
    pub window: Duration,
    /// Another API than Google's.
    pub api_url: Option<String>,
}

/// FX rates.
#[derive(Clone, Debug)]
pub struct FxConfig {
    /// Where the API is.
    pub api_url: String,
    /// How long an answer stands.
    pub cache_time: Duration,
    /// How long one answer may take.
    pub timeout: Duration,
    /// Seed of rates made up.
    pub offline_seed: u64,
}

/// PostgreSQL's settings.
pub(super) fn postgres(r: &mut Reader<'_>) -> PostgresConfig {
    PostgresConfig {
        usage: r.value("POSTGRES", parse::postgres_use),
        host: r.optional("POSTGRES_HOST", parse::postgres_host),
        port: r.value("POSTGRES_PORT", |t| parse::whole(t, 1..=65_535)),
        database: r.optional("POSTGRES_DB", parse::postgres_name),
        user: r.value("POSTGRES_USER", parse::postgres_name),
        password: r.secret("POSTGRES_PASSWORD"),
        ssl_mode: r.value("POSTGRES_SSLMODE", parse::ssl_mode),
        ssl_root_cert: r.optional("POSTGRES_SSLROOTCERT", parse::existing_file),
        pool_size: r.value("POSTGRES_POOL_SIZE", |t| parse::whole(t, 1..=100)),
        connect_timeout: r.value("POSTGRES_CONNECT_TIMEOUT_SECONDS", |t| {
            parse::seconds(t, 0.1..=300.0)
        }),
        statement_timeout: r.value("POSTGRES_STATEMENT_TIMEOUT_SECONDS", |t| {
            parse::seconds(t, 0.1..=3600.0)
        }),
        bin_dir: r.optional("POSTGRES_BIN_DIR", parse::postgres_bin_dir),
        slot_wal_keep_bytes: r.value("POSTGRES_SLOT_WAL_KEEP_BYTES", |t| {
            parse::bytes(t, 64_000_000..=u64::MAX)
        }),
        airbyte_slot: r.value("AIRBYTE_SLOT", parse::boolean),
    }
}

/// The batch jobs'.
pub(super) fn batch(r: &mut Reader<'_>) -> BatchConfig {
    BatchConfig {
        update_percentage: r.value("UPDATE_PERCENTAGE", |t| parse::number(t, 0.0..=1.0)),
        update_seed: r.optional("UPDATE_SEED", |t| parse::whole(t, 0..=u64::MAX)),
        freecurrencyapi_key: r.secret("FREECURRENCYAPI_API_KEY"),
        ingest_fx_schedule: r.value("INGEST_FX_SCHEDULE", parse::schedule),
        update_users_schedule: r.value("UPDATE_USERS_SCHEDULE", parse::schedule),
    }
}

/// The FX rates'.
pub(super) fn fx(r: &mut Reader<'_>) -> FxConfig {
    FxConfig {
        api_url: r.value("FX_API_URL", parse::endpoint),
        cache_time: r.value("FX_CACHE_SECONDS", |t| parse::seconds(t, 0.0..=604_800.0)),
        timeout: r.value("FX_TIMEOUT_SECONDS", |t| parse::seconds(t, 0.1..=300.0)),
        offline_seed: r.value("FX_OFFLINE_SEED", |t| parse::whole(t, 0..=u64::MAX)),
    }
}

/// Project and dataset belong together, and load jobs read a bucket.
pub(super) fn bigquery(r: &mut Reader<'_>, has_bucket: bool) -> BigQueryConfig {
    let project = r.optional("BIGQUERY_PROJECT", parse::project);
    let dataset = r.optional("BIGQUERY_DATASET", parse::dataset);
    let config = BigQueryConfig {
        target: project.clone().zip(dataset.clone()),
        location: r.optional("BIGQUERY_LOCATION", parse::location),
        window: r.value("BIGQUERY_LOAD_SECONDS", |t| {
            parse::seconds(t, 1.0..=86_400.0)
        }),
        api_url: r.optional("BIGQUERY_API_URL", parse::endpoint),
    };
    match (project, dataset) {
        (Some(_), None) if !r.is_given("BIGQUERY_DATASET") => r.missing(
            "BIGQUERY_DATASET",
            "BIGQUERY_PROJECT is, and both are needed: set it, or unset BIGQUERY_PROJECT to load nothing",
        ),
        (None, Some(_)) if !r.is_given("BIGQUERY_PROJECT") => r.missing(
            "BIGQUERY_PROJECT",
            "BIGQUERY_DATASET is, and both are needed: set it, or unset BIGQUERY_DATASET to load nothing",
        ),
        (Some(_), Some(_)) if !has_bucket && !r.is_given("GCS_BUCKET_NAME") => r.missing(
            "GCS_BUCKET_NAME",
            "BIGQUERY_PROJECT is, and BigQuery loads from a bucket, not from LAKE_DIR: set it, or unset BIGQUERY_PROJECT to load nothing",
        ),
        _ => {}
    }
    config
}
