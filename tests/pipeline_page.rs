//! The pipeline's page: what it shows is what the events and `/api/status` say.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::shell::{Answer, PATIENCE, Place, Running, request};

fn get(url: &str, path: &str) -> Answer {
    request(url, "GET", path, "localhost")
}

/// A card of the page, once it has what is waited for.
#[track_caller]
fn card_with(url: &str, name: &str, parts: &[&str]) -> String {
    let end = Instant::now() + PATIENCE;
    loop {
        let answer = get(url, &format!("/cards/{name}"));
        assert_eq!(answer.status, 200, "{}", answer.body);
        let missing = parts.iter().find(|part| !answer.body.contains(**part));
        let Some(missing) = missing else {
            return answer.body;
        };
        assert!(Instant::now() < end, "no {missing:?} in {}", answer.body);
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn status_with(url: &str, is_wanted: impl Fn(&Value) -> bool) -> Value {
    let end = Instant::now() + PATIENCE;
    loop {
        let status = get(url, "/api/status").json();
        if is_wanted(&status) {
            return status;
        }
        assert!(Instant::now() < end, "{status}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn url_of(running: &Running) -> String {
    let url = running.event("http_listening")["url"].clone();
    url.as_str().unwrap().to_owned()
}

#[test]
fn the_pipelines_page_shows_its_stages_figures_and_what_is_off() {
    let place = Place::new();
    let mut command = place.ftap(&["run", "--rows", "2000", "--gcs-flush-seconds", "0.2"]);
    command.env("POSTGRES", "off");
    let running = Running::start(command);
    let url = url_of(&running);
    let page = get(&url, "/pipeline");
    assert_eq!(page.status, 200);
    assert!(page.body.contains("data-card=\"pipeline_groups\""));
    assert!(
        page.body
            .contains("<a href=\"/pipeline\" aria-current=\"page\">")
    );

    // Every stage that an event names is in the picture, and the ways of `topology.rs`.
    let publish = running.event("group_started");
    let ingest = running.event("group_started");
    let stages = |event: &Value| -> Vec<String> {
        let stages = event["stages"].as_array().unwrap().iter();
        let kind = |stage: &Value| {
            let name = stage.as_str().unwrap();
            name.trim_end_matches(|end: char| end == '_' || end.is_ascii_digit())
                .to_owned()
        };
        stages.map(kind).collect()
    };
    let mut parts = stages(&publish);
    parts.extend(stages(&ingest));
    assert!(parts.len() >= 6, "{parts:?}");
    parts.push("csv_reader sends RowBatch to kafka_publisher".to_owned());
    parts.push("gcs_uploader to lake".to_owned());
    parts.push("generation 1".to_owned());
    let parts: Vec<_> = parts.iter().map(String::as_str).collect();
    card_with(&url, "pipeline_groups", &parts);

    let status = status_with(&url, |status| status["meters"]["rows_committed"] == 2000);
    let committed = format!("2,000 rows in {} files", status["meters"]["files"]);
    card_with(
        &url,
        "pipeline_figures",
        &[&committed, "2,000 of 2,000 rows in the topic"],
    );
    card_with(
        &url,
        "pipeline_speed",
        &["\"name\":\"published\"", "<table>"],
    );
    card_with(&url, "pipeline_lag", &["\"name\":\"seconds\"", "<table>"]);
    let off = card_with(
        &url,
        "pipeline_off",
        &["POSTGRES is off", "BIGQUERY_PROJECT"],
    );
    assert!(!off.contains("INGEST_FX_SCHEDULE"), "that job is on: {off}");
    card_with(&url, "pipeline_watched", &["Kafka", "answers"]);
    assert_eq!(get(&url, "/cards/pipeline_nothing").status, 404);
}

#[test]
fn a_restart_is_shown_with_its_root_cause_and_its_time() {
    let place = Place::new();
    let mut command = place.ftap(&["run", "--rows", "2000", "--gcs-flush-seconds", "0.2"]);
    command.env("POSTGRES", "off");
    command.env("RESTART_INITIAL_BACKOFF_MS", "50");
    // After a put whose file nobody has counted yet.
    command.env("FTAP_FAILPOINTS", "gcs_uploader.committed=error@1");
    let running = Running::start(command);
    let url = url_of(&running);
    let restarting = running.event("group_restarting");
    let cause = restarting["root_cause"].as_str().unwrap();
    assert!(cause.contains("failpoint gcs_uploader"), "{cause}");
    let groups = card_with(
        &url,
        "pipeline_groups",
        &[
            "generation 2, restarted 1 time",
            "newest root cause, 20",
            cause,
        ],
    );
    assert_eq!(groups.matches("restarted").count(), 1, "{groups}");
    card_with(&url, "pipeline_troubles", &["group_restarting", cause]);
    // It recovers, and says so.
    status_with(&url, |status| status["meters"]["rows_committed"] == 2000);
    let status = status_with(&url, |status| status["ready"] == true);
    assert_eq!(status["groups"]["ingest"]["last_failure"], cause);
}

#[test]
fn a_process_that_only_watches_shows_what_it_sees() {
    let place = Place::new();
    let run = place.start(&["run", "--rows", "2000", "--gcs-flush-seconds", "0.2"]);
    let run_url = url_of(&run);
    status_with(&run_url, |status| {
        status["meters"]["rows_committed"] == 2000
    });
    let mut command = place.ftap(&["serve"]);
    command.env("POSTGRES", "off");
    command.env("DASHBOARD_LOOK_SECONDS", "0.5");
    let serve = Running::start(command);
    let url = url_of(&serve);
    let status = status_with(&url, |status| {
        let figures = &status["platform"]["lake"]["figures"]["folders"]["transactions"];
        let partitions = &status["platform"]["kafka"]["figures"]["partitions"];
        figures["objects"].as_u64() > Some(0)
            && partitions.as_array().is_some_and(|all| !all.is_empty())
    });
    let kafka = &status["platform"]["kafka"]["figures"];
    let topic = format!("topic {} at", kafka["topic"].as_str().unwrap());
    let end = kafka["partitions"][0]["end"].to_string();
    card_with(
        &url,
        "pipeline_watched",
        &[
            &topic,
            &format!("<td class=\"number\">{end}</td>"),
            "transactions",
        ],
    );
    let off = card_with(
        &url,
        "pipeline_off",
        &["Watching PostgreSQL", "POSTGRES is off"],
    );
    assert!(off.contains("`ftap batch`"), "{off}");
}
