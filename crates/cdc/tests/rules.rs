//! The rules of change capture, without server or lake.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ftap_cdc::buffer::{ChangeBuffer, Flow};
use ftap_cdc::chain::{
    LakeEpoch, Plan, PlanError, PublicationState, ServerState, SlotState, SnapshotReason,
    on_already_exists, plan,
};
use ftap_cdc::file::Origin;
use ftap_cdc::{
    Cell, Change, ChangeFile, ChangeFooter, Column, Lsn, Message, Position, Table, Tuple,
};
use ftap_lake::{
    Adoption, ChangeObjectName, ChangePart, FooterFormat as _, RollingSettings, footer_table,
};
use proptest::prelude::*;

fn position(lsn: u64, seq: u64) -> Position {
    Position { lsn: Lsn(lsn), seq }
}

#[test]
fn a_key_says_what_is_in_the_object_and_only_one_key_says_it() {
    let name = ChangeObjectName {
        table: "users".to_owned(),
        epoch: 1,
        part: ChangePart::Changes(position(0x16b_3748, 12)),
        date: "2026-11-22".parse().unwrap(),
    };
    let key = "users_changes/2026-11-22/users-000001-00000000016B3748-0000000012.parquet";
    assert_eq!(name.key(), key);
    let snapshot = ChangeObjectName {
        part: ChangePart::Snapshot(3),
        ..name.clone()
    };
    for name in [name, snapshot] {
        assert_eq!(ChangeObjectName::parse(&name.key()), Some(name));
    }
    for other in [
        "users_changes/2026-11-22/users-1-00000000016B3748-0000000012.parquet",
        "users_changes/2026-11-22/users-000001-00000000016b3748-0000000012.parquet",
        "users_changes/2026-11-22/users-000001-+0000000016B374-0000000012.parquet",
        "users_changes/2026-11-22/merchants-000001-snapshot-0001.parquet",
        "users_changes/2026-11-22/users-000001-snapshot-0001-1.parquet",
        "users_changes/2026-13-22/users-000001-snapshot-0001.parquet",
        "users_changes/users-000001-snapshot-0001.parquet",
        "transactions/2026-11-22/transactions-0-00000000000000000000.parquet",
    ] {
        assert_eq!(ChangeObjectName::parse(other), None, "{other}");
    }
}

#[test]
fn log_positions_are_read_and_written_as_postgresql_does() {
    for (text, lsn) in [("0/16B3748", 0x16b_3748), ("A/0", 0xa_0000_0000)] {
        assert_eq!(text.parse::<Lsn>(), Ok(Lsn(lsn)));
        assert_eq!(Lsn(lsn).to_string(), text);
    }
    for wrong in ["", "/", "0/", "0/123456789", "+1/2", "1", "0/0/0"] {
        assert!(wrong.parse::<Lsn>().is_err(), "{wrong}");
    }
}

fn slot() -> SlotState {
    SlotState {
        plugin: Some("pgoutput".to_owned()),
        database: Some("d".to_owned()),
        wal_status: Some("reserved".to_owned()),
        confirmed: Some(Lsn(90)),
    }
}

fn server(slot: Option<SlotState>) -> ServerState {
    ServerState {
        system: "7".to_owned(),
        database: "d".to_owned(),
        flushed: Lsn(100),
        slot,
        publication: PublicationState::Whole,
        oids: BTreeMap::from([("users".to_owned(), 16_385)]),
    }
}

fn epoch() -> LakeEpoch {
    LakeEpoch {
        number: 4,
        system: "7".to_owned(),
        is_complete: true,
        ends: BTreeMap::from([
            ("users".to_owned(), position(80, 2)),
            ("merchants".to_owned(), position(40, 0)),
        ]),
        oids: BTreeMap::from([("users".to_owned(), 16_385)]),
    }
}

fn decide(lake: Option<LakeEpoch>, server: &ServerState) -> Result<Plan, PlanError> {
    plan("s", lake.as_ref(), server, false)
}

fn snapshot(epoch: u32, reason: SnapshotReason) -> Result<Plan, PlanError> {
    Ok(Plan::Snapshot { epoch, reason })
}

