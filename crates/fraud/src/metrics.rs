//! How well scores rank fraud, and how true they are.
//!
//! Promises: rows of one score count as one, so no figure depends on their order; a figure that the rows can't give is
//! an error or absent, never a number. Pure.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore as _, SeedableRng as _};
use serde::{Deserialize, Serialize};

/// Resamples of an interval.
const RESAMPLES: usize = 1_000;
/// An interval of fewer resamples than these says nothing.
const MIN_RESAMPLES: usize = 100;
/// Groups of the calibration.
const GROUPS: usize = 10;

/// A score and the truth.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Judged {
    /// The higher, the more suspicious.
    pub score: f64,
    pub is_fraud: bool,
    /// Numbers the cards from 0: rows of one card don't vary independently.
    pub card: u32,
}

/// Rows that no figure can be computed from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RankingError {
    #[error("there are no rows")]
    Empty,
    #[error("none of {rows} rows is fraud")]
    NoFraud { rows: usize },
    #[error("all {rows} rows are fraud")]
    OnlyFraud { rows: usize },
    #[error("a score is not a number")]
    NotANumber,
}

/// A range that holds the true figure in 95 % of the cases.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    pub low: f64,
    pub high: f64,
}

/// Rows of similar scores: what was predicted of them, and what was true.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Group {
    pub rows: u64,
    pub fraud_rows: u64,
    /// Mean of the scores.
    pub predicted: f64,
    /// Share of fraud.
    pub observed: f64,
}

/// Judged rows of both kinds, the most suspicious first.
#[derive(Debug)]
pub struct Ranking {
    judged: Vec<Judged>,
    fraud: f64,
}

impl Ranking {
    /// # Errors
    /// If there are not rows of both kinds, or a score is not a number.
    pub fn new(mut judged: Vec<Judged>) -> Result<Self, RankingError> {
        let rows = judged.len();
        if judged.iter().any(|row| row.score.is_nan()) {
            return Err(RankingError::NotANumber);
        }
        match judged.iter().filter(|row| row.is_fraud).count() {
            _ if rows == 0 => Err(RankingError::Empty),
            0 => Err(RankingError::NoFraud { rows }),
            fraud if fraud == rows => Err(RankingError::OnlyFraud { rows }),
            fraud => {
                judged.sort_by(|one, two| two.score.total_cmp(&one.score));
                Ok(Self {
                    judged,
                    fraud: fraud as f64,
                })
            }
        }
    }

    /// Rows of one score, the highest first: how many, and how many of them are fraud.
    fn ties(&self) -> impl Iterator<Item = (f64, f64)> {
        let ties = self.judged.chunk_by(|one, two| one.score == two.score);
        ties.map(|tied| {
            let fraud = tied.iter().filter(|row| row.is_fraud).count();
            (tied.len() as f64, fraud as f64)
        })
    }

    /// The chance that a fraudulent row has a higher score than a legitimate one; equal scores count half.
    pub fn roc_auc(&self) -> f64 {
        let legitimate = self.judged.len() as f64 - self.fraud;
        let (mut below, mut pairs) = (legitimate, 0.0);
        for (rows, fraud) in self.ties() {
            let tied = rows - fraud;
            below -= tied;
            pairs += fraud * (below + tied / 2.0);
        }
        pairs / (self.fraud * legitimate)
    }

    /// The average precision: of each score, the precision down to it, weighted by the recall that it adds.
    pub fn pr_auc(&self) -> f64 {
        let (mut alerts, mut found, mut area) = (0.0, 0.0, 0.0);
        for (rows, fraud) in self.ties() {
            alerts += rows;
            found += fraud;
            area += fraud / self.fraud * (found / alerts);
        }
        area
    }

    /// The share of the fraud that is among this share of the rows, those with the highest scores. Of rows of one score
    /// that don't all fit, the share that fits counts.
    pub fn recall_at(&self, share: f64) -> f64 {
        let mut left = share * self.judged.len() as f64;
        let mut found = 0.0;
        for (rows, fraud) in self.ties() {
            if left <= 0.0 {
                break;
            }
            found += fraud * (left / rows).min(1.0);
            left -= rows;
        }
        found / self.fraud
    }

