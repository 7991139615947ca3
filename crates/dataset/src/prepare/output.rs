//! The four files of a preparation. They are written beside each other under temporary names and
//! published together: an old events file goes first and the new one comes last, so whatever moment
//! the process is killed at, an events file never stands beside users of another run.

use std::path::{Path, PathBuf};
use std::{fs, io};

use uuid::Uuid;

use super::check::{RejectReason, integer_text, zip_text};
use super::{Column, Row};
use crate::error::DatasetError;
use crate::pending::{PendingFile, sync_directory};
use crate::schema::{
    EVENT_COLUMNS, EVENTS_FILE, MERCHANT_COLUMNS, MERCHANTS_FILE, PREPARED_SEPARATOR,
    REJECTED_COLUMNS, REJECTED_FILE, USER_COLUMNS, USERS_FILE,
};

/// How much of a rejected row is kept: enough to find it in any editor.
const REJECTED_ROW_BYTES: usize = 1024;

pub(super) struct Outputs {
    dir: PathBuf,
    events: PendingFile,
    users: PendingFile,
    merchants: PendingFile,
    rejected: Option<PendingFile>,
}

pub(super) struct Paths {
    pub(super) events: PathBuf,
    pub(super) users: PathBuf,
    pub(super) merchants: PathBuf,
    pub(super) rejected: Option<PathBuf>,
}

impl Outputs {
    pub(super) fn create(dir: &Path) -> Result<Self, DatasetError> {
        Ok(Self {
            dir: dir.to_path_buf(),
            events: with_header(dir, EVENTS_FILE, &EVENT_COLUMNS, PREPARED_SEPARATOR)?,
            users: with_header(dir, USERS_FILE, &USER_COLUMNS, PREPARED_SEPARATOR)?,
            merchants: with_header(dir, MERCHANTS_FILE, &MERCHANT_COLUMNS, PREPARED_SEPARATOR)?,
            rejected: None,
        })
    }

    pub(super) fn event(&mut self, user_id: Uuid, row: &Row<'_>) -> Result<(), DatasetError> {
        let out = self.events.buffer();
        out.extend_from_slice(row.get(Column::TransDateTransTime).as_bytes());
        out.push(PREPARED_SEPARATOR);
        push_uuid(out, user_id);
        for column in [Column::Merchant, Column::Category] {
            push_field(out, row.get(column));
        }
        push_plain(out, row.get(Column::Amt));
        push_field(out, row.get(Column::TransNum));
        for column in [Column::UnixTime, Column::IsFraud] {
            let value = row.get(column);
            push_plain(out, integer_text(value).unwrap_or(value));
        }
        out.push(b'\n');
        self.events.spill()
    }

    pub(super) fn user(&mut self, user_id: Uuid, row: &Row<'_>) -> Result<(), DatasetError> {
        use Column::{City, Dob, First, Gender, Job, Last, Lat, Long, Street, Zip};
        let out = self.users.buffer();
        push_uuid(out, user_id);
        for column in [First, Last, Gender, Street, City] {
            push_field(out, row.get(column));
        }
        let zip = row.get(Zip);
        push_plain(out, zip_text(zip).unwrap_or(zip));
        for column in [Lat, Long] {
            push_plain(out, row.get(column));
        }
        push_field(out, row.get(Job));
        push_plain(out, row.get(Dob));
        out.push(b'\n');
        self.users.spill()
    }

    pub(super) fn merchant(&mut self, row: &Row<'_>) -> Result<(), DatasetError> {
        let out = self.merchants.buffer();
        push_quoted_if_needed(out, row.get(Column::Merchant));
        push_plain(out, row.get(Column::MerchLat));
        push_plain(out, row.get(Column::MerchLong));
        // The original turns a null into 0.
        push_plain(out, zip_text(row.get(Column::MerchZipcode)).unwrap_or("0"));
        out.push(b'\n');
        self.merchants.spill()
    }

