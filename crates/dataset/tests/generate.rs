//! What the generator promises, on real files: the Kaggle file's figures, the same bytes for the same
//! seed, and no half-written file.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::common::{Killed, kill_once_written};
use ftap_dataset::DatasetError;
use ftap_dataset::generate::{GenerateOptions, GenerateReport, generate};
use ftap_dataset::schema::SOURCE_FILE;
use tempfile::tempdir;
use uuid::Uuid;

fn options(rows: u64, seed: u64, bad_rows: u64) -> GenerateOptions {
    GenerateOptions {
        rows,
        seed,
        bad_rows,
    }
}

fn run(options: GenerateOptions, dir: &Path) -> GenerateReport {
    generate(&options, dir, &mut |_| {}).unwrap()
}

fn bytes_of(options: GenerateOptions) -> Vec<u8> {
    let dir = tempdir().unwrap();
    fs::read(run(options, dir.path()).path).unwrap()
}

/// A SHA-1 by the one hash at hand.
fn fingerprint(bytes: &[u8]) -> String {
    Uuid::new_v5(&Uuid::NAMESPACE_OID, bytes).to_string()
}

#[test]
fn the_same_seed_gives_the_same_bytes_on_any_machine() {
    let bytes = bytes_of(options(3_000, 42, 0));
    assert_eq!(bytes, bytes_of(options(3_000, 42, 0)));
    // Checked in: it changes only when the generator is changed on purpose.
    assert_eq!(fingerprint(&bytes), "e0abe02a-543c-5cd9-aae7-6ab12ac5456e");
}

#[test]
fn another_seed_gives_other_bytes() {
    let one = bytes_of(options(500, 1, 0));
    let two = bytes_of(options(500, 2, 0));
    let body = |bytes: &[u8]| bytes[bytes.iter().position(|b| *b == b'\n').unwrap()..].to_vec();
    assert_ne!(body(&one), body(&two));
}

#[test]
fn bad_rows_leave_the_valid_rows_as_they_are() {
    let clean = bytes_of(options(1_000, 5, 0));
    let dirty = bytes_of(options(1_000, 5, 333));
    let mut expected = clean.split(|b| *b == b'\n').peekable();
    let mut extra = 0;
    for line in dirty.split(|b| *b == b'\n') {
        if expected.peek() == Some(&line) {
            expected.next();
        } else {
            extra += 1;
        }
    }
    assert!(expected.next().is_none());
    assert_eq!(extra, 333);
}

#[test]
fn bad_rows_are_spread_over_the_file() {
    let bytes = bytes_of(options(1_000, 5, 10));
    let places: Vec<usize> = bytes
        .split(|b| *b == b'\n')
        .enumerate()
        .filter(|(_, line)| line.windows(6).any(|part| part == b"broken") || line.len() > 5_000)
        .map(|(at, _)| at / 101)
        .collect();
    let tenths: std::collections::BTreeSet<usize> = places.iter().copied().collect();
    assert!(
        tenths.len() >= 8,
        "bad rows lie in these tenths: {places:?}"
    );
}

#[test]
fn any_number_of_rows_spans_the_whole_range() {
    for rows in [2, 3, 100, 1_000] {
        let text = String::from_utf8(bytes_of(options(rows, 9, 0))).unwrap();
        let lines: Vec<&str> = text.lines().skip(1).collect();
        assert_eq!(lines.len() as u64, rows);
        assert!(
            lines[0].starts_with("0,2019-01-01 00:00:18,"),
            "{}",
            lines[0]
        );
        let last = lines.last().unwrap();
        assert!(last.contains(",2020-06-21 12:13:37,"), "{last}");
    }
    assert_eq!(
        bytes_of(options(1, 9, 0))
            .iter()
            .filter(|b| **b == b'\n')
            .count(),
        2
    );
}

#[test]
fn a_small_set_has_all_cards_merchants_and_categories() {
    let figures = Figures::of(options(20_000, 3, 0));
    assert_eq!(figures.cards.len(), 983);
    assert_eq!(figures.category_by_merchant.len(), 693);
    assert_eq!(figures.categories.len(), 14);
}

#[test]
fn zero_rows_is_refused_with_what_it_may_be() {
    let dir = tempdir().unwrap();
    let error = generate(&options(0, 1, 0), dir.path(), &mut |_| {}).unwrap_err();
    assert!(matches!(
        error,
        DatasetError::InvalidOption { option: "rows", .. }
    ));
    assert!(error.to_string().contains("1 to 4,000,000,000"), "{error}");
}

