//! What is in the lake is in BigQuery exactly once, whatever BigQuery answers and whatever is
//! killed when.

#![allow(clippy::unwrap_used)]

mod common;

use common::ROWS;
use common::warehouse::Warehouse;
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
    // What waits for a load is no loss, and is told.
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
