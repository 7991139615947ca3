//! What `prepare` promises for rows: every usable row once and as written, every other one in
//! `rejected.csv` with its line and reason.

use std::fs;
use std::path::{Path, PathBuf};

use crate::common::{HEADER, Killed, ROW, kill_once_written, with_field};
use ftap_dataset::generate::{GenerateOptions, generate};
use ftap_dataset::prepare::{PrepareReport, prepare};
use ftap_dataset::schema::{EVENTS_FILE, MERCHANTS_FILE, REJECTED_FILE, SOURCE_FILE, USERS_FILE};
use ftap_dataset::user_id;
use tempfile::{TempDir, tempdir};

struct Prepared {
    dir: TempDir,
    report: PrepareReport,
}

impl Prepared {
    fn of(source: impl AsRef<[u8]>) -> Self {
        let dir = tempdir().unwrap();
        let input = dir.path().join("source.csv");
        fs::write(&input, source).unwrap();
        let report = prepare(&input, dir.path(), &mut |_, _| {}).unwrap();
        Self { dir, report }
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.dir.path().join(name)).unwrap()
    }

    /// Line and reason of each rejected row.
    fn rejected(&self) -> Vec<(u64, String)> {
        if self.report.rejected_path.is_none() {
            return Vec::new();
        }
        let mut reader = csv::Reader::from_path(self.dir.path().join(REJECTED_FILE)).unwrap();
        assert_eq!(reader.headers().unwrap(), vec!["line", "reason", "row"]);
        reader
            .records()
            .map(|record| record.unwrap())
            .map(|record| (record[0].parse().unwrap(), record[1].to_owned()))
            .collect()
    }
}

const EVENT: &str = "2019-01-01 00:00:18;b3f6022d-7cd1-5592-8e02-20361131cbfa;\
    fraud_Rippin, Kub and Mann;misc_net;4.97;0b242abb623afc578575680df30655b9;1325376018;0";
const USER: &str = "b3f6022d-7cd1-5592-8e02-20361131cbfa;Jennifer;Banks;F;561 Perry Cove;\
    Moravian Falls;28654;36.0788;-81.1781;Psychologist, counselling;1988-03-09";
const MERCHANT: &str = "fraud_Rippin, Kub and Mann;36.011293;-82.048315;28705";

#[test]
fn a_row_is_split_into_the_three_prepared_files() {
    let prepared = Prepared::of(format!("{HEADER}\n{ROW}\n"));
    assert_eq!(
        prepared.text(EVENTS_FILE),
        format!(
            "trans_date_trans_time;user_id;merchant;category;amt;trans_num;unix_time;is_fraud\n{EVENT}\n"
        )
    );
    assert_eq!(
        prepared.text(USERS_FILE),
        format!("user_id;first_name;last_name;gender;street;city;zip;lat;long;job;dob\n{USER}\n")
    );
    assert_eq!(
        prepared.text(MERCHANTS_FILE),
        format!("merchant;merch_lat;merch_long;merch_zipcode\n{MERCHANT}\n")
    );
    let report = prepared.report;
    assert_eq!((report.events, report.users, report.merchants), (1, 1, 1));
    assert_eq!((report.rejected, report.rejected_path), (0, None));
}

/// The known answers are from Python: `uuid.uuid5(uuid.NAMESPACE_DNS, "jennifer|banks")`.
#[test]
fn the_user_id_is_the_one_that_python_computes() {
    for (first, last, expected) in [
        ("Jennifer", "Banks", "b3f6022d-7cd1-5592-8e02-20361131cbfa"),
        (
            " JENNIFER\t",
            "banks ",
            "b3f6022d-7cd1-5592-8e02-20361131cbfa",
        ),
        ("José", "MÜLLER", "9c927d97-b61c-57d6-bb38-b393ab1065bf"),
        ("a", "b", "8fe6bd88-d4f5-562c-bac2-7fe1827ccf33"),
    ] {
        assert_eq!(user_id(first, last).to_string(), expected);
    }
}

#[test]
fn either_line_end_a_byte_order_mark_and_a_missing_last_line_end_give_the_same_files() {
    for source in [
        format!("{HEADER}\r\n{ROW}\r\n"),
        format!("\u{feff}{HEADER}\n{ROW}\n"),
        format!("\u{feff}{HEADER}\r\n{ROW}"),
        format!("\n{HEADER}\n\n{ROW}\n\n"),
        // As Excel begins a file.
        format!("\u{feff}sep=,\r\n{HEADER}\r\n{ROW}\r\n"),
    ] {
        let prepared = Prepared::of(&source);
        assert!(
            prepared
                .text(EVENTS_FILE)
                .ends_with(&format!("\n{EVENT}\n")),
            "{source:?}"
        );
        assert!(prepared.text(USERS_FILE).ends_with(&format!("\n{USER}\n")));
        assert!(
            prepared
                .text(MERCHANTS_FILE)
                .ends_with(&format!("\n{MERCHANT}\n"))
        );
        assert_eq!(prepared.report.rejected, 0);
    }
}

