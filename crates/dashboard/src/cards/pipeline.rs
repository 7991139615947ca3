//! The parts of the pipeline's page. Each shows this moment; none asks the lake.

use std::collections::BTreeMap;
use std::time::SystemTime;

use askama::Template;
use chrono::{DateTime, SecondsFormat, Utc};
use ftap_supervision::{Command, Graph, GroupState};
use ftap_telemetry::metrics::{self, Snapshot};
use ftap_telemetry::troubles::{self, Trouble};
use ftap_watch::{Ends, KafkaFigures, LakeFigures, PostgresFigures, Seen};
use plotly::{Plot, Scatter};

use super::{CardError, ChartCard, Table, counted, decimal, html};
use crate::history::{COMMITTED, LAG_ROWS, LAG_SECONDS, PUBLISHED, TIME};
use crate::picture::Picture;
use crate::plots::{figure, from_zero, line, two_axes};
use crate::router::Answer;
use crate::rows::Rows;
use crate::{Dashboard, OffJob};

#[derive(Template)]
#[template(path = "pipeline_figures.html")]
struct Figures {
    figures: Vec<Figure>,
}

struct Figure {
    name: &'static str,
    value: String,
    note: String,
    /// A page and the text that leads to it.
    link: Option<(&'static str, &'static str)>,
}

/// Where rejected records are shown.
const QUARANTINE: &str = "/messages?in=quarantine";

pub(super) fn figures(dashboard: &Dashboard) -> Result<Answer, CardError> {
    let now = Snapshot::now();
    let speed = dashboard.history.speed();
    let whole = |number: u64| decimal(number as f64, 0);
    let known =
        |value: Option<f64>| value.map_or_else(|| "not known".to_owned(), |rows| decimal(rows, 0));
    let published = match now.publish_total {
        Some(total) => {
            let done = now.published_before + now.rows_published;
            format!(
                "rows/s; {} of {} rows in the topic",
                whole(done),
                whole(total.max(done))
            )
        }
        None => "rows/s into the topic".to_owned(),
    };
    let committed = match now.rows_committed {
        0 => "rows/s into the lake".to_owned(),
        rows => format!(
            "rows/s; {} in {} by this process",
            counted(rows, "row"),
            counted(now.files, "file")
        ),
    };
    let lag = match metrics::LAG_SECONDS.max() {
        Some(seconds) => format!("rows; the oldest waits for {} s", decimal(seconds, 0)),
        None => "rows that are not in the lake yet".to_owned(),
    };
    let memory = (dashboard.memory_bytes)();
    html(&Figures {
        figures: vec![
            Figure {
                name: "Published",
                value: known(speed.published),
                note: published,
                link: None,
            },
            Figure {
                name: "Into the lake",
                value: known(speed.committed),
                note: committed,
                link: None,
            },
            Figure {
                name: "Lag",
                value: known(now.lag_records.map(|rows| rows as f64)),
                note: lag,
                link: None,
            },
            Figure {
                name: "Rejected",
                value: whole(now.records_rejected),
                note: format!("records; {} restarts", whole(now.restarts)),
                link: (now.records_rejected > 0).then_some((QUARANTINE, "see them")),
            },
            Figure {
                name: "Memory",
                value: known(memory.map(|bytes| bytes as f64 / 1e6)),
                note: format!(
                    "MB; {} MB hold rows for the lake",
                    whole(now.memory_bytes / 1_000_000)
                ),
                link: None,
            },
        ],
    })
}

#[derive(Template)]
#[template(path = "pipeline_groups.html")]
struct Groups {
    groups: Vec<GroupCard>,
}

struct GroupCard {
    name: &'static str,
    state: String,
    class: &'static str,
    generation: u64,
    restarts: u64,
    failure: Option<String>,
    failed_at: Option<String>,
    commands: Vec<CommandButton>,
    picture: Picture,
    /// The picture in words.
    text: String,
    /// Too wide for half of the page.
    is_wide: bool,
}