#[test]
fn progress_ends_at_the_number_of_rows() {
    let dir = tempdir().unwrap();
    let mut reported = Vec::new();
    generate(&options(20_000, 1, 7), dir.path(), &mut |rows| {
        reported.push(rows)
    })
    .unwrap();
    assert!(reported.len() > 2 && reported.is_sorted());
    assert_eq!(reported.last(), Some(&20_000));
}

#[test]
fn a_killed_run_leaves_no_file_of_the_final_name() {
    let dir = tempdir().unwrap();
    if Killed::is_child() {
        run(options(100_000_000, 1, 0), &Killed::dir());
        return;
    }
    let part = dir.path().join("credit_card_transactions.csv.part");
    kill_once_written(
        "generate::a_killed_run_leaves_no_file_of_the_final_name",
        dir.path(),
        &part,
    );
    assert!(!dir.path().join(SOURCE_FILE).exists());
    // The next run takes the remains over.
    let report = run(options(50, 1, 0), dir.path());
    assert_eq!(fs::read(&report.path).unwrap(), bytes_of(options(50, 1, 0)));
    assert!(!part.exists());
}

#[test]
fn two_runs_at_once_into_one_directory_are_kept_apart() {
    let dir = tempdir().unwrap();
    let mut second = None;
    generate(&options(20_000, 1, 0), dir.path(), &mut |_| {
        second.get_or_insert_with(|| {
            generate(&options(10, 2, 0), dir.path(), &mut |_| {}).unwrap_err()
        });
    })
    .unwrap();
    let second = second.unwrap();
    assert!(matches!(second, DatasetError::InUse { .. }), "{second}");
    let written = fs::read(dir.path().join(SOURCE_FILE)).unwrap();
    assert_eq!(written, bytes_of(options(20_000, 1, 0)));
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_one_clear_error_and_leaves_nothing() {
    let dir = tempdir().unwrap();
    let part = dir.path().join("credit_card_transactions.csv.part");
    std::os::unix::fs::symlink("/dev/full", &part).unwrap();
    let error = generate(&options(5_000, 1, 0), dir.path(), &mut |_| {}).unwrap_err();
    assert!(matches!(error, DatasetError::DiskFull { .. }), "{error}");
    assert!(error.to_string().contains("free some space"), "{error}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn a_file_in_the_way_of_the_directory_is_named() {
    let dir = tempdir().unwrap();
    let file = dir.path().join("taken");
    fs::write(&file, "x").unwrap();
    for out in [file.clone(), file.join("below")] {
        let error = generate(&options(5, 1, 0), &out, &mut |_| {}).unwrap_err();
        assert!(
            matches!(error, DatasetError::NotADirectory { .. }),
            "{error:?}"
        );
    }
}

// The Kaggle file's figures.

#[derive(Default)]
struct Amounts {
    legitimate: Vec<f64>,
    fraud: Vec<f64>,
}

/// What a reader who knows nothing of the generator sees in its file.
#[derive(Default)]
struct Figures {
    categories: BTreeMap<String, Amounts>,
    category_by_merchant: BTreeMap<String, String>,
    /// By card: rows of each date, legitimate and fraudulent.
    cards: BTreeMap<u64, BTreeMap<String, (u32, u32)>>,
    cities: std::collections::BTreeSet<String>,
    jobs: std::collections::BTreeSet<String>,
    names: std::collections::BTreeSet<(String, String)>,
    trans_nums: std::collections::HashSet<u128>,
    rows: u64,
    rows_of_women: u64,
    without_zip: u64,
    fraud_at_night: u64,
    legitimate_mornings: u64,
    rows_by_month: BTreeMap<String, u64>,
    first: String,
    last: String,
}

impl Figures {
    fn of(options: GenerateOptions) -> Self {
        let dir = tempdir().unwrap();
        let report = run(options, dir.path());
        let mut figures = Self::default();
        let mut reader = csv::Reader::from_path(&report.path).unwrap();
        let mut record = csv::StringRecord::new();
        while reader.read_record(&mut record).unwrap() {
            figures.add(&record);
        }
        assert_eq!(figures.rows, report.rows);
        figures
    }

    fn add(&mut self, row: &csv::StringRecord) {
        assert_eq!(row[0].parse::<u64>().unwrap(), self.rows);
        self.rows += 1;
        let moment = &row[1];
        assert!(moment >= self.last.as_str(), "{moment} after {}", self.last);
        if self.first.is_empty() {
            self.first = moment.to_owned();
        }
        self.last.clear();
        self.last.push_str(moment);
        if self.rows.is_multiple_of(1_000) {
            let parsed =
                chrono::NaiveDateTime::parse_from_str(moment, "%Y-%m-%d %H:%M:%S").unwrap();
            assert_eq!(
                parsed.and_utc().timestamp(),
                row[19].parse::<i64>().unwrap()
            );
            self.cities.insert(row[10].to_owned());
            self.jobs.insert(row[16].to_owned());
        }
        let is_fraud = &row[22] == "1";
        let hour: u32 = moment[11..13].parse().unwrap();
        let amounts = entry(&mut self.categories, &row[4]);
        let amt: f64 = row[5].parse().unwrap();
        if is_fraud {
            amounts.fraud.push(amt);
            self.fraud_at_night += u64::from(!(4..22).contains(&hour));
        } else {
            amounts.legitimate.push(amt);
            self.legitimate_mornings += u64::from(hour < 12);
        }
        let category = self
            .category_by_merchant
            .entry(row[3].to_owned())
            .or_insert_with(|| row[4].to_owned());
        assert_eq!(category, &row[4]);
        assert!(row[3].starts_with("fraud_"));
        let days = self.cards.entry(row[2].parse().unwrap()).or_default();
        if days.is_empty() {
            self.cities.insert(row[10].to_owned());
            self.jobs.insert(row[16].to_owned());
            self.names.insert((row[6].to_owned(), row[7].to_owned()));
        }
        let day = entry(days, &moment[..10]);
        day.0 += u32::from(!is_fraud);
        day.1 += u32::from(is_fraud);
        assert!(row[18].len() == 32);
        let trans_num = u128::from_str_radix(&row[18], 16).unwrap();
        assert!(self.trans_nums.insert(trans_num), "{} twice", &row[18]);
        self.rows_of_women += u64::from(&row[8] == "F");
        self.without_zip += u64::from(row[23].is_empty());
        for (home, merchant) in [(13, 20), (14, 21)] {
            let degrees = |at: usize| row[at].parse::<f64>().unwrap();
            assert!((degrees(home) - degrees(merchant)).abs() <= 1.000_001);
        }
        *entry(&mut self.rows_by_month, &moment[..7]) += 1;
    }
}

/// `BTreeMap::entry` without a new string for each look-up.
fn entry<'a, V: Default>(map: &'a mut BTreeMap<String, V>, key: &str) -> &'a mut V {
    if !map.contains_key(key) {
        map.insert(key.to_owned(), V::default());
    }
    map.get_mut(key).unwrap()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn quantile(sorted: &[f64], probability: f64) -> f64 {
    sorted[((sorted.len() - 1) as f64 * probability) as usize]
}

#[track_caller]
fn assert_near(what: &str, found: f64, expected: f64, tolerance: f64) {
    let off = (found / expected - 1.0).abs();
    assert!(
        off <= tolerance,
        "{what}: {found:.2}, expected {expected} within {:.0} %",
        tolerance * 100.0
    );
}

/// Category, rows, fraud rows, then mean, p50 and p95 of the legitimate amounts (docs/DATA.md, section 1).
const KAGGLE_CATEGORIES: [(&str, f64, f64, f64, f64, f64); 14] = [
    ("gas_transport", 131_659.0, 618.0, 63.0, 63.0, 90.0),
    ("grocery_pos", 123_638.0, 1_743.0, 113.0, 104.0, 207.0),
    ("home", 123_115.0, 198.0, 58.0, 49.0, 146.0),
    ("shopping_pos", 116_672.0, 843.0, 75.0, 8.0, 295.0),
    ("kids_pets", 113_035.0, 239.0, 57.0, 47.0, 153.0),
    ("shopping_net", 97_543.0, 1_713.0, 72.0, 9.0, 316.0),
    ("entertainment", 94_014.0, 233.0, 64.0, 54.0, 178.0),
    ("food_dining", 91_461.0, 151.0, 50.0, 42.0, 142.0),
    ("personal_care", 90_758.0, 220.0, 48.0, 33.0, 144.0),
    ("health_fitness", 85_879.0, 133.0, 54.0, 43.0, 146.0),
    ("misc_pos", 79_655.0, 250.0, 64.0, 18.0, 279.0),
    ("misc_net", 63_287.0, 915.0, 72.0, 10.0, 308.0),
    ("grocery_net", 45_452.0, 134.0, 53.0, 50.0, 96.0),
    ("travel", 40_507.0, 116.0, 105.0, 6.0, 524.0),
];

#[test]
fn a_set_of_full_size_has_the_figures_of_the_kaggle_file() {
    let mut figures = Figures::of(options(1_296_675, 1, 0));
    assert_eq!(figures.first, "2019-01-01 00:00:18");
    assert_eq!(figures.last, "2020-06-21 12:13:37");
    assert_eq!(figures.cards.len(), 983);
    assert_eq!(figures.names.len(), 983);
    assert_eq!(figures.category_by_merchant.len(), 693);
    assert_eq!(figures.cities.len(), 894);
    assert_eq!(figures.jobs.len(), 494);
    assert_eq!(figures.categories.len(), 14);
    assert_near("missing zips", figures.without_zip as f64, 195_973.0, 0.001);
    let rows = figures.rows as f64;
    assert_near(
        "rows of women",
        figures.rows_of_women as f64 / rows,
        0.547,
        0.03,
    );

    let (mut legitimate, mut fraud) = (Vec::new(), Vec::new());
    for (name, count, fraud_count, expected_mean, p50, p95) in KAGGLE_CATEGORIES {
        let amounts = figures.categories.get_mut(name).unwrap();
        amounts.legitimate.sort_by(f64::total_cmp);
        let found = (amounts.legitimate.len() + amounts.fraud.len()) as f64;
        assert!(
            (found / rows - count / 1_296_675.0).abs() < 0.01,
            "{name}: {found}"
        );
        assert_near(
            &format!("{name} fraud"),
            amounts.fraud.len() as f64,
            fraud_count,
            0.01,
        );
        assert_near(
            &format!("{name} mean"),
            mean(&amounts.legitimate),
            expected_mean,
            0.05,
        );
        assert_near(
            &format!("{name} p50"),
            quantile(&amounts.legitimate, 0.5),
            p50,
            0.05,
        );
        assert_near(
            &format!("{name} p95"),
            quantile(&amounts.legitimate, 0.95),
            p95,
            0.05,
        );
        legitimate.append(&mut amounts.legitimate);
        fraud.append(&mut amounts.fraud);
    }
    legitimate.sort_by(f64::total_cmp);
    fraud.sort_by(f64::total_cmp);
    assert_near("fraud share", fraud.len() as f64 / rows, 0.005_79, 0.1);
    assert_near("legitimate mean", mean(&legitimate), 67.67, 0.1);
    assert_near("fraud mean", mean(&fraud), 531.32, 0.1);
    for (probability, all, of_fraud) in [
        (0.25, 9.61, 246.0),
        (0.5, 47.28, 397.0),
        (0.75, 82.5, 901.0),
        (0.95, 189.9, 1_084.0),
        (0.99, 486.0, 1_180.0),
    ] {
        let found = quantile(&legitimate, probability);
        assert_near(&format!("legitimate p{probability}"), found, all, 0.15);
        let found = quantile(&fraud, probability);
        assert_near(&format!("fraud p{probability}"), found, of_fraud, 0.1);
    }
    assert!(*legitimate.last().unwrap() <= 28_948.9 && *legitimate.first().unwrap() >= 1.0);
    assert!(*fraud.last().unwrap() <= 1_376.0);

    assert_near(
        "night share",
        figures.fraud_at_night as f64 / fraud.len() as f64,
        0.85,
        0.01,
    );
    let mornings = figures.legitimate_mornings as f64 / legitimate.len() as f64;
    assert_near("mornings", mornings, 0.39, 0.02);
    let month = |name: &str| figures.rows_by_month[name] as f64;
    assert_near(
        "December to January",
        month("2019-12") / month("2019-01"),
        200.0 / 75.0,
        0.1,
    );
    assert_near(
        "July to May",
        month("2019-07") / month("2019-05"),
        1.25,
        0.1,
    );
    check_bursts(&figures);
}

/// A card is misused on at most one day, on which its owner does not use it.
fn check_bursts(figures: &Figures) {
    let mut victims = 0;
    for days in figures.cards.values() {
        let bursts: Vec<&(u32, u32)> = days.values().filter(|(_, fraud)| *fraud > 0).collect();
        assert!(bursts.len() <= 1, "fraud on several days: {bursts:?}");
        assert!(
            bursts.iter().all(|(legitimate, _)| *legitimate == 0),
            "{bursts:?}"
        );
        victims += bursts.len();
    }
    assert_near("cards with fraud", victims as f64 / 983.0, 0.98, 0.01);
}
