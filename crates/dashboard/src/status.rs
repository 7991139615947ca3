//! The status page, `/metrics`, `/healthz` and `/readyz`.
//!
//! Promises to answer while the stages are busy, hang or restart: it has a thread and a runtime of
//! its own. [`guard`] decides who is answered. No client keeps others out: a connection serves one
//! request and has a few seconds for it, and the oldest makes room for a new one.

mod guard;
mod platform;

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bytes::Bytes;
use ftap_supervision::Health;
use ftap_telemetry::events::{HttpListening, SettingDoubtful, Speaker};
use ftap_telemetry::metrics::{self, process as of_process};
use ftap_watch::Watched;
use http_body_util::Full;
use hyper::header::{self, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use metrics_exporter_prometheus::PrometheusHandle;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::AbortHandle;

use crate::config::Config;
use crate::exit::BadUsage;
use crate::process;
use guard::Access;

/// Of more the oldest is closed.
const MAX_CONNECTIONS: usize = 64;
/// How long a client may take to send its request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// How long it may take to read its answer, too.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(10);
/// Larger heads are refused without being read to their end.
const MAX_HEAD_BYTES: usize = 16 << 10;

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

/// A server that listens, until it is dropped.
pub(crate) struct Http {
    _stop: oneshot::Sender<()>,
    url: String,
}

impl Http {
    /// Its address for a browser.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }
}

/// Serves on DASHBOARD_ADDR; `None` if that is off. If the default port is in use, the next free one
/// is taken, so that `produce` and `consume` run on one machine; one that was set is an error.
pub(crate) fn start(config: &Config, shown: Shown) -> anyhow::Result<Option<Http>> {
    let Some(addr) = config.dashboard_addr else {
        return Ok(None);
    };
    let listener = match std::net::TcpListener::bind(addr) {
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
    let (stop, stopped) = oneshot::channel();
    serve(listener, shown, access, stopped).context("the status page can't be served")?;
    let url = format!("http://{addr}");
    HttpListening { url: url.clone() }.emit(Speaker::PROCESS);
    Ok(Some(Http { _stop: stop, url }))
}

fn on_bind_error(
    config: &Config,
    addr: SocketAddr,
    error: &std::io::Error,
) -> anyhow::Result<std::net::TcpListener> {
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
        .find_map(|port| std::net::TcpListener::bind((addr.ip(), port)).ok())
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

fn serve(
    listener: std::net::TcpListener,
    shown: Shown,
    access: Access,
    stopped: oneshot::Receiver<()>,
) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    listener.set_nonblocking(true)?;
    let listener = {
        let _entered = runtime.enter();
        TcpListener::from_std(listener)?
    };
    let serving = accept(listener, Arc::new((shown, access)));
    std::thread::Builder::new()
        .name("http".to_owned())
        .spawn(move || {
            // Whatever is still being answered at the end is of no use any more.
            runtime.block_on(async {
                tokio::select! {
                    () = serving => {}
                    _ = stopped => {}
                }
            });
        })?;
    Ok(())
}

async fn accept(listener: TcpListener, serving: Arc<(Shown, Access)>) {
    let mut connections = VecDeque::<AbortHandle>::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Out of file descriptors, for instance: those of others may be closed.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        connections.retain(|connection| !connection.is_finished());
        if connections.len() == MAX_CONNECTIONS
            && let Some(oldest) = connections.pop_front()
        {
            oldest.abort();
        }
        let answering = tokio::time::timeout(CONNECTION_TIMEOUT, answer(stream, serving.clone()));
        connections.push_back(tokio::spawn(answering).abort_handle());
    }
}

/// One request. An error means that the client is gone.
async fn answer(stream: TcpStream, serving: Arc<(Shown, Access)>) {
    let respond = service_fn(|request| {
        let (shown, access) = &*serving;
        std::future::ready(Ok::<_, Infallible>(respond(shown, access, &request)))
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD_BYTES)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), respond);
    let Ok(parts) = connection.without_shutdown().await else {
        return;
    };
    // A connection closed with something unread is reset, and the answer with it.
    let mut stream = parts.io.into_inner();
    if stream.shutdown().await.is_ok() {
        let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
    }
}

