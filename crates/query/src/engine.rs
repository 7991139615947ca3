//! One session of the engine: the tables, the limits, a query's way to its answer.
//!
//! What it gives out are boxed futures: those of an `async fn` are compiled by the crate that awaits them, here with
//! the planner and the parser they run, once more for each of the crates that ask.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use arrow_schema::{Schema, SchemaRef};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::cast::as_int64_array;
use datafusion::common::{DataFusionError, TableReference};
use datafusion::datasource::ViewTable;
use datafusion::execution::FunctionRegistry as _;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::memory_pool::{FairSpillPool, TrackConsumersPool};
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::prelude::{ParquetReadOptions, SQLOptions, SessionConfig, SessionContext};
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast;
use ftap_lake::{DataSet, LakeStore, ListedObject, TRANSACTIONS};
use futures::StreamExt as _;
use futures::future::BoxFuture;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout_at};

use crate::comparison::refuse_numbers_as_dates;
use crate::depth::too_deep;
use crate::error::QueryError;
use crate::json_text::{JsonOperator, json_text};
use crate::kept::Kept;
use crate::models::{Model, models, source_columns};
use crate::moment::Moment;
use crate::table::{ColumnsRead, LakeTable};
use crate::text_hash::text_hash;

/// Where the engine finds the lake's objects by their keys.
const LAKE_URL: &str = "lake://lake";
/// So many of those that use most memory are named by the error of a query that needs too much.
const NAMED_CONSUMERS: NonZeroUsize = NonZeroUsize::new(5).expect("5 is not 0");
/// Names of the engine's own: `SHOW TABLES` prints them.
const CATALOG: &str = "ftap";
const SCHEMA: &str = "lake";

/// What `SHOW TABLES` shows: by name, and without the engine's own.
const TABLES: &str =
    "SELECT * FROM information_schema.tables WHERE table_schema = 'lake' ORDER BY table_name";

/// What a query may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Memory of sorts, joins and groups. Beyond it they use temporary files where they can.
    pub memory_bytes: usize,
    /// Of those files.
    pub spill_bytes: u64,
    pub time: Duration,
}

/// A data set to query.
#[derive(Clone, Debug)]
pub struct Source {
    pub set: &'static DataSet,
    /// Its columns where they are known; else the objects tell, and their footers are read for the first statement
    /// that reads the data set.
    pub columns: Option<SchemaRef>,
}

/// The tables of one moment.
pub struct Engine {
    lake: LakeStore,
    sources: Vec<Source>,
    moment: Moment,
    context: SessionContext,
    limits: Limits,
    /// Names of the tables and views.
    tables: Vec<String>,
    models: Vec<Model>,
    found: Mutex<Found>,
    computed: Mutex<Computed>,
}

/// What footers say of columns.
#[derive(Default)]
struct Found {
    columns: ColumnsRead,
    /// Names of the tables that have all of their objects' columns.
    complete: BTreeSet<&'static str>,
}

/// What earlier queries left.
#[derive(Default)]
struct Computed {
    /// How often models were read, by their names.
    reads: BTreeMap<String, usize>,
    /// Names of those that are kept in memory, or would be if they were smaller.
    settled: BTreeSet<String>,
    /// Whether each model has a view of the tables that there are now.
    has_views: bool,
    /// Memory of those that are kept.
    bytes: usize,
    /// The facts among them, by name.
    facts: BTreeMap<String, Kept>,
}

/// Those that the models rely on.
fn declared_columns(name: &str) -> Result<SchemaRef, QueryError> {
    let declared = source_columns()?.get(name).cloned();
    Ok(declared.unwrap_or_else(|| Arc::new(Schema::empty())))
}

async fn view(context: &SessionContext, model: &Model) -> Result<ViewTable, DataFusionError> {
    let plan = context.state().create_logical_plan(&model.sql).await?;
    Ok(ViewTable::new(plan, Some(model.sql.clone())))
}

