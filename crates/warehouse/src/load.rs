//! One pass: everything that the lake has and no manifest names goes into BigQuery.
//!
//! Promises: see [`bigquery`](super). A pass may be dropped at any point and done again. The
//! tables are loaded side by side; one that fails does not keep the others from being loaded.

use std::sync::Arc;
use std::time::Instant;

use chrono::{DateTime, Days, Utc};
use ftap_lake::{DataSet, LakeError, LakeStore, date_of_micros};
use ftap_supervision::Retryable as _;
use ftap_telemetry::events::{
    BigQueryLoaded, BigQueryReady, BigQueryRowsDiffer, BigQueryTableCreated, Speaker,
};
use ftap_telemetry::metrics;
use futures::future::join_all;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use parquet::arrow::parquet_to_arrow_schema;

use super::BigQuerySettings;
use super::batch::{
    BatchObject, Done, Manifest, VERSION, done_key, folder, manifest_key, names_key,
};
use super::error::BigQueryError;
use super::ledger::{Last, Ledger, encode_done};
use super::schema::{Column, columns_of, fit, unite};
use super::warehouse::Warehouse;

/// Footers read side by side.
const FOOTER_READS: usize = 16;
/// Where a dataset is created if no location is set.
const DEFAULT_LOCATION: &str = "US";

/// How much of the lake a pass looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    Full,
    /// The folders of today and yesterday, of tables with many objects; of others all, too.
    Recent,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    pub objects: u64,
    pub rows: u64,
}

/// Loads; keeps what it has read of the chains.
pub struct Loader {
    warehouse: Arc<dyn Warehouse>,
    lake: LakeStore,
    settings: Arc<BigQuerySettings>,
    tables: Vec<TableState>,
    /// Where the dataset is, once that is known.
    location: Option<String>,
    speaker: Speaker,
}

/// What is known of a table.
struct TableState {
    table: &'static DataSet,
    ledger: Ledger,
    /// How many objects it has in the lake, by the last look at all of them.
    objects: Option<u64>,
}

/// What a table's load needs beside the table.
pub(super) struct Context<'a> {
    pub(super) warehouse: &'a dyn Warehouse,
    pub(super) lake: &'a LakeStore,
    pub(super) settings: &'a BigQuerySettings,
    pub(super) location: &'a str,
    pub(super) speaker: Speaker,
}

impl Loader {
    /// Nothing is asked yet.
    pub fn new(
        warehouse: Arc<dyn Warehouse>,
        lake: LakeStore,
        settings: Arc<BigQuerySettings>,
        speaker: Speaker,
    ) -> Self {
        for outcome in ["done", "failed"] {
            metrics::BIGQUERY_JOBS.expect_for([outcome]);
        }
        let ledger = |table: &'static DataSet| {
            metrics::BIGQUERY_ROWS.expect_for([table.name]);
            metrics::BIGQUERY_OBJECTS.expect_for([table.name]);
            metrics::BIGQUERY_DIFFERING.expect_for([table.name]);
            let folder = folder(&settings.project, &settings.dataset, table.name);
            TableState {
                table,
                ledger: Ledger::new(folder),
                objects: None,
            }
        };
        Self {
            tables: DataSet::loaded().map(ledger).collect(),
            warehouse,
            lake,
            settings,
            location: None,
            speaker,
        }
    }

    /// Finds the dataset or makes it; the answer is kept.
    pub async fn connect(&mut self) -> Result<String, BigQueryError> {
        if let Some(location) = &self.location {
            return Ok(location.clone());
        }
        let location = find_dataset(&*self.warehouse, &self.settings, self.speaker).await?;
        self.location = Some(location.clone());
        Ok(location)
    }

    /// Loads what is not loaded, table by table. Of several errors the first final one is given.
    pub async fn pass(
        &mut self,
        depth: Depth,
    ) -> Result<Vec<(&'static str, Loaded)>, BigQueryError> {
        let location = self.connect().await?;
        let context = Context {
            warehouse: &*self.warehouse,
            lake: &self.lake,
            settings: &self.settings,
            location: &location,
            speaker: self.speaker,
        };
        let tables = self.tables.iter_mut();
        let loads = tables.map(|state| context.load_table(state, depth));
        let mut loaded = Vec::new();
        let mut first_error: Option<BigQueryError> = None;
        for result in join_all(loads).await {
            match result {
                Ok(table) => loaded.push(table),
                Err(error) => match &first_error {
                    Some(known) if !known.retry().helps() || error.retry().helps() => {}
                    _ => first_error = Some(error),
                },
            }
        }
        match first_error {
            None => Ok(loaded),
            Some(error) => Err(error),
        }
    }
}

