//! Cards: the parts of a page that are made from the data, each loaded by itself.
//!
//! `/cards/NAME` is a card, `/cards/NAME.csv` the rows behind it, both with a page's filters.

use std::sync::Arc;

use askama::Template;
use axum::extract::{Path, State};
use ftap_lake::LakeError;
use ftap_query::QueryError;
use ftap_telemetry::chain;
use ftap_telemetry::figures::grouped;
use hyper::StatusCode;
use hyper::header::HeaderName;
use serde_json::Value;

use crate::Dashboard;
use crate::answers::Answers;
use crate::files::{FileFormat, file};
use crate::filters::{AskedFilters, Filters};
use crate::history::{COMMITTED, LAG_ROWS, LAG_SECONDS, PUBLISHED};
use crate::plots::figure;
use crate::questions::{QUESTIONS, Question};
use crate::router::{self, Answer};
use crate::rows::{Column, Rows, plain};

mod filters;
mod fraud;
mod headline;
pub(crate) mod lake;
mod newest;
mod pipeline;

/// Rows of a card's table.
const TABLE_ROWS: usize = 200;

/// Why there is no card.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CardError {
    #[error("this process does not read the lake: `ftap run` and `ftap serve` do")]
    NoLake,
    #[error(transparent)]
    Query(#[from] QueryError),
    #[error(transparent)]
    Lake(#[from] LakeError),
    #[error("a template failed")]
    Template(#[from] askama::Error),
}

/// A chart, with its rows as a table.
#[derive(Template)]
#[template(path = "chart.html")]
struct ChartCard<'a> {
    title: &'static str,
    unit: &'static str,
    /// What is said if there are no rows.
    empty: &'static str,
    figure: String,
    table: Table<'a>,
    /// Address of the rows as a file.
    csv: Option<String>,
}

/// Columns of the cards that are amounts and counts. All others may be keys, years, rates or times, whose digits stay.
const MEASURES: &[&str] = &[
    "transactions",
    "amount_usd",
    "fraud_transactions",
    "fraud_usd",
    "fraud_bp",
    "amount",
    "usd",
    "chance",
    "rows",
    "fraud",
    "predicted",
    "observed",
    PUBLISHED,
    COMMITTED,
    LAG_ROWS,
    LAG_SECONDS,
];

/// Rows as a table.
pub(crate) struct Table<'a> {
    rows: &'a Rows,
    shown: usize,
    /// Columns whose numbers are written with separators.
    measures: &'static [&'static str],
}

impl<'a> Table<'a> {
    /// Of a card.
    pub(crate) fn of_card(rows: &'a Rows, shown: usize) -> Self {
        Self {
            rows,
            shown,
            measures: MEASURES,
        }
    }

    /// With values as they are.
    pub(crate) fn plain(rows: &'a Rows, shown: usize) -> Self {
        Self {
            rows,
            shown,
            measures: &[],
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows.rows.is_empty()
    }

    pub(crate) fn columns(&self) -> &'a [Column] {
        &self.rows.columns
    }

    /// Texts, each with whether it is a number.
    pub(crate) fn rows(&self) -> impl Iterator<Item = Vec<(String, bool)>> {
        let measures = self.columns().iter();
        let measures = measures.map(|column| self.measures.contains(&column.name.as_str()));
        let measures: Vec<bool> = measures.collect();
        self.rows.rows.iter().take(self.shown).map(move |row| {
            let values = row.iter().zip(&measures);
            let values = values.map(|(value, is_measure)| {
                let text = if *is_measure {
                    measure(value)
                } else {
                    plain(value)
                };
                (text, value.is_number())
            });
            values.collect()
        })
    }

    /// What the rows that are not shown are named.
    pub(crate) fn rest(&self) -> Option<String> {
        let hidden = self.rows.rows.len().saturating_sub(self.shown);
        match (hidden, self.rows.cut) {
            (0, false) => None,
            (1, false) => Some("and 1 more row".to_owned()),
            (hidden, false) => Some(format!("and {hidden} more rows")),
            (_, true) => Some("and more rows".to_owned()),
        }
    }
}

/// Header of a card: the number of the lake's moment that it shows, or an older one if a new one came meanwhile.
const MOMENT: HeaderName = HeaderName::from_static("lake-moment");

pub(crate) async fn card(
    State(dashboard): State<Arc<Dashboard>>,
    Path(name): Path<String>,
    asked: AskedFilters,
) -> Answer {
    let moment = match &dashboard.answers {
        Some(answers) if !name.starts_with("pipeline_") => answers.moment().await.ok(),
        _ => None,
    };
    let mut answer = named(&dashboard, &name, asked).await;
    if let Some(moment) = moment {
        answer.headers_mut().insert(MOMENT, moment.number.into());
    }
    answer
}

