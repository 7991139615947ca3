//! The lake: its data sets, chains and objects, and a page for each object.

use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use ftap_telemetry::figures::size;
use hyper::StatusCode;
use serde::Deserialize;

use super::{Frame, page};
use crate::Dashboard;
use crate::cards::lake::time;
use crate::cards::{CardError, Table, answers, counted, decimal, failure};
use crate::router::{self, Answer, Asked};
use crate::rows::Rows;

pub(crate) const ADDRESS: &str = "/lake";
/// Of an object.
const FIRST_ROWS: usize = 20;

#[derive(Template)]
#[template(path = "lake.html")]
struct Lake {
    frame: Frame,
}

pub(crate) async fn show(State(dashboard): State<Arc<Dashboard>>) -> Answer {
    page(&Lake {
        frame: Frame::of(&dashboard, ADDRESS),
    })
}

/// Which file is asked for.
#[derive(Deserialize)]
pub(crate) struct File {
    #[serde(default)]
    key: String,
}

#[derive(Template)]
#[template(path = "lake_file.html")]
struct FilePage<'a> {
    frame: Frame,
    key: &'a str,
    bytes: String,
    written: String,
    rows: String,
    pairs: Vec<(String, String)>,
    columns: Vec<ColumnRow>,
    row_groups: Vec<RowGroup>,
    all_row_groups: usize,
    first_rows: Table<'a>,
}

struct ColumnRow {
    name: String,
    physical: String,
    logical: String,
    may_be_null: bool,
    compression: String,
    bytes: String,
}

struct RowGroup {
    rows: String,
    compressed: String,
    bytes: String,
}

/// Row groups in the table.
const ROW_GROUPS: usize = 100;

pub(crate) async fn file(
    State(dashboard): State<Arc<Dashboard>>,
    Asked(File { key }): Asked<File>,
) -> Answer {
    match shown(&dashboard, &key).await {
        Ok(answer) => answer,
        Err(error) => failure(&error),
    }
}

async fn shown(dashboard: &Dashboard, key: &str) -> Result<Answer, CardError> {
    let answers = answers(dashboard)?;
    let moment = answers.moment().await?;
    let Some(object) = moment.engine.object(key) else {
        let body = "the lake has no object of that key: /lake lists those that it has\n";
        return Ok(router::plain(StatusCode::NOT_FOUND, body));
    };
    let (bytes, written) = (size(object.bytes), time(object.written));
    let (lake, name) = (answers.lake()?.clone(), key.to_owned());
    let metadata = answers.spawn(async move { lake.parquet_metadata(&name).await });
    let metadata = metadata.await?;
    let name = key.to_owned();
    let rows = answers.spawn(async move {
        let rows = moment.engine.first_rows(&name, FIRST_ROWS).await?;
        Rows::read(rows, FIRST_ROWS).await
    });
    let rows = rows.await?;

    let file = metadata.file_metadata();
    let pairs = file.key_value_metadata().into_iter().flatten();
    let pairs = pairs.map(|pair| (pair.key.clone(), pair.value.clone().unwrap_or_default()));
    let columns = file.schema_descr().columns().iter().enumerate();
    let columns = columns.map(|(index, column)| {
        let chunks = || {
            metadata
                .row_groups()
                .iter()
                .map(move |group| group.column(index))
        };
        let bytes: i64 = chunks().map(|chunk| chunk.compressed_size()).sum();
        let compression = chunks().next().map(|chunk| chunk.compression().to_string());
        let logical = column.logical_type_ref();
        ColumnRow {
            name: column.path().string(),
            physical: column.physical_type().to_string(),
            logical: logical.map_or_else(String::new, |logical| {
                let text = format!("{logical:?}");
                text.split(['(', ' ']).next().unwrap_or_default().to_owned()
            }),
            may_be_null: column.max_def_level() > 0,
            compression: compression.unwrap_or_default(),
            bytes: size(bytes.unsigned_abs()),
        }
    });
    let groups = metadata.row_groups().iter().take(ROW_GROUPS);
    let groups = groups.map(|group| RowGroup {
        rows: decimal(group.num_rows() as f64, 0),
        compressed: size(group.compressed_size().unsigned_abs()),
        bytes: size(group.total_byte_size().unsigned_abs()),
    });
    Ok(page(&FilePage {
        frame: Frame::of(dashboard, ADDRESS),
        key,
        bytes,
        written,
        rows: counted(file.num_rows().unsigned_abs(), "row"),
        // The Arrow schema is there for programs.
        pairs: pairs.filter(|(key, _)| key != "ARROW:schema").collect(),
        columns: columns.collect(),
        row_groups: groups.collect(),
        all_row_groups: metadata.num_row_groups(),
        first_rows: Table::plain(&rows, FIRST_ROWS),
    }))
}