impl Engine {
    /// Lists the objects of each source.
    pub fn open<'a>(
        lake: &'a LakeStore,
        sources: &'a [Source],
        limits: Limits,
    ) -> BoxFuture<'a, Result<Self, QueryError>> {
        Box::pin(async move {
            let moment = Moment::now(lake, sources).await?;
            Self::at(lake, sources, limits, moment, ColumnsRead::default())
        })
    }

    /// The same lake as it is now. If it only has more transactions, the facts that are kept are kept on: each is about
    /// one transaction, so those of the new objects are added.
    pub fn reopen<'a>(&'a self, lake: &'a LakeStore) -> BoxFuture<'a, Result<Self, QueryError>> {
        Box::pin(async move {
            let moment = Moment::now(lake, &self.sources).await?;
            let added = moment.added_since(&self.moment, &TRANSACTIONS);
            let columns = self.found.lock().await.columns.clone();
            let open = |moment| Self::at(lake, &self.sources, self.limits, moment, columns.clone());
            let engine = open(moment)?;
            let facts = self.computed.lock().await.facts.clone();
            let Some(added) = added.filter(|_| !facts.is_empty()) else {
                return Ok(engine);
            };
            let added = open(added)?;
            let names: Vec<String> = facts.keys().cloned().collect();
            added.find_columns(Some(names.clone())).await?;
            let read = added.all_read(names);
            let models = added.models.iter();
            added
                .plan(models.filter(|model| read.contains(&model.name)))
                .await?;
            let mut computed = engine.computed.lock().await;
            for model in &engine.models {
                if let Some(kept) = facts.get(&model.name) {
                    let kept = added
                        .collect(model, Some(kept.clone()), computed.bytes)
                        .await?;
                    // Beyond the memory it is computed as if it had never been kept.
                    if let Some(kept) = kept {
                        engine.keep(model, kept, &mut computed)?;
                    }
                }
            }
            drop(computed);
            Ok(engine)
        })
    }

    fn at(
        lake: &LakeStore,
        sources: &[Source],
        limits: Limits,
        moment: Moment,
        columns: ColumnsRead,
    ) -> Result<Self, QueryError> {
        // Sorts share what is left over evenly and use files beyond it: else those that come first take all.
        let pool = FairSpillPool::new(limits.memory_bytes);
        let pool = TrackConsumersPool::new(pool, NAMED_CONSUMERS);
        let runtime = RuntimeEnvBuilder::new()
            .with_memory_pool(Arc::new(pool))
            .with_max_temp_directory_size(limits.spill_bytes)
            .build_arc()?;
        let url = ObjectStoreUrl::parse(LAKE_URL)?;
        runtime.register_object_store(url.as_ref(), lake.object_store());
        let mut config = SessionConfig::new()
            .with_information_schema(true)
            .with_default_catalog_and_schema(CATALOG, SCHEMA);
        config.options_mut().sql_parser.collect_spans = true;
        let mut context = SessionContext::new_with_config_rt(config, runtime);
        context.register_udf(json_text());
        context.register_expr_planner(Arc::new(JsonOperator))?;
        context.register_udf(text_hash());
        let mut tables = Vec::new();
        for source in sources {
            let name = source.set.name;
            let columns = match &source.columns {
                Some(columns) => Arc::clone(columns),
                None => declared_columns(name)?,
            };
            let table = LakeTable::new(url.clone(), moment.objects(source.set), &columns);
            context.register_table(name, Arc::new(table))?;
            tables.push(name.to_owned());
        }
        let models = models()?;
        tables.extend(models.iter().map(|model| model.name.clone()));
        let found = Found {
            columns,
            complete: BTreeSet::new(),
        };
        Ok(Self {
            lake: lake.clone(),
            sources: sources.to_vec(),
            moment,
            context,
            limits,
            tables,
            models,
            found: Mutex::new(found),
            computed: Mutex::default(),
        })
    }

    /// Gives the tables that these names read all columns of their objects; all tables for `None`.
    async fn find_columns(&self, names: Option<Vec<String>>) -> Result<(), QueryError> {
        let names = names.map(|names| self.all_read(names));
        let is_read = |name: &str| names.as_ref().is_none_or(|names| names.contains(name));
        let unknown = self.sources.iter();
        let unknown = unknown.filter(|source| source.columns.is_none() && is_read(source.set.name));
        let mut found = self.found.lock().await;
        for Source { set, .. } in unknown {
            if found.complete.contains(set.name) {
                continue;
            }
            let objects = self.moment.objects(set);
            found.columns.add(&self.lake, objects).await?;
            let declared = declared_columns(set.name)?;
            let columns = found.columns.together(objects, &declared);
            let table = LakeTable::new(ObjectStoreUrl::parse(LAKE_URL)?, objects, &columns);
            let mut computed = self.computed.lock().await;
            self.context.deregister_table(set.name)?;
            self.context.register_table(set.name, Arc::new(table))?;
            computed.has_views = false;
            found.complete.insert(set.name);
        }
        Ok(())
    }

    /// The names of tables and models, and of all that they read.
    fn all_read(&self, names: Vec<String>) -> BTreeSet<String> {
        let mut names = BTreeSet::from_iter(names);
        for model in self.models.iter().rev() {
            if names.contains(&model.name) {
                names.extend(model.reads.iter().cloned());
            }
        }
        names
    }

    /// The tables and models that a query names, each as often as it does; `None` for another statement, and for a
    /// question about columns.
    fn named(&self, sql: &str) -> Result<Option<Vec<String>>, DataFusionError> {
        let state = self.context.state();
        let dialect = state.config().options().sql_parser.dialect;
        let statement = state.sql_to_statement(sql, &dialect)?;
        if !matches!(&statement, Statement::Statement(sql) if matches!(**sql, ast::Statement::Query(_)))
        {
            return Ok(None);
        }
        let named = state.resolve_table_references(&statement)?;
        let asks_for_columns = |name: &TableReference| {
            name.schema() == Some("information_schema") && name.table() != "tables"
        };
        if named.iter().any(asks_for_columns) {
            return Ok(None);
        }
        let names = named.iter().map(|name| name.table().to_owned());
        Ok(Some(names.collect()))
    }

    /// Whether the lake still holds what this engine answers from. Lists the objects again, and reads none.
    pub async fn is_current(&self, lake: &LakeStore) -> Result<bool, QueryError> {
        let now = Moment::now(lake, &self.sources).await?;
        Ok(now == self.moment)
    }

    /// The objects of a data set at this moment, in the order of their keys.
    pub fn objects(&self, set: &DataSet) -> &[ListedObject] {
        self.moment.objects(set)
    }

    /// The object of that key, if there is one.
    pub fn object(&self, key: &str) -> Option<&ListedObject> {
        let sets = self.sources.iter().map(|source| source.set);
        let objects = sets
            .filter(|set| set.owns(key))
            .map(|set| self.objects(set));
        let mut found = objects.filter_map(|objects| {
            let place = objects.binary_search_by(|object| object.key.as_str().cmp(key));
            objects.get(place.ok()?)
        });
        found.next()
    }

    /// The models, each after those that it reads.
    pub fn models(&self) -> &[Model] {
        &self.models
    }

    /// Plans a statement that only reads, and starts it.
    ///
    /// # Errors
    /// [`QueryError::Sql`] for what the statement is to blame for, with the place and, if one is
    /// near, the name that was meant.
    pub fn query<'a>(&'a self, sql: &'a str) -> BoxFuture<'a, Result<Answer, QueryError>> {
        Box::pin(async move {
            if let Some(message) = too_deep(sql) {
                let help = vec!["write `IN (…)` or `VALUES` in place of a chain".to_owned()];
                return Err(QueryError::Sql {
                    message,
                    help,
                    place: None,
                    source: None,
                });
            }
            let sql = if is_show_tables(sql) { TABLES } else { sql };
            // What is wrong with a statement is said below. Reading footers is not a part of the query's time: they
            // are many only once.
            if let Ok(names) = self.named(sql) {
                self.find_columns(names).await?;
            }
            let deadline = Instant::now() + self.limits.time;
            let options = SQLOptions::new()
                .with_allow_ddl(false)
                .with_allow_dml(false)
                .with_allow_statements(false);
            let planned = async {
                // Tables change under the lock only, and a plan has its tables.
                let mut computed = self.computed.lock().await;
                self.compute_what_it_reads(sql, &mut computed).await?;
                let frame = self.context.sql_with_options(sql, options).await?;
                drop(computed);
                refuse_numbers_as_dates(frame.logical_plan())?;
                frame.execute_stream().await
            };
            let rows = timeout_at(deadline, planned).await;
            let rows = rows.map_err(|_elapsed| QueryError::TimedOut(self.limits.time))?;
            let rows = rows.map_err(|error| QueryError::planning(sql, &self.tables, error))?;
            Ok(Answer {
                schema: with_names_of_their_own(&rows.schema()),
                rows,
                deadline,
                time: self.limits.time,
            })
        })
    }

    /// Dimensions are computed once for all queries, facts when they are read for the second time: a single mart needs
    /// some columns of them only, but several would compute them each time. They are kept while all of them fit half of
    /// the memory.
    async fn compute_what_it_reads(
        &self,
        sql: &str,
        computed: &mut Computed,
    ) -> Result<(), DataFusionError> {
        let named = self.named(sql)?;
        let is_known = |name: &String| self.tables.contains(name);
        let Some(named) = named.filter(|named| named.iter().all(is_known)) else {
            return self.plan_views(computed).await;
        };
        // A name as often as it is read, by the statement or by a model.
        let mut wanted: Vec<&str> = named.iter().map(String::as_str).collect();
        for model in self.models.iter().rev() {
            if wanted.contains(&model.name.as_str()) && !computed.settled.contains(&model.name) {
                wanted.extend(model.reads.iter().map(String::as_str));
            }
        }
        for model in &self.models {
            let name = model.name.as_str();
            let times = wanted.iter().filter(|wanted| **wanted == name).count();
            if times == 0 || computed.settled.contains(name) {
                continue;
            }
            let reads = computed.reads.entry(model.name.clone()).or_default();
            *reads += times;
            let is_kept = match model.layer.as_str() {
                "dimensions" => true,
                "facts" => *reads > 1,
                _ => false,
            };
            if is_kept {
                match self.collect(model, None, computed.bytes).await? {
                    Some(kept) => {
                        self.keep(model, kept, computed)?;
                        continue;
                    }
                    // It is not tried again.
                    None => {
                        computed.settled.insert(model.name.clone());
                    }
                }
            }
            // Its plan has the tables, among them what is kept by now.
            self.plan(std::iter::once(model)).await?;
        }
        Ok(())
    }

    /// Gives each model a view, for a statement that may ask for all of them. For most statements a few are enough, and
    /// planning all takes longer than a small query.
    async fn plan_views(&self, computed: &mut Computed) -> Result<(), DataFusionError> {
        if !computed.has_views {
            let models = self.models.iter();
            let unsettled = models.filter(|model| !computed.settled.contains(&model.name));
            self.plan(unsettled).await?;
            computed.has_views = true;
        }
        Ok(())
    }

    /// Gives these models views, each after those that it reads.
    async fn plan(&self, models: impl Iterator<Item = &Model>) -> Result<(), DataFusionError> {
        for model in models {
            self.register(model, view(&self.context, model).await?)?;
        }
        Ok(())
    }

    #[cfg(test)]
    pub(crate) fn is_planned(&self, model: &str) -> bool {
        self.context.table_exist(model).unwrap_or(false)
    }

    /// The rows of a model after those that were kept before; `None` if they and the `others` become too much.
    async fn collect(
        &self,
        model: &Model,
        before: Option<Kept>,
        others: usize,
    ) -> Result<Option<Kept>, DataFusionError> {
        let frame = self.context.sql(&model.sql).await?;
        let mut rows = frame.execute_stream().await?;
        let mut kept = before.unwrap_or_else(|| Kept::new(rows.schema()));
        while let Some(batch) = rows.next().await.transpose()? {
            kept.add(&batch)?;
            if others + kept.bytes() > self.limits.memory_bytes / 2 {
                return Ok(None);
            }
        }
        Ok(Some(kept))
    }

    /// Queries read these rows of a model from now on.
    fn keep(
        &self,
        model: &Model,
        kept: Kept,
        computed: &mut Computed,
    ) -> Result<(), DataFusionError> {
        computed.settled.insert(model.name.clone());
        computed.bytes += kept.bytes();
        self.register(model, kept.table()?)?;
        if model.layer == "facts" {
            computed.facts.insert(model.name.clone(), kept);
        }
        Ok(())
    }

    fn register(&self, model: &Model, table: ViewTable) -> Result<(), DataFusionError> {
        self.context.deregister_table(model.name.as_str())?;
        self.context
            .register_table(model.name.as_str(), Arc::new(table))?;
        Ok(())
    }

    /// The first rows of one object.
    ///
    /// # Errors
    /// If it can't be read.
    pub fn first_rows<'a>(
        &'a self,
        key: &'a str,
        rows: usize,
    ) -> BoxFuture<'a, Result<Answer, QueryError>> {
        Box::pin(async move {
            let deadline = Instant::now() + self.limits.time;
            let address = format!("{LAKE_URL}/{key}");
            let read = async {
                let options = ParquetReadOptions::default();
                let frame = self.context.read_parquet(address, options).await?;
                frame.limit(0, Some(rows))?.execute_stream().await
            };
            let rows = timeout_at(deadline, read).await;
            let rows = rows.map_err(|_elapsed| QueryError::TimedOut(self.limits.time))?;
            let rows = rows?;
            Ok(Answer {
                schema: rows.schema(),
                rows,
                deadline,
                time: self.limits.time,
            })
        })
    }

    /// The one whole number that a statement gives; `None` if that is NULL.
    pub async fn number(&self, sql: &str) -> Result<Option<i64>, QueryError> {
        let mut answer = self.query(sql).await?;
        let mut found = None;
        while let Some(rows) = answer.next().await? {
            let numbers = as_int64_array(rows.column(0))?;
            found = found.or_else(|| numbers.iter().flatten().next());
        }
        Ok(found)
    }

    /// The same of a `count(*)`.
    pub async fn count(&self, sql: &str) -> Result<u64, QueryError> {
        let counted = self.number(sql).await?;
        Ok(counted.unwrap_or_default().unsigned_abs())
    }
}

