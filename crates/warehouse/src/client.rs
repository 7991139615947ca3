//! BigQuery by `gcp-bigquery-client`.
//!
//! Promises: each request ends within its limit of time, its token's included; a token goes to
//! Google over https alone, a test server never sees one, and none is in an error; one that is
//! refused is renewed once. Credentials are the lake's: the key file, or the metadata server. Relies on the crate for the
//! API's messages; the crate repeats no request by itself.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use ftap_http_client::{is_this_machine, problem_of, without_path};
use ftap_lake::{DataSet, DayOf};
use gcp_bigquery_client::Client;
use gcp_bigquery_client::client_builder::ClientBuilder;
use gcp_bigquery_client::error::{BQError, NestedResponseError};
use gcp_bigquery_client::model::clustering::Clustering;
use gcp_bigquery_client::model::dataset::Dataset;
use gcp_bigquery_client::model::error_proto::ErrorProto;
use gcp_bigquery_client::model::field_type::FieldType;
use gcp_bigquery_client::model::get_query_results_parameters::GetQueryResultsParameters;
use gcp_bigquery_client::model::job::Job;
use gcp_bigquery_client::model::job_configuration::JobConfiguration;
use gcp_bigquery_client::model::job_configuration_load::JobConfigurationLoad;
use gcp_bigquery_client::model::job_reference::JobReference;
use gcp_bigquery_client::model::query_request::QueryRequest;
use gcp_bigquery_client::model::query_response::{QueryResponse, ResultSet};
use gcp_bigquery_client::model::table::Table as ApiTable;
use gcp_bigquery_client::model::table_field_schema::TableFieldSchema;
use gcp_bigquery_client::model::table_reference::TableReference;
use gcp_bigquery_client::model::table_schema::TableSchema;
use gcp_bigquery_client::model::time_partitioning::TimePartitioning;
use serde_json::Value;

use super::BigQuerySettings;
use super::error::{Asked, BigQueryError, is_of_project};
use super::schema::{Column, ColumnType};
use super::tokens::Tokens;
use super::warehouse::{Counts, JobFailure, JobState, LoadJob, Submitted, Warehouse};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long one request waits for a query; it is asked again until the limit below.
const QUERY_WAIT_MS: i32 = 10_000;
const QUERY_LIMIT: Duration = Duration::from_secs(600);

/// A client of one dataset.
pub struct BigQueryClient {
    client: Client,
    tokens: Tokens,
    project: String,
    dataset: String,
    request_timeout: Duration,
}

impl BigQueryClient {
    /// Checks address and credentials file; nothing is sent.
    pub async fn open(settings: &BigQuerySettings) -> Result<Self, BigQueryError> {
        let tokens = Tokens::open(settings)?;
        let mut http = reqwest::Client::builder()
            .user_agent(concat!("ftap/", env!("CARGO_PKG_VERSION")))
            // A token must not travel along.
            .redirect(reqwest::redirect::Policy::none())
            .timeout(settings.policy.request_timeout)
            .connect_timeout(CONNECT_TIMEOUT.min(settings.policy.request_timeout));
        let mut builder = ClientBuilder::new();
        if let Some(address) = &settings.api_url {
            let url = reqwest::Url::parse(address);
            if url.is_ok_and(|url| is_this_machine(&url)) {
                http = http.no_proxy();
            }
            builder.with_v2_base_url(address.trim_end_matches('/').to_owned());
        }
        let http = http
            .build()
            .map_err(|error| setting(settings, &problem_of(error)))?;
        let client = builder
            .with_client(http)
            .build_from_authenticator(Arc::new(tokens.clone()))
            .await
            .map_err(|error| setting(settings, &error.to_string()))?;
        Ok(Self {
            client,
            tokens,
            project: settings.project.clone(),
            dataset: settings.dataset.clone(),
            request_timeout: settings.policy.request_timeout,
        })
    }

    fn place(&self, of: &str) -> String {
        match of {
            "" => format!("{}.{}", self.project, self.dataset),
            of => format!("{}.{}.{of}", self.project, self.dataset),
        }
    }

