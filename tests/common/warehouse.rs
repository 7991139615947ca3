//! A lake in a bucket of one test server, and BigQuery as another one that reads it.

use std::process::Stdio;
use std::sync::Arc;

use ftap_testing::gcs::Options;
use serde_json::Value;
use tokio::runtime::Runtime;

use super::Lab;
use super::process::Ftap;
use super::verdict::said;

/// A laboratory whose lake is loaded.
pub(crate) struct Warehouse {
    pub lab: Lab,
    pub bucket: Arc<ftap_testing::gcs::Server>,
    pub bigquery: ftap_testing::bigquery::Server,
    // Dropped last: the servers run on it.
    _runtime: Runtime,
}

/// A command's end: exit code, stdout, stderr.
pub(crate) struct Ended {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Warehouse {
    pub(crate) fn new(name: &str) -> Self {
        Self::with_options(name, Options::default())
    }

    /// With a bucket that is this folder.
    pub(crate) fn in_folder(name: &str, folder: &std::path::Path) -> Self {
        let options = Options {
            data_dir: Some(folder.to_owned()),
            ..Options::default()
        };
        Self::with_options(name, options)
    }

    fn with_options(name: &str, options: Options) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let start = ftap_testing::gcs::Server::start(options);
        let bucket = Arc::new(runtime.block_on(start).unwrap());
        let reader = Arc::clone(&bucket);
        let start = ftap_testing::bigquery::Server::start(Box::new(move |key| reader.object(key)));
        let bigquery = runtime.block_on(start).unwrap();
        let mut lab = Lab::new(&format!("bq-{name}"));
        lab.set("GCS_BUCKET_NAME", bucket.bucket());
        lab.set("GCS_ENDPOINT", bucket.endpoint());
        lab.set("BIGQUERY_PROJECT", "my-project");
        lab.set("BIGQUERY_DATASET", "platform");
        lab.set("BIGQUERY_API_URL", bigquery.url());
        lab.set("BIGQUERY_LOAD_SECONDS", "1");
        Self {
            lab,
            bucket,
            bigquery,
            _runtime: runtime,
        }
    }

    /// Runs a command to its end.
    pub(crate) fn ftap(&self, args: &[&str]) -> Ended {
        let mut command = self.lab.command(args);
        let output = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .output()
            .unwrap();
        Ended {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8(output.stdout).unwrap(),
            err: said(&String::from_utf8_lossy(&output.stderr)),
        }
    }

    /// Puts as many FX objects of four rows into the lake, one a day, from this day on.
    pub(crate) fn write_fx(&self, first: &str, last: &str) {
        let ended = self.ftap(&["fx", "--date", first, "--to", last]);
        assert_eq!(ended.code, 0, "{}", ended.err);
    }

    /// `ftap load`, which has to succeed; what it printed.
    pub(crate) fn load(&self) -> Value {
        let ended = self.ftap(&["load", "--json"]);
        assert_eq!(ended.code, 0, "{}", ended.err);
        serde_json::from_str(&ended.out).unwrap()
    }

    pub(crate) fn start_load(&self) -> Ftap {
        self.lab.start(["load", "--json"])
    }

    /// Keys of the lake's objects of a table.
    pub(crate) fn objects(&self, table: &str) -> Vec<String> {
        let keys = self.bucket.keys().into_iter();
        keys.filter(|key| key.starts_with(&format!("{table}/")) && key.ends_with(".parquet"))
            .collect()
    }

    /// Each object of the table was loaded once, by jobs that were not repeated.
    pub(crate) fn assert_loaded_once(&self, table: &str) {
        let loads = self.bigquery.loads(table);
        let wanted: Vec<_> = self.objects(table);
        let loaded: Vec<_> = loads.keys().cloned().collect();
        assert_eq!(loaded, wanted);
        assert!(loads.values().all(|times| *times == 1), "{loads:?}");
    }

    /// Keys of what the loads wrote down.
    pub(crate) fn chain(&self, table: &str) -> Vec<String> {
        let folder = format!("bigquery/my-project/platform/{table}/");
        let keys = self.bucket.keys().into_iter();
        keys.filter(|key| key.starts_with(&folder)).collect()
    }
}
