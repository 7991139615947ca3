//! `ftap reset`: start over. What the settings name is listed, asked about, and removed.
//!
//! Promises: nothing is removed before all of it was shown and confirmed; what other processes use,
//! what others made, and what can't be removed safely from here stays, and is named with the command
//! that removes it. Input is kept: the prepared, generated and downloaded files.

mod kafka;
mod postgres;

use std::fs;
use std::io::{self, BufRead as _, IsTerminal as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use ftap_lake::{CHECKPOINTS_FOLDER, DATA_SETS, DataSet, LOADS_FOLDER};
use ftap_postgres::cluster::PrivateCluster;
use ftap_telemetry::figures::size;

use crate::cli::ResetArgs;
use crate::config::{Config, PostgresUse};
use crate::data_dir::InUse;
use crate::exit::{self, BadUsage};
use crate::output::print;
use kafka::RemoteTopics;
use postgres::RemoteTables;

/// Folders of DATA_DIR that hold input.
const INPUT_FOLDERS: [&str; 3] = ["prepared", "generated", "downloaded"];
/// Folders of the lake that ftap writes.
fn lake_folders() -> impl Iterator<Item = &'static str> {
    let data_sets = DATA_SETS.iter().map(|set| set.name);
    data_sets.chain([CHECKPOINTS_FOLDER, LOADS_FOLDER])
}

/// Tables that BigQuery is loaded into, each with its data set's name.
fn bigquery_tables() -> impl Iterator<Item = &'static str> {
    DataSet::loaded().map(|set| set.name)
}

/// Something on this machine.
struct Local {
    name: &'static str,
    path: PathBuf,
}

/// What is there to remove, and what stays.
#[derive(Default)]
struct Plan {
    topics: Option<RemoteTopics>,
    tables: Option<RemoteTables>,
    cluster: Option<PathBuf>,
    local: Vec<Local>,
    /// What stays and why, with the command that removes it.
    left: Vec<String>,
}

/// Lists, asks and removes.
pub(crate) fn execute(config: &Config, args: &ResetArgs) -> anyhow::Result<u8> {
    let _alone = InUse::alone(&config.data_dir)?;
    let plan = Plan::make(config)?;
    let shown = plan.describe(config);
    if plan.is_empty() {
        print(&format!("{shown}there is nothing to remove\n"))?;
        return Ok(exit::DONE);
    }
    print(&shown)?;
    if !args.yes && !confirmed()? {
        print("nothing was removed\n")?;
        return Ok(exit::GAVE_UP);
    }
    plan.carry_out(config)?;
    print("done: the next run starts from the beginning\n")?;
    Ok(exit::DONE)
}

fn confirmed() -> anyhow::Result<bool> {
    if !io::stdin().is_terminal() {
        return Err(BadUsage(
            "stdin is not a terminal, so there is no one to ask: add --yes to remove all this"
                .to_owned(),
        )
        .into());
    }
    print("remove all this? [y/N] ")?;
    let mut answer = String::new();
    io::stdin()
        .lock()
        .read_line(&mut answer)
        .context("the answer can't be read")?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

impl Plan {
    fn make(config: &Config) -> anyhow::Result<Self> {
        let mut plan = Self::default();
        let data_dir = &config.data_dir;
        let local = |name, path: PathBuf| path.exists().then_some(Local { name, path });
        plan.local.extend(local(
            "embedded Kafka broker: topics, offsets",
            data_dir.join("kafka"),
        ));
        match &config.gcs_bucket {
            None => {
                let folders = lake_folders().map(|name| local("lake", config.lake_dir.join(name)));
                plan.local.extend(folders.flatten());
            }
            Some(bucket) => plan.left.push(format!(
                "lake in the bucket {bucket}: remove it before the next run, or set GCS_BUCKET_NAME to another\n    gcloud storage rm --recursive {}",
                lake_folders().map(|name| format!("gs://{bucket}/{name}")).collect::<Vec<_>>().join(" ")
            )),
        }
        if let (Some(project), Some(dataset)) = (&config.bigquery_project, &config.bigquery_dataset)
        {
            let tables: String = bigquery_tables()
                .map(|table| format!("\n    bq rm -f --table {project}:{dataset}.{table}"))
                .collect();
            plan.left.push(format!(
                "BigQuery tables: remove them together with the lake{tables}"
            ));
        }
        plan.local
            .extend(local("checkpoint", data_dir.join("checkpoint.json")));
        plan.local
            .extend(local("fraud model", data_dir.join("fraud")));
        plan.cluster = Some(data_dir.join("postgres")).filter(|path| path.exists());
        if let Some(bootstrap) = &config.kafka_broker {
            let (topics, left) = RemoteTopics::find(config, bootstrap)?;
            plan.topics = topics;
            plan.left.extend(left);
        }
        if config.postgres != PostgresUse::Off
            && let Some(settings) = config.postgres_settings()
        {
            let (tables, left) = RemoteTables::find(config, settings)?;
            plan.tables = tables;
            plan.left.extend(left);
        }
        Ok(plan)
    }

    fn is_empty(&self) -> bool {
        self.topics.is_none()
            && self.tables.is_none()
            && self.cluster.is_none()
            && self.local.is_empty()
    }

    fn describe(&self, config: &Config) -> String {
        let mut out = String::new();
        if !self.is_empty() {
            out.push_str("this removes:\n");
        }
        let mut line = |text: &str| out.push_str(&format!("  {text}\n"));
        if let Some(topics) = &self.topics {
            line(&topics.describe());
        }
        if let Some(tables) = &self.tables {
            line(&tables.describe());
        }
        for Local { name, path } in &self.local {
            line(&sized(name, path));
        }
        if let Some(cluster) = &self.cluster {
            line(&sized("private PostgreSQL: tables, slot", cluster));
        }
        if !self.left.is_empty() {
            out.push_str("this stays:\n");
            for left in &self.left {
                out.push_str(&format!("  {left}\n"));
            }
        }
        let kept = INPUT_FOLDERS.map(|name| config.data_dir.join(name));
        let kept: Vec<_> = kept
            .iter()
            .filter(|path| path.exists())
            .map(|path| path.display().to_string())
            .collect();
        if !kept.is_empty() {
            out.push_str(&format!("input is kept: {}\n", kept.join(", ")));
        }
        out
    }

    /// Servers first: what can fail leaves the rest as it is.
    fn carry_out(self, config: &Config) -> anyhow::Result<()> {
        if let Some(tables) = self.tables {
            tables.remove()?;
        }
        if let Some(topics) = self.topics {
            topics.remove()?;
        }
        if let Some(cluster) = self.cluster {
            PrivateCluster::remove(&cluster)
                .map_err(|error| anyhow::anyhow!("{}\n  {}", error.reason(), error.remedy()))?;
        }
        for Local { path, .. } in &self.local {
            let removed = if path.is_dir() {
                fs::remove_dir_all(path)
            } else {
                fs::remove_file(path)
            };
            removed.with_context(|| format!("can't remove {}", path.display()))?;
        }
        // What else is in the lake's folder is not ours.
        let _ = fs::remove_dir(&config.lake_dir);
        Ok(())
    }
}

fn sized(name: &str, path: &Path) -> String {
    format!("{name}: {} ({})", path.display(), size(bytes_in(path)))
}

/// Bytes of all files; what can't be read counts nothing.
fn bytes_in(path: &Path) -> u64 {
    let Ok(metadata) = path.symlink_metadata() else {
        return 0;
    };
    if !metadata.is_dir() {
        return metadata.len();
    }
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    entries.map(|entry| bytes_in(&entry.path())).sum()
}
