//! FX rates by the clock: `ftap batch` and `ftap run` against a fake of the API.
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::common;
use crate::common::fx_api::{FxApi, Reply};
use crate::common::process::Ftap;
use crate::common::{Lab, Random, wait_until};
use arrow_array::cast::AsArray as _;
use chrono::NaiveDateTime;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::Value;

const KEY: &str = "fca_live_canary_41d7";
const EVERY_SECOND: &str = "* * * * * *";
/// A schedule whose time does not come during a test: only the run at start.
const NEVER: &str = "0 0 1 1 *";

/// A laboratory that asks this API each second; without PostgreSQL.
fn lab(name: &str, api: &FxApi) -> Lab {
    let mut lab = Lab::new(name).without_broker();
    lab.set("INGEST_FX_SCHEDULE", EVERY_SECOND);
    lab.set("FREECURRENCYAPI_API_KEY", KEY);
    lab.set("FX_API_URL", &api.url);
    lab.set("FX_CACHE_SECONDS", "0");
    lab.set("FX_FILL_DAYS", "false");
    lab
}

/// The objects of rates, each whole and of the time that it is named after.
fn assert_whole(lab: &Lab) -> usize {
    let objects = lab.objects();
    for path in &objects {
        let name = path.file_stem().unwrap().to_str().unwrap();
        let time = name.strip_prefix("fx_rates_").unwrap();
        let time = NaiveDateTime::parse_from_str(time, "%Y%m%d_%H%M%S").unwrap();
        let file = std::fs::File::open(path).unwrap();
        let mut reader = ParquetRecordBatchReaderBuilder::try_new(file)
            .unwrap()
            .build()
            .unwrap();
        let batch = reader.next().unwrap().unwrap();
        assert!(reader.next().is_none());
        let column = |number: usize| -> Vec<String> {
            let column = batch.column(number).as_string::<i32>();
            column.iter().map(|text| text.unwrap().to_owned()).collect()
        };
        let wanted = time.and_utc().format("%Y-%m-%dT%H:%M:%SZ").to_string();
        assert_eq!(column(0), vec![wanted; 4]);
        assert_eq!(column(2), ["EUR", "DKK", "NOK", "SEK"]);
    }
    objects.len()
}

fn keys(run: &Ftap, event: &str) -> Vec<String> {
    let events = run.events(event);
    let keys = events.iter().map(|event| event["key"].as_str().unwrap());
    keys.map(str::to_owned).collect()
}

#[test]
fn each_tick_has_its_object_once_whatever_is_killed_when() {
    let api = FxApi::start(Reply::Rates);
    let mut lab = lab("fx-kills", &api);
    let mut written: BTreeMap<String, u32> = BTreeMap::new();
    let mut random = Random(11);
    for _ in 0..8 {
        let batch = lab.start(["batch"]);
        std::thread::sleep(Duration::from_millis(random.below(1_200)));
        batch.kill();
        for key in keys(&batch, "fx_rates_written") {
            *written.entry(key).or_default() += 1;
        }
    }
    let last = lab.start(["batch"]);
    last.wait_for_events("fx_rates_written", 3);
    last.signal(libc::SIGTERM);
    last.wait_for_success();
    for key in keys(&last, "fx_rates_written") {
        *written.entry(key).or_default() += 1;
    }
    assert!(written.values().all(|times| *times == 1), "{written:?}");
    // A kill may come between an object and its line in the log.
    let objects = assert_whole(&lab);
    assert!(objects >= written.len(), "{objects} {written:?}");
    let root = lab.path("lake");
    let found: BTreeSet<String> = lab
        .objects()
        .iter()
        .map(|path| path.strip_prefix(&root).unwrap().display().to_string())
        .collect();
    assert!(written.keys().all(|key| found.contains(key)), "{found:?}");

    // At the start's tick, before and after the put.
    lab.set("INGEST_FX_SCHEDULE", NEVER);
    let asked = api.requests().len();
    lab.set("FTAP_FAILPOINTS", "fx_fetcher=hang");
    let before = lab.start(["batch"]);
    wait_until("an answer", || (api.requests().len() > asked).then_some(()));
    before.kill();
    assert_eq!(lab.objects().len(), objects);
    lab.set("FTAP_FAILPOINTS", "fx_fetcher.written=hang");
    let after = lab.start(["batch"]);
    wait_until("the object", || {
        (lab.objects().len() == objects + 1).then_some(())
    });
    after.kill();
    lab.set("FTAP_FAILPOINTS", "");
    let asked = api.requests().len();
    let again = lab.start(["batch"]);
    again.wait_for_event("fx_rates_kept");
    again.kill();
    assert_eq!(api.requests().len(), asked, "what was there was asked for");
    assert_eq!(assert_whole(&lab), objects + 1);
}

