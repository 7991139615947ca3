//! A data set as a table: its objects, the columns that they have together, and the key of each row's object.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow_schema::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{Result, ScalarValue};
use datafusion::datasource::TableType;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::datasource::table_schema::TableSchema;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use ftap_lake::{LakeError, LakeStore, ListedObject};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use object_store::ObjectMeta;
use object_store::path::Path;
use parquet::arrow::parquet_to_arrow_schema;

/// The column that has the key of a row's object. It is made where a query names it.
const FILE: &str = "_file";
/// Footers read side by side: a bucket takes tens of milliseconds for each.
const FOOTER_READS: usize = 32;

/// The objects of a data set, read by the names of their columns: one that an object lacks is NULL there.
#[derive(Debug)]
pub(crate) struct LakeTable {
    /// The columns of the objects, then the key's.
    schema: TableSchema,
    store: ObjectStoreUrl,
    files: Vec<PartitionedFile>,
}

impl LakeTable {
    /// A table of these objects, with these columns.
    pub(crate) fn new(store: ObjectStoreUrl, objects: &[ListedObject], columns: &Schema) -> Self {
        let schema = all_nullable(columns);
        let key = Field::new(FILE, DataType::Utf8, false);
        // A captured table may have a column of that name.
        let has_key = schema.field_with_name(FILE).is_err();
        let keys = if has_key { vec![Arc::new(key)] } else { vec![] };
        let schema = TableSchema::builder(schema)
            .with_table_partition_cols(keys)
            .build();
        let files = objects.iter().map(|object| {
            let file = PartitionedFile::new_from_meta(ObjectMeta {
                location: Path::from(object.key.as_str()),
                last_modified: object.written,
                size: object.bytes,
                e_tag: None,
                version: None,
            });
            let key = has_key.then(|| ScalarValue::from(object.key.as_str()));
            file.with_partition_values(key.into_iter().collect())
        });
        Self {
            schema,
            store,
            files: files.collect(),
        }
    }
}

/// The columns of objects, by their footers. Objects never change, so each footer is read once.
#[derive(Clone, Debug, Default)]
pub(crate) struct ColumnsRead {
    /// By key: the object, and the place of its columns.
    objects: BTreeMap<String, (ListedObject, usize)>,
    /// Each once: nearly all objects of a table have the same.
    schemas: Vec<Schema>,
}

impl ColumnsRead {
    /// Reads the footers of those that it does not know yet.
    pub(crate) async fn add(
        &mut self,
        lake: &LakeStore,
        objects: &[ListedObject],
    ) -> std::result::Result<(), LakeError> {
        let is_known = |object: &&ListedObject| {
            let known = self.objects.get(&object.key);
            known.is_some_and(|(known, _)| known == *object)
        };
        let unknown = objects.iter().filter(|object| !is_known(object));
        let unknown: Vec<ListedObject> = unknown.cloned().collect();
        let read = stream::iter(unknown).map(|object| async move {
            let schema = footer_columns(lake, &object.key).await?;
            Ok::<_, LakeError>((object, schema))
        });
        let mut read = read.buffer_unordered(FOOTER_READS);
        while let Some((object, schema)) = read.try_next().await? {
            let known = self.schemas.iter().position(|known| *known == schema);
            let place = known.unwrap_or_else(|| {
                self.schemas.push(schema);
                self.schemas.len() - 1
            });
            self.objects.insert(object.key.clone(), (object, place));
        }
        Ok(())
    }

    /// The columns of these objects together, which [`Self::add`] has read: those of the newest first, then those
    /// that only earlier ones have, then those that are declared and that none has. A column whose type has changed
    /// is text, which every type can become.
    pub(crate) fn together(&self, objects: &[ListedObject], declared: &Schema) -> Schema {
        let newest_first = objects.iter().rev();
        let mut places: Vec<usize> = newest_first
            .filter_map(|object| Some(self.objects.get(&object.key)?.1))
            .collect();
        // Only the first of each says something new.
        let mut seen = BTreeSet::new();
        places.retain(|place| seen.insert(*place));
        unite(places.iter().map(|place| &self.schemas[*place]), declared)
    }
}

fn unite<'a>(schemas: impl Iterator<Item = &'a Schema>, declared: &Schema) -> Schema {
    let mut names = Vec::new();
    let mut types: BTreeMap<String, DataType> = BTreeMap::new();
    for field in schemas.flat_map(|schema| schema.fields()) {
        match types.get_mut(field.name()) {
            None => {
                names.push(field.name().clone());
                types.insert(field.name().clone(), field.data_type().clone());
            }
            Some(known) if known != field.data_type() => *known = DataType::Utf8,
            Some(_) => {}
        }
    }
    for field in declared.fields() {
        if !types.contains_key(field.name()) {
            names.push(field.name().clone());
            types.insert(field.name().clone(), field.data_type().clone());
        }
    }
    let fields = names
        .iter()
        .filter_map(|name| Some(Field::new(name, types.get(name)?.clone(), true)));
    Schema::new(fields.collect::<Vec<_>>())
}

async fn footer_columns(lake: &LakeStore, key: &str) -> std::result::Result<Schema, LakeError> {
    let metadata = lake.parquet_metadata(key).await?;
    let file = metadata.file_metadata();
    let schema = parquet_to_arrow_schema(file.schema_descr(), file.key_value_metadata())
        .map_err(|source| LakeError::object(key, source))?;
    // Without what only this object says of itself.
    Ok(Schema::new(schema.fields))
}

fn all_nullable(schema: &Schema) -> SchemaRef {
    let fields = schema.fields().iter();
    let fields = fields.map(|field| field.as_ref().clone().with_nullable(true));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

#[async_trait]
impl TableProvider for LakeTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(self.schema.table_schema())
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    /// What an object's statistics rule out is not read; the rest is filtered row by row afterwards.
    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        if self.files.is_empty() {
            let schema = match projection {
                Some(columns) => Arc::new(self.schema().project(columns)?),
                None => self.schema(),
            };
            return Ok(Arc::new(EmptyExec::new(schema)));
        }
        let source = ParquetSource::new(self.schema.clone());
        let groups =
            FileGroup::new(self.files.clone()).split_files(session.config().target_partitions());
        let scan = FileScanConfigBuilder::new(self.store.clone(), Arc::new(source))
            .with_file_groups(groups)
            .with_projection_indices(projection.cloned())?
            // Rows that a filter drops don't count.
            .with_limit(limit.filter(|_| filters.is_empty()))
            .build();
        Ok(DataSourceExec::from_data_source(scan))
    }
}
