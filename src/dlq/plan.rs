//! Which entries a redrive sends, and why it sends the others not.
//!
//! Promises: what was named one by one, by a file or by ids, is sent whole or refused whole,
//! before anything is sent; of what was named by its reason, the entries that would be
//! rejected again stay. An entry that is redriven, or became a row after all, is never sent.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::BufRead;

use ftap_kafka::EntryId;
use ftap_transaction::check;
use serde::Serialize;
use xxhash_rust::xxh3::xxh3_64;

use super::index::{Entry, Fate, Index};
use super::line;
use super::settled::Settled;

/// Refusals that are listed one by one.
const LISTED: usize = 20;

/// What was asked for.
pub(crate) enum Wanted {
    /// Entries with payloads in place of theirs, by id.
    Repaired(BTreeMap<EntryId, Repaired>),
    Ids(BTreeSet<EntryId>),
    /// All open entries, or those of a reason, as they are.
    Open(Option<String>),
}

/// A payload of the file.
pub(crate) struct Repaired {
    /// Its first line, from 1; 0 if there is no file.
    pub line: u64,
    /// The payload, `None` for none.
    pub payload: Option<Vec<u8>>,
}

/// Why nothing is sent.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    listed: Vec<String>,
    count: u64,
}

impl Refusals {
    fn add(&mut self, refusal: impl FnOnce() -> String) {
        self.count += 1;
        if self.listed.len() < LISTED {
            self.listed.push(refusal());
        }
    }

    /// Why, without what to do about a file.
    pub(crate) fn reasons(&self) -> String {
        self.listed.join("; ")
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }
}

impl std::error::Error for Refusals {}

impl fmt::Display for Refusals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "nothing was sent, because of {} entries:", self.count)?;
        for refusal in &self.listed {
            write!(f, "\n  {refusal}")?;
        }
        let more = self.count - self.listed.len() as u64;
        if more > 0 {
            write!(f, "\n  and {more} more")?;
        }
        f.write_str("\n  repair these entries, or remove their lines from the file, and try again")
    }
}

/// What happens to the requested entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Counts {
    /// Sent; with `--dry-run`, would be sent.
    pub redriven: u64,
    /// Skipped, because they were redriven before.
    pub already_redriven: u64,
    /// Skipped, because the lake has a row of the record after all.
    pub rows_of_the_lake: u64,
    /// Lines that repeat another one.
    pub repeated_lines: u64,
    /// Left, because they would be rejected again.
    pub left_invalid: u64,
    /// Left, because only the beginning of the payload is there.
    pub left_truncated: u64,
    /// Left, because no file of the lake covers the record yet.
    pub left_unsettled: u64,
    /// Left, because they may have been redriven before.
    pub left_unknown: u64,
}

impl Counts {
    /// Entries that stay as they are, although they are open.
    pub(crate) fn left(&self) -> u64 {
        self.left_invalid + self.left_truncated + self.left_unsettled + self.left_unknown
    }
}

/// Reads the lines of a file and checks each payload.
pub(crate) fn read_repairs(
    mut input: impl BufRead,
    max_message_bytes: usize,
    force: bool,
    counts: &mut Counts,
    refusals: &mut Refusals,
) -> anyhow::Result<BTreeMap<EntryId, Repaired>> {
    let mut repairs: BTreeMap<EntryId, Repaired> = BTreeMap::new();
    let mut bytes = Vec::new();
    for number in 1_u64.. {
        bytes.clear();
        if input.read_until(b'\n', &mut bytes)? == 0 {
            break;
        }
        let text = match std::str::from_utf8(&bytes) {
            // Some editors begin a file with a mark.
            Ok(text) => text.trim_start_matches('\u{feff}').trim(),
            Err(_) => {
                refusals.add(|| format!("line {number}: not UTF-8"));
                continue;
            }
        };
        if text.is_empty() {
            continue;
        }
        let repair = match line::read(text) {
            Ok(repair) => repair,
            Err(problem) => {
                refusals.add(|| format!("line {number}: {problem}"));
                continue;
            }
        };
        let checked = check(repair.payload.as_deref(), max_message_bytes);
        if let Err(reason) = checked
            && !force
        {
            refusals.add(|| {
                format!(
                    "line {number}: {}: would be rejected again: {reason}",
                    repair.id
                )
            });
        }
        match repairs.get(&repair.id) {
            None => {
                let line = number;
                let payload = repair.payload;
                repairs.insert(repair.id, Repaired { line, payload });
            }
            Some(known) if known.payload == repair.payload => counts.repeated_lines += 1,
            Some(known) => refusals.add(|| {
                format!(
                    "line {number}: {} is in line {} with another payload",
                    repair.id, known.line
                )
            }),
        }
    }
    Ok(repairs)
}

impl Wanted {
    fn is_named(&self) -> bool {
        !matches!(self, Self::Open(_))
    }