#[test]
fn a_stage_that_fails_or_panics_is_started_again_and_writes_the_object() {
    let api = FxApi::start(Reply::Rates);
    let mut lab = lab("fx-faults", &api);
    lab.set("INGEST_FX_SCHEDULE", NEVER);
    lab.set(
        "FTAP_FAILPOINTS",
        "fx_fetcher=panic,fx_fetcher.written=error",
    );
    let batch = lab.start(["batch"]);
    // The panic is before the put, the error after it: the object is met again.
    batch.wait_for_event("fx_rates_kept");
    assert_eq!(batch.events("group_restarting").len(), 2);
    assert_eq!(assert_whole(&lab), 1);
    batch.signal(libc::SIGTERM);
    batch.wait_for_success();
}

/// Every place that shows something: log, result, files of any kind, the dashboard.
fn assert_silent(lab: &Lab, batch: &mut Ftap, url: &str) {
    for path in ["/", "/metrics", "/api/status", "/readyz", "/healthz"] {
        let page = get(url, path);
        assert!(!page.contains(KEY), "{path}: {page}");
    }
    batch.signal(libc::SIGTERM);
    batch.wait_for_success();
    assert!(!batch.printed().contains(KEY));
    let files = files(&lab.path(""));
    // The log is among them, as a file.
    let log = files.iter().any(|file| file.ends_with(".log"));
    assert!(log, "{files:?}");
    for file in files {
        let bytes = std::fs::read(&file).unwrap();
        let found = bytes.windows(KEY.len()).any(|part| part == KEY.as_bytes());
        assert!(!found, "the key is in {file}");
    }
}

fn files(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path.to_str().unwrap().to_owned());
        }
    }
    found
}

fn get(url: &str, path: &str) -> String {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let answer = reqwest::get(format!("{url}{path}")).await.unwrap();
        format!(
            "{:?} {}",
            answer.headers().clone(),
            answer.text().await.unwrap()
        )
    })
}

fn listening(batch: &Ftap) -> String {
    let event = batch.wait_for_event("http_listening");
    let url = event["url"].as_str().unwrap();
    url.trim_end_matches('/').to_owned()
}

