//! The cards and merchants of a data set, drawn once from the seed and formatted as the row needs
//! them. Names (first and last together), card numbers and merchants are unique, so a data set has
//! as many `user_id`s as cards.

use std::collections::BTreeSet;

use super::draw::{Draw, Purpose};
use super::figures::{CARDS, CATEGORIES, CITIES, FEMALE_PERMILLE, JOBS, MERCHANTS};
use super::row::push_decimal;
use super::words;

/// A card and its holder.
#[derive(Debug)]
pub(crate) struct Card {
    /// `cc_num` as written.
    pub(crate) number: String,
    /// The columns `first` to `dob`, separated and quoted.
    pub(crate) first_to_dob: String,
    pub(crate) lat_micros: i32,
    pub(crate) long_micros: i32,
    /// The zips around the home, for the merchants met there.
    pub(crate) zips: (u32, u32),
    /// How often the card is used, relative to the others.
    pub(crate) weight: u16,
}

/// A merchant, which belongs to one category.
#[derive(Debug)]
pub(crate) struct Merchant {
    /// The columns `merchant` and `category`, separated and quoted.
    pub(crate) name_and_category: String,
    pub(crate) category: usize,
}

struct City {
    name: String,
    state: &'static str,
    zip: u32,
    zips: (u32, u32),
    lat_micros: i32,
    long_micros: i32,
    population: u64,
}

/// The cards of a data set: always [`CARDS`] of them.
pub(crate) fn cards(seed: u64) -> Vec<Card> {
    let mut draw = Draw::new(seed, Purpose::Cards);
    let cities = cities(&mut draw);
    let jobs = jobs(&mut draw);
    let women = CARDS * FEMALE_PERMILLE / 1000;
    let mut is_female: Vec<bool> = (0..CARDS).map(|card| card < women).collect();
    draw.shuffle(&mut is_female);
    let mut names = BTreeSet::new();
    let mut numbers = BTreeSet::new();
    is_female
        .into_iter()
        .enumerate()
        .map(|(at, is_female)| {
            let city = &cities[at % cities.len()];
            let (first, last) = unused_name(&mut draw, is_female, &mut names);
            let mut card = Card {
                number: unused_number(&mut draw, &mut numbers),
                first_to_dob: String::new(),
                lat_micros: city.lat_micros,
                long_micros: city.long_micros,
                zips: city.zips,
                // The original's cards fall into six groups of activity, each a multiple of about
                // 500 transactions; alternating them keeps the sexes' share of rows in balance.
                weight: 1 + (at % 6) as u16,
            };
            let street = format!(
                "{} {} {}",
                draw.between(10, 9_999),
                draw.pick(&words::LAST_NAMES),
                draw.pick(&words::STREET_TYPES)
            );
            let gender = if is_female { 'F' } else { 'M' };
            let job = quoted(&jobs[at % jobs.len()]);
            card.first_to_dob = format!(
                "{first},{last},{gender},{street},{},{},{},{},{},{},{job},{}",
                city.name,
                city.state,
                city.zip,
                decimal(city.lat_micros),
                decimal(city.long_micros),
                city.population,
                birth_date(&mut draw),
            );
            card
        })
        .collect()
}

/// The merchants of a data set: always [`MERCHANTS`], spread evenly over the categories.
pub(crate) fn merchants(seed: u64) -> Vec<Merchant> {
    let mut draw = Draw::new(seed, Purpose::Merchants);
    let mut names = BTreeSet::new();
    while names.len() < MERCHANTS {
        let [a, b, c] = [(); 3].map(|()| *draw.pick(&words::SHOP_NAMES));
        if a == b || b == c || a == c {
            continue;
        }
        names.insert(match draw.below(6) {
            0 => format!("fraud_{a}, {b} and {c}"),
            1 => format!("fraud_{a}-{b}"),
            2 => format!("fraud_{a} Group"),
            3 => format!("fraud_{a} and Sons"),
            4 => format!("fraud_{a} LLC"),
            _ => format!("fraud_{a}, {b} and {c}"),
        });
    }
    let mut names: Vec<String> = names.into_iter().collect();
    draw.shuffle(&mut names);
    names
        .into_iter()
        .enumerate()
        .map(|(at, name)| {
            let category = at % CATEGORIES.len();
            Merchant {
                name_and_category: format!("{},{}", quoted(&name), CATEGORIES[category].name),
                category,
            }
        })
        .collect()
}

