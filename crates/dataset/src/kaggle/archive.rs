//! Takes the CSV out of the downloaded archive. The archive is checked by its own checksums while
//! it is unpacked; the CSV gets its name only when they hold.

use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::path::{Path, PathBuf};

use zip::ZipArchive;
use zip::result::ZipError;

use crate::error::DatasetError;
use crate::pending::{PendingFile, sync_directory};
use crate::schema::SOURCE_FILE;

const CHUNK_BYTES: usize = 64 * 1024;
/// How many of the archive's names an error shows.
const NAMES_SHOWN: usize = 10;

/// Unpacks the CSV of `archive` into `out_dir`.
pub(super) fn extract(archive: &Path, out_dir: &Path) -> Result<PathBuf, DatasetError> {
    let file = File::open(archive).map_err(|e| DatasetError::io("read", archive, e))?;
    let mut zip = ZipArchive::new(BufReader::new(file)).map_err(damaged)?;
    let Some(entry) = position_of_csv(&zip) else {
        return Err(DatasetError::NotInArchive {
            expected: SOURCE_FILE,
            found: zip
                .file_names()
                .take(NAMES_SHOWN)
                .map(|name| name.map_or_else(|_| "?".to_owned(), |name| name.into_owned()))
                .collect(),
        });
    };
    let mut csv = zip.by_index(entry).map_err(damaged)?;
    let mut output = PendingFile::create(out_dir, SOURCE_FILE)?;
    let output_path = out_dir.join(SOURCE_FILE);
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        match csv.read(&mut chunk) {
            Ok(0) => break,
            Ok(bytes) => output
                .write_all(&chunk[..bytes])
                .map_err(|e| DatasetError::io("write", &output_path, e))?,
            Err(e) => return Err(damaged(ZipError::Io(e))),
        }
    }
    let path = output.publish()?;
    sync_directory(out_dir)?;
    Ok(path)
}

/// By its file name, in whatever folder of the archive it lies.
fn position_of_csv<R: Read + std::io::Seek>(zip: &ZipArchive<R>) -> Option<usize> {
    zip.file_names().position(|name| {
        name.is_ok_and(|name| {
            let file_name = name.rsplit(['/', '\\']).next();
            file_name.is_some_and(|file_name| file_name.eq_ignore_ascii_case(SOURCE_FILE))
        })
    })
}

fn damaged(error: ZipError) -> DatasetError {
    DatasetError::DamagedArchive {
        problem: error.to_string(),
    }
}
