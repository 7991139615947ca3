//! One connection's life: plan, snapshot if need be, and where the stream continues.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Instant;

use deadpool_postgres::{Object, Pool};
use ftap_lake::{LakeStore, StageLake};
use ftap_postgres::{
    PostgresError, PostgresFailure, PostgresSettings, connection, prepare, report_loaded,
};
use ftap_supervision::{Failure, Internal, Retry, Retryable, Stage};
use ftap_telemetry::events::{ChangesStreaming, ContinuityUnproven};

use super::CaptureParts;
use super::heartbeat::Heartbeat;
use super::lag::LagClock;
use super::put::put_checkpoint;
use super::stream::Streaming;
use super::tables::KnownTables;
use crate::buffer::ChangeBuffer;
use crate::catalog::Catalog;
use crate::chain::{LakeEpoch, PlanError, Resume, ServerState};
use crate::checkpoint::{Checkpoint, CheckpointParts};
use crate::file::Origin;
use crate::lake::newest_epoch;
use crate::server::{Control, SlotSample};
use crate::snapshot::SnapshotError;
use crate::source::SourceError;
use crate::wire::Wire;
use crate::{Plan, Position, TABLES, plan};

/// How a session ended well.
pub(super) enum SessionEnd {
    /// There is nothing more to do.
    Finished,
    /// Plan again.
    Again,
}

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub(super) enum SessionError {
    /// The server; the error says whether to try again.
    Postgres(#[from] PostgresError),
    /// The stream.
    Source(#[from] SourceError),
    /// No other session can help.
    Stage(#[from] Failure),
}

impl SessionError {
    /// Whether the server did not answer.
    pub(super) fn is_silence(&self) -> bool {
        match self {
            Self::Postgres(error) => error.is_silence(),
            Self::Source(error) => matches!(error, SourceError::Gone(_)),
            Self::Stage(_) => false,
        }
    }
}

impl Retryable for SessionError {
    fn retry(&self) -> Retry {
        match self {
            // Tables that are missing are waited for: the process that creates them starts at the
            // same time.
            Self::Postgres(PostgresError::OtherSchema { .. }) => Retry::Transient,
            Self::Postgres(error) => error.retry(),
            Self::Source(SourceError::Gone(_) | SourceError::Refused(_)) => Retry::Transient,
            Self::Source(SourceError::Garbled(_) | SourceError::Unsendable(_)) | Self::Stage(_) => {
                Retry::Permanent
            }
        }
    }
}

impl From<SessionError> for Failure {
    fn from(error: SessionError) -> Self {
        match error {
            SessionError::Postgres(error) => error.into(),
            SessionError::Source(error @ SourceError::Unsendable(_)) => {
                Self::from_error(PostgresFailure::Refused, error)
            }
            SessionError::Source(error) => Self::from_error(Internal::Bug, error),
            SessionError::Stage(error) => error,
        }
    }
}

impl From<SnapshotError> for SessionError {
    fn from(error: SnapshotError) -> Self {
        match error {
            SnapshotError::Postgres(error) => Self::Postgres(error),
            SnapshotError::File(error) => Self::Stage(error.into()),
        }
    }
}

/// What a session needs.
pub(super) struct Session<'a> {
    pub(super) stage: &'a Stage,
    pub(super) pool: Pool,
    pub(super) postgres: &'a PostgresSettings,
    pub(super) parts: &'a CaptureParts,
    pub(super) lake: &'a StageLake,
}

/// A plan, and the server that it was made for.
pub(super) struct Planned {
    pub(super) plan: Plan,
    origin: Origin,
    catalog: Catalog,
}

impl Origin {
    /// What a checkpoint of this stream is made from.
    pub(super) fn checkpoint(
        &self,
        ends: BTreeMap<String, Position>,
        catalog: &Catalog,
    ) -> CheckpointParts<'_> {
        CheckpointParts {
            epoch: self.epoch,
            slot: &self.slot,
            system: &self.system,
            writer_id: &self.writer_id,
            ends,
            catalog: catalog.clone(),
        }
    }
}

impl Session<'_> {
    /// Plans, and does one step of the plan.
    pub(super) async fn run(&self, lag: &mut LagClock) -> Result<SessionEnd, SessionError> {
        let prepare = async {
            let Planned {
                plan,
                origin,
                catalog,
            } = self.plan().await?;
            match plan {
                Plan::Snapshot { epoch, reason } => {
                    self.snapshot(origin, epoch, reason).await?;
                    Ok(None)
                }
                Plan::Stream { epoch, resume } => {
                    let origin = Origin { epoch, ..origin };
                    let Some((wire, sample)) = self.open(&origin, &resume).await? else {
                        return Ok(None);
                    };
                    let streaming = self.resume(origin, *resume, catalog, sample).await?;
                    Ok(Some((wire, sample, streaming)))
                }
            }
        };
        let prepared: Result<_, SessionError> = tokio::select! {
            prepared = prepare => prepared,
            () = self.stage.generation().stop_request() => return Ok(SessionEnd::Finished),
        };
        match prepared? {
            None => Ok(SessionEnd::Again),
            Some((wire, sample, streaming)) => {
                lag.sample(sample, Instant::now());
                self.stream(wire, streaming, lag).await
            }
        }
    }

    /// Compares lake and server. An error counts only if the lake was the same before and after the
    /// server was asked: else another process may have been at work in between.
    pub(super) async fn plan(&self) -> Result<Planned, SessionError> {
        let mut before = None;
        loop {
            let (planned, lake) = self.compare_once().await?;
            match planned {
                Err(_) if before.as_ref() != Some(&lake) => before = Some(lake),
                planned => return Ok(planned.map_err(Failure::from)?),
            }
        }
    }

    /// The slot is asked for before the lake is read: a checkpoint is put before the slot is
    /// acknowledged, so the lake then has the checkpoint of what the slot says.
    async fn compare_once(
        &self,
    ) -> Result<(Result<Planned, PlanError>, Option<LakeEpoch>), SessionError> {
        let settings = &self.parts.settings;
        let client = self.connection().await?;
        let control = self.control(&client);
        let identity = control.identity(&settings.slot).await?;
        let newest = async |lake: &LakeStore| newest_epoch(lake).await;
        let lake = self.lake.ask("the lake's changes", newest).await?;
        let of_server = lake.as_ref().filter(|lake| lake.system == identity.system);
        let known = of_server.map(|lake| lake.oids.clone());
        let known = known.unwrap_or_default();
        let mut catalog = control.catalog(&settings.publication, &known).await?;
        // Known tables that have another name are there.
        if catalog.tables.len() < TABLES.len() {
            let prepared = prepare(&self.pool, self.postgres, &self.parts.preparation).await?;
            report_loaded(&prepared.loaded, self.stage.speaker());
            catalog = control.catalog(&settings.publication, &known).await?;
        }
        let server = ServerState {
            publication: control.publication(&settings.publication, &known).await?,
            system: identity.system,
            database: identity.database,
            flushed: identity.flushed,
            slot: identity.slot,
            catalog,
        };
        let asked = self.parts.snapshot_was_asked();
        let plan = plan(&settings.slot, lake.as_ref(), &server, asked);
        if plan.is_ok() {
            // Before they are published, which may break the application's statements.
            control.check_tables(&settings.publication, &known).await?;
        }
        let origin = Origin {
            system: server.system.into(),
            slot: settings.slot.as_str().into(),
            writer_id: settings.writer_id.as_str().into(),
            epoch: 0,
            compression: settings.compression,
        };
        let planned = plan.map(|plan| Planned {
            plan,
            origin,
            catalog: server.catalog,
        });
        Ok((planned, lake))
    }

    /// Starts to read the slot. `None` if it was moved since it was asked for.
    async fn open(
        &self,
        origin: &Origin,
        resume: &Resume,
    ) -> Result<Option<(Wire, SlotSample)>, SessionError> {
        let settings = &self.parts.settings;
        let mut wire = Wire::connect(self.postgres, &settings.slot, &settings.publication).await?;
        wire.start().await?;
        let client = self.connection().await?;
        let sample = self.control(&client).sample(&settings.slot).await?;
        // From now on no other client can move it.
        let Some(sample) = sample.filter(|sample| sample.confirmed <= resume.confirmed) else {
            return Ok(None);
        };
        ChangesStreaming {
            slot: settings.slot.clone(),
            epoch: origin.epoch,
            confirmed_lsn: sample.confirmed.to_string(),
            lake_end: resume
                .ends
                .values()
                .max()
                .copied()
                .unwrap_or_default()
                .to_string(),
        }
        .emit(self.stage.speaker());
        self.stage.generation().ready();
        Ok(Some((wire, sample)))
    }

    /// Reports what is new in the catalogue, and has it recorded.
    async fn resume(
        &self,
        origin: Origin,
        resume: Resume,
        now: Catalog,
        sample: SlotSample,
    ) -> Result<Streaming, SessionError> {
        let settings = &self.parts.settings;
        let speaker = self.stage.speaker();
        let heartbeat = Heartbeat::new(resume.confirmed, settings.rolling.max_age);
        let before = match &resume.catalog {
            Some(before) => before.clone(),
            None => {
                ContinuityUnproven {
                    slot: settings.slot.clone(),
                    confirmed_lsn: resume.confirmed.to_string(),
                    remedy: "if another client may have read or advanced the slot, copy the tables again: `ftap cdc --resnapshot`".to_owned(),
                }
                .emit(speaker);
                let parts = origin.checkpoint(resume.ends.clone(), &now);
                let checkpoint = Checkpoint::first(resume.confirmed, parts);
                put_checkpoint(self.lake, &checkpoint).await?;
                now.clone()
            }
        };
        if resume.awaited.is_empty()
            || now.differs_from(&before)
            || heartbeat.has_grown(sample.flushed)
        {
            heartbeat.want();
        }
        let timeline = before.timeline;
        let mut tables = KnownTables::new(before);
        for report in tables.look(now) {
            report.emit(speaker);
        }
        if heartbeat.is_due(sample.flushed) {
            let client = self.connection().await?;
            self.beat(&self.control(&client), &heartbeat).await?;
        }
        Ok(Streaming {
            recorded: resume.confirmed,
            buffer: ChangeBuffer::new(origin.clone(), settings.rolling, resume),
            origin,
            tables,
            heartbeat: Rc::new(heartbeat),
            timeline,
        })
    }

    pub(super) async fn connection(&self) -> Result<Object, PostgresError> {
        connection(&self.pool, self.postgres).await
    }

    pub(super) fn control<'c>(&'c self, client: &'c Object) -> Control<'c> {
        Control {
            client,
            settings: self.postgres,
        }
    }
}
