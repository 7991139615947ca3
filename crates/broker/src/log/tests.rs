//! A log against a plain list of what was appended to it.

use std::os::unix::fs::FileExt;

use proptest::prelude::*;

use super::*;
use crate::batch::tests::batch_of;

fn options(segment_bytes: u64) -> LogOptions {
    LogOptions {
        segment_bytes,
        retention_bytes: None,
        retention_age: None,
        fsync: false,
    }
}

fn append(log: &mut PartitionLog, records: i32, timestamp_ms: i64) -> i64 {
    let batch = batch_of(records, (-1, -1, -1), false, timestamp_ms);
    let header = BatchHeader::parse(&batch).unwrap();
    log.append(&batch, &header).unwrap()
}

/// Base offsets of the batches read from `offset` on.
fn read_at(log: &mut PartitionLog, offset: i64, max_bytes: usize) -> Vec<i64> {
    let plan = log.plan_read(offset, Isolation::ReadUncommitted).unwrap();
    let selected = plan.select(max_bytes, true).unwrap();
    if selected.bytes > 0 {
        log.remember(selected.next_offset, plan.segment, selected.next_position());
    }
    let mut read = vec![0; selected.bytes];
    plan.file
        .read_exact_at(&mut read, selected.position)
        .unwrap();
    let mut bases = Vec::new();
    let mut rest = &read[..];
    while let Some(header) = BatchHeader::parse(rest) {
        assert!(batch::checksum_holds(&header, &rest[..header.bytes]));
        bases.push(header.base_offset);
        rest = &rest[header.bytes..];
    }
    assert!(rest.is_empty());
    bases
}

fn check_all(log: &mut PartitionLog, batches: &[(i64, i32)], max_bytes: usize) {
    for (base, records) in batches {
        for offset in *base..base + i64::from(*records) {
            let read = read_at(log, offset, max_bytes);
            assert_eq!(read.first(), Some(base), "offset {offset}");
            let follow = batches.iter().map(|b| b.0).skip_while(|b| b < base);
            assert!(follow.take(read.len()).eq(read.iter().copied()));
        }
    }
    assert_eq!(read_at(log, log.end(), max_bytes), [0i64; 0]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn every_offset_is_read_from_its_batch_before_and_after_reopening(
        sizes in proptest::collection::vec(1i32..40, 1..60),
        segment_bytes in 500u64..5_000,
        max_bytes in 1usize..3_000,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let mut log = PartitionLog::open(dir.path(), options(segment_bytes)).unwrap();
        let batches: Vec<(i64, i32)> = sizes.iter().map(|n| (append(&mut log, *n, 0), *n)).collect();
        check_all(&mut log, &batches, max_bytes);
        let (start, end, bytes) = (log.start(), log.end(), log.bytes());
        drop(log);
        let mut log = PartitionLog::open(dir.path(), options(segment_bytes)).unwrap();
        prop_assert_eq!((log.start(), log.end(), log.bytes()), (start, end, bytes));
        check_all(&mut log, &batches, max_bytes);
        let timestamps = log.offset_for_time(0).unwrap();
        prop_assert_eq!(timestamps, Some((0, 0)));
    }
}

#[test]
fn a_large_segment_keeps_a_small_index_that_still_finds_everything() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = PartitionLog::open(dir.path(), options(1 << 40)).unwrap();
    let count = 60_000i64;
    for i in 0..count {
        assert_eq!(append(&mut log, 50, i * 100), i * 50);
    }
    assert!(log.bytes() > 20 << 20);
    for i in (0..count).step_by(997) {
        assert_eq!(read_at(&mut log, i * 50 + 7, 100), [i * 50]);
        assert_eq!(
            log.offset_for_time(i * 100 + 3).unwrap(),
            Some((i * 50 + 3, i * 100 + 3))
        );
    }
}

fn tail_of(dir: &Path) -> PathBuf {
    let files = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    files
        .filter(|path| path.extension().is_some_and(|e| e == "log"))
        .max()
        .unwrap()
}

#[test]
fn a_log_cut_off_at_any_byte_keeps_all_whole_batches() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = PartitionLog::open(dir.path(), options(1 << 20)).unwrap();
    let mut ends = vec![(0, 0)];
    for _ in 0..4 {
        append(&mut log, 3, 0);
        ends.push((log.bytes(), log.end()));
    }
    drop(log);
    let path = tail_of(dir.path());
    let whole = fs::read(&path).unwrap();
    for cut in 0..=whole.len() {
        fs::write(&path, &whole[..cut]).unwrap();
        let mut log = PartitionLog::open(dir.path(), options(1 << 20)).unwrap();
        let kept = ends
            .iter()
            .rev()
            .find(|(bytes, _)| *bytes <= cut as u64)
            .unwrap();
        assert_eq!((log.bytes(), log.end()), *kept, "cut at {cut}");
        assert_eq!(append(&mut log, 1, 0), kept.1);
    }
}

#[test]
fn a_missing_segment_in_the_middle_is_an_error_not_a_gap() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = PartitionLog::open(dir.path(), options(600)).unwrap();
    for _ in 0..20 {
        append(&mut log, 10, 0);
    }
    assert!(log.segments.len() > 3);
    fs::remove_file(&log.segments[1].path).unwrap();
    drop(log);
    let error = PartitionLog::open(dir.path(), options(600)).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
}

#[test]
fn a_reader_with_a_plan_is_not_disturbed_by_retention() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = PartitionLog::open(dir.path(), options(600)).unwrap();
    for _ in 0..20 {
        append(&mut log, 10, 0);
    }
    let plan = log.plan_read(0, Isolation::ReadUncommitted).unwrap();
    log.delete_before(150).unwrap();
    assert_eq!(log.start(), 150);
    let selected = plan.select(10_000, true).unwrap();
    assert!(selected.bytes > 0);
    let mut read = vec![0; selected.bytes];
    plan.file
        .read_exact_at(&mut read, selected.position)
        .unwrap();
    assert_eq!(BatchHeader::parse(&read).unwrap().base_offset, 0);
    let refused = log.plan_read(149, Isolation::ReadUncommitted).unwrap_err();
    assert_eq!(refused, ResponseError::OffsetOutOfRange);
    drop(log);
    assert_eq!(
        PartitionLog::open(dir.path(), options(600))
            .unwrap()
            .start(),
        150
    );
}