type Answer = Response<Full<Bytes>>;

fn respond<B>(shown: &Shown, access: &Access, request: &Request<B>) -> Answer {
    let mut answer = guard::judge(access, request)
        .map_or_else(|refusal| *refusal, |trusted| route(shown, request, trusted));
    guard::add_headers(answer.headers_mut());
    answer
}

fn route<B>(shown: &Shown, request: &Request<B>, trusted: bool) -> Answer {
    let body: fn(&Shown, bool) -> Answer = match request.uri().path() {
        "/" => |_, _| {
            let page = include_str!("http/status.html");
            text(StatusCode::OK, "text/html; charset=utf-8", page)
        },
        "/status.css" => |_, _| {
            let style = include_str!("http/status.css");
            text(StatusCode::OK, "text/css; charset=utf-8", style)
        },
        "/status.js" => |_, _| {
            let script = include_str!("http/status.js");
            text(StatusCode::OK, "text/javascript; charset=utf-8", script)
        },
        "/metrics" => |shown, _| {
            let format = "text/plain; version=0.0.4; charset=utf-8";
            text(StatusCode::OK, format, metrics(shown))
        },
        "/healthz" => |_, _| json_of(StatusCode::OK, &json!({ "status": "alive" })),
        "/readyz" => readiness,
        "/api/status" => |shown, _| json_of(StatusCode::OK, &status(shown)),
        _ => {
            return plain(
                StatusCode::NOT_FOUND,
                "there are only /, /metrics, /healthz, /readyz and /api/status here\n",
            );
        }
    };
    if matches!(*request.method(), Method::GET | Method::HEAD) {
        return body(shown, trusted);
    }
    let mut refusal = plain(StatusCode::METHOD_NOT_ALLOWED, "");
    let allowed = HeaderValue::from_static("GET, HEAD");
    refusal.headers_mut().insert(header::ALLOW, allowed);
    refusal
}

/// Why not is for those who may see everything.
fn readiness(shown: &Shown, trusted: bool) -> Answer {
    let ready = is_ready(shown);
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
    text(code, "application/json", value.to_string())
}

fn plain(code: StatusCode, body: &'static str) -> Answer {
    text(code, "text/plain; charset=utf-8", body)
}

fn text(code: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = code;
    let content_type = HeaderValue::from_static(content_type);
    answer
        .headers_mut()
        .insert(header::CONTENT_TYPE, content_type);
    answer
}

/// Its groups run, and what it watches answers.
fn is_ready(shown: &Shown) -> bool {
    shown.health.ready() && shown.watched.all_up()
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
    use ftap_supervision::GroupState;
    use http_body_util::BodyExt as _;
    use metrics_exporter_prometheus::PrometheusBuilder;

    use super::*;

    #[tokio::test]
    async fn ready_means_that_every_group_runs_and_otherwise_their_states_are_shown() {
        let health = Arc::new(Health::default());
        let shown = Shown {
            command: "run",
            health: health.clone(),
            watched: Arc::default(),
            prometheus: PrometheusBuilder::new().build_recorder().handle(),
            started: Instant::now(),
        };
        let access = Access {
            token: None,
            only_this_machine: true,
        };
        let request = Request::get("/readyz").header(header::HOST, "127.0.0.1:8080");
        let request = request.body(()).unwrap();
        let ask = || respond(&shown, &access, &request);

        assert_eq!(ask().status(), 503, "no group has started");
        health.set("publish", GroupState::Running, 1);
        health.set("ingest", GroupState::Starting, 1);
        assert_eq!(ask().status(), 503);
        health.set("ingest", GroupState::Running, 1);
        assert_eq!(ask().status(), 200);
        health.failed("ingest", 1, "gcs_uploader: error: no".to_owned());
        let answer = ask();
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
        let answer = ask();
        assert_eq!(answer.status(), 503);
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["unreadable"][0], "partition 1 at offset 7");
        health.set_unreadable(Vec::new());
        assert_eq!(ask().status(), 200);
    }
}
