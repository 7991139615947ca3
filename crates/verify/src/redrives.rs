//! The accounts of what was rejected, repaired and sent again.
//!
//! Promises: each entry that is marked as redriven has exactly one message of its id in the
//! topic, and each such message its mark, unless the lake has the entry; what retention may have removed is not a problem. Relies
//! on mark and message having been written in one transaction and with one timestamp. Pure.

use std::collections::{BTreeMap, BTreeSet};

use ftap_kafka::EntryId;

use crate::problem::Kind;

/// The mark in the dead-letter topic that an entry was redriven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Marker {
    pub id: EntryId,
    /// When, in Unix milliseconds.
    pub timestamp_ms: i64,
    /// Whether it was there before the topic was looked at; its message must then exist, too.
    pub was_there: bool,
}

/// What is known of a partition of the topic.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kept {
    /// Whether the topic has lost its oldest records.
    pub is_trimmed: bool,
    /// Timestamp of the oldest record that is left.
    pub oldest_ms: Option<i64>,
}

/// What is wrong: its kind, and the partition and the offset it is reported under.
pub(crate) type Finding = (Kind, i32, i64);

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Redrives {
    /// Place of the first message of each id.
    messages: BTreeMap<EntryId, (i32, i64)>,
    markers: BTreeMap<EntryId, Marker>,
    marks_may_have_expired: bool,
}

impl Redrives {
    /// A message of the topic with an entry's id; whether there was one before.
    pub(crate) fn message(&mut self, id: EntryId, partition: i32, offset: i64) -> bool {
        let mut is_again = true;
        self.messages.entry(id).or_insert_with(|| {
            is_again = false;
            (partition, offset)
        });
        is_again
    }

    /// A mark of the dead-letter topic.
    pub(crate) fn marker(&mut self, marker: Marker) {
        let known = self.markers.entry(marker.id).or_insert(marker);
        known.was_there |= marker.was_there;
    }

    /// The dead-letter topic has lost its oldest records.
    pub(crate) fn marks_may_have_expired(&mut self) {
        self.marks_may_have_expired = true;
    }

    /// The ids that were sent again as far as anybody knows.
    pub(crate) fn ids(&self) -> BTreeSet<EntryId> {
        let marked = self.markers.keys();
        marked.chain(self.messages.keys()).copied().collect()
    }

    /// What is wrong, and for each partition how many messages retention took.
    pub(crate) fn close(
        &self,
        kept: impl Fn(i32) -> Option<Kept>,
        needs_mark: impl Fn(EntryId) -> bool,
    ) -> (Vec<Finding>, BTreeMap<i32, u64>) {
        let mut findings = Vec::new();
        let mut expired = BTreeMap::new();
        for marker in self.markers.values() {
            if self.messages.contains_key(&marker.id) || !marker.was_there {
                continue;
            }
            let EntryId { partition, offset } = marker.id;
            let may_have_expired = kept(partition).is_some_and(|kept| {
                let is_older = |oldest| marker.timestamp_ms <= oldest;
                kept.is_trimmed && kept.oldest_ms.is_none_or(is_older)
            });
            if may_have_expired {
                *expired.entry(partition).or_insert(0) += 1;
            } else {
                findings.push((Kind::RedriveMissing, partition, offset));
            }
        }
        let unmarked = self
            .messages
            .iter()
            .filter(|(id, _)| !self.markers.contains_key(id) && !self.marks_may_have_expired)
            .filter(|(id, _)| needs_mark(**id));
        findings.extend(
            unmarked.map(|(_, (partition, offset))| (Kind::RedriveUnmarked, *partition, *offset)),
        );
        (findings, expired)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: EntryId = EntryId {
        partition: 1,
        offset: 7,
    };

    fn marker(was_there: bool) -> Marker {
        Marker {
            id: ID,
            timestamp_ms: 100,
            was_there,
        }
    }

    fn whole(_: i32) -> Option<Kept> {
        Some(Kept {
            is_trimmed: false,
            oldest_ms: Some(5),
        })
    }

    #[test]
    fn a_message_with_its_mark_is_right_however_often_the_mark_was_read() {
        let mut redrives = Redrives::default();
        assert!(!redrives.message(ID, 1, 20));
        redrives.marker(marker(true));
        redrives.marker(marker(true));
        assert_eq!(
            redrives.close(whole, |_| true),
            (Vec::new(), BTreeMap::new())
        );
        assert!(redrives.message(ID, 1, 21), "a second message");
    }

    #[test]
    fn a_mark_without_its_message_is_found_unless_it_came_while_looking() {
        let mut redrives = Redrives::default();
        redrives.marker(marker(false));
        assert_eq!(redrives.close(whole, |_| true).0, []);
        redrives.marker(marker(true));
        assert_eq!(
            redrives.close(whole, |_| true).0,
            [(Kind::RedriveMissing, 1, 7)]
        );
        assert_eq!(
            redrives.close(|_| None, |_| true).0,
            [(Kind::RedriveMissing, 1, 7)],
            "no such partition"
        );
    }

    #[test]
    fn retention_explains_only_what_is_older_than_all_that_is_left() {
        let mut redrives = Redrives::default();
        redrives.marker(marker(true));
        let trimmed = |oldest_ms| {
            move |_| {
                Some(Kept {
                    is_trimmed: true,
                    oldest_ms,
                })
            }
        };
        for oldest in [None, Some(100), Some(101)] {
            let (findings, expired) = redrives.close(trimmed(oldest), |_| true);
            assert_eq!(
                (findings.len(), expired.get(&1)),
                (0, Some(&1)),
                "{oldest:?}"
            );
        }
        assert_eq!(redrives.close(trimmed(Some(99)), |_| true).0.len(), 1);
    }

    #[test]
    fn a_message_without_its_mark_is_found_unless_marks_have_expired() {
        let mut redrives = Redrives::default();
        redrives.message(ID, 1, 20);
        assert_eq!(
            redrives.close(whole, |_| true).0,
            [(Kind::RedriveUnmarked, 1, 20)]
        );
        assert_eq!(redrives.close(whole, |id| id != ID).0, [], "in the lake");
        redrives.marks_may_have_expired();
        assert_eq!(redrives.close(whole, |_| true).0, []);
    }
}
