//! What is in the lake is in BigQuery exactly once, whatever BigQuery answers and whatever is
//! killed when.

use std::time::{Duration, Instant};

use crate::common;
use crate::common::verdict::said;
use crate::common::warehouse::Warehouse;
use crate::common::{Lab, ROWS, Random, wait_until};
use ftap_testing::bigquery::Operation::{Any, Submit};
use ftap_testing::bigquery::{Fault, Rule};
use serde_json::json;

#[test]
fn everything_is_loaded_once_however_often_it_is_loaded() {
    let mut warehouse = Warehouse::new("twice");
    warehouse.lab.set("FILE_MAX_ROWS", "2500");
    warehouse.write_fx("2020-01-01", "2020-01-10");
    warehouse.lab.set("BIGQUERY_PROJECT", "");
    warehouse.lab.set("BIGQUERY_DATASET", "");
    warehouse.lab.run_until_drained();
    warehouse.lab.set("BIGQUERY_PROJECT", "my-project");
    warehouse.lab.set("BIGQUERY_DATASET", "platform");
    let objects = warehouse.objects("transactions").len();
    let loaded = warehouse.load();
    assert_eq!(
        loaded["transactions"],
        json!({"objects": objects, "rows": ROWS})
    );
    assert_eq!(loaded["fx_rates"], json!({"objects": 10, "rows": 40}));
    // What could not become a row stays in the lake.
    assert!(loaded.get("dead_letters").is_none(), "{loaded}");
    for again in 0..2 {
        let loaded = warehouse.load();
        for table in ["transactions", "fx_rates"] {
            assert_eq!(loaded[table], json!({"objects": 0, "rows": 0}), "{again}");
        }
    }
    assert_eq!(warehouse.bigquery.rows("transactions"), ROWS);
    assert_eq!(warehouse.bigquery.rows("fx_rates"), 40);
    warehouse.assert_loaded_once("transactions");
    warehouse.assert_loaded_once("fx_rates");
    assert_eq!(warehouse.bigquery.without_token(), 0);

    let table = warehouse.bigquery.table("transactions").unwrap();
    assert_eq!(
        table["timePartitioning"],
        json!({"type": "DAY", "field": "_kafka_timestamp"})
    );
    assert_eq!(
        table["clustering"],
        json!({"fields": ["user_id", "merchant"]})
    );
    let column = |name: &str| {
        let fields = table["schema"]["fields"].as_array().unwrap().clone();
        fields.into_iter().find(|field| field["name"] == name)
    };
    assert_eq!(column("original_amt").unwrap()["type"], "FLOAT");
    assert_eq!(column("_kafka_timestamp").unwrap()["type"], "TIMESTAMP");
    let rates = warehouse.bigquery.table("fx_rates").unwrap();
    assert_eq!(rates["timePartitioning"], json!({"type": "DAY"}));

    let verify = warehouse.ftap(&["verify"]);
    println!("{}", verify.out);
    assert_eq!(verify.code, 0, "{}{}", verify.out, verify.err);
    assert!(
        verify
            .out
            .contains("Every row that was loaded is in BigQuery exactly once"),
        "{}",
        verify.out
    );
    // What waits for a load is not lost, and is reported.
    warehouse.write_fx("2020-02-01", "2020-02-02");
    let verify = warehouse.ftap(&["verify"]);
    assert_eq!(verify.code, 0, "{}", verify.out);
    assert!(
        verify
            .out
            .contains("behind: 2 objects with 8 rows are not loaded yet; `ftap load`"),
        "{}",
        verify.out
    );
    // A load that is there twice, or not at all, is one.
    for (twice, figure) in [(true, "doubled"), (false, "missing")] {
        warehouse.bigquery.tamper("fx_rates", twice);
        let verify = warehouse.ftap(&["verify", "--json"]);
        assert_eq!(verify.code, 3, "{}", verify.out);
        let verdict: serde_json::Value = serde_json::from_str(&verify.out).unwrap();
        assert_eq!(verdict["exact"], false);
        let tables = verdict["bigquery"]["tables"].as_array().unwrap();
        let rates = tables.iter().find(|table| table["table"] == "fx_rates");
        assert_eq!(rates.unwrap()[figure], 4, "{verdict:#}");
        warehouse.bigquery.tamper("fx_rates", false);
    }
}

