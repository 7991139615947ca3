//! The engine on a lake of a few objects.

use std::sync::Arc;
use std::time::Duration;

use datafusion::arrow::array::{ArrayRef, Float64Array, RecordBatch, StringArray};
use ftap_lake::{DATA_SETS, FX_RATES, LakeLocation, LakeStore};
use parquet::arrow::ArrowWriter;

use crate::{Engine, Limits, Source};

/// A folder as a lake.
struct Lake {
    store: LakeStore,
    _folder: tempfile::TempDir,
}

impl Lake {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let location = LakeLocation::Local(folder.path().to_owned());
        Self {
            store: LakeStore::open(&location).unwrap(),
            _folder: folder,
        }
    }

    /// Writes the rate of a day in January 2020.
    async fn add_rate(&self, day: u32, rate: f64) {
        let time = format!("2020-01-{day:02}T00:00:00Z");
        let columns = [
            ("timestamp", time.as_str()),
            ("base_currency", "USD"),
            ("currency", "EUR"),
        ];
        let texts = columns.map(|(name, text)| {
            let array: ArrayRef = Arc::new(StringArray::from(vec![text]));
            (name, array)
        });
        let array: ArrayRef = Arc::new(Float64Array::from(vec![rate]));
        let rates = ("rate", array);
        let batch = RecordBatch::try_from_iter(texts.into_iter().chain([rates])).unwrap();
        let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        let key = format!("fx_rates/2020/01/{day:02}/fx_rates_202001{day:02}_000000.parquet");
        assert!(FX_RATES.owns(&key), "{key}");
        let bytes = writer.into_inner().unwrap().into();
        self.store.put_create(&key, bytes).await.unwrap();
    }

    async fn open(&self) -> Engine {
        let limits = Limits {
            memory_bytes: 100_000_000,
            spill_bytes: 0,
            time: Duration::from_secs(60),
        };
        let sources = DATA_SETS.iter().map(|set| Source { set, columns: None });
        let sources: Vec<Source> = sources.collect();
        Engine::open(&self.store, &sources, limits).await.unwrap()
    }
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
