//! What an object's Parquet footer says about the run it holds: key-value pairs with keys `ftap.*`.
//!
//! A footer is declared once, with [`footer!`](crate::footer!): each field with its key, its codec
//! and its meaning. What writes it, what reads it and its table in docs/DATA.md follow from that.
//!
//! Promises: reading gives exactly what was written; pairs of other keys are ignored, so that a
//! file with more of them can be read; a footer that contradicts itself is an error. Pure.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use crate::chain::{ChainError, on_already_exists};
use crate::naming::ObjectName;

/// A footer that can't be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FooterError {
    /// A key is missing.
    #[error("the footer has no {0}: the file was not written by ftap, or is damaged")]
    Missing(&'static str),
    /// A value is not what it must be.
    #[error("the footer's {key} is {value:?}, expected {expected}: the file is damaged")]
    Invalid {
        key: &'static str,
        /// Its value, cut after 100 characters.
        value: String,
        expected: &'static str,
    },
    /// Written by a later version.
    #[error(
        "the footer's format version is {found}, this program reads version {known}: update ftap"
    )]
    Version {
        /// The file's version.
        found: u32,
        /// The only one that is understood.
        known: u32,
    },
    /// The footer of another object.
    #[error("its footer is that of {0}")]
    OfAnother(String),
}

/// One field of a footer, for its documentation.
#[derive(Clone, Copy, Debug)]
pub struct FooterField {
    pub key: &'static str,
    /// What its value looks like.
    pub form: &'static str,
    pub meaning: &'static str,
}

/// The table of a footer's fields, as docs/DATA.md has it.
pub fn footer_table(fields: &[FooterField]) -> String {
    let row = |field: &FooterField| {
        let FooterField { key, form, meaning } = field;
        format!("| `{key}` | {form} | {meaning} |\n")
    };
    let rows: String = fields.iter().map(row).collect();
    format!("| key | value | content |\n|---|---|---|\n{rows}")
}

/// The pairs of a footer.
pub trait FooterFormat: Sized {
    /// The fields, in the order in which they are written.
    const FIELDS: &'static [FooterField];

    /// The footer as key-value pairs.
    fn to_pairs(&self) -> Vec<(&'static str, String)>;

    /// Reads key-value pairs; those of other keys are ignored.
    fn from_pairs<'a>(
        pairs: impl IntoIterator<Item = (&'a str, Option<&'a str>)>,
    ) -> Result<Self, FooterError>;
}

/// A footer and its rule: which other object may stand in the place of ours.
pub trait Footer: FooterFormat {
    /// Names its objects; shown, it is the object's key.
    type Name: fmt::Display;
    /// Why an object in the place of ours can't be.
    type Conflict;

    /// Fails with [`FooterError::OfAnother`] unless an object of that name may have this footer.
    fn check_name(&self, name: &Self::Name) -> Result<(), FooterError>;

    /// What it means that an object with the footer `theirs` is already there under our key.
    fn adopt(&self, theirs: &Self) -> Result<Adoption, Self::Conflict>;
}

/// What to do about an object that was there first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Adoption {
    /// It holds our very run: our own put whose reply was lost, or another writer's of
    /// the same records. As good as written.
    Same,
    /// It holds a run from the same record, but a shorter or a longer one: continue after its end.
    Overtaken,
}

/// The conflict of a data set whose keys say all that its objects hold: there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoConflict {}

impl fmt::Display for NoConflict {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {}
    }
}

/// How the value of a field is written.
pub trait Codec<T> {
    /// What a value looks like, for errors and documents.
    const FORM: &'static str;

    /// The text; `None` leaves the key out.
    fn encode(value: &T) -> Option<String>;

    fn decode(text: &str) -> Option<T>;

    /// The value where the key is missing; `None` makes that an error.
    fn absent() -> Option<T> {
        None
    }
}

pub struct Text;
/// A number without a fraction.
pub struct WholeNumber;
/// A number, or no such key.
pub struct OptionalNumber;
/// A text, or no such key.
pub struct OptionalText;
/// A fingerprint or checksum.
pub struct Hash;
/// Yes or no.
pub struct Flag;
/// Rejected offsets.
pub(crate) struct Ranges;

impl Codec<String> for Text {
    const FORM: &'static str = "text";

    fn encode(value: &String) -> Option<String> {
        Some(value.clone())
    }

    fn decode(text: &str) -> Option<String> {
        Some(text.to_owned())
    }
}

impl Codec<Option<String>> for OptionalText {
    const FORM: &'static str = "text, or absent";

    fn encode(value: &Option<String>) -> Option<String> {
        value.clone()
    }

    fn decode(text: &str) -> Option<Option<String>> {
        Some(Some(text.to_owned()))
    }

    fn absent() -> Option<Option<String>> {
        Some(None)
    }
}

impl<T: FromStr + fmt::Display> Codec<T> for WholeNumber {
    const FORM: &'static str = "a whole number";

    fn encode(value: &T) -> Option<String> {
        Some(value.to_string())
    }

