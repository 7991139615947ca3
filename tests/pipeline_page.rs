//! The pipeline's page: what it shows is what the events and `/api/status` say, and what a person asks for there is
//! done.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::common::changes::{USERS, lab, lake, read};
use crate::common::http::address_of;
use crate::common::{Lab, kafka, wait_until};
use crate::shell::{Answer, PATIENCE, Place, Running, get, raw};

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

#[test]
fn the_pipelines_page_shows_its_stages_figures_and_what_is_off() {
    let place = Place::new();
    let mut command = place.ftap(&["run", "--rows", "2000", "--gcs-flush-seconds", "0.2"]);
    command.env("POSTGRES", "off");
    let running = Running::start(command);
    let url = running.url();
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
    // After a put whose file is not counted yet.
    command.env("FTAP_FAILPOINTS", "gcs_uploader.committed=error@1");
    let running = Running::start(command);
    let url = running.url();
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
    let run_url = run.url();
    status_with(&run_url, |status| {
        status["meters"]["rows_committed"] == 2000
    });
    let mut command = place.ftap(&["serve"]);
    command.env("POSTGRES", "off");
    command.env("DASHBOARD_LOOK_SECONDS", "0.5");
    let serve = Running::start(command);
    let url = serve.url();
    let status = status_with(&url, |status| {
        let figures = &status["platform"]["lake"]["figures"]["folders"]["transactions"];
        let partitions = &status["platform"]["kafka"]["figures"]["partitions"];
        figures["objects"].as_u64() > Some(0)
            && partitions.as_array().is_some_and(|all| !all.is_empty())
    });
    // Of all folders' newest objects the newest, not their sum.
    let newest = status["meters"]["last_commit_timestamp_ms"].as_u64();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    assert!(newest.is_some_and(|newest| u128::from(newest) <= now.as_millis()));
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

fn post(url: &str, headers: &str, body: &Value) -> Answer {
    let body = body.to_string();
    let length = body.len();
    raw(
        url,
        &format!(
            "POST /pipeline/command HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
        ),
    )
}

fn command(url: &str, group: &str, command: &str) -> Answer {
    let headers = "Content-Type: application/json\r\nSec-Fetch-Site: same-origin\r\n";
    post(url, headers, &json!({"group": group, "command": command}))
}

/// Has a group that is about to start do something.
fn command_early(url: &str, group: &str, name: &str) {
    let end = Instant::now() + PATIENCE;
    loop {
        let answer = command(url, group, name);
        if answer.status == 200 {
            return;
        }
        assert_eq!(answer.status, 404, "{}", answer.body);
        assert!(Instant::now() < end, "{group} does not start");
    }
}

/// A time in which a stage that is taken for stuck would be restarted several times.
fn wait_for_the_watchdog(url: &str) {
    let uptime = |status: &Value| status["uptime_seconds"].as_f64().unwrap();
    let before = uptime(&get(url, "/api/status").json());
    status_with(url, |status| uptime(status) > before + 2.5);
}

/// Waits until the oldest record of each partition is older than that; the age of the youngest of them, in seconds.
fn wait_for_age_of_lag(url: &str, seconds: f64) -> f64 {
    let end = Instant::now() + PATIENCE;
    loop {
        let metrics = get(url, "/metrics").body;
        let lines = metrics
            .lines()
            .filter(|line| line.starts_with("ftap_consumer_lag_seconds{"));
        let ages: Vec<f64> = lines
            .map(|line| line.rsplit(' ').next().unwrap().parse().unwrap())
            .collect();
        let least = ages.iter().copied().reduce(f64::min);
        if let Some(least) = least.filter(|least| ages.len() == 3 && *least > seconds) {
            return least;
        }
        assert!(Instant::now() < end, "{ages:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn run_with_watchdog(place: &Place, args: &[&str]) -> Running {
    let args = [
        &["run", "--rows", "2000", "--gcs-flush-seconds", "0.2"],
        args,
    ]
    .concat();
    let mut command = place.ftap(&args);
    command.env("POSTGRES", "off");
    command.env("STALL_TIMEOUT_SECONDS", "1");
    Running::start(command)
}

#[test]
fn a_paused_group_holds_rows_back_over_a_restart_and_brings_each_once_when_it_is_resumed() {
    let place = Place::new();
    let running = run_with_watchdog(&place, &[]);
    let url = running.url();
    command_early(&url, "ingest", "pause");
    let commanded = running.event("group_commanded");
    assert_eq!(
        (&commanded["group"], &commanded["command"]),
        (&json!("ingest"), &json!("pause"))
    );
    let is_held = |status: &Value| {
        // Marks of transactions count until they are fetched.
        let lag = status["meters"]["lag_records"].as_u64();
        status["groups"]["ingest"]["state"] == "paused" && lag >= Some(2000)
    };
    status_with(&url, is_held);
    wait_for_the_watchdog(&url);
    let status = status_with(&url, is_held);
    assert_eq!(status["meters"]["records_consumed"], 0, "{status}");
    assert_eq!(status["groups"]["ingest"]["generation"], 1, "{status}");
    assert_eq!(status["ready"], true, "{status}");
    card_with(&url, "pipeline_groups", &["data-command=\"resume\""]);
    // The oldest record waits since it was published, read or not.
    let waited = wait_for_age_of_lag(&url, 1.0);

    let again = command(&url, "ingest", "pause");
    assert_eq!(
        (again.status, again.body.as_str()),
        (409, "ingest is paused already")
    );
    assert_eq!(command(&url, "ingest", "restart").status, 200);
    let restarted =
        |status: &Value| is_held(status) && status["groups"]["ingest"]["generation"] == 2;
    let status = status_with(&url, restarted);
    assert_eq!(status["meters"]["records_consumed"], 0, "{status}");
    assert_eq!(status["meters"]["restarts"], 1, "{status}");
    assert_eq!(status["groups"]["ingest"]["last_failure"], Value::Null);
    wait_for_age_of_lag(&url, waited);
    let counted = "ftap_actor_restarts_total{actor=\"supervisor\",cause=\"asked\"} 1";
    let metrics = get(&url, "/metrics").body;
    assert!(metrics.contains(counted), "{metrics}");
    card_with(
        &url,
        "pipeline_groups",
        &["generation 2, restarted 1 time", ">paused<"],
    );
    let troubles = get(&url, "/cards/pipeline_troubles").body;
    assert!(!troubles.contains("group_restarting"), "{troubles}");

    assert_eq!(command(&url, "ingest", "resume").status, 200);
    let status = status_with(&url, |status| status["meters"]["rows_committed"] == 2000);
    assert_eq!(status["groups"]["ingest"]["state"], "running", "{status}");
    running.signal("-INT");
    assert_eq!(running.end().0, Some(0));
    place.run(&["verify"]).ends_with(0);
}

#[test]
fn a_drain_waits_for_what_is_paused_and_says_so() {
    let place = Place::new();
    let running = run_with_watchdog(&place, &["--until-drained"]);
    let url = running.url();
    command_early(&url, "publish", "pause");
    command_early(&url, "ingest", "pause");
    let waits = running.event("drain_waits");
    assert!(waits["groups"].to_string().contains("publish"), "{waits}");
    let is_held = |status: &Value| {
        ["publish", "ingest"]
            .iter()
            .all(|group| status["groups"][group]["state"] == "paused")
    };
    status_with(&url, is_held);
    wait_for_the_watchdog(&url);
    let status = status_with(&url, is_held);
    assert_eq!(status["meters"]["rows_published"], 0, "{status}");
    assert_eq!(status["meters"]["restarts"], 0, "{status}");

    assert_eq!(command(&url, "publish", "resume").status, 200);
    status_with(&url, |status| {
        status["groups"]["publish"]["state"] == "finished"
    });
    wait_for_the_watchdog(&url);
    let status = get(&url, "/api/status").json();
    assert_eq!(status["groups"]["ingest"]["state"], "paused", "{status}");
    assert_eq!(status["meters"]["records_consumed"], 0, "{status}");
    assert_eq!(command(&url, "ingest", "resume").status, 200);
    running.event("drained");
    assert_eq!(running.end().0, Some(0));

    // Also where nothing is left to be done.
    let running = run_with_watchdog(&place, &["--until-drained"]);
    let url = running.url();
    command_early(&url, "ingest", "pause");
    status_with(&url, |status| {
        status["groups"]["publish"]["state"] == "finished"
            && status["groups"]["ingest"]["state"] == "paused"
    });
    wait_for_the_watchdog(&url);
    assert_eq!(command(&url, "ingest", "resume").status, 200);
    assert_eq!(running.end().0, Some(0));
    place.run(&["verify"]).ends_with(0);
}

#[test]
fn open_files_are_shown_and_a_flush_closes_them_now() {
    let place = Place::new();
    let mut run = place.ftap(&["run", "--rows", "2000", "--gcs-flush-seconds", "600"]);
    run.env("POSTGRES", "off");
    let running = Running::start(run);
    let url = running.url();
    let status = status_with(&url, |status| status["meters"]["records_consumed"] == 2000);
    assert_eq!(status["meters"]["rows_committed"], 0, "{status}");
    let open_rows = || -> u64 {
        let metrics = get(&url, "/metrics").body;
        let lines = metrics
            .lines()
            .filter(|line| line.starts_with("ftap_open_file_rows{"));
        lines
            .map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
            .sum()
    };
    let end = Instant::now() + PATIENCE;
    while open_rows() < 2000 {
        assert!(Instant::now() < end, "{} rows are open", open_rows());
        std::thread::sleep(Duration::from_millis(50));
    }
    let open = get(&url, "/cards/pipeline_open").body;
    assert_eq!(open.matches("<tr><td>").count(), 3, "{open}");

    assert_eq!(command(&url, "ingest", "flush").status, 200);
    for _ in 0..3 {
        assert_eq!(running.event("file_committed")["reason"], "requested");
    }
    status_with(&url, |status| status["meters"]["rows_committed"] == 2000);
    card_with(&url, "pipeline_open", &["None is open"]);
    assert_eq!(open_rows(), 0);
    running.signal("-INT");
    assert_eq!(running.end().0, Some(0));
    place.run(&["verify"]).ends_with(0);
}

#[test]
fn only_the_process_own_pages_may_command_and_only_what_a_group_can_do() {
    let place = Place::new();
    // So slow that the group that publishes is still there.
    let mut run = place.ftap(&["run", "--rows", "2000", "--produce-speed", "1"]);
    run.env("POSTGRES", "off");
    let running = Running::start(run);
    let url = running.url();
    status_with(&url, |status| status["ready"] == true);
    let body = json!({"group": "ingest", "command": "restart"});
    let kind = "Content-Type: application/json\r\n";
    for (headers, code) in [
        (kind.to_owned(), 403),
        (format!("{kind}Origin: http://evil.example\r\n"), 403),
        (format!("{kind}Sec-Fetch-Site: cross-site\r\n"), 403),
        (
            "Content-Type: text/plain\r\nSec-Fetch-Site: same-origin\r\n".to_owned(),
            415,
        ),
    ] {
        assert_eq!(post(&url, &headers, &body).status, code, "{headers}");
    }
    for (group, name, code) in [
        ("nothing", "restart", 404),
        ("ingest", "stop", 400),
        ("ingest", "resume", 409),
        ("report", "pause", 409),
        ("publish", "flush", 409),
    ] {
        assert_eq!(command(&url, group, name).status, code, "{group} {name}");
    }
    let status = get(&url, "/api/status").json();
    assert_eq!(status["meters"]["restarts"], 0, "{status}");
    let groups = get(&url, "/cards/pipeline_groups").body;
    let flushes = groups.matches("data-command=\"flush\"").count();
    assert_eq!(flushes, 1, "{groups}");
    assert!(groups.contains("data-group=\"report\" data-command=\"restart\""));
}

#[test]
fn a_flush_closes_the_files_of_the_change_capture_too() {
    let Some((mut lab, postgres)) = lab("pages-flush-changes") else {
        return;
    };
    lab.set("CDC_FLUSH_SECONDS", "600");
    lab.set("DASHBOARD_ADDR", "127.0.0.1:0");
    let capture = lab.start(["cdc"]);
    let url = address_of(&capture);
    wait_until("the snapshot", || {
        let status = get(&url, "/api/status").json();
        (status["changes"]["connected"] == true).then_some(())
    });
    postgres.sql("UPDATE users SET city = 'Rome'");
    wait_until("the changes in the lake", || {
        // One that comes before the changes do closes nothing, one amid them a file with some.
        let answer = command(&url, "changes", "flush");
        assert_eq!(answer.status, 200, "{}", answer.body);
        let rows = read(lake(&lab), "users");
        let updates = rows.iter().filter(|row| row.op == "update").count();
        (updates as u64 == USERS).then_some(())
    });
}

#[test]
fn rejections_are_counted_in_their_warning_and_lead_to_quarantine() {
    let mut lab = Lab::shared("pages-rejected");
    lab.set("DASHBOARD_ADDR", "127.0.0.1:0");
    lab.set("GCS_FLUSH_SECONDS", "0.2");
    lab.start(["produce"]).wait_for_success();
    let odd = Some(b"odd".to_vec());
    // Those of a second in one warning, whichever actor they come to.
    for partition in 0..3 {
        let odd = [odd.clone(), odd.clone()];
        kafka::produce(lab.broker(), lab.topic(), partition, &odd);
    }
    let consume = lab.start(["consume"]);
    let url = address_of(&consume);
    let quarantine = "<a href=\"/messages?in=quarantine\">";
    let parts = ["rejected_total: 6", "ftap dlq list", quarantine];
    card_with(&url, "pipeline_troubles", &parts);
    let parts = ["<p class=\"value\">6</p>", quarantine];
    card_with(&url, "pipeline_figures", &parts);
    let parts = ["dead-letter topic", quarantine];
    card_with(&url, "lake_sets", &parts);
}