#[test]
fn loads_that_are_killed_anywhere_come_to_each_object_once() {
    let warehouse = Warehouse::new("kills");
    let bigquery = &warehouse.bigquery;
    let mut random = Random(7);
    for round in 0..10 {
        let day = format!("2020-01-{:02}", 1 + 2 * round);
        let next = format!("2020-01-{:02}", 2 + 2 * round);
        warehouse.write_fx(&day, &next);
        let slow = Duration::from_millis(random.below(700));
        bigquery.set_rules(vec![match random.below(4) {
            0 => Rule::next(Submit, 1, Fault::CommitThenCut),
            1 => Rule::next(Submit, 1, Fault::SlowJob(slow)),
            2 => Rule::next(Submit, 1, Fault::JobFails("backendError", "try again")),
            _ => Rule::next(Submit, 1, Fault::CommitThenRefuse(503)),
        }]);
        let (one, other) = (warehouse.start_load(), warehouse.start_load());
        std::thread::sleep(Duration::from_millis(random.below(900)));
        one.signal(libc::SIGKILL);
        if random.below(2) == 0 {
            other.signal(libc::SIGKILL);
        }
        one.wait();
        other.wait();
    }
    bigquery.set_rules(Vec::new());
    warehouse.load();
    warehouse.assert_loaded_once("fx_rates");
    assert_eq!(bigquery.rows("fx_rates"), 80);
}

#[test]
fn a_zombie_that_wakes_up_loads_nothing_again() {
    let warehouse = Warehouse::new("zombie");
    // Asleep while its job runs, and before BigQuery has heard of one.
    let slow = Rule::next(Submit, 1, Fault::SlowJob(Duration::from_millis(500)));
    let hang = Rule::next(Submit, 1, Fault::Hang);
    for (rule, year) in [(slow, 2020), (hang, 2021)] {
        warehouse.write_fx(&format!("{year}-01-01"), &format!("{year}-01-03"));
        warehouse.bigquery.set_rules(vec![rule]);
        let zombie = warehouse.start_load();
        wait_until("the job to be submitted", || {
            warehouse.bigquery.rules_are_used_up().then_some(())
        });
        zombie.signal(libc::SIGSTOP);
        warehouse.load();
        for month in 2..4 {
            let day = format!("{year}-{month:02}-01");
            warehouse.write_fx(&day, &day);
            warehouse.load();
        }
        zombie.signal(libc::SIGCONT);
        if year == 2020 {
            assert!(zombie.wait().success());
        } else {
            // It would wait for its limit of time.
            zombie.kill();
        }
        warehouse.load();
        warehouse.assert_loaded_once("fx_rates");
    }
}

#[test]
fn a_run_loads_as_it_goes_and_stops_at_once() {
    let mut warehouse = Warehouse::new("run");
    warehouse.lab.set("PRODUCE_SPEED", common::speed_for(60));
    let run = warehouse.lab.start(["run"]);
    run.wait_for("two loads of transactions", |lines| {
        let loads = lines
            .iter()
            .filter(|line| line["event"] == "bigquery_loaded" && line["table"] == "transactions");
        (loads.count() >= 2).then_some(())
    });
    let started = Instant::now();
    run.signal(libc::SIGTERM);
    assert!(run.wait().success());
    assert!(
        started.elapsed() < Duration::from_secs(9),
        "{:?}",
        started.elapsed()
    );
    warehouse.load();
    warehouse.assert_loaded_once("transactions");
    let jobs = warehouse.bigquery.jobs();
    assert!(jobs.iter().all(|job| job.state == "DONE"), "{jobs:?}");
}

#[test]
fn the_batch_jobs_load_what_other_processes_put_into_the_lake() {
    let mut warehouse = Warehouse::new("batch");
    // No other job is left, and it continues for this one.
    warehouse.lab.set("INGEST_FX_SCHEDULE", "off");
    let batch = warehouse.lab.start(["batch"]);
    for (day, rows) in [("2020-01-01", 4), ("2020-01-02", 8)] {
        warehouse.write_fx(day, day);
        wait_until("the rates in BigQuery", || {
            (warehouse.bigquery.rows("fx_rates") == rows).then_some(())
        });
    }
    warehouse.assert_loaded_once("fx_rates");
    batch.signal(libc::SIGTERM);
    batch.wait_for_success();
}

