//! The measured program: its data, and its commands with the rows that they moved.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail, ensure};
use serde_json::Value;

use crate::child::{self, Usage};
use crate::kafka::{Kafka, Topic};
use crate::table::{Column, Figure, Line, column};

/// How often each command is measured.
pub(crate) const ROUNDS: usize = 3;

/// A prepared file and the rows in it.
pub(crate) struct Events {
    pub file: PathBuf,
    pub rows: u64,
}

/// What all measurements share.
pub(crate) struct Bench {
    ftap: PathBuf,
    /// Everything is in here, and goes with it.
    pub dir: PathBuf,
    pub events: Events,
}

/// One run of one command.
pub(crate) struct Sample {
    usage: Usage,
    rows: u64,
    /// CPU time of the broker while the command ran.
    broker_seconds: Option<f64>,
    lake_bytes: Option<u64>,
}

pub(crate) const COLUMNS: &[Column] = &[
    column("seconds", "seconds", 2),
    column("cpu_seconds_per_million", "CPU-s per million rows", 2),
    column("peak_megabytes", "peak MB", 0),
    column(
        "broker_cpu_seconds_per_million",
        "broker's CPU-s per million",
        2,
    ),
    column("megabytes_written", "MB written", 1),
];

/// The samples of each command, in the order in which the commands were first seen.
#[derive(Default)]
pub(crate) struct Samples(Vec<(String, Vec<Sample>)>);

impl Samples {
    pub(crate) fn add(&mut self, name: &str, sample: Sample) {
        eprintln!("bench: {name}: {:.2} s", sample.usage.seconds);
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some((_, samples)) => samples.push(sample),
            None => self.0.push((name.to_owned(), vec![sample])),
        }
    }

    /// As lines below [`COLUMNS`].
    pub(crate) fn lines(&self) -> Vec<Line> {
        let line = |(name, samples): &(String, Vec<Sample>)| {
            let of = |value: &dyn Fn(&Sample) -> Option<f64>| {
                Figure::of(samples.iter().filter_map(value))
            };
            let per_million = |seconds: f64, sample: &Sample| seconds / sample.rows as f64 * 1e6;
            let megabytes = |bytes: u64| bytes as f64 / 1e6;
            Line {
                name: name.clone(),
                figures: vec![
                    of(&|sample| Some(sample.usage.seconds)),
                    of(&|sample| Some(per_million(sample.usage.cpu_seconds, sample))),
                    of(&|sample| Some(megabytes(sample.usage.peak_bytes))),
                    of(&|sample| Some(per_million(sample.broker_seconds?, sample))),
                    of(&|sample| sample.lake_bytes.map(megabytes)),
                ],
            }
        };
        self.0.iter().map(line).collect()
    }
}

impl Bench {
    /// Makes the data.
    pub(crate) fn new(ftap: PathBuf, dir: &Path, rows: u64) -> anyhow::Result<Self> {
        let data = dir.join("data");
        let prepared = data.join("prepared/credit_card_transactions_events.csv");
        let bench = Self {
            ftap,
            dir: dir.to_owned(),
            events: Events {
                file: prepared,
                rows,
            },
        };
        eprintln!("bench: generates and prepares {rows} rows");
        let rows = rows.to_string();
        let mut generate = bench.ftap(&data);
        generate.args(["generate", "--seed", "1", "--rows", &rows, "--out"]);
        child::run(generate.arg(dir), dir)?;
        let source = dir.join("credit_card_transactions.csv");
        child::run(bench.ftap(&data).arg("prepare").arg(&source), dir)?;
        fs::remove_file(source).context("the generated file")?;
        let prepared = lines_in(&bench.events.file)? - 1;
        let rows = bench.events.rows;
        ensure!(prepared == rows, "{prepared} of {rows} rows were prepared");
        Ok(bench)
    }

    /// The program, with no settings but those of the benchmark.
    fn ftap(&self, data: &Path) -> Command {
        let mut command = Command::new(&self.ftap);
        let kept = ["PATH", "HOME", "LD_LIBRARY_PATH"];
        command
            .env_clear()
            .envs(
                kept.iter()
                    .filter_map(|name| Some((name, std::env::var_os(name)?))),
            )
            .env("DATA_DIR", data)
            .env("EVENTS_FILE", &self.events.file)
            .env("LOG_FORMAT", "json")
            .current_dir(&self.dir);
        command
    }

    fn ftap_on(&self, topic: &Topic<'_>, kafka: &Kafka, data: &Path) -> Command {
        let mut command = self.ftap(data);
        command
            .env("KAFKA_BROKER", &kafka.address)
            .env("KAFKA_TOPIC", &topic.name)
            .env("KAFKA_TRANSACTIONAL_ID", format!("bench-{}", topic.name));
        command
    }

    /// Runs a command of the program or of a peer.
    pub(crate) fn measure(
        &self,
        command: &mut Command,
        rows: u64,
        kafka: Option<&Kafka>,
    ) -> anyhow::Result<Sample> {
        let before = kafka.and_then(Kafka::cpu_seconds);
        let usage = child::run(command, &self.dir)?;
        let after = kafka.and_then(Kafka::cpu_seconds);
        Ok(Sample {
            usage,
            rows,
            broker_seconds: before.zip(after).map(|(before, after)| after - before),
            lake_bytes: None,
        })
    }

