use std::fmt;

use chrono::NaiveDate;

use super::{SUFFIX, parse_date};
use crate::datasets::FRAUD_SCORES;

/// The name of an object of fraud scores: the model that gave them, and which of the model's objects it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ScoresObjectName {
    /// The day until which the model was fitted: the same for all of its objects, so that two of one number meet at
    /// one key.
    pub date: NaiveDate,
    /// The model's id.
    pub model: u64,
    /// Counts the model's objects from 1.
    pub number: u32,
}

impl ScoresObjectName {
    /// The object's key: `fraud_scores/2020-03-06/fraud_scores-00c0ffee00c0ffee-000001.parquet`.
    pub fn key(&self) -> String {
        self.to_string()
    }

    pub fn parse(key: &str) -> Option<Self> {
        let (folder, file) = key.rsplit_once('/')?;
        let (_, date) = folder.rsplit_once('/')?;
        let parts = file.strip_suffix(SUFFIX)?.strip_prefix(FRAUD_SCORES.name)?;
        let (model, number) = parts.strip_prefix('-')?.split_once('-')?;
        let name = Self {
            date: parse_date(date)?,
            model: u64::from_str_radix(model, 16).ok()?,
            number: number.parse().ok()?,
        };
        // Leading zeros, signs and upper case would be other keys of the same object.
        (name.key() == key).then_some(name)
    }
}

impl fmt::Display for ScoresObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            date,
            model,
            number,
        } = self;
        let (folder, name) = (FRAUD_SCORES.folder(*date), FRAUD_SCORES.name);
        write!(f, "{folder}/{name}-{model:016x}-{number:06}{SUFFIX}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_the_model_and_the_number_of_its_object() {
        let name = ScoresObjectName {
            date: NaiveDate::from_ymd_opt(2020, 3, 6).expect("a date"),
            model: 0xc0_ffee_00c0_ffee,
            number: 1,
        };
        let key = "fraud_scores/2020-03-06/fraud_scores-00c0ffee00c0ffee-000001.parquet";
        assert_eq!(name.key(), key);
        assert_eq!(ScoresObjectName::parse(key), Some(name));
        for other in [
            "fraud_scores/2020-03-06/fraud_scores-00C0FFEE00C0FFEE-000001.parquet",
            "fraud_scores/2020-03-06/fraud_scores-c0ffee00c0ffee-000001.parquet",
            "fraud_scores/2020-03-06/fraud_scores-00c0ffee00c0ffee-1.parquet",
            "fraud_scores/2020-03-06/fraud_scores-00c0ffee00c0ffee-000001.parquet.tmp",
            "fraud_scores/fraud_scores-00c0ffee00c0ffee-000001.parquet",
        ] {
            assert_eq!(ScoresObjectName::parse(other), None, "{other}");
        }
    }
}
