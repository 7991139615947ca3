//! The figures of the Kaggle file (docs/DATA.md, section 1) as the generator uses them.
//!
//! Legitimate amounts are given as quantiles in cents, between which a draw is uniform. The table
//! was fitted to the file's mean, p50 and p95 of each category by Sparkov's own rule (a Gamma
//! amount, below 1 replaced by U(1,10)) mixed over profiles, that is as a mixture of U(1,10) and a
//! Gamma; a single Gamma cannot have the p50 of 9 beside the mean of 72 that `shopping_net` has.
//! The lower knots were then bent and the tails of the shopping and misc categories raised until
//! the quantiles over all categories held, too; the last knots carry the rare large amounts up to
//! the file's maximum. Fraud amounts are normal about a mean per category; the means weighted by
//! the file's fraud counts give 531 and the file's quantiles.

/// Rows of the whole file, the size at which the counts below hold exactly.
pub(crate) const ROWS: u64 = 1_296_675;
/// Fraudulent rows of the whole file.
pub(crate) const FRAUD_ROWS: u64 = 7_506;
/// Rows of the whole file without `merch_zipcode`.
pub(crate) const ROWS_WITHOUT_MERCHANT_ZIP: u64 = 195_973;
/// Cards of the whole file.
pub(crate) const CARDS: usize = 983;
/// Merchants of the whole file.
pub(crate) const MERCHANTS: usize = 693;
/// Cities of the whole file.
pub(crate) const CITIES: usize = 894;
/// Jobs of the whole file.
pub(crate) const JOBS: usize = 494;
/// Share of the cards that belong to women, in thousandths.
pub(crate) const FEMALE_PERMILLE: usize = 547;
/// Cards that meet a fraud burst in a file of full size: 98 %.
pub(crate) const CARDS_WITH_FRAUD: u64 = 963;
/// Rows of a burst in a smaller file, which has fewer bursts rather than shorter ones.
pub(crate) const ROWS_PER_BURST: u64 = 7;
/// Smallest and largest fraud amount in cents.
pub(crate) const FRAUD_CENTS: (i64, i64) = (106, 137_600);

/// Probabilities of the amount quantiles, in parts per million.
pub(crate) const KNOTS_PPM: [u64; 20] = [
    0, 10_000, 50_000, 100_000, 200_000, 300_000, 400_000, 500_000, 600_000, 700_000, 800_000,
    850_000, 900_000, 950_000, 975_000, 990_000, 995_000, 999_000, 999_900, 1_000_000,
];

/// One of the 14 categories.
#[derive(Debug)]
pub(crate) struct Category {
    pub(crate) name: &'static str,
    /// Rows of the whole file, fraud included.
    pub(crate) rows: u64,
    pub(crate) fraud_rows: u64,
    /// Quantiles of the legitimate amounts at [`KNOTS_PPM`].
    pub(crate) amount_cents: [u32; 20],
    pub(crate) fraud_mean_cents: i64,
    pub(crate) fraud_deviation_cents: i64,
}

