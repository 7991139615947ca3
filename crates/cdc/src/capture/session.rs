//! One connection's life: plan, snapshot if need be, stream.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::lake::newest_epoch;
use crate::source::{ChangeSource, SourceError};
use deadpool_postgres::{Object, Pool};
use ftap_lake::{Adoption, CloseReason, LakeStore, StageLake};
use ftap_postgres::{PostgresError, PostgresSettings, connection, prepare, report_loaded};
use ftap_supervision::{Failure, Internal, Stage, failpoint};
use ftap_telemetry::events::ChangesStreaming;
use futures::FutureExt as _;
use futures::future::LocalBoxFuture;

use super::lag::LagClock;
use super::put::put;
use super::tables::KnownTables;
use super::{CaptureFailure, CaptureParts};
use crate::buffer::{BufferError, ChangeBuffer, Flow, Flush};
use crate::chain::{PlanError, PublicationState};
use crate::file::Origin;
use crate::server::{Control, SlotSample};
use crate::snapshot::SnapshotError;
use crate::wire::Wire;
use crate::{Lsn, Message, Plan, Position, plan};

/// Between two looks at how far the slot is behind; a server that does not answer them
/// ends the session, too: a connection that is only half there would else look idle.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(5);
/// How long the last acknowledgement may take at a stop.
const LAST_WORD: Duration = Duration::from_secs(2);

/// How a session ended well.
pub(super) enum SessionEnd {
    /// There is nothing more to do.
    Finished,
    /// Plan again.
    Again,
}

/// Why a session ended.
pub(super) enum SessionError {
    /// The server; the error says whether to try again.
    Postgres(PostgresError),
    /// The stream.
    Source(SourceError),
    /// No other session can help.
    Stage(Failure),
}

impl From<PostgresError> for SessionError {
    fn from(error: PostgresError) -> Self {
        Self::Postgres(error)
    }
}

