//! The currency a transaction was made in: a pure function of its number.

use xxhash_rust::xxh3::xxh3_64;

/// One of the four currencies of the transactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Currency {
    /// Euro.
    Eur,
    /// Danish krone.
    Dkk,
    /// Swedish krona.
    Sek,
    /// Norwegian krone.
    Nok,
}

impl Currency {
    /// All currencies, in the order [`currency_of`] numbers them.
    pub const ALL: [Self; 4] = [Self::Eur, Self::Dkk, Self::Sek, Self::Nok];

    /// ISO 4217 code.
    pub fn code(self) -> &'static str {
        match self {
            Self::Eur => "EUR",
            Self::Dkk => "DKK",
            Self::Sek => "SEK",
            Self::Nok => "NOK",
        }
    }

    /// US dollars for one unit, as the replaced producer has them (docs/DATA.md, section 3).
    pub fn usd_per_unit(self) -> f64 {
        match self {
            Self::Eur => 1.17,
            Self::Dkk => 0.16,
            Self::Sek => 0.11,
            Self::Nok => 0.10,
        }
    }
}

/// The currency of a transaction: the two highest bits of the number's XXH3-64 hash
/// (seed 0) are the index into [`Currency::ALL`], so each has a quarter of the transactions.
pub fn currency_of(trans_num: &[u8]) -> Currency {
    Currency::ALL[(xxh3_64(trans_num) >> 62) as usize]
}
