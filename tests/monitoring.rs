//! The files in `monitoring/`: Prometheus takes them, and they name only metrics that there are.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use ftap_telemetry::metrics;
use serde_json::Value;

use crate::common::{Lab, not_run, wait_until};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("monitoring")
}

/// Runs Prometheus' own check; `false` if it is not installed.
fn promtool(args: &[&str], input: &str) -> bool {
    let spawned = Command::new("promtool")
        .args(args)
        .current_dir(folder())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut child) = spawned else {
        not_run("there is no promtool: apt-get install prometheus");
        return false;
    };
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
    assert!(output.status.success(), "promtool {args:?}: {said:?}");
    // What it only advises comes with exit code 0.
    assert!(args[1] != "metrics" || said[1].is_empty(), "{said:?}");
    true
}

fn dashboard() -> Value {
    let text = std::fs::read_to_string(folder().join("grafana.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// The dashboard's queries.
fn queries(dashboard: &Value) -> Vec<String> {
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let targets = panels.flat_map(|panel| panel["targets"].as_array().unwrap());
    let queries = targets.map(|target| target["expr"].as_str().unwrap().to_owned());
    queries.collect()
}

/// Names in an expression, with the labels that follow in braces.
fn metrics_in(text: &str) -> Vec<(&str, BTreeSet<&str>)> {
    let is_name = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    let words = text.match_indices(|c: char| !is_name(c)).map(|(at, _)| at);
    let starts = std::iter::once(0).chain(words.map(|at| at + 1));
    let names = starts.filter_map(|start| {
        let rest = text.get(start..)?;
        let end = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
        let (name, rest) = rest.split_at(end);
        let is_ours = ["ftap_", "process_"].iter().any(|of| name.starts_with(of));
        let braces = rest.strip_prefix('{').and_then(|rest| rest.split_once('}'));
        let labels = braces.map_or("", |(labels, _)| labels).split(',');
        // Compared by =, !=, =~ or !~.
        let labels = labels.filter_map(|label| Some(label.split_once(['=', '!'])?.0.trim()));
        is_ours.then(|| (name, labels.collect()))
    });
    names.collect()
}

fn assert_known(text: &str) {
    for (name, labels) in metrics_in(text) {
        let is_named = |metric: &&metrics::MetricDoc| match metric.kind {
            "histogram" => name.strip_prefix(metric.name) == Some("_bucket"),
            _ => name == metric.name,
        };
        let metric = metrics::all().find(is_named);
        let metric = metric.unwrap_or_else(|| panic!("there is no metric {name}: {text}"));
        // Prometheus itself adds these two.
        let known =
            |label: &&str| metric.labels.contains(label) || ["instance", "job"].contains(label);
        assert!(
            labels.iter().all(known),
            "{name} has no such labels: {labels:?}"
        );
    }
}

#[test]
fn the_alert_rules_are_valid_fire_as_they_should_and_name_metrics_that_there_are() {
    let rules = std::fs::read_to_string(folder().join("alerts.yml")).unwrap();
    let expressions = rules
        .lines()
        .filter_map(|line| line.trim().strip_prefix("expr: "));
    assert!(expressions.clone().count() > 10);
    expressions.for_each(assert_known);
    let _ = promtool(&["check", "config", "prometheus.yml"], "")
        && promtool(&["check", "rules", "alerts.yml"], "")
        && promtool(&["test", "rules", "alerts_test.yml"], "");
}

#[test]
fn the_dashboard_is_whole_and_its_queries_are_valid_and_name_metrics_that_there_are() {
    let dashboard = dashboard();
    for field in ["uid", "title", "schemaVersion", "templating", "time"] {
        assert!(!dashboard[field].is_null(), "{field}");
    }
    let panels = dashboard["panels"].as_array().unwrap();
    let ids: BTreeSet<_> = panels
        .iter()
        .map(|panel| panel["id"].as_u64().unwrap())
        .collect();
    assert_eq!(ids.len(), panels.len(), "ids are unique");
    let queries = queries(&dashboard);
    queries.iter().for_each(|query| assert_known(query));
    assert_known(&dashboard["templating"].to_string());
    // As a file of rules, which is YAML as all JSON is.
    let rules = queries.iter().enumerate().map(|(number, query)| {
        let expr = query
            .replace("$__rate_interval", "1m")
            .replace("$instance", ".*");
        serde_json::json!({ "record": format!("query:{number}"), "expr": expr })
    });
    let rules = serde_json::json!({
        "groups": [{ "name": "dashboard", "rules": rules.collect::<Vec<_>>() }]
    });
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), rules.to_string()).unwrap();
    promtool(&["check", "rules", file.path().to_str().unwrap()], "");
}

#[test]
fn prometheus_finds_nothing_wrong_with_the_metrics_and_all_of_them_are_documented() {
    let mut lab = Lab::new("metrics");
    lab.set("DASHBOARD_ADDR", "127.0.0.1:0");
    lab.set("INGEST_FX_SCHEDULE", "0 0 1 1 *");
    let run = lab.start(["run"]);
    let shown = wait_until("figures of all kinds", || {
        let shown = run.metrics();
        let wanted = [
            "ftap_consumer_lag_records{",
            "ftap_lake_newest_timestamp_seconds{",
        ];
        wanted
            .iter()
            .all(|name| shown.contains(name))
            .then_some(shown)
    });
    for line in shown
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
    {
        let (name, kind) = line.split_once(' ').unwrap();
        let metric = metrics::all().find(|metric| metric.name == name);
        assert_eq!(metric.map(|metric| metric.kind), Some(kind), "{line}");
    }
    promtool(&["check", "metrics"], &shown);
}
