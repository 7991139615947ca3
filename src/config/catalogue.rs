//! Every setting there is, in one table: name, default, meaning, what it may be.
//!
//! The parser takes its defaults and error texts from here, `ftap --help` its flags, and
//! `docs/SETTINGS.md` is rendered from it, so none of them can drift from the others.

/// One setting.
#[derive(Clone, Copy, Debug)]
pub struct Spec {
    /// Environment variable.
    pub name: &'static str,
    /// Heading it stands under.
    pub group: &'static str,
    /// Default as text; a text in angle brackets is computed, an empty one means unset.
    pub default: &'static str,
    /// What it does.
    pub meaning: &'static str,
    /// Completes the sentence "it may be …".
    pub may_be: &'static str,
    /// Its value is never shown and it has no flag, because other users see a process' arguments.
    pub secret: bool,
}

impl Spec {
    /// The long flag without its dashes, `kafka-topic` for `KAFKA_TOPIC`; secrets have none.
    pub fn flag(&self) -> Option<String> {
        (!self.secret).then(|| self.name.to_ascii_lowercase().replace('_', "-"))
    }

    /// The default as a value that the parser takes.
    pub fn literal_default(&self) -> Option<&'static str> {
        (!self.default.is_empty() && !self.default.starts_with('<')).then_some(self.default)
    }
}

/// The setting of that name.
pub fn spec(name: &str) -> Option<&'static Spec> {
    SETTINGS.iter().find(|spec| spec.name == name)
}

macro_rules! settings {
    ($( $group:literal { $( $secret:ident $name:literal = $default:literal, $meaning:literal, $may_be:literal; )* } )*) => {
        /// Every setting, grouped, in the order in which they are shown.
        pub const SETTINGS: &[Spec] = &[ $( $( Spec {
            name: $name,
            group: $group,
            default: $default,
            meaning: $meaning,
            may_be: $may_be,
            secret: settings!(@secret $secret),
        } ),* ),* ];
    };
    (@secret open) => { false };
    (@secret secret) => { true };
}

