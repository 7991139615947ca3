//! The accounts: every row of the file and every offset of the topic, each exactly once.
//!
//! Promises: whatever is lost, doubled or altered between file, topic and lake ends up in a
//! problem with its exact rows or offsets. Pure: it is given what was read and does no I/O.
//! Relies on being given the file first, then the topic, the dead letters and the lake.
//! Takes 12 bytes for a row of the file and 8 for an offset that the topic still has.
//!
//! A record with a mark is the row that it names. One without is the row that should follow in its partition if it says
//! the same, else any row that says the same, else foreign.

use std::collections::{BTreeMap, HashMap};

use ftap_kafka::EntryId;

use crate::items::{Account, Bounds, DeadLetter, LakeRow, TOO_LARGE, TopicRecord};
use crate::problem::{Kind, Problem};
use crate::ranges::{Bits, Ranges};
use crate::redrives::{Kept, Marker, Redrives};
use crate::source::Row;

#[derive(Default)]
struct File {
    hashes: Vec<u64>,
    partitions: Vec<u32>,
    broken: Bits,
    seen: Bits,
    hidden: Bits,
    /// The first row of each content; only made once a record is not the row that should follow.
    by_content: Option<HashMap<u64, usize>>,
}

impl File {
    /// The row that a record of the partition is, if it has no mark; `next` is where the row that should follow is
    /// looked for.
    fn row_of(&mut self, content: u64, partition: u32, next: &mut usize) -> Option<usize> {
        let row = if self.is_next(content, partition, next) {
            *next
        } else {
            *self.by_content().get(&content)?
        };
        *next = (row + 1).max(*next);
        Some(row)
    }

    /// Whether the record is the partition's next row from `next` on.
    fn is_next(&self, content: u64, partition: u32, next: &mut usize) -> bool {
        while let Some(of_row) = self.partitions.get(*next)
            && (*of_row != partition || self.broken.get(*next))
        {
            *next += 1;
        }
        self.hashes.get(*next) == Some(&content)
    }

    fn by_content(&mut self) -> &HashMap<u64, usize> {
        let Self { hashes, broken, .. } = self;
        self.by_content.get_or_insert_with(|| {
            let rows = hashes.iter().enumerate();
            // Of several rows that say the same the first one stays.
            let rows = rows.filter(|(row, _)| !broken.get(*row)).rev();
            rows.map(|(row, content)| (*content, row)).collect()
        })
    }
}

struct Partition {
    account: Account,
    bounds: Bounds,
    /// Offset of bit 0.
    base: i64,
    visible: Bits,
    readable: Bits,
    in_lake: Bits,
    rejected: Bits,
    /// First offsets of objects that can't be read.
    unreadable: Vec<i64>,
    /// Timestamp of the oldest record that is visible.
    oldest_ms: Option<i64>,
    /// From `bounds.low`: content and timestamp of a transaction, else its payload's hash.
    hashes: Vec<u64>,
    /// Payload hashes of records beyond the configured size.
    too_large: HashMap<i64, u64>,
    /// Content and timestamp of transactions that only earlier versions took.
    unsound: HashMap<i64, u64>,
    /// Contents of lake rows whose records the topic no longer has.
    expired: Vec<u64>,
    /// No earlier row of the file is expected to follow in the topic.
    next_row: usize,
}

/// See the module.
pub(crate) struct Ledger {
    file: File,
    broken: Ranges,
    partitions: Vec<Partition>,
    dead_letters: HashMap<(i32, i64), DeadLetter>,
    redrives: Redrives,
    once_too_large: u64,
    problems: BTreeMap<(Kind, Option<i32>, Option<String>), Ranges>,
    details: Vec<Problem>,
}

/// The result of the ledger.
pub(crate) struct Balance {
    /// By partition, from 0.
    pub accounts: Vec<Account>,
    /// Rows of the file that can't be published.
    pub broken: Ranges,
    /// Lake rows compared with the file alone, because the topic no longer has their records.
    pub expired: u64,
    /// Good transactions listed as too large, which they are not by the present setting.
    pub once_too_large: u64,
    /// What is wrong; empty if all is there exactly once.
    pub problems: Vec<Problem>,
}

