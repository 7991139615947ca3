//! The captured tables as the catalogue and the stream describe them.
//!
//! Promises: a captured table stays captured under any name or schema; one that was dropped and
//! recreated is an error, because nothing in the stream says that its old rows are gone; other
//! columns, rewritten ones and another name are reported once, by whichever shows them first. Pure.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use ftap_telemetry::events::{CapturedTableRenamed, Speaker, TableColumnsChanged};

use crate::SCHEMA;
use crate::catalog::{Catalog, Shape, TableState};
use crate::chain::{PlanError, same_table};
use crate::schema::Table;

#[derive(Debug)]
pub(super) enum Report {
    Columns(TableColumnsChanged),
    Renamed(CapturedTableRenamed),
}

impl Report {
    pub(super) fn emit(self, speaker: Speaker) {
        match self {
            Self::Columns(event) => event.emit(speaker),
            Self::Renamed(event) => event.emit(speaker),
        }
    }
}

/// See the module.
pub(super) struct KnownTables {
    catalog: Catalog,
    oids: BTreeMap<String, u32>,
    /// By table: the shape that was met last, and all that need not be reported.
    last: BTreeMap<String, Shape>,
    known: BTreeMap<String, HashSet<Shape>>,
}

impl KnownTables {
    /// What is known from the last checkpoint.
    pub(super) fn new(catalog: Catalog) -> Self {
        let mut known = Self {
            oids: BTreeMap::new(),
            last: BTreeMap::new(),
            known: BTreeMap::new(),
            catalog: Catalog::default(),
        };
        for (table, state) in &catalog.tables {
            known.oids.insert(table.clone(), state.oid);
            known.note(table, state.shape());
        }
        known.catalog = catalog;
        known
    }

    /// The catalogue as it was looked at last.
    pub(super) fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    fn note(&mut self, table: &str, shape: Shape) {
        let known = self.known.entry(table.to_owned()).or_default();
        known.insert(shape.clone());
        self.last.insert(table.to_owned(), shape);
    }

    fn is_known(&self, table: &str, shape: &Shape) -> bool {
        let known = self.known.get(table);
        known.is_some_and(|known| known.contains(shape))
    }

    /// Takes what the stream says of a table; returns the table under the name by which it is
    /// captured, and what must be reported.
    pub(super) fn meet(
        &mut self,
        table: &Arc<Table>,
    ) -> Result<(Arc<Table>, Option<Report>), PlanError> {
        let mut by_oid = self.oids.iter();
        let name = by_oid.find_map(|(name, oid)| (*oid == table.oid).then(|| name.clone()));
        let table = match name {
            Some(name) => Arc::new(Table {
                schema: SCHEMA.to_owned(),
                name,
                ..Table::clone(table)
            }),
            None => Arc::clone(table),
        };
        if !table.is_captured() {
            return Ok((table, None));
        }
        same_table(&self.oids, &table.name, table.oid)?;
        self.oids.insert(table.name.clone(), table.oid);
        let shape: Shape = table
            .columns
            .iter()
            .map(|column| (column.name.clone(), column.type_oid))
            .collect();
        let before = self.last.get(&table.name);
        let report = match before {
            Some(before) if !self.is_known(&table.name, &shape) => {
                let before = before.clone();
                Some(Report::Columns(changed(&table.name, &before, &shape, &[])))
            }
            _ => None,
        };
        self.note(&table.name, shape);
        Ok((table, report))
    }

    /// Takes the catalogue; returns what must be reported.
    pub(super) fn look(&mut self, now: Catalog) -> Vec<Report> {
        let mut reports = Vec::new();
        let before = std::mem::replace(&mut self.catalog, now.clone());
        for (table, state) in &now.tables {
            let Some(old) = before.tables.get(table) else {
                self.note(table, state.shape());
                continue;
            };
            if state.name != old.name {
                reports.push(Report::Renamed(CapturedTableRenamed {
                    table: table.clone(),
                    name: state.name.clone(),
                }));
            }
            reports.extend(self.columns(table, old, state).map(Report::Columns));
            self.note(table, state.shape());
        }
        reports
    }

    fn columns(
        &self,
        table: &str,
        old: &TableState,
        new: &TableState,
    ) -> Option<TableColumnsChanged> {
        let rewritten = new.rewritten_since(old);
        let is_other = old.shape() != new.shape() && !self.is_known(table, &new.shape());
        (is_other || !rewritten.is_empty())
            .then(|| changed(table, &old.shape(), &new.shape(), &rewritten))
    }
}