settings! {
    "Data" {
        open "DATA_DIR" = "data", "Everything this program keeps on this machine", "a directory that can be written";
        open "EVENTS_FILE" = "<$DATA_DIR/prepared/credit_card_transactions_events.csv>", "The prepared events file that is published", "an existing file, made by `ftap prepare`";
        open "PRODUCE_SPEED" = "100", "Seconds of the data replayed in one second of the clock; `max` does not wait at all. Unset, `ftap run` takes `max`", "a number above 0, or `max`";
        open "CHECKPOINT_INTERVAL" = "50", "Rows between two local checkpoints at the least; they only save re-reading the file, the topic itself is the checkpoint", "a whole number from 1";
        open "KAGGLE_USERNAME" = "", "Account for `ftap prepare --kaggle`; with KAGGLE_KEY it replaces `kaggle.json`", "a Kaggle user name";
        secret "KAGGLE_KEY" = "", "Key of that account", "the `key` of a `kaggle.json`";
        open "KAGGLE_API_URL" = "https://www.kaggle.com/api/v1", "Where Kaggle's API is; another one for tests", "an `http://` or `https://` address";
    }
    "Kafka" {
        open "KAFKA_BROKER" = "", "Kafka's bootstrap servers. Unset, the embedded broker under DATA_DIR serves", "`host:port`, several separated by commas";
        open "KAFKA_TOPIC" = "transactions", "Topic of the transactions; `<topic>.dlq` takes the records that the lake can't", "1 to 245 letters, digits, dots, dashes and underscores";
        open "KAFKA_CONSUMER_GROUP" = "transactions-consumer-group", "Consumer group of the ingest side", "a name without control characters, 1 to 249 long";
        open "KAFKA_PARTITIONS" = "3", "Partitions of topics that this program creates", "a whole number from 1 to 1000";
        open "KAFKA_RETRY_DELAY" = "2", "Seconds between two tries to reach a broker", "seconds from 0.01 to 3600, fractions allowed";
        open "KAFKA_MAX_RETRIES" = "<10 for `produce`, 0 otherwise>", "Tries to reach a broker before giving up; 0 is for ever", "a whole number from 0";
        open "KAFKA_SESSION_TIMEOUT_MS" = "10000", "How long a silent consumer keeps its partitions", "milliseconds from 1000 to 1800000 (Apache Kafka's own minimum is 6000)";
        open "KAFKA_TRANSACTIONAL_ID" = "<ftap-publisher-$KAFKA_TOPIC>", "Fences a second publisher of the same topic; publishers of different topics need different ones", "a name without control characters, 1 to 249 long";
        open "TRANSACTION_INTERVAL_MS" = "500", "Longest time a Kafka transaction stays open, which is the delay that readers see", "milliseconds from 10 to 60000";
        open "TRANSACTION_ROWS" = "100000", "Rows after which a Kafka transaction is committed", "a whole number from 1";
        open "KAFKA_SECURITY_PROTOCOL" = "PLAINTEXT", "How to talk to KAFKA_BROKER: TLS is `SSL`, a login over TLS `SASL_SSL`", "`PLAINTEXT`, `SSL`, `SASL_PLAINTEXT` or `SASL_SSL`";
        open "KAFKA_SASL_MECHANISM" = "", "How to log in", "`PLAIN`, `SCRAM-SHA-256` or `SCRAM-SHA-512`";
        open "KAFKA_SASL_USERNAME" = "", "User of the login", "a user name";
        secret "KAFKA_SASL_PASSWORD" = "", "Its password", "a password";
        open "KAFKA_SSL_CA_LOCATION" = "", "Certificate of the authority that issued the broker's. Unset, the system's authorities are trusted", "an existing PEM file";
        open "KAFKA_SSL_CERTIFICATE_LOCATION" = "", "Our own certificate, for brokers that want one (mutual TLS)", "an existing PEM file";
        open "KAFKA_SSL_KEY_LOCATION" = "", "Its private key", "an existing PEM file";
        secret "KAFKA_SSL_KEY_PASSWORD" = "", "Password of that key, if it has one", "a password";
        secret "KAFKA_EXTRA" = "", "Further librdkafka properties such as `client.rack=a,ssl.crl.location=revoked.pem`; a comma inside a value is written `\\,`", "`property=value`, several separated by commas, without the properties that exactly-once delivery rests on";
    }
    "Lake" {
        open "LAKE_DIR" = "<$DATA_DIR/lake>", "The lake, as long as GCS_BUCKET_NAME is unset", "a directory that can be written";
        open "GCS_BUCKET_NAME" = "", "Google Cloud Storage bucket of the lake", "a bucket's name, 3 to 222 lower-case letters, digits, dots, dashes and underscores, without `gs://`";
        open "GOOGLE_APPLICATION_CREDENTIALS" = "", "Service-account key file; a relative path is looked up in `credentials/`, too. Unset, the metadata server is asked", "an existing JSON key file";
        open "GCS_ENDPOINT" = "", "Another endpoint than Google's, for tests; no credentials are sent to it", "an `http://` or `https://` address";
        open "GCS_FLUSH_SECONDS" = "600", "Age at which a file is closed, also while nothing arrives. Unset, `ftap run` takes 5 for a lake on this machine", "seconds from 0.1 to 86400, fractions allowed";
        open "FILE_MAX_ROWS" = "1000000", "Rows at which a file is closed", "a whole number from 1";
        open "FILE_MAX_BYTES" = "32MB", "Encoded size at which a file is closed", "bytes from 64KB to 4GB, with a suffix such as KB, MB, MiB or GB";
        open "ZSTD_LEVEL" = "1", "Compression of the Parquet files", "a whole number from 1 to 22";
    }
    "Ingest" {
        open "INGEST_WORKERS" = "<one per core>", "Actors that decode and encode side by side", "a whole number from 1 to 1024";
        open "INGEST_MEMORY_BYTES" = "128MB", "Memory between the consumer and the lake, for all partitions together; beyond it they are paused", "bytes from 16MB, with a suffix such as KB, MB, MiB or GB";
        open "MAX_MESSAGE_BYTES" = "1MB", "A larger message goes to the dead-letter topic unparsed", "bytes from 1KB to 64MB, with a suffix such as KB, MB or MiB";
    }
    "Change capture" {
        open "CDC_SLOT" = "ftap_changes", "Replication slot of the change capture; each lake needs its own", "1 to 40 lower-case letters, digits and underscores";
        open "CDC_PUBLICATION" = "ftap_publication", "Publication of the captured tables; made if it is not there", "1 to 40 lower-case letters, digits and underscores";
        open "CDC_FLUSH_SECONDS" = "<$GCS_FLUSH_SECONDS>", "Age at which files of changes are closed", "seconds from 0.1 to 86400, fractions allowed";
    }
    "BigQuery" {
        open "BIGQUERY_PROJECT" = "", "Project of the tables that the lake is loaded into; with BIGQUERY_DATASET, and a lake in GCS_BUCKET_NAME. Unset, nothing is loaded", "a project id, letters, digits, dashes, dots and colons";
        open "BIGQUERY_DATASET" = "", "Their dataset; made if it is not there", "1 to 1024 letters, digits and underscores";
        open "BIGQUERY_LOCATION" = "<the dataset's, US for a new one>", "Where the dataset is made", "a location such as `EU`, `US` or `europe-north1`";
        open "BIGQUERY_LOAD_SECONDS" = "600", "Time between two loads; BigQuery takes 1,500 a table and day", "seconds from 1 to 86400, fractions allowed";
        open "BIGQUERY_API_URL" = "", "Another API than Google's, for tests and emulators; no credentials are sent to it", "an `http://` or `https://` address";
    }
    "Supervision" {
        open "STALL_TIMEOUT_SECONDS" = "60", "A stage with work and no progress for this long counts as stuck", "seconds from 0.1 to 86400, fractions allowed";
        open "STOP_DEADLINE_SECONDS" = "8", "How long stages get to flush and stop", "seconds from 0.1 to 9, fractions allowed (the process ends within 10)";
        open "RESTART_INITIAL_BACKOFF_MS" = "1000", "Pause before the first restart of a group; it doubles each time", "milliseconds from 1 to 3600000";
        open "RESTART_MAX_BACKOFF_SECONDS" = "60", "Longest pause before a restart", "seconds from 0.001 to 3600, fractions allowed";
        open "RESTART_LIMIT" = "10", "More restarts than this within RESTART_WINDOW_SECONDS end the process with exit code 1", "a whole number from 0";
        open "RESTART_WINDOW_SECONDS" = "600", "See RESTART_LIMIT", "seconds from 1 to 86400, fractions allowed";
    }
    "Logs and status" {
        open "LOG_LEVEL" = "INFO", "Least severe level that is logged", "`DEBUG`, `INFO`, `WARNING`, `ERROR` or `CRITICAL`";
        open "LOG_FORMAT" = "auto", "`json`: one object a line; `text`: for people; `auto`: text on a terminal, else json", "`auto`, `text` or `json`";
        open "DASHBOARD_ADDR" = "127.0.0.1:8080", "Where the status page, /metrics, /healthz and /readyz are served; `off` serves none. Beyond this machine only with DASHBOARD_TOKEN", "an `address:port` such as 127.0.0.1:8080, or `off`";
        open "DASHBOARD_ONLY_LOCALHOST" = "false", "Says that DASHBOARD_ADDR is reached from this machine alone although it is no loopback address: in a container whose port is published on 127.0.0.1. No token is asked for then, and only requests for localhost or 127.0.0.1 are answered", "`true` or `false`";
        open "DASHBOARD_LOOK_SECONDS" = "<5, 60 for a lake in a bucket>", "Time between two looks of `ftap serve` at Kafka, the lake and PostgreSQL; a look at a bucket is a dozen requests that cost", "seconds from 0.1 to 3600, fractions allowed";
        secret "DASHBOARD_TOKEN" = "", "Asked for by everything there but /healthz and /readyz: as `Authorization: Bearer`, or as the password in a browser", "16 to 512 letters, digits and other ASCII signs without spaces, such as `openssl rand -hex 24` makes";
    }
    "PostgreSQL and batch jobs" {
        open "POSTGRES" = "auto", "Whether users, merchants and their changes are kept in PostgreSQL. `auto`: yes, if there is one (else one warning), but for `ftap run --until-drained` only with POSTGRES_HOST, because a private cluster would start for a moment only. `on`: without POSTGRES_HOST and a private cluster that starts, `ftap run` and `ftap batch` end with exit code 1", "`auto`, `on` or `off`";
        open "POSTGRES_HOST" = "", "PostgreSQL's host. Unset, this machine's PostgreSQL serves as a private cluster under DATA_DIR", "a host name, an address, or the folder of a socket";
        open "POSTGRES_PORT" = "5432", "PostgreSQL's port", "a port from 1 to 65535";
        open "POSTGRES_DB" = "<$POSTGRES_USER>", "Database", "a database name";
        open "POSTGRES_USER" = "postgres", "Role", "a role name";
        secret "POSTGRES_PASSWORD" = "", "Its password", "a password";
        open "POSTGRES_SSLMODE" = "prefer", "Encryption on the network, as in libpq: `require` keeps listeners out, only `verify-full` also checks whom it talks to", "`disable`, `prefer`, `require` or `verify-full`";
        open "POSTGRES_SSLROOTCERT" = "", "Authorities that `verify-full` trusts. Unset, the system's", "an existing PEM file of certificates";
        open "POSTGRES_POOL_SIZE" = "4", "Most connections at a time", "a whole number from 1 to 100";
        open "POSTGRES_CONNECT_TIMEOUT_SECONDS" = "5", "How long a connection may take to be made, or to become free", "seconds from 0.1 to 300, fractions allowed";
        open "POSTGRES_STATEMENT_TIMEOUT_SECONDS" = "30", "How long one statement may take", "seconds from 0.1 to 3600, fractions allowed";
        open "POSTGRES_BIN_DIR" = "", "Where the private cluster's programs `postgres` and `initdb` are. Unset, they are looked for in pg_config's folder, in PATH and in the usual places", "a directory that holds both programs";
        open "POSTGRES_SLOT_WAL_KEEP_BYTES" = "1GiB", "Log that a reader who stays away may hold back in the private cluster, before it has to start anew", "bytes from 64MB, with a suffix such as MB, MiB or GB";
        open "AIRBYTE_SLOT" = "false", "Make the replication slot `airbyte_slot`; as long as nobody reads it, the server keeps its log for it", "`true` or `false`";
        open "UPDATE_PERCENTAGE" = "0.01", "Share of the users that one update job changes", "a number from 0 to 1";
        open "UPDATE_SEED" = "", "Makes the update job repeatable: the same tick changes the same users of the same table alike. Unset, it is random", "a whole number from 0";
        secret "FREECURRENCYAPI_API_KEY" = "", "Key of freecurrencyapi.com", "an API key";
        open "INGEST_FX_SCHEDULE" = "*/5 * * * *", "When FX rates are fetched, in UTC; also once at start", "a cron expression of five fields, or of six with the seconds first, or `off`";
        open "UPDATE_USERS_SCHEDULE" = "*/5 * * * *", "When users are changed, in UTC; also once at start", "a cron expression of five fields, or of six with the seconds first, or `off`";
    }
    "FX rates" {
        open "FX_API_URL" = "https://api.freecurrencyapi.com/v1", "Where the FX API is; another one for tests. The key is sent over https only, or to this machine", "an `http://` or `https://` address";
        open "FX_CACHE_SECONDS" = "21600", "How long an answer stands for the newest rates, which change daily; each run still writes its object", "seconds from 0 to 604800, fractions allowed";
        open "FX_TIMEOUT_SECONDS" = "20", "How long the FX API may take to answer once; it is asked up to 5 times a run", "seconds from 0.1 to 300, fractions allowed";
        open "FX_OFFLINE_SEED" = "1", "Seed of the rates that are made up without FREECURRENCYAPI_API_KEY", "a whole number from 0";
    }
}

