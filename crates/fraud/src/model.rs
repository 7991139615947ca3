//! A fitted model as a document: what it weighs, what it was fitted on, what it is worth.
//!
//! Promises: a document that is read gives the scores of the one that was written; one that was changed since, or is of
//! another version, is refused. The id follows from the weights alone, so a repeated fit on the same rows has the same.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::features::{CATEGORY_PREFIX, FEATURES, Transaction};
use crate::metrics::{Group, Interval};

/// The version of the document.
const VERSION: u32 = 1;

/// A logistic regression with its evaluation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Model {
    format_version: u32,
    /// Fingerprint of the weights and of the time until which they were fitted, 16 hexadecimal digits.
    pub id: String,
    pub weights: Weights,
    pub fitted_on: FittedOn,
    pub evaluation: Evaluation,
}

/// What a score is computed from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Weights {
    pub intercept: f64,
    pub features: Vec<Weight>,
    /// Transactions up to this time may have been fitted on, later ones were not.
    pub fitted_until: DateTime<Utc>,
}

/// What one feature adds to the log odds: `coefficient * (value - mean) / scale`; nothing if its value is unknown.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Weight {
    pub name: String,
    pub mean: f64,
    pub scale: f64,
    pub coefficient: f64,
}

/// The first part of time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FittedOn {
    pub from: DateTime<Utc>,
    pub until: DateTime<Utc>,
    pub rows: u64,
    pub fraud_rows: u64,
    /// Legitimate rows that were drawn for the fit; the intercept makes up for the others.
    pub legitimate_rows_drawn: u64,
    pub seed: u64,
}

/// How good it is on the rest of time, which it has not seen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    pub from: DateTime<Utc>,
    pub until: DateTime<Utc>,
    pub rows: u64,
    pub fraud_rows: u64,
    /// The share of the transactions that an analyst looks at.
    pub alert_share: f64,
    /// The model first, then what it must beat.
    pub scores: Vec<ScoreQuality>,
    pub calibration: Vec<Group>,
}

/// How good one way to score is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScoreQuality {
    pub name: String,
    pub roc_auc: f64,
    pub pr_auc: f64,
    pub recall: f64,
    /// Null if there are too few cards with fraud for one.
    pub recall_interval: Option<Interval>,
}

/// A document that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    #[error("it is not a model: {0}")]
    NotAModel(#[from] serde_json::Error),
    #[error("its format version is {found}, and this program reads version {VERSION}")]
    Version { found: u32 },
    #[error("its id is {found} and its weights give {computed}: it was changed or damaged")]
    Changed { found: String, computed: String },
    #[error("this program does not know its feature {0:?}")]
    Feature(String),
}

impl Model {
    pub(crate) fn new(weights: Weights, fitted_on: FittedOn, evaluation: Evaluation) -> Self {
        Self {
            format_version: VERSION,
            id: id(&weights),
            weights,
            fitted_on,
            evaluation,
        }
    }

    /// Reads a document.
    ///
    /// # Errors
    /// If it is none, or not as it was written.
    pub fn read(text: &str) -> Result<Self, ModelError> {
        // The version first: another one's fields may differ.
        #[derive(Deserialize)]
        struct Head {
            format_version: u32,
        }
        let head: Head = serde_json::from_str(text)?;
        if head.format_version != VERSION {
            return Err(ModelError::Version {
                found: head.format_version,
            });
        }
        let model: Self = serde_json::from_str(text)?;
        let computed = id(&model.weights);
        if computed != model.id {
            return Err(ModelError::Changed {
                found: model.id,
                computed,
            });
        }
        model.scorer()?;
        Ok(model)
    }

    /// The document, for people to read as well.
    pub fn write(&self) -> Result<String, serde_json::Error> {
        let mut text = serde_json::to_string_pretty(self)?;
        text.push('\n');
        Ok(text)
    }

    /// What gives the scores of single transactions.
    ///
    /// # Errors
    /// If the model weighs a feature that this program does not know.
    pub fn scorer(&self) -> Result<Scorer, ModelError> {
        Scorer::new(&self.weights)
    }
}

fn id(weights: &Weights) -> String {
    format!("{:016x}", weights.fingerprint())
}

impl Weights {
    /// The id of the model as a number.
    pub fn fingerprint(&self) -> u64 {
        let mut bytes = Vec::new();
        let number = |value: f64| value.to_bits().to_le_bytes();
        bytes.extend(number(self.intercept));
        bytes.extend(self.fitted_until.timestamp_micros().to_le_bytes());
        for weight in &self.features {
            bytes.extend((weight.name.len() as u64).to_le_bytes());
            bytes.extend(weight.name.as_bytes());
            for value in [weight.mean, weight.scale, weight.coefficient] {
                bytes.extend(number(value));
            }
        }
        xxh3_64(&bytes)
    }
}

/// Where a weight's value is found.
#[derive(Clone, Debug)]
enum Source {
    Feature(usize),
    Category(String),
}

/// Gives scores.
#[derive(Clone, Debug)]
pub struct Scorer {
    intercept: f64,
    weights: Vec<(Source, Weight)>,
}

impl Scorer {
    pub(crate) fn new(weights: &Weights) -> Result<Self, ModelError> {
        let placed = weights.features.iter().map(|weight| {
            let source = match weight.name.strip_prefix(CATEGORY_PREFIX) {
                Some(category) => Source::Category(category.to_owned()),
                None => {
                    let place = FEATURES.iter().position(|known| known.name == weight.name);
                    Source::Feature(place.ok_or_else(|| ModelError::Feature(weight.name.clone()))?)
                }
            };
            Ok((source, weight.clone()))
        });
        Ok(Self {
            intercept: weights.intercept,
            weights: placed.collect::<Result<_, ModelError>>()?,
        })
    }

    /// How likely the transaction is fraud, from 0 to 1.
    pub fn score(&self, transaction: &Transaction<'_>) -> f64 {
        let known = self.weights.iter().map(|(source, weight)| {
            let value = match source {
                Source::Feature(place) => transaction.values()[*place],
                Source::Category(category) => f64::from(u8::from(category == transaction.category)),
            };
            if value.is_nan() {
                0.0
            } else {
                weight.coefficient * (value - weight.mean) / weight.scale
            }
        });
        let log_odds = self.intercept + known.sum::<f64>();
        1.0 / (1.0 + (-log_odds).exp())
    }
}
