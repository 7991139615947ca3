//! The history of a user or a merchant: what each captured change made of it, and the newest changes of all.
//!
//! The versions are those of `dim_users_history`, made from the changes themselves, which also have the commits and
//! every column that the table has had.

use std::collections::HashMap;
use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use hyper::StatusCode;
use serde::Deserialize;
use serde_json::Value;

use super::{Frame, page};
use crate::Dashboard;
use crate::cards::{CardError, answers};
use crate::filters::literal;
use crate::router::{self, Answer, Asked};
use crate::rows::{Rows, plain};

pub(crate) const ADDRESS: &str = "/changes";
/// Newest changes of all.
const NEWEST: usize = 30;
/// Changes of one user or merchant.
const MAX_CHANGES: usize = 1_000;
const MAX_FOUND: usize = 50;

/// A captured table.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Table {
    /// Part of addresses.
    name: &'static str,
    one: &'static str,
    changes: &'static str,
    key: &'static str,
    /// What else a search looks through, and shows, if the table has a name.
    text: Option<&'static str>,
}

const TABLES: [Table; 2] = [
    Table {
        name: "users",
        one: "user",
        changes: "users_changes",
        key: "user_id",
        text: Some("first_name || ' ' || last_name"),
    },
    Table {
        name: "merchants",
        one: "merchant",
        changes: "merchants_changes",
        key: "merchant",
        text: None,
    },
];

/// As in the address.
#[derive(Default, Deserialize)]
pub(crate) struct Wanted {
    #[serde(default)]
    of: String,
    /// What is searched for.
    #[serde(default)]
    q: String,
    /// Whose history is shown.
    #[serde(default)]
    key: String,
}

