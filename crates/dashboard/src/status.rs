//! What machines read: `/metrics`, `/healthz`, `/readyz` and `/api/status`.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use ftap_supervision::Health;
use ftap_telemetry::metrics::{self, process as of_process};
use ftap_watch::Watched;
use hyper::StatusCode;
use serde_json::{Value, json};

use crate::guard::Trusted;
use crate::router::{self, Answer};
use crate::{Dashboard, platform};

/// Why not is for those who may see everything.
pub(crate) async fn ready(
    State(shown): State<Arc<Dashboard>>,
    Extension(Trusted(trusted)): Extension<Trusted>,
) -> Answer {
    let ready = is_ready(&shown);
    let code = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let mut body = json!({ "ready": ready });
    if trusted {
        body["groups"] = groups(&shown.health);
        body["lake"] = lake(&shown.health);
        body["kafka"] = kafka(&shown.watched);
        body["unreadable"] = shown.health.unreadable().into();
        body["platform"] = platform::json(&shown.watched.snapshot());
    }
    json_of(code, &body)
}

fn json_of(code: StatusCode, value: &Value) -> Answer {
    router::text(code, "application/json", value.to_string())
}

/// Its groups run, and what it watches answers.
pub(crate) fn is_ready(shown: &Dashboard) -> bool {
    shown.health.ready() && shown.watched.all_up()
}

/// Figures as Prometheus reads them.
pub(crate) async fn metrics(State(shown): State<Arc<Dashboard>>) -> Answer {
    // Histograms keep their raw samples until they are worked off.
    shown.prometheus.run_upkeep();
    let mut text = shown.prometheus.render();
    text.push_str(&metrics::render_gauges());
    let mut add = |metric, labels, value| metrics::render(&mut text, metric, [(labels, value)]);
    let version = vec![env!("CARGO_PKG_VERSION")];
    add(&of_process::BUILD_INFO, version, 1.0);
    let cpu = (shown.cpu_time)().as_secs_f64();
    add(&of_process::CPU_SECONDS, Vec::new(), cpu);
    if let Some(bytes) = (shown.memory_bytes)() {
        add(&of_process::RESIDENT_MEMORY, Vec::new(), bytes as f64);
    }
    router::text(
        StatusCode::OK,
        "text/plain; version=0.0.4; charset=utf-8",
        text,
    )
}

fn groups(health: &Health) -> Value {
    health
        .snapshot()
        .into_iter()
        .map(|(name, group)| {
            let group = json!({
                "state": group.state.as_str(),
                "generation": group.generation,
                "last_failure": group.last_failure,
            });
            (name.to_owned(), group)
        })
        .collect::<serde_json::Map<_, _>>()
        .into()
}

/// Whether the lake takes files, and if not, since when and why; null while it was not asked.
fn lake(health: &Health) -> Value {
    if !health.has_asked_lake() {
        return Value::Null;
    }
    match health.lake_down() {
        Some(down) => json!({
            "up": false,
            "error": down.reason,
            "down_seconds": down.lasts.as_secs(),
        }),
        None => json!({ "up": true }),
    }
}

/// Whether the stream's Kafka answers, and if not, since when and why; null without a stream.
fn kafka(watched: &Watched) -> Value {
    let Some(ends) = watched.snapshot().ends else {
        return Value::Null;
    };
    match ends.down_for() {
        Some(lasts) => json!({
            "up": false,
            "error": ends.error,
            "down_seconds": lasts.as_secs(),
        }),
        None => json!({ "up": ends.is_up() }),
    }
}

/// Change capture; null where there is none.
fn changes() -> Value {
    metrics::SLOT_CONNECTED
        .get()
        .map_or(Value::Null, |connected| {
            json!({
                "connected": connected > 0.0,
                "committed": metrics::CHANGES_COMMITTED.total(),
                "lag_bytes": metrics::SLOT_LAG_BYTES.get(),
                "lag_seconds": metrics::SLOT_LAG_SECONDS.get(),
                "retained_wal_bytes": metrics::SLOT_RETAINED_BYTES.get(),
            })
        })
}

