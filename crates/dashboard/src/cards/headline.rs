//! The headline numbers, each with its change against the period before.

use std::fmt::Write as _;

use askama::Template;
use chrono::{Days, NaiveDate};

use super::{CardError, answers, decimal, html};
use crate::Dashboard;
use crate::filters::{Filters, Fraud};
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
    /// All digits, where the value has not all of them.
    exact: String,
    change: String,
    /// Points of a line, 120 wide and 28 high.
    line: String,
    is_fraud: bool,
}

/// What a period is compared with.
struct Before {
    new: Sums,
    old: Sums,
    /// Both periods, in words.
    periods: String,
    /// The same where there was nothing before.
    nothing: String,
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
    let (Some(first), Some(last)) = (first_shown, days.last().copied()) else {
        return html(&Headline {
            figures: Vec::new(),
            days: None,
            without_rate: 0,
            made_up_rates: false,
        });
    };
    let first = filters.from.unwrap_or(first);
    let sums = Sums::of(&all_days, first, last);
    let compared = Before::of(&all_days, filters, first, last);
    let change = |figure: fn(Sums) -> f64| match &compared {
        None => "no earlier data".to_owned(),
        Some(before) => before.relative(figure),
    };
    let users = answers
        .rows(&users(&filters.with_days(Some(first), Some(last))))
        .await?
        .sum("users");
    // Empty where no table of users is captured.
    let known_users = answers
        .rows("select count(*) as users from dim_users_current")
        .await?
        .sum("users");
    let line = |name: &str| spark(&all_days, name, first, last);
    html(&Headline {
        figures: vec![
            Figure {
                name: "Volume",
                value: format!("${}", short(sums.volume)),
                exact: format!("${}", decimal(sums.volume, 2)),
                change: change(|sums| sums.volume),
                line: line("amount_usd"),
                is_fraud: false,
            },
            Figure {
                name: "Transactions",
                value: short(sums.transactions),
                exact: decimal(sums.transactions, 0),
                change: change(|sums| sums.transactions),
                line: line("transactions"),
                is_fraud: false,
            },
            Figure {
                name: "Fraud rate",
                value: match filters.fraud {
                    Fraud::All => format!("{} %", decimal(100.0 * sums.fraud_rate(), 2)),
                    Fraud::Only | Fraud::Without => "none".to_owned(),
                },
                exact: format!(
                    "{} of {} transactions",
                    decimal(sums.fraud, 0),
                    decimal(sums.transactions, 0)
                ),
                change: match (filters.fraud, &compared) {
                    (Fraud::Only, _) => {
                        "only fraud is shown: a rate needs the rest, too".to_owned()
                    }
                    (Fraud::Without, _) => "fraud is left out: a rate needs it, too".to_owned(),
                    (Fraud::All, None) => "no earlier data".to_owned(),
                    (Fraud::All, Some(before)) => before.points(Sums::fraud_rate),
                },
                line: line("fraud_bp"),
                is_fraud: true,
            },
            Figure {
                name: "Fraud volume",
                value: format!("${}", short(sums.fraud_volume)),
                exact: format!("${}", decimal(sums.fraud_volume, 2)),
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
                exact: decimal(users, 0),
                change: match known_users {
                    0.0 => "users with a transaction".to_owned(),
                    known => format!("the table of users has {}", decimal(known, 0)),
                },
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

impl Before {
    /// `None` where the data does not cover as many days before.
    fn of(rows: &Rows, filters: &Filters, first: NaiveDate, last: NaiveDate) -> Option<Self> {
        let newest = before(last, DAYS - 1).max(first);
        let new = filters.from.unwrap_or(newest);
        let length = (last - new).num_days().unsigned_abs() + 1;
        let old = before(new, length);
        let (periods, nothing) = match filters.from {
            Some(_) => (
                format!("against the {length} days before"),
                format!("nothing in the {length} days before"),
            ),
            None => (
                format!("in the last {length} days, against the {length} before"),
                format!("last {length} days, since {new}: nothing in the {length} before"),
            ),
        };
        let earliest = rows.days("day").first().copied()?;
        (old >= earliest).then(|| Self {
            new: Sums::of(rows, new, last),
            old: Sums::of(rows, old, before(new, 1)),
            periods,
            nothing,
        })
    }

    /// `+4.1 % in the last 90 days, against the 90 before`.
    fn relative(&self, figure: fn(Sums) -> f64) -> String {
        self.said(100.0 * (figure(self.new) / figure(self.old) - 1.0), 1, "%")
    }

    /// The difference of two shares, which a change in percent could be taken for.
    fn points(&self, share: fn(Sums) -> f64) -> String {
        let points = 100.0 * (share(self.new) - share(self.old));
        self.said(points, 2, "percentage points")
    }

    fn said(&self, change: f64, digits: usize, unit: &str) -> String {
        if !change.is_finite() {
            return self.nothing.clone();
        }
        let sign = if change >= 0.0 { "+" } else { "" };
        let periods = &self.periods;
        format!("{sign}{} {unit} {periods}", decimal(change, digits))
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

/// A small line of a column with at most 60 points, each the average of as many days. A day without a transaction
/// counts as zero, or not at all where the column is a rate.
fn spark(rows: &Rows, name: &str, first: NaiveDate, last: NaiveDate) -> String {
    let length = (last - first).num_days().unsigned_abs() as usize + 1;
    let width = length.div_ceil(60);
    let mut sums = vec![(0.0, 0); length.div_ceil(width)];
    let days = rows.days("day").into_iter().zip(rows.numbers(name));
    for (day, value) in days.filter(|(day, _)| (first..=last).contains(day)) {
        if let Some(value) = value {
            let (sum, count) = &mut sums[(day - first).num_days().unsigned_abs() as usize / width];
            *sum += value;
            *count += 1;
        }
    }
    let points = sums.iter().enumerate().filter_map(|(index, (sum, known))| {
        let days = match name {
            "fraud_bp" => *known,
            _ => width.min(length - index * width),
        };
        (days > 0).then(|| (index, sum / days as f64))
    });
    let points: Vec<(usize, f64)> = points.collect();
    let values = || points.iter().map(|(_, value)| *value);
    let low = values().fold(f64::INFINITY, f64::min);
    let high = values().fold(f64::NEG_INFINITY, f64::max);
    let span = if high > low { high - low } else { 1.0 };
    let step = 116.0 / (sums.len().saturating_sub(1).max(1)) as f64;
    let mut line = String::new();
    for (index, value) in &points {
        let _ = write!(
            line,
            "{:.1},{:.1} ",
            2.0 + step * *index as f64,
            26.0 - 24.0 * (value - low) / span
        );
    }
    line
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;
    use crate::rows::Column;

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
    }

    #[test]
    fn a_change_says_against_what_and_in_which_unit() {
        let sums = |transactions, fraud| Sums {
            transactions,
            fraud,
            ..Sums::default()
        };
        let before = |new, old| Before {
            new,
            old,
            periods: "against before".to_owned(),
            nothing: "nothing before".to_owned(),
        };
        let (new, old) = (sums(104.1, 1.041), sums(100.0, 2.0));
        let count = |sums: Sums| sums.transactions;
        let changed = before(new, old);
        assert_eq!(changed.relative(count), "+4.1 % against before");
        assert_eq!(
            changed.points(Sums::fraud_rate),
            "-1.00 percentage points against before"
        );
        assert_eq!(
            before(old, sums(200.0, 0.0)).relative(count),
            "-50.0 % against before"
        );
        let first = before(new, Sums::default());
        assert_eq!(first.relative(count), "nothing before");
        assert_eq!(first.points(Sums::fraud_rate), "nothing before");
    }

    #[test]
    fn days_without_a_transaction_have_their_place_in_the_small_line() {
        let rows = Rows {
            columns: ["day", "transactions", "fraud_bp"]
                .map(|name| Column {
                    name: name.to_owned(),
                    is_number: name != "day",
                })
                .into(),
            rows: vec![
                vec![json!("2020-01-01"), json!(4), json!(4.0)],
                vec![json!("2020-01-05"), json!(8), json!(8.0)],
            ],
            cut: false,
        };
        let [first, last] = [1, 5].map(|day| NaiveDate::from_ymd_opt(2020, 1, day).unwrap());
        assert_eq!(
            spark(&rows, "transactions", first, last),
            "2.0,14.0 31.0,26.0 60.0,26.0 89.0,26.0 118.0,2.0 "
        );
        assert_eq!(spark(&rows, "fraud_bp", first, last), "2.0,26.0 118.0,2.0 ");
    }
}
