//! Answers as text and as files.

use std::io::Write;

use datafusion::arrow::csv;
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::json::WriterBuilder;
use datafusion::arrow::json::writer::LineDelimited;
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::arrow::util::pretty::pretty_format_batches_with_schema;
use datafusion::common::DataFusionError;
use futures::future::BoxFuture;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;

use crate::engine::Answer;
use crate::error::QueryError;

/// How an answer is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For people. All of it is in memory.
    Table,
    /// With a header; NULL is empty.
    Csv,
    /// One object a row, a line each; NULL is `null`.
    Json,
    Parquet,
}

/// What was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    pub rows: usize,
    /// Whether the answer has rows beyond the limit.
    pub cut: bool,
}

/// Writes at most `limit` rows of an answer.
pub fn write(
    answer: Answer,
    format: Format,
    limit: Option<usize>,
    out: &mut (dyn Write + Send),
) -> BoxFuture<'_, Result<Written, QueryError>> {
    Box::pin(write_all(answer, format, limit, out))
}

async fn write_all(
    answer: Answer,
    format: Format,
    limit: Option<usize>,
    out: &mut (dyn Write + Send),
) -> Result<Written, QueryError> {
    let mut rows = Limited {
        answer,
        limit: limit.unwrap_or(usize::MAX),
        written: Written {
            rows: 0,
            cut: false,
        },
    };
    match format {
        Format::Table => {
            let schema = rows.answer.schema();
            let mut batches = Vec::new();
            while let Some(batch) = rows.next().await? {
                batches.push(batch);
            }
            let table = pretty_format_batches_with_schema(schema, &batches)
                .map_err(DataFusionError::from)?;
            writeln!(out, "{table}")?;
        }
        Format::Csv => {
            let schema = rows.answer.schema();
            let mut writer = csv::WriterBuilder::new().with_header(true).build(&mut *out);
            // Also the header of an answer without rows.
            let none = RecordBatch::new_empty(schema);
            writer.write(&none).map_err(written)?;
            while let Some(batch) = rows.next().await? {
                writer.write(&batch).map_err(written)?;
            }
        }
        Format::Json => {
            let mut writer = WriterBuilder::new()
                .with_explicit_nulls(true)
                .build::<_, LineDelimited>(&mut *out);
            while let Some(batch) = rows.next().await? {
                writer.write(&batch).map_err(written)?;
            }
            writer.finish().map_err(written)?;
        }
        Format::Parquet => {
            let properties = WriterProperties::builder()
                .set_compression(Compression::ZSTD(ZstdLevel::default()))
                .build();
            let schema = rows.answer.schema();
            let mut writer =
                ArrowWriter::try_new(&mut *out, schema, Some(properties)).map_err(parquet)?;
            while let Some(batch) = rows.next().await? {
                writer.write(&batch).map_err(parquet)?;
            }
            writer.close().map_err(parquet)?;
        }
    }
    out.flush()?;
    Ok(rows.written)
}

struct Limited {
    answer: Answer,
    limit: usize,
    written: Written,
}

impl Limited {
    async fn next(&mut self) -> Result<Option<RecordBatch>, QueryError> {
        loop {
            let left = self.limit - self.written.rows;
            let Some(batch) = self.answer.next().await? else {
                return Ok(None);
            };
            if batch.num_rows() == 0 {
                continue;
            }
            if left == 0 {
                self.written.cut = true;
                return Ok(None);
            }
            let rows = batch.num_rows().min(left);
            if rows < batch.num_rows() {
                self.written.cut = true;
            }
            self.written.rows += rows;
            return Ok(Some(batch.slice(0, rows)));
        }
    }
}

fn written(error: ArrowError) -> QueryError {
    match error {
        ArrowError::IoError(_, source) => source.into(),
        other => DataFusionError::from(other).into(),
    }
}

fn parquet(error: ParquetError) -> QueryError {
    DataFusionError::from(error).into()
}