#[test]
fn columns_may_stand_in_any_order_with_others_among_them() {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let original = format!("{HEADER}\n{ROW}\n");
    let mut source = csv::Reader::from_reader(original.as_bytes());
    let turned = |record: &csv::StringRecord, extra: &str| {
        // Without the index column, which is optional, and with an unknown one.
        let mut fields: Vec<String> = record.iter().skip(1).map(str::to_owned).collect();
        fields.reverse();
        fields.insert(3, extra.to_owned());
        fields
    };
    writer
        .write_record(turned(source.headers().unwrap(), "note"))
        .unwrap();
    let row = source.records().next().unwrap().unwrap();
    writer.write_record(turned(&row, "a, \"b\"\nc")).unwrap();
    let source = writer.into_inner().unwrap();
    // With the mark before a column that is needed: it must not become part of the name.
    let with_mark = ["\u{feff}".as_bytes(), &source].concat();
    for source in [source, with_mark] {
        let prepared = Prepared::of(source);
        let events = prepared.text(EVENTS_FILE);
        assert!(events.ends_with(&format!("\n{EVENT}\n")), "{events}");
        assert!(prepared.text(USERS_FILE).ends_with(&format!("\n{USER}\n")));
    }
}

#[test]
fn text_with_separators_quotes_and_line_feeds_survives() {
    let merchant = "fraud_A; \"B\"\nand, C";
    let row = with_field("merchant", "\"fraud_A; \"\"B\"\"\nand, C\"");
    let prepared = Prepared::of(format!("{HEADER}\n{row}\n"));
    for (file, column) in [(EVENTS_FILE, 2), (MERCHANTS_FILE, 0)] {
        let mut reader = csv::ReaderBuilder::new()
            .delimiter(b';')
            .from_path(prepared.dir.path().join(file))
            .unwrap();
        let record = reader.records().next().unwrap().unwrap();
        assert_eq!(&record[column], merchant, "{file}");
    }
}

#[test]
fn valid_numbers_are_passed_on_as_they_were_written() {
    for amt in ["4.970", "0", "100", "1e2", "12345678901234567890.123"] {
        let row = with_field("amt", amt);
        let events = Prepared::of(format!("{HEADER}\n{row}\n")).text(EVENTS_FILE);
        assert!(events.contains(&format!(";misc_net;{amt};")), "{events}");
    }
}

#[test]
fn a_null_merchant_zip_is_zero_and_a_float_loses_its_ending() {
    let unknown = [
        "", " ", "NaN", "NULL", "null", "None", "\\N", "NA", "n/a", "<NA>",
    ];
    let known = [("28705.0", "28705"), ("501", "501")];
    let unknown = unknown.map(|zip| (zip, "0"));
    for (zip, expected) in known.into_iter().chain(unknown) {
        let row = with_field("merch_zipcode", zip);
        let merchants = Prepared::of(format!("{HEADER}\n{row}\n")).text(MERCHANTS_FILE);
        assert!(
            merchants.ends_with(&format!(";{expected}\n")),
            "{merchants}"
        );
    }
}

/// As pandas writes integers of a column that once had a gap.
#[test]
fn integers_lose_their_float_ending() {
    for (column, value, expected) in [
        ("is_fraud", "0.0", ";1325376018;0\n"),
        ("is_fraud", "1.00", ";1325376018;1\n"),
        ("unix_time", "1325376018.0", ";1325376018;0\n"),
    ] {
        let row = with_field(column, value);
        let prepared = Prepared::of(format!("{HEADER}\n{row}\n"));
        let events = prepared.text(EVENTS_FILE);
        assert!(events.ends_with(expected), "{column} {value}: {events}");
        assert_eq!(prepared.report.fraud_events, u64::from(value == "1.00"));
    }
    let bad = with_field("is_fraud", "0.5");
    let prepared = Prepared::of(format!("{HEADER}\n{ROW}\n{bad}\n"));
    assert_eq!(prepared.rejected()[0].1, "is_fraud is not 0 or 1: \"0.5\"");
}

#[test]
fn a_refund_is_an_event() {
    let refund = with_field("amt", "-4.97");
    let prepared = Prepared::of(format!("{HEADER}\n{refund}\n"));
    assert_eq!(prepared.report.rejected, 0);
    assert!(prepared.text(EVENTS_FILE).contains(";-4.97;"));
}