/// The text of `docs/SETTINGS.md`.
#[cfg(test)]
pub fn markdown() -> String {
    use std::fmt::Write as _;

    let mut out = String::from(
        "# Settings\n\n\
         Flags win over the environment, the environment over `.env` in the working directory, and\n\
         that over the defaults. An empty value counts as unset. The flag of a setting is its name in\n\
         lower case with dashes, `--kafka-topic` for `KAFKA_TOPIC`; secrets have no flag, because other\n\
         users of the machine see a process' arguments. `ftap config` shows what is in effect and where\n\
         it came from, secrets masked. All settings are checked at start; a wrong one ends the program\n\
         with exit code 2 and says what it may be.\n\n\
         Sizes: KB, MB and GB are powers of 1000, KiB, MiB and GiB powers of 1024.\n\n\
         Made from `src/config/catalogue.rs`; a test compares.\n",
    );
    let mut group = "";
    for spec in SETTINGS {
        if spec.group != group {
            group = spec.group;
            let _ = write!(
                out,
                "\n## {group}\n\n| setting | default | meaning | it may be |\n|---|---|---|---|\n"
            );
        }
        let default = match spec.default.trim_matches(['<', '>']) {
            "" => String::new(),
            text if text.contains('`') || spec.default.starts_with("<one") => text.to_owned(),
            text => format!("`{text}`"),
        };
        let secret = if spec.secret { " (secret)" } else { "" };
        let _ = writeln!(
            out,
            "| `{}`{secret} | {default} | {} | {} |",
            spec.name, spec.meaning, spec.may_be
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_flags_follow_from_them() {
        let mut names: Vec<_> = SETTINGS.iter().map(|spec| spec.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), SETTINGS.len());
        let topic = spec("KAFKA_TOPIC").expect("it is in the table");
        assert_eq!(topic.flag().as_deref(), Some("kafka-topic"));
        assert_eq!(spec("KAGGLE_KEY").expect("it is in the table").flag(), None);
    }

    #[test]
    fn the_example_file_names_every_setting() {
        let example = include_str!("../../.env.example");
        for spec in SETTINGS {
            let line = format!("#{}=", spec.name);
            assert!(example.contains(&line), "{line} is not in .env.example");
        }
    }

    #[test]
    fn docs_settings_md_is_what_the_table_says() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/SETTINGS.md");
        if std::env::var_os("FTAP_UPDATE_DOCS").is_some() {
            std::fs::write(path, markdown()).expect("docs/ can be written");
        }
        let written = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            written == markdown(),
            "docs/SETTINGS.md is out of date: run FTAP_UPDATE_DOCS=1 cargo test --bin ftap"
        );
    }
}
