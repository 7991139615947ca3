//! What the lake holds: each data set is declared here, once.
//!
//! Promises: an object belongs to at most one data set, by its key alone; what belongs to none is
//! left where it is. Pure.

use chrono::NaiveDate;
use ftap_transaction::{EVENT_TIME, KAFKA_TIMESTAMP, field};

use crate::naming::{ChangeObjectName, DeadLetterName, FxObjectName, ObjectName, ScoresObjectName};

/// How the folders of a data set name their days.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DayFolders {
    /// `YYYY-MM-DD`.
    Flat,
    /// `YYYY/MM/DD`.
    Nested,
}

/// How rows are kept apart by day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DayOf {
    /// A timestamp of the row.
    Column(&'static str),
    /// The day on which it was loaded: the rows have no timestamp column.
    Load,
}

/// How the Parquet writer encodes columns that its defaults do not suit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Encodings {
    /// Differences of neighbours, as for times and positions that mostly ascend.
    pub(crate) delta: &'static [&'static str],
    /// Nearly every value is a new one: a dictionary only costs.
    pub(crate) plain: &'static [&'static str],
}

/// Objects of one kind: one folder of the lake, one table of the queries.
#[derive(Clone, Copy, Debug)]
pub struct DataSet {
    /// Its folder in the lake, its table in queries and in the warehouse, and its label in metrics.
    pub name: &'static str,
    /// Whether the warehouse has it, too.
    pub is_loaded: bool,
    /// How the folders below its own name their days.
    pub days: DayFolders,
    is_key: fn(&str) -> bool,
    /// The table of PostgreSQL whose changes it holds.
    pub source_table: Option<&'static str>,
    /// The day that a row counts to.
    pub day_of_row: DayOf,
    /// Columns by which a day's rows are sorted in the warehouse.
    pub clustering: &'static [&'static str],
    /// Columns that tell its rows apart.
    pub identity: &'static [&'static str],
    pub(crate) encodings: Encodings,
}

/// Columns of every object of changes; they follow the table's own.
pub mod change {
    /// `snapshot`, `insert`, `update`, `delete` or `truncate`.
    pub const OP: &str = "_op";
    /// Start of the commit record.
    pub const COMMIT_LSN: &str = "_commit_lsn";
    /// Time of the commit, in microseconds.
    pub const COMMIT_TIME: &str = "_commit_time";
    /// Transaction.
    pub const XID: &str = "_xid";
    /// Number of the change within its commit.
    pub const SEQ: &str = "_seq";
    /// Number of the snapshot that it follows.
    pub const EPOCH: &str = "_epoch";
    /// The row before, as JSON.
    pub const BEFORE: &str = "_before";
    /// Columns that the server left out, as JSON.
    pub const UNCHANGED: &str = "_unchanged";
    /// Texts that their columns can't hold, as JSON.
    pub const EXACT: &str = "_exact";
}

pub(crate) const KAFKA_PARTITION: &str = "_kafka_partition";
pub(crate) const KAFKA_OFFSET: &str = "_kafka_offset";

/// Columns of dead letters that transactions do not have.
pub(crate) mod dead_letter {
    /// The record's topic.
    pub(crate) const TOPIC: &str = "_kafka_topic";
    /// Code of the reason.
    pub(crate) const REASON: &str = "reason";
    pub(crate) const KEY: &str = "key";
    /// As JSON.
    pub(crate) const HEADERS: &str = "headers";
    pub(crate) const PAYLOAD: &str = "payload";
    /// When the writer rejected it.
    pub(crate) const REJECTED_AT: &str = "rejected_at";
}

/// Rows of the topic.
pub const TRANSACTIONS: DataSet = DataSet {
    name: "transactions",
    is_loaded: true,
    days: DayFolders::Flat,
    is_key: |key| ObjectName::parse(key).is_ok(),
    source_table: None,
    day_of_row: DayOf::Column(KAFKA_TIMESTAMP),
    clustering: &[field::USER_ID, field::MERCHANT],
    // A lake may hold several topics, whose offsets all start at 0.
    identity: &[
        KAFKA_PARTITION,
        KAFKA_OFFSET,
        KAFKA_TIMESTAMP,
        field::TRANS_NUM,
    ],
    // Each was tried alone; `cargo run --release -p bench` measures all together.
    encodings: Encodings {
        delta: &[field::UNIX_TIME, KAFKA_OFFSET, KAFKA_TIMESTAMP, EVENT_TIME],
        plain: &[
            field::TRANS_DATE_TRANS_TIME,
            field::TRANS_NUM,
            field::ORIGINAL_AMT,
        ],
    },
};

/// Foreign-exchange rates.
pub const FX_RATES: DataSet = DataSet {
    name: "fx_rates",
    is_loaded: true,
    days: DayFolders::Nested,
    is_key: |key| FxObjectName::parse(key).is_some(),
    source_table: None,
    day_of_row: DayOf::Load,
    clustering: &["currency"],
    identity: &["timestamp", "base_currency", "currency"],
    encodings: Encodings {
        delta: &[],
        plain: &[],
    },
};