/// One change of one row.
#[derive(Debug, PartialEq, Eq)]
struct Change {
    key: String,
    what: What,
    /// When it was committed; `None` where the file does not say.
    at: Option<String>,
    /// Until the next change; `None` for what is still so.
    until: Option<String>,
    is_first: bool,
    commit: Commit,
    differences: Vec<Difference>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Commit {
    lsn: i64,
    seq: i64,
    epoch: i64,
    /// `None` in a snapshot.
    transaction: Option<i64>,
}

impl Commit {
    /// As PostgreSQL writes it.
    fn position(&self) -> String {
        format!("{:X}/{:X}", self.lsn >> 32, self.lsn & 0xffff_ffff)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum What {
    /// The row is there, by `snapshot`, `insert` or `update`.
    State(String),
    Deleted,
    Truncated,
    /// From then on it has another key.
    Renamed(String),
}

impl What {
    fn text(&self) -> String {
        match self {
            Self::State(operation) => operation.clone(),
            Self::Deleted => "delete".to_owned(),
            Self::Truncated => "truncate: all rows were removed".to_owned(),
            Self::Renamed(key) => format!("update: the key became {key}"),
        }
    }

    fn is_state(&self) -> bool {
        matches!(self, Self::State(_))
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Difference {
    column: String,
    /// `None` for NULL, or where there was no row.
    before: Option<String>,
    after: Option<String>,
}

struct Found {
    key: String,
    text: String,
    changes: String,
    last: String,
}

enum Shown {
    /// Nothing is captured.
    Nothing,
    /// What the lake is asked can't be answered.
    Problem(String),
    Found(Vec<Found>),
    /// Newest first.
    History {
        changes: Vec<Change>,
        is_cut: bool,
    },
    /// Newest first; rows of the first copy are none.
    Newest {
        changes: Vec<(Table, Change)>,
        copied: String,
    },
}

#[derive(Template)]
#[template(path = "changes.html")]
struct ChangesPage {
    frame: Frame,
    table: Table,
    wanted: Wanted,
    shown: Shown,
}

impl ChangesPage {
    fn tables(&self) -> impl Iterator<Item = (Table, bool)> {
        let chosen = self.table;
        TABLES
            .into_iter()
            .map(move |table| (table, table == chosen))
    }
}

pub(crate) async fn show(
    State(dashboard): State<Arc<Dashboard>>,
    Asked(wanted): Asked<Wanted>,
) -> Answer {
    let table = TABLES.iter().find(|table| table.name == wanted.of);
    let table = match (table, wanted.of.as_str()) {
        (Some(table), _) => *table,
        (None, "") => TABLES[0],
        (None, _) => {
            return router::plain(StatusCode::BAD_REQUEST, "of: expected users or merchants");
        }
    };
    let shown = shown(&dashboard, table, &wanted).await;
    page(&ChangesPage {
        frame: Frame::of(&dashboard, ADDRESS),
        table,
        wanted,
        shown: shown.unwrap_or_else(|error| Shown::Problem(error.to_string())),
    })
}

async fn shown(dashboard: &Dashboard, table: Table, wanted: &Wanted) -> Result<Shown, CardError> {
    if !wanted.key.is_empty() {
        let key = wanted.key.as_str();
        let rows = rows_of(dashboard, table, &[key], MAX_CHANGES).await?;
        let is_cut = rows.cut || rows.rows.len() >= MAX_CHANGES;
        let mut changes = history(&rows, table.key, key);
        if is_cut && let Some(oldest) = changes.first_mut() {
            oldest.is_first = false;
        }
        changes.reverse();
        return Ok(Shown::History { changes, is_cut });
    }
    if !wanted.q.trim().is_empty() {
        return found(dashboard, table, wanted.q.trim()).await;
    }
    match wanted.of.as_str() {
        "" => newest(dashboard, &TABLES).await,
        _ => newest(dashboard, &[table]).await,
    }
}

/// The changes of some rows, oldest first; of each the newest `limit`, and those that all rows share.
async fn rows_of(
    dashboard: &Dashboard,
    table: Table,
    keys: &[&str],
    limit: usize,
) -> Result<Rows, CardError> {
    let Table { changes, key, .. } = table;
    let keys: Vec<_> = keys.iter().map(|key| literal(key)).collect();
    let keys = keys.join(", ");
    let sql = format!(
        "select * from (select *, row_number() over (partition by {key} \
         order by _epoch desc, _commit_lsn desc, _seq desc) as _from_last \
         from {changes} where _op = 'truncate' or {key} in ({keys}) or json_text(_before, '{key}') in ({keys})) as mine \
         where _from_last <= {limit} order by _epoch, _commit_lsn, _seq"
    );
    Ok(answers(dashboard)?.once(sql, 2 * MAX_CHANGES).await?)
}

async fn found(dashboard: &Dashboard, table: Table, text: &str) -> Result<Shown, CardError> {
    let Table {
        changes,
        key,
        text: more,
        ..
    } = table;
    let more = more.unwrap_or("cast(null as varchar)");
    let text = literal(&text.to_lowercase());
    let sql = format!(
        "select {key} as key, max({more}) as text, count(case when _op <> 'snapshot' then 1 end) as changes, max(_commit_time) as last \
         from {changes} where {key} is not null group by {key} \
         having max(case when strpos(lower({key}), {text}) > 0 or strpos(lower({more}), {text}) > 0 then 1 else 0 end) = 1 \
         order by changes desc, {key} limit {MAX_FOUND}"
    );
    let rows = answers(dashboard)?.once(sql, MAX_FOUND).await?;
    let [keys, texts, counts, last] =
        ["key", "text", "changes", "last"].map(|name| rows.texts(name).into_iter());
    let found = keys.zip(texts).zip(counts).zip(last);
    let found = found.map(|(((key, text), changes), last)| Found {
        key,
        text,
        changes,
        last: time(&last),
    });
    Ok(Shown::Found(found.collect()))
}

async fn newest(dashboard: &Dashboard, tables: &[Table]) -> Result<Shown, CardError> {
    let one = |table: &Table| {
        let Table {
            name, key, changes, ..
        } = table;
        format!(
            "select '{name}' as name, {key} as key, _op, _epoch, _commit_lsn, _seq, _commit_time from {changes}"
        )
    };
    let all = tables
        .iter()
        .map(one)
        .collect::<Vec<_>>()
        .join(" union all ");
    let copied = format!(
        "select name, count(*) as n, max(_commit_time) as at from ({all}) as changes where _op = 'snapshot' group by 1 order by 1 desc"
    );
    let answers = answers(dashboard)?;
    let copied = answers.once(copied, TABLES.len()).await?;
    let sql = format!(
        "select * from ({all}) as changes where _op not in ('snapshot', 'truncate') \
         order by _epoch desc, _commit_lsn desc, _seq desc limit {NEWEST}"
    );
    let newest = answers.once(sql, NEWEST).await?;
    if copied.rows.is_empty() && newest.rows.is_empty() {
        return Ok(Shown::Nothing);
    }
    let mut places: HashMap<(i64, i64, i64), usize> = HashMap::new();
    for (index, place) in places_of(&newest).enumerate() {
        places.insert(place, index);
    }
    let mut changes = Vec::new();
    for table in tables.iter().copied() {
        let names = newest.texts("name").into_iter().zip(newest.texts("key"));
        let mut keys: Vec<_> = names
            .filter(|(name, _)| name == table.name)
            .map(|(_, key)| key)
            .collect();
        keys.sort();
        keys.dedup();
        if keys.is_empty() {
            continue;
        }
        let keys: Vec<_> = keys.iter().map(String::as_str).collect();
        let rows = rows_of(dashboard, table, &keys, NEWEST + 2).await?;
        for key in keys {
            for change in history(&rows, table.key, key) {
                let place = (change.commit.epoch, change.commit.lsn, change.commit.seq);
                if let Some(index) = places.get(&place) {
                    changes.push((*index, table, change));
                }
            }
        }
    }
    changes.sort_by_key(|(index, ..)| *index);
    let names = copied.texts("name").into_iter().zip(copied.texts("n"));
    let names = names.zip(copied.texts("at"));
    let copied: Vec<_> = names
        .map(|((name, count), at)| format!("{count} {name} on {}", time(&at)))
        .collect();
    Ok(Shown::Newest {
        changes: changes
            .into_iter()
            .map(|(_, table, change)| (table, change))
            .collect(),
        copied: copied.join(", "),
    })
}

fn places_of(rows: &Rows) -> impl Iterator<Item = (i64, i64, i64)> {
    let [epochs, positions, numbers] =
        ["_epoch", "_commit_lsn", "_seq"].map(|name| rows.integers(name).into_iter());
    epochs
        .zip(positions)
        .zip(numbers)
        .map(|((epoch, lsn), seq)| {
            (
                epoch.unwrap_or_default(),
                lsn.unwrap_or_default(),
                seq.unwrap_or_default(),
            )
        })
}

/// What the changes, in their order, made of the row with a key. A snapshot that repeats a state adds none.
fn history(rows: &Rows, key_column: &str, key: &str) -> Vec<Change> {
    let columns: Vec<_> = rows
        .columns
        .iter()
        .map(|column| column.name.as_str())
        .collect();
    let keys = rows.texts(key_column);
    let [operations, times, before, unchanged] =
        ["_op", "_commit_time", "_before", "_unchanged"].map(|name| rows.texts(name));
    let transactions = rows.integers("_xid");
    let mut state: Option<Vec<Value>> = None;
    let mut changes: Vec<Change> = Vec::new();
    // Clocks may be set back, positions never are.
    let mut latest = String::new();
    for (index, (epoch, lsn, seq)) in places_of(rows).enumerate() {
        let row = &rows.rows[index];
        let is_mine = keys[index] == key;
        let (what, next) = match operations[index].as_str() {
            "truncate" => (What::Truncated, None),
            "delete" if is_mine => (What::Deleted, None),
            operation if is_mine && operation != "delete" => {
                let kept = list_of(&unchanged[index]);
                let next = columns.iter().zip(row).enumerate();
                let next = next.map(|(at, (column, value))| {
                    let earlier = state.as_ref().and_then(|state| state.get(at));
                    match earlier {
                        Some(earlier) if kept.iter().any(|name| name == column) => earlier.clone(),
                        _ => value.clone(),
                    }
                });
                (What::State(operation.to_owned()), Some(next.collect()))
            }
            _ if field_of(&before[index], key_column).as_deref() == Some(key) => {
                (What::Renamed(keys[index].clone()), None)
            }
            _ => continue,
        };
        let differences = differences(&columns, state.as_deref(), next.as_deref());
        let repeats = operations[index] == "snapshot" && differences.is_empty();
        if (state.is_none() && next.is_none()) || (state.is_some() && repeats) {
            continue;
        }
        let at = Some(times[index].clone()).filter(|at| !at.is_empty());
        if let Some(at) = &at
            && *at > latest
        {
            latest.clone_from(at);
        }
        let at = at.map(|_| time(&latest));
        if let Some(last) = changes.last_mut().filter(|last| last.what.is_state()) {
            last.until.clone_from(&at);
        }
        changes.push(Change {
            key: key.to_owned(),
            what,
            at,
            until: None,
            is_first: changes.is_empty(),
            commit: Commit {
                lsn,
                seq,
                epoch,
                transaction: transactions[index],
            },
            differences: if next.is_some() {
                differences
            } else {
                Vec::new()
            },
        });
        state = next;
    }
    changes
}

/// Of the table's own columns.
fn differences(
    columns: &[&str],
    before: Option<&[Value]>,
    after: Option<&[Value]>,
) -> Vec<Difference> {
    let text = |state: Option<&[Value]>, at: usize| {
        let value = state?.get(at)?;
        (!value.is_null()).then(|| plain(value))
    };
    let all = columns.iter().enumerate();
    let all = all.filter(|(_, column)| !is_about_the_change(column));
    all.map(|(at, column)| Difference {
        column: (*column).to_owned(),
        before: text(before, at),
        after: text(after, at),
    })
    .filter(|difference| difference.before != difference.after)
    .collect()
}

/// The columns that `docs/DATA.md` and the engine add to the table's.
fn is_about_the_change(column: &str) -> bool {
    const NAMES: [&str; 11] = [
        "_file",
        "_op",
        "_commit_lsn",
        "_commit_time",
        "_xid",
        "_seq",
        "_epoch",
        "_before",
        "_unchanged",
        "_exact",
        "_from_last",
    ];
    NAMES.contains(&column)
}

fn list_of(json: &str) -> Vec<String> {
    serde_json::from_str(json).unwrap_or_default()
}

fn field_of(json: &str, field: &str) -> Option<String> {
    let object: Value = serde_json::from_str(json).ok()?;
    Some(object.get(field)?.as_str()?.to_owned())
}

/// `2019-01-01T00:00:00.123456Z` for people, to the second.
fn time(text: &str) -> String {
    let text = text.trim_end_matches('Z');
    let seconds = text.split('.').next().unwrap_or_default();
    seconds.replace('T', " ")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;
    use crate::rows::Column;

    const COLUMNS: [&str; 10] = [
        "user_id",
        "city",
        "job",
        "_op",
        "_commit_lsn",
        "_commit_time",
        "_seq",
        "_epoch",
        "_before",
        "_unchanged",
    ];

    fn rows(rows: Value) -> Rows {
        let columns = COLUMNS.iter().map(|name| Column {
            name: (*name).to_owned(),
            is_number: false,
        });
        Rows {
            columns: columns.collect(),
            rows: serde_json::from_value(rows).unwrap(),
            cut: false,
        }
    }

    fn described(changes: &[Change]) -> Vec<String> {
        let line = |change: &Change| {
            let differences: Vec<_> = change
                .differences
                .iter()
                .map(|d| format!(" {}:{:?}>{:?}", d.column, d.before, d.after))
                .collect();
            let until = change.until.as_deref().unwrap_or("-");
            let at = change.at.as_deref().unwrap_or("-");
            format!(
                "{} {at}..{until}{}",
                change.what.text(),
                differences.concat()
            )
        };
        changes
            .iter()
            .map(line)
            .map(|line| line.replace("Some(\"", "").replace("\")", ""))
            .collect()
    }

    #[test]
    fn changes_become_versions_and_ends() {
        let rows = rows(json!([
            ["u", "Oslo", "baker", "snapshot", 1, "1", 0, 1, null, null],
            ["u", "Rome", null, "update", 2, "3", 1, 1, null, "[\"job\"]"],
            ["v", "Bonn", null, "update", 2, "3", 2, 1, null, null],
            // A clock that was set back.
            ["u", "Rome", "smith", "update", 3, "2", 1, 1, null, null],
            // Copied again.
            ["u", "Rome", "smith", "snapshot", 4, "4", 0, 2, null, null],
            ["u", null, null, "delete", 5, "5", 1, 2, null, null],
            ["u", null, null, "delete", 5, "5", 1, 2, null, null],
            ["u", "Kiel", null, "insert", 6, "6", 1, 2, null, null],
            [
                "w",
                "Kiel",
                null,
                "update",
                7,
                "7",
                1,
                2,
                "{\"user_id\":\"u\"}",
                null
            ],
            [null, null, null, "truncate", 8, "8", 1, 2, null, null],
        ]));
        assert_eq!(
            described(&history(&rows, "user_id", "u")),
            [
                "snapshot 1..3 user_id:None>u city:None>Oslo job:None>baker",
                "update 3..3 city:Oslo>Rome",
                "update 3..5 job:baker>smith",
                "delete 5..-",
                "insert 6..7 user_id:None>u city:None>Kiel",
                "update: the key became w 7..-",
            ]
        );
        assert_eq!(
            described(&history(&rows, "user_id", "w")),
            [
                "update 7..8 user_id:None>w city:None>Kiel",
                "truncate: all rows were removed 8..-",
            ]
        );
        assert!(history(&rows, "user_id", "unknown").is_empty());
    }

    #[test]
    fn positions_are_postgresqls() {
        let commit = Commit {
            lsn: (0x16 << 32) + 0xb374_d848,
            seq: 1,
            epoch: 1,
            transaction: None,
        };
        assert_eq!(commit.position(), "16/B374D848");
        assert_eq!(time("2019-01-01T00:00:01.5Z"), "2019-01-01 00:00:01");
    }
}
