//! What BigQuery's refusals mean.
//!
//! Promises: an error names the thing, what BigQuery said and what to do; no message holds a token,
//! a key or an address with a query. Reasons by
//! <https://cloud.google.com/bigquery/docs/error-messages>.

use ftap_lake::{LakeError, LakeFailure};
use ftap_supervision::{Entry, Failure, FailureKind, Retry, Retryable};

use super::batch::ManifestError;
use super::schema::SchemaError;

/// Kinds of failure of BigQuery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BigQueryFailure {
    /// BigQuery does not answer, or refuses for the moment.
    Unavailable,
    /// BigQuery refuses: permission, project, a table's columns, a manifest that is gone.
    Refused,
}

impl FailureKind for BigQueryFailure {
    fn entry(self) -> Entry {
        match self {
            Self::Unavailable => Entry {
                name: "bigquery_unavailable",
                domain: "bigquery",
                retry: Retry::Transient,
                remedy: "check that BigQuery can be reached; what is in the lake is loaded when it can",
            },
            Self::Refused => Entry {
                name: "bigquery_refused",
                domain: "bigquery",
                retry: Retry::Permanent,
                remedy: "fix what the error names and start again, or run `ftap load`: what is in the lake waits for it",
            },
        }
    }
}

/// What was asked of BigQuery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// A dataset's place.
    GetDataset,
    CreateDataset,
    /// A table's columns.
    GetTable,
    CreateTable,
    /// A load job.
    Submit,
    GetJob,
    Query,
}

impl Asked {
    /// Completes "can't …".
    fn action(self) -> &'static str {
        match self {
            Self::GetDataset => "look at the dataset",
            Self::CreateDataset => "create the dataset",
            Self::GetTable => "look at the table",
            Self::CreateTable => "create the table",
            Self::Submit => "submit the load job",
            Self::GetJob => "ask about the load job",
            Self::Query => "query the table",
        }
    }

    /// What the account needs for it.
    fn permission(self) -> &'static str {
        match self {
            Self::GetDataset => "bigquery.datasets.get on the dataset",
            Self::CreateDataset => "bigquery.datasets.create on the project, or create the dataset",
            Self::GetTable => "bigquery.tables.get on the dataset",
            Self::CreateTable => "bigquery.tables.create on the dataset",
            Self::Submit => {
                "bigquery.jobs.create on the project and bigquery.tables.updateData on the dataset"
            }
            Self::GetJob => "bigquery.jobs.get on the project",
            Self::Query => {
                "bigquery.jobs.create on the project and bigquery.tables.getData on the dataset"
            }
        }
    }
}