/// What a person may ask of the group.
struct CommandButton {
    command: Command,
    label: &'static str,
    question: String,
}

impl CommandButton {
    fn of(group: &str, command: Command) -> Self {
        let (label, question) = match command {
            Command::Flush => (
                "Flush now",
                format!("Close the open files of {group} and put them into the lake now?"),
            ),
            Command::Pause => (
                "Pause",
                format!(
                    "Pause {group}? It takes in nothing more, also after a restart of the group, until it is resumed or the process ends. What it has in hand is finished."
                ),
            ),
            Command::Resume => ("Resume", format!("Resume {group} where it was paused?")),
            Command::Restart => (
                "Restart",
                format!(
                    "Restart {group}? Its stages end and start again as after a failure; rows that are not in place yet are brought again, each once."
                ),
            ),
        };
        Self {
            command,
            label,
            question,
        }
    }
}

/// Of the columns of a grid of two.
const HALF_WIDTH: usize = 560;

pub(super) fn groups(dashboard: &Dashboard) -> Result<Answer, CardError> {
    let mut graphs = dashboard.health.graphs();
    let groups = dashboard.health.snapshot().into_iter();
    let groups = groups.map(|(name, health)| {
        let mut graph = graphs.remove(name).unwrap_or_default();
        let runs = matches!(
            health.state,
            GroupState::Starting | GroupState::Running | GroupState::Paused
        );
        if !runs {
            // What they had went with them.
            for stage in &mut graph.stages {
                stage.in_hand = 0;
            }
        }
        let picture = Picture::of(&graph);
        let commands = dashboard.controls.of(name);
        GroupCard {
            name,
            state: health.state.as_str().replace('_', " "),
            class: class_of(health.state),
            generation: health.generation,
            restarts: health.generation.saturating_sub(1),
            failure: health.last_failure,
            failed_at: health.failed_at.map(time),
            commands: commands
                .into_iter()
                .map(|command| CommandButton::of(name, command))
                .collect(),
            is_wide: picture.width > HALF_WIDTH,
            picture,
            text: in_words(name, &graph),
        }
    });
    let mut groups: Vec<_> = groups.collect();
    // The stream in its direction, then the jobs.
    groups.sort_by_key(|group| match group.name {
        "publish" => (0, true),
        "ingest" => (1, true),
        _ => (2, !group.is_wide),
    });
    html(&Groups { groups })
}

fn class_of(state: GroupState) -> &'static str {
    match state {
        GroupState::Running => "ok",
        GroupState::Finished => "dim",
        GroupState::Starting | GroupState::Paused => "warn",
        GroupState::BackingOff | GroupState::GaveUp => "bad",
    }
}

fn in_words(name: &str, graph: &Graph) -> String {
    let ways = graph.ways.iter().map(|way| match way.message {
        "" => format!("{} to {}", way.from, way.to),
        message => format!("{} sends {message} to {}", way.from, way.to),
    });
    format!("{name}: {}", ways.collect::<Vec<_>>().join("; "))
}

fn time(at: SystemTime) -> String {
    let at = DateTime::<Utc>::from(at);
    at.format("%Y-%m-%d %H:%M:%S").to_string()
}

#[derive(Template)]
#[template(path = "pipeline_open.html")]
struct OpenFiles {
    /// Partition, rows and age in seconds.
    files: Vec<[String; 3]>,
}

pub(super) fn open_files() -> Result<Answer, CardError> {
    let ages: BTreeMap<_, _> = metrics::OPEN_FILE_AGE.values().into_iter().collect();
    let mut files: Vec<_> = metrics::OPEN_FILE_ROWS.values();
    // By number.
    files.sort_by_key(|([partition], _)| (partition.len(), partition.clone()));
    let files = files.into_iter().filter_map(|(label, rows)| {
        // One that was closed between the two is no longer open.
        let age = ages.get(&label)?;
        let [partition] = label;
        Some([partition, decimal(rows, 0), decimal(*age, 0)])
    });
    html(&OpenFiles {
        files: files.collect(),
    })
}

