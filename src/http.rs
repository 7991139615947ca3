//! The status page, `/metrics`, `/healthz` and `/readyz`.
//!
//! Promises to answer while the stages are busy, hang or restart: it has a thread and a runtime of
//! its own. [`guard`] decides who is answered. Slow clients are timed out, and connections are
//! bounded.

mod guard;
mod platform;

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_web::dev::ServerHandle;
use actix_web::http::header;
use actix_web::middleware::from_fn;
use actix_web::web::{self, Data};
use actix_web::{App, HttpMessage as _, HttpRequest, HttpResponse, HttpServer, Resource};
use anyhow::Context as _;
use ftap_supervision::Health;
use ftap_telemetry::events::{HttpListening, SettingDoubtful, Speaker};
use ftap_telemetry::metrics::{self, process as of_process};
use ftap_watch::Watched;
use metrics_exporter_prometheus::PrometheusHandle;
use serde_json::{Value, json};

use crate::config::Config;
use crate::exit::BadUsage;
use crate::process;
use guard::{Access, Trusted, guard};

/// More wait until one of these is done or has timed out.
const MAX_CONNECTIONS: usize = 64;
/// How long a client may take to send its request's head, and for the next one to begin.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// Ports after the default one that are tried, in order, before any free one is taken.
const NEXT_PORTS: u16 = 20;

/// What the pages show.
#[derive(Clone)]
pub(crate) struct Shown {
    /// `run`, `produce`, `serve` and so on.
    pub command: &'static str,
    /// What the groups are doing.
    pub health: Arc<Health>,
    /// What is seen of the platform's services; nothing but in `ftap serve`.
    pub watched: Arc<Watched>,
    /// Renders `/metrics`.
    pub prometheus: PrometheusHandle,
    /// When the process started.
    pub started: Instant,
}

/// A server that listens.
pub(crate) struct Http {
    handle: ServerHandle,
    url: String,
}

impl Http {
    /// Its address for a browser.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }
}

impl Drop for Http {
    fn drop(&mut self) {
        // Whatever is still being answered is of no use any more; the future is not awaited.
        drop(self.handle.stop(false));
    }
}

/// Serves on DASHBOARD_ADDR; `None` if that is off. If the default port is in use, the next free one
/// is taken, so that `produce` and `consume` run on one machine; one that was set is an error.
pub(crate) fn start(config: &Config, shown: Shown) -> anyhow::Result<Option<Http>> {
    let Some(addr) = config.dashboard_addr else {
        return Ok(None);
    };
    let listener = match TcpListener::bind(addr) {
        Ok(listener) => listener,
        Err(error) => on_bind_error(config, addr, &error)?,
    };
    let addr = listener
        .local_addr()
        .context("the status page's address is unknown")?;
    let access = Access {
        token: config.dashboard_token.clone(),
        // Beyond loopback the token protects: a page elsewhere does not have it.
        only_this_machine: addr.ip().is_loopback() || config.dashboard_only_localhost,
    };
    let handle = serve(listener, shown, access)?;
    let url = format!("http://{addr}");
    HttpListening { url: url.clone() }.emit(Speaker::PROCESS);
    Ok(Some(Http { handle, url }))
}

fn on_bind_error(
    config: &Config,
    addr: SocketAddr,
    error: &std::io::Error,
) -> anyhow::Result<TcpListener> {
    let in_use = error.kind() == std::io::ErrorKind::AddrInUse;
    if config.is_set("DASHBOARD_ADDR") || !in_use {
        return Err(BadUsage(format!(
            "DASHBOARD_ADDR is {addr} and can't be listened on: {error}\n  stop what uses it, or set DASHBOARD_ADDR to another port (port 0 takes a free one) or to `off`"
        ))
        .into());
    }
    let listener = (1..=NEXT_PORTS)
        .filter_map(|step| addr.port().checked_add(step))
        .chain([0])
        .find_map(|port| TcpListener::bind((addr.ip(), port)).ok())
        .with_context(|| format!("no free port on {} for the status page", addr.ip()))?;
    let taken = listener
        .local_addr()
        .context("the status page's address is unknown")?;
    SettingDoubtful {
        setting: "DASHBOARD_ADDR".to_owned(),
        detail: format!(
            "{addr} is in use, so the status page is on http://{taken}; set DASHBOARD_ADDR to choose a port"
        ),
    }
    .emit(Speaker::PROCESS);
    Ok(listener)
}

