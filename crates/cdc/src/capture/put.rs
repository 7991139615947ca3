//! Objects of changes and checkpoints into the lake, one after the other.

use ftap_lake::{Adoption, LakeStore, PutResult, StageLake};
use ftap_supervision::{Failure, Stage, failpoint};
use ftap_telemetry::events::{ChangesCommitted, ChangesOvertaken};
use ftap_telemetry::metrics;

use super::CaptureFailure;
use crate::chain::{ChangeConflict, PlanError};
use crate::checkpoint::Checkpoint;
use crate::{ChangeFile, lake};

/// Puts a checkpoint. One of the same commit that was there first is as good as ours.
pub(super) async fn put_checkpoint(
    lake: &StageLake,
    checkpoint: &Checkpoint,
) -> Result<(), Failure> {
    let key = checkpoint.name().to_string();
    let put = async |lake: &LakeStore| lake::put_checkpoint(lake, checkpoint).await;
    match lake.ask(&key, put).await? {
        Some(theirs) if theirs.witness != checkpoint.witness => {
            let named = |checkpoint: &Checkpoint| match &checkpoint.witness {
                Some(witness) => witness.to_string(),
                None => "a snapshot".to_owned(),
            };
            let error = PlanError::AnotherHistory {
                recorded: theirs.confirmed,
                what: format!("it has {}, {key} has {}", named(checkpoint), named(&theirs)),
            };
            Err(error.into())
        }
        _ => {
            failpoint::hit("change_capture.recorded")?;
            Ok(())
        }
    }
}

impl From<PlanError> for Failure {
    fn from(error: PlanError) -> Self {
        Self::from_error(CaptureFailure::Conflict, error)
    }
}

impl From<ChangeConflict> for Failure {
    fn from(error: ChangeConflict) -> Self {
        Self::from_error(CaptureFailure::Conflict, error)
    }
}

/// Tries until the object, or another one in its place, is in the lake.
pub(super) async fn put(
    stage: &Stage,
    lake: &StageLake,
    file: &ChangeFile,
    reason: &str,
) -> Result<Adoption, Failure> {
    if let PutResult::Overtaken(theirs) = lake.put("change_capture", file).await? {
        ChangesOvertaken {
            key: file.key(),
            writer: theirs.writer_id,
        }
        .emit(stage.speaker());
        return Ok(Adoption::Overtaken);
    }
    failpoint::hit("change_capture.committed")?;
    let footer = &file.footer;
    let bytes = file.bytes.len() as u64;
    metrics::CHANGES_COMMITTED.add_for([&footer.table], footer.rows);
    metrics::CHANGE_FILES_COMMITTED.add_for([&footer.table], 1);
    metrics::BYTES_COMMITTED.add(bytes);
    ChangesCommitted {
        key: file.key(),
        table: footer.table.clone(),
        first: footer.first().to_string(),
        last: footer.last().to_string(),
        rows: footer.rows,
        bytes,
        reason: reason.to_owned(),
        duration_ms: file.opened_at.elapsed().as_millis() as u64,
    }
    .emit(stage.speaker());
    Ok(Adoption::Same)
}
