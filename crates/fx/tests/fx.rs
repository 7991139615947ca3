//! FX rates against a local fake of the API with every fault that an API has.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::time::{Duration, Instant};

use arrow_array::cast::AsArray as _;
use arrow_array::types::{Float64Type, TimestampMicrosecondType};
use chrono::{DateTime, NaiveDate, Utc};
use ftap_fx::job::{Done, FetchError, FxJob, JobError, Origin};
use ftap_fx::object::FxFooter;
use ftap_fx::{ApiKey, FxError, FxSettings, Provider, RequestPolicy, days};
use ftap_lake::{
    Compression, FooterError, FooterFormat as _, LakeLocation, LakeStore, footer_table,
};
use ftap_supervision::Backoff;
use ftap_testing::{Reply, Scripted};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::Compression as ParquetCompression;

const KEY: &str = "fca_live_canary_2f1c";
const GOOD: &str = r#"{"data":{"EUR":0.92,"DKK":6.87,"NOK":10.61,"SEK":10.43}}"#;

fn ok(body: impl Into<String>) -> Reply {
    Reply::ok(body.into())
        .header("X-RateLimit-Remaining-Quota-Month", "4999")
        .header("X-RateLimit-Remaining-Quota-Minute", "9")
}

fn status(status: u16) -> Reply {
    Reply::status(status).body(r#"{"message":"no"}"#)
}

fn url(api: &Scripted) -> String {
    format!("{}/v1", api.address())
}

struct Lab {
    dir: tempfile::TempDir,
    settings: FxSettings,
}

impl Lab {
    fn new(url: &str, key: Option<&str>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let settings = FxSettings {
            api_url: url.to_owned(),
            api_key: key.map(ApiKey::new),
            cache_time: Duration::ZERO,
            cache_file: dir.path().join("fx_cache.json"),
            offline_seed: 1,
            compression: Compression::Zstd(3),
            writer_id: "test-writer".to_owned(),
            policy: RequestPolicy {
                timeout: Duration::from_millis(500),
                backoff: Backoff::new(Duration::from_millis(10), Duration::from_secs(2))
                    .attempts(3),
            },
        };
        Self { dir, settings }
    }

    fn job(&self) -> FxJob {
        let lake = LakeLocation::Local(self.dir.path().join("lake"));
        FxJob::new(self.settings.clone(), LakeStore::open(&lake).unwrap()).unwrap()
    }

    fn objects(&self) -> Vec<String> {
        fn walk(root: &Path, dir: &Path, found: &mut Vec<String>) {
            for entry in std::fs::read_dir(dir).into_iter().flatten() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    walk(root, &path, found);
                } else if path.extension().is_some_and(|end| end == "parquet") {
                    found.push(path.strip_prefix(root).unwrap().display().to_string());
                }
            }
        }
        let root = self.dir.path().join("lake");
        let mut found = Vec::new();
        walk(&root, &root, &mut found);
        found.sort();
        found
    }
}

fn run_at() -> DateTime<Utc> {
    DateTime::from_timestamp(1_577_836_805, 0).unwrap()
}

#[test]
fn the_document_has_the_footers_table() {
    let document = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/DATA.md");
    let document = std::fs::read_to_string(document).unwrap();
    let table = footer_table(FxFooter::FIELDS);
    assert!(document.contains(&table), "put this into it:\n{table}");
}

#[tokio::test]
async fn a_fill_leaves_the_schedule_its_share_of_the_quota() {
    let left = |left: &str| {
        let day = GOOD.replacen("{\"data\":", "{\"data\":{\"2020-02-03\":", 1);
        Reply::ok(format!("{day}}}")).header("X-RateLimit-Remaining-Quota-Month", left)
    };
    let api = Scripted::start(vec![left("501"), left("500")]).await;
    let lab = Lab::new(&url(&api), Some(KEY));
    let day = NaiveDate::from_ymd_opt(2020, 2, 3).unwrap();
    for may_continue in [true, false] {
        let fetched = days::fetch(&lab.job(), day).await.unwrap();
        assert_eq!(days::may_continue(&fetched), may_continue);
    }
}

#[test]
fn an_object_of_an_earlier_version_has_no_pairs_and_one_of_a_later_one_is_refused() {
    let none = FxFooter::from_pairs([("ARROW:schema", Some("x"))]).unwrap();
    assert_eq!((none.rows, none.provider), (None, None));
    let later = FxFooter::from_pairs([("ftap.rates_version", Some("2"))]);
    assert_eq!(later, Err(FooterError::Version { found: 2, known: 1 }));
}

