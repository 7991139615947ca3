//! When transactions happen: the range of the Kaggle file, season, weekday and hour as its
//! generator draws them (docs/DATA.md, section 1).

use chrono::{Datelike, Days, NaiveDate, Weekday};

use super::draw::{Draw, Quota};

/// The first transaction, 2019-01-01 00:00:18, in seconds of its day.
pub(crate) const FIRST_SECOND: u32 = 18;
/// The last transaction, 2020-06-21 12:13:37, in seconds of its day.
pub(crate) const LAST_SECOND: u32 = 12 * 3600 + 13 * 60 + 37;
const SECONDS_PER_DAY: u32 = 86_400;
const NOON: u32 = SECONDS_PER_DAY / 2;
/// Share of legitimate transactions before noon, in percent.
const MORNING_PERCENT: u64 = 39;
/// Share of fraud between 22:00 and 03:59, in percent.
pub(crate) const FRAUD_NIGHT_PERCENT: u64 = 85;
const NIGHT_HOURS: [u32; 6] = [22, 23, 0, 1, 2, 3];

/// One day of the data set.
#[derive(Debug)]
pub(crate) struct Day {
    /// `YYYY-MM-DD `, with the blank that the time follows.
    pub(crate) prefix: String,
    /// UTC seconds since 1970 at its start.
    pub(crate) unix_start: i64,
    /// Its share of the legitimate transactions, in arbitrary units.
    pub(crate) weight: u64,
    /// The seconds of the day that the data set covers, both ends included.
    pub(crate) first_second: u32,
    pub(crate) last_second: u32,
}

/// Every day of the data set in order.
pub(crate) fn days() -> Vec<Day> {
    let start = NaiveDate::from_ymd_opt(2019, 1, 1).expect("2019-01-01 is a date");
    let end = NaiveDate::from_ymd_opt(2020, 6, 21).expect("2020-06-21 is a date");
    let mut days = Vec::with_capacity(540);
    let mut date = start;
    while date <= end {
        let first_second = if date == start { FIRST_SECOND } else { 0 };
        let last_second = if date == end {
            LAST_SECOND
        } else {
            SECONDS_PER_DAY - 1
        };
        days.push(Day {
            prefix: date.format("%Y-%m-%d ").to_string(),
            unix_start: date.and_time(chrono::NaiveTime::MIN).and_utc().timestamp(),
            weight: season(date) * weekday(date) * covered_permille(last_second),
            first_second,
            last_second,
        });
        date = date + Days::new(1);
    }
    days
}

fn season(date: NaiveDate) -> u64 {
    match date.month() {
        12 => 200,
        1 | 2 => 75,
        6..=8 => 125,
        _ => 100,
    }
}

/// Sparkov's profiles give ranges for Friday to Sunday; these are their middles.
fn weekday(date: NaiveDate) -> u64 {
    match date.weekday() {
        Weekday::Mon => 80,
        Weekday::Tue => 90,
        Weekday::Wed | Weekday::Thu => 100,
        Weekday::Fri => 137,
        Weekday::Sat | Weekday::Sun => 162,
    }
}

/// The share of a day's transactions up to `last_second`, in thousandths.
fn covered_permille(last_second: u32) -> u64 {
    let morning = u64::from(last_second.min(NOON)) * MORNING_PERCENT;
    let afternoon = u64::from(last_second.saturating_sub(NOON)) * (100 - MORNING_PERCENT);
    ((morning + afternoon) * 10).div_ceil(u64::from(NOON))
}

impl Day {
    /// The second of the day of a legitimate transaction.
    pub(crate) fn legitimate_second(&self, draw: &mut Draw) -> u32 {
        loop {
            let half = if draw.chance(MORNING_PERCENT, 100) {
                0
            } else {
                NOON
            };
            let second = half + draw.below(u64::from(NOON)) as u32;
            if (self.first_second..=self.last_second).contains(&second) {
                return second;
            }
        }
    }
}

/// Draws the times of fraud so that the night's share is exact over the whole data set.
#[derive(Debug)]
pub(crate) struct FraudClock(Quota);

impl FraudClock {
    pub(crate) fn new(fraud_rows: u64) -> Self {
        let night = (fraud_rows * FRAUD_NIGHT_PERCENT + 50) / 100;
        Self(Quota::new(vec![night, fraud_rows - night]))
    }

    /// The second of the day of a fraudulent transaction.
    pub(crate) fn second(&mut self, draw: &mut Draw) -> u32 {
        let hour = if self.0.draw(draw) == 0 {
            *draw.pick(&NIGHT_HOURS)
        } else {
            4 + draw.below(18) as u32
        };
        hour * 3600 + draw.below(3600) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_days_span_the_kaggle_range() {
        let days = days();
        assert_eq!(days.len(), 538);
        assert_eq!(days[0].prefix, "2019-01-01 ");
        assert_eq!(days[0].unix_start, 1_546_300_800);
        assert_eq!(days[537].prefix, "2020-06-21 ");
        // The last day ends a little after noon, so a little over its morning's 39 % is there.
        assert!((390..=405).contains(&covered_permille(LAST_SECOND)));
        assert_eq!(covered_permille(SECONDS_PER_DAY - 1), 1000);
    }
}
