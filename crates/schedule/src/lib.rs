//! Cron expressions, and which run a time stands for.
//!
//! Promises: five fields as in crontab(5), or six with the seconds first; UTC. A run is known by its
//! [`JobTick::scheduled`], so that one that is started twice, by two processes or after a crash, can
//! be recognised.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, SecondsFormat, SubsecRound as _, Utc};
use croner::parser::{CronParser, Seconds, Year};
use job_scheduler_ng::Cron;

/// Why a job runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TickCause {
    /// The process has just started.
    Start,
    /// It is time.
    Schedule,
}

/// One run of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JobTick {
    /// The run's identity: the time of the schedule that it is for. At a start it is the newest time
    /// that has passed, so that a process which is started over and over repeats no run.
    pub scheduled: DateTime<Utc>,
    pub cause: TickCause,
}

impl JobTick {
    /// The identity as text: `2026-01-01T00:05:00Z`.
    pub fn id(&self) -> String {
        self.scheduled.to_rfc3339_opts(SecondsFormat::AutoSi, true)
    }
}

/// Counting further would take long after a clock was set forward by years.
const MOST_COUNTED: usize = 1_000;

/// A cron expression.
#[derive(Clone, Debug)]
pub struct Schedule {
    text: String,
    cron: Cron,
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Schedule {
    type Err = String;

    /// The error completes "it is EXPRESSION (…)".
    fn from_str(text: &str) -> Result<Self, String> {
        let fields: Vec<&str> = text.split_whitespace().collect();
        let is_nickname = text.trim_start().starts_with('@');
        if !is_nickname && !matches!(fields.len(), 5 | 6) {
            return Err(match fields.len() {
                1 => "it has 1 field".to_owned(),
                number => format!("it has {number} fields"),
            });
        }
        let cron = CronParser::builder()
            .seconds(Seconds::Optional)
            .year(Year::Disallowed)
            .build()
            .parse(text)
            .map_err(|error| problem(&fields, &error.to_string()))?;
        let schedule = Self {
            text: fields.join(" "),
            cron,
        };
        match schedule.next_after(Utc::now()) {
            Some(_) => Ok(schedule),
            None => Err("that time never comes".to_owned()),
        }
    }
}

/// Names the field that is wrong by parsing each alone; the parser's own text does not.
fn problem(fields: &[&str], said: &str) -> String {
    const NAMES: [&str; 6] = [
        "second (0-59)",
        "minute (0-59)",
        "hour (0-23)",
        "day of month (1-31)",
        "month (1-12)",
        "day of week (0-7)",
    ];
    let names = &NAMES[6 - fields.len().clamp(5, 6)..];
    for (at, (field, name)) in fields.iter().zip(names).enumerate() {
        let mut alone = vec!["*"; names.len()];
        alone[at] = field;
        if Cron::from_str(&alone.join(" ")).is_err() {
            return format!("`{field}` is not a valid {name}");
        }
    }
    said.to_owned()
}

impl Schedule {
    /// As the scheduler takes it.
    pub fn cron(&self) -> Cron {
        self.cron.clone()
    }

    /// How many times of the schedule lie between these two, at most [`MOST_COUNTED`].
    pub fn count_between(&self, after: DateTime<Utc>, before: DateTime<Utc>) -> usize {
        let times = self.cron.iter_after(after).take(MOST_COUNTED);
        times.take_while(|time| *time < before).count()
    }

    /// The first time of the schedule after this moment.
    pub fn next_after(&self, moment: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.cron.find_next_occurrence(&moment, false).ok()
    }

