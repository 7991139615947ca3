//! The key-value pairs of a Parquet footer, in which every object of the lake says what it holds.

use std::collections::BTreeMap;
use std::str::FromStr;

use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;

/// A footer that can't be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FooterError {
    /// A key is missing.
    #[error("the footer has no {0}: the file was not written by ftap, or is damaged")]
    Missing(&'static str),
    /// A value is not what it has to be.
    #[error("the footer's {key} is {value:?}, wanted {wanted}: the file is damaged")]
    Invalid {
        /// The key.
        key: &'static str,
        /// Its value, cut after 100 characters.
        value: String,
        /// What it has to be.
        wanted: &'static str,
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
}

/// Pairs to read a footer from; those of others are ignored.
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

    /// Fails if the value of `key` is another version than `known`.
    pub fn expect_version(&self, key: &'static str, known: u32) -> Result<(), FooterError> {
        match self.number(key)? {
            found if found == known => Ok(()),
            found => Err(FooterError::Version { found, known }),
        }
    }

    pub fn text(&self, key: &'static str) -> Result<&'a str, FooterError> {
        self.0.get(key).copied().ok_or(FooterError::Missing(key))
    }

    pub fn number<T: FromStr>(&self, key: &'static str) -> Result<T, FooterError> {
        self.parse(key, "a whole number")
    }

    pub fn parse<T: FromStr>(
        &self,
        key: &'static str,
        wanted: &'static str,
    ) -> Result<T, FooterError> {
        let parsed = self.text(key)?.parse();
        parsed.map_err(|_| self.invalid(key, wanted))
    }

    pub fn hash(&self, key: &'static str) -> Result<u64, FooterError> {
        let text = self.text(key)?;
        let is_hash = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        match u64::from_str_radix(text, 16) {
            Ok(hash) if is_hash => Ok(hash),
            _ => Err(self.invalid(key, "16 hexadecimal digits")),
        }
    }

    pub fn invalid(&self, key: &'static str, wanted: &'static str) -> FooterError {
        FooterError::Invalid {
            key,
            value: self.0.get(key).unwrap_or(&"").chars().take(100).collect(),
            wanted,
        }
    }
}

/// Writes the pairs into the footer and ends the file.
pub fn close_with(
    mut writer: ArrowWriter<Vec<u8>>,
    pairs: Vec<(&'static str, String)>,
) -> Result<Bytes, ParquetError> {
    for (key, value) in pairs {
        writer.append_key_value_metadata(KeyValue::new(key.to_owned(), value));
    }
    Ok(writer.into_inner()?.into())
}

/// A hash as footers hold it.
pub fn hash_text(hash: u64) -> String {
    format!("{hash:016x}")
}