/// Records that could not become rows, where the lake keeps them.
pub const DEAD_LETTERS: DataSet = DataSet {
    name: "dead_letters",
    // Whatever anybody sent, and of up to 100 MB.
    is_loaded: false,
    days: DayFolders::Flat,
    is_key: |key| DeadLetterName::parse(key).is_some(),
    source_table: None,
    day_of_row: DayOf::Column(KAFKA_TIMESTAMP),
    clustering: &[],
    identity: &[dead_letter::TOPIC, KAFKA_PARTITION, KAFKA_OFFSET],
    encodings: Encodings {
        delta: &[KAFKA_OFFSET, KAFKA_TIMESTAMP, dead_letter::REJECTED_AT],
        plain: &[dead_letter::KEY, dead_letter::HEADERS, dead_letter::PAYLOAD],
    },
};

/// How suspicious transactions are, by a model.
pub const FRAUD_SCORES: DataSet = DataSet {
    name: "fraud_scores",
    is_loaded: true,
    days: DayFolders::Flat,
    is_key: |key| ScoresObjectName::parse(key).is_some(),
    source_table: None,
    day_of_row: DayOf::Column(EVENT_TIME),
    clustering: &["model"],
    identity: &["model", "transaction_id"],
    encodings: Encodings {
        delta: &[EVENT_TIME],
        plain: &["transaction_id", "score"],
    },
};

/// Declares the captured tables, and with them the list of all data sets.
macro_rules! captured {
    ($($(#[$meta:meta])* $set:ident = $table:literal, clustering: $clustering:expr;)*) => {
        $(
            $(#[$meta])*
            pub(crate) const $set: DataSet = DataSet {
                name: concat!($table, "_changes"),
                is_loaded: true,
                days: DayFolders::Flat,
                is_key: |key| ChangeObjectName::parse(key).is_some_and(|name| name.table == $table),
                source_table: Some($table),
                day_of_row: DayOf::Column(change::COMMIT_TIME),
                clustering: $clustering,
                identity: &[change::EPOCH, change::COMMIT_LSN, change::SEQ, change::OP],
                encodings: CHANGES,
            };
        )*

        /// The tables of PostgreSQL that are captured, by name.
        pub const CAPTURED_TABLES: [&str; [$($table),*].len()] = [$($table),*];

        pub const DATA_SETS: &[DataSet] =
            &[TRANSACTIONS, FX_RATES, FRAUD_SCORES, $($set,)* DEAD_LETTERS];
    };
}

const CHANGES: Encodings = Encodings {
    delta: &[
        change::COMMIT_LSN,
        change::COMMIT_TIME,
        change::SEQ,
        change::XID,
    ],
    plain: &[],
};

captured! {
    /// Changes of the table `users`.
    USERS_CHANGES = "users", clustering: &["user_id"];
    /// Changes of the table `merchants`.
    MERCHANTS_CHANGES = "merchants", clustering: &["merchant"];
}

/// The folder of change capture's checkpoints: no data set, for they hold no rows.
pub const CHECKPOINTS_FOLDER: &str = "cdc_checkpoints";

/// The folder in which loads into BigQuery note what they load: no data set, for it has no rows.
pub const LOADS_FOLDER: &str = "bigquery";

impl DataSet {
    /// Whether an object is one of its own.
    pub fn owns(&self, key: &str) -> bool {
        (self.is_key)(key)
    }

    /// The folder of a day's objects.
    pub fn folder(&self, day: NaiveDate) -> String {
        let format = match self.days {
            DayFolders::Flat => "%Y-%m-%d",
            DayFolders::Nested => "%Y/%m/%d",
        };
        format!("{}/{}", self.name, day.format(format))
    }

    /// Those that the warehouse has, too.
    pub fn loaded() -> impl Iterator<Item = &'static Self> {
        DATA_SETS.iter().filter(|set| set.is_loaded)
    }

    /// The data set of a table's changes, `None` if the table is not captured.
    pub fn of_changes(table: &str) -> Option<&'static Self> {
        DATA_SETS.iter().find(|set| set.source_table == Some(table))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_belongs_to_one_data_set_and_a_stray_to_none() {
        let owner = |key: &str| {
            let owners: Vec<_> = DATA_SETS.iter().filter(|set| set.owns(key)).collect();
            assert!(owners.len() <= 1, "{key}");
            owners.first().map(|set| set.name)
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
                "fraud_scores/2020-03-06/fraud_scores-00c0ffee00c0ffee-000001.parquet",
                "fraud_scores",
            ),
            (
                "merchants_changes/2026-11-22/merchants-000001-snapshot-0001.parquet",
                "merchants_changes",
            ),
            (
                "dead_letters/2026-11-22/transactions-0-00000000000000004712-00000000000000ff.parquet",
                "dead_letters",
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
            "dead_letters/2026-11-22/transactions-0-00000000000000004712.parquet",
            "other_changes/2026-11-22/other-000001-snapshot-0001.parquet",
            "bigquery/p/d/transactions/00000000000000000001.json",
            "cdc_checkpoints/000001-00000000016B3748.json",
            "",
        ] {
            assert_eq!(owner(stray), None, "{stray}");
        }
    }
}
