//! What is asked of BigQuery.

use async_trait::async_trait;
use ftap_lake::DataSet;

use super::error::BigQueryError;
use super::schema::Column;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadJob {
    /// Its id; BigQuery runs no second job of the same id.
    pub id: String,
    /// Where it runs: the dataset's location.
    pub location: String,
    pub table: &'static str,
    /// Objects, as `gs://` addresses.
    pub uris: Vec<String>,
    /// All columns that the table has afterwards.
    pub columns: Vec<Column>,
    /// Whether some of them are new.
    pub adds_columns: bool,
}

/// What happened to a submission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Submitted {
    /// The job is on its way.
    Now,
    /// There is a job of that id.
    Before,
}

/// Why a job ended in an error.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobFailure {
    /// BigQuery's reason, `backendError` for instance.
    pub reason: String,
    /// What it says about it.
    pub message: String,
}

/// What a job is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobState {
    /// There is none of that id.
    Unknown,
    /// It waits or runs.
    Running,
    /// It has loaded so many rows.
    Done { rows: u64 },
    /// It has loaded nothing.
    Failed(JobFailure),
}

/// Rows of a table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub rows: u64,
    /// Different ones.
    pub distinct: u64,
}

/// BigQuery, as far as it is needed: one project, one dataset.
///
/// Every request ends within a limit of time. None is repeated, but for a new token.
#[async_trait]
pub trait Warehouse: Send + Sync {
    /// Where the dataset is, `None` if there is none.
    async fn dataset_location(&self) -> Result<Option<String>, BigQueryError>;
    /// Makes the dataset; one that is there is fine.
    async fn create_dataset(&self, location: &str) -> Result<(), BigQueryError>;
    /// A table's columns, `None` if there is no such table.
    async fn columns(&self, table: &DataSet) -> Result<Option<Vec<Column>>, BigQueryError>;
    /// Makes a table; one that is there is fine.
    async fn create_table(&self, table: &DataSet, columns: &[Column]) -> Result<(), BigQueryError>;
    /// Submits a job. After an error it may be on its way all the same.
    async fn submit(&self, job: &LoadJob) -> Result<Submitted, BigQueryError>;
    /// What a job is doing.
    async fn job(&self, id: &str, location: &str) -> Result<JobState, BigQueryError>;
    /// Counts a table's rows, `None` if there is no such table.
    async fn count(&self, table: &DataSet, location: &str)
    -> Result<Option<Counts>, BigQueryError>;
}
