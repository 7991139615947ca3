#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use ftap_lake::{Compression, Position};

use super::visibility::Visibility;
use super::*;
use crate::file::{ChangeFileBuilder, Commit, Origin};
use crate::footer::Content;
use crate::schema::{Column, Table};
use crate::source::{Cell, Change, Tuple};

fn columns(columns: &[(&str, u32)]) -> Vec<Column> {
    let column = |(name, type_oid): &(&str, u32)| Column {
        name: (*name).to_owned(),
        type_oid: *type_oid,
        type_modifier: -1,
        is_key: *name == "id",
    };
    columns.iter().map(column).collect()
}

/// `-` is a value that the server left out.
fn row(cells: &[Option<&str>]) -> Tuple {
    let cell = |cell: &Option<&str>| match cell {
        None => Cell::Null,
        Some("-") => Cell::NotSent,
        Some(text) => Cell::Text((*text).into()),
    };
    Tuple(cells.iter().map(cell).collect())
}

/// A file of changes, each a transaction of its own; the first has this number.
fn file(columns_then: &[Column], first: u32, changes: &[Change]) -> bytes::Bytes {
    let table = Arc::new(Table {
        oid: 7,
        schema: "public".to_owned(),
        name: "users".to_owned(),
        columns: columns_then.to_vec(),
    });
    let origin = Origin {
        system: "1".into(),
        slot: "s".into(),
        writer_id: "w".into(),
        epoch: 1,
        compression: Compression::Zstd(1),
    };
    let at = |xid: u32| Position {
        lsn: Lsn(u64::from(xid) * 100),
        seq: 1,
    };
    let commit = |xid| Commit {
        time_us: 0,
        xid: Some(xid),
    };
    let before = Position::default();
    let mut file =
        ChangeFileBuilder::changes(table, origin, before, at(first), commit(first)).unwrap();
    for (change, xid) in changes.iter().zip(first..) {
        file.append(change, at(xid), commit(xid)).unwrap();
    }
    file.close(Content::Changes, false).unwrap().bytes
}

fn insert(cells: &[Option<&str>]) -> Change {
    Change::Insert { after: row(cells) }
}

fn update(before: Option<&[Option<&str>]>, cells: &[Option<&str>]) -> Change {
    Change::Update {
        before: before.map(row),
        after: row(cells),
    }
}

fn on_server(shape: &Shape, rows: &[&[Option<&str>]]) -> Rows {
    let pair = |row: &&[Option<&str>]| {
        let values = shape.columns.iter().zip(*row);
        let values = values.map(|(column, text)| column.of_server(*text));
        (shape.key(|index| row[index]).unwrap(), values.collect())
    };
    rows.iter().map(pair).collect()
}

fn replay(shape: &Shape, files: Vec<bytes::Bytes>) -> (Rows, u64) {
    let visibility = Visibility::parse("1:100:50", Lsn(20_000)).unwrap();
    let mut replay = Replay::new(shape, &visibility);
    for file in files {
        replay.file(file).unwrap();
    }
    (replay.rows, replay.changes)
}

fn compare(shape: &Shape, lake: &Rows, server: &Rows) -> Figures {
    Figures::default().of(shape, lake, server, |_| false)
}

