//! Reads the prepared events file, streaming.
//!
//! Promises: rows are counted as the publisher counts them, from 0, blank lines aside.

use std::fs::File;
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use std::thread;

use anyhow::{Context, anyhow, bail};
use csv::ByteRecord;
use ftap_dataset::schema::EVENT_COLUMNS;

use super::content::{self, Hasher};

const READ_BUFFER_BYTES: usize = 1 << 20;
const CHUNK_ROWS: usize = 1024;
/// Chunks that are split into columns before they are hashed, which takes as long.
const CHUNKS_AHEAD: usize = 4;

/// Rows, the records after them being left from before.
#[derive(Default)]
struct Chunk {
    records: Vec<ByteRecord>,
    rows: usize,
}

/// Hands over each row of the file, at most `limit`: the hash of its content and its key,
/// or `None` for a row that can't be published.
pub(super) fn read(
    path: &Path,
    limit: Option<u64>,
    mut take: impl FnMut(Option<(u64, &[u8])>),
) -> anyhow::Result<()> {
    let named = || format!("events file {}", path.display());
    let file = File::open(path).with_context(|| {
        format!(
            "{}: run `ftap run` or `ftap prepare` first, or name the file with --source",
            named()
        )
    })?;
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(b';')
        .flexible(true)
        .buffer_capacity(READ_BUFFER_BYTES)
        .from_reader(file);
    let header = reader.byte_headers().with_context(named)?;
    if !header
        .iter()
        .eq(EVENT_COLUMNS.iter().map(|name| name.as_bytes()))
    {
        bail!(
            "{} has the columns {:?}, wanted {:?} separated by semicolons: make it with `ftap prepare`",
            named(),
            String::from_utf8_lossy(&header.iter().collect::<Vec<_>>().join(&b';')),
            EVENT_COLUMNS.join(";"),
        );
    }
    thread::scope(|scope| {
        let (chunks, received) = sync_channel(CHUNKS_AHEAD);
        let (used, spare) = channel();
        let splitting = scope.spawn(move || split(reader, limit, &chunks, &spare));
        let mut hasher = Hasher::default();
        for chunk in received {
            for record in &chunk.records[..chunk.rows] {
                let mut columns = [&b""[..]; 8];
                if record.len() == columns.len() {
                    for (column, value) in columns.iter_mut().zip(record) {
                        *column = value;
                    }
                }
                let row = content::of_source_row(columns).ok();
                take(row.map(|row| (hasher.content(&row), columns[1])));
            }
            // It is not needed again after the last one.
            let _ = used.send(chunk);
        }
        let split = splitting.join();
        split.map_err(|_panic| anyhow!("reading {} failed: this is a bug", named()))?
    })
    .with_context(named)
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

    fn rows(text: &str, limit: Option<u64>) -> anyhow::Result<Vec<Option<String>>> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let mut rows = Vec::new();
        read(file.path(), limit, |row| {
            rows.push(row.map(|(_, key)| String::from_utf8_lossy(key).into_owned()));
        })?;
        Ok(rows)
    }

    #[test]
    fn broken_rows_keep_their_place_and_blank_lines_have_none() {
        let header = EVENT_COLUMNS.join(";");
        let good = "2019-01-01 00:00:18;u1;\"a;b\";c;1.5;n;7;0";
        let text = format!("{header}\n{good}\n\nbroken\n{good};9\n{good}\n");
        let expected = [Some("u1".to_owned()), None, None, Some("u1".to_owned())];
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
        let missing = read(Path::new("/nonexistent/x.csv"), None, |_| {}).unwrap_err();
        assert!(missing.to_string().contains("--source"), "{missing}");
    }
}