pub(super) fn speed(dashboard: &Dashboard) -> Result<Answer, CardError> {
    let rows = dashboard.history.rows();
    let mut plot = Plot::new();
    plot.add_trace(series(&rows, PUBLISHED, "published", "--accent"));
    plot.add_trace(series(&rows, COMMITTED, "into the lake", "--second"));
    plot.set_layout(from_zero());
    let unit = "Rows per second in the last 15 minutes, UTC";
    chart("Throughput", unit, &plot, rows)
}

pub(super) fn lag(dashboard: &Dashboard) -> Result<Answer, CardError> {
    let rows = dashboard.history.rows();
    let mut plot = Plot::new();
    plot.add_trace(series(&rows, LAG_ROWS, "rows", "--accent"));
    plot.add_trace(series(&rows, LAG_SECONDS, "seconds", "--fraud").y_axis("y2"));
    plot.set_layout(two_axes());
    let unit =
        "Rows that are not in the lake yet, and the age of the oldest of them in seconds, UTC";
    chart("Lag", unit, &plot, rows)
}

fn series(
    rows: &Rows,
    column: &str,
    name: &str,
    colour: &'static str,
) -> Box<Scatter<String, Option<f64>>> {
    line(rows.texts(TIME), rows.numbers(column), name, colour)
}

fn chart(
    title: &'static str,
    unit: &'static str,
    plot: &Plot,
    mut rows: Rows,
) -> Result<Answer, CardError> {
    // The newest are on top of the table.
    rows.rows.reverse();
    html(&ChartCard {
        title,
        unit,
        empty: "The first figures come after a few seconds.",
        figure: figure(plot),
        table: Table::of_card(&rows, usize::MAX),
        csv: None,
    })
}

#[derive(Template)]
#[template(path = "pipeline_troubles.html")]
struct Troubles {
    troubles: Vec<TroubleRow>,
}

struct TroubleRow {
    at: String,
    is_error: bool,
    event: String,
    actor: String,
    text: String,
    figures: String,
    remedy: Option<String>,
    /// A page and the text that leads to it.
    link: Option<(&'static str, &'static str)>,
    times: u64,
}

pub(super) fn newest_troubles() -> Result<Answer, CardError> {
    let rows = troubles::newest().into_iter().map(|trouble| {
        let Trouble {
            at,
            is_error,
            event,
            actor,
            generation,
            text,
            figures,
            remedy,
            times,
        } = trouble;
        TroubleRow {
            at: time(at),
            is_error,
            link: (event == "record_rejected").then_some((QUARANTINE, "Rejected messages")),
            event,
            actor: match generation {
                0 => actor,
                generation => format!("{actor}, generation {generation}"),
            },
            text,
            figures,
            remedy,
            times,
        }
    });
    html(&Troubles {
        troubles: rows.collect(),
    })
}

#[derive(Template)]
#[template(path = "pipeline_off.html")]
struct Off<'a> {
    /// Where jobs run, if this command has none.
    elsewhere: Option<&'static str>,
    off: Vec<&'a OffJob>,
}

pub(super) fn off(dashboard: &Dashboard) -> Result<Answer, CardError> {
    let started = dashboard.health.snapshot();
    let off = dashboard.optional_jobs.iter();
    html(&Off {
        elsewhere: match dashboard.command {
            "run" | "batch" | "cdc" => None,
            _ => Some(
                "Jobs alongside the stream are part of `ftap run`, or of `ftap batch` and `ftap cdc`.",
            ),
        },
        off: off.filter(|job| !started.contains_key(job.group)).collect(),
    })
}

#[derive(Template)]
#[template(path = "pipeline_watched.html")]
struct WatchedCard {
    services: Vec<Service>,
}

struct Service {
    name: &'static str,
    state: &'static str,
    class: &'static str,
    note: String,
    error: Option<String>,
    columns: &'static [&'static str],
    rows: Vec<Vec<String>>,
}

