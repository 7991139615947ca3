//! From the messages of the server to objects and checkpoints.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ftap_cdc::buffer::{BufferError, ChangeBuffer, Flow, Flush};
use ftap_cdc::chain::{Resume, on_already_exists};
use ftap_cdc::checkpoint::{Checkpoint, CheckpointName, Witness};
use ftap_cdc::file::Origin;
use ftap_cdc::{
    Cell, Change, ChangeFile, ChangeFooter, Column, Lsn, Message, Position, Table, Tuple,
};
use ftap_lake::{Adoption, Compression, FooterFormat as _, RollingSettings, footer_table};
use proptest::prelude::*;

use super::plan::epoch;
use super::position;

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
        compression: Compression::Zstd(1),
    }
}

fn buffer(max_rows: u64, ends: BTreeMap<String, Position>) -> ChangeBuffer {
    let resume = Resume {
        ends,
        ..Resume::default()
    };
    resuming(max_rows, resume)
}

/// One that has the row of one commit.
fn buffer_with_a_row() -> ChangeBuffer {
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
    buffer
}

fn resuming(max_rows: u64, resume: Resume) -> ChangeBuffer {
    let rolling = RollingSettings {
        max_rows,
        max_bytes: u64::MAX,
        max_age: Duration::from_secs(3600),
    };
    ChangeBuffer::new(origin(), rolling, resume)
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
    assert_eq!(early.proof, None, "the commit is not whole");
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
    let proof = late.proof.unwrap();
    assert_eq!(proof.witness.lsn, Lsn(10));
    assert_eq!(
        proof.ends,
        BTreeMap::from([("users".to_owned(), position(10, 2))])
    );
    assert_eq!(late.files[0].footer.previous(), Some(position(10, 1)));
    assert_eq!(buffer.idle_at(), Some(Lsn(40)));
}

/// Changes of one commit each, up to `lsns`; the last one goes through `alter`.
fn history(lsns: &[u64], alter: impl Fn(Message) -> Message) -> Vec<Message> {
    let last = lsns.last().copied();
    let commits = lsns.iter().flat_map(|lsn| {
        let commit = [
            begin(*lsn),
            relation(1, "users", 1),
            insert(1, &lsn.to_string()),
            commit(lsn + 5),
        ];
        let is_last = Some(*lsn) == last;
        commit.map(|message| if is_last { alter(message) } else { message })
    });
    commits.collect()
}

fn run(buffer: &mut ChangeBuffer, messages: Vec<Message>) -> Result<Vec<ChangeFile>, BufferError> {
    let mut files = Vec::new();
    for message in messages {
        if let Flow::Flush(_) = buffer.apply(message)? {
            files.extend(buffer.take()?.files);
        }
    }
    files.extend(buffer.take()?.files);
    Ok(files)
}

#[test]
fn nothing_is_handed_out_before_the_server_has_sent_the_witness_again() {
    let witness = Witness {
        lsn: Lsn(20),
        xid: 20,
        time_us: 0,
    };
    let resume = Resume {
        confirmed: Lsn(20),
        awaited: vec![witness],
        ends: BTreeMap::from([("users".to_owned(), position(20, 1))]),
        ..Resume::default()
    };
    let buffer = || resuming(1, resume.clone());
    let same = |message| message;
    let files = run(&mut buffer(), history(&[10, 20, 30], same)).unwrap();
    let firsts: Vec<_> = files.iter().map(|file| file.footer.first()).collect();
    assert_eq!(firsts, [position(30, 1)]);

    let keep_alive = |at| Message::KeepAlive {
        at: Lsn(at),
        is_urgent: false,
    };
    // Up to the witness, and not yet past it.
    assert!(buffer().apply(keep_alive(20)).is_ok());
    let other_time = |message| match message {
        Message::Begin { lsn, xid, .. } => Message::Begin {
            lsn,
            xid,
            time_us: 1,
        },
        message => message,
    };
    let other_xid = |message| match message {
        Message::Begin { lsn, time_us, .. } => Message::Begin {
            lsn,
            xid: 7,
            time_us,
        },
        message => message,
    };
    let mut unknown_table = history(&[10, 20], same);
    unknown_table[1] = relation(1, "merchants", 1);
    for another in [
        history(&[30], same),
        history(&[20], other_time),
        history(&[20], other_xid),
        vec![keep_alive(21)],
        unknown_table,
    ] {
        let error = run(&mut buffer(), another).unwrap_err().to_string();
        assert!(
            error.contains("--resnapshot") && error.contains("0/14"),
            "{error}"
        );
    }
}