async fn named(dashboard: &Dashboard, name: &str, asked: AskedFilters) -> Answer {
    let AskedFilters { raw, parsed } = asked;
    let (stem, wants_csv) = match name.strip_suffix(".csv") {
        Some(stem) => (stem, true),
        None => (name, false),
    };
    if name == "filters" {
        let form = filters::card(dashboard, raw).await;
        return form.unwrap_or_else(|error| failure(&error));
    }
    let filters = match parsed {
        Ok(filters) => filters,
        Err(error) => return router::plain(StatusCode::BAD_REQUEST, error.to_string()),
    };
    let question = QUESTIONS.iter().find(|question| question.name == stem);
    let made = match (question, stem) {
        (Some(question), _) if wants_csv => csv(dashboard, question, &filters).await,
        (Some(question), _) => chart(dashboard, question, &filters).await,
        (None, _) if wants_csv => return router::nothing_here().await,
        (None, "fraud_evaluation") => fraud::evaluation(dashboard).await,
        (None, "fraud_calibration") => fraud::calibration(dashboard).await,
        (None, "fraud_suspicious") => fraud::suspicious(dashboard).await,
        (None, "headline") => headline::card(dashboard, &filters).await,
        (None, "newest") => newest::card(dashboard, &filters).await,
        (None, "lake_sets") => lake::sets(dashboard).await,
        (None, "lake_chains") => lake::chains(dashboard).await,
        (None, "lake_tables") => lake::tables(dashboard).await,
        (None, "lake_objects") => lake::objects(dashboard).await,
        (None, "pipeline_figures") => pipeline::figures(dashboard),
        (None, "pipeline_groups") => pipeline::groups(dashboard),
        (None, "pipeline_open") => pipeline::open_files(),
        (None, "pipeline_speed") => pipeline::speed(dashboard),
        (None, "pipeline_lag") => pipeline::lag(dashboard),
        (None, "pipeline_troubles") => pipeline::newest_troubles(),
        (None, "pipeline_off") => pipeline::off(dashboard),
        (None, "pipeline_watched") => pipeline::watched(dashboard),
        (None, _) => return router::nothing_here().await,
    };
    made.unwrap_or_else(|error| failure(&error))
}

/// The lake's answers.
pub(crate) fn answers(dashboard: &Dashboard) -> Result<&Answers, CardError> {
    dashboard.answers.as_ref().ok_or(CardError::NoLake)
}

pub(crate) fn html(template: &impl Template) -> Result<Answer, CardError> {
    let page = template.render()?;
    Ok(router::text(
        StatusCode::OK,
        "text/html; charset=utf-8",
        page,
    ))
}

async fn chart(
    dashboard: &Dashboard,
    question: &Question,
    filters: &Filters,
) -> Result<Answer, CardError> {
    let rows = answers(dashboard)?.rows(&(question.sql)(filters)).await?;
    let Question {
        name, title, unit, ..
    } = question;
    html(&ChartCard {
        title,
        unit: unit(filters.fraud),
        empty: "There is nothing to show here: no row of the lake matches.",
        figure: figure(&(question.draw)(&rows)),
        table: Table::of_card(&rows, TABLE_ROWS),
        csv: Some(format!("/cards/{name}.csv{}", filters.query())),
    })
}

async fn csv(
    dashboard: &Dashboard,
    question: &Question,
    filters: &Filters,
) -> Result<Answer, CardError> {
    let name = format!("{}.csv", question.name);
    file(
        dashboard,
        (question.sql)(filters),
        FileFormat::Csv,
        Some(&name),
    )
    .await
}

pub(crate) fn failure(error: &CardError) -> Answer {
    let code = match error {
        CardError::NoLake => StatusCode::NOT_FOUND,
        CardError::Query(QueryError::TimedOut(_)) => StatusCode::GATEWAY_TIMEOUT,
        CardError::Query(_) | CardError::Lake(_) | CardError::Template(_) => {
            StatusCode::INTERNAL_SERVER_ERROR
        }
    };
    router::plain(code, chain(error))
}

/// An amount or a count for people: with separators, and two digits after the point of what is not whole.
fn measure(value: &Value) -> String {
    match value {
        Value::Number(number) => match number.as_i64() {
            Some(whole) => grouped(&whole.to_string()),
            None => decimal(number.as_f64().unwrap_or_default(), 2),
        },
        other => plain(other),
    }
}

/// `1 row`, `2,000 rows`.
pub(crate) fn counted(number: u64, one: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {one}{plural}", grouped(&number.to_string()))
}

/// With so many digits after the point.
pub(crate) fn decimal(number: f64, digits: usize) -> String {
    let text = format!("{number:.digits$}");
    match text.split_once('.') {
        Some((whole, rest)) => format!("{}.{rest}", grouped(whole)),
        None => grouped(&text),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_have_separators() {
        for (value, text) in [
            (json!(0), "0"),
            (json!(-1234567), "-1,234,567"),
            (json!(999), "999"),
            (json!(1234.5), "1,234.50"),
            (json!(-0.004), "-0.00"),
            (json!(null), ""),
            (json!("1234"), "1234"),
        ] {
            assert_eq!(measure(&value), text);
        }
    }

    #[test]
    fn only_measures_of_cards_have_separators() {
        let column = |name: &str| Column {
            name: name.to_owned(),
            is_number: true,
        };
        let rows = Rows {
            columns: ["transactions", "date_key", "rate"].map(column).into(),
            rows: vec![vec![json!(20_190_326), json!(20_190_326), json!(0.8812)]],
            cut: false,
        };
        let texts = |table: Table| -> Vec<String> {
            let cells = table.rows().next().unwrap_or_default().into_iter();
            cells.map(|(text, _)| text).collect()
        };
        assert_eq!(
            texts(Table::of_card(&rows, 1)),
            ["20,190,326", "20190326", "0.8812"]
        );
        assert_eq!(
            texts(Table::plain(&rows, 1)),
            ["20190326", "20190326", "0.8812"]
        );
    }
}