pub(super) fn watched(dashboard: &Dashboard) -> Result<Answer, CardError> {
    let sources = dashboard.watched.snapshot();
    let services = [
        sources.kafka.map(|seen| {
            let columns = &["partition", "first", "end", "committed", "lag"][..];
            service("Kafka", columns, &seen, kafka)
        }),
        sources.ends.map(|seen| {
            let columns = &["partition", "end"][..];
            service("Kafka", columns, &seen, ends)
        }),
        sources.lake.map(|seen| {
            let columns = &["data set", "objects", "MB", "newest"][..];
            service("Lake", columns, &seen, lake)
        }),
        sources.postgres.map(|seen| {
            let columns = &["table", "rows"][..];
            service("PostgreSQL", columns, &seen, postgres)
        }),
    ];
    html(&WatchedCard {
        services: services.into_iter().flatten().collect(),
    })
}

type Shown = (String, Vec<Vec<String>>);

fn service<T>(
    name: &'static str,
    columns: &'static [&'static str],
    seen: &Seen<T>,
    show: fn(&T) -> Shown,
) -> Service {
    let (state, class) = match (&seen.figures, seen.is_up(), &seen.error) {
        _ if seen.off.is_some() => ("off", "dim"),
        (_, true, _) => ("answers", "ok"),
        (None, false, None) => ("not asked yet", "warn"),
        (_, false, _) => ("does not answer", "bad"),
    };
    let (note, rows) = match &seen.figures {
        Some((figures, at)) => {
            let age = at.elapsed().unwrap_or_default().as_secs();
            let (note, rows) = show(figures);
            let separator = if note.is_empty() { "" } else { "; " };
            (format!("{note}{separator}as of {age} s ago"), rows)
        }
        None => (seen.off.clone().unwrap_or_default(), Vec::new()),
    };
    Service {
        name,
        state,
        class,
        note,
        error: seen.error.clone(),
        columns,
        rows,
    }
}

fn whole(number: i64) -> String {
    decimal(number as f64, 0)
}

fn kafka(figures: &KafkaFigures) -> Shown {
    let rows = figures.partitions.iter().map(|found| {
        vec![
            found.partition.to_string(),
            found.start.to_string(),
            found.end.to_string(),
            match found.committed {
                Some(offset) => offset.to_string(),
                None => "nothing yet".to_owned(),
            },
            whole(found.lag),
        ]
    });
    let lag: i64 = figures.partitions.iter().map(|found| found.lag).sum();
    let note = format!(
        "topic {} at {}, lag {}",
        figures.topic,
        figures.bootstrap,
        whole(lag)
    );
    (note, rows.collect())
}

fn ends(ends: &Ends) -> Shown {
    let rows = ends.by_partition.iter();
    let rows = rows.map(|(partition, end)| vec![partition.to_string(), end.to_string()]);
    (String::new(), rows.collect())
}

fn lake(figures: &LakeFigures) -> Shown {
    let rows = figures.kinds.iter().map(|(kind, found)| {
        let more = if found.is_complete { "" } else { " or more" };
        let newest = found.newest.as_ref();
        vec![
            (*kind).to_owned(),
            format!("{}{more}", decimal(found.objects as f64, 0)),
            decimal(found.bytes as f64 / 1e6, 1),
            newest.map_or_else(String::new, |(_, written)| {
                written.to_rfc3339_opts(SecondsFormat::Secs, true)
            }),
        ]
    });
    (figures.place.clone(), rows.collect())
}

fn postgres(figures: &PostgresFigures) -> Shown {
    let rows = figures.rows.iter();
    let rows = rows.map(|(table, rows)| vec![(*table).to_owned(), whole(*rows)]);
    let slot = match &figures.slot {
        Some(slot) => {
            let reader = if slot.is_active { "read" } else { "not read" };
            format!(
                "slot {} is {reader}, {} bytes behind",
                slot.name,
                whole(slot.lag_bytes)
            )
        }
        None => "no replication slot".to_owned(),
    };
    (format!("{}; {slot}", figures.address), rows.collect())
}