#[test]
fn what_lake_and_server_hold_decides_what_to_do() {
    let stream = Ok(Plan::Stream {
        epoch: 4,
        ends: epoch().ends,
        oids: epoch().oids,
    });
    assert_eq!(decide(Some(epoch()), &server(Some(slot()))), stream);
    assert_eq!(
        decide(None, &server(None)),
        snapshot(1, SnapshotReason::First)
    );

    // A kill during the snapshot, or between it and its slot.
    let half = LakeEpoch {
        is_complete: false,
        ..epoch()
    };
    let whole = LakeEpoch { ..epoch() };
    let again = snapshot(5, SnapshotReason::Interrupted);
    assert_eq!(decide(Some(half.clone()), &server(None)), again);
    assert_eq!(decide(Some(half), &server(Some(slot()))), again);
    let lost = decide(Some(whole.clone()), &server(None));
    assert!(matches!(lost, Err(PlanError::SlotMissing { .. })));
    let begun = decide(Some(whole), &server(Some(slot())));
    assert!(matches!(begun, Ok(Plan::Stream { .. })));

    let asked = plan("s", Some(&epoch()), &server(None), true);
    assert_eq!(asked, snapshot(5, SnapshotReason::Asked));
}

#[test]
fn what_contradicts_itself_is_an_error_that_says_what_to_do() {
    let lost = SlotState {
        wal_status: Some("lost".to_owned()),
        ..slot()
    };
    let foreign = SlotState {
        plugin: Some("wal2json".to_owned()),
        ..slot()
    };
    let elsewhere = SlotState {
        database: Some("other".to_owned()),
        ..slot()
    };
    let another = LakeEpoch {
        system: "8".to_owned(),
        ..epoch()
    };
    let ahead = LakeEpoch {
        ends: BTreeMap::from([("users".to_owned(), position(101, 1))]),
        ..epoch()
    };
    let unpublished = ServerState {
        publication: PublicationState::Missing,
        ..server(Some(slot()))
    };
    let remade = ServerState {
        oids: BTreeMap::from([("users".to_owned(), 16_999)]),
        ..server(Some(slot()))
    };
    let cases = [
        (Some(epoch()), remade, "created again"),
        (Some(epoch()), server(None), "is gone"),
        (Some(epoch()), server(Some(lost)), "max_slot_wal_keep_size"),
        (Some(epoch()), server(Some(foreign)), "CDC_SLOT"),
        (Some(epoch()), server(Some(elsewhere)), "CDC_SLOT"),
        (None, server(Some(slot())), "--resnapshot"),
        (Some(another), server(Some(slot())), "POSTGRES_HOST"),
        (Some(ahead), server(Some(slot())), "--resnapshot"),
        (Some(epoch()), unpublished, "publication"),
    ];
    for (lake, server, expected) in cases {
        let error = decide(lake, &server).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

fn table(name: &str, columns: usize) -> Arc<Table> {
    let column = |index: usize| Column {
        name: format!("c{index}"),
        type_oid: 25,
        type_modifier: -1,
        is_key: index == 0,
    };
    Arc::new(Table {
        oid: 1,
        schema: "public".to_owned(),
        name: name.to_owned(),
        columns: (0..columns).map(column).collect(),
    })
}

fn origin() -> Origin {
    Origin {
        system: "7".into(),
        slot: "s".into(),
        writer_id: "w".into(),
        epoch: 1,
        zstd_level: 1,
    }
}

fn buffer(max_rows: u64, ends: BTreeMap<String, Position>) -> ChangeBuffer {
    let rolling = RollingSettings {
        max_rows,
        max_bytes: u64::MAX,
        max_age: Duration::from_secs(3600),
    };
    ChangeBuffer::new(origin(), rolling, ends)
}

fn insert(relation: u32, text: &str) -> Message {
    Message::Change {
        relation,
        change: Change::Insert {
            after: Tuple(vec![Cell::Text(text.into())]),
        },
    }
}

fn relation(id: u32, name: &str, columns: usize) -> Message {
    Message::Relation {
        id,
        table: table(name, columns),
    }
}

fn begin(lsn: u64) -> Message {
    Message::Begin {
        lsn: Lsn(lsn),
        time_us: 0,
        xid: lsn as u32,
    }
}

fn commit(end: u64) -> Message {
    Message::Commit { end: Lsn(end) }
}

fn apply(buffer: &mut ChangeBuffer, messages: impl IntoIterator<Item = Message>) -> Vec<Flow> {
    let messages = messages.into_iter();
    messages
        .map(|message| buffer.apply(message).unwrap())
        .collect()
}

#[test]
fn nothing_is_safe_before_the_objects_that_hold_it_are_handed_out() {
    let mut buffer = buffer(100, BTreeMap::new());
    let keep_alive = |at, is_urgent| Message::KeepAlive {
        at: Lsn(at),
        is_urgent,
    };
    apply(&mut buffer, [keep_alive(5, false)]);
    assert_eq!(buffer.idle_at(), Some(Lsn(5)), "an idle slot moves on");
    apply(
        &mut buffer,
        [begin(10), relation(1, "users", 1), insert(1, "a")],
    );
    let early = buffer.take().unwrap();
    assert!(early.files[0].footer.commit_goes_on);
    assert_eq!(early.safe, Lsn(5), "the commit is not whole");
    assert_eq!(
        apply(&mut buffer, [keep_alive(30, false)]),
        [Flow::Continue]
    );
    apply(&mut buffer, [insert(1, "b"), commit(20)]);
    assert_eq!(buffer.idle_at(), None);
    let urgent = apply(&mut buffer, [keep_alive(40, true)]);
    assert!(
        matches!(urgent[..], [Flow::Flush(_)]),
        "a server that stops waits for it"
    );
    let late = buffer.take().unwrap();
    assert_eq!(late.files[0].footer.first(), position(10, 2));
    assert!(!late.files[0].footer.commit_goes_on);
    assert_eq!((late.safe, buffer.idle_at()), (Lsn(40), Some(Lsn(40))));
}

#[test]
fn another_shape_of_a_table_starts_another_object() {
    let mut buffer = buffer(100, BTreeMap::new());
    apply(
        &mut buffer,
        [
            begin(10),
            relation(1, "users", 1),
            insert(1, "a"),
            commit(11),
        ],
    );
    let flows = apply(
        &mut buffer,
        [begin(20), relation(1, "users", 2), insert(1, "b")],
    );
    assert!(matches!(flows[2], Flow::Flush(_)));
    let flush = buffer.take().unwrap();
    let firsts: Vec<_> = flush.files.iter().map(|file| file.footer.first()).collect();
    assert_eq!(firsts, [position(10, 1), position(20, 1)]);
}

#[test]
fn what_the_protocol_forbids_is_an_error() {
    for messages in [
        vec![begin(1), begin(2)],
        vec![commit(1)],
        vec![relation(1, "users", 1), insert(1, "a")],
        vec![begin(1), insert(9, "a")],
    ] {
        let mut buffer = buffer(100, BTreeMap::new());
        let last = messages
            .into_iter()
            .map(|message| buffer.apply(message))
            .last();
        assert!(last.unwrap().is_err());
    }
}

fn footer(last: Position, first_change: u64, checksum: u64) -> ChangeFooter {
    let mut buffer = buffer(100, BTreeMap::new());
    apply(
        &mut buffer,
        [
            begin(10),
            relation(1, "users", 1),
            insert(1, "a"),
            commit(11),
        ],
    );
    ChangeFooter {
        last_lsn: last.lsn,
        last_seq: last.seq,
        first_change,
        checksum,
        ..buffer.take().unwrap().files.remove(0).footer
    }
}

#[test]
fn an_object_that_was_there_first_is_ours_another_ones_or_of_another_history() {
    let ours = footer(position(20, 1), 1, 2);
    let shorter = footer(position(10, 1), 1, 9);
    assert_eq!(on_already_exists(&ours, &ours), Ok(Adoption::Same));
    assert_eq!(on_already_exists(&ours, &shorter), Ok(Adoption::Overtaken));
    for other in [footer(position(20, 1), 3, 2), footer(position(20, 1), 1, 3)] {
        let error = on_already_exists(&ours, &other).unwrap_err().to_string();
        assert!(error.contains("--resnapshot"), "{error}");
    }
    let pairs = ours.to_pairs();
    let read = ChangeFooter::from_pairs(pairs.iter().map(|(k, v)| (*k, Some(v.as_str()))));
    assert_eq!(read, Ok(ours));
}

/// Files that have been written must be read, so neither keys nor values may change.
#[test]
fn a_footer_is_written_as_it_always_was_and_read_without_what_came_later() {
    let ours = ChangeFooter {
        commit_goes_on: true,
        ..footer(position(0x16b_3748, 2), 1, 2)
    };
    let written = [
        ("ftap.changes_version", "1"),
        ("ftap.table", "users"),
        ("ftap.system", "7"),
        ("ftap.slot", "s"),
        ("ftap.epoch", "1"),
        ("ftap.content", "changes"),
        ("ftap.first_lsn", "0/A"),
        ("ftap.first_seq", "1"),
        ("ftap.last_lsn", "0/16B3748"),
        ("ftap.last_seq", "2"),
        ("ftap.commit_goes_on", "true"),
        ("ftap.first_change", "0000000000000001"),
        ("ftap.rows", "1"),
        ("ftap.checksum", "0000000000000002"),
        ("ftap.writer_id", "w"),
        ("ftap.table_oid", "1"),
    ];
    let written = written.map(|(key, value)| (key, value.to_owned()));
    assert_eq!(ours.to_pairs(), written);
    let read = |pairs: &[(&'static str, String)]| {
        ChangeFooter::from_pairs(pairs.iter().map(|(k, v)| (*k, Some(v.as_str()))))
    };
    assert_eq!(read(&written), Ok(ours.clone()));
    let earlier = ChangeFooter {
        table_oid: None,
        ..ours
    };
    assert_eq!(read(&written[..15]), Ok(earlier.clone()));
    assert_eq!(earlier.to_pairs(), written[..15]);
    assert!(read(&written[1..]).is_err());
}

#[test]
fn the_document_has_the_footers_table() {
    let document = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/DATA.md");
    let document = std::fs::read_to_string(document).unwrap();
    let table = footer_table(ChangeFooter::FIELDS);
    assert!(document.contains(&table), "put this into it:\n{table}");
}

/// A stream of commits; each has its changes' tables.
fn messages(commits: &[Vec<bool>]) -> Vec<Vec<Message>> {
    let stream = commits.iter().enumerate().map(|(index, changes)| {
        let lsn = 100 + 10 * index as u64;
        let changes = changes.iter().enumerate().map(move |(seq, users)| {
            insert(if *users { 1 } else { 2 }, &format!("{lsn}#{}", seq + 1))
        });
        let head = [
            begin(lsn),
            relation(1, "users", 1),
            relation(2, "merchants", 1),
        ];
        head.into_iter()
            .chain(changes)
            .chain([commit(lsn + 10)])
            .collect()
    });
    stream.collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Sessions end anywhere, flushes cut anywhere, some objects of a flush are put and the
    /// rest is lost, acknowledgements are lost or go back: each change is in the lake once.
    #[test]
    fn kills_anywhere_leave_each_change_once_and_in_order(
        commits in prop::collection::vec(prop::collection::vec(any::<bool>(), 0..6), 1..12),
        max_rows in 1u64..6,
        sessions in prop::collection::vec((0usize..40, 0usize..4, any::<bool>()), 0..12),
    ) {
        let stream = messages(&commits);
        let mut lake: BTreeMap<String, ChangeFile> = BTreeMap::new();
        let mut confirmed = Lsn(0);
        let ends = |lake: &BTreeMap<String, ChangeFile>| {
            let mut ends: BTreeMap<String, Position> = BTreeMap::new();
            for file in lake.values() {
                let end = ends.entry(file.footer.table.clone()).or_default();
                *end = (*end).max(file.footer.last());
            }
            ends
        };
        let last = (usize::MAX, usize::MAX, true);
        for (steps, puts, acknowledges) in sessions.into_iter().chain([last]) {
            let mut buffer = buffer(max_rows, ends(&lake));
            let mut left = puts;
            let start = confirmed;
            let mut put = |flush: ftap_cdc::buffer::Flush| {
                for file in &flush.files {
                    if left == 0 {
                        return false;
                    }
                    left -= 1;
                    let there = lake.insert(file.name.key(), file.clone());
                    assert!(there.is_none(), "{} is put twice", file.name);
                }
                if acknowledges {
                    confirmed = confirmed.max(flush.safe);
                }
                true
            };
            let resent = stream.iter().filter(|m| matches!(m[0], Message::Begin { lsn, .. } if lsn >= start));
            let mut alive = true;
            for message in resent.flatten().take(steps).cloned() {
                if let Flow::Flush(_) = buffer.apply(message).unwrap() {
                    alive = put(buffer.take().unwrap());
                    if !alive {
                        break;
                    }
                }
            }
            if alive {
                put(buffer.take().unwrap());
            }
        }
        for (table, wanted) in [("users", true), ("merchants", false)] {
            let mut runs: Vec<_> = lake.values().filter(|f| f.footer.table == table).collect();
            runs.sort_by_key(|file| file.footer.first());
            let rows: u64 = runs.iter().map(|file| file.footer.rows).sum();
            let due = commits.iter().flatten().filter(|users| **users == wanted).count() as u64;
            prop_assert_eq!(rows, due);
            for pair in runs.windows(2) {
                prop_assert!(pair[0].footer.last() < pair[1].footer.first());
            }
        }
    }
}
