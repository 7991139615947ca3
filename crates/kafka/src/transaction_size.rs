//! How many rows a transaction has: as many as get through in [`TARGET`].
//!
//! Promises: on a fast line transactions soon reach their largest size; on a slow one, or under a
//! client quota, each gets through long before `transaction.timeout.ms`. Pure.

use std::time::Duration;

/// How long it may take to deliver a transaction and to commit it.
pub const TARGET: Duration = Duration::from_secs(2);
/// The first transaction's rows: some 200 kB.
const FIRST: u64 = 500;
/// Below this, a transaction costs more than its rows.
const LEAST: u64 = 20;

/// The size of the next transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransactionSize {
    rows: u64,
    most: u64,
}

impl TransactionSize {
    /// Transactions have at most `most` rows.
    pub fn new(most: u64) -> Self {
        let rows = FIRST.min(most);
        Self { rows, most }
    }

    /// Rows after which a transaction is committed.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// A commit of `rows` took so long, from its call to Kafka's answer. The size at most doubles:
    /// a quota lets a burst through first, and says nothing of it.
    pub fn committed(&mut self, rows: u64, took: Duration) {
        if rows < self.rows && took <= TARGET {
            return;
        }
        let fits = rows as f64 * (TARGET.as_secs_f64() / took.as_secs_f64().max(0.001));
        let largest = self.rows.saturating_mul(2).min(self.most);
        self.rows = (fits.round() as u64).clamp(LEAST.min(largest), largest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: u64 = 100_000;

    /// Sizes of 20 transactions on a line that takes so many rows a second.
    fn sizes(rows_per_second: f64) -> Vec<u64> {
        let mut size = TransactionSize::new(MOST);
        (0..20)
            .map(|_| {
                let rows = size.rows();
                let took = Duration::from_secs_f64(rows as f64 / rows_per_second);
                size.committed(rows, took);
                rows
            })
            .collect()
    }

    #[test]
    fn a_fast_line_soon_has_the_largest_transactions() {
        let sizes = sizes(1e6);
        assert_eq!(sizes[..4], [500, 1000, 2000, 4000]);
        assert_eq!(sizes[8..], [MOST; 12]);
        assert_eq!(TransactionSize::new(7).rows(), 7);
    }

    #[test]
    fn a_slow_line_has_transactions_that_take_two_seconds() {
        for (rows_per_second, settles_at) in [(700.0, 1400), (20.0, 40), (0.1, 20)] {
            assert_eq!(sizes(rows_per_second)[10..], [settles_at; 10]);
        }
    }

    #[test]
    fn few_rows_say_nothing_unless_they_were_slow() {
        let mut size = TransactionSize::new(MOST);
        size.committed(10, Duration::from_millis(900));
        assert_eq!(size.rows(), 500);
        size.committed(100, 2 * TARGET);
        assert_eq!(size.rows(), 50);
    }
}