#[test]
fn values_of_every_type_equal_those_that_the_server_writes() {
    let types = [
        ("id", 23),
        ("flag", 16),
        ("large", 20),
        ("real", 700),
        ("double", 701),
        ("number", 1700),
        ("day", 1082),
        ("time", 1114),
        ("instant", 1184),
        ("text", 25),
        // Its name in the lake is another one.
        ("_op", 25),
    ];
    let columns = columns(&types);
    let shape = Shape::new(columns.clone());
    let rows: [&[Option<&str>]; 3] = [
        &[
            Some("1"),
            Some("t"),
            Some("-9007199254740993"),
            Some("1.5e-30"),
            Some("1e+20"),
            Some("1.10"),
            Some("2026-11-22"),
            Some("2026-11-22 23:59:59.25"),
            Some("2026-11-22 00:00:00+00"),
            Some(""),
            Some("x"),
        ],
        &[
            Some("2"),
            Some("f"),
            Some("0"),
            Some("NaN"),
            Some("-0"),
            Some("0.25"),
            Some("infinity"),
            Some("0044-03-15 00:00:00 BC"),
            Some("-infinity"),
            Some("東京"),
            None,
        ],
        &[
            Some("3"),
            None,
            None,
            None,
            Some("Infinity"),
            Some("12345678901234567890.5"),
            None,
            None,
            None,
            None,
            None,
        ],
    ];
    let changes = rows.map(insert);
    let (lake, _) = replay(&shape, vec![file(&columns, 1, &changes)]);
    let server = on_server(&shape, &rows);
    let same = compare(&shape, &lake, &server);
    assert_eq!((same.differing, same.earlier_form), (0, 0), "{same:?}");
    assert_eq!((same.replayed, same.in_postgres), (3, 3));
    // Each value counts.
    for index in 1..types.len() {
        for other in [Some("1999-01-01"), None] {
            let mut altered = rows[0].to_vec();
            altered[index] = other;
            let server = on_server(&shape, &[&altered, rows[1], rows[2]]);
            let found = compare(&shape, &lake, &server);
            let how = DifferenceKind::Values(vec![types[index].0.to_owned()]);
            let key = "1".to_owned();
            assert_eq!(found.named, BTreeSet::from([Difference { key, how }]));
        }
    }
}

#[test]
fn changes_are_applied_in_order_with_what_the_server_left_out() {
    let columns = columns(&[("id", 25), ("a", 25), ("b", 25)]);
    let shape = Shape::new(columns.clone());
    let [a, b, c, d] = ["a", "b", "c", "d"].map(Some);
    let left_out = Some("-");
    let first = [
        insert(&[d, a, b]),
        Change::Truncate,
        insert(&[a, a, b]),
        insert(&[b, a, b]),
        insert(&[c, a, b]),
    ];
    let second = [
        // A value that is left alone goes with its row to the new key, and stays NULL where it was.
        update(None, &[a, None, left_out]),
        update(Some(&[a, left_out, left_out]), &[d, left_out, left_out]),
        update(Some(&[b, left_out, left_out]), &[a, d, left_out]),
        Change::Delete {
            before: row(&[c, left_out, left_out]),
        },
        // With the whole row as its identity.
        update(Some(&[a, d, b]), &[a, d, d]),
    ];
    let files = vec![file(&columns, 1, &first), file(&columns, 10, &second)];
    let (lake, changes) = replay(&shape, files);
    assert_eq!(changes, 10);
    let server = on_server(&shape, &[&[d, None, b], &[a, d, d]]);
    let same = compare(&shape, &lake, &server);
    assert_eq!((same.differing, same.replayed), (0, 2), "{same:?}");
}

#[test]
fn what_the_snapshot_does_not_show_is_left_out() {
    let columns = columns(&[("id", 25)]);
    let shape = Shape::new(columns.clone());
    let keys = |first: u32, keys: &[&str]| {
        let changes: Vec<_> = keys.iter().map(|key| insert(&[Some(key)])).collect();
        file(&columns, first, &changes)
    };
    // 50 had not ended, and 100 was the next number.
    let files = vec![
        keys(49, &["49", "50", "51"]),
        keys(99, &["99", "100", "101"]),
    ];
    let (lake, changes) = replay(&shape, files);
    let mut keys: Vec<_> = lake.keys().map(|key| &**key).collect();
    keys.sort_unstable();
    assert_eq!((keys, changes), (vec!["49", "51", "99"], 3));
}

#[test]
fn columns_in_an_earlier_form_differ_in_nothing_else() {
    let then = columns(&[("id", 25), ("a", 23)]);
    let now = Shape::new(columns(&[("id", 25), ("a", 25), ("b", 25)]));
    let changes = ["x", "y", "z"].map(|id| insert(&[Some(id), Some("1")]));
    let (lake, _) = replay(&now, vec![file(&then, 1, &changes)]);
    let server = on_server(
        &now,
        &[
            // The same; another type of the same text; another value of a new column.
            &[Some("x"), Some("1"), None],
            &[Some("y"), Some("one"), None],
            &[Some("z"), Some("1"), Some("default")],
        ],
    );
    let found = compare(&now, &lake, &server);
    assert_eq!((found.differing, found.earlier_form), (0, 2), "{found:?}");
}
