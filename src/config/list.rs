//! Every setting, declared once. Typed fields, defaults, checks, flags, `--help`, error texts,
//! `ftap config`, `docs/SETTINGS.md` and `.env.example` follow from this list.
//!
//! ```text
//! /// What it does: in --help and in the documents
//! NAME => field: Type = kind, default "text", for "commands that use it";
//! ```
//!
//! The [kind](super::kind) parses the value, states what is expected, and masks secrets, which have
//! no flag. `default "text"` is parsed like a given value, `$NAME` in it stands for the value of a
//! setting above; `default ("description", closure)` is for a default that depends on the command or
//! on what is set. `unset "what happens then"` makes the field an `Option`. `example "text"` is shown
//! in `.env.example` in place of the default.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ftap_actors::settings::Pace;
use ftap_kafka::DeadLetterPlace;
use ftap_lake::Compression;
use ftap_postgres::SslMode;
use ftap_schedule::Schedule;
use tracing::Level;

use super::kind::{
    Properties, boolean, bootstrap_servers, bytes, has_upper_case, is_printable, is_word,
    listen_addr, milliseconds, number, one_of, pace, path, postgres_bin_dir, postgres_host,
    properties, readable_file, schedule, seconds, secret, slot, text, token, url, whole,
};
use super::reader::Reader;
use super::secret::Secret;
use super::setting::{Default, EVERY, Setting};
use super::{Effective, LogFormat, PostgresUse, Warning};

/// Commands with stages, which supervision restarts and the dashboard shows.
const STAGES: &str = "run, produce, consume, batch, cdc, serve";
const KAFKA: &str = "run, produce, consume, prepare, verify, tap, dlq, reset, serve";
const KAFKA_WRITERS: &str = "run, produce, consume, dlq, kafka";
const LAKE: &str =
    "run, consume, batch, cdc, fx, load, verify, query, models, fraud, dlq, reset, serve";
const LAKE_WRITERS: &str = "run, consume, cdc";
const FILE_WRITERS: &str = "run, consume, cdc, batch, fx, fraud";
const POSTGRES: &str = "run, batch, cdc, verify, reset, serve";
const POSTGRES_WRITERS: &str = "run, batch, cdc";
const BIGQUERY: &str = "run, batch, load, verify, reset";
const FX: &str = "run, batch, fx";

const DEAD_LETTER_PLACES: &[(&str, DeadLetterPlace)] = &[
    ("topic", DeadLetterPlace::Topic),
    ("lake", DeadLetterPlace::Lake),
];

/// The level is a setting of its own.
const CODECS: &[(&str, Compression)] = &[
    ("zstd", Compression::Zstd(1)),
    ("snappy", Compression::Snappy),
    ("gzip", Compression::Gzip),
    ("lz4", Compression::Lz4),
    ("none", Compression::None),
];

