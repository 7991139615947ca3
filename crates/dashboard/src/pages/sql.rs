//! Statements that a person writes: answered as a table with a chart, or as a file.

use std::borrow::Cow;
use std::sync::{Arc, LazyLock};
use std::time::Instant;

use askama::Template;
use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use chrono::NaiveDate;
use ftap_query::QueryError;
use hyper::StatusCode;
use plotly::common::{Line, Marker, Mode};
use plotly::{Bar, Plot, Scatter};
use serde::Deserialize;

use super::{Frame, page};
use crate::Dashboard;
use crate::cards::{CardError, Table, answers, counted, failure, html};
use crate::files::{FileFormat, MAX_FILE_BYTES, file};
use crate::plots::{figure, from_zero, two_axes};
use crate::router::{self, Answer};
use crate::rows::Rows;

pub(crate) const ADDRESS: &str = "/sql";
/// Where statements are sent.
pub(crate) const QUERY_PATH: &str = "/sql/query";
/// Rows of an answer on the page.
const SHOWN_ROWS: usize = 1_000;
/// Rows of which each is a bar.
const MAX_BARS: usize = 60;
const MAX_SERIES: usize = 4;

#[derive(Template)]
#[template(path = "sql.html")]
struct SqlPage {
    frame: Frame,
    tables: Vec<NamedTable>,
    /// Why there are no tables.
    problem: Option<String>,
    examples: &'static [Example],
}

struct NamedTable {
    name: String,
    /// Names and types.
    columns: Vec<(String, String)>,
}

struct Example {
    name: &'static str,
    sql: Cow<'static, str>,
}

/// Questions whose answers are drawn, then those of the document, which a test asks.
static EXAMPLES: LazyLock<Vec<Example>> = LazyLock::new(|| {
    let mut examples: Vec<Example> = DRAWN.into();
    examples.extend(documented(DOCUMENT));
    examples
});

const DOCUMENT: &str = include_str!("../../../../docs/QUERIES.md");

const DRAWN: [Example; 3] = [
    Example {
        name: "Volume and fraud by month",
        sql: Cow::Borrowed(
            "SELECT date_trunc('month', transaction_datetime_UTC) AS month,\n    sum(amount_usd) AS usd, sum(is_fraud) AS fraud\nFROM fct_transactions GROUP BY 1 ORDER BY 1",
        ),
    },
    Example {
        name: "Fraud by category, in basis points",
        sql: Cow::Borrowed(
            "SELECT category, 10000.0 * avg(is_fraud) AS fraud_bp, count(*) AS transactions\nFROM fct_transactions GROUP BY 1 ORDER BY 2 DESC",
        ),
    },
    Example {
        name: "Messages in the lake, by partition",
        sql: Cow::Borrowed(
            "SELECT cast(_kafka_partition AS varchar) AS partition, count(*) AS messages\nFROM transactions GROUP BY 1 ORDER BY 1",
        ),
    },
];

/// The statements that `ftap query` is given in a document, each with the heading above it.
fn documented(document: &'static str) -> impl Iterator<Item = Example> {
    let sections = document.split("\n## ").skip(1);
    sections.filter_map(|section| {
        let (name, text) = section.split_once('\n')?;
        let (_, text) = text.split_once("ftap query \"\n")?;
        let (sql, _) = text.split_once("\"\n```")?;
        let lines: Vec<_> = sql
            .lines()
            .map(|line| line.strip_prefix("    ").unwrap_or(line))
            .collect();
        Some(Example {
            name,
            sql: Cow::Owned(lines.join("\n")),
        })
    })
}

pub(crate) async fn show(State(dashboard): State<Arc<Dashboard>>) -> Answer {
    let (tables, problem) = match tables(&dashboard).await {
        Ok(tables) => (tables, None),
        Err(error) => (Vec::new(), Some(error.to_string())),
    };
    page(&SqlPage {
        frame: Frame::of(&dashboard, ADDRESS),
        tables,
        problem,
        examples: &EXAMPLES,
    })
}

