//! docker-compose.yml, without Docker: every service's command with exactly its environment, mounts,
//! health check, order, restart policy and stop, as plain processes against one another.
//!
//! Kafka is the embedded broker, with KAFKA_BROKER an Apache Kafka of the test's own that the image's
//! set-up configures from the file's environment.
use std::process::Command;

use crate::common;
use crate::common::compose::{ComposeFile, Condition, Image, Variables};
use crate::common::containers::{Container, Event, Project};
use crate::common::http::get;
use crate::common::verdict::Verdict;
use crate::common::{container_postgres, not_run, speed_for, wait_until};
use serde_json::Value;

const ROWS: u64 = 10_000;
const OURS: [&str; 6] = [
    "data",
    "transactions_producer",
    "transactions_consumer",
    "batch-cron",
    "cdc",
    "dashboard",
];

#[test]
fn what_is_open_and_allowed_is_the_least() {
    let file = ComposeFile::read(&Variables::new());
    let original = [
        "kafka",
        "postgres",
        "transactions_producer",
        "transactions_consumer",
        "batch-cron",
    ];
    for name in original.iter().chain(&OURS) {
        file.service(name);
    }
    assert_eq!(file.name, "ftap");
    let image = Image::read();
    assert_eq!(image.user, "10001:10001");
    for (name, service) in &file.services {
        assert_eq!(service.cap_drop, ["ALL"], "{name}");
        assert_eq!(service.security_opt, ["no-new-privileges:true"], "{name}");
        // The image writes its settings into its root.
        assert_eq!(service.read_only, name != "kafka", "{name}");
        // No disk is filled by logs.
        assert_eq!(service.logging.driver, "local", "{name}");
        assert!(service.logging.options.contains_key("max-size"), "{name}");
        for port in &service.ports {
            assert!(port.starts_with("127.0.0.1:"), "{name}: {port}");
        }
        // Several containers of it would want the same one.
        assert!(service.ports.is_empty() || name == "dashboard", "{name}");
        if service.is_ours() {
            assert_eq!(service.pull_policy.as_deref(), Some("never"), "{name}");
            // Several builds of one image at a time get in each other's way.
            let builds = (name == "data").then_some(".");
            assert_eq!(service.build.as_deref(), builds, "{name}");
        } else {
            let (_, tag) = service.image.split_once(':').unwrap();
            assert!(tag.starts_with(|c: char| c.is_ascii_digit()), "{name}");
        }
        for mount in service.mounts() {
            let is_of_repository = mount.source.starts_with("./");
            let shown = format!("{name}: {mount:?}");
            assert!(mount.is_read_only || !is_of_repository, "{shown}");
            if service.is_ours() && !is_of_repository {
                assert!(image.owned.contains(&mount.target), "{shown}");
            }
        }
    }
    let waits_for = |name: &str| -> Vec<_> {
        let dependencies = file.service(name).depends_on.iter();
        dependencies
            .map(|(on, of)| (on.as_str(), of.condition))
            .collect()
    };
    let (is_healthy, is_done) = (
        Condition::ServiceHealthy,
        Condition::ServiceCompletedSuccessfully,
    );
    let kafka = ("kafka", is_healthy);
    let (postgres, data) = (("postgres", is_healthy), ("data", is_done));
    assert_eq!(waits_for("transactions_producer"), [data, kafka]);
    assert_eq!(waits_for("transactions_consumer"), [kafka]);
    assert_eq!(waits_for("batch-cron"), [data, postgres]);
    assert_eq!(waits_for("cdc"), [data, postgres]);
    assert_eq!(waits_for("dashboard"), []);
    let writers: Vec<_> = OURS
        .iter()
        .filter(|name| {
            let mounts = file.service(name).mounts();
            mounts
                .iter()
                .any(|mount| mount.target == "/lake" && !mount.is_read_only)
        })
        .collect();
    assert_eq!(writers, [&"transactions_consumer", &"batch-cron", &"cdc"]);
}

