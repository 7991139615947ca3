//! What the charts ask, and how an answer is drawn.

use chrono::{Days, NaiveDate};
use plotly::common::{ColorScale, ColorScaleElement, Fill, Marker, Mode, Orientation, Title};
use plotly::layout::{Axis, AxisType, BarMode, HoverMode};
use plotly::{Bar, HeatMap, Layout, Plot, Scatter};

use crate::filters::{Filters, Fraud};
use crate::plots::{from_zero, line, two_axes};
use crate::rows::Rows;

const VOLUME: &str = "--accent";
const FRAUD: &str = "--fraud";
/// A line of more points than this is drawn by week.
const MAX_DAYS: i64 = 120;

/// One chart: a question to the facts and the picture of its answer.
pub(crate) struct Question {
    /// Part of addresses.
    pub name: &'static str,
    pub title: &'static str,
    /// What is shown in which unit; there is a rate of fraud only where all transactions are shown.
    pub unit: fn(Fraud) -> &'static str,
    pub sql: fn(&Filters) -> String,
    pub draw: fn(&Rows) -> Plot,
}

pub(crate) const QUESTIONS: &[Question] = &[
    Question {
        name: "over_time",
        title: "Volume and fraud over time",
        unit: |fraud| match fraud {
            Fraud::All => {
                "USD by each day's rates; fraud rate in basis points (1 in 10,000); by week, or by day for up to 120 days"
            }
            Fraud::Only | Fraud::Without => {
                "USD by each day's rates; by week, or by day for up to 120 days. A fraud rate needs transactions with and without fraud"
            }
        },
        sql: |filters| {
            let step = if filters.days().is_some_and(|days| days <= MAX_DAYS) {
                "cast(transaction_datetime_UTC as date) as day"
            } else {
                "cast(date_trunc('week', transaction_datetime_UTC) as date) as week_from"
            };
            facts(filters, step, "1", 1_000)
        },
        draw: over_time,
    },
    Question {
        name: "by_hour",
        title: "Fraud by hour",
        unit: |fraud| match fraud {
            Fraud::All => "Basis points of the transactions of each hour of the day, UTC",
            Fraud::Only => {
                "Transactions with fraud in each hour of the day, UTC. A rate needs those without fraud, too"
            }
            Fraud::Without => {
                "Fraud is left out: transactions without it in each hour of the day, UTC"
            }
        },
        sql: |filters| {
            facts(
                filters,
                "cast(extract(hour from transaction_datetime_UTC) as int) as hour",
                "1",
                24,
            )
        },
        draw: |rows| {
            let (column, name) = if rows.has("fraud_bp") {
                ("fraud_bp", "fraud rate, bp")
            } else {
                ("transactions", "transactions")
            };
            let bars = Bar::new(rows.texts("hour"), rows.numbers(column));
            let mut plot = Plot::new();
            plot.add_trace(bars.name(name).marker(Marker::new().color(FRAUD)));
            plot
        },
    },
    Question {
        name: "week",
        title: "When people pay",
        unit: |_| "Transactions by day of the week and hour, UTC",
        sql: |filters| {
            let condition = filters.condition();
            format!(
                "select weekday, case weekday when 1 then 'Mon' when 2 then 'Tue' when 3 then 'Wed' \
                 when 4 then 'Thu' when 5 then 'Fri' when 6 then 'Sat' else 'Sun' end as day, hour, \
                 count(*) as transactions from (select \
                 (cast(extract(dow from transaction_datetime_UTC) as int) + 6) % 7 + 1 as weekday, \
                 cast(extract(hour from transaction_datetime_UTC) as int) as hour \
                 from fct_transactions {condition}) as times group by 1, 2, 3 order by 1, 3"
            )
        },
        draw: |rows| {
            let heat = HeatMap::new(
                reversed(rows.numbers("hour")),
                // The first one is at the bottom.
                reversed(rows.texts("day")),
                reversed(rows.numbers("transactions")),
            );
            let mut plot = Plot::new();
            let scale = vec![
                ColorScaleElement(0.0, "--bg".to_owned()),
                ColorScaleElement(1.0, VOLUME.to_owned()),
            ];
            let heat = heat.color_scale(ColorScale::Vector(scale));
            plot.add_trace(heat.name("transactions"));
            plot.set_layout(Layout::new().x_axis(Axis::new().title(Title::with_text("hour, UTC"))));
            plot
        },
    },
    Question {
        name: "part_of_day",
        title: "Parts of the day",
        unit: |fraud| match fraud {
            Fraud::All => {
                "Volume in USD and fraud rate in basis points; the parts begin at 0, 6, 12 and 18 h UTC"
            }
            Fraud::Only | Fraud::Without => {
                "Volume in USD; the parts begin at 0, 6, 12 and 18 h UTC"
            }
        },
        sql: |filters| {
            facts(
                filters,
                "case when extract(hour from transaction_datetime_UTC) < 6 then 'Night' \
                 when extract(hour from transaction_datetime_UTC) < 12 then 'Morning' \
                 when extract(hour from transaction_datetime_UTC) < 18 then 'Afternoon' \
                 else 'Evening' end as part_of_day",
                "min(time_key)",
                4,
            )
        },
        draw: |rows| columns_and_rate(rows, "part_of_day"),
    },
    Question {
        name: "by_category",
        title: "Categories",
        unit: |fraud| match fraud {
            Fraud::All => "Volume in USD; hover for the fraud rate",
            Fraud::Only | Fraud::Without => "Volume in USD",
        },
        sql: |filters| facts(filters, "category", "amount_usd desc nulls last", 100),
        draw: |rows| ranking(rows, rows.texts("category")),
    },
    Question {
        name: "by_currency",
        title: "Currencies",
        unit: |_| "Volume in USD by the rate of each day",
        sql: |filters| facts(filters, "currency", "amount_usd desc nulls last", 100),
        draw: |rows| ranking(rows, rows.texts("currency")),
    },
    Question {
        name: "by_segment",
        title: "Segments",
        unit: |_| "Volume in USD by gender and age of the user on the day of the transaction",
        sql: |filters| {
            format!(
                "select gender, case when age < 25 then 'under 25' when age < 35 then '25-34' \
                 when age < 45 then '35-44' when age < 55 then '45-54' when age >= 55 then '55+' \
                 else 'unknown' end as age_group, {} from (select facts.*, \
                 case when users.gender in ('F', 'M') then users.gender else 'unknown' end as gender, \
                 (date_key - cast(to_char(users.dob, '%Y%m%d') as int)) / 10000 as age \
                 from (select * from fct_transactions {}) as facts \
                 left join dim_users_history as users on users.user_version_id = facts.user_version_id) as ages \
                 group by 1, 2 order by min(coalesce(age, 1000)), 1",
                figures(filters),
                filters.condition()
            )
        },
        draw: |rows| {
            let (genders, ages) = (rows.texts("gender"), rows.texts("age_group"));
            let volume = rows.numbers("amount_usd");
            let mut plot = Plot::new();
            for (gender, colour) in [("F", VOLUME), ("M", "--second"), ("unknown", "--dim")] {
                let mine = (0..genders.len()).filter(|index| genders[*index] == gender);
                let (ages, volume): (Vec<_>, Vec<_>) = mine
                    .map(|index| (ages[index].clone(), volume[index]))
                    .unzip();
                if !ages.is_empty() {
                    plot.add_trace(
                        Bar::new(ages, volume)
                            .name(gender)
                            .marker(Marker::new().color(colour)),
                    );
                }
            }
            plot.set_layout(Layout::new().bar_mode(BarMode::Group));
            plot
        },
    },
    Question {
        name: "merchants",
        title: "Merchants",
        unit: |_| "The 20 with most volume, USD",
        sql: |filters| facts(filters, "merchant_name", "amount_usd desc nulls last", 20),
        draw: |rows| ranking(rows, rows.texts("merchant_name")),
    },
    Question {
        name: "merchant_fraud",
        title: "Where fraud hits",
        unit: |_| "The 20 merchants that lost most, USD",
        sql: |filters| {
            // All transactions of a merchant, of which some are fraud.
            let (figures, condition) = (figures(filters), filters.condition());
            format!(
                "select merchant_name, {figures} from fct_transactions {condition} group by 1 \
                 having max(is_fraud) = 1 order by fraud_usd desc nulls last limit 20"
            )
        },
        draw: |rows| {
            let bars = Bar::new(
                reversed(rows.numbers("fraud_usd")),
                reversed(rows.texts("merchant_name")),
            );
            sideways(bars.name("fraud, USD").marker(Marker::new().color(FRAUD)))
        },
    },
    Question {
        name: "map",
        title: "Where it happens",
        unit: |_| "Merchants by their coordinates; the larger, the more transactions",
        sql: |filters| {
            format!(
                "select facts.merchant_name, longitude, latitude, {} \
                 from (select * from fct_transactions {}) as facts \
                 join dim_merchants on dim_merchants.merchant_name = facts.merchant_name and has_merchant_geo \
                 group by 1, 2, 3 order by transactions desc limit 2000",
                figures(filters),
                filters.condition()
            )
        },
        draw: |rows| {
            let most = rows
                .numbers("transactions")
                .into_iter()
                .flatten()
                .fold(1.0, f64::max);
            let sizes = rows.numbers("transactions").into_iter().flatten();
            let sizes = sizes.map(|count| (4.0 + 14.0 * (count / most).sqrt()) as usize);
            let marker = Marker::new()
                .size_array(sizes.collect())
                .opacity(0.6)
                .color(VOLUME);
            let places = Scatter::new(rows.numbers("longitude"), rows.numbers("latitude"))
                .mode(Mode::Markers)
                .name("merchants")
                .text_array(rows.texts("merchant_name"))
                .marker(marker);
            let mut plot = Plot::new();
            plot.add_trace(places);
            let axis = |title: &str| Axis::new().title(Title::with_text(title)).zero_line(false);
            plot.set_layout(
                Layout::new()
                    .x_axis(axis("longitude, °"))
                    .y_axis(axis("latitude, °").scale_anchor("x")),
            );
            plot
        },
    },
    Question {
        name: "users",
        title: "Users",
        unit: |_| "The 20 who spend most, USD",
        sql: |filters| facts(filters, "user_id", "amount_usd desc nulls last", 20),
        draw: |rows| {
            let ids = rows.texts("user_id").into_iter();
            ranking(rows, ids.map(|id| id.chars().take(8).collect()).collect())
        },
    },
    Question {
        name: "rates",
        title: "Exchange rates used",
        unit: |_| "Currency units for one USD, by day",
        sql: |filters| {
            let condition = filters.condition();
            format!(
                "select cast(transaction_datetime_UTC as date) as day, currency, max(fx_rate_to_currency) as rate, \
                 max(fx_rate_provider) as provider, max(fx_rate_rule) as rule \
                 from fct_transactions {condition} group by 1, 2 order by 1, 2 limit 2000"
            )
        },
        draw: |rows| {
            let (days, currencies) = (rows.texts("day"), rows.texts("currency"));
            let rates = rows.numbers("rate");
            let mut names = currencies.clone();
            names.sort();
            names.dedup();
            let mut plot = Plot::new();
            for name in names {
                let mine = (0..days.len()).filter(|index| currencies[*index] == name);
                let (days, rates): (Vec<_>, Vec<_>) = mine
                    .map(|index| (days[index].clone(), rates[index]))
                    .unzip();
                plot.add_trace(Scatter::new(days, rates).mode(Mode::Lines).name(name));
            }
            plot.set_layout(Layout::new().hover_mode(HoverMode::XUnified));
            plot
        },
    },
];

