//! Reads the prepared events file, streaming.
//!
//! Promises: rows are counted as the publisher counts them, from 0, blank lines aside.

use std::fs::File;
use std::path::Path;

use anyhow::{Context, bail};
use csv::ByteRecord;
use ftap_dataset::schema::EVENT_COLUMNS;

use super::content::{self, Hasher};

const READ_BUFFER_BYTES: usize = 1 << 20;

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
    let mut hasher = Hasher::default();
    let mut record = ByteRecord::new();
    let mut rows = 0;
    while limit.is_none_or(|limit| rows < limit)
        && reader.read_byte_record(&mut record).with_context(named)?
    {
        rows += 1;
        let mut columns = [&b""[..]; 8];
        if record.len() == columns.len() {
            for (column, value) in columns.iter_mut().zip(&record) {
                *column = value;
            }
        }
        let row = content::of_source_row(columns).ok();
        take(row.map(|row| (hasher.content(&row), columns[1])));
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
