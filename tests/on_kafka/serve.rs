//! `ftap serve` shows what the platform's services look like, and suffers from none of them.
use crate::common::http::{Answer, address_of, get};
use crate::common::postgres::Server;
use crate::common::process::Ftap;
use crate::common::warehouse::Warehouse;
use crate::common::{Lab, ROWS, wait_until};
use ftap_testing::gcs::{Fault, Operation, Rule, Times};
use serde_json::Value;

/// A schedule whose time does not come during a test: only the run at start.
const NEVER: &str = "0 0 1 1 *";

fn lab(name: &str) -> Lab {
    let mut lab = Lab::shared(name);
    lab.set("DASHBOARD_ADDR", "127.0.0.1:0");
    lab.set("DASHBOARD_LOOK_SECONDS", "0.5");
    lab
}

fn ask(serve: &Ftap, path: &str) -> Answer {
    get(&address_of(serve), "localhost", path).unwrap()
}

/// The source as it is shown, once it is as wanted.
fn source(serve: &Ftap, name: &str, is_wanted: impl Fn(&Value) -> bool) -> Value {
    let mut reported = Value::Null;
    wait_until(name, || {
        let shown = ask(serve, "/api/status").body["platform"][name].clone();
        if is_wanted(&shown) {
            return Some(shown);
        }
        if shown["error"] != reported["error"] {
            eprintln!("{name} is {shown}");
            reported = shown;
        }
        None
    })
}

fn is_up(source: &Value) -> bool {
    source["up"] == true
}

fn is_down_because(reason: &str) -> impl Fn(&Value) -> bool {
    move |source| {
        let error = source["error"].as_str().unwrap_or_default();
        source["up"] == false && error.contains(reason)
    }
}

fn sum(partitions: &Value, figure: &str) -> u64 {
    let partitions = partitions.as_array().unwrap().iter();
    partitions.map(|of| of[figure].as_u64().unwrap()).sum()
}

#[test]
fn a_postgresql_that_no_setting_asks_for_is_off_and_serve_is_ready_without_it() {
    let mut lab = lab("serve-off");
    lab.set("POSTGRES", "auto");
    lab.start(["produce", "--dashboard-addr", "off"])
        .wait_for_success();
    lab.start(["consume", "--until-drained", "--dashboard-addr", "off"])
        .wait_for_success();
    let serve = lab.start(["serve"]);
    let postgres = source(&serve, "postgres", |source| !source["off"].is_null());
    assert!(postgres["up"].is_null(), "{postgres}");
    wait_until("readiness", || {
        (ask(&serve, "/readyz").status == 200).then_some(())
    });
    let up = serve.metric("ftap_service_up{service=\"postgres\"}");
    assert_eq!(up, None, "an alert would fire");
    assert_eq!(serve.events("source_off").len(), 1);

    lab.set("POSTGRES", "on");
    let serve = lab.start(["serve"]);
    source(
        &serve,
        "postgres",
        is_down_because("POSTGRES_HOST is not set"),
    );
    assert_eq!(ask(&serve, "/readyz").status, 503);
}

#[test]
fn a_process_without_a_lake_shows_none() {
    let mut lab = lab("no-lake");
    lab.set("PRODUCE_SPEED", "1");
    let produce = lab.start(["produce"]);
    wait_until("readiness", || {
        (ask(&produce, "/readyz").status == 200).then_some(())
    });
    for path in ["/readyz", "/api/status"] {
        let answer = ask(&produce, path);
        assert!(answer.body["lake"].is_null(), "{path}: {}", answer.body);
    }
    let consume = lab.start(["consume"]);
    wait_until("the lake's answer", || {
        (ask(&consume, "/readyz").body["lake"]["up"] == true).then_some(())
    });
}

