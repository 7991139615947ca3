//! Every kind of loss, doubling and alteration, given to a ledger that was exact before.

use crate::items::{Account, Bounds, DeadLetter, LakeRow, TopicRecord};
use crate::ledger::{Balance, Ledger};
use crate::problem::Kind;
use crate::source::Row;

const KEY: &str = "transactions/2026-01-01/t-0-00000000000000000000.parquet";
const TIME: i64 = 1_700_000_000_000;

/// Six rows on two partitions: even ones on 0, odd ones on 1; offset is half the row. Row 5
/// is broken. Offset 3 of partition 0 is rejected, 4 a control record, 5 of foreign origin.
#[derive(Clone)]
struct Story {
    bounds: [Bounds; 2],
    file: Vec<Row>,
    topic: Vec<(i32, TopicRecord)>,
    letters: Vec<DeadLetter>,
    lake: Vec<(i32, LakeRow)>,
    rejected: Vec<(i32, (i64, i64), &'static str)>,
    /// Partitions and first offsets of objects that can't be read.
    unreadable: Vec<(i32, i64)>,
}

fn record(offset: i64, row: Option<u64>, content: Option<u64>) -> TopicRecord {
    TopicRecord {
        offset,
        timestamp_ms: TIME + offset,
        row,
        redrive: None,
        content,
        unsound: None,
        raw: 900 + offset as u64,
        too_large: false,
    }
}

fn row(offset: i64, content: u64) -> LakeRow {
    LakeRow {
        offset,
        timestamp_ms: TIME + offset,
        content,
        of_earlier_version: false,
    }
}

fn letter(offset: i64) -> DeadLetter {
    DeadLetter {
        partition: 0,
        offset,
        reason: "not_json".to_owned(),
        raw: Some(900 + offset as u64),
        content: None,
        is_in_lake: false,
    }
}

impl Story {
    fn exact() -> Self {
        let bounds = |high| Bounds {
            low: 0,
            high,
            lake_first: Some(0),
        };
        let file = (0..6).map(|index| (index != 5).then_some((100 + index, index as usize % 2)));
        let mut topic: Vec<_> = (0..5)
            .map(|index| {
                let (row, partition) = (index as u64, index as i32 % 2);
                (partition, record(index / 2, Some(row), Some(100 + row)))
            })
            .collect();
        topic.push((0, record(3, None, None)));
        topic.push((0, record(5, None, Some(777))));
        let mut lake: Vec<_> = (0..5)
            .map(|index| (index as i32 % 2, row(index / 2, 100 + index as u64)))
            .collect();
        lake.push((0, row(5, 777)));
        Self {
            bounds: [bounds(6), bounds(2)],
            file: file.collect(),
            topic,
            letters: vec![letter(3)],
            lake,
            rejected: vec![(0, (3, 3), "not_json")],
            unreadable: Vec::new(),
        }
    }

    /// The same as publishers tell it that mark only some records: no row that is what the file says has a mark.
    fn without_marks(mut self) -> Self {
        for (_, record) in &mut self.topic {
            let row = record.row.and_then(|row| self.file.get(row as usize));
            let in_file = row.copied().flatten().map(|(content, _)| content);
            if in_file.is_some() && in_file == record.content {
                record.row = None;
            }
        }
        self
    }

    /// The result, which must not depend on how much of the file is read before the topic.
    fn tell(self) -> Balance {
        let in_step = self.clone().tell_to(|ledger, file, topic| {
            let mut rows = file.iter();
            for (partition, record) in topic {
                while ledger.awaits_rows(*partition, record)
                    && let Some(row) = rows.next()
                {
                    ledger.file_row(*row);
                }
                ledger.topic_record(*partition, record);
            }
            rows.for_each(|row| ledger.file_row(*row));
        });
        let balance = self.tell_to(|ledger, file, topic| {
            ledger.file_rows(file);
            for (partition, record) in topic {
                ledger.topic_record(*partition, record);
            }
        });
        assert_eq!(in_step.accounts, balance.accounts);
        assert_eq!(in_step.broken, balance.broken);
        assert_eq!(in_step.problems, balance.problems);
        balance
    }