/// The categories, largest first.
pub(crate) const CATEGORIES: [Category; 14] = [
    Category {
        name: "gas_transport",
        rows: 131_659,
        fraud_rows: 618,
        amount_cents: [
            100, 435, 3_906, 4_496, 5_111, 5_549, 5_932, 6_300, 6_679, 7_099, 7_609, 7_933, 8_353,
            9_000, 9_586, 10_297, 10_799, 11_883, 13_298, 14_608,
        ],
        fraud_mean_cents: 1_200,
        fraud_deviation_cents: 400,
    },
    Category {
        name: "grocery_pos",
        rows: 123_638,
        fraud_rows: 1_743,
        amount_cents: [
            100, 2_813, 4_368, 5_414, 6_903, 8_140, 9_310, 10_502, 11_793, 13_287, 15_186, 16_436,
            18_100, 20_759, 23_255, 26_384, 28_657, 33_715, 40_589, 47_187,
        ],
        fraud_mean_cents: 31_100,
        fraud_deviation_cents: 4_500,
    },
    Category {
        name: "home",
        rows: 123_115,
        fraud_rows: 198,
        amount_cents: [
            100, 167, 421, 710, 1_714, 2_850, 3_865, 4_900, 6_027, 7_358, 9_096, 10_265, 11_850,
            14_600, 17_145, 20_408, 22_822, 28_297, 35_927, 43_404,
        ],
        fraud_mean_cents: 25_700,
        fraud_deviation_cents: 4_000,
    },
    Category {
        name: "shopping_pos",
        rows: 116_672,
        fraud_rows: 843,
        amount_cents: [
            100, 114, 170, 240, 380, 520, 660, 800, 930, 9_654, 14_291, 16_597, 19_341, 29_500,
            43_870, 62_101, 77_331, 101_111, 124_060, 1_500_000,
        ],
        fraud_mean_cents: 87_600,
        fraud_deviation_cents: 7_000,
    },
    Category {
        name: "kids_pets",
        rows: 113_035,
        fraud_rows: 239,
        amount_cents: [
            100, 141, 302, 498, 874, 2_186, 3_486, 4_700, 5_974, 7_449, 9_349, 10_618, 12_331,
            15_300, 18_033, 21_530, 24_113, 29_965, 38_107, 46_079,
        ],
        fraud_mean_cents: 1_800,
        fraud_deviation_cents: 600,
    },
    Category {
        name: "shopping_net",
        rows: 97_543,
        fraud_rows: 1_713,
        amount_cents: [
            100, 116, 181, 261, 421, 581, 741, 900, 2_425, 5_735, 9_506, 11_924, 15_128, 31_600,
            51_674, 80_271, 105_584, 151_967, 204_813, 1_500_000,
        ],
        fraud_mean_cents: 100_000,
        fraud_deviation_cents: 10_500,
    },
    Category {
        name: "entertainment",
        rows: 94_014,
        fraud_rows: 233,
        amount_cents: [
            100, 126, 232, 364, 662, 1_333, 3_382, 5_400, 7_094, 8_877, 11_037, 12_428, 14_263,
            17_800, 20_721, 24_403, 27_093, 33_122, 41_405, 49_435,
        ],
        fraud_mean_cents: 50_300,
        fraud_deviation_cents: 11_000,
    },
    Category {
        name: "food_dining",
        rows: 91_461,
        fraud_rows: 151,
        amount_cents: [
            100, 121, 207, 314, 563, 1_099, 2_144, 4_182, 5_740, 7_144, 8_716, 9_686, 10_932,
            14_078, 16_167, 18_762, 20_638, 24_797, 30_437, 35_850,
        ],
        fraud_mean_cents: 12_000,
        fraud_deviation_cents: 1_000,
    },
    Category {
        name: "personal_care",
        rows: 90_758,
        fraud_rows: 220,
        amount_cents: [
            100, 120, 199, 299, 508, 948, 1_769, 3_300, 5_208, 6_812, 8_587, 9_683, 11_093, 14_400,
            16_714, 19_599, 21_689, 26_340, 32_675, 38_776,
        ],
        fraud_mean_cents: 2_600,
        fraud_deviation_cents: 800,
    },
    Category {
        name: "health_fitness",
        rows: 85_879,
        fraud_rows: 133,
        amount_cents: [
            100, 118, 192, 283, 540, 1_079, 2_154, 4_300, 6_973, 8_381, 9_758, 10_554, 11_539,
            14_600, 16_208, 18_150, 19_524, 22_503, 26_433, 30_119,
        ],
        fraud_mean_cents: 2_000,
        fraud_deviation_cents: 600,
    },
    Category {
        name: "misc_pos",
        rows: 79_655,
        fraud_rows: 250,
        amount_cents: [
            100, 113, 171, 256, 458, 691, 947, 1_802, 2_841, 4_267, 6_340, 7_818, 9_886, 27_994,
            48_710, 80_579, 110_010, 168_848, 241_732, 1_500_000,
        ],
        fraud_mean_cents: 21_800,
        fraud_deviation_cents: 5_000,
    },
    Category {
        name: "misc_net",
        rows: 63_287,
        fraud_rows: 915,
        amount_cents: [
            100, 118, 189, 279, 459, 639, 819, 1_000, 3_182, 5_741, 9_121, 11_419, 14_558, 30_800,
            51_080, 80_553, 106_941, 156_485, 214_338, 1_500_000,
        ],
        fraud_mean_cents: 79_700,
        fraud_deviation_cents: 6_000,
    },
    Category {
        name: "grocery_net",
        rows: 45_452,
        fraud_rows: 134,
        amount_cents: [
            100, 769, 2_051, 2_604, 3_330, 3_912, 4_453, 5_000, 5_587, 6_262, 7_116, 7_676, 8_418,
            9_600, 10_705, 12_087, 13_087, 15_307, 18_314, 21_192,
        ],
        fraud_mean_cents: 1_200,
        fraud_deviation_cents: 400,
    },
    Category {
        name: "travel",
        rows: 40_507,
        fraud_rows: 116,
        amount_cents: [
            100, 110, 150, 200, 300, 400, 500, 600, 701, 801, 901, 951, 1_418, 52_371, 122_544,
            237_076, 330_128, 557_468, 897_124, 2_894_890,
        ],
        fraud_mean_cents: 900,
        fraud_deviation_cents: 400,
    },
];

impl Category {
    /// A legitimate amount in cents.
    pub(crate) fn legitimate_cents(&self, draw: &mut super::draw::Draw) -> u32 {
        let probability = draw.below(1_000_000);
        let above = KNOTS_PPM
            .partition_point(|knot| *knot <= probability)
            .clamp(1, KNOTS_PPM.len() - 1);
        let (low, high) = (self.amount_cents[above - 1], self.amount_cents[above]);
        draw.between(i64::from(low), i64::from(high)) as u32
    }

    /// A fraudulent amount in cents.
    pub(crate) fn fraud_cents(&self, draw: &mut super::draw::Draw) -> u32 {
        let deviation = self.fraud_deviation_cents * draw.normal_in_65536ths() / 65_536;
        (self.fraud_mean_cents + deviation).clamp(FRAUD_CENTS.0, FRAUD_CENTS.1) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_categories_add_up_to_the_whole_file() {
        assert_eq!(CATEGORIES.iter().map(|c| c.rows).sum::<u64>(), ROWS);
        assert_eq!(
            CATEGORIES.iter().map(|c| c.fraud_rows).sum::<u64>(),
            FRAUD_ROWS
        );
    }

    #[test]
    fn quantiles_rise() {
        for category in &CATEGORIES {
            assert!(category.amount_cents.is_sorted(), "{}", category.name);
        }
    }
}