#[test]
fn what_is_down_is_shown_with_the_reason_and_the_rest_continues() {
    let mut lab = lab("serve");
    lab.set("POSTGRES", "on");
    lab.set("POSTGRES_HOST", "127.0.0.1");
    // Nothing listens there.
    lab.set("POSTGRES_PORT", "1");
    let serve = lab.start(["serve"]);
    let kafka = source(&serve, "kafka", is_up);
    assert_eq!(kafka["figures"]["topic"], lab.topic());
    source(&serve, "lake", is_down_because("find the lake's folder"));
    source(&serve, "postgres", is_down_because("127.0.0.1:1"));
    assert_eq!(ask(&serve, "/healthz").status, 200);
    let ready = ask(&serve, "/readyz");
    assert_eq!((ready.status, &ready.body["ready"]), (503, &false.into()));
    assert_eq!(ready.body["platform"]["kafka"]["up"], true);

    // Published and not read: all of it is lag.
    lab.set("POSTGRES", "off");
    lab.set("DASHBOARD_ADDR", "off");
    lab.start(["produce"]).wait_for_success();
    let kafka = source(&serve, "kafka", |kafka| {
        kafka["figures"]["lag"].as_u64().unwrap_or(0) >= ROWS
    });
    let partitions = &kafka["figures"]["partitions"];
    assert_eq!(sum(partitions, "lag"), sum(partitions, "end"));

    // Read: no lag, although marks of transactions come after the last records.
    lab.start(["consume", "--until-drained"]).wait_for_success();
    let kafka = source(&serve, "kafka", |kafka| kafka["figures"]["lag"] == 0);
    let partitions = kafka["figures"]["partitions"].as_array().unwrap().clone();
    // Each service is looked at by itself: the lake's figures may be those of a moment before.
    let lake = source(&serve, "lake", |lake| {
        lake["figures"]["folders"]["transactions"]["objects"] == lab.objects().len()
    });
    for partition in &partitions {
        let end = &lake["figures"]["chain_ends"][partition["partition"].to_string()];
        assert_eq!(*end, partition["committed"], "{lake}");
        assert!(
            partition["end"].as_u64() > end.as_u64(),
            "there are no marks"
        );
    }
    let transactions = &lake["figures"]["folders"]["transactions"];
    assert_eq!(transactions["complete"], true);

    // Taken away and put back.
    std::fs::rename(lab.path("lake"), lab.path("away")).unwrap();
    let lake = source(&serve, "lake", is_down_because("use the lake's folder"));
    assert_eq!(
        lake["figures"]["folders"]["transactions"], *transactions,
        "the last that was seen"
    );
    assert!(is_up(&source(&serve, "kafka", |_| true)));
    std::fs::rename(lab.path("away"), lab.path("lake")).unwrap();
    source(&serve, "lake", is_up);
    // Once for each reason, not at each look.
    let of_lake = |event: &Value| event["source"] == "lake";
    let reported = serve
        .events("source_down")
        .into_iter()
        .filter(of_lake)
        .count();
    assert_eq!(reported, 2);

    serve.signal(libc::SIGTERM);
    serve.wait_for_success();
}

#[test]
fn a_broker_that_is_down_is_named_and_the_lake_is_shown() {
    let mut lab = lab("serve-no-broker").without_broker();
    lab.set("KAFKA_BROKER", "127.0.0.1:1");
    std::fs::create_dir(lab.path("lake")).unwrap();
    let serve = lab.start(["serve"]);
    source(&serve, "kafka", is_down_because("127.0.0.1:1"));
    source(&serve, "lake", is_up);
    let postgres = ask(&serve, "/api/status").body["platform"]["postgres"].clone();
    assert!(postgres.is_null(), "POSTGRES is off");
    serve.signal(libc::SIGTERM);
    serve.wait_for_success();
}

#[test]
fn a_bucket_is_counted_and_one_that_refuses_is_shown_with_what_is_missing() {
    let mut warehouse = Warehouse::new("serve");
    warehouse.lab.set("KAFKA_BROKER", "127.0.0.1:1");
    warehouse.write_fx("2020-01-30", "2020-03-02");
    warehouse.lab.set("DASHBOARD_ADDR", "127.0.0.1:0");
    warehouse.lab.set("DASHBOARD_LOOK_SECONDS", "0.5");
    let serve = warehouse.lab.start(["serve"]);
    let lake = source(&serve, "lake", is_up);
    let rates = &lake["figures"]["folders"]["fx_rates"];
    assert_eq!(rates["objects"], 33, "{rates}");
    let forbidden = Rule::new(Operation::List, Times::Always, Fault::Status(403));
    warehouse.bucket.set_rules(vec![forbidden]);
    source(&serve, "lake", is_down_because("storage.objects.list"));
    warehouse.bucket.clear_rules();
    warehouse.write_fx("2020-03-03", "2020-03-03");
    source(&serve, "lake", |lake| {
        is_up(lake) && lake["figures"]["folders"]["fx_rates"]["objects"] == 34
    });
}

