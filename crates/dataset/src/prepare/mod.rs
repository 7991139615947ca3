//! Splits a Kaggle CSV, downloaded or generated, into the events, users and merchants files of
//! docs/DATA.md, section 2, streaming.
//!
//! Promises: a row that can be used is in the events file exactly once and in the source's order,
//! with its numbers as they were written; a row that cannot is in `rejected.csv` with its line and
//! the reason; nothing is dropped silently. The four files get their names only when all are on the
//! disk, the events file last: where an events file is, the others belong to it. Memory grows with
//! the number of users and merchants, not of rows. Rows with a `trans_num` seen before are NOT
//! rejected, for that would need all of them in memory; `ftap verify` counts by row.
//!
//! The source may have LF or CRLF line ends, a UTF-8 byte order mark, Excel's line `sep=,`, its columns
//! in any order and further columns. Integers may end in `.0`, as pandas writes those of a column that
//! once had a gap, and an unknown zip of a merchant may be blank, a token such as `NaN`, or no column.

mod check;
mod output;
mod reader;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};

pub use check::RejectReason;
use check::{integer_text, is_degrees, is_unknown, present, require, zip_text};
use chrono::NaiveDate;
use ftap_transaction::{
    AMOUNT_FORM, EVENT_TIME_FORM, currency_of, date, event_time, original_amount,
};
use output::Outputs;
pub(crate) use reader::split_line;
use reader::{MAX_ROW_BYTES, Record, RecordReader};
use uuid::Uuid;

use crate::error::DatasetError;
use crate::schema::{
    EVENT_COLUMNS, EVENTS_FILE, MERCHANT_COLUMNS, MERCHANTS_FILE, REJECTED_FILE, USER_COLUMNS,
    USERS_FILE,
};

const READ_BYTES: usize = 1 << 16;

/// Records between two progress reports.
const PROGRESS_RECORDS: u64 = 8_192;

/// What a preparation did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrepareReport {
    /// Rows in the events file.
    pub events: u64,
    /// Events with `is_fraud` 1.
    pub fraud_events: u64,
    /// Rows in the users file.
    pub users: u64,
    /// Rows in the merchants file.
    pub merchants: u64,
    /// Rows in the file of rejected rows.
    pub rejected: u64,
    /// Line and reason of the first rejected row.
    pub first_rejected: Option<(u64, RejectReason)>,
    /// Size of the input.
    pub input_bytes: u64,
    /// The events file.
    pub events_path: PathBuf,
    /// The users file.
    pub users_path: PathBuf,
    /// The merchants file.
    pub merchants_path: PathBuf,
    /// The file of rejected rows, if there are any.
    pub rejected_path: Option<PathBuf>,
}

