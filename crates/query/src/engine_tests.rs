//! The engine on a lake of a few objects.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use datafusion::arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use ftap_lake::{DATA_SETS, DataSet, FX_RATES, LakeLocation, LakeStore, TRANSACTIONS};
use parquet::arrow::ArrowWriter;

use crate::models::source_columns;
use crate::{Engine, Limits, Source};

/// A folder as a lake.
struct Lake {
    store: LakeStore,
    folder: tempfile::TempDir,
}

impl Lake {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let location = LakeLocation::Local(folder.path().to_owned());
        Self {
            store: LakeStore::open(&location).unwrap(),
            folder,
        }
    }

    /// Writes the rate of a day in January 2020.
    async fn add_rate(&self, day: u32, rate: f64) {
        let time = format!("2020-01-{day:02}T00:00:00Z");
        let key = format!("fx_rates/2020/01/{day:02}/fx_rates_202001{day:02}_000000.parquet");
        let texts = [
            ("timestamp", time.as_str()),
            ("base_currency", "USD"),
            ("currency", "EUR"),
        ];
        let columns = [column("rate", Float64Array::from(vec![rate]))];
        self.add(&FX_RATES, &key, &texts, columns.into()).await;
    }

    /// Writes a transaction on a day in January 2020; the file's path.
    async fn add_transaction(&self, offset: i64, day: u32, amount: f64) -> PathBuf {
        let time = format!("2020-01-{day:02} 10:00:00");
        let number = format!("t{offset}");
        let key = format!("transactions/2026-11-29/t-0-{offset:020}.parquet");
        let texts = [
            ("trans_date_trans_time", time.as_str()),
            ("user_id", "ann"),
            ("merchant", "fraud_Alpha"),
            ("category", "home"),
            ("trans_num", &number),
            ("currency", "EUR"),
        ];
        let columns = [
            column("original_amt", Float64Array::from(vec![amount])),
            column("is_fraud", Int64Array::from(vec![0])),
        ];
        self.add(&TRANSACTIONS, &key, &texts, columns.into()).await;
        self.folder.path().join(key)
    }

    async fn add(
        &self,
        set: &DataSet,
        key: &str,
        texts: &[(&'static str, &str)],
        mut columns: Vec<(&'static str, ArrayRef)>,
    ) {
        assert!(set.owns(key), "{key}");
        let texts = texts.iter();
        columns.extend(texts.map(|(name, text)| column(name, StringArray::from(vec![*text]))));
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        let bytes = writer.into_inner().unwrap().into();
        self.store.put_create(key, bytes).await.unwrap();
    }

    async fn open(&self) -> Engine {
        let limits = Limits {
            memory_bytes: 100_000_000,
            spill_bytes: 0,
            time: Duration::from_secs(60),
        };
        let declared = source_columns().unwrap();
        let sources = DATA_SETS.iter().map(|set| Source {
            set,
            columns: declared.get(set.name).cloned(),
        });
        let sources: Vec<Source> = sources.collect();
        Engine::open(&self.store, &sources, limits).await.unwrap()
    }
}

fn column(
    name: &'static str,
    values: impl datafusion::arrow::array::Array + 'static,
) -> (&'static str, ArrayRef) {
    (name, Arc::new(values))
}

#[tokio::test]
async fn an_engine_is_current_until_the_lake_has_another_object() {
    let lake = Lake::new();
    lake.add_rate(1, 0.5).await;
    let engine = lake.open().await;
    // A server's tasks may move between threads.
    fn can_move<T: Send>(future: T) -> T {
        future
    }
    assert!(can_move(engine.is_current(&lake.store)).await.unwrap());
    lake.add_rate(2, 0.25).await;
    assert!(!engine.is_current(&lake.store).await.unwrap());
    // Its answers stay those of its moment.
    let count = "select count(*) from fx_rates";
    assert_eq!(engine.count(count).await.unwrap(), 1);
    let engine = lake.open().await;
    assert_eq!(engine.count(count).await.unwrap(), 2);
    assert!(engine.is_current(&lake.store).await.unwrap());
}

/// Dollars of all transactions, whole ones.
const DOLLARS: &str = "select cast(sum(amount_usd) as bigint) from fct_transactions";

#[tokio::test]
async fn kept_facts_are_added_to_while_only_transactions_come() {
    let lake = Lake::new();
    lake.add_rate(1, 0.5).await;
    let first = lake.add_transaction(0, 1, 10.0).await;
    lake.add_transaction(1, 2, 10.0).await;
    let engine = lake.open().await;
    // They are kept from the second time on.
    for _ in 0..2 {
        assert_eq!(engine.count(DOLLARS).await.unwrap(), 20 + 20);
    }
    // A rate of its day for the second one.
    lake.add_rate(2, 0.25).await;
    let engine = engine.reopen(&lake.store).await.unwrap();
    for _ in 0..2 {
        assert_eq!(engine.count(DOLLARS).await.unwrap(), 20 + 40);
    }
    lake.add_transaction(2, 2, 10.0).await;
    // Reading what is kept again would fail.
    let metadata = std::fs::metadata(&first).unwrap();
    let file = std::fs::File::create(&first).unwrap();
    file.set_len(metadata.len()).unwrap();
    file.set_modified(metadata.modified().unwrap()).unwrap();
    let engine = engine.reopen(&lake.store).await.unwrap();
    assert_eq!(engine.count(DOLLARS).await.unwrap(), 20 + 40 + 40);
}
