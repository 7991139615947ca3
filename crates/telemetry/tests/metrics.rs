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
    used.retain(|letter| !letter.is_whitespace());
    let unused: Vec<_> = statics
        .into_iter()
        .filter(|name| {
            // The last is an argument of a function that sets it.
            let calls = [".add", ".set", ".record", ".replace", ","];
            !calls
                .iter()
                .any(|call| used.contains(&format!("metrics::{name}{call}")))
        })
        .collect();
    assert!(unused.is_empty(), "never counted: {unused:?}");
    let labelled = table.lines().filter_map(|line| {
        let rest = line.trim().strip_prefix("Counter<")?;
        let name = rest.split(' ').nth(1)?;
        (!rest.starts_with('0') && line.ends_with("];")).then_some(name)
    });
    for name in labelled {
        assert!(
            used.contains(&format!("metrics::{name}.expect_for(")),
            "{name} does not exist at 0: call expect_for where its label values are known"
        );
    }
}

#[test]
fn a_gauge_is_not_shown_until_it_is_known_and_no_longer_than_that() {
    let shown = || {
        let text = metrics::render_gauges();
        let lag = text
            .lines()
            .filter(|line| line.contains("ftap_consumer_lag_records"));
        lag.map(str::to_owned).collect::<Vec<_>>()
    };
    let gauge = &metrics::LAG_RECORDS;
    assert_eq!((gauge.sum(), shown()), (None, Vec::new()));
    gauge.set_for(["0"], 2.0);
    gauge.set_for(["a \"b\"\\\n"], 3.0);
    assert_eq!(gauge.sum(), Some(5.0));
    assert_eq!(shown()[1], "# TYPE ftap_consumer_lag_records gauge");
    assert_eq!(shown()[2], "ftap_consumer_lag_records{partition=\"0\"} 2");
    assert_eq!(
        shown()[3],
        r#"ftap_consumer_lag_records{partition="a \"b\"\\\n"} 3"#
    );
    gauge.replace([(["0".to_owned()], 1.5)]);
    assert_eq!(
        shown()[2..],
        ["ftap_consumer_lag_records{partition=\"0\"} 1.5"]
    );
    gauge.forget();
    assert_eq!((gauge.sum(), shown()), (None, Vec::new()));
}
