//! Fits a model on the first part of time and judges it on the rest.
//!
//! Promises: what is judged was not fitted on; the same transactions give the same model, in whatever order they come.
//! Memory: the rows of the later part, 160 bytes each, the fraud of the first one and at most [`DRAWN`] of its
//! legitimate rows, which are drawn by a hash. Fraud is rare, so more of them would hardly change the fit.

use std::collections::{BTreeMap, BinaryHeap, HashMap};

use chrono::{DateTime, Utc};
use smartcore::linalg::basic::arrays::Array as _;
use smartcore::linalg::basic::matrix::DenseMatrix;
use smartcore::linear::logistic_regression::{LogisticRegression, LogisticRegressionParameters};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::features::{FEATURES, Transaction, amount, category_feature, is_night};
use crate::metrics::{Judged, Ranking, RankingError};
use crate::model::{
    Evaluation, FittedOn, Model, ModelError, ScoreQuality, Scorer, Weight, Weights,
};

/// Legitimate rows of a fit, at most.
pub const DRAWN: usize = 100_000;
/// The share of time that is fitted on.
pub const FITTED_SHARE: f64 = 0.8;
/// The share of the transactions that an analyst looks at.
const ALERT_SHARE: f64 = 0.01;
/// Fraud that a fit needs: fewer rows than features say nothing.
const MIN_FRAUD: u64 = 30;
/// Categories that are features, the most frequent ones: the data set has 14.
const MAX_CATEGORIES: usize = 40;
/// The penalty of large coefficients, in units of one standard deviation: scikit-learn's default.
const PENALTY: f64 = 1.0;

/// Why there is no model.
#[derive(Debug, thiserror::Error)]
pub enum TrainingError {
    #[error(
        "of the {rows} transactions from {from} to {until}, the first 80 % of time, {fraud} are fraud: a fit needs {MIN_FRAUD} of them, and legitimate ones"
    )]
    TooLittle {
        from: DateTime<Utc>,
        until: DateTime<Utc>,
        rows: u64,
        fraud: u64,
    },
    #[error("the transactions after {after}, the last 20 % of time, can't judge a model: {source}")]
    NotJudged {
        after: DateTime<Utc>,
        source: RankingError,
    },
    #[error("the logistic regression can't be fitted: {0}")]
    Fit(String),
    #[error(transparent)]
    Model(#[from] ModelError),
}

/// A transaction whose kind is known.
#[derive(Clone, Copy, Debug)]
pub struct Labelled<'a> {
    pub id: &'a str,
    pub user: &'a str,
    pub at: DateTime<Utc>,
    pub is_fraud: bool,
}

/// A transaction that is kept. The order is that of the hashes, by which rows are drawn.
#[derive(Clone, Debug)]
struct Row {
    hash: u64,
    values: [f64; FEATURES.len()],
    category: u32,
    /// A hash of the user.
    card: u64,
    is_fraud: bool,
}

impl PartialEq for Row {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash
    }
}

impl Eq for Row {}

impl PartialOrd for Row {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Row {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.hash.cmp(&other.hash)
    }
}

/// Numbers texts from 0.
#[derive(Default)]
struct Names {
    numbers: HashMap<String, u32>,
    names: Vec<String>,
}

impl Names {
    fn number(&mut self, name: &str) -> u32 {
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        let number = self.names.len() as u32;
        self.numbers.insert(name.to_owned(), number);
        self.names.push(name.to_owned());
        number
    }
}

/// How many rows, and how many of them are fraud.
#[derive(Clone, Copy, Default)]
struct Count {
    rows: u64,
    fraud: u64,
}

impl Count {
    fn add(&mut self, is_fraud: bool) {
        self.rows += 1;
        self.fraud += u64::from(is_fraud);
    }
}

/// Takes transactions in any order, then fits.
pub struct Training {
    from: DateTime<Utc>,
    until: DateTime<Utc>,
    /// The end of what is fitted on.
    cut: DateTime<Utc>,
    seed: u64,
    categories: Names,
    /// The legitimate rows with the smallest hashes.
    legitimate: BinaryHeap<Row>,
    fraud: Vec<Row>,
    later: Vec<Row>,
    fitted: Count,
    /// By category and night, of what is fitted on.
    cells: BTreeMap<(u32, bool), Count>,
}

