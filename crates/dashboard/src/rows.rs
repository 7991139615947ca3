//! Answers of queries, small enough for a page.

use chrono::NaiveDate;
use ftap_query::{Answer, Format, QueryError, write};
use serde_json::Value;

/// Rows of an answer and the names of its columns.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    pub columns: Vec<Column>,
    pub rows: Vec<Vec<Value>>,
    /// Whether there are more.
    pub cut: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Column {
    pub name: String,
    pub is_number: bool,
}

impl Column {
    /// Parts of its name, after each of which a line may break.
    pub(crate) fn parts(&self) -> std::str::SplitInclusive<'_, char> {
        self.name.split_inclusive('_')
    }
}

impl Rows {
    /// At most `limit` rows.
    pub(crate) async fn read(answer: Answer, limit: usize) -> Result<Self, QueryError> {
        let fields = answer.schema().fields().clone();
        let columns = fields.iter().map(|field| Column {
            name: field.name().clone(),
            is_number: field.data_type().is_numeric(),
        });
        let columns: Vec<_> = columns.collect();
        let mut lines = Vec::new();
        let written = write(answer, Format::Json, Some(limit), &mut lines).await?;
        let rows = serde_json::Deserializer::from_slice(&lines)
            .into_iter::<serde_json::Map<String, Value>>()
            .map_while(Result::ok)
            .map(|mut row| {
                let values = columns.iter();
                let values = values.map(|column| row.remove(&column.name).unwrap_or_default());
                values.collect()
            });
        Ok(Self {
            rows: rows.collect(),
            columns,
            cut: written.cut,
        })
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.columns.iter().any(|column| column.name == name)
    }

    fn column(&self, name: &str) -> impl Iterator<Item = &Value> {
        let index = self.columns.iter().position(|column| column.name == name);
        let index = index.unwrap_or(usize::MAX);
        self.rows
            .iter()
            .map(move |row| row.get(index).unwrap_or(&Value::Null))
    }

    /// A column of numbers; NULL stays what it is, a gap.
    pub(crate) fn numbers(&self, name: &str) -> Vec<Option<f64>> {
        self.column(name).map(Value::as_f64).collect()
    }

    /// A column of whole numbers.
    pub(crate) fn integers(&self, name: &str) -> Vec<Option<i64>> {
        self.column(name).map(Value::as_i64).collect()
    }

    /// A column as text; NULL is empty.
    pub(crate) fn texts(&self, name: &str) -> Vec<String> {
        self.column(name).map(plain).collect()
    }

    /// A column of days; what is none is left out.
    pub(crate) fn days(&self, name: &str) -> Vec<NaiveDate> {
        let days = self
            .column(name)
            .filter_map(|day| day.as_str()?.parse().ok());
        days.collect()
    }

    pub(crate) fn sum(&self, name: &str) -> f64 {
        self.column(name).filter_map(Value::as_f64).sum()
    }
}

/// A value as in a file.
pub(crate) fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