/// Where the dataset is; one that is not there is made.
async fn find_dataset(
    warehouse: &dyn Warehouse,
    settings: &BigQuerySettings,
    speaker: Speaker,
) -> Result<String, BigQueryError> {
    let place = format!("{}.{}", settings.project, settings.dataset);
    let wanted = settings.location.as_deref();
    let (location, created) = match warehouse.dataset_location().await? {
        Some(there) => {
            let is_elsewhere = wanted
                .is_some_and(|wanted| !there.is_empty() && !there.eq_ignore_ascii_case(wanted));
            if is_elsewhere {
                return Err(BigQueryError::Location {
                    place,
                    wanted: wanted.unwrap_or_default().to_owned(),
                    there,
                });
            }
            let given = wanted.unwrap_or(DEFAULT_LOCATION);
            let known = if there.is_empty() {
                given.to_owned()
            } else {
                there
            };
            (known, false)
        }
        None => {
            let location = wanted.unwrap_or(DEFAULT_LOCATION);
            warehouse.create_dataset(location).await?;
            (location.to_owned(), true)
        }
    };
    BigQueryReady {
        dataset: place,
        location: location.clone(),
        created,
    }
    .emit(speaker);
    Ok(location)
}

impl Context<'_> {
    async fn load_table(
        &self,
        state: &mut TableState,
        depth: Depth,
    ) -> Result<(&'static str, Loaded), BigQueryError> {
        let TableState {
            table,
            ledger,
            objects,
        } = state;
        let is_cheap = objects.is_some_and(|o| o <= self.settings.policy.cheap_look_objects);
        let depth = if is_cheap { Depth::Full } else { depth };
        let mut loaded = Loaded::default();
        loop {
            ledger.refresh(self.lake, |_| ()).await?;
            if let Some(last) = ledger.last().filter(|last| !last.is_done).cloned() {
                self.finish(table, ledger, &last).await?;
                loaded.objects += last.manifest.objects.len() as u64;
                loaded.rows += last.manifest.rows();
                continue;
            }
            let (found, looked_at) = self.find(table, ledger, depth).await?;
            if depth == Depth::Full {
                *objects = Some(looked_at);
            }
            metrics::BIGQUERY_WAITING.set_for([table.name], found.len() as f64);
            if found.is_empty() {
                return Ok((table.name, loaded));
            }
            self.write_down(table, ledger, found).await?;
        }
    }

    /// Objects that no manifest names, as many as one job takes, in the order of their keys; and
    /// how many were looked at.
    async fn find(
        &self,
        table: &DataSet,
        ledger: &Ledger,
        depth: Depth,
    ) -> Result<(Vec<(String, u64)>, u64), LakeError> {
        let policy = &self.settings.policy;
        let folders = match depth {
            Depth::Full => vec![table.name.to_owned()],
            Depth::Recent => recent_folders(table, Utc::now()).into(),
        };
        let (mut found, mut bytes, mut looked_at) = (Vec::new(), 0u64, 0);
        for folder in folders {
            let mut objects = self.lake.list(&folder);
            while let Some(object) = objects.try_next().await? {
                looked_at += 1;
                if ledger.has(&object.key) || !table.owns(&object.key) {
                    continue;
                }
                let is_full = !found.is_empty()
                    && (found.len() >= policy.max_objects
                        || bytes.saturating_add(object.bytes) > policy.max_bytes);
                if is_full {
                    break;
                }
                bytes = bytes.saturating_add(object.bytes);
                found.push((object.key, object.bytes));
            }
        }
        found.sort();
        Ok((found, looked_at))
    }

    /// Puts the manifest of what was found. Another loader's in its place is fine: the next look
    /// at the chain finds it.
    async fn write_down(
        &self,
        table: &DataSet,
        ledger: &Ledger,
        found: Vec<(String, u64)>,
    ) -> Result<(), BigQueryError> {
        let lake = self.lake;
        let read = |(key, bytes): (String, u64)| async move {
            let (rows, columns) = read_footer(lake, &key).await?;
            let object = BatchObject { key, rows, bytes };
            Ok::<_, BigQueryError>((object, columns))
        };
        let mut footers = stream::iter(found).map(read).buffered(FOOTER_READS);
        let (mut objects, mut columns) = (Vec::new(), Vec::new());
        while let Some((object, more)) = footers.try_next().await? {
            unite(&mut columns, "the objects before it", &more, &object.key)?;
            objects.push(object);
        }
        // Now rather than after it is written down, where it would be in the way.
        let key = objects.first().map(|object| object.key.clone());
        let key = key.unwrap_or_default();
        self.columns_after(table, ledger, &columns, &key).await?;

        let manifest = Manifest {
            version: VERSION,
            table: table.name.to_owned(),
            sequence: ledger.next_sequence(),
            follows: ledger.end(),
            location: self.location.to_owned(),
            writer: self.settings.writer_id.clone(),
            created_ms: Utc::now().timestamp_millis(),
            columns,
            objects,
        };
        let key = manifest_key(ledger.folder(), manifest.sequence);
        lake.put_create(&key, manifest.encode()).await?;
        Ok(())
    }

    /// The columns that the table has once objects with `columns` are loaded, and whether any is
    /// new. A table that is not there yet is made.
    pub(super) async fn columns_after(
        &self,
        table: &DataSet,
        ledger: &Ledger,
        columns: &[Column],
        key: &str,
    ) -> Result<(Vec<Column>, bool), BigQueryError> {
        let place = self.place(table);
        if let Some(there) = self.warehouse.columns(table).await? {
            return Ok(fit(&place, &there, columns, key)?);
        }
        if ledger.loaded_objects() > 0 {
            return Err(BigQueryError::TableGone {
                place,
                objects: ledger.loaded_objects(),
                folder: ledger.folder().to_owned(),
            });
        }
        self.warehouse.create_table(table, columns).await?;
        BigQueryTableCreated {
            table: place,
            columns: columns.len() as u64,
        }
        .emit(self.speaker);
        Ok((columns.to_vec(), false))
    }

    pub(super) fn place(&self, table: &DataSet) -> String {
        let settings = self.settings;
        format!("{}.{}.{}", settings.project, settings.dataset, table.name)
    }

    /// Waits for the end of a manifest's job, no matter which loader submitted it, and marks it.
    async fn finish(
        &self,
        table: &DataSet,
        ledger: &mut Ledger,
        last: &Last,
    ) -> Result<(), BigQueryError> {
        let started = Instant::now();
        let manifest = &last.manifest;
        let key = manifest_key(ledger.folder(), manifest.sequence);
        let rows = manifest.rows();
        let done = match rows {
            0 => Done {
                job: String::new(),
                rows,
                rows_loaded: 0,
            },
            _ => {
                let (job, rows_loaded) = self.run_job(table, ledger, last).await?;
                Done {
                    job,
                    rows,
                    rows_loaded,
                }
            }
        };
        // Before the mark: after a kill in between, the next loader does it again.
        if manifest
            .sequence
            .is_multiple_of(self.settings.policy.manifests_a_summary)
        {
            let names = names_key(ledger.folder(), manifest.sequence);
            self.lake.put_create(&names, ledger.summary(last)).await?;
        }
        let mark = done_key(ledger.folder(), manifest.sequence);
        self.lake.put_create(&mark, encode_done(&done)).await?;
        ledger.mark();
        metrics::BIGQUERY_ROWS.add_for([table.name], done.rows_loaded);
        metrics::BIGQUERY_OBJECTS.add_for([table.name], manifest.objects.len() as u64);
        metrics::BIGQUERY_LAST_LOAD.set_for([table.name], Utc::now().timestamp() as f64);
        BigQueryLoaded {
            table: table.name.to_owned(),
            job: Some(done.job.clone()).filter(|job| !job.is_empty()),
            manifest: key.clone(),
            objects: manifest.objects.len() as u64,
            bytes: manifest.bytes(),
            rows,
            rows_loaded: done.rows_loaded,
            duration_ms: started.elapsed().as_millis() as u64,
        }
        .emit(self.speaker);
        if done.rows_loaded != rows {
            metrics::BIGQUERY_DIFFERING.add_for([table.name], done.rows_loaded.abs_diff(rows));
            BigQueryRowsDiffer {
                job: done.job,
                manifest: key,
                rows,
                rows_loaded: done.rows_loaded,
                remedy: "run `ftap verify`, and compare the objects that the manifest names with the table".to_owned(),
            }
            .emit(self.speaker);
        }
        Ok(())
    }
}

