//! What a row costs `ftap consume` against partitions, backlog and codec.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};

use anyhow::Context;
use clap::ValueEnum;

use crate::ftap::{Bench, COLUMNS, Events, ROUNDS, Samples};
use crate::kafka::Kafka;
use crate::table::{Report, Section};

/// What the cost is measured against.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Against {
    /// 1, 3, 12 and 64 partitions
    Partitions,
    /// The file once, and as often as `--backlog` says
    Backlog,
    /// zstd, snappy and lz4
    Codec,
}

/// Adds the section.
pub(crate) fn measure(
    bench: &Bench,
    kafka: &Kafka,
    against: Against,
    backlog: u64,
    report: &mut Report,
) -> anyhow::Result<()> {
    let samples = match against {
        Against::Partitions => partitions(bench, kafka)?,
        Against::Backlog => backlogs(bench, kafka, backlog)?,
        Against::Codec => codecs(bench, kafka)?,
    };
    let title = match against {
        Against::Partitions => "`ftap consume` against partitions",
        Against::Backlog => "`ftap consume` against backlog",
        Against::Codec => "`ftap consume` against codec",
    };
    report.sections.push(Section {
        title: title.to_owned(),
        note: "From a full topic of Apache Kafka into an empty lake; three partitions unless the line says otherwise.",
        columns: COLUMNS,
        lines: samples.lines(),
    });
    Ok(())
}

fn partitions(bench: &Bench, kafka: &Kafka) -> anyhow::Result<Samples> {
    let mut samples = Samples::default();
    for partitions in [1, 3, 12, 64] {
        let topic = kafka.topic(&format!("bench-{partitions}"), partitions)?;
        bench.produce(&topic, kafka, &bench.events)?;
        for round in 1..=ROUNDS {
            let sample = bench.consume(&topic, kafka, &bench.events, &[], round == ROUNDS)?;
            samples.add(&format!("partitions: {partitions}"), sample);
        }
    }
    Ok(samples)
}

fn backlogs(bench: &Bench, kafka: &Kafka, most: u64) -> anyhow::Result<Samples> {
    let mut samples = Samples::default();
    for times in [1, most] {
        let events = repeated(bench, times)?;
        let topic = kafka.topic(&format!("bench-backlog-{times}"), 3)?;
        bench.produce(&topic, kafka, &events)?;
        for round in 1..=ROUNDS {
            let sample = bench.consume(&topic, kafka, &events, &[], round == ROUNDS)?;
            samples.add(&format!("files: {times}"), sample);
        }
        fs::remove_file(&events.file).context("the repeated file")?;
    }
    Ok(samples)
}

fn codecs(bench: &Bench, kafka: &Kafka) -> anyhow::Result<Samples> {
    let mut samples = Samples::default();
    let topic = kafka.topic("bench-codec", 3)?;
    bench.produce(&topic, kafka, &bench.events)?;
    for round in 1..=ROUNDS {
        for codec in ["zstd", "snappy", "lz4"] {
            let settings = [("PARQUET_CODEC", codec)];
            let sample = bench.consume(&topic, kafka, &bench.events, &settings, round == ROUNDS)?;
            samples.add(codec, sample);
        }
    }
    Ok(samples)
}

/// A file with the rows of the prepared one several times.
fn repeated(bench: &Bench, times: u64) -> anyhow::Result<Events> {
    let file = bench.dir.join(format!("repeated-{times}.csv"));
    let mut out = File::create(&file).context("the repeated file")?;
    for number in 0..times {
        let rows = File::open(&bench.events.file).context("the prepared file")?;
        let mut rows = BufReader::new(rows);
        let mut heading = Vec::new();
        rows.read_until(b'\n', &mut heading)
            .context("the prepared file")?;
        if number == 0 {
            out.write_all(&heading).context("the repeated file")?;
        }
        std::io::copy(&mut rows, &mut out).context("the repeated file")?;
    }
    let rows = bench.events.rows * times;
    Ok(Events { file, rows })
}