    fn decode(text: &str) -> Option<T> {
        text.parse().ok()
    }
}

impl<T: FromStr + fmt::Display> Codec<Option<T>> for OptionalNumber {
    const FORM: &'static str = "a whole number, or absent";

    fn encode(value: &Option<T>) -> Option<String> {
        value.as_ref().map(T::to_string)
    }

    fn decode(text: &str) -> Option<Option<T>> {
        text.parse().ok().map(Some)
    }

    fn absent() -> Option<Option<T>> {
        Some(None)
    }
}

impl Codec<u64> for Hash {
    const FORM: &'static str = "16 hexadecimal digits";

    fn encode(value: &u64) -> Option<String> {
        Some(format!("{value:016x}"))
    }

    fn decode(text: &str) -> Option<u64> {
        let is_hash = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_hash.then(|| u64::from_str_radix(text, 16).ok())?
    }
}

impl Codec<bool> for Flag {
    const FORM: &'static str = "`true` or `false`";

    fn encode(value: &bool) -> Option<String> {
        Some(value.to_string())
    }

    fn decode(text: &str) -> Option<bool> {
        text.parse().ok()
    }
}

impl Codec<Vec<RejectedRange>> for Ranges {
    const FORM: &'static str = "`FIRST-LAST=REASON`, separated by commas";

    fn encode(ranges: &Vec<RejectedRange>) -> Option<String> {
        let range = |range: &RejectedRange| {
            let RejectedRange {
                first_offset,
                last_offset,
                reason,
            } = range;
            format!("{first_offset}-{last_offset}={reason}")
        };
        Some(ranges.iter().map(range).collect::<Vec<_>>().join(","))
    }

    fn decode(text: &str) -> Option<Vec<RejectedRange>> {
        if text.is_empty() {
            return Some(Vec::new());
        }
        let range = |text: &str| {
            let (offsets, reason) = text.split_once('=')?;
            let (first, last) = offsets.split_once('-')?;
            Some(RejectedRange {
                first_offset: first.parse().ok()?,
                last_offset: last.parse().ok()?,
                reason: Cow::Owned(reason.to_owned()),
            })
        };
        text.split(',').map(range).collect()
    }
}

/// Pairs to read a footer from.
pub struct Pairs<'a>(BTreeMap<&'a str, &'a str>);

impl<'a> Pairs<'a> {
    /// Keeps the pairs that have a value.
    pub fn new(pairs: impl IntoIterator<Item = (&'a str, Option<&'a str>)>) -> Self {
        Self(
            pairs
                .into_iter()
                .filter_map(|(key, value)| Some((key, value?)))
                .collect(),
        )
    }

    pub fn get<T, C: Codec<T>>(&self, key: &'static str) -> Result<T, FooterError> {
        match self.0.get(key) {
            Some(text) => C::decode(text).ok_or_else(|| self.invalid(key, C::FORM)),
            None => C::absent().ok_or(FooterError::Missing(key)),
        }
    }

    /// Fails if the value of `key` is another version than `known`, or if there is none unless
    /// it `may_be_absent`.
    pub fn expect_version(
        &self,
        key: &'static str,
        known: u32,
        may_be_absent: bool,
    ) -> Result<(), FooterError> {
        match self.get::<u32, WholeNumber>(key) {
            Err(FooterError::Missing(_)) if may_be_absent => Ok(()),
            Ok(found) if found != known => Err(FooterError::Version { found, known }),
            other => other.map(|_known| ()),
        }
    }

    /// The error about a value that can't be.
    pub fn invalid(&self, key: &'static str, expected: &'static str) -> FooterError {
        FooterError::Invalid {
            key,
            value: self.0.get(key).unwrap_or(&"").chars().take(100).collect(),
            expected,
        }
    }
}

/// Declares a footer: its version, with `or absent` if earlier versions wrote none, then
/// `"key" (codec: meaning) field: type` of each field in the order in which they are written. The struct needs a method `check(&self, &Pairs)` of its own,
/// which refuses values that contradict each other.
#[macro_export]
macro_rules! footer {
    (
        $(#[$outer:meta])*
        $visibility:vis struct $name:ident, $version_key:literal = $version:literal $(or $absent:ident)?;
        $($key:literal ($codec:ty: $meaning:literal) $field:ident: $type:ty,)*
    ) => {
        $(#[$outer])*
        $visibility struct $name {
            $(#[doc = $meaning] pub $field: $type,)*
        }

        impl $crate::FooterFormat for $name {
            const FIELDS: &'static [$crate::FooterField] = &[
                $crate::FooterField {
                    key: $version_key,
                    form: concat!("`", $version, "`" $(, ", or ", stringify!($absent))?),
                    meaning: "version of the format",
                },
                $($crate::FooterField {
                    key: $key,
                    form: <$codec as $crate::Codec<$type>>::FORM,
                    meaning: $meaning,
                },)*
            ];

            fn to_pairs(&self) -> Vec<(&'static str, String)> {
                let fields = [$((
                    $key,
                    <$codec as $crate::Codec<$type>>::encode(&self.$field),
                )),*];
                let fields = fields
                    .into_iter()
                    .filter_map(|(key, value)| Some((key, value?)));
                let version: u32 = $version;
                std::iter::once(($version_key, version.to_string()))
                    .chain(fields)
                    .collect()
            }

            fn from_pairs<'a>(
                pairs: impl IntoIterator<Item = (&'a str, Option<&'a str>)>,
            ) -> Result<Self, $crate::FooterError> {
                let pairs = $crate::Pairs::new(pairs);
                let may_be_absent = !concat!($(stringify!($absent))?).is_empty();
                pairs.expect_version($version_key, $version, may_be_absent)?;
                let footer = Self {
                    $($field: pairs.get::<$type, $codec>($key)?,)*
                };
                footer.check(&pairs)?;
                Ok(footer)
            }
        }
    };
}

/// Consecutive offsets that were rejected for one reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RejectedRange {
    pub first_offset: i64,
    /// Last offset, included.
    pub last_offset: i64,
    /// A [`RejectReason`](ftap_transaction::RejectReason)'s code; kept as text so that
    /// a footer of a later version can be read.
    pub reason: Cow<'static, str>,
}

