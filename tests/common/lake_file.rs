//! Files of the lake, written again with other rows or columns.

use std::path::Path;

use arrow_array::RecordBatch;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::properties::WriterProperties;

/// Passes the batches of a file through `change`. Its name and its footer's pairs stay.
pub(crate) fn rewrite(file: &Path, change: impl FnMut(RecordBatch) -> RecordBatch) {
    let bytes = bytes::Bytes::from(std::fs::read(file).unwrap());
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap();
    let pairs = reader.metadata().file_metadata().key_value_metadata();
    let properties = WriterProperties::builder().set_key_value_metadata(pairs.cloned());
    let batches = reader.build().unwrap().map(Result::unwrap);
    let batches: Vec<_> = batches.map(change).collect();
    let out = std::fs::File::create(file).unwrap();
    let schema = batches[0].schema();
    let mut writer = ArrowWriter::try_new(out, schema, Some(properties.build())).unwrap();
    for batch in &batches {
        writer.write(batch).unwrap();
    }
    writer.close().unwrap();
}
