//! Objects of changes into the lake, one after the other.

use crate::lake::read_footer;
use ftap_lake::store::{LakeStore, PutOutcome};
use ftap_lake::{LakeOutage, Retries};
use ftap_supervision::{Failure, Stage, failpoint};
use ftap_telemetry::events::{ChangesCommitted, ChangesOvertaken};
use ftap_telemetry::metrics;

use super::CaptureFailure;
use crate::ChangeFile;
use crate::chain::{Adoption, on_already_exists};

/// Tries until the object, or another one in its place, is in the lake.
pub(super) async fn put(
    stage: &Stage,
    lake: &LakeStore,
    outage: &LakeOutage,
    file: &ChangeFile,
    reason: &str,
) -> Result<Adoption, Failure> {
    let key = file.name.key();
    let mut retries = Retries::new(stage, outage, &key);
    let theirs = loop {
        failpoint::hit("change_capture")?;
        let result = {
            let _waiting = stage.progress().waiting();
            match lake.put_create(&key, file.bytes.clone()).await {
                Ok(PutOutcome::Created) => Ok(None),
                Ok(PutOutcome::AlreadyExists) => read_footer(lake, &file.name).await.map(Some),
                Err(error) => Err(error),
            }
        };
        match result {
            Ok(theirs) => {
                outage.answered(stage);
                break theirs;
            }
            Err(error) => retries.wait(error).await?,
        }
    };
    let footer = &file.footer;
    if let Some(theirs) = theirs {
        let adoption = on_already_exists(footer, &theirs)
            .map_err(|error| Failure::from_error(CaptureFailure::Conflict, error))?;
        if adoption == Adoption::Overtaken {
            ChangesOvertaken {
                key,
                writer: theirs.writer_id,
            }
            .emit(stage.speaker());
            return Ok(adoption);
        }
    }
    failpoint::hit("change_capture.committed")?;
    let bytes = file.bytes.len() as u64;
    metrics::CHANGES_COMMITTED.add_for([&footer.table], footer.rows);
    metrics::CHANGE_FILES_COMMITTED.add_for([&footer.table], 1);
    metrics::BYTES_COMMITTED.add(bytes);
    ChangesCommitted {
        key,
        table: footer.table.clone(),
        first: footer.first.to_string(),
        last: footer.last.to_string(),
        rows: footer.rows,
        bytes,
        reason: reason.to_owned(),
        duration_ms: file.opened_at.elapsed().as_millis() as u64,
    }
    .emit(stage.speaker());
    Ok(Adoption::Same)
}