impl Training {
    /// For transactions of this range of time.
    pub fn new(from: DateTime<Utc>, until: DateTime<Utc>, seed: u64) -> Self {
        let span = (until - from).num_seconds().max(0) as f64;
        let cut = from + chrono::TimeDelta::seconds((span * FITTED_SHARE) as i64);
        Self {
            from,
            until,
            cut,
            seed,
            categories: Names::default(),
            legitimate: BinaryHeap::new(),
            fraud: Vec::new(),
            later: Vec::new(),
            fitted: Count::default(),
            cells: BTreeMap::new(),
        }
    }

    pub fn add(&mut self, labelled: Labelled<'_>, transaction: &Transaction<'_>) {
        let category = self.categories.number(transaction.category);
        let row = Row {
            hash: xxh3_64_with_seed(labelled.id.as_bytes(), self.seed),
            values: *transaction.values(),
            category,
            card: xxh3_64_with_seed(labelled.user.as_bytes(), self.seed),
            is_fraud: labelled.is_fraud,
        };
        if labelled.at > self.cut {
            self.later.push(row);
            return;
        }
        self.fitted.add(row.is_fraud);
        let cell = (category, is_night(&row.values));
        self.cells.entry(cell).or_default().add(row.is_fraud);
        if row.is_fraud {
            self.fraud.push(row);
        } else if self.legitimate.len() < DRAWN {
            self.legitimate.push(row);
        } else if let Some(mut largest) = self.legitimate.peek_mut()
            && row < *largest
        {
            *largest = row;
        }
    }

    /// # Errors
    /// If a part of time has too few rows of a kind.
    pub fn finish(mut self) -> Result<Model, TrainingError> {
        let Count { rows, fraud } = self.fitted;
        if fraud < MIN_FRAUD || fraud == rows {
            return Err(TrainingError::TooLittle {
                from: self.from,
                until: self.cut,
                rows,
                fraud,
            });
        }
        // Sums of floating-point numbers depend on the order.
        self.later.sort();
        let mut drawn = std::mem::take(&mut self.legitimate).into_sorted_vec();
        let legitimate_rows_drawn = drawn.len() as u64;
        drawn.append(&mut self.fraud);
        drawn.sort();
        let weights = self.fit(&drawn, legitimate_rows_drawn)?;
        drop(drawn);
        let evaluation = self.evaluate(&weights)?;
        let fitted_on = FittedOn {
            from: self.from,
            until: self.cut,
            rows,
            fraud_rows: fraud,
            legitimate_rows_drawn,
            seed: self.seed,
        };
        Ok(Model::new(weights, fitted_on, evaluation))
    }

    /// The most frequent categories of what is fitted on, by name.
    fn category_features(&self) -> Vec<(u32, &str)> {
        let mut rows: BTreeMap<u32, u64> = BTreeMap::new();
        for ((category, _), count) in &self.cells {
            *rows.entry(*category).or_default() += count.rows;
        }
        let named = rows.into_iter();
        let mut named: Vec<(u64, u32, &str)> = named
            .map(|(number, rows)| {
                (
                    rows,
                    number,
                    self.categories.names[number as usize].as_str(),
                )
            })
            .collect();
        named.sort_by(|one, two| (two.0, one.2).cmp(&(one.0, two.2)));
        named.truncate(MAX_CATEGORIES);
        let mut found: Vec<(u32, &str)> = named
            .into_iter()
            .map(|(_, number, name)| (number, name))
            .collect();
        found.sort_by_key(|(_, name)| *name);
        found
    }