#[test]
fn a_commit_of_which_the_lake_has_a_part_must_be_sent_again_too() {
    let mut first = buffer(1, BTreeMap::new());
    let mut messages = history(&[10, 20], |message| message);
    messages.insert(7, insert(1, "more"));
    let mut proof = None;
    for message in messages[..7].iter().cloned() {
        if let Flow::Flush(_) = first.apply(message).unwrap() {
            proof = first.take().unwrap().proof.or(proof);
        }
    }
    let proof = proof.unwrap();
    assert_eq!(
        (proof.witness.lsn, proof.ends["users"]),
        (Lsn(10), position(20, 1))
    );
    let resume = Resume {
        confirmed: proof.witness.lsn,
        awaited: [proof.witness].into_iter().chain(proof.partial).collect(),
        ends: proof.ends,
        ..Resume::default()
    };
    let files = run(&mut resuming(1, resume.clone()), messages).unwrap();
    let firsts: Vec<_> = files.iter().map(|file| file.footer.first()).collect();
    assert_eq!(firsts, [position(20, 2)]);
    // Restored to the moment between the two: what came in its place would be skipped.
    for another in [
        history(&[10, 15], |message| message),
        history(&[10, 30], |message| message),
    ] {
        let last = [Message::KeepAlive {
            at: Lsn(40),
            is_urgent: false,
        }];
        let all = another.into_iter().chain(last).collect();
        let error = run(&mut resuming(1, resume.clone()), all).unwrap_err();
        assert!(error.to_string().contains("--resnapshot"), "{error}");
    }
}

#[test]
fn objects_after_the_checkpoint_are_compared_with_what_the_server_sends_again() {
    let whole = history(&[10, 20, 30], |message| message);
    let objects = run(&mut buffer(2, BTreeMap::new()), whole.clone()).unwrap();
    let footers: Vec<_> = objects.iter().map(|file| file.footer.clone()).collect();
    assert_eq!(footers.len(), 2);
    let resume = Resume {
        unrecorded: BTreeMap::from([("users".to_owned(), footers)]),
        ..Resume::default()
    };
    let mut buffer = resuming(2, resume.clone());
    assert!(run(&mut buffer, whole.clone()).unwrap().is_empty());
    assert!(buffer.is_proven());
    let proof = buffer.take().unwrap().proof.unwrap();
    assert_eq!(proof.ends["users"], position(30, 1));

    let mut buffer = resuming(2, resume.clone());
    assert!(run(&mut buffer, whole[..5].to_vec()).unwrap().is_empty());
    assert_eq!(buffer.take().unwrap().proof, None, "not all of it came");

    let other_value = |message| match message {
        Message::Change { relation, .. } => insert(relation, "another"),
        message => message,
    };
    for another in [
        history(&[10, 20], other_value),
        history(&[10, 30], |message| message),
        history(&[20, 30], |message| message),
        history(&[40], |message| message),
    ] {
        let error = run(&mut resuming(2, resume.clone()), another).unwrap_err();
        assert!(error.to_string().contains("--resnapshot"), "{error}");
    }
}

#[test]
fn a_request_for_a_checkpoint_flushes_with_its_commit() {
    let mut buffer = buffer(100, BTreeMap::new());
    let flows = apply(&mut buffer, [begin(10), Message::CheckpointRequest]);
    assert_eq!(flows, [Flow::Continue; 2]);
    let flows = apply(&mut buffer, [commit(11)]);
    assert!(matches!(flows[..], [Flow::Flush(_)]));
    assert_eq!(buffer.take().unwrap().proof.unwrap().witness.lsn, Lsn(10));
    // A commit without content need not be sent again.
    apply(&mut buffer, [begin(20), commit(21)]);
    assert_eq!(buffer.take().unwrap().proof.unwrap().witness.lsn, Lsn(10));
}

