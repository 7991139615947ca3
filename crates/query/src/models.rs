//! The dbt project of `dbt/`, part of the program: its models as views, its tests as queries.
//!
//! Promises: what a model says is what dbt would run, with `target.type` being `datafusion`;
//! models come in an order in which each follows those that it reads. Of Jinja there is what the
//! project uses: `ref`, `source`, `config`, `var`, `env_var` and the macros.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock, Mutex};

use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use include_dir::{Dir, include_dir};
use minijinja::value::{Kwargs, Rest};
use minijinja::{Environment, Value, context};
use serde::Deserialize;

static FILES: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../../dbt");
/// Macros for DuckDB only: they ask dbt for its own objects.
const LAKE_MACROS: &str = "macros/lake.sql";

/// A model of the project.
#[derive(Clone, Debug)]
pub struct Model {
    pub name: String,
    /// The folder that it is in: `staging`, `dimensions`, `facts`, `marts` or `fraud`.
    pub layer: String,
    pub description: String,
    /// Its statement, for this engine.
    pub sql: String,
    /// Names of the models and tables that it reads.
    pub reads: BTreeSet<String>,
    pub columns: Vec<ModelColumn>,
    pub tests: Vec<ModelTest>,
}

/// What the project says of a column.
#[derive(Clone, Debug)]
pub struct ModelColumn {
    pub name: String,
    pub description: String,
}

/// A test of the project: no row may contradict it.
#[derive(Clone, Debug)]
pub struct ModelTest {
    /// As in `unique date_key`.
    pub name: String,
    /// Whose rows are the contradictions.
    pub sql: String,
    /// Whether rows only warn.
    pub warns: bool,
}

/// The project can't be read. It is part of the program, so this is a fault of the program.
#[derive(Clone, Debug, thiserror::Error)]
#[error("dbt/{file}: {what}")]
pub struct ModelError {
    file: String,
    what: String,
}

impl ModelError {
    fn new(file: impl Into<String>, what: impl ToString) -> Self {
        Self {
            file: file.into(),
            what: what.to_string(),
        }
    }
}

/// What the project's files say.
struct Project {
    models: Vec<Model>,
    sources: BTreeMap<String, SchemaRef>,
}

/// Reading it takes as long as a small query, and it does not change while the program runs.
fn project() -> Result<&'static Project, ModelError> {
    static PROJECT: LazyLock<Result<Project, ModelError>> = LazyLock::new(|| {
        let files = schema_files()?;
        Ok(Project {
            sources: read_sources(&files)?,
            models: read_models(files)?,
        })
    });
    PROJECT.as_ref().map_err(Clone::clone)
}

/// All models, each after those that it reads.
pub fn models() -> Result<Vec<Model>, ModelError> {
    Ok(project()?.models.clone())
}

/// Columns of the sources, as the project declares them.
pub(crate) fn source_columns() -> Result<&'static BTreeMap<String, SchemaRef>, ModelError> {
    Ok(&project()?.sources)
}

fn read_models(files: Vec<(&str, SchemaFile)>) -> Result<Vec<Model>, ModelError> {
    let entries = files.into_iter().flat_map(|(_, file)| file.models);
    let described: BTreeMap<String, Entry> =
        entries.map(|entry| (entry.name.clone(), entry)).collect();
    let mut models = BTreeMap::new();
    for (path, text) in texts("models", "sql") {
        let mut parts = path.rsplit('/');
        let file = parts.next().unwrap_or(path);
        let name = file.trim_end_matches(".sql").to_owned();
        let layer = parts.next().unwrap_or_default().to_owned();
        let (sql, reads) = render(path, text)?;
        let entry = described.get(&name);
        let model = Model {
            layer,
            description: entry
                .map(|entry| one_line(&entry.description))
                .unwrap_or_default(),
            sql,
            reads,
            columns: entry.map(columns).unwrap_or_default(),
            tests: match entry {
                Some(entry) => tests(entry)?,
                None => Vec::new(),
            },
            name: name.clone(),
        };
        models.insert(name, model);
    }
    Ok(in_order(&models))
}

