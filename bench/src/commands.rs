//! Whole commands of the program and of its peers, in alternation.

use crate::ftap::{Bench, COLUMNS, ROUNDS, Samples};
use crate::kafka::Kafka;
use crate::peers::Peers;
use crate::table::{Report, Section};

/// Adds the sections of whole commands. Without a broker those that need one are left out.
pub(crate) fn measure(
    bench: &Bench,
    kafka: Option<&Kafka>,
    report: &mut Report,
) -> anyhow::Result<()> {
    if let Some(kafka) = kafka {
        on_kafka(bench, kafka, report)?;
    }
    let mut samples = Samples::default();
    for _ in 0..ROUNDS {
        let (run, verify) = bench.run_and_verify()?;
        samples.add("ftap run --until-drained", run);
        samples.add("ftap verify of it", verify);
    }
    report.sections.push(Section {
        title: "From the file to a verified lake".to_owned(),
        note: "With the embedded broker, which is part of the process.",
        columns: COLUMNS,
        lines: samples.lines(),
    });
    Ok(())
}

fn on_kafka(bench: &Bench, kafka: &Kafka, report: &mut Report) -> anyhow::Result<()> {
    let peers = Peers::find(bench, &mut report.skipped)?;
    let (mut publish, mut drain) = (Samples::default(), Samples::default());
    let events = &bench.events;
    warm_up(bench, kafka)?;
    for round in 1..=ROUNDS {
        let topic = kafka.topic("bench-ftap", 3)?;
        let produced = bench.produce(&topic, kafka, events)?;
        publish.add("ftap produce, exactly once", produced);
        let consumed = bench.consume(&topic, kafka, events, &[], round == ROUNDS)?;
        drain.add("ftap consume, exactly once", consumed);
        peers.publish(bench, kafka, &mut publish)?;
        peers.drain(bench, &topic, kafka, &mut drain)?;
    }
    report.sections.push(Section {
        title: "Publishing the file".to_owned(),
        note: "From a file on disk into an empty topic of three partitions.",
        columns: COLUMNS,
        lines: publish.lines(),
    });
    report.sections.push(Section {
        title: "Draining the topic".to_owned(),
        note: "What `ftap produce` has published, from its beginning into Parquet with zstd, unless the line says otherwise.",
        columns: COLUMNS,
        lines: drain.lines(),
    });
    Ok(())
}

/// The broker's code is compiled as it runs: the first round does not count.
pub(crate) fn warm_up(bench: &Bench, kafka: &Kafka) -> anyhow::Result<()> {
    let topic = kafka.topic("bench-warm-up", 3)?;
    bench.produce(&topic, kafka, &bench.events)?;
    bench.consume(&topic, kafka, &bench.events, &[], false)?;
    Ok(())
}
