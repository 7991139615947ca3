//! What a person reads after the figures of a run: whether there was anything new, what is in the
//! lake and where, how to query it, and what this kind of run leaves out.

use std::fs;
use std::path::Path;

use ftap_lake::DATA_SETS;
use ftap_telemetry::figures::{count, size};

use crate::commands::run::{Options, Role};
use crate::config::{Config, PostgresUse};
use crate::status::Summary;
use crate::topology::Outcome;

/// The text, some lines.
pub(crate) fn text(
    config: &Config,
    options: Options,
    outcome: Outcome,
    summary: &Summary,
) -> String {
    let Options {
        role,
        until_drained,
        ..
    } = options;
    let mut out = String::new();
    if let Some(line) = nothing_new(config, role, outcome, summary) {
        out.push_str(&line);
    }
    if role != Role::Produce {
        out.push_str(&lake(config));
    }
    if role == Role::Run && until_drained && leaves_out_users(config) {
        out.push_str(
            "users and merchants were not loaded: their PostgreSQL would run for a moment only; `ftap run` keeps it running, POSTGRES=on has it here, too\n",
        );
    }
    out
}

/// Whether the tables of users and merchants are left out without a setting that says so.
fn leaves_out_users(config: &Config) -> bool {
    config.postgres == PostgresUse::Auto && config.postgres_host.is_none()
}

fn nothing_new(config: &Config, role: Role, outcome: Outcome, summary: &Summary) -> Option<String> {
    let figures = &summary.figures;
    let topic = &config.kafka_topic;
    if figures.rows_published > 0 || figures.rows_committed > 0 || figures.records_rejected > 0 {
        return None;
    }
    let before = figures.published_before;
    let is_stopped = outcome == Outcome::Stopped;
    match role {
        Role::Consume if is_stopped && figures.lag_records != Some(0) => None,
        Role::Consume => Some(format!(
            "nothing new: topic {topic} has no message that the lake lacks\n"
        )),
        _ if before == 0 || is_stopped && figures.publish_total.is_none_or(|all| before < all) => {
            None
        }
        _ => Some(format!(
            "nothing new: {} rows of {} were there already; `ftap reset` starts over\n",
            count(before),
            config.events_file.display()
        )),
    }
}

fn lake(config: &Config) -> String {
    let (place, files) = match &config.gcs_bucket {
        Some(bucket) => (format!("gs://{bucket}"), String::new()),
        None => (
            config.lake_dir.display().to_string(),
            DATA_SETS
                .iter()
                .filter_map(|set| folder_line(&config.lake_dir, set.name))
                .collect(),
        ),
    };
    if config.gcs_bucket.is_none() && files.is_empty() {
        return format!("the lake {place} is empty\n");
    }
    format!(
        "in the lake {place}\n{files}query it:\n  {}\n",
        query(config)
    )
}

fn folder_line(lake: &Path, folder: &str) -> Option<String> {
    let (files, bytes) = files_in(&lake.join(folder));
    (files > 0).then(|| {
        format!(
            "  {folder:<22}{:>8} {:<5}{:>12}\n",
            count(files),
            if files == 1 { "file" } else { "files" },
            size(bytes)
        )
    })
}

/// Parquet files below a folder, and their bytes.
fn files_in(folder: &Path) -> (u64, u64) {
    let mut sum = (0, 0);
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let (files, bytes) = match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => files_in(&path),
            Ok(metadata) if path.extension().is_some_and(|end| end == "parquet") => {
                (1, metadata.len())
            }
            _ => continue,
        };
        sum = (sum.0 + files, sum.1 + bytes);
    }
    sum
}

/// Settings that say which lake it is.
const WHERE: [&str; 5] = [
    "DATA_DIR",
    "LAKE_DIR",
    "GCS_BUCKET_NAME",
    "GOOGLE_APPLICATION_CREDENTIALS",
    "GCS_ENDPOINT",
];

/// A command for a shell: this program, with those flags of this run that say where the lake is.
fn query(config: &Config) -> String {
    let program = std::env::args_os().next().unwrap_or_default();
    let program = program.into_string().unwrap_or_default();
    let program = if program.is_empty() { "ftap" } else { &program };
    let words = [program, "query"].into_iter().map(str::to_owned);
    let flags = WHERE.iter().filter_map(|name| config.flag(name));
    let words: Vec<String> = words.chain(flags).map(|word| quoted(&word)).collect();
    format!("{} \"{QUERY}\"", words.join(" "))
}

const QUERY: &str = "SELECT currency, count(*) AS transactions, round(sum(amount_usd)) AS usd FROM fct_transactions GROUP BY currency";

/// A word for a shell.
fn quoted(word: &str) -> String {
    let is_plain = |sign: char| sign.is_ascii_alphanumeric() || "-_./=:,@+".contains(sign);
    if word.chars().all(is_plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_survives_the_shell() {
        assert_eq!(quoted("--lake-dir=data/lake"), "--lake-dir=data/lake");
        assert_eq!(
            quoted("--lake-dir=a b/it's$5"),
            r"'--lake-dir=a b/it'\''s$5'"
        );
    }
}