fn read_sources(files: &[(&str, SchemaFile)]) -> Result<BTreeMap<String, SchemaRef>, ModelError> {
    let mut tables = BTreeMap::new();
    for (path, file) in files {
        for table in file.sources.iter().flat_map(|source| &source.tables) {
            let fields = table.columns.iter().map(|column| {
                let name = column.data_type.as_deref().unwrap_or_default();
                let data_type = data_type(name)
                    .ok_or_else(|| ModelError::new(*path, format!("{name} is not a known type")))?;
                Ok(Field::new(&column.name, data_type, true))
            });
            let fields: Vec<Field> = fields.collect::<Result<_, ModelError>>()?;
            tables.insert(table.name.clone(), Arc::new(Schema::new(fields)));
        }
    }
    Ok(tables)
}

/// A type of the project's sources.
fn data_type(name: &str) -> Option<DataType> {
    Some(match name {
        "string" => DataType::Utf8,
        "bigint" => DataType::Int64,
        "integer" => DataType::Int32,
        "double" => DataType::Float64,
        "date" => DataType::Date32,
        "timestamptz" => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        _ => return None,
    })
}

fn texts(folder: &str, extension: &str) -> impl Iterator<Item = (&'static str, &'static str)> {
    let mut found = Vec::new();
    let mut folders: Vec<&Dir<'static>> = FILES.get_dir(folder).into_iter().collect();
    while let Some(folder) = folders.pop() {
        folders.extend(folder.dirs());
        found.extend(folder.files().filter_map(|file| {
            let path = file.path().to_str()?;
            Some((path, file.contents_utf8()?))
        }));
    }
    found.sort_unstable();
    let wanted = format!(".{extension}");
    found
        .into_iter()
        .filter(move |(path, _)| path.ends_with(&wanted))
}

/// The statement of a model, and what it reads. Macros are global in dbt, so all of them stand
/// before the model.
fn render(path: &str, text: &str) -> Result<(String, BTreeSet<String>), ModelError> {
    let failed = |error: minijinja::Error| ModelError::new(path, format!("{error:#}"));
    let reads = Arc::new(Mutex::new(BTreeSet::new()));
    let mut environment = Environment::new();
    for (name, is_source) in [("ref", false), ("source", true)] {
        let reads = Arc::clone(&reads);
        environment.add_function(name, move |names: Rest<String>| {
            let relation = names
                .get(usize::from(is_source))
                .cloned()
                .unwrap_or_default();
            if let Ok(mut reads) = reads.lock() {
                reads.insert(relation.clone());
            }
            relation
        });
    }
    environment.add_function("config", |_: Rest<Value>, _: Kwargs| "");
    for name in ["var", "env_var"] {
        environment.add_function(name, |names: Rest<Value>| {
            names.get(1).cloned().unwrap_or_default()
        });
    }
    let macros = texts("macros", "sql").filter(|(path, _)| *path != LAKE_MACROS);
    let macros: String = macros.map(|(_, text)| text).collect();
    let whole = format!("{macros}{text}");
    let given = context! { target => context! { type => "datafusion" }, execute => false };
    let sql = environment.render_str(&whole, given).map_err(failed)?;
    let reads = reads.lock().map(|reads| reads.clone()).unwrap_or_default();
    Ok((sql.trim().to_owned(), reads))
}

/// Each after those that it reads; by name where that leaves a choice.
fn in_order(models: &BTreeMap<String, Model>) -> Vec<Model> {
    fn add(
        name: &str,
        models: &BTreeMap<String, Model>,
        done: &mut BTreeSet<String>,
        ordered: &mut Vec<Model>,
    ) {
        if let Some(model) = models.get(name)
            && done.insert(name.to_owned())
        {
            for read in &model.reads {
                add(read, models, done, ordered);
            }
            ordered.push(model.clone());
        }
    }
    let (mut done, mut ordered) = (BTreeSet::new(), Vec::new());
    for name in models.keys() {
        add(name, models, &mut done, &mut ordered);
    }
    ordered
}

