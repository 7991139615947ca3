//! Other tools at the same work, where the machine has them.

use std::ffi::OsString;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use csv::ByteRecord;
use ftap_transaction::{SourceRow, encode_json};
use parquet::file::metadata::ParquetMetaDataReader;

use crate::ftap::{Bench, Samples, check, lines_in};
use crate::kafka::{self, Kafka, Topic};

/// The tools that were found.
pub(crate) struct Peers {
    /// The file as messages, one a line.
    lines: PathBuf,
    python: OsString,
    kcat: bool,
    confluent: bool,
    duckdb: bool,
    connect: bool,
}

impl Peers {
    /// Looks for the tools; what is missing goes into `skipped`.
    pub(crate) fn find(bench: &Bench, skipped: &mut Vec<String>) -> anyhow::Result<Self> {
        let python = std::env::var_os("FTAP_PYTHON").unwrap_or_else(|| "python3".into());
        let succeeds = |command: &mut Command| {
            let command = command.stdin(Stdio::null()).stdout(Stdio::null());
            command
                .stderr(Stdio::null())
                .status()
                .is_ok_and(|status| status.success())
        };
        let imports = |modules: &str| {
            succeeds(Command::new(&python).args(["-c", &format!("import {modules}")]))
        };
        let kcat = succeeds(Command::new("kcat").arg("-V"));
        let confluent = imports("confluent_kafka, pyarrow.json");
        let duckdb = imports("duckdb");
        if !kcat {
            skipped.push("kcat: not in PATH (Debian: apt-get install kcat)".to_owned());
        }
        let shown = python.display();
        if !confluent {
            skipped.push(format!(
                "confluent-kafka with pyarrow: {shown} lacks one of them; FTAP_PYTHON names another Python"
            ));
        }
        if !(kcat && duckdb) {
            skipped.push(format!(
                "kcat into DuckDB: needs kcat, and {shown} the package duckdb"
            ));
        }
        let jars =
            |artifact| succeeds(Command::new(kafka::script()).args(["class-path", artifact]));
        let connect = jars("connect-runtime") && jars("connect-file");
        if !connect {
            skipped.push(
                "Kafka Connect: `scripts/kafka class-path connect-file` says what is missing"
                    .to_owned(),
            );
        }
        Ok(Self {
            lines: write_lines(bench)?,
            kcat,
            confluent,
            duckdb: kcat && duckdb,
            connect,
            python,
        })
    }