/// The process alive: nothing else is asked of it.
pub(crate) async fn alive() -> Answer {
    json_of(StatusCode::OK, &json!({ "status": "alive" }))
}

/// Everything that is known of the process and the platform.
pub(crate) async fn status(State(shown): State<Arc<Dashboard>>) -> Answer {
    let now = metrics::Snapshot::now();
    let status = json!({
        "command": shown.command,
        "version": env!("CARGO_PKG_VERSION"),
        "uptime_seconds": shown.started.elapsed().as_secs_f64(),
        "process_memory_bytes": (shown.memory_bytes)(),
        "ready": is_ready(&shown),
        "groups": groups(&shown.health),
        "lake": lake(&shown.health),
        "kafka": kafka(&shown.watched),
        "unreadable": shown.health.unreadable(),
        "changes": changes(),
        "platform": platform::json(&shown.watched.snapshot()),
        "meters": {
            "rows_read": now.rows_read,
            "rows_published": now.rows_published,
            "source_rows_rejected": now.source_rows_rejected,
            "records_consumed": now.records_consumed,
            "rows_committed": now.rows_committed,
            "records_rejected": now.records_rejected,
            "files": now.files,
            "bytes": now.bytes,
            "offsets_skipped": now.offsets_skipped,
            "restarts": now.restarts,
            "memory_bytes": now.memory_bytes,
            "publish_total": now.publish_total,
            "lag_records": now.lag_records,
            "last_commit_timestamp_ms": metrics::LAKE_NEWEST.max().map(|seconds| (seconds * 1000.0) as i64),
        },
    });
    json_of(StatusCode::OK, &status)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::{Duration, Instant};

    use ftap_supervision::{Controls, GroupState};
    use http_body_util::BodyExt as _;
    use metrics_exporter_prometheus::PrometheusBuilder;

    use super::*;

    #[tokio::test]
    async fn ready_means_that_every_group_runs_and_otherwise_their_states_are_shown() {
        let health = Arc::new(Health::default());
        let shown = Arc::new(Dashboard {
            command: "run",
            health: health.clone(),
            controls: Controls::default(),
            watched: Arc::default(),
            prometheus: PrometheusBuilder::new().build_recorder().handle(),
            started: Instant::now(),
            cpu_time: || Duration::ZERO,
            memory_bytes: || None,
            answers: None,
            messages: None,
            optional_jobs: Vec::new(),
            history: crate::History::default(),
            fraud_model: std::path::PathBuf::new(),
        });
        let ask = async || ready(State(shown.clone()), Extension(Trusted(true))).await;

        assert_eq!(ask().await.status(), 503, "no group has started");
        health.set("publish", GroupState::Running, 1);
        health.set("ingest", GroupState::Starting, 1);
        assert_eq!(ask().await.status(), 503);
        health.set("ingest", GroupState::Running, 1);
        assert_eq!(ask().await.status(), 200);
        health.set("ingest", GroupState::Paused, 1);
        assert_eq!(ask().await.status(), 200, "a pause was asked for");
        health.failed("ingest", 1, "gcs_uploader: error: no".to_owned());
        let answer = ask().await;
        assert_eq!(answer.status(), 503);
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["groups"]["ingest"]["state"], "backing_off");
        assert_eq!(
            body["groups"]["ingest"]["last_failure"],
            "gcs_uploader: error: no"
        );
        health.set("ingest", GroupState::Running, 2);
        health.set_unreadable(vec!["partition 1 at offset 7".to_owned()]);
        let answer = ask().await;
        assert_eq!(answer.status(), 503);
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["unreadable"][0], "partition 1 at offset 7");
        health.set_unreadable(Vec::new());
        assert_eq!(ask().await.status(), 200);
    }
}
