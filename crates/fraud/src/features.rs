//! What a model knows of a transaction: columns of the dbt model `fraud_features`, each with its transformation.
//!
//! Promises: a value that is unknown or not finite stays unknown; the names are those in a model's document.

/// A transaction before 4:00 or from 22:00 on is one of the night.
const NIGHT_FROM: f64 = 22.0;
const NIGHT_UNTIL: f64 = 4.0;

/// How a column becomes a number that a linear model can use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Transform {
    AsIs,
    /// Of amounts, times and counts: what matters is how many times larger one is.
    Log1p,
    /// 1 for an hour of the night.
    Night,
}

/// One number that a model weighs.
#[derive(Clone, Copy, Debug)]
pub struct Feature {
    /// As in a model's document.
    pub name: &'static str,
    /// The column of `fraud_features` that it is made from.
    pub column: &'static str,
    transform: Transform,
}

/// The features, without the categories, each of which is one more.
pub const FEATURES: [Feature; 16] = [
    log1p("log1p(amount_usd)", "amount_usd"),
    Feature {
        name: "night(hour)",
        column: "hour",
        transform: Transform::Night,
    },
    as_is("is_business_hour"),
    as_is("is_weekend"),
    log1p("log1p(seconds_since_user_txn)", "seconds_since_user_txn"),
    log1p("log1p(seconds_since_pair_txn)", "seconds_since_pair_txn"),
    log1p("log1p(user_txn_count_24h)", "user_txn_count_24h"),
    log1p("log1p(user_amount_usd_sum_24h)", "user_amount_usd_sum_24h"),
    log1p("log1p(user_amount_usd_avg_24h)", "user_amount_usd_avg_24h"),
    log1p("log1p(user_amount_usd_max_24h)", "user_amount_usd_max_24h"),
    log1p("log1p(user_txn_count_30d)", "user_txn_count_30d"),
    log1p("log1p(user_amount_usd_avg_30d)", "user_amount_usd_avg_30d"),
    log1p("log1p(user_amount_usd_max_30d)", "user_amount_usd_max_30d"),
    log1p("log1p(merchant_txn_count_30d)", "merchant_txn_count_30d"),
    log1p(
        "log1p(merchant_amount_usd_avg_30d)",
        "merchant_amount_usd_avg_30d",
    ),
    log1p("log1p(pair_txn_count_30d)", "pair_txn_count_30d"),
];

const AMOUNT: usize = 0;
const NIGHT: usize = 1;

const fn log1p(name: &'static str, column: &'static str) -> Feature {
    Feature {
        name,
        column,
        transform: Transform::Log1p,
    }
}

const fn as_is(column: &'static str) -> Feature {
    Feature {
        name: column,
        column,
        transform: Transform::AsIs,
    }
}

/// The feature of a category, by its name in a model's document.
pub(crate) fn category_feature(category: &str) -> String {
    format!("{CATEGORY_PREFIX}{category}")
}

pub(crate) const CATEGORY_PREFIX: &str = "category ";

/// What is known of a transaction. An unknown number is NaN, which takes the least memory.
#[derive(Clone, Debug, PartialEq)]
pub struct Transaction<'a> {
    values: [f64; FEATURES.len()],
    pub category: &'a str,
}

impl<'a> Transaction<'a> {
    /// From the columns' values, in the order of [`FEATURES`].
    pub fn new(columns: [Option<f64>; FEATURES.len()], category: &'a str) -> Self {
        let mut values = [f64::NAN; FEATURES.len()];
        for ((value, column), feature) in values.iter_mut().zip(columns).zip(&FEATURES) {
            let made = column.map(|column| match feature.transform {
                Transform::AsIs => column,
                // Money that was given back counts as none.
                Transform::Log1p => column.max(0.0).ln_1p(),
                Transform::Night => {
                    f64::from(u8::from(!(NIGHT_UNTIL..NIGHT_FROM).contains(&column)))
                }
            });
            *value = made.filter(|made| made.is_finite()).unwrap_or(f64::NAN);
        }
        Self { values, category }
    }

    /// From numbers that were made before.
    pub(crate) fn known(values: [f64; FEATURES.len()], category: &'a str) -> Self {
        Self { values, category }
    }

    /// The numbers, NaN where one is unknown.
    pub(crate) fn values(&self) -> &[f64; FEATURES.len()] {
        &self.values
    }
}

/// The amount's rank is its own, whatever its unit; an unknown amount comes last.
pub(crate) fn amount(values: &[f64; FEATURES.len()]) -> f64 {
    let amount = values[AMOUNT];
    if amount.is_nan() { -1.0 } else { amount }
}

pub(crate) fn is_night(values: &[f64; FEATURES.len()]) -> bool {
    values[NIGHT] == 1.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_become_numbers_and_what_is_unknown_stays_so() {
        let mut columns = [Some(1.0); FEATURES.len()];
        columns[AMOUNT] = Some(std::f64::consts::E - 1.0);
        columns[4] = None;
        columns[5] = Some(f64::INFINITY);
        columns[6] = Some(-5.0);
        let transaction = Transaction::new(columns, "travel");
        let values = transaction.values();
        assert!((values[AMOUNT] - 1.0).abs() < 1e-12);
        assert!(values[4].is_nan() && values[5].is_nan());
        assert!(values[6].abs() < 1e-12);
        assert!((amount(values) - 1.0).abs() < 1e-12);
        assert!(amount(Transaction::new([None; FEATURES.len()], "").values()) < 0.0);
    }

    #[test]
    fn the_night_is_from_22_to_4() {
        for (hour, night) in [
            (21.0, false),
            (22.0, true),
            (0.0, true),
            (3.0, true),
            (4.0, false),
        ] {
            let mut columns = [None; FEATURES.len()];
            columns[NIGHT] = Some(hour);
            let transaction = Transaction::new(columns, "");
            assert_eq!(is_night(transaction.values()), night, "{hour}");
        }
    }
}
