//! The rows of a model in memory, in few bytes: texts that repeat are there once a batch.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow_schema::{DataType, Field, Schema, SchemaRef};
use datafusion::arrow::array::{ArrayRef, AsArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::UInt16Type;
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::Result;
use datafusion::datasource::{MemTable, ViewTable, provider_as_source};
use datafusion::logical_expr::{LogicalPlanBuilder, cast as cast_expr, ident};

/// Rows of one batch: their texts are numbered by 16 bits.
const BATCH_ROWS: usize = 32_768;

#[derive(Clone)]
pub(crate) struct Kept {
    schema: SchemaRef,
    /// Columns whose texts repeat, by the first rows.
    repeating: Option<BTreeSet<usize>>,
    batches: Vec<RecordBatch>,
    bytes: usize,
}

impl Kept {
    pub(crate) fn new(schema: SchemaRef) -> Self {
        Self {
            schema,
            repeating: None,
            batches: Vec::new(),
            bytes: 0,
        }
    }

    pub(crate) fn add(&mut self, rows: &RecordBatch) -> Result<()> {
        for start in (0..rows.num_rows()).step_by(BATCH_ROWS) {
            let part = rows.slice(start, BATCH_ROWS.min(rows.num_rows() - start));
            let repeating = match &self.repeating {
                Some(known) => known,
                None => &*self.repeating.insert(repeating(&part)?),
            };
            let columns = part.columns().iter().enumerate();
            let columns = columns.map(|(index, column)| {
                if repeating.contains(&index) {
                    Ok(cast(column, &numbered())?)
                } else {
                    Ok(Arc::clone(column))
                }
            });
            let columns: Vec<ArrayRef> = columns.collect::<Result<_>>()?;
            let batch = RecordBatch::try_new(packed(&self.schema, repeating), columns)?;
            for column in batch.columns() {
                self.bytes += column.to_data().get_slice_memory_size()?;
            }
            self.batches.push(batch);
        }
        Ok(())
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// A table with the columns as they were.
    pub(crate) fn table(&self) -> Result<ViewTable> {
        let repeating = self.repeating.clone().unwrap_or_default();
        let batches = vec![self.batches.clone()];
        let table = MemTable::try_new(packed(&self.schema, &repeating), batches)?;
        let columns = self.schema.fields().iter().enumerate();
        let columns = columns.map(|(index, field)| {
            if repeating.contains(&index) {
                cast_expr(ident(field.name()), field.data_type().clone()).alias(field.name())
            } else {
                ident(field.name())
            }
        });
        let scan = LogicalPlanBuilder::scan("kept", provider_as_source(Arc::new(table)), None)?;
        let plan = scan.project(columns)?.build()?;
        Ok(ViewTable::new(plan, None))
    }
}

fn numbered() -> DataType {
    DataType::Dictionary(Box::new(DataType::UInt16), Box::new(DataType::Utf8))
}

/// The texts of which each is there twice on average, or more often.
fn repeating(rows: &RecordBatch) -> Result<BTreeSet<usize>> {
    let mut found = BTreeSet::new();
    for (index, column) in rows.columns().iter().enumerate() {
        if matches!(column.data_type(), DataType::Utf8 | DataType::Utf8View) {
            let numbers = cast(column, &numbered())?;
            let different = numbers.as_dictionary::<UInt16Type>().values().len();
            if different * 2 <= rows.num_rows() {
                found.insert(index);
            }
        }
    }
    Ok(found)
}

fn packed(schema: &Schema, repeating: &BTreeSet<usize>) -> SchemaRef {
    let fields = schema.fields().iter().enumerate();
    let fields = fields.map(|(index, field)| {
        if repeating.contains(&index) {
            Arc::new(Field::new(field.name(), numbered(), field.is_nullable()))
        } else {
            Arc::clone(field)
        }
    });
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::StringArray;
    use datafusion::arrow::compute::concat_batches;
    use datafusion::prelude::SessionContext;

    use super::*;

    #[tokio::test]
    async fn rows_are_as_they_were_and_take_less_memory() {
        let rows = 100_000;
        let id = |row: usize| format!("{row:032}");
        let name = |row: usize| {
            (!row.is_multiple_of(7)).then(|| format!("a name that repeats, {}", row % 5))
        };
        let ids = StringArray::from_iter_values((0..rows).map(id));
        let names: StringArray = (0..rows).map(name).collect();
        let columns = [
            ("Id", Arc::new(ids) as ArrayRef),
            ("name", Arc::new(names) as ArrayRef),
        ];
        let batch = RecordBatch::try_from_iter_with_nullable(
            columns.map(|(name, column)| (name, column, true)),
        )
        .unwrap();
        let mut kept = Kept::new(batch.schema());
        kept.add(&batch).unwrap();
        // The names take the half of it.
        assert!(
            kept.bytes() < batch.get_array_memory_size() * 3 / 4,
            "{}",
            kept.bytes()
        );
        let context = SessionContext::new();
        let table = Arc::new(kept.table().unwrap());
        context.register_table("kept", table).unwrap();
        let found = context
            .sql("select * from kept order by \"Id\"")
            .await
            .unwrap();
        let found = found.collect().await.unwrap();
        let found = concat_batches(&batch.schema(), &found).unwrap();
        assert_eq!(found, batch);
    }
}