/// The key figures of a group of transactions. Where fraud is filtered by, its rate would be all or nothing.
pub(crate) fn figures(filters: &Filters) -> String {
    let rate = match filters.fraud {
        Fraud::All => ", 10000.0 * avg(is_fraud) as fraud_bp",
        Fraud::Only | Fraud::Without => "",
    };
    format!(
        "count(*) as transactions, sum(amount_usd) as amount_usd, \
         count(case when is_fraud = 1 then 1 end) as fraud_transactions, \
         sum(case when is_fraud = 1 then amount_usd end) as fraud_usd{rate}"
    )
}

/// The key figures of each group of transactions.
fn facts(filters: &Filters, group: &str, order: &str, limit: usize) -> String {
    let (figures, condition) = (figures(filters), filters.condition());
    format!(
        "select {group}, {figures} from fct_transactions {condition} group by 1 order by {order} limit {limit}"
    )
}

/// A period without a transaction has a volume of zero, and no rate.
fn over_time(rows: &Rows) -> Plot {
    let step = rows.columns.first().map_or("", |column| &column.name);
    let days = if step == "day" { 1 } else { 7 };
    let (mut dates, mut volume, mut rate) = (Vec::new(), Vec::new(), Vec::new());
    let (volumes, rates) = (rows.numbers("amount_usd"), rows.numbers("fraud_bp"));
    for (date, row) in with_gaps(&rows.days(step), Days::new(days)) {
        dates.push(date.to_string());
        volume.push(row.map_or(Some(0.0), |row| volumes[row]));
        rate.push(row.and_then(|row| rates[row]));
    }
    let mut plot = Plot::new();
    let volume = line(dates.clone(), volume, "volume, USD", VOLUME);
    plot.add_trace(volume.fill(Fill::ToZeroY));
    let layout = if rows.has("fraud_bp") {
        // A period between two gaps is a point.
        let rate = line(dates, rate, "fraud rate, bp", FRAUD).mode(Mode::LinesMarkers);
        plot.add_trace(rate.marker(Marker::new().color(FRAUD).size(4)).y_axis("y2"));
        two_axes()
    } else {
        from_zero()
    };
    plot.set_layout(layout.hover_mode(HoverMode::XUnified));
    plot
}