/// `fraudTrain.csv`, which is otherwise the same, has no `merch_zipcode`.
#[test]
fn a_source_without_merchants_zips_is_taken() {
    let without_last = |line: &str| line.rsplit_once(',').unwrap().0.to_owned();
    let source = format!("{}\n{}\n", without_last(HEADER), without_last(ROW));
    let prepared = Prepared::of(source);
    assert_eq!((prepared.report.events, prepared.report.rejected), (1, 0));
    assert!(
        prepared
            .text(EVENTS_FILE)
            .ends_with(&format!("\n{EVENT}\n"))
    );
    let merchants = prepared.text(MERCHANTS_FILE);
    assert!(merchants.ends_with(";-82.048315;0\n"), "{merchants}");
}

#[test]
fn the_first_row_of_a_user_and_of_a_merchant_counts() {
    let moved = with_field("city", "Elsewhere");
    // The same person by the id's rule, spelt differently.
    let shouted = with_field("first", " JENNIFER ");
    let prepared = Prepared::of(format!("{HEADER}\n{ROW}\n{moved}\n{shouted}\n"));
    assert_eq!(prepared.report.events, 3);
    assert_eq!(prepared.report.users, 1);
    assert!(prepared.text(USERS_FILE).ends_with(&format!("\n{USER}\n")));
}

#[test]
fn each_kind_of_broken_row_is_rejected_with_its_line_and_reason() {
    let cases = [
        (with_field("amt", ""), "amt is empty"),
        (
            with_field("amt", "abc"),
            "amt is not a decimal number of US dollars: \"abc\"",
        ),
        (with_field("amt", "NaN"), "amt is not a decimal number"),
        (with_field("amt", "inf"), "amt is not a decimal number"),
        (with_field("amt", "1e999"), "amt is not a decimal number"),
        (with_field("amt", " 4"), "amt is not a decimal number"),
        (
            with_field("unix_time", "1325376018.5"),
            "unix_time is not an integer",
        ),
        (with_field("is_fraud", "2"), "is_fraud is not 0 or 1"),
        (with_field("is_fraud", "true"), "is_fraud is not 0 or 1"),
        (
            with_field("trans_date_trans_time", "01/01/2019"),
            "trans_date_trans_time is not YYYY",
        ),
        (
            with_field("trans_date_trans_time", "2019-02-29 00:00:00"),
            "trans_date_trans_time is",
        ),
        (with_field("trans_num", " "), "trans_num is empty"),
        (with_field("merchant", ""), "merchant is empty"),
        (with_field("category", ""), "category is empty"),
        (with_field("first", ""), "first is empty"),
        (with_field("last", "  "), "last is empty"),
        (with_field("city", "Fa\0lls"), "zero byte"),
        (
            with_field("street", "5 \"Old\" Lane"),
            "a stray or unclosed quote",
        ),
        (
            with_field("street", "\"5 Old Lane"),
            "a stray or unclosed quote",
        ),
        (with_field("merch_zipcode", "\"28705"), "not closed"),
        (
            with_field("street", &"x".repeat(70_000)),
            "longer than 65536 bytes",
        ),
        (format!("{ROW},extra"), "25 fields where the header has 24"),
        (
            ROW.rsplit_once(',').unwrap().0.to_owned(),
            "23 fields where the header has 24",
        ),
        ("one field".to_owned(), "1 fields where"),
    ];
    let mut source = format!("{HEADER}\n{ROW}\n");
    for (row, _) in &cases {
        source.push_str(&format!("{row}\n{ROW}\n"));
    }
    let prepared = Prepared::of(source);
    assert_eq!(prepared.report.events, 1 + cases.len() as u64);
    assert_eq!(prepared.report.rejected, cases.len() as u64);
    let rejected = prepared.rejected();
    assert_eq!(rejected.len(), cases.len());
    for (at, ((line, reason), (_, expected))) in rejected.iter().zip(&cases).enumerate() {
        assert_eq!(*line, 3 + 2 * at as u64, "{reason}");
        assert!(
            reason.contains(expected),
            "{reason:?} should say {expected:?}"
        );
    }
}

#[test]
fn a_bad_home_or_place_rejects_the_row_until_a_good_one_comes() {
    for (column, bad) in [
        ("zip", "x"),
        ("lat", "91"),
        ("long", ""),
        ("dob", "1988-02-30"),
        ("gender", "female"),
        ("merch_lat", "nan"),
        ("merch_long", "200"),
        ("merch_zipcode", "28705.5"),
    ] {
        let bad_row = with_field(column, bad);
        let prepared = Prepared::of(format!("{HEADER}\n{bad_row}\n{ROW}\n{bad_row}\n"));
        // The last one is fine: its user and merchant are known, so the value is not used.
        assert_eq!(prepared.report.events, 2, "{column}");
        let rejected = prepared.rejected();
        assert_eq!(rejected.len(), 1);
        assert!(
            rejected[0].0 == 2 && rejected[0].1.starts_with(column),
            "{rejected:?}"
        );
        assert!(prepared.text(USERS_FILE).ends_with(&format!("\n{USER}\n")));
        assert!(
            prepared
                .text(MERCHANTS_FILE)
                .ends_with(&format!("\n{MERCHANT}\n"))
        );
    }
}