    /// One request, repeated with a new token if that is refused.
    async fn ask<T, F>(
        &self,
        asked: Asked,
        of: &str,
        request: impl Fn() -> F,
    ) -> Result<Answer<T>, BigQueryError>
    where
        F: Future<Output = Result<T, BQError>>,
    {
        let mut renewed = false;
        loop {
            let token = self.tokens.forget_problem();
            let limit = tokio::time::timeout(self.request_timeout, request());
            let error = match limit.await {
                Ok(Ok(answer)) => return Ok(Answer::Yes(answer)),
                Ok(Err(error)) => error,
                Err(_) => {
                    let seconds = self.request_timeout.as_secs();
                    let message = format!("no answer within {seconds} s");
                    return Err(self.refused(asked, of, None, "", &message));
                }
            };
            let (status, reason, message) = match error {
                BQError::ResponseError { error } => parts(error.error),
                BQError::RequestError(error) if error.is_decode() => {
                    let message = "the answer is none of BigQuery's (a proxy's page?)";
                    (None, String::new(), message.to_owned())
                }
                BQError::RequestError(error) => (None, String::new(), problem_of(error)),
                BQError::NoToken => return Err(self.tokens.problem()),
                // The others belong to parts of the crate that are not used.
                other => (None, String::new(), other.to_string()),
            };
            match status {
                Some(404) => return Ok(Answer::NotThere(reason, message)),
                Some(409) => return Ok(Answer::AlreadyThere),
                Some(401) if !renewed => {
                    renewed = true;
                    self.tokens.renew(token)?;
                }
                _ => return Err(self.refused(asked, of, status, &reason, &message)),
            }
        }
    }

    fn refused(
        &self,
        asked: Asked,
        of: &str,
        status: Option<u16>,
        reason: &str,
        message: &str,
    ) -> BigQueryError {
        BigQueryError::refused(asked, self.place(of), status, reason, message)
    }

    fn not_there(&self, asked: Asked, of: &str, reason: &str, message: &str) -> BigQueryError {
        self.refused(asked, of, Some(404), reason, message)
    }

    fn garbled(&self, asked: Asked, of: &str, what: &str) -> BigQueryError {
        self.refused(asked, of, None, "", &format!("the answer has no {what}"))
    }

    async fn query(
        &self,
        of: &str,
        request: QueryRequest,
    ) -> Result<Option<QueryResponse>, BigQueryError> {
        let location = request.location.clone();
        let ended = tokio::time::Instant::now() + QUERY_LIMIT;
        let first = self
            .ask(Asked::Query, of, || {
                self.client.job().query(&self.project, request.clone())
            })
            .await?;
        let mut answer = match first {
            Answer::Yes(answer) => answer,
            Answer::NotThere(..) => return Ok(None),
            Answer::AlreadyThere => return Err(self.garbled(Asked::Query, of, "result")),
        };
        while answer.job_complete != Some(true) {
            let job = answer
                .job_reference
                .as_ref()
                .and_then(|job| job.job_id.clone());
            let job = job.ok_or_else(|| self.garbled(Asked::Query, of, "job"))?;
            if tokio::time::Instant::now() > ended {
                let message = format!("job {job} runs for more than {} s", QUERY_LIMIT.as_secs());
                return Err(self.refused(Asked::Query, of, None, "", &message));
            }
            let parameters = || GetQueryResultsParameters {
                location: location.clone(),
                timeout_ms: Some(QUERY_WAIT_MS),
                ..GetQueryResultsParameters::default()
            };
            let next = self.ask(Asked::Query, of, || {
                self.client
                    .job()
                    .get_query_results(&self.project, &job, parameters())
            });
            answer = match next.await? {
                Answer::Yes(answer) => answer.into(),
                _ => return Ok(None),
            };
        }
        Ok(Some(answer))
    }
}

enum Answer<T> {
    Yes(T),
    /// 404, with reason and message.
    NotThere(String, String),
    /// 409
    AlreadyThere,
}