impl Ledger {
    /// Accounts for a topic whose partitions have these bounds.
    pub(crate) fn new(bounds: &[Bounds]) -> Self {
        let partitions = bounds.iter().map(|bounds| Partition {
            account: Account::default(),
            bounds: *bounds,
            base: bounds
                .lake_first
                .map_or(bounds.low, |first| first.min(bounds.low)),
            visible: Bits::default(),
            readable: Bits::default(),
            in_lake: Bits::default(),
            rejected: Bits::default(),
            unreadable: Vec::new(),
            oldest_ms: None,
            hashes: vec![0; usize::try_from(bounds.high - bounds.low).unwrap_or(0)],
            too_large: HashMap::new(),
            unsound: HashMap::new(),
            expired: Vec::new(),
            next_row: 0,
        });
        Self {
            file: File::default(),
            broken: Ranges::default(),
            partitions: partitions.collect(),
            dead_letters: HashMap::new(),
            redrives: Redrives::default(),
            once_too_large: 0,
            problems: BTreeMap::new(),
            details: Vec::new(),
        }
    }

    /// The next row of the file: the hash of its content and the partition of its key, or
    /// `None` for one that can't be published.
    pub(crate) fn file_row(&mut self, row: Row) {
        let index = self.file.hashes.len();
        let (hash, partition) = row.unwrap_or((0, 0));
        self.file.hashes.push(hash);
        self.file.partitions.push(partition as u32);
        match row {
            Some(_) => self.partitions[partition].account.file += 1,
            None => {
                self.file.broken.set(index);
                self.broken.push(index as i64);
            }
        }
    }

    /// The next rows of the file.
    pub(crate) fn file_rows(&mut self, rows: &[Row]) {
        rows.iter().for_each(|row| self.file_row(*row));
    }

    /// Rows of the file so far.
    pub(crate) fn rows_of_file(&self) -> u64 {
        self.file.hashes.len() as u64
    }

    /// Whether a record's row may be among those of the file that are not known yet.
    pub(crate) fn awaits_rows(&mut self, partition: i32, record: &TopicRecord) -> bool {
        let Some(state) = self.partitions.get_mut(partition as usize) else {
            return false;
        };
        match (record.redrive, record.row, record.content) {
            (Some(_), _, _) | (None, None, None) => false,
            (None, Some(row), _) => row >= self.file.hashes.len() as u64,
            (None, None, Some(content)) => {
                !self
                    .file
                    .is_next(content, partition as u32, &mut state.next_row)
            }
        }
    }

    pub(crate) fn topic_record(&mut self, partition: i32, record: &TopicRecord) {
        let Some(state) = self.partitions.get_mut(partition as usize) else {
            return;
        };
        let Bounds { low, high, .. } = state.bounds;
        if !(low..high).contains(&record.offset) {
            return;
        }
        state.account.topic += 1;
        state.oldest_ms.get_or_insert(record.timestamp_ms);
        let bit = (record.offset - state.base) as usize;
        state.visible.set(bit);
        state.hashes[(record.offset - low) as usize] = match record.content {
            Some(content) => {
                state.readable.set(bit);
                with_timestamp(content, record.timestamp_ms)
            }
            None => record.raw,
        };
        if record.too_large {
            state.too_large.insert(record.offset, record.raw);
        }
        if let Some(content) = record.unsound {
            let hash = with_timestamp(content, record.timestamp_ms);
            state.unsound.insert(record.offset, hash);
        }
        if let Some(id) = record.redrive {
            state.account.redriven += 1;
            if self.redrives.message(id, partition, record.offset) {
                self.note(Kind::RedrivenTwice, Some(partition), None, record.offset);
            }
            return;
        }
        let next = &mut state.next_row;
        let index = match (record.row, record.content) {
            (Some(row), _) => {
                let row = usize::try_from(row).unwrap_or(usize::MAX);
                *next = row.saturating_add(1).max(*next);
                Some(row)
            }
            (None, Some(content)) => self.file.row_of(content, partition as u32, next),
            (None, None) => None,
        };
        let Some(index) = index else {
            state.account.foreign += 1;
            return;
        };
        let number = i64::try_from(index).unwrap_or(i64::MAX);
        if index >= self.file.hashes.len() || self.file.broken.get(index) {
            self.note(Kind::RowNotInFile, Some(partition), None, number);
            return;
        }
        if self.file.seen.set(index) {
            self.note(Kind::RowDoubledInTopic, Some(partition), None, number);
        }
        if self.file.partitions[index] != partition as u32 {
            self.note(Kind::RowInWrongPartition, Some(partition), None, number);
        }
        if record.content != Some(self.file.hashes[index]) {
            self.note(Kind::RowDiffersInTopic, Some(partition), None, number);
        }
    }