impl RejectedRange {
    /// Records in the range.
    pub fn records(&self) -> u64 {
        self.last_offset
            .abs_diff(self.first_offset)
            .saturating_add(1)
    }
}

const FIRST_OFFSET: &str = "ftap.first_offset";
const LAST_OFFSET: &str = "ftap.last_offset";
const ROWS: &str = "ftap.rows";
const REJECTED: &str = "ftap.rejected";
const REJECTED_RECORDS: &str = "ftap.rejected_records";

footer! {
    /// The run of offsets of one object of transactions.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct TransactionFooter, "ftap.format_version" = 1;
    "ftap.topic" (Text: "topic") topic: String,
    "ftap.partition" (WholeNumber: "partition") partition: i32,
    "ftap.first_offset" (WholeNumber: "offset of the first record, row or rejected") first_offset: i64,
    "ftap.last_offset" (WholeNumber: "offset of the last record, row or rejected") last_offset: i64,
    "ftap.first_record" (Hash: "XXH3-64 of the first record's value, seeded with its timestamp in ms (0 if that is below 0); distinguishes a topic from an earlier topic of the same name") first_record: u64,
    "ftap.rows" (WholeNumber: "rows in the file") rows: u64,
    "ftap.rejected" (Ranges: "rejected offsets, ascending; empty if there are none") rejected: Vec<RejectedRange>,
    "ftap.rejected_records" (WholeNumber: "sum over these ranges") rejected_records: u64,
    "ftap.writer_id" (Text: "the process that wrote the file") writer_id: String,
    "ftap.checksum" (Hash: "checksum of the rows") checksum: u64,
}

impl TransactionFooter {
    /// The offset after the last one.
    pub fn next_offset(&self) -> i64 {
        self.last_offset.saturating_add(1)
    }

    fn check(&self, pairs: &Pairs<'_>) -> Result<(), FooterError> {
        if self.first_offset < 0 {
            return Err(pairs.invalid(FIRST_OFFSET, "0 or more"));
        }
        if self.last_offset < self.first_offset {
            return Err(pairs.invalid(LAST_OFFSET, "no less than ftap.first_offset"));
        }
        let mut previous = None;
        let mut records: u64 = 0;
        for range in &self.rejected {
            let from = previous.map_or(self.first_offset, |last: i64| last.saturating_add(1));
            let inside = range.first_offset >= from && range.last_offset <= self.last_offset;
            if !inside || range.last_offset < range.first_offset {
                return Err(pairs.invalid(REJECTED, "ascending ranges within the file's offsets"));
            }
            previous = Some(range.last_offset);
            records = records.saturating_add(range.records());
        }
        if records != self.rejected_records {
            return Err(pairs.invalid(REJECTED_RECORDS, "the sum of the ranges of ftap.rejected"));
        }
        let offsets = self
            .last_offset
            .abs_diff(self.first_offset)
            .saturating_add(1);
        let accounted = self.rows.checked_add(records);
        // Fewer is fine: control records take offsets, too.
        if accounted.is_none_or(|n| n == 0 || n > offsets) {
            return Err(pairs.invalid(ROWS, "at most the file's offsets, and not an empty file"));
        }
        Ok(())
    }
}

impl Footer for TransactionFooter {
    type Name = ObjectName;
    type Conflict = ChainError;

    fn check_name(&self, name: &ObjectName) -> Result<(), FooterError> {
        let Self {
            topic,
            partition,
            first_offset,
            ..
        } = self;
        let is_its_own = topic == name.topic()
            && *partition == name.partition()
            && *first_offset == name.first_offset();
        if is_its_own {
            Ok(())
        } else {
            Err(FooterError::OfAnother(format!(
                "{topic}-{partition} from offset {first_offset}"
            )))
        }
    }

    fn adopt(&self, theirs: &Self) -> Result<Adoption, ChainError> {
        on_already_exists(self, theirs)
    }
}
