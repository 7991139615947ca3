use std::fmt;

use super::transactions::OFFSET_DIGITS;
use super::{ObjectName, SUFFIX};
use crate::datasets::{DEAD_LETTERS, TRANSACTIONS};

const HASH_DIGITS: usize = 16;

/// The name of the object with the records that a file of transactions lists as rejected: that of the
/// file, and a hash of what is in the object. Two writers that rejected the same records meet at one
/// key; two that closed their files at different offsets, or reject by different rules, have one each.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeadLetterName {
    file: ObjectName,
    hash: u64,
}

impl DeadLetterName {
    pub fn new(file: ObjectName, hash: u64) -> Self {
        Self { file, hash }
    }

    /// The file of transactions that lists its records.
    pub fn file(&self) -> &ObjectName {
        &self.file
    }

    /// Hash of its records.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// The object's key:
    /// `dead_letters/2026-11-22/transactions-0-00000000000000000000-0123456789abcdef.parquet`.
    pub fn key(&self) -> String {
        self.to_string()
    }

    pub fn parse(key: &str) -> Option<Self> {
        let rest = key.strip_prefix(DEAD_LETTERS.name)?.strip_suffix(SUFFIX)?;
        let (file, hash) = rest.rsplit_once('-')?;
        let name = Self {
            file: ObjectName::parse(&format!("{}{file}{SUFFIX}", TRANSACTIONS.name)).ok()?,
            hash: u64::from_str_radix(hash, 16).ok()?,
        };
        // Fewer digits, signs and upper case would be other keys of the same object.
        (name.key() == key).then_some(name)
    }
}

impl fmt::Display for DeadLetterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, hash } = self;
        let folder = DEAD_LETTERS.folder(file.date());
        let (topic, partition, first_offset) =
            (file.topic(), file.partition(), file.first_offset());
        write!(
            f,
            "{folder}/{topic}-{partition}-{first_offset:0OFFSET_DIGITS$}-{hash:0HASH_DIGITS$x}{SUFFIX}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_that_of_the_file_with_a_hash() {
        let file = ObjectName::new("card-tx.v2", 3, 4712, 1_763_769_600_000).expect("a topic");
        let name = DeadLetterName::new(file, 0x00ab_cdef_0123_4567);
        let key =
            "dead_letters/2025-11-22/card-tx.v2-3-00000000000000004712-00abcdef01234567.parquet";
        assert_eq!(name.key(), key);
        assert_eq!(DeadLetterName::parse(key), Some(name));
        for other in [
            "dead_letters/2025-11-22/card-tx.v2-3-00000000000000004712-00ABCDEF01234567.parquet",
            "dead_letters/2025-11-22/card-tx.v2-3-00000000000000004712-abcdef01234567.parquet",
            "dead_letters/2025-11-22/card-tx.v2-3-00000000000000004712.parquet",
            "dead_letters/2025-11-22/card-tx.v2-3-4712-00abcdef01234567.parquet",
            "dead_letters/card-tx.v2-3-00000000000000004712-00abcdef01234567.parquet",
            "transactions/2025-11-22/card-tx.v2-3-00000000000000004712-00abcdef01234567.parquet",
        ] {
            assert_eq!(DeadLetterName::parse(other), None, "{other}");
        }
    }
}