    /// This record is in the topic, but hidden by an open transaction.
    pub(crate) fn hidden_record(&mut self, record: &TopicRecord) {
        let marked = record.row.and_then(|row| usize::try_from(row).ok());
        let index = marked.or_else(|| self.file.by_content().get(&record.content?).copied());
        if let Some(index) = index
            && index < self.file.hashes.len()
        {
            self.file.hidden.set(index);
        }
    }

    /// A rejected record where it is kept; there may be several for one offset, of which the last counts.
    pub(crate) fn dead_letter(&mut self, letter: DeadLetter) {
        let key = (letter.partition, letter.offset);
        self.dead_letters.insert(key, letter);
    }

    /// A mark of the dead-letter topic.
    pub(crate) fn redriven(&mut self, marker: Marker) {
        self.redrives.marker(marker);
    }

    /// The dead-letter topic has lost its oldest records: marks may be among them.
    pub(crate) fn marks_may_have_expired(&mut self) {
        self.redrives.marks_may_have_expired();
    }

    /// A row of the lake, in the object `key`.
    pub(crate) fn lake_row(&mut self, key: &str, partition: i32, row: LakeRow) {
        let offset = row.offset;
        let Some(state) = self.partitions.get_mut(partition as usize) else {
            return self.note(Kind::NotInTopic, Some(partition), Some(key), offset);
        };
        state.account.lake += 1;
        let Some(bit) = self.place(key, partition, offset) else {
            return;
        };
        let state = &mut self.partitions[partition as usize];
        if offset < state.bounds.low {
            state.expired.push(row.content);
            return;
        }
        let ours = with_timestamp(row.content, row.timestamp_ms);
        let stored = state.hashes[(offset - state.bounds.low) as usize];
        let is_same = state.readable.get(bit) && stored == ours;
        // Earlier versions kept 1970 for none.
        let is_same = is_same
            || row.of_earlier_version
                && row.timestamp_ms == 0
                && state.readable.get(bit)
                && stored == with_timestamp(row.content, -1);
        let was_taken = row.of_earlier_version && state.unsound.get(&offset) == Some(&ours);
        if !is_same && !was_taken {
            self.note(Kind::DiffersInLake, Some(partition), Some(key), offset);
        }
    }

    /// The offsets from first to last, both included, that the object `key` lists as rejected.
    pub(crate) fn lake_rejections(
        &mut self,
        key: &str,
        partition: i32,
        offsets: (i64, i64),
        reason: &str,
    ) {
        let (first, last) = offsets;
        let Some(state) = self.partitions.get_mut(partition as usize) else {
            return self.note_range(Kind::NotInTopic, Some(partition), Some(key), offsets);
        };
        // A damaged footer can name more offsets than anyone could count one by one.
        let (base, high) = (state.base, state.bounds.high);
        let (from, to) = (first.max(base), last.min(high - 1));
        state.account.rejected += Ranges::from((from, to)).count();
        let before = (first, last.min(base - 1));
        self.note_range(Kind::NotInTopic, Some(partition), Some(key), before);
        let beyond = (first.max(high), last);
        self.note_range(Kind::BeyondTopicEnd, Some(partition), Some(key), beyond);
        for offset in from..=to {
            self.lake_rejection(key, partition, offset, reason);
        }
    }