impl From<Failure> for SessionError {
    fn from(error: Failure) -> Self {
        Self::Stage(error)
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

type Sampling<'a> = LocalBoxFuture<'a, Result<Option<SlotSample>, PostgresError>>;

enum Event {
    Message(Result<Message, SourceError>),
    Sampled(Result<Option<SlotSample>, PostgresError>),
    Flush,
    Report,
    Stop,
}

impl Session<'_> {
    /// Plans, and does one step of the plan.
    pub(super) async fn run(&self, lag: &mut LagClock) -> Result<SessionEnd, SessionError> {
        let prepare = async {
            let (plan, origin) = self.plan().await?;
            match plan {
                Plan::Snapshot { epoch, reason } => {
                    self.snapshot(origin, epoch, reason).await?;
                    Ok(None)
                }
                Plan::Stream { epoch, ends, oids } => {
                    let origin = Origin { epoch, ..origin };
                    let (wire, sample) = self.open(&origin, &ends).await?;
                    Ok(Some((wire, sample, origin, ends, oids)))
                }
            }
        };
        let prepared: Result<_, SessionError> = tokio::select! {
            prepared = prepare => prepared,
            () = self.stage.generation().stop_request() => return Ok(SessionEnd::Finished),
        };
        match prepared? {
            None => Ok(SessionEnd::Again),
            Some((wire, sample, origin, ends, oids)) => {
                if let Some(sample) = sample {
                    lag.sample(sample, Instant::now());
                }
                let buffer = ChangeBuffer::new(origin, self.parts.settings.rolling, ends);
                self.stream(wire, buffer, KnownTables::new(oids), lag).await
            }
        }
    }

    async fn plan(&self) -> Result<(Plan, Origin), SessionError> {
        let settings = &self.parts.settings;
        let newest = async |lake: &LakeStore| newest_epoch(lake).await;
        let lake = self.lake.ask("the lake's changes", newest).await?;
        let client = self.connection().await?;
        let control = self.control(&client);
        if !control.has_tables().await? {
            let prepared = prepare(&self.pool, self.postgres, &self.parts.preparation).await?;
            report_loaded(&prepared.loaded, self.stage.speaker());
        }
        let server = control.state(&settings.slot, &settings.publication).await?;
        let asked = self.parts.snapshot_was_asked();
        let plan = plan(&settings.slot, lake.as_ref(), &server, asked).map_err(conflict)?;
        let origin = Origin {
            system: server.system.into(),
            slot: settings.slot.as_str().into(),
            writer_id: settings.writer_id.as_str().into(),
            epoch: 0,
            zstd_level: settings.zstd_level,
        };
        Ok((plan, origin))
    }

    async fn open(
        &self,
        origin: &Origin,
        ends: &BTreeMap<String, Position>,
    ) -> Result<(Wire, Option<SlotSample>), SessionError> {
        let settings = &self.parts.settings;
        let mut wire = Wire::connect(self.postgres, &settings.slot, &settings.publication).await?;
        wire.start().await?;
        let client = self.connection().await?;
        let sample = self.control(&client).sample(&settings.slot).await?;
        ChangesStreaming {
            slot: settings.slot.clone(),
            epoch: origin.epoch,
            confirmed_lsn: sample.map_or(Lsn::default(), |s| s.confirmed).to_string(),
            lake_end: ends.values().max().copied().unwrap_or_default().to_string(),
        }
        .emit(self.stage.speaker());
        self.stage.generation().ready();
        Ok((wire, sample))
    }

    async fn stream(
        &self,
        mut wire: Wire,
        mut buffer: ChangeBuffer,
        mut tables: KnownTables,
        lag: &mut LagClock,
    ) -> Result<SessionEnd, SessionError> {
        let max_age = self.parts.settings.rolling.max_age;
        let drain_to = if self.parts.until_drained {
            Some(self.control(&self.connection().await?).flushed().await?)
        } else {
            None
        };
        let mut acknowledged = Lsn::default();
        let mut sampling = self.sample().boxed_local();
        loop {
            let flush_at = buffer.opened_at().map(|opened| opened + max_age);
            let event = tokio::select! {
                biased;
                () = self.stage.generation().stop_request() => Event::Stop,
                () = sleep_until(flush_at) => Event::Flush,
                sampled = &mut sampling => Event::Sampled(sampled),
                message = wire.next() => Event::Message(message),
                // A server that hangs sends nothing, and how far we are behind grows all the same.
                () = tokio::time::sleep(SAMPLE_INTERVAL) => Event::Report,
            };
            let mut flush = None;
            match event {
                Event::Message(Ok(message)) => {
                    if let Message::Relation { table, .. } = &message
                        && table.is_captured()
                    {
                        let changed = tables.meet(table);
                        if let Some(changed) = changed.map_err(conflict)? {
                            changed.emit(self.stage.speaker());
                        }
                    }
                    match buffer.apply(message) {
                        Ok(Flow::Continue) => {}
                        Ok(Flow::Flush(reason)) => flush = Some(reason),
                        Err(error) => return Err(buffer_error(error)),
                    }
                }
                Event::Message(Err(error)) => {
                    // What was read needs no server to become durable, and a connection
                    // that breaks again and again must not keep it from that.
                    self.flush(&mut buffer, CloseReason::Requested, &mut sampling, lag)
                        .await?;
                    return Err(SessionError::Source(error));
                }
                Event::Sampled(sampled) => {
                    match sampled {
                        Ok(Some(sample)) if !sample.is_lost => lag.sample(sample, Instant::now()),
                        // An answer, too: the server lives, and the stream needs no other
                        // connection.
                        Err(PostgresError::OutOfConnections { .. }) => {}
                        // The next plan says what to do.
                        Ok(_) => return Ok(SessionEnd::Again),
                        Err(error) => return Err(error.into()),
                    }
                    sampling = self.sample().boxed_local();
                }
                Event::Flush => flush = Some(CloseReason::Age),
                Event::Report => {}
                Event::Stop => {
                    let flushed =
                        self.flush(&mut buffer, CloseReason::Shutdown, &mut sampling, lag);
                    if let Some(safe) = flushed.await? {
                        wire.acknowledge(safe);
                        last_word(&mut wire, safe).await;
                    }
                    return Ok(SessionEnd::Finished);
                }
            }
            if drain_to.is_some_and(|target| buffer.received() >= target) && buffer.holds_rows() {
                flush = Some(CloseReason::Drain);
            }
            if let Some(reason) = flush
                && self
                    .flush(&mut buffer, reason, &mut sampling, lag)
                    .await?
                    .is_none()
            {
                return Ok(SessionEnd::Again);
            }
            if let Some(durable) = buffer.idle_at()
                && durable > acknowledged
            {
                wire.acknowledge(durable);
                acknowledged = durable;
                lag.acknowledged(durable);
                failpoint::hit("change_capture.acknowledged")?;
            }
            lag.holds_since(buffer.oldest_commit_us());
            lag.report(true, Instant::now());
            if drain_to.is_some_and(|target| acknowledged >= target) {
                last_word(&mut wire, acknowledged).await;
                return Ok(SessionEnd::Finished);
            }
        }
    }

    /// Puts everything that is buffered, and reports meanwhile how far the slot is behind, which
    /// matters most while the lake does not answer. Returns what may be acknowledged, `None` if
    /// another writer was quicker.
    async fn flush<'a>(
        &'a self,
        buffer: &mut ChangeBuffer,
        reason: CloseReason,
        sampling: &mut Sampling<'a>,
        lag: &mut LagClock,
    ) -> Result<Option<Lsn>, SessionError> {
        lag.holds_since(buffer.oldest_commit_us());
        let flush = buffer.take().map_err(Failure::from)?;
        let putting = self.put_all(flush, reason);
        tokio::pin!(putting);
        loop {
            tokio::select! {
                biased;
                put = &mut putting => return put,
                sampled = &mut *sampling => {
                    // A problem of the server is found by the stream itself.
                    let sample = sampled.ok().flatten();
                    let now = Instant::now();
                    if let Some(sample) = sample {
                        lag.sample(sample, now);
                    }
                    lag.report(sample.is_some(), now);
                    *sampling = self.sample().boxed_local();
                }
            }
        }
    }