/// Splits `input` into the files of [`crate::schema`] in `out_dir`, which is made if need be.
/// `progress` gets the bytes read and the input's size.
///
/// # Errors
/// An input that is missing, empty, not a comma-separated file with the columns needed, or without
/// a single usable row; and whatever keeps files from being read or written.
pub fn prepare(
    input: &Path,
    out_dir: &Path,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<PrepareReport, DatasetError> {
    let file = open(input)?;
    let total_bytes = file.metadata().map_or(0, |metadata| metadata.len());
    refuse_own_output(input, out_dir)?;
    let mut reader = RecordReader::new(file);
    let columns = read_header(&mut reader, input)?;
    let mut splitter = Splitter::new(columns, Outputs::create(out_dir)?);
    let mut records: u64 = 0;
    loop {
        if records.is_multiple_of(PROGRESS_RECORDS) {
            progress(reader.bytes_taken(), total_bytes);
        }
        let Some(record) = reader
            .next()
            .map_err(|e| DatasetError::io("read", input, e))?
        else {
            break;
        };
        records += 1;
        splitter.take(&record)?;
    }
    progress(reader.bytes_taken(), total_bytes);
    splitter.finish(input, reader.bytes_taken())
}

fn open(input: &Path) -> Result<File, DatasetError> {
    let io = |e| DatasetError::io("read", input, e);
    let file = File::open(input).map_err(io)?;
    if file.metadata().map_err(io)?.is_dir() {
        return Err(DatasetError::IsDirectory {
            path: input.to_path_buf(),
            example: crate::schema::SOURCE_FILE,
        });
    }
    Ok(file)
}

fn refuse_own_output(input: &Path, out_dir: &Path) -> Result<(), DatasetError> {
    let Ok(real_input) = input.canonicalize() else {
        return Ok(());
    };
    for name in [EVENTS_FILE, USERS_FILE, MERCHANTS_FILE, REJECTED_FILE] {
        let output = out_dir.join(name);
        if output.canonicalize().is_ok_and(|real| real == real_input) {
            return Err(DatasetError::InputIsOutput { path: output });
        }
    }
    Ok(())
}

/// Where the needed columns stand in the source.
#[derive(Debug, Clone, Copy)]
struct Columns {
    count: usize,
    /// Only [`OPTIONAL`] can be [`ABSENT`].
    at: [usize; NEEDED.len()],
}

/// `fraudTrain.csv`, a data set with otherwise the same columns, lacks it.
const OPTIONAL: Column = Column::MerchZipcode;
/// No row has so many fields.
const ABSENT: usize = usize::MAX;

/// The columns that the three files are made of; [`Column`] indexes it.
const NEEDED: [&str; 20] = [
    "trans_date_trans_time",
    "merchant",
    "category",
    "amt",
    "first",
    "last",
    "gender",
    "street",
    "city",
    "zip",
    "lat",
    "long",
    "job",
    "dob",
    "trans_num",
    "unix_time",
    "merch_lat",
    "merch_long",
    "is_fraud",
    "merch_zipcode",
];

#[derive(Debug, Clone, Copy)]
enum Column {
    TransDateTransTime,
    Merchant,
    Category,
    Amt,
    First,
    Last,
    Gender,
    Street,
    City,
    Zip,
    Lat,
    Long,
    Job,
    Dob,
    TransNum,
    UnixTime,
    MerchLat,
    MerchLong,
    IsFraud,
    MerchZipcode,
}

fn read_header(reader: &mut RecordReader<File>, input: &Path) -> Result<Columns, DatasetError> {
    let io = |e| DatasetError::io("read", input, e);
    let path = || input.to_path_buf();
    let not_csv = |seen: &str| DatasetError::NotCsv {
        path: path(),
        seen: seen.to_owned(),
    };
    if refuse_other_formats(reader.peek().map_err(io)?, input)? == HasMark::Yes {
        reader.skip(UTF8_MARK.len());
    }
    let head = reader.peek().map_err(io)?;
    let first = first_line(head).trim_ascii_end();
    if first.eq_ignore_ascii_case(b"sep=,") {
        reader.next().map_err(io)?;
    }
    let Some(header) = reader.next().map_err(io)? else {
        return Err(DatasetError::EmptyFile { path: path() });
    };
    let raw = String::from_utf8_lossy(header.raw);
    let start: String = raw.chars().take(60).collect();
    let Ok(fields) = header.fields else {
        return Err(not_csv(&format!(
            "its first line is not a header: {start:?}; name the Kaggle CSV"
        )));
    };
    if raw.contains('\r') {
        return Err(not_csv("its lines end in CR alone; convert them to LF"));
    }
    if fields.len() < 2 {
        return Err(wrong_separator(input, &raw, &start));
    }
    let names: Vec<String> = fields
        .iter()
        .map(|range| {
            String::from_utf8_lossy(&header.text[range.clone()])
                .trim()
                .to_owned()
        })
        .collect();
    locate(input, names)
}

/// A UTF-8 byte order mark.
const UTF8_MARK: [u8; 3] = [0xef, 0xbb, 0xbf];

/// Whether a text begins with [`UTF8_MARK`].
#[derive(Clone, Copy, PartialEq, Eq)]
enum HasMark {
    Yes,
    No,
}

/// Refuses what is not UTF-8 text, by its first bytes.
fn refuse_other_formats(head: &[u8], input: &Path) -> Result<HasMark, DatasetError> {
    let seen = match head {
        [0xef, 0xbb, 0xbf, ..] => return Ok(HasMark::Yes),
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => "it is UTF-16 text; save it as UTF-8",
        [b'P', b'K', 3, 4, ..] => "it is a zip archive; unzip it and name the CSV inside",
        [0x1f, 0x8b, ..] => "it is compressed by gzip; unpack it first",
        [b'P', b'A', b'R', b'1', ..] => "it is a Parquet file",
        head if first_line(head).contains(&0) => {
            "it contains zero bytes, so it is not text; name the Kaggle CSV"
        }
        _ => return Ok(HasMark::No),
    };
    Err(DatasetError::NotCsv {
        path: input.to_path_buf(),
        seen: seen.to_owned(),
    })
}

/// Checks that `path` is an events file that [`prepare`] wrote, with at least one row, by its first
/// lines: what is wrong is found before anything is started with it.
///
/// # Errors
/// A file that is missing, unreadable, of another format, not prepared, or without rows.
pub fn check_events(path: &Path) -> Result<(), DatasetError> {
    let io = |e| DatasetError::io("read", path, e);
    let mut head = Vec::new();
    open(path)?
        .take(2 * MAX_ROW_BYTES as u64)
        .read_to_end(&mut head)
        .map_err(io)?;
    refuse_other_formats(&head, path)?;
    let header = first_line(&head);
    let rows = head.get(header.len() + 1..).unwrap_or_default();
    let header = header.strip_suffix(b"\r").unwrap_or(header);
    if head.iter().all(u8::is_ascii_whitespace) {
        return Err(DatasetError::EmptyFile {
            path: path.to_path_buf(),
        });
    }
    if header != prepared_header(&EVENT_COLUMNS).as_bytes() {
        return Err(not_prepared(path, &String::from_utf8_lossy(header)));
    }
    if rows.iter().all(u8::is_ascii_whitespace) {
        return Err(DatasetError::NoRows {
            path: path.to_path_buf(),
        });
    }
    Ok(())
}

/// The days that have events, by the first column of a file that [`prepare`] wrote.
///
/// # Errors
/// The file can't be read.
pub fn event_days(path: &Path) -> io::Result<BTreeSet<NaiveDate>> {
    let mut file = BufReader::with_capacity(READ_BYTES, File::open(path)?);
    let (mut days, mut line, mut previous) = (BTreeSet::new(), Vec::new(), [0; 10]);
    while file.read_until(b'\n', &mut line)? > 0 {
        // Neighbours mostly are of one day.
        if let Some((day, _)) = line.split_first_chunk::<10>()
            && *day != previous
        {
            previous = *day;
            days.extend(date(day));
        }
        line.clear();
    }
    Ok(days)
}

fn prepared_header(columns: &[&str]) -> String {
    columns.join(";")
}

fn not_prepared(path: &Path, header: &str) -> DatasetError {
    let shown = path.display();
    let seen = if header == prepared_header(&USER_COLUMNS) {
        format!("it is the users file; name {EVENTS_FILE} in the same directory")
    } else if header == prepared_header(&MERCHANT_COLUMNS) {
        format!("it is the merchants file; name {EVENTS_FILE} in the same directory")
    } else if header.contains("trans_date_trans_time") && header.contains(',') {
        format!("it is separated by commas, as the Kaggle CSV is; run `ftap prepare {shown}` first")
    } else {
        let start: String = header.chars().take(60).collect();
        format!(
            "its first line is {start:?}, expected `{}`; run `ftap prepare FILE` to make one",
            prepared_header(&EVENT_COLUMNS)
        )
    };
    DatasetError::NotPrepared {
        path: path.to_path_buf(),
        seen,
    }
}

fn first_line(head: &[u8]) -> &[u8] {
    &head[..memchr::memchr(b'\n', head).unwrap_or(head.len())]
}

fn wrong_separator(input: &Path, header: &str, start: &str) -> DatasetError {
    let path = input.to_path_buf();
    let separators = [(';', "semicolons (;)"), ('\t', "tabs"), ('|', "bars (|)")];
    let hint = if header.starts_with("trans_date_trans_time;user_id") {
        " (it seems to be the events file of an earlier `ftap prepare`, which needs no preparation)"
    } else {
        ""
    };
    match separators.iter().find(|(mark, _)| header.contains(*mark)) {
        Some((_, seen)) => DatasetError::WrongSeparator { path, seen, hint },
        None => DatasetError::NotCsv {
            path,
            seen: format!("its first line has no comma: {start:?}; name the Kaggle CSV"),
        },
    }
}

fn locate(input: &Path, names: Vec<String>) -> Result<Columns, DatasetError> {
    let mut at = [ABSENT; NEEDED.len()];
    let mut missing = Vec::new();
    for (needed, at) in NEEDED.into_iter().zip(&mut at) {
        let mut places = (0..names.len()).filter(|place| names[*place] == needed);
        match (places.next(), places.next()) {
            (Some(place), None) => *at = place,
            (None, _) if needed == NEEDED[OPTIONAL as usize] => {}
            (None, _) => missing.push(needed),
            (Some(_), Some(_)) => {
                return Err(DatasetError::DuplicateColumn {
                    path: input.to_path_buf(),
                    column: needed,
                });
            }
        }
    }
    if missing.is_empty() {
        return Ok(Columns {
            count: names.len(),
            at,
        });
    }
    Err(DatasetError::MissingColumns {
        path: input.to_path_buf(),
        missing,
        // Enough to recognise the file, not a line of a megabyte.
        found: names
            .into_iter()
            .take(40)
            .map(|name| name.chars().take(40).collect())
            .collect(),
    })
}

/// One row, its text known to be UTF-8.
struct Row<'a> {
    text: &'a str,
    fields: &'a [std::ops::Range<usize>],
    columns: &'a Columns,
}