    fn tell_to(self, begin: impl FnOnce(&mut Ledger, &[Row], &[(i32, TopicRecord)])) -> Balance {
        let mut ledger = Ledger::new(&self.bounds);
        begin(&mut ledger, &self.file, &self.topic);
        for letter in self.letters {
            ledger.dead_letter(letter);
        }
        for (partition, row) in self.lake {
            ledger.lake_row(KEY, partition, row);
        }
        for (partition, offsets, reason) in self.rejected {
            ledger.lake_rejections(KEY, partition, offsets, reason);
        }
        for (partition, first_offset) in self.unreadable {
            ledger.unreadable_from(partition, first_offset);
        }
        ledger.close()
    }
}

fn found(balance: &Balance) -> Vec<(Kind, Option<i32>, String)> {
    let problems = balance.problems.iter();
    problems
        .map(|problem| (problem.kind, problem.partition, problem.ranges.to_string()))
        .collect()
}

#[test]
fn offsets_of_every_object_that_can_not_be_read_at_the_end_were_read() {
    for (unreadable, kind) in [
        (vec![], Kind::NotInLakeYet),
        (vec![(0, 1), (0, 2)], Kind::MissingFromLake),
    ] {
        let mut story = Story::exact();
        let is_before = |(partition, row): &(i32, LakeRow)| *partition != 0 || row.offset < 1;
        story.lake.retain(is_before);
        story.rejected.clear();
        story.unreadable = unreadable;
        assert_eq!(found(&story.tell()), [(kind, Some(0), "1-5".to_owned())]);
    }
}

#[test]
fn values_that_only_an_earlier_version_took_are_right_in_its_files_alone() {
    for of_earlier_version in [true, false] {
        let mut story = Story::exact();
        let (_, record) = story.topic.last_mut().expect("the foreign record");
        (record.content, record.unsound) = (None, Some(777));
        let (_, row) = story.lake.last_mut().expect("its row");
        row.of_earlier_version = of_earlier_version;
        let differing = (Kind::DiffersInLake, Some(0), "5".to_owned());
        let expected = (!of_earlier_version).then_some(differing);
        assert_eq!(found(&story.tell()), Vec::from_iter(expected));
    }
}

#[test]
fn an_exact_story_has_no_problem_and_its_figures_add_up() {
    for story in [Story::exact(), Story::exact().without_marks()] {
        has_no_problem_and_adds_up(&story.tell());
    }
}

fn has_no_problem_and_adds_up(balance: &Balance) {
    assert_eq!(found(balance), []);
    let account = |file, topic, foreign, lake, rejected| Account {
        file,
        topic,
        foreign,
        lake,
        rejected,
        ..Account::default()
    };
    assert_eq!(
        balance.accounts,
        [account(3, 5, 2, 4, 1), account(2, 2, 0, 2, 0)]
    );
    assert_eq!(balance.broken.to_string(), "5");
    assert_eq!(balance.expired, 0);
}

type Case = (
    &'static str,
    fn(&mut Story),
    Kind,
    i32,
    &'static str,
    [u64; 3],
);

/// What happens, to what, what is found in which partition, and [missing, doubled, differing].
const CASES: &[Case] = &[
    (
        "a row never reaches the topic",
        |s| {
            s.topic.retain(|(p, r)| (*p, r.offset) != (0, 1));
            s.lake.retain(|(p, r)| (*p, r.offset) != (0, 1));
        },
        Kind::RowMissingFromTopic,
        0,
        "2",
        [1, 0, 0],
    ),
    (
        "the run ends before the last rows are published",
        |s| {
            s.topic.retain(|(p, _)| *p == 0);
            s.lake.retain(|(p, _)| *p == 0);
        },
        Kind::RowMissingFromTopic,
        1,
        "1, 3",
        [2, 0, 0],
    ),
    (
        "a record is not in the lake",
        |s| s.lake.retain(|(p, r)| (*p, r.offset) != (0, 2)),
        Kind::MissingFromLake,
        0,
        "2",
        [1, 0, 0],
    ),
    (
        "an object with a rejection is lost",
        |s| s.rejected.clear(),
        Kind::MissingFromLake,
        0,
        "3",
        [1, 0, 0],
    ),
    (
        "the last record, of foreign origin, is not read yet",
        |s| s.lake.retain(|(_, r)| r.offset != 5),
        Kind::NotInLakeYet,
        0,
        "5",
        [1, 0, 0],
    ),
    (
        "a row is published twice",
        |s| {
            s.bounds[1].high = 3;
            s.topic.push((1, record(2, Some(3), Some(103))));
            s.lake.push((1, row(2, 103)));
        },
        Kind::RowDoubledInTopic,
        1,
        "3",
        [0, 1, 0],
    ),
    (
        "an offset is in the lake twice",
        |s| s.lake.push((1, row(1, 103))),
        Kind::DoubledInLake,
        1,
        "1",
        [0, 1, 0],
    ),
    (
        "a row is rejected as well",
        |s| s.rejected.push((1, (0, 0), "not_json")),
        Kind::DoubledInLake,
        1,
        "0",
        [0, 1, 0],
    ),
    (
        "a message is altered on its way to the topic and into the lake",
        |s| {
            s.topic[1].1.content = Some(5);
            s.lake[1].1.content = 5;
        },
        Kind::RowDiffersInTopic,
        1,
        "1",
        [0, 0, 1],
    ),
    (
        "a lake row is altered",
        |s| s.lake[1].1.content = 5,
        Kind::DiffersInLake,
        1,
        "0",
        [0, 0, 1],
    ),
    (
        "a lake row has another timestamp",
        |s| s.lake[1].1.timestamp_ms += 1,
        Kind::DiffersInLake,
        1,
        "0",
        [0, 0, 1],
    ),
    (
        "a payload that is not a transaction is a row all the same",
        |s| {
            s.rejected.clear();
            s.lake.push((0, row(3, 1)));
        },
        Kind::DiffersInLake,
        0,
        "3",
        [0, 0, 1],
    ),
    (
        "a row is in another partition than its key's",
        |s| s.file[1] = Some((101, 0)),
        Kind::RowInWrongPartition,
        1,
        "1",
        [0, 0, 1],
    ),
    (
        "a record claims a row beyond the file",
        |s| s.topic[6].1.row = Some(1000),
        Kind::RowNotInFile,
        0,
        "1000",
        [0, 0, 1],
    ),
    (
        "a record claims a broken row",
        |s| s.topic[6].1.row = Some(5),
        Kind::RowNotInFile,
        0,
        "5",
        [0, 0, 1],
    ),
    (
        "a good record is rejected",
        |s| {
            s.lake.retain(|(p, r)| (*p, r.offset) != (0, 1));
            s.rejected.push((0, (1, 1), "not_json"));
            s.letters.push(letter(1));
        },
        Kind::WronglyRejected,
        0,
        "1",
        [0, 0, 1],
    ),
    (
        "a dead letter is lost",
        |s| s.letters.clear(),
        Kind::NoDeadLetter,
        0,
        "3",
        [1, 0, 0],
    ),
    (
        "a dead letter has other bytes",
        |s| s.letters[0].raw = Some(1),
        Kind::DeadLetterDiffers,
        0,
        "3",
        [0, 0, 1],
    ),
    (
        "a dead letter has another reason",
        |s| s.letters[0].reason.clear(),
        Kind::DeadLetterDiffers,
        0,
        "3",
        [0, 0, 1],
    ),
    (
        "the lake has a record of an aborted transaction",
        |s| s.lake.push((0, row(4, 1))),
        Kind::NotInTopic,
        0,
        "4",
        [0, 0, 1],
    ),
    (
        "the topic was deleted and recreated",
        |s| s.lake.extend([(1, row(2, 1)), (1, row(3, 1))]),
        Kind::BeyondTopicEnd,
        1,
        "2-3",
        [0, 0, 2],
    ),
    (
        "a footer rejects more offsets than there are",
        |s| s.rejected.push((1, (2, i64::MAX), "not_json")),
        Kind::BeyondTopicEnd,
        1,
        "2-9223372036854775807",
        [0, 0, i64::MAX as u64 - 1],
    ),
    (
        "an object is of a partition that the topic does not have",
        |s| s.lake.push((7, row(0, 1))),
        Kind::NotInTopic,
        7,
        "0",
        [0, 0, 0],
    ),
];

#[test]
fn each_kind_of_loss_is_found_where_it_is_and_nothing_else() {
    for has_marks in [true, false] {
        each_kind_is_found(has_marks);
    }
}

fn each_kind_is_found(has_marks: bool) {
    for (what, happens, kind, partition, ranges, figures) in CASES {
        let mut story = Story::exact();
        happens(&mut story);
        if !has_marks {
            story = story.without_marks();
        }
        let balance = story.tell();
        assert_eq!(
            found(&balance),
            [(*kind, Some(*partition), (*ranges).to_owned())],
            "{what}"
        );
        let sum = |figure: fn(&Account) -> u64| balance.accounts.iter().map(figure).sum::<u64>();
        assert_eq!(
            [sum(|a| a.missing), sum(|a| a.doubled), sum(|a| a.differing)],
            *figures,
            "{what}"
        );
    }
}

#[test]
fn a_large_message_may_be_a_row_or_a_rejection() {
    let mut as_row = Story::exact();
    as_row.topic[1].1.too_large = true;
    assert_eq!(found(&as_row.tell()), []);

    let mut as_rejection = Story::exact();
    as_rejection.topic[2].1.too_large = true;
    as_rejection.lake.retain(|(p, r)| (*p, r.offset) != (0, 1));
    as_rejection.rejected.push((0, (1, 1), "too_large"));
    let mut dead = letter(1);
    dead.reason = "too_large".to_owned();
    as_rejection.letters.push(dead);
    assert_eq!(found(&as_rejection.tell()), []);
}

#[test]
fn rows_whose_records_have_expired_are_matched_by_content() {
    for exact in [Story::exact(), Story::exact().without_marks()] {
        let mut story = exact;
        story.bounds[0].low = 2;
        story.topic.retain(|(p, r)| *p == 1 || r.offset >= 2);
        let balance = story.tell();
        assert_eq!(found(&balance), []);
        assert_eq!(balance.expired, 2);
    }

    let mut altered = Story::exact();
    altered.bounds[0].low = 2;
    altered.topic.retain(|(p, r)| *p == 1 || r.offset >= 2);
    altered.lake[2].1.content = 5;
    let balance = altered.tell();
    assert_eq!(
        found(&balance),
        [
            (Kind::RowMissingFromTopic, Some(0), "2".to_owned()),
            (Kind::ExpiredNotInFile, Some(0), String::new()),
        ]
    );

    let mut doubled = Story::exact();
    doubled.bounds[0].low = 2;
    doubled.topic.retain(|(p, r)| *p == 1 || r.offset >= 2);
    doubled.lake.push((0, row(1, 102)));
    let expected = (Kind::DoubledInLake, Some(0), "1".to_owned());
    assert_eq!(found(&doubled.tell()), [expected]);
}

#[test]
fn an_empty_lake_lacks_everything_in_exact_ranges() {
    let mut story = Story::exact();
    story.lake.clear();
    story.rejected.clear();
    let expected = [
        (Kind::NotInLakeYet, Some(0), "0-5".to_owned()),
        (Kind::NotInLakeYet, Some(1), "0-1".to_owned()),
    ];
    let balance = story.tell();
    assert_eq!(found(&balance), expected);
    // Offset 4 is a control record: within the range, but nothing that could be missing.
    assert_eq!(balance.accounts[0].missing, 5);
}

#[test]
fn rows_that_say_the_same_are_matched_by_their_order() {
    let same = || {
        let mut story = Story::exact();
        story.file[2] = Some((100, 0));
        story.topic[2].1.content = Some(100);
        story.lake[2].1.content = 100;
        story.without_marks()
    };
    assert_eq!(found(&same().tell()), []);

    let mut lost = same();
    lost.topic.remove(2);
    lost.lake.remove(2);
    let missing = (Kind::RowMissingFromTopic, Some(0), "2".to_owned());
    assert_eq!(found(&lost.tell()), [missing]);
}