    /// The payload to send in place of the entry's; `None`: the entry's own.
    pub(crate) fn repaired(&self, id: EntryId) -> Option<&Repaired> {
        match self {
            Self::Repaired(repairs) => repairs.get(&id),
            _ => None,
        }
    }

    /// How an entry is named in a refusal.
    fn name(&self, id: EntryId) -> String {
        match self.repaired(id) {
            Some(repaired) if repaired.line > 0 => format!("line {}: {id}", repaired.line),
            _ => id.to_string(),
        }
    }

    fn ids(&self, index: &Index<'_>) -> Vec<EntryId> {
        match self {
            Self::Repaired(repairs) => repairs.keys().copied().collect(),
            Self::Ids(ids) => ids.iter().copied().collect(),
            Self::Open(reason) => {
                let fits = |entry: &&Entry| {
                    let reason = reason.as_ref();
                    reason.is_none_or(|reason| entry.has_reason(reason))
                };
                let entries = index.entries.values().filter(fits);
                entries.map(|entry| entry.id).collect()
            }
        }
    }

    /// The entries to send as far as the index tells; their payloads are checked apart.
    pub(crate) fn choose(
        &self,
        index: &Index<'_>,
        partitions: usize,
        takes_unknown: bool,
        counts: &mut Counts,
        refusals: &mut Refusals,
    ) -> BTreeSet<EntryId> {
        let mut chosen = BTreeSet::new();
        for id in self.ids(index) {
            let Some(entry) = index.entries.get(&id) else {
                if index.redriven.contains(&id) {
                    counts.already_redriven += 1;
                } else {
                    refusals.add(|| format!("{}: there is no such entry", self.name(id)));
                }
                continue;
            };
            if entry.is_redriven() {
                counts.already_redriven += 1;
            } else if usize::try_from(id.partition).is_ok_and(|index| index >= partitions) {
                refusals.add(|| {
                    format!(
                        "{}: the topic has no partition {} any more: was it recreated?",
                        self.name(id),
                        id.partition
                    )
                });
            } else if entry.fate == Fate::Unknown && !takes_unknown {
                self.leave(&mut counts.left_unknown, refusals, || {
                    format!(
                        "{}: it may have been redriven before, the topic no longer has all that followed it: --unknown sends it",
                        self.name(id)
                    )
                });
            } else if self.is_only_the_beginning(entry) {
                self.leave(&mut counts.left_truncated, refusals, || {
                    format!(
                        "{}: only the beginning of its payload was kept",
                        self.name(id)
                    )
                });
            } else {
                chosen.insert(id);
            }
        }
        chosen
    }

    fn is_only_the_beginning(&self, entry: &Entry) -> bool {
        let is_unchanged = self.repaired(entry.id).is_none_or(|repaired| {
            xxh3_64(repaired.payload.as_deref().unwrap_or_default()) == entry.hash
        });
        entry.is_truncated && is_unchanged
    }

    fn leave(&self, count: &mut u64, refusals: &mut Refusals, why: impl FnOnce() -> String) {
        if self.is_named() {
            refusals.add(why);
        } else {
            *count += 1;
        }
    }

    /// Takes out what the lake does not list as rejected.
    pub(crate) fn settle(
        &self,
        chosen: &mut BTreeSet<EntryId>,
        settled: &BTreeMap<EntryId, Settled>,
        counts: &mut Counts,
        refusals: &mut Refusals,
    ) {
        chosen.retain(|id| match settled.get(id) {
            Some(Settled::Rejected) => true,
            Some(Settled::Row) => {
                counts.rows_of_the_lake += 1;
                false
            }
            Some(Settled::NotYet) | None => {
                self.leave(&mut counts.left_unsettled, refusals, || {
                    format!(
                        "{}: no file of the lake covers it yet: `ftap consume --until-drained` writes it",
                        self.name(*id)
                    )
                });
                false
            }
        });
    }

    /// Whether an entry's own payload may be sent as it is.
    pub(crate) fn check_own(
        &self,
        id: EntryId,
        payload: Option<&[u8]>,
        max_message_bytes: usize,
        counts: &mut Counts,
        refusals: &mut Refusals,
    ) -> bool {
        match check(payload, max_message_bytes) {
            Ok(()) => true,
            Err(reason) => {
                self.leave(&mut counts.left_invalid, refusals, || {
                    format!("{id}: would be rejected again: {reason}")
                });
                false
            }
        }
    }
}

/// Opens the file of repairs, `-` for stdin.
pub(crate) fn open(path: &std::path::Path) -> anyhow::Result<Box<dyn BufRead>> {
    if path == std::path::Path::new("-") {
        return Ok(Box::new(std::io::stdin().lock()));
    }
    let file = std::fs::File::open(path)
        .map_err(|error| crate::exit::BadUsage(format!("--from {}: {error}", path.display())))?;
    Ok(Box::new(std::io::BufReader::new(file)))
}