async fn tables(dashboard: &Dashboard) -> Result<Vec<NamedTable>, CardError> {
    let sql = "select table_name, column_name, data_type from information_schema.columns \
               where table_schema = 'lake' order by table_name, ordinal_position";
    let rows = answers(dashboard)?.rows(sql).await?;
    let [tables, columns, types] =
        ["table_name", "column_name", "data_type"].map(|name| rows.texts(name));
    let mut named: Vec<NamedTable> = Vec::new();
    for ((table, column), kind) in tables.into_iter().zip(columns).zip(types) {
        // `Timestamp(µs)` and the like: what is in the parentheses is for programs.
        let kind = kind.split('(').next().unwrap_or_default().to_lowercase();
        match named.last_mut() {
            Some(last) if last.name == table => last.columns.push((column, kind)),
            _ => named.push(NamedTable {
                name: table,
                columns: vec![(column, kind)],
            }),
        }
    }
    Ok(named)
}

/// A statement, and as what its answer is wanted.
#[derive(Deserialize)]
pub(crate) struct Asked {
    sql: String,
    /// `None` for the page.
    format: Option<FileFormat>,
}

#[derive(Template)]
#[template(path = "sql_answer.html")]
struct SqlAnswer<'a> {
    rows: &'a Rows,
    milliseconds: u128,
    chart: Option<Chart>,
    table: Table<'a>,
}

impl SqlAnswer<'_> {
    fn counted(&self) -> String {
        counted(self.rows.rows.len() as u64, "row")
    }
}

struct Chart {
    /// For the script; `<` can't end its element.
    figure: String,
    /// What is drawn, for those who can't see it.
    text: String,
}

pub(crate) async fn query(
    State(dashboard): State<Arc<Dashboard>>,
    asked: Result<Json<Asked>, JsonRejection>,
) -> Answer {
    let asked = match asked {
        Ok(Json(asked)) => asked,
        Err(error) => return router::plain(error.status(), error.body_text()),
    };
    if asked.sql.trim().is_empty() {
        return router::plain(StatusCode::BAD_REQUEST, "the statement is empty");
    }
    let answered = match asked.format {
        None => shown(&dashboard, asked.sql).await,
        Some(format) => file(&dashboard, asked.sql, format, None).await,
    };
    answered.unwrap_or_else(|error| refusal(&error))
}

async fn shown(dashboard: &Dashboard, sql: String) -> Result<Answer, CardError> {
    let began = Instant::now();
    let rows = answers(dashboard)?.once(sql, SHOWN_ROWS).await?;
    html(&SqlAnswer {
        rows: &rows,
        milliseconds: began.elapsed().as_millis(),
        chart: chart(&rows),
        table: Table::plain(&rows, SHOWN_ROWS),
    })
}

/// As `ftap query` has it, with limits that are fixed here.
fn refusal(error: &CardError) -> Answer {
    match error {
        CardError::Query(QueryError::TimedOut(limit)) => router::plain(
            StatusCode::GATEWAY_TIMEOUT,
            format!(
                "no answer within {} s: ask for less, or use `ftap query --timeout SECONDS`",
                limit.as_secs()
            ),
        ),
        CardError::Query(QueryError::OutOfMemory(_)) => router::plain(
            StatusCode::BAD_REQUEST,
            "the query needs more memory than it may have: ask for less, or use `ftap query --memory MEGABYTES`",
        ),
        CardError::Query(error @ QueryError::OutOfSpace(_)) => {
            router::plain(StatusCode::BAD_REQUEST, error.to_string())
        }
        CardError::Query(QueryError::Output(_)) => router::plain(
            StatusCode::BAD_REQUEST,
            format!(
                "the file would be larger than {} MiB: ask for less, or use `ftap query --out FILE`",
                MAX_FILE_BYTES >> 20
            ),
        ),
        // Its message has everything; what the engine says behind it repeats it at length.
        CardError::Query(error @ QueryError::Sql { .. }) => {
            router::plain(StatusCode::BAD_REQUEST, error.to_string())
        }
        other => failure(other),
    }
}