#[test]
fn what_was_loaded_is_counted_in_the_metrics() {
    let mut warehouse = Warehouse::new("metrics");
    warehouse.lab.set("INGEST_FX_SCHEDULE", "*/5 * * * *");
    warehouse.lab.set("FX_FILL_DAYS", "false");
    warehouse.lab.set("DASHBOARD_ADDR", "127.0.0.1:0");
    let batch = warehouse.lab.start(["batch"]);
    let loaded = batch.wait_for_event("bigquery_loaded");
    assert_eq!(
        (&loaded["table"], &loaded["rows"], &loaded["rows_loaded"]),
        (&json!("fx_rates"), &json!(4), &json!(4))
    );
    let url = batch.wait_for_event("http_listening");
    let url = format!(
        "{}/metrics",
        url["url"].as_str().unwrap().trim_end_matches('/')
    );
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let metrics = runtime
        .unwrap()
        .block_on(async { reqwest::get(url).await.unwrap().text().await.unwrap() });
    for line in [
        "ftap_bigquery_rows_loaded_total{table=\"fx_rates\"} 4",
        "ftap_bigquery_objects_loaded_total{table=\"fx_rates\"} 1",
        "ftap_bigquery_jobs_total{outcome=\"done\"} 1",
    ] {
        assert!(metrics.contains(line), "{line} is not in:\n{metrics}");
    }
    batch.signal(libc::SIGTERM);
    assert!(batch.wait().success());
    warehouse.assert_loaded_once("fx_rates");
}

#[test]
fn a_bigquery_that_refuses_keeps_nothing_from_the_lake() {
    let warehouse = Warehouse::new("refused");
    let denied = Fault::Refuse(403, "accessDenied");
    warehouse
        .bigquery
        .set_rules(vec![Rule::always(Any, denied)]);
    let run = warehouse.lab.start(["run", "--until-drained"]);
    // All of it is in the lake, and the end tells of what is not in BigQuery.
    let (code, said) = run.wait_for_failure();
    assert_eq!(code, 1, "{said}");
    assert!(
        said.contains("bigquery.datasets.get") && said.contains("ftap load"),
        "{said}"
    );
    let load = warehouse.ftap(&["load"]);
    assert_eq!(load.code, 1, "{}", load.err);
    assert!(load.err.contains("bigquery.datasets.get"), "{}", load.err);
    // Once it is fixed, everything is loaded.
    warehouse.bigquery.set_rules(Vec::new());
    warehouse.load();
    warehouse.assert_loaded_once("transactions");
    assert_eq!(warehouse.bigquery.rows("transactions"), ROWS);
}

#[test]
fn settings_that_do_not_go_together_are_refused_with_the_remedy() {
    let mut lab = Lab::new("bq-settings").without_broker();
    let report = |lab: &Lab| {
        let output = lab.command(["load"]).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        said(&String::from_utf8_lossy(&output.stderr))
    };
    let text = report(&lab);
    assert!(
        text.contains("BIGQUERY_PROJECT and BIGQUERY_DATASET are not set"),
        "{text}"
    );
    lab.set("BIGQUERY_PROJECT", "my-project");
    let text = report(&lab);
    assert!(text.contains("BIGQUERY_DATASET is not set"), "{text}");
    lab.set("BIGQUERY_DATASET", "my-dataset");
    let text = report(&lab);
    assert!(
        text.contains("BIGQUERY_DATASET is \"my-dataset\""),
        "{text}"
    );
    lab.set("BIGQUERY_DATASET", "platform");
    let text = report(&lab);
    assert!(
        text.contains("GCS_BUCKET_NAME is not set") && text.contains("BIGQUERY_PROJECT"),
        "{text}"
    );
    lab.set("BIGQUERY_PROJECT", "");
    let text = report(&lab);
    assert!(text.contains("BIGQUERY_PROJECT is not set"), "{text}");
}
