//! `ftap verify` finds files of changes that were taken from the lake, and names the range.

use std::path::PathBuf;

use crate::common::changes::{catch_up, lab, lake};
use crate::common::{Lab, ROWS};

const CHANGE: &str = "UPDATE users SET zip = zip + 1";

/// Of the users in the lake: the snapshot, then the changes in their order.
fn files(lab: &Lab) -> Vec<PathBuf> {
    let folder = lake(lab).join("users_changes");
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .flat_map(|day| std::fs::read_dir(day.unwrap().path()).unwrap())
        .map(|file| file.unwrap().path())
        .collect();
    files.sort_by_key(|path| {
        let name = path.file_name().unwrap().to_owned();
        (!name.to_string_lossy().contains("snapshot"), name)
    });
    files
}

/// The positions of a change file's name: its first row's.
fn first_lsn(file: &std::path::Path) -> String {
    let name = file.file_stem().unwrap().to_string_lossy();
    let lsn = u64::from_str_radix(name.split('-').nth(2).unwrap(), 16).unwrap();
    format!("{:X}/{:X}", lsn >> 32, lsn & 0xFFFF_FFFF)
}

#[test]
fn a_removed_file_of_changes_is_missing_with_its_range() {
    let Some((lab, postgres)) = lab("cdc-verify") else {
        return;
    };
    lab.run_until_drained();
    for _ in 0..4 {
        postgres.sql(CHANGE);
        catch_up(&lab);
    }
    let exact = lab.assert_exact(ROWS);
    assert_eq!(exact.report["changes"]["exact"], true, "{exact}");
    assert_eq!(exact.report["changes"]["chains"][0]["table"], "users");
    let files = files(&lab);
    // The run may have taken a change of its own job.
    assert!(files.len() >= 5, "{files:?}");
    let (snapshot, middle, newest) = (&files[0], &files[2], &files[files.len() - 1]);
    for (file, what) in [
        (
            snapshot,
            "the snapshot is missing from part 1 on".to_owned(),
        ),
        (middle, first_lsn(middle)),
        (newest, first_lsn(newest)),
    ] {
        let aside = lab.path("aside");
        std::fs::rename(file, &aside).unwrap();
        let verdict = lab.verify();
        assert_eq!(verdict.code, 3, "{file:?}: {verdict}");
        let chain = &verdict.report["changes"]["chains"][0];
        assert_eq!(chain["table"], "users");
        let problems = chain["problems"].as_array().unwrap();
        assert_eq!(problems.len(), 1, "{file:?}: {verdict}");
        let problem = problems[0].as_str().unwrap();
        assert!(problem.contains(&what), "{what}: {problem}");
        let table = lab.command(["verify"]).output().unwrap();
        assert_eq!(table.status.code(), Some(3));
        let table = String::from_utf8(table.stdout).unwrap();
        assert!(table.contains("problem: users, epoch 1: "), "{table}");
        std::fs::rename(&aside, file).unwrap();
    }
    lab.assert_exact(ROWS);
}
