//! What the lake has made of rejected records.
//!
//! An entry is only what one reader thought of a record: killed before its file was in the
//! lake, its successor may have had a larger size limit or a newer decoder and made a row of
//! it. Redriving that would double it, so the lake is asked. Its files never change: an answer
//! other than [`Settled::NotYet`] stays true.

use std::collections::{BTreeMap, BTreeSet};

use ftap_lake::{LakeError, LakeStore, ObjectName, TransactionFooter, objects_of, read_footer};

use ftap_kafka::EntryId;

/// What happened to a rejected record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Settled {
    /// A file lists it as rejected.
    Rejected,
    /// A file has it as a row.
    Row,
    /// No file covers it.
    NotYet,
}

/// Looks all of them up; reads the footer of each file that covers one of them, once.
pub(crate) async fn look_up(
    store: &LakeStore,
    topic: &str,
    ids: &BTreeSet<EntryId>,
) -> Result<BTreeMap<EntryId, Settled>, LakeError> {
    let mut found = BTreeMap::new();
    if ids.is_empty() {
        return Ok(found);
    }
    let objects = objects_of(store, topic).await?;
    // Ids ascend as the objects do, so one footer at a time is enough.
    let mut last: Option<(&ObjectName, TransactionFooter)> = None;
    for id in ids {
        let place = (id.partition, id.offset);
        let after =
            objects.partition_point(|name| (name.partition(), name.first_offset()) <= place);
        let name = objects[..after]
            .last()
            .filter(|name| name.partition() == id.partition);
        let Some(name) = name else {
            found.insert(*id, Settled::NotYet);
            continue;
        };
        let footer = match last.take() {
            Some((known, footer)) if known == name => footer,
            _ => read_footer(store, name).await?,
        };
        found.insert(*id, of(&footer, id.offset));
        last = Some((name, footer));
    }
    Ok(found)
}

/// What the file of this footer says of an offset from its first on.
fn of(footer: &TransactionFooter, offset: i64) -> Settled {
    if offset > footer.last_offset {
        return Settled::NotYet;
    }
    let next = footer
        .rejected
        .partition_point(|range| range.last_offset < offset);
    match footer.rejected.get(next) {
        Some(range) if range.first_offset <= offset => Settled::Rejected,
        _ => Settled::Row,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ftap_lake::RejectedRange;

    #[test]
    fn a_footer_says_what_happened_to_each_of_its_offsets() {
        let range = |first_offset, last_offset| RejectedRange {
            first_offset,
            last_offset,
            reason: "not_json".into(),
        };
        let footer = TransactionFooter {
            topic: "t".to_owned(),
            partition: 0,
            first_offset: 10,
            last_offset: 30,
            first_record: 0,
            rows: 15,
            rejected: vec![range(10, 12), range(20, 20), range(29, 30)],
            rejected_records: 6,
            writer_id: "w".to_owned(),
            checksum: 0,
        };
        for (offset, wanted) in [
            (10, Settled::Rejected),
            (12, Settled::Rejected),
            (13, Settled::Row),
            (20, Settled::Rejected),
            (21, Settled::Row),
            (30, Settled::Rejected),
            (31, Settled::NotYet),
        ] {
            assert_eq!(of(&footer, offset), wanted, "{offset}");
        }
    }
}
