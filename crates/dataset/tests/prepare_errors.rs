//! Inputs and outputs that cannot be used: each one clear error that names the file, what was seen
//! and the remedy, and nothing is left behind.

use std::fs;
use std::path::Path;

use crate::common::{HEADER, ROW};
use ftap_dataset::DatasetError;
use ftap_dataset::prepare::prepare;
use tempfile::tempdir;

/// The error for a source of these bytes; checks that no output was left.
fn error_for(source: &[u8]) -> DatasetError {
    let dir = tempdir().unwrap();
    let input = dir.path().join("in.csv");
    let out = dir.path().join("out");
    fs::write(&input, source).unwrap();
    let error = prepare(&input, &out, &mut |_, _| {}).unwrap_err();
    let left = fs::read_dir(&out).map_or(0, |entries| entries.count());
    assert_eq!(left, 0, "files left after {error}");
    assert!(error.to_string().contains("in.csv"), "{error}");
    error
}

#[track_caller]
fn assert_says(error: &DatasetError, parts: &[&str]) {
    let text = error.to_string();
    for part in parts {
        assert!(text.contains(part), "{text:?} should say {part:?}");
    }
}

#[test]
fn a_missing_file_is_named_with_ways_to_get_one() {
    let dir = tempdir().unwrap();
    let input = dir.path().join("nowhere.csv");
    let error = prepare(&input, dir.path(), &mut |_, _| {}).unwrap_err();
    assert!(matches!(error, DatasetError::NotFound { .. }));
    assert_says(&error, &["nowhere.csv", "ftap generate"]);
}

#[test]
fn a_directory_is_distinguished_from_a_file() {
    let dir = tempdir().unwrap();
    let error = prepare(dir.path(), dir.path(), &mut |_, _| {}).unwrap_err();
    assert!(matches!(error, DatasetError::IsDirectory { .. }));
    assert_says(&error, &["is a directory", "credit_card_transactions.csv"]);
}

#[test]
fn an_empty_file_is_distinguished_from_one_without_rows() {
    for source in ["", "\n\n", "\u{feff}", "\r\n"] {
        let error = error_for(source.as_bytes());
        assert!(matches!(error, DatasetError::EmptyFile { .. }), "{error}");
    }
    let error = error_for(format!("{HEADER}\n").as_bytes());
    assert!(matches!(error, DatasetError::NoRows { .. }), "{error}");
}

#[test]
fn a_wrong_separator_is_named() {
    for (mark, name) in [(";", "semicolons (;)"), ("\t", "tabs"), ("|", "bars (|)")] {
        let source = format!("{}\n", HEADER.replace(',', mark));
        assert_says(&error_for(source.as_bytes()), &[name, "not by commas"]);
    }
    let events = "trans_date_trans_time;user_id;merchant\n1;2;3\n";
    assert_says(
        &error_for(events.as_bytes()),
        &["events file of an earlier"],
    );
}

#[test]
fn absent_columns_are_all_named_beside_those_that_are_there() {
    let header = HEADER
        .replace(",amt,", ",amount,")
        .replace(",dob,", ",born,");
    let error = error_for(format!("{header}\n{ROW}\n").as_bytes());
    assert_says(&error, &["no column amt, dob", "amount", "born"]);
    // The city's size is in none of the three files.
    let without_population = HEADER.replace("city_pop", "other");
    let dir = tempdir().unwrap();
    let input = dir.path().join("in.csv");
    fs::write(&input, format!("{without_population}\n{ROW}\n")).unwrap();
    prepare(&input, dir.path(), &mut |_, _| {}).unwrap();
}

#[test]
fn a_column_named_twice_is_refused() {
    let header = HEADER.replace("city_pop", "amt");
    assert_says(
        &error_for(format!("{header}\n{ROW}\n").as_bytes()),
        &["amt more than once"],
    );
}

#[test]
fn what_is_not_csv_is_recognised() {
    let utf16: Vec<u8> = HEADER.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let cases: [(&[u8], &str); 8] = [
        (b"PK\x03\x04\x14\x00rest", "zip archive"),
        (b"\x1f\x8b\x08\x00rest", "gzip"),
        (b"PAR1rest", "Parquet"),
        (&[&[0xff, 0xfe], utf16.as_slice()].concat(), "UTF-16"),
        (&utf16, "zero bytes"),
        (b"<!DOCTYPE html>\n<html>\n", "no comma"),
        (&vec![b'x'; 300_000], "not a header"),
        (b"a,\"b\nno end of the quote\n", "not a header"),
    ];
    for (source, part) in cases {
        let error = error_for(source);
        assert!(matches!(error, DatasetError::NotCsv { .. }), "{error}");
        assert_says(&error, &[part]);
    }
    let old_mac = format!("{HEADER}\r{ROW}\r");
    assert_says(&error_for(old_mac.as_bytes()), &["CR alone"]);
}

#[test]
fn a_file_of_broken_rows_only_is_an_error_with_the_first_reason() {
    let error = error_for(format!("{HEADER}\nbroken\n1,2\n").as_bytes());
    assert_says(&error, &["none of the 2 rows", "line 2", "1 fields where"]);
}

#[test]
fn the_input_is_never_overwritten() {
    let dir = tempdir().unwrap();
    let input = dir.path().join("credit_card_transactions_events.csv");
    let source = format!("{HEADER}\n{ROW}\n");
    fs::write(&input, &source).unwrap();
    let error = prepare(&input, dir.path(), &mut |_, _| {}).unwrap_err();
    assert_says(&error, &["both the input and an output"]);
    assert_eq!(fs::read_to_string(&input).unwrap(), source);
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_leaves_the_earlier_files_as_they_were() {
    let dir = tempdir().unwrap();
    let input = dir.path().join("in.csv");
    let out = dir.path().join("out");
    fs::write(&input, format!("{HEADER}\n{ROW}\n")).unwrap();
    let report = prepare(&input, &out, &mut |_, _| {}).unwrap();
    let before = fs::read(&report.events_path).unwrap();
    fs::write(
        &input,
        format!("{HEADER}\n{}", format!("{ROW}\n").repeat(5_000)),
    )
    .unwrap();
    let part = out.join("credit_card_transactions_events.csv.part");
    std::os::unix::fs::symlink("/dev/full", &part).unwrap();
    let error = prepare(&input, &out, &mut |_, _| {}).unwrap_err();
    assert!(matches!(error, DatasetError::DiskFull { .. }), "{error}");
    assert_eq!(fs::read(&report.events_path).unwrap(), before);
    assert_eq!(fs::read_dir(&out).unwrap().count(), 3);
}

#[cfg(unix)]
#[test]
fn missing_permissions_are_reported_for_input_and_output() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempdir().unwrap();
    let input = dir.path().join("in.csv");
    fs::write(&input, format!("{HEADER}\n{ROW}\n")).unwrap();
    let closed = dir.path().join("closed");
    fs::create_dir(&closed).unwrap();
    let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode));
    mode(&closed, 0o500).unwrap();
    if fs::write(closed.join("probe"), "").is_ok() {
        // Root writes anywhere; the mapping of the error itself is tested in the library.
        println!("not run: this user may write to a directory of mode 500");
        return;
    }
    let error = prepare(&input, &closed, &mut |_, _| {}).unwrap_err();
    assert_says(&error, &["no permission to write", "chmod"]);
    mode(&input, 0o000).unwrap();
    let error = prepare(&input, dir.path(), &mut |_, _| {}).unwrap_err();
    assert_says(&error, &["no permission to read", "in.csv"]);
}