macro_rules! settings {
    ($( $group:literal { $(
        $(#[doc = $meaning:literal])+
        $name:ident => $field:ident: $type:ty = $kind:expr, $how:ident $default:tt $(, example $example:literal)?, for $commands:expr;
    )+ } )+) => {
        /// Every setting, typed; read once at start, all of it checked.
        #[derive(Clone, Debug)]
        pub(crate) struct Config {
            $($( $(#[doc = $meaning])+ pub $field: $type, )+)+
            pub(super) effective: Vec<Effective>,
            pub(super) warnings: Vec<Warning>,
        }

        impl Config {
            /// Reads all of them; `None` if a default can't be used, which the reader has noted.
            pub(super) fn read(r: &mut Reader<'_>) -> Option<Self> {
                $($( let $field = settings!(@read $how r, stringify!($name), &$kind); )+)+
                Some(Self {
                    $($( $field: $field?, )+)+
                    effective: Vec::new(),
                    warnings: Vec::new(),
                })
            }
        }

        /// The list, in the order in which it is shown.
        pub(super) fn list() -> Vec<Setting> {
            vec![ $($( {
                let kind = $kind;
                Setting {
                    name: stringify!($name),
                    flag: stringify!($name).to_ascii_lowercase().replace('_', "-"),
                    group: $group,
                    meaning: concat!($($meaning),+).trim_start(),
                    default: settings!(@default $how $default),
                    expected: kind.expected,
                    show: kind.show,
                    is_secret: kind.is_secret,
                    example: None $( .or(Some($example)) )?,
                    commands: $commands,
                }
            } ),+),+ ]
        }
    };
    (@read default $r:ident, $name:expr, $kind:expr) => { $r.value($name, $kind) };
    (@read unset $r:ident, $name:expr, $kind:expr) => { Some($r.optional($name, $kind)) };
    (@default default ($description:literal, $of:expr)) => { Default::Depends($description, $of) };
    (@default default $text:literal) => { Default::Text($text) };
    (@default unset $instead:literal) => { Default::Unset($instead) };
}

settings! {
    "Data" {
        /// Everything this program keeps on this machine
        DATA_DIR => data_dir: PathBuf = path("a writable directory"), default "data", for EVERY;
        /// The prepared events file that is published
        EVENTS_FILE => events_file: PathBuf = path("an existing file, made by `ftap prepare`"),
            default "$DATA_DIR/prepared/credit_card_transactions_events.csv", for "run, produce, prepare, batch, cdc, verify";
        /// Seconds of the data that are replayed in a second: at 100 a day of transactions takes 14 minutes; `max` does not wait at all
        PRODUCE_SPEED => pace: Pace = pace(),
            default ("100; `max` for `ftap run`", |given| if given.command == "run" { "max" } else { "100" }.to_owned()),
            example "100", for "run, produce";
        /// Minimum rows between two local checkpoints; they only save re-reading the file, the topic itself is the checkpoint
        CHECKPOINT_INTERVAL => checkpoint_interval: u64 = whole(1..), default "50", for "run, produce";
        /// Token for `ftap prepare --kaggle`, or a file that holds one
        KAGGLE_API_TOKEN => kaggle_api_token: Option<Secret> = secret("a token from kaggle.com/settings"), unset "`access_token` or `kaggle.json` is read", for "prepare";
        /// Account for `ftap prepare --kaggle`, where there is no token; with KAGGLE_KEY it replaces `kaggle.json`
        KAGGLE_USERNAME => kaggle_username: Option<String> = text("a Kaggle user name", |_| true), unset "`kaggle.json` is read", for "prepare";
        /// Key of that account
        KAGGLE_KEY => kaggle_key: Option<Secret> = secret("the `key` of a `kaggle.json`"), unset "`kaggle.json` is read", for "prepare";
        /// Address of Kaggle's API; another one for tests
        KAGGLE_API_URL => kaggle_api_url: String = url(), default "https://www.kaggle.com/api/v1", for "prepare";
    }
    "Kafka" {
        /// Kafka's bootstrap servers
        KAFKA_BROKER => kafka_broker: Option<String> = bootstrap_servers(),
            unset "the embedded broker in $DATA_DIR/kafka", example "kafka:9092", for KAFKA;
        /// Topic of the transactions
        KAFKA_TOPIC => kafka_topic: String =
            text("1 to 245 letters, digits, dots, dashes and underscores; a new lake begins for at most 200, and for no name that begins with a dot or an underscore", |t| is_word(t, 245, "._-") && t != "." && t != ".."),
            default "transactions", for KAFKA;
        /// Where records are kept that can't become rows: `topic` is KAFKA_DEAD_LETTER_TOPIC; `lake` is the folder `dead_letters` of the lake, where no topic can be had that takes them whole. `ftap verify` and `ftap dlq` read both
        DEAD_LETTERS => dead_letters: DeadLetterPlace = one_of(DEAD_LETTER_PLACES), default "topic", for "run, consume, verify, dlq, reset";
        /// Topic of the records that can't become rows; created when the first one comes, checked at the start. Nothing is written to it with `DEAD_LETTERS=lake`
        KAFKA_DEAD_LETTER_TOPIC => kafka_dead_letter_topic: String =
            text("1 to 249 letters, digits, dots, dashes and underscores", |t| is_word(t, 249, "._-") && t != "." && t != ".."),
            default "$KAFKA_TOPIC.dlq", for "run, consume, verify, dlq, reset";
        /// Consumer group that writes the lake
        KAFKA_CONSUMER_GROUP => kafka_consumer_group: String = text("a name without control characters, 1 to 249 long", |t| is_printable(t, 249)), default "transactions-consumer-group", for "run, consume, reset, serve";
        /// Partitions of the topics that this program creates
        KAFKA_PARTITIONS => kafka_partitions: i32 = whole(1..=1000), default "3", for KAFKA_WRITERS;
        /// Seconds between two attempts to reach a broker, less up to a quarter of jitter
        KAFKA_RETRY_DELAY => kafka_retry_delay: Duration = seconds(0.01..=3600.0), default "2", for "run, produce, consume";
        /// Attempts to reach a broker before the command fails; 0 retries indefinitely
        KAFKA_MAX_RETRIES => kafka_max_retries: u32 = whole(0..),
            default ("0; 10 for `ftap produce`", |given| if given.command == "produce" { "10" } else { "0" }.to_owned()),
            example "10", for "run, produce, consume";
        /// How long a silent consumer keeps its partitions; Apache Kafka's own minimum is 6000
        KAFKA_SESSION_TIMEOUT_MS => kafka_session_timeout: Duration = milliseconds(1000..=1_800_000), default "10000", for "run, consume";
        /// Fences off a second publisher of the same topic; publishers of different topics need different ones
        KAFKA_TRANSACTIONAL_ID => kafka_transactional_id: String = text("a name without control characters, 1 to 260 long", |t| is_printable(t, 260)), default "ftap-publisher-$KAFKA_TOPIC", for "run, produce";
        /// Longest time a Kafka transaction stays open, which is the delay that readers see
        TRANSACTION_INTERVAL_MS => transaction_interval: Duration = milliseconds(10..=60_000), default "500", for "run, produce";
        /// Rows after which a Kafka transaction is committed; fewer on a slow line or under a quota
        TRANSACTION_ROWS => transaction_rows: u64 = whole(1..), default "100000", for "run, produce, dlq";
        /// How long `--until-drained` waits for records that another producer's open transaction hides; Apache Kafka ends a transaction after 15 minutes unless it is configured otherwise
        OPEN_TRANSACTION_TIMEOUT_SECONDS => open_transaction_timeout: Duration = seconds(0.0..=604_800.0), default "960", for "run, consume";
        /// How KAFKA_BROKER is reached: `SSL` is TLS, `SASL_SSL` a login over TLS
        KAFKA_SECURITY_PROTOCOL => kafka_security_protocol: Option<&'static str> =
            one_of(&[("PLAINTEXT", "PLAINTEXT"), ("SSL", "SSL"), ("SASL_PLAINTEXT", "SASL_PLAINTEXT"), ("SASL_SSL", "SASL_SSL")]),
            unset "PLAINTEXT", example "SASL_SSL", for KAFKA;
        /// How to log in
        KAFKA_SASL_MECHANISM => kafka_sasl_mechanism: Option<&'static str> =
            one_of(&[("PLAIN", "PLAIN"), ("SCRAM-SHA-256", "SCRAM-SHA-256"), ("SCRAM-SHA-512", "SCRAM-SHA-512")]),
            unset "", example "SCRAM-SHA-512", for KAFKA;
        /// User of the login
        KAFKA_SASL_USERNAME => kafka_sasl_username: Option<String> = text("a user name", |_| true), unset "", for KAFKA;
        /// Password of the login
        KAFKA_SASL_PASSWORD => kafka_sasl_password: Option<Secret> = secret("a password"), unset "", for KAFKA;
        /// Certificate of the authority that issued the broker's
        KAFKA_SSL_CA_LOCATION => kafka_ssl_ca: Option<PathBuf> = readable_file("an existing PEM file"),
            unset "the system's authorities are trusted", example "ca.pem", for KAFKA;
        /// Our own certificate, for brokers that require one (mutual TLS)
        KAFKA_SSL_CERTIFICATE_LOCATION => kafka_ssl_certificate: Option<PathBuf> = readable_file("an existing PEM file"),
            unset "", example "client.pem", for KAFKA;
        /// Private key of our own certificate
        KAFKA_SSL_KEY_LOCATION => kafka_ssl_key: Option<PathBuf> = readable_file("an existing PEM file"),
            unset "", example "client.key", for KAFKA;
        /// Password of that key, if it has one
        KAFKA_SSL_KEY_PASSWORD => kafka_ssl_key_password: Option<Secret> = secret("a password"), unset "", for KAFKA;
        /// Further librdkafka properties such as `client.rack=a,ssl.crl.location=revoked.pem`; a comma inside a value is written `\,`
        KAFKA_EXTRA => kafka_extra: Option<Properties> = properties(),
            unset "", example "client.rack=a,socket.keepalive.enable=true", for KAFKA;
    }
    "Lake" {
        /// The lake, as long as GCS_BUCKET_NAME is unset
        LAKE_DIR => lake_dir: PathBuf = path("a writable directory"), default "$DATA_DIR/lake", for LAKE;
        /// Google Cloud Storage bucket of the lake
        GCS_BUCKET_NAME => gcs_bucket: Option<String> =
            text("a bucket's name, 3 to 222 lower-case letters, digits, dots, dashes and underscores, without `gs://`", |t| {
                t.len() >= 3 && is_word(t, 222, "._-") && !has_upper_case(t) && !t.starts_with(['.', '_', '-']) && !t.ends_with(['.', '_', '-'])
            }),
            unset "the lake is in LAKE_DIR", example "my-lake", for LAKE;
        /// Key file of a service account, or that of your own login; a relative path is also looked up in `credentials/`
        GOOGLE_APPLICATION_CREDENTIALS => gcs_credentials_file: Option<PathBuf> = path("an existing JSON key file"),
            unset "the metadata server is asked", example "credentials/key.json", for LAKE;
        /// Another endpoint than Google's, for tests; no credentials are sent to it
        GCS_ENDPOINT => gcs_endpoint: Option<String> = url(), unset "Google's", for LAKE;
        /// Age at which a file is closed, even while nothing arrives
        GCS_FLUSH_SECONDS => flush_interval: Duration = seconds(0.1..=86_400.0),
            default ("600; 5 for `ftap run` with a lake on this machine", |given| {
                if given.command == "run" && !given.is_given("GCS_BUCKET_NAME") { "5" } else { "600" }.to_owned()
            }), example "600", for LAKE_WRITERS;
        /// Rows at which a file is closed
        FILE_MAX_ROWS => file_max_rows: u64 = whole(1..), default "1000000", for LAKE_WRITERS;
        /// Encoded size at which a file is closed
        FILE_MAX_BYTES => file_max_bytes: u64 = bytes::<u64>(64_000..=4_000_000_000), default "32MB", for LAKE_WRITERS;
        /// Compression of the Parquet files; `none` suits lakes on compressed disks
        PARQUET_CODEC => parquet_codec: Compression = one_of(CODECS), default "zstd", for FILE_WRITERS;
        /// Level of the codec `zstd`
        ZSTD_LEVEL => zstd_level: i32 = whole(1..=22), default "1", for FILE_WRITERS;
    }
    "Ingest" {
        /// Actors that decode and encode in parallel
        INGEST_WORKERS => ingest_workers: usize = whole(1..=1024),
            default ("one per core", |_| std::thread::available_parallelism().map_or(1, usize::from).min(1024).to_string()),
            example "2", for "run, consume";
        /// Memory between the consumer and the lake, for all partitions together; above it they are paused
        INGEST_MEMORY_BYTES => ingest_memory_bytes: u64 = bytes::<u64>(16_000_000..), default "128MB", for "run, consume";
        /// A larger message is rejected unparsed
        MAX_MESSAGE_BYTES => max_message_bytes: usize = bytes::<usize>(1000..=64_000_000), default "1MB", for "run, consume, verify, dlq";
    }
    "Change capture" {
        /// Replication slot of the change capture; each lake needs its own
        CDC_SLOT => cdc_slot: String = slot(), default "ftap_changes", for "run, cdc, reset, serve";
        /// Publication of the captured tables; created if it does not exist
        CDC_PUBLICATION => cdc_publication: String = slot(), default "ftap_publication", for "run, cdc, verify, reset";
        /// Age at which files of changes are closed
        CDC_FLUSH_SECONDS => cdc_flush_interval: Duration = seconds(0.1..=86_400.0), default "$GCS_FLUSH_SECONDS", example "600", for "run, cdc";
    }
    "BigQuery" {
        /// Project of the tables that the lake is loaded into; requires BIGQUERY_DATASET and a lake in GCS_BUCKET_NAME
        BIGQUERY_PROJECT => bigquery_project: Option<String> =
            text("a project id, letters, digits, dashes, dots and colons", |t| {
                is_word(t, 200, ".:-") && !t.starts_with(['.', ':', '-']) && !t.contains("..")
            }),
            unset "nothing is loaded", example "my-project", for BIGQUERY;
        /// Dataset of the tables; created if it does not exist
        BIGQUERY_DATASET => bigquery_dataset: Option<String> =
            text("1 to 1024 letters, digits and underscores", |t| is_word(t, 1024, "_")),
            unset "nothing is loaded", example "platform", for BIGQUERY;
        /// Location in which the dataset is created
        BIGQUERY_LOCATION => bigquery_location: Option<String> =
            text("a location such as `EU`, `US` or `europe-north1`", |t| is_word(t, 63, "-")),
            unset "the dataset's; `US` for a new one", example "EU", for BIGQUERY;
        /// Time between two loads; BigQuery accepts 1,500 a day for each table
        BIGQUERY_LOAD_SECONDS => bigquery_load_interval: Duration = seconds(1.0..=86_400.0), default "600", for "run, batch";
        /// Another API than Google's, for tests and emulators; no credentials are sent to it
        BIGQUERY_API_URL => bigquery_api_url: Option<String> = url(), unset "Google's", for BIGQUERY;
    }
    "Supervision" {
        /// A stage with work and no progress for this long counts as stuck
        STALL_TIMEOUT_SECONDS => stall_timeout: Duration = seconds(0.1..=86_400.0), default "60", for STAGES;
        /// How long stages get to flush and stop; the process ends within 10 seconds
        STOP_DEADLINE_SECONDS => stop_deadline: Duration = seconds(0.1..=9.0), default "8", for STAGES;
        /// Pause before the first restart of a group; it doubles each time
        RESTART_INITIAL_BACKOFF_MS => restart_initial_backoff: Duration = milliseconds(1..=3_600_000), default "1000", for STAGES;
        /// Longest pause before a restart
        RESTART_MAX_BACKOFF_SECONDS => restart_max_backoff: Duration = seconds(0.001..=3600.0), default "60", for STAGES;
        /// More restarts than this within RESTART_WINDOW_SECONDS end the process with exit code 1
        RESTART_LIMIT => restart_limit: usize = whole(0..), default "10", for STAGES;
        /// Time in which restarts are counted, see RESTART_LIMIT
        RESTART_WINDOW_SECONDS => restart_window: Duration = seconds(1.0..=86_400.0), default "600", for STAGES;
    }
    "Logs and status" {
        /// Least severe level that is logged
        LOG_LEVEL => log_level: Level = one_of(&[
            ("TRACE", Level::TRACE), ("DEBUG", Level::DEBUG), ("INFO", Level::INFO), ("WARNING|WARN", Level::WARN),
            ("ERROR", Level::ERROR), ("CRITICAL", Level::ERROR),
        ]), default "INFO", for EVERY;
        /// `json`: one object a line; `text`: for people; `auto`: text on a terminal, otherwise JSON
        LOG_FORMAT => log_format: LogFormat =
            one_of(&[("auto", LogFormat::Auto), ("text", LogFormat::Text), ("json", LogFormat::Json)]), default "auto", for EVERY;
        /// Where the dashboard, /metrics, /healthz and /readyz are served; `off` disables them. An address that other machines reach requires DASHBOARD_TOKEN
        DASHBOARD_ADDR => dashboard_addr: Option<SocketAddr> = listen_addr(), default "127.0.0.1:8080", for "run, produce, consume, batch, cdc, serve, health";
        /// States that only this machine reaches DASHBOARD_ADDR although it is not a loopback address, as in a container whose port is published on 127.0.0.1. No token is required then, and only requests for localhost or 127.0.0.1 are answered
        DASHBOARD_ONLY_LOCALHOST => dashboard_only_localhost: bool = boolean(), default "false", for STAGES;
        /// Time between two polls of Kafka, the lake and PostgreSQL by `ftap serve`; a poll of a bucket is a dozen billed requests
        DASHBOARD_LOOK_SECONDS => dashboard_look_interval: Option<Duration> = seconds(0.1..=3600.0),
            unset "5; 60 for a lake in a bucket", example "5", for "serve";
        /// Required by everything there except /healthz and /readyz: as `Authorization: Bearer`, or as the password in a browser
        DASHBOARD_TOKEN => dashboard_token: Option<Secret> = token(), unset "", for STAGES;
    }
    "PostgreSQL and batch jobs" {
        /// Whether users, merchants and their changes are kept in PostgreSQL. `auto`: yes, if there is one (if not, one warning is logged), but for `ftap run --until-drained` only with POSTGRES_HOST, because a private cluster would run for a moment only. `on`: without POSTGRES_HOST and without a private cluster that starts, `ftap run` and `ftap batch` end with exit code 1
        POSTGRES => postgres: PostgresUse =
            one_of(&[("auto", PostgresUse::Auto), ("on", PostgresUse::On), ("off", PostgresUse::Off)]), default "auto", for POSTGRES;
        /// PostgreSQL's host
        POSTGRES_HOST => postgres_host: Option<String> = postgres_host(),
            unset "a private cluster in $DATA_DIR/postgres", example "localhost", for POSTGRES;
        /// PostgreSQL's port
        POSTGRES_PORT => postgres_port: u16 = whole(1..=65_535), default "5432", for POSTGRES;
        /// Role
        POSTGRES_USER => postgres_user: String = text("a role name", |t| is_printable(t, 63)), default "postgres", example "platform", for POSTGRES;
        /// Database
        POSTGRES_DB => postgres_database: String = text("a database name", |t| is_printable(t, 63)), default "$POSTGRES_USER", example "platform", for POSTGRES;
        /// Password of the role
        POSTGRES_PASSWORD => postgres_password: Option<Secret> = secret("a password"), unset "", for POSTGRES;
        /// Encryption on the network, as in libpq: `require` prevents eavesdropping, only `verify-full` also checks the server's identity
        POSTGRES_SSLMODE => postgres_ssl_mode: SslMode = one_of(&[
            ("disable", SslMode::Disable), ("prefer", SslMode::Prefer), ("require", SslMode::Require),
            ("verify-full", SslMode::VerifyFull),
        ]), default "prefer", for POSTGRES;
        /// Authorities that `verify-full` trusts
        POSTGRES_SSLROOTCERT => postgres_ssl_root_cert: Option<PathBuf> = readable_file("an existing PEM file of certificates"),
            unset "the system's", for POSTGRES;
        /// Maximum number of connections
        POSTGRES_POOL_SIZE => postgres_pool_size: usize = whole(1..=100), default "4", for POSTGRES;
        /// How long it may take to open a connection, or to wait for a free one
        POSTGRES_CONNECT_TIMEOUT_SECONDS => postgres_connect_timeout: Duration = seconds(0.1..=300.0), default "5", for POSTGRES;
        /// How long one statement may take
        POSTGRES_STATEMENT_TIMEOUT_SECONDS => postgres_statement_timeout: Duration = seconds(0.1..=3600.0), default "30", for POSTGRES;
        /// Where the private cluster's programs `postgres` and `initdb` are
        POSTGRES_BIN_DIR => postgres_bin_dir: Option<PathBuf> = postgres_bin_dir(),
            unset "pg_config's folder, PATH and the usual places are searched", example "/usr/lib/postgresql/15/bin", for POSTGRES_WRITERS;
        /// Write-ahead log that the private cluster keeps for a reader that stays away, before that reader must start over
        POSTGRES_SLOT_WAL_KEEP_BYTES => postgres_slot_wal_keep_bytes: u64 = bytes::<u64>(64_000_000..), default "1GiB", for POSTGRES_WRITERS;
        /// Create the replication slot `airbyte_slot`; until a reader uses it, the server keeps its log for it
        AIRBYTE_SLOT => airbyte_slot: bool = boolean(), default "false", for POSTGRES_WRITERS;
        /// Share of the users that one update job changes
        UPDATE_PERCENTAGE => update_percentage: f64 = number(0.0..=1.0), default "0.01", for "run, batch";
        /// Makes the update job repeatable: the same tick changes the same users of the same table in the same way
        UPDATE_SEED => update_seed: Option<u64> = whole(0..), unset "random", example "1", for "run, batch";
        /// Key of freecurrencyapi.com
        FREECURRENCYAPI_API_KEY => freecurrencyapi_key: Option<Secret> = secret("an API key"), unset "rates are made up", for FX;
        /// When FX rates are fetched, in UTC; also once at startup. `off` disables the job
        INGEST_FX_SCHEDULE => ingest_fx_schedule: Option<Schedule> = schedule(), default "*/5 * * * *", for "run, batch";
        /// When users are changed, in UTC; also once at startup. `off` disables the job
        UPDATE_USERS_SCHEDULE => update_users_schedule: Option<Schedule> = schedule(), default "*/5 * * * *", for "run, batch";
    }
    "FX rates" {
        /// Address of the FX API; another one for tests. The key is sent only over https, or to this machine
        FX_API_URL => fx_api_url: String = url(), default "https://api.freecurrencyapi.com/v1", for FX;
        /// How long a response counts as the newest rates, which change daily; each run still writes its object
        FX_CACHE_SECONDS => fx_cache_time: Duration = seconds(0.0..=604_800.0), default "21600", for FX;
        /// Also write the rates of each day of EVENTS_FILE, once; with an API key this takes one request for each of these days, as long as the month's quota has more than 500 left, which are for INGEST_FX_SCHEDULE
        FX_FILL_DAYS => fx_fill_days: bool = boolean(), default "true", for "run, batch";
        /// Timeout of one request to the FX API; a run makes up to 5
        FX_TIMEOUT_SECONDS => fx_timeout: Duration = seconds(0.1..=300.0), default "20", for FX;
        /// Seed of the rates that are made up without FREECURRENCYAPI_API_KEY
        FX_OFFLINE_SEED => fx_offline_seed: u64 = whole(0..), default "1", for FX;
    }
}
