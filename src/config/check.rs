//! Values that are valid by themselves and can't work together.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use ftap_kafka::DeadLetterPlace;

use super::reader::Reader;
use super::{Config, kafka_security};

/// Longest topic whose dead letters the lake takes: file systems allow 255 bytes, of which 57 are partition, offset,
/// hash and suffix, 15 a staging file's own.
const MAX_TOPIC_IN_LAKE: usize = 183;

/// Checks everything, and replaces the name of the key file by the path where it was found.
pub(super) fn all(r: &mut Reader<'_>, config: &mut Config) {
    dashboard(r, config);
    bigquery(r, config);
    kafka_security::check(r, config);
    credentials_file(r, config);
    if config.kafka_dead_letter_topic == config.kafka_topic {
        r.fault(
            "KAFKA_DEAD_LETTER_TOPIC",
            ": that is KAFKA_TOPIC, and rejected messages would be read again; name another topic",
        );
    }
    let letters = config.kafka_topic.len();
    if config.dead_letters == DeadLetterPlace::Lake && letters > MAX_TOPIC_IN_LAKE {
        r.fault(
            "DEAD_LETTERS",
            &format!(
                ": KAFKA_TOPIC has {letters} letters, and at most {MAX_TOPIC_IN_LAKE} leave room for the rest of a file's name; use `topic`"
            ),
        );
    }
}

/// An address that other machines reach requires a token. `ftap health` serves nothing.
fn dashboard(r: &mut Reader<'_>, config: &Config) {
    if config.is_open_to_others()
        && !r.layers.is_given("DASHBOARD_TOKEN")
        && r.layers.command != "health"
    {
        r.fault(
            "DASHBOARD_ADDR",
            ": other machines can reach it; set DASHBOARD_TOKEN as well",
        );
    }
}

impl Config {
    /// Whether other machines can reach the dashboard.
    pub(super) fn is_open_to_others(&self) -> bool {
        let addr = self.dashboard_addr;
        addr.is_some_and(|addr| !addr.ip().is_loopback()) && !self.dashboard_only_localhost
    }
}

/// Project and dataset belong together, and load jobs read a bucket.
fn bigquery(r: &mut Reader<'_>, config: &Config) {
    let has_project = config.bigquery_project.is_some();
    let has_dataset = config.bigquery_dataset.is_some();
    let (name, other, why) = if has_project && !has_dataset {
        ("BIGQUERY_DATASET", "BIGQUERY_PROJECT", "both are needed")
    } else if has_dataset && !has_project {
        ("BIGQUERY_PROJECT", "BIGQUERY_DATASET", "both are needed")
    } else if has_project && config.gcs_bucket.is_none() {
        let why = "BigQuery loads from a bucket, not from LAKE_DIR";
        ("GCS_BUCKET_NAME", "BIGQUERY_PROJECT", why)
    } else {
        return;
    };
    // Otherwise its value is wrong, which has been noted.
    if !r.layers.is_given(name) {
        r.fault(
            name,
            &format!(", but {other} is, and {why}: set it, or unset {other} to load nothing"),
        );
    }
}

/// Looks for the key file in the working directory and in `credentials/`. Does so only if it is
/// needed, since the variable is often set for other programs.
fn credentials_file(r: &mut Reader<'_>, config: &mut Config) {
    let is_needed = config.gcs_bucket.is_some() && config.gcs_endpoint.is_none();
    let Some(path) = config.gcs_credentials_file.as_mut().filter(|_| is_needed) else {
        return;
    };
    let other = Path::new("credentials").join(&path);
    if path.is_relative() && !path.exists() && other.exists() {
        *path = other;
    }
    let name = "GOOGLE_APPLICATION_CREDENTIALS";
    match check_key_file(path) {
        Err(problem) => r.fault(name, &format!(": {problem}")),
        Ok(()) => {
            let mut read = r.effective.iter_mut();
            if let Some(setting) = read.find(|setting| setting.name == name) {
                setting.value = Some(path.display().to_string());
            }
        }
    }
}

fn check_key_file(path: &PathBuf) -> Result<(), String> {
    let shown = path.display();
    match std::fs::read(path) {
        Ok(bytes) => match serde_json::from_slice::<serde_json::Value>(&bytes) {
            Ok(serde_json::Value::Object(_)) => Ok(()),
            // The parser's message could quote the file.
            _ => Err(format!(
                "{shown} is not a JSON object; download the key again"
            )),
        },
        Err(error) if error.kind() == ErrorKind::NotFound => Err(
            "there is no such file, nor is it in `credentials/`; put the key file there, or unset GOOGLE_APPLICATION_CREDENTIALS on a machine of Google Cloud".to_owned(),
        ),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Err(format!(
            "{shown} can't be read by user {}: {error}; make that user its owner",
            crate::process::user_id(),
        )),
        Err(error) => Err(format!("{shown} can't be read: {error}")),
    }
}