/// Dates with the numbers of their rows, and the first and last date of each gap between them: enough for a line, however long the gap.
fn with_gaps(dates: &[NaiveDate], step: Days) -> Vec<(NaiveDate, Option<usize>)> {
    let mut all = Vec::new();
    let mut due: Option<NaiveDate> = None;
    for (row, date) in dates.iter().copied().enumerate() {
        if let (Some(first), Some(last)) = (due, date.checked_sub_days(step))
            && first <= last
        {
            all.push((first, None));
            if first < last {
                all.push((last, None));
            }
        }
        all.push((date, Some(row)));
        due = date.checked_add_days(step);
    }
    all
}

/// Volume as columns, the fraud rate as points with an axis of their own.
fn columns_and_rate(rows: &Rows, names: &str) -> Plot {
    let names = rows.texts(names);
    let volume = Bar::new(names.clone(), rows.numbers("amount_usd"))
        .name("volume, USD")
        .marker(Marker::new().color(VOLUME));
    let rate = Scatter::new(names, rows.numbers("fraud_bp"))
        .mode(Mode::Markers)
        .name("fraud rate, bp")
        .marker(Marker::new().color(FRAUD).size(10))
        .y_axis("y2");
    let mut plot = Plot::new();
    plot.add_trace(volume);
    if rows.has("fraud_bp") {
        plot.add_trace(rate);
        plot.set_layout(two_axes());
    }
    plot
}

