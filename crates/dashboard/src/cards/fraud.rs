//! The model of `ftap fraud train` and the scores that `ftap fraud score` put into the lake.

use std::io::ErrorKind;

use askama::Template;
use chrono::{DateTime, Utc};
use ftap_fraud::{Group, Model};
use plotly::common::{DashType, ExponentFormat, Line, Marker, Mode, Title};
use plotly::layout::{Axis, AxisType};
use plotly::{Layout, Plot, Scatter};
use serde_json::json;

use super::{CardError, ChartCard, TABLE_ROWS, Table, answers, decimal, html};
use crate::Dashboard;
use crate::filters::literal;
use crate::plots::figure;
use crate::router::Answer;
use crate::rows::{Column, Rows};

/// The most suspicious transactions that are shown.
const SHOWN: usize = 20;
const NO_MODEL: &str = "There is no model to use: the first card says what to do.";

/// The model's file.
enum Found {
    Missing,
    /// Why it can't be used.
    Unfit(String),
    Model(Box<Model>),
}

async fn find(dashboard: &Dashboard) -> Found {
    let path = &dashboard.fraud_model;
    match tokio::fs::read_to_string(path).await {
        Ok(text) => match Model::read(&text) {
            Ok(model) => Found::Model(Box::new(model)),
            Err(error) => Found::Unfit(format!("{}: {error}", path.display())),
        },
        Err(error) if error.kind() == ErrorKind::NotFound => Found::Missing,
        Err(error) => Found::Unfit(format!("{}: {error}", path.display())),
    }
}

#[derive(Template)]
#[template(path = "fraud_evaluation.html")]
struct EvaluationCard {
    found: Found,
}

impl EvaluationCard {
    fn alerts(&self, model: &Model) -> String {
        format!("{} %", model.evaluation.alert_share * 100.0)
    }

    fn percent(&self, share: &f64) -> String {
        format!("{} %", decimal(share * 100.0, 1))
    }

    fn area(&self, area: &f64) -> String {
        decimal(*area, 3)
    }

    fn whole(&self, rows: &u64) -> String {
        decimal(*rows as f64, 0)
    }

    fn day(&self, time: &DateTime<Utc>) -> String {
        time.format("%Y-%m-%d").to_string()
    }
}

pub(super) async fn evaluation(dashboard: &Dashboard) -> Result<Answer, CardError> {
    html(&EvaluationCard {
        found: find(dashboard).await,
    })
}

pub(super) async fn calibration(dashboard: &Dashboard) -> Result<Answer, CardError> {
    let groups = match find(dashboard).await {
        Found::Model(model) => model.evaluation.calibration,
        Found::Missing | Found::Unfit(_) => Vec::new(),
    };
    let rows = calibration_rows(&groups);
    html(&ChartCard {
        title: "Are the scores true?",
        unit: "Fraud in percent, predicted and observed, in ten groups of equal size by score; on the line both are the same. Groups without fraud have no point",
        empty: NO_MODEL,
        figure: figure(&calibration_plot(&rows)),
        table: Table::of_card(&rows, TABLE_ROWS),
        csv: None,
    })
}

fn calibration_rows(groups: &[Group]) -> Rows {
    let names = ["group", "rows", "fraud", "predicted", "observed"];
    let rows = groups.iter().zip(1..).map(|(group, number)| {
        vec![
            json!(number),
            json!(group.rows),
            json!(group.fraud_rows),
            json!(group.predicted * 100.0),
            json!(group.observed * 100.0),
        ]
    });
    Rows {
        columns: names
            .map(|name| Column {
                name: name.to_owned(),
                is_number: true,
            })
            .into(),
        rows: rows.collect(),
        cut: false,
    }
}

fn calibration_plot(rows: &Rows) -> Plot {
    let predicted = rows.numbers("predicted").into_iter().flatten();
    let observed = rows.numbers("observed").into_iter().flatten();
    let points = predicted.zip(observed);
    // A logarithm of nothing is none.
    let (predicted, observed): (Vec<f64>, Vec<f64>) =
        points.filter(|(_, observed)| *observed > 0.0).unzip();
    let values = || predicted.iter().chain(&observed).copied();
    let (least, most) = (
        values().fold(f64::INFINITY, f64::min),
        values().fold(0.0, f64::max),
    );
    let mut plot = Plot::new();
    if most > 0.0 {
        let same = Scatter::new(vec![least, most], vec![least, most]);
        let dashed = Line::new().color("--dim").dash(DashType::Dash).width(1.0);
        plot.add_trace(same.mode(Mode::Lines).name("the same").line(dashed));
    }
    let groups = Scatter::new(predicted, observed).mode(Mode::LinesMarkers);
    plot.add_trace(
        groups
            .name("group")
            .line(Line::new().color("--accent").width(1.0))
            .marker(Marker::new().color("--accent").size(9)),
    );
    let axis = |title: &str| {
        Axis::new()
            .type_(AxisType::Log)
            .exponent_format(ExponentFormat::None)
            .title(Title::with_text(title))
    };
    plot.set_layout(
        Layout::new()
            .x_axis(axis("predicted, %"))
            .y_axis(axis("observed, %")),
    );
    plot
}

#[derive(Template)]
#[template(path = "fraud_suspicious.html")]
struct Suspicious<'a> {
    table: Table<'a>,
    empty: &'static str,
}

pub(super) async fn suspicious(dashboard: &Dashboard) -> Result<Answer, CardError> {
    let nothing = |empty| {
        let rows = Rows::default();
        html(&Suspicious {
            table: Table::of_card(&rows, SHOWN),
            empty,
        })
    };
    let Found::Model(model) = find(dashboard).await else {
        return nothing(NO_MODEL);
    };
    let answers = answers(dashboard)?;
    let highest = format!(
        "select * from fraud_scores where model = {} and is_out_of_sample order by score desc, transaction_id limit {SHOWN}",
        literal(&model.id)
    );
    let rows = answers
        .rows(&format!(
            "select transaction_id from ({highest}) as highest"
        ))
        .await?;
    let ids = rows.texts("transaction_id");
    let ids: Vec<String> = ids.iter().map(|id| literal(id)).collect();
    if ids.is_empty() {
        return nothing("The lake has no scores of this model: `ftap fraud score` writes them.");
    }
    // The facts of these few only: to compute all of them takes long.
    let sql = format!(
        "select to_char(highest.event_time, '%Y-%m-%d %H:%M') as time, left(facts.user_id, 8) as user, \
         facts.merchant_name as merchant, facts.category, facts.amount_usd as usd, 100 * highest.score as chance, \
         case when facts.is_fraud = 1 then 'fraud' end as mark, highest.transaction_id as transaction \
         from ({highest}) as highest \
         inner join fct_transactions as facts on facts.transaction_id = highest.transaction_id \
         where facts.transaction_id in ({}) order by highest.score desc, highest.transaction_id limit {SHOWN}",
        ids.join(", ")
    );
    let rows = answers.rows(&sql).await?;
    html(&Suspicious {
        table: Table::of_card(&rows, SHOWN),
        empty: "The transactions of the scores are not in the lake.",
    })
}