#[test]
fn a_checkpoint_is_read_as_it_was_written_and_only_under_its_name() {
    let checkpoint = epoch().checkpoint.unwrap();
    let name = checkpoint.name();
    let key = "cdc_checkpoints/000004-0000000000000050.json";
    assert_eq!(name.to_string(), key);
    assert_eq!(CheckpointName::parse(key), Some(name));
    for other in [
        "cdc_checkpoints/4-0000000000000050.json",
        "cdc_checkpoints/000004-0000000000000050.parquet",
        "cdc_checkpoints/2026-11-29/000004-0000000000000050.json",
        "users_changes/000004-0000000000000050.json",
    ] {
        assert_eq!(CheckpointName::parse(other), None, "{other}");
    }
    let json = checkpoint.to_json().unwrap();
    assert_eq!(Checkpoint::read(name, &json).unwrap(), checkpoint);
    let text = String::from_utf8(json).unwrap();
    let later = text.replace("\"version\": 1", "\"version\": 2");
    let other = CheckpointName { epoch: 5, ..name };
    for (name, json, expected) in [
        (name, later.as_str(), "update ftap"),
        (other, text.as_str(), "holds the checkpoint of"),
        (name, "{", "not a checkpoint"),
    ] {
        let error = Checkpoint::read(name, json.as_bytes())
            .unwrap_err()
            .to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn another_shape_of_a_table_starts_another_object() {
    let mut buffer = buffer_with_a_row();
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
    let mut buffer = buffer_with_a_row();
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
        ("ftap.previous_lsn", "0/0"),
        ("ftap.previous_seq", "0"),
    ];
    let written = written.map(|(key, value)| (key, value.to_owned()));
    assert_eq!(ours.to_pairs(), written);
    let read = |pairs: &[(&'static str, String)]| {
        ChangeFooter::from_pairs(pairs.iter().map(|(k, v)| (*k, Some(v.as_str()))))
    };
    assert_eq!(read(&written), Ok(ours.clone()));
    let earlier = ChangeFooter {
        table_oid: None,
        previous_lsn: None,
        previous_seq: None,
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
        // The newest checkpoint, and what the slot has confirmed.
        let mut recorded = Resume::default();
        let mut confirmed = Lsn(0);
        let last = (usize::MAX, usize::MAX, true);
        for (steps, puts, acknowledges) in sessions.into_iter().chain([last]) {
            let mut resume = recorded.clone();
            for file in lake.values() {
                let end = resume.ends.get(&file.footer.table);
                if end.is_none_or(|end| file.footer.first() > *end) {
                    let objects = resume.unrecorded.entry(file.footer.table.clone());
                    objects.or_default().push(file.footer.clone());
                }
            }
            for objects in resume.unrecorded.values_mut() {
                objects.sort_by_key(ChangeFooter::first);
            }
            let mut buffer = resuming(max_rows, resume);
            let mut left = puts;
            let start = confirmed;
            let mut put = |flush: Flush| {
                for file in &flush.files {
                    if left == 0 {
                        return false;
                    }
                    left -= 1;
                    let there = lake.insert(file.name.key(), file.clone());
                    assert!(there.is_none(), "{} is put twice", file.name);
                }
                let Some(proof) = flush.proof.filter(|p| p.witness.lsn > recorded.confirmed) else {
                    return true;
                };
                if left == 0 {
                    return false;
                }
                recorded = Resume {
                    confirmed: proof.witness.lsn,
                    awaited: [proof.witness].into_iter().chain(proof.partial).collect(),
                    ends: proof.ends,
                    ..Resume::default()
                };
                if acknowledges {
                    confirmed = recorded.confirmed;
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
                prop_assert_eq!(pair[1].footer.previous(), Some(pair[0].footer.last()));
            }
        }
    }
}
