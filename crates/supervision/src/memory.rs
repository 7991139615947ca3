//! One memory budget for everything between the consumer and the lake.
//!
//! Taking memory never waits: the consumer looks at the budget before it fetches
//! more, pauses its partitions above it and resumes them at half of it. What can
//! exceed the budget is what one poll hands out.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::SeqCst;

/// The budget. Clones share it.
#[derive(Clone, Debug)]
pub struct MemoryBudget {
    used: Arc<AtomicU64>,
    limit: u64,
}

impl MemoryBudget {
    /// Nothing used of `limit` bytes.
    pub fn new(limit: u64) -> Self {
        Self {
            used: Arc::new(AtomicU64::new(0)),
            limit,
        }
    }

    /// Takes `bytes` until the permit is dropped.
    pub fn take(&self, bytes: u64) -> Permit {
        self.used.fetch_add(bytes, SeqCst);
        Permit {
            budget: self.clone(),
            bytes,
        }
    }

    /// Bytes in use.
    pub fn used(&self) -> u64 {
        self.used.load(SeqCst)
    }

    /// The limit in bytes.
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// Whether fetching should pause.
    pub fn is_exhausted(&self) -> bool {
        self.used() > self.limit
    }

    /// Whether fetching may resume after a pause.
    pub fn has_recovered(&self) -> bool {
        self.used() <= self.limit / 2
    }
}

/// A share of the budget.
#[derive(Debug)]
pub struct Permit {
    budget: MemoryBudget,
    bytes: u64,
}

impl Permit {
    /// Changes the share to what is held now.
    pub fn resize(&mut self, bytes: u64) {
        if bytes >= self.bytes {
            self.budget.used.fetch_add(bytes - self.bytes, SeqCst);
        } else {
            self.budget.used.fetch_sub(self.bytes - bytes, SeqCst);
        }
        self.bytes = bytes;
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permits_give_back_exactly_what_they_hold() {
        let budget = MemoryBudget::new(100);
        let mut first = budget.take(60);
        let second = budget.take(50);
        assert!(budget.is_exhausted());
        first.resize(40);
        assert!(!budget.is_exhausted() && !budget.has_recovered());
        drop(second);
        assert!(budget.has_recovered());
        first.resize(70);
        assert_eq!(budget.used(), 70);
        drop(first);
        assert_eq!(budget.used(), 0);
    }
}
