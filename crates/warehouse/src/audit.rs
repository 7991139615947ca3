//! Compares what BigQuery has with what the lake has.
//!
//! Promises: rows are counted by the objects' footers, not by what the loads wrote down about
//! them, and by BigQuery itself. Changes nothing.

use std::collections::BTreeMap;

use ftap_lake::{DataSet, LakeStore};
use futures::{StreamExt as _, TryStreamExt as _, stream};

use super::BigQuerySettings;
use super::batch::folder;
use super::error::BigQueryError;
use super::job::{deciding_attempt, id_of};
use super::ledger::{Last, Ledger};
use super::load::read_footer;
use super::warehouse::{Counts, JobState, Warehouse};

/// Footers read side by side.
const FOOTER_READS: usize = 16;

/// What was found about a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableAudit {
    pub table: &'static str,
    /// Objects that were loaded.
    pub objects: u64,
    pub rows: u64,
    /// Objects of a job that may be on its way.
    pub objects_on_the_way: u64,
    pub rows_on_the_way: u64,
    /// Objects that wait for a load.
    pub objects_behind: u64,
    pub rows_behind: u64,
    /// Objects that were loaded and are not in the lake any more; their rows are those that were
    /// written down.
    pub objects_gone: u64,
    /// What BigQuery has, nothing if there is no table.
    pub stored: Counts,
}

impl TableAudit {
    /// Rows that were loaded and are not there.
    pub fn missing(&self) -> u64 {
        self.rows.saturating_sub(self.stored.distinct)
    }

    /// Rows that are there more often than they should.
    pub fn doubled(&self) -> u64 {
        self.stored.rows.saturating_sub(self.stored.distinct)
    }

    /// Different rows that no load brought.
    pub fn foreign(&self) -> u64 {
        let most = self.rows + self.rows_on_the_way;
        self.stored.distinct.saturating_sub(most)
    }

    /// Whether each loaded row is there once, and nothing else is.
    pub fn is_exact(&self) -> bool {
        self.missing() == 0 && self.doubled() == 0 && self.foreign() == 0
    }
}

/// Looks at every table that the lake or BigQuery has anything of.
pub async fn audit(
    warehouse: &dyn Warehouse,
    lake: &LakeStore,
    settings: &BigQuerySettings,
) -> Result<Vec<TableAudit>, BigQueryError> {
    let location = warehouse.dataset_location().await?;
    let mut audits = Vec::new();
    for table in DataSet::loaded() {
        let audit = audit_table(warehouse, lake, settings, table, location.as_deref()).await?;
        audits.push(audit);
    }
    Ok(audits)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    Loaded,
    OnTheWay,
    Behind,
}

async fn audit_table(
    warehouse: &dyn Warehouse,
    lake: &LakeStore,
    settings: &BigQuerySettings,
    table: &'static DataSet,
    location: Option<&str>,
) -> Result<TableAudit, BigQueryError> {
    // The lake's objects before the chain: one that is loaded meanwhile counts as loaded.
    let mut keys = Vec::new();
    let mut objects = lake.list(table.name);
    while let Some(object) = objects.try_next().await? {
        if table.owns(&object.key) {
            keys.push(object.key);
        }
    }
    let mut ledger =
        Ledger::of_all_manifests(folder(&settings.project, &settings.dataset, table.name));
    let mut written_down: BTreeMap<String, u64> = BTreeMap::new();
    ledger
        .refresh(lake, |manifest| {
            let objects = manifest.objects.iter();
            written_down.extend(objects.map(|object| (object.key.clone(), object.rows)));
        })
        .await?;
    let mut on_the_way = Vec::new();
    if let Some(last) = ledger.last().filter(|last| !last.is_done) {
        let is_done = is_loaded(warehouse, last).await?;
        if !is_done {
            on_the_way = last
                .manifest
                .objects
                .iter()
                .map(|object| object.key.clone())
                .collect();
            on_the_way.sort();
        }
    }
    let standing = |key: &String| match () {
        () if on_the_way.binary_search(key).is_ok() => Standing::OnTheWay,
        () if ledger.has(key) => Standing::Loaded,
        () => Standing::Behind,
    };

    let mut audit = TableAudit {
        table: table.name,
        objects: 0,
        rows: 0,
        objects_on_the_way: 0,
        rows_on_the_way: 0,
        objects_behind: 0,
        rows_behind: 0,
        objects_gone: 0,
        stored: Counts::default(),
    };
    let mut footers = stream::iter(keys)
        .map(|key| async move {
            let (rows, _) = read_footer(lake, &key).await?;
            Ok::<_, BigQueryError>((key, rows))
        })
        .buffer_unordered(FOOTER_READS);
    while let Some((key, rows)) = footers.try_next().await? {
        written_down.remove(&key);
        audit.book(standing(&key), rows);
    }
    for (key, rows) in written_down {
        audit.objects_gone += 1;
        audit.book(standing(&key), rows);
    }
    if let Some(location) = location {
        audit.stored = warehouse.count(table, location).await?.unwrap_or_default();
    }
    Ok(audit)
}

impl TableAudit {
    fn book(&mut self, standing: Standing, of_object: u64) {
        let (objects, rows) = match standing {
            Standing::Loaded => (&mut self.objects, &mut self.rows),
            Standing::OnTheWay => (&mut self.objects_on_the_way, &mut self.rows_on_the_way),
            Standing::Behind => (&mut self.objects_behind, &mut self.rows_behind),
        };
        *objects += 1;
        *rows += of_object;
    }
}

/// Whether a manifest that has no mark was loaded all the same.
async fn is_loaded(warehouse: &dyn Warehouse, last: &Last) -> Result<bool, BigQueryError> {
    let attempt = deciding_attempt(warehouse, last).await?;
    let id = id_of(last, attempt);
    let state = warehouse.job(&id, &last.manifest.location).await?;
    Ok(matches!(state, JobState::Done { .. }))
}