/// Why something could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum BigQueryError {
    /// BigQuery refused or did not answer.
    #[error("BigQuery {place}: can't {action}: {detail}; {remedy}")]
    Refused {
        /// Project, dataset and table or job.
        place: String,
        /// What was tried.
        action: &'static str,
        /// What BigQuery said.
        detail: String,
        remedy: String,
        /// Whether waiting helps.
        retry: Retry,
    },
    /// A load job ended in an error; it has loaded nothing.
    #[error("BigQuery job {job} into {place} failed: {detail}; {remedy}")]
    Job {
        /// The job's id.
        job: String,
        /// The table.
        place: String,
        /// Reason and message.
        detail: String,
        remedy: String,
        /// Whether another attempt can help.
        retry: Retry,
    },
    /// The dataset is elsewhere than the settings say.
    #[error(
        "BIGQUERY_LOCATION is {wanted} and the dataset {place} is in {there}: unset BIGQUERY_LOCATION, or use another BIGQUERY_DATASET"
    )]
    Location {
        /// Project and dataset.
        place: String,
        wanted: String,
        there: String,
    },
    /// A table that was loaded is not there any more.
    #[error(
        "the table {place} is not there any more, though {objects} objects were loaded into it: restore it (BigQuery keeps deleted tables for some days), or delete {folder}/ in the lake to load everything again"
    )]
    TableGone {
        /// The table.
        place: String,
        /// Objects that were loaded.
        objects: u64,
        /// The folder of its chain.
        folder: String,
    },
    /// BigQuery may have forgotten a job.
    #[error(
        "whether {key} was loaded can't be determined: its job was recorded on {created} and BigQuery forgets jobs after 180 days; look in {place} whether rows of its objects are there: if not, delete {key}, else put {{\"job\":\"\",\"rows\":0,\"rows_loaded\":0}} at {done_key}"
    )]
    Forgotten {
        /// The manifest.
        key: String,
        /// Its date.
        created: String,
        /// The table.
        place: String,
        /// Where its mark would be.
        done_key: String,
    },
    /// Columns that don't go together.
    #[error(transparent)]
    Schema(#[from] SchemaError),
    /// What was written down can't be used.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The lake.
    #[error(transparent)]
    Lake(#[from] LakeError),
    /// A setting.
    #[error("{setting} is {value:?}: {problem}")]
    Setting {
        setting: &'static str,
        value: String,
        problem: String,
    },
}

impl Retryable for BigQueryError {
    fn retry(&self) -> Retry {
        match self {
            Self::Refused { retry, .. } | Self::Job { retry, .. } => *retry,
            Self::Lake(error) => error.retry(),
            _ => Retry::Permanent,
        }
    }
}

impl BigQueryError {
    /// An answer with an error, judged.
    pub fn refused(
        asked: Asked,
        place: String,
        status: Option<u16>,
        reason: &str,
        message: &str,
    ) -> Self {
        let (retry, remedy) = judge(asked, status, reason, message);
        let status = status.map(|status| status.to_string()).unwrap_or_default();
        let parts = [status.as_str(), reason, message];
        let parts: Vec<_> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        Self::Refused {
            place,
            action: asked.action(),
            detail: parts.join(" "),
            remedy,
            retry,
        }
    }

    /// A job's error, judged.
    pub fn job(job: &str, place: &str, bucket: &str, reason: &str, message: &str) -> Self {
        let (retry, remedy) = judge_job(bucket, reason, message);
        Self::Job {
            job: job.to_owned(),
            place: place.to_owned(),
            detail: format!("{reason} {message}").trim().to_owned(),
            remedy,
            retry,
        }
    }
}

impl From<BigQueryError> for Failure {
    fn from(error: BigQueryError) -> Self {
        match (&error, error.retry()) {
            // Its few tries are over.
            (BigQueryError::Lake(_), Retry::Permanent | Retry::Briefly) => {
                Self::from_error(LakeFailure::Refused, error)
            }
            (_, Retry::Permanent | Retry::Briefly) => {
                Self::from_error(BigQueryFailure::Refused, error)
            }
            _ => Self::from_error(BigQueryFailure::Unavailable, error),
        }
    }
}

/// Whether a 404 is about the whole project; names of other things begin with the project's.
pub(super) fn is_of_project(message: &str) -> bool {
    message.contains("Not found: Project")
}

const WAIT: &str = "it is tried again";

fn judge(asked: Asked, status: Option<u16>, reason: &str, message: &str) -> (Retry, String) {
    let wait = (Retry::Transient, WAIT.to_owned());
    match (reason, status) {
        ("rateLimitExceeded" | "jobRateLimitExceeded" | "backendError" | "internalError", _) => {
            wait
        }
        ("quotaExceeded", _) => (
            Retry::Later,
            "a quota of the project is used up: it is tried again; raise it, or set a longer BIGQUERY_LOAD_SECONDS".to_owned(),
        ),
        ("billingNotEnabled", _) => (Retry::Permanent, "enable billing for BIGQUERY_PROJECT".to_owned()),
        ("accessNotConfigured", _) => (
            Retry::Permanent,
            "enable the BigQuery API for BIGQUERY_PROJECT".to_owned(),
        ),
        (_, Some(401)) => (
            Retry::Permanent,
            "check GOOGLE_APPLICATION_CREDENTIALS and this machine's clock".to_owned(),
        ),
        (_, Some(403)) => (
            Retry::Permanent,
            format!(
                "give the account of GOOGLE_APPLICATION_CREDENTIALS the permission {}",
                asked.permission()
            ),
        ),
        (_, Some(404)) if is_of_project(message) => {
            (Retry::Permanent, "check BIGQUERY_PROJECT".to_owned())
        }
        (_, Some(404)) => (
            Retry::Permanent,
            "check BIGQUERY_PROJECT, BIGQUERY_DATASET and BIGQUERY_LOCATION".to_owned(),
        ),
        (_, Some(408 | 425 | 429 | 500..)) | (_, None) => wait,
        (_, Some(_)) => (
            Retry::Permanent,
            "check BIGQUERY_PROJECT and BIGQUERY_DATASET; if they are right, report this as a bug"
                .to_owned(),
        ),
    }
}

fn judge_job(bucket: &str, reason: &str, message: &str) -> (Retry, String) {
    let again = (
        Retry::Transient,
        "it is tried again as a new job".to_owned(),
    );
    match reason {
        "backendError" | "internalError" | "jobBackendError" | "jobInternalError"
        | "rateLimitExceeded" | "jobRateLimitExceeded" | "tableUnavailable" | "timeout"
        | "stopped" | "resourcesExceeded" => again,
        "quotaExceeded" => (
            Retry::Later,
            "a quota is used up (a table takes 1,500 loads a day): it is tried again as a new job; raise it, or set a longer BIGQUERY_LOAD_SECONDS".to_owned(),
        ),
        "accessDenied" => (
            Retry::Permanent,
            format!(
                "give the account of GOOGLE_APPLICATION_CREDENTIALS the permissions storage.objects.get in the bucket {bucket} and bigquery.tables.updateData on the dataset"
            ),
        ),
        "notFound" if message.contains("gs://") => (
            Retry::Permanent,
            format!("restore the object, and check that BigQuery may read the bucket {bucket} from the dataset's location"),
        ),
        "notFound" => (
            Retry::Permanent,
            "check that the dataset and the table are there, and where".to_owned(),
        ),
        "billingNotEnabled" => (Retry::Permanent, "enable billing for BIGQUERY_PROJECT".to_owned()),
        _ if message.contains("different locations") => (
            Retry::Permanent,
            format!("the dataset must be in the location of the bucket {bucket}: load into another BIGQUERY_DATASET, created with that BIGQUERY_LOCATION"),
        ),
        _ => (
            Retry::Permanent,
            "compare the table's columns with those of the named object; a table that can't take it is moved aside, or another BIGQUERY_DATASET loaded".to_owned(),
        ),
    }
}