#[derive(Deserialize)]
struct SchemaFile {
    #[serde(default)]
    models: Vec<Entry>,
    #[serde(default)]
    sources: Vec<SourceEntry>,
}

#[derive(Deserialize)]
struct SourceEntry {
    tables: Vec<Entry>,
}

/// A model, a source's table or a column of one.
#[derive(Deserialize)]
struct Entry {
    name: String,
    #[serde(default)]
    description: String,
    data_type: Option<String>,
    #[serde(default)]
    columns: Vec<Entry>,
    #[serde(default)]
    data_tests: Vec<serde_json::Value>,
}

/// Path and content of each file that describes models or sources.
fn schema_files() -> Result<Vec<(&'static str, SchemaFile)>, ModelError> {
    let files = texts("models", "yml").map(|(path, text)| {
        let file = serde_saphyr::from_str(text).map_err(|error| ModelError::new(path, error))?;
        Ok((path, file))
    });
    files.collect()
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn columns(entry: &Entry) -> Vec<ModelColumn> {
    let columns = entry.columns.iter().map(|column| ModelColumn {
        name: column.name.clone(),
        description: one_line(&column.description),
    });
    columns.collect()
}

fn tests(model: &Entry) -> Result<Vec<ModelTest>, ModelError> {
    let of_model = model.data_tests.iter().map(|test| (None, test));
    let of_columns = model.columns.iter().flat_map(|column| {
        let tests = column.data_tests.iter();
        tests.map(|test| (Some(column.name.as_str()), test))
    });
    of_model
        .chain(of_columns)
        .map(|(column, test)| data_test(&model.name, column, test))
        .collect()
}

/// A generic test of dbt as a query for the rows that contradict it.
fn data_test(
    model: &str,
    column: Option<&str>,
    test: &serde_json::Value,
) -> Result<ModelTest, ModelError> {
    let failed = |what: String| ModelError::new(model, what);
    let nothing = serde_json::Value::Null;
    let (kind, details) = match test {
        serde_json::Value::String(kind) => (kind.as_str(), &nothing),
        serde_json::Value::Object(only) => only
            .iter()
            .next()
            .map(|(kind, details)| (kind.as_str(), details))
            .ok_or_else(|| failed("an empty test".to_owned()))?,
        other => return Err(failed(format!("{other} is not a test"))),
    };
    let arguments = &details["arguments"];
    let argument = |name: &str| {
        arguments[name]
            .as_str()
            .ok_or_else(|| failed(format!("the test {kind} lacks the argument {name}")))
    };
    let column = match column {
        Some(column) => column,
        None => argument("column_name")?,
    };
    let sql = match kind {
        "not_null" => format!("select * from {model} where ({column}) is null"),
        "unique" => format!(
            "select {column}, count(*) as times from {model} where ({column}) is not null \
             group by 1 having count(*) > 1"
        ),
        "accepted_values" => {
            let values = arguments["values"].as_array().into_iter().flatten();
            let values: Vec<String> = values
                .map(|value| match value {
                    serde_json::Value::String(text) => format!("'{}'", text.replace('\'', "''")),
                    other => other.to_string(),
                })
                .collect();
            format!(
                "select {column}, count(*) as times from {model} where ({column}) is not null \
                 and {column} not in ({}) group by 1",
                values.join(", ")
            )
        }
        "relationships" => {
            let to = argument("to")?;
            let to = to
                .strip_prefix("ref('")
                .and_then(|to| to.strip_suffix("')"))
                .ok_or_else(|| failed(format!("{to} is not ref('…')")))?;
            let field = argument("field")?;
            format!(
                "select child.{column} from {model} as child left join {to} as parent \
                 on child.{column} = parent.{field} \
                 where child.{column} is not null and parent.{field} is null"
            )
        }
        other => return Err(failed(format!("the test {other} is not one of dbt's own"))),
    };
    Ok(ModelTest {
        name: format!("{kind} {column}"),
        sql,
        warns: details["config"]["severity"] == "warn",
    })
}