#[async_trait]
impl Warehouse for BigQueryClient {
    async fn dataset_location(&self) -> Result<Option<String>, BigQueryError> {
        let asked = Asked::GetDataset;
        let answer = self.ask(asked, "", || {
            self.client.dataset().get(&self.project, &self.dataset)
        });
        match answer.await? {
            Answer::Yes(dataset) => Ok(Some(dataset.location.unwrap_or_default())),
            Answer::NotThere(reason, message) if is_of_project(&message) => {
                Err(self.not_there(asked, "", &reason, &message))
            }
            _ => Ok(None),
        }
    }

    async fn create_dataset(&self, location: &str) -> Result<(), BigQueryError> {
        let asked = Asked::CreateDataset;
        let answer = self.ask(asked, "", || {
            let dataset = Dataset::new(&self.project, &self.dataset).location(location);
            self.client.dataset().create(dataset)
        });
        match answer.await? {
            Answer::NotThere(reason, message) => Err(self.not_there(asked, "", &reason, &message)),
            _ => Ok(()),
        }
    }

    async fn columns(&self, table: &DataSet) -> Result<Option<Vec<Column>>, BigQueryError> {
        let asked = Asked::GetTable;
        let answer = self.ask(asked, table.name, || {
            self.client
                .table()
                .get(&self.project, &self.dataset, table.name, None)
        });
        match answer.await? {
            Answer::Yes(found) => {
                let fields = found.schema.fields.unwrap_or_default();
                Ok(Some(fields.into_iter().map(column).collect()))
            }
            _ => Ok(None),
        }
    }

    async fn create_table(&self, table: &DataSet, columns: &[Column]) -> Result<(), BigQueryError> {
        let asked = Asked::CreateTable;
        let answer = self.ask(asked, table.name, || {
            let schema = TableSchema::new(columns.iter().map(field).collect());
            let mut made = ApiTable::new(&self.project, &self.dataset, table.name, schema);
            let day = TimePartitioning::per_day();
            made.time_partitioning = Some(match table.day_of_row {
                DayOf::Column(column) => day.field(column),
                DayOf::Load => day,
            });
            let clustering = table.clustering.iter();
            let clustering = clustering.filter(|name| columns.iter().any(|c| c.name == **name));
            let clustering: Vec<_> = clustering.map(|name| (*name).to_owned()).collect();
            made.clustering = (!clustering.is_empty()).then_some(Clustering {
                fields: Some(clustering),
            });
            self.client.table().create(made)
        });
        match answer.await? {
            Answer::NotThere(reason, message) => {
                Err(self.not_there(asked, table.name, &reason, &message))
            }
            _ => Ok(()),
        }
    }

    async fn submit(&self, job: &LoadJob) -> Result<Submitted, BigQueryError> {
        let asked = Asked::Submit;
        let text = |text: &str| Some(text.to_owned());
        let answer = self.ask(asked, job.table, || {
            let load = JobConfigurationLoad {
                destination_table: Some(TableReference::new(
                    &self.project,
                    &self.dataset,
                    job.table,
                )),
                source_uris: Some(job.uris.clone()),
                source_format: text("PARQUET"),
                schema: Some(TableSchema::new(job.columns.iter().map(field).collect())),
                schema_update_options: job
                    .adds_columns
                    .then(|| vec!["ALLOW_FIELD_ADDITION".to_owned()]),
                // A table that was deleted must not come back without its partitions.
                create_disposition: text("CREATE_NEVER"),
                write_disposition: text("WRITE_APPEND"),
                ..JobConfigurationLoad::default()
            };
            let job = Job {
                configuration: Some(JobConfiguration {
                    load: Some(load),
                    ..JobConfiguration::default()
                }),
                job_reference: Some(JobReference {
                    job_id: Some(job.id.clone()),
                    location: Some(job.location.clone()),
                    project_id: Some(self.project.clone()),
                }),
                ..Job::default()
            };
            self.client.job().insert(&self.project, job)
        });
        match answer.await? {
            Answer::Yes(_) => Ok(Submitted::Now),
            Answer::AlreadyThere => Ok(Submitted::Before),
            Answer::NotThere(reason, message) => {
                Err(self.not_there(asked, job.table, &reason, &message))
            }
        }
    }