fn serve(listener: TcpListener, shown: Shown, access: Access) -> anyhow::Result<ServerHandle> {
    let (send, receive) = std::sync::mpsc::channel();
    std::thread::Builder::new()
        .name("http".to_owned())
        .spawn(move || {
            actix_web::rt::System::new().block_on(async move {
                let (shown, access) = (Data::new(shown), Data::new(access));
                let server = HttpServer::new(move || {
                    App::new()
                        .app_data(shown.clone())
                        .app_data(access.clone())
                        .wrap(from_fn(guard))
                        .configure(routes)
                })
                .workers(1)
                // Signals are the program's own business.
                .disable_signals()
                .client_request_timeout(REQUEST_TIMEOUT)
                .client_disconnect_timeout(REQUEST_TIMEOUT)
                .keep_alive(REQUEST_TIMEOUT)
                .max_connections(MAX_CONNECTIONS)
                .listen(listener)
                .map(|server| server.run());
                match server {
                    Ok(server) => {
                        let _ = send.send(Ok(server.handle()));
                        let _ = server.await;
                    }
                    Err(error) => {
                        let _ = send.send(Err(error));
                    }
                }
            });
        })
        .context("the status page's thread can't be started")?;
    receive
        .recv()
        .context("the status page's thread ended")?
        .context("the status page can't be served")
}

fn routes(app: &mut web::ServiceConfig) {
    app.service(page(
        "/",
        "text/html; charset=utf-8",
        include_str!("http/status.html"),
    ))
    .service(page(
        "/status.css",
        "text/css; charset=utf-8",
        include_str!("http/status.css"),
    ))
    .service(page(
        "/status.js",
        "text/javascript; charset=utf-8",
        include_str!("http/status.js"),
    ))
    .service(read_only("/metrics", |shown| {
        HttpResponse::Ok()
            .content_type("text/plain; version=0.0.4; charset=utf-8")
            .body(metrics(shown))
    }))
    .service(read_only("/healthz", |_| {
        HttpResponse::Ok().json(json!({ "status": "alive" }))
    }))
    .service(read_only_with("/readyz", |shown, request| {
        let ready = is_ready(shown);
        let mut answer = if ready {
            HttpResponse::Ok()
        } else {
            HttpResponse::ServiceUnavailable()
        };
        // Why not is for those who may see everything.
        let trusted = request
            .extensions()
            .get::<Trusted>()
            .is_some_and(|trusted| trusted.0);
        if trusted {
            answer.json(json!({
                "ready": ready,
                "groups": groups(&shown.health),
                "lake": lake(&shown.health),
                "kafka": kafka(&shown.watched),
                "unreadable": shown.health.unreadable(),
                "platform": platform::json(&shown.watched.snapshot()),
            }))
        } else {
            answer.json(json!({ "ready": ready }))
        }
    }))
    .service(read_only("/api/status", |shown| {
        HttpResponse::Ok().json(status(shown))
    }))
    .default_service(web::to(|| async {
        HttpResponse::NotFound()
            .body("there are only /, /metrics, /healthz, /readyz and /api/status here\n")
    }));
}

/// Its groups run, and what it watches answers.
fn is_ready(shown: &Shown) -> bool {
    shown.health.ready() && shown.watched.all_up()
}

fn read_only(path: &str, answer: fn(&Shown) -> HttpResponse) -> Resource {
    let respond = move |shown: Data<Shown>| async move { answer(&shown) };
    for_reading(path)
        .route(web::get().to(respond))
        .route(web::head().to(respond))
}

fn read_only_with(path: &str, answer: fn(&Shown, &HttpRequest) -> HttpResponse) -> Resource {
    let respond =
        move |shown: Data<Shown>, request: HttpRequest| async move { answer(&shown, &request) };
    for_reading(path)
        .route(web::get().to(respond))
        .route(web::head().to(respond))
}

