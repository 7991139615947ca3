//! Reads the prepared events file, streaming, on threads of its own.
//!
//! Promises: rows are counted as the publisher counts them, from 0, blank lines aside.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::{self, JoinHandle};

use anyhow::{Context, anyhow, bail};
use csv::ByteRecord;
use ftap_dataset::schema::EVENT_COLUMNS;
use ftap_transaction::partition_of;

use crate::content::{self, Hasher};

const READ_BUFFER_BYTES: usize = 1 << 20;
const CHUNK_ROWS: usize = 1024;
/// Chunks that wait to be hashed, which takes as long as splitting them into columns, or to be taken.
const CHUNKS_AHEAD: usize = 4;

/// Rows, the records after them being left from before.
#[derive(Default)]
struct Chunk {
    records: Vec<ByteRecord>,
    rows: usize,
}

/// A row of the file: the hash of its content and the partition of its key, or `None` for one that can't be published.
pub(crate) type Row = Option<(u64, usize)>;

/// The rows of a file, as far as they were not taken.
pub(crate) struct Rows {
    path: PathBuf,
    hashed: Receiver<Vec<Row>>,
    threads: Option<[JoinHandle<anyhow::Result<()>>; 2]>,
}

impl Rows {
    /// Begins to read at most `limit` rows, whose keys belong to one of so many partitions.
    pub(crate) fn open(path: &Path, limit: Option<u64>, partitions: i32) -> anyhow::Result<Self> {
        let file = File::open(path).with_context(|| {
            format!(
                "{}: run `ftap run` or `ftap prepare` first, or name the file with --source",
                named(path)
            )
        })?;
        let mut reader = csv::ReaderBuilder::new()
            .delimiter(b';')
            .flexible(true)
            .buffer_capacity(READ_BUFFER_BYTES)
            .from_reader(file);
        let header = reader.byte_headers().with_context(|| named(path))?;
        if !header
            .iter()
            .eq(EVENT_COLUMNS.iter().map(|name| name.as_bytes()))
        {
            bail!(
                "{} has the columns {:?}, wanted {:?} separated by semicolons: make it with `ftap prepare`",
                named(path),
                String::from_utf8_lossy(&header.iter().collect::<Vec<_>>().join(&b';')),
                EVENT_COLUMNS.join(";"),
            );
        }
        let (chunks, received) = sync_channel(CHUNKS_AHEAD);
        let (used, spare) = channel();
        let (sender, hashed) = sync_channel(CHUNKS_AHEAD);
        let splitting = thread::spawn(move || split(reader, limit, &chunks, &spare));
        let hashing = thread::spawn(move || {
            hash(&received, partitions, &used, &sender);
            Ok(())
        });
        Ok(Self {
            path: path.to_owned(),
            hashed,
            threads: Some([splitting, hashing]),
        })
    }

    /// The next rows; `None` after the last one.
    pub(crate) fn next(&mut self) -> anyhow::Result<Option<Vec<Row>>> {
        if let Ok(rows) = self.hashed.recv() {
            return Ok(Some(rows));
        }
        for thread in self.threads.take().into_iter().flatten() {
            thread
                .join()
                .map_err(|_panic| anyhow!("reading it failed: this is a bug"))
                .flatten()
                .with_context(|| named(&self.path))?;
        }
        Ok(None)
    }
}

fn named(path: &Path) -> String {
    format!("events file {}", path.display())
}

/// Sends what the accounts need of the rows in chunks, which go back as used ones.
fn hash(
    chunks: &Receiver<Chunk>,
    partitions: i32,
    used: &Sender<Chunk>,
    hashed: &SyncSender<Vec<Row>>,
) {
    let mut hasher = Hasher::default();
    for chunk in chunks {
        let rows = chunk.records[..chunk.rows].iter().map(|record| {
            let mut columns = [&b""[..]; 8];
            if record.len() == columns.len() {
                for (column, value) in columns.iter_mut().zip(record) {
                    *column = value;
                }
            }
            let row = content::of_source_row(columns).ok()?;
            let partition = partition_of(columns[1], partitions) as usize;
            Some((hasher.content(&row), partition))
        });
        if hashed.send(rows.collect()).is_err() {
            break;
        }
        // It is not needed again after the last one.
        let _ = used.send(chunk);
    }
}

/// Sends the rows of the file in chunks, which come back as `spare` ones.
fn split(
    mut reader: csv::Reader<File>,
    limit: Option<u64>,
    chunks: &SyncSender<Chunk>,
    spare: &Receiver<Chunk>,
) -> anyhow::Result<()> {
    let mut left = limit.unwrap_or(u64::MAX);
    while left > 0 {
        let mut chunk = spare.try_recv().unwrap_or_default();
        chunk.rows = 0;
        while chunk.rows < CHUNK_ROWS && left > 0 {
            if chunk.records.len() == chunk.rows {
                chunk.records.push(ByteRecord::new());
            }
            if reader.read_byte_record(&mut chunk.records[chunk.rows])? {
                chunk.rows += 1;
                left -= 1;
            } else {
                left = 0;
            }
        }
        if chunks.send(chunk).is_err() {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn rows(text: &str, limit: Option<u64>) -> anyhow::Result<Vec<Option<usize>>> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let mut source = Rows::open(file.path(), limit, 7)?;
        let mut rows = Vec::new();
        while let Some(some) = source.next()? {
            rows.extend(some.into_iter().map(|row| Some(row?.1)));
        }
        Ok(rows)
    }

    #[test]
    fn broken_rows_keep_their_place_and_blank_lines_have_none() {
        let header = EVENT_COLUMNS.join(";");
        let good = "2019-01-01 00:00:18;u1;\"a;b\";c;1.5;n;7;0";
        let text = format!("{header}\n{good}\n\nbroken\n{good};9\n{good}\n");
        let partition = Some(partition_of(b"u1", 7) as usize);
        let expected = [partition, None, None, partition];
        assert_eq!(rows(&text, None).unwrap(), expected);
        assert_eq!(rows(&text, Some(2)).unwrap(), expected[..2]);
    }

    #[test]
    fn another_file_is_refused_with_what_it_has_instead() {
        let error = rows("a,b\n1,2\n", None).unwrap_err().to_string();
        assert!(
            error.contains("a,b") && error.contains("ftap prepare"),
            "{error}"
        );
        let missing = Rows::open(Path::new("/nonexistent/x.csv"), None, 1)
            .err()
            .unwrap();
        assert!(missing.to_string().contains("--source"), "{missing}");
    }
}