    fn fit(&self, rows: &[Row], legitimate_rows_drawn: u64) -> Result<Weights, TrainingError> {
        let failed = |error: smartcore::error::Failed| TrainingError::Fit(error.to_string());
        let categories = self.category_features();
        let names = FEATURES.iter().map(|feature| feature.name.to_owned());
        let names = names.chain(categories.iter().map(|(_, name)| category_feature(name)));
        let names: Vec<String> = names.collect();
        let width = names.len();
        let mut values = Vec::with_capacity(rows.len() * width);
        for row in rows {
            values.extend(row.values);
            let is_it = categories.iter().map(|(number, _)| *number == row.category);
            values.extend(is_it.map(|is_it| f64::from(u8::from(is_it))));
        }
        let columns: Vec<(f64, f64)> = (0..width)
            .map(|column| standardise(&mut values, width, column))
            .collect();
        let values = DenseMatrix::new(rows.len(), width, values, false).map_err(failed)?;
        let kinds: Vec<i32> = rows.iter().map(|row| i32::from(row.is_fraud)).collect();
        let parameters = LogisticRegressionParameters::default().with_alpha(PENALTY);
        let fitted = LogisticRegression::fit(&values, &kinds, parameters).map_err(failed)?;
        // The second class is the one whose odds are given.
        let sign = if fitted.classes() == &[0, 1] {
            1.0
        } else {
            -1.0
        };
        let legitimate = self.fitted.rows - self.fitted.fraud;
        let share_drawn = legitimate_rows_drawn as f64 / legitimate as f64;
        let features = names.into_iter().zip(columns).enumerate();
        Ok(Weights {
            // With fewer legitimate rows the odds of fraud are higher by as much (King and Zeng 2001, prior correction).
            intercept: sign * fitted.intercept().get((0, 0)) + share_drawn.ln(),
            features: features
                .map(|(place, (name, (mean, scale)))| Weight {
                    name,
                    mean,
                    scale,
                    coefficient: sign * fitted.coefficients().get((0, place)),
                })
                .collect(),
            fitted_until: self.cut,
        })
    }

    fn evaluate(&self, weights: &Weights) -> Result<Evaluation, TrainingError> {
        let scorer = Scorer::new(weights)?;
        // By the order of the rows, which is the same for the same transactions.
        let mut numbers = HashMap::new();
        let cards: Vec<u32> = self
            .later
            .iter()
            .map(|row| {
                let next = numbers.len() as u32;
                *numbers.entry(row.card).or_insert(next)
            })
            .collect();
        let rank = |score: &dyn Fn(&Row) -> f64| {
            let judged = self.later.iter().zip(&cards).map(|(row, card)| Judged {
                score: score(row),
                is_fraud: row.is_fraud,
                card: *card,
            });
            Ranking::new(judged.collect()).map_err(|source| TrainingError::NotJudged {
                after: self.cut,
                source,
            })
        };
        let model = rank(&|row| {
            let category = &self.categories.names[row.category as usize];
            scorer.score(&Transaction::known(row.values, category))
        })?;
        let by_amount = rank(&|row| amount(&row.values))?;
        let by_cell = rank(&|row| {
            let cell = self.cells.get(&(row.category, is_night(&row.values)));
            cell.map_or(0.0, |count| count.fraud as f64 / count.rows as f64)
        })?;
        let quality = |name: &str, ranking: &Ranking| ScoreQuality {
            name: name.to_owned(),
            roc_auc: ranking.roc_auc(),
            pr_auc: ranking.pr_auc(),
            recall: ranking.recall_at(ALERT_SHARE),
            recall_interval: ranking.recall_interval(ALERT_SHARE, self.seed),
        };
        Ok(Evaluation {
            from: self.cut,
            until: self.until,
            rows: self.later.len() as u64,
            fraud_rows: self.later.iter().filter(|row| row.is_fraud).count() as u64,
            alert_share: ALERT_SHARE,
            scores: vec![
                quality("logistic regression", &model),
                quality("amount alone", &by_amount),
                quality("night and category", &by_cell),
            ],
            calibration: model.calibration(),
        })
    }
}

