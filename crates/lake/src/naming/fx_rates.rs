use std::fmt;

use chrono::{DateTime, NaiveDateTime, Utc};

use super::SUFFIX;
use crate::datasets::FX_RATES;

const TIME: &str = "%Y%m%d_%H%M%S";

/// The name of the object that holds one run's rates: the run's own time, to the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FxObjectName(pub DateTime<Utc>);

impl FxObjectName {
    /// The object's key: `fx_rates/2020/01/01/fx_rates_20200101_000005.parquet`.
    pub fn key(&self) -> String {
        self.to_string()
    }

    pub fn parse(key: &str) -> Option<Self> {
        let (_, file) = key.rsplit_once('/')?;
        let time = file
            .strip_prefix(FX_RATES.name)?
            .strip_prefix('_')?
            .strip_suffix(SUFFIX)?;
        let name = Self(NaiveDateTime::parse_from_str(time, TIME).ok()?.and_utc());
        (name.key() == key).then_some(name)
    }
}

impl fmt::Display for FxObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let folder = FX_RATES.folder(self.0.date_naive());
        let (name, time) = (FX_RATES.name, self.0.format(TIME));
        write!(f, "{folder}/{name}_{time}{SUFFIX}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_the_runs_time_in_utc() {
        let run_at = DateTime::from_timestamp(1_577_836_805, 0).expect("in range");
        let name = FxObjectName(run_at);
        let key = "fx_rates/2020/01/01/fx_rates_20200101_000005.parquet";
        assert_eq!(name.key(), key);
        assert_eq!(FxObjectName::parse(key), Some(name));
        for other in [
            "fx_rates/2020/01/02/fx_rates_20200101_000005.parquet",
            "fx_rates/fx_rates_20200101_000005.parquet",
            "fx_rates/2020/01/01/fx_rates_20200101_000005.parquet.tmp",
            "fx_rates/2020/01/01/fx_rates_20200101_5.parquet",
        ] {
            assert_eq!(FxObjectName::parse(other), None, "{other}");
        }
    }
}
