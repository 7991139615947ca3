//! What the model does not decide: the records of the log, the files that can be made of
//! them (by the program's own `FileBuilder`), and the rules, each of which can be broken.

use std::collections::BTreeMap;
use std::time::Duration;

use ftap_lake::{
    Adoption, ChainError, Compression, FileBuilder, FileSettings, ObjectName, RollingSettings,
    Start, TransactionFooter, check_continuation, on_already_exists, should_close, start_offset,
};
use ftap_transaction::record_fingerprint;

pub(crate) const TOPIC: &str = "t";
const DAY_MS: i64 = 86_400_000;

/// Committed offset, chain's end, log's start and end to the offset to start from.
type StartRule = fn(Option<i64>, Option<i64>, i64, i64) -> Result<Start, ChainError>;
/// The newest footer, the log's start and the record found there.
type ContinuationRule = fn(&TransactionFooter, i64, Option<(i64, u64)>) -> Result<(), ChainError>;

/// The rules under test; the default ones are those of the program.
#[derive(Clone)]
pub(crate) struct Rules {
    /// Key of the file with these first and last offsets and first timestamp.
    pub key: fn(i64, i64, i64) -> ObjectName,
    pub start: StartRule,
    pub exists: fn(&TransactionFooter, &TransactionFooter) -> Result<Adoption, ChainError>,
    pub continuation: ContinuationRule,
    pub create_only: bool,
    pub commit_after_put: bool,
    pub put_after_rejections: bool,
    /// Whether files of a reading that has ended are refused, see `PutQueue`.
    pub readings_end: bool,
    /// Whether only the latest question's answer counts, see `Awaiting`.
    pub latest_answer: bool,
    /// Whether the lake is asked only while no put of the same process is under way.
    pub answers_after_puts: bool,
    /// Whether offsets are skipped only while no earlier reader holds records.
    pub no_sleepers: bool,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            key: |first, _, timestamp| ObjectName::new(TOPIC, 0, first, timestamp).unwrap(),
            start: start_offset,
            exists: on_already_exists,
            continuation: |end, start, found| check_continuation(end, start, found, false),
            create_only: true,
            commit_after_put: true,
            put_after_rejections: true,
            readings_end: true,
            latest_answer: true,
            answers_after_puts: true,
            no_sleepers: true,
        }
    }
}

/// One file that may be made.
pub(crate) struct Run {
    pub life: u8,
    pub first: i64,
    pub last: i64,
    pub name: ObjectName,
    pub footer: TransactionFooter,
    /// Rejected offsets, a bit each.
    pub rejected: u64,
}

pub(crate) struct World {
    pub records: i64,
    pub rolling: RollingSettings,
    pub runs: Vec<Run>,
    by_range: BTreeMap<(u8, i64, i64), u16>,
}

/// Every fifth offset is a control record, the one after it can't become a row.
pub(crate) fn is_visible(offset: i64) -> bool {
    offset % 5 != 2
}

fn payload(life: u8, offset: i64) -> Vec<u8> {
    if offset % 5 == 3 {
        return format!("not json, life {life}").into_bytes();
    }
    format!(
        r#"{{"trans_date_trans_time":"2019-01-01 00:00:18","user_id":"u","merchant":"m","category":"c","trans_num":"{life}-{offset}","unix_time":1,"is_fraud":0,"original_amt":4.97,"currency":"EUR"}}"#
    )
    .into_bytes()
}

/// The days change between offsets, once backwards.
pub(crate) fn timestamp(offset: i64) -> i64 {
    1_795_000_000_000 + DAY_MS * ((offset / 3) + i64::from(offset % 7 == 1))
}

impl World {
    pub(crate) fn new(rules: &Rules, records: i64, lives: u8, max_rows: u64) -> Self {
        let mut world = Self {
            records,
            rolling: RollingSettings {
                max_rows,
                max_bytes: 1 << 20,
                max_age: Duration::from_secs(1),
            },
            runs: Vec::new(),
            by_range: BTreeMap::new(),
        };
        for life in 0..lives {
            for first in (0..records).filter(|offset| is_visible(*offset)) {
                world.add_runs(rules, life, first);
            }
        }
        world
    }

    fn add_runs(&mut self, rules: &Rules, life: u8, first: i64) {
        let mut count = 0;
        for last in (first..self.records).filter(|offset| is_visible(*offset)) {
            count += 1;
            let settings = FileSettings {
                max_message_bytes: 1000,
                compression: Compression::Zstd(1),
            };
            let mut file = FileBuilder::open(
                TOPIC.into(),
                0,
                first,
                timestamp(first),
                &settings,
                "w".into(),
            )
            .unwrap();
            let mut rejected = 0;
            for offset in (first..=last).filter(|offset| is_visible(*offset)) {
                let bytes = payload(life, offset);
                file.append(Some(&bytes), offset, timestamp(offset))
                    .unwrap();
                rejected |= u64::from(offset % 5 == 3) << offset;
            }
            let footer = file.close().unwrap().footer;
            let id = u16::try_from(self.runs.len()).unwrap();
            self.by_range.insert((life, first, last), id);
            self.runs.push(Run {
                life,
                first,
                last,
                name: (rules.key)(first, last, timestamp(first)),
                footer,
                rejected,
            });
            if count >= self.rolling.max_rows {
                break;
            }
        }
    }

    pub(crate) fn run(&self, id: u16) -> &Run {
        &self.runs[usize::from(id)]
    }

    pub(crate) fn id(&self, life: u8, first: i64, last: i64) -> u16 {
        self.by_range[&(life, first, last)]
    }

    /// The first visible record from `offset` on.
    pub(crate) fn next_visible(&self, offset: i64, end: i64) -> Option<i64> {
        (offset..end).find(|offset| is_visible(*offset))
    }

    pub(crate) fn fingerprint(&self, life: u8, offset: i64) -> u64 {
        record_fingerprint(Some(&payload(life, offset)), timestamp(offset))
    }

    pub(crate) fn is_full(&self, first: i64, last: i64) -> bool {
        let records = (first..=last).filter(|offset| is_visible(*offset)).count();
        should_close(records as u64, 0, 0, Duration::ZERO, &self.rolling).is_some()
    }

    pub(crate) fn is_due(&self) -> bool {
        should_close(1, 0, 0, self.rolling.max_age, &self.rolling).is_some()
    }

    /// A bit for each offset of a file that holds a record.
    pub(crate) fn offsets(&self, id: u16) -> u64 {
        let run = self.run(id);
        bits(run.first, run.last)
    }
}

/// A bit for each visible offset from `first` to `last`.
pub(crate) fn bits(first: i64, last: i64) -> u64 {
    (first.max(0)..=last)
        .filter(|offset| is_visible(*offset))
        .fold(0, |mask, offset| mask | 1 << offset)
}