fn changed(table: &str, old: &Shape, new: &Shape, rewritten: &[&str]) -> TableColumnsChanged {
    let names = |of: &Shape, others: &Shape| {
        let columns = of.iter();
        columns
            .filter(|column| !others.contains(column) || rewritten.contains(&column.0.as_str()))
            .map(|(name, _)| name.clone())
            .collect()
    };
    TableColumnsChanged {
        table: table.to_owned(),
        gone: names(old, new),
        new: names(new, old),
        remedy: "rows that are not changed again keep their old columns in the lake: `ftap cdc --resnapshot` copies the tables again, if that matters".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::catalog::ColumnState;
    use crate::schema::Column;

    fn table(oid: u32, name: &str, columns: &[(&str, u32)]) -> Arc<Table> {
        let column = |(name, type_oid): &(&str, u32)| Column {
            name: (*name).to_owned(),
            type_oid: *type_oid,
            type_modifier: -1,
            is_key: false,
        };
        Arc::new(Table {
            oid,
            schema: "public".to_owned(),
            name: name.to_owned(),
            columns: columns.iter().map(column).collect(),
        })
    }

    fn catalog(name: &str, relfilenode: u32, columns: &[(&str, u32, u32)]) -> Catalog {
        let columns = columns.iter().zip(1..);
        let state = TableState {
            oid: 7,
            name: name.to_owned(),
            relfilenode,
            columns: columns
                .map(|((name, type_oid, xmin), number)| ColumnState {
                    name: (*name).to_owned(),
                    number,
                    type_oid: *type_oid,
                    type_modifier: -1,
                    xmin: *xmin,
                })
                .collect(),
            ..TableState::default()
        };
        Catalog {
            tables: BTreeMap::from([("users".to_owned(), state)]),
            ..Catalog::default()
        }
    }

    fn columns(report: &Report) -> [String; 2] {
        match report {
            Report::Columns(event) => [event.gone.join(", "), event.new.join(", ")],
            Report::Renamed(_) => panic!("{report:?}"),
        }
    }

    #[test]
    fn columns_that_change_are_reported_once_by_whichever_shows_them_first() {
        let first = [("a", 25, 1), ("b", 23, 1)];
        let second = [("a", 25, 1), ("b", 20, 2), ("c", 25, 2)];
        let streamed = table(7, "users", &[("a", 25), ("b", 20), ("c", 25)]);
        for stream_first in [true, false] {
            let mut known = KnownTables::new(catalog("public.users", 1, &first));
            let old = table(7, "users", &[("a", 25), ("b", 23)]);
            assert!(known.meet(&old).unwrap().1.is_none());
            let mut reports = Vec::new();
            if stream_first {
                reports.extend(known.meet(&streamed).unwrap().1);
                reports.extend(known.look(catalog("public.users", 1, &second)));
            } else {
                reports.extend(known.look(catalog("public.users", 1, &second)));
                // What is still to be read has the old columns first.
                reports.extend(known.meet(&old).unwrap().1);
                reports.extend(known.meet(&streamed).unwrap().1);
            }
            let reports: Vec<_> = reports.iter().map(columns).collect();
            assert_eq!(reports, [["b", "b, c"]]);
        }
    }

    #[test]
    fn a_rewrite_without_another_type_is_reported_and_a_new_file_alone_is_not() {
        let mut known = KnownTables::new(catalog("public.users", 1, &[("a", 25, 1)]));
        let full_vacuum = catalog("public.users", 2, &[("a", 25, 1)]);
        assert!(known.look(full_vacuum).is_empty());
        let not_null = catalog("public.users", 2, &[("a", 25, 2)]);
        assert!(known.look(not_null).is_empty());
        let rewritten = known.look(catalog("public.users", 3, &[("a", 25, 3)]));
        assert_eq!(columns(&rewritten[0]), ["a", "a"]);
    }

    #[test]
    fn a_table_is_known_by_its_oid_whatever_its_name() {
        let mut known = KnownTables::new(catalog("public.users", 1, &[("a", 25, 1)]));
        let (met, report) = known.meet(&table(7, "users_x", &[("a", 25)])).unwrap();
        assert_eq!((met.name.as_str(), report.is_none()), ("users", true));
        let reports = known.look(catalog("other.users_x", 1, &[("a", 25, 1)]));
        let [Report::Renamed(event)] = reports.as_slice() else {
            panic!("{reports:?}");
        };
        assert_eq!(event.name, "other.users_x");
        let (met, _) = known.meet(&table(8, "users_y", &[("a", 25)])).unwrap();
        assert!(!met.is_captured());
        let error = known.meet(&table(8, "users", &[("a", 25)])).unwrap_err();
        assert!(error.to_string().contains("--resnapshot"), "{error}");
    }
}
