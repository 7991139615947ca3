//! The tables: what is loaded into each, how it is cut, and what tells its rows apart.
//!
//! Promises: an object belongs to at most one table, by its key alone; what is none of ours is
//! left where it is. Pure.

use chrono::{DateTime, Days, Utc};
use ftap_cdc::naming::{ChangeObjectName, date_of_micros};
use ftap_cdc::schema::field as change;
use ftap_lake::ObjectName;
use ftap_transaction::field as transaction;

const KAFKA_TIMESTAMP: &str = "_kafka_timestamp";

/// How a table's rows are kept apart by day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DayOf {
    /// A timestamp of the row.
    Column(&'static str),
    /// The day on which it was loaded: the rows have no timestamp column.
    Load,
}

/// One of our tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Table {
    /// Its name, and that of its folder in the lake.
    pub name: &'static str,
    /// How it is partitioned.
    pub day: DayOf,
    /// Columns by which a day's rows are sorted.
    pub clustering: &'static [&'static str],
    /// Columns that tell its rows apart.
    pub identity: &'static [&'static str],
}

/// All of them.
pub const TABLES: [Table; 4] = [
    Table {
        name: "transactions",
        day: DayOf::Column(KAFKA_TIMESTAMP),
        clustering: &[transaction::USER_ID, transaction::MERCHANT],
        // A lake may hold several topics, whose offsets all start at 0.
        identity: &[
            "_kafka_partition",
            "_kafka_offset",
            KAFKA_TIMESTAMP,
            transaction::TRANS_NUM,
        ],
    },
    Table {
        name: ftap_fx::object::PREFIX,
        day: DayOf::Load,
        clustering: &["currency"],
        identity: &["timestamp", "base_currency", "currency"],
    },
    Table {
        name: "users_changes",
        day: DayOf::Column(change::COMMIT_TIME),
        clustering: &["user_id"],
        identity: CHANGE,
    },
    Table {
        name: "merchants_changes",
        day: DayOf::Column(change::COMMIT_TIME),
        clustering: &["merchant"],
        identity: CHANGE,
    },
];

const CHANGE: &[&str] = &[change::EPOCH, change::COMMIT_LSN, change::SEQ, change::OP];

impl Table {
    /// Whether an object is one of its own.
    pub fn owns(&self, key: &str) -> bool {
        match self.name {
            "transactions" => ObjectName::parse(key).is_ok(),
            ftap_fx::object::PREFIX => is_fx_key(key),
            name => {
                let change = ChangeObjectName::parse(key);
                change.is_some_and(|change| {
                    key.starts_with(name) && name.len() == change.table.len() + "_changes".len()
                })
            }
        }
    }

    /// The folders where new objects are most likely: those of today and yesterday.
    pub fn recent_folders(&self, now: DateTime<Utc>) -> Vec<String> {
        let today = date_of_micros(now.timestamp_micros());
        let yesterday = today.checked_sub_days(Days::new(1)).unwrap_or(today);
        let format = match self.name {
            ftap_fx::object::PREFIX => "%Y/%m/%d",
            _ => "%Y-%m-%d",
        };
        [yesterday, today]
            .iter()
            .map(|day| format!("{}/{}", self.name, day.format(format)))
            .collect()
    }
}

/// `fx_rates/YYYY/MM/DD/fx_rates_YYYYMMDD_HHMMSS.parquet`, as [`ftap_fx::object::key`] writes it.
fn is_fx_key(key: &str) -> bool {
    let time = key
        .rsplit_once("/fx_rates_")
        .and_then(|(_, rest)| rest.strip_suffix(".parquet"))
        .and_then(|time| chrono::NaiveDateTime::parse_from_str(time, "%Y%m%d_%H%M%S").ok());
    time.is_some_and(|time| ftap_fx::object::key(time.and_utc()) == key)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_object_belongs_to_one_table_and_a_stray_to_none() {
        let owner = |key: &str| {
            let owners: Vec<_> = TABLES.iter().filter(|table| table.owns(key)).collect();
            assert!(owners.len() <= 1, "{key}");
            owners.first().map(|table| table.name)
        };
        for (key, name) in [
            (
                "transactions/2026-11-22/transactions-0-00000000000000004712.parquet",
                "transactions",
            ),
            (
                "fx_rates/2020/01/01/fx_rates_20200101_000005.parquet",
                "fx_rates",
            ),
            (
                "users_changes/2026-11-22/users-000001-00000000016B3748-0000000001.parquet",
                "users_changes",
            ),
            (
                "merchants_changes/2026-11-22/merchants-000001-snapshot-0001.parquet",
                "merchants_changes",
            ),
        ] {
            assert_eq!(owner(key), Some(name), "{key}");
        }
        for stray in [
            "transactions/2026-11-22/2026-11-22T10-00-00_3.parquet",
            "transactions/2026-11-22/transactions-0-00000000000000004712.parquet.tmp",
            "fx_rates/2020/01/02/fx_rates_20200101_000005.parquet",
            "fx_rates/fx_rates_20200101_000005.parquet",
            "users_changes/2026-11-22/users.parquet",
            "other_changes/2026-11-22/other-000001-snapshot-0001.parquet",
            "bigquery/p/d/transactions/00000000000000000001.json",
            "",
        ] {
            assert_eq!(owner(stray), None, "{stray}");
        }
    }

    #[test]
    fn recent_folders_are_those_of_two_days() {
        let now = DateTime::from_timestamp(1_577_836_805, 0).unwrap();
        assert_eq!(
            TABLES[0].recent_folders(now),
            ["transactions/2019-12-31", "transactions/2020-01-01"]
        );
        assert_eq!(
            TABLES[1].recent_folders(now),
            ["fx_rates/2019/12/31", "fx_rates/2020/01/01"]
        );
    }
}
