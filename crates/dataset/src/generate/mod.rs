//! A seeded, deterministic data set in the Kaggle file's 24 columns and shape (docs/DATA.md).
//!
//! Promises: the same options give the same bytes on any machine (integer arithmetic over ChaCha
//! streams, no libm); rows are in time order; the counts per category, of fraud, of fraud by night
//! and of missing merchant zips are exact shares of the Kaggle file's. Memory holds the rows of one
//! day as eight bytes each, so it is flat up to hundreds of millions of rows. In two points the
//! figures cannot all hold and this is what gives: 7,506 fraud rows over 98 % of 983 cards make
//! bursts of 8 on average rather than 10, and `unix_time` agrees with `trans_date_trans_time`
//! (UTC), where the original is seven years off.

mod broken;
mod calendar;
mod draw;
mod figures;
mod people;
mod row;
mod words;

use std::path::{Path, PathBuf};

use calendar::{Day, FIRST_SECOND, FraudClock, LAST_SECOND};
use draw::{Draw, Purpose, Quota, Roster, apportion};
use figures::{CARDS_WITH_FRAUD, CATEGORIES, FRAUD_ROWS, ROWS, ROWS_PER_BURST};
use people::{Card, Merchant};

use crate::error::DatasetError;
use crate::pending::{PendingFile, sync_directory};
use crate::schema::{SOURCE_COLUMNS, SOURCE_FILE};