impl<'a> Row<'a> {
    fn get(&self, column: Column) -> &'a str {
        let field = self.fields.get(self.columns.at[column as usize]);
        // A field begins and ends at a comma or an end of the text, which are character boundaries.
        field.map_or("", |field| &self.text[field.clone()])
    }

    fn check_event(&self) -> Result<(), RejectReason> {
        use Column::{
            Amt, Category, First, IsFraud, Last, Merchant, TransDateTransTime, TransNum, UnixTime,
        };
        for column in [First, Last, Merchant, Category, TransNum] {
            present(NEEDED[column as usize], self.get(column))?;
        }
        let moment = self.get(TransDateTransTime);
        require(
            event_time(moment.as_bytes()).is_some(),
            "trans_date_trans_time",
            EVENT_TIME_FORM,
            moment,
        )?;
        let (amt, currency) = (self.get(Amt), currency_of(self.get(TransNum).as_bytes()));
        let amount = original_amount(amt.as_bytes(), currency);
        require(amount.is_some(), "amt", AMOUNT_FORM, amt)?;
        let unix_time = self.get(UnixTime);
        let is_integer = integer_text(unix_time).is_some();
        require(is_integer, "unix_time", "an integer", unix_time)?;
        let is_fraud = self.get(IsFraud);
        require(
            matches!(integer_text(is_fraud), Some("0" | "1")),
            "is_fraud",
            "0 or 1",
            is_fraud,
        )
    }

    fn check_user(&self) -> Result<(), RejectReason> {
        let gender = self.get(Column::Gender);
        require(
            gender.chars().count() == 1,
            "gender",
            "one character",
            gender,
        )?;
        let zip = self.get(Column::Zip);
        require(zip_text(zip).is_some(), "zip", "an integer", zip)?;
        let (lat, long) = (self.get(Column::Lat), self.get(Column::Long));
        require(is_degrees(lat, 90.0), "lat", "-90 to 90", lat)?;
        require(is_degrees(long, 180.0), "long", "-180 to 180", long)?;
        let dob = self.get(Column::Dob);
        require(date(dob.as_bytes()).is_some(), "dob", "YYYY-MM-DD", dob)
    }

    fn check_merchant(&self) -> Result<(), RejectReason> {
        let (lat, long) = (self.get(Column::MerchLat), self.get(Column::MerchLong));
        // A position up to a degree away from a home near the date line may lie beyond it.
        require(is_degrees(lat, 91.0), "merch_lat", "-91 to 91", lat)?;
        require(is_degrees(long, 181.0), "merch_long", "-181 to 181", long)?;
        let zip = self.get(Column::MerchZipcode);
        let is_zip = is_unknown(zip) || zip_text(zip).is_some();
        require(is_zip, "merch_zipcode", "an integer or nothing", zip)
    }
}

