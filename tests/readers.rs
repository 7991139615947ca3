//! pyarrow and DuckDB, as they come from PyPI, read the lake as it is.
//!
//! Needs Python with the packages of `.ci/requirements.txt`: `FTAP_PYTHON` names the
//! interpreter, else `python3` is tried. Without them the test says so and passes, except
//! where `FTAP_REQUIRE_TOOLS=1` forbids that.

use std::io::Write;
use std::process::Command;

use crate::common;
use crate::common::{Lab, ROWS};
use serde_json::{Value, json};

const PYARROW: &str = r#"
import json, sys
import pyarrow.compute as pc, pyarrow.dataset as ds, pyarrow.parquet as pq
table = ds.dataset(sys.argv[1], format="parquet").to_table()
print(json.dumps({
    "rows": table.num_rows,
    "columns": [[field.name, str(field.type)] for field in table.schema],
    "nulls": sum(column.null_count for column in table.columns),
    "amount": pc.sum(table["original_amt"]).as_py(),
    "fraud": pc.sum(table["is_fraud"]).as_py(),
    "other_times": sum(str(typed)[:19] != text for typed, text in zip(
        table["event_time"].to_pylist(), table["trans_date_trans_time"].to_pylist())),
    "users": pc.count_distinct(table["user_id"]).as_py(),
    "transactions": pc.count_distinct(table["trans_num"]).as_py(),
    "codecs": sorted({pq.read_metadata(file).row_group(0).column(0).compression
        for file in ds.dataset(sys.argv[1], format="parquet").files}),
}))
"#;

const DUCKDB: &str = r#"
import json, sys
import duckdb
db = duckdb.connect()
db.execute("set timezone = 'UTC'")
lake = "read_parquet('" + sys.argv[1].replace("'", "''") + "/**/*.parquet')"
columns = db.execute("describe select * from " + lake).fetchall()
nulls = "+".join(f'count(*) filter (where "{column[0]}" is null)' for column in columns)
row = db.execute(f"""select count(*), {nulls}, sum(original_amt), sum(is_fraud),
    count(*) filter (where event_time <> trans_date_trans_time::timestamp),
    count(distinct user_id), count(distinct trans_num) from {lake}""").fetchone()
names = ["rows", "nulls", "amount", "fraud", "other_times", "users", "transactions"]
result = {name: float(value) if name == "amount" else int(value) for name, value in zip(names, row)}
result["columns"] = [[column[0], column[1]] for column in columns]
print(json.dumps(result))
"#;

/// Writes a file again with another codec, everything else being kept.
const RECOMPRESS: &str = r#"
import sys
import pyarrow.parquet as pq
pairs = {key: value for key, value in pq.read_metadata(sys.argv[1]).metadata.items() if key != b"ARROW:schema"}
table = pq.read_table(sys.argv[1], partitioning=None).replace_schema_metadata(pairs)
pq.write_table(table, sys.argv[1], compression="brotli")
"#;

#[test]
fn an_object_that_was_compressed_again_by_another_codec_is_read() {
    let python = match python() {
        Ok(python) => python,
        Err(why) => return common::not_run(&why),
    };
    let lab = Lab::new("codec");
    lab.run_until_drained();
    let object = &lab.objects()[0];
    let mut recompress = Command::new(python);
    recompress.args(["-c", RECOMPRESS]).arg(object);
    assert!(recompress.status().unwrap().success());
    lab.assert_exact(ROWS);
}

