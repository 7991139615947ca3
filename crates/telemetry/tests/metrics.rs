//! The table of metrics: the document says what it holds, names follow Prometheus' conventions, and
//! every metric is counted somewhere.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use ftap_telemetry::metrics::{self, CATALOGUE, catalogue_markdown};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .unwrap()
        .to_owned()
}

#[test]
fn the_document_is_the_table() {
    let path = root().join("docs/METRICS.md");
    if std::env::var_os("FTAP_UPDATE_DOCS").is_some() {
        std::fs::write(&path, catalogue_markdown()).unwrap();
    }
    assert!(
        std::fs::read_to_string(&path).unwrap() == catalogue_markdown(),
        "docs/METRICS.md is out of date: FTAP_UPDATE_DOCS=1 cargo test -p ftap-telemetry"
    );
}

#[test]
fn names_follow_the_conventions() {
    for metric in CATALOGUE {
        assert!(metric.name.starts_with("ftap_"), "{}", metric.name);
        assert_eq!(
            metric.name.ends_with("_total"),
            metric.kind == "counter",
            "{} is a {}",
            metric.name,
            metric.kind
        );
    }
    let mut names: Vec<_> = CATALOGUE.iter().map(|metric| metric.name).collect();
    names.sort_unstable();
    assert!(names.windows(2).all(|pair| pair[0] != pair[1]));
}

#[test]
fn every_metric_is_counted_somewhere() {
    let table = std::fs::read_to_string(root().join("crates/telemetry/src/metrics.rs")).unwrap();
    let statics: Vec<&str> = table
        .lines()
        .filter_map(|line| {
            let line = line.trim();
            let kind = ["Counter<", "Gauge<", "Histogram<"]
                .iter()
                .any(|kind| line.starts_with(kind));
            (kind && line.ends_with("];")).then(|| line.split(' ').nth(1))?
        })
        .collect();
    assert_eq!(statics.len(), CATALOGUE.len());
    let mut folders = vec![root().join("src"), root().join("actors/src")];
    let crates = std::fs::read_dir(root().join("crates")).unwrap();
    folders.extend(crates.map(|entry| entry.unwrap().path().join("src")));
    let mut used = String::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                used.push_str(&std::fs::read_to_string(path).unwrap());
            }
        }
    }
    let unused: Vec<_> = statics
        .into_iter()
        .filter(|name| {
            let calls = [".add", ".set", ".record"];
            !calls
                .iter()
                .any(|call| used.contains(&format!("metrics::{name}{call}")))
        })
        .collect();
    assert!(unused.is_empty(), "never counted: {unused:?}");
}

#[test]
fn a_gauge_is_unknown_until_it_is_set_and_after_it_is_forgotten() {
    assert_eq!(metrics::LAG_RECORDS.sum(), None);
    metrics::LAG_RECORDS.set_for(["0"], 2.0);
    metrics::LAG_RECORDS.set_for(["1"], 3.0);
    assert_eq!(metrics::LAG_RECORDS.sum(), Some(5.0));
    metrics::LAG_RECORDS.forget(["0"]);
    metrics::LAG_RECORDS.forget(["1"]);
    assert_eq!(metrics::LAG_RECORDS.sum(), None);
}
