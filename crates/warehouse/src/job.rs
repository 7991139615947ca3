//! One load job from its submission to its end, over as many attempts as it takes.
//!
//! Promises: attempt n + 1 is submitted only when n is known to have failed, so of all attempts at
//! most one loads; the next loader finds the attempt that decides, no matter which loader submitted it.

use chrono::{DateTime, SecondsFormat, Utc};
use ftap_lake::DataSet;
use ftap_telemetry::events::{BigQueryJobFailed, BigQueryJobSubmitted};
use ftap_telemetry::metrics;

use super::batch::{AttemptSearch, JOB_MEMORY_DAYS, done_key, job_id, manifest_key};
use super::error::BigQueryError;
use super::ledger::{Last, Ledger};
use super::load::Context;
use super::warehouse::{JobFailure, JobState, LoadJob, Submitted, Warehouse};

/// Looks at a job that was submitted and is not to be seen, before it is submitted again: under
/// its own id that loads nothing twice.
const UNSEEN_LOOKS: u32 = 10;

/// The id of an attempt's job.
pub(super) fn id_of(last: &Last, attempt: u64) -> String {
    let manifest = &last.manifest;
    job_id(
        &manifest.table,
        manifest.sequence,
        &last.fingerprint,
        attempt,
    )
}

/// The first attempt that has not failed. That an attempt has failed before we came says nothing
/// about the next one: the cause of the failure may be fixed.
pub(super) async fn deciding_attempt(
    warehouse: &dyn Warehouse,
    last: &Last,
) -> Result<u64, BigQueryError> {
    let mut search = AttemptSearch::default();
    loop {
        let attempt = match search.next() {
            Ok(attempt) => attempt,
            Err(found) => return Ok(found),
        };
        let id = id_of(last, attempt);
        let state = warehouse.job(&id, &last.manifest.location).await?;
        search.note(attempt, matches!(state, JobState::Failed(_)));
    }
}

impl Context<'_> {
    /// The id of the job that loaded the manifest, and the rows that it loaded.
    pub(super) async fn run_job(
        &self,
        table: &DataSet,
        ledger: &Ledger,
        last: &Last,
    ) -> Result<(String, u64), BigQueryError> {
        let mut attempt = deciding_attempt(self.warehouse, last).await?;
        let mut retries = self.settings.policy.retry.start();
        loop {
            let id = id_of(last, attempt);
            let failure = match self.await_job(table, ledger, last, &id).await? {
                Ok(rows) => {
                    metrics::BIGQUERY_JOBS.add_for(["done"], 1);
                    return Ok((id, rows));
                }
                Err(failure) => failure,
            };
            metrics::BIGQUERY_JOBS.add_for(["failed"], 1);
            let bucket = &self.settings.bucket;
            let (reason, message) = (&failure.reason, &failure.message);
            let error = BigQueryError::job(&id, &self.place(table), bucket, reason, message);
            // Otherwise the attempt is used up: the next start makes another.
            let Some(pause) = retries.after(&error) else {
                return Err(error);
            };
            BigQueryJobFailed {
                error: error.to_string(),
                retry_in_ms: pause.ms(),
            }
            .emit(self.speaker);
            tokio::time::sleep(pause.length).await;
            attempt += 1;
        }
    }

    /// Submits the job unless there is one of its id, and waits for its end: rows, or why it failed.
    async fn await_job(
        &self,
        table: &DataSet,
        ledger: &Ledger,
        last: &Last,
        id: &str,
    ) -> Result<Result<u64, JobFailure>, BigQueryError> {
        let manifest = &last.manifest;
        let mut poll = self.settings.policy.first_poll;
        let mut unseen = UNSEEN_LOOKS;
        loop {
            match self.warehouse.job(id, &manifest.location).await? {
                JobState::Done { rows } => return Ok(Ok(rows)),
                JobState::Failed(failure) => return Ok(Err(failure)),
                JobState::Running => {}
                // What was just submitted may take a moment to be seen.
                JobState::Unknown if unseen < UNSEEN_LOOKS => unseen += 1,
                JobState::Unknown => {
                    self.submit(table, ledger, last, id).await?;
                    unseen = 0;
                    // Small loads are over in a second or two.
                    poll = self.settings.policy.first_poll;
                }
            }
            tokio::time::sleep(poll).await;
            poll = (poll * 2).min(self.settings.policy.longest_poll);
        }
    }

    async fn submit(
        &self,
        table: &DataSet,
        ledger: &Ledger,
        last: &Last,
        id: &str,
    ) -> Result<(), BigQueryError> {
        let manifest = &last.manifest;
        let key = manifest_key(ledger.folder(), manifest.sequence);
        let created = DateTime::from_timestamp_millis(manifest.created_ms).unwrap_or_default();
        if Utc::now() - created > chrono::TimeDelta::days(JOB_MEMORY_DAYS) {
            return Err(BigQueryError::Forgotten {
                key,
                created: created.to_rfc3339_opts(SecondsFormat::Secs, true),
                place: self.place(table),
                done_key: done_key(ledger.folder(), manifest.sequence),
            });
        }
        let (columns, adds_columns) = self
            .columns_after(table, ledger, &manifest.columns, &key)
            .await?;
        let job = LoadJob {
            id: id.to_owned(),
            location: manifest.location.clone(),
            table: table.name,
            uris: manifest.uris(&self.settings.bucket),
            columns,
            adds_columns,
        };
        let submitted = self.warehouse.submit(&job).await?;
        BigQueryJobSubmitted {
            table: table.name.to_owned(),
            job: job.id,
            manifest: key,
            objects: manifest.objects.len() as u64,
            rows: manifest.rows(),
            resumed: submitted == Submitted::Before,
        }
        .emit(self.speaker);
        Ok(())
    }
}
