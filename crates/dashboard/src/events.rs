//! Server-sent events: once a second what the pages show live.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::sse::{Event, Sse};
use ftap_supervision::GroupState;
use ftap_telemetry::metrics;
use futures::{FutureExt as _, Stream, stream};
use serde_json::{Value, json};
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::{Dashboard, status};

/// Browsers connect again afterwards, so that no connection lasts indefinitely.
pub(crate) const LENGTH: Duration = Duration::from_secs(120);
const INTERVAL: Duration = Duration::from_secs(1);

pub(crate) async fn events(
    State(dashboard): State<Arc<Dashboard>>,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let end = Instant::now() + LENGTH;
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let load = Load::new(&dashboard);
    Sse::new(stream::unfold(
        (dashboard, ticks, load),
        move |(dashboard, mut ticks, mut load)| async move {
            ticks.tick().await;
            if Instant::now() >= end {
                return None;
            }
            let is_busy = load.is_high(&dashboard);
            let now = live(dashboard.clone(), is_busy).boxed().await;
            let event = Event::default().data(now.to_string());
            Some((Ok(event), (dashboard, ticks, load)))
        },
    ))
}

/// What the process needs of the processor, from one look to the next.
struct Load {
    looked: Instant,
    cpu_time: Duration,
}

impl Load {
    fn new(dashboard: &Dashboard) -> Self {
        Self {
            looked: Instant::now(),
            cpu_time: (dashboard.cpu_time)(),
        }
    }

    /// Whether that was more than half of all cores since the last look.
    fn is_high(&mut self, dashboard: &Dashboard) -> bool {
        let last = std::mem::replace(self, Self::new(dashboard));
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let used = self.cpu_time.saturating_sub(last.cpu_time).as_secs_f64();
        used > 0.5 * cores as f64 * self.looked.duration_since(last.looked).as_secs_f64()
    }
}

/// What changes by itself: the line at the top, and the number of the lake's moment, with which the page knows
/// that its cards are old.
async fn live(dashboard: Arc<Dashboard>, is_busy: bool) -> Value {
    let moment = match &dashboard.answers {
        Some(answers) => answers.number(is_busy).await.ok(),
        None => None,
    };
    let (state, text) = line(&dashboard);
    json!({ "state": state, "text": text, "moment": moment })
}

/// How the platform is, in a word for the style and a few for people.
pub(crate) fn line(dashboard: &Dashboard) -> (&'static str, String) {
    let health = &dashboard.health;
    if let Some(down) = health.lake_down() {
        return ("bad", format!("the lake takes nothing: {}", down.reason));
    }
    let groups = health.snapshot();
    let troubled = groups
        .iter()
        .find(|(_, group)| matches!(group.state, GroupState::BackingOff | GroupState::GaveUp));
    if let Some((name, group)) = troubled {
        let why = group
            .last_failure
            .as_deref()
            .unwrap_or("no reason is known");
        let state = group.state.as_str().replace('_', " ");
        return ("bad", format!("{name} {state}: {why}"));
    }
    let ends = dashboard.watched.snapshot().ends;
    if let Some(ends) = ends
        && let (Some(lasts), Some(error)) = (ends.down_for(), &ends.error)
    {
        let seconds = lasts.as_secs();
        return (
            "bad",
            format!("Kafka has not answered for {seconds} s: {error}"),
        );
    }
    if !status::is_ready(dashboard) {
        return (
            "warn",
            format!("ftap {} is not ready yet", dashboard.command),
        );
    }
    let now = metrics::Snapshot::now();
    let paused = groups
        .iter()
        .filter(|(_, group)| group.state == GroupState::Paused);
    let mut text = format!("ftap {}", dashboard.command);
    let mut state = "ok";
    for (name, _) in paused {
        text.push_str(&format!(" · {name} paused"));
        state = "warn";
    }
    if let Some(lag) = now.lag_records {
        text.push_str(&format!(" · lag {lag}"));
    }
    (state, text)
}
