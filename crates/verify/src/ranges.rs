//! Sets of numbers as ranges, and a set of flags: what the accounts are kept in.

use std::fmt;

use serde::{Serialize, Serializer, ser::SerializeSeq};

/// Numbers, each counted as often as it was added, shown as the ranges they cover.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ranges {
    ranges: Vec<(i64, i64)>,
    count: u64,
}

impl Ranges {
    /// Adds one number.
    pub(crate) fn push(&mut self, number: i64) {
        self.push_range(number, number);
    }

    /// Adds `first` to `last`, both included; nothing if `last` is before `first`.
    pub(crate) fn push_range(&mut self, first: i64, last: i64) {
        if last < first {
            return;
        }
        self.count = self
            .count
            .saturating_add(last.abs_diff(first).saturating_add(1));
        match self.ranges.last_mut() {
            Some((from, to)) if first >= *from && first <= to.saturating_add(1) => {
                *to = last.max(*to);
            }
            _ => self.ranges.push((first, last)),
        }
    }

    /// Adds one number and counts what lies between it and the one before to its range, not to
    /// the numbers.
    pub(crate) fn push_across(&mut self, number: i64) {
        match self.ranges.last_mut() {
            Some((_, to)) if number > *to => {
                *to = number;
                self.count = self.count.saturating_add(1);
            }
            _ => self.push(number),
        }
    }

    /// How many numbers were added.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// Whether none was.
    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The ranges, ascending and apart.
    pub(crate) fn merged(&self) -> Vec<(i64, i64)> {
        let mut sorted = self.ranges.clone();
        sorted.sort_unstable();
        let mut merged: Vec<(i64, i64)> = Vec::with_capacity(sorted.len());
        for (first, last) in sorted {
            match merged.last_mut() {
                Some((_, to)) if first <= to.saturating_add(1) => *to = last.max(*to),
                _ => merged.push((first, last)),
            }
        }
        merged
    }
}

impl From<(i64, i64)> for Ranges {
    fn from((first, last): (i64, i64)) -> Self {
        let mut ranges = Self::default();
        ranges.push_range(first, last);
        ranges
    }
}

impl FromIterator<i64> for Ranges {
    fn from_iter<I: IntoIterator<Item = i64>>(numbers: I) -> Self {
        let mut ranges = Self::default();
        for number in numbers {
            ranges.push(number);
        }
        ranges
    }
}

/// Ranges that a table shows before it says how many more there are.
const SHOWN_RANGES: usize = 20;

impl fmt::Display for Ranges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let merged = self.merged();
        for (index, (first, last)) in merged.iter().take(SHOWN_RANGES).enumerate() {
            let comma = if index > 0 { ", " } else { "" };
            if first == last {
                write!(f, "{comma}{first}")?
            } else {
                write!(f, "{comma}{first}-{last}")?
            }
        }
        match merged.len().saturating_sub(SHOWN_RANGES) {
            0 => Ok(()),
            more => write!(f, " and {more} more ranges (all of them with --json)"),
        }
    }
}

impl Serialize for Ranges {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let merged = self.merged();
        let mut list = serializer.serialize_seq(Some(merged.len()))?;
        for range in &merged {
            list.serialize_element(range)?;
        }
        list.end()
    }
}

/// One bit a number, from 0.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bits {
    words: Vec<u64>,
}

impl Bits {
    /// Sets a bit; whether it was set before.
    pub(crate) fn set(&mut self, index: usize) -> bool {
        let (word, mask) = (index / 64, 1 << (index % 64));
        if word >= self.words.len() {
            self.words.resize(word + 1, 0);
        }
        let before = self.words[word] & mask != 0;
        self.words[word] |= mask;
        before
    }

    /// Whether a bit is set.
    pub(crate) fn get(&self, index: usize) -> bool {
        self.words
            .get(index / 64)
            .is_some_and(|word| word & (1 << (index % 64)) != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_become_ranges_in_whatever_order_they_come() {
        let cases: [(&[i64], &str, u64); 6] = [
            (&[], "", 0),
            (&[5], "5", 1),
            (&[1, 2, 3, 7], "1-3, 7", 4),
            (&[7, 1, 3, 2], "1-3, 7", 4),
            (&[1, 1, 1], "1", 3),
            (
                &[i64::MAX, i64::MAX - 1],
                "9223372036854775806-9223372036854775807",
                2,
            ),
        ];
        for (numbers, shown, count) in cases {
            let ranges: Ranges = numbers.iter().copied().collect();
            assert_eq!(ranges.to_string(), shown);
            assert_eq!(ranges.count(), count);
        }
    }

    #[test]
    fn a_range_may_span_numbers_that_do_not_count() {
        let mut ranges = Ranges::from((1, 3));
        ranges.push_across(6);
        assert_eq!((ranges.to_string().as_str(), ranges.count()), ("1-6", 4));
    }

    #[test]
    fn a_table_shows_twenty_ranges_and_json_all() {
        let ranges: Ranges = (0..25).map(|n| n * 2).collect();
        assert!(
            ranges
                .to_string()
                .ends_with("38 and 5 more ranges (all of them with --json)")
        );
        let json = serde_json::to_value(&ranges).expect("ranges are plain numbers");
        assert_eq!(json.as_array().map(Vec::len), Some(25));
    }

    #[test]
    fn a_bit_says_whether_it_was_set_before() {
        let mut bits = Bits::default();
        assert!(!bits.get(1000));
        assert!(!bits.set(1000));
        assert!(bits.set(1000));
        assert!(bits.get(1000) && !bits.get(999) && !bits.get(100_000));
    }
}