#[tokio::test]
async fn a_run_writes_the_documented_columns_and_a_repeat_sends_no_request() {
    let api = Scripted::start(vec![ok(GOOD)]).await;
    let lab = Lab::new(&url(&api), Some(KEY));
    let done = lab.job().run(run_at()).await.unwrap();
    let Done::Written { key, origin, .. } = done else {
        panic!("{done:?}");
    };
    assert_eq!(key, "fx_rates/2020/01/01/fx_rates_20200101_000005.parquet");
    let Origin::Api { attempts, quota } = origin else {
        panic!("{origin:?}");
    };
    assert_eq!(
        (attempts, quota.month, quota.minute),
        (1, Some(4999), Some(9))
    );

    let file = std::fs::File::open(lab.dir.path().join("lake").join(&key)).unwrap();
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
    let pairs = reader.metadata().file_metadata().key_value_metadata();
    let mut pairs: Vec<_> = pairs
        .into_iter()
        .flatten()
        .filter(|pair| pair.key.starts_with("ftap."))
        .map(|pair| (pair.key.as_str(), pair.value.as_deref().unwrap()))
        .collect();
    pairs.sort_unstable();
    assert_eq!(
        pairs,
        [
            ("ftap.provider", "freecurrencyapi"),
            ("ftap.rates_version", "1"),
            ("ftap.rows", "4"),
            ("ftap.writer_id", "test-writer"),
        ]
    );
    let columns = reader.metadata().row_group(0).columns();
    assert!(
        columns
            .iter()
            .all(|column| matches!(column.compression(), ParquetCompression::ZSTD(_))),
        "as all others of the lake"
    );
    let batch = reader.build().unwrap().next().unwrap().unwrap();
    let schema = batch.schema();
    let names: Vec<_> = schema.fields().iter().map(|f| f.name().as_str()).collect();
    assert_eq!(
        names,
        [
            "timestamp",
            "base_currency",
            "currency",
            "rate",
            "provider",
            "rate_time"
        ]
    );
    let times = batch.column(5).as_primitive::<TimestampMicrosecondType>();
    assert_eq!(times.values(), &[1_577_836_805_000_000; 4]);
    assert_eq!(times.timezone(), Some("UTC"));
    let text = |column: usize, row| {
        batch
            .column(column)
            .as_string::<i32>()
            .value(row)
            .to_owned()
    };
    let rate = |row| batch.column(3).as_primitive::<Float64Type>().value(row);
    let rows: Vec<_> = (0..batch.num_rows())
        .map(|row| {
            (
                text(0, row),
                text(1, row),
                text(2, row),
                rate(row),
                text(4, row),
            )
        })
        .collect();
    let row = |currency: &str, rate| {
        let text = str::to_owned;
        let at = text("2020-01-01T00:00:05Z");
        (
            at,
            text("USD"),
            text(currency),
            rate,
            text("freecurrencyapi"),
        )
    };
    assert_eq!(
        rows,
        [
            row("EUR", 0.92),
            row("DKK", 6.87),
            row("NOK", 10.61),
            row("SEK", 10.43)
        ]
    );

    assert_eq!(
        lab.job().run(run_at()).await.unwrap(),
        Done::AlreadyThere { key }
    );
    let requests = api.requests();
    assert_eq!(requests.len(), 1, "the second run sent no request");
    let (first_line, headers) = requests[0].split_once("\r\n").unwrap();
    assert_eq!(
        first_line,
        "GET /v1/latest?base_currency=USD&currencies=EUR%2CDKK%2CNOK%2CSEK HTTP/1.1"
    );
    assert!(headers.contains(&format!("apikey: {KEY}")), "{headers}");
}

#[tokio::test]
async fn what_passes_is_waited_out() {
    let faults = [
        status(500),
        status(503),
        status(429).header("Retry-After", "1"),
        Reply::ok(GOOD).cut(),
        Reply::hang(),
    ];
    for fault in faults {
        let api = Scripted::start(vec![fault.clone(), ok(GOOD)]).await;
        let lab = Lab::new(&url(&api), Some(KEY));
        let began = Instant::now();
        let done = lab.job().run(run_at()).await;
        assert!(
            matches!(
                done,
                Ok(Done::Written {
                    origin: Origin::Api { attempts: 2, .. },
                    ..
                })
            ),
            "{fault:?}: {done:?}"
        );
        if fault.is_status(429) {
            assert!(began.elapsed() >= Duration::from_secs(1), "Retry-After");
        }
    }
}

