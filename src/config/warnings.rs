//! Settings that are valid but probably not what was meant: misspelt names and odd combinations. None
//! of them stops the program.

use std::path::Path;
use std::time::Duration;

use ftap_lake::{Compression, unfit_topic};
use ftap_postgres::SslMode;

use super::kafka_security::open_to_others;
use super::layers::Layers;
use super::setting::{SETTINGS, Setting};
use super::{Config, kafka_security};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Warning {
    /// Name of the setting or variable.
    pub setting: String,
    /// Why, and what to do.
    pub detail: String,
}

impl Warning {
    pub(crate) fn new(setting: &str, detail: &str) -> Self {
        Self {
            setting: setting.to_owned(),
            detail: detail.to_owned(),
        }
    }
}

/// What other Kafka and GCS programs call the same thing.
const OTHER_NAMES: &[(&str, &str)] = &[
    ("KAFKA_BOOTSTRAP_SERVERS", "KAFKA_BROKER"),
    ("KAFKA_BROKER_URL", "KAFKA_BROKER"),
    ("BOOTSTRAP_SERVERS", "KAFKA_BROKER"),
    ("KAFKA_GROUP_ID", "KAFKA_CONSUMER_GROUP"),
    ("KAFKA_GROUP", "KAFKA_CONSUMER_GROUP"),
    ("GCS_BUCKET", "GCS_BUCKET_NAME"),
    ("GOOGLE_CREDENTIALS", "GOOGLE_APPLICATION_CREDENTIALS"),
    ("POSTGRES_DATABASE", "POSTGRES_DB"),
];

/// A day has 1,440 minutes.
const MIN_LOAD_INTERVAL: Duration = Duration::from_secs(60);

/// All warnings about a usable configuration.
pub(super) fn all(config: &Config, layers: &Layers, dot_env: &Path) -> Vec<Warning> {
    let mut warnings = odd_values(config, layers);
    warnings.extend(kafka_security::warnings(config));
    warnings.extend(near_misses(layers));
    warnings.extend(open_dot_env(layers, dot_env));
    warnings
}

/// Variables whose names are close to those of settings.
fn near_misses(layers: &Layers) -> Vec<Warning> {
    let names = layers.environment.keys().chain(layers.dot_env.keys());
    let mut names: Vec<&String> = names.filter(|name| Setting::find(name).is_none()).collect();
    names.sort_unstable();
    names.dedup();
    let warning = |name: &String| {
        let meant = meant_by(name)?;
        let detail = format!("there is no such setting; rename it if you mean {meant}");
        Some(Warning::new(name, &detail))
    };
    names.into_iter().filter_map(warning).collect()
}

fn meant_by(name: &str) -> Option<&'static str> {
    if let Some((_, meant)) = OTHER_NAMES.iter().find(|(other, _)| *other == name) {
        return Some(meant);
    }
    let name = name.to_ascii_uppercase();
    let bare = name.strip_prefix("FTAP_").unwrap_or(&name);
    let distances = SETTINGS
        .iter()
        .map(|setting| (strsim::levenshtein(bare, setting.name), setting.name));
    let (distance, meant) = distances.min()?;
    // Short names are close to many others: LOG_DIR is not DATA_DIR.
    let allowed = if bare.len() < 10 { 1 } else { 2 };
    (distance <= allowed).then_some(meant)
}

/// A `.env` with secrets that other users of the machine can read.
fn open_dot_env(layers: &Layers, path: &Path) -> Option<Warning> {
    let names: Vec<&str> = SETTINGS
        .iter()
        .filter(|setting| setting.is_secret && layers.dot_env.contains_key(setting.name))
        .map(|setting| setting.name)
        .collect();
    if names.is_empty() {
        return None;
    }
    let mode = open_to_others(path)?;
    Some(Warning::new(
        ".env",
        &format!(
            "other users of this machine can read it (mode {mode:o}), and it contains {}: chmod 600 .env",
            names.join(", ")
        ),
    ))
}