    /// What the last command printed.
    pub(crate) fn printed(&self) -> anyhow::Result<String> {
        fs::read_to_string(self.dir.join("stdout")).context("what a command printed")
    }

    fn summary(&self, field: &str) -> anyhow::Result<u64> {
        let summary: Value = serde_json::from_str(&self.printed()?).context("a summary")?;
        summary[field]
            .as_u64()
            .with_context(|| format!("no {field} in {summary}"))
    }

    /// `ftap produce`, from a file into an empty topic.
    pub(crate) fn produce(
        &self,
        topic: &Topic<'_>,
        kafka: &Kafka,
        events: &Events,
    ) -> anyhow::Result<Sample> {
        let data = self.fresh_folder()?;
        let mut produce = self.ftap_on(topic, kafka, &data);
        produce.args(["produce", "--json", "--produce-speed", "max"]);
        produce.env("EVENTS_FILE", &events.file);
        let sample = self.measure(&mut produce, events.rows, Some(kafka))?;
        check("ftap produce", self.summary("rows_published")?, events.rows)?;
        Ok(sample)
    }

    /// `ftap consume`, from a topic that holds the file into an empty lake. With `verify`, `ftap verify`
    /// must find every row exactly once.
    pub(crate) fn consume(
        &self,
        topic: &Topic<'_>,
        kafka: &Kafka,
        events: &Events,
        settings: &[(&str, &str)],
        verify: bool,
    ) -> anyhow::Result<Sample> {
        let data = self.fresh_folder()?;
        let mut consume = self.ftap_on(topic, kafka, &data);
        consume.args(["consume", "--json", "--until-drained"]);
        // A group reads a topic once.
        let group = format!("bench-{}", chrono::Utc::now().timestamp_micros());
        consume
            .env("KAFKA_CONSUMER_GROUP", group)
            .envs(settings.iter().copied());
        let mut sample = self.measure(&mut consume, events.rows, Some(kafka))?;
        check("ftap consume", self.summary("rows_committed")?, events.rows)?;
        sample.lake_bytes = Some(bytes_in(&data.join("lake/transactions"))?);
        if verify {
            let mut command = self.ftap_on(topic, kafka, &data);
            command.env("EVENTS_FILE", &events.file);
            self.verify(command, events)?;
        }
        Ok(sample)
    }

    /// `ftap run` with the embedded broker, then `ftap verify` of what it left.
    pub(crate) fn run_and_verify(&self) -> anyhow::Result<(Sample, Sample)> {
        let data = self.fresh_folder()?;
        let mut run = self.ftap(&data);
        run.args(["run", "--json", "--until-drained"]);
        let mut sample = self.measure(&mut run, self.events.rows, None)?;
        check(
            "ftap run",
            self.summary("rows_committed")?,
            self.events.rows,
        )?;
        sample.lake_bytes = Some(bytes_in(&data.join("lake/transactions"))?);
        let verify = self.verify(self.ftap(&data), &self.events)?;
        Ok((sample, verify))
    }

    fn verify(&self, mut command: Command, events: &Events) -> anyhow::Result<Sample> {
        command.args(["verify", "--json"]);
        let sample = self.measure(&mut command, events.rows, None)?;
        let verdict: Value = serde_json::from_str(&self.printed()?).context("the verdict")?;
        ensure!(verdict["exact"] == true, "ftap verify: {verdict}");
        let rows = verdict["total"]["lake"].as_u64().unwrap_or(0);
        check("ftap verify", rows, events.rows)?;
        Ok(sample)
    }

    /// An empty folder for what one command writes; what the one before wrote is gone.
    pub(crate) fn fresh_folder(&self) -> anyhow::Result<PathBuf> {
        let folder = self.dir.join("work");
        if folder.exists() {
            fs::remove_dir_all(&folder).with_context(|| folder.display().to_string())?;
        }
        fs::create_dir(&folder).with_context(|| folder.display().to_string())?;
        Ok(folder)
    }
}

impl Sample {
    pub(crate) fn writing(mut self, file: &Path) -> anyhow::Result<Self> {
        let written = fs::metadata(file).with_context(|| file.display().to_string())?;
        self.lake_bytes = Some(written.len());
        Ok(self)
    }
}

/// A run whose rows are not all there has no figures.
pub(crate) fn check(what: &str, rows: u64, expected: u64) -> anyhow::Result<()> {
    if rows != expected {
        bail!("{what} moved {rows} of {expected} rows");
    }
    Ok(())
}

/// Bytes of the files in a folder and its folders.
fn bytes_in(folder: &Path) -> anyhow::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let entry = entry.context("a folder's entry")?;
        let about = entry.metadata().context("a folder's entry")?;
        bytes += if about.is_dir() {
            bytes_in(&entry.path())?
        } else {
            about.len()
        };
    }
    Ok(bytes)
}

/// Lines of a file, read in small parts.
pub(crate) fn lines_in(file: &Path) -> anyhow::Result<u64> {
    let mut reader = File::open(file).with_context(|| file.display().to_string())?;
    let mut buffer = vec![0; 64 * 1024];
    let mut lines = 0;
    loop {
        let read = reader
            .read(&mut buffer)
            .with_context(|| file.display().to_string())?;
        if read == 0 {
            return Ok(lines);
        }
        lines += memchr::memchr_iter(b'\n', &buffer[..read]).count() as u64;
    }
}