    async fn job(&self, id: &str, location: &str) -> Result<JobState, BigQueryError> {
        let asked = Asked::GetJob;
        let answer = self.ask(asked, id, || {
            self.client.job().get_job(&self.project, id, Some(location))
        });
        let job = match answer.await? {
            Answer::Yes(job) => job,
            Answer::NotThere(reason, message) if is_of_project(&message) => {
                return Err(self.not_there(asked, id, &reason, &message));
            }
            _ => return Ok(JobState::Unknown),
        };
        let status = job.status.unwrap_or_default();
        if let Some(error) = status.error_result {
            return Ok(JobState::Failed(failure(error)));
        }
        match status.state.as_deref() {
            Some("DONE") => {
                let load = job.statistics.and_then(|statistics| statistics.load);
                let rows = load.and_then(|load| load.output_rows?.parse().ok());
                let rows = rows.ok_or_else(|| self.garbled(asked, id, "outputRows"))?;
                Ok(JobState::Done { rows })
            }
            Some(_) => Ok(JobState::Running),
            None => Err(self.garbled(asked, id, "state")),
        }
    }

    async fn count(
        &self,
        table: &DataSet,
        location: &str,
    ) -> Result<Option<Counts>, BigQueryError> {
        let identity = table.identity.join(", ");
        // Groups, not distinct texts: nulls count, and no value is taken apart.
        let sql = format!(
            "SELECT COUNT(*) AS different, COALESCE(SUM(n), 0) AS all_rows FROM (SELECT COUNT(*) AS n FROM `{}` GROUP BY {identity}) AS rows_alike",
            self.place(table.name)
        );
        let mut request = QueryRequest::new(sql);
        request.location = Some(location.to_owned());
        request.timeout_ms = Some(QUERY_WAIT_MS);
        // An answer of before the last load would be a false alarm.
        request.use_query_cache = Some(false);
        let Some(answer) = self.query(table.name, request).await? else {
            return Ok(None);
        };
        let mut rows = ResultSet::new_from_query_response(answer);
        let counts = rows.next_row().then(|| {
            let number = |column| u64::try_from(rows.get_i64(column).ok()??).ok();
            Some(Counts {
                distinct: number(0)?,
                rows: number(1)?,
            })
        });
        match counts.flatten() {
            Some(counts) => Ok(Some(counts)),
            None => Err(self.garbled(Asked::Query, table.name, "counts")),
        }
    }
}

/// By one of the names that the API gives its types.
fn field_type(kind: &ColumnType) -> FieldType {
    let name = Value::String(kind.to_string());
    // Ours are all there, and others came from the API by the same names.
    serde_json::from_value(name).unwrap_or(FieldType::String)
}

fn field(column: &Column) -> TableFieldSchema {
    let mut field = TableFieldSchema::new(&column.name, field_type(&column.kind));
    field.mode = column.mode.clone();
    field
}

fn column(field: TableFieldSchema) -> Column {
    let kind = match serde_json::to_value(&field.r#type) {
        Ok(Value::String(name)) => name,
        _ => String::new(),
    };
    Column {
        name: field.name,
        kind: kind.into(),
        mode: field.mode.filter(|mode| mode != "NULLABLE"),
    }
}

fn failure(error: ErrorProto) -> JobFailure {
    JobFailure {
        reason: error.reason.unwrap_or_default(),
        message: error.message.unwrap_or_default(),
    }
}

fn parts(error: NestedResponseError) -> (Option<u16>, String, String) {
    let reason = error.errors.first().and_then(|first| first.get("reason"));
    let reason = reason.cloned().unwrap_or_default();
    (u16::try_from(error.code).ok(), reason, error.message)
}

fn setting(settings: &BigQuerySettings, problem: &str) -> BigQueryError {
    BigQueryError::Setting {
        setting: "BIGQUERY_API_URL",
        value: settings
            .api_url
            .as_deref()
            .map(without_path)
            .unwrap_or_default(),
        problem: problem.to_owned(),
    }
}