    fn lake_rejection(&mut self, key: &str, partition: i32, offset: i64, reason: &str) {
        let Some(bit) = self.place(key, partition, offset) else {
            return;
        };
        let state = &mut self.partitions[partition as usize];
        state.rejected.set(bit);
        let expired = offset < state.bounds.low;
        let too_large = state.too_large.get(&offset);
        let is_good = !expired && state.readable.get(bit) && too_large.is_none();
        if is_good && reason != TOO_LARGE {
            self.note(Kind::WronglyRejected, Some(partition), Some(key), offset);
            return;
        }
        // What it says is not known any more when the record has expired.
        let ours = (!expired).then(|| {
            let stored = || state.hashes[(offset - state.bounds.low) as usize];
            too_large.copied().unwrap_or_else(stored)
        });
        let Some(letter) = self.dead_letters.get(&(partition, offset)) else {
            return self.note(Kind::NoDeadLetter, Some(partition), Some(key), offset);
        };
        let theirs = if is_good { letter.content } else { letter.raw };
        let altered = ours
            .zip(theirs)
            .is_some_and(|(ours, theirs)| ours != theirs);
        self.once_too_large += u64::from(is_good);
        if letter.reason != reason || altered {
            self.note(Kind::DeadLetterDiffers, Some(partition), Some(key), offset);
        }
    }

    /// Something that is wrong with an object as a whole.
    pub(crate) fn object_problem(
        &mut self,
        kind: Kind,
        partition: Option<i32>,
        key: &str,
        detail: String,
    ) {
        self.details.push(Problem {
            kind,
            partition,
            object: Some(key.to_owned()),
            ranges: Ranges::default(),
            detail: Some(detail),
        });
    }

    /// An object that begins there can't be read.
    pub(crate) fn unreadable_from(&mut self, partition: i32, first_offset: i64) {
        if let Some(state) = self.partitions.get_mut(partition as usize) {
            state.unreadable.push(first_offset);
        }
    }

    /// Marks an offset as covered by the lake. `None` if it was before, or if the topic has
    /// no such record: then there is nothing to compare it with.
    fn place(&mut self, key: &str, partition: i32, offset: i64) -> Option<usize> {
        let state = &mut self.partitions[partition as usize];
        let Bounds { low, high, .. } = state.bounds;
        let kind = match offset {
            _ if offset < state.base => Kind::NotInTopic,
            _ if offset >= high => Kind::BeyondTopicEnd,
            _ => {
                let bit = (offset - state.base) as usize;
                if state.in_lake.set(bit) {
                    Kind::DoubledInLake
                } else if offset >= low && !state.visible.get(bit) {
                    Kind::NotInTopic
                } else {
                    return Some(bit);
                }
            }
        };
        self.note(kind, Some(partition), Some(key), offset);
        None
    }

    fn note(&mut self, kind: Kind, partition: Option<i32>, key: Option<&str>, number: i64) {
        self.note_range(kind, partition, key, (number, number));
    }

    fn note_range(
        &mut self,
        kind: Kind,
        partition: Option<i32>,
        key: Option<&str>,
        (first, last): (i64, i64),
    ) {
        if first <= last {
            let place = (kind, partition, key.map(str::to_owned));
            let ranges = self.problems.entry(place).or_default();
            ranges.push_range(first, last);
        }
    }

    /// Closes the accounts.
    pub(crate) fn close(mut self) -> Balance {
        let expired = self.partitions.iter().map(|p| p.expired.len() as u64).sum();
        let expired_redrives = self.close_redrives();
        self.close_rows(&expired_redrives);
        self.close_offsets();
        for ((kind, partition, object), ranges) in std::mem::take(&mut self.problems) {
            self.details.push(Problem {
                kind,
                partition,
                object,
                ranges,
                detail: None,
            });
        }
        self.details.sort_by(|a, b| {
            (a.kind, a.partition, &a.object).cmp(&(b.kind, b.partition, &b.object))
        });
        for problem in &self.details {
            let state = problem
                .partition
                .and_then(|partition| self.partitions.get_mut(partition as usize));
            if let Some(state) = state {
                problem
                    .kind
                    .book(&mut state.account, problem.ranges.count());
            }
        }
        Balance {
            accounts: self.partitions.iter().map(|p| p.account).collect(),
            broken: self.broken,
            expired,
            once_too_large: self.once_too_large,
            problems: self.details,
        }
    }

