//! The rules of the delivery protocol that need no store: names, footers, rolling, and
//! where a chain of objects continues.

use std::borrow::Cow;
use std::time::Duration;

use ftap_lake::{
    Adoption, ChainError, CloseReason, FooterError, FooterFormat as _, Joint, MAX_REJECTED_RANGES,
    ObjectName, RejectedRange, RollingSettings, SkipCause, Skipped, Start, StartFrom,
    TransactionFooter, check_continuation, date_of_millis, footer_table, joint, on_already_exists,
    parse_date, should_close, start_offset,
};
use proptest::prelude::*;

#[test]
fn a_key_reads_as_the_design_has_it() {
    // 2026-11-22T23:59:59.999Z
    let name = ObjectName::new("transactions", 0, 0, 1_795_391_999_999).unwrap();
    assert_eq!(
        name.key(),
        "transactions/2026-11-22/transactions-0-00000000000000000000.parquet"
    );
    let next_day = ObjectName::new("a.b-c_d-1", 12, i64::MAX, 1_795_392_000_000).unwrap();
    assert_eq!(
        next_day.key(),
        "transactions/2026-11-23/a.b-c_d-1-12-09223372036854775807.parquet"
    );
    assert_eq!(ObjectName::parse(&next_day.key()), Ok(next_day));
}

#[test]
fn only_keys_of_lake_objects_are_read() {
    for key in [
        "",
        "transactions",
        "transactions/2026-11-22",
        "transactions/2026-11-22/t-0-0.parquet",
        "transactions/2026-11-22/t-0-0000000000000000000a.parquet",
        "transactions/2026-11-22/t-0-99999999999999999999.parquet",
        "transactions/2026-11-22/t-0-+0000000000000000000.parquet",
        "transactions/2026-11-22/t-00-00000000000000000000.parquet",
        "transactions/2026-11-22/t-+0-00000000000000000000.parquet",
        "transactions/2026-11-22/t-2147483648-00000000000000000000.parquet",
        "transactions/2026-11-22/-0-00000000000000000000.parquet",
        "transactions/2026-11-22/0-00000000000000000000.parquet",
        "transactions/2026-11-22/t-0-00000000000000000000.parquet#123",
        "transactions/2026-11-22/t-0-00000000000000000000",
        "transactions/2026-11-22/x/t-0-00000000000000000000.parquet",
        "transactions/2026-02-30/t-0-00000000000000000000.parquet",
        "transactions/2026-1-22/t-0-00000000000000000000.parquet",
        "transactions/+026-11-22/t-0-00000000000000000000.parquet",
        "transactions/0000-11-22/t-0-00000000000000000000.parquet",
        "fx_rates/2026-11-22/t-0-00000000000000000000.parquet",
        "transactions/2026-11-22/tö-0-00000000000000000000.parquet",
        "transactions/2026ü1-22/t-0-00000000000000000000.parquet",
    ] {
        assert!(ObjectName::parse(key).is_err(), "{key}");
    }
    for topic in ["", ".", "..", "a/b", "a b", "ü", &"a".repeat(250)] {
        assert!(ObjectName::new(topic, 0, 0, 0).is_err(), "{topic}");
    }
    assert!(ObjectName::new("t", -1, 0, 0).is_err());
    assert!(ObjectName::new("t", 0, -1, 0).is_err());
}

#[test]
fn dates_beyond_four_digit_years_are_clamped() {
    for (timestamp_ms, date) in [
        (0, "1970-01-01"),
        (-1, "1969-12-31"),
        (86_399_999, "1970-01-01"),
        (86_400_000, "1970-01-02"),
        (i64::MIN, "0001-01-01"),
        (i64::MAX, "9999-12-31"),
        (-62_135_596_800_000, "0001-01-01"),
        (-62_135_596_800_001, "0001-01-01"),
        (253_402_300_799_999, "9999-12-31"),
        (253_402_300_800_000, "9999-12-31"),
    ] {
        let folder = date_of_millis(timestamp_ms).format("%Y-%m-%d").to_string();
        assert_eq!(folder, date, "{timestamp_ms}");
        assert_eq!(parse_date(date), Some(date_of_millis(timestamp_ms)));
    }
}