/// More rows than this are a slip of the hand: a terabyte of text.
const MAX_ROWS: u64 = 4_000_000_000;
/// Rows between two progress reports.
const PROGRESS_ROWS: u64 = 8_192;
/// A merchant is at most one degree from the cardholder's home.
const MERCHANT_REACH_MICROS: i64 = 1_000_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GenerateOptions {
    /// Valid rows, 1 to 4 billion. The Kaggle file has 1,296,675.
    pub rows: u64,
    /// Everything random follows from it.
    pub seed: u64,
    /// Rows broken in different ways, in addition to `rows` and spread over the file. The valid
    /// rows are the same whatever this is.
    pub bad_rows: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GenerateReport {
    /// Valid rows.
    pub rows: u64,
    /// Broken rows among them.
    pub bad_rows: u64,
    /// Valid rows with `is_fraud` 1.
    pub fraud_rows: u64,
    /// The file's size.
    pub bytes: u64,
    /// The file.
    pub path: PathBuf,
}

/// Writes [`SOURCE_FILE`] into `out_dir`, which is made if need be; the file appears when it is
/// whole. `progress` gets the rows so far.
///
/// # Errors
/// A number of rows outside its range, and whatever keeps the file from being written.
pub fn generate(
    options: &GenerateOptions,
    out_dir: &Path,
    progress: &mut dyn FnMut(u64),
) -> Result<GenerateReport, DatasetError> {
    for (option, value, least) in [("rows", options.rows, 1), ("bad_rows", options.bad_rows, 0)] {
        if !(least..=MAX_ROWS).contains(&value) {
            return Err(DatasetError::InvalidOption {
                option,
                value: value.to_string(),
                remedy: "it may be 1 to 4,000,000,000 (bad_rows may be 0)",
            });
        }
    }
    let mut file = PendingFile::create(out_dir, SOURCE_FILE)?;
    let header = SOURCE_COLUMNS.join(",");
    file.buffer().extend_from_slice(header.as_bytes());
    file.buffer().push(b'\n');

    let mut generator = Generator::new(options);
    for day in &calendar::days() {
        generator.plan_day(day);
        for at in 0..generator.plan.len() {
            let planned = generator.plan[at];
            generator.write_row(day, planned, &mut file)?;
            if generator.rows_written.is_multiple_of(PROGRESS_ROWS) {
                progress(generator.rows_written);
            }
        }
    }
    progress(generator.rows_written);
    let report = GenerateReport {
        rows: generator.rows_written,
        bad_rows: generator.bad_rows_written,
        fraud_rows: generator.fraud_rows_written,
        bytes: file.bytes(),
        path: file.publish()?,
    };
    sync_directory(out_dir)?;
    Ok(report)
}

/// A row of the day, before it is drawn in full: the day is sorted in this form.
#[derive(Debug, Clone, Copy)]
struct Planned {
    second: u32,
    card: u16,
    is_fraud: bool,
}

/// One card's fraud, all on one day.
#[derive(Debug, Clone, Copy)]
struct Burst {
    card: u16,
    rows: u64,
}

struct Generator {
    options: GenerateOptions,
    cards: Vec<Card>,
    merchants: Vec<Merchant>,
    /// Legitimate rows of each day.
    rows_by_day: Vec<u64>,
    bursts_by_day: Vec<Vec<Burst>>,
    day_at: usize,
    plan: Vec<Planned>,
    card_roster: Roster,
    merchant_rosters: Vec<Roster>,
    legitimate_categories: Quota,
    fraud_categories: Quota,
    /// Kind 0 has no merchant zip.
    merchant_zips: Quota,
    fraud_clock: FraudClock,
    draw: Draw,
    trans_num_key: u64,
    rows_written: u64,
    bad_rows_written: u64,
    fraud_rows_written: u64,
}

impl Generator {
    fn new(options: &GenerateOptions) -> Self {
        let GenerateOptions { rows, seed, .. } = *options;
        let cards = people::cards(seed);
        let merchants = people::merchants(seed);
        let share_of_rows = |part: u64| {
            let exact = u128::from(rows) * u128::from(part) * 2 + u128::from(ROWS);
            (exact / (2 * u128::from(ROWS))) as u64
        };
        let fraud_rows = share_of_rows(FRAUD_ROWS);
        let legitimate_rows = rows - fraud_rows;
        let legitimate: Vec<u64> = CATEGORIES.iter().map(|c| c.rows - c.fraud_rows).collect();
        let fraud: Vec<u64> = CATEGORIES.iter().map(|c| c.fraud_rows).collect();
        let without_zip = share_of_rows(figures::ROWS_WITHOUT_MERCHANT_ZIP);
        let mut draw = Draw::new(seed, Purpose::Rows);
        let card_weights: Vec<(u16, u16)> = (0_u16..).zip(cards.iter().map(|c| c.weight)).collect();
        let merchant_rosters = (0..CATEGORIES.len())
            .map(|category| {
                let of_category: Vec<(u16, u16)> = (0_u16..)
                    .zip(&merchants)
                    .filter(|(_, merchant)| merchant.category == category)
                    .map(|(at, _)| (at, 1))
                    .collect();
                Roster::new(&of_category, &mut draw)
            })
            .collect();
        Self {
            options: *options,
            rows_by_day: legitimate_rows_by_day(legitimate_rows),
            bursts_by_day: bursts_by_day(seed, fraud_rows, cards.len()),
            day_at: 0,
            plan: Vec::new(),
            card_roster: Roster::new(&card_weights, &mut draw),
            merchant_rosters,
            legitimate_categories: Quota::new(apportion(legitimate_rows, &legitimate)),
            fraud_categories: Quota::new(apportion(fraud_rows, &fraud)),
            merchant_zips: Quota::new(vec![without_zip, rows - without_zip]),
            fraud_clock: FraudClock::new(fraud_rows),
            trans_num_key: draw.bits(),
            draw,
            cards,
            merchants,
            rows_written: 0,
            bad_rows_written: 0,
            fraud_rows_written: 0,
        }
    }

    /// Draws who pays when on the next day, in time order.
    fn plan_day(&mut self, day: &Day) {
        let bursts = &self.bursts_by_day[self.day_at];
        let rows = self.rows_by_day[self.day_at];
        let is_last_day = self.day_at + 1 == self.rows_by_day.len();
        self.plan.clear();
        for _ in 0..rows {
            // A card in its burst has no legitimate transaction that day.
            let card = self.card_roster.draw(&mut self.draw, |card| {
                bursts.iter().all(|burst| burst.card != card)
            });
            self.plan.push(Planned {
                second: day.legitimate_second(&mut self.draw),
                card,
                is_fraud: false,
            });
        }
        // The ends of the range are always there, whatever the number of rows.
        if self.day_at == 0
            && let Some(planned) = self.plan.first_mut()
        {
            planned.second = FIRST_SECOND;
        }
        if is_last_day && let Some(planned) = self.plan.first_mut() {
            planned.second = LAST_SECOND;
        }
        for burst in bursts {
            for _ in 0..burst.rows {
                self.plan.push(Planned {
                    second: self.fraud_clock.second(&mut self.draw),
                    card: burst.card,
                    is_fraud: true,
                });
            }
        }
        self.plan.sort_by_key(|planned| planned.second);
        self.day_at += 1;
    }

    fn write_row(
        &mut self,
        day: &Day,
        planned: Planned,
        file: &mut PendingFile,
    ) -> Result<(), DatasetError> {
        let draw = &mut self.draw;
        let card = &self.cards[usize::from(planned.card)];
        let (category_at, amount_cents) = if planned.is_fraud {
            let at = self.fraud_categories.draw(draw);
            (at, CATEGORIES[at].fraud_cents(draw))
        } else {
            let at = self.legitimate_categories.draw(draw);
            (at, CATEGORIES[at].legitimate_cents(draw))
        };
        let merchant = self.merchant_rosters[category_at].draw(draw, |_| true);
        let mut near =
            |home: i32| home + draw.between(-MERCHANT_REACH_MICROS, MERCHANT_REACH_MICROS) as i32;
        let (merch_lat_micros, merch_long_micros) = (near(card.lat_micros), near(card.long_micros));
        let has_zip = self.merchant_zips.draw(draw) == 1;
        let transaction = row::Transaction {
            ordinal: self.rows_written,
            second_of_day: planned.second,
            amount_cents,
            // The first half is a bijection of the ordinal, so no two rows can have the same.
            trans_num: [mix(self.trans_num_key ^ self.rows_written), draw.bits()],
            merch_lat_micros,
            merch_long_micros,
            is_fraud: planned.is_fraud,
            merch_zip: has_zip
                .then(|| draw.between(i64::from(card.zips.0), i64::from(card.zips.1)) as u32),
        };
        let out = file.buffer();
        let start = out.len();
        let merchant = &self.merchants[usize::from(merchant)];
        row::write(out, day, card, merchant, &transaction);
        self.rows_written += 1;
        self.fraud_rows_written += u64::from(planned.is_fraud);
        self.write_bad_rows_due(out, start);
        file.spill()
    }

    /// Broken rows follow the valid row that begins at `start` so that they are spread evenly.
    fn write_bad_rows_due(&mut self, out: &mut Vec<u8>, start: usize) {
        let GenerateOptions { rows, bad_rows, .. } = self.options;
        let due = u128::from(bad_rows) * u128::from(self.rows_written) / u128::from(rows);
        if u128::from(self.bad_rows_written) >= due {
            return;
        }
        let valid = out[start..].to_vec();
        while u128::from(self.bad_rows_written) < due {
            broken::write(out, &valid, self.bad_rows_written);
            self.bad_rows_written += 1;
        }
    }
}

/// The first and the last day have one row at least, where there are two rows.
fn legitimate_rows_by_day(rows: u64) -> Vec<u64> {
    let weights: Vec<u64> = calendar::days().iter().map(|day| day.weight).collect();
    let ends = rows.min(2);
    let mut by_day = apportion(rows - ends, &weights);
    if let Some(first) = by_day.first_mut() {
        *first += ends.min(1);
    }
    if let Some(last) = by_day.last_mut() {
        *last += ends.saturating_sub(1);
    }
    by_day
}

fn bursts_by_day(seed: u64, fraud_rows: u64, cards: usize) -> Vec<Vec<Burst>> {
    let days = calendar::days().len();
    let mut by_day = vec![Vec::new(); days];
    if fraud_rows == 0 {
        return by_day;
    }
    let mut draw = Draw::new(seed, Purpose::Bursts);
    let bursts = (fraud_rows / ROWS_PER_BURST).clamp(1, CARDS_WITH_FRAUD) as usize;
    let mut sizes = apportion(fraud_rows, &vec![1; bursts]);
    for _ in 0..2 * bursts {
        let from = draw.below(bursts as u64) as usize;
        let to = draw.below(bursts as u64) as usize;
        if sizes[from] > 3 {
            sizes[from] -= 1;
            sizes[to] += 1;
        }
    }
    let mut victims: Vec<u16> = (0..cards as u16).collect();
    draw.shuffle(&mut victims);
    for (card, rows) in victims.into_iter().zip(sizes) {
        // Not on the first or last day, which the range cuts short.
        let day = 1 + draw.below(days as u64 - 2) as usize;
        by_day[day].push(Burst { card, rows });
    }
    by_day
}

/// The finalizer of SplitMix64 (Steele, Lea, Flood 2014): a bijection of 64 bits.
fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}