/// The Python that has the packages, or why there is none.
pub(crate) fn python() -> Result<String, String> {
    let python = std::env::var("FTAP_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let probe = Command::new(&python)
        .args(["-c", "import pyarrow, duckdb"])
        .output();
    match probe {
        Ok(output) if output.status.success() => Ok(python),
        Ok(output) => Err(format!(
            "{python} lacks pyarrow or duckdb: {}",
            String::from_utf8_lossy(&output.stderr)
                .lines()
                .last()
                .unwrap_or_default()
        )),
        Err(error) => Err(format!("{python} can't be started: {error}")),
    }
}

fn ask(python: &str, script: &str, lab: &Lab) -> Value {
    let lake = lab.path("lake/transactions");
    let output = Command::new(python)
        .arg("-c")
        .arg(script)
        .arg(lake)
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{errors}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// What the events file says, by itself.
fn expected() -> (f64, u64, usize, usize) {
    let text = std::fs::read_to_string(common::events_file()).unwrap();
    let (mut fraud, mut users, mut transactions) = (0, Vec::new(), Vec::new());
    let mut amount = 0.0;
    for line in text.lines().skip(1) {
        // The generator quotes nothing that these columns need.
        let columns: Vec<&str> = line.rsplitn(5, ';').collect();
        let [is_fraud, _, number, dollars, _] = columns[..] else {
            panic!("{line}");
        };
        fraud += is_fraud.parse::<u64>().unwrap();
        users.push(line.split(';').nth(1).unwrap());
        transactions.push(number);
        let currency = ftap_transaction::currency_of(number.as_bytes());
        amount += dollars.parse::<f64>().unwrap() / currency.usd_per_unit();
    }
    for values in [&mut users, &mut transactions] {
        values.sort_unstable();
        values.dedup();
    }
    (amount, fraud, users.len(), transactions.len())
}

fn assert_figures(reader: &str, found: &Value) {
    let (amount, fraud, users, transactions) = expected();
    assert_eq!(found["rows"], ROWS, "{reader}");
    assert_eq!(found["nulls"], 0, "{reader}");
    assert_eq!(found["fraud"], fraud, "{reader}");
    assert_eq!(found["other_times"], 0, "{reader}");
    assert_eq!(found["users"], users, "{reader}");
    assert_eq!(found["transactions"], transactions, "{reader}");
    // Sums of floats depend on their order, in the last digits.
    let sum = found["amount"].as_f64().unwrap();
    assert!(
        (sum / amount - 1.0).abs() < 1e-9,
        "{reader}: {sum}, wanted {amount}"
    );
}

const NAMES: [&str; 13] = [
    "trans_date_trans_time",
    "user_id",
    "merchant",
    "category",
    "trans_num",
    "unix_time",
    "is_fraud",
    "original_amt",
    "currency",
    "_kafka_partition",
    "_kafka_offset",
    "_kafka_timestamp",
    "event_time",
];

fn columns(types: [&str; 13]) -> Value {
    NAMES
        .iter()
        .zip(types)
        .map(|(name, kind)| json!([name, kind]))
        .collect()
}

#[test]
fn pyarrow_and_duckdb_read_the_lake() {
    let python = match python() {
        Ok(python) => python,
        Err(why) if std::env::var("FTAP_REQUIRE_TOOLS").is_ok_and(|wanted| wanted == "1") => {
            panic!("{why}: pip install -r .ci/requirements.txt");
        }
        Err(why) => {
            // Past the test runner, which hides what passing tests print.
            let said = format!("pyarrow_and_duckdb_read_the_lake was NOT run: {why}\n");
            std::io::stderr().write_all(said.as_bytes()).unwrap();
            return;
        }
    };
    let mut lab = Lab::new("readers");
    // A lake may have files of several codecs.
    let codecs = ["gzip", "lz4", "none", "snappy", "zstd"];
    for (codec, rows) in codecs.iter().zip([1000, 2000, 3000, 8000, ROWS]) {
        lab.set("PARQUET_CODEC", codec);
        let rows = rows.to_string();
        let run = lab.start(["run", "--until-drained", "--rows", &rows]);
        run.wait_for_success();
    }
    lab.verify().assert_exact();

    let pyarrow = ask(&python, PYARROW, &lab);
    let (text, long, double) = ("string", "int64", "double");
    let types = [
        text,
        text,
        text,
        text,
        text,
        long,
        long,
        double,
        text,
        "int32",
        long,
        "timestamp[ms, tz=UTC]",
        "timestamp[us, tz=UTC]",
    ];
    assert_eq!(pyarrow["columns"], columns(types));
    assert_figures("pyarrow", &pyarrow);
    let named = ["GZIP", "LZ4", "SNAPPY", "UNCOMPRESSED", "ZSTD"];
    assert_eq!(pyarrow["codecs"], json!(named));

    let duckdb = ask(&python, DUCKDB, &lab);
    let (text, long) = ("VARCHAR", "BIGINT");
    let types = [
        text,
        text,
        text,
        text,
        text,
        long,
        long,
        "DOUBLE",
        text,
        "INTEGER",
        long,
        "TIMESTAMP WITH TIME ZONE",
        "TIMESTAMP WITH TIME ZONE",
    ];
    assert_eq!(duckdb["columns"], columns(types));
    assert_figures("DuckDB", &duckdb);
}
