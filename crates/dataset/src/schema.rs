//! The names every reader and writer of the data set agrees on: the source file's columns, the
//! three prepared headers and the file names, as docs/DATA.md, sections 1 and 2, describe them.

pub use ftap_transaction::EVENT_COLUMNS;

/// The 24 columns of the source file in its order; the first is the index and has no name.
pub(crate) const SOURCE_COLUMNS: [&str; 24] = [
    "",
    "trans_date_trans_time",
    "cc_num",
    "merchant",
    "category",
    "amt",
    "first",
    "last",
    "gender",
    "street",
    "city",
    "state",
    "zip",
    "lat",
    "long",
    "city_pop",
    "job",
    "dob",
    "trans_num",
    "unix_time",
    "merch_lat",
    "merch_long",
    "is_fraud",
    "merch_zipcode",
];

/// The columns of the prepared users file, in its order.
pub(crate) const USER_COLUMNS: [&str; 11] = [
    "user_id",
    "first_name",
    "last_name",
    "gender",
    "street",
    "city",
    "zip",
    "lat",
    "long",
    "job",
    "dob",
];

/// The columns of the prepared merchants file, in its order.
pub(crate) const MERCHANT_COLUMNS: [&str; 4] =
    ["merchant", "merch_lat", "merch_long", "merch_zipcode"];

/// The columns of the file of rejected rows, comma-separated.
pub(crate) const REJECTED_COLUMNS: [&str; 3] = ["line", "reason", "row"];

/// The separator of the three prepared files; the source file has commas.
pub(crate) const PREPARED_SEPARATOR: u8 = b';';

/// The source file: what `generate` writes and what the Kaggle archive contains.
pub const SOURCE_FILE: &str = "credit_card_transactions.csv";

/// The prepared events file. It is written last: where it is, its users and merchants are, too.
pub const EVENTS_FILE: &str = "credit_card_transactions_events.csv";

/// The prepared users file: the first row of each `user_id`.
pub const USERS_FILE: &str = "credit_card_transactions_users.csv";

/// The prepared merchants file: the first row of each merchant.
pub const MERCHANTS_FILE: &str = "credit_card_transactions_merchants.csv";

/// Rows that `prepare` could not use, with line number and reason; absent when there are none.
pub const REJECTED_FILE: &str = "rejected.csv";
