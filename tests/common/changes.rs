//! The lake's changes as a reader of its own sees them: it knows the columns, not the program.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use arrow_array::cast::AsArray;
use arrow_array::types::{Date32Type, Float64Type, Int32Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{Array, RecordBatch};
use arrow_schema::DataType;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::Value;

use super::Lab;
use super::cluster::Postgres;
use super::process::Ftap;

/// Users of [`lab`].
pub(crate) const USERS: u64 = 50;
const SCHEMA: &str = include_str!("../../init/01_schema.sql");

/// A server with its tables and rows, and a lab whose processes use it.
pub(crate) fn lab(name: &str) -> Option<(Lab, Postgres)> {
    lab_on(name, Postgres::start()?)
}

/// The same on a server that runs already.
pub(crate) fn lab_on(name: &str, postgres: Postgres) -> Option<(Lab, Postgres)> {
    postgres.sql(SCHEMA);
    postgres.sql(&format!(
        "INSERT INTO users SELECT ('00000000-0000-0000-0000-' || lpad(n::text, 12, '0'))::uuid, 'First ' || n, 'Last', 'F', 'Street', 'Oslo', 1000, n + 0.25, -n, '0', '1990-01-31' FROM generate_series(1, {USERS}) n;
         INSERT INTO merchants SELECT 'merchant ' || n, n, 0.5, 0 FROM generate_series(1, 5) n"
    ));
    let mut lab = Lab::new(name).without_broker();
    postgres.use_in(&mut lab);
    lab.set("CDC_FLUSH_SECONDS", "0.3");
    Some((lab, postgres))
}

pub(crate) fn lake(lab: &Lab) -> &Path {
    Path::new(lab.get("LAKE_DIR"))
}

/// Captures what the server has now, and ends.
pub(crate) fn catch_up(lab: &Lab) -> Ftap {
    let capture = lab.start(["cdc", "--until-drained"]);
    capture.wait_for_success();
    capture
}

/// The id of a user.
pub(crate) fn user(number: u64) -> String {
    format!("00000000-0000-0000-0000-{number:012}")
}

/// Columns of a table's row, as PostgreSQL writes them.
pub(crate) type Columns = BTreeMap<String, Option<String>>;

#[derive(Clone, Debug)]
pub(crate) struct LakeRow {
    pub op: String,
    pub epoch: i64,
    pub lsn: i64,
    pub seq: i64,
    pub xid: Option<i64>,
    pub before: Option<Value>,
    pub unchanged: Vec<String>,
    pub columns: Columns,
    pub file: PathBuf,
}

impl LakeRow {
    pub(crate) fn get(&self, column: &str) -> Option<&str> {
        self.columns[column].as_deref()
    }
}

/// The objects of a table, by name.
pub(crate) fn files(lake: &Path, table: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    super::walk(&lake.join(format!("{table}_changes")), &mut files);
    files.sort_by_key(|file| file.file_name().unwrap().to_owned());
    files
}

/// All rows of a table's newest epoch, in order; each position is there once.
pub(crate) fn read(lake: &Path, table: &str) -> Vec<LakeRow> {
    let mut rows: Vec<LakeRow> = files(lake, table)
        .iter()
        .flat_map(|f| read_file(f))
        .collect();
    rows.sort_by_key(|row| (row.epoch, row.lsn, row.seq));
    let mut seen = BTreeSet::new();
    for row in rows.iter().filter(|row| row.op != "snapshot") {
        let position = (row.epoch, row.lsn, row.seq);
        assert!(seen.insert(position), "{table} has {position:?} twice");
    }
    let newest = rows.last().map(|row| row.epoch);
    rows.retain(|row| Some(row.epoch) == newest);
    rows
}

/// The rows of one object, in its order.
pub(crate) fn read_file(path: &Path) -> Vec<LakeRow> {
    let file = std::fs::File::open(path).unwrap();
    let reader = ParquetRecordBatchReaderBuilder::try_new(file)
        .unwrap()
        .build()
        .unwrap();
    let mut rows = Vec::new();
    for batch in reader {
        let batch = batch.unwrap();
        rows.extend((0..batch.num_rows()).map(|index| row(&batch, index, path)));
    }
    rows
}

fn row(batch: &RecordBatch, index: usize, file: &Path) -> LakeRow {
    let text = |name: &str| {
        let column = batch.column_by_name(name).unwrap().as_string::<i32>();
        column
            .is_valid(index)
            .then(|| column.value(index).to_owned())
    };
    let number = |name: &str| {
        let column = batch
            .column_by_name(name)
            .unwrap()
            .as_primitive::<Int64Type>();
        column.is_valid(index).then(|| column.value(index))
    };
    let json = |name: &str| text(name).map(|text| serde_json::from_str::<Value>(&text).unwrap());
    let schema = batch.schema();
    let own = schema
        .fields()
        .iter()
        .filter(|field| !field.name().starts_with('_'));
    let mut columns: Columns = own
        .map(|field| {
            let array = batch.column_by_name(field.name()).unwrap();
            (field.name().clone(), value(array, index))
        })
        .collect();
    for (name, exact) in json("_exact")
        .iter()
        .flat_map(|value| value.as_object().unwrap())
    {
        columns.insert(name.clone(), Some(exact.as_str().unwrap().to_owned()));
    }
    LakeRow {
        op: text("_op").unwrap(),
        epoch: number("_epoch").unwrap(),
        lsn: number("_commit_lsn").unwrap(),
        seq: number("_seq").unwrap(),
        xid: number("_xid"),
        before: json("_before"),
        unchanged: json("_unchanged")
            .map(|value| serde_json::from_value(value).unwrap())
            .unwrap_or_default(),
        columns,
        file: file.to_owned(),
    }
}

fn value(array: &dyn Array, index: usize) -> Option<String> {
    if array.is_null(index) {
        return None;
    }
    Some(match array.data_type() {
        DataType::Utf8 => array.as_string::<i32>().value(index).to_owned(),
        DataType::Int32 => array.as_primitive::<Int32Type>().value(index).to_string(),
        DataType::Int64 => array.as_primitive::<Int64Type>().value(index).to_string(),
        DataType::Float64 => array.as_primitive::<Float64Type>().value(index).to_string(),
        DataType::Boolean => if array.as_boolean().value(index) {
            "t"
        } else {
            "f"
        }
        .to_owned(),
        DataType::Date32 => {
            let days = array.as_primitive::<Date32Type>();
            days.value_as_date(index).unwrap().to_string()
        }
        DataType::Timestamp(_, zone) => {
            let micros = array
                .as_primitive::<TimestampMicrosecondType>()
                .value(index);
            let time = chrono::DateTime::from_timestamp_micros(micros).unwrap();
            let zone = if zone.is_some() { "+00" } else { "" };
            format!("{}{zone}", time.format("%Y-%m-%d %H:%M:%S%.f"))
        }
        other => panic!("no reader for {other}"),
    })
}

/// The table that an epoch's rows make: key to columns.
pub(crate) fn replay(rows: &[LakeRow], key: &str) -> BTreeMap<String, Columns> {
    let mut table: BTreeMap<String, Columns> = BTreeMap::new();
    for row in rows {
        let before = || row.before.as_ref().and_then(|before| before[key].as_str());
        match row.op.as_str() {
            "truncate" => table.clear(),
            "delete" => {
                let gone = table.remove(before().unwrap());
                assert!(gone.is_some(), "{row:?} deletes what is not there");
            }
            "snapshot" | "insert" => {
                let old = table.insert(row.get(key).unwrap().to_owned(), row.columns.clone());
                assert!(old.is_none(), "{row:?} inserts what is there");
            }
            "update" => {
                let old = before().or(row.get(key)).unwrap().to_owned();
                let old = table
                    .remove(&old)
                    .unwrap_or_else(|| panic!("{row:?} has no row before"));
                let mut new = row.columns.clone();
                for name in &row.unchanged {
                    new.insert(name.clone(), old[name].clone());
                }
                table.insert(row.get(key).unwrap().to_owned(), new);
            }
            other => panic!("{other} is not an operation"),
        }
    }
    table
}

/// Replays a table and compares it with the server's, value by value as text.
pub(crate) fn assert_same_table(postgres: &Postgres, lake: &Path, table: &str, key: &str) {
    let mut session = postgres.session();
    session.sql("SET TimeZone = 'UTC'; SET extra_float_digits = 1");
    let columns = session.sql(&format!(
        "SELECT attname FROM pg_attribute WHERE attrelid = '{table}'::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum"
    ));
    let names: Vec<String> = columns
        .into_iter()
        .map(|row| row[0].clone().unwrap())
        .collect();
    let rows = session.sql(&format!("SELECT * FROM {table}"));
    let expected: BTreeMap<String, Columns> = rows
        .into_iter()
        .map(|row| {
            let columns: Columns = names.iter().cloned().zip(row).collect();
            (columns[key].clone().unwrap(), columns)
        })
        .collect();
    let mut replayed = replay(&read(lake, table), key);
    // Rows that were written before a column came or went.
    for columns in replayed.values_mut() {
        columns.retain(|name, _| names.contains(name));
        for name in &names {
            columns.entry(name.clone()).or_insert(None);
        }
    }
    assert_eq!(replayed.len(), expected.len(), "rows of {table}");
    for (id, columns) in &expected {
        assert_eq!(replayed.get(id), Some(columns), "{table} {id}");
    }
}

/// A column of a table counts each row's updates: every step is there once and in order, from
/// the snapshot on. Gives the steps.
pub(crate) fn assert_steps(rows: &[LakeRow], key: &str, counter: &str) -> u64 {
    let mut last: BTreeMap<&str, i64> = BTreeMap::new();
    let mut steps = 0;
    for row in rows {
        let id = row.get(key).unwrap();
        let count: i64 = row.get(counter).unwrap().parse().unwrap();
        match row.op.as_str() {
            "snapshot" => assert_eq!(last.insert(id, count), None, "{row:?}"),
            "update" => {
                assert_eq!(last.insert(id, count), Some(count - 1), "{row:?}");
                steps += 1;
            }
            other => panic!("{other}: {row:?}"),
        }
    }
    steps
}