/// Names or times with numbers are drawn: the first number by the axis on the left, others by one on the right, since
/// amounts and counts share no scale.
fn chart(rows: &Rows) -> Option<Chart> {
    let (first, numbers) = rows.columns.split_first()?;
    if first.is_number || numbers.is_empty() || !numbers.iter().all(|column| column.is_number) {
        return None;
    }
    let are_times = rows.texts(&first.name).iter().all(|text| is_time(text));
    let drawn = if are_times { SHOWN_ROWS } else { MAX_BARS };
    let names: Vec<_> = rows.texts(&first.name).into_iter().take(drawn).collect();
    if names.len() < 2 {
        return None;
    }
    let mut plot = Plot::new();
    let series = numbers.iter().take(MAX_SERIES).enumerate();
    for (index, column) in series {
        let values: Vec<_> = rows.numbers(&column.name).into_iter().take(drawn).collect();
        let (names, name) = (names.clone(), column.name.as_str());
        let points = Scatter::new(names.clone(), values.clone()).name(name);
        match (index, are_times) {
            (0, true) => plot.add_trace(points.mode(Mode::Lines).line(Line::new().width(2.0))),
            (_, true) => plot.add_trace(points.mode(Mode::Lines).y_axis("y2")),
            (0, false) => plot.add_trace(Bar::new(names, values).name(name)),
            (_, false) => {
                let marker = Marker::new().size(9);
                plot.add_trace(points.mode(Mode::Markers).marker(marker).y_axis("y2"));
            }
        }
    }
    let layout = match numbers.len() {
        1 => from_zero(),
        _ => two_axes(),
    };
    plot.set_layout(layout.show_legend(true));
    let named: Vec<_> = numbers.iter().take(MAX_SERIES).collect();
    let named: Vec<_> = named.iter().map(|column| column.name.as_str()).collect();
    Some(Chart {
        figure: figure(&plot),
        text: format!("{} by {}", named.join(", "), first.name),
    })
}

/// A date, or a time as the engine writes it.
fn is_time(text: &str) -> bool {
    text.get(..10)
        .is_some_and(|day| day.parse::<NaiveDate>().is_ok())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::{Value, json};

    use super::*;
    use crate::rows::Column;

    fn rows(columns: &[(&str, bool)], rows: Value) -> Rows {
        let column = |(name, is_number): &(&str, bool)| Column {
            name: (*name).to_owned(),
            is_number: *is_number,
        };
        Rows {
            columns: columns.iter().map(column).collect(),
            rows: serde_json::from_value(rows).unwrap(),
            cut: false,
        }
    }

    #[test]
    fn names_are_bars_times_are_lines_and_anything_else_has_none() {
        let two = [("what", false), ("n", true)];
        let kind = |rows: &Rows| {
            let figure: Value = serde_json::from_str(&chart(rows)?.figure).unwrap();
            Some(figure["data"][0]["type"].as_str()?.to_owned())
        };
        let names = rows(&two, json!([["</script>", 1], ["b", null]]));
        assert_eq!(kind(&names).as_deref(), Some("bar"));
        assert!(!chart(&names).unwrap().figure.contains('<'));
        let days = rows(&two, json!([["2019-01-01", 1], ["2019-01-02T00:00:00", 2]]));
        assert_eq!(kind(&days).as_deref(), Some("scatter"));
        for none in [
            rows(&two, json!([["one row", 1]])),
            rows(&[("a", true), ("b", true)], json!([[1, 2], [3, 4]])),
            rows(
                &[("a", false), ("b", false)],
                json!([["1", "2"], ["3", "4"]]),
            ),
            rows(&[("a", false)], json!([["1"], ["2"]])),
            rows(&[], json!([])),
        ] {
            assert!(chart(&none).is_none());
        }
    }

    #[test]
    fn the_documents_questions_are_the_pages() {
        let documented: Vec<_> = documented(DOCUMENT).collect();
        assert_eq!(documented.len(), DOCUMENT.matches("\n## ").count());
        for example in documented {
            assert!(example.sql.starts_with("SELECT") || example.sql.starts_with("WITH"));
            assert!(!example.sql.contains(['`', '"']), "{}", example.sql);
        }
    }
}