/// The rows of an answer, as they come.
pub struct Answer {
    schema: SchemaRef,
    rows: SendableRecordBatchStream,
    deadline: Instant,
    time: Duration,
}

impl Answer {
    pub fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    /// The next rows, `None` at the end.
    pub async fn next(&mut self) -> Result<Option<RecordBatch>, QueryError> {
        let next = timeout_at(self.deadline, self.rows.next()).await;
        let next = next.map_err(|_elapsed| QueryError::TimedOut(self.time))?;
        let Some(rows) = next.transpose()? else {
            return Ok(None);
        };
        let rows = RecordBatch::try_new(self.schema(), rows.columns().to_vec());
        Ok(Some(rows.map_err(DataFusionError::from)?))
    }
}

fn is_show_tables(sql: &str) -> bool {
    let words = sql.trim_end().trim_end_matches(';').split_whitespace();
    words.map(str::to_lowercase).eq(["show", "tables"])
}

/// A join may give several columns one name, of which JSON could hold only one and Parquet readers find only one.
fn with_names_of_their_own(schema: &Schema) -> SchemaRef {
    let mut taken: BTreeSet<String> = schema
        .fields()
        .iter()
        .map(|field| field.name().clone())
        .collect();
    let mut seen = BTreeSet::new();
    let fields = schema.fields().iter().map(|field| {
        let mut name = field.name().clone();
        if !seen.insert(name.clone()) {
            let numbered = (2..).map(|number| format!("{}_{number}", field.name()));
            let mut free = numbered.filter(|name| !taken.contains(name));
            name = free.next().unwrap_or_default();
            taken.insert(name.clone());
        }
        field.as_ref().clone().with_name(name)
    });
    let fields: Vec<_> = fields.collect();
    Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()))
}