    /// What was sent again; gives the messages of it that retention took, by partition.
    fn close_redrives(&mut self) -> BTreeMap<i32, u64> {
        let redrives = std::mem::take(&mut self.redrives);
        let kept = |partition: i32| {
            let state = self.partitions.get(usize::try_from(partition).ok()?)?;
            Some(Kept {
                is_trimmed: state.bounds.low > 0,
                oldest_ms: state.oldest_ms,
            })
        };
        let needs_mark = |id: EntryId| {
            let letter = self.dead_letters.get(&(id.partition, id.offset));
            letter.is_none_or(|letter| !letter.is_in_lake)
        };
        let (findings, expired) = redrives.close(kept, needs_mark);
        for (kind, partition, offset) in findings {
            self.note(kind, Some(partition), None, offset);
        }
        for EntryId { partition, offset } in redrives.ids() {
            let is_row = usize::try_from(partition)
                .ok()
                .and_then(|index| self.partitions.get(index))
                .is_some_and(|state| {
                    usize::try_from(offset - state.base)
                        .is_ok_and(|bit| state.in_lake.get(bit) && !state.rejected.get(bit))
                });
            if is_row {
                self.note(Kind::RedrivenRow, Some(partition), None, offset);
            }
        }
        expired
    }

    /// Rows of the file that the topic does not have. Where the topic has lost its oldest
    /// records to retention, a lake row of the same content stands for the row; one of no such
    /// content may be of a message that was redriven and has expired.
    fn close_rows(&mut self, expired_redrives: &BTreeMap<i32, u64>) {
        let mut expired: Vec<HashMap<u64, u64>> = Vec::with_capacity(self.partitions.len());
        for state in &self.partitions {
            let mut contents = HashMap::new();
            for content in &state.expired {
                *contents.entry(*content).or_insert(0) += 1;
            }
            expired.push(contents);
        }
        for index in 0..self.file.hashes.len() {
            if self.file.seen.get(index) || self.file.broken.get(index) {
                continue;
            }
            let partition = self.file.partitions[index];
            match expired[partition as usize].get_mut(&self.file.hashes[index]) {
                Some(copies) if *copies > 0 => *copies -= 1,
                _ => {
                    let kind = if self.file.hidden.get(index) {
                        Kind::RowBehindOpenTransaction
                    } else {
                        Kind::RowMissingFromTopic
                    };
                    self.note(kind, Some(partition as i32), None, index as i64);
                }
            }
        }
        for (partition, contents) in expired.iter().enumerate() {
            let redriven = expired_redrives.get(&(partition as i32)).copied();
            let unknown: u64 = contents.values().sum();
            let unknown = unknown.saturating_sub(redriven.unwrap_or(0));
            if unknown > 0 {
                self.details.push(Problem {
                    kind: Kind::ExpiredNotInFile,
                    partition: Some(partition as i32),
                    object: None,
                    ranges: Ranges::default(),
                    detail: Some(format!("{unknown} rows")),
                });
            }
        }
    }

    fn close_offsets(&mut self) {
        for (partition, state) in self.partitions.iter().enumerate() {
            let mut missing = Ranges::default();
            let mut unread = Ranges::default();
            let mut in_gap = false;
            let bit_of = |offset: i64| (offset - state.base) as usize;
            let offsets = state.bounds.low..state.bounds.high;
            let lakes_end = offsets
                .clone()
                .rev()
                .find(|offset| state.in_lake.get(bit_of(*offset)));
            let behind = |first: &&i64| lakes_end.is_none_or(|end| **first > end);
            let unreadable_from = state.unreadable.iter().filter(behind).min();
            for offset in offsets {
                let bit = bit_of(offset);
                // Control and aborted records are not lost and end no gap.
                if !state.visible.get(bit) {
                    continue;
                }
                let is_missing = !state.in_lake.get(bit);
                // What an unreadable object may hold was read.
                let is_read = lakes_end.is_some_and(|end| offset < end)
                    || unreadable_from.is_some_and(|first| offset >= *first);
                let gap = if is_read { &mut missing } else { &mut unread };
                match (is_missing, in_gap) {
                    (true, true) => gap.push_across(offset),
                    (true, false) => gap.push(offset),
                    (false, _) => {}
                }
                in_gap = is_missing;
            }
            for (kind, ranges) in [
                (Kind::MissingFromLake, missing),
                (Kind::NotInLakeYet, unread),
            ] {
                if !ranges.is_empty() {
                    self.problems
                        .insert((kind, Some(partition as i32), None), ranges);
                }
            }
        }
    }
}

/// One hash of what a record says and when it was written.
pub(crate) fn with_timestamp(content: u64, timestamp_ms: i64) -> u64 {
    xxhash_rust::xxh3::xxh3_64_with_seed(&content.to_le_bytes(), timestamp_ms as u64)
}