#[test]
fn without_any_setting_every_service_has_settings_that_it_takes() {
    let project = Project::new(&[]);
    for service in OURS {
        let output = project
            .run(service, &["config", "--json"])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{service}: {said}");
        assert!(!said.contains("setting_doubtful"), "{service}: {said}");
        let shown: Value = serde_json::from_slice(&output.stdout).unwrap();
        let known: Vec<_> = shown.as_array().unwrap().iter().collect();
        let value = |name: &str| {
            let found = known.iter().find(|setting| setting["setting"] == name);
            found.unwrap_or_else(|| panic!("{name} is not a setting"))["value"].clone()
        };
        for name in project.file.service(service).environment.keys() {
            value(name);
        }
        assert!(value("GCS_BUCKET_NAME").is_null());
        let events = value("EVENTS_FILE").as_str().unwrap().to_owned();
        assert!(events.ends_with("/data/prepared/credit_card_transactions_events.csv"));
    }
}

#[test]
fn a_key_file_is_found_in_credentials_by_its_name_alone() {
    let project = Project::new(&[
        ("GCS_BUCKET_NAME", "my-lake"),
        ("GOOGLE_APPLICATION_CREDENTIALS", "key.json"),
    ]);
    let services = ["transactions_consumer", "batch-cron", "cdc", "dashboard"];
    let config = |service| project.run(service, &["config"]).output().unwrap();
    for service in services {
        let output = config(service);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{service}: {said}");
        assert!(said.contains("GOOGLE_APPLICATION_CREDENTIALS"), "{said}");
    }
    std::fs::write(project.path("credentials/key.json"), "{}").unwrap();
    for service in services {
        let output = config(service);
        assert!(output.status.success(), "{service}: {output:?}");
    }
}

/// Settings of a test that is in a hurry, and some that are meant for processes outside of containers.
fn dot_env() -> Vec<(&'static str, String)> {
    let text = |text: &str| text.to_owned();
    vec![
        ("GENERATE_ROWS", ROWS.to_string()),
        ("PRODUCE_SPEED", speed_for(6)),
        ("GCS_FLUSH_SECONDS", text("0.5")),
        ("UPDATE_USERS_SCHEDULE", text("* * * * * *")),
        ("KAFKA_SESSION_TIMEOUT_MS", text("6000")),
        ("RESTART_INITIAL_BACKOFF_MS", text("50")),
        ("DATA_DIR", text("elsewhere")),
        ("LAKE_DIR", text("elsewhere")),
        ("EVENTS_FILE", text("elsewhere.csv")),
        ("DASHBOARD_ADDR", text("off")),
        ("LOG_FORMAT", text("text")),
        ("POSTGRES", text("off")),
        ("FREECURRENCYAPI_API_KEY", text("")),
    ]
}

fn named<'a>(running: &'a [Container], name: &str) -> &'a Container {
    running
        .iter()
        .find(|container| container.name == name)
        .unwrap()
}

