//! Logs and metrics of the process.
//!
//! Promises one line per event on stderr: a flat JSON object when stderr is not a terminal or
//! `LOG_FORMAT=json`, else text. Every line has `timestamp`, `level`, `event`, `actor` and
//! `generation`; what libraries log appears as `library_message` from WARN up, and what librdkafka
//! reports as `kafka_client_message` at DEBUG, since it fixes those things itself. While the live
//! status is shown, lines go above it and only from WARN up, unless LOG_LEVEL was set.

mod line;
mod notes;

use std::io::{IsTerminal, Write};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use ftap_telemetry::events::{KafkaClientMessage, Speaker};
use ftap_telemetry::{metrics, troubles};
use indicatif::MultiProgress;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use parking_lot::Mutex;
use tracing::level_filters::LevelFilter;
use tracing::subscriber::Interest;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::Registry;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

use crate::config::Config;
use line::{Fields, Shape};
pub(crate) use notes::Notes;

/// Target of the program's own events.
const OWN_TARGET: &str = "ftap";
/// Targets of the embedded services, which know no actors.
const EMBEDDED_TARGETS: [&str; 2] = ["ftap_broker", "ftap_postgres::cluster"];

/// Upper bounds in seconds: a local file takes milliseconds, an upload with retries up to minutes.
const FLUSH_BUCKETS: &[f64] = &[
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0,
];

/// The terminal, shared by log lines and the live status.
#[derive(Debug, Default)]
pub(crate) struct Screen {
    bars: OnceLock<MultiProgress>,
    live: AtomicBool,
    notes: Mutex<Notes>,
}

static SCREEN: Screen = Screen {
    bars: OnceLock::new(),
    live: AtomicBool::new(false),
    notes: parking_lot::const_mutex(Notes::new()),
};

impl Screen {
    /// Where progress bars are drawn; log lines keep clear of them.
    pub(crate) fn bars(&self) -> &MultiProgress {
        self.bars.get_or_init(MultiProgress::new)
    }

    /// While it is live, lines below WARN are held back unless LOG_LEVEL was set.
    pub(crate) fn set_live(&self, live: bool) {
        self.live.store(live, Relaxed);
    }

    /// What events said since the status is live.
    pub(crate) fn notes(&self) -> Notes {
        self.notes.lock().clone()
    }

    fn write_line(&self, line: &str) {
        // A closed stderr must not end the program: there is no reader.
        let write = || {
            let _ = std::io::stderr().lock().write_all(line.as_bytes());
        };
        match self.bars.get() {
            Some(bars) => bars.suspend(write),
            None => write(),
        }
    }
}

/// The process' logs and metrics, once installed.
#[derive(Clone)]
pub(crate) struct Telemetry {
    /// Renders `/metrics`.
    pub prometheus: PrometheusHandle,
    /// Where progress bars are drawn.
    pub screen: &'static Screen,
    /// People watch: stderr is a terminal and logs are text.
    pub interactive: bool,
}

/// Installs logs, metrics and the panic hook. Call once.
pub(crate) fn init(config: &Config) -> anyhow::Result<Telemetry> {
    let terminal = std::io::stderr().is_terminal();
    let shape = if config.log_format.is_json() {
        Shape::Json
    } else {
        Shape::Text {
            color: terminal && std::env::var_os("NO_COLOR").is_none(),
        }
    };
    let layer = LogLayer {
        threshold: config.log_level,
        chosen: config.is_set("LOG_LEVEL"),
        shape,
    };
    let threshold = LevelFilter::from_level(config.log_level);
    tracing::subscriber::set_global_default(Registry::default().with(layer))?;
    log::set_boxed_logger(Box::new(LogBridge))?;
    // librdkafka takes its own verbosity from this when a client is made.
    log::set_max_level(if threshold >= LevelFilter::DEBUG {
        log::LevelFilter::Debug
    } else {
        log::LevelFilter::Warn
    });
    log_panics(shape);

    let prometheus = PrometheusBuilder::new()
        .set_buckets_for_metric(
            Matcher::Full(metrics::FLUSH_SECONDS.name().to_owned()),
            FLUSH_BUCKETS,
        )?
        .install_recorder()?;
    metrics::describe();
    Ok(Telemetry {
        prometheus,
        screen: &SCREEN,
        interactive: terminal && matches!(shape, Shape::Text { .. }),
    })
}

