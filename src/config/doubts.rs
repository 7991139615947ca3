//! Settings that were understood but are probably not what was meant: misspelt names and odd
//! combinations. None of them stops the program.

use ftap_postgres::SslMode;
use std::path::Path;
use std::time::Duration;

use super::Config;
use super::catalogue::{SETTINGS, spec};
use super::kafka_security::open_to_others;
use super::layers::Layers;

/// One doubt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Doubt {
    /// Name of the setting or variable.
    pub setting: String,
    /// Why, and what to do.
    pub detail: String,
}

impl Doubt {
    /// A doubt about a setting.
    pub fn new(setting: &str, detail: &str) -> Self {
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
const LEAST_LOAD_WINDOW: Duration = Duration::from_secs(60);

/// Variables whose names nearly are those of settings.
pub fn near_misses(layers: &Layers) -> Vec<Doubt> {
    let mut names: Vec<&String> = layers
        .environment
        .keys()
        .chain(layers.dot_env.keys())
        .filter(|name| spec(name).is_none())
        .collect();
    names.sort_unstable();
    names.dedup();
    names
        .into_iter()
        .filter_map(|name| {
            let meant = meant_by(name)?;
            Some(Doubt::new(
                name,
                &format!("there is no such setting; if {meant} is meant, rename it"),
            ))
        })
        .collect()
}

fn meant_by(name: &str) -> Option<&'static str> {
    if let Some((_, meant)) = OTHER_NAMES.iter().find(|(other, _)| *other == name) {
        return Some(meant);
    }
    let bare = name.strip_prefix("FTAP_").unwrap_or(name);
    let bare = bare.to_ascii_uppercase();
    let (distance, meant) = SETTINGS
        .iter()
        .map(|spec| (strsim::levenshtein(&bare, spec.name), spec.name))
        .min()?;
    // Short names are close to many others: LOG_DIR is not DATA_DIR.
    let allowed = if bare.len() < 10 { 1 } else { 2 };
    (distance <= allowed).then_some(meant)
}

/// A `.env` with secrets that other users of the machine can read.
pub fn open_dot_env(layers: &Layers, path: &Path) -> Option<Doubt> {
    let names: Vec<&str> = SETTINGS
        .iter()
        .filter(|spec| spec.secret && layers.dot_env.contains_key(spec.name))
        .map(|spec| spec.name)
        .collect();
    if names.is_empty() {
        return None;
    }
    let mode = open_to_others(path)?;
    Some(Doubt::new(
        ".env",
        &format!(
            "other users of this machine can read it (mode {mode:o}), and it holds {}: chmod 600 .env",
            names.join(", ")
        ),
    ))
}

/// Values that are right by themselves and odd together.
pub fn odd_combinations(config: &Config) -> Vec<Doubt> {
    let mut doubts = Vec::new();
    let needed = config
        .file_max_bytes
        .saturating_mul(u64::try_from(config.kafka_partitions).unwrap_or(1));
    if needed > config.ingest_memory_bytes {
        doubts.push(Doubt::new(
            "INGEST_MEMORY_BYTES",
            &format!(
                "{} partitions with files of up to {} bytes need more than {} bytes: files will be closed early; raise it or lower FILE_MAX_BYTES",
                config.kafka_partitions, config.file_max_bytes, config.ingest_memory_bytes
            ),
        ));
    }
    let loads = config.bigquery.target.is_some() && config.bigquery.api_url.is_none();
    if loads && config.bigquery.window < LEAST_LOAD_WINDOW {
        doubts.push(Doubt::new(
            "BIGQUERY_LOAD_SECONDS",
            "BigQuery takes 1,500 loads a table and day, which are used up before the day is over: set 60 or more",
        ));
    }
    if config.restart_initial_backoff > config.restart_max_backoff {
        doubts.push(Doubt::new(
            "RESTART_INITIAL_BACKOFF_MS",
            "it is longer than RESTART_MAX_BACKOFF_SECONDS, which wins",
        ));
    }
    if config.gcs_bucket.is_none() && config.gcs_endpoint.is_some() {
        doubts.push(Doubt::new(
            "GCS_ENDPOINT",
            "it has no effect as long as GCS_BUCKET_NAME is unset: the lake is a local directory",
        ));
    }
    if config.gcs_bucket.is_some() && config.is_set("LAKE_DIR") {
        doubts.push(Doubt::new(
            "LAKE_DIR",
            "it has no effect since GCS_BUCKET_NAME is set: the lake is that bucket",
        ));
    }
    if config.postgres.host.is_none() {
        for name in ["POSTGRES_DB", "POSTGRES_USER", "POSTGRES_PASSWORD"] {
            if config.is_set(name) {
                doubts.push(Doubt::new(
                    name,
                    "it has no effect as long as POSTGRES_HOST is unset: the private cluster has its own",
                ));
            }
        }
    }
    if config.postgres.ssl_root_cert.is_some() && config.postgres.ssl_mode != SslMode::VerifyFull {
        doubts.push(Doubt::new(
            "POSTGRES_SSLROOTCERT",
            "it has no effect unless POSTGRES_SSLMODE is `verify-full`",
        ));
    }
    doubts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misspelt_and_borrowed_names_are_noticed_and_others_are_left_alone() {
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