/// The folders where new objects are most likely: those of yesterday and today.
fn recent_folders(set: &DataSet, now: DateTime<Utc>) -> [String; 2] {
    let today = date_of_micros(now.timestamp_micros());
    let yesterday = today.checked_sub_days(Days::new(1)).unwrap_or(today);
    [yesterday, today].map(|day| set.folder(day))
}

/// Rows and columns of an object, by its footer.
pub(super) async fn read_footer(
    lake: &LakeStore,
    key: &str,
) -> Result<(u64, Vec<Column>), BigQueryError> {
    let metadata = lake.parquet_metadata(key).await?;
    let file = metadata.file_metadata();
    let schema = parquet_to_arrow_schema(file.schema_descr(), file.key_value_metadata())
        .map_err(|error| LakeError::object(key, error))?;
    let rows = u64::try_from(file.num_rows()).map_err(|error| LakeError::object(key, error))?;
    Ok((rows, columns_of(key, &schema)?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use ftap_lake::{FX_RATES, TRANSACTIONS};

    use super::*;

    #[test]
    fn recent_folders_are_those_of_two_days() {
        let now = DateTime::from_timestamp(1_577_836_805, 0).unwrap();
        assert_eq!(
            recent_folders(&TRANSACTIONS, now),
            ["transactions/2019-12-31", "transactions/2020-01-01"]
        );
        assert_eq!(
            recent_folders(&FX_RATES, now),
            ["fx_rates/2019/12/31", "fx_rates/2020/01/01"]
        );
    }
}
