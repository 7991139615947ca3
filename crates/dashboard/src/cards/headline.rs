//! The headline numbers, each with its change against the period before.

use std::fmt::Write as _;

use askama::Template;
use chrono::{Days, NaiveDate};

use super::{CardError, answers, decimal, html};
use crate::Dashboard;
use crate::filters::Filters;
use crate::questions::figures;
use crate::router::Answer;
use crate::rows::Rows;

/// Where no days are chosen, the newest so many are compared with as many before.
const DAYS: u64 = 90;

#[derive(Template)]
#[template(path = "headline.html")]
struct Headline {
    figures: Vec<Figure>,
    days: Option<(NaiveDate, NaiveDate)>,
    without_rate: u64,
    /// Whether some rates are the offline provider's.
    made_up_rates: bool,
}

struct Figure {
    name: &'static str,
    value: String,
    change: String,
    /// Points of a line, 120 wide and 28 high.
    line: String,
    is_fraud: bool,
}

/// Sums over some days.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    transactions: f64,
    volume: f64,
    fraud: f64,
    fraud_volume: f64,
}

impl Sums {
    /// Of the days from `from` to `to`, both included.
    fn of(rows: &Rows, from: NaiveDate, to: NaiveDate) -> Self {
        let days = rows.days("day");
        let within = |name: &str| -> f64 {
            let pairs = days.iter().zip(rows.numbers(name));
            let pairs = pairs.filter(|(day, _)| (from..=to).contains(*day));
            pairs.filter_map(|(_, value)| value).sum()
        };
        Self {
            transactions: within("transactions"),
            volume: within("amount_usd"),
            fraud: within("fraud_transactions"),
            fraud_volume: within("fraud_usd"),
        }
    }

    fn fraud_rate(self) -> f64 {
        self.fraud / self.transactions
    }

    fn fraud_share(self) -> f64 {
        self.fraud_volume / self.volume
    }
}

pub(super) async fn card(dashboard: &Dashboard, filters: &Filters) -> Result<Answer, CardError> {
    let answers = answers(dashboard)?;
    // Also the days before those that are shown.
    let all_days = by_day(filters);
    let all_days = answers.rows(&all_days).await?;
    let days = all_days.days("day");
    let first_shown = days
        .iter()
        .copied()
        .find(|day| filters.from.is_none_or(|from| *day >= from));
    let (Some(first), Some(last), Some(earliest)) =
        (first_shown, days.last().copied(), days.first().copied())
    else {
        return html(&Headline {
            figures: Vec::new(),
            days: None,
            without_rate: 0,
            made_up_rates: false,
        });
    };
    let first = filters.from.unwrap_or(first);
    let sums = Sums::of(&all_days, first, last);
    let (new, old, than) = match filters.from {
        // The chosen days, and as many before them.
        Some(from) => {
            let length = (last - from).num_days().unsigned_abs() + 1;
            let than = format!("against the {length} days before");
            (from, before(from, length), than)
        }
        None => {
            let new = before(last, DAYS - 1).max(first);
            let length = (last - new).num_days().unsigned_abs() + 1;
            let than = format!("in the last {length} days");
            (new, before(new, length), than)
        }
    };
    // A period that the data does not cover is not compared with.
    let compared = (old >= earliest).then(|| {
        (
            Sums::of(&all_days, new, last),
            Sums::of(&all_days, old, before(new, 1)),
        )
    });
    let change = |figure: fn(Sums) -> f64| match compared {
        None => "no earlier data".to_owned(),
        Some((new, old)) => relative(figure(new), figure(old), &than),
    };
    let users = answers
        .rows(&users(&filters.with_days(Some(first), Some(last))))
        .await?
        .sum("users");
    let all_users = answers
        .rows("select count(distinct user_id) as users from fct_transactions")
        .await?
        .sum("users");
    let line = |name: &str| spark(&all_days, name, first);
    html(&Headline {
        figures: vec![
            Figure {
                name: "Volume",
                value: format!("${}", short(sums.volume)),
                change: change(|sums| sums.volume),
                line: line("amount_usd"),
                is_fraud: false,
            },
            Figure {
                name: "Transactions",
                value: short(sums.transactions),
                change: change(|sums| sums.transactions),
                line: line("transactions"),
                is_fraud: false,
            },
            Figure {
                name: "Fraud rate",
                value: format!("{} %", decimal(100.0 * sums.fraud_rate(), 2)),
                change: change(Sums::fraud_rate),
                line: line("fraud_bp"),
                is_fraud: true,
            },
            Figure {
                name: "Fraud volume",
                value: format!("${}", short(sums.fraud_volume)),
                change: match sums.fraud_share() {
                    share if share.is_finite() => {
                        format!("{} % of the volume", decimal(100.0 * share, 1))
                    }
                    _ => "no amount is known".to_owned(),
                },
                line: line("fraud_usd"),
                is_fraud: true,
            },
            Figure {
                name: "Active users",
                value: decimal(users, 0),
                change: format!("of {}", decimal(all_users, 0)),
                line: line("users"),
                is_fraud: false,
            },
        ],
        days: Some((first, last)),
        without_rate: since(&all_days, "without_rate", first),
        made_up_rates: since(&all_days, "offline", first) > 0,
    })
}