/// Makes a column's mean 0 and its deviation 1, and gives both as they were. What is unknown becomes the mean.
fn standardise(values: &mut [f64], width: usize, column: usize) -> (f64, f64) {
    let known = || {
        let values = values.iter().skip(column).step_by(width);
        values.filter(|value| !value.is_nan())
    };
    let rows = known().count().max(1) as f64;
    let mean = known().sum::<f64>() / rows;
    let variance = known().map(|value| (value - mean).powi(2)).sum::<f64>() / rows;
    // A column of one value says nothing, and must not be divided by nothing.
    let scale = if variance > 0.0 { variance.sqrt() } else { 1.0 };
    for value in values.iter_mut().skip(column).step_by(width) {
        *value = if value.is_nan() {
            0.0
        } else {
            (*value - mean) / scale
        };
    }
    (mean, scale)
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn second(number: u32) -> DateTime<Utc> {
        DateTime::from_timestamp(1_546_300_800 + i64::from(number), 0).unwrap()
    }

    /// A thousand rows: each tenth is fraud, of a large amount in most cases.
    fn training(order: impl Iterator<Item = u32>) -> Training {
        let mut training = Training::new(second(0), second(999), 1);
        for number in order {
            let is_fraud = number.is_multiple_of(10);
            let usual = number.is_multiple_of(7);
            let amount = if is_fraud != usual { 900.0 } else { 9.0 } + f64::from(number % 13);
            let mut columns = [Some(1.0); FEATURES.len()];
            columns[0] = Some(amount);
            columns[1] = Some(f64::from(number % 24));
            columns[4] = (number > 3).then_some(f64::from(number % 5));
            let id = number.to_string();
            let user = (number / 20 % 9).to_string();
            let labelled = Labelled {
                id: &id,
                user: &user,
                at: second(number),
                is_fraud,
            };
            let category = if is_fraud { "travel" } else { "home" };
            training.add(labelled, &Transaction::new(columns, category));
        }
        training
    }

    pub(crate) fn model() -> Model {
        training(0..1000).finish().unwrap()
    }

    #[test]
    fn columns_are_standardised_and_what_is_unknown_is_the_mean() {
        let mut values = [1.0, 5.0, 3.0, 5.0, f64::NAN, 5.0];
        assert_eq!(standardise(&mut values, 2, 0), (2.0, 1.0));
        assert_eq!(standardise(&mut values, 2, 1), (5.0, 1.0));
        assert_eq!(values, [-1.0, 0.0, 1.0, 0.0, 0.0, 0.0]);
    }

    /// One feature of two values: the fit without a penalty is the log odds of each, so with intercept
    /// corrected for the legitimate rows that are left out the predicted shares are the true ones.
    #[test]
    fn the_fit_gives_the_shares_of_fraud_and_is_the_same_in_any_order() {
        let model = model();
        assert_eq!(training((0..1000).rev()).finish().unwrap(), model);
        assert_eq!(model.fitted_on.rows, 800);
        assert_eq!(model.fitted_on.fraud_rows, 80);
        assert_eq!(
            (model.evaluation.rows, model.evaluation.fraud_rows),
            (200, 20)
        );
        let best = &model.evaluation.scores[0];
        assert!(best.roc_auc > 0.999, "{best:?}");
        let amount = &model.evaluation.scores[1];
        assert!(amount.roc_auc < best.roc_auc, "{amount:?}");
        // The category tells fraud in this data.
        assert!((model.evaluation.scores[2].roc_auc - 1.0).abs() < 1e-12);
        let predicted: f64 = model
            .evaluation
            .calibration
            .iter()
            .map(|group| group.predicted)
            .sum();
        assert!((predicted / 10.0 - 0.1).abs() < 0.01, "{predicted}");
    }

    #[test]
    fn a_document_is_read_as_it_was_written_and_refused_if_it_was_changed() {
        let model = model();
        let text = model.write().unwrap();
        assert_eq!(Model::read(&text).unwrap(), model);
        let changed = text.replacen("\"mean\": 1.0", "\"mean\": 1.5", 1);
        assert_ne!(changed, text);
        let error = Model::read(&changed).unwrap_err();
        assert!(matches!(error, ModelError::Changed { .. }), "{error}");
        let newer = text.replacen("\"format_version\": 1", "\"format_version\": 2", 1);
        let error = Model::read(&newer).unwrap_err().to_string();
        assert_eq!(
            error,
            "its format version is 2, and this program reads version 1"
        );
        assert!(matches!(
            Model::read("{}").unwrap_err(),
            ModelError::NotAModel(_)
        ));
        assert!(matches!(
            Model::read("not JSON").unwrap_err(),
            ModelError::NotAModel(_)
        ));
    }

    #[test]
    fn too_little_fraud_in_either_part_of_time_is_named() {
        let error = training((0_u32..1000).filter(|number| !number.is_multiple_of(10))).finish();
        let error = error.unwrap_err().to_string();
        assert!(error.contains("of the 720 transactions"), "{error}");
        assert!(error.contains("0 are fraud: a fit needs 30"), "{error}");
        let early = (0_u32..1000).filter(|number| *number < 800 || !number.is_multiple_of(10));
        let error = training(early).finish().unwrap_err().to_string();
        assert!(error.contains("none of 180 rows is fraud"), "{error}");
        let error = Training::new(second(0), second(0), 1).finish().unwrap_err();
        assert!(
            error.to_string().contains("of the 0 transactions"),
            "{error}"
        );
    }
}