#[test]
fn up_kill_and_stop_work_and_every_row_and_change_is_in_the_lake() {
    if container_postgres::programs().is_none() {
        not_run("PostgreSQL's programs are not there: apt-get install postgresql");
        return;
    }
    let settings = dot_env();
    let settings: Vec<_> = settings
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    let project = Project::new(&settings);
    let (mut running, events) = project.up(&["transactions_consumer"]);
    assert_eq!(running.len(), project.file.services.len() + 1);
    let at = |event: Event| {
        let found = events.iter().position(|seen| *seen == event);
        found.unwrap_or_else(|| panic!("no {event:?} in {events:?}"))
    };
    let started = |name: &str| at(Event::Started(name.to_owned()));
    let healthy = |name: &str| at(Event::Healthy(name.to_owned()));
    let done = |name: &str| at(Event::Done(name.to_owned()));
    assert!(
        healthy("kafka") < started("transactions_producer"),
        "{events:?}"
    );
    assert!(
        done("data") < started("transactions_producer"),
        "{events:?}"
    );
    for name in ["transactions_consumer", "transactions_consumer-2"] {
        assert!(healthy("kafka") < started(name), "{events:?}");
    }
    for name in ["batch-cron", "cdc"] {
        assert!(healthy("postgres") < started(name), "{events:?}");
        assert!(done("data") < started(name), "{events:?}");
    }
    assert!(
        started("dashboard") < healthy("kafka"),
        "it depends on no service"
    );

    // One of two consumers is killed while rows stream, and restarted as its policy says.
    let place = running
        .iter()
        .position(|container| container.name == "transactions_consumer")
        .unwrap();
    let killed = running.remove(place);
    killed.process.kill();
    let service = project.file.service(&killed.service);
    assert!(service.is_restarted(true));
    let again = project.start(&killed.name, &killed.service);
    wait_until("health after the restart", || {
        project.check_patience(&again);
        project.is_healthy(&again).then_some(())
    });
    running.push(again);

    let producer = named(&running, "transactions_producer");
    let end = producer.process.wait();
    assert!(end.success(), "{end}: {}", producer.process.tail());
    let restarts = |failed| {
        project
            .file
            .service("transactions_producer")
            .is_restarted(failed)
    };
    assert!(restarts(true) && !restarts(false));

    let status = wait_until("the dashboard to show all of it", || {
        let status = published(&project, "localhost:8080", "/api/status")?;
        let platform = &status["platform"];
        let figures = |source: &str| platform[source]["figures"].clone();
        let objects = |folder: &str| {
            figures("lake")["folders"][folder]["objects"]
                .as_u64()
                .unwrap_or(0)
        };
        let is_read = figures("kafka")["lag"] == 0 && objects("transactions") > 0;
        let has_changes = objects("users_changes") > 1 && objects("merchants_changes") > 0;
        let has_rates = objects("fx_rates") > 0;
        let is_captured = figures("postgres")["slot"]["active"] == true;
        (is_read && has_changes && has_rates && is_captured && status["ready"] == true)
            .then_some(status)
    });
    assert_eq!(status["command"], "serve");
    let rows = &status["platform"]["postgres"]["figures"]["rows"];
    assert!(rows["users"].as_u64().unwrap() > 100, "{rows}");
    assert!(rows["merchants"].as_u64().unwrap() > 100, "{rows}");
    assert_eq!(published(&project, "evil.example", "/api/status"), None);

    let verdict = Verdict::of(project.run("dashboard", &["verify", "--json"]));
    verdict.assert_exact();
    assert_eq!(verdict.total("file"), ROWS, "{verdict}");

    project.stop(&running);
    for container in &running {
        for line in container.process.messages().lines() {
            // Servers that are not ours log text.
            let is_ours = project.file.service(&container.service).is_ours();
            assert!(!is_ours, "{} said {line}", container.name);
        }
    }
}

/// The published port's JSON, `None` for any answer but a good one.
fn published(project: &Project, host: &str, path: &str) -> Option<Value> {
    let published = &project.file.service("dashboard").ports[0];
    let parts: Vec<_> = published.split(':').collect();
    let port = project.port("dashboard", parts[2].parse().unwrap());
    let answer = get(&format!("{}:{port}", parts[0]), host, path)?;
    (answer.status == 200).then_some(answer.body)
}

#[test]
fn a_volume_that_is_mounted_to_be_read_can_not_be_written() {
    let project = Project::new(&[]);
    let written = |mut command: Command| command.output().unwrap().status.success();
    let arguments = ["generate", "--rows", "10", "--out"];
    for (service, folder, may_write) in [
        ("data", "/data/here", true),
        ("data", "/elsewhere", false),
        ("cdc", "/lake/here", true),
        ("cdc", "/data/here", false),
        ("dashboard", "/lake/here", false),
    ] {
        let root = project.path("containers").join(format!("{service}-run"));
        let folder = common::containers::in_root(&root, folder);
        let mut arguments = arguments.to_vec();
        arguments.push(folder.to_str().unwrap());
        if project.mounts_for_real() || service == "data" {
            let command = project.run(service, &arguments);
            assert_eq!(
                written(command),
                may_write,
                "{service} {}",
                folder.display()
            );
        }
    }
}