    /// The newest time of the schedule that is not after this moment.
    pub fn newest_until(&self, moment: DateTime<Utc>) -> Option<DateTime<Utc>> {
        // The parser takes a part of a second that matches for the time itself.
        let moment = moment.trunc_subsecs(0);
        self.cron.find_previous_occurrence(&moment, true).ok()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn next(schedule: &str, moment: &str) -> String {
        let schedule: Schedule = schedule.parse().unwrap();
        schedule.next_after(at(moment)).unwrap().to_rfc3339()
    }

    #[test]
    fn five_fields_mean_what_crontab_says_and_six_begin_with_the_seconds() {
        for (schedule, after, wanted) in [
            (
                "*/5 * * * *",
                "2026-01-01T00:03:20Z",
                "2026-01-01T00:05:00+00:00",
            ),
            (
                "*/5 * * * *",
                "2026-01-01T00:05:00Z",
                "2026-01-01T00:10:00+00:00",
            ),
            // 2026-01-04 is a Sunday: 0, 7 and SUN alike.
            (
                "0 12 * * 0",
                "2026-01-01T00:00:00Z",
                "2026-01-04T12:00:00+00:00",
            ),
            (
                "0 12 * * 7",
                "2026-01-01T00:00:00Z",
                "2026-01-04T12:00:00+00:00",
            ),
            (
                "0 12 * * sun",
                "2026-01-01T00:00:00Z",
                "2026-01-04T12:00:00+00:00",
            ),
            (
                "0 12 * * 1-5",
                "2026-01-02T13:00:00Z",
                "2026-01-05T12:00:00+00:00",
            ),
            // Both days restricted: either will do.
            (
                "0 0 13 * 5",
                "2026-01-01T00:00:00Z",
                "2026-01-02T00:00:00+00:00",
            ),
            (
                "*/10 * * * * *",
                "2026-01-01T00:00:01Z",
                "2026-01-01T00:00:10+00:00",
            ),
            (
                "0 0 29 2 *",
                "2026-01-01T00:00:00Z",
                "2028-02-29T00:00:00+00:00",
            ),
            (
                "@hourly",
                "2026-01-01T00:00:01Z",
                "2026-01-01T01:00:00+00:00",
            ),
        ] {
            assert_eq!(next(schedule, after), wanted, "{schedule} after {after}");
        }
    }

    #[test]
    fn a_wrong_expression_says_which_field() {
        for (wrong, said) in [
            ("61 * * * *", "`61` is not a valid minute"),
            ("* 24 * * *", "`24` is not a valid hour"),
            ("* * 0 * *", "`0` is not a valid day of month"),
            ("* * * 13 *", "`13` is not a valid month"),
            ("* * * * 8", "`8` is not a valid day of week"),
            ("99 * * * * *", "`99` is not a valid second"),
            ("* * * *", "it has 4 fields"),
            ("* * * * * * *", "it has 7 fields"),
            ("", "it has 0 fields"),
            ("yesterday", "it has 1 field"),
            ("*/0 * * * *", "`*/0` is not a valid minute"),
            ("every five minutes or so", "`every` is not a valid minute"),
            ("0 0 30 2 *", "that time never comes"),
        ] {
            let error = wrong.parse::<Schedule>().unwrap_err();
            assert!(error.contains(said), "{wrong:?}: {error}");
        }
    }

    #[test]
    fn the_times_that_a_sleep_missed_are_counted_up_to_a_limit() {
        let schedule: Schedule = "*/5 * * * *".parse().unwrap();
        let count = |after, before| schedule.count_between(at(after), at(before));
        let night = count("2026-01-01T00:00:00Z", "2026-01-01T03:10:00Z");
        assert_eq!(night, 37, "neither end is one of them");
        assert_eq!(count("2026-01-01T00:05:00Z", "2026-01-01T00:10:00Z"), 0);
        let set_back = count("2026-01-01T12:00:00Z", "2026-01-01T10:00:00Z");
        assert_eq!(set_back, 0);
        let years = count("2026-01-01T00:00:00Z", "2066-01-01T00:00:00Z");
        assert_eq!(years, MOST_COUNTED);
    }

    #[test]
    fn the_newest_time_that_has_passed_identifies_a_start() {
        let schedule: Schedule = "*/5 * * * *".parse().unwrap();
        let newest = |moment| schedule.newest_until(at(moment)).unwrap();
        assert_eq!(newest("2026-01-01T00:07:31.5Z"), at("2026-01-01T00:05:00Z"));
        assert_eq!(newest("2026-01-01T00:05:00Z"), at("2026-01-01T00:05:00Z"));
        assert_eq!(newest("2026-01-01T00:05:00.4Z"), at("2026-01-01T00:05:00Z"));
    }
}
