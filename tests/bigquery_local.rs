//! Loads into `local-bigquery`, an emulator of BigQuery that is not ours: `scripts/local-bigquery`
//! installs it where there is Python 3.13, and `FTAP_LOCAL_BIGQUERY` names it.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::common::warehouse::Warehouse;
use crate::common::{ROWS, wait_until};
use crate::dbt::Python;
use serde_json::{Value, json};

struct Emulator {
    child: Child,
    url: String,
}

impl Emulator {
    fn start(program: &str, dir: &Path) -> Self {
        let free = || {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            listener.local_addr().unwrap().port()
        };
        let (port, grpc_port) = (free(), free());
        let log = std::fs::File::create(dir.join("local-bigquery.log")).unwrap();
        let mut child = Command::new(program)
            .args(["serve", "--host", "127.0.0.1", "--project", "my-project"])
            .args(["--port", &port.to_string()])
            .args(["--grpc-port", &grpc_port.to_string()])
            .arg("--data-dir")
            .arg(dir.join("data"))
            .env("GCS_LOCAL_ROOT", dir.join("gcs"))
            .current_dir(dir)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        wait_until("the emulator", || {
            assert!(child.try_wait().unwrap().is_none(), "it ended at once");
            std::net::TcpStream::connect(("127.0.0.1", port)).ok()
        });
        Self {
            child,
            url: format!("http://127.0.0.1:{port}/bigquery/v2"),
        }
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn an_emulator_that_is_not_ours_has_each_row_once() {
    let Ok(program) = std::env::var("FTAP_LOCAL_BIGQUERY") else {
        // Not a failure anywhere: few machines have Python 3.13.
        eprintln!("not run: FTAP_LOCAL_BIGQUERY is not set (scripts/local-bigquery DIR prints it)");
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let emulator = Emulator::start(&program, dir.path());
    let mut warehouse = Warehouse::in_folder("local", &dir.path().join("gcs").join("lake"));
    warehouse.lab.set("BIGQUERY_API_URL", &emulator.url);
    warehouse.lab.set("FILE_MAX_ROWS", "5000");
    warehouse.write_fx("2020-01-01", "2020-01-05");
    warehouse.lab.run_until_drained();
    warehouse.load();
    for _ in 0..2 {
        let loaded = warehouse.load();
        assert_eq!(loaded["transactions"], json!({"objects": 0, "rows": 0}));
    }
    let verify = warehouse.ftap(&["verify", "--json"]);
    assert_eq!(verify.code, 0, "{}{}", verify.out, verify.err);
    let verdict: Value = serde_json::from_str(&verify.out).unwrap();
    let rows = |name: &str| {
        let tables = verdict["bigquery"]["tables"].as_array().unwrap();
        let table = tables.iter().find(|table| table["table"] == name).unwrap();
        assert_eq!(table["rows"], table["distinct_rows"]);
        table["rows"].as_u64().unwrap()
    };
    assert_eq!(rows("transactions"), ROWS);
    assert_eq!(rows("fx_rates"), 20);
}

#[test]
fn the_models_give_what_plain_python_gives_on_an_emulator_of_bigquery() {
    let Ok(program) = std::env::var("FTAP_LOCAL_BIGQUERY") else {
        eprintln!("not run: FTAP_LOCAL_BIGQUERY is not set (scripts/local-bigquery DIR prints it)");
        return;
    };
    let Some(python) = Python::with_dbt() else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let emulator = Emulator::start(&program, dir.path());
    python.make_lake(dir.path(), |_, text| Some(text));
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("dbt");
    let url = format!("{}/projects/my-project", emulator.url);
    let lake = dir.path().join("lake");
    python.run("emulator.py", [&project, &lake, Path::new(&url)]);
}