struct LogLayer {
    threshold: Level,
    /// LOG_LEVEL was set, so the live status holds nothing back.
    chosen: bool,
    shape: Shape,
}

/// Whether a target is this program's: its actors', or an embedded service's.
fn is_own(target: &str) -> bool {
    target == OWN_TARGET || is_embedded(target)
}

fn is_embedded(target: &str) -> bool {
    EMBEDDED_TARGETS
        .iter()
        .any(|embedded| target.starts_with(embedded))
}

/// Whether a library's messages say less than what the actors make of the same errors.
fn is_reported_better(target: &str) -> bool {
    ["pgwire_replication", "deadpool.postgres", "tokio_postgres"]
        .iter()
        .any(|library| target.starts_with(library))
}

impl LogLayer {
    fn wants(&self, metadata: &Metadata<'_>) -> bool {
        let threshold = if is_own(metadata.target()) {
            self.threshold
        } else if is_reported_better(metadata.target()) && self.threshold < Level::DEBUG {
            return false;
        } else {
            self.threshold.min(Level::WARN)
        };
        // Also the question whether an event would be written, which is neither event nor span.
        !metadata.is_span() && *metadata.level() <= threshold
    }
}

impl<S: Subscriber> Layer<S> for LogLayer {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.wants(metadata) {
            Interest::always()
        } else {
            Interest::never()
        }
    }

    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        self.wants(metadata)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::from_level(self.threshold))
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if !self.wants(event.metadata()) {
            return;
        }
        let level = *event.metadata().level();
        let mut fields = Fields::default();
        event.record(&mut fields);
        match event.metadata().target() {
            OWN_TARGET => {}
            target if is_own(target) => fields.adopt_embedded(target),
            target => fields.adopt_foreign(target),
        }
        if level <= Level::WARN {
            troubles::note(fields.trouble(level));
        }
        if SCREEN.live.load(Relaxed) {
            SCREEN.notes.lock().take(&fields);
            if !self.chosen && notes::is_held_back(level, &fields) {
                return;
            }
        }
        SCREEN.write_line(&self.shape.render(level, &fields));
    }
}

/// What libraries write through the `log` crate.
struct LogBridge;

impl log::Log for LogBridge {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &log::Record<'_>) {
        let target = record.target();
        if target.starts_with("librdkafka") || target.starts_with("rdkafka") {
            if tracing::enabled!(target: "ftap", Level::DEBUG) {
                let detail = record.args().to_string();
                KafkaClientMessage { detail }.emit(Speaker::PROCESS);
            }
            return;
        }
        let library = record.target();
        match record.level() {
            log::Level::Error => tracing::error!(target: "library", library, "{}", record.args()),
            log::Level::Warn => tracing::warn!(target: "library", library, "{}", record.args()),
            _ => {}
        }
    }

    fn flush(&self) {}
}

/// The error that ends a command, as a line of JSON.
pub(crate) fn failure_line(error: &str, exit_code: u8) -> String {
    let mut fields = Fields::default();
    fields.text("event", "command_failed");
    fields.text("actor", "ftap");
    fields.number("generation", 0);
    fields.text("error", error);
    fields.number("exit_code", exit_code.into());
    Shape::Json.render(Level::ERROR, &fields)
}

/// A panic is a line as every other; supervision tells separately what it does about it.
fn log_panics(shape: Shape) {
    std::panic::set_hook(Box::new(move |panic| {
        let thread = std::thread::current();
        let mut fields = Fields::default();
        fields.text("event", "panicked");
        fields.text("actor", "ftap");
        fields.number("generation", 0);
        let payload = panic.payload();
        let text = payload.downcast_ref::<&str>().copied();
        let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        fields.text("error", text.unwrap_or("a panic without a message"));
        fields.text("thread", thread.name().unwrap_or("unnamed"));
        if let Some(location) = panic.location() {
            fields.text("location", &location.to_string());
        }
        troubles::note(fields.trouble(Level::ERROR));
        SCREEN.write_line(&shape.render(Level::ERROR, &fields));
    }));
}