fn by_day(filters: &Filters) -> String {
    let (figures, condition) = (figures(filters), filters.with_days(None, filters.to));
    format!(
        "select cast(transaction_datetime_UTC as date) as day, {figures}, \
         count(distinct user_id) as users, count(case when amount_usd is null then 1 end) as without_rate, \
         count(case when fx_rate_provider = 'offline' then 1 end) as offline \
         from fct_transactions {condition} group by 1 order by 1"
    )
}

fn users(condition: &str) -> String {
    format!("select count(distinct user_id) as users from fct_transactions {condition}")
}

/// The sum of a column from a day on.
fn since(rows: &Rows, name: &str, first: NaiveDate) -> u64 {
    let days = rows.days("day").into_iter().zip(rows.numbers(name));
    let counts = days.filter_map(|(day, count)| count.filter(|_| day >= first));
    counts.sum::<f64>() as u64
}

fn before(day: NaiveDate, days: u64) -> NaiveDate {
    day.checked_sub_days(Days::new(days)).unwrap_or(day)
}

/// `+4.1 % in the last 90 days`.
fn relative(new: f64, old: f64, than: &str) -> String {
    let change = 100.0 * (new / old - 1.0);
    if change.is_finite() {
        let sign = if change >= 0.0 { "+" } else { "" };
        format!("{sign}{} % {than}", decimal(change, 1))
    } else {
        "nothing in the period before".to_owned()
    }
}

/// Three digits and a unit.
fn short(number: f64) -> String {
    let (value, unit) = match number.abs() {
        size if size >= 1e9 => (number / 1e9, " bn"),
        size if size >= 1e6 => (number / 1e6, " M"),
        size if size >= 1e4 => (number / 1e3, " k"),
        _ => (number, ""),
    };
    let digits = match value.abs() {
        _ if unit.is_empty() => 0,
        size if size >= 100.0 => 0,
        size if size >= 10.0 => 1,
        _ => 2,
    };
    format!("{}{unit}", decimal(value, digits))
}

/// A small line of a column, day by day, averaged so that it has at most 60 points.
fn spark(rows: &Rows, name: &str, first: NaiveDate) -> String {
    let days = rows.days("day").into_iter().zip(rows.numbers(name));
    let values: Vec<f64> = days
        .filter(|(day, _)| *day >= first)
        .map(|(_, value)| value.unwrap_or_default())
        .collect();
    let points: Vec<f64> = values
        .chunks(values.len().div_ceil(60).max(1))
        .map(|some| some.iter().sum::<f64>() / some.len() as f64)
        .collect();
    let low = points.iter().copied().fold(f64::INFINITY, f64::min);
    let high = points.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let span = if high > low { high - low } else { 1.0 };
    let step = 116.0 / (points.len().saturating_sub(1).max(1)) as f64;
    let mut line = String::new();
    for (index, value) in points.iter().enumerate() {
        let _ = write!(
            line,
            "{:.1},{:.1} ",
            2.0 + step * index as f64,
            26.0 - 24.0 * (value - low) / span
        );
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_numbers_are_short_and_changes_have_a_sign() {
        for (number, text) in [
            (0.0, "0"),
            (983.0, "983"),
            (9_999.0, "9,999"),
            (12_345.0, "12.3 k"),
            (1_296_675.0, "1.30 M"),
            (91_300_000.0, "91.3 M"),
            (2.5e9, "2.50 bn"),
        ] {
            assert_eq!(short(number), text);
        }
        assert_eq!(relative(104.1, 100.0, "in"), "+4.1 % in");
        assert_eq!(relative(50.0, 100.0, "in"), "-50.0 % in");
        assert_eq!(relative(1.0, 0.0, "in"), "nothing in the period before");
    }
}
