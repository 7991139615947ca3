//! What the server was asked and what it did.

use std::collections::{BTreeMap, VecDeque};

use super::rule::{Fate, Operation};

/// Requests kept word for word.
const KEPT: usize = 10_000;

/// Figures since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Puts asked for, whatever became of them.
    pub puts: u64,
    /// Puts without `x-goog-if-generation-match: 0`.
    pub puts_not_create_only: u64,
    /// Objects that a put made.
    pub creates: u64,
    /// Objects that a put replaced.
    pub overwrites: u64,
    /// Puts refused with 412 because the object was there; a fault is not counted here.
    pub preconditions_failed: u64,
    /// Requests for multipart uploads; they are refused.
    pub multiparts: u64,
    /// Reads of objects.
    pub gets: u64,
    /// Requests for an object's size and times.
    pub heads: u64,
    /// Listings, each page counted.
    pub lists: u64,
    /// Everything else, such as deletions; refused.
    pub others: u64,
    /// Requests that were answered with 400 because they were malformed or too large.
    pub malformed: u64,
    /// Bytes of objects taken in.
    pub bytes_in: u64,
    /// Bytes of objects given out.
    pub bytes_out: u64,
    /// Faults given, by [`Fault::kind`](super::Fault::kind).
    pub faults: BTreeMap<&'static str, u64>,
}

impl Counts {
    /// Everything that was asked.
    pub fn requests(&self) -> u64 {
        self.puts + self.gets + self.heads + self.lists + self.multiparts + self.others
    }

    pub fn all_faults(&self) -> u64 {
        self.faults.values().sum()
    }
}

/// One request, as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    pub operation: Operation,
    /// The object's key, or a listing's prefix.
    pub key: String,
    /// Its `Range` header.
    pub range: Option<String>,
    /// Whether it was a put that must not overwrite.
    pub create_only: bool,
    /// The fault that it met.
    pub fault: Option<&'static str>,
}

/// Counts, and the newest requests word for word.
#[derive(Default)]
pub(crate) struct Book {
    pub counts: Counts,
    pub asked: VecDeque<Asked>,
}

impl Book {
    pub(crate) fn note(&mut self, mut asked: Asked, fate: Fate) {
        let counts = &mut self.counts;
        match asked.operation {
            Operation::Put => {
                counts.puts += 1;
                counts.puts_not_create_only += u64::from(!asked.create_only);
            }
            Operation::Get => counts.gets += 1,
            Operation::Head => counts.heads += 1,
            Operation::List => counts.lists += 1,
            Operation::Any => counts.others += 1,
        }
        if !fate.delay.is_zero() {
            *counts.faults.entry("delay").or_default() += 1;
        }
        asked.fault = fate.fault.map(|fault| fault.kind());
        if let Some(kind) = asked.fault {
            *counts.faults.entry(kind).or_default() += 1;
        }
        if self.asked.len() == KEPT {
            self.asked.pop_front();
        }
        self.asked.push_back(asked);
    }
}