    async fn put_all(
        &self,
        flush: Flush,
        reason: CloseReason,
    ) -> Result<Option<Lsn>, SessionError> {
        let _work = self.stage.progress().begin();
        let mut is_ours = true;
        for file in &flush.files {
            if self.stage.is_fenced() {
                return Ok(None);
            }
            if put(self.stage, self.lake, file, reason.as_str()).await? == Adoption::Overtaken {
                is_ours = false;
                break;
            }
        }
        Ok(is_ours.then_some(flush.safe))
    }

    /// How far the slot is behind, after a while; `None` where the next plan will report an
    /// error. The stream itself does not fail when the publication is reduced: it would continue
    /// without those changes.
    async fn sample(&self) -> Result<Option<SlotSample>, PostgresError> {
        tokio::time::sleep(SAMPLE_INTERVAL).await;
        let asked = async {
            let client = self.connection().await?;
            let control = self.control(&client);
            let settings = &self.parts.settings;
            match control.publication(&settings.publication).await? {
                PublicationState::Whole => control.sample(&settings.slot).await,
                PublicationState::Missing | PublicationState::Lacks { .. } => Ok(None),
            }
        };
        let limit = self.postgres.connect_timeout + self.postgres.statement_timeout;
        match tokio::time::timeout(limit, asked).await {
            Ok(sample) => sample,
            Err(_) => Err(PostgresError::Unavailable {
                address: self.postgres.address(),
                said: format!("no answer within {} s", limit.as_secs_f64()),
            }),
        }
    }

    pub(super) async fn connection(&self) -> Result<Object, PostgresError> {
        connection(&self.pool, self.postgres).await
    }

    fn control<'c>(&'c self, client: &'c Object) -> Control<'c> {
        Control {
            client,
            settings: self.postgres,
        }
    }
}

/// Waits until the last acknowledgement was sent; it is only a hint, so not for long.
async fn last_word(wire: &mut Wire, durable: Lsn) {
    let _ = tokio::time::timeout(LAST_WORD, wire.acknowledged(durable)).await;
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

fn conflict(error: PlanError) -> Failure {
    Failure::from_error(CaptureFailure::Conflict, error)
}

fn buffer_error(error: BufferError) -> SessionError {
    SessionError::Stage(match error {
        BufferError::OutOfOrder(_) => Failure::from_error(Internal::Bug, error),
        BufferError::File(error) => error.into(),
    })
}
