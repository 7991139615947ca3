//! Random draws that give the same values on every machine: ChaCha with an explicit stream per
//! purpose, integer arithmetic only. No floating point and so no libm, no hash-map order, and no
//! sampling code of another crate that a version bump could change.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// What a stream of draws is for. A stream of its own keeps, say, the cards the same when the
/// number of rows changes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Purpose {
    Cards = 1,
    Merchants = 2,
    Bursts = 3,
    Rows = 4,
}

/// A source of deterministic draws.
#[derive(Debug)]
pub(crate) struct Draw(ChaCha8Rng);

impl Draw {
    pub(crate) fn new(seed: u64, purpose: Purpose) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(purpose as u64);
        Self(rng)
    }

    pub(crate) fn bits(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A value in `0..bound`; 0 for a bound of 0. The bias of multiply-and-shift is below
    /// bound / 2^64, far from anything a data set of this size can show.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.bits()) * u128::from(bound)) >> 64) as u64
    }

    /// A value in `low..=high`.
    pub(crate) fn between(&mut self, low: i64, high: i64) -> i64 {
        low + self.below((high - low + 1).max(1) as u64) as i64
    }

    /// True in `share` of `whole` draws.
    pub(crate) fn chance(&mut self, share: u64, whole: u64) -> bool {
        self.below(whole) < share
    }

    pub(crate) fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len() as u64) as usize]
    }

    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i as u64 + 1) as usize);
        }
    }

    /// A standard normal value in units of 1/65536: twelve uniforms less six (Irwin-Hall), which
    /// needs no logarithm and ends at six standard deviations.
    pub(crate) fn normal_in_65536ths(&mut self) -> i64 {
        let mut sum = -6 * 65_536_i64;
        for _ in 0..3 {
            let bits = self.bits();
            for part in 0..4 {
                sum += ((bits >> (16 * part)) & 0xffff) as i64;
            }
        }
        sum
    }
}

/// Splits `total` by `weights` so that the parts sum to `total` exactly and each is within one of
/// its share. All zero when the weights are.
pub(crate) fn apportion(total: u64, weights: &[u64]) -> Vec<u64> {
    let whole: u128 = weights.iter().map(|w| u128::from(*w)).sum();
    let mut passed: u128 = 0;
    let mut given: u128 = 0;
    weights
        .iter()
        .map(|weight| {
            passed += u128::from(*weight);
            let until = (u128::from(total) * passed).checked_div(whole).unwrap_or(0);
            let part = until - given;
            given = until;
            part as u64
        })
        .collect()
}

/// Draws kinds without replacement, so that the counts at the end are exact.
#[derive(Debug)]
pub(crate) struct Quota {
    left: Vec<u64>,
    total: u64,
}

impl Quota {
    pub(crate) fn new(counts: Vec<u64>) -> Self {
        let total = counts.iter().sum();
        Self {
            left: counts,
            total,
        }
    }

    /// The index of the kind drawn; 0 when nothing is left.
    pub(crate) fn draw(&mut self, draw: &mut Draw) -> usize {
        let mut at = draw.below(self.total);
        for (kind, left) in self.left.iter_mut().enumerate() {
            if at < *left {
                *left -= 1;
                self.total -= 1;
                return kind;
            }
            at -= *left;
        }
        0
    }
}

/// Draws members by weight, after each has been drawn once in random order, so that even a small
/// data set shows all of them.
#[derive(Debug)]
pub(crate) struct Roster {
    first_round: Vec<u16>,
    by_weight: Vec<u16>,
}

impl Roster {
    /// `members` with their weight in whole shares.
    pub(crate) fn new(members: &[(u16, u16)], draw: &mut Draw) -> Self {
        let mut first_round: Vec<u16> = members.iter().map(|(member, _)| *member).collect();
        draw.shuffle(&mut first_round);
        let by_weight = members
            .iter()
            .flat_map(|(member, weight)| std::iter::repeat_n(*member, usize::from(*weight)))
            .collect();
        Self {
            first_round,
            by_weight,
        }
    }

    pub(crate) fn draw(&mut self, draw: &mut Draw, allowed: impl Fn(u16) -> bool) -> u16 {
        if self.first_round.last().is_some_and(|m| allowed(*m))
            && let Some(member) = self.first_round.pop()
        {
            return member;
        }
        loop {
            let member = *draw.pick(&self.by_weight);
            if allowed(member) {
                return member;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_sum_to_the_total_and_stay_within_one_of_their_share() {
        let parts = apportion(1000, &[1, 2, 4]);
        assert_eq!(parts.iter().sum::<u64>(), 1000);
        for (part, share) in parts.iter().zip([142.86, 285.7, 571.4]) {
            assert!((*part as f64 - share).abs() <= 1.0, "{parts:?}");
        }
        assert_eq!(apportion(5, &[0, 0]), [0, 0]);
    }

    #[test]
    fn a_quota_gives_each_kind_its_exact_count() {
        let mut draw = Draw::new(1, Purpose::Rows);
        let mut quota = Quota::new(vec![3, 0, 5]);
        let mut seen = [0; 3];
        for _ in 0..8 {
            seen[quota.draw(&mut draw)] += 1;
        }
        assert_eq!(seen, [3, 0, 5]);
    }

    #[test]
    fn the_normal_draw_has_mean_zero_and_deviation_one() {
        let mut draw = Draw::new(7, Purpose::Rows);
        let values: Vec<f64> = (0..20_000)
            .map(|_| draw.normal_in_65536ths() as f64 / 65_536.0)
            .collect();
        let mean = values.iter().sum::<f64>() / 20_000.0;
        let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / 20_000.0;
        assert!(mean.abs() < 0.03, "mean {mean}");
        assert!((variance - 1.0).abs() < 0.05, "variance {variance}");
    }
}