/// Values that are valid by themselves and odd together.
fn odd_values(config: &Config, layers: &Layers) -> Vec<Warning> {
    let mut warnings = Vec::new();
    let mut warn = |is_odd: bool, setting: &str, detail: &str| {
        if is_odd {
            warnings.push(Warning::new(setting, detail));
        }
    };
    let speed = layers.get("PRODUCE_SPEED");
    let speed = speed.and_then(|(text, _)| text.parse::<f64>().ok());
    warn(
        speed.is_some_and(|speed| speed <= 0.0),
        "PRODUCE_SPEED",
        "a speed of 0 or less means 1, the data's own pace; write `max` not to wait at all",
    );
    warn(
        config.is_open_to_others(),
        "DASHBOARD_ADDR",
        "other machines can reach it, and the token is not encrypted on the network: put a proxy with TLS in front of it, or keep the network private",
    );
    let partitions = u64::try_from(config.kafka_partitions).unwrap_or(1);
    warn(
        config.file_max_bytes.saturating_mul(partitions) > config.ingest_memory_bytes,
        "INGEST_MEMORY_BYTES",
        &format!(
            "{partitions} partitions with files of up to {} bytes need more than {} bytes, so files will be closed early: raise it or lower FILE_MAX_BYTES",
            config.file_max_bytes, config.ingest_memory_bytes
        ),
    );
    let loads = config.bigquery_project.is_some() && config.bigquery_api_url.is_none();
    warn(
        loads && config.bigquery_load_interval < MIN_LOAD_INTERVAL,
        "BIGQUERY_LOAD_SECONDS",
        "BigQuery accepts 1,500 loads a day for each table, which would be used up before the day is over: set 60 or more",
    );
    warn(
        config.restart_initial_backoff > config.restart_max_backoff,
        "RESTART_INITIAL_BACKOFF_MS",
        "it is longer than RESTART_MAX_BACKOFF_SECONDS, which wins",
    );
    warn(
        config.gcs_bucket.is_none() && config.gcs_endpoint.is_some(),
        "GCS_ENDPOINT",
        "it has no effect as long as GCS_BUCKET_NAME is unset: the lake is a local directory",
    );
    warn(
        config.gcs_bucket.is_some() && config.is_set("LAKE_DIR"),
        "LAKE_DIR",
        "it has no effect because GCS_BUCKET_NAME is set: the lake is in that bucket",
    );
    warn(
        config.is_set("ZSTD_LEVEL") && !matches!(config.parquet_codec, Compression::Zstd(_)),
        "ZSTD_LEVEL",
        "it has no effect unless PARQUET_CODEC is `zstd`",
    );
    let unfit = unfit_topic(&config.kafka_topic);
    warn(
        unfit.is_some(),
        "KAFKA_TOPIC",
        &format!(
            "no lake begins for it, so that `ftap consume` refuses it: the lake's files are named after the topic, and {}",
            unfit.unwrap_or_default()
        ),
    );
    for name in ["POSTGRES_DB", "POSTGRES_USER", "POSTGRES_PASSWORD"] {
        warn(
            config.postgres_host.is_none() && config.is_set(name),
            name,
            "it has no effect as long as POSTGRES_HOST is unset: the private cluster has its own",
        );
    }
    warn(
        config.postgres_ssl_root_cert.is_some() && config.postgres_ssl_mode != SslMode::VerifyFull,
        "POSTGRES_SSLROOTCERT",
        "it has no effect unless POSTGRES_SSLMODE is `verify-full`",
    );
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misspelt_and_borrowed_names_are_noticed_and_others_are_ignored() {
        assert_eq!(meant_by("KAFKA_BROKERS"), Some("KAFKA_BROKER"));
        assert_eq!(meant_by("KAFKA_TOPCI"), Some("KAFKA_TOPIC"));
        assert_eq!(meant_by("FTAP_KAFKA_TOPIC"), Some("KAFKA_TOPIC"));
        assert_eq!(meant_by("KAFKA_BOOTSTRAP_SERVERS"), Some("KAFKA_BROKER"));
        assert_eq!(meant_by("produce_sped"), Some("PRODUCE_SPEED"));
        for other in [
            "PATH",
            "HOME",
            "LOG_DIR",
            "XDG_DATA_DIRS",
            "KAFKA_HEAP_OPTS",
            "FTAP_REQUIRE_TOOLS",
        ] {
            assert_eq!(meant_by(other), None, "{other}");
        }
    }
}
