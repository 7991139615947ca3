//! Objects of changes into the lake, one after the other.

use ftap_lake::{Adoption, Committed, StageLake};
use ftap_supervision::{Failure, Stage, failpoint};
use ftap_telemetry::events::{ChangesCommitted, ChangesOvertaken};
use ftap_telemetry::metrics;

use super::CaptureFailure;
use crate::ChangeFile;
use crate::chain::ChangeConflict;

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
    if let Committed::Overtaken(theirs) = lake.commit("change_capture", file).await? {
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