    /// A bootstrap interval of [`Self::recall_at`]. Cards are drawn, each with all of its rows, because fraud comes in
    /// bursts of a card: rows drawn alone would make the interval too narrow. `None` if there are too few cards with
    /// fraud for one.
    pub fn recall_interval(&self, share: f64, seed: u64) -> Option<Interval> {
        let cards = self.judged.iter().map(|row| row.card as usize + 1).max()?;
        let (mut rows_of, mut fraud_of) = (vec![0.0; cards], vec![0.0; cards]);
        for row in &self.judged {
            rows_of[row.card as usize] += 1.0;
            fraud_of[row.card as usize] += f64::from(u8::from(row.is_fraud));
        }
        let present: Vec<usize> = (0..cards).filter(|card| rows_of[*card] > 0.0).collect();
        let with_fraud = present.iter().filter(|card| fraud_of[**card] > 0.0);
        if with_fraud.count() < 2 {
            return None;
        }
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut recalls = Vec::with_capacity(RESAMPLES);
        let mut times = vec![0.0; cards];
        for _ in 0..RESAMPLES {
            times.fill(0.0);
            for _ in 0..present.len() {
                let bits = u128::from(random.next_u64()) * present.len() as u128;
                times[present[(bits >> 64) as usize]] += 1.0;
            }
            let total = |of: &[f64]| -> f64 { times.iter().zip(of).map(|(n, of)| n * of).sum() };
            let (rows, fraud) = (total(&rows_of), total(&fraud_of));
            if fraud > 0.0 {
                recalls.push(self.weighted_recall(share * rows, &times) / fraud);
            }
        }
        if recalls.len() < MIN_RESAMPLES {
            return None;
        }
        recalls.sort_by(f64::total_cmp);
        let at = |share: f64| recalls[((recalls.len() - 1) as f64 * share).round() as usize];
        Some(Interval {
            low: at(0.025),
            high: at(0.975),
        })
    }

    /// Fraud among so many rows, where each row is there as often as its card.
    fn weighted_recall(&self, mut left: f64, times: &[f64]) -> f64 {
        let mut found = 0.0;
        for tied in self.judged.chunk_by(|one, two| one.score == two.score) {
            if left <= 0.0 {
                break;
            }
            let (mut rows, mut fraud) = (0.0, 0.0);
            for row in tied {
                let times = times[row.card as usize];
                rows += times;
                fraud += if row.is_fraud { times } else { 0.0 };
            }
            if rows > 0.0 {
                found += fraud * (left / rows).min(1.0);
                left -= rows;
            }
        }
        found
    }

