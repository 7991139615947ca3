//! What part of the data is shown: part of a page's address, so that it can be kept and sent.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use axum::extract::FromRequestParts;
use chrono::{Datelike as _, NaiveDate};
use hyper::http::request::Parts;

use crate::router::{Answer, Asked};

/// The filters of an address. What is empty is not filtered by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Filters {
    /// Days in UTC, both included.
    pub from: Option<NaiveDate>,
    pub to: Option<NaiveDate>,
    pub currency: Option<String>,
    pub category: Option<String>,
    pub fraud: Fraud,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Fraud {
    #[default]
    All,
    Only,
    Without,
}

/// A filter that is none: its name and why.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{name}={value:?} in the address: {expected}")]
pub(crate) struct BadFilter {
    name: &'static str,
    value: String,
    expected: &'static str,
}

/// The filters of an address as they stand there, also wrong ones: a page shows them with their fault.
pub(crate) struct AskedFilters {
    pub raw: BTreeMap<String, String>,
    pub parsed: Result<Filters, BadFilter>,
}

impl<S: Send + Sync> FromRequestParts<S> for AskedFilters {
    type Rejection = Answer;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Answer> {
        let Asked(raw) = Asked::<BTreeMap<_, _>>::from_request_parts(parts, state).await?;
        let parsed = Filters::parse(raw.clone());
        Ok(Self { raw, parsed })
    }
}

impl Filters {
    fn parse(mut raw: BTreeMap<String, String>) -> Result<Self, BadFilter> {
        let mut take = |name: &str| raw.remove(name).filter(|value| !value.is_empty());
        let filters = Self {
            from: take("from").map(|value| day("from", value)).transpose()?,
            to: take("to").map(|value| day("to", value)).transpose()?,
            currency: take("currency"),
            category: take("category"),
            fraud: match take("fraud").as_deref() {
                None => Fraud::All,
                Some("only") => Fraud::Only,
                Some("without") => Fraud::Without,
                Some(other) => {
                    return Err(BadFilter {
                        name: "fraud",
                        value: other.to_owned(),
                        expected: "only or without, or nothing for all",
                    });
                }
            },
        };
        if let (Some(from), Some(to)) = (filters.from, filters.to)
            && from > to
        {
            return Err(BadFilter {
                name: "from",
                value: from.to_string(),
                expected: "it is after the day of to",
            });
        }
        Ok(filters)
    }
}

fn day(name: &'static str, value: String) -> Result<NaiveDate, BadFilter> {
    let day = value.parse::<NaiveDate>().ok();
    let day = day.filter(|day| (1..=9999).contains(&day.year()));
    day.ok_or(BadFilter {
        name,
        value,
        expected: "not a day; write it as 2019-12-31",
    })
}

impl Filters {
    /// How many days are chosen, if both ends are.
    pub(crate) fn days(&self) -> Option<i64> {
        Some((self.to? - self.from?).num_days() + 1)
    }

    /// The condition on `fct_transactions`, with its `where`; empty if everything is shown.
    pub(crate) fn condition(&self) -> String {
        self.with_days(self.from, self.to)
    }

    /// The same on other days.
    pub(crate) fn with_days(&self, from: Option<NaiveDate>, to: Option<NaiveDate>) -> String {
        let mut conditions = Vec::new();
        if let Some(from) = from {
            conditions.push(format!("date_key >= {}", date_key(from)));
        }
        if let Some(to) = to {
            conditions.push(format!("date_key <= {}", date_key(to)));
        }
        if let Some(currency) = &self.currency {
            conditions.push(format!("currency = {}", literal(currency)));
        }
        if let Some(category) = &self.category {
            conditions.push(format!("category = {}", literal(category)));
        }
        match self.fraud {
            Fraud::All => {}
            Fraud::Only => conditions.push("is_fraud = 1".to_owned()),
            Fraud::Without => conditions.push("is_fraud = 0".to_owned()),
        }
        if conditions.is_empty() {
            String::new()
        } else {
            format!("where {}", conditions.join(" and "))
        }
    }

    /// As in an address, with its `?`; empty if there are none.
    pub(crate) fn query(&self) -> String {
        let mut query = String::new();
        let mut add = |name: &str, value: &str| {
            let separator = if query.is_empty() { '?' } else { '&' };
            let _ = write!(query, "{separator}{name}=");
            query.push_str(&encoded(value));
        };
        if let Some(from) = self.from {
            add("from", &from.to_string());
        }
        if let Some(to) = self.to {
            add("to", &to.to_string());
        }
        if let Some(currency) = &self.currency {
            add("currency", currency);
        }
        if let Some(category) = &self.category {
            add("category", category);
        }
        match self.fraud {
            Fraud::All => {}
            Fraud::Only => add("fraud", "only"),
            Fraud::Without => add("fraud", "without"),
        }
        query
    }
}

fn date_key(day: NaiveDate) -> i32 {
    day.year() * 10_000 + i32::try_from(day.month() * 100 + day.day()).unwrap_or_default()
}

/// Text as a value in an address.
pub(crate) fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => {
                encoded.push(char::from(byte));
            }
            other => {
                let _ = write!(encoded, "%{other:02X}");
            }
        }
    }
    encoded
}

/// Text in SQL.
pub(crate) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn parse(pairs: &[(&str, &str)]) -> Result<Filters, BadFilter> {
        let pairs = pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Filters::parse(pairs.collect())
    }

    #[test]
    fn an_address_becomes_a_condition_and_an_address_again() {
        let filters = parse(&[
            ("from", "2019-01-31"),
            ("to", "2019-02-01"),
            ("currency", "it's; drop"),
            ("fraud", "only"),
            ("category", ""),
            ("unknown", "ignored"),
        ])
        .unwrap();
        assert_eq!(
            filters.condition(),
            "where date_key >= 20190131 and date_key <= 20190201 and currency = 'it''s; drop' and is_fraud = 1"
        );
        assert_eq!(
            filters.query(),
            "?from=2019-01-31&to=2019-02-01&currency=it%27s%3B%20drop&fraud=only"
        );
        assert_eq!(Filters::default().condition(), "");
        assert_eq!(Filters::default().query(), "");
    }

    #[test]
    fn a_wrong_filter_is_named() {
        for (pairs, message) in [
            (
                vec![("from", "yesterday")],
                r#"from="yesterday" in the address: not a day; write it as 2019-12-31"#,
            ),
            (
                vec![("fraud", "yes")],
                r#"fraud="yes" in the address: only or without, or nothing for all"#,
            ),
            (
                vec![("from", "2020-01-02"), ("to", "2020-01-01")],
                r#"from="2020-01-02" in the address: it is after the day of to"#,
            ),
        ] {
            assert_eq!(parse(&pairs).unwrap_err().to_string(), message);
        }
    }
}