struct Splitter {
    columns: Columns,
    outputs: Outputs,
    /// The id of each name as written, so that a known spelling costs one look-up.
    ids_by_name: HashMap<Vec<u8>, Uuid>,
    users: HashSet<Uuid>,
    merchants: HashSet<Vec<u8>>,
    name_key: Vec<u8>,
    events: u64,
    fraud_events: u64,
    rejected: u64,
    first_rejected: Option<(u64, RejectReason)>,
}

impl Splitter {
    fn new(columns: Columns, outputs: Outputs) -> Self {
        Self {
            columns,
            outputs,
            ids_by_name: HashMap::new(),
            users: HashSet::new(),
            merchants: HashSet::new(),
            name_key: Vec::new(),
            events: 0,
            fraud_events: 0,
            rejected: 0,
            first_rejected: None,
        }
    }

    fn take(&mut self, record: &Record<'_>) -> Result<(), DatasetError> {
        let Err(reason) = self.accept(record)? else {
            return Ok(());
        };
        self.rejected += 1;
        self.outputs.reject(record.line, &reason, record.raw)?;
        self.first_rejected.get_or_insert((record.line, reason));
        Ok(())
    }

    /// Writes the row to the files it belongs to, or says why it belongs to none.
    fn accept(&mut self, record: &Record<'_>) -> Result<Result<(), RejectReason>, DatasetError> {
        let columns = self.columns;
        let row = match checked_row(record, &columns) {
            Ok(row) => row,
            Err(reason) => return Ok(Err(reason)),
        };
        let (first, last) = (row.get(Column::First), row.get(Column::Last));
        let merchant = row.get(Column::Merchant);
        self.name_key.clear();
        self.name_key.extend_from_slice(first.as_bytes());
        self.name_key.push(0);
        self.name_key.extend_from_slice(last.as_bytes());
        let known_id = self.ids_by_name.get(&self.name_key).copied();
        let user_id = known_id.unwrap_or_else(|| crate::user_id(first, last));
        let is_new_user = known_id.is_none() && !self.users.contains(&user_id);
        let is_new_merchant = !self.merchants.contains(merchant.as_bytes());
        // Both before either is remembered: a rejected row must not hide the next good one.
        if is_new_user && let Err(reason) = row.check_user() {
            return Ok(Err(reason));
        }
        if is_new_merchant && let Err(reason) = row.check_merchant() {
            return Ok(Err(reason));
        }
        if known_id.is_none() {
            self.ids_by_name.insert(self.name_key.clone(), user_id);
        }
        if is_new_user {
            self.users.insert(user_id);
            self.outputs.user(user_id, &row)?;
        }
        if is_new_merchant {
            self.merchants.insert(merchant.as_bytes().to_vec());
            self.outputs.merchant(&row)?;
        }
        self.outputs.event(user_id, &row)?;
        self.events += 1;
        self.fraud_events += u64::from(integer_text(row.get(Column::IsFraud)) == Some("1"));
        Ok(Ok(()))
    }