    /// Ten groups of equal size by score, the lowest first; fewer than ten rows make as many groups.
    pub fn calibration(&self) -> Vec<Group> {
        let rows = self.judged.len();
        let groups = GROUPS.min(rows);
        let group = |number: usize| {
            let part = &self.judged[number * rows / groups..(number + 1) * rows / groups];
            let fraud_rows = part.iter().filter(|row| row.is_fraud).count();
            let sum: f64 = part.iter().map(|row| row.score).sum();
            Group {
                rows: part.len() as u64,
                fraud_rows: fraud_rows as u64,
                predicted: sum / part.len() as f64,
                observed: fraud_rows as f64 / part.len() as f64,
            }
        };
        (0..groups).rev().map(group).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Each row on a card of its own.
    fn ranking(rows: &[(f64, bool)]) -> Result<Ranking, RankingError> {
        let rows = rows.iter().zip(0..);
        let judged = rows.map(|((score, is_fraud), card)| Judged {
            score: *score,
            is_fraud: *is_fraud,
            card,
        });
        Ranking::new(judged.collect())
    }

    fn close(one: f64, two: f64) {
        assert!((one - two).abs() < 1e-12, "{one} is not {two}");
    }

    #[test]
    fn rows_of_one_kind_none_and_scores_that_are_no_numbers_are_refused() {
        let error = |rows: &[(f64, bool)]| ranking(rows).unwrap_err();
        assert_eq!(error(&[]), RankingError::Empty);
        let none = [(0.1, false), (0.2, false)];
        assert_eq!(error(&none).to_string(), "none of 2 rows is fraud");
        assert_eq!(error(&[(0.1, true)]).to_string(), "all 1 rows are fraud");
        let odd = [(f64::NAN, true), (0.2, false)];
        assert_eq!(error(&odd), RankingError::NotANumber);
    }

    /// scikit-learn's own example of both figures: 0.75 and 0.8333.
    #[test]
    fn areas_are_as_published() {
        let published = [(0.1, false), (0.4, false), (0.35, true), (0.8, true)];
        let ranking = ranking(&published).unwrap();
        close(ranking.roc_auc(), 0.75);
        // At 0.8: precision 1, half of the fraud; at 0.35: 2 of 3, the other half.
        close(ranking.pr_auc(), 0.5 + 0.5 * 2.0 / 3.0);
    }

    #[test]
    fn equal_scores_count_as_one_whatever_their_order() {
        let forward = [
            (0.9, true),
            (0.5, true),
            (0.5, false),
            (0.5, false),
            (0.1, false),
        ];
        let mut backward = forward;
        backward.reverse();
        for rows in [forward, backward] {
            let ranking = ranking(&rows).unwrap();
            // Six pairs of fraud and legitimate: 3 won by 0.9; 0.5 ties two and wins one.
            close(ranking.roc_auc(), (3.0 + 1.0 + 1.0) / 6.0);
            // 0.9: precision 1; 0.5: 2 of 4.
            close(ranking.pr_auc(), 0.5 * 1.0 + 0.5 * 0.5);
            // Two of five rows: the first, and one of the three tied, a third of whose fraud is found.
            close(ranking.recall_at(0.4), (1.0 + 1.0 / 3.0) / 2.0);
            close(ranking.recall_at(1.0), 1.0);
            close(ranking.recall_at(0.0), 0.0);
        }
        let all_equal = ranking(&[(0.5, true), (0.5, false), (0.5, false), (0.5, false)]).unwrap();
        close(all_equal.roc_auc(), 0.5);
        close(all_equal.pr_auc(), 0.25);
        close(all_equal.recall_at(0.01), 0.01);
    }

    #[test]
    fn an_interval_holds_the_figure_and_follows_from_the_seed() {
        // Forty cards of 25 rows; on every fourth one a burst of five, of which three are found.
        let mut judged = Vec::new();
        for card in 0..40_u32 {
            for row in 0..25_u32 {
                let is_fraud = card % 4 == 0 && row < 5;
                let is_found = is_fraud && row < 3;
                let score = if is_found { 2.0 } else { 1.0 } - f64::from(row * 40 + card) / 1e5;
                judged.push(Judged {
                    score,
                    is_fraud,
                    card,
                });
            }
        }
        let ranking = Ranking::new(judged).unwrap();
        let recall = ranking.recall_at(0.03);
        close(recall, 30.0 / 50.0);
        let interval = ranking.recall_interval(0.03, 7).unwrap();
        assert!(
            interval.low < recall && recall < interval.high + 0.01,
            "{interval:?}"
        );
        assert!(interval.low > 0.2 && interval.high <= 1.0, "{interval:?}");
        assert_eq!(ranking.recall_interval(0.03, 7), Some(interval));
        assert_ne!(ranking.recall_interval(0.03, 8), Some(interval));
    }

    #[test]
    fn fraud_of_a_single_card_gives_no_interval() {
        let judged = (0..50).map(|row| Judged {
            score: f64::from(row),
            is_fraud: row < 5,
            card: if row < 5 { 0 } else { 1 },
        });
        let ranking = Ranking::new(judged.collect()).unwrap();
        assert_eq!(ranking.recall_interval(0.1, 1), None);
    }

    #[test]
    fn calibration_has_ten_groups_from_the_lowest_score_on() {
        let rows: Vec<(f64, bool)> = (0..100)
            .map(|row| (f64::from(row) / 100.0, row >= 95))
            .collect();
        let groups = ranking(&rows).unwrap().calibration();
        assert_eq!(groups.len(), 10);
        assert_eq!((groups[0].rows, groups[0].fraud_rows), (10, 0));
        close(groups[0].predicted, 0.045);
        assert_eq!((groups[9].rows, groups[9].fraud_rows), (10, 5));
        close(groups[9].predicted, 0.945);
        close(groups[9].observed, 0.5);
        let few = ranking(&[(0.2, true), (0.1, false)]).unwrap().calibration();
        assert_eq!(few.len(), 2);
    }
}