    pub(super) fn reject(
        &mut self,
        line: u64,
        reason: &RejectReason,
        raw: &[u8],
    ) -> Result<(), DatasetError> {
        if self.rejected.is_none() {
            self.rejected = Some(with_header(
                &self.dir,
                REJECTED_FILE,
                &REJECTED_COLUMNS,
                b',',
            )?);
        }
        let Some(file) = &mut self.rejected else {
            return Ok(());
        };
        let out = file.buffer();
        out.extend_from_slice(line.to_string().as_bytes());
        out.push(b',');
        push_always_quoted(out, &reason.to_string());
        out.push(b',');
        push_always_quoted(out, &escaped(raw));
        out.push(b'\n');
        file.spill()
    }

    pub(super) fn publish(mut self) -> Result<Paths, DatasetError> {
        self.users.sync()?;
        self.merchants.sync()?;
        if let Some(rejected) = &mut self.rejected {
            rejected.sync()?;
        }
        self.events.sync()?;
        remove_if_there(&self.dir.join(EVENTS_FILE))?;
        if self.rejected.is_none() {
            remove_if_there(&self.dir.join(REJECTED_FILE))?;
        }
        sync_directory(&self.dir)?;
        let users = self.users.publish()?;
        let merchants = self.merchants.publish()?;
        let rejected = self.rejected.map(PendingFile::publish).transpose()?;
        sync_directory(&self.dir)?;
        let events = self.events.publish()?;
        sync_directory(&self.dir)?;
        Ok(Paths {
            events,
            users,
            merchants,
            rejected,
        })
    }
}

fn with_header(
    dir: &Path,
    name: &str,
    columns: &[&str],
    separator: u8,
) -> Result<PendingFile, DatasetError> {
    let mut file = PendingFile::create(dir, name)?;
    let out = file.buffer();
    for (at, column) in columns.iter().enumerate() {
        if at > 0 {
            out.push(separator);
        }
        out.extend_from_slice(column.as_bytes());
    }
    out.push(b'\n');
    Ok(file)
}

fn remove_if_there(path: &Path) -> Result<(), DatasetError> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(DatasetError::io("replace", path, e)),
        _ => Ok(()),
    }
}

fn push_uuid(out: &mut Vec<u8>, id: Uuid) {
    let mut text = Uuid::encode_buffer();
    out.extend_from_slice(id.hyphenated().encode_lower(&mut text).as_bytes());
}

/// A separator and a value that was checked and so has nothing to quote.
fn push_plain(out: &mut Vec<u8>, value: &str) {
    out.push(PREPARED_SEPARATOR);
    out.extend_from_slice(value.as_bytes());
}

/// A separator and any text.
fn push_field(out: &mut Vec<u8>, value: &str) {
    out.push(PREPARED_SEPARATOR);
    push_quoted_if_needed(out, value);
}

fn push_quoted_if_needed(out: &mut Vec<u8>, value: &str) {
    let must_quote = |byte: u8| matches!(byte, PREPARED_SEPARATOR | b'"' | b'\n' | b'\r');
    if value.bytes().any(must_quote) {
        push_always_quoted(out, value);
    } else {
        out.extend_from_slice(value.as_bytes());
    }
}

fn push_always_quoted(out: &mut Vec<u8>, value: &str) {
    out.push(b'"');
    for byte in value.bytes() {
        if byte == b'"' {
            out.push(b'"');
        }
        out.push(byte);
    }
    out.push(b'"');
}

/// A row as text on one line: bytes that are not UTF-8 and control characters as escapes, a long
/// row cut, with its length stated.
fn escaped(raw: &[u8]) -> String {
    let shown = &raw[..raw.len().min(REJECTED_ROW_BYTES)];
    let mut text = String::with_capacity(shown.len());
    for chunk in shown.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '\n' => text.push_str("\\n"),
                '\r' => text.push_str("\\r"),
                '\t' => text.push_str("\\t"),
                control if control.is_control() => {
                    text.push_str(&format!("\\x{:02x}", u32::from(control)));
                }
                character => text.push(character),
            }
        }
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    if raw.len() > shown.len() || raw.len() == REJECTED_ROW_BYTES {
        text.push_str(" ...");
    }
    text
}