#[test]
fn whatever_the_api_does_is_logged_without_the_key_and_the_next_tick_tries_again() {
    let faults = [
        (Reply::Status(401, ("", "")), "FREECURRENCYAPI_API_KEY"),
        (Reply::Status(403, ("", "")), "FREECURRENCYAPI_API_KEY"),
        (
            Reply::Status(429, ("X-RateLimit-Remaining-Quota-Month", "0")),
            "monthly quota is used up",
        ),
        (
            Reply::Status(429, ("Retry-After", "3600")),
            "wants a pause of 3600 s",
        ),
        (Reply::Status(500, ("", "")), "status 500, 5 times"),
        (
            Reply::Status(302, ("Location", "http://127.0.0.1:1/")),
            "status 302",
        ),
        (Reply::Html, "it is an HTML page"),
        (Reply::Cut, "could not be asked, 5 times"),
        (Reply::Hang, "could not be asked, 5 times"),
    ];
    let tries = faults.map(|(reply, said)| {
        std::thread::spawn(move || {
            let api = FxApi::start(reply);
            let mut lab = lab("fx-api", &api);
            lab.set("DASHBOARD_ADDR", "127.0.0.1:0");
            lab.set("FX_TIMEOUT_SECONDS", "0.3");
            let mut batch = lab.start(["batch"]);
            let failed = batch.wait_for_event("fx_rates_failed");
            let error = failed["error"].as_str().unwrap();
            assert!(error.contains(said), "{reply:?}: {error}");
            assert_eq!(lab.objects().len(), 0, "{reply:?}");
            let url = listening(&batch);
            // A first run fails before the program has looked at the new group.
            wait_until("a running group", || {
                let status = get(&url, "/api/status");
                status.contains(r#""state":"running""#).then_some(())
            });
            let asked = api.requests();
            assert!(asked.iter().all(|head| head.contains(KEY)), "{asked:?}");
            // It recovers as soon as the API does.
            api.set(Reply::Rates);
            batch.wait_for_event("fx_rates_written");
            assert_eq!(batch.events("stage_failed"), [] as [Value; 0]);
            assert_whole(&lab);
            assert_silent(&lab, &mut batch, &url);
        })
    });
    for tried in tries {
        tried.join().unwrap();
    }
}

#[test]
fn an_api_that_hangs_does_not_delay_the_end() {
    let api = FxApi::start(Reply::Hang);
    let lab = lab("fx-hang", &api);
    let asked = |count| {
        wait_until("a request", || {
            (api.requests().len() >= count).then_some(())
        })
    };
    let batch = lab.start(["batch"]);
    asked(1);
    batch.signal(libc::SIGTERM);
    assert!(batch.wait_at_most(Duration::from_secs(5)).success());
    let run = lab.start(["run", "--until-drained"]);
    asked(2);
    // The API's own limit is 20 s a try.
    let status = run.wait_at_most(Duration::from_secs(15));
    assert!(status.success(), "{}", run.tail());
    let once = lab.start(["batch", "--once", "fx"]);
    asked(3);
    once.signal(libc::SIGINT);
    let stopped = once.wait_at_most(Duration::from_secs(5));
    assert_eq!(stopped.code(), Some(1));
    lab.assert_exact(common::ROWS);
}

#[test]
fn ticks_missed_in_a_sleep_make_one_run() {
    let api = FxApi::start(Reply::Rates);
    let lab = lab("fx-sleep", &api);
    let batch = lab.start(["batch"]);
    batch.wait_for_events("fx_rates_written", 2);
    // Between two runs: a tick that meets a run is passed over, not missed.
    wait_until("half a second past a tick", || {
        let ms = chrono::Utc::now().timestamp_subsec_millis();
        (400..700).contains(&ms).then_some(())
    });
    batch.signal(libc::SIGSTOP);
    let (asleep, asked) = (Instant::now(), api.requests().len());
    wait_until("some ticks", || {
        (asleep.elapsed() > Duration::from_secs(4)).then_some(())
    });
    assert!(api.requests().len() <= asked + 1);
    batch.signal(libc::SIGCONT);
    let missed = batch.wait_for_event("job_ticks_missed");
    assert!(missed["missed"].as_u64().unwrap() >= 2, "{missed}");
    assert_eq!(missed["job"], "fx_rates");
    let tick = missed["tick"].as_str().unwrap().replace([':', '-'], "");
    let key = format!(
        "fx_rates_{}.parquet",
        tick.trim_end_matches('Z').replace('T', "_")
    );
    wait_until(&key, || {
        let written = keys(&batch, "fx_rates_written");
        written.iter().any(|one| one.ends_with(&key)).then_some(())
    });
    batch.signal(libc::SIGTERM);
    batch.wait_for_success();
    assert_whole(&lab);
}

#[test]
fn without_postgresql_runs_and_batch_jobs_write_rates_and_warn_once() {
    let mut lab = Lab::new("fx-alone").without_broker();
    lab.set("INGEST_FX_SCHEDULE", NEVER);
    lab.set("POSTGRES", "auto");
    lab.set("POSTGRES_BIN_DIR", common::postgres::old_programs(&lab));
    for (command, event) in [("run", "fx_rates_written"), ("batch", "fx_rates_kept")] {
        let run = lab.start([command]);
        run.wait_for_event(event);
        run.wait_for_event("postgres_off");
        if command == "run" {
            run.wait_for_event("publish_finished");
        }
        run.signal(libc::SIGTERM);
        run.wait_for_success();
        assert_eq!(run.events("postgres_off").len(), 1);
        assert_eq!(run.events("fx_rates_offline").len(), 1);
        assert_eq!(run.events("group_gave_up"), [] as [Value; 0]);
    }
    // The lake's rates are none of the transactions' business.
    lab.run_until_drained();
    lab.assert_exact(common::ROWS);

    lab.set("POSTGRES", "off");
    let batch = lab.start(["batch"]);
    batch.wait_for_event("fx_rates_kept");
    batch.signal(libc::SIGTERM);
    batch.wait_for_success();
    assert_eq!(batch.events("postgres_off").len(), 0);
}

#[test]
fn a_run_by_hand_says_and_does_what_a_scheduled_one_does() {
    let api = FxApi::start(Reply::Rates);
    let mut lab = lab("fx-once", &api);
    let once = lab.start(["batch", "--once", "fx"]);
    once.wait_for_success();
    assert_eq!(keys(&once, "fx_rates_written").len(), 1);
    // A run that is made up for later has the rates of its day.
    let late = ["batch", "--once", "fx", "--tick", "2020-02-03T04:05:06Z"];
    for event in ["fx_rates_written", "fx_rates_kept"] {
        let run = lab.start(late);
        run.wait_for_success();
        let key = "fx_rates/2020/02/03/fx_rates_20200203_040506.parquet";
        assert_eq!(keys(&run, event), [key]);
    }
    let asked = api.requests();
    assert_eq!(asked.len(), 2, "{asked:?}");
    assert!(asked[1].starts_with("GET /v1/historical?date=2020-02-03&"));
    assert_eq!(assert_whole(&lab), 2);

    api.set(Reply::Status(401, ("", "")));
    let other = ["batch", "--once", "fx", "--tick", "2020-02-04T00:00:00Z"];
    let refused = lab.start(other);
    let (code, message) = refused.wait_for_failure();
    assert_eq!(code, 1, "{message}");
    assert!(message.contains("FREECURRENCYAPI_API_KEY"), "{message}");
    assert_eq!(refused.events("fx_rates_failed").len(), 1);

    let wrong = |lab: &Lab, args: &[&str], said: &str| {
        let (code, message) = lab.start(args).wait_for_failure();
        assert_eq!(code, 2, "{message}");
        assert!(message.contains(said), "{message}");
    };
    let future = ["batch", "--once", "fx", "--tick", "2999-01-01T00:00:00Z"];
    wrong(&lab, &future, "is in the future");
    wrong(&lab, &["batch", "--once", "users"], "POSTGRES is off");
    lab.set("INGEST_FX_SCHEDULE", "off");
    wrong(&lab, &["batch"], "there is no job to run");
    lab.set("INGEST_FX_SCHEDULE", "61 * * * *");
    wrong(&lab, &["batch"], "`61` is not a valid minute");
}

#[test]
fn a_lake_that_is_away_is_waited_for_and_the_rates_are_not_asked_for_again() {
    let api = FxApi::start(Reply::Rates);
    let mut lab = lab("fx-lake", &api);
    let batch = lab.start(["batch"]);
    batch.wait_for_event("fx_rates_written");
    std::fs::rename(lab.path("lake"), lab.path("away")).unwrap();
    batch.wait_for_event("lake_unavailable");
    let asked = api.requests().len();
    batch.wait_for_event("job_overrun");
    assert_eq!(api.requests().len(), asked);
    let before = batch.events("fx_rates_written").len();
    std::fs::rename(lab.path("away"), lab.path("lake")).unwrap();
    batch.wait_for_event("lake_recovered");
    batch.wait_for_events("fx_rates_written", before + 2);
    assert_eq!(batch.events("stage_failed"), [] as [Value; 0]);
    batch.signal(libc::SIGTERM);
    batch.wait_for_success();
    assert_whole(&lab);

    // One that refuses for good ends the job with the remedy.
    std::fs::rename(lab.path("lake/fx_rates"), lab.path("away")).unwrap();
    std::fs::write(lab.path("lake/fx_rates"), "a file").unwrap();
    lab.set("INGEST_FX_SCHEDULE", NEVER);
    let (code, message) = lab.start(["batch"]).wait_for_failure();
    assert_eq!(code, 1, "{message}");
    assert!(message.contains("lake/fx_rates"), "{message}");
}
