//! The tables as the stream describes them, before each one's first change and whenever it changes.
//!
//! Promises: a table that was dropped and recreated is an error, because nothing in the stream says
//! that its old rows are gone; columns that change while we read are reported once. Pure.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use ftap_telemetry::events::TableColumnsChanged;

use crate::chain::{PlanError, same_table};
use crate::schema::Table;

/// See the module.
pub(super) struct KnownTables {
    oids: BTreeMap<String, u32>,
    shapes: HashMap<String, Arc<Table>>,
}

impl KnownTables {
    /// These object identifiers are known.
    pub(super) fn new(oids: BTreeMap<String, u32>) -> Self {
        Self {
            oids,
            shapes: HashMap::new(),
        }
    }

    /// Takes a description; returns what must be reported.
    pub(super) fn meet(
        &mut self,
        table: &Arc<Table>,
    ) -> Result<Option<TableColumnsChanged>, PlanError> {
        same_table(&self.oids, &table.name, table.oid)?;
        self.oids.insert(table.name.clone(), table.oid);
        let before = self.shapes.insert(table.name.clone(), table.clone());
        Ok(before
            .filter(|before| !before.same_shape(table))
            .map(|before| changed(&before, table)))
    }
}

fn changed(before: &Table, after: &Table) -> TableColumnsChanged {
    let listed = |of: &Table| -> HashSet<(String, u32)> {
        let columns = of.columns.iter();
        columns.map(|c| (c.name.clone(), c.type_oid)).collect()
    };
    let (old, new) = (listed(before), listed(after));
    let names = |table: &Table, others: &HashSet<(String, u32)>| {
        let columns = table.columns.iter();
        columns
            .filter(|c| !others.contains(&(c.name.clone(), c.type_oid)))
            .map(|c| c.name.as_str())
            .collect::<Vec<_>>()
            .join(", ")
    };
    TableColumnsChanged {
        table: after.name.clone(),
        gone: names(before, &new),
        new: names(after, &old),
        remedy: "rows that are not changed again keep their old columns in the lake: `ftap cdc --resnapshot` copies the tables again, if that matters".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::schema::Column;

    fn table(oid: u32, columns: &[(&str, u32)]) -> Arc<Table> {
        let column = |(name, type_oid): &(&str, u32)| Column {
            name: (*name).to_owned(),
            type_oid: *type_oid,
            type_modifier: -1,
            is_key: false,
        };
        Arc::new(Table {
            oid,
            schema: "public".to_owned(),
            name: "users".to_owned(),
            columns: columns.iter().map(column).collect(),
        })
    }

    #[test]
    fn columns_that_change_are_logged_once() {
        let mut known = KnownTables::new(BTreeMap::new());
        let first = table(7, &[("a", 25), ("b", 23)]);
        assert!(known.meet(&first).unwrap().is_none());
        assert!(known.meet(&first).unwrap().is_none());
        let second = table(7, &[("a", 25), ("b", 20), ("c", 25)]);
        let change = known.meet(&second).unwrap().unwrap();
        assert_eq!((change.gone.as_str(), change.new.as_str()), ("b", "b, c"));
        assert!(known.meet(&second).unwrap().is_none());
    }

    #[test]
    fn a_table_that_was_recreated_is_an_error() {
        let mut known = KnownTables::new(BTreeMap::from([("users".to_owned(), 7)]));
        assert!(known.meet(&table(7, &[("a", 25)])).is_ok());
        let error = known.meet(&table(8, &[("a", 25)])).unwrap_err();
        assert!(error.to_string().contains("--resnapshot"), "{error}");
    }
}