#[test]
fn a_row_that_is_not_utf8_is_kept_readable_in_the_rejected_file() {
    let mut source = format!("{HEADER}\n{ROW}\n").into_bytes();
    let bad = ROW.replace("Moravian", "Mo#av\tian");
    source.extend(bad.bytes().map(|b| if b == b'#' { 0xff } else { b }));
    let prepared = Prepared::of(source);
    assert_eq!(prepared.rejected(), [(3, "not valid UTF-8".to_owned())]);
    assert!(prepared.text(REJECTED_FILE).contains("Mo\\xffav\\tian"));
}

#[test]
fn exactly_the_bad_rows_of_a_generated_file_are_rejected() {
    let dir = tempdir().unwrap();
    let options = GenerateOptions {
        rows: 3_000,
        seed: 4,
        bad_rows: 160,
    };
    let generated = generate(&options, dir.path(), &mut |_| {}).unwrap();
    let report = prepare(&generated.path, dir.path(), &mut |_, _| {}).unwrap();
    assert_eq!(report.events, 3_000);
    assert_eq!(report.rejected, 160);
    assert_eq!(report.fraud_events, generated.fraud_rows);
    assert_eq!(report.input_bytes, generated.bytes);
    // Every valid row in order and none twice.
    let mut source = csv::ReaderBuilder::new();
    let clean = tempdir().unwrap();
    let options = GenerateOptions {
        bad_rows: 0,
        ..options
    };
    let clean = generate(&options, clean.path(), &mut |_| {})
        .map(|r| (clean, r.path))
        .unwrap();
    let expected: Vec<(String, String)> = source
        .from_path(&clean.1)
        .unwrap()
        .records()
        .map(|row| row.unwrap())
        .map(|row| (row[18].to_owned(), row[5].to_owned()))
        .collect();
    let found: Vec<(String, String)> = source
        .delimiter(b';')
        .from_path(&report.events_path)
        .unwrap()
        .records()
        .map(|row| row.unwrap())
        .map(|row| (row[5].to_owned(), row[4].to_owned()))
        .collect();
    assert_eq!(found, expected);
}

#[test]
fn a_clean_run_removes_the_rejected_file_of_an_earlier_one() {
    let dir = tempdir().unwrap();
    let input = dir.path().join("source.csv");
    fs::write(&input, format!("{HEADER}\n{ROW}\nbroken\n")).unwrap();
    prepare(&input, dir.path(), &mut |_, _| {}).unwrap();
    assert!(dir.path().join(REJECTED_FILE).exists());
    fs::write(&input, format!("{HEADER}\n{ROW}\n")).unwrap();
    prepare(&input, dir.path(), &mut |_, _| {}).unwrap();
    assert!(!dir.path().join(REJECTED_FILE).exists());
    assert_eq!(files(dir.path()).len(), 4);
}

#[test]
fn a_killed_run_leaves_none_of_its_files() {
    let dir = tempdir().unwrap();
    if Killed::is_child() {
        let dir = Killed::dir();
        prepare(&dir.join(SOURCE_FILE), &dir, &mut |_, _| {}).unwrap();
        return;
    }
    let options = GenerateOptions {
        rows: 600_000,
        seed: 1,
        bad_rows: 0,
    };
    let source = generate(&options, dir.path(), &mut |_| {}).unwrap().path;
    let part = dir.path().join(format!("{EVENTS_FILE}.part"));
    kill_once_written(
        "prepare::a_killed_run_leaves_none_of_its_files",
        dir.path(),
        &part,
    );
    let left = files(dir.path());
    assert!(
        left.iter()
            .all(|path| *path == source || path.extension().unwrap() == "part"),
        "{left:?}"
    );
    // The next run takes the remains over.
    let report = prepare(&source, dir.path(), &mut |_, _| {}).unwrap();
    assert_eq!(report.events, 600_000);
    assert_eq!(files(dir.path()).len(), 4);
}

#[test]
fn progress_ends_at_the_size_of_the_input() {
    let dir = tempdir().unwrap();
    let input = dir.path().join("source.csv");
    fs::write(
        &input,
        format!("{HEADER}\n{}", format!("{ROW}\n").repeat(20_000)),
    )
    .unwrap();
    let size = input.metadata().unwrap().len();
    let mut reported = Vec::new();
    prepare(&input, dir.path(), &mut |read, total| {
        reported.push((read, total))
    })
    .unwrap();
    assert!(reported.len() > 2 && reported.is_sorted());
    assert_eq!(reported.last(), Some(&(size, size)));
}

fn files(dir: &Path) -> Vec<PathBuf> {
    fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect()
}