    fn finish(self, input: &Path, input_bytes: u64) -> Result<PrepareReport, DatasetError> {
        if self.events == 0 {
            let path = input.to_path_buf();
            return Err(match self.first_rejected {
                None => DatasetError::NoRows { path },
                Some((line, reason)) => DatasetError::NoValidRow {
                    path,
                    rejected: self.rejected,
                    line,
                    reason: reason.to_string(),
                },
            });
        }
        let paths = self.outputs.publish()?;
        Ok(PrepareReport {
            events: self.events,
            fraud_events: self.fraud_events,
            users: self.users.len() as u64,
            merchants: self.merchants.len() as u64,
            rejected: self.rejected,
            first_rejected: self.first_rejected,
            input_bytes,
            events_path: paths.events,
            users_path: paths.users,
            merchants_path: paths.merchants,
            rejected_path: paths.rejected,
        })
    }
}

fn checked_row<'a>(record: &'a Record<'_>, columns: &'a Columns) -> Result<Row<'a>, RejectReason> {
    let fields = record.fields?;
    if fields.len() != columns.count {
        return Err(RejectReason::FieldCount {
            found: fields.len(),
            expected: columns.count,
        });
    }
    let text = std::str::from_utf8(record.text).map_err(|_not_utf8| RejectReason::NotUtf8)?;
    if memchr::memchr(0, record.text).is_some() {
        return Err(RejectReason::ZeroByte);
    }
    let row = Row {
        text,
        fields,
        columns,
    };
    row.check_event()?;
    Ok(row)
}
