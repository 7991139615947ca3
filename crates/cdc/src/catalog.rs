//! What the server's catalogue says about the captured tables and our publication, and what it
//! means that it says something else than before.
//!
//! Promises: a publication that may have left out changes in between is found however it looks
//! now, because PostgreSQL gives its rows a new OID or a new `xmin` whenever they change. Pure.

use std::collections::BTreeMap;

use ftap_lake::Lsn;
use serde::{Deserialize, Serialize};

/// The catalogue at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Catalog {
    /// Timeline of the server's log.
    pub timeline: u32,
    /// The log was at least as long when this was read.
    pub read_at: Lsn,
    pub publication: Option<PublicationIdentity>,
    /// The captured tables that are there, by the name under which they are captured.
    pub tables: BTreeMap<String, TableState>,
}

/// The row of `pg_publication`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublicationIdentity {
    pub oid: u32,
    /// The transaction that wrote the row.
    pub xmin: u32,
    /// Its other columns, as JSON.
    pub options: String,
}

/// A captured table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableState {
    pub oid: u32,
    /// Its schema and name on the server.
    pub name: String,
    /// Its file on the server: a new one holds rows that were rewritten.
    pub relfilenode: u32,
    /// The published columns.
    pub columns: Vec<ColumnState>,
    /// How it got into the publication; `None` in one of all tables.
    pub publication_entry: Option<PublicationEntry>,
    /// OIDs of its partitions.
    pub partitions: Vec<u32>,
    /// Those of them that were tables of their own before.
    pub attached: Vec<u32>,
}

/// A column of a captured table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ColumnState {
    pub name: String,
    /// Its number: a column that was dropped and added again has another.
    pub number: i16,
    pub type_oid: u32,
    /// Length or precision, as PostgreSQL packs it; -1 for none.
    pub type_modifier: i32,
    /// The transaction that wrote its row of `pg_attribute`.
    pub xmin: u32,
}

/// The row of `pg_publication_rel` or `pg_publication_namespace` that publishes a table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublicationEntry {
    pub oid: u32,
    /// The transaction that wrote it.
    pub xmin: u32,
    /// Of a published schema: the transaction that moved the table into it.
    pub moved_by: Option<u32>,
}

impl Catalog {
    /// What may have kept changes out of the stream since `before`.
    pub fn break_since(&self, before: &Self) -> Option<String> {
        let identity = |publication: &Option<PublicationIdentity>| {
            let publication = publication.as_ref()?;
            Some((publication.oid, publication.xmin))
        };
        if identity(&self.publication) != identity(&before.publication) {
            return Some("the publication was altered or created again".to_owned());
        }
        before.tables.iter().find_map(|(table, before)| {
            let Some(now) = self.tables.get(table).filter(|now| now.oid == before.oid) else {
                return Some(format!("table {table} was dropped"));
            };
            let what = if now.publication_entry != before.publication_entry {
                "was taken out of the publication, or its part in it was altered"
            } else if !is_subset(&before.partitions, &now.partitions) {
                "lost a partition, whose rows the stream does not report as deleted"
            } else if !is_subset(&now.attached, &before.attached) {
                "got a partition with rows of its own, which the stream does not report"
            } else {
                return None;
            };
            Some(format!("table {table} {what}"))
        })
    }

    /// Whether a checkpoint must record it: something but the time of reading is another.
    pub fn differs_from(&self, before: &Self) -> bool {
        let then = Self {
            read_at: self.read_at,
            ..before.clone()
        };
        *self != then
    }
}

fn is_subset(some: &[u32], all: &[u32]) -> bool {
    some.iter().all(|oid| all.contains(oid))
}

impl TableState {
    /// Names and types of its columns.
    pub(crate) fn shape(&self) -> Shape {
        let columns = self.columns.iter();
        columns.map(|c| (c.name.clone(), c.type_oid)).collect()
    }

    /// Columns whose values in all rows may be others than before, though their types are not.
    pub(crate) fn rewritten_since(&self, before: &Self) -> Vec<&str> {
        let same_name = |column: &ColumnState| {
            let mut columns = before.columns.iter();
            columns.find(|old| old.name == column.name && old.type_oid == column.type_oid)
        };
        let is_rewritten = |column: &&ColumnState| {
            same_name(column).is_some_and(|old| {
                let is_file_new = self.relfilenode != before.relfilenode;
                column.number != old.number || (is_file_new && column.xmin != old.xmin)
            })
        };
        let columns = self.columns.iter().filter(is_rewritten);
        columns.map(|column| column.name.as_str()).collect()
    }
}

/// Names and types of a table's columns, in order.
pub(crate) type Shape = Vec<(String, u32)>;