    /// Each publishes the file into a topic of its own.
    pub(crate) fn publish(
        &self,
        bench: &Bench,
        kafka: &Kafka,
        samples: &mut Samples,
    ) -> anyhow::Result<()> {
        let mut measure = |name: &str, command: &mut Command, topic: &Topic<'_>| {
            let sample = bench.measure(command, bench.events.rows, Some(kafka))?;
            check(name, topic.messages()?, bench.events.rows)?;
            samples.add(name, sample);
            anyhow::Ok(())
        };
        if self.kcat {
            let topic = kafka.topic("bench-kcat", 3)?;
            let mut kcat = Command::new("kcat");
            kcat.args(["-P", "-b", &kafka.address, "-t", &topic.name]);
            kcat.args([
                "-X",
                "queue.buffering.max.messages=1000000,batch.num.messages=100000",
            ]);
            kcat.arg("-l").arg(&self.lines);
            measure(
                "kcat -P, lines ready-made, without keys or transactions",
                &mut kcat,
                &topic,
            )?;
        }
        if self.confluent {
            let topic = kafka.topic("bench-confluent", 3)?;
            let mut script = self.script("confluent.py");
            script
                .args(["publish", &kafka.address, &topic.name])
                .arg(&bench.events.file);
            measure(
                "confluent-kafka: script that parses and enriches",
                &mut script,
                &topic,
            )?;
        }
        Ok(())
    }

    /// Each reads a topic that holds the file.
    pub(crate) fn drain(
        &self,
        bench: &Bench,
        topic: &Topic<'_>,
        kafka: &Kafka,
        samples: &mut Samples,
    ) -> anyhow::Result<()> {
        let rows = bench.events.rows;
        if self.kcat {
            let mut kcat = Command::new("kcat");
            kcat.args([
                "-C",
                "-e",
                "-q",
                "-o",
                "beginning",
                "-b",
                &kafka.address,
                "-t",
                &topic.name,
            ]);
            let sample = bench.measure(&mut kcat, rows, Some(kafka))?;
            let name = "kcat -C, lines into a file";
            let written = bench.dir.join("stdout");
            check(name, lines_in(&written)?, rows)?;
            samples.add(name, sample.writing(&written)?);
        }
        if self.connect {
            let written = bench.fresh_folder()?.join("lines");
            let bytes = self.lines.metadata().context("the file of messages")?.len();
            let mut connect = Command::new(peer("connect"));
            connect.args([&kafka.address, &topic.name]).arg(&written);
            let sample = bench.measure(connect.arg(bytes.to_string()), rows, Some(kafka))?;
            let name = "Kafka Connect 4.3, lines into a file";
            check(name, lines_in(&written)?, rows)?;
            samples.add(name, sample.writing(&written)?);
        }
        let mut to_parquet = |name: &str, script: &str, arguments: &[&str]| {
            let file = bench.fresh_folder()?.join("peer.parquet");
            let mut script = self.script(script);
            script
                .args(arguments)
                .args([&kafka.address, &topic.name])
                .arg(&file);
            let sample = bench.measure(&mut script, rows, Some(kafka))?;
            check(name, rows_of(&file)?, rows)?;
            samples.add(name, sample.writing(&file)?);
            anyhow::Ok(())
        };
        if self.duckdb {
            to_parquet("kcat piped into DuckDB, one shot", "kcat_duckdb.py", &[])?;
        }
        if self.confluent {
            to_parquet(
                "confluent-kafka and pyarrow.json",
                "confluent.py",
                &["drain"],
            )?;
        }
        Ok(())
    }

    fn script(&self, name: &str) -> Command {
        let mut command = Command::new(&self.python);
        command.arg(peer(name));
        command
    }
}

fn peer(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers");
    folder.join(name)
}

/// A row of the prepared file.
pub(crate) fn source_row(record: &ByteRecord) -> anyhow::Result<SourceRow<'_>> {
    if record.len() != 8 {
        bail!("a prepared row has {} fields", record.len());
    }
    Ok(SourceRow {
        trans_date_trans_time: &record[0],
        user_id: &record[1],
        merchant: &record[2],
        category: &record[3],
        amt: &record[4],
        trans_num: &record[5],
        unix_time: &record[6],
        is_fraud: &record[7],
    })
}

/// A reader of prepared rows.
pub(crate) fn rows_in<R: std::io::Read>(from: R) -> csv::Reader<R> {
    csv::ReaderBuilder::new()
        .delimiter(b';')
        .buffer_capacity(256 * 1024)
        .from_reader(from)
}

fn write_lines(bench: &Bench) -> anyhow::Result<PathBuf> {
    let path = bench.dir.join("messages.jsonl");
    let mut file = BufWriter::new(File::create(&path).context("the file of messages")?);
    let mut reader = rows_in(File::open(&bench.events.file).context("the prepared file")?);
    let (mut record, mut line) = (ByteRecord::new(), Vec::new());
    while reader
        .read_byte_record(&mut record)
        .context("the prepared file")?
    {
        line.clear();
        encode_json(&source_row(&record)?, &mut line).context("a prepared row")?;
        line.push(b'\n');
        file.write_all(&line).context("the file of messages")?;
    }
    file.flush().context("the file of messages")?;
    Ok(path)
}

fn rows_of(file: &Path) -> anyhow::Result<u64> {
    let opened = File::open(file).with_context(|| file.display().to_string())?;
    let metadata = ParquetMetaDataReader::new()
        .parse_and_finish(&opened)
        .context("a peer's file")?;
    Ok(metadata.file_metadata().num_rows() as u64)
}