#[tokio::test]
async fn nothing_is_written_when_the_answer_is_not_usable() {
    let changed = |from: &str, to: &str| ok(GOOD.replace(from, to));
    let exhausted = status(429)
        .header("X-RateLimit-Remaining-Quota-Month", "0")
        .header("Retry-After", "1");
    let cases = [
        (status(401), "FREECURRENCYAPI_API_KEY", 1),
        (status(403), "FREECURRENCYAPI_API_KEY", 1),
        (status(404), "status 404", 1),
        (
            status(302).header("Location", "http://127.0.0.1:1/"),
            "status 302",
            1,
        ),
        (exhausted, "monthly quota", 1),
        (
            status(429).header("Retry-After", "3600"),
            "pause of 3600 s",
            1,
        ),
        (status(500), "status 500, 3 times", 3),
        (Reply::ok(GOOD).cut(), "3 times", 3),
        (Reply::hang(), "3 times", 3),
        (ok("<html>maintenance</html>"), "HTML page", 1),
        (ok("{"), "not JSON", 1),
        (ok("[]"), "not a JSON object", 1),
        (ok("{}"), "no object `data`", 1),
        (ok("x".repeat(70_000)), "longer than", 3),
        (changed(r#""SEK""#, r#""ISK""#), "SEK is missing", 1),
        (ok(format!("invalid key: {KEY}")), "not JSON", 1),
        (changed("6.87", &format!("{KEY:?}")), "DKK is a text", 1),
        (changed("6.87", "0"), "DKK is 0", 1),
        (changed("6.87", "-6.87"), "DKK is -6.87", 1),
        (changed("6.87", "1e300"), "below a million", 1),
        (changed("6.87", "null"), "DKK is null", 1),
        (changed("6.87", r#""NaN""#), "DKK is a text", 1),
        (changed("6.87", r#""6.87""#), "DKK is a text", 1),
        (changed("6.87", "1e400"), "", 1),
    ];
    for (fault, wanted, requests) in cases {
        let api = Scripted::start(vec![fault.clone()]).await;
        let lab = Lab::new(&url(&api), Some(KEY));
        let error = lab.job().run(run_at()).await.unwrap_err();
        let text = format!("{error} {error:?}");
        assert!(text.contains(wanted), "{fault:?}: {text}");
        assert!(!text.contains(KEY), "{text}");
        assert_eq!(api.requests().len(), requests, "{fault:?}");
        assert_eq!(lab.objects(), [] as [String; 0], "{fault:?}");
    }
}

#[tokio::test]
async fn an_answer_is_asked_for_once_and_each_run_has_its_object() {
    let api = Scripted::start(vec![ok(GOOD)]).await;
    let mut lab = Lab::new(&url(&api), Some(KEY));
    lab.settings.cache_time = Duration::from_secs(3600);
    for minutes in 0..5 {
        let at = run_at() + chrono::TimeDelta::minutes(5 * minutes);
        // A job of its own each time: the answer outlives a restart.
        let done = lab.job().run(at).await.unwrap();
        assert!(matches!(done, Done::Written { .. }), "{done:?}");
    }
    assert_eq!(api.requests().len(), 1);
    assert_eq!(lab.objects().len(), 5);
}

#[tokio::test]
async fn days_of_the_past_come_from_the_historical_endpoint() {
    let day = |date: &str| {
        ok(format!(
            r#"{{"data":{{"{date}":{{"EUR":0.87,"DKK":6.5,"NOK":8.6,"SEK":8.9}}}}}}"#
        ))
    };
    let api = Scripted::start(vec![day("2019-01-01"), day("2019-01-01")]).await;
    let lab = Lab::new(&url(&api), Some(KEY));
    let date = NaiveDate::from_ymd_opt(2019, 1, 1).unwrap();
    lab.job().backfill(date).await.unwrap();
    assert_eq!(
        lab.objects(),
        ["fx_rates/2019/01/01/fx_rates_20190101_000000.parquet"]
    );
    assert!(api.requests()[0].starts_with("GET /v1/historical?date=2019-01-01&base"));
    // The second day's answer is of another day.
    let error = lab
        .job()
        .backfill(date.succ_opt().unwrap())
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("no object of 2019-01-02"),
        "{error}"
    );
    let future = Utc::now().date_naive() + chrono::TimeDelta::days(2);
    let error = lab.job().backfill(future).await.unwrap_err();
    assert!(
        matches!(
            error,
            JobError::Fetch(FetchError::Rates(FxError::Future { .. }))
        ),
        "{error}"
    );
}

#[tokio::test]
async fn without_a_key_rates_are_made_up_and_say_so() {
    let lab = Lab::new("http://127.0.0.1:1/v1", None);
    let done = lab.job().run(run_at()).await.unwrap();
    let Done::Written { rates, origin, .. } = done else {
        panic!("{done:?}");
    };
    assert_eq!(
        (rates.provider(), origin),
        (Provider::Offline, Origin::Offline)
    );
}

#[test]
fn a_key_is_never_sent_in_the_clear_over_the_network() {
    let lab = Lab::new("http://api.example.com/v1", Some(KEY));
    let lake = LakeStore::open(&LakeLocation::Local(lab.dir.path().join("lake"))).unwrap();
    let error = FxJob::new(lab.settings.clone(), lake).err().unwrap();
    assert!(error.to_string().contains("https only"), "{error}");
}