fn footer() -> TransactionFooter {
    TransactionFooter {
        topic: "transactions".into(),
        partition: 3,
        first_offset: 100,
        last_offset: 199,
        first_record: 0xfedc,
        rows: 90,
        rejected: vec![
            range(110, 117, "not_json"),
            range(118, 119, "missing_field:user_id"),
        ],
        rejected_records: 10,
        writer_id: "host-1".into(),
        checksum: 42,
    }
}

fn range(first_offset: i64, last_offset: i64, reason: &'static str) -> RejectedRange {
    RejectedRange {
        first_offset,
        last_offset,
        reason: Cow::Borrowed(reason),
    }
}

fn read(pairs: &[(&'static str, String)]) -> Result<TransactionFooter, FooterError> {
    TransactionFooter::from_pairs(
        pairs
            .iter()
            .map(|(key, value)| (*key, Some(value.as_str()))),
    )
}

/// Files that have been written must be read, so neither keys nor values may change.
#[test]
fn neighbours_of_a_chain_are_whole_apart_or_share_offsets() {
    let run = |first_offset, last_offset| TransactionFooter {
        first_offset,
        last_offset,
        ..footer()
    };
    let before = run(10, 19);
    for (after, expected) in [
        (run(20, 29), Joint::Whole),
        (run(21, 29), Joint::Marks(20..=20)),
        (run(28, 29), Joint::Marks(20..=27)),
        (run(29, 29), Joint::Gap(20..=28)),
        (run(19, 29), Joint::Overlap(19..=19)),
        (run(12, 15), Joint::Overlap(12..=15)),
    ] {
        assert_eq!(joint(&before, &after), expected);
    }
}

#[test]
fn a_footer_is_written_as_it_always_was_and_read_with_more_than_that() {
    let written = [
        ("ftap.format_version", "1"),
        ("ftap.topic", "transactions"),
        ("ftap.partition", "3"),
        ("ftap.first_offset", "100"),
        ("ftap.last_offset", "199"),
        ("ftap.first_record", "000000000000fedc"),
        ("ftap.rows", "90"),
        (
            "ftap.rejected",
            "110-117=not_json,118-119=missing_field:user_id",
        ),
        ("ftap.rejected_records", "10"),
        ("ftap.writer_id", "host-1"),
        ("ftap.checksum", "000000000000002a"),
    ];
    let written = written.map(|(key, value)| (key, value.to_owned()));
    assert_eq!(footer().to_pairs(), written);
    let mut more = written.to_vec();
    more.push(("ftap.of_a_later_version", "x".to_owned()));
    more.push(("ARROW:schema", "y".to_owned()));
    assert_eq!(read(&more), Ok(footer()));
}

#[test]
fn the_document_has_the_footers_table() {
    let document = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/DATA.md");
    let document = std::fs::read_to_string(document).unwrap();
    let table = footer_table(TransactionFooter::FIELDS);
    assert!(document.contains(&table), "put this into it:\n{table}");
}

#[test]
fn a_footer_that_is_incomplete_or_contradicts_itself_names_the_key() {
    let good = footer().to_pairs();
    assert_eq!(read(&good), Ok(footer()));
    for index in 0..good.len() {
        let mut pairs = good.clone();
        let (key, _) = pairs.remove(index);
        assert_eq!(read(&pairs), Err(FooterError::Missing(key)));
    }
    for (key, value) in [
        ("ftap.partition", "x"),
        ("ftap.partition", "2147483648"),
        ("ftap.first_offset", "-1"),
        ("ftap.first_offset", "99999999999999999999"),
        ("ftap.last_offset", "99"),
        ("ftap.rows", "91"),
        ("ftap.rows", "-1"),
        ("ftap.rows", "18446744073709551615"),
        ("ftap.rejected", "110-117=not_json"),
        ("ftap.rejected", "118-119=x,110-117=x"),
        ("ftap.rejected", "110-117=x,117-118=x"),
        ("ftap.rejected", "90-99=x"),
        ("ftap.rejected", "195-204=x"),
        (
            "ftap.rejected",
            "-9223372036854775808-9223372036854775807=x",
        ),
        ("ftap.rejected", "119-110=x"),
        ("ftap.rejected", "nonsense"),
        ("ftap.rejected", ""),
        ("ftap.rejected_records", "9"),
        ("ftap.checksum", "42"),
        ("ftap.checksum", "+00000000000002a"),
        ("ftap.first_record", ""),
    ] {
        let mut pairs = good.clone();
        for (name, slot) in &mut pairs {
            if *name == key {
                *slot = value.to_owned();
            }
        }
        let error = read(&pairs).unwrap_err();
        let FooterError::Invalid { value: shown, .. } = &error else {
            panic!("{key} {value}: {error}");
        };
        assert!(!shown.is_empty() || value.is_empty(), "{error}");
        assert!(error.to_string().contains("ftap."), "{error}");
    }
    let mut later = footer().to_pairs();
    later[0].1 = "2".to_owned();
    assert_eq!(
        read(&later),
        Err(FooterError::Version { found: 2, known: 1 })
    );
}

#[test]
fn whichever_limit_is_met_first_closes_a_file() {
    let settings = RollingSettings {
        max_rows: 100,
        max_bytes: 1000,
        max_age: Duration::from_secs(10),
    };
    let second = Duration::from_secs(1);
    let close = |records, bytes, ranges, seconds| {
        should_close(records, bytes, ranges, second * seconds, &settings)
    };
    assert_eq!(close(0, 0, 0, 3600), None, "an empty file is none");
    assert_eq!(close(99, 999, MAX_REJECTED_RANGES - 1, 9), None);
    assert_eq!(close(100, 0, 0, 0), Some(CloseReason::Rows));
    assert_eq!(close(1, 1000, 0, 0), Some(CloseReason::Bytes));
    assert_eq!(
        close(1, 0, MAX_REJECTED_RANGES, 0),
        Some(CloseReason::Footer)
    );
    assert_eq!(close(1, 0, 0, 10), Some(CloseReason::Age));
}

fn start(offset: i64, from: StartFrom) -> Result<Start, ChainError> {
    Ok(Start {
        offset,
        skipped: None,
        from,
    })
}

fn skipping(
    offset: i64,
    from: StartFrom,
    skipped: std::ops::RangeInclusive<i64>,
    cause: SkipCause,
) -> Result<Start, ChainError> {
    Ok(Start {
        offset,
        skipped: Some(Skipped {
            offsets: skipped,
            cause,
        }),
        from,
    })
}

#[test]
fn a_partition_continues_where_the_chain_ends() {
    use SkipCause::{CommittedAheadOfLake as Ahead, RetentionPassedChainEnd as Retention};
    use StartFrom::{Committed, LakeEnd, LogStart};
    let ahead_of_log = |chain_end, log_end| Err(ChainError::LakeAheadOfLog { chain_end, log_end });
    // committed, last offset in the lake, the topic's start and end
    let cases = [
        // nothing anywhere
        ((None, None, 0, 0), start(0, LogStart)),
        ((None, None, 0, 10), start(0, LogStart)),
        ((None, None, 5, 10), start(5, LogStart)),
        // the usual: both agree
        ((Some(8), Some(7), 0, 10), start(8, LakeEnd)),
        ((Some(10), Some(9), 0, 10), start(10, LakeEnd)),
        // killed between put and commit
        ((Some(4), Some(7), 0, 10), start(8, LakeEnd)),
        ((None, Some(7), 0, 10), start(8, LakeEnd)),
        // the group's offsets expired or were reset back
        ((Some(0), Some(7), 3, 10), start(8, LakeEnd)),
        // the group was reset forward, or objects were removed
        (
            (Some(9), Some(6), 0, 10),
            skipping(9, Committed, 7..=8, Ahead),
        ),
        ((Some(9), None, 2, 10), skipping(9, Committed, 2..=8, Ahead)),
        ((Some(2), None, 2, 10), start(2, Committed)),
        // retention passed the chain's end
        (
            (Some(8), Some(7), 9, 10),
            skipping(9, LogStart, 8..=8, Retention),
        ),
        (
            (None, Some(7), 10, 10),
            skipping(10, LogStart, 8..=9, Retention),
        ),
        (
            (Some(3), None, 6, 10),
            skipping(6, LogStart, 3..=5, Retention),
        ),
        (
            (Some(5), Some(2), 8, 10),
            skipping(8, LogStart, 3..=7, Retention),
        ),
        ((Some(8), Some(7), 8, 10), start(8, LakeEnd)),
        // the topic was deleted and recreated
        ((None, Some(10), 0, 10), ahead_of_log(10, 10)),
        ((Some(11), Some(10), 0, 0), ahead_of_log(10, 0)),
        (
            (Some(11), None, 0, 10),
            Err(ChainError::CommittedAheadOfLog {
                committed: 11,
                log_end: 10,
            }),
        ),
    ];
    for ((committed, chain_end, log_start, log_end), expected) in cases {
        let result = start_offset(committed, chain_end, log_start, log_end);
        assert_eq!(
            result, expected,
            "{committed:?} {chain_end:?} {log_start} {log_end}"
        );
    }
    for (committed, chain_end, log_start, log_end) in [
        (Some(-1001), None, 0, 10),
        (None, Some(-1), 0, 10),
        (None, Some(i64::MAX), 0, 10),
        (None, None, -2, 10),
        (None, None, 0, -1),
    ] {
        assert!(matches!(
            start_offset(committed, chain_end, log_start, log_end),
            Err(ChainError::InvalidOffset { .. })
        ));
    }
}

#[test]
fn an_object_that_is_there_already_is_adopted_or_a_conflict() {
    let ours = footer();
    let with = |change: &dyn Fn(&mut TransactionFooter)| {
        let mut theirs = footer();
        change(&mut theirs);
        on_already_exists(&ours, &theirs)
    };
    assert_eq!(with(&|_| {}), Ok(Adoption::Same));
    assert_eq!(
        with(&|f| f.writer_id = "a zombie".into()),
        Ok(Adoption::Same),
        "who wrote it does not matter"
    );
    let longer = with(&|f| (f.last_offset, f.rows, f.checksum) = (299, 190, 7));
    assert_eq!(longer, Ok(Adoption::Overtaken));
    let shorter = with(&|f| (f.last_offset, f.rows, f.checksum) = (150, 41, 7));
    assert_eq!(shorter, Ok(Adoption::Overtaken));
    let other_limits = with(&|f| {
        (f.rows, f.checksum, f.rejected_records) = (98, 7, 2);
        f.rejected.remove(0);
    });
    assert_eq!(other_limits, Ok(Adoption::Overtaken));

    let differs = |result: Result<Adoption, ChainError>| match result {
        Err(ChainError::Conflict { differs, .. }) => differs,
        other => panic!("{other:?}"),
    };
    assert_eq!(differs(with(&|f| f.topic = "other".into())), "topic");
    assert_eq!(differs(with(&|f| f.partition = 4)), "partition");
    assert_eq!(differs(with(&|f| f.first_offset = 101)), "first offset");
    let other_life = with(&|f| (f.first_record, f.last_offset) = (1, 299));
    assert_eq!(differs(other_life), "first record's fingerprint");
    assert_eq!(differs(with(&|f| f.checksum = 43)), "checksum");
    assert_eq!(differs(with(&|f| f.rows = 89)), "checksum");
}

/// Footers that do not contradict themselves.
#[test]
fn a_chain_continues_only_in_the_topic_it_was_written_from() {
    let end = TransactionFooter {
        first_offset: 100,
        last_offset: 199,
        first_record: 7,
        ..footer()
    };
    let cases = [
        (0, Some((100, 7)), true, "the very record"),
        (0, Some((100, 8)), false, "another record in its place"),
        (0, Some((101, 7)), false, "no visible record in its place"),
        (0, None, false, "nothing there at all"),
        (101, None, true, "retention removed it: nothing to compare"),
        (100, Some((100, 8)), false, "just not removed"),
    ];
    for (log_start, found, goes_on, why) in cases {
        let answer = check_continuation(&end, log_start, found, false);
        assert_eq!(answer.is_ok(), goes_on, "{why}: {answer:?}");
        let is_other = matches!(found, Some((100, 8)));
        let answer = check_continuation(&end, log_start, found, true);
        assert_eq!(answer.is_ok(), !is_other, "compacted, {why}: {answer:?}");
    }
}

fn footers() -> impl Strategy<Value = TransactionFooter> {
    let gaps = prop::collection::vec((0..5i64, 0..5i64, "[a-z_]{1,12}(:[a-z_]{1,12})?"), 0..20);
    (
        "[a-zA-Z0-9._-]{1,40}",
        0..=i32::MAX,
        0..i64::MAX / 2,
        gaps,
        1..1000i64,
        any::<[u64; 2]>(),
        "\\PC{0,20}",
    )
        .prop_map(
            |(topic, partition, first_offset, gaps, more, hashes, writer_id)| {
                let mut next = first_offset;
                let mut rejected = Vec::new();
                for (gap, length, reason) in gaps {
                    rejected.push(RejectedRange {
                        first_offset: next + gap,
                        last_offset: next + gap + length,
                        reason: reason.into(),
                    });
                    next += gap + length + 1;
                }
                let rejected_records = rejected.iter().map(RejectedRange::records).sum();
                let last_offset = next + more;
                TransactionFooter {
                    topic,
                    partition,
                    first_offset,
                    last_offset,
                    first_record: hashes[0],
                    rows: (last_offset - first_offset + 1) as u64 - rejected_records,
                    rejected,
                    rejected_records,
                    writer_id,
                    checksum: hashes[1],
                }
            },
        )
}

proptest! {
    #[test]
    fn a_footer_is_read_back(footer in footers()) {
        prop_assert_eq!(read(&footer.to_pairs()), Ok(footer));
    }

    #[test]
    fn any_pairs_are_read_or_refused(index in 0..11usize, value in "[0-9a-f=,x-]{0,30}|\\PC{0,9}") {
        let mut pairs = footer().to_pairs();
        pairs[index].1 = value;
        if let Ok(footer) = read(&pairs) {
            prop_assert_eq!(read(&footer.to_pairs()), Ok(footer));
        }
    }

    #[test]
    fn a_name_is_read_back_from_its_key(
        topic in "[a-zA-Z0-9._-]{1,60}",
        partition in 0..=i32::MAX,
        offset in 0..=i64::MAX,
        timestamp_ms in any::<i64>(),
    ) {
        if let Ok(name) = ObjectName::new(&topic, partition, offset, timestamp_ms) {
            prop_assert_eq!(name.topic(), &topic);
            prop_assert_eq!(ObjectName::parse(&name.key()), Ok(name));
        }
    }

    #[test]
    fn what_parses_as_a_key_is_one(
        key in "transactions/[0-9]{4}-[01][0-9]-[0-3][0-9]/[a-z0-9.-]{1,9}-[0-9]{1,3}-[0-9]{19,21}.parquet",
    ) {
        if let Ok(name) = ObjectName::parse(&key) {
            prop_assert_eq!(name.key(), key);
        }
    }

    #[test]
    fn a_start_is_never_before_the_log_nor_before_the_lakes_end(
        committed in prop::option::of(-2..20i64),
        chain_end in prop::option::of(-2..20i64),
        log_start in 0..20i64,
        length in 0..20i64,
    ) {
        let log_end = log_start + length;
        if let Ok(start) = start_offset(committed, chain_end, log_start, log_end) {
            prop_assert!((log_start..=log_end).contains(&start.offset));
            prop_assert!(chain_end.is_none_or(|end| start.offset > end));
            // Whatever lies between the lake's end and the start is reported.
            if let Some(end) = chain_end {
                let skipped = start.skipped.map_or(start.offset, |s| {
                    assert_eq!(*s.offsets.end(), start.offset - 1);
                    *s.offsets.start()
                });
                prop_assert_eq!(skipped, end + 1);
            }
        }
    }
}
