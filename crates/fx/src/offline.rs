//! Rates without a provider: a random walk around fixed reference rates.
//!
//! Promises: the same seed and day give the same rates on every machine, in whatever order days are
//! asked for; rates stay near their reference. They are invented, and [`Provider::Offline`] says so.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use chrono::NaiveDate;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::{BadRate, CURRENCIES, Provider, Rates};

/// Units per US dollar around which each currency moves, about the mean of 2019 and 2020.
const REFERENCE: [f64; CURRENCIES.len()] = [0.885, 6.60, 9.11, 9.34];
/// Share of its distance from the reference that a rate keeps from day to day.
const MEMORY: f64 = 0.985;
/// Standard deviation of a day's change, relative.
const DAILY: f64 = 0.004;
/// Days of walk before the day asked for: what lies further back has no weight left.
const DAYS_OF_WALK: i32 = 600;

/// The walk of a seed. Moves that were drawn are kept, so that days next to each other cost little.
pub struct Walk {
    seed: u64,
    moves: Mutex<HashMap<i32, [f64; CURRENCIES.len()]>>,
}

impl Walk {
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            moves: Mutex::default(),
        }
    }

    /// The rates of a day.
    pub fn rates(&self, date: NaiveDate) -> Result<Rates, BadRate> {
        let last = chrono::Datelike::num_days_from_ce(&date);
        let mut distances = [0.0; CURRENCIES.len()];
        // A thread that panicked has left whole moves.
        let mut moves = self.moves.lock().unwrap_or_else(PoisonError::into_inner);
        for day in last - DAYS_OF_WALK..=last {
            let moved = moves.entry(day).or_insert_with(|| {
                std::array::from_fn(|currency| shock(self.seed, currency as u64, day))
            });
            for (distance, moved) in distances.iter_mut().zip(moved) {
                *distance = MEMORY * *distance + DAILY * *moved;
            }
        }
        let mut values = REFERENCE;
        for (value, distance) in values.iter_mut().zip(distances) {
            *value *= distance.exp();
            // Four digits behind the point, as quotes have.
            *value = (*value * 10_000.0).round() / 10_000.0;
        }
        Rates::new(values, Provider::Offline)
    }
}

/// A day's own move: mean 0, deviation 1. Each day has a stream of its own, so that a walk can
/// begin anywhere.
fn shock(seed: u64, currency: u64, day: i32) -> f64 {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    random.set_stream((currency << 32) | u64::from(day.unsigned_abs()));
    // Twelve uniform numbers: near enough to a normal one, and bounded.
    (0..12).map(|_| random.random::<f64>()).sum::<f64>() - 6.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(year: i32, month: u32, day: u32) -> NaiveDate {
        NaiveDate::from_ymd_opt(year, month, day).expect("a date of the calendar")
    }

    #[test]
    fn a_day_has_one_set_of_rates_for_a_seed() {
        let date = day(2019, 5, 4);
        let walk = Walk::new(1);
        let alone = walk.rates(date);
        for other in [day(2019, 5, 5), day(2021, 1, 1), day(2018, 1, 1)] {
            assert_ne!(walk.rates(other), alone);
        }
        assert_eq!(walk.rates(date), alone, "after other days");
        assert_eq!(Walk::new(1).rates(date), alone);
        assert_ne!(Walk::new(2).rates(date), alone);
        // A lake that is continued must not get other rates.
        let rates: Vec<_> = alone.expect("positive").iter().collect();
        let expected = [
            ("EUR", 0.8904),
            ("DKK", 6.6856),
            ("NOK", 9.1081),
            ("SEK", 9.4366),
        ];
        assert_eq!(rates, expected);
    }

    #[test]
    fn rates_move_a_little_each_day_and_stay_near_the_reference() {
        let walk = Walk::new(1);
        let mut before: Option<Rates> = None;
        for date in day(2019, 1, 1).iter_days().take(540) {
            let today = walk.rates(date).expect("positive");
            for (index, (currency, rate)) in today.iter().enumerate() {
                let far = (rate / REFERENCE[index]).ln().abs();
                assert!(far < 0.2, "{currency} is {rate} on {date}");
            }
            if let Some(before) = before {
                for ((currency, old), (_, new)) in before.iter().zip(today.iter()) {
                    let step = (new / old).ln().abs();
                    assert!(step < 0.04, "{currency} moved by {step} on {date}");
                }
            }
            before = Some(today);
        }
    }
}
