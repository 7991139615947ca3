//! The pages' server as the settings have it: where it listens, whom it answers, what it shows.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use ftap_dashboard::{Access, Answers, Dashboard, History, OffJob, Server, Token, serve};
use ftap_query::Limits;
use ftap_supervision::{Controls, Health};
use ftap_telemetry::events::{HttpListening, SettingDoubtful, Speaker};
use ftap_watch::Watched;
use metrics_exporter_prometheus::PrometheusHandle;

use crate::commands::fraud::model_file;
use crate::commands::query::sources;
use crate::config::Config;
use crate::exit::BadUsage;
use crate::messages::TopicMessages;
use crate::process;

/// Ports after the default one that are tried, in order, before any free one is taken.
const NEXT_PORTS: u16 = 20;
/// What the queries of all pages may take.
const QUERY_LIMITS: Limits = Limits {
    memory_bytes: 1_000_000_000,
    spill_bytes: 2_000_000_000,
    time: Duration::from_secs(30),
};

/// What the pages show.
pub(crate) struct Parts {
    /// `run`, `produce`, `serve` and so on.
    pub command: &'static str,
    /// Whether the process has a lake.
    pub reads_lake: bool,
    /// What the groups are doing.
    pub health: Arc<Health>,
    /// Has them do what people ask for.
    pub controls: Controls,
    /// What is seen of the platform's services; nothing but in `ftap serve`.
    pub watched: Arc<Watched>,
    /// Jobs that the settings may turn off.
    pub optional_jobs: Vec<OffJob>,
    /// Renders `/metrics`.
    pub prometheus: PrometheusHandle,
    /// When the process started.
    pub started: Instant,
}

/// A server that listens, until it is dropped.
pub(crate) struct Http {
    _server: Server,
    url: String,
}

impl Http {
    /// Its address for a browser.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }
}

fn answers(config: &Config) -> anyhow::Result<Answers> {
    Answers::new(
        config.lake(),
        sources(),
        QUERY_LIMITS,
        process::yield_to_others,
    )
    .context("the threads of the pages' queries can't be started")
}

/// Serves on DASHBOARD_ADDR; `None` if that is off. If the default port is in use, the next free one
/// is taken, so that `produce` and `consume` run on one machine; one that was set is an error.
pub(crate) fn start(config: &Config, parts: Parts) -> anyhow::Result<Option<Http>> {
    let Some(addr) = config.dashboard_addr else {
        return Ok(None);
    };
    let listener = match std::net::TcpListener::bind(addr) {
        Ok(listener) => listener,
        Err(error) => on_bind_error(config, addr, &error)?,
    };
    let addr = listener
        .local_addr()
        .context("the dashboard's address is unknown")?;
    let access = Access {
        token: config
            .dashboard_token
            .as_ref()
            .map(|token| Token::new(token.expose())),
        // Beyond loopback the token protects: a page elsewhere does not have it.
        only_this_machine: addr.ip().is_loopback() || config.dashboard_only_localhost,
    };
    let answers = parts.reads_lake.then(|| answers(config)).transpose()?;
    let dashboard = Dashboard {
        command: parts.command,
        health: parts.health,
        controls: parts.controls,
        watched: parts.watched,
        prometheus: parts.prometheus,
        started: parts.started,
        cpu_time: process::cpu_time,
        memory_bytes: process::memory_bytes,
        answers,
        messages: Some(Box::new(TopicMessages::new(config))),
        optional_jobs: parts.optional_jobs,
        history: History::default(),
        fraud_model: model_file(config),
    };
    let server = serve(listener, dashboard, access).context("the dashboard can't be served")?;
    let url = format!("http://{addr}");
    HttpListening { url: url.clone() }.emit(Speaker::PROCESS);
    Ok(Some(Http {
        _server: server,
        url,
    }))
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
        .with_context(|| format!("no free port on {} for the dashboard", addr.ip()))?;
    let taken = listener
        .local_addr()
        .context("the dashboard's address is unknown")?;
    SettingDoubtful {
        setting: "DASHBOARD_ADDR".to_owned(),
        detail: format!(
            "{addr} is in use, so the dashboard is on http://{taken}; set DASHBOARD_ADDR to choose a port"
        ),
    }
    .emit(Speaker::PROCESS);
    Ok(listener)
}
