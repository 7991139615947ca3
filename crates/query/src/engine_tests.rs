//! The engine on a lake of a few objects.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use datafusion::arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use ftap_lake::{DATA_SETS, DataSet, FX_RATES, LakeLocation, LakeStore, TRANSACTIONS};
use parquet::arrow::ArrowWriter;

use crate::models::source_columns;
use crate::{Engine, Limits, QueryError, Source};

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

    /// Writes an object of changes of users with these columns; its path.
    async fn add_change(&self, number: u32, texts: &[(&'static str, &str)]) -> PathBuf {
        let key =
            format!("users_changes/2026-11-29/users-000001-0000000000000001-{number:010}.parquet");
        let set = DataSet::of_changes("users").unwrap();
        self.add(set, &key, texts, Vec::new()).await;
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
        self.open_with(100_000_000).await
    }

    async fn open_with(&self, memory_bytes: usize) -> Engine {
        let limits = Limits {
            memory_bytes,
            spill_bytes: 1_000_000,
            time: Duration::from_secs(60),
        };
        let declared = source_columns().unwrap();
        let is_captured = |set: &DataSet| set.source_table.is_some();
        let sources = DATA_SETS.iter().map(|set| Source {
            set,
            columns: declared
                .get(set.name)
                .filter(|_| !is_captured(set))
                .cloned(),
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
    damage(&first);
    let engine = engine.reopen(&lake.store).await.unwrap();
    assert_eq!(engine.count(DOLLARS).await.unwrap(), 20 + 40 + 40);
}

#[tokio::test]
async fn footers_of_changes_are_read_once_and_only_for_a_statement_that_needs_them() {
    let lake = Lake::new();
    lake.add_rate(1, 0.5).await;
    let first = lake
        .add_change(1, &[("user_id", "ann"), ("nickname", "a")])
        .await;
    let engine = lake.open().await;
    let known = async |engine: &Engine| {
        let sql = "select count(*) from information_schema.columns \
                   where table_name = 'users_changes' and column_name in ('nickname', 'motto')";
        engine.count(sql).await
    };
    assert_eq!(known(&engine).await.unwrap(), 1);
    let named = "select count(*) from users_changes where nickname = 'a'";
    assert_eq!(engine.count(named).await.unwrap(), 1);
    damage(&first);
    lake.add_change(2, &[("user_id", "bob"), ("motto", "b")])
        .await;
    let engine = engine.reopen(&lake.store).await.unwrap();
    assert_eq!(known(&engine).await.unwrap(), 2);
    // One that has read no footer yet meets the damage, but not for other tables.
    let engine = lake.open().await;
    let rates = "select count(*) from fx_rates";
    assert_eq!(engine.count(rates).await.unwrap(), 1);
    assert!(engine.query("describe users_changes").await.is_err());
    assert!(
        engine
            .query("select 1 from dim_users_current")
            .await
            .is_err()
    );
    assert!(known(&engine).await.is_err());
}

/// Makes an object unreadable; a listing shows no difference.
fn damage(object: &Path) {
    let metadata = std::fs::metadata(object).unwrap();
    let file = std::fs::File::create(object).unwrap();
    file.set_len(metadata.len()).unwrap();
    file.set_modified(metadata.modified().unwrap()).unwrap();
}

/// The error of a statement, from planning it or from its rows.
async fn refusal(engine: &Engine, sql: &str) -> QueryError {
    let mut answer = match engine.query(sql).await {
        Ok(answer) => answer,
        Err(error) => return error,
    };
    loop {
        match answer.next().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("{sql}: has an answer"),
            Err(error) => return error,
        }
    }
}

#[tokio::test]
async fn a_refusal_says_what_to_write_instead() {
    let engine = Lake::new().open().await;
    for (sql, parts) in [
        (
            "select * from mart_daily where date_key = date '2020-02-14'",
            &["line 1, column 32", "date_key", "20200214", "dim_date"][..],
        ),
        (
            "select * from dim_date where date_key between now() and 20200101",
            &["column 30", "now()"],
        ),
        (
            "select * from dim_date d join fct_transactions f on f.date_key = d.date_day",
            &["column 53", "f.date_key", "d.date_day"],
        ),
        (
            "select 1 where exists (select 1 from dim_date where date_day in (20200101))",
            &["date_day", "number 20200101"],
        ),
        ("select 1,\n  timestamp 'x'", &["line 2, column 13", "'x'"]),
        ("select year(now())", &["year", "date_part('year', time)"]),
        ("select strftime(now(), '%Y')", &["to_char("]),
        ("select roundd(1.5)", &["did you mean 'round'?"]),
        (
            "select * from transactions where currency = \"EUR\"",
            &[
                "column 45",
                "write 'EUR' if it is a text: \"EUR\" is a name",
            ],
        ),
        (
            "select * from users",
            &["did you mean 'dim_users_current', 'dim_users_history', "],
        ),
        (
            "select xyzzy from fx_rates",
            &["there are ", "rate", "currency"],
        ),
    ] {
        let error = refusal(&engine, sql).await;
        let text = error.to_string();
        assert!(matches!(error, QueryError::Sql { .. }), "{sql}: {error:?}");
        for part in parts {
            assert!(text.contains(part), "{sql}: no {part:?} in {text}");
        }
    }
    for sql in [
        "select * from dim_date where date_key = 20200214 or date_day = '2020-02-14'",
        "select * from transactions where event_time > date '2020-02-14'",
    ] {
        engine.query(sql).await.unwrap();
    }
}

#[tokio::test]
async fn the_object_of_each_row_is_a_column() {
    let lake = Lake::new();
    lake.add_rate(1, 0.5).await;
    lake.add_rate(2, 0.25).await;
    lake.add_rate(3, 0.125).await;
    let engine = lake.open().await;
    let of_second = "select cast(1 / min(rate) as bigint) from fx_rates \
                     where _file = 'fx_rates/2020/01/02/fx_rates_20200102_000000.parquet'";
    assert_eq!(engine.number(of_second).await.unwrap(), Some(4));
    let days = "select count(distinct split_part(_file, '/', 4)) from fx_rates where rate < 0.5";
    assert_eq!(engine.count(days).await.unwrap(), 2);
    let none = "select count(_file) from transactions";
    assert_eq!(engine.count(none).await.unwrap(), 0);
}

#[tokio::test]
async fn a_field_of_a_json_text_is_read_by_the_operator_too() {
    let engine = Lake::new().open().await;
    let object = r#"'{"a": "1", "in": {"b": 22}}'"#;
    for (field, number) in [("'a'", 1), ("'$.a'", 1), ("'$.in.b'", 22)] {
        let sql = format!("select cast({object} ->> {field} as bigint)");
        assert_eq!(engine.number(&sql).await.unwrap(), Some(number), "{field}");
    }
    let compared = format!("select count(*) where ({object} ->> '$.in.b') = '22'");
    assert_eq!(engine.count(&compared).await.unwrap(), 1);
    let bare = format!("select count(*) where {object} ->> '$.in.b' = '22'");
    let error = refusal(&engine, &bare).await.to_string();
    assert!(error.contains("write (object ->> "), "{error}");
}

#[tokio::test]
async fn too_many_temporary_files_are_refused_with_what_helps() {
    let engine = Lake::new().open_with(20_000_000).await;
    let sql = "select value, repeat('x', 100) as text from generate_series(1, 1000000) order by value % 1000, value";
    let error = refusal(&engine, sql).await;
    let text = error.to_string();
    assert!(matches!(error, QueryError::OutOfSpace(_)), "{error:?}");
    assert!(
        text.contains("temporary files") && !text.contains("datafusion."),
        "{text}"
    );
}

#[tokio::test]
async fn the_tables_are_listed_by_name_without_the_engines_own() {
    let engine = Lake::new().open().await;
    let mut answer = engine.query("show tables;").await.unwrap();
    let mut names = Vec::new();
    while let Some(rows) = answer.next().await.unwrap() {
        let column = rows.column_by_name("table_name").unwrap();
        let column = column.as_any().downcast_ref::<StringArray>().unwrap();
        names.extend(column.iter().flatten().map(str::to_owned));
    }
    assert!(
        names.is_sorted() && names.contains(&"transactions".to_owned()),
        "{names:?}"
    );
    assert!(names.contains(&"mart_daily".to_owned()), "{names:?}");
    assert!(!names.contains(&"columns".to_owned()), "{names:?}");
}

#[tokio::test]
async fn only_models_that_a_statement_may_read_are_planned() {
    let lake = Lake::new();
    lake.add_transaction(0, 1, 1.0).await;
    let engine = lake.open().await;
    let is_planned = |name| engine.is_planned(name);
    engine.query("select 1").await.unwrap();
    let transactions =
        "with dim_time as (select * from transactions) select count(*) from dim_time";
    assert_eq!(engine.count(transactions).await.unwrap(), 1);
    assert!(engine.models().iter().all(|model| !is_planned(&model.name)));

    engine.query("select * from mart_hourly").await.unwrap();
    assert!(
        is_planned("fct_transactions") && is_planned("mart_hourly") && !is_planned("mart_daily")
    );

    let explained = "explain select * from mart_daily";
    engine.query(explained).await.unwrap();
    assert!(engine.models().iter().all(|model| is_planned(&model.name)));
    assert_eq!(
        engine
            .count("select count(*) from mart_daily")
            .await
            .unwrap(),
        1
    );
}
