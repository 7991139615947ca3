//! How suspicious a transaction is: a logistic regression on the features of the dbt model `fraud_features`, fitted on
//! the first 80 % of time and judged on the rest, next to two simpler ways to tell.
//!
//! Promises: every figure of an evaluation is of rows that the model was not fitted on; the same rows give the same
//! model. Relies on `fraud_features` for what was known of a transaction when it came.

mod features;
mod metrics;
mod model;
mod object;
mod rows;
mod training;

pub use features::{FEATURES, Feature, Transaction};
pub use metrics::{Group, Interval, Judged, Ranking, RankingError};
pub use model::{Evaluation, FittedOn, Model, ModelError, ScoreQuality, Scorer, Weight, Weights};
pub use object::{OBJECT_ROWS, Score, ScoresFooter, file, schema};
pub use rows::{FeatureRow, RowsError, rows, statement};
pub use training::{DRAWN, FITTED_SHARE, Labelled, Training, TrainingError};