fn cities(draw: &mut Draw) -> Vec<City> {
    let mut names: Vec<String> = words::CITY_BEGINNINGS
        .iter()
        .flat_map(|beginning| {
            words::CITY_ENDS
                .iter()
                .map(move |end| format!("{beginning}{end}"))
        })
        .collect();
    draw.shuffle(&mut names);
    names.truncate(CITIES);
    names
        .into_iter()
        .map(|name| {
            let &(state, low, high, south, north, west, east) = draw.pick(&words::STATES);
            let zip = draw.between(i64::from(low), i64::from(high)) as u32;
            City {
                name,
                state,
                zip,
                zips: (low.max(zip.saturating_sub(150)), high.min(zip + 150)),
                // Four decimals, as in the original.
                lat_micros: draw.between(i64::from(south) * 10, i64::from(north) * 10) as i32 * 100,
                long_micros: draw.between(i64::from(west) * 10, i64::from(east) * 10) as i32 * 100,
                population: population(draw),
            }
        })
        .collect()
}

/// From 23 to 2.9 million with a median near 2,500, the border between rural and urban.
fn population(draw: &mut Draw) -> u64 {
    const DECILES: [i64; 11] = [
        23, 240, 560, 1_000, 1_700, 2_500, 4_900, 12_000, 35_000, 130_000, 2_906_700,
    ];
    let at = draw.below(10) as usize;
    // Twice, so that the last decile is mostly medium towns and rarely a metropolis.
    let high = draw.between(DECILES[at], DECILES[at + 1]);
    draw.between(DECILES[at], high) as u64
}

fn jobs(draw: &mut Draw) -> Vec<String> {
    let mut jobs: Vec<String> = words::JOB_FIELDS
        .iter()
        .flat_map(|field| {
            let first = words::JOB_HEADS_FIRST
                .iter()
                .map(move |head| format!("{head}, {field}"));
            let last = words::JOB_HEADS_LAST
                .iter()
                .map(move |head| format!("{}{} {head}", field[..1].to_uppercase(), &field[1..]));
            first.chain(last)
        })
        .collect();
    debug_assert_eq!(jobs.len(), JOBS);
    draw.shuffle(&mut jobs);
    jobs
}

fn unused_name(
    draw: &mut Draw,
    is_female: bool,
    used: &mut BTreeSet<(&'static str, &'static str)>,
) -> (&'static str, &'static str) {
    loop {
        let firsts = if is_female {
            &words::FEMALE_NAMES
        } else {
            &words::MALE_NAMES
        };
        let name = (*draw.pick(firsts), *draw.pick(&words::LAST_NAMES));
        if used.insert(name) {
            return name;
        }
    }
}

/// 12 to 19 digits as in the original, with a check digit that is wrong by Luhn's rule: no generated
/// number can be anybody's card.
fn unused_number(draw: &mut Draw, used: &mut BTreeSet<u64>) -> String {
    loop {
        let digits = *draw.pick(&[12_u32, 13, 14, 15, 15, 16, 16, 16, 16, 19]);
        let low = 3 * 10_u64.pow(digits - 1);
        let number = low + draw.below(3 * 10_u64.pow(digits - 1));
        if !passes_luhn(number) && used.insert(number) {
            return number.to_string();
        }
    }
}

fn passes_luhn(mut number: u64) -> bool {
    let mut sum = 0;
    let mut doubled = false;
    while number > 0 {
        let digit = number % 10;
        sum += match (doubled, digit) {
            (false, digit) => digit,
            (true, 0..=4) => digit * 2,
            (true, digit) => digit * 2 - 9,
        };
        doubled = !doubled;
        number /= 10;
    }
    sum % 10 == 0
}

fn birth_date(draw: &mut Draw) -> String {
    // Under 25 a tenth, 25 to 50 a half, the rest older, as of 2019.
    let year = match draw.below(10) {
        0 => draw.between(1995, 2004),
        1..=5 => draw.between(1969, 1994),
        _ => draw.between(1925, 1968),
    };
    format!(
        "{year}-{:02}-{:02}",
        draw.between(1, 12),
        draw.between(1, 28)
    )
}

fn decimal(micros: i32) -> String {
    let mut text = Vec::new();
    push_decimal(&mut text, i64::from(micros), 6);
    String::from_utf8(text).expect("digits are UTF-8")
}

fn quoted(text: &str) -> String {
    if text.contains(',') {
        format!("\"{text}\"")
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn luhn_is_as_published() {
        assert!(passes_luhn(79_927_398_713));
        assert!(!passes_luhn(79_927_398_714));
    }

    #[test]
    fn cards_differ_in_number_and_name() {
        let cards = cards(1);
        let numbers: BTreeSet<&str> = cards.iter().map(|c| c.number.as_str()).collect();
        assert_eq!(numbers.len(), CARDS);
        let names: BTreeSet<Vec<&str>> = cards
            .iter()
            .map(|c| c.first_to_dob.split(',').take(2).collect())
            .collect();
        assert_eq!(names.len(), CARDS);
    }
}