#[test]
fn it_starts_nothing_and_finds_what_others_start() {
    let mut lab = lab("serve-embedded").without_broker();
    lab.set("POSTGRES", "on");
    lab.set("DATA_DIR", lab.path("own"));
    let serve = lab.start(["serve"]);
    source(&serve, "kafka", is_down_because("KAFKA_BROKER is not set"));
    source(
        &serve,
        "postgres",
        is_down_because("POSTGRES_HOST is not set"),
    );
    assert!(!lab.path("own").exists(), "it made its data directory");
    lab.set("DASHBOARD_ADDR", "off");
    let broker = lab.start(["kafka", "--port", "0"]);
    source(&serve, "kafka", is_up);
    broker.signal(libc::SIGTERM);
    broker.wait_for_success();
    source(&serve, "kafka", is_down_because("KAFKA_BROKER is not set"));
}

#[test]
fn postgres_and_its_slot_are_shown_while_it_is_there() {
    let mut lab = lab("serve-postgres");
    let Some(mut server) = Server::start(&mut lab) else {
        return;
    };
    server.as_superuser("ALTER ROLE platform REPLICATION");
    lab.set("UPDATE_USERS_SCHEDULE", NEVER);
    let serve = lab.start(["serve"]);
    let postgres = source(&serve, "postgres", is_up);
    assert_eq!(postgres["figures"]["rows"], serde_json::json!({}));
    lab.set("DASHBOARD_ADDR", "off");
    lab.start(["batch", "--once", "users"]).wait_for_success();
    let cdc = lab.start(["cdc"]);
    let postgres = source(&serve, "postgres", |postgres| {
        postgres["figures"]["slot"]["active"] == true
    });
    let figures = &postgres["figures"];
    assert_eq!(
        figures["rows"]["users"],
        server.number("SELECT count(*) FROM users")
    );
    assert_eq!(figures["slot"]["name"], "ftap_changes");
    cdc.signal(libc::SIGTERM);
    cdc.wait_for_success();
    server.stop();
    source(&serve, "postgres", is_down_because("platform@"));
    server.resume();
    source(&serve, "postgres", is_up);
}

#[test]
fn in_a_container_only_localhost_is_answered_without_a_token() {
    let mut lab = lab("serve-container");
    lab.set("DASHBOARD_ADDR", "0.0.0.0:0");
    let (code, said) = lab.start(["serve"]).wait_for_failure();
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("set DASHBOARD_TOKEN"), "{said}");
    lab.set("DASHBOARD_ONLY_LOCALHOST", "true");
    let serve = lab.start(["serve"]);
    let address = address_of(&serve);
    let status = |host: &str, path: &str| get(&address, host, path).unwrap().status;
    assert_eq!(status("localhost:8080", "/api/status"), 200);
    assert_eq!(status("127.0.0.1", "/"), 200);
    for host in ["evil.example", "dashboard:8080", "192.168.0.7:8080"] {
        assert_eq!(status(host, "/api/status"), 403, "{host}");
    }

    // The health check needs to know the address, and no token.
    let port = address.rsplit(':').next().unwrap();
    lab.set("DASHBOARD_ADDR", format!("0.0.0.0:{port}"));
    lab.set("DASHBOARD_ONLY_LOCALHOST", "false");
    lab.start(["health"]).wait_for_success();
    serve.kill();
    let (code, said) = lab.start(["health"]).wait_for_failure();
    assert_eq!(code, 1, "{said}");
}

#[test]
fn without_a_page_there_is_nothing_to_serve() {
    let mut lab = lab("serve-off");
    lab.set("DASHBOARD_ADDR", "off");
    let (code, said) = lab.start(["serve"]).wait_for_failure();
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("DASHBOARD_ADDR is off"), "{said}");
}
