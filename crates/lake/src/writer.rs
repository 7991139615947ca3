//! The one way in which Parquet files are written.
//!
//! Promises: a data set's files have one set of properties; the footer's pairs are in the file that
//! [`FileWriter::close`] gives.

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression as ParquetCompression, Encoding, GzipLevel, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{WriterProperties, WriterVersion};
use parquet::schema::types::ColumnPath;

use crate::datasets::DataSet;
use crate::error::FileError;
use crate::footer::FooterFormat;

/// Most rows of a row group. It is kept apart from the file until it ends, so that a file of one row group is there
/// twice when it is closed; readers take row groups side by side.
const ROW_GROUP_ROWS: usize = 262_144;
/// What the encoder of a column of differences reserves at once, and fills by a few percent until its page ends: the
/// system gives the rest only when it is written to.
const DELTA_RESERVE_BYTES: usize = 1024 * 1024;

/// How the lake's files are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// With its level, 1 to 22.
    Zstd(i32),
    Snappy,
    Gzip,
    /// Without a frame, which Parquet calls LZ4_RAW.
    Lz4,
    None,
}

impl TryFrom<Compression> for ParquetCompression {
    type Error = FileError;

    fn try_from(compression: Compression) -> Result<Self, FileError> {
        Ok(match compression {
            Compression::Zstd(level) => {
                let checked = ZstdLevel::try_new(level);
                Self::ZSTD(checked.map_err(|_out_of_range| FileError::Level(level))?)
            }
            Compression::Snappy => Self::SNAPPY,
            Compression::Gzip => Self::GZIP(GzipLevel::default()),
            Compression::Lz4 => Self::LZ4_RAW,
            Compression::None => Self::UNCOMPRESSED,
        })
    }
}

/// A Parquet file under construction, in memory.
pub struct FileWriter {
    name: String,
    writer: ArrowWriter<Vec<u8>>,
    /// Reserved, and not used.
    reserved_bytes: usize,
}

impl FileWriter {
    /// A file of the data set; `name` is for errors.
    pub fn open(
        set: &DataSet,
        name: String,
        columns: SchemaRef,
        compression: Compression,
    ) -> Result<Self, FileError> {
        let properties = Some(properties(set, compression)?);
        match ArrowWriter::try_new(Vec::new(), columns, properties) {
            Ok(writer) => Ok(Self {
                name,
                writer,
                reserved_bytes: set.encodings.delta.len() * DELTA_RESERVE_BYTES,
            }),
            Err(source) => Err(FileError::Parquet { name, source }),
        }
    }

    /// Adds rows.
    pub fn write(&mut self, rows: &RecordBatch) -> Result<(), FileError> {
        let written = self.writer.write(rows);
        written.map_err(|source| encoding_error(&self.name, source))
    }

    /// Ends the row group: a reader can take what is in it at once.
    pub(crate) fn end_row_group(&mut self) -> Result<(), FileError> {
        let ended = self.writer.flush();
        ended.map_err(|source| encoding_error(&self.name, source))
    }

    /// The size of the rows so far, encoded; an estimate for those of the last row group.
    pub fn encoded_bytes(&self) -> usize {
        self.writer.bytes_written() + self.writer.in_progress_size()
    }

    /// What the file takes in memory, without what is reserved only.
    pub fn memory_bytes(&self) -> usize {
        let in_progress = self.writer.memory_size();
        self.writer.bytes_written() + in_progress.saturating_sub(self.reserved_bytes)
    }

    /// Writes the footer and ends the file.
    pub fn close(self, footer: &impl FooterFormat) -> Result<Bytes, FileError> {
        let Self {
            name, mut writer, ..
        } = self;
        for (key, value) in footer.to_pairs() {
            writer.append_key_value_metadata(KeyValue::new(key.to_owned(), value));
        }
        let bytes = writer.into_inner();
        Ok(bytes
            .map_err(|source| encoding_error(&name, source))?
            .into())
    }
}

fn encoding_error(name: &str, source: ParquetError) -> FileError {
    FileError::Parquet {
        name: name.to_owned(),
        source,
    }
}

/// How the columns of a data set are encoded.
pub fn properties(set: &DataSet, compression: Compression) -> Result<WriterProperties, FileError> {
    let mut builder = WriterProperties::builder()
        .set_writer_version(WriterVersion::PARQUET_1_0)
        // A dictionary that is full would be followed by plain pages, and some readers take the second
        // encoding of a column chunk for the first.
        .set_dictionary_page_size_limit(usize::MAX)
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .set_compression(compression.try_into()?);
    for name in set.encodings.delta {
        builder = builder
            .set_column_dictionary_enabled(ColumnPath::from(*name), false)
            .set_column_encoding(ColumnPath::from(*name), Encoding::DELTA_BINARY_PACKED);
    }
    for name in set.encodings.plain {
        builder = builder.set_column_dictionary_enabled(ColumnPath::from(*name), false);
    }
    Ok(builder.build())
}
