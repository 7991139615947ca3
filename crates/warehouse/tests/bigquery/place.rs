//! A lake in a bucket of one test server, BigQuery as another, and loaders between them.

use std::sync::Arc;
use std::time::Duration;

use arrow_array::{ArrayRef, Int32Array, RecordBatch, StringArray};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use ftap_fx::{Provider, Rates};
use ftap_lake::{Compression, LakeLocation, LakeStore};
use ftap_supervision::{Backoff, Retry, Retryable as _};
use ftap_telemetry::events::Speaker;
use ftap_testing::bigquery::{Fault, Operation, Rule};
use ftap_warehouse::client::BigQueryClient;
use ftap_warehouse::load::{Depth, Loaded, Loader};
use ftap_warehouse::{BigQueryError, BigQuerySettings, LoadPolicy};
use parquet::arrow::ArrowWriter;

pub(crate) struct Place {
    pub bucket: Arc<ftap_testing::gcs::Server>,
    pub bigquery: ftap_testing::bigquery::Server,
    pub lake: LakeStore,
    pub settings: BigQuerySettings,
}

impl Place {
    pub(crate) async fn new() -> Self {
        let options = ftap_testing::gcs::Options::default();
        let bucket = ftap_testing::gcs::Server::start(options).await.unwrap();
        let bucket = Arc::new(bucket);
        let reader = Arc::clone(&bucket);
        let objects = Box::new(move |key: &str| reader.object(key));
        let bigquery = ftap_testing::bigquery::Server::start(objects)
            .await
            .unwrap();
        let lake = LakeStore::open(&LakeLocation::Gcs {
            bucket: bucket.bucket().to_owned(),
            credentials_file: None,
            endpoint: Some(bucket.endpoint().to_owned()),
        });
        let settings = BigQuerySettings {
            project: "my-project".to_owned(),
            dataset: "platform".to_owned(),
            location: None,
            api_url: Some(bigquery.url().to_owned()),
            bucket: bucket.bucket().to_owned(),
            credentials_file: None,
            window: Duration::from_secs(1),
            writer_id: "test".to_owned(),
            policy: LoadPolicy {
                request_timeout: Duration::from_millis(500),
                first_poll: Duration::from_millis(2),
                longest_poll: Duration::from_millis(20),
                retry: Backoff::new(Duration::from_millis(2), Duration::from_millis(20)),
                ..LoadPolicy::default()
            },
        };
        Self {
            bucket,
            bigquery,
            lake: lake.unwrap(),
            settings,
        }
    }

    /// Writes so many FX objects of four rows, the first of them number `from`.
    pub(crate) async fn write_fx(&self, from: i64, objects: i64) {
        for number in from..from + objects {
            let run_at = DateTime::from_timestamp(1_577_836_800 + number * 60, 0).unwrap();
            let rates = Rates::new([1.0, 2.0, 3.0, 4.0], Provider::Offline).unwrap();
            let file = ftap_fx::object::file(run_at, &rates, Compression::Zstd(1), "test").unwrap();
            self.put(&file.name.key(), file.bytes).await;
        }
    }

    /// Writes an object of `users_changes` with the given columns and one row.
    pub(crate) async fn write_users(&self, number: u32, columns: Vec<(&str, ArrayRef)>) -> String {
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        let key = format!("users_changes/2026-11-22/users-000001-snapshot-{number:04}.parquet");
        self.put(&key, writer.into_inner().unwrap().into()).await;
        key
    }

    async fn put(&self, key: &str, bytes: Bytes) {
        self.lake.put_create(key, bytes).await.unwrap();
    }

    /// A process of its own, as far as BigQuery and the lake can tell.
    pub(crate) async fn loader(&self) -> Loader {
        let settings = Arc::new(self.settings.clone());
        let client = BigQueryClient::open(&settings).await.unwrap();
        let lake = self.lake.clone();
        Loader::new(Arc::new(client), lake, settings, Speaker::PROCESS)
    }

    /// Passes of a new loader until one succeeds, as the actor does; the first final error ends it.
    pub(crate) async fn drain(&self) -> Result<Vec<(&'static str, Loaded)>, BigQueryError> {
        let mut loader = self.loader().await;
        loop {
            match loader.pass(Depth::Full).await {
                Err(error) if error.retry() != Retry::Permanent => {}
                done => return done,
            }
        }
    }

    pub(crate) async fn refusal(&self) -> String {
        self.drain().await.unwrap_err().to_string()
    }

    pub(crate) fn objects(&self, table: &str) -> Vec<String> {
        let keys = self.bucket.keys().into_iter();
        keys.filter(|key| key.starts_with(&format!("{table}/")))
            .collect()
    }

    pub(crate) fn assert_loaded_once(&self, table: &str, about: &str) {
        let loads = self.bigquery.loads(table);
        let loaded: Vec<_> = loads.keys().cloned().collect();
        assert_eq!(loaded, self.objects(table), "{about}");
        let doubled: Vec<_> = loads.iter().filter(|(_, times)| **times != 1).collect();
        assert!(doubled.is_empty(), "{about}: {doubled:?}");
    }

    pub(crate) fn rule(&self, on: Operation, times: u32, fault: Fault) {
        self.bigquery.set_rules(vec![Rule::next(on, times, fault)]);
    }

    pub(crate) fn manifest(&self, table: &str, sequence: u64) -> String {
        format!("bigquery/my-project/platform/{table}/{sequence:020}.json")
    }

    /// Makes a manifest older than it is.
    pub(crate) async fn age_manifest(&self, key: &str, days: i64) {
        let bytes = self.bucket.object(key).unwrap();
        let mut manifest: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        let then = Utc::now() - chrono::TimeDelta::days(days);
        manifest["created_ms"] = then.timestamp_millis().into();
        self.bucket.remove(key).unwrap();
        self.put(key, serde_json::to_vec(&manifest).unwrap().into())
            .await;
    }
}

pub(crate) fn text(value: &str) -> ArrayRef {
    Arc::new(StringArray::from(vec![value]))
}

pub(crate) fn number(value: i32) -> ArrayRef {
    Arc::new(Int32Array::from(vec![value]))
}