/// One bar a row, the first on top.
fn ranking(rows: &Rows, names: Vec<String>) -> Plot {
    let rates = reversed(rows.numbers("fraud_bp")).into_iter();
    let notes =
        rates.map(|rate| rate.map_or_else(String::new, |rate| format!("fraud {rate:.0} bp")));
    let bars = Bar::new(reversed(rows.numbers("amount_usd")), reversed(names));
    sideways(
        bars.name("volume, USD")
            .hover_text_array(notes.collect())
            .marker(Marker::new().color(VOLUME)),
    )
}

fn sideways(bars: Box<Bar<Option<f64>, String>>) -> Plot {
    let mut plot = Plot::new();
    plot.add_trace(bars.orientation(Orientation::Horizontal));
    let names = Axis::new().type_(AxisType::Category).auto_margin(true);
    plot.set_layout(Layout::new().y_axis(names.n_ticks(100)));
    plot
}

fn reversed<T>(mut values: Vec<T>) -> Vec<T> {
    values.reverse();
    values
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::{Value, json};

    use super::*;
    use crate::rows::Column;

    #[test]
    fn a_gap_in_the_time_has_no_volume_and_no_rate() {
        let column = |name: &str| Column {
            name: name.to_owned(),
            is_number: name != "week_from",
        };
        let rows = Rows {
            columns: ["week_from", "amount_usd", "fraud_bp"].map(column).into(),
            rows: serde_json::from_value(json!([
                ["2020-06-01", 5.0, 10.0],
                ["2020-06-08", 6.0, 20.0],
                ["2020-06-22", 7.0, 0.0],
                ["2026-11-30", null, 30.0],
            ]))
            .unwrap(),
            cut: false,
        };
        let figure: Value = serde_json::from_str(&over_time(&rows).to_json()).unwrap();
        let [volume, rate] = [0, 1].map(|trace| &figure["data"][trace]);
        assert_eq!(
            volume["x"],
            json!([
                "2020-06-01",
                "2020-06-08",
                "2020-06-15",
                "2020-06-22",
                "2020-06-29",
                "2026-11-23",
                "2026-11-30"
            ])
        );
        assert_eq!(volume["y"], json!([5.0, 6.0, 0.0, 7.0, 0.0, 0.0, null]));
        assert_eq!(rate["y"], json!([10.0, 20.0, null, 0.0, null, null, 30.0]));
        assert_eq!(rate["x"], volume["x"]);
    }
}