fn page(path: &str, content_type: &'static str, body: &'static str) -> Resource {
    let respond = move || async move { HttpResponse::Ok().content_type(content_type).body(body) };
    for_reading(path)
        .route(web::get().to(respond))
        .route(web::head().to(respond))
}

/// Answers other methods than those it is given routes for.
fn for_reading(path: &str) -> Resource {
    web::resource(path).default_service(web::to(|| async {
        HttpResponse::MethodNotAllowed()
            .insert_header((header::ALLOW, "GET, HEAD"))
            .finish()
    }))
}

fn metrics(shown: &Shown) -> String {
    // Histograms keep their raw samples until they are worked off.
    shown.prometheus.run_upkeep();
    let mut text = shown.prometheus.render();
    text.push_str(&metrics::render_gauges());
    let mut add = |metric, labels, value| metrics::render(&mut text, metric, [(labels, value)]);
    let version = vec![env!("CARGO_PKG_VERSION")];
    add(&of_process::BUILD_INFO, version, 1.0);
    let cpu = process::cpu_time().as_secs_f64();
    add(&of_process::CPU_SECONDS, Vec::new(), cpu);
    if let Some(bytes) = process::memory_bytes() {
        add(&of_process::RESIDENT_MEMORY, Vec::new(), bytes as f64);
    }
    text
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

/// Whether the lake takes files, and if not, since when and why.
fn lake(health: &Health) -> Value {
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

fn status(shown: &Shown) -> Value {
    let now = metrics::Snapshot::now();
    json!({
        "command": shown.command,
        "version": env!("CARGO_PKG_VERSION"),
        "uptime_seconds": shown.started.elapsed().as_secs_f64(),
        "process_memory_bytes": process::memory_bytes(),
        "ready": is_ready(shown),
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
            "last_commit_timestamp_ms": metrics::LAKE_NEWEST.sum().map(|seconds| (seconds * 1000.0) as i64),
        },
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use actix_web::test::{TestRequest, call_service, init_service, read_body_json};
    use ftap_supervision::GroupState;
    use metrics_exporter_prometheus::PrometheusBuilder;

    use super::*;

    #[actix_web::test]
    async fn ready_means_that_every_group_runs_and_otherwise_their_states_are_shown() {
        let health = Arc::new(Health::default());
        let shown = Shown {
            command: "run",
            health: health.clone(),
            watched: Arc::default(),
            prometheus: PrometheusBuilder::new().build_recorder().handle(),
            started: Instant::now(),
        };
        let app = init_service(
            App::new()
                .app_data(Data::new(shown))
                .app_data(Data::new(Access {
                    token: None,
                    only_this_machine: true,
                }))
                .wrap(from_fn(guard))
                .configure(routes),
        )
        .await;
        let ask = || {
            let host = (header::HOST, "127.0.0.1:8080");
            let request = TestRequest::get().uri("/readyz").insert_header(host);
            call_service(&app, request.to_request())
        };

        assert_eq!(ask().await.status(), 503, "no group has started");
        health.set("publish", GroupState::Running, 1);
        health.set("ingest", GroupState::Starting, 1);
        assert_eq!(ask().await.status(), 503);
        health.set("ingest", GroupState::Running, 1);
        assert_eq!(ask().await.status(), 200);
        health.failed("ingest", 1, "gcs_uploader: error: no".to_owned());
        let answer = ask().await;
        assert_eq!(answer.status(), 503);
        let body: Value = read_body_json(answer).await;
        assert_eq!(body["groups"]["ingest"]["state"], "backing_off");
        assert_eq!(
            body["groups"]["ingest"]["last_failure"],
            "gcs_uploader: error: no"
        );
        health.set("ingest", GroupState::Running, 2);
        health.set_unreadable(vec!["partition 1 at offset 7".to_owned()]);
        let answer = ask().await;
        assert_eq!(answer.status(), 503);
        let body: Value = read_body_json(answer).await;
        assert_eq!(body["unreadable"][0], "partition 1 at offset 7");
        health.set_unreadable(Vec::new());
        assert_eq!(ask().await.status(), 200);
    }
}
